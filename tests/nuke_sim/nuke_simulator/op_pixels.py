"""Operators that change pixels or channels in place.

Exactness the node under test rests on: Copy copies bits; Keymix is A * m + B * (1 - m), A's bits where m is 1 or more
and B's where it is 0 or less, so that infinite and NaN values of the unused side don't leak (SRC: NDK examples,
Keymix.cpp). Dissolve and every `mix` are taken to do the same (DOC: Nuke Reference Guide, "Dissolve", "Copy" for the
mean; the exact ends are unverified there).
"""

import re

import numpy as np

from nuke_simulator.images import (
    ALPHA,
    RGB,
    RGBA,
    Box,
    Format,
    Image,
    channel_names,
    fitted,
    intersection,
    scaled_format,
    union,
)
from nuke_simulator.op_base import OpContext
from nuke_simulator.op_files import checkerboard


def blend(a: np.ndarray, b: np.ndarray, m: np.ndarray | float) -> np.ndarray:
    """A * m + B * (1 - m), with A's bits from 1 on and B's from 0 down."""
    if isinstance(m, float):
        if m >= 1 or a is b:
            return a
        return b if m <= 0 else a * np.float32(m) + b * np.float32(1 - m)
    mixed = a * m + b * (1 - m)
    np.copyto(mixed, a, where=m >= 1)
    np.copyto(mixed, b, where=m <= 0)
    return mixed


def merge_box(ctx: OpContext, b: Image, a: Image, default: str = "union") -> Box:
    """The box the knob `bbox` asks for: union, intersection, A, B (DOC: "Merge")."""
    mode = str(ctx.value("bbox", default)).split(" ")[0]
    if mode == "union":
        return union(a.bbox, b.bbox)
    if mode == "intersection":
        return intersection(a.bbox, b.bbox)
    if mode in ("A", "B"):
        return a.bbox if mode == "A" else b.bbox
    raise ctx.not_simulated(f"bbox '{mode}'")


def copy(ctx: OpContext) -> Image:
    """A's channels from0..from3 put over B's to0..to3, and whole layers named by `channels` (DOC: "Copy")."""
    b, a = ctx.pipe(0), ctx.pipe(1)
    pairs = []
    for i in range(4):
        source, target = str(ctx.value(f"from{i}", "none")), str(ctx.value(f"to{i}", "none"))
        if "none" not in (source, target):
            pairs.append((source, target))
    pairs += [(name, name) for name in channel_names(str(ctx.value("channels", "none")), a.channels)]
    box = merge_box(ctx, b, a)
    channels = fitted(b, box)
    amount = _amount(ctx, 2, box)
    for source, target in pairs:
        channels[target] = blend(a.window(source, box), b.window(target, box), amount)
    return Image(channels, box, b.format, _ring_stays(box, b, a), b.metadata)


def dissolve(ctx: OpContext) -> Image:
    """Between input `which` and the next (DOC: "Dissolve"). Whether those without a share are pulled is a quirk.

    Input 2 is the mask and not among them, as in Merge2 (unverified).
    """
    places = [i for i in range(max(len(ctx.inputs), 2)) if i != 2]
    which = min(max(ctx.number("which", 0), 0.0), float(len(places) - 1))
    low = int(which)
    b = ctx.pipe(places[low])
    if which == low:
        if ctx.session.quirks.dissolve_pulls_all:
            for place in places[: len(ctx.inputs)]:
                ctx.pipe(place)
        return b
    a = ctx.pipe(places[low + 1])
    box = merge_box(ctx, b, a)
    names = [*b.channels, *(name for name in a.channels if name not in b.channels)]
    amount = _amount(ctx, 2, box, which - low)
    channels = fitted(b, box)
    for name in channel_names(str(ctx.value("channels", "all")), names):
        channels[name] = blend(a.window(name, box), b.window(name, box), amount)
    return Image(channels, box, b.format, _ring_stays(box, b, a), b.metadata)


