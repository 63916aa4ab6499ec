"""Messages and progress, for an artist with a window and for a farm's log.

Farm managers take `ERROR:`, `Error:` and `Error :` for a failed task (deadline-cloud-for-nuke's adaptor searches every
line for them), so only `failed` writes one; in a text such words are spelt out, as names of files may have them.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import html
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import nuke

from relightgan.core.errors import Cancelled
from relightgan.core.text import printable

__all__ = ["STYLES", "Shown", "Stop", "failed", "say", "shown", "stopping", "tell"]

STYLES = ("auto", "openjd", "none")
LINE_EVERY_S = 5.0  # minimum time between two progress lines
OPENJD_EVERY_S = 1.0  # minimum time between two lines for Open Job Description


def tell(text: str) -> None:
    """Tells the user: a dialog where there is a window, else a line of the log.

    The dialog is Qt's, which takes a text with a tag for HTML, and `&lt;` for a tag's escape (Qt::mightBeRichText).
    """
    line = printable(text)
    if nuke.GUI:
        nuke.message(html.escape(line, quote=False) if "<" in line else line)
    else:
        say(text)


def say(text: str) -> None:
    """Writes a line of the log to stderr; stdout is for results."""
    print(f"RelightGAN: {printable(text)}", file=sys.stderr, flush=True)


def failed(text: str, style: str = "auto") -> None:
    """Writes the line of a failed task; the only place that may write `ERROR:`."""
    line = printable(" ".join(text.split()))
    print(f"ERROR: {line}", file=sys.stderr, flush=True)
    if style == "openjd":
        print(f"openjd_fail: {line}", flush=True)


class Stop:
    """A request to stop, by the user or the farm; made by `stopping`."""

    def __init__(self) -> None:
        self.asked = False

    def check(self) -> None:
        """Raises after a request to stop.

        Raises:
            Cancelled: there was such a request.
        """
        if self.asked:
            raise Cancelled("Stopped as asked; finished frames are kept.")


@contextmanager
def stopping() -> Iterator[Stop]:
    """A context in which the first SIGINT or SIGTERM (a farm's cancel) requests a stop; the second ends the process.

    Signals stay unchanged with a window, where people press Cancel, and outside the main thread, where Python allows no
    handlers.
    """
    stop = Stop()
    if nuke.GUI or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        restore()
        # write(2), as the signal may have interrupted a print.
        os.write(2, b"\nStopping cleanly; once more to stop at once.\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        # None is a handler that wasn't set from Python and can't be restored from here.
        before[number] = signal.signal(number, ask) or signal.SIG_DFL
    try:
        yield stop
    finally:
        restore()


class Shown:
    """The progress of a bake or render, with its cancel; made by `shown`.

    Args:
        total: number of frames.
        title: text above the bar.
        style: one of STYLES; with a window there is always a bar.
        stop: the request to stop, from `stopping`.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, total: int, title: str, style: str, stop: Stop, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.title = title
        self.style = style
        self.stop = stop
        self.clock = clock
        self.done = 0
        self.busy_since: float | None = None
        self.share = 0.0
        self.last_line = self.last_openjd = clock()
        self.task: Any = nuke.ProgressTask(title) if nuke.GUI else None

    @property
    def cancelled(self) -> bool:
        """True after Cancel or a signal of the farm."""
        if self.task is not None and self.task.isCancelled():
            self.stop.asked = True
        return self.stop.asked

    def check(self) -> None:
        """Raises after a request to stop, by the user or the farm.

        Raises:
            Cancelled: there was such a request.
        """
        if self.cancelled:
            self.stop.check()

    def begin(self, text: str) -> None:
        """Starts a step with a title, such as the node that is relit."""
        if self.busy_since is None:
            self.busy_since = self.clock()
        self.title = text
        self.show()

    def advance(self, count: int = 1) -> None:
        """Adds finished frames."""
        self.done += count
        self.show()

    def show(self) -> None:
        """Updates the bar, the log or the farm, each at its own rate."""
        share = 100.0 * self.done / self.total if self.total else 100.0
        self.share = max(self.share, min(share, 100.0))  # farms accept rising values only
        if self.task is not None:
            self.task.setMessage(self.line())
            self.task.setProgress(int(self.share))
            return
        now, last = self.clock(), self.done >= self.total
        if self.style != "none" and self.done and (last or now - self.last_line >= LINE_EVERY_S):
            self.last_line = now
            say(self.line())
        if self.style == "openjd" and (last or now - self.last_openjd >= OPENJD_EVERY_S):
            self.last_openjd = now
            print(f"openjd_progress: {self.share:.1f}")
            print(f"openjd_status: {printable(self.line())}", flush=True)

    def line(self) -> str:
        """The progress as text: `RelightGAN1: 12/100 frames, 0:00:35 left`."""
        text = f"{self.title}: {self.done}/{self.total} frames"
        left = self.left_s()
        return text if left is None else f"{text}, {clock_text(left)} left"

    def left_s(self) -> float | None:
        """Seconds left at the rate so far; None before the first frame, or when all is done."""
        if self.busy_since is None or not 0 < self.done < self.total:
            return None
        return (self.clock() - self.busy_since) / self.done * (self.total - self.done)


@contextmanager
def shown(total: int, title: str, style: str = "auto", stop: Stop | None = None) -> Iterator[Shown]:
    """A context that shows progress: a bar with Cancel where there is a window, else lines.

    Args:
        total: number of frames.
        title: text above the bar.
        style: "auto" lines every few seconds, "openjd" also Open Job Description's on stdout, "none" nothing.
        stop: from a `stopping` context around this one; None: makes one.
    """
    with stopping() if stop is None else _given(stop) as asked:
        progress = Shown(total, title, style, asked)
        try:
            yield progress
        finally:
            progress.task = None  # Nuke removes the bar with the last reference


def clock_text(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@contextmanager
def _given(stop: Stop) -> Iterator[Stop]:
    yield stop
