"""Folders that are opened once and then written through, wherever their names lead meanwhile.

A path that was checked may lead elsewhere a moment later: a folder in it can be exchanged for a link. An open folder
can't. It is opened step by step from a folder that may be written to, and no step follows a link.
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from relightgan.core.errors import PlateError, UsageError

THROUGH = Path("/proc/self/fd")  # Linux leads /proc/self/fd/N/name to `name` in the open folder N
FIX = "Check who else writes there, and relight again."


class OutputFolder:
    """An open folder; as a context it is closed afterwards.

    Without /proc/self/fd (macOS, Windows) files go by their path, and a link that takes a folder's place during a
    request would be followed.

    Args:
        allowed: folders that may be written to, links resolved.
        folder: in one of them, links resolved; made where it isn't there.

    Raises:
        UsageError: it isn't in any of them, or a link stands in its way.
        PlateError: it can't be made or opened.
    """

    def __init__(self, allowed: Sequence[Path], folder: Path) -> None:
        self.folder = folder
        self.number: int | None = None
        root = next((root for root in allowed if folder.is_relative_to(root)), None)
        if root is None:
            raise UsageError(f"{folder} is outside the folders that may be written to.", "Name its folder.")
        try:
            if THROUGH.is_dir():
                self.number = opened(root, folder.relative_to(root).parts)
            else:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise UsageError(
                    f"A link or a file is in the place of {folder}, or of a folder above it.", FIX
                ) from error
            problem = f"The folder {folder} can't be opened: {error.strerror}."
            raise PlateError(problem, "Check the path, its rights and the disk.") from error

    def path(self, name: str) -> Path:
        """The path by which a file in the folder is written; only of use in this process, while the folder is open."""
        return self.folder / name if self.number is None else THROUGH / str(self.number) / name

    def require(self) -> None:
        """Checks that the open folder still has its name, so that what was written is found.

        Raises:
            PlateError: it was removed, moved or exchanged.
        """
        if self.number is None:
            return
        try:
            here, there = os.fstat(self.number), self.folder.stat()
            same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        except OSError:
            same = False
        if not same:
            raise PlateError(f"The folder {self.folder} was removed or exchanged while frames were written to it.", FIX)

    def close(self) -> None:
        """Lets the folder go."""
        if self.number is not None:
            os.close(self.number)
            self.number = None


def opened(root: Path, parts: Sequence[str]) -> int:
    """The descriptor of a folder below `root`; what is missing is made, `root` too.

    Raises:
        OSError: a step isn't a folder, or can't be made or opened.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    root.mkdir(parents=True, exist_ok=True)
    current = os.open(root, flags)
    for part in parts:
        above = current
        try:
            current = opened_in(above, part, flags)
        finally:
            os.close(above)
    return current


def opened_in(above: int, part: str, flags: int) -> int:
    """The descriptor of a folder in an open one; made where it isn't there, also by somebody else at the same time."""
    try:
        return os.open(part, flags, dir_fd=above)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, dir_fd=above)
        return os.open(part, flags, dir_fd=above)
