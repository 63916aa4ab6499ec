"""Which files of the cache are relit frames, whole and under the right name; and links to them.

Many users write into one cache, so a file isn't believed for its name. It counts where it is a regular file, and the
seal that the worker put into its header (core/frame_seal.py) has the key that is wanted and the file's size. All of its
bytes are checked before it is linked into a take, before a render uses it, and where it has changed since it was seen
last. What was found is remembered as long as inode, size and time stay as they are, so each file is read once.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from relightgan.core import frame_seal
from relightgan.core.errors import RelightError
from relightgan.core.regular import open_regular
from relightgan.nuke_plugin.cache import Places, relit_path
from relightgan.nuke_plugin.folders import Folder, opened_folder, temporary_name

__all__ = [
    "FrameFile",
    "NotWhole",
    "discard",
    "examine",
    "fault_of",
    "forget",
    "in_the_way",
    "link",
    "make_way",
    "remembered_fault",
]

NO_FRAME = frame_seal.NO_FRAME  # also frames baked before there were seals
ANOTHER = "another frame"
DAMAGED = "damaged"
# Where a link fails for these, a copy would fail too.
NO_COPY = frozenset((errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
MAX_REMEMBERED = 100_000  # files; what was found is forgotten when there are more

Mark = tuple[int, int, int, int]  # device, inode, size and time of a file


class NotWhole(RelightError):
    """The store doesn't have a frame, or not a whole one."""


@dataclass(frozen=True)
class FrameFile:
    """What a file was found to be.

    Args:
        key: the frame key in its seal; empty where it has none.
        fault: why it is no whole frame, in a few words such as `an empty file`; empty where it is one.
        thorough: whether all of its bytes were checked.
    """

    key: str
    fault: str
    thorough: bool


def examine(path: Path, thorough: bool = False) -> FrameFile | None:
    """What lies under a name; None where there is nothing.

    Args:
        path: a file of the store or of a take.
        thorough: check all of its bytes, unless that was done before.
    """
    name = str(path)
    try:
        here = os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return FrameFile("", unreadable(error), False)
    mark = mark_of(here)
    known = _FOUND.get(_place(name, here))
    # Files of the cache never change. One that did since it was seen is checked whole, however it looks.
    thorough = thorough or _MARKS.get(name, mark) != mark
    if known is None or (thorough and not known.thorough):
        try:
            known = _read(name, here, thorough)
        except OSError as error:  # may be mended without a change of the file, so it isn't remembered
            return FrameFile("", unreadable(error), False)
        if len(_FOUND) >= MAX_REMEMBERED:
            forget()
        _FOUND[_place(name, here)] = known
    _MARKS[name] = mark
    return known


def fault_of(path: Path, key: str, thorough: bool = False) -> str | None:
    """Why a file isn't the frame of a key, in a few words; empty where it is, None where there is no file."""
    found = examine(path, thorough)
    if found is None:
        return None
    return found.fault or ("" if found.key == key else ANOTHER)


def remembered_fault(path: Path, key: str) -> str:
    """As `fault_of`, of a file that was examined before; empty for others, which aren't looked at."""
    return (fault_of(path, key) or "") if str(path) in _MARKS else ""


def link(places: Places, take: str, view: str, frame: int, key: str) -> bool:
    """Links a frame of the store into a take; copies it where the file system has no hard links.

    Returns:
        False where the take has it already.

    Raises:
        NotWhole: the store doesn't have the frame, or something else lies there.
        RelightError: the take can't be written, or a link lies in place of one of its folders.
    """
    stored, target = places.frame(key), relit_path(places.pattern(take), view, frame)
    if fault_of(target, key) == "":
        return False
    fault = fault_of(stored, key, thorough=True)
    if fault != "":
        raise not_whole(stored, "no file" if fault is None else fault)
    try:
        with open_regular(stored, follow=False) as file, _view_folder(places, take, view, make=True) as folder:
            opened = os.fstat(file.fileno())
            checked = _FOUND.get(_place(str(stored), opened))
            if checked != FrameFile(key, "", thorough=True):
                raise not_whole(stored, "changed meanwhile")
            _put(folder, target.name, stored, file)
    except OSError as error:
        raise RelightError(
            f"The relit frame {target} can't be put in place: {error.strerror}.",
            "Check the cache folder and its space.",
        ) from error
    return True


def discard(places: Places, take: str, view: str, frame: int) -> bool:
    """Removes what lies in a take under the name of a frame and is none, so that Nuke doesn't show it.

    Returns:
        True where it is gone.
    """
    name = relit_path(places.pattern(take), view, frame).name
    try:
        with _view_folder(places, take, view) as folder:
            _remove_any(folder, name)
    except OSError:
        return False
    return True


