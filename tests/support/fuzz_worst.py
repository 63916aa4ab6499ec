"""For `fuzzing`: a reader that does what none may do, each time something else."""

import os
import time
from pathlib import Path

from relightgan.core.errors import PlateError


def make_samples(folder: Path) -> list[Path]:
    """Six files, numbered."""
    paths = [folder / f"{number}.bin" for number in range(6)]
    for path in paths:
        path.write_bytes(b"whole")
    return paths


def read(path: Path, sample: str) -> None:
    """Fails on all but the first and the last, where they are damaged."""
    if path.name == sample:
        return
    match sample[0]:
        case "1":
            raise KeyError("channels")
        case "2":
            os.abort()
        case "3":
            time.sleep(60)
        case "4":
            raise PlateError("The file is damaged.")
