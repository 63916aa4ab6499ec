"""Bakes RelightGAN nodes: Nuke writes source frames, the worker relights them, results go where the state names them.

    plan → (for each node, upstream first) write the sources of some frames → look whether they are still the same
    → ask the worker → write the next ones while it works → link what is finished, point RG_Read there

Only at top level: a button or a `nuke -t` script. Nuke refuses to execute inside a render or a knobChanged callback.
A frame gets a place in the store only when its key, which names every file it depends on, was the same before its
sources were written and after. So a file that changes meanwhile can't leave a wrong frame behind.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import nuke

from relightgan.core.errors import Cancelled, PlateError, RelightError, SequenceError
from relightgan.core.protocol import SETTINGS
from relightgan.nuke_plugin import cache, client, graph
from relightgan.nuke_plugin.messages import Shown, say, shown
from relightgan.nuke_plugin.ranges import format_frames
from relightgan.nuke_plugin.restore import session_as_it_was, source_writer
from relightgan.nuke_plugin.state import NodeState, relink, state_of
from relightgan.nuke_plugin.timing import frames_asked, warps_between

__all__ = ["BakeReport", "NodeReport", "Work", "bake", "needed_of", "plan", "run"]

CHUNK = 8  # frames; their sources are written while the worker relights those before
WAITING_CHUNKS = 1  # requests that may wait while sources are written; more would only fill the disk
POLL_S = 0.1
GIVE_UP_S = 5.0  # after a cancel the worker needs well under a second
BYTES_PER_PIXEL = 16  # rgba in 32-bit floats
SMALL_FILE = 1 << 20
READ_CLASSES = ("Read", "DeepRead")

Frame = tuple[int, str]  # its number and its view
Target = tuple[nuke.Node, Iterable[int]]  # a RelightGAN node and the frames asked of it


@dataclass
class Work:
    """What is to be done for one node.

    Args:
        state: of the node, before anything is written.
        frames: the frames somebody needs, with their views.
        todo: those of them that the store lacks, by view, ascending.
    """

    state: NodeState
    frames: list[Frame]
    todo: dict[str, list[int]]

    @property
    def count(self) -> int:
        """How many frames are to be relit."""
        return sum(map(len, self.todo.values()))


@dataclass
class NodeReport:
    """What became of one node's frames."""

    node: str  # full name
    asked: int  # frames somebody needs
    relit: int = 0
    seconds: float = 0.0  # from the first source written to the last frame relit
    device: str = ""  # a sentence, such as "Running on CPU (...)."
    failed: dict[Frame, str] = field(default_factory=dict)  # with the reason

    def line(self) -> str:
        """One line for the log, with the device and the time per frame."""
        kept = self.asked - self.relit - len(self.failed)
        parts = []
        if self.relit:
            parts.append(f"{_frames(self.relit)} relit, {self.seconds / self.relit:.2f} s per frame")
        if kept:
            parts.append(f"{_frames(kept)} in the cache already")
        if self.failed:
            parts.append(f"{_frames(len(self.failed))} failed")
        return f"{self.node}: {', '.join(parts) or 'nothing to do'}. {self.device}".strip()


@dataclass
class BakeReport:
    """What became of a bake."""

    nodes: list[NodeReport] = field(default_factory=list)

    @property
    def relit(self) -> int:
        """How many frames were relit, of all nodes and views."""
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
    """Relights frames of nodes, and of every RelightGAN node they depend on.

    Args:
        nodes: RelightGAN nodes; one that is switched off is passed over.
        frames: frame numbers, gaps allowed.
        views: names of views; None for all of the script's.
        on_progress: called with the report whenever a frame is finished.
        device: instead of the nodes' own.

    Returns:
        what was done; every frame asked for is ready.

    Raises:
        SequenceError: some frames can't be made, each with its reason; all others are ready.
        Cancelled: the user or the farm asked to stop; finished frames are ready.
        RelightError: a node or the worker can't do it; finished frames are ready.
    """
    wanted = list(frames)
    targets = [nodes] if isinstance(nodes, nuke.Node) else nodes
    works = plan([(node, wanted) for node in targets], views)
    total = sum(work.count for work in works)
    with shown(total, "RelightGAN") as progress:
        report = run(works, progress, on_progress, device)
    if report.failures:
        raise SequenceError(
            f"{' '.join(report.failures)} {_frames(report.relit)} relit.", "Mend that, and relight again."
        )
    return report


