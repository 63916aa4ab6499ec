"""Photo files: finds those of a folder, and decodes them to upright, sRGB-encoded pictures.

JPEGs are decoded by Pillow, which can decode at a half, quarter or eighth of the size and refuses truncated files
(OpenImageIO 3.2 fills the missing part with grey). All other formats are decoded by OpenImageIO, which keeps 16 bits
and floats.
"""

import functools
import io
import os
import struct
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenImageIO
from PIL import Image

from relightgan.core.colour import linear_to_model
from relightgan.core.errors import PhotoError
from relightgan.training.photos.profiles import ADOBE_RGB, to_rec709, to_srgb

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"})
IMAGE_SUFFIXES = frozenset(
    {".png", ".tif", ".tiff", ".exr", ".hdr", ".webp", ".bmp", ".jp2", ".jxl", ".heic", ".heif", ".avif"}
)
RAW_SUFFIXES = frozenset(
    {
        ".dng",
        ".cr2",
        ".cr3",
        ".crw",
        ".nef",
        ".nrw",
        ".arw",
        ".srf",
        ".sr2",
        ".raf",
        ".rw2",
        ".orf",
        ".pef",
        ".srw",
        ".3fr",
        ".iiq",
        ".rwl",
    }
)
MOVIE_SUFFIXES = frozenset({".mov", ".mp4", ".mkv", ".m4v", ".webm", ".avi"})
PHOTO_SUFFIXES = JPEG_SUFFIXES | IMAGE_SUFFIXES | RAW_SUFFIXES | MOVIE_SUFFIXES

MAX_PIXELS = 500_000_000
"""Larger pictures are refused by their header, before a damaged or hostile size fills the memory."""
Image.MAX_IMAGE_PIXELS = None  # replaced by our own limit: Pillow's is lower, and would refuse real panoramas

# Pillow warns of every odd tag in thousands of files. What matters is reported as the reason why a photo is left out.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# The exceptions that decoders raise on damaged files; each is turned into a PhotoError that names the file.
BROKEN_FILE = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError,
    ZeroDivisionError, MemoryError, RuntimeError, NotImplementedError, struct.error, cv2.error,
)  # fmt: skip


@dataclass(frozen=True)
class Decoded:
    """A decoded picture, with its facts from the file."""

    rgb: np.ndarray  # (h, w, 3), upright, sRGB-encoded Rec.709; uint8, or float32 srgb_log where the file has more bits
    is_hdr: bool  # True for a scene-linear file, whose values above 1 are not clipped
    width: int  # px, upright, of the file itself
    height: int  # px
    profile: str  # colour space of the file, and whether it was embedded or assumed
    taken: str | None = None  # ISO 8601, camera time, from EXIF
    focal_35mm: float | None = None  # mm, 35 mm equivalent, from EXIF


@dataclass(frozen=True)
class FoundFiles:
    """The files of a folder."""

    photos: tuple[Path, ...]  # sorted; all files with the suffix of a photo or a movie
    others: Mapping[str, int]  # suffix -> number of files with other suffixes, which are ignored


