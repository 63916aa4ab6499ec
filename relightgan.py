"""Maps `relightgan.*` onto this checkout; a wheel carries the real packages instead."""

from pathlib import Path

__path__ = [str(Path(__file__).absolute().parent)]

if __name__ == "__main__":  # python -m relightgan
    import sys

    from relightgan.core.cli import main

    sys.exit(main())
