"""The state of a node: which relit frames it wants, and which of them it has. Nothing is rendered to find out.

    base       the look, the settings, and everything upstream except the contents of files
    frame key  base, frame, view, and the source files (size, time) that the frame and its window are made from
    take       base and all frame keys of the shot: the folder that `result_path` names

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nuke

from relightgan.nuke_plugin.cache import Places
from relightgan.nuke_plugin.knobs import NodeSettings


@dataclass(frozen=True)
class NodeState:
    """What a node wants, found at one moment."""

    node: nuke.Node
    settings: NodeSettings
    look_sha256: str
    base: str
    first: int  # range of the source, which a window is clamped to
    last: int
    frames: tuple[int, ...]  # the frames of the take: the source's range and the project's
    views: tuple[str, ...]  # of the project
    take: str
    places: Places

    @property
    def cache(self) -> Path:
        """The cache folder."""
        return self.places.root

    @property
    def radius(self) -> int:
        """Frames to either side that a relit frame depends on."""
        return self.settings.radius

    @property
    def pattern(self) -> str:
        """What `result_path` is to be."""
        return self.places.pattern(self.take)

    def frame_key(self, frame: int, view: str) -> str:
        """The key of a frame, also of one outside `frames`."""
        raise NotImplementedError

    def stored(self, frame: int, view: str) -> Path:
        """Where the store has, or will have, that frame."""
        return self.places.frame(self.frame_key(frame, view))

    def window(self, frame: int) -> list[int]:
        """The source frames that a relit frame is made from, in rising order; `frame` itself is always among them."""
        raise NotImplementedError


@dataclass(frozen=True)
class Status:
    """What a node has of the frames asked for; a frame counts as what is worst among its views."""

    ready: tuple[int, ...]
    stale: tuple[int, ...]
    missing: tuple[int, ...]

    @property
    def is_ready(self) -> bool:
        """True where no frame is stale or missing."""
        return not (self.stale or self.missing)


def state_of(node: nuke.Node, fresh: bool = False) -> NodeState:
    """What a node wants now.

    Args:
        node: a RelightGAN node.
        fresh: look again; else an answer that is about two seconds old may be given.

    Raises:
        RelightError: there is no look or no source, or a setting makes no sense; names the node.
    """
    raise NotImplementedError


def status_of(
    node: nuke.Node, frames: Iterable[int] | None = None, views: Sequence[str] | None = None, fresh: bool = False
) -> Status:
    """Which frames are ready, stale or missing. Changes nothing.

    Args:
        frames: all of `frames_wanted` when None.
        views: all of the project when None.

    Raises:
        RelightError: as `state_of`.
    """
    raise NotImplementedError


def relink(node: nuke.Node) -> Status:
    """Links what the store has into the node's take, and points `result_path` there if anything is.

    Sets result_path, result_first and result_last only where they differ, and reloads RG_Read only then or when frames
    were linked. Not to be called while Nuke executes.

    Returns:
        the status of `frames_wanted` after that.

    Raises:
        RelightError: as `state_of`, or the cache can't be written.
    """
    raise NotImplementedError


def frames_wanted(node: nuke.Node) -> list[int]:
    """The frames of the knob `frames`; where it is empty, the source's range within the project's.

    Raises:
        RelightError: the knob can't be read, or there is no source.
    """
    raise NotImplementedError


def badge(node: nuke.Node) -> str:
    """The status in a line for the artist, such as `ready 1001-1010, stale 1011, missing 1012-1100`. Never raises."""
    raise NotImplementedError


def forget(node: nuke.Node | None = None) -> None:
    """Drops what is kept for about two seconds; of every node when None."""
