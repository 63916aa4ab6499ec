"""The worker's log: its path, its last lines, and the deletion of old logs.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import BinaryIO

from relightgan.core.errors import WorkerError

VARIABLE = "RELIGHTGAN_LOG_DIR"
KEPT = 20  # number of logs to keep
YOUNG_S = 86_400.0  # a younger log may be that of a running worker, here or on a host with the same home folder
TAIL_LINES = 5  # last lines in an error message
TAIL_BYTES = 4096  # bytes read for them


def log_folder() -> Path:
    """`RELIGHTGAN_LOG_DIR`, else `.relightgan/logs` in the home folder."""
    named = os.environ.get(VARIABLE)
    return Path(named).absolute() if named else Path.home() / ".relightgan" / "logs"


def log_path() -> Path:
    """The log of this process's workers; it may not exist yet."""
    return log_folder() / f"worker-{socket.gethostname()}-{os.getpid()}.log"


def open_log() -> BinaryIO:
    """Opens the log for appending, and deletes old logs of other processes.

    Raises:
        WorkerError: the log can't be written.
    """
    path = log_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        file = path.open("ab")
        file.seek(0, os.SEEK_END)
        return file
    except OSError as error:
        raise WorkerError(
            f"The worker's log {path} can't be written: {error.strerror or error}.", f"Set {VARIABLE} to a folder."
        ) from error


def sweep(folder: Path, kept: int = KEPT) -> None:
    """Deletes old logs except the newest."""
    found = []
    for path in folder.glob("worker-*.log"):
        with contextlib.suppress(OSError):  # another process may sweep at the same time
            found.append((path.stat().st_mtime, path))
    for written, path in sorted(found, reverse=True)[kept - 1 :]:
        if path != log_path() and time.time() - written > YOUNG_S:
            with contextlib.suppress(OSError):
                path.unlink()


def last_lines(path: Path, start: int, count: int = TAIL_LINES) -> str:
    """The last lines that were written to a log since `start` bytes, as one line; "" without any."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-count:])
