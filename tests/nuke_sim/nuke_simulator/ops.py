"""The pull: which picture a node gives at a frame in a view, and which frames it has.

    evaluate(node, frame, view, session)    a picture, at proxy scale where the root's proxy is on
    write_frame(node, frame, view, session) what executing a Write does for one frame of one view
    frame_range(node, session)              first and last frame

Rules:
- A Group or Gizmo gives what its Output gives; an Input inside gives what the input of that number gives, at the
  frame and view it is asked for (DOC: Nuke User Guide, "Groups"; NDK).
- A disabled node gives its input 0; a disabled Read gives black (unverified: the latter).
- Switch pulls only the input it shows (DOC: "Switch"); one beyond the last input shows the last (unverified).
- Time nodes ask for another frame of their input and of all above it (DOC: "TimeOffset", "FrameHold", "TimeWarp").
- Assert raises its message as an error of the node where its expression is 0 (SRC: NDK examples, Assert.cpp).
- Several nodes asking for one frame of another get the same picture; it is made once per pull.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nuke_simulator import nodes, op_files, op_pixels, op_space
from nuke_simulator.images import Image, solid
from nuke_simulator.op_base import NodeError, OpContext
from nuke_simulator.op_files import ReadCache

Range = tuple[int, int]


def evaluate(node: Any, frame: float, view: str, session: Any) -> Image:
    """A node's picture.

    Raises:
        NodeError: a node in the tree has an error; its text names it.
        NotImplementedError: the simulator doesn't know what Nuke would do here.
    """
    scale = float(session.proxy_scale) if session.proxy_on else 1.0
    return _made(OpContext(node, frame, view, session, scale))


def write_frame(node: Any, frame: float, view: str, session: Any, views: list[str] | None = None) -> str | None:
    """Renders a frame of a Write; `views` are all views this execution renders.

    Returns:
        The path written, or None where the Write's "limit to range" leaves the frame out.

    Raises:
        NodeError: the Write or a node above it has an error.
    """
    scale = float(session.proxy_scale) if session.proxy_on else 1.0
    return op_files.write_file(OpContext(node, frame, view, session, scale), views)


def frame_range(node: Any, session: Any) -> Range:
    """The frames a node says it has.

    A Read's first..last; what makes pictures has the root's range; time nodes shift it; several inputs give the union,
    unconnected ones count for nothing (unverified: both).
    """
    return _range(OpContext(node, session.first, session.views[0], session)) or (session.first, session.last)


def pull(ctx: OpContext, node: Any, frame: float, view: str) -> Image:
    """Another node's picture within the same pull."""
    return _made(OpContext(node, frame, view, ctx.session, ctx.proxy_scale, ctx.made))


def _made(ctx: OpContext) -> Image:
    key = (id(ctx.node), ctx.frame, ctx.view)
    if key not in ctx.made:
        ctx.made[key] = _make(ctx)
    return ctx.made[key]


def _make(ctx: OpContext) -> Image:
    kind = ctx.node.Class()
    if ctx.flag("disable", False):
        return solid(ctx.root_format(), {}) if kind == "Read" else ctx.pipe(0)
    if isinstance(ctx.node, nodes.Group):
        output = nodes.group_output(ctx.node)
        if output is None:
            raise ctx.error("There is no Output node in this group")
        return pull(ctx, output, ctx.frame, ctx.view)
    if kind == "Input":
        source = nodes.group_source(ctx.node)
        return ctx.pipe(0) if source is None else pull(ctx, source, ctx.frame, ctx.view)
    if kind not in OPS:
        raise ctx.not_simulated("this class")
    with np.errstate(all="ignore"):  # plates hold NaN and infinity; Nuke computes with them silently
        return OPS[kind](ctx)


def _pass(ctx: OpContext) -> Image:
    return ctx.pipe(0)


def _switch(ctx: OpContext) -> Image:
    return ctx.pipe(min(max(ctx.whole("which", 0), 0), max(len(ctx.inputs) - 1, 0)))


def _assert(ctx: OpContext) -> Image:
    expression = ctx.value("expression", 1)
    if isinstance(expression, str):
        raise ctx.not_simulated(f"the expression '{expression}' as text")
    if not expression:
        raise ctx.error(str(ctx.value("message", "") or "Assert failed"))
    return ctx.pipe(0)


def _time_offset(ctx: OpContext) -> Image:
    return ctx.pipe(0, _time_offset_frame(ctx))


def _time_offset_frame(ctx: OpContext) -> float:
    if ctx.flag("reverse_input", False):
        raise ctx.not_simulated("reverse_input")
    return ctx.frame - ctx.number("time_offset", 0)


def _frame_hold(ctx: OpContext) -> Image:
    """Frame `first_frame`, or with an increment the last held frame at or before this one (DOC: "FrameHold")."""
    first, step = ctx.number("first_frame", 0), ctx.number("increment", 0)
    if step:
        return ctx.pipe(0, first + math.floor((ctx.frame - first) / step) * step)
    return ctx.pipe(0, first)


