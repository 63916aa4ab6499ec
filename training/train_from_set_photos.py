"""`relightgan train` as a script to run by its path; `--help` shows the options."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts the script's own folder first on the path, which would hide `relightgan`; the checkout replaces it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from relightgan.core.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
