"""What a camera notes in a photo: when it was taken, how it was exposed, and which way up it was held.

Notes are read through Pillow, through OpenImageIO, or from the TIFF that most camera raw files are. A damaged note is
none: it doesn't make the photo unusable.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import Image

from relightgan.core.text import shown

# What Pillow raises on damaged files: it parses in Python, and wherever that fails, something of this comes up.
PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError,
    ZeroDivisionError, MemoryError, RuntimeError, NotImplementedError, struct.error,
)  # fmt: skip
# What OpenImageIO calls the notes that are used here, and what we call them.
OIIO_NOTES = {
    "Orientation": "orientation", "DateTime": "changed", "Exif:DateTimeOriginal": "original",
    "Exif:DateTimeDigitized": "digitized", "Exif:SubsecTimeOriginal": "subsecond",
    "Exif:FocalLengthIn35mmFilm": "focal", "ExposureTime": "exposure_s", "FNumber": "f_number",
    "Exif:PhotographicSensitivity": "iso", "Exif:ISOSpeedRatings": "old_iso", "Make": "make", "Model": "model",
    "Exif:BodySerialNumber": "serial", "Exif:LensModel": "lens",
}  # fmt: skip
# EXIF 2.3, tables 4 to 8, by number: of the first directory, and of the camera's.
FIRST_TAGS = {"orientation": 0x0112, "changed": 0x0132, "make": 0x010F, "model": 0x0110}
CAMERA_TAGS = {
    "original": 0x9003, "digitized": 0x9004, "subsecond": 0x9291, "focal": 0xA405, "exposure_s": 0x829A,
    "f_number": 0x829D, "iso": 0x8827, "serial": 0xA431, "lens": 0xA434,
}  # fmt: skip
CAMERA_IFD, INTEROP_IFD = 0x8769, 0xA005
MAX_NUMBER = 1e9  # a length, time or speed beyond it is damage
MAX_FOCAL_MM = 100_000  # a focal length beyond any telescope's is damage
Notes = Mapping[str, Any]
"""By the names of `OIIO_NOTES`, as they stood in the file: nothing is sure of their kinds."""


@dataclass(frozen=True)
class CameraFacts:
    """What the notes say, as far as they make sense."""

    taken: str | None = None  # ISO 8601, camera time
    focal_35mm: float | None = None  # mm, 35 mm equivalent
    exposure: float | None = None  # stops, log2(seconds * ISO / 100 / aperture^2): one more is twice the light
    camera: str = ""  # maker, model, serial number and lens, as far as known


def facts_of(notes: Notes) -> CameraFacts:
    """What the notes say, as far as they make sense."""
    focal = _number(notes.get("focal"))
    words = (_text(notes.get(name)) for name in ("make", "model", "serial", "lens"))
    return CameraFacts(
        taken=_iso_time(notes),
        focal_35mm=focal if focal is not None and focal < MAX_FOCAL_MM else None,
        exposure=_exposure(notes),
        camera=shown(" ".join(word for word in words if word)),
    )


def orientation_of(notes: Notes) -> int:
    """EXIF's orientation, 1 to 8; 1 where none is noted."""
    found = notes.get("orientation")
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def notes_of_exif(exif: Image.Exif) -> Notes:
    """The notes in EXIF; none where it is damaged."""
    try:
        camera, interop = exif.get_ifd(CAMERA_IFD), exif.get_ifd(INTEROP_IFD)
        first = {name: exif.get(tag) for name, tag in FIRST_TAGS.items()}
        return {
            **first,
            **{name: camera.get(tag) for name, tag in CAMERA_TAGS.items()},
            "interop": str(interop.get(1, "")).strip("\0 "),
        }
    except PILLOW_ERRORS:
        return {}


def notes_of_tiff(content: bytes) -> Notes:
    """The notes in a TIFF, or in the EXIF block of a picture; none where there are none.

    Args:
        content: begins with a TIFF header; the numbers with which Olympus and Panasonic begin theirs are taken, too.
    """
    if content[:6] == b"Exif\0\0":
        content = content[6:]
    marks = {b"II": b"II*\0", b"MM": b"MM\0*"}
    if content[:2] not in marks:
        return {}
    exif = Image.Exif()
    try:
        exif.load(marks[content[:2]] + content[4:])
    except PILLOW_ERRORS:
        return {}
    return notes_of_exif(exif)


# Private implementation


def _iso_time(notes: Notes) -> str | None:
    """EXIF 2.3's `YYYY:MM:DD HH:MM:SS` and fraction as ISO 8601; None for the blanks and zeros of some cameras."""
    stated = next(filter(None, (_text(notes.get(name)) for name in ("original", "digitized", "changed"))), "")
    date, _, time = stated.partition(" ")
    try:
        moment = datetime.fromisoformat(f"{date.replace(':', '-')}T{time[:8]}")
    except ValueError:
        return None
    fraction = _text(notes.get("subsecond"))
    return moment.isoformat() + (f".{fraction}" if fraction.isascii() and fraction.isdigit() else "")


def _exposure(notes: Notes) -> float | None:
    """None without a time. A camera notes aperture and speed always or never: then they count as 1 and 100."""
    seconds = _number(notes.get("exposure_s"))
    if seconds is None:
        return None
    speed = _number(notes.get("iso")) or _number(notes.get("old_iso")) or 100.0
    return round(math.log2(seconds * speed / 100) - 2 * math.log2(_number(notes.get("f_number")) or 1.0), 3)


def _text(value: Any) -> str:
    """A text without the blanks and zeros that fill it up; empty where it is none, as in a damaged file."""
    return value.strip("\0 ") if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """A number above 0; None for anything else."""
    if isinstance(value, tuple | list) and value:  # some cameras note two speeds
        value = value[0]
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if 0 < number < MAX_NUMBER else None
