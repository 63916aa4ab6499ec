"""Folders and files that many users share, opened so that no link leads elsewhere.

A folder is opened once and then worked in by its descriptor (openat and its kin), so it stays that folder whatever its
name leads to later. Windows has no such calls: there every step looks again whether the folder is still the one that
was opened, and no link.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from relightgan.core.regular import read_regular

__all__ = ["Folder", "is_link", "opened_folder", "temporary_name"]

# Whether the system works in folders by descriptor: Linux and macOS do.
BY_DESCRIPTOR = (
    hasattr(os, "O_NOFOLLOW")
    and {os.open, os.stat, os.mkdir, os.unlink, os.rmdir, os.rename, os.link} <= os.supports_dir_fd
    and os.listdir in os.supports_fd
)
LINK_ITSELF = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}


class Folder:
    """An open folder.

    Args:
        path: its path when it was opened, for messages; on Windows also the way to it.
        descriptor: its descriptor; None on Windows.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self.descriptor = descriptor
        self.opened = path.lstat() if descriptor is None else None

    def names(self) -> list[str]:
        """The names in it, sorted.

        Raises:
            OSError: it can't be read.
        """
        self._check()
        return sorted(os.listdir(self.path if self.descriptor is None else self.descriptor))  # noqa: PTH208

    def lstat(self, name: str) -> os.stat_result | None:
        """What lies under a name, links not followed; None where nothing can be seen."""
        try:
            return os.stat(self._at(name), dir_fd=self.descriptor, follow_symlinks=False)
        except OSError:
            return None

    @contextlib.contextmanager
    def inside(self, name: str, make: bool = False) -> Iterator[Folder]:
        """Opens a folder in it.

        Args:
            name: its name.
            make: whether to make it where it is missing.

        Raises:
            OSError: it is missing, a link, no folder, or can't be opened.
        """
        self._check()
        place = self.path / name
        if make and self.lstat(name) is None:
            with contextlib.suppress(FileExistsError):  # somebody was faster
                os.mkdir(self._at(name), dir_fd=self.descriptor)
        found = os.stat(self._at(name), dir_fd=self.descriptor, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode) or (self.descriptor is None and is_link(place)):
            raise OSError(errno.ELOOP, f"{place} is a link, not a folder")
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{place} is no folder")
        if self.descriptor is None:
            yield Folder(place, None)
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        descriptor = os.open(name, flags, dir_fd=self.descriptor)
        try:
            yield Folder(place, descriptor)
        finally:
            os.close(descriptor)

    def read(self, name: str, limit: int) -> bytes:
        """As `core.regular.read_regular`, of a file in it; a link isn't followed."""
        self._check()
        return read_regular(self._at(name), limit, self.descriptor, follow=False)

    def create(self, name: str) -> BinaryIO:
        """A new file in it, open for writing.

        Raises:
            OSError: there is one of that name, or it can't be made.
        """
        self._check()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return os.fdopen(os.open(self._at(name), flags, 0o666, dir_fd=self.descriptor), "wb")

    def link(self, target: Path, name: str) -> None:
        """Makes a hard link to a file, or to a link itself where that lies there.

        Raises:
            OSError: it can't be made.
        """
        self._check()
        os.link(target, self._at(name), dst_dir_fd=self.descriptor, **LINK_ITSELF)

    def rename(self, name: str, other: str) -> None:
        """Renames; what lies under the other name goes, as with `os.replace`.

        Raises:
            OSError: it can't be done.
        """
        self._check()
        os.replace(self._at(name), self._at(other), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def touch(self, name: str) -> None:
        """Sets the time of a folder in it to now.

        Raises:
            OSError: it is no folder, or another user's.
        """
        with self.inside(name) as folder:
            os.utime(folder.path if folder.descriptor is None else folder.descriptor)

    def unlink(self, name: str) -> None:
        """Removes a file, or a link itself.

        Raises:
            OSError: it can't be removed, or is a folder.
        """
        self._check()
        os.unlink(self._at(name), dir_fd=self.descriptor)

    def rmdir(self, name: str) -> None:
        """Removes an empty folder.

        Raises:
            OSError: it isn't empty, is no folder, or can't be removed.
        """
        self._check()
        os.rmdir(self._at(name), dir_fd=self.descriptor)

    def _at(self, name: str) -> str:
        if name in ("", ".", "..") or "/" in name or (os.altsep and os.sep in name):
            raise OSError(errno.EINVAL, "no name of a file")
        return str(self.path / name) if self.descriptor is None else name

    def _check(self) -> None:
        if self.opened is None:
            return
        now = self.path.lstat()
        if is_link(self.path) or not os.path.samestat(now, self.opened):
            raise OSError(errno.ELOOP, "it was exchanged meanwhile")


@contextlib.contextmanager
def opened_folder(path: Path, make: bool = False) -> Iterator[Folder]:
    """Opens a folder that the user chose, which may be a link.

    Args:
        path: the folder.
        make: whether to make it, with those above it, where it is missing.

    Raises:
        OSError: it can't be opened or made.
    """
    if make:
        path.mkdir(parents=True, exist_ok=True)
    if not BY_DESCRIPTOR:
        real = Path(os.path.realpath(path))
        if not real.is_dir():
            raise NotADirectoryError(errno.ENOTDIR if real.exists() else errno.ENOENT, "there is no such folder")
        yield Folder(real, None)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def is_link(path: Path) -> bool:
    """True for a symbolic link or a junction."""
    # Python 3.9 doesn't report a Windows junction as a symlink, but its real path differs.
    return path.is_symlink() or os.path.realpath(path) != str(Path(os.path.realpath(path.parent), path.name))


def temporary_name(name: str) -> str:
    """A name beside a file for the time until it is whole, as in core/files.py."""
    return f".{name}.{uuid.uuid4().hex[:8]}.part"
