"""Deletes our own files from the cache: frames of a node, left-overs of bakes, and what was long unused.

Only files with names of ours in folders with our sentinel are deleted. A folder is opened and then worked in by its
descriptor (`folders`), so nothing behind a link goes, even where somebody exchanges a folder for a link meanwhile. What
is left alone for such a reason is reported.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import stat
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relightgan.nuke_plugin.cache import (
    BAKES,
    HEX_KEY,
    RELIT_NAME,
    SENTINEL,
    STORED_NAME,
    Places,
    last_used,
    sentinel_in,
    server_time,
    write_sentinel,
)
from relightgan.nuke_plugin.folders import Folder, opened_folder

__all__ = ["Cleared", "Swept", "clear", "drop_bake_folder", "sweep", "sweep_bakes"]

YOUNG_S = 24 * 3600.0  # nothing used within this time is deleted
DEEPEST = 8  # the maximum number of folders in one another that are measured; ours are three

_KEY = re.compile(HEX_KEY)
_SOURCE = re.compile(r"source\.-?[0-9]+\.exr.*")  # also left-overs of a killed Write, such as .exr.tmp
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.part")  # left-overs of core/files.py and of the cache after a crash
_BAKE = re.compile(r"(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]{8}")
_DOOMED = re.compile(rf"\.(?P<base>{HEX_KEY})\.sweep-[0-9a-f]{{8}}")


@dataclass(frozen=True)
class Cleared:
    """The result of clearing a take.

    Args:
        frames: the number of frames removed from the store.
        left: what was left alone, with the reason; a line for each place.
    """

    frames: int
    left: tuple[str, ...]


@dataclass(frozen=True)
class Swept:
    """The result of a sweep.

    Args:
        bytes_before: size of our folders before.
        bytes_freed: bytes deleted.
        bases: the deleted bases.
        bakes: the deleted folders of bakes.
        left: what was left alone, with the reason; a line for each place.
    """

    bytes_before: int
    bytes_freed: int
    bases: tuple[str, ...]
    bakes: tuple[str, ...]
    left: tuple[str, ...] = ()


def drop_bake_folder(folder: Path) -> None:
    """Removes the folder of a bake with the files that a bake writes; other files stay."""
    with contextlib.suppress(OSError), opened_folder(folder.parent) as bakes:
        _remove_bake(bakes, folder.name, [])


def clear(places: Places, take: str, keys: Iterable[str]) -> Cleared:
    """Removes a take and frames of the store."""
    left: list[str] = []
    frames = 0
    with _told(places.root, left), opened_folder(places.root) as root:
        for base in _inside(root, places.base, left):
            if sentinel_in(base) is None:
                continue
            if _KEY.fullmatch(take):
                for takes in _inside(base, "takes", left):
                    _remove_take(takes, take, left)
            for store in _inside(base, "frames", left):
                frames = _remove_frames(store, {f"{key}.exr" for key in keys if _KEY.fullmatch(key)}, left)
    return Cleared(frames, tuple(left))


def sweep(root: Path, limit_bytes: int, now: float | None = None) -> Swept:
    """Reduces the cache to a size: deletes left-overs of dead bakes, then bases, longest unused first, then old takes.

    Old takes are those of bases still in use, such as of a plate that is rendered again every day. Whatever was used
    within the last day stays, so the cache may stay above its limit. Folders without our sentinel, files with other
    names, and everything behind links are never touched.

    Args:
        root: the cache folder; may be missing.
        limit_bytes: the size to reduce it to.
        now: seconds since 1970, for tests; None: the present time, by the clock of the file server.

    Raises:
        OSError: the cache folder can't be opened.
    """
    try:
        with opened_folder(root) as top:
            return _sweep(top, limit_bytes, server_time(top) if now is None else now)
    except FileNotFoundError:
        return Swept(0, 0, (), ())


def sweep_bakes(root: Path, now: float | None = None) -> list[str]:
    """Removes source frames of bakes whose process has died; the names of their folders."""
    with contextlib.suppress(OSError), opened_folder(root) as top:
        return _sweep_bakes(top, server_time(top) if now is None else now, [])
    return []


# Private implementation


def _sweep(root: Folder, limit_bytes: int, now: float) -> Swept:
    left: list[str] = []
    bakes = _sweep_bakes(root, now, left)
    names = root.names()
    for name in names:
        if _DOOMED.fullmatch(name):  # left-over of a sweep that was killed
            _remove_base(root, name, left)
    sizes: dict[str, int] = {}
    ages: list[tuple[float, str]] = []
    for name in filter(_KEY.fullmatch, names):
        for base in _inside(root, name, left):
            words = sentinel_in(base)
            if words is not None and words.get("base") == name:
                used = last_used(words, now)
                if math.isnan(used):  # counts as used now, and gets the right time, so that it goes in the end
                    used = now
                    with _told(base.path, left):
                        write_sentinel(base, words)
                ages.append((used, name))
                sizes[name] = _size(base)
    total = rest = sum(sizes.values())
    gone = []
    for used, name in sorted(ages):
        if rest <= limit_bytes or now - used < YOUNG_S:
            break
        kept = _remove_unused(root, name, used, now, left)
        if kept is not None:
            rest -= sizes[name] - kept
            gone.append(name)
    for _, name in sorted(ages):
        if rest > limit_bytes and name not in gone:
            for base in _inside(root, name, []):
                _sweep_takes(base, now, left)
                rest -= sizes[name] - _size(base)
    return Swept(total, total - rest, tuple(gone), tuple(bakes), tuple(dict.fromkeys(left)))


def _remove_unused(root: Folder, name: str, used: float, now: float, left: list[str]) -> int | None:
    """Removes a base, unless somebody uses it meanwhile; the bytes that couldn't be removed, None where it stays."""
    for base in _inside(root, name, []):
        if last_used(sentinel_in(base) or {}, now) != used:
            return None
    doomed = f".{name}.sweep-{uuid.uuid4().hex[:8]}"
    try:
        root.rename(name, doomed)  # renamed first, so that nobody finds half of it
    except OSError:
        return None  # in use on Windows, or deleted already
    for base in _inside(root, doomed, left):
        if last_used(sentinel_in(base) or {}, now) == used:
            break
    else:  # it was exchanged or used just before
        with contextlib.suppress(OSError):
            root.rename(doomed, name)
        return None
    _remove_base(root, doomed, left)
    return sum(map(_size, _inside(root, doomed, left)))


