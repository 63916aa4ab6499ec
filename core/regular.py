"""Files of others, read without a trap: only what is a regular file after it was opened, up to a size.

A pipe, a socket or a device under a file's name would hang whoever reads it, or never end.

Standard library only; also runs inside Nuke (Python 3.9 and later).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import BufferedReader

__all__ = ["open_regular", "read_regular", "size_text"]

BLOCK = 1 << 16  # bytes read at once of what is longer than it says

# Not to wait for a pipe's other end, not to hand the file to processes we start, not to change line ends on Windows.
OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))
NO_LINKS: int = getattr(os, "O_NOFOLLOW", 0)


def open_regular(
    path: str | os.PathLike[str], limit: int | None = None, dir_fd: int | None = None, follow: bool = True
) -> BufferedReader:
    """Opens a regular file to read it; whoever calls closes it.

    Args:
        path: the file.
        limit: the maximum size in bytes; None for any.
        dir_fd: the open folder that a bare name lies in.
        follow: whether it may be a link to a file.

    Raises:
        OSError: there is no such file, it is no regular file or larger than the limit, or a link that isn't followed;
            `strerror` says so.
    """
    try:
        before = os.stat(path, dir_fd=dir_fd, follow_symlinks=follow)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    refuse_odd(before, limit, path)  # merely opening some devices does something
    number = os.open(path, OPEN_FLAGS | (0 if follow else NO_LINKS), dir_fd=dir_fd)
    try:
        after = os.fstat(number)
        refuse_odd(after, limit, path)  # again, as another file may have got the name meanwhile
        if not follow and not os.path.samestat(before, after):  # not every system opens without following
            raise OSError(errno.EAGAIN, "it was exchanged meanwhile", os.fspath(path))
        return os.fdopen(number, "rb")
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(number)
        raise


def read_regular(path: str | os.PathLike[str], limit: int, dir_fd: int | None = None, follow: bool = True) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        limit: the maximum size in bytes.
        dir_fd: as in `open_regular`.
        follow: as in `open_regular`.

    Raises:
        OSError: as `open_regular`, or it can't be read.
    """
    with open_regular(path, limit, dir_fd, follow) as file:
        content = file.read(os.fstat(file.fileno()).st_size + 1)  # not the limit: as much room is taken as is asked for
        while len(content) <= limit and (more := file.read(BLOCK)):  # it grew, or says that it is empty, as in /proc
            content += more
    if len(content) > limit:
        raise too_large(limit, path)
    return content


def size_text(size: int) -> str:
    """A size in bytes for people: `4 MB`."""
    for unit, name in ((30, "GB"), (20, "MB"), (10, "kB")):
        if size >= 1 << unit:
            return f"{size / (1 << unit):.4g} {name}"
    return f"{size} bytes"


# Private implementation


def refuse_odd(found: os.stat_result, limit: int | None, path: str | os.PathLike[str]) -> None:
    """Refuses what isn't a regular file up to a size.

    Raises:
        OSError: with the reason.
    """
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a link", os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it isn't a file", os.fspath(path))
    if limit is not None and found.st_size > limit:
        raise too_large(limit, path)


def too_large(limit: int, path: str | os.PathLike[str]) -> OSError:
    """The error for a file above a limit."""
    return OSError(errno.EFBIG, f"it is larger than {size_text(limit)}", os.fspath(path))
