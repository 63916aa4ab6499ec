"""The cache on disk: keys, places, links, and the sweep. It knows nothing of Nuke.

    <cache>/<base>/relightgan.json                       we made this folder; look, settings, when last used
    <cache>/<base>/frames/<frame key>.exr                the store: each file written once, by the worker, never changed
    <cache>/<base>/takes/<take>/<view>/relit.%04d.exr    what Nuke reads: links into the store
    <cache>/bakes/<host>-<pid>-<random>/<view>/source.%04d.exr    source frames while a bake runs

A key stands for everything a frame depends on, so two nodes, scripts or machines that share a key share the frame, and
with another state they never meet. Whatever is deleted here lies in a folder with our sentinel and has a name that we
give.

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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relightgan.core.errors import RelightError

__all__ = [
    "Places",
    "Swept",
    "bake_folder",
    "clear",
    "drop_bake_folder",
    "existing_frames",
    "file_stamp",
    "key_of",
    "link",
    "same_file",
    "stored_keys",
    "sweep",
    "sweep_bakes",
    "touch",
]

KEY_LENGTH = 16  # of sixty-four: with a million frames the odds of a clash are one in ten million
SENTINEL = "relightgan.json"
SENTINEL_FORMAT = 1
BAKES = "bakes"
YOUNG_S = 24 * 3600.0  # nothing that was used within this time is swept
TOUCH_EVERY_S = 600.0  # `last_used` is written no more often than this
GIB = 1 << 30

_HEX = f"[0-9a-f]{{{KEY_LENGTH}}}"
_KEY = re.compile(_HEX)
_STORED = re.compile(rf"{_HEX}\.exr")
_RELIT = re.compile(r"relit\.(-?\d+)\.exr")
_SOURCE = re.compile(r"source\.-?\d+\.exr.*")  # and what a Write that was killed leaves, such as .exr.tmp
_PARTIAL = re.compile(r"\..+\.part")  # what a crash leaves of core/files.py, and of `link`
_BAKE = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}")
_DOOMED = re.compile(rf"\.{_HEX}\.sweep-[0-9a-f]{{8}}")


def key_of(*parts: Any) -> str:
    """The key of anything that JSON can say: the same parts give the same key in every process."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:KEY_LENGTH]


def file_stamp(path: str) -> tuple[str, int, int]:
    """What tells a file from its earlier self: path, bytes, time of change in ms; -1 and -1 where it is missing."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return (path, -1, -1)
    return (path, found.st_size, found.st_mtime_ns // 1_000_000)


@dataclass(frozen=True)
class Places:
    """Where the frames of one base lie.

    Args:
        root: the cache folder, absolute.
        base: the base key.
    """

    root: Path
    base: str

    @property
    def folder(self) -> Path:
        """Everything of this base."""
        return self.root / self.base

    @property
    def sentinel(self) -> Path:
        """Says that we made the folder."""
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
        """What a Read node is given: forward slashes, %V for the view, %04d for the frame."""
        return f"{self.take(take).as_posix()}/%V/relit.%04d.exr"


def relit_path(pattern: str, view: str, frame: int) -> Path:
    """The file of a frame, from a take's pattern."""
    return Path(pattern.replace("%V", view).replace("%04d", f"{frame:04d}"))


def existing_frames(pattern: str, view: str) -> set[int]:
    """The frames a take has, whatever they were made from; nothing where the pattern isn't one of ours."""
    place = Path(pattern.replace("%V", view))
    if place.name != "relit.%04d.exr":
        return set()
    return {int(match[1]) for name in _names(place.parent) if (match := _RELIT.fullmatch(name))}


def stored_keys(places: Places) -> set[str]:
    """The keys of the frames in the store."""
    return {name[:KEY_LENGTH] for name in _names(places.store) if _STORED.fullmatch(name)}