def in_the_way(places: Places, keys: Iterable[str]) -> dict[str, str]:
    """What lies in the store under the names of frames that are to be baked: reasons by key."""
    found = {key: fault_of(places.frame(key), key, thorough=True) for key in keys}
    return {key: fault for key, fault in found.items() if fault}


def make_way(places: Places, keys: Iterable[str]) -> None:
    """Removes from the store what lies under the names of frames to be baked: the worker would follow a link there.

    Raises:
        RelightError: it can't be removed, or a link lies in place of the store.
    """
    try:
        with opened_folder(places.root) as root, root.inside(places.base) as base, base.inside("frames") as store:
            for key in keys:
                _remove_any(store, places.frame(key).name)
    except FileNotFoundError:  # there is no store yet
        return
    except OSError as error:
        raise RelightError(
            f"What lies in the place of relit frames in {places.store} can't be removed: {error.strerror}.",
            "Remove it, or set another cache folder.",
        ) from error


def forget() -> None:
    """Forgets what was found, so that every file is looked at anew."""
    _FOUND.clear()
    _MARKS.clear()


# Private implementation

_FOUND: dict[tuple[Mark, str], FrameFile] = {}  # by mark; also by path where the file system has no inodes
_MARKS: dict[str, Mark] = {}  # by path: the mark when it was seen last


def mark_of(found: os.stat_result) -> Mark:
    """What changes when a file does."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _place(name: str, here: os.stat_result) -> tuple[Mark, str]:
    return mark_of(here), "" if here.st_ino else name


def unreadable(error: Exception) -> str:
    """The fault of a file that the system doesn't let us read."""
    return f"unreadable: {getattr(error, 'strerror', None) or error}"


def not_whole(stored: Path, fault: str) -> NotWhole:
    """The error for a frame of the store that can't be linked."""
    return NotWhole(f"The relit frame {stored} can't be used: {fault}.", "Relight it again.")


def _read(name: str, here: os.stat_result, thorough: bool) -> FrameFile:
    if stat.S_ISLNK(here.st_mode):
        return FrameFile("", "a link", True)
    if stat.S_ISDIR(here.st_mode):
        return FrameFile("", "a folder", True)
    if not stat.S_ISREG(here.st_mode):
        return FrameFile("", "a device or pipe", True)
    if not here.st_size:
        return FrameFile("", "an empty file", True)
    with open_regular(name, follow=False) as file:
        if mark_of(os.fstat(file.fileno())) != mark_of(here):
            raise OSError(errno.EAGAIN, "it is being written")
        try:
            seal = frame_seal.read_seal(file)
        except frame_seal.Unsealed as error:
            return FrameFile("", str(error), True)
        damaged = thorough and not frame_seal.is_whole(file, seal)
        return FrameFile(seal.key, DAMAGED if damaged else "", thorough)


@contextlib.contextmanager
def _view_folder(places: Places, take: str, view: str, make: bool = False) -> Iterator[Folder]:
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(opened_folder(places.root))
        for name in (places.base, "takes", take, view):
            folder = opened.enter_context(folder.inside(name, make))
        yield folder


def _put(folder: Folder, name: str, stored: Path, checked: BinaryIO) -> None:
    """Puts the frame that was checked into a folder of a take."""
    temporary = temporary_name(name)
    try:
        try:
            folder.link(stored, temporary)
        except OSError as error:
            if error.errno in NO_COPY:
                raise
            _copy(checked, folder, temporary)
        else:
            linked = folder.lstat(temporary)
            if linked is None or mark_of(linked) != mark_of(os.fstat(checked.fileno())):
                raise not_whole(stored, "changed meanwhile")
        if stat.S_ISDIR(getattr(folder.lstat(name), "st_mode", 0)):
            folder.rmdir(name)
        folder.rename(temporary, name)
    finally:
        with contextlib.suppress(OSError):
            folder.unlink(temporary)


def _copy(checked: BinaryIO, folder: Folder, name: str) -> None:
    found = os.fstat(checked.fileno())
    checked.seek(0)
    with folder.create(name) as file:
        shutil.copyfileobj(checked, file, 1 << 20)
        file.flush()
        place = file.fileno() if os.utime in os.supports_fd else folder.path / name
        os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns))


def _remove_any(folder: Folder, name: str) -> None:
    found = folder.lstat(name)
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        folder.rmdir(name)
    else:
        folder.unlink(name)
