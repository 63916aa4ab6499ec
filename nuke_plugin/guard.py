"""Keeps a render from using frames that aren't relit, or not from this state: it fails with the command to run.

    before a render         nodes upstream of the Write are linked to what the store has, so that frames baked on
                            another machine just work
    before each frame       every RelightGAN node that counts at this frame must be ready

A guard produces nothing: Nuke executes nothing within a render. Raising in these callbacks aborts the render (Foundry,
Python Developer's Guide, "Callbacks"). Our own inner Write fires them too, and passes.

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

# What was registered, kept over importlib.reload: the functions of before the reload are others than those of after.
_executed_views: list[str] = []  # what `views_only` says; a callback isn't told
_registered: list[tuple[Callable[..., Any], Callable[[], None], str]] = globals().get("_registered", [])


def register() -> None:
    """Guards every Write from now on; once, however often it is called."""
    unregister()
    for add, remove, call in (
        (nuke.addBeforeRender, nuke.removeBeforeRender, before_render),
        (nuke.addBeforeFrameRender, nuke.removeBeforeFrameRender, before_frame_render),
    ):
        for node_class in WRITE_CLASSES:
            add(call, nodeClass=node_class)
            _registered.append((remove, call, node_class))


def unregister() -> None:
    """Guards nothing any more."""
    while _registered:
        remove, call, node_class = _registered.pop()
        remove(call, nodeClass=node_class)


@contextmanager
def views_only(views: Iterable[str]) -> Iterator[None]:
    """Within the block only these views are rendered, and the others needn't be ready."""
    before = list(_executed_views)
    _executed_views[:] = views
    try:
        yield
    finally:
        _executed_views[:] = before


def before_render() -> None:
    """Links what the store has, for all nodes that the Write about to render depends on.

    Raises:
        RuntimeError: a node's state can't be read; one line.
    """
    for node in _guarded(nuke.thisNode()):
        _in_one_line(_relink_if_nuke_lets_us, node)


def before_frame_render() -> None:
    """Lets a frame be rendered where every RelightGAN node that it depends on is ready.

    Raises:
        RuntimeError: one isn't; one line with the command to run.
    """
    _in_one_line(check, nuke.thisNode(), nuke.frame())  # in these callbacks that is the frame being rendered


def check(write: nuke.Node, frame: int) -> None:
    """Does nothing where all that a Write needs for a frame is ready.

    Raises:
        RelightError: it isn't; the fix is the command to run.
    """
    for node in _guarded(write, frame):
        _check(node, write, frame)


def command_line(write: nuke.Node, frames: Iterable[int]) -> str:
    """The command that relights what a Write needs and renders it, for a terminal of this system."""
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
        # Public sources disagree on whether knobs can be set here. Where they can't, a frame that isn't shown yet
        # counts as missing, and the command that the frame check names finds it.
        say(f"{node.fullName()} can't be pointed to other relit frames within this render.")


def _check(node: nuke.Node, write: nuke.Node, frame: int) -> None:
    views = views_of(write)
    # Where time runs differently below it, its own frame decides whether it is switched off.
    asked = {other for other in needed_of(node, write, [frame]) if not graph.inert(node, other)}
    now = status_of(node, asked, views)
    # Below a time-warp more frames may be named than the render asks for; one that is missing then fails in RG_Read.
    if now.is_ready or (now.ready and not now.stale and asked != {frame}):
        return
    root = nuke.root()
    # The whole shot, so that one bake mends it all and not one frame after another.
    shot = {frame, *range(root.firstFrame(), root.lastFrame() + 1)}
    whole = status_of(node, shot, views) if asked == {frame} else None
    bad = shot if whole is None else {*whole.stale, *whole.missing}
    raise RelightError(
        f"{node.fullName()}: relit frame {format_frames([*now.stale, *now.missing])} is "
        f"{'stale' if now.stale else 'missing'}.",
        f"Run: {command_line(write, bad)}",
    )


def _in_one_line(call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except RelightError as error:
        raise RuntimeError(f"RelightGAN: {' '.join(str(error).split())}") from error
