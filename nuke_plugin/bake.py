"""Bakes RelightGAN nodes: Nuke writes source frames, the worker relights them into the store.

    plan → (for each node, upstream first) write the sources of some frames → check that their keys are unchanged
    → send a request to the worker → write the next sources while it works → link finished frames, update RG_Read

Only at top level: a button or a `nuke -t` script. Nuke refuses to execute inside a render or a knobChanged callback.
bake_frames.py bakes the frames of one node.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import nuke

from relightgan.core.errors import RelightError, SequenceError
from relightgan.nuke_plugin import cache_frames, graph
from relightgan.nuke_plugin.bake_frames import Frame, NodeBake, NodeReport, Work, count_of
from relightgan.nuke_plugin.messages import Shown, say, shown
from relightgan.nuke_plugin.ranges import format_frames
from relightgan.nuke_plugin.restore import session_as_it_was
from relightgan.nuke_plugin.state import relink, state_of
from relightgan.nuke_plugin.timing import frames_asked, warps_between

__all__ = ["BakeReport", "NodeReport", "Work", "bake", "needed_of", "plan", "run"]

READ_CLASSES = ("Read", "DeepRead")

Target = tuple[nuke.Node, Iterable[int]]  # a RelightGAN node and the frames to bake


@dataclass
class BakeReport:
    """The result of a bake."""

    nodes: list[NodeReport] = field(default_factory=list)

    @property
    def relit(self) -> int:
        """The number of frames relit, over all nodes and views."""
        return sum(report.relit for report in self.nodes)

    @property
    def failures(self) -> list[str]:
        """A line for each node and reason: `RelightGAN1: frame 1003: ...`."""
        return [line for report in self.nodes for line in _failure_lines(report)]


Progressed = Optional[Callable[[BakeReport], None]]
Nodes = Union[nuke.Node, Sequence[nuke.Node]]


def bake(
    nodes: Nodes,
    frames: Iterable[int],
    views: Sequence[str] | None = None,
    on_progress: Progressed = None,
    device: str | None = None,
) -> BakeReport:
    """Relights frames of nodes, and of all RelightGAN nodes that these depend on.

    Args:
        nodes: RelightGAN nodes; disabled ones are skipped.
        frames: frame numbers, gaps allowed.
        views: names of views; None: all views of the script.
        on_progress: called with the report after each frame.
        device: replaces the nodes' own device.

    Returns:
        The report; all requested frames are ready.

    Raises:
        SequenceError: some frames couldn't be relit, with the reasons; all others are ready.
        Cancelled: the user or the farm asked to stop; finished frames are ready.
        RelightError: a node or the worker failed; finished frames are ready.
    """
    wanted = list(frames)
    targets = [nodes] if isinstance(nodes, nuke.Node) else nodes
    works = plan([(node, wanted) for node in targets], views)
    total = sum(work.count for work in works)
    with shown(total, "RelightGAN") as progress:
        report = run(works, progress, on_progress, device)
    if report.failures:
        raise SequenceError(
            f"{' '.join(report.failures)} {count_of(report.relit)} relit.", "Mend that, and relight again."
        )
    return report


def plan(targets: Iterable[Target], views: Sequence[str] | None = None) -> list[Work]:
    """The work of a bake, node by node, upstream first; writes nothing.

    Args:
        targets: RelightGAN nodes, each with its frames; a node may occur more than once. Disabled ones are skipped.
        views: names of views; None: all views of the script.

    Raises:
        RelightError: a node's settings make no sense, such as a missing look.
        SequenceError: the script has no such view, or a node's take no such frame.
    """
    chosen = _views(views)
    order: list[nuke.Node] = []
    needed: dict[str, set[int]] = {}
    for target, frames in targets:
        for node in [*graph.relight_nodes_upstream(target), target]:
            if node not in order and not graph.inert(node):
                order.append(node)
                needed[node.fullName()] = set()
        if target in order:
            needed[target.fullName()].update(frames)
    works: list[Work] = []
    for node in reversed(order):  # downstream first, as the frames a node must have follow from the nodes below it
        state = state_of(node, fresh=True)
        wanted = sorted(frame for frame in needed[node.fullName()] if not graph.inert(node, frame))
        if outside := sorted(set(wanted) - set(state.frames)):
            raise SequenceError(
                f"{node.fullName()} is asked for {format_frames(outside)}, and has {format_frames(state.frames)}: the "
                "frames of its source and of the project.",
                "Widen the project's frame range, or ask for other frames.",
            )
        sources = {other for frame in wanted for other in state.window(frame)}
        for upper in graph.relight_nodes_upstream(node):
            if upper.fullName() in needed:
                needed[upper.fullName()].update(needed_of(upper, node, sources))
        pairs = [(frame, view) for view in chosen for frame in wanted]
        todo: dict[str, list[int]] = {}
        for frame, view in pairs:
            if cache_frames.fault_of(state.stored(frame, view), state.frame_key(frame, view), thorough=True) != "":
                todo.setdefault(view, []).append(frame)
        works.insert(0, Work(state, pairs, todo))
    return works


def needed_of(node: nuke.Node, below: nuke.Node, frames: Iterable[int]) -> set[int]:
    """The frames of a RelightGAN node that must be ready before frames of a node further down can be rendered.

    Below a time-warp only frames that the node has count, as its requests aren't known without rendering.
    """
    asked = frames_asked(below, node, frames)
    if asked is None:
        return set(state_of(node).frames)
    return asked & set(state_of(node).frames) if warps_between(below, node) else asked


def run(
    works: Sequence[Work], progress: Shown, on_progress: Progressed = None, device: str | None = None
) -> BakeReport:
    """Does the work of `plan`; failures of single frames are in the report, other errors are raised.

    Raises:
        Cancelled: finished frames are ready.
        RelightError: as `bake`.
    """
    if nuke.executing():
        raise RelightError("Nuke is rendering, and can't bake at the same time.", "Bake when the render is done.")
    report = BakeReport()
    with session_as_it_was([work.state.node for work in works]):
        _open_anew([work.state.node for work in works if work.count])
        for work in works:
            node_report = NodeReport(work.state.node.fullName(), len(work.frames))
            report.nodes.append(node_report)
            after_frame = (lambda: on_progress(report)) if on_progress else None
            try:
                if work.count:
                    progress.begin(node_report.node)
                    NodeBake(work, node_report, progress, after_frame, device).run()
            finally:
                # Also after a cancel or a crash, so that finished frames are shown.
                relink(work.state.node)
            say(node_report.line())
    return report


def _open_anew(nodes: Iterable[nuke.Node]) -> None:
    """Reloads the Reads upstream: Nuke caches by path, and would write a replaced file's old pixels."""
    seen: list[nuke.Node] = []
    for node in nodes:
        seen += [upper for upper in graph.upstream(node) if upper.Class() in READ_CLASSES and upper not in seen]
    for read in seen:
        button: Any = read.knob("reload")
        if button is not None:
            button.execute()


def _views(views: Sequence[str] | None) -> list[str]:
    known = list(nuke.views())
    if views is None:
        return known
    unknown = [view for view in views if view not in known]
    if unknown:
        raise SequenceError(f"There is no view {', '.join(unknown)}.", f"This script has {', '.join(known)}.")
    return list(views)


def _failure_lines(report: NodeReport) -> list[str]:
    by_reason: dict[str, list[Frame]] = {}
    for frame, reason in report.failed.items():
        by_reason.setdefault(reason, []).append(frame)
    lines = []
    for reason, found in by_reason.items():
        views = sorted({view for _, view in found})
        numbers = [frame for frame, _ in found]
        word = "frame" if len(set(numbers)) == 1 else "frames"
        where = f" of {', '.join(views)}" if len(nuke.views()) > 1 else ""
        lines.append(f"{report.node}: {word} {format_frames(numbers)}{where}: {reason}.")
    return lines
