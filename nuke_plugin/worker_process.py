"""A worker process, with three threads: one reads events, one writes messages, one watches for silence.

Runs inside Nuke (Python 3.9 and later) and without it: standard library only. All waits have limits.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from relightgan.core.errors import ProtocolError, WorkerError
from relightgan.core.protocol import EVENTS, MAX_BYTES, PROTOCOL, Message, decode, encode, excerpt, too_long
from relightgan.core.version import VERSION
from relightgan.nuke_plugin.interpreter import clean_environment, find_interpreter
from relightgan.nuke_plugin.worker_log import last_lines, open_log

TICK_S = 0.25  # interval of the watch
GOODBYE_S = 2.5  # time for the worker to end by itself
AFTER_KILL_S = 3.0  # time for its pipe to end after a kill; another process may keep it open

# Why a process ended, which decides whether requests are resent. IDLE: it had no work. CRASHED, HUNG: it died, or was
# killed, on the oldest of its requests. HOPELESS: it couldn't start, or isn't a worker of this version.
IDLE, CRASHED, HUNG, HOPELESS = "idle", "crashed", "hung", "hopeless"


@dataclass(frozen=True)
class Limits:
    """Time limits in seconds."""

    start_s: float = 60.0  # from the start of the process to its hello
    silence_s: float = 20.0  # without any event, while heartbeats come every second
    cancel_s: float = 10.0  # from a cancel to the end of the request


class WorkerProcess:
    """A worker process.

    Args:
        command: its command line.
        limits: time limits, after which it is killed.
        on_event: called with every event of a request, on the reading thread.
        on_end: called once, on any thread, with this process, the reason for people, and IDLE, CRASHED, HUNG or
            HOPELESS.
        oldest_cancel: returns the time of the oldest cancel under way (time.monotonic()); None without any.

    Raises:
        WorkerError: it can't be started.
    """

    def __init__(
        self,
        command: list[str],
        limits: Limits,
        on_event: Callable[[Message], None],
        on_end: Callable[[WorkerProcess, str, str], None],
        oldest_cancel: Callable[[WorkerProcess], float | None],
    ) -> None:
        self.command = command
        self.limits = limits
        self.on_event = on_event
        self.on_end = on_end
        self.oldest_cancel = oldest_cancel
        self.greeted = False
        self.ended = threading.Event()
        self.reporting = threading.Lock()
        self.killed: str | None = None  # why we killed it
        self.killed_at = 0.0  # time of the kill on `clock`; 0: not by the watch
        self.last_heard = 0.0  # time of the last event on `clock`
        self.clock = 0.0  # seconds during which the watch ran
        self.to_send: queue.Queue[bytes | None] = queue.Queue()
        with open_log() as log_file:
            self.log, self.log_start = Path(log_file.name), log_file.tell()
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log_file,  # a pipe without a reader would block it when full
                    env=clean_environment(),
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            except (OSError, ValueError) as error:
                raise WorkerError(f"The worker can't be started: {command[0]}: {error}.", "Check the path.") from error
        for work in (self.read, self.write, self.watch):
            threading.Thread(target=work, name=f"relightgan-{work.__name__}", daemon=True).start()
        self.send({"type": "hello", "protocol": PROTOCOL, "client": f"RelightGAN {VERSION}"})

    @property
    def alive(self) -> bool:
        """True until the end of the process is known."""
        return not self.ended.is_set()

    def send(self, message: Message) -> None:
        """Passes a message to the writing thread.

        Raises:
            ProtocolError: the message is too long.
        """
        self.to_send.put(encode(message))

    def end(self) -> None:
        """Tells the process to end, and kills it if it doesn't."""
        self.killed = self.killed or "The worker was told to end."
        self.send({"type": "shutdown"})
        self.to_send.put(None)
        try:
            self.process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()

    # Private implementation

    def kill(self, why: str) -> None:
        """Kills the process; the reading thread then finds its end."""
        self.killed, self.killed_at = why, self.clock
        self.process.kill()

    def write(self) -> None:
        """Writes messages until None; a worker that doesn't read blocks only this thread."""
        stream = self.process.stdin
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):  # the process has ended; the reading thread reports it
            while (line := self.to_send.get()) is not None:
                stream.write(line)
                stream.flush()
        with contextlib.suppress(OSError, ValueError):
            stream.close()

    def read(self) -> None:
        """Passes events on until the process ends, and reports why."""
        try:
            trouble = self.read_events()
        except (OSError, ValueError) as error:
            trouble = f"The worker's pipe can't be read ({error})."
        if trouble:
            self.killed = self.killed or trouble
            self.process.kill()
        self.report_end(self.process.wait())
        assert self.process.stdout is not None
        self.process.stdout.close()

    def read_events(self) -> str:
        """Passes events on; the fault of the worker, or "" where its pipe ended."""
        stream = self.process.stdout
        assert stream is not None
        while line := stream.readline(MAX_BYTES + 1):
            self.last_heard = self.clock
            if not line.endswith(b"\n") and len(line) <= MAX_BYTES:
                break  # it died in the middle of a line
            try:
                if len(line) > MAX_BYTES:
                    raise too_long(len(line))
                event = decode(line, EVENTS)
            except ProtocolError as error:
                return f"The worker {self.command[0]} broke the protocol with {excerpt(line)}: {error.problem}"
            if event["type"] == "hello":
                if event["protocol"] != PROTOCOL:
                    return (
                        f"The worker in {self.command[0]} speaks protocol {event['protocol']} "
                        f"(RelightGAN {event.get('version', 'of an unknown version')}), this plug-in speaks {PROTOCOL} "
                        f"(RelightGAN {VERSION})."
                    )
                self.greeted = True
            elif event["type"] == "refused" and "id" not in event:
                return f"The worker refused a message: {event['problem']}"
            elif "id" in event:
                self.on_event(event)
        return ""

    def watch(self) -> None:
        """Kills the process when it exceeds a limit.

        Time counts only while this thread runs. When it didn't (Ctrl-Z, a sleeping laptop, Nuke busy without running
        Python) the worker isn't to blame.
        """
        before = time.monotonic()
        while self.alive:
            self.ended.wait(TICK_S)
            now = time.monotonic()
            self.clock += min(now - before, 2 * TICK_S)
            before = now
            limits, asked = self.limits, self.oldest_cancel(self)
            if self.killed_at:
                if self.clock - self.killed_at > AFTER_KILL_S:
                    self.report_end(self.process.poll())  # another process keeps the pipe open, so `read` still waits
            elif not self.greeted and self.clock > limits.start_s:
                self.kill(f"The worker {self.command[0]} didn't start within {limits.start_s:g} s.{self.last_words()}")
            elif self.greeted and self.clock - self.last_heard > limits.silence_s:
                self.kill(f"The worker hung: it gave no sign of life for {limits.silence_s:g} s, and was killed.")
            elif asked is not None and now - asked > limits.cancel_s:
                self.kill(f"The worker didn't cancel within {limits.cancel_s:g} s, and was killed.")

    def report_end(self, code: int | None) -> None:
        """Reports the end of the process, once."""
        with self.reporting:
            if not self.alive:
                return
            self.ended.set()
        self.to_send.put(None)
        if self.killed:
            self.on_end(self, self.killed, HUNG if self.killed_at and self.greeted else HOPELESS)
        elif code == 0 and self.greeted:
            self.on_end(self, "The worker ended for want of work.", IDLE)
        else:
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
            if self.greeted:
                self.on_end(self, f"The worker {how}.{self.last_words()}", CRASHED)
            else:
                self.on_end(self, f"The worker {self.command[0]} {how} at its start.{self.last_words()}", HOPELESS)

    def last_words(self) -> str:
        """The last lines of its log, as a sentence to append."""
        last = last_lines(self.log, self.log_start)
        return f" Its last words: {last}" if last else ""


def worker_command(folders: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The command line of a worker with access to some folders.

    Raises:
        RelightError: no interpreter for it was found.
    """
    allowed = [word for folder in folders for word in ("--allow", os.fspath(folder))]
    # -s: packages in the user's home are for other interpreters of that version, such as Nuke's.
    return [str(find_interpreter()), "-s", "-m", "relightgan.core.worker", *allowed]
