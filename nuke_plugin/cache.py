"""The cache on disk: keys, paths and sentinels, independent of Nuke. `cache_frames` checks and links frames,
`cache_sweep` deletes.

    <cache>/<base>/relightgan.json                       proof that we made the folder; look, time of last use
    <cache>/<base>/frames/<frame key>.exr                the store: files written once, by the worker
    <cache>/<base>/takes/<take>/<view>/relit.%04d.exr    what Nuke reads: links into the store
    <cache>/bakes/<host>-<pid>-<random>/<view>/source.%04d.exr    source frames while a bake runs

A key is a hash of everything that a frame depends on. So nodes, scripts and machines with the same key share the frame,
and other states have other files.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relightgan.core.errors import RelightError
from relightgan.core.regular import read_regular
from relightgan.nuke_plugin.folders import Folder, opened_folder, temporary_name

__all__ = [
    "Places",
    "bake_folder",
    "existing_frames",
    "file_stamp",
    "key_of",
    "last_used",
    "places_of",
    "read_sentinel",
    "relit_path",
    "sentinel_in",
    "server_time",
    "stored_keys",
    "touch",
    "write_sentinel",
]

KEY_LENGTH = 16  # hex digits of the hash; with a million frames the odds of a clash are one in ten million
SENTINEL = "relightgan.json"  # the file that proves that we made a folder
SENTINEL_FORMAT = 1
SENTINEL_BYTES = 64 * 1024  # the maximum size of a sentinel; ours has a few hundred
BAKES = "bakes"  # the folder of source frames
CLOCKS_APART_S = 24 * 3600.0  # a time of last use later than now by this much is no mere difference of clocks
TOUCH_EVERY_S = 600.0  # the minimum time between two updates of `last_used` by one process

HEX_KEY = f"[0-9a-f]{{{KEY_LENGTH}}}"
STORED_NAME = re.compile(rf"{HEX_KEY}\.exr")
TAKE_PATTERN = re.compile(rf".+/{HEX_KEY}/takes/{HEX_KEY}/%V/relit\.%04d\.exr")
RELIT_NAME = re.compile(r"relit\.([0-9]{4}|[1-9][0-9]{4,}|-[0-9]{3}|-[1-9][0-9]{3,})\.exr")  # what %04d gives


def key_of(*parts: Any) -> str:
    """The key of JSON values: the same values give the same key in every process."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:KEY_LENGTH]


def file_stamp(path: str) -> tuple[str, int, int]:
    """The stamp of a file: path, size in bytes, time of change in ms; -1 and -1 where it is missing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - the hot path: once for every frame of every plate
    except (OSError, ValueError):
        return (path, -1, -1)
    return (path, found.st_size, found.st_mtime_ns // 1_000_000)


@dataclass(frozen=True)
class Places:
    """The paths of one base.

    Args:
        root: the cache folder, absolute.
        base: the base key.
    """

    root: Path
    base: str

    @property
    def folder(self) -> Path:
        """The folder of this base."""
        return self.root / self.base

    @property
    def sentinel(self) -> Path:
        """The file that proves that we made the folder."""
        return self.folder / SENTINEL

    @property
    def store(self) -> Path:
        """The folder of the frames by key."""
        return self.folder / "frames"

    def frame(self, key: str) -> Path:
        """A frame in the store."""
        return self.store / f"{key}.exr"

    def take(self, take: str) -> Path:
        """The folder of a take."""
        return self.folder / "takes" / take

    def pattern(self, take: str) -> str:
        """The path of a take for a Read node: forward slashes, %V for the view, %04d for the frame."""
        return f"{self.take(take).as_posix()}/%V/relit.%04d.exr"


def places_of(pattern: str) -> Places | None:
    """The base of a take's pattern; None where the pattern isn't one of ours."""
    if not TAKE_PATTERN.fullmatch(pattern):
        return None
    folder = Path(pattern).parents[3]
    return Places(folder.parent, folder.name)


def relit_path(pattern: str, view: str, frame: int) -> Path:
    """The file of a frame, from a take's pattern."""
    return Path(pattern.replace("%V", view).replace("%04d", f"{frame:04d}"))


def existing_frames(pattern: str, view: str) -> set[int]:
    """The frames in a take, by name (`cache_frames` looks into them); none where the pattern isn't one of ours."""
    place = Path(pattern.replace("%V", view))
    if place.name != "relit.%04d.exr":
        return set()
    return {int(match[1]) for name in names_in(place.parent) if (match := RELIT_NAME.fullmatch(name))}


def stored_keys(places: Places) -> set[str]:
    """The keys of the frames in the store, by name (`cache_frames` looks into them)."""
    return {name[:KEY_LENGTH] for name in names_in(places.store) if STORED_NAME.fullmatch(name)}


