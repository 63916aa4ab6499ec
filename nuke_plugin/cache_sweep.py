"""Deletes our own files from the cache: frames of a node, left-overs of bakes, and what was long unused.

Only files with names of ours in folders with our sentinel are deleted, and nothing behind a link.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relightgan.nuke_plugin.cache import (
    BAKES,
    HEX_KEY,
    RELIT_NAME,
    SENTINEL,
    STORED_NAME,
    Places,
    folders_in,
    is_link,
    names_in,
    read_sentinel,
    stored_keys,
)

__all__ = ["Swept", "clear", "drop_bake_folder", "sweep", "sweep_bakes"]

YOUNG_S = 24 * 3600.0  # nothing used within this time is deleted

_KEY = re.compile(HEX_KEY)
_SOURCE = re.compile(r"source\.-?\d+\.exr.*")  # also left-overs of a killed Write, such as .exr.tmp
_PARTIAL = re.compile(r"\..+\.part")  # left-overs of core/files.py and of `link` after a crash
_BAKE = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}")
_DOOMED = re.compile(rf"\.{HEX_KEY}\.sweep-[0-9a-f]{{8}}")


def drop_bake_folder(folder: Path) -> None:
    """Removes the folder of a bake with the files that a bake writes; other files stay."""
    if read_sentinel(folder) is None or is_link(folder):
        return
    for place in folders_in(folder):
        _remove_files(place, _SOURCE)
        _remove_folder(place)
    _remove_files(folder, _PARTIAL)
    _remove_own(folder)


def clear(places: Places, take: str, keys: Iterable[str]) -> int:
    """Removes a take and frames of the store.

    Returns:
        The number of frames removed from the store.
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
    """The result of a sweep.

    Args:
        bytes_before: size of our folders before.
        bytes_freed: bytes deleted.
        bases: the deleted bases.
        bakes: the deleted folders of bakes.
    """

    bytes_before: int
    bytes_freed: int
    bases: tuple[str, ...]
    bakes: tuple[str, ...]


def sweep(root: Path, limit_bytes: int, now: float | None = None) -> Swept:
    """Reduces the cache to a size: deletes left-overs of dead bakes, then bases, longest unused first, then old takes.

    Old takes are those of bases still in use, such as of a plate that is rendered again every day. Whatever was used
    within the last day stays, so the cache may stay above its limit. Folders without our sentinel, files with other
    names, and everything behind links are never touched.

    Args:
        root: the cache folder; may be missing.
        limit_bytes: the size to reduce it to.
        now: seconds since 1970, for tests; None: the present time.
    """
    now = time.time() if now is None else now
    bakes = sweep_bakes(root, now)
    for name in names_in(root):
        if _DOOMED.fullmatch(name):  # left-over of a sweep that was killed
            _remove_base(root / name)
    ages: list[tuple[float, str, int]] = []
    for name in names_in(root):
        words = read_sentinel(root / name) if _KEY.fullmatch(name) and not is_link(root / name) else None
        if words is not None and words.get("base") == name:
            ages.append((words["last_used"], name, _size(root / name)))
    total = left = sum(size for _, _, size in ages)
    gone = []
    for last_used, name, size in sorted(ages):
        if left <= limit_bytes or now - last_used < YOUNG_S:
            break
        words = read_sentinel(root / name)
        if words is None or words["last_used"] != last_used:
            continue  # used again meanwhile
        doomed = root / f".{name}.sweep-{uuid.uuid4().hex[:8]}"
        try:
            (root / name).rename(doomed)  # renamed first, so that nobody finds half of it
        except OSError:
            continue  # in use on Windows, or deleted already
        _remove_base(doomed)
        left -= size
        gone.append(name)
    for _, name, size in sorted(ages):
        if left > limit_bytes and name not in gone:
            _sweep_takes(Places(root, name), now)
            left -= size - _size(root / name)
    return Swept(total, total - left, tuple(gone), tuple(bakes))


def sweep_bakes(root: Path, now: float | None = None) -> list[str]:
    """Removes source frames of bakes whose process has died; the names of their folders."""
    now = time.time() if now is None else now
    gone = []
    for place in folders_in(root / BAKES):
        name = _BAKE.fullmatch(place.name)
        words = read_sentinel(place)
        if name is None or words is None or words.get("bake") != place.name:
            continue
        ours = name["host"] == socket.gethostname()
        # For another machine only the time tells whether the process lives: a bake writes at least every few minutes.
        dead = not _is_running(int(name["pid"])) if ours else now - _last_change(place) > YOUNG_S
        if dead:
            drop_bake_folder(place)
            gone.append(place.name)
    return gone


# Private implementation


def _size(folder: Path) -> int:
    """Bytes of a base; frames that are linked into takes count once."""
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


def _sweep_takes(places: Places, now: float) -> None:
    """Removes all takes of a base but the last that are unused for a day, and frames that are then in no take."""
    takes = [(take.stat().st_mtime, take) for take in folders_in(places.folder / "takes") if _KEY.fullmatch(take.name)]
    for last_used, take in sorted(takes)[:-1]:
        if now - last_used >= YOUNG_S:
            _remove_take(take)
    used: set[tuple[int, ...]] = set()
    for folder, _, names in os.walk(places.folder / "takes"):
        for name in names:
            with contextlib.suppress(OSError):
                used |= _marks(Path(folder, name).lstat())
    for name in names_in(places.store):
        with contextlib.suppress(OSError):
            found = (places.store / name).lstat()
            # Frames that a bake has just finished aren't linked yet.
            if STORED_NAME.fullmatch(name) and now - found.st_mtime >= YOUNG_S and not used & _marks(found):
                (places.store / name).unlink()


def _marks(found: os.stat_result) -> set[tuple[int, ...]]:
    """Two identities of a file: by inode, and by size and time for a copy in place of a link."""
    return {(0, found.st_dev, found.st_ino), (1, found.st_size, found.st_mtime_ns)}


def _last_change(folder: Path) -> float:
    times = [0.0]
    for place in (folder, *folders_in(folder)):
        with contextlib.suppress(OSError):
            times.append(place.stat().st_mtime)
    return max(times)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove_base(folder: Path) -> None:
    if is_link(folder) or read_sentinel(folder) is None:
        return
    if not is_link(folder / "takes"):
        for take in folders_in(folder / "takes"):
            _remove_take(take)
        _remove_folder(folder / "takes")
    if not is_link(folder / "frames"):
        _remove_files(folder / "frames", STORED_NAME, _PARTIAL)
        _remove_folder(folder / "frames")
    _remove_own(folder)


def _remove_take(take: Path) -> None:
    if is_link(take):
        return
    for view in folders_in(take):
        _remove_files(view, RELIT_NAME, _PARTIAL)
        _remove_folder(view)
    _remove_folder(take)


def _remove_own(folder: Path) -> None:
    """Removes a folder of ours if only the sentinel is left; else both stay for the next sweep."""
    if names_in(folder) == [SENTINEL]:
        with contextlib.suppress(OSError):
            (folder / SENTINEL).unlink()
            folder.rmdir()


def _remove_files(folder: Path, *ours: re.Pattern[str]) -> None:
    for name in names_in(folder):
        place = folder / name
        if any(pattern.fullmatch(name) for pattern in ours) and (place.is_file() or place.is_symlink()):
            with contextlib.suppress(OSError):
                place.unlink()


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty: it has other files
        folder.rmdir()
