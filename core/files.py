"""Files that are whole or not there: written under a temporary name, brought to the disk, then renamed.

Whoever opens an output makes its folder, once (`open_folder`), and nobody makes it again. A folder that isn't there any
more was deleted, renamed or unmounted; a new one in its place would hide that, or fill the disk below a mount point.

A file is written into memory first where a library doesn't notice a disk that fills up (Pillow, NumPy, libpng).
"""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from relightgan.core.errors import RelightError

Explain = Callable[[OSError], RelightError]
"""Makes the error for a failure: what can't be written, and what to do. `strerror` says why, in words."""

# `.relit.1001.exr.5e1f0a27-4711.0a1b2c3d.part`: the file's name, host and number of the process, random digits. Earlier
# versions left host and number out.
PART = re.compile(r"\..+?(\.(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]{1,9}))?\.[0-9a-f]{8}\.part", re.DOTALL)
OLD_S = 24 * 3600.0  # nobody who lives leaves a file unfinished and untouched for so long
NAME_BYTES = 255  # of a file's name, where the file system doesn't say
FULL_BYTES = 1 << 16  # free space of a disk that took all it could


@contextlib.contextmanager
def replacing(path: Path, explain: Explain) -> Iterator[Path]:
    """Gives a temporary name beside a file, and renames it to the file where the block ends well.

    Args:
        path: the file, in a folder that is there. What lay there before stays until the new one is whole on the disk.
        explain: makes the error for a failure.

    Raises:
        RelightError: what `explain` made.
    """
    temporary = None
    try:
        temporary = temporary_for(path)
        yield temporary
        put_in_place(temporary, path)
    except OSError as error:
        raise explain(in_plain_words(error, path.parent)) from error
    finally:
        if temporary is not None:
            drop(temporary)


def write_whole(path: Path, content: bytes | memoryview | str, explain: Explain) -> None:
    """Writes a file from memory, whole or not at all; texts as UTF-8.

    Raises:
        RelightError: what `explain` made.
    """
    with replacing(path, explain) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def open_folder(folder: Path, explain: Explain, within: Path | None = None) -> Path:
    """Makes a folder that is going to be written into, and removes what killed runs left there unfinished.

    Args:
        folder: it may be there.
        explain: makes the error for a failure.
        within: a folder above it that must be there; None makes all folders above, too.

    Raises:
        RelightError: what `explain` made.
    """
    try:
        if within is None:
            folder.mkdir(parents=True, exist_ok=True)
        else:  # one after the other, so that `within` isn't made where it goes at this very moment
            for above in reversed([path for path in (folder, *folder.parents) if within in path.parents]):
                above.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise explain(OSError(errno.ENOTDIR, f"{folder} is no folder")) from error
    except OSError as error:
        raise explain(in_plain_words(error, within)) from error
    sweep_parts(folder)
    return folder


def sweep_parts(folder: Path) -> list[Path]:
    """Removes the temporary files that killed processes left in a folder; their paths.

    A file goes only where its name is one of ours, it is a regular file (no link), and nobody can be writing it:

    - its name says that it was made under this boot of this machine (and in this container), by a process that is gone;
    - or the process can't be asked about, being another machine's, and the file hasn't been touched for a day. Clocks
      and time zones of machines that share a folder differ by less, and the slowest frame and movie are written to more
      often.

    There is no lock to ask: `flock` isn't to be relied on over NFS, and keeps others from writing over SMB. Were a file
    taken from somebody who has been asleep for a day, they would fail to rename it and say so.

    Args:
        folder: may be missing; folders in it aren't looked into.
    """
    gone: list[Path] = []
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = PART.fullmatch(entry.name)
            with contextlib.suppress(OSError):
                if name and may_go(name, entry.stat(follow_symlinks=False), now):
                    os.unlink(entry.path)  # noqa: PTH108 - names that are no UTF-8 stay as they are
                    gone.append(Path(entry.path))
    return gone


def temporary_for(path: Path) -> Path:
    """A name beside a file to write it under: hidden, of this process, and short enough for the file system.

    Raises:
        OSError: the folder isn't there, or the file's own name is too long.
    """
    os.stat(f"{path.parent}{os.sep}")  # noqa: PTH116 - found wanting before the work, also where it is a file
    tail = f".{host_mark()}-{os.getpid()}.{uuid.uuid4().hex[:8]}.part"
    most, name = longest_name(path.parent), os.fsencode(path.name)
    if len(name) > most:
        raise OSError(errno.ENAMETOOLONG, f"its name has {len(name)} bytes, and {most} are the most there")
    return path.with_name(f".{name[: most - len(tail) - 1].decode('utf-8', 'ignore')}{tail}")


def put_in_place(temporary: Path, path: Path) -> None:
    """Brings a finished file to the disk and gives it its name.

    Raises:
        OSError: it can't be stored, or its folder is gone.
    """
    bring_to_disk(temporary)
    temporary.replace(path)


def drop(temporary: Path) -> None:
    """Removes a temporary file that may be there; never fails, as what went wrong before matters more."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def bring_to_disk(path: Path) -> None:
    """Waits until a file's bytes are on the disk: else a power cut may leave the name with nothing behind it.

    Raises:
        OSError: they can't be stored; some file systems (NFS, quotas) say so only now.
    """
    with path.open("rb+") as file:  # Windows wants it open for writing
        os.fsync(file.fileno())


def in_plain_words(error: OSError, folder: Path | None) -> OSError:
    """A failure to write with a `strerror` that says what to mend: the folder is gone, the disk is full.

    Args:
        error: from the system, or from a library that gives a text alone.
        folder: that was written into, and was there before; None where none was.
    """
    words = str(error.strerror or error)
    number = error.errno or errno.EIO
    if number in (errno.ENOSPC, errno.EDQUOT) or (number == errno.EIO and folder is not None and is_full(folder)):
        return OSError(number, f"the disk is full ({words})")
    if number in (errno.ENOENT, errno.ESTALE, errno.EIO) and folder is not None and is_gone(folder):
        return OSError(errno.ENOENT, f"the folder {folder} is gone")
    return OSError(number, words)


# Private implementation


def may_go(name: re.Match[str], found: os.stat_result, now: float) -> bool:
    """Whether a temporary file can be removed, see `sweep_parts`."""
    if not stat.S_ISREG(found.st_mode):
        return False
    if name["host"] == host_mark() and os.name != "nt":  # Windows can't be asked about a process without ending it
        return not is_running(int(name["pid"]))
    return now - found.st_mtime > OLD_S


@functools.cache
def host_mark() -> str:
    """Eight digits for where process numbers have one meaning: this boot of this machine, and this container in it."""
    try:
        place = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:  # not Linux
        place = f"{socket.gethostname()} {uuid.getnode()}"
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def is_running(pid: int) -> bool:
    """False where there is no such process, or only its remains that nobody has collected."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, IndexError):  # another user's, or not Linux
        return True


def longest_name(folder: Path) -> int:
    """The most bytes of a file's name in a folder; encrypting file systems have 143."""
    try:
        most = os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):  # the folder is gone, or Windows
        return NAME_BYTES
    return most if most > 0 else NAME_BYTES


def is_gone(folder: Path) -> bool:
    """True where there is no such folder, False also where nobody can say."""
    try:
        folder.stat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ESTALE)
    return False


def is_full(folder: Path) -> bool:
    """True where the disk of a folder has no room left."""
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False
