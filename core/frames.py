"""Frames on disk: a plate with everything in its file, and the way to write it back with only rgb changed.

OpenImageIO reads and writes the pixels; OpenEXR headers are copied as bytes (`exr_header`), so that what we don't
understand comes through as it was.
"""

import contextlib
import functools
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import OpenImageIO

from relightgan.core import exr_header
from relightgan.core.errors import PlateError
from relightgan.core.exr_check import ASPECTS
from relightgan.core.exr_header import DAMAGED_FIX, ExrChannel, Header
from relightgan.core.exr_write import STRIP_ROWS, clamp, create_output, write_exr_file
from relightgan.core.files import replacing
from relightgan.core.frame_seal import room_for_seal, seal
from relightgan.core.image_file import ImageFile, check_name, first_line
from relightgan.core.plate import (
    ALPHA,
    RGB,
    Part,
    Plate,
    Window,
    plain_part,
    window_size,
    windows_of,
    with_extra_channels,
)
from relightgan.core.version import VERSION

__all__ = ["Part", "Plate", "Window", "read_mask", "read_plate", "write_plate"]

SOFTWARE_NOTE = "relightgan/software"
# Sample types that other kinds of file hold, the deepest last.
SAMPLE_TYPES = {
    ".tif": ("uint8", "uint16", "float"), ".tiff": ("uint8", "uint16", "float"), ".png": ("uint8", "uint16"),
    ".jpg": ("uint8",), ".jpeg": ("uint8",), ".dpx": ("uint8", "uint16"),
}  # fmt: skip


def read_plate(path: str | Path) -> Plate:
    """A plate with all its channels, parts and metadata.

    Half and float channels come as float32, which holds both exactly. In a file of several parts, rgb is taken from the
    first part that has channels named R, G and B; alpha is the A beside them.

    Args:
        path: an OpenEXR file of any kind but deep, or a TIFF, PNG, JPEG, DPX or another file OpenImageIO reads. Integer
            samples come as 0..1. Straight alpha of PNG and TIFF is multiplied in, as OpenImageIO does by default.

    Raises:
        PlateError: the file is missing, unreadable, damaged or cut short; has no R, G and B (the message lists what it
            has), or has them as unsigned integers; is deep; has subsampled channels; or holds several stereo views.
    """
    path = Path(path)
    with ImageFile(path) as image:
        parts, rgb, rgb_part = (_read_exr if image.headers else _read_other)(image)
        pixel_aspect = image.specs[rgb_part].get_float_attribute("PixelAspectRatio", 1.0)
    if not ASPECTS[0] <= pixel_aspect <= ASPECTS[1]:
        raise PlateError(f"{path} says its pixel aspect is {pixel_aspect:g}.", DAMAGED_FIX)
    part = parts[rgb_part]
    alpha = np.ascontiguousarray(part.rest[..., part.rest_names.index(ALPHA)]) if ALPHA in part.rest_names else None
    return Plate(path, rgb, alpha, part.data_window, part.display_window, pixel_aspect, tuple(parts), rgb_part)


def read_mask(path: str | Path, plate: Plate, channel: str | None = None) -> np.ndarray:
    """A mask that lies over a plate's data window.

    Args:
        path: any file OpenImageIO reads; its display window must be as large as the plate's.
        plate: the frame the mask belongs to.
        channel: the channel to take, such as "A" or "matte.R"; by default A, else Y, else the only one, else R.

    Returns:
        (H, W) float32 like `plate.alpha`, as stored (not clipped to 0..1); 0 where the mask has no pixels or NaN.

    Raises:
        PlateError: the file can't be read, has no such channel, or is of another size (the message gives both).
    """
    path = Path(path)
    with ImageFile(path) as image:
        found = [(index, name) for index, spec in enumerate(image.specs) for name in spec.channelnames]
        names = [name for _, name in found]
        wanted = [channel] if channel else [ALPHA, "Y", *(names if len(names) == 1 else ()), "R"]
        chosen = next((entry for name in wanted for entry in found if entry[1] == name), None)
        if chosen is None:
            raise PlateError(
                f"The mask {path} has no channel {channel or 'A, Y or R'}; it has {', '.join(names)}.",
                "Name one of these as the mask's channel.",
            )
        spec = image.specs[chosen[0]]
        _refuse_deep(path, spec)
        display = windows_of(spec)[1]
        size, plate_size = window_size(display), window_size(plate.display_window)
        if size != plate_size:
            raise PlateError(
                f"The mask {path} is {size[0]}x{size[1]}, its plate {plate.path} is {plate_size[0]}x{plate_size[1]}.",
                "Give a mask of the plate's size.",
            )
        column = list(spec.channelnames).index(chosen[1])
        pixels = image.pixels(chosen[0], "float", (column, column + 1))[..., 0]
    left = spec.x - display[0] + plate.display_window[0]
    top = spec.y - display[1] + plate.display_window[1]
    return _placed(pixels, left, top, plate.data_window)


