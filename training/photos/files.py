"""Photo files: finds those of a folder, and decodes them to upright, sRGB-encoded pictures.

JPEGs are decoded by Pillow, which can decode at a half, quarter or eighth of the size and refuses truncated files
(OpenImageIO 3.2 fills the missing part with grey). HEIC, HEIF and AVIF have a decoder of their own (`heif`), and so has
camera raw (`camera_raw`). All other formats are decoded by OpenImageIO, which keeps 16 bits and floats.
"""

import io
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenImageIO
from PIL import Image

from relightgan.core.colour import linear_to_model
from relightgan.core.errors import PhotoError, PlateError
from relightgan.core.image_file import JPEG_START, ImageFile, first_line
from relightgan.core.regular import open_regular, read_regular
from relightgan.core.text import printable, shown
from relightgan.training.photos.camera_raw import PROFILE as RAW_PROFILE
from relightgan.training.photos.camera_raw import develop
from relightgan.training.photos.exif import (
    OIIO_NOTES,
    PILLOW_ERRORS,
    Notes,
    facts_of,
    notes_of_exif,
    orientation_of,
)
from relightgan.training.photos.heif import MAX_BRAND_BYTES, brand_of, read_heif
from relightgan.training.photos.profiles import ADOBE_RGB, coded_to_srgb, to_rec709, to_srgb

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"})
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})
IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".exr", ".hdr", ".webp", ".bmp", ".jp2", ".jxl"})
RAW_SUFFIXES = frozenset(
    {
        ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".rw2", ".orf", ".pef", ".srw",
        ".3fr", ".fff", ".iiq", ".rwl", ".erf", ".mef", ".mos", ".mrw", ".x3f", ".kdc", ".dcr", ".gpr",
    }
)  # fmt: skip
MOVIE_SUFFIXES = frozenset({".mov", ".mp4", ".mkv", ".m4v", ".webm", ".avi"})
PHOTO_SUFFIXES = JPEG_SUFFIXES | HEIF_SUFFIXES | IMAGE_SUFFIXES | RAW_SUFFIXES | MOVIE_SUFFIXES

MAX_PIXELS = 500_000_000
"""Larger pictures are refused by their header, before a damaged or hostile size fills the memory."""
Image.MAX_IMAGE_PIXELS = None  # replaced by our own limit: Pillow's is lower, and would refuse real panoramas

# Pillow warns of every odd tag in thousands of files. What matters is reported as the reason why a photo is left out.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What OpenImageIO is asked beside the pixels.
NOTES = ("ICCProfile", "chromaticities", *OIIO_NOTES)
MAX_FILE_BYTES = 1 << 30  # of a file that is read whole
MAX_PIXELS_PER_BYTE = 1024  # of a JPEG: its blocks take a few bits each, even where nothing is in them
AGAIN = "Copy it again, or take it away."


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
    exposure: float | None = None  # stops, from EXIF, see `exif.CameraFacts`
    camera: str = ""  # which one, from EXIF


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
                suffix = shown(path.suffix.lower())
                others[suffix] = others.get(suffix, 0) + 1
    return FoundFiles(tuple(sorted(photos)), dict(sorted(others.items())))


def is_movie_file(path: Path) -> bool:
    """Whether the suffix is a movie's."""
    return path.suffix.lower() in MOVIE_SUFFIXES


def decode_photo(path: Path, max_side: int) -> Decoded:
    """The picture in a still file, upright, sRGB-encoded, at most `max_side` px long.

    Pictures are reduced by area averaging of encoded values, so that a specular pixel doesn't spread.

    Args:
        path: any still format OpenImageIO, Pillow, libheif or LibRaw reads; by its content, but raw by its suffix.
        max_side: longest side, px; smaller files keep their size.

    Raises:
        PhotoError: no picture, damaged, truncated, or in a format that can't be read.
    """
    is_raw = path.suffix.lower() in RAW_SUFFIXES
    try:
        with open_regular(path) as file:
            head = file.read(MAX_BRAND_BYTES)
        is_jpeg, heif_kind = head.startswith(JPEG_START), brand_of(head)
        content = read_regular(path, MAX_FILE_BYTES) if is_jpeg or heif_kind or is_raw else b""
    except OSError as error:
        raise PhotoError(f"{path.name} can't be read: {error.strerror}.", AGAIN) from error
    if not head:
        raise PhotoError(f"{path.name} is empty.", "Copy it again.")
    if is_jpeg:
        return _decode_jpeg(path, content, max_side)
    if heif_kind:
        return _decode_heif(path, content, heif_kind, max_side)
    if is_raw:
        return _decode_raw(path, content, max_side)
    try:
        return _decode_oiio(path, max_side)
    except PlateError as error:
        problem = error.problem.replace(printable(str(path)), path.name, 1)
        raise PhotoError(problem, AGAIN) from error


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


