"""Reads HEIC and HEIF with libheif (`pillow-heif`), AVIF with Pillow, by what the file holds and not by its name.

Turns and mirrors are properties of the file (irot, imir), and EXIF's orientation says the same once more, for
information only. libheif applies them and leaves EXIF as it is; Pillow leaves AVIF as it is and puts them into EXIF.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from relightgan.core.coding import Coding
from relightgan.core.errors import PhotoError
from relightgan.core.image_file import first_line
from relightgan.training.photos.camera_raw import PACKAGE_FIX
from relightgan.training.photos.exif import PILLOW_ERRORS, Notes, notes_of_tiff

# ISO/IEC 23008-12 and the AVIF specification: what a file may say that it is.
HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
MAX_BRAND_BYTES = 1024  # of the box that lists them
MAX_PIXELS_PER_BYTE = 16_384  # HEVC spends a few bits on a block of 64 by 64 without anything in it
AGAIN = "Copy it again, or take it away."


@dataclass(frozen=True)
class HeifPicture:
    """A decoded picture."""

    pixels: np.ndarray  # (h, w, 1 or 3) uint8 or uint16, not yet turned by the orientation in the notes
    icc: bytes | None  # embedded profile
    coding: Coding | None  # what it names instead of a profile; None where it has a profile, or neither
    notes: Notes


def brand_of(head: bytes) -> str:
    """Which of "heif" and "avif" a file says that it is; empty for others.

    Args:
        head: the first bytes of the file; `MAX_BRAND_BYTES` are enough.
    """
    if head[4:8] != b"ftyp" or len(head) < 16:
        return ""
    size = min(struct.unpack(">I", head[:4])[0], MAX_BRAND_BYTES, len(head))
    brands = {head[8:12], *(head[place : place + 4] for place in range(16, size - 3, 4))}
    if brands & AVIF_BRANDS:
        return "avif"
    return "heif" if brands & HEIF_BRANDS else ""


def read_heif(name: str, content: bytes, kind: str, most_pixels: int) -> HeifPicture:
    """The main picture of a file.

    Args:
        name: of the file, for messages.
        content: all of the file.
        kind: as of `brand_of`.
        most_pixels: larger pictures are refused.

    Raises:
        PhotoError: it is damaged or too large, or pillow-heif isn't installed.
    """
    most_pixels = min(most_pixels, len(content) * MAX_PIXELS_PER_BYTE)
    try:
        return _read_avif(content, most_pixels) if kind == "avif" else _read_heif(content, most_pixels)
    except ImportError as error:
        problem = f"{name} is HEIF, which takes pillow-heif: {PACKAGE_FIX}."
        raise PhotoError(problem, "Or convert it to JPEG or TIFF.") from error
    except MemoryError as error:
        raise PhotoError(f"{name} needs more memory than there is.", "Close other programs.") from error
    except PILLOW_ERRORS as error:
        problem = f"{name} can't be decoded: {first_line(str(error) or type(error).__name__)}."
        raise PhotoError(problem, AGAIN) from error


# Private implementation


def _read_heif(content: bytes, most_pixels: int) -> HeifPicture:
    import pillow_heif

    # With hdr_to_16bit, 10 and 12 bits are filled up to 16.
    picture = pillow_heif.open_heif(content, convert_hdr_to_8bit=False)
    _check_size(picture.size, most_pixels)
    bands = picture.mode.partition(";")[0]
    channels = {"L": 1, "LA": 1, "La": 1}.get(bands, 3)
    pixels = np.asarray(picture)
    nclx, icc = picture.info.get("nclx_profile"), picture.info.get("icc_profile")
    coding = None
    if nclx and not icc:
        coding = Coding(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    notes = {**notes_of_tiff(picture.info.get("exif") or b""), "orientation": 1}
    return HeifPicture(np.atleast_3d(pixels)[..., :channels], icc, coding, notes)


def _read_avif(content: bytes, most_pixels: int) -> HeifPicture:
    with Image.open(io.BytesIO(content), formats=("AVIF",)) as image:
        _check_size(image.size, most_pixels)
        # Pillow makes an orientation of EXIF's kind out of irot and imir, and drops the one in EXIF.
        notes = notes_of_tiff(image.info.get("exif") or b"")
        icc = image.info.get("icc_profile")
        image.load()
        pixels = np.atleast_3d(np.asarray(image if image.mode in ("RGB", "L") else image.convert("RGB")))
    # Pillow doesn't tell of a coding; the file names it in a box of its own.
    place = content.find(b"colrnclx")
    coding = Coding(*struct.unpack_from(">HH", content, place + 8)) if place >= 0 and not icc else None
    return HeifPicture(pixels, icc, coding, notes)


def _check_size(size: tuple[int, int], most_pixels: int) -> None:
    width, height = size
    if min(width, height) < 1 or width * height > most_pixels:
        raise ValueError(f"its header says {width}x{height} pixels")