def keymix(ctx: OpContext) -> Image:
    """A's channels over B through one channel of input 2; all of B where no mask is connected.

    B's channels that A hasn't pass unchanged. The union takes in the mask's box too, unless the mask is black outside
    it (SRC: NDK examples, Keymix.cpp, also for `bbox`).
    """
    b, a, mask = ctx.pipe(0), ctx.pipe(1), ctx.pipe(2)
    inverted = ctx.flag("invertMask", False)
    box = merge_box(ctx, b, a)
    union_wanted = str(ctx.value("bbox", "union")) == "union"
    limited = mask.black_outside and not inverted
    if union_wanted and not limited:
        box = union(box, mask.bbox)
    matte = mask.window(str(ctx.value("maskChannel", ALPHA)).lstrip("-"), box)
    matte = 1 - matte if inverted else matte
    share = ctx.number("mix", 1.0)
    amount = matte * np.float32(share) if share != 1 else matte
    channels = fitted(b, box)
    for name in channel_names(str(ctx.value("channels", "all")), a.channels):
        channels[name] = blend(a.window(name, box), b.window(name, box), amount)
    ring = b.black_outside if limited else _ring_stays(box, b, a)
    return Image(channels, box, b.format, ring, b.metadata)


def _amount(ctx: OpContext, mask: int, box: Box, share: float = 1.0) -> np.ndarray | float:
    """The knob `mix` times the mask, where one is connected; its alpha unless the mask knob says otherwise.

    Which of the two mask knobs a script uses depends on its Nuke (unverified: that a connected mask always counts).
    """
    share *= ctx.number("mix", 1.0)
    if not ctx.connected(mask):
        return share
    named = [str(ctx.value(knob, "none")).lstrip("-") for knob in ("maskChannelInput", "maskChannelMask")]
    name = next((name for name in named if name not in ("", "none")), ALPHA)
    matte = ctx.pipe(mask).window(name, box)
    matte = 1 - matte if ctx.flag("invert_mask", False) else matte
    return matte * np.float32(share) if share != 1 else matte


def _ring_stays(box: Box, b: Image, a: Image) -> bool:
    # The pixels around the box are black where the pictures that reach it have black there (unverified for merges).
    reach = [image for image in (b, a) if image.bbox == box]
    return bool(reach) and all(image.black_outside for image in reach)


def _over(a, b, alpha_a, alpha_b):
    return a + b * (1 - alpha_a)


MERGES = {
    "over": _over,
    "under": lambda a, b, alpha_a, alpha_b: a * (1 - alpha_b) + b,
    "plus": lambda a, b, alpha_a, alpha_b: a + b,
    "minus": lambda a, b, alpha_a, alpha_b: a - b,
    "from": lambda a, b, alpha_a, alpha_b: b - a,
    "multiply": lambda a, b, alpha_a, alpha_b: a * b,
    "copy": lambda a, b, alpha_a, alpha_b: a,
    "max": lambda a, b, alpha_a, alpha_b: np.maximum(a, b),
    "min": lambda a, b, alpha_a, alpha_b: np.minimum(a, b),
    "average": lambda a, b, alpha_a, alpha_b: (a + b) / 2,
    "difference": lambda a, b, alpha_a, alpha_b: np.abs(a - b),
    "in": lambda a, b, alpha_a, alpha_b: a * alpha_b,
    "out": lambda a, b, alpha_a, alpha_b: a * (1 - alpha_b),
    "mask": lambda a, b, alpha_a, alpha_b: b * alpha_a,
    "stencil": lambda a, b, alpha_a, alpha_b: b * (1 - alpha_a),
    "matte": lambda a, b, alpha_a, alpha_b: a * alpha_a + b * (1 - alpha_a),
    "atop": lambda a, b, alpha_a, alpha_b: a * alpha_b + b * (1 - alpha_a),
    "xor": lambda a, b, alpha_a, alpha_b: a * (1 - alpha_b) + b * (1 - alpha_a),
    "screen": lambda a, b, alpha_a, alpha_b: np.where((a <= 1) | (b <= 1), a + b - a * b, np.maximum(a, b)),
}  # DOC: Nuke Reference Guide, "Merge Operations"; values outside 0..1 in the last two are unverified


