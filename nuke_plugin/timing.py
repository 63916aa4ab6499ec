"""Which frames of a node are needed by a node downstream, with time nodes between them.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

from collections.abc import Iterable

import nuke

from relightgan.nuke_plugin import graph

__all__ = ["frames_asked", "warps_between"]

MAX_SHIFTS = 6  # the maximum number of time nodes between two nodes: each doubles the possible sums


def warps_between(below: nuke.Node, above: nuke.Node) -> list[nuke.Node]:
    """The nodes between two nodes that may request other frames than their own; empty where time is unchanged."""
    found = []
    for node in graph.upstream(below):
        if not graph.keeps_time(node) and not graph.is_off(node, None) and above in graph.upstream(node):
            found.append(node)
    return found


def frames_asked(below: nuke.Node, above: nuke.Node, frames: Iterable[int]) -> set[int] | None:
    """The frames of `above` that frames of `below` may need; perhaps too many, never too few.

    Args:
        below: a node that depends on `above`.
        above: a RelightGAN node.
        frames: frames of `below`.

    Returns:
        The same frames where time is unchanged. With TimeOffsets between, the frames shifted by every combination of
        them, as not every path leads through each. None where only rendering would show it, such as below a TimeWarp.
    """
    asked = set(frames)
    shifts = {0}
    warps = warps_between(below, above)
    if len(warps) > MAX_SHIFTS:
        return None
    for warp in warps:
        if warp.Class() == "FrameHold" and _steady(warp, "first_frame") and not _value(warp, "increment"):
            asked.add(int(_value(warp, "first_frame")))
        elif warp.Class() == "TimeOffset" and _steady(warp, "time_offset") and not _value(warp, "reverse_input"):
            # With an offset of n, frame f shows the input's frame f - n.
            shifts |= {shift + int(_value(warp, "time_offset")) for shift in shifts}
        else:
            return None
    return {frame - shift for frame in asked for shift in shifts}


def _steady(node: nuke.Node, name: str) -> bool:
    knob = node.knob(name)
    return knob is not None and not knob.isAnimated() and not knob.hasExpression()


def _value(node: nuke.Node, name: str) -> float:
    knob = node.knob(name)
    return 0.0 if knob is None else float(knob.value())
