"""The seal of a relit frame: which frame it is, and that all of its bytes are there.

The OpenEXR header of a sealed frame has two strings: `relightgan/key` is its frame key, `relightgan/seal` has the size
of the file and the CRC-32 of every byte of it but the seal's own. So a file that was cut, overwritten, copied from
another frame or put there by somebody else shows. CRC-32 is the fastest check that every Python has (3 ms for a
half-float HD frame). A stronger hash would tell no more: whoever means to forge a frame can seal it like we do.

Standard library only; also runs inside Nuke (Python 3.9 and later).
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["KEY_NOTE", "SEAL_NOTE", "Seal", "Unsealed", "is_whole", "read_seal", "room_for_seal", "seal"]

KEY_NOTE = "relightgan/key"
SEAL_NOTE = "relightgan/seal"

MAGIC = b"\x76\x2f\x31\x01"
SEAL_BYTES = 25  # 16 hexadecimal digits of the size, a space, 8 of the CRC-32
MAX_ATTRIBUTES = 2000  # of a header; more than any renderer writes, and read in a few milliseconds
MAX_NAME = 255
MAX_KEY = 200  # bytes
MAX_BYTES = 4 << 30  # of a frame, 26,000 x 13,000 pixels as floats: holes cost nothing to make, but time to read
CHUNK = 1 << 20

NO_FRAME = "no relit frame"
CUT = "cut short"


class Unsealed(ValueError):
    """What is wrong with a file, in a few words such as `cut short`."""


@dataclass(frozen=True)
class Seal:
    """The seal of a file.

    Args:
        key: the frame key.
        checksum: the CRC-32 of the file without the seal's own bytes, as the seal has it.
        place: where the seal's own bytes begin.
    """

    key: str
    checksum: int
    place: int


def room_for_seal(key: str) -> dict[str, str]:
    """The notes of a frame that is to be sealed: its key, and room for the seal.

    Args:
        key: the frame key, at most 200 bytes.
    """
    return {KEY_NOTE: key, SEAL_NOTE: "0" * SEAL_BYTES}


def seal(path: Path) -> None:
    """Seals a finished file that has `room_for_seal` in its header.

    Raises:
        OSError: it can't be read or written, or has no room.
    """
    with path.open("r+b") as file:
        try:
            place, size = _values(file)[SEAL_NOTE]
        except (Unsealed, KeyError) as error:
            raise OSError("its header has no room for a seal") from error
        if size != SEAL_BYTES:
            raise OSError("its header has no room for a seal")
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise OSError(f"it is larger than {MAX_BYTES >> 30} GB, the most that is kept in a cache")
        checksum = _checksum(file, place)
        file.seek(place)
        file.write(f"{os.fstat(file.fileno()).st_size:016x} {checksum:08x}".encode("ascii"))


def read_seal(file: BinaryIO) -> Seal:
    """The seal of an open file whose size is as its seal says; only the header is read.

    Raises:
        Unsealed: it is no relit frame, or was cut short.
        OSError: it can't be read.
    """
    values = _values(file)
    key, sealed = (_text(file, *values.get(name, (0, 0))) for name in (KEY_NOTE, SEAL_NOTE))
    size, _, checksum = sealed.partition(" ")
    try:
        found, expected = Seal(key, int(checksum, 16), values[SEAL_NOTE][0]), int(size, 16)
    except (ValueError, KeyError) as error:
        raise Unsealed(NO_FRAME) from error
    if not key or len(sealed) != SEAL_BYTES:
        raise Unsealed(NO_FRAME)
    actual = os.fstat(file.fileno()).st_size
    if actual != expected or actual > MAX_BYTES:
        raise Unsealed(CUT if actual < expected else NO_FRAME)
    return found


def is_whole(file: BinaryIO, found: Seal) -> bool:
    """True where every byte is as it was sealed; all of the file is read.

    Raises:
        OSError: it can't be read.
    """
    return _checksum(file, found.place) == found.checksum


# Private implementation


def _values(file: BinaryIO) -> dict[str, tuple[int, int]]:
    """Where the values of the header's attributes lie: offset and size, by name."""
    file.seek(0)
    if file.read(4) != MAGIC or len(file.read(4)) != 4:
        raise Unsealed(NO_FRAME)
    values: dict[str, tuple[int, int]] = {}
    for _ in range(MAX_ATTRIBUTES):
        name = _name(file)
        if not name:
            return values
        _name(file)  # its type
        size_bytes = file.read(4)
        size = struct.unpack("<i", size_bytes)[0] if len(size_bytes) == 4 else -1
        if size < 0:
            raise Unsealed(CUT)
        values[name] = (file.tell(), size)
        file.seek(size, os.SEEK_CUR)
    raise Unsealed(NO_FRAME)


def _name(file: BinaryIO) -> str:
    name = bytearray()
    while len(name) <= MAX_NAME:
        byte = file.read(1)
        if not byte:
            raise Unsealed(CUT)
        if byte == b"\0":
            return name.decode("utf-8", "replace")
        name += byte
    raise Unsealed(NO_FRAME)


def _text(file: BinaryIO, place: int, size: int) -> str:
    if not 0 < size <= MAX_KEY:
        return ""
    file.seek(place)
    return file.read(size).decode("utf-8", "replace")


def _checksum(file: BinaryIO, place: int) -> int:
    """The CRC-32 of all but the seal's own bytes; in pieces also before them, as a header may claim gigabytes."""
    checksum = 0
    file.seek(0)
    for left in range(place, 0, -CHUNK):
        checksum = zlib.crc32(file.read(min(left, CHUNK)), checksum)
    file.seek(place + SEAL_BYTES)
    while chunk := file.read(CHUNK):
        checksum = zlib.crc32(chunk, checksum)
    return checksum
