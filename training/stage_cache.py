"""Results that the stages of a run store in its folder: notes in JSON, and arrays with a key.

The key is a hash of everything that the arrays depend on.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from relightgan.core.errors import TrainingError
from relightgan.core.files import open_folder, replacing, write_whole
from relightgan.core.regular import open_regular, read_regular
from relightgan.training.stored_arrays import DamagedFile, read_npz
from relightgan.training.stored_json import MAX_NOTES_BYTES, parse_json


def digest(values: Any) -> str:
    """A hash of plain (JSON) values: 32 hexadecimal digits of SHA-256."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits; empty where the file can't be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def read_notes(path: Path) -> dict[str, Any]:
    """The notes of a stage; {} where they are missing or damaged."""
    try:
        content = parse_json(read_regular(path, MAX_NOTES_BYTES))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_notes(path: Path, content: dict[str, Any]) -> None:
    """Writes the notes of a stage, whole or not at all.

    Raises:
        TrainingError: the file can't be written.
    """
    write_page(path, json.dumps(content, indent=1) + "\n")


def read_arrays(path: Path, key: str, names: Collection[str] = ()) -> dict[str, np.ndarray] | None:
    """The arrays stored under this key; None where they are missing, damaged or stored under another key.

    Args:
        path: the file.
        key: what the arrays depend on, hashed.
        names: of the arrays; others beside them are handed on, too.
    """
    try:
        arrays = read_npz(path)
    except (OSError, DamagedFile):
        return None
    return arrays if {*names, "key"} <= arrays.keys() and str(arrays["key"]) == key else None


def write_arrays(path: Path, key: str, arrays: dict[str, np.ndarray]) -> None:
    """Stores arrays under a key, whole or not at all.

    Raises:
        TrainingError: the file can't be written.
    """
    with placing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{**arrays, "key": np.array(key)})


def write_page(path: Path, text: str) -> None:
    """Writes a text file of a run folder, whole or not at all.

    Raises:
        TrainingError: the file can't be written.
    """
    write_whole(path, text, functools.partial(not_written, path))


def placing(path: Path) -> contextlib.AbstractContextManager[Path]:
    """`core.files.replacing` for the files of a run folder.

    Args:
        path: the file, in a folder that is there.

    Raises:
        TrainingError: the file can't be written.
    """
    return replacing(path, functools.partial(not_written, path))


def open_stage(folder: Path, within: Path | None = None) -> Path:
    """`core.files.open_folder` for the folders of a run.

    Args:
        folder: made where it isn't there.
        within: the run folder, which must be there; None where this is its first folder.

    Raises:
        TrainingError: it can't be made.
    """
    return open_folder(folder, functools.partial(not_written, folder), within)


def not_written(path: Path, error: OSError) -> TrainingError:
    """The error for a file or folder of a run that can't be written, see `core.files.replacing`."""
    return TrainingError(
        f"{path} can't be written: {error.strerror or error}.",
        "Free some space or bring its folder back, or choose another --run-dir.",
    )
