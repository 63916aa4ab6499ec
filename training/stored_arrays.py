"""Files of arrays and tensors, checked whole before their content is believed.

.npz files and checkpoints are zip files in which nothing is packed, so members are as long as they say and a file can't
swell when it is read. torch skips the checksums of its own format, so that a flipped bit would become a weight, and
numpy makes room for whatever a header says: both is looked at here.
"""

import contextlib
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, Literal

import numpy as np

from relightgan.core.regular import open_regular

# What Python's zip reader and numpy's header reader raise on damaged files.
_READER_ERRORS = (
    zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError, LookupError, OverflowError, TypeError,
    SyntaxError, MemoryError, tokenize.TokenError,
)  # fmt: skip


class DamagedFile(Exception):
    """A file isn't what was written; the text says why, as a part of a sentence."""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file as `numpy.savez` writes it, by name.

    Raises:
        OSError: the file can't be opened or is no regular file.
        DamagedFile: it is damaged, cut short or packed, or holds objects.
    """
    with open_regular(path) as file:
        check_zip(file)
        arrays = {}
        with _border(), zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    shape, kind, order = _read_header(member)
                    content = member.read()
                if math.prod(shape) * kind.itemsize != len(content):
                    raise ValueError(f"{name} isn't as long as it says")
                arrays[name.removesuffix(".npy")] = np.frombuffer(bytearray(content), kind).reshape(shape, order=order)
        return arrays


def map_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, memory-mapped and read-only.

    Raises:
        OSError: the file can't be opened or is no regular file.
        DamagedFile: it is damaged, cut short, or holds objects.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        with _border():
            shape, kind, order = _read_header(file)
            if math.prod(shape) * kind.itemsize != size - file.tell():
                raise ValueError("it isn't as long as it says")
            return np.memmap(file, kind, "r", file.tell(), shape, order)


def check_zip(file: BinaryIO) -> None:
    """Makes sure that a zip file is whole: nothing in it is packed, and every checksum is right.

    Args:
        file: at its beginning; it is left there.

    Raises:
        DamagedFile: it isn't.
    """
    size = file.seek(0, 2)
    with _border(), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("something is packed in it")
        if sum(member.file_size for member in members) > size or len({m.filename for m in members}) < len(members):
            raise ValueError("its list of contents makes no sense")
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {bad} is wrong")
    file.seek(0)


# Private implementation


@contextlib.contextmanager
def _border() -> Iterator[None]:
    try:
        yield
    except _READER_ERRORS as error:
        raise DamagedFile(str(error) or type(error).__name__) from error


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, Literal["C", "F"]]:
    """Shape, type and order of an array in numpy's format, with the file left at its first value."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"it is of numpy's format {version}")
    shape, is_fortran, kind = read(file)
    if kind.hasobject or min(shape, default=0) < 0:
        raise ValueError("it holds objects, or less than nothing")
    return shape, kind, "F" if is_fortran else "C"
