"""The attributes of an OpenEXR file, byte for byte, and the way to put them into another one.

OpenImageIO translates attributes to its own names and types and back; on the way empty strings, float vectors, the map
type of panoramas and unknown types are lost or changed, and a date is added. A plate's metadata must come through
untouched, so we copy the bytes ourselves. The layout is in "OpenEXR File Layout" (openexr.com); only the header is
touched here, never the pixels.
"""

import io
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from relightgan.core.errors import PlateError
from relightgan.core.regular import open_regular

MAGIC = b"\x76\x2f\x31\x01"
_MULTI_PART = 0x1000
_LONG_NAMES = 0x400
_SHORT_NAME_BYTES = 31
PIXEL_TYPES = ("uint", "half", "float")
COMPRESSIONS = ("none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab")
MAX_HEADER_BYTES = 1 << 28  # of all parts; manifests of ids may take megabytes
MAX_ATTRIBUTES = 1 << 16  # of all parts
DAMAGED_FIX = "Render or copy it again."


@dataclass(frozen=True)
class Attribute:
    """One header attribute as it lies in the file."""

    kind: str  # the type's name, such as "string" or "v2f"
    value: bytes


Header = Mapping[str, Attribute]  # attributes of one part, by name


@dataclass(frozen=True)
class ExrChannel:
    """One entry of a part's channel list."""

    name: str
    pixel_type: str  # one of PIXEL_TYPES
    linear: bytes = bytes(4)  # the "perceptually linear" flag and three reserved bytes
    sampling: tuple[int, int] = (1, 1)  # a value for every how many pixels across and down


def is_exr(path: Path) -> bool:
    """True where a readable file begins with OpenEXR's magic number."""
    try:
        with open_regular(path) as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


def read_headers(path: Path) -> list[Header]:
    """The headers of an OpenEXR file, one for each part, attributes in the order of the file.

    Raises:
        PlateError: the file can't be opened, is no OpenEXR file, or ends within its header.
    """
    try:
        with open_regular(path) as file:
            return _parse(file)[1]
    except OSError as error:
        raise PlateError(f"{path} can't be read: {error.strerror}.", "Check the file and its rights.") from error
    except ValueError as error:
        raise PlateError(f"{path} is damaged: its OpenEXR header can't be read.", DAMAGED_FIX) from error


def read_channels(header: Header) -> list[ExrChannel]:
    """A part's channels, in the order of the file, which is by name.

    Raises:
        ValueError: the list can't be read.
    """
    file = io.BytesIO(header["channels"].value)
    channels = []
    while name := _read_name(file):
        pixel_type, linear, across, down = _unpack("<i4sii", file)
        if pixel_type not in range(len(PIXEL_TYPES)):
            raise ValueError(f"pixel type {pixel_type}")
        channels.append(ExrChannel(name, PIXEL_TYPES[pixel_type], linear, (across, down)))
    return channels


def read_compression(header: Header) -> str:
    """The name of a part's compression; "unknown" for one that is newer than this list.

    Raises:
        ValueError: it is no single byte.
    """
    (number,) = header["compression"].value
    return COMPRESSIONS[number] if number < len(COMPRESSIONS) else "unknown"


def read_views(header: Header) -> list[str]:
    """The stereo views of a part that holds several, "left" and "right" for example; [] where it holds one.

    Raises:
        ValueError: the list can't be read.
    """
    if "multiView" not in header:
        return []
    file = io.BytesIO(header["multiView"].value)
    views = []
    while file.tell() < len(header["multiView"].value):
        (size,) = _unpack("<i", file)
        views.append(_read_exactly(file, size).decode("utf-8", "replace"))
    layers = {channel.name.rpartition(".")[0] for channel in read_channels(header)}
    return views if any(view in layers for view in views) else []


def channels_attribute(channels: Iterable[ExrChannel]) -> Attribute:
    """The attribute that says which channels a part holds, sorted by name as OpenEXR asks."""
    ordered = sorted(channels, key=lambda channel: _name_bytes(channel.name))
    entries = [
        _name_bytes(c.name) + struct.pack("<i4sii", PIXEL_TYPES.index(c.pixel_type), c.linear, *c.sampling)
        for c in ordered
    ]
    return Attribute("chlist", b"".join(entries) + b"\0")


