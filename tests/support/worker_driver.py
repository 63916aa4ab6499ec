"""Drives a worker over its pipes, as Nuke's side does, but without any of that code. Loaded by the tests beside it."""

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "exposure": 0.0,
    "temporal_blend": 0.0,
    "temporal_window": 2,
    "working_space": "lin_rec709",
    "premultiplied": True,
}
LAST = ("done", "failed", "cancelled", "look", "refused")
PATIENCE_S = 300  # no step of a worker takes so long, on however slow and busy a machine


class Driver:
    """A worker process; as a context it is gone afterwards."""

    def __init__(self, *folders, command=None, hello=True, options=(), **popen):
        words = [word for folder in folders for word in ("--allow", str(folder))]
        start = command or [sys.executable, "-m", "relightgan.core.worker"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([*start, *words, *options], **{"env": environment, **pipes, **popen})
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.seen: list[dict] = []  # every event but heartbeats
        self.beats: list[float] = []  # when heartbeats came
        self.log: list[str] = []
        threading.Thread(target=self.read, daemon=True).start()
        self.log_reader = threading.Thread(target=self.read_log, daemon=True)
        self.log_reader.start()
        if hello:
            self.send(type="hello", protocol=2)
            assert self.until("hello")["protocol"] == 2

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def read_log(self):
        for line in self.process.stderr or ():
            self.log.append(line.decode())

    def send(self, **message):
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, line: bytes):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def next(self, timeout=PATIENCE_S) -> dict | None:
        """The next event; None at the end of the pipe. Every line must be a JSON object."""
        line = self.lines.get(timeout=timeout)
        if line is None:
            return None
        event = json.loads(line)
        if event["type"] == "heartbeat":
            self.beats.append(time.monotonic())
        else:
            self.seen.append(event)
        return event

    def until(self, *kinds, id=None, timeout=PATIENCE_S) -> dict:
        """Events up to one of these kinds (and of that request), which is returned."""
        end = time.monotonic() + timeout
        while True:
            event = self.next(max(0.01, end - time.monotonic()))
            assert event is not None, f"the pipe ended before {kinds}: {''.join(self.log)}"
            if event["type"] in kinds and id in (None, event.get("id")):
                return event

    def do(self, timeout=PATIENCE_S, **message) -> dict:
        """Sends a request and waits for its last event."""
        self.send(**message)
        return self.until(*LAST, id=message["id"], timeout=timeout)

    def end(self, timeout=PATIENCE_S) -> int:
        """Closes stdin and gives the exit code."""
        self.process.stdin.close()
        return self.process.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                if stream is not None:
                    stream.close()
            except BrokenPipeError:
                pass


def relight(look: Path, source, outputs: dict, clip, name="r", **changes) -> dict:
    """A request of type relight; `settings` may be given in part."""
    settings = {**SETTINGS, **changes.pop("settings", {})}
    request = {
        "type": "relight",
        "id": name,
        "look": str(look),
        "look_sha256": hashlib.sha256(Path(look).read_bytes()).hexdigest(),
        "device": "cpu",
        "settings": settings,
        "source": str(source),
        "clip": list(clip),
        "outputs": {str(frame): str(path) for frame, path in outputs.items()},
        "precision": "float",
        "notes": {},
    }
    return {**request, **changes}


def outputs_in(folder: Path, frames) -> dict[int, Path]:
    return {frame: folder / f"key{frame}.exr" for frame in frames}
