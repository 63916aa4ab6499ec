"""One node's frames, baked: sources of some frames are written while the worker relights those before.

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
from relightgan.nuke_plugin import cache, cache_sweep, client
from relightgan.nuke_plugin.messages import Shown, say
from relightgan.nuke_plugin.restore import source_writer
from relightgan.nuke_plugin.state import NodeState, frame_keys

__all__ = ["CHUNK", "Frame", "NodeBake", "NodeReport", "Work", "count_of"]

CHUNK = 8  # frames; their sources are written while the worker relights those before
FIRST_CHUNK = 2
WAITING_CHUNKS = 1  # requests that may wait while sources are written; more would only fill the disk
POLL_S = 0.1
GIVE_UP_S = 5.0  # after a cancel the worker needs well under a second
BYTES_PER_PIXEL = 16  # rgba in 32-bit floats
SMALL_FILE = 1 << 20

Frame = tuple[int, str]  # its number and its view


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
            parts.append(f"{count_of(self.relit)} relit, {self.seconds / self.relit:.2f} s per frame")
        if kept:
            parts.append(f"{count_of(kept)} in the cache already")
        if self.failed:
            parts.append(f"{count_of(len(self.failed))} failed")
        return f"{self.node}: {', '.join(parts) or 'nothing to do'}. {self.device}".strip()


class NodeBake:
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
        self.jobs: deque[tuple[client.WorkerJob, list[Path]]] = deque()  # each with the sources nobody needs after it
        self.over: list[Path] = []  # sources nobody needs once the next request is done

    def run(self) -> None:
        """Relights what the store lacks."""
        started = time.monotonic()
        cache.touch(self.state.places, {"look": self.state.settings.look, "look_sha256": self.state.look_sha256})
        cache_sweep.sweep_bakes(self.state.cache)  # a farm that ends tasks by force would soon have filled the disk
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

    def bake_view(self, write: nuke.Node, folder: Path, view: str, frames: list[int]) -> None:
        """One view's frames, some at a time."""
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
        cache.touch(state.places)  # a bake of days is in use, whatever a sweep thinks of its beginning
        # Asked for each time: another node's look in another folder may have needed a new one.
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
        self.jobs.append((worker.relight(request), self.over))
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


def in_chunks(frames: Sequence[int]) -> list[list[int]]:
    """Frames in pieces of CHUNK; the first ones are smaller, so that the worker soon has something to do."""
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
