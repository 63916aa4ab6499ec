"""The process that relights for Nuke: takes requests on stdin, reports events on stdout, one JSON line each.

    main thread   does the requests, one after the other
    reader        takes requests in, so that a cancel is heard while work is going on
    heartbeat     says each second that the process lives
    watch         looks whether whoever started it lives

It opens no port, loads no code, touches only the folders it was given, and ends when whoever started it does: closing
its stdin is enough. `core/protocol.py` says which lines there are, `core/worker_tasks.py` does the work.

One module, because the four threads share one small state, and a reader must see all that may touch it.
"""

import contextlib
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

# Who chose the interpreter reads this, not what an older one makes of newer code.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(f"RelightGAN needs Python 3.11 or later, and {sys.executable} is {sys.version.split()[0]}.")

# As in core/cli.py: threads that wait must sleep. Set before numpy and onnxruntime are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from relightgan.core.errors import EXIT_DONE, EXIT_ERROR, Cancelled, ProtocolError, RelightError
from relightgan.core.options import Parser
from relightgan.core.progress import Cancellation
from relightgan.core.protocol import MAX_BYTES, PROTOCOL, REQUESTS, Message, decode, encode, id_in, sendable, too_long
from relightgan.core.text import printable
from relightgan.core.version import VERSION

HEARTBEAT_S = 1.0
IDLE_S = 900.0
GRACE_S = 1.5  # what is going on may take this long to end when the process is to; then it ends anyway

DESCRIPTION = """Relights for Nuke: takes requests as JSON lines on stdin and answers with events on stdout.

Nuke's side (nuke_plugin/client.py) starts it; by hand it is of use to look at the protocol. It reads and writes files
in the allowed folders only, opens no port, and ends when its stdin is closed.
"""
EXAMPLES = """example:
  echo '{"type":"hello","protocol":1}' | python -m relightgan.core.worker --allow /shots/cache

Lines: core/protocol.py. Exit codes: 0 told to end, or idle; 2 usage.
"""


@dataclass
class QueuedRequest:
    """A request that waits or runs."""

    request: Message
    cancelled: Cancellation = field(default_factory=Cancellation)
    finished: list[int] = field(default_factory=list)  # frames

    @property
    def id(self) -> str:
        """What the client calls it."""
        name: str = self.request["id"]
        return name


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until stdin is closed, `shutdown` comes, or there was nothing to do for long.

    Args:
        argv: the words of the command line; those of this process when None.

    Returns:
        the exit code for done.
    """
    options = parser().parse_args(argv)
    if options.log:
        Path(options.log).parent.mkdir(parents=True, exist_ok=True)
        with Path(options.log).open("ab") as log_file:
            os.dup2(log_file.fileno(), 2)
    requests, events = take_over_pipes()
    worker = RequestServer(requests, events, [Path(folder).resolve() for folder in options.allow], options.idle_s)
    # Ctrl-C in the terminal that Nuke runs in reaches us too; Nuke decides what it means, and tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A signal may come in the middle of anything, so another thread does what it asks for.
    ending = threading.Thread(target=worker.stop, args=["told to end by the system"], daemon=True)
    signal.signal(signal.SIGTERM, lambda number, frame: None if ending.ident else ending.start())
    return worker.run()


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog="python -m relightgan.core.worker",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    add = made.add_argument
    add(
        "--allow",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder whose files may be read and written; may be given several times",
    )
    add("--idle-s", type=float, default=IDLE_S, metavar="S", help="end after this long without a request; default 900")
    add("--log", metavar="FILE", help="append what would go to stderr to this file")
    return made


def take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes of the protocol, for ourselves alone.

    Whatever a library prints goes to stderr from now on, also from C, and nobody else reads requests away.
    """
    sys.stdout.flush()
    requests, events = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(events, "wb", buffering=0)


