"""What a stage of a run needs beside its input: a folder, a device, a way to show progress, and a way to stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from relightgan.core.progress import Cancellation, progress

if TYPE_CHECKING:  # indexing photos needs no torch
    import torch


@dataclass(frozen=True)
class Stage:
    """The place and the means of one stage.

    Attributes:
        folder: is there, and keeps what the stage makes; a later run reads it from there where it still holds.
        device: runs the networks and the heavy arithmetic.
        style: of progress, one of `core.progress.STYLES`.
        stop: asked between steps; a stop loses at most one step.
    """

    folder: Path
    device: "torch.device"
    style: str = "none"
    stop: Cancellation = field(default_factory=Cancellation)

    @contextmanager
    def counting(self, total: int, what: str) -> Iterator[Callable[[int], None]]:
        """Shows progress over `total` units; the block calls what it gets with the number of units just done.

        Args:
            total: units to do.
            what: the unit in the plural, for people.

        Raises:
            Cancelled: from the call on that follows a stop.
        """
        with progress(total, what, self.style) as shown:

            def advance(count: int = 1) -> None:
                shown.advance(count)
                self.stop.check()

            yield advance