def merge(ctx: OpContext) -> Image:
    """A (and A2..) over B in the layer rgba; other channels are B's (DOC: "Merge")."""
    operation = str(ctx.value("operation", "over"))
    if operation not in MERGES:
        raise ctx.not_simulated(f"operation '{operation}'")
    result = ctx.pipe(0)
    for knob, plain in (("Achannels", "rgba"), ("Bchannels", "rgba"), ("also_merge", "none")):
        if str(ctx.value(knob, plain)) != plain:
            raise ctx.not_simulated(f"{knob} other than {plain}")
    for index in [1, *range(3, len(ctx.inputs))]:
        if not ctx.connected(index):
            continue
        result = _merged(ctx, operation, result, ctx.pipe(index))
    return result


def _merged(ctx: OpContext, operation: str, b: Image, a: Image) -> Image:
    box = merge_box(ctx, b, a)
    made = fitted(b, box)
    wanted = channel_names(str(ctx.value("output", "rgba")), RGBA)
    names = [name for name in wanted if name in a.channels or name in b.channels]
    alpha_a, alpha_b = a.window(ALPHA, box), b.window(ALPHA, box)
    amount = _amount(ctx, 2, box)
    for name in names:
        a_pixels, b_pixels = a.window(name, box), b.window(name, box)
        merged = MERGES[operation](a_pixels, b_pixels, alpha_a, alpha_b)
        made[name] = blend(np.asarray(merged, np.float32), b_pixels, amount)
    return Image(made, box, b.format, _ring_stays(box, b, a), b.metadata)


def _changed(ctx: OpContext, default: str, change, mask: int = 1) -> Image:
    """The chosen channels changed one by one, through `mix` and the mask."""
    image = ctx.pipe(0)
    channels = dict(image.channels)
    amount = _amount(ctx, mask, image.bbox)
    for name in channel_names(str(ctx.value("channels", default)), image.channels):
        channels[name] = blend(np.asarray(change(name, image), np.float32), image.channels[name], amount)
    return Image(channels, image.bbox, image.format, image.black_outside, image.metadata)


def grade(ctx: OpContext) -> Image:
    """The formula of DOC: Nuke Reference Guide, "Grade"; black clamp is on by default there."""
    if str(ctx.value("unpremult", "none")) not in ("none", ""):
        raise ctx.not_simulated("unpremult")
    if ctx.flag("reverse", False):
        raise ctx.not_simulated("reverse")
    knobs = {name: ctx.numbers(name, default, 4) for name, default in GRADE.items()}
    low, high = ctx.flag("black_clamp", True), ctx.flag("white_clamp", False)

    def change(name: str, image: Image) -> np.ndarray:
        i = RGBA.index(name) if name in RGBA else 3
        k = {knob: values[i] for knob, values in knobs.items()}
        gain = k["multiply"] * (k["white"] - k["black"]) / (k["whitepoint"] - k["blackpoint"])
        lift = k["add"] + k["black"] - gain * k["blackpoint"]
        pixels = image.channels[name]
        if (gain, lift) != (1, 0):
            pixels = pixels * np.float32(gain) + np.float32(lift)
        if k["gamma"] != 1:
            pixels = np.where(pixels > 0, np.abs(pixels) ** np.float32(1 / k["gamma"]), pixels)
        pixels = np.maximum(pixels, 0) if low else pixels
        return np.minimum(pixels, 1) if high else pixels

    return _changed(ctx, "rgb", change)


GRADE = {"blackpoint": 0.0, "whitepoint": 1.0, "black": 0.0, "white": 1.0, "multiply": 1.0, "add": 0.0, "gamma": 1.0}


def multiply(ctx: OpContext) -> Image:
    values = ctx.numbers("value", 1.0, 4)
    return _changed(ctx, "rgb", lambda name, image: image.channels[name] * np.float32(values[_place(name)]))


def add(ctx: OpContext) -> Image:
    values = ctx.numbers("value", 0.0, 4)
    return _changed(ctx, "rgb", lambda name, image: image.channels[name] + np.float32(values[_place(name)]))


def invert(ctx: OpContext) -> Image:
    return _changed(ctx, "all", lambda name, image: 1 - image.channels[name])