def string_attribute(text: str) -> Attribute:
    """A string attribute, UTF-8."""
    return Attribute("string", text.encode())


def headers_size(headers: Sequence[Header], multi_part: bool) -> int:
    """The bytes these headers take up in a file, the magic number and version included."""
    return len(_serialise(headers, 0, multi_part))


def replace_headers(path: Path, headers: Sequence[Header]) -> None:
    """Writes these headers over the ones in the file, which must be exactly as long, and sees them onto the disk.

    Args:
        path: a finished OpenEXR file with as many parts.
        headers: what shall stand in it; chunk count, compression and windows must be true of its pixels.

    Raises:
        ValueError: the headers take up another number of bytes than those in the file.
        OSError: the file can't be written.
    """
    with path.open("r+b") as file:
        version, _ = _parse(file)
        end = file.tell()
        multi_part = bool(version & _MULTI_PART)
        data = _serialise(headers, version, multi_part)
        if len(data) != end:
            raise ValueError(f"{len(data)} bytes of header for a place of {end}")
        file.seek(0)
        file.write(data)
        file.flush()
        # A full disk or a lost network share may only show when the data leaves the cache.
        os.fsync(file.fileno())


# Private implementation


def _parse(file: BinaryIO) -> tuple[int, list[Header]]:
    if file.read(4) != MAGIC:
        raise ValueError("no magic number")
    (version,) = _unpack("<i", file)
    if not version & _MULTI_PART:
        return version, [_parse_header(file, MAX_ATTRIBUTES)]
    headers: list[Header] = []
    left = MAX_ATTRIBUTES
    while header := _parse_header(file, left):
        headers.append(header)
        left -= len(header)
    return version, headers


def _parse_header(file: BinaryIO, most: int) -> dict[str, Attribute]:
    header: dict[str, Attribute] = {}
    while name := _read_name(file):
        # Of two attributes of one name, another reader may take the other one.
        if name in header or len(header) == most:
            raise ValueError("an attribute twice, or too many of them")
        kind = _read_name(file)
        (size,) = _unpack("<i", file)
        header[name] = Attribute(kind, _read_exactly(file, size))
    return header


def _unpack(layout: str, file: BinaryIO) -> tuple[Any, ...]:
    return struct.unpack(layout, _read_exactly(file, struct.calcsize(layout)))


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    if not 0 <= size <= MAX_HEADER_BYTES - file.tell():
        raise ValueError(f"a length of {size} bytes")
    content = file.read(size)
    if len(content) != size:
        raise ValueError("ends within its header")
    return content


def _read_name(file: BinaryIO) -> str:
    name = bytearray()
    while byte := file.read(1):
        if byte == b"\0":
            # Attribute and channel names are bytes to OpenEXR; this keeps even those that are no UTF-8.
            return name.decode("utf-8", "surrogateescape")
        name += byte
        if len(name) > 255:
            raise ValueError("a name without end")
    raise ValueError("ends within a name")


def _serialise(headers: Sequence[Header], version: int, multi_part: bool) -> bytes:
    if any(len(_name_bytes(name)) - 1 > _SHORT_NAME_BYTES for header in headers for name in _names(header)):
        version |= _LONG_NAMES
    parts = [b"".join(_attribute_bytes(*item) for item in header.items()) + b"\0" for header in headers]
    return MAGIC + struct.pack("<i", version) + b"".join(parts) + (b"\0" if multi_part else b"")


def _attribute_bytes(name: str, attribute: Attribute) -> bytes:
    size = struct.pack("<i", len(attribute.value))
    return _name_bytes(name) + _name_bytes(attribute.kind) + size + attribute.value


def _name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape") + b"\0"


def _names(header: Header) -> list[str]:
    return [*header, *(attribute.kind for attribute in header.values()), *(c.name for c in read_channels(header))]
