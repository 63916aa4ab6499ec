"""What a frame is in memory: the rgb to relight, and all else that was in its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import OpenImageIO

from relightgan.core.exr_header import ExrChannel, Header

Window = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, y down, ends exclusive

RGB = ("R", "G", "B")
ALPHA = "A"


@dataclass(frozen=True, eq=False)
class Part:
    """One image of a file, without the r, g and b that `Plate.rgb` holds."""

    channels: tuple[ExrChannel, ...]  # all of them, r, g and b of the plate's part included
    rest_names: tuple[str, ...]  # the channels in `rest`, in its order
    rest: np.ndarray  # (H, W, len(rest_names)) float32; unsigned integers of an OpenEXR file are kept as their bits
    data_window: Window
    display_window: Window
    header: Header = field(default_factory=dict)  # the OpenEXR attributes as they lay in the file; {} for other files
    compression: str = "zip"  # how the part was stored, as OpenEXR calls it
    spec: OpenImageIO.ImageSpec | None = None  # what OpenImageIO knows of a file that is no OpenEXR


@dataclass(frozen=True, eq=False)
class Plate:
    """A frame: the rgb to relight, and all else that was in its file."""

    path: Path  # where it was read from; for messages only
    rgb: np.ndarray  # (H, W, 3) float32 over the data window, in the file's own colour space, unbounded
    alpha: np.ndarray | None  # (H, W) float32, the channel A beside that rgb; None where there is none
    data_window: Window  # where pixels exist; may be larger or smaller than the display window, or begin below 0
    display_window: Window  # the frame the comp sees
    pixel_aspect: float = 1.0  # width of a pixel over its height
    parts: tuple[Part, ...] = ()  # all images in the file; empty for a plate made from an array
    rgb_part: int = 0  # which of them rgb and alpha belong to


def plain_part(plate: Plate) -> Part:
    """The one part of a plate made from an array: rgb, and alpha where there is one, to be stored as 16-bit floats."""
    height, width = plate.rgb.shape[:2]
    rest = np.empty((height, width, 0), np.float32) if plate.alpha is None else plate.alpha[..., None]
    rest_names = () if plate.alpha is None else (ALPHA,)
    channels = tuple(ExrChannel(name, "half") for name in (*RGB, *rest_names))
    return Part(channels, rest_names, rest, plate.data_window, plate.display_window)


def rgb_only(plate: Plate, pixel_type: str, compression: str) -> Plate:
    """The plate as it is to be written without anything beside rgb; its windows and metadata stay.

    Args:
        plate: any plate.
        pixel_type: "half" or "float".
        compression: as OpenEXR calls it.
    """
    part = plate.parts[plate.rgb_part] if plate.parts else plain_part(plate)
    nothing = np.empty((*plate.rgb.shape[:2], 0), np.float32)
    channels = tuple(ExrChannel(name, pixel_type) for name in RGB)
    part = replace(part, channels=channels, rest_names=(), rest=nothing, compression=compression)
    return replace(plate, alpha=None, parts=(part,), rgb_part=0)


def with_extra_channels(part: Part, extra: Mapping[str, np.ndarray], pixel_type: str = "float") -> Part:
    """The part with channels added, or put in place of those of the same name.

    Args:
        part: any part.
        extra: (H, W) float32 by channel name.
        pixel_type: "half" or "float", what they are stored as.
    """
    if not extra:
        return part
    kept = [column for column, name in enumerate(part.rest_names) if name not in extra]
    added = np.stack([np.asarray(pixels, np.float32) for pixels in extra.values()], axis=-1)
    others = (channel for channel in part.channels if channel.name not in extra)
    return replace(
        part,
        channels=(*others, *(ExrChannel(name, pixel_type) for name in extra)),
        rest_names=(*(part.rest_names[column] for column in kept), *extra),
        rest=np.concatenate([part.rest[..., kept], added], axis=-1),
    )


def window_size(window: Window) -> tuple[int, int]:
    """Width and height of a window, in pixels."""
    return window[2] - window[0], window[3] - window[1]


def windows_of(spec: OpenImageIO.ImageSpec) -> tuple[Window, Window]:
    """The data window and the display window of an image, from OpenImageIO's description of it."""
    data = (spec.x, spec.y, spec.x + spec.width, spec.y + spec.height)
    display = (spec.full_x, spec.full_y, spec.full_x + spec.full_width, spec.full_y + spec.full_height)
    return data, display