def find_photo_files(folder: Path) -> FoundFiles:
    """The photo and movie files of a folder and its subfolders, without hidden ones and Apple's `._` files.

    Raises:
        PhotoError: the folder doesn't exist or can't be listed.
    """
    if not folder.is_dir():
        raise PhotoError(f"{folder} is not a folder.", "Give a folder with photos in it.")
    photos: list[Path] = []
    others: dict[str, int] = {}
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise PhotoError(
            f"{error.filename} can't be listed: {error.strerror}.", "Check the permissions of the folder."
        ) from error

    for root, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(root)
        if real in seen:  # a link to a folder above, or to one already listed
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in files:
            path = Path(root, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() in PHOTO_SUFFIXES:
                photos.append(path)
            else:
                others[path.suffix.lower()] = others.get(path.suffix.lower(), 0) + 1
    return FoundFiles(tuple(sorted(photos)), dict(sorted(others.items())))


def is_movie_file(path: Path) -> bool:
    """Whether the suffix is a movie's."""
    return path.suffix.lower() in MOVIE_SUFFIXES


def decode_photo(path: Path, max_side: int) -> Decoded:
    """The picture in a still file, upright, sRGB-encoded, at most `max_side` px long.

    Pictures are reduced by area averaging of encoded values, so that a specular pixel doesn't spread.

    Args:
        path: any still format OpenImageIO or Pillow reads.
        max_side: longest side, px; smaller files keep their size.

    Raises:
        PhotoError: no picture, damaged, truncated, or in a format that can't be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
        if not head:
            raise PhotoError(f"{path.name} is empty.", "Copy it again.")
        if head.startswith(b"\xff\xd8\xff"):
            return _decode_jpeg(path.read_bytes(), max_side)
        return _decode_oiio(path, max_side)
    except BROKEN_FILE as error:
        raise PhotoError(
            f"{path.name} can't be decoded: {_first_line(error)}.", "Copy it again, or take it away."
        ) from error


def to_float(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 srgb_log, from `Decoded.rgb` or a prepared file (uint8, float16 or float32)."""
    if rgb.dtype == np.uint8:
        return rgb.astype(np.float32) / np.float32(255)
    return rgb.astype(np.float32)


def fit_inside(rgb: np.ndarray, max_side: int) -> np.ndarray:
    """The picture reduced by area averaging so that its longest side is at most `max_side` px; same dtype."""
    height, width = rgb.shape[:2]
    longest = max(height, width)
    if longest <= max_side:
        return rgb
    size = (max(1, round(width * max_side / longest)), max(1, round(height * max_side / longest)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)).reshape(size[1], size[0], -1)


def make_upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """The picture turned upright by its EXIF orientation, 1 to 8; other numbers change nothing."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


# Private implementation


def _decode_jpeg(content: bytes, max_side: int) -> Decoded:
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        width, height = image.size
        _check_size(width, height)
        exif = _exif_of_jpeg(image)
        image.draft(None, _draft_size(width, height, max_side))
        image.load()
        pixels = np.asarray(image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB"))
        icc = image.info.get("icc_profile")
    rgb, profile = to_srgb(
        fit_inside(np.atleast_3d(pixels), max_side), icc, ADOBE_RGB if exif.get("interop") == "R03" else None
    )
    return _finish(rgb, False, width, height, profile, exif)


def _draft_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(width, height))
    return max(1, int(np.ceil(width * scale))), max(1, int(np.ceil(height * scale)))


def _exif_of_jpeg(image: Image.Image) -> dict[str, Any]:
    """The EXIF entries used here; {} where the EXIF block is damaged, which doesn't make the photo unusable."""
    try:
        exif = image.getexif()
        camera, interop = exif.get_ifd(0x8769), exif.get_ifd(0xA005)
        return {
            "orientation": exif.get(0x0112, 1),
            "taken": camera.get(0x9003) or camera.get(0x9004) or exif.get(0x0132),
            "subsecond": camera.get(0x9291),
            "focal": camera.get(0xA405),
            "interop": str(interop.get(1, "")).strip("\0 "),
        }
    except BROKEN_FILE:
        return {}


def _decode_oiio(path: Path, max_side: int) -> Decoded:
    _refuse_unreadable_kind(path)
    config = OpenImageIO.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)  # colours as stored, without multiplying by alpha
    source = OpenImageIO.ImageInput.open(str(path), config)
    if source is None:
        raise PhotoError(
            f"{path.name} is no picture: {_one_line(OpenImageIO.geterror())}.", "Copy it again, or take it away."
        )
    try:
        spec = source.spec()
        _check_size(spec.width, spec.height)
        first, picks = _colour_channels(path, spec)
        kind = spec.format.basetype
        as_type = {OpenImageIO.UINT8: "uint8", OpenImageIO.UINT16: "uint16"}.get(kind, "float")
        pixels = source.read_image(0, 0, first, first + max(picks) + 1, as_type)
        problem = source.geterror()
        if pixels is None or problem:
            raise PhotoError(
                f"{path.name} is damaged or cut short: {_one_line(problem)}.", "Copy it again, or take it away."
            )
        pixels = np.asarray(pixels)[..., picks]
        is_linear = kind in (OpenImageIO.HALF, OpenImageIO.FLOAT, OpenImageIO.DOUBLE)
        rgb, profile = (_linear_to_display if is_linear else _integers_to_display)(pixels, spec, max_side)
        return _finish(rgb, is_linear, spec.width, spec.height, profile, _exif_of_spec(spec))
    finally:
        source.close()


