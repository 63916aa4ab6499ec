"""`relightgan train` as a script to run by its path; `--help` shows the options."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts this folder first, from which neither `relightgan` nor much else could be imported rightly.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from relightgan.core.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
