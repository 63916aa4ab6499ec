"""Files that torch wrote, read as data alone: a file can't run code, and a damaged one is told from a whole one."""

from pathlib import Path
from typing import Any

import torch

from relightgan.core.regular import open_regular
from relightgan.training.stored_arrays import DamagedFile, check_zip

ZIP_START = b"PK\x03\x04"


def read_tensors(path: str | Path, device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote: tensors, numbers, strings and containers of them.

    Args:
        path: the file.
        device: gets the tensors.

    Raises:
        OSError: the file can't be opened or is no regular file.
        DamagedFile: it is damaged, cut short or packed, or holds more than data.
    """
    with open_regular(path) as file:
        is_zip = file.read(len(ZIP_START)) == ZIP_START  # weights of old are plain pickles, without checksums
        file.seek(0)
        if is_zip:
            check_zip(file)
        try:
            return torch.load(file, map_location=device, weights_only=True)
        except Exception as error:  # torch raises many kinds here, some with advice to load the file unsafely
            raise DamagedFile("it is damaged, or no file of tensors") from error