def _sweep_bakes(root: Folder, now: float, left: list[str]) -> list[str]:
    gone = []
    for bakes in _inside(root, BAKES, left):
        for name in bakes.names():
            match = _BAKE.fullmatch(name)
            for folder in _inside(bakes, name, left) if match else ():
                words = sentinel_in(folder)
                if match is None or words is None or words.get("bake") != name:
                    continue
                ours = match["host"] == socket.gethostname()
                # For another machine only the time tells whether the process lives: a bake writes every few minutes.
                if not _is_running(int(match["pid"])) if ours else now - _last_change(bakes, name) > YOUNG_S:
                    _remove_bake(bakes, name, left)
                    gone.append(name)
    return gone


def _size(folder: Folder, depth: int = 0, seen: set[tuple[int, int]] | None = None) -> int:
    """Bytes of a base; frames that are linked into takes count once."""
    seen = set() if seen is None else seen
    total = 0
    for name, found in _entries(folder, []):
        if stat.S_ISDIR(found.st_mode):
            for inner in _inside(folder, name, []) if depth < DEEPEST else ():
                total += _size(inner, depth + 1, seen)
        elif (found.st_dev, found.st_ino) not in seen:
            seen.add((found.st_dev, found.st_ino))
            total += found.st_size
    return total


def _sweep_takes(base: Folder, now: float, left: list[str]) -> None:
    """Removes all takes of a base but the last that are unused for a day, and frames that are then in no take."""
    for takes in _inside(base, "takes", left):
        ages = []
        for name, found in _entries(takes, left):
            if _KEY.fullmatch(name) and stat.S_ISDIR(found.st_mode):
                ages.append((found.st_mtime, name))
                if found.st_mtime > now + YOUNG_S:  # of a clock far ahead: it would stay for ever
                    with contextlib.suppress(OSError):
                        takes.touch(name)
        for used, name in sorted(ages)[:-1]:
            if now - used >= YOUNG_S:
                _remove_take(takes, name, left)
        unseen: list[str] = []
        used_files = {
            mark
            for take in _folders(takes, unseen)
            for view in _folders(take, unseen)
            for _, found in _entries(view, unseen)
            for mark in _marks(found)
        }
        if unseen:  # what can't be looked into may use any frame
            left += unseen
            return
        for store in _inside(base, "frames", left):
            for name, found in _entries(store, left):
                # Frames that a bake has just finished aren't linked yet.
                if STORED_NAME.fullmatch(name) and now - found.st_mtime >= YOUNG_S and not used_files & _marks(found):
                    _remove_files(store, [name], left)