def _refuse_unreadable_kind(path: Path) -> None:
    readers = _oiio_readers()
    suffix = path.suffix.lower()
    # A DNG is also a TIFF: without a raw reader, OpenImageIO would read its thumbnail.
    if suffix in RAW_SUFFIXES and "raw" not in readers:
        raise PhotoError(
            f"{path.name} is camera raw, and this OpenImageIO has no raw reader.", "Develop it to TIFF, EXR or JPEG."
        )
    if suffix in (".heic", ".heif", ".avif") and "heif" not in readers:
        raise PhotoError(
            f"{path.name} is HEIF, and this OpenImageIO has no reader for it.", "Convert it to JPEG or TIFF."
        )


@functools.cache
def _oiio_readers() -> frozenset[str]:
    return frozenset(OpenImageIO.get_string_attribute("input_format_list").split(","))


def _colour_channels(path: Path, spec: Any) -> tuple[int, list[int]]:
    """(first channel to read, indices of R, G and B among the channels read); grey is used for all three."""
    if spec.deep:
        raise PhotoError(f"{path.name} is a deep image.", "Flatten it.")
    names = [name.upper() for name in spec.channelnames]
    if all(name in names for name in "RGB"):
        wanted = [names.index(name) for name in "RGB"]
    elif "Y" in names and not {"RY", "BY"} & set(names):
        wanted = [names.index("Y")] * 3
    elif spec.nchannels <= 2 and path.suffix.lower() != ".exr":
        wanted = [0, 0, 0]
    else:
        raise PhotoError(
            f"{path.name} has no R, G and B; its channels are {', '.join(spec.channelnames)}.", "Save it as RGB."
        )
    first = min(wanted)
    return first, [index - first for index in wanted]


def _integers_to_display(pixels: np.ndarray, spec: Any, max_side: int) -> tuple[np.ndarray, str]:
    icc = spec.getattribute("ICCProfile")
    small = fit_inside(np.ascontiguousarray(pixels), max_side)
    content = None if icc is None else np.asarray(icc).tobytes()
    grey = bool(spec.nchannels < 3)
    return to_srgb(small[..., :1] if grey else small, content, None)


def _linear_to_display(pixels: np.ndarray, spec: Any, max_side: int) -> tuple[np.ndarray, str]:
    linear, profile = to_rec709(_without_nonfinite(pixels), spec.getattribute("chromaticities"))
    return fit_inside(np.ascontiguousarray(linear_to_model(linear, "srgb_log"), dtype=np.float32), max_side), profile


def _without_nonfinite(pixels: np.ndarray) -> np.ndarray:
    # A single NaN would otherwise make every training crop that contains it NaN.
    return np.nan_to_num(pixels.astype(np.float32, copy=False), nan=0.0, posinf=65504.0, neginf=0.0)


def _exif_of_spec(spec: Any) -> dict[str, Any]:
    get = spec.getattribute
    return {
        "orientation": get("Orientation"),
        "taken": get("Exif:DateTimeOriginal") or get("Exif:DateTimeDigitized") or get("DateTime"),
        "subsecond": get("Exif:SubsecTimeOriginal"),
        "focal": get("Exif:FocalLengthIn35mmFilm"),
    }


def _finish(rgb: np.ndarray, is_hdr: bool, width: int, height: int, profile: str, exif: dict[str, Any]) -> Decoded:
    orientation = exif.get("orientation")
    orientation = orientation if isinstance(orientation, int) else 1
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    focal = _number(exif.get("focal"))
    return Decoded(
        make_upright(rgb, orientation), is_hdr, width, height, profile, _iso_time(exif), focal if focal else None
    )


def _iso_time(exif: dict[str, Any]) -> str | None:
    """EXIF 2.3's `YYYY:MM:DD HH:MM:SS` and fraction as ISO 8601; None for the blanks and zeros of some cameras."""
    text = str(exif.get("taken") or "").strip("\0 ")
    date, _, time = text.partition(" ")
    if len(date) != 10 or len(time) < 8 or not (date[:4] + time[:2]).isdigit() or date.startswith("0000"):
        return None
    fraction = str(exif.get("subsecond") or "").strip("\0 ")
    return f"{date.replace(':', '-')}T{time[:8]}" + (f".{fraction}" if fraction.isdigit() else "")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"its header says {width}x{height} pixels")


def _first_line(error: BaseException) -> str:
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line), "no reason given").rstrip(".")
