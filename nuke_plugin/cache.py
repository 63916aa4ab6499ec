"""The cache on disk: keys, paths and links, independent of Nuke. `cache_sweep` deletes.

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
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relightgan.core.errors import RelightError

__all__ = [
    "Places",
    "bake_folder",
    "existing_frames",
    "file_stamp",
    "key_of",
    "link",
    "places_of",
    "read_sentinel",
    "relit_path",
    "same_file",
    "stored_keys",
    "touch",
]

KEY_LENGTH = 16  # hex digits of the hash; with a million frames the odds of a clash are one in ten million
SENTINEL = "relightgan.json"  # the file that proves that we made a folder
SENTINEL_FORMAT = 1
BAKES = "bakes"  # the folder of source frames
TOUCH_EVERY_S = 600.0  # the minimum time between two updates of `last_used`

HEX_KEY = f"[0-9a-f]{{{KEY_LENGTH}}}"
STORED_NAME = re.compile(rf"{HEX_KEY}\.exr")
TAKE_PATTERN = re.compile(rf".+/{HEX_KEY}/takes/{HEX_KEY}/%V/relit\.%04d\.exr")
RELIT_NAME = re.compile(r"relit\.(-?\d+)\.exr")


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
    """The frames in a take; none where the pattern isn't one of ours."""
    place = Path(pattern.replace("%V", view))
    if place.name != "relit.%04d.exr":
        return set()
    return {int(match[1]) for name in names_in(place.parent) if (match := RELIT_NAME.fullmatch(name))}


def stored_keys(places: Places) -> set[str]:
    """The keys of the frames in the store."""
    return {name[:KEY_LENGTH] for name in names_in(places.store) if STORED_NAME.fullmatch(name)}


def same_file(linked: Path, stored: Path) -> bool:
    """True where a file of a take is this frame of the store: a hard link, or a copy of the same size and time."""
    try:
        a, b = linked.stat(), stored.stat()
    except OSError:
        return False
    return os.path.samestat(a, b) or (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def touch(places: Places, about: Mapping[str, Any] | None = None, take: str = "") -> None:
    """Makes the folder of a base with its sentinel, or updates its time of last use.

    Args:
        places: the base.
        about: look and settings, for people; written when the folder is made.
        take: a take that is used; the time of its folder is set to now.

    Raises:
        RelightError: the folder can't be written.
    """
    now = time.time()
    if take:
        with contextlib.suppress(OSError):  # missing yet, or another user's
            os.utime(places.take(take))
    known = read_sentinel(places.folder)
    if known is not None and now - known["last_used"] < TOUCH_EVERY_S:
        return
    words = known or {"relightgan": SENTINEL_FORMAT, "base": places.base, "created": now, **dict(about or {})}
    _write_sentinel(places.sentinel, {**words, "last_used": now})


def link(places: Places, take: str, view: str, frame: int, key: str) -> bool:
    """Links a frame of the store into a take; copies it where the file system has no hard links.

    Returns:
        False where it was linked already.

    Raises:
        RelightError: the store doesn't have the frame, or the take can't be written.
    """
    stored, target = places.frame(key), relit_path(places.pattern(take), view, frame)
    if same_file(target, stored):
        return False
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(stored, temporary)
        except FileNotFoundError:
            raise
        except OSError:  # no hard links here, or too many of them
            shutil.copy2(stored, temporary)
        temporary.replace(target)
    except OSError as error:
        raise RelightError(
            f"The relit frame {target} can't be put in place: {error.strerror}.",
            "Check the cache folder and its space.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def bake_folder(root: Path) -> Path:
    """Makes a folder with sentinel for the source frames of a bake.

    Raises:
        RelightError: the folder can't be made.
    """
    folder = root / BAKES / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    now = time.time()
    _write_sentinel(folder / SENTINEL, {"relightgan": SENTINEL_FORMAT, "bake": folder.name, "last_used": now})
    return folder


def read_sentinel(folder: Path) -> dict[str, Any] | None:
    """The content of our sentinel in a folder; None where there is none."""
    try:
        words = json.loads((folder / SENTINEL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(words, dict) or words.get("relightgan") != SENTINEL_FORMAT:
        return None
    if not isinstance(words.get("last_used"), (int, float)):
        return None
    return words


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted; none where it is missing."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - only names are needed, and it is the hot path
    except OSError:
        return []


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder that aren't links."""
    return [place for name in names_in(folder) if (place := folder / name).is_dir() and not is_link(place)]


def is_link(path: Path) -> bool:
    """True for a symbolic link or a junction."""
    # Python 3.9 doesn't report a Windows junction as a symlink, but its real path differs.
    return path.is_symlink() or os.path.realpath(path) != str(Path(os.path.realpath(path.parent), path.name))


# Private implementation


def _write_sentinel(path: Path, words: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(words, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise RelightError(
            f"The cache folder {path.parent} can't be written: {error.strerror}.",
            "Set another cache folder on the node, or RELIGHTGAN_CACHE.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
