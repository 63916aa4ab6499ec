"""Develops camera raw files with LibRaw (`rawpy`), all of them in one way: scene-linear, as the sensor saw the light.

White balance is the camera's for daylight in every photo, never the one of the shot: then a difference in colour
between two photos, or two days, is one of light. Nothing is brightened to taste. White, 1, is where the first channel
of the sensor is full; what the others tell of brighter places stays above 1, without colour where the sensor has none.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from relightgan.core.coding import REC709_XY
from relightgan.core.errors import PhotoError
from relightgan.core.image_file import first_line
from relightgan.training.photos.exif import Notes, notes_of_tiff
from relightgan.training.photos.profiles import rgb_to_xyz

PACKAGE_FIX = "install relightgan[train]"
"""Part of the problem where a decoder isn't installed: the next run tries again."""
MAX_RAW_PIXELS = 250_000_000
MAX_RAW_PIXELS_PER_BYTE = 64  # the tightest raw files need more than a bit for a pixel
MIN_COLOUR = 1e-4  # weights of a camera's colours below this are damage
PROFILE = "camera raw, daylight white balance"
AGAIN = "Copy it again, or take it away."


@dataclass(frozen=True)
class Developed:
    """A developed raw file."""

    linear: np.ndarray  # (h, w, 3) float32, upright, scene-linear Rec.709; unbounded, values below 0 are real colours
    width: int  # px, upright, at full size
    height: int  # px
    notes: Notes


def develop(name: str, content: bytes, max_side: int) -> Developed:
    """Develops a raw file; at half size, which takes an eighth of the time, where that is enough.

    Args:
        name: of the file, for messages.
        content: all of the file.
        max_side: longest side that is needed, px; the result may be larger.

    Raises:
        PhotoError: rawpy isn't installed, the file is damaged, or LibRaw can't tell the camera's colours.
    """
    try:
        import rawpy
    except ImportError as error:
        problem = f"{name} is camera raw, which takes rawpy: {PACKAGE_FIX}."
        raise PhotoError(problem, "Or develop it to TIFF, EXR or JPEG.") from error
    # What rawpy raises: LibRaw's errors, the system's, and those of making arrays and texts from what a file says.
    errors = (rawpy.LibRawError, rawpy.NotSupportedError, OSError, ValueError, RuntimeError, ArithmeticError)
    try:
        with rawpy.RawPy() as raw:
            raw.open_buffer(io.BytesIO(content))
            sizes = raw.sizes
            if problem := _impossible(sizes, len(content)):
                raise ValueError(problem)
            raw.unpack()
            to_rec709, balance = _colours(name, raw)
            half = max(sizes.width, sizes.height) >= 2 * max_side
            pixels = raw.postprocess(_recipe(rawpy, balance, half)).astype(np.float32)
            noted = _libraw_notes(raw)
    except MemoryError as error:
        raise PhotoError(f"{name} needs more memory than there is.", "Close other programs.") from error
    except errors as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise PhotoError(f"{name} can't be developed: {first_line(text)}.", AGAIN) from error
    pixels *= np.float32(balance.max() / balance.min() / 65535)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    turned = bool(sizes.flip & 4)
    width, height = (sizes.height, sizes.width) if turned else (sizes.width, sizes.height)
    notes = {key: value for key, value in notes_of_tiff(content).items() if value}
    return Developed(np.ascontiguousarray(pixels @ to_rec709.T), width, height, {**noted, **notes})


# Private implementation


def _impossible(sizes: Any, file_bytes: int) -> str:
    pixels = max(sizes.raw_width * sizes.raw_height, sizes.width * sizes.height)
    if min(sizes.width, sizes.height) < 1 or pixels > min(MAX_RAW_PIXELS, file_bytes * MAX_RAW_PIXELS_PER_BYTE):
        return f"its header says {sizes.raw_width}x{sizes.raw_height} pixels"
    return ""


def _colours(name: str, raw: Any) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) float32 from balanced camera colours to linear Rec.709, and (3,) what balances them for daylight.

    LibRaw has a table of cameras, from XYZ to their colours; of a DNG it makes the matrix that is asked for here.
    Balanced means that white of Rec.709 (D65) is white.
    """
    if raw.num_colors == 1:
        return np.eye(3, dtype=np.float32), np.ones(3)
    camera = np.array(raw.rgb_xyz_matrix, np.float64)[:3] @ rgb_to_xyz(REC709_XY)
    if raw.num_colors == 3 and camera.any():
        white = camera.sum(axis=1)
        matrix, balance = camera / white[:, None], 1 / white
    else:
        matrix, balance = np.array(raw.color_matrix, np.float64)[:, :3], np.array(raw.daylight_whitebalance[:3])
    sane = np.isfinite(matrix).all() and np.isfinite(balance).all() and balance.min() > MIN_COLOUR
    if raw.num_colors != 3 or not sane or abs(np.linalg.det(matrix)) < MIN_COLOUR:
        problem = f"{name} is of a camera whose colours LibRaw doesn't know."
        raise PhotoError(problem, "Develop it to TIFF, EXR or JPEG.")
    return (np.linalg.inv(matrix) if camera.any() else matrix).astype(np.float32), balance


def _recipe(rawpy: Any, balance: np.ndarray, half: bool) -> Any:
    return rawpy.Params(
        half_size=half,
        user_wb=[*map(float, balance), float(balance[1])],
        output_color=rawpy.ColorSpace.raw,  # our own matrix keeps colours beyond Rec.709
        output_bps=16,
        gamma=(1, 1),
        no_auto_bright=True,
        adjust_maximum_thr=0.0,  # else white would depend on the brightest pixel of each photo
        highlight_mode=rawpy.HighlightMode.Blend,
    )


def _libraw_notes(raw: Any) -> dict[str, Any]:
    """What LibRaw found of exposure and time, for files that are no TIFF (CR3, RAF)."""
    other = raw.other
    taken = other.timestamp.strftime("%Y:%m:%d %H:%M:%S") if other.timestamp.year > 1980 else ""
    return {"original": taken, "exposure_s": other.shutter_speed, "f_number": other.aperture, "iso": other.iso_speed}