class RequestServer:
    """Takes requests in and does them.

    Args:
        requests: lines from the client.
        events: lines to the client; unbuffered.
        folders: those it may touch, links resolved.
        idle_s: seconds without a request after which it ends.
    """

    def __init__(self, requests: BinaryIO, events: BinaryIO, folders: Sequence[Path], idle_s: float) -> None:
        self.requests = requests
        self.events = events
        self.folders = folders
        self.idle_s = idle_s
        self.sending = threading.Lock()
        self.changed = threading.Condition()  # guards what follows
        self.waiting: deque[QueuedRequest] = deque()
        self.running: QueuedRequest | None = None
        self.stopping = False
        self.code = EXIT_DONE
        self.greeted = False
        self.parent = os.getppid()

    def run(self) -> int:
        """Serves; returns the exit code."""
        for work in (self.read_requests, self.beat, self.watch_parent):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        do = self.prepare()
        log(f"worker {os.getpid()} is ready; folders: {', '.join(map(str, self.folders)) or 'none'}")
        while (task := self.next_task()) is not None:
            self.emit_all(self.result_of(do, task))
        return self.code

    def prepare(self) -> Callable[[QueuedRequest], Message]:
        """Loads what relighting needs, while Nuke writes the first frames; where it fails, every request says so."""
        try:
            from relightgan.core.worker_tasks import Tasks
        except ImportError as error:
            problem = f"{sys.executable} can't load what relighting needs ({error})."
            fix = f"Run '{sys.executable} -m relightgan.core.cli doctor'."
            trouble = RelightError(problem, fix)

            def refuse(task: QueuedRequest) -> Message:
                raise trouble

            return refuse
        tasks = Tasks(self.folders, self.emit, self.check)

        def do(task: QueuedRequest) -> Message:
            if task.request["type"] == "look":
                return tasks.look(task.request)
            total, started = len(task.request["outputs"]), time.monotonic()

            def finished(frame: int) -> None:
                task.finished.append(frame)
                seconds = time.monotonic() - started
                self.emit(
                    {
                        "type": "frame",
                        "id": task.id,
                        "frame": frame,
                        "done": len(task.finished),
                        "total": total,
                        "seconds": seconds,
                    }
                )

            try:
                return tasks.relight(task.request, task.cancelled, finished)
            except RelightError:
                raise
            except Exception:  # memory ran out, or nobody knows in which state something is
                tasks.forget()
                raise

        return do

    def result_of(self, do: Callable[[QueuedRequest], Message], task: QueuedRequest) -> Message:
        """Does a request; returns its last event. What we can't explain fails it too, with a traceback in the log."""
        log(f"{task.request['type']} {task.id}")
        try:
            task.cancelled.check()
            event = do(task)
        except Cancelled:
            event = cancelled_event(task)
        except RelightError as error:
            event = failed_event(task, kind_of(error), error.problem, error.fix)
        except MemoryError as error:
            details = str(error) or "no details"
            event = failed_event(task, "DeviceError", f"Memory ran out ({details}).", "Close programs.")
        except OSError as error:
            problem = f"{error.filename or 'A file'}: {error.strerror or error}."
            event = failed_event(task, "PlateError", problem, "Check the path, its rights and the disk.")
        except Exception as error:
            for line in traceback.format_exc().splitlines():
                log(line)
            problem = f"The worker failed over this request: {type(error).__name__}, {printable(str(error), 300)}."
            event = failed_event(task, "WorkerError", problem, "Its log has the details (Open Log); please report it.")
        log(f"{event['type']} {task.id} {event.get('problem', '')}")
        return event

    # What goes out

    def emit(self, event: Message) -> None:
        """Sends an event, from any thread; when nobody listens any more, the process ends."""
        if event["type"] == "log":
            log(event["text"])
        try:
            with self.sending:
                write_all(self.events, encode(event))
        except OSError:
            self.stop("nobody listens")

    def emit_all(self, last: Message) -> None:
        """Sends the last event of the running request, after which it is forgotten."""
        with self.changed:
            self.running = None
        self.emit(last)

    def beat(self) -> None:
        """Says each second that we live."""
        while not self.stopping:
            time.sleep(HEARTBEAT_S)
            if self.greeted:
                self.emit({"type": "heartbeat", "busy": self.busy()})

    def watch_parent(self) -> None:
        """Ends the process when whoever started it has gone; apart from what may wait for a pipe to be read.

        A pipe that another child of Nuke's inherited stays open; a parent's number changes when it dies. (Windows keeps
        the number.)
        """
        while not self.stopping:
            time.sleep(HEARTBEAT_S)
            if os.getppid() != self.parent:
                self.stop("the process that started us has gone")

    # What comes in

    def read_requests(self) -> None:
        """Takes requests in until there are no more."""
        try:
            while not self.stopping and (line := self.requests.readline(MAX_BYTES + 1)):
                if len(line) > MAX_BYTES:
                    self.refuse(too_long(self.rest_of_line(line)))
                    continue
                try:
                    self.take(decode(line, REQUESTS))
                except ProtocolError as error:
                    self.refuse(error, id_in(line))
        except OSError as error:
            log(f"stdin can't be read: {error}")
        except BaseException:
            self.stop("requests can't be read any more", EXIT_ERROR)
            raise
        self.stop("stdin was closed")

    def rest_of_line(self, start: bytes) -> int:
        """Reads a line that is too long to its end without keeping it; returns its length."""
        size, piece = len(start), start
        while piece and not piece.endswith(b"\n"):
            piece = self.requests.readline(io.DEFAULT_BUFFER_SIZE)
            size += len(piece)
        return size

    def refuse(self, error: RelightError, task: str | None = None) -> None:
        """Says that a line was no request of this protocol."""
        log(f"refused: {error}")
        named = {} if task is None else {"id": task}
        self.emit({"type": "refused", "problem": sendable(error.problem), "fix": sendable(error.fix), **named})

    def take(self, request: Message) -> None:
        """Does what can be done at once, and queues the rest.

        Raises:
            ProtocolError: it may not come here, or now.
        """
        kind = request["type"]
        if kind == "hello":
            self.greet(request["protocol"])
        elif not self.greeted:
            raise ProtocolError(f"'{kind}' came before 'hello'.", "Say hello first.")
        elif kind in ("relight", "look"):
            self.queue(QueuedRequest(request))
        elif kind == "cancel":
            self.cancel(request["id"])
        elif kind == "ping":
            self.emit({"type": "heartbeat", "busy": self.busy()})
        else:
            self.stop("shutdown was asked for")

    def greet(self, protocol: int) -> None:
        """Says who we are; serves only who speaks the same protocol."""
        self.greeted = protocol == PROTOCOL
        self.emit({"type": "hello", "protocol": PROTOCOL, "version": VERSION, "pid": os.getpid()})
        if not self.greeted:
            raise ProtocolError(
                f"Nuke's side speaks protocol {protocol}, the worker in {sys.executable} speaks {PROTOCOL}.",
                "Use one version of RelightGAN on both sides.",
            )

    def queue(self, task: QueuedRequest) -> None:
        """Puts a request behind those there are."""
        with self.changed:
            ahead = [*([self.running] if self.running else []), *self.waiting]
            if any(other.id == task.id for other in ahead):
                raise ProtocolError(f"There is a request {task.id!a} already.", "Give each its own id.")
            self.emit({"type": "accepted", "id": task.id, "queued": len(ahead)})
            self.waiting.append(task)
            self.changed.notify()

    def cancel(self, name: str) -> None:
        """Ends a request: at once where it waits, within a second where it runs."""
        with self.changed:
            waiting = next((task for task in self.waiting if task.id == name), None)
            if waiting is not None:
                self.waiting.remove(waiting)
            elif self.running is not None and self.running.id == name:
                self.running.cancelled.ask()
        if waiting is not None:
            self.emit(cancelled_event(waiting))

    def next_task(self) -> QueuedRequest | None:
        """Waits for a request; None when there won't be any more."""
        with self.changed:
            self.running = None
            if not self.changed.wait_for(lambda: self.stopping or self.waiting, self.idle_s):
                log(f"idle for {self.idle_s:g} s")
                return None
            if self.stopping:
                return None
            self.running = self.waiting.popleft()
            return self.running

    def busy(self) -> bool:
        """Whether there is work."""
        return self.running is not None or bool(self.waiting)

    def check(self) -> None:
        """Ends the running request where that was asked for; called by the look, often.

        Raises:
            Cancelled: it was.
        """
        running = self.running
        if running is not None:
            running.cancelled.check()

    def stop(self, why: str, code: int = EXIT_DONE) -> None:
        """Cancels everything and ends the process within GRACE_S, from any thread."""
        if self.stopping:
            return
        self.stopping, self.code = True, code
        log(f"ending: {why}")
        running = self.running
        if running is not None:
            running.cancelled.ask()
        last = threading.Timer(GRACE_S, os._exit, [code])
        last.daemon = True
        last.start()
        with self.changed:
            self.changed.notify_all()