def plan(targets: Iterable[Target], views: Sequence[str] | None = None) -> list[Work]:
    """What a bake has to do, node by node, upstream first; writes nothing.

    Args:
        targets: RelightGAN nodes, each with its frames; a node may come more than once. One that is switched off is
            passed over.
        views: names of views; None for all of the script's.

    Raises:
        RelightError: a node's settings make no sense, such as a look that isn't there.
        SequenceError: a view isn't of this script, or a frame of no take.
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
    for node in reversed(order):  # what a node needs is known once all below it have said what they need
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
            if not state.stored(frame, view).is_file():
                todo.setdefault(view, []).append(frame)
        works.insert(0, Work(state, pairs, todo))
    return works


def needed_of(node: nuke.Node, below: nuke.Node, frames: Iterable[int]) -> set[int]:
    """The frames of a RelightGAN node that must be ready before frames of a node further down can be rendered.

    Below a time-warp they are held to those the node has: which it asks for isn't known without rendering.
    """
    asked = frames_asked(below, node, frames)
    if asked is None:
        return set(state_of(node).frames)
    return asked & set(state_of(node).frames) if warps_between(below, node) else asked


def run(
    works: Sequence[Work], progress: Shown, on_progress: Progressed = None, device: str | None = None
) -> BakeReport:
    """Does what `plan` found; failures of single frames are in the report, all else is raised.

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
            tell_all = (lambda: on_progress(report)) if on_progress else None
            try:
                if work.count:
                    progress.begin(node_report.node)
                    _Bake(work, node_report, progress, tell_all, device).run()
            finally:
                # Also after a cancel or a crash: what is finished is shown.
                relink(work.state.node)
            say(node_report.line())
    return report


