"""What an OpenEXR header claims, held against what its file can hold, before anything is made room for.

A flipped bit makes a plate of a billion pixels, and a decoder believes it. So the claims are checked first: their types
and lengths, sane limits, and whether the bytes of the file could hold so many pixels at all.
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

from relightgan.core.errors import PlateError
from relightgan.core.exr_header import (
    DAMAGED_FIX,
    ExrChannel,
    Header,
    read_channels,
    read_compression,
    read_headers,
    read_views,
)

__all__ = ["MAX_CHANNELS", "MAX_PARTS", "MAX_PIXELS", "MAX_SAMPLES", "MAX_SIDE", "checked_headers", "windows_in"]

MAX_PARTS = 1024
MAX_CHANNELS = 1024  # of one part; OpenImageIO has the same limit
MAX_SIDE = 1 << 18  # px of a window; far beyond any camera, and a strip of rows still fits into memory
MAX_PIXELS = 1 << 30  # of a window
MAX_SAMPLES = 1 << 33  # of all parts together: 32 GiB as 32-bit floats
MAX_PLACE = 1 << 30  # px, distance of a window from the origin, as in OpenEXR
ASPECTS = (1e-6, 1e6)  # pixel aspects that OpenEXR takes for sane

# (type, bytes) of the attributes that decide how pixels lie in the file, or what we make of them.
REQUIRED = {
    "channels": ("chlist", None), "compression": ("compression", 1), "dataWindow": ("box2i", 16),
    "displayWindow": ("box2i", 16), "lineOrder": ("lineOrder", 1), "pixelAspectRatio": ("float", 4),
}  # fmt: skip
SAMPLE_BYTES = {"uint": 4, "half": 2, "float": 4}
# Rows in a chunk, and how many times smaller a chunk may be than its samples. zlib can't do better than 1032; PIZ and
# DWA store a flat chunk in a few bytes whatever its width.
ROWS = {"none": 1, "rle": 1, "zips": 1, "zip": 16, "piz": 32, "pxr24": 16, "b44": 32, "b44a": 32, "dwaa": 32}
MOST_ROWS = 256
RATIOS = {"none": 1.0, "rle": 64.0, "zips": 1032.0, "zip": 1032.0, "pxr24": 1376.0, "b44": 3.0, "b44a": 11.0}
CHUNK_BYTES = 16  # at least, of a chunk without pixels: eight in the table of chunks, and its place and size

Box = tuple[int, int, int, int]  # first and last column and row, inclusive: x0, y0, x1, y1


def checked_headers(path: Path) -> list[Header]:
    """The headers of an OpenEXR file, one for each part; which `read_channels` and its like can read.

    Raises:
        PlateError: the file can't be opened, is damaged, or claims what it can't hold or no machine can.
    """
    headers = read_headers(path)
    try:
        size = path.stat().st_size
        _check(headers, size)
    except OSError as error:
        raise PlateError(f"{path} can't be read: {error.strerror}.", "Check the file and its rights.") from error
    except ValueError as error:
        raise PlateError(f"{path} is damaged: {error}.", DAMAGED_FIX) from error
    return headers


def windows_in(header: Header) -> tuple[Box, Box]:
    """Data window and display window as they lie in a checked header: x0, y0, x1, y1, ends inclusive."""
    data, display = (struct.unpack("<4i", header[name].value) for name in ("dataWindow", "displayWindow"))
    return data, display


# Private implementation


def _check(headers: Sequence[Header], file_bytes: int) -> None:
    """Raises ValueError with what is wrong, as a part of a sentence."""
    if not 1 <= len(headers) <= MAX_PARTS:
        raise ValueError(f"its header says {len(headers)} parts")
    least, samples = 0.0, 0
    for header in headers:
        width, height, channels = _check_part(header)
        samples += width * height * len(channels)
        least += _least_bytes(header, width, height, channels)
        if samples > MAX_SAMPLES:
            raise ValueError(f"its header says {width}x{height} pixels of {len(channels)} channels, too many to read")
        if least > file_bytes:
            raise ValueError(f"its header says {width}x{height} pixels, more than its {file_bytes:,} bytes can hold")


def _check_part(header: Header) -> tuple[int, int, list[ExrChannel]]:
    for name, (kind, length) in REQUIRED.items():
        if name not in header:
            raise ValueError(f"its header has no '{name}'")
        if header[name].kind != kind or (length is not None and len(header[name].value) != length):
            raise ValueError(f"its header's '{name}' can't be read")
    (aspect,) = struct.unpack("<f", header["pixelAspectRatio"].value)
    if not ASPECTS[0] <= aspect <= ASPECTS[1]:
        raise ValueError(f"its header says a pixel aspect of {aspect:g}")
    size, _ = (_size(name, box) for name, box in zip(("data", "display"), windows_in(header), strict=True))
    channels = read_channels(header)
    names = [channel.name for channel in channels]
    if not 1 <= len(names) <= MAX_CHANNELS:
        raise ValueError(f"its header says {len(names)} channels")
    if len(set(names)) < len(names):
        raise ValueError("its header has two channels of one name")
    for channel in channels:
        if min(channel.sampling) < 1:
            raise ValueError("its header says a channel is stored for no pixel")
        channel.name.encode()  # UnicodeEncodeError is a ValueError; it is a name that no decoder hands on
    read_compression(header)
    read_views(header)
    return *size, channels


def _size(name: str, box: Box) -> tuple[int, int]:
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE) or max(map(abs, box)) > MAX_PLACE:
        raise ValueError(f"its header says a {name} window from {box[0]}, {box[1]} to {box[2]}, {box[3]}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"its header says a {name} window of {width}x{height} pixels, too many to read")
    return width, height


def _least_bytes(header: Header, width: int, height: int, channels: Sequence[ExrChannel]) -> float:
    """The fewest bytes that could hold such a part."""
    kind = read_compression(header)
    if b"deep" in (header["type"].value if "type" in header else b""):
        return 0.0  # refused elsewhere, in better words
    if "tiles" in header:
        across, down = _tile_size(header)
        chunks = math.ceil(width / across) * math.ceil(height / down)
    else:
        chunks = math.ceil(height / ROWS.get(kind, MOST_ROWS))
    pixel_bytes = sum(SAMPLE_BYTES[c.pixel_type] / (c.sampling[0] * c.sampling[1]) for c in channels)
    packed = width * height * pixel_bytes / RATIOS[kind] if kind in RATIOS else 0.0
    return chunks * CHUNK_BYTES + packed


def _tile_size(header: Header) -> tuple[int, int]:
    if header["tiles"].kind != "tiledesc" or len(header["tiles"].value) != 9:
        raise ValueError("its header's 'tiles' can't be read")
    across, down = struct.unpack("<II", header["tiles"].value[:8])
    if not (1 <= across <= MAX_SIDE and 1 <= down <= MAX_SIDE):
        raise ValueError(f"its header says tiles of {across}x{down} pixels")
    return across, down