def write_plate(
    path: str | Path,
    plate: Plate,
    rgb: np.ndarray,
    extra_channels: Mapping[str, np.ndarray] | None = None,
    notes: Mapping[str, str] | None = None,
    key: str = "",
) -> int:
    """Writes a plate with new rgb, whole or not at all, and returns the number of clamped values.

    In OpenEXR all else is bit-identical to what was read: alpha, other channels and parts, channel types, windows,
    pixel aspect, metadata. Three things about the storage may differ: tiles and other line orders become scanlines from
    the top; previews, being pictures of the plate before, are left out; and parts in a lossy compression (DWAA, DWAB,
    B44, B44A; PXR24 with 32-bit channels) are stored as ZIP, because compressing them once more would change the
    channels that must not change. Lossless compressions are kept. No date is added: the same plate gives the same file.

    Args:
        path: where to write, in a folder that is there. The suffix decides the kind: .exr, or .tif, .png, .jpg, .dpx
            for a plate that has nothing these can't hold.
        plate: the plate `rgb` was made from. One made from an array is written as 16-bit float, ZIP.
        rgb: (H, W, 3) float32 over the plate's data window, in the plate's colour space.
        extra_channels: channels to add as 32-bit floats, or to put in place of those of that name; (H, W) float32 each.
        notes: metadata to add as strings (OpenEXR only), beside the one that names our version.
        key: the frame key under which to seal the file (OpenEXR only, see `frame_seal`); empty for none.

    Returns:
        The number of rgb values outside the range of the file, which were clamped to it: beyond +-65504
        where the channel is 16-bit float, outside 0..1 where it is an integer (NaN then becomes 0 and counts). Floats
        keep NaN and infinity, uncounted.

    Raises:
        PlateError: the file can't be written, its folder is gone, the disk is full, or the kind of file can't hold the
            plate. No partial file is left, and a finished one of that name stays as it was.
    """
    path = Path(path)
    extra = extra_channels or {}
    size = plate.rgb.shape[:2]
    wrong = {name: a.shape for name, a in [("rgb", rgb), *extra.items()] if a.shape[:2] != size}
    if wrong or rgb.shape != plate.rgb.shape:
        raise PlateError(f"{path} can't be written: {wrong or rgb.shape} isn't over the plate's data window, {size}.")
    if shadowed := sorted(set(extra) & set(RGB)):
        raise PlateError(f"{path} can't be written: {', '.join(shadowed)} are rgb, not channels beside it.")
    parts = list(plate.parts) or [plain_part(plate)]
    parts[plate.rgb_part] = with_extra_channels(parts[plate.rgb_part], extra)
    check_name(path)
    with replacing(path, functools.partial(not_written, path)) as temporary:
        if path.suffix.lower() == ".exr":
            notes = {SOFTWARE_NOTE: f"RelightGAN {VERSION}"} | dict(notes or {}) | (room_for_seal(key) if key else {})
            clamped = write_exr_file(temporary, parts, plate.rgb_part, rgb, notes)
            if key:
                seal(temporary)
            return clamped
        return _write_other(path, temporary, parts, rgb)


def not_written(path: Path, error: OSError) -> PlateError:
    """The error for a frame or movie that can't be written, see `core.files.replacing`."""
    return PlateError(f"{path} can't be written: {error.strerror or error}.", _room_left(path))


# Private implementation