def touch(places: Places, about: Mapping[str, Any] | None = None, take: str = "") -> None:
    """Makes the folder of a base with its sentinel, or updates its time of last use.

    The time is the file server's, so that machines whose clocks disagree agree about it.

    Args:
        places: the base.
        about: look and settings, for people; written when the folder is made.
        take: a take that is used; the time of its folder is set to now.

    Raises:
        RelightError: the folder can't be written, or a link lies in its place.
    """
    try:
        with opened_folder(places.root, make=True) as root, root.inside(places.base, make=True) as folder:
            if take:
                with contextlib.suppress(OSError), folder.inside("takes") as takes:  # missing yet, or another user's
                    takes.touch(take)
            known = sentinel_in(folder)
            if known is not None and _is_touched(places.sentinel, known.get("last_used")):
                return
            words = known or {"relightgan": SENTINEL_FORMAT, **dict(about or {})}
            now = write_sentinel(folder, {**words, "base": places.base})
            _TOUCHED[places.sentinel] = (time.monotonic(), now)
    except OSError as error:
        raise cannot_write(places.folder, error) from error


def bake_folder(root: Path) -> Path:
    """Makes a folder with sentinel for the source frames of a bake.

    Raises:
        RelightError: the folder can't be made.
    """
    folder = root / BAKES / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        with opened_folder(folder, make=True) as place:
            write_sentinel(place, {"relightgan": SENTINEL_FORMAT, "bake": folder.name})
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def read_sentinel(folder: Path) -> dict[str, Any] | None:
    """The content of our sentinel in a folder; None where there is none."""
    try:
        return _words(read_regular(folder / SENTINEL, SENTINEL_BYTES, follow=False))
    except OSError:
        return None


def sentinel_in(folder: Folder) -> dict[str, Any] | None:
    """As `read_sentinel`, of an open folder."""
    try:
        return _words(folder.read(SENTINEL, SENTINEL_BYTES))
    except OSError:
        return None


def write_sentinel(folder: Folder, words: Mapping[str, Any]) -> float:
    """Writes our sentinel, whole or not at all, with the present time as that of last use; returns that time.

    Raises:
        OSError: it can't be written.
    """
    temporary = temporary_name(SENTINEL)
    try:
        with folder.create(temporary) as file:
            now = os.fstat(file.fileno()).st_mtime
            text = json.dumps({"created": now, **words, "last_used": now}, indent=1, sort_keys=True)
            file.write(text.encode("utf-8"))
        folder.rename(temporary, SENTINEL)
    finally:
        with contextlib.suppress(OSError):
            folder.unlink(temporary)
    return now


def last_used(words: Mapping[str, Any], now: float) -> float:
    """The time of last use in a sentinel, in seconds since 1970; NaN where it can't be true.

    Args:
        words: the content of the sentinel.
        now: the present time; a use a day later than that is none.
    """
    found = words.get("last_used")
    try:
        time_s = math.nan if isinstance(found, bool) or not isinstance(found, (int, float)) else float(found)
    except OverflowError:
        return math.nan
    return time_s if 0 < time_s < now + CLOCKS_APART_S else math.nan


def server_time(folder: Folder) -> float:
    """The present time by the clock of the machine that a folder lies on; by our own where nothing can be written."""
    name = temporary_name("clock")
    try:
        with folder.create(name) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            folder.unlink(name)


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted; none where it is missing."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - only names are needed, and it is the hot path
    except OSError:
        return []


def cannot_write(folder: Path, error: OSError) -> RelightError:
    """The error for a folder of the cache."""
    return RelightError(
        f"The cache folder {folder} can't be written: {error.strerror}.",
        "Set another cache folder on the node, or RELIGHTGAN_CACHE.",
    )


# Private implementation

_TOUCHED: dict[Path, tuple[float, float]] = {}  # by sentinel: when we wrote it, by monotonic clock; the time written


def _is_touched(sentinel: Path, time_s: object) -> bool:
    """True where this process has written the sentinel lately, and nobody has put a wrong time there since."""
    when, written = _TOUCHED.get(sentinel, (-math.inf, 0.0))
    if time.monotonic() - when >= TOUCH_EVERY_S or not isinstance(time_s, (int, float)):
        return False
    return written <= time_s <= written + 2 * TOUCH_EVERY_S


def _words(content: bytes) -> dict[str, Any] | None:
    try:
        # NaN and infinity aren't JSON, though Python reads them.
        words = json.loads(content.decode("utf-8"), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return words if isinstance(words, dict) and words.get("relightgan") == SENTINEL_FORMAT else None
