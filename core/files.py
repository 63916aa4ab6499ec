"""Files that are whole or not there: written under a temporary name, brought to the disk, then renamed."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
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
