"""The facts of a look, read from its .onnx file without the network.

An ONNX file is one protobuf message (ModelProto, onnx.proto in github.com/onnx/onnx): the graph with all weights is
field 7, `metadata_props` is field 14. Only the tags are read on the way; the graph is skipped by seeking, so a look of
any size answers at once.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from relightgan.core.errors import LookError

__all__ = ["look_facts", "look_info", "look_preview", "look_sha256", "read_metadata", "report_of", "usual_report"]

LOOK_FORMAT = 1  # as in core/look.py, which needs packages that Nuke doesn't have
FORMAT_KEY = "relightgan.format"
FACTS_KEY = "relightgan.facts"
PREVIEW_KEY = "relightgan.preview"  # base64 of a JPEG: before and after, side by side

GRAPH_FIELD = 7
METADATA_FIELD = 14
MAX_METADATA_BYTES = 64 << 20  # the maximum size of one entry; no look has a larger one
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # protobuf's wire types
CHUNK = 1 << 20
REPORT = "report.html"  # name of the training report (training/run/report.py), in the run folder beside the look


def look_info(path: str) -> str:
    """A look in a few lines for the artist: name and direction; what it was trained on; when.

    Raises:
        LookError: there is no such file, or it isn't a look that this version reads.
    """
    facts = look_facts(path)
    name, direction = str(facts.get("name") or Path(path).stem), direction_of(facts)
    lines = [f"{name}: {direction}" if direction else name, trained_on(facts)]
    created = str(facts.get("created") or "")[:10]
    if created:
        lines.append(f"Made {created}" + (f", {facts['licence']}" if facts.get("licence") else ""))
    return "\n".join(line for line in lines if line)


def direction_of(facts: dict[str, Any]) -> str:
    """The direction, such as "day1 to day2"; "ab" or "ba" where the folders of both days aren't known."""
    direction = str(facts.get("direction") or "")
    if direction not in ("ab", "ba"):
        return direction
    names = [folders for _, folders in photos_by_day(facts)]
    return " to ".join(names if direction == "ab" else names[::-1]) if len(names) == 2 and all(names) else direction


def photos_by_day(facts: dict[str, Any]) -> list[tuple[int, str]]:
    """Number of photos and names of their folders, of the source day and of the target day; empty where unknown."""
    dataset = facts.get("dataset")
    days = [dataset.get(name) for name in ("source", "target")] if isinstance(dataset, dict) else []
    found = []
    for day in days:
        if isinstance(day, dict) and isinstance(day.get("kept"), int):
            folders = day.get("folders")
            found.append((day["kept"], ", ".join(map(str, folders)) if isinstance(folders, list) else ""))
    return found


def trained_on(facts: dict[str, Any]) -> str:
    """The number of training photos and their folders, in a line; empty where the facts don't have them."""
    parts = [f"{kept} photos" + (f" ({folders})" if folders else "") for kept, folders in photos_by_day(facts)]
    return f"Trained on {' and '.join(parts)}" if parts else ""


def look_facts(path: str) -> dict[str, Any]:
    """The facts of a look, as core/look.py wrote them.

    Raises:
        LookError: there is no such file, or it isn't a look that this version reads.
    """
    metadata = read_metadata(path)
    found = metadata.get(FORMAT_KEY)
    if found is None:
        raise LookError(
            f"{path} is an ONNX file, but not a RelightGAN look.",
            "Choose one made by 'relightgan train', or relight with 'relightgan infer', which can be told its facts.",
        )
    if found != str(LOOK_FORMAT):
        newer = found.isdigit() and int(found) > LOOK_FORMAT
        raise LookError(
            f"{path} is look format {found}; this version reads format {LOOK_FORMAT}.",
            "Update RelightGAN on this machine." if newer else "Export it again with this version.",
        )
    try:
        facts = json.loads(metadata.get(FACTS_KEY, ""))
    except ValueError as error:
        raise LookError(f"The facts in {path} can't be read: {error}.", "Export it again.") from error
    if not isinstance(facts, dict):
        raise LookError(f"The facts in {path} aren't a JSON object.", "Export it again.")
    return facts


def look_preview(path: str) -> bytes | None:
    """The preview of a look, before and after side by side, as a JPEG file; None where it has none.

    Raises:
        LookError: there is no such file, or it isn't ONNX.
    """
    text = read_metadata(path).get(PREVIEW_KEY)
    try:
        return base64.b64decode(text, validate=True) if text else None
    except binascii.Error:
        return None