class _Bake:
    """One node's bake, on its way.

    Args:
        work: what is to be done.
        report: is filled in.
        progress: counts frames and knows about a cancel.
        on_frame: called when a frame is finished.
        device: instead of the node's own.
    """

    def __init__(
        self,
        work: Work,
        report: NodeReport,
        progress: Shown,
        on_frame: Callable[[], None] | None,
        device: str | None,
    ) -> None:
        self.state = work.state
        self.todo = work.todo
        self.report = report
        self.progress = progress
        self.on_frame = on_frame
        self.device = device or work.state.settings.device
        self.keys = {frame: work.state.frame_key(*frame) for frame in work.frames}
        self.jobs: deque[tuple[client.Job, list[Path]]] = deque()  # each with the sources nobody needs after it
        self.over: list[Path] = []  # sources nobody needs once the next request is done
        self.worker: client.Worker | None = None

    def run(self) -> None:
        """Relights what the store lacks."""
        started = time.monotonic()
        cache.touch(self.state.places, {"look": self.state.settings.look, "look_sha256": self.state.look_sha256})
        cache.sweep_bakes(self.state.cache)  # a farm that ends tasks by force would soon have filled the disk
        folder = cache.bake_folder(self.state.cache)
        try:
            with source_writer(self.state.node, f"{folder.as_posix()}/%V/source.%04d.exr") as write:
                for view, frames in self.todo.items():
                    (folder / view).mkdir(parents=True, exist_ok=True)
                    self.bake_view(write, folder / view, view, frames)
                self.settle(0)
        except BaseException:
            self.cancel()
            raise
        finally:
            self.report.seconds = time.monotonic() - started
            cache.drop_bake_folder(folder)

    def bake_view(self, write: nuke.Node, folder: Path, view: str, frames: list[int]) -> None:
        """One view's frames, some at a time."""
        chunks = [frames[i : i + CHUNK] for i in range(0, len(frames), CHUNK)]
        there: set[int] = set()
        bad: dict[int, str] = {}
        for i, chunk in enumerate(chunks):
            for frame in sorted(self.windows(chunk) - there - set(bad)):
                reason = self.write_source(write, folder, frame, view)
                if reason:
                    bad[frame] = reason
                else:
                    there.add(frame)
            later = self.windows(frame for rest in chunks[i + 1 :] for frame in rest)
            self.over += [_source(folder, frame) for frame in sorted(there - later)]
            there &= later
            self.settle(WAITING_CHUNKS)
            self.ask(folder, view, self.sound(chunk, view, bad))

    def windows(self, frames: Iterable[int]) -> set[int]:
        """Every source frame that the results for some frames depend on."""
        return {other for frame in frames for other in self.state.window(frame)}

    def write_source(self, write: nuke.Node, folder: Path, frame: int, view: str) -> str:
        """Has Nuke write one source frame; why it can't, or an empty text.

        One frame at a time: so a cancel is seen between two of them, and what fails is known by its number.

        Raises:
            Cancelled: the user pressed Cancel in Nuke's own progress bar, or ours.
            PlateError: the disk is full.
        """
        self.pump(0)
        reason = "Nuke wrote nothing"
        try:
            nuke.execute(write, frame, frame, 1, [view])
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            if reason.lower().startswith("cancelled"):
                raise Cancelled("Stopped as asked; finished frames are kept.") from error
        else:
            with contextlib.suppress(OSError):
                if _source(folder, frame).stat().st_size:
                    return ""
        missing = self.state.missing_files(frame, view)
        if missing:
            return f"{', '.join(missing)} isn't there ({reason})"
        size = nuke.root().format()
        if shutil.disk_usage(folder).free < size.width() * size.height() * BYTES_PER_PIXEL + SMALL_FILE:
            raise PlateError(
                f"{self.report.node}: source frame {frame} can't be written: the disk of {folder} is full ({reason}).",
                "Make room there, or set another cache folder.",
            )
        return reason

    def sound(self, chunk: list[int], view: str, bad: dict[int, str]) -> list[int]:
        """The frames whose sources were written and are still what they were; the others are reported as failed."""
        now = state_of(self.state.node, fresh=True)
        good = []
        for frame in chunk:
            reasons = [
                reason if other == frame else f"its neighbour {other} is missing: {reason}"
                for other, reason in bad.items()
                if other in self.state.window(frame)
            ]
            if not reasons and now.frame_key(frame, view) != self.keys[frame, view]:
                reasons = ["its source changed while it was baked"]
            if reasons:
                self.report.failed[frame, view] = reasons[0]
                self.progress.advance()
            else:
                good.append(frame)
        return good

    def ask(self, folder: Path, view: str, frames: list[int]) -> None:
        """Sends frames to the worker; returns at once."""
        if not frames:
            return
        state = self.state
        if self.worker is None:
            self.worker = client.shared([str(state.cache), str(Path(state.settings.look).parent)])
        request = {
            "look": state.settings.look,
            "look_sha256": state.look_sha256,
            "device": self.device,
            "settings": {name: getattr(state.settings, name) for name in SETTINGS},
            "source": f"{folder.as_posix()}/source.%04d.exr",
            "clip": [state.first, state.last],
            "outputs": {str(frame): state.stored(frame, view).as_posix() for frame in frames},
            "precision": state.settings.precision,
            "notes": {"relightgan/state": state.base},
        }
        self.jobs.append((self.worker.relight(request), self.over))
        self.over = []

    def settle(self, most: int) -> None:
        """Waits until at most so many requests are under way."""
        while len(self.jobs) > most:
            self.pump(POLL_S)

    def pump(self, timeout_s: float) -> None:
        """Takes what the worker has to say.

        Raises:
            Cancelled: the user or the farm asked to stop.
            RelightError: what the worker failed with.
        """
        self.progress.check()
        if not self.jobs:
            return
        job, over = self.jobs[0]
        finished = job.finished  # asked first: what comes between is taken next time
        self.take(job.poll(0 if finished else timeout_s))
        if finished:
            self.jobs.popleft()
            _remove(over)
            job.result()

    def take(self, events: Iterable[dict[str, Any]]) -> None:
        """Counts finished frames, and hands on what the worker logs."""
        for event in events:
            if event["type"] == "frame":
                self.report.relit += 1
                self.progress.advance()
                if self.on_frame:
                    self.on_frame()
            elif event["type"] == "started":
                self.report.device = event["device"]
            elif event["type"] == "log":
                say(f"{self.report.node}: {event['text']}")

    def cancel(self) -> None:
        """Stops what is under way, and keeps what is finished."""
        for job, _ in self.jobs:
            job.cancel()
        deadline = time.monotonic() + GIVE_UP_S
        while self.jobs and time.monotonic() < deadline:
            job = self.jobs[0][0]
            finished = job.finished
            self.take(job.poll(0 if finished else POLL_S))
            if finished:
                self.jobs.popleft()


def _open_anew(nodes: Iterable[nuke.Node]) -> None:
    """Has the Reads upstream open their files again: Nuke knows them by their paths, and would write the pixels of a
    file that was replaced since, under the key of the new one.
    """
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


def _source(folder: Path, frame: int) -> Path:
    return folder / f"source.{frame:04d}.exr"


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # the whole folder goes at the end
            path.unlink()


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
