"""Nuke's side of the worker: sends requests, passes events on, and resends requests of a worker that died.

Runs inside Nuke (Python 3.9 and later) and without it: standard library only.

    job = shared(folders).relight(request)
    while not job.finished:
        job.poll(0.1)        events; on the main thread, as job.cancel()
    job.result()

`core/protocol.py` defines requests and events; `worker_process.py` runs the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from relightgan.core import errors
from relightgan.core.errors import Cancelled, RelightError, WorkerError
from relightgan.core.protocol import LAST_EVENTS, Message
from relightgan.nuke_plugin.worker_log import log_path
from relightgan.nuke_plugin.worker_process import CRASHED, HUNG, IDLE, Limits, WorkerProcess, worker_command

__all__ = ["Limits", "Worker", "WorkerJob", "log_path", "look_facts", "shared", "stop_shared"]

WAIT_S = 0.25  # the longest wait without a check for Ctrl-C, which Windows needs
CRASHES = 1  # how often a request is resent after a crash of the worker
IDLE_ENDS = 3  # how often a request is resent because the worker was about to end when it came
STOPPED = "Stopped as asked; finished frames are whole."


class WorkerJob:
    """A request under way; made by `Worker.relight` and `Worker.look`.

    Args:
        request: the message, with its id.
        on_event: called with each event, by `poll`.
    """

    def __init__(self, request: Message, on_event: Callable[[Message], None] | None = None) -> None:
        self.request = request
        self.id: str = request["id"]
        self.on_event = on_event
        self.frames: list[int] = []  # finished frames, in order
        self.last: Message | None = None  # the event that ended it
        self.error: RelightError | None = None  # the error where the worker itself failed
        self.cancelled_at: float | None = None  # time of `cancel`, time.monotonic()
        self.crashes = self.idle_ends = 0
        self.process: WorkerProcess | None = None  # the process with the request
        self.events: queue.Queue[Message] = queue.Queue()
        self.ended = threading.Event()

    @property
    def finished(self) -> bool:
        """True when the request has ended; `result` then returns at once."""
        return self.ended.is_set()

    def poll(self, timeout_s: float = 0.0) -> list[Message]:
        """New events; [] without any in that time.

        Args:
            timeout_s: the longest wait for the first event.
        """
        found = []
        with contextlib.suppress(queue.Empty):
            if timeout_s > 0 and not self.finished:
                found.append(self.events.get(timeout=timeout_s))
            while True:
                found.append(self.events.get_nowait())
        if self.on_event is not None:
            for event in found:
                self.on_event(event)
        return found

    def cancel(self) -> None:
        """Cancels the request and returns at once; finished frames stay. `result` then raises `Cancelled`."""
        process = self.process
        if not self.finished and self.cancelled_at is None and process is not None:
            self.cancelled_at = time.monotonic()
            process.send({"type": "cancel", "id": self.id})

    def result(self) -> Message:
        """Waits for the end: the event `done` (frames, seconds, device), or `look` (facts, sha256).

        Raises:
            Cancelled: it was cancelled.
            RelightError: the error of the worker, in its own class.
            WorkerError: the worker died, hung or couldn't be started.
        """
        while not self.ended.wait(WAIT_S):
            pass
        if self.error is not None:
            raise self.error
        event = self.last
        assert event is not None
        if event["type"] == "cancelled":
            raise Cancelled(STOPPED)
        if event["type"] not in ("done", "look"):
            raise error_of(event)
        return event

    # For the worker's threads

    def take(self, event: Message) -> None:
        """Records an event. After a resend of the rest, its counts are changed to those of the whole request."""
        if self.finished:
            return
        if event["type"] == "frame":
            if event["frame"] not in self.frames:
                self.frames.append(event["frame"])
            event = {**event, "done": len(self.frames), "total": len(self.request["outputs"])}
        elif event["type"] in LAST_EVENTS:
            if "frames" in event:
                event = {**event, "frames": sorted({*event["frames"], *self.frames})}
            self.last = event
        self.events.put(event)
        if self.last is not None:
            self.ended.set()

    def fail(self, error: RelightError) -> None:
        """Ends the request with an error that isn't from the worker."""
        if isinstance(error, Cancelled):
            self.take({"type": "cancelled", "id": self.id, "frames": self.frames})
            return
        self.error = error
        kind = {"type": "failed", "id": self.id, "kind": type(error).__name__, "frames": self.frames}
        self.take({**kind, "problem": error.problem, "fix": error.fix})

    def rest(self) -> Message | None:
        """The request for the unfinished frames; None where all are finished."""
        if "outputs" not in self.request:
            return self.request
        outputs = {frame: path for frame, path in self.request["outputs"].items() if int(frame) not in self.frames}
        return {**self.request, "outputs": outputs} if outputs else None