def _time_warp(ctx: OpContext) -> Image:
    """The frame that the curve `lookup` gives; between frames only `filter` nearest or none (unverified)."""
    return _between(ctx, ctx.number("lookup", ctx.frame))


def _retime(ctx: OpContext) -> Image:
    """Plain speed from the first frame on; reversing and the in and out ranges aren't simulated."""
    if ctx.flag("reverse", False):
        raise ctx.not_simulated("reverse")
    start = ctx.number("input.first", ctx.session.first)
    out = ctx.number("output.first", start)
    return _between(ctx, start + (ctx.frame - out) * ctx.number("speed", 1.0))


def _between(ctx: OpContext, frame: float) -> Image:
    if frame != int(frame):
        if str(ctx.value("filter", "none")) not in ("none", "nearest"):
            raise ctx.not_simulated("mixing frames in time")
        frame = op_files.round_frame(frame)
    return ctx.pipe(0, frame)


def _one_view(ctx: OpContext) -> Image:
    return ctx.pipe(0, view=str(ctx.value("view", ctx.session.views[0])))


def _join_views(ctx: OpContext) -> Image:
    """The input of the view asked for, in the order of the project's views (DOC: "JoinViews")."""
    views = ctx.session.views
    return ctx.pipe(views.index(ctx.view)) if ctx.view in views else ctx.pipe(0)


OPS: dict[str, Callable[[OpContext], Image]] = {
    **dict.fromkeys(("Dot", "NoOp", "Output", "PostageStamp", "Viewer", "FrameRange"), _pass),
    "Read": op_files.read,
    "Write": op_files.write,
    "Switch": _switch,
    "Assert": _assert,
    "TimeOffset": _time_offset,
    "FrameHold": _frame_hold,
    "TimeWarp": _time_warp,
    "Retime": _retime,
    "OneView": _one_view,
    "JoinViews": _join_views,
    "Copy": op_pixels.copy,
    "Dissolve": op_pixels.dissolve,
    "Keymix": op_pixels.keymix,
    "Merge2": op_pixels.merge,
    "Grade": op_pixels.grade,
    "Multiply": op_pixels.multiply,
    "Add": op_pixels.add,
    "Invert": op_pixels.invert,
    "Premult": op_pixels.premult,
    "Unpremult": op_pixels.unpremult,
    "AddChannels": op_pixels.add_channels,
    "Remove": op_pixels.remove,
    "Shuffle2": op_pixels.shuffle,
    "Constant": op_pixels.constant,
    "CheckerBoard2": op_pixels.checker_board,
    "Crop": op_space.crop,
    "BlackOutside": op_space.black_outside,
    "AdjBBox": op_space.adjust_bbox,
    "CopyBBox": op_space.copy_bbox,
    "Transform": op_space.transform,
    "Reformat": op_space.reformat,
}


def _range(ctx: OpContext) -> Range | None:
    key = ("range", id(ctx.node))
    if key not in ctx.made:
        ctx.made[key] = _find_range(ctx)
    return ctx.made[key]


def _find_range(ctx: OpContext) -> Range | None:
    kind = ctx.node.Class()
    if kind in RANGES and not ctx.flag("disable", False):
        return RANGES[kind](ctx)
    sources = ctx.inputs
    if isinstance(ctx.node, nodes.Group):
        sources = [nodes.group_output(ctx.node)]
    elif kind == "Input":
        sources = [nodes.group_source(ctx.node)]
    found = [_range(replace(ctx, node=source)) for source in sources if source is not None]
    ranges = [one for one in found if one is not None]
    return (min(first for first, _ in ranges), max(last for _, last in ranges)) if ranges else None


def _read_range(ctx: OpContext) -> Range:
    first, last = ctx.whole("first", 1), ctx.whole("last", 1)
    shift = op_files.file_frame(ctx, first) - ctx.frame
    return (round(first - shift), round(last - shift))


def _root_range(ctx: OpContext) -> Range:
    return (ctx.session.first, ctx.session.last)


def _shifted_range(ctx: OpContext) -> Range | None:
    source = _range(replace(ctx, node=ctx.inputs[0])) if ctx.connected(0) else None
    shift = round(ctx.frame - _time_offset_frame(ctx))
    return (source[0] + shift, source[1] + shift) if source else None


RANGES: dict[str, Callable[[OpContext], Range | None]] = {
    "Read": _read_range,
    "Constant": _root_range,
    "CheckerBoard2": _root_range,
    "TimeOffset": _shifted_range,
    "FrameRange": lambda ctx: (ctx.whole("first_frame", 1), ctx.whole("last_frame", 100)),
}

__all__ = ["OPS", "NodeError", "OpContext", "ReadCache", "evaluate", "frame_range", "pull", "write_frame"]
