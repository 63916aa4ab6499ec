"""Progress that fits where it is read (a terminal, a log, a farm manager), and stopping when asked.

Styles
    bar      one line that moves, with rate and time left; on stderr
    auto     bar on a terminal, else a line every few seconds; on stderr
    openjd   as auto, and Open Job Description's `openjd_progress:` and `openjd_status:` lines on stdout
    none     nothing

openjd lines: https://github.com/OpenJobDescription/openjd-specifications (2023-09 template schemas, Action output).
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from relightgan.core.errors import Cancelled, UsageError
from relightgan.core.text import print_line, printable

# rich is loaded where something is shown: the worker shows nothing, starts sooner without it, and must be able to say
# in an interpreter that lacks our packages that they are missing.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

STYLES = ("auto", "bar", "openjd", "none")
LINE_EVERY_S = 5.0
OPENJD_EVERY_S = 1.0
PIPE_COLUMNS = 160


class Progress:
    """Counts finished units and shows how far the work is; made by `progress`.

    Args:
        total: units to do.
        what: unit in the plural, such as "frames".
        style: one of STYLES.
        stream: for people; stderr in real use.
        results: for openjd lines; stdout in real use.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        total: int,
        what: str,
        style: str,
        stream: TextIO,
        results: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if style not in STYLES:
            raise UsageError(f"There is no progress style '{style}'.", f"Use one of: {', '.join(STYLES)}.")
        self.total = total
        self.what = what
        self.done = 0
        self.stream = stream
        self.results = results
        self.clock = clock
        self.started = clock()
        self.openjd = style == "openjd"
        self.bar: RichProgress | None = None
        if style == "bar" or (style == "auto" and stream.isatty()):
            self.bar = rich_bar(stream, what)
            self.task = self.bar.add_task(what, total=total, rate="")
        self.lines = style != "none" and self.bar is None
        self.last_line = self.last_openjd = self.started

    def advance(self, count: int = 1) -> None:
        """Counts `count` more units as finished."""
        self.done += count
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, rate=rate_text(self.rate(), self.what))
            return
        now, last = self.clock(), self.done >= self.total
        if self.lines and (last or now - self.last_line >= LINE_EVERY_S):
            self.last_line = now
            self.say(self.line())
        if self.openjd and (last or now - self.last_openjd >= OPENJD_EVERY_S):
            self.last_openjd = now
            share = 100.0 * self.done / self.total if self.total else 100.0
            print(f"openjd_progress: {min(share, 100.0):.1f}", file=self.results)
            print(f"openjd_status: {self.line()}", file=self.results, flush=True)

    def say(self, text: str) -> None:
        """Writes a line for people, above the bar where there is one."""
        if self.bar is not None:
            self.bar.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        else:
            print_line(text, self.stream)

    def rate(self) -> float:
        """Units per second since the start; 0 before the first."""
        passed = self.clock() - self.started
        return self.done / passed if passed > 0 else 0.0

    def line(self) -> str:
        """How far the work is: `12/100 frames, 2.50 frames/s, 0:00:35 left`."""
        rate = self.rate()
        text = f"{self.done}/{self.total} {self.what}"
        if rate <= 0:
            return text
        left = max(self.total - self.done, 0) / rate
        return f"{text}, {rate_text(rate, self.what)}, {clock_text(left)} left"


@contextmanager
def progress(total: int, what: str = "frames", style: str = "auto") -> Iterator[Progress]:
    """Shows progress while the block runs; the block calls `.advance(n)` on what it gets.

    Args:
        total: units to do.
        what: the unit in the plural, for people.
        style: one of STYLES.

    Raises:
        UsageError: an unknown style.
    """
    shown = Progress(total, what, style, sys.stderr, sys.stdout)
    if shown.bar is None:
        yield shown
        return
    with shown.bar:
        yield shown


def rich_bar(stream: TextIO, what: str) -> "RichProgress":
    """The moving line: name, bar, count, rate, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )


def console() -> "Console":
    """A console for tables on stdout; in a file or pipe wide enough to keep paths and commands in one piece."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def rate_text(rate: float, what: str) -> str:
    """Units per second; slow work as seconds per unit."""
    if rate <= 0:
        return ""
    return f"{rate:.2f} {what}/s" if rate >= 0.1 else f"{1 / rate:.1f} s each"


def clock_text(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Cancellation:
    """Whether somebody asked to stop; made by `cancellation`."""

    def __init__(self) -> None:
        self.event = threading.Event()

    @property
    def asked(self) -> bool:
        """True from the first SIGINT or SIGTERM, or call of `ask`, on."""
        return self.event.is_set()

    def ask(self) -> None:
        """Asks to stop, from any thread."""
        self.event.set()

    def check(self) -> None:
        """Does nothing until somebody asks to stop.

        Raises:
            Cancelled: from then on.
        """
        if self.asked:
            raise Cancelled("Stopped as asked; finished files are whole.")


@contextmanager
def cancellation() -> Iterator[Cancellation]:
    """Within the block SIGINT (Ctrl-C) and SIGTERM (a farm's cancel) only ask to stop; the block calls `.check()`.

    The second signal acts at once, as it would without us. Outside the main thread, where Python takes no signal
    handlers, only `ask` has an effect.
    """
    cancelled = Cancellation()
    if threading.current_thread() is not threading.main_thread():
        yield cancelled
        return
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        cancelled.ask()
        restore()
        # A print here could meet one that was interrupted half-way; write(2) can't.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nStopping cleanly; once more to stop at once.\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        # None stands for a handler that wasn't set from Python and can't be put back from here.
        before[number] = signal.signal(number, stop) or signal.SIG_DFL
    try:
        yield cancelled
    finally:
        restore()