def same_file(linked: Path, stored: Path) -> bool:
    """True where a take's file is that frame of the store: the same file, or, where links fail, its faithful copy."""
    try:
        a, b = linked.stat(), stored.stat()
    except OSError:
        return False
    return os.path.samestat(a, b) or (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def touch(places: Places, about: Mapping[str, Any] | None = None) -> None:
    """Makes the folder of a base with its sentinel, or notes that it is used.

    Args:
        places: which base.
        about: look and settings, for people who look into the folder; written when the folder is made.

    Raises:
        RelightError: the folder can't be written.
    """
    now = time.time()
    known = read_sentinel(places.folder)
    if known is not None and now - known["last_used"] < TOUCH_EVERY_S:
        return
    words = known or {"relightgan": SENTINEL_FORMAT, "base": places.base, "created": now, **dict(about or {})}
    _write_sentinel(places.sentinel, {**words, "last_used": now})


def link(places: Places, take: str, view: str, frame: int, key: str) -> bool:
    """Puts a frame of the store into a take; a copy where the file system has no links.

    Returns:
        False where it was there already.

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
    """A new folder for a bake's source frames, with its sentinel.

    Raises:
        RelightError: it can't be made.
    """
    folder = root / BAKES / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    now = time.time()
    _write_sentinel(folder / SENTINEL, {"relightgan": SENTINEL_FORMAT, "bake": folder.name, "last_used": now})
    return folder


def drop_bake_folder(folder: Path) -> None:
    """Removes a bake's folder and what a bake writes into it; anything else stays."""
    if read_sentinel(folder) is None or _is_link(folder):
        return
    for place in _folders(folder):
        _remove_files(place, _SOURCE)
        _remove_folder(place)
    _remove_files(folder, _PARTIAL)
    _remove_own(folder)


def clear(places: Places, take: str, keys: Iterable[str]) -> int:
    """Removes one take, and these frames of the store.

    Returns:
        how many frames of the store went.
    """
    if read_sentinel(places.folder) is None:
        return 0
    if _KEY.fullmatch(take):
        _remove_take(places.take(take))
    before = stored_keys(places)
    for key in set(keys) & before:
        with contextlib.suppress(OSError):
            places.frame(key).unlink()
    return len(before - stored_keys(places))


@dataclass(frozen=True)
class Swept:
    """What a sweep did.

    Args:
        bytes_before: what lay in folders that we made.
        bytes_freed: how much of that went.
        bases: the bases that went.
        bakes: left-overs of bakes that went.
    """

    bytes_before: int
    bytes_freed: int
    bases: tuple[str, ...]
    bakes: tuple[str, ...]


def sweep(root: Path, limit_bytes: int, now: float | None = None) -> Swept:
    """Brings the cache down to a size: first what dead bakes left, then whole bases, longest unused first.

    What was used within the last day stays, so a cache may be larger than its limit. Folders without our sentinel, and
    files with names that we don't give, are never touched, nor is anything behind a link.

    Args:
        root: the cache folder; nothing happens where it isn't there.
        limit_bytes: how much may stay.
        now: seconds since 1970, for tests.
    """
    now = time.time() if now is None else now
    bakes = sweep_bakes(root, now)
    for name in _names(root):
        if _DOOMED.fullmatch(name):  # a sweep was killed half-way
            _remove_base(root / name)
    ages: list[tuple[float, str, int]] = []
    for name in _names(root):
        words = read_sentinel(root / name) if _KEY.fullmatch(name) and not _is_link(root / name) else None
        if words is not None and words.get("base") == name:
            ages.append((words["last_used"], name, _size(root / name)))
    total = left = sum(size for _, _, size in ages)
    gone = []
    for last_used, name, size in sorted(ages):
        if left <= limit_bytes or now - last_used < YOUNG_S:
            break
        words = read_sentinel(root / name)
        if words is None or words["last_used"] != last_used:
            continue  # somebody began to use it meanwhile
        doomed = root / f".{name}.sweep-{uuid.uuid4().hex[:8]}"
        try:
            (root / name).rename(doomed)  # at once and as a whole, so nobody meets half of it
        except OSError:
            continue  # open on Windows, or gone already
        _remove_base(doomed)
        left -= size
        gone.append(name)
    return Swept(total, total - left, tuple(gone), tuple(bakes))


def sweep_bakes(root: Path, now: float | None = None) -> list[str]:
    """Removes the source frames that bakes of dead processes left; the names of their folders."""
    now = time.time() if now is None else now
    gone = []
    for place in _folders(root / BAKES):
        name = _BAKE.fullmatch(place.name)
        words = read_sentinel(place)
        if name is None or words is None or words.get("bake") != place.name:
            continue
        ours = name["host"] == socket.gethostname()
        # Of another machine's process nothing is known but the time; a bake writes a frame every few minutes at worst.
        dead = not _is_running(int(name["pid"])) if ours else now - _last_change(place) > YOUNG_S
        if dead:
            drop_bake_folder(place)
            gone.append(place.name)
    return gone


def read_sentinel(folder: Path) -> dict[str, Any] | None:
    """What our sentinel in a folder says; None where there is none that we wrote."""
    try:
        words = json.loads((folder / SENTINEL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(words, dict) or words.get("relightgan") != SENTINEL_FORMAT:
        return None
    if not isinstance(words.get("last_used"), (int, float)):
        return None
    return words


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


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted, and it is the hot path
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    return [place for name in _names(folder) if (place := folder / name).is_dir() and not _is_link(place)]


def _is_link(path: Path) -> bool:
    # A junction on Windows isn't a symlink to Python 3.9, but its real path is elsewhere.
    return path.is_symlink() or os.path.realpath(path) != str(Path(os.path.realpath(path.parent), path.name))


def _size(folder: Path) -> int:
    """Bytes of a base; a frame that is linked into takes counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = Path(place, name).lstat()
            except OSError:
                continue
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_size
    return total


def _last_change(folder: Path) -> float:
    times = [0.0]
    for place in (folder, *_folders(folder)):
        with contextlib.suppress(OSError):
            times.append(place.stat().st_mtime)
    return max(times)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # there, os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove_base(folder: Path) -> None:
    if _is_link(folder) or read_sentinel(folder) is None:
        return
    if not _is_link(folder / "takes"):
        for take in _folders(folder / "takes"):
            _remove_take(take)
        _remove_folder(folder / "takes")
    if not _is_link(folder / "frames"):
        _remove_files(folder / "frames", _STORED, _PARTIAL)
        _remove_folder(folder / "frames")
    _remove_own(folder)


def _remove_take(take: Path) -> None:
    if _is_link(take):
        return
    for view in _folders(take):
        _remove_files(view, _RELIT, _PARTIAL)
        _remove_folder(view)
    _remove_folder(take)


def _remove_own(folder: Path) -> None:
    """A folder that we made, where nothing but the sentinel is left; else both stay, for the next sweep."""
    if _names(folder) == [SENTINEL]:
        with contextlib.suppress(OSError):
            (folder / SENTINEL).unlink()
            folder.rmdir()


def _remove_files(folder: Path, *ours: re.Pattern[str]) -> None:
    for name in _names(folder):
        place = folder / name
        if any(pattern.fullmatch(name) for pattern in ours) and (place.is_file() or place.is_symlink()):
            with contextlib.suppress(OSError):
                place.unlink()


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty: somebody else's files are in it
        folder.rmdir()