def look_sha256(path: str) -> str:
    """The SHA-256 of a look's bytes, 64 characters; read once for each state of the file.

    Raises:
        LookError: it can't be read.
    """
    size, changed = file_identity(path)
    return sha256_of(path, size, changed)


def read_metadata(path: str) -> dict[str, str]:
    """The metadata entries of an ONNX file; read once for each state of the file.

    Raises:
        LookError: there is no such file, or it isn't ONNX, or it was cut short.
    """
    size, changed = file_identity(path)
    return dict(metadata_of(path, size, changed))


def report_of(path: str) -> Path | None:
    """The training report that lies beside a look, or in the run folder beside it; None where there is none.

    Training keeps everything but the look in `<name>_run`; a fit with two looks has one such folder for both.
    """
    look = Path(path)
    stems = [look.stem, look.stem.rpartition("_")[0], look.stem.rpartition("-")[0]]
    places = [look.with_name(f"{stem}_run") / REPORT for stem in stems if stem]
    places += [look.with_suffix(".html"), look.parent / REPORT]
    return next((place for place in places if place.is_file()), None)


def usual_report(path: str) -> Path:
    """The default path of the training report of a look."""
    return Path(path).with_name(f"{Path(path).stem}_run") / REPORT


# Private implementation


def file_identity(path: str) -> tuple[int, int]:
    """Size in bytes and time of change in ns of a file; a changed file has another pair.

    Raises:
        LookError: there is no such file.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LookError(f"The look {path} can't be read: {reason}.", "Check the path and its permissions.") from error
    return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=64)
def sha256_of(path: str, size: int, changed: int) -> str:
    """SHA-256 of a file of this size and time of change."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
    except OSError as error:
        raise LookError(f"The look {path} can't be read: {error.strerror}.", "Check its permissions.") from error
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def metadata_of(path: str, size: int, changed: int) -> dict[str, str]:
    """Metadata of a file of this size and time of change."""
    try:
        with Path(path).open("rb") as file:
            return scan_model(file, size)
    except OSError as error:
        raise LookError(f"The look {path} can't be read: {error.strerror}.", "Check its permissions.") from error
    except BadMessage as error:
        raise LookError(
            f"{path} isn't a whole ONNX file ({error}).", "Choose a look (.onnx), or copy it again if it was cut short."
        ) from error


class BadMessage(Exception):
    """The bytes aren't the protobuf message they should be."""


def scan_model(file: BinaryIO, size: int) -> dict[str, str]:
    """The metadata entries of a ModelProto.

    Raises:
        BadMessage: it isn't one.
    """
    entries: dict[str, str] = {}
    has_graph = False
    while file.tell() < size:
        tag = read_varint(file)
        field, kind = tag >> 3, tag & 7
        if field == 0 or field > 1000:
            raise BadMessage("unknown content")
        if kind == VARINT:
            read_varint(file)
        elif kind in (FIXED64, FIXED32):
            skip(file, 8 if kind == FIXED64 else 4, size)
        elif kind == LENGTH:
            length = read_varint(file)
            has_graph = has_graph or field == GRAPH_FIELD
            if field == METADATA_FIELD:
                if length > min(MAX_METADATA_BYTES, size - file.tell()):
                    raise BadMessage("cut short")
                key, value = entry_of(file.read(length))
                entries[key] = value
            else:
                skip(file, length, size)
        else:
            raise BadMessage("unknown content")
    if not has_graph:
        raise BadMessage("no network in it")
    return entries


def entry_of(message: bytes) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto: fields 1 and 2."""
    found = {1: b"", 2: b""}
    place = 0
    while place < len(message):
        tag, place = varint_at(message, place)
        length, place = varint_at(message, place)
        if tag & 7 != LENGTH or place + length > len(message):
            raise BadMessage("unknown content")
        found[tag >> 3] = message[place : place + length]
        place += length
    try:
        return found[1].decode("utf-8"), found[2].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage("unknown content") from error


def read_varint(file: BinaryIO) -> int:
    """The next number: seven bits a byte, the least significant first (protobuf's varint)."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise BadMessage("cut short")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise BadMessage("unknown content")


def varint_at(message: bytes, place: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = 0
    for count, byte in enumerate(message[place : place + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place + count + 1
    raise BadMessage("cut short")


def skip(file: BinaryIO, length: int, size: int) -> None:
    """Skips bytes.

    Raises:
        BadMessage: the file ends before.
    """
    if length > size - file.tell():
        raise BadMessage("cut short")
    file.seek(length, os.SEEK_CUR)