def kind_of(error: RelightError) -> str:
    """The name of an error's class in core/errors.py, whose children the client doesn't know."""
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == RelightError.__module__)


def failed_event(task: QueuedRequest, kind: str, problem: str, fix: str) -> Message:
    """The event that says why a request failed, and which frames are finished nevertheless."""
    frames = sorted(task.finished)
    words = {"problem": sendable(problem), "fix": sendable(fix)}
    return {"type": "failed", "id": task.id, "kind": kind, **words, "frames": frames}


def cancelled_event(task: QueuedRequest) -> Message:
    """The event that says a request ended because that was asked for, and which frames are finished."""
    return {"type": "cancelled", "id": task.id, "frames": sorted(task.finished)}


def write_all(stream: Any, line: bytes) -> None:
    """Writes a line to an unbuffered pipe, which may take it in pieces."""
    view = memoryview(line)
    while view:
        view = view[stream.write(view) :]


def log(text: str) -> None:
    """A line for people, on stderr, with the time; no work fails because its log is on a full disk."""
    with contextlib.suppress(OSError):
        print(time.strftime("%Y-%m-%d %H:%M:%S"), printable(text.rstrip()), file=sys.stderr, flush=True)


if __name__ == "__main__":
    code = main()
    # Threads and libraries that are slow to close down could keep a finished process for minutes.
    sys.stderr.flush()
    os._exit(code)
