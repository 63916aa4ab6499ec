"""EXR files as Nuke's Read and Write treat them, through OpenImageIO.

Rules (SRC: the NDK's own example sources exrReader.cpp and exrWriter.cpp, in public copies; DOC: Nuke Reference
Guide, "Read", "Write"):
- Reading: the format is the display window moved to 0, 0, the bounding box is the data window, upside down, in place
  relative to the display window. "edge pixels" is "plate detect" by default: where the two windows differ, one black
  pixel is put around the box and the pipe is "black outside"; where they agree, the edges repeat.
- Writing: the data window is the bounding box, not clipped to the format, less the pixel around it where the pipe is
  "black outside"; the display window is the format at 0, 0. Written are the pipe's channels that the knob `channels`
  names, no others; none at all is an error. The file is written under another name and renamed.
- R, G, B, A and Z are Nuke's rgba.red, rgba.green, rgba.blue, rgba.alpha and depth.Z; a layer's R, G, B, A are its
  .red, .green, .blue, .alpha. Nuke writes other channels under its own names.
- A file with several views (the attribute multiView) gives a view its own channels ("right.R", "depth.right.Z") and,
  where it has none of that name, those of the first view. Whole-number channels become numbers of the same value.
- Not simulated: several parts in one file, writing several views into one, deep images, colour conversion.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nuke_simulator.images import ALPHA, RGB, Box, Format, Image, ringed

_SHORT = {"R": RGB[0], "G": RGB[1], "B": RGB[2], "A": ALPHA, "Z": "depth.Z"}
_IN_LAYER = {"R": "red", "G": "green", "B": "blue", "A": "alpha"}
_TO_FILE = {nuke: short for short, nuke in _SHORT.items() if short != "Z"}
DATATYPES = {"16 bit half": "half", "32 bit float": "float"}
COMPRESSIONS = {
    "none": "none",
    "RLE": "rle",
    "Zip (1 scanline)": "zips",
    "Zip (16 scanlines)": "zip",
    "PIZ Wavelet (32 scanlines)": "piz",
    "PXR24": "pxr24",
    "B44": "b44",
    "B44A": "b44a",
    "DWAA": "dwaa",
    "DWAB": "dwab",
}
# What describes a file rather than the picture in it is made anew for each file.
_OF_THE_FILE = {"compression", "PixelAspectRatio", "screenWindowCenter", "screenWindowWidth", "multiView", "name"}
EDGE_MODES = ("plate detect", "edge detect", "repeat", "black")


class ExrError(Exception):
    """A file can't be read or written; the text is the reason alone."""


def read_exr(path: str, view: str = "") -> Image:
    """A view of a file as a picture without black pixels around it (see `with_edges`).

    Raises:
        ExrError: the file can't be opened or is damaged.
        NotImplementedError: it has several parts or is deep.
    """
    import OpenImageIO  # here, because a module that Tcl keeps alive would keep it too, and it complains at the exit

    if not os.path.exists(path):  # noqa: PTH110 — speed, and paths from scripts are text
        raise ExrError("No such file or directory")
    file = OpenImageIO.ImageInput.open(path)
    if file is None:
        raise ExrError(_first_line(OpenImageIO.geterror()))
    try:
        spec = file.spec()
        if spec.deep or file.seek_subimage(1, 0):
            raise NotImplementedError(f"{path}: deep and multi-part files aren't simulated")
        file.seek_subimage(0, 0)
        pixels = file.read_image(0, 0, 0, spec.nchannels, "float")
        if pixels is None:
            raise ExrError(_first_line(file.geterror()))
        for i, kind in enumerate(spec.channelformats or [spec.format] * spec.nchannels):
            if str(kind) == "uint":  # which OpenImageIO would bring to 0..1
                pixels[..., i] = file.read_image(0, 0, i, i + 1, "uint")[..., 0]
    finally:
        file.close()
    format = Format(spec.full_width, spec.full_height, float(spec.getattribute("PixelAspectRatio") or 1.0))
    x = spec.x - spec.full_x
    t = format.height - (spec.y - spec.full_y)
    bbox = (x, t - spec.height, x + spec.width, t)
    rows_up = pixels[::-1]
    places = _places(spec.channelnames, spec.getattribute("multiView") or (), view)
    channels = {name: rows_up[:, :, i] for name, i in places.items()}
    metadata = {f"exr/{item.name}": item.value for item in spec.extra_attribs}
    metadata |= {"input/filename": path, "input/width": format.width, "input/height": format.height}
    metadata |= {"input/filereader": "exr", "input/bitsperchannel": _depth(spec)}
    return Image(channels, bbox, format, metadata=metadata)