def _read_exr(image: ImageFile) -> tuple[list[Part], np.ndarray, int]:
    path = image.path
    names = [list(spec.channelnames) for spec in image.specs]
    with_rgb = [index for index, found in enumerate(names) if set(RGB) <= set(found)]
    if not with_rgb:
        raise _no_rgb(path, names)
    _refuse_stereo(path, [image.headers[index] for index in with_rgb])
    parts = []
    rgb = np.empty(0, dtype=np.float32)
    for index, (header, spec) in enumerate(zip(image.headers, image.specs, strict=True)):
        _refuse_deep(path, spec)
        channels = tuple(exr_header.read_channels(header))
        if coarse := [c.name for c in channels if c.sampling != (1, 1)]:
            raise PlateError(f"{path} stores {', '.join(coarse)} at a lower resolution.", "Render it as plain RGB.")
        if sorted(spec.channelnames) != sorted(c.name for c in channels):
            raise PlateError(f"{path} has channel names that can't be kept: {', '.join(c.name for c in channels)}.")
        take = RGB if index == with_rgb[0] else ()
        types = {c.name: c.pixel_type for c in channels}
        if counted := [name for name in take if types[name] == "uint"]:
            raise PlateError(f"{path} has whole numbers in {', '.join(counted)}.", "Render them as half or float.")
        taken, rest_names, rest = _read_part(image, index, types, take)
        if take:
            rgb = taken
        compression = exr_header.read_compression(header)
        parts.append(Part(channels, rest_names, rest, *windows_of(spec), header, compression))
    return parts, rgb, with_rgb[0]


def _read_part(
    image: ImageFile, index: int, types: Mapping[str, str], take: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    spec = image.specs[index]
    names = list(spec.channelnames)
    rest_names = tuple(name for name in names if name not in take)
    taken = _room_for(image.path, spec, len(take))
    rest = _room_for(image.path, spec, len(rest_names))
    # OpenImageIO reads tiled parts only whole. Others go in strips: copying them apart then happens within the cache.
    rows = spec.height if spec.tile_width else STRIP_ROWS
    for top in range(0, spec.height, rows):
        bottom = min(top + rows, spec.height)
        for first, last, kind in _runs([types[name] for name in names]):
            strip = None if spec.tile_width else (top, bottom)
            pixels = image.pixels(index, kind, (first, last), strip).view(np.float32)
            for target, target_names in ((taken, take), (rest, rest_names)):
                columns = [names.index(name) - first for name in target_names]
                _copy_channels(pixels, columns, target[top:bottom])
    return taken, rest_names, rest


def _room_for(path: Path, spec: OpenImageIO.ImageSpec, channels: int) -> np.ndarray:
    try:
        return np.empty((spec.height, spec.width, channels), dtype=np.float32)
    except MemoryError as error:
        raise PlateError(f"{path} needs more memory than there is.", "Close other programs.") from error


def _runs(types: list[str]) -> list[tuple[int, int, str]]:
    # Unsigned integers don't survive OpenImageIO's conversion to float, so they are read by themselves, for their bits.
    kinds = ["uint" if pixel_type == "uint" else "float" for pixel_type in types]
    edges = [0, *(i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]), len(kinds)]
    return [(first, last, kinds[first]) for first, last in itertools.pairwise(edges)]


def _copy_channels(source: np.ndarray, columns: list[int], target: np.ndarray) -> None:
    count = source.shape[-1]
    if columns and columns == list(range(columns[0], columns[-1] + 1)) and columns[0] >= 0 and columns[-1] < count:
        target[...] = source[..., columns[0] : columns[-1] + 1]
        return
    for channel, column in enumerate(columns):
        if 0 <= column < count:
            target[..., channel] = source[..., column]


def _read_other(image: ImageFile) -> tuple[list[Part], np.ndarray, int]:
    spec = image.specs[0]
    names = list(spec.channelnames)
    if not set(RGB) <= set(names):
        raise _no_rgb(image.path, [names])
    pixels = image.pixels(0, "float")
    rest_names = tuple(name for name in names if name not in RGB)
    rgb = np.ascontiguousarray(pixels[..., [names.index(name) for name in RGB]])
    rest = np.ascontiguousarray(pixels[..., [names.index(name) for name in rest_names]])
    channels = tuple(ExrChannel(name, "float") for name in names)  # 16-bit integers don't fit 16-bit floats
    return [Part(channels, rest_names, rest, *windows_of(spec), spec=spec)], rgb, 0


