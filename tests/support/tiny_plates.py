"""Small EXR plates for tests, written with OpenImageIO itself, so that our own writer isn't what proves our reader.

Loaded through the fixture `tiny_plates`.
"""

from pathlib import Path

import numpy as np
import OpenImageIO


def write_exr(
    path: Path, channels: dict[str, np.ndarray], kind: str = "half", data_origin=(0, 0), display=None, **attributes
):
    """Writes one EXR; `channels` are (H, W) arrays by name, `display` is x0, y0, width, height."""
    names = list(channels)
    pixels = np.stack([np.asarray(channels[name], np.float32) for name in names], axis=2)
    height, width = pixels.shape[:2]
    spec = OpenImageIO.ImageSpec(width, height, len(names), kind)
    spec.channelnames = names
    spec.x, spec.y = data_origin
    spec.full_x, spec.full_y, spec.full_width, spec.full_height = display or (*data_origin, width, height)
    for name, value in {"compression": "zip", **attributes}.items():
        spec.attribute(name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    out = OpenImageIO.ImageOutput.create(str(path))
    assert out.open(str(path), spec), out.geterror()
    assert out.write_image(np.ascontiguousarray(pixels)), out.geterror()
    assert out.close()
    return path


def read_exr(path: Path) -> dict[str, np.ndarray]:
    """All channels of a file as (H, W) float32 by name."""
    image = OpenImageIO.ImageInput.open(str(path))
    assert image is not None, OpenImageIO.geterror()
    pixels = image.read_image(0, 0, 0, image.spec().nchannels, "float")
    names = image.spec().channelnames
    image.close()
    return {name: pixels[..., i] for i, name in enumerate(names)}


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) float32 of a file."""
    channels = read_exr(path)
    return np.stack([channels[name] for name in "RGB"], axis=2)


def rgb_channels(rgb: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
    """Channels R, G, B of an (H, W, 3) array, with others by name."""
    return {**{name: rgb[..., i] for i, name in enumerate("RGB")}, **others}


def texture(height: int, width: int, seed: int = 0, cells=(3, 9, 27)) -> np.ndarray:
    """(H, W, 3) linear values from about 0.01 to 4 with texture at several scales."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 1, height), np.linspace(0, 1, width)
    stops = np.zeros((height, width, 3))
    for count in cells:
        knots = rng.normal(0, 1, (count, count, 3))
        rows = np.stack(
            [np.stack([np.interp(x, np.linspace(0, 1, count), row[:, c]) for c in range(3)], -1) for row in knots]
        )
        places = y * (count - 1)
        low = np.minimum(places.astype(int), count - 2)
        share = (places - low)[:, None, None]
        stops += rows[low] * (1 - share) + rows[low + 1] * share
    return np.exp2(np.clip(stops - 2, -7, 2)).astype(np.float32)


def write_clip(folder: Path, frames, step=(3, 1), size=(72, 96), flicker=0.0, seed=0, pattern="plates.%04d.exr") -> str:
    """Writes a clip whose content moves right and down by `step` pixels a frame and flickers in stops; returns the
    pattern.
    """
    height, width = size
    first, last = min(frames), max(frames)
    big = texture(height + step[1] * (last - first), width + step[0] * (last - first), seed)
    for frame in frames:
        x, y = step[0] * (last - frame), step[1] * (last - frame)
        gain = np.float32(2.0 ** (flicker * np.random.default_rng(1000 + frame).normal()))
        write_exr(folder / (pattern % frame), rgb_channels(big[y : y + height, x : x + width] * gain))
    return str(folder / pattern)
