"""nuke.execute and nuke.executeMultiple: which Writes, which frames, which callbacks, and what stops them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import formats
from .classes import CLASSES

if TYPE_CHECKING:
    from .nodes import Node
    from .session import Session

_BUSY = "I'm already executing something else"
# From these Nuke can't start a render. Public sources disagree on beforeRender: a quirk.
_REFUSED_IN = {"KnobChanged", "UpdateUI", "Autolabel", "RenderProgress"}
_QUIRKY = {"BeforeRender", "BeforeFrameRender", "AfterFrameRender", "AfterRender"}


class Render:
    """The one render that may run."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.running = False
        self.frame: float | None = None

    def execute(self, node: Node, ranges: Any, views: Sequence[str] | None, continue_on_error: bool) -> None:
        """Renders one node (of a Group, the Writes inside); RuntimeError when it fails or is cancelled."""
        writes = executable(node)
        if not writes:
            raise RuntimeError(f"{node.fullName()}: no active Write operators")
        self.run(writes, ranges, views, continue_on_error)

    def execute_all(self, ranges: Any, views: Sequence[str] | None, continue_on_error: bool) -> None:
        """Everything that can be executed in the current group."""
        self.run(list(self.everything()), ranges, views, continue_on_error)

    def everything(self) -> Iterable[Node]:
        from .nodes import Group

        for node in list(self._session.group._children):
            if is_write(node) or (isinstance(node, Group) and self._session.quirks.execute_enters_gizmos):
                yield from executable(node)

    def run(self, writes: list[Node], ranges: Any, views: Sequence[str] | None, continue_on_error: bool) -> None:
        self._refuse_if_busy()
        before = self.running
        self.running = True
        failures: list[str] = []
        try:
            for write in writes:
                failures += self._render_node(write, list(frames_of(ranges)), self._views(views), continue_on_error)
        finally:
            self.running = before
        for failure in failures:
            print(f"ERROR: {failure}", file=sys.stderr, flush=True)
        if failures and self._session.quirks.continue_on_error_raises:
            raise RuntimeError(failures[0])

    def _refuse_if_busy(self) -> None:
        events = set(self._session.callbacks.running)
        if events & _REFUSED_IN:
            raise RuntimeError(_BUSY)
        if self.running and not (events & _QUIRKY and self._session.quirks.nested_execute_in_before_render == "allow"):
            raise RuntimeError(_BUSY)

    def refuse_edit(self) -> None:
        """A change to the script is refused within a render's callbacks, if Nuke is like that."""
        events = set(self._session.callbacks.running)
        if self.running and events & _QUIRKY and self._session.quirks.edits_in_render_callbacks == "raise":
            raise RuntimeError(_BUSY)

    def _views(self, views: Sequence[str] | None) -> list[str]:
        if isinstance(views, str):
            raise TypeError("views is a list of names")
        for view in views or ():
            if view not in self._session.views:
                raise RuntimeError(f"there is no view {view!r}")
        return list(views) if views else list(self._session.views)

    def _render_node(self, node: Node, frames: list[int], views: list[str], continue_on_error: bool) -> list[str]:
        from . import ops

        if node.Class() != "Write":
            raise NotImplementedError(f"simulated {node.Class()} can't be executed")
        callbacks, failures = self._session.callbacks, []
        frames = _limited(node, frames)
        with self._session.at(frames[0] if frames else 0, views[0]):
            callbacks.run("BeforeRender", node)
        for frame in frames:
            if self._session.quirks.execute_moves_the_frame:
                self._session.root._knobs["frame"]._from_script(str(frame))
            with self._session.at(frame, views[0]):
                callbacks.run("BeforeFrameRender", node)
            failed_before = len(failures)
            for view in views:
                with self._session.at(frame, view):
                    self._cancelled()
                    try:
                        path = ops.write_frame(node, frame, view, self._session, views)
                    except ops.NodeError as error:
                        if not continue_on_error:
                            self._aborted(node)
                            raise
                        failures.append(str(error))
                        continue
                    if not self._session.gui:
                        print(f"Writing {path} took 0.01 seconds", flush=True)
                        print(f"Frame {frame} ({frames.index(frame) + 1} of {len(frames)})", flush=True)
            if len(failures) > failed_before:
                continue
            with self._session.at(frame, views[0]):
                callbacks.run("RenderProgress", node)
                callbacks.run("AfterFrameRender", node)
        with self._session.at(frames[-1] if frames else 0, views[0]):
            callbacks.run("AfterRender", node)
        node._knobs["version"]._from_script(str(node._knobs["version"].value() + 1))
        return failures

    def _aborted(self, node: Node) -> None:
        if self._session.quirks.after_render_after_abort:
            self._session.callbacks.run("AfterRender", node)

    def _cancelled(self) -> None:
        if self._session.cancel_pressed():
            raise RuntimeError("Cancelled")


def is_write(node: Node) -> bool:
    """Can it be executed itself: a Write that isn't disabled and doesn't read its file?"""
    spec = CLASSES.get(node.Class())
    if spec is None or not spec.executable:
        return False
    disabled = node.knob("disable")
    return not (disabled is not None and disabled.value()) and not node["reading"].value()


def executable(node: Node) -> list[Node]:
    """What executing this node executes: itself, or the enabled Writes in it; nothing when it is disabled."""
    from .nodes import Group

    if not isinstance(node, Group):
        if node.knob("render_order") is None:
            raise RuntimeError(f"{node.fullName()} can't be executed: it isn't a Write")
        return [node] if is_write(node) else []
    disabled = node.knob("disable")
    if disabled is not None and disabled.value():
        return []
    return [one for inner in node._children if isinstance(inner, Group) or is_write(inner) for one in executable(inner)]


def by_render_order(nodes: Iterable[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: node["render_order"].value())


def frames_of(ranges: Any) -> list[int]:
    """The frames of a FrameRanges, of ((first, last, step), ...) or of one (first, last, step)."""
    if isinstance(ranges, formats.FrameRanges):
        return ranges.toFrameList()
    if isinstance(ranges, formats.FrameRange):
        return list(ranges)
    if ranges and all(isinstance(one, int) for one in ranges):
        return list(formats.FrameRange(*ranges))
    return [frame for one in ranges for frame in formats.FrameRange(*one)]


def _limited(node: Node, frames: list[int]) -> list[int]:
    if not node["use_limit"].value():
        return frames
    return [frame for frame in frames if node["first"].value() <= frame <= node["last"].value()]
