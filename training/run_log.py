"""Messages and progress of a run: on the terminal, for the farm manager, and in the run's log file."""

import contextlib
import math
import shutil
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from relightgan.core.errors import TrainingError
from relightgan.core.progress import STYLES
from relightgan.core.text import print_line, printable

LINE_EVERY_S = 10.0  # time between status lines, seconds, where each is printed on its own line
DRAW_EVERY_S = 0.2  # time between status lines, seconds, where each is drawn over the last one


class RunLog:
    """Writes messages to stderr and to a file, and a status line to stderr alone.

    Args:
        path: the log file, which is appended to; None writes no file.
        style: of the status, one of core.progress.STYLES. A fit with a time limit has no final count, so its status is
            a line of text: redrawn on a terminal, printed now and then elsewhere.
    """

    def __init__(self, path: Path | None = None, style: str = "auto") -> None:
        assert style in STYLES, style
        self._file = path.open("a", encoding="utf-8") if path else None
        self._style = style
        self._draws = style == "bar" or (style == "auto" and sys.stderr.isatty())
        self._shown_at = -math.inf
        self._drawn = False
        self._part, self._parts = 0, 1

    @property
    def stage_style(self) -> str:
        """The style for stages with their own progress; a farm manager gets the fit's alone, as it must never fall."""
        return "auto" if self._style == "openjd" else self._style

    def part(self, number: int, count: int) -> None:
        """Counts the status from here on as part `number` (from 0) of `count` equal parts."""
        self._part, self._parts = number, count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        if self._file:
            with contextlib.suppress(OSError):  # the exception that ended the run matters more
                if value is not None:
                    self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} stopped: {str(value) or 'interrupted'}\n")
                self._file.close()

    def say(self, text: str) -> None:
        """Prints one message and writes it to the log file.

        Raises:
            TrainingError: the log file can't be written.
        """
        self._clear()
        print_line(text)
        if self._file:
            try:
                self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(text)}\n")
                self._file.flush()
            except OSError as error:
                raise TrainingError(
                    f"{self._file.name} can't be written: {error.strerror}.",
                    "Free some space, or choose another --run-dir.",
                ) from error

    def status(self, text: str, fraction: float) -> None:
        """Shows the progress, at most every `DRAW_EVERY_S` or `LINE_EVERY_S`.

        Args:
            text: one line.
            fraction: the share of the work that is done, 0 to 1.
        """
        now = time.monotonic()
        if self._style == "none" or now - self._shown_at < (DRAW_EVERY_S if self._draws else LINE_EVERY_S):
            return
        self._shown_at = now
        text = printable(text)
        if self._draws:
            columns = shutil.get_terminal_size().columns
            print(f"\r\033[K{text[: columns - 1]}", end="", file=sys.stderr, flush=True)
            self._drawn = True
        else:
            print(text, file=sys.stderr, flush=True)
        if self._style == "openjd":
            share = (self._part + fraction) / self._parts
            print(f"openjd_progress: {share * 100:.1f}\nopenjd_status: {text}", flush=True)

    def _clear(self) -> None:
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = False


def duration(seconds: float) -> str:
    """Seconds as text: `41 s`, `2 min 05 s`, `3 h 10 min`."""
    if not math.isfinite(seconds):
        return "an unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