def _decode_jpeg(path: Path, content: bytes, max_side: int) -> Decoded:
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            width, height = image.size
            if width < 1 or height < 1 or width * height > min(MAX_PIXELS, len(content) * MAX_PIXELS_PER_BYTE):
                raise ValueError(f"its header says {width}x{height} pixels")
            notes = _notes_of_jpeg(image)
            image.draft(None, _draft_size(width, height, max_side))
            image.load()
            pixels = np.asarray(image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB"))
            icc = image.info.get("icc_profile")
    except PILLOW_ERRORS as error:
        problem = f"{path.name} can't be decoded: {first_line(str(error) or type(error).__name__)}."
        raise PhotoError(problem, AGAIN) from error
    rgb, profile = to_srgb(
        fit_inside(np.atleast_3d(pixels), max_side), icc, ADOBE_RGB if notes.get("interop") == "R03" else None
    )
    return _finish(rgb, False, width, height, profile, notes)


def _notes_of_jpeg(image: Image.Image) -> Notes:
    """{} where the EXIF block is damaged, which doesn't make the photo unusable."""
    try:
        return notes_of_exif(image.getexif())
    except PILLOW_ERRORS:
        return {}


def _draft_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(width, height))
    return max(1, int(np.ceil(width * scale))), max(1, int(np.ceil(height * scale)))


def _decode_heif(path: Path, content: bytes, kind: str, max_side: int) -> Decoded:
    picture = read_heif(path.name, content, kind, MAX_PIXELS)
    height, width = picture.pixels.shape[:2]
    small = fit_inside(np.ascontiguousarray(picture.pixels), max_side)
    if picture.coding is None or small.shape[2] == 1:
        rgb, profile = to_srgb(small, picture.icc, None)
        return _finish(rgb, False, width, height, profile, picture.notes)
    try:
        rgb, is_hdr, name = coded_to_srgb(small, picture.coding)
    except ValueError as error:
        raise PhotoError(f"{path.name} can't be read: {error}.", "Convert it to JPEG, TIFF or EXR.") from error
    return _finish(rgb, is_hdr, width, height, name if "(" in name else f"{name} (embedded)", picture.notes)


def _decode_raw(path: Path, content: bytes, max_side: int) -> Decoded:
    found = develop(path.name, content, max_side)
    rgb = fit_inside(linear_to_model(found.linear, "srgb_log"), max_side)
    # LibRaw has turned the picture already.
    return _finish(rgb, True, found.width, found.height, RAW_PROFILE, {**found.notes, "orientation": 1})


def _decode_oiio(path: Path, max_side: int) -> Decoded:
    config = OpenImageIO.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)  # colours as stored, without multiplying by alpha
    with ImageFile(path, config) as source:
        spec = source.specs[0]
        if spec.width * spec.height > MAX_PIXELS:
            raise source.damaged(f"its header says {spec.width}x{spec.height} pixels")
        first, picks = _colour_channels(path, spec)
        kind = spec.format.basetype
        as_type = {OpenImageIO.UINT8: "uint8", OpenImageIO.UINT16: "uint16"}.get(kind, "float")
        is_grey = len(set(picks)) == 1
        pixels = source.pixels(0, as_type, (first, first + max(picks) + 1))[..., picks]
        notes = {name: source.note(0, name) for name in NOTES}
    is_linear = kind in (OpenImageIO.HALF, OpenImageIO.FLOAT, OpenImageIO.DOUBLE)
    if is_linear:
        rgb, profile = _linear_to_display(path, pixels, notes["chromaticities"], max_side)
    else:
        rgb, profile = _integers_to_display(pixels[..., :1] if is_grey else pixels, notes["ICCProfile"], max_side)
    ours = {name: notes[theirs] for theirs, name in OIIO_NOTES.items()}
    return _finish(rgb, is_linear, spec.width, spec.height, profile, ours)


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


def _integers_to_display(pixels: np.ndarray, icc: Any, max_side: int) -> tuple[np.ndarray, str]:
    small = fit_inside(np.ascontiguousarray(pixels), max_side)
    content = np.asarray(icc).tobytes() if isinstance(icc, np.ndarray | tuple | bytes) else None
    return to_srgb(small, content, None)


def _linear_to_display(path: Path, pixels: np.ndarray, primaries: Any, max_side: int) -> tuple[np.ndarray, str]:
    try:
        linear, profile = to_rec709(_without_nonfinite(pixels), primaries)
    except ValueError as error:
        raise PhotoError(f"{path.name} is damaged: {error}.", AGAIN) from error
    return fit_inside(np.ascontiguousarray(linear_to_model(linear, "srgb_log"), dtype=np.float32), max_side), profile


def _without_nonfinite(pixels: np.ndarray) -> np.ndarray:
    # A single NaN would otherwise make every training crop that contains it NaN.
    return np.nan_to_num(pixels.astype(np.float32, copy=False), nan=0.0, posinf=65504.0, neginf=0.0)


def _finish(rgb: np.ndarray, is_hdr: bool, width: int, height: int, profile: str, notes: Notes) -> Decoded:
    orientation, facts = orientation_of(notes), facts_of(notes)
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    upright = make_upright(rgb, orientation)
    return Decoded(upright, is_hdr, width, height, profile, facts.taken, facts.focal_35mm, facts.exposure, facts.camera)