def with_edges(image: Image, mode: str = "plate detect") -> Image:
    """The picture as the Read's knob `edge_pixels` wants its edges."""
    if mode not in EDGE_MODES:
        raise ValueError(f"{mode} isn't one of {EDGE_MODES}")
    if mode == "edge detect":
        raise NotImplementedError("edge_pixels 'edge detect' isn't simulated")
    differs = image.bbox != image.format.box
    return ringed(image) if mode == "black" or (mode == "plate detect" and differs) else image


def write_exr(
    path: str,
    image: Image,
    names: Sequence[str],
    datatype: str,
    compression: str,
    autocrop: bool = False,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Writes the channels `names` of a picture, with `metadata`; the file appears whole or not at all.

    Raises:
        ExrError: the file can't be written.
    """
    import OpenImageIO

    box = _without_ring(image)
    if autocrop:
        box = _autocropped(image, box, names)
    x, y, r, t = box
    spec = OpenImageIO.ImageSpec(r - x, t - y, len(names), DATATYPES[datatype])
    spec.channelnames = [_TO_FILE.get(name, name) for name in names]
    spec.x, spec.y = x, image.format.height - t
    spec.full_x = spec.full_y = 0
    spec.full_width, spec.full_height = image.format.width, image.format.height
    spec.attribute("compression", COMPRESSIONS[compression])
    spec.attribute("PixelAspectRatio", image.format.pixel_aspect)
    for name, value in (metadata or {}).items():
        spec.attribute(name, value)
    temporary = f"{path}.tmp"
    try:
        file = OpenImageIO.ImageOutput.create("exr")
        done = file.open(temporary, spec) and file.write_image(_interleaved([image.window(n, box) for n in names]))
        if not (file.close() and done):
            raise ExrError(_first_line(file.geterror()))
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise ExrError(error.strerror or str(error)) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def kept_metadata(image: Image) -> dict[str, object]:
    """The exr/ keys that describe the picture and not the file it came from, under their names in a file."""
    named = {key[4:]: value for key, value in image.metadata.items() if key.startswith("exr/")}
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, (str, int, float)) and ":" not in name and name not in _OF_THE_FILE
    }


def nuke_name(name: str) -> str:
    """Nuke's name of a channel in a file; one without a layer goes into "other" (unverified)."""
    name = name.lstrip(".")
    if name in _SHORT:
        return _SHORT[name]
    layer, dot, last = name.rpartition(".")
    if not dot:
        return f"other.{name}"
    return f"{layer.replace('.', '_')}.{_IN_LAYER.get(last, last)}"


def _places(names: Sequence[str], views: Sequence[str], view: str) -> dict[str, int]:
    """Where each of Nuke's channels of a view lies in the file: the view's own, else the first view's."""
    hero = views[0] if views else ""
    own, first = {}, {}
    for i, name in enumerate(names):
        words = name.split(".")
        of = next((word for word in words[:-1] if word in views), hero)
        plain = nuke_name(".".join(word for word in words[:-1] if word != of or not views) + "." + words[-1])
        if of == view:
            own[plain] = i
        if of == hero:
            first[plain] = i
    return {**first, **own}


def _without_ring(image: Image) -> Box:
    x, y, r, t = image.bbox
    if image.black_outside:
        if x + 2 < r:
            x, r = x + 1, r - 1
        if y + 2 < t:
            y, t = y + 1, t - 1
    return (x, y, r, t)


def _autocropped(image: Image, box: Box, names: Sequence[str]) -> Box:
    used = np.zeros((box[3] - box[1], box[2] - box[0]), bool)
    for name in names:
        used |= image.window(name, box) != 0
    rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    if not len(rows):
        return (box[0], box[1], box[0] + 1, box[1] + 1)
    return (box[0] + columns[0], box[1] + rows[0], box[0] + columns[-1] + 1, box[1] + rows[-1] + 1)


def _interleaved(planes: list[np.ndarray]) -> np.ndarray:
    # Planes that came from one file still lie together as it was read: no copy is needed then.
    first, count = planes[0], len(planes)
    height, width = first.shape
    strides = (-first.strides[0], first.strides[1], 4)
    if strides == (width * count * 4, count * 4, 4) and all(
        plane.strides == first.strides and plane.ctypes.data == first.ctypes.data + 4 * i
        for i, plane in enumerate(planes)
    ):
        return np.lib.stride_tricks.as_strided(first[::-1], (height, width, count), strides, writeable=False)
    packed = np.empty((height, width, count), np.float32)
    for i, plane in enumerate(planes):
        packed[..., i] = plane[::-1]
    return packed


def _depth(spec: Any) -> str:
    return "16-bit half float" if str(spec.format) == "half" else "32-bit float"


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0].rstrip(".")
