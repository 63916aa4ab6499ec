"""Which frames of a node a node further down asks for, where time runs differently between them.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

from collections.abc import Iterable

import nuke

from relightgan.nuke_plugin import graph

__all__ = ["frames_asked", "warps_between"]

MAX_SHIFTS = 6  # time offsets between two nodes; their possible sums double with each


def warps_between(below: nuke.Node, above: nuke.Node) -> list[nuke.Node]:
    """The nodes between two nodes that ask for other frames than they are asked for; empty where time runs the same."""
    found = []
    for node in graph.upstream(below):
        if not graph.keeps_time(node) and not graph.is_off(node, None) and above in graph.upstream(node):
            found.append(node)
    return found


def frames_asked(below: nuke.Node, above: nuke.Node, frames: Iterable[int]) -> set[int] | None:
    """Frames of `above` that may be asked for when frames of `below` are; never too few.

    Args:
        below: a node that depends on `above`.
        above: a RelightGAN node.
        frames: of `below`.

    Returns:
        the same frames where time runs the same; shifted by every combination of the TimeOffsets between, because
        not every way needs to lead through each; None where only rendering would tell, such as below a TimeWarp.
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
            # A clip that starts later by an offset shows at a frame what it showed that many frames earlier.
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
