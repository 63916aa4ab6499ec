"""Stops renders that need stale or missing relit frames; the error names the command to run.

    before a render         frames of the store are linked for all nodes upstream of the Write, also those that other
                            machines have baked
    before each frame       all RelightGAN nodes that the frame depends on must be ready

A guard relights nothing, as Nuke executes nothing within a render. Raising in these callbacks aborts the render
(Foundry, Python Developer's Guide, "Callbacks"). Our own inner Write fires them too, and passes.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nuke

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin import graph, knobs
from relightgan.nuke_plugin.bake import needed_of
from relightgan.nuke_plugin.cache_root import script_path
from relightgan.nuke_plugin.messages import say
from relightgan.nuke_plugin.ranges import format_frames
from relightgan.nuke_plugin.state import relink, status_of

__all__ = [
    "before_frame_render",
    "before_render",
    "check",
    "command_line",
    "register",
    "unregister",
    "views_of",
    "views_only",
]

WRITE_CLASSES = ("Write", "WriteGeo", "DeepWrite")
BATCH = Path(__file__).absolute().with_name("batch.py")

_executed_views: list[str] = []  # the views of `views_only`, as Nuke doesn't pass them to callbacks
# The registered callbacks, kept over importlib.reload, which makes new functions.
_registered: list[tuple[Callable[..., Any], Callable[[], None], str]] = globals().get("_registered", [])


def register() -> None:
    """Guards every Write; repeated calls don't register twice."""
    unregister()
    for add, remove, call in (
        (nuke.addBeforeRender, nuke.removeBeforeRender, before_render),
        (nuke.addBeforeFrameRender, nuke.removeBeforeFrameRender, before_frame_render),
    ):
        for node_class in WRITE_CLASSES:
            add(call, nodeClass=node_class)
            _registered.append((remove, call, node_class))


def unregister() -> None:
    """Removes all guards."""
    while _registered:
        remove, call, node_class = _registered.pop()
        remove(call, nodeClass=node_class)


@contextmanager
def views_only(views: Iterable[str]) -> Iterator[None]:
    """A context in which only these views are rendered, and only they must be ready."""
    before = list(_executed_views)
    _executed_views[:] = views
    try:
        yield
    finally:
        _executed_views[:] = before


def before_render() -> None:
    """Links frames of the store, for all nodes that the Write depends on.

    Raises:
        RuntimeError: a node's state can't be read; one line.
    """
    for node in _guarded(nuke.thisNode()):
        _in_one_line(_relink_if_nuke_lets_us, node)


def before_frame_render() -> None:
    """Allows a frame where all RelightGAN nodes that it depends on are ready.

    Raises:
        RuntimeError: a node isn't ready; one line with the command to run.
    """
    _in_one_line(check, nuke.thisNode(), nuke.frame())  # in these callbacks that is the frame being rendered


def check(write: nuke.Node, frame: int) -> None:
    """Checks that all frames that a Write needs for a frame are ready.

    Raises:
        RelightError: a frame is stale or missing; the fix is the command to run.
    """
    for node in _guarded(write, frame):
        _check(node, write, frame)


def command_line(write: nuke.Node, frames: Iterable[int]) -> str:
    """The command, for a terminal of this system, that relights all that a Write needs and renders it."""
    views = views_of(write)
    words = [
        str(nuke.EXE_PATH),
        "-t",
        str(BATCH),
        f"--script={script_path() or 'SAVED_SCRIPT.nk'}",
        f"--write={write.fullName()}",
        *([f"--views={','.join(views)}"] if views != list(nuke.views()) else []),
        f"--frames={format_frames(frames)}",
    ]
    return subprocess.list2cmdline(words) if os.name == "nt" else " ".join(map(shlex.quote, words))


def views_of(write: nuke.Node) -> list[str]:
    """The views a Write renders: those being executed, else those of its `views` knob that the script has, else all."""
    if _executed_views:
        return list(_executed_views)
    known = list(nuke.views())
    knob = write.knob("views")
    chosen = str(knob.value()).split() if knob is not None else []
    return [view for view in known if view in chosen] or known


def _guarded(write: nuke.Node, frame: int | None = None) -> list[nuke.Node]:
    """The RelightGAN nodes a Write depends on, on a frame or on any; none for the Write inside one of them."""
    if knobs.is_relight_node(write.parent()):
        return []
    return [node for node in graph.relight_nodes_upstream(write, frame) if not graph.inert(node)]


def _relink_if_nuke_lets_us(node: nuke.Node) -> None:
    try:
        relink(node)
    except RuntimeError:
        # Public sources disagree on whether knobs can be set here. Where they can't, a frame that isn't linked yet
        # counts as missing, and the command in the error links it.
        say(f"{node.fullName()} can't be pointed to other relit frames within this render.")


def _check(node: nuke.Node, write: nuke.Node, frame: int) -> None:
    views = views_of(write)
    # Below time nodes, the node's own frame decides whether it is bypassed.
    asked = {other for other in needed_of(node, write, [frame]) if not graph.inert(node, other)}
    now = status_of(node, asked, views, thorough=True)
    # Below a time-warp there may be more frames than the render needs; a missing one then fails in RG_Read.
    if now.is_ready or (now.ready and not now.stale and asked != {frame}):
        return
    root = nuke.root()
    # All bad frames of the shot, so that one bake makes them all.
    shot = {frame, *range(root.firstFrame(), root.lastFrame() + 1)}
    whole = status_of(node, shot, views) if asked == {frame} else None
    bad = shot if whole is None else {*whole.stale, *whole.missing}
    raise RelightError(
        f"{node.fullName()}: relit frame {format_frames([*now.stale, *now.missing])} is "
        f"{'stale' if now.stale else 'missing'}{now.why}.",
        f"Run: {command_line(write, bad)}",
    )


def _in_one_line(call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except RelightError as error:
        raise RuntimeError(f"RelightGAN: {' '.join(str(error).split())}") from error
