"""Operators that move the picture, its box or its format.

The bounding box an operator leaves is from the Nuke Reference Guide where it says so ("Crop", "Reformat",
"BlackOutside", "AdjBBox"); whole-pixel results only, filters are not simulated. Spatial knobs are in full size and are
scaled in proxy mode (DOC: Nuke User Guide, "Proxy mode").
"""

from dataclasses import replace

import numpy as np

from nuke_simulator.images import (
    ALPHA,
    Box,
    Format,
    Image,
    fitted,
    intersection,
    moved,
    resampled,
    ringed,
    scaled_format,
)
from nuke_simulator.op_base import OpContext


def crop(ctx: OpContext) -> Image:
    """Cuts the box to `box`.

    `crop` ("black outside", on by default) puts a black pixel around, and adds a solid alpha over the input's area
    where there is no alpha; without it the edges repeat outside. `reformat` makes the box the format, `intersect` keeps
    within the input's box (DOC: "Crop"; the pixel around is unverified).
    """
    image = ctx.pipe(0)
    if ctx.flag("crop", True) and image.channels and ALPHA not in image.channels:
        solid = np.ones((image.bbox[3] - image.bbox[1], image.bbox[2] - image.bbox[0]), np.float32)
        image = replace(image, channels={**image.channels, ALPHA: solid})
    if ctx.number("softness", 0) != 0:
        raise ctx.not_simulated("softness")
    box = _whole_box(ctx, ctx.numbers("box", [0.0, 0.0, *ctx.session.root_format[:2]], 4))
    if ctx.flag("intersect", False):
        box = intersection(box, image.bbox)
    image = replace(image, channels=fitted(image, box), bbox=box, black_outside=False)
    if ctx.flag("crop", True):
        image = ringed(image)
    if ctx.flag("reformat", False):
        format = Format(box[2] - box[0], box[3] - box[1], image.format.pixel_aspect)
        image = replace(moved(image, -box[0], -box[1]), format=format)
    return image


def black_outside(ctx: OpContext) -> Image:
    image = ctx.pipe(0)
    return image if image.black_outside else ringed(image)


def adjust_bbox(ctx: OpContext) -> Image:
    """Grows the box by `numpixels` on all sides; grown pixels repeat the edge (DOC: "AdjBBox")."""
    image = ctx.pipe(0)
    if ctx.whole("numpixels", 0) < 0:
        raise ctx.not_simulated("a negative numpixels")
    grow = round(ctx.number("numpixels", 0) * ctx.proxy_scale)
    x, y, r, t = image.bbox
    box = (x - grow, y - grow, r + grow, t + grow)
    return replace(image, channels=fitted(image, box), bbox=box)


def copy_bbox(ctx: OpContext) -> Image:
    """B with A's box (DOC: "CopyBBox")."""
    image, a = ctx.pipe(0), ctx.pipe(1)
    return replace(image, channels=fitted(image, a.bbox), bbox=a.bbox, black_outside=False)


def transform(ctx: OpContext) -> Image:
    """A shift by whole pixels; everything else isn't simulated."""
    scale = ctx.numbers("scale", 1.0, 2)
    skews = [ctx.number(name, 0.0) for name in ("rotate", "skewX", "skewY")]
    if any(skews) or scale != [1.0, 1.0]:
        raise ctx.not_simulated("rotating, scaling or skewing")
    x, y = (value * ctx.proxy_scale for value in ctx.numbers("translate", 0.0, 2))
    if x != int(x) or y != int(y):
        raise ctx.not_simulated("a shift by parts of a pixel")
    image = ctx.pipe(0)
    return moved(image, int(x), int(y)) if (x, y) != (0, 0) else image


def reformat(ctx: OpContext) -> Image:
    """To another format: resize none (centred or not), width, height, fit, fill or distort, by the nearest pixel.

    Unless `pbb` (preserve bounding box) is on, what lies outside the new format is cut off (DOC: "Reformat").
    """
    image = ctx.pipe(0)
    if any(ctx.flag(name, False) for name in ("flip", "flop", "turn")):
        raise ctx.not_simulated("flip, flop or turn")
    format = _target(ctx, image)
    across, up = format.width / image.format.width, format.height / image.format.height
    # The width of a pixel counts: a picture of wide pixels is stretched to square ones.
    squeeze = image.format.pixel_aspect / format.pixel_aspect
    resize = str(ctx.value("resize", "width"))
    if resize not in ("none", "width", "height", "fit", "fill", "distort"):
        raise ctx.not_simulated(f"resize '{resize}'")
    by_width, by_height = (across, across / squeeze), (up * squeeze, up)
    scales = {"none": (1.0, 1.0), "distort": (across, up), "width": by_width, "height": by_height}
    scales["fit"], scales["fill"] = min(by_width, by_height), max(by_width, by_height)
    sx, sy = scales[resize]
    result = image if (sx, sy) == (1.0, 1.0) else resampled(image, sx, sy, format)
    if ctx.flag("center", True):
        result = moved(
            result,
            int((format.width - image.format.width * sx) // 2),
            int((format.height - image.format.height * sy) // 2),
        )
    result = replace(result, format=format)
    if not ctx.flag("pbb", False):
        box = intersection(result.bbox, format.box)
        result = replace(result, channels=fitted(result, box), bbox=box)
    return ringed(result) if ctx.flag("black_outside", False) else result


def _target(ctx: OpContext, image: Image) -> Format:
    kind = str(ctx.value("type", "to format"))
    if kind == "to format":
        own = ctx.value("format", None)
        return scaled_format(Format(*own), ctx.proxy_scale) if own else ctx.root_format()
    if kind == "to box":
        width = ctx.whole("box_width", 200)
        height = ctx.whole("box_height", 200) if ctx.flag("box_fixed", False) else None
        if height is None:
            height = round(width * image.format.height / image.format.width)
        return scaled_format(Format(width, height, ctx.number("box_pixel_aspect", 1.0)), ctx.proxy_scale)
    if kind == "scale":
        sx, sy = ctx.numbers("scale", 1.0, 2)
        return Format(round(image.format.width * sx), round(image.format.height * sy), image.format.pixel_aspect)
    raise ctx.not_simulated(f"type '{kind}'")


def _whole_box(ctx: OpContext, corners: list[float]) -> Box:
    x, y, r, t = (round(corner * ctx.proxy_scale) for corner in corners)
    return (x, y, max(r, x + 1), max(t, y + 1))