class Worker:
    """A worker process with access to some folders; started by the first request, and again after its end.

    Args:
        folders: folders that it may read and write.
        command: command line of the process; None: our own interpreter with the worker.
        limits: time limits.
    """

    def __init__(
        self,
        folders: Iterable[str | os.PathLike[str]],
        command: list[str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.folders = tuple(sorted({Path(folder).resolve() for folder in folders}))
        self.command = command
        self.limits = limits or Limits()
        self.lock = threading.RLock()
        self.process: WorkerProcess | None = None
        self.jobs: dict[str, WorkerJob] = {}  # unfinished jobs, by id
        self.retired = False
        self.closed = False

    def relight(self, request: Message, on_event: Callable[[Message], None] | None = None) -> WorkerJob:
        """Queues a request, and returns at once.

        Args:
            request: of type `relight`, see core/protocol.py; "type" and "id" may be left out.
            on_event: called with each event, by `WorkerJob.poll`.

        Raises:
            RelightError: the worker can't be started, or the request can't be sent.
        """
        return self.submit(WorkerJob({"type": "relight", "id": uuid.uuid4().hex, **request}, on_event))

    def look(self, path: str | os.PathLike[str]) -> WorkerJob:
        """Requests the facts of a look; the result has `facts` and `sha256`.

        Raises:
            RelightError: as `relight`.
        """
        return self.submit(WorkerJob({"type": "look", "id": uuid.uuid4().hex, "path": str(Path(path).absolute())}))

    def covers(self, folders: Iterable[str | os.PathLike[str]]) -> bool:
        """True where the process may read and write these folders."""
        wanted = [Path(folder).resolve() for folder in folders]
        return all(any(mine in (folder, *folder.parents) for mine in self.folders) for folder in wanted)

    @property
    def pid(self) -> int | None:
        """The id of the running process; None where none runs."""
        process = self.process
        return process.process.pid if process is not None and process.alive else None

    def stop(self) -> None:
        """Ends the process; unfinished jobs are cancelled."""
        with self.lock:
            self.closed = True
            process, self.process = self.process, None
            jobs, self.jobs = list(self.jobs.values()), {}
        if process is not None:
            process.end()
        for job in jobs:
            job.fail(Cancelled(STOPPED))

    def retire(self) -> None:
        """Ends the process when its requests are finished."""
        with self.lock:
            self.retired = True
            busy = bool(self.jobs)
        if not busy:
            self.stop()

    # Private implementation

    def submit(self, job: WorkerJob) -> WorkerJob:
        """Sends a job to the process, and starts one if none runs."""
        with self.lock:
            if self.closed:
                raise WorkerError("The worker was told to end.", "Ask for a new one.")
            if job.id in self.jobs:
                raise WorkerError(f"There is a request {job.id} already.", "Give each its own id.")
            self.send(job, job.request)
            self.jobs[job.id] = job
        return job

    def send(self, job: WorkerJob, request: Message) -> None:
        """Sends a request of a job."""
        if self.process is None or not self.process.alive:
            command = self.command or worker_command(self.folders)
            self.process = WorkerProcess(command, self.limits, self.take, self.process_ended, self.oldest_cancel)
        self.process.send(request)
        job.process = self.process
        if job.cancelled_at is not None:  # cancelled just now, in the previous process
            self.process.send({"type": "cancel", "id": job.id})

    def take(self, event: Message) -> None:
        """Passes an event to its job; called on the reading thread of the process."""
        with self.lock:
            job = self.jobs.get(event["id"])
            if job is None:
                return
            if event["type"] in LAST_EVENTS:
                del self.jobs[job.id]
            through = self.retired and not self.jobs
        job.take(event)
        if through:
            self.stop()

    def process_ended(self, process: WorkerProcess, why: str, how: str) -> None:
        """Resends the requests of a process that ended, or fails them; called on one of its threads."""
        with self.lock:
            if self.process is process:
                self.process = None
            left = [job for job in self.jobs.values() if job.process is process]
            for job in left:
                error = self.take_up(job, why, how, job is not left[0])
                del self.jobs[job.id]
                if error is not None:
                    job.fail(error)
                if not job.finished:
                    self.jobs[job.id] = job  # after those that its new process has already

    def take_up(self, job: WorkerJob, why: str, how: str, waited: bool) -> RelightError | None:
        """Resends the rest of a job to a new process; the error where that is impossible.

        Args:
            job: a job of the process.
            why: why the process ended, for people.
            how: IDLE, CRASHED, HUNG or HOPELESS.
            waited: True where another job ran, which is the cause of a crash.
        """
        rest = job.rest()
        if job.cancelled_at is not None:
            return Cancelled(STOPPED)
        if rest is None:  # it died after the last frame, before its last event
            job.take({"type": "done", "id": job.id, "frames": job.frames, "seconds": 0.0, "device": ""})
            return None
        if waited and how in (CRASHED, HUNG):
            pass
        elif how == IDLE and job.idle_ends < IDLE_ENDS:
            job.idle_ends += 1
        elif how == CRASHED and job.crashes < CRASHES:
            job.crashes += 1
            job.take({"type": "log", "id": job.id, "text": f"{why} It is started again and goes on."})
        else:
            again = " It had been started again for this request before." if job.crashes else ""
            return WorkerError(why + again, f"Its log is {log_path()}.")
        try:
            self.send(job, rest)
        except RelightError as error:
            return error
        return None

    def oldest_cancel(self, process: WorkerProcess) -> float | None:
        """The time of the oldest cancel under way, among the jobs of a process."""
        with self.lock:
            asked = [job.cancelled_at for job in self.jobs.values() if job.process is process and job.cancelled_at]
        return min(asked, default=None)


# The worker of this Nuke

_shared: Worker | None = None
_shared_lock = threading.RLock()


def shared(folders: Iterable[str | os.PathLike[str]]) -> Worker:
    """The worker of this Nuke, with access to these folders and to those of earlier calls.

    New folders need a new process; the previous one finishes its requests.

    Args:
        folders: folders of sources, results and looks.
    """
    global _shared
    wanted = [Path(folder).absolute() for folder in folders]
    with _shared_lock:
        before = _shared
        if before is not None and not before.closed and before.covers(wanted):
            return before
        _shared = worker = Worker([*(before.folders if before is not None else ()), *wanted])
    if before is not None:
        before.retire()
    return worker


def stop_shared() -> None:
    """Ends the worker of this Nuke, if any; the next `shared` makes another."""
    global _shared
    with _shared_lock:
        worker, _shared = _shared, None
    if worker is not None:
        worker.stop()


atexit.register(stop_shared)


def look_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts of a look, read and checked by the worker.

    Raises:
        LookError: the file isn't a look.
        WorkerError: the worker failed.
    """
    path = Path(path).absolute()
    facts: dict[str, Any] = shared([path.parent]).look(path).result()["facts"]
    return facts


def error_of(event: Message) -> RelightError:
    """The error of a `failed` or `refused` event, in the class that the event names."""
    kind = getattr(errors, event.get("kind", "ProtocolError"), None)
    made = kind if isinstance(kind, type) and issubclass(kind, RelightError) else RelightError
    return made(event["problem"], event["fix"])