def _placed(pixels: np.ndarray, left: int, top: int, window: Window) -> np.ndarray:
    width, height = window_size(window)
    canvas = np.zeros((height, width), dtype=np.float32)
    x0, y0 = max(left, window[0]), max(top, window[1])
    x1, y1 = min(left + pixels.shape[1], window[2]), min(top + pixels.shape[0], window[3])
    if x0 < x1 and y0 < y1:
        piece = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
        canvas[y0 - window[1] : y1 - window[1], x0 - window[0] : x1 - window[0]] = np.where(np.isnan(piece), 0, piece)
    return canvas


def _no_rgb(path: Path, names: list[list[str]]) -> PlateError:
    have = ", ".join(dict.fromkeys(name for part in names for name in part))
    return PlateError(f"{path} has no channels R, G and B; it has {have}.", "Shuffle the picture into R, G and B.")


def _refuse_stereo(path: Path, headers: list[Header]) -> None:
    views = {header["view"].value.decode("utf-8", "replace") for header in headers if "view" in header}
    views |= {view for header in headers for view in exr_header.read_views(header)}
    if len(views) > 1:
        raise PlateError(f"{path} holds the views {', '.join(sorted(views))}.", "Write one file for each view.")


def _refuse_deep(path: Path, spec: OpenImageIO.ImageSpec) -> None:
    if spec.deep:
        raise PlateError(f"{path} is a deep image.", "Flatten it first (in Nuke: DeepToImage).")


def _room_left(path: Path) -> str:
    try:
        free_mb = shutil.disk_usage(path.parent).free / 1e6
    except OSError:
        return "Check that its folder is there and can be written."
    return f"Check the rights to its folder, and the disk: {free_mb:.0f} MB are free."


def _write_other(path: Path, temporary: Path, parts: list[Part], rgb: np.ndarray) -> int:
    suffix = path.suffix.lower()
    part = parts[0]
    if suffix not in SAMPLE_TYPES:
        raise PlateError(f"{path}: {suffix or 'a name without suffix'} isn't written here.", "Write .exr.")
    output = create_output(suffix[1:])
    spare = [name for name in part.rest_names if name != ALPHA or not output.supports("alpha")]
    cant = {
        f"the channels {', '.join(spare)}": spare,
        "several parts": len(parts) > 1,
        "a data window apart from the frame": part.data_window != part.display_window,
    }
    if missing := [what for what, is_there in cant.items() if is_there]:
        raise PlateError(f"{path}: {suffix} can't hold {' and '.join(missing)}.", "Write .exr.")
    width, height = window_size(part.data_window)
    names = (*RGB, *part.rest_names)
    types = SAMPLE_TYPES[suffix]
    spec = (
        OpenImageIO.ImageSpec(part.spec) if part.spec else OpenImageIO.ImageSpec(width, height, len(names), types[-1])
    )
    spec.set_format(str(spec.format) if str(spec.format) in types else types[-1])
    spec.channelnames = names
    spec.attribute("DateTime", spec.get_string_attribute("DateTime"))  # else TIFF gets the time of writing
    if not spec.get_string_attribute("Compression"):
        spec.attribute("Compression", "jpeg:95" if suffix in (".jpg", ".jpeg") else "zip")
    pixels = np.concatenate([rgb, part.rest], axis=-1)
    clamped = 0
    if str(spec.format) != "float":
        lost = np.isnan(rgb) | np.isinf(rgb)
        pixels[..., :3], clamped = clamp(np.nan_to_num(rgb, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
        clamped += int(np.count_nonzero(lost))
    with _place_to_write(temporary) as place:
        if not (output.open(place, spec) and output.write_image(pixels) and output.close()):
            raise OSError(first_line(output.geterror()))
    return clamped


@contextlib.contextmanager
def _place_to_write(path: Path) -> Iterator[str]:
    # On a full disk libpng says nothing and libjpeg ends the whole process. So both write into memory where the system
    # has such files (Linux), and Python, which notices, puts them onto the disk.
    if not hasattr(os, "memfd_create"):
        yield str(path)
        return
    with os.fdopen(os.memfd_create("picture"), "rb") as memory:
        yield f"/proc/self/fd/{memory.fileno()}"
        with path.open("wb") as file:
            shutil.copyfileobj(memory, file)
            file.flush()
            os.fsync(file.fileno())
