"""The facts of a look, read from its .onnx file without the network (core/onnx_scan.py).

A look may come from anybody, and the artist's session must survive it: only regular files are opened, sizes have limits
(core/look_metadata.py), and what is kept in memory is bounded in bytes.

Runs inside Nuke (Python 3.9 and later), also in a thread: standard library only.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import unicodedata
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

from relightgan.core.errors import LookError
from relightgan.core.look_metadata import (
    FACTS_KEY,
    FORMAT_KEY,
    MAX_LOOK_BYTES,
    PREVIEW_KEY,
    BadPreview,
    checked_fact,
    jpeg_of,
    stated_facts,
    too_much_metadata,
)
from relightgan.core.look_verdict import stated_verdict
from relightgan.core.onnx_scan import BadMessage, TooMuch, scan_model
from relightgan.core.regular import open_regular
from relightgan.core.text import shown

__all__ = [
    "look_facts", "look_info", "look_preview", "look_sha256", "read_metadata", "report_of", "sha256_line",
    "usual_report",
]  # fmt: skip

KEYS = (FORMAT_KEY, FACTS_KEY, PREVIEW_KEY)  # the entries that are read; those of other tools aren't kept
# The facts that are checked here: all whose type core/look.py checks. Unknown ones may be anything.
CHECKED = (
    "name", "direction", "translator", "encoding", "primaries", "value_range", "licence", "created", "operators",
    "aovs", "size_multiple", "overlap_px", "config", "dataset", "evaluation", "versions",
)  # fmt: skip
MAX_KEPT_BYTES = 32 << 20  # of metadata in memory, over all looks
MAX_FOLDERS = 6  # names of photo folders in a line
QUICK_BYTES = 64 << 20  # a look of this size is hashed in a fraction of a second
CHUNK = 1 << 20
REPORT = "report.html"  # name of the training report (training/run/report.py), in the run folder beside the look


def look_info(path: str) -> str:
    """A look in a few lines for the artist: name and direction; how good it is; what it was trained on; when.

    Raises:
        LookError: there is no such file, or it isn't a look that this version reads.
    """
    facts = look_facts(path)
    name, direction = facts.get("name") or Path(path).stem, direction_of(facts)
    verdict = stated_verdict(facts.get("evaluation"))
    lines = [f"{name}: {direction}" if direction else name, f"Verdict: {verdict.line}" if verdict else ""]
    lines.append(trained_on(facts))
    created = facts.get("created", "")[:10]
    if created:
        lines.append(f"Made {created}" + (f", {facts['licence']}" if facts.get("licence") else ""))
    return "\n".join(shown(line) for line in lines if line)


def direction_of(facts: dict[str, Any]) -> str:
    """The direction, such as "day1 to day2"; "ab" or "ba" where the folders of both days aren't known."""
    direction: str = facts.get("direction", "")
    if direction not in ("ab", "ba"):
        return direction
    names = [folders for _, folders in photos_by_day(facts)]
    return " to ".join(names if direction == "ab" else names[::-1]) if len(names) == 2 and all(names) else direction


def photos_by_day(facts: dict[str, Any]) -> list[tuple[int, str]]:
    """Number of photos and names of their folders, of the source day and of the target day; empty where unknown."""
    dataset = facts.get("dataset", {})
    found = []
    for day in (dataset.get("source"), dataset.get("target")):
        kept = day.get("kept") if isinstance(day, dict) else None
        if isinstance(day, dict) and isinstance(kept, int) and not isinstance(kept, bool):
            folders = day.get("folders")
            names = [name for name in folders if isinstance(name, str)] if isinstance(folders, list) else []
            more = [f"and {len(names) - MAX_FOLDERS} more"] if len(names) > MAX_FOLDERS else []
            found.append((kept, ", ".join([*(shown(name, 60) for name in names[:MAX_FOLDERS]), *more])))
    return found


def trained_on(facts: dict[str, Any]) -> str:
    """The number of training photos and their folders, in a line; empty where the facts don't have them."""
    parts = [f"{kept} photos" + (f" ({folders})" if folders else "") for kept, folders in photos_by_day(facts)]
    return f"Trained on {' and '.join(parts)}" if parts else ""


def look_facts(path: str) -> dict[str, Any]:
    """The facts of a look, as core/look.py wrote them; those that it knows have the type that it asks for.

    Raises:
        LookError: there is no such file, or it isn't a look that this version reads.
    """
    metadata = read_metadata(path)
    if FORMAT_KEY not in metadata:
        raise LookError(
            f"{path} is an ONNX file, but not a RelightGAN look.",
            "Choose one made by 'relightgan train', or relight with 'relightgan infer', which can be told its facts.",
        )
    facts = stated_facts(metadata, path)
    for name in CHECKED:
        if name in facts:
            checked_fact(name, facts[name], path)
    return facts


def look_preview(path: str) -> bytes | None:
    """The preview of a look, before and after side by side, as a JPEG file; None where it has none that can be used.

    Raises:
        LookError: there is no such file, or it isn't ONNX.
    """
    text = read_metadata(path).get(PREVIEW_KEY)
    try:
        return jpeg_of(text) if text else None
    except BadPreview:
        return None


