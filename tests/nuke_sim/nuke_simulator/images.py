"""Pictures as Nuke's pipe holds them: channels over a bounding box, in a format, rows from the bottom up.

Rules and where they come from:
- y grows upwards and a box is x, y, r, t with r and t one past the last pixel (DOC: NDK Developer's Guide, "Box" and
  "Format"); so row 0 of an array is the lowest row.
- Outside the bounding box the nearest edge pixel repeats (DOC: Nuke Reference Guide, "BlackOutside": without it the
  edge pixels are repeated).
- "Black outside" means that the outermost pixels of the box are black, so that what repeats is black; the flag
  remembers it, because the EXR writer takes those pixels off again (SRC: NDK examples, exrWriter.cpp).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

RGB = ("rgba.red", "rgba.green", "rgba.blue")
ALPHA = "rgba.alpha"
RGBA = (*RGB, ALPHA)
Box = tuple[int, int, int, int]  # x, y, r, t


class Format(NamedTuple):
    """The picture's nominal frame, whose lower left corner is at 0, 0."""

    width: int
    height: int
    pixel_aspect: float = 1.0

    @property
    def box(self) -> Box:
        return (0, 0, self.width, self.height)


@dataclass(frozen=True)
class Image:
    """One frame in one view. Arrays may be shared with the Read cache: nobody writes into them."""

    channels: dict[str, np.ndarray]  # by Nuke's name ("rgba.red", "depth.Z"); float32 (t - y, r - x), row 0 lowest
    bbox: Box
    format: Format
    black_outside: bool = False
    metadata: Mapping[str, object] = field(default_factory=dict)

    def window(self, name: str, box: Box) -> np.ndarray:
        """A channel's pixels in any box, float32; edges repeat outside the bounding box, a missing channel is black."""
        x, y, r, t = box
        pixels = self.channels.get(name)
        if pixels is None:
            return np.zeros((t - y, r - x), np.float32)
        left, low, right, top = self.bbox
        if left <= x and low <= y and r <= right and t <= top:
            return pixels[y - low : t - low, x - left : r - left]
        rows = np.clip(np.arange(y, t), low, top - 1) - low
        columns = np.clip(np.arange(x, r), left, right - 1) - left
        return pixels[np.ix_(rows, columns)]


def black(format: Format) -> Image:
    """What an unconnected input gives: no channels, one pixel (unverified: the size of that box)."""
    return Image({}, (0, 0, 1, 1), format)


def solid(format: Format, colour: Mapping[str, float]) -> Image:
    """A format filled with one value for each channel."""
    shape = (format.height, format.width)
    return Image({name: np.full(shape, value, np.float32) for name, value in colour.items()}, format.box, format)


def union(*boxes: Box) -> Box:
    """The smallest box around all."""
    return (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))


def intersection(first: Box, second: Box) -> Box:
    """What both hold; at least one pixel, as Nuke has no empty boxes (unverified)."""
    x, y = max(first[0], second[0]), max(first[1], second[1])
    return (x, y, max(min(first[2], second[2]), x + 1), max(min(first[3], second[3]), y + 1))


def fitted(image: Image, box: Box, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The channels (all, or those named) cut or grown to a box."""
    return {name: image.window(name, box) for name in (image.channels if names is None else names)}


def ringed(image: Image) -> Image:
    """The picture with one black pixel around its box, so that black repeats outside."""
    x, y, r, t = image.bbox
    return replace(
        image,
        channels={name: np.pad(pixels, 1) for name, pixels in image.channels.items()},
        bbox=(x - 1, y - 1, r + 1, t + 1),
        black_outside=True,
    )


def moved(image: Image, x: int, y: int) -> Image:
    """The picture shifted by whole pixels; the format stays."""
    left, low, right, top = image.bbox
    return replace(image, bbox=(left + x, low + y, right + x, top + y))


def resampled(image: Image, width_scale: float, height_scale: float, format: Format) -> Image:
    """The picture scaled about 0, 0 by the nearest pixel (unverified: Nuke filters)."""
    x, y, r, t = image.bbox
    box = (
        int(np.floor(x * width_scale + 0.5)),
        int(np.floor(y * height_scale + 0.5)),
        int(np.floor(r * width_scale + 0.5)),
        int(np.floor(t * height_scale + 0.5)),
    )
    box = (box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1))
    columns = np.clip(((np.arange(box[0], box[2]) + 0.5) / width_scale).astype(np.float64), x, r - 1)
    rows = np.clip(((np.arange(box[1], box[3]) + 0.5) / height_scale).astype(np.float64), y, t - 1)
    at = np.ix_(np.floor(rows).astype(int) - y, np.floor(columns).astype(int) - x)
    channels = {name: pixels[at] for name, pixels in image.channels.items()}
    return replace(image, channels=channels, bbox=box, format=format)


def scaled_format(format: Format, scale: float) -> Format:
    """A format at proxy scale (unverified: how Nuke rounds)."""
    return Format(max(1, round(format.width * scale)), max(1, round(format.height * scale)), format.pixel_aspect)


def channel_names(text: str, available: Iterable[str]) -> list[str]:
    """The channels of `available` that a channel knob such as "rgb", "all", "rgba depth" or "-rgba.alpha" selects.

    A leading minus only marks the channel of a mask knob, and is dropped.
    """
    available = list(available)
    chosen: list[str] = []
    for token in text.replace("{", " ").replace("}", " ").split():
        name = token.lstrip("-")
        if name == "all":
            chosen += available
        elif name == "rgb":
            chosen += [channel for channel in available if channel in RGB]
        elif name == "alpha":
            chosen += [channel for channel in available if channel == ALPHA]
        elif name in available:
            chosen.append(name)
        else:
            chosen += [channel for channel in available if channel.partition(".")[0] == name]
    return list(dict.fromkeys(chosen))
