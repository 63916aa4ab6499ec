"""Camera raw files of known colours: DNGs with a Bayer pattern, written by hand after Adobe's DNG specification 1.4."""

import struct
from pathlib import Path

import numpy as np

# XYZ to camera of a made-up sensor, and the raw level of each of its channels for white of daylight (D65), as shares of
# the brightest one's: green is twice as sensitive as red.
XYZ_TO_CAMERA = np.array([[0.9, -0.25, -0.1], [-0.5, 1.4, 0.15], [-0.05, 0.2, 0.6]])
BLACK, WHITE = 256, 4095
SHORT, LONG, RATIONAL, SRATIONAL, BYTE, ASCII = 3, 4, 5, 10, 1, 2
SIZES = {SHORT: 2, LONG: 4, RATIONAL: 8, SRATIONAL: 8, BYTE: 1, ASCII: 1}
REC709_TO_XYZ = np.array(
    [[0.4123908, 0.3575843, 0.1804808], [0.2126390, 0.7151687, 0.0721923], [0.0193308, 0.1191948, 0.9505322]]
)


def camera_colours(linear_rgb: np.ndarray) -> np.ndarray:
    """(..., 3) what the sensor counts, as shares of full, with 1 where the first channel of white is full.

    Args:
        linear_rgb: (..., 3) linear Rec.709.
    """
    to_camera = XYZ_TO_CAMERA @ REC709_TO_XYZ
    return np.clip(linear_rgb @ to_camera.T / to_camera.sum(axis=1).max(), 0, 1)


def write_dng(
    path: Path,
    linear_rgb: np.ndarray,
    orientation: int = 1,
    neutral: tuple[float, float, float] = (0.5, 1.0, 0.7),
    taken: str = "2024:05:01 09:08:07",
    subsecond: str = "",
    seconds: float = 0.01,
    f_number: float = 4.0,
    iso: int = 100,
    focal_35mm: int = 28,
) -> Path:
    """Writes a picture as the sensor counts it, red, green, green and blue, without a preview.

    Args:
        path: where to.
        linear_rgb: (H, W, 3) linear Rec.709, 1 is where the first channel is full; even sides.
        orientation: EXIF's.
        neutral: white balance of the shot, which says nothing about the pixels.
        taken: EXIF's date and time.
        subsecond: its fraction, digits.
        seconds: exposure time.
        f_number: aperture.
        iso: speed.
        focal_35mm: mm, 35 mm equivalent.
    """
    counted = np.round(BLACK + camera_colours(linear_rgb) * (WHITE - BLACK)).astype("<u2")
    height, width = counted.shape[:2]
    mosaic = np.empty((height, width), "<u2")
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = counted[row::2, column::2, channel]
    exif = _directory(
        {
            0x829A: (RATIONAL, [seconds]),
            0x829D: (RATIONAL, [f_number]),
            0x8827: (SHORT, [iso]),
            0x9003: (ASCII, taken),
            **({0x9291: (ASCII, subsecond)} if subsecond else {}),
            0xA405: (SHORT, [focal_35mm]),
        },
        8,
    )
    first = {
        0x00FE: (LONG, [0]),
        0x0100: (LONG, [width]),
        0x0101: (LONG, [height]),
        0x0102: (SHORT, [16]),
        0x0103: (SHORT, [1]),
        0x0106: (SHORT, [32803]),  # a colour filter array
        0x010F: (ASCII, "Maker"),
        0x0110: (ASCII, "Camera 1"),
        0x0111: (LONG, [0]),  # where the pixels lie, below
        0x0112: (SHORT, [orientation]),
        0x0115: (SHORT, [1]),
        0x0116: (LONG, [height]),
        0x0117: (LONG, [mosaic.nbytes]),
        0x828D: (SHORT, [2, 2]),
        0x828E: (BYTE, [0, 1, 1, 2]),
        0x8769: (LONG, [8]),
        0xC612: (BYTE, [1, 4, 0, 0]),
        0xC614: (ASCII, "Maker Camera 1"),
        0xC61A: (LONG, [BLACK]),
        0xC61D: (LONG, [WHITE]),
        0xC621: (SRATIONAL, list(XYZ_TO_CAMERA.ravel())),
        0xC628: (RATIONAL, list(neutral)),
        0xC65A: (SHORT, [21]),  # D65
    }
    at = 8 + len(exif)
    first[0x0111] = (LONG, [at + len(_directory(first, at))])
    content = b"II*\0" + struct.pack("<I", at) + exif + _directory(first, at) + mosaic.tobytes()
    path.write_bytes(content)
    return path


# Private implementation


def _directory(tags: dict, at: int) -> bytes:
    """A TIFF directory that lies at a place of its file, with the values that don't fit into it behind."""
    entries, values = b"", b""
    behind = at + 2 + 12 * len(tags) + 4
    for tag, (kind, given) in sorted(tags.items()):
        packed = _packed(kind, given)
        entries += struct.pack("<HHI", tag, kind, len(packed) // SIZES[kind])
        if len(packed) <= 4:
            entries += packed.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", behind + len(values))
            values += packed + b"\0" * (len(packed) % 2)
    return struct.pack("<H", len(tags)) + entries + bytes(4) + values


def _packed(kind: int, given) -> bytes:
    if kind == ASCII:
        return given.encode() + b"\0"
    if kind in (RATIONAL, SRATIONAL):
        letter = "I" if kind == RATIONAL else "i"
        return b"".join(struct.pack(f"<{letter}I", round(value * 1_000_000), 1_000_000) for value in given)
    return struct.pack(f"<{len(given)}{ {SHORT: 'H', LONG: 'I', BYTE: 'B'}[kind] }", *given)
