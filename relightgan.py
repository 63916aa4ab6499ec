"""Maps `relightgan.*` onto this checkout; a wheel carries the real packages instead."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent)]