def premult(ctx: OpContext) -> Image:
    name_of_alpha = str(ctx.value("alpha", ALPHA))
    return _changed(
        ctx, "rgb", lambda name, image: image.channels[name] * image.window(name_of_alpha, image.bbox), mask=99
    )


def unpremult(ctx: OpContext) -> Image:
    """Divides by alpha; where alpha is 0 the value stays (unverified)."""
    name_of_alpha = str(ctx.value("alpha", ALPHA))

    def change(name: str, image: Image) -> np.ndarray:
        alpha = image.window(name_of_alpha, image.bbox)
        return np.where(alpha == 0, image.channels[name], image.channels[name] / np.where(alpha == 0, 1, alpha))

    return _changed(ctx, "rgb", change, mask=99)


def add_channels(ctx: OpContext) -> Image:
    """Adds the channels that aren't there, in `color` (DOC: "AddChannels")."""
    image = ctx.pipe(0)
    colour = ctx.numbers("color", 0.0, 4)
    height, width = image.bbox[3] - image.bbox[1], image.bbox[2] - image.bbox[0]
    channels = dict(image.channels)
    for knob in ("channels", "channels2", "channels3", "channels4"):
        for name in _named(str(ctx.value(knob, "none"))):
            channels.setdefault(name, np.full((height, width), colour[_place(name)], np.float32))
    return Image(channels, image.bbox, image.format, image.black_outside, image.metadata)


def remove(ctx: OpContext) -> Image:
    """Removes the named channels, or keeps only them (DOC: "Remove")."""
    image = ctx.pipe(0)
    text = " ".join(str(ctx.value(knob, "none")) for knob in ("channels", "channels2", "channels3", "channels4"))
    named = set(channel_names(text, image.channels))
    keep = str(ctx.value("operation", "remove")) == "keep"
    channels = {name: pixels for name, pixels in image.channels.items() if (name in named) == keep}
    return Image(channels, image.bbox, image.format, image.black_outside, image.metadata)


def shuffle(ctx: OpContext) -> Image:
    """Channels of two inputs, white or black, put into others; what isn't named comes from input 0 unchanged.

    The knob `mappings` is a count, then for each: source, which of fromInput1 and fromInput2, its place, target, which
    output, its place (SRC: public scripts). An empty one changes nothing.
    """
    base = ctx.pipe(0)
    words = str(ctx.value("mappings", "")).split()
    channels = dict(base.channels)
    steps = [words[1 + i * 6 : 7 + i * 6] for i in range(int(words[0]))] if words else []
    for source, side, _, target, _, _ in steps:
        if source in ("white", "black"):
            height, width = base.bbox[3] - base.bbox[1], base.bbox[2] - base.bbox[0]
            channels[target] = np.full((height, width), float(source == "white"), np.float32)
            continue
        place = re.search(r"\d+", str(ctx.value(f"fromInput{int(side) + 1}", "{0} B")))
        channels[target] = ctx.pipe(int(place[0]) if place else 0).window(source, base.bbox)
    return Image(channels, base.bbox, base.format, base.black_outside, base.metadata)


def constant(ctx: OpContext) -> Image:
    """A colour in the knob's format, or the root's (DOC: "Constant")."""
    colour = ctx.numbers("color", 0.0, 4)
    names = _named(str(ctx.value("channels", "rgb")))
    format = _own_format(ctx)
    shape = (format.height, format.width)
    channels = {name: np.full(shape, colour[_place(name)], np.float32) for name in names}
    return Image(channels, format.box, format)


def checker_board(ctx: OpContext) -> Image:
    return checkerboard(_own_format(ctx), max(1, round(ctx.number("boxsize", 64) * ctx.proxy_scale)))


def _own_format(ctx: OpContext) -> Format:
    own = ctx.value("format", None)
    return scaled_format(Format(*own), ctx.proxy_scale) if own else ctx.root_format()


def _named(text: str) -> list[str]:
    names: list[str] = []
    for token in text.split():
        layer = {"rgb": RGB, "rgba": RGBA, "alpha": (ALPHA,), "depth": ("depth.Z",), "none": ()}.get(token)
        names += layer if layer is not None else [token]
    return names


def _place(name: str) -> int:
    return RGBA.index(name) if name in RGBA else 0