def _marks(found: os.stat_result) -> set[tuple[int, ...]]:
    """Two identities of a file: by inode, and by size and time for a copy in place of a link."""
    return {(0, found.st_dev, found.st_ino), (1, found.st_size, found.st_mtime_ns)}


def _last_change(bakes: Folder, name: str) -> float:
    times = [getattr(bakes.lstat(name), "st_mtime", 0.0)]
    for folder in _inside(bakes, name, []):
        times += [found.st_mtime for _, found in _entries(folder, []) if stat.S_ISDIR(found.st_mode)]
    return max(times)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


# Removing


def _remove_base(root: Folder, name: str, left: list[str]) -> None:
    for base in _inside(root, name, left):
        if sentinel_in(base) is None:
            if not base.names():  # a sweep was killed right before it removed the folder
                _remove_folder(root, name)
            continue
        for takes in _inside(base, "takes", left):
            for take in filter(_KEY.fullmatch, _names(takes, left)):
                _remove_take(takes, take, left)
        _remove_folder(base, "takes")
        for store in _inside(base, "frames", left):
            _remove_matching(store, left, STORED_NAME, _PARTIAL)
        _remove_folder(base, "frames")
        _remove_own(root, base, name, left)


def _remove_take(takes: Folder, name: str, left: list[str]) -> None:
    for take in _inside(takes, name, left):
        for view in _folders(take, left):
            _remove_matching(view, left, RELIT_NAME, _PARTIAL)
            _remove_folder(take, view.path.name)
    _remove_folder(takes, name)


def _remove_bake(bakes: Folder, name: str, left: list[str]) -> None:
    for folder in _inside(bakes, name, left):
        if sentinel_in(folder) is None:
            continue
        for view in _folders(folder, left):
            _remove_matching(view, left, _SOURCE)
            _remove_folder(folder, view.path.name)
        _remove_own(bakes, folder, name, left)


def _remove_own(above: Folder, folder: Folder, name: str, left: list[str]) -> None:
    """Removes a folder of ours if only the sentinel is left; else both stay for the next sweep."""
    _remove_matching(folder, left, _PARTIAL)
    if _names(folder, left) == [SENTINEL]:
        _remove_files(folder, [SENTINEL], left)
        _remove_folder(above, name)


def _remove_matching(folder: Folder, left: list[str], *ours: re.Pattern[str]) -> None:
    names = _names(folder, left)
    _remove_files(folder, [name for name in names if any(pattern.fullmatch(name) for pattern in ours)], left)


def _remove_frames(store: Folder, names: set[str], left: list[str]) -> int:
    """Removes frames of the store; returns the number of those that were regular files."""
    there = {name: found for name, found in _entries(store, left) if name in names and STORED_NAME.fullmatch(name)}
    _remove_files(store, there, left)
    return sum(stat.S_ISREG(found.st_mode) and store.lstat(name) is None for name, found in there.items())


def _remove_files(folder: Folder, names: Iterable[str], left: list[str]) -> None:
    for name in names:
        found = folder.lstat(name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            with _told(folder.path, left):
                folder.unlink(name)


def _remove_folder(above: Folder, name: str) -> None:
    with contextlib.suppress(OSError):  # not empty: it has other files
        above.rmdir(name)


# Looking


def _inside(folder: Folder, name: str, left: list[str]) -> Iterator[Folder]:
    """A folder in a folder, open while it is looked at; none where it is missing, or a link (which is noted)."""
    with _told(folder.path / name, left), folder.inside(name) as inner:
        yield inner


def _folders(folder: Folder, left: list[str]) -> Iterator[Folder]:
    """The folders in a folder, each open while it is looked at; links are noted."""
    for name, found in _entries(folder, left):
        if stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode):
            yield from _inside(folder, name, left)


def _entries(folder: Folder, left: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    for name in _names(folder, left):
        found = folder.lstat(name)
        if found is not None:
            yield name, found


def _names(folder: Folder, left: list[str]) -> list[str]:
    with _told(folder.path, left):
        return folder.names()
    return []


@contextlib.contextmanager
def _told(place: Path, left: list[str]) -> Iterator[None]:
    """Notes what the system refuses; that something is gone already needs no word."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        reason = str(error.strerror or error)
        left.append(reason if str(place) in reason else f"{place}: {reason}")