def look_sha256(path: str) -> str:
    """The SHA-256 of a look's bytes, 64 characters; read once for each state of the file.

    Raises:
        LookError: it can't be read.
    """
    size, changed = file_identity(path)
    return sha256_of(path, size, changed)


def sha256_line(path: str) -> str:
    """The SHA-256 of a look for the artist; a large look's, which would take seconds, by the command that tells it."""
    try:
        size, changed = file_identity(path)
        if size > QUICK_BYTES:
            return f"Run: relightgan look --sha256 {shown(Path(path).name)}"
        return f"sha256 {sha256_of(path, size, changed)}"
    except LookError:
        return "It can't be read."


def read_metadata(path: str) -> dict[str, str]:
    """Those metadata entries of an ONNX file that are ours; read once for each state of the file.

    Raises:
        LookError: there is no such file, or it isn't ONNX, or it was cut short.
    """
    size, changed = file_identity(path)
    known = _KEPT.get((path, size, changed))
    if known is None:
        known = metadata_of(path)
        _KEPT.put((path, size, changed), known)
    return dict(known)


def report_of(path: str) -> Path | None:
    """The training report that lies beside a look, or in the run folder beside it; None where there is none.

    Training keeps everything but the look in `<name>_run`; a fit with two looks has one such folder for both.
    """
    look = Path(path)
    stems = [look.stem, look.stem.rpartition("_")[0], look.stem.rpartition("-")[0]]
    places = [look.with_name(f"{stem}_run") / REPORT for stem in stems if stem]
    places += [look.with_suffix(".html"), look.parent / REPORT]
    # Path.is_file() raises where a name with the addition is too long for the disk.
    return next((place for place in places if os.path.isfile(place)), None)  # noqa: PTH113


def usual_report(path: str) -> Path:
    """The default path of the training report of a look."""
    return Path(path).with_name(f"{Path(path).stem}_run") / REPORT


# Private implementation

Identity = tuple[str, int, int]  # path, size in bytes and time of change in ns; a changed file has another


class _Kept:
    """Metadata of the looks that were read last, up to MAX_KEPT_BYTES; the panel's thread uses it too."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Identity, dict[str, str]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, identity: Identity) -> dict[str, str] | None:
        with self._lock:
            found = self._entries.get(identity)
            if found is not None:
                self._entries.move_to_end(identity)
            return found

    def put(self, identity: Identity, metadata: dict[str, str]) -> None:
        with self._lock:
            if identity not in self._entries:
                self._entries[identity] = metadata
                self._bytes += size_of(metadata)
            while self._bytes > MAX_KEPT_BYTES:
                _, dropped = self._entries.popitem(last=False)
                self._bytes -= size_of(dropped)


_KEPT = _Kept()


def size_of(metadata: dict[str, str]) -> int:
    """About the bytes that metadata take in memory: up to four for each character."""
    return 1000 + 4 * sum(map(len, metadata.values()))


def file_identity(path: str) -> tuple[int, int]:
    """Size in bytes and time of change in ns of a file; a changed file has another pair.

    Raises:
        LookError: there is no such file, or Nuke can't have its name.
    """
    check_name(path)
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return found.st_size, found.st_mtime_ns


def check_name(path: str) -> None:
    """Refuses names that a line of a script can't hold.

    Raises:
        LookError: the name has a line break or another control character, or letters that aren't UTF-8.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in path):
        raise LookError(
            f"The look {shown(path)} has a line break or another hidden character in its name.", "Rename it."
        )


def unreadable(path: str, error: OSError | ValueError) -> LookError:
    """The error for a file that can't be read."""
    reason = error.strerror if isinstance(error, OSError) else error
    return LookError(f"The look {path} can't be read: {reason}.", "Check the path and its permissions.")


def opened(path: str) -> tuple[BinaryIO, int]:
    """A look and its size in bytes.

    Raises:
        LookError: it isn't a regular file of a look's size.
    """
    try:
        file = open_regular(path, MAX_LOOK_BYTES)
        return file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise unreadable(path, error) from error


@functools.lru_cache(maxsize=64)
def sha256_of(path: str, size: int, changed: int) -> str:
    """SHA-256 of a file of this size and time of change."""
    digest = hashlib.sha256()
    file, left = opened(path)
    try:
        with file:
            while left > 0 and (block := file.read(min(CHUNK, left))):  # not more, should it grow meanwhile
                digest.update(block)
                left -= len(block)
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()


def metadata_of(path: str) -> dict[str, str]:
    """Our metadata entries of an ONNX file."""
    file, size = opened(path)
    try:
        with file:
            return scan_model(file, size, KEYS)
    except OSError as error:
        raise unreadable(path, error) from error
    except TooMuch as error:
        raise too_much_metadata(path) from error
    except BadMessage as error:
        raise LookError(
            f"{path} isn't a whole ONNX file ({error}).", "Choose a look (.onnx), or copy it again if it was cut short."
        ) from error
