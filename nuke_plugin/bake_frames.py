"""Bakes the frames of one node: Nuke writes the sources of some frames while the worker relights earlier ones.

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
from typing import Any

import nuke

from relightgan.core.errors import Cancelled, PlateError
from relightgan.core.protocol import SETTINGS
from relightgan.nuke_plugin import cache, cache_frames, cache_sweep, client
from relightgan.nuke_plugin.messages import Shown, say
from relightgan.nuke_plugin.ranges import format_frames
from relightgan.nuke_plugin.restore import source_writer
from relightgan.nuke_plugin.state import NodeState, frame_keys

__all__ = ["CHUNK", "Frame", "NodeBake", "NodeReport", "Work", "count_of"]

CHUNK = 8  # frames per request; their sources are written while the worker relights earlier ones
FIRST_CHUNK = 2  # frames of the first request, so that the worker starts early
WAITING_CHUNKS = 1  # requests that may wait while sources are written; more would only fill the disk
POLL_S = 0.1  # longest wait for an event of the worker
GIVE_UP_S = 5.0  # longest wait for the worker after a cancel; it needs well under a second
BYTES_PER_PIXEL = 16  # rgba in 32-bit floats
SMALL_FILE = 1 << 20  # bytes for the headers of a frame and the file system

Frame = tuple[int, str]  # number and view of a frame


@dataclass
class Work:
    """The work of a bake for one node.

    Args:
        state: state of the node before anything is written.
        frames: all needed frames, with their views.
        todo: the needed frames that the store lacks, by view, in rising order.
    """

    state: NodeState
    frames: list[Frame]
    todo: dict[str, list[int]]

    @property
    def count(self) -> int:
        """The number of frames to relight."""
        return sum(map(len, self.todo.values()))


@dataclass
class NodeReport:
    """The result of a bake for one node."""

    node: str  # full name
    asked: int  # number of needed frames
    relit: int = 0
    seconds: float = 0.0  # from the first source written to the last frame relit
    device: str = ""  # a sentence, such as "Running on CPU (...)."
    failed: dict[Frame, str] = field(default_factory=dict)  # with the reason

    def line(self) -> str:
        """One line for the log, with the device and the time per frame."""
        kept = self.asked - self.relit - len(self.failed)
        parts = []
        if self.relit:
            parts.append(f"{count_of(self.relit)} relit, {self.seconds / self.relit:.2f} s per frame")
        if kept:
            parts.append(f"{count_of(kept)} in the cache already")
        if self.failed:
            parts.append(f"{count_of(len(self.failed))} failed")
        return f"{self.node}: {', '.join(parts) or 'nothing to do'}. {self.device}".strip()


class NodeBake:
    """A running bake of one node.

    Args:
        work: the work of the node.
        report: the report, which is filled in.
        progress: counts frames and reports a cancel.
        on_frame: called after each frame.
        device: replaces the node's own device; None keeps that.
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
        # Requests under way, each with the source files that no later request needs.
        self.jobs: deque[tuple[client.WorkerJob, list[Path]]] = deque()
        self.unneeded: list[Path] = []  # source files that no request after the next one needs

    def run(self) -> None:
        """Relights the frames that the store lacks."""
        started = time.monotonic()
        cache.touch(self.state.places, {"look": self.state.settings.look, "look_sha256": self.state.look_sha256})
        self.make_way()
        cache_sweep.sweep_bakes(self.state.cache)  # left by killed tasks, which would fill the disk of a farm
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
            cache_sweep.drop_bake_folder(folder)

    def make_way(self) -> None:
        """Removes what lies in the store under the names of the frames and is none, and says so."""
        keys = {self.keys[frame, view]: frame for view, frames in self.todo.items() for frame in frames}
        faults = cache_frames.in_the_way(self.state.places, keys)
        cache_frames.make_way(self.state.places, faults)
        if faults:
            numbers = format_frames(sorted({keys[key] for key in faults}))
            reasons = ", ".join(sorted(set(faults.values())))
            say(f"{self.report.node}: no whole frame in the cache, so it is made again: {numbers} ({reasons}).")

    def bake_view(self, write: nuke.Node, folder: Path, view: str, frames: list[int]) -> None:
        """Bakes the frames of one view, chunk by chunk."""
        chunks = in_chunks(frames)
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
            self.unneeded += [_source(folder, frame) for frame in sorted(there - later)]
            there &= later
            self.settle(WAITING_CHUNKS)
            self.ask(folder, view, self.sound(chunk, view, bad))

    def windows(self, frames: Iterable[int]) -> set[int]:
        """All source frames that some relit frames depend on."""
        return {other for frame in frames for other in self.state.window(frame)}

    def write_source(self, write: nuke.Node, folder: Path, frame: int, view: str) -> str:
        """Has Nuke write a source frame; the reason where it can't, else an empty text.

        Frames are written one by one, to allow a cancel between them and to know which one fails.

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
        """The frames whose sources were written and whose keys are unchanged; the others are reported as failed."""
        now = frame_keys(self.state.node, chunk, view)
        good = []
        for frame in chunk:
            reasons = [
                reason if other == frame else f"its neighbour {other} is missing: {reason}"
                for other, reason in bad.items()
                if other in self.state.window(frame)
            ]
            if not reasons and now[frame] != self.keys[frame, view]:
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
        cache.touch(state.places)  # renewed, so that no sweep takes a bake of several days for unused
        # Not kept: a look of another node in another folder may have needed a new worker.
        worker = client.shared([str(state.cache), str(Path(state.settings.look).parent)])
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
        self.jobs.append((worker.relight(request), self.unneeded))
        self.unneeded = []

    def settle(self, max_jobs: int) -> None:
        """Waits until no more than `max_jobs` requests are under way."""
        while len(self.jobs) > max_jobs:
            self.pump(POLL_S)

    def pump(self, timeout_s: float) -> None:
        """Takes events of the worker.

        Raises:
            Cancelled: the user or the farm asked to stop.
            RelightError: the error of the worker.
        """
        self.progress.check()
        if not self.jobs:
            return
        job, unneeded = self.jobs[0]
        finished = job.finished  # read before the events, so that none is missed
        self.take(job.poll(0 if finished else timeout_s))
        if finished:
            self.jobs.popleft()
            _remove(unneeded)
            job.result()

    def take(self, events: Iterable[dict[str, Any]]) -> None:
        """Counts finished frames, and logs messages of the worker."""
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
        """Cancels the requests under way; finished frames are kept."""
        for job, _ in self.jobs:
            job.cancel()
        deadline = time.monotonic() + GIVE_UP_S
        while self.jobs and time.monotonic() < deadline:
            job = self.jobs[0][0]
            finished = job.finished
            self.take(job.poll(0 if finished else POLL_S))
            if finished:
                self.jobs.popleft()


def in_chunks(frames: Sequence[int]) -> list[list[int]]:
    """Frames in chunks of up to CHUNK; the first ones are smaller, so that the worker starts early."""
    chunks, size, rest = [], min(FIRST_CHUNK, CHUNK), list(frames)
    while rest:
        chunks.append(rest[:size])
        rest = rest[size:]
        size = min(CHUNK, sum(map(len, chunks)))
    return chunks


def _source(folder: Path, frame: int) -> Path:
    return folder / f"source.{frame:04d}.exr"


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # the whole folder goes at the end
            path.unlink()


def count_of(count: int) -> str:
    """`1 frame`, `2 frames`."""
    return "1 frame" if count == 1 else f"{count} frames"
