"""Files that are whole or not there: written under a temporary name, brought to the disk, then renamed.

And files that are really files: what lies under the name of an input may be a pipe or a device, which has no end.
"""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

from relightgan.core.errors import RelightError


@contextlib.contextmanager
def replacing(path: Path, explain: Callable[[OSError], RelightError]) -> Iterator[Path]:
    """Gives a temporary name beside a file, and renames it to the file where the block ends well.

    Args:
        path: the file; its folder is made. What lay there before stays until the new one is whole on the disk.
        explain: makes the error for a failure: what can't be written, and what to do.

    Raises:
        RelightError: what `explain` made.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        bring_to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        raise explain(error) from error
    finally:
        with contextlib.suppress(OSError):  # what went wrong before matters more
            temporary.unlink(missing_ok=True)


def bring_to_disk(path: Path) -> None:
    """Waits until a file's bytes are on the disk: else a power cut may leave the name with nothing behind it.

    Raises:
        OSError: they can't be stored; some file systems (NFS, quotas) say so only now.
    """
    with path.open("rb+") as file:  # Windows wants it open for writing
        os.fsync(file.fileno())


def open_regular(path: str | Path) -> BufferedReader:
    """A regular file, opened for reading. Pipes, devices, sockets and folders are refused at once, never waited for.

    Raises:
        OSError: it can't be opened or is no regular file; `strerror` says so.
    """
    # Not to wait for the other end of a pipe; on a regular file this changes nothing. Windows has no such flags.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(path, flags)
    except ValueError as error:  # a zero byte, or a letter that no name of a file can have
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # what Linux says of a socket
            raise OSError(errno.EINVAL, "it is no regular file", str(path)) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_regular(path: str | Path, limit_bytes: int) -> bytes:
    """The bytes of a regular file that is not larger than a limit.

    Args:
        path: the file.
        limit_bytes: the most bytes it may have.

    Raises:
        OSError: it can't be read, is no regular file (see `open_regular`) or is larger; `strerror` says which.
    """
    with open_regular(path) as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {limit_bytes:,} bytes", str(path))
    return content
