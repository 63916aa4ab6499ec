"""The present state of a node: its base, frame keys and take, found without rendering.

    base       the look, the settings, and everything upstream except the contents of files
    frame key  base, frame, view, and the source files (size, time) that the frame and its window are made from
    take       base and all frame keys of the shot: the folder that `result_path` names

All of it follows from the script and the files on disk, so another machine that loads the script finds the same keys.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import nuke

from relightgan.core.errors import RelightError
from relightgan.core.protocol import PIXELS
from relightgan.nuke_plugin import upstream
from relightgan.nuke_plugin.cache import Places, key_of
from relightgan.nuke_plugin.cache_root import cache_root
from relightgan.nuke_plugin.knobs import NodeSettings, read_settings
from relightgan.nuke_plugin.looks import look_sha256
from relightgan.nuke_plugin.source_files import Stamps

__all__ = ["NodeState", "forget", "frame_keys", "state_of"]

KEPT_S = 2.0  # a state is kept for at least this long
KEPT_PER_COST = 20.0  # and for this many times as long as finding it took, such as on a slow file server


@dataclass(frozen=True)
class NodeState:
    """The state of a node at one moment."""

    node: nuke.Node
    settings: NodeSettings
    look_sha256: str
    base: str
    first: int  # first frame of the source; temporal windows are clamped to it
    last: int  # last frame of the source, likewise
    frames: tuple[int, ...]  # frames of the take: those of the source's and of the project's range
    views: tuple[str, ...]  # views of the project
    places: Places
    keys: _Keys = field(repr=False, compare=False)

    @property
    def take(self) -> str:
        """The key of all its frames."""
        return self.keys.take(self.frames, self.views)

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
        """The value of `result_path` for this take."""
        return self.places.pattern(self.take)

    def frame_key(self, frame: int, view: str) -> str:
        """The key of a frame, also of one outside `frames`."""
        return self.keys.frame_key(frame, view)

    def stored(self, frame: int, view: str) -> Path:
        """The path of a frame in the store; the file may not exist yet."""
        return self.places.frame(self.frame_key(frame, view))

    def window(self, frame: int) -> list[int]:
        """The source frames that a relit frame is made from, in rising order; `frame` itself is always among them."""
        return self.keys.window(frame)

    def missing_files(self, frame: int, view: str) -> list[str]:
        """Files that the source of a frame reads and that aren't there."""
        return self.keys.stamps.missing(frame, view)


def state_of(node: nuke.Node, fresh: bool = False) -> NodeState:
    """The present state of a node.

    Args:
        node: a RelightGAN node.
        fresh: examine script and files again; else a state that is about two seconds old may be returned.

    Raises:
        RelightError: there is no look or no source, or a setting makes no sense; names the node.
    """
    kept = _KEPT.get(node.fullName())
    if not fresh and kept is not None and time.monotonic() < kept[0]:
        return kept[1]
    return _Moment(fresh).kept_state(node)


def frame_keys(node: nuke.Node, frames: Iterable[int], view: str) -> dict[int, str]:
    """The keys of a few frames, from files as they are now; files that only other frames need aren't read.

    Raises:
        RelightError: as `state_of`.
    """
    state = _Moment(fresh=True).state(node)
    return {frame: state.frame_key(frame, view) for frame in frames}


def forget(node: nuke.Node | None = None, source: bool = True) -> None:
    """Drops states that are kept for about two seconds.

    Args:
        node: the node; None: all nodes.
        source: also what was found upstream; False after a change of the node's own settings alone, such as the drag of
            a slider.
    """
    for kept in (_KEPT, _SOURCES) if source else (_KEPT,):
        if node is None:
            kept.clear()
        else:
            kept.pop(node.fullName(), None)


# Private implementation

_KEPT: dict[str, tuple[float, NodeState]] = {}  # by full name: time of expiry, and the state
_SOURCES: dict[str, tuple[float, _Source]] = {}  # by full name: time of expiry, and what is upstream


@dataclass(frozen=True)
class _Source:
    """What was found upstream of a node; stamps of files are added when a frame needs them."""

    survey: upstream.Survey
    stamps: Stamps


class _Moment:
    """One examination of the graph and the disk, shared by several nodes."""

    def __init__(self, fresh: bool) -> None:
        self.fresh = fresh
        self.files: dict[str, tuple[str, int, int]] = {}
        self.states: dict[str, NodeState] = {}
        self.found: dict[str, _Source] = {}  # by full name: what was found upstream in this examination
        self.busy: set[str] = set()

    def state(self, node: nuke.Node) -> NodeState:
        name = node.fullName()
        if name in self.states:
            return self.states[name]
        if name in self.busy:
            raise RelightError(f"{name} depends on itself.", "Undo the expression that leads back to it.")
        self.busy.add(name)
        try:
            self.states[name] = self.examine(node)
        finally:
            self.busy.discard(name)
        return self.states[name]

    def kept_state(self, node: nuke.Node) -> NodeState:
        """As `state`, with all frame keys; kept for two seconds or longer (`KEPT_S`)."""
        started = time.monotonic()
        state = self.state(node)
        for found in self.states.values():
            _ = found.take  # it depends on every frame
        now = time.monotonic()
        until = now + max(KEPT_S, KEPT_PER_COST * (now - started))
        _KEPT.update({name: (until, found) for name, found in self.states.items()})
        _SOURCES.update({name: (until, source) for name, source in self.found.items()})
        return state

    def examine(self, node: nuke.Node) -> NodeState:
        settings = read_settings(node)
        if not settings.look:
            raise RelightError(
                f"{node.fullName()} has no look.", "Choose one: a .onnx file made by 'relightgan train'."
            )
        first, last = upstream.source_range(node)
        digest = look_sha256(settings.look)
        views = tuple(nuke.views())
        root = nuke.root()
        frames = tuple(sorted({*range(first, last + 1), *range(int(root.firstFrame()), int(root.lastFrame()) + 1)}))
        source = self.source(node, frames, views)
        base = key_of("base", PIXELS, digest, settings_key(settings), source.survey.key)
        above = tuple(self.state_if_any(other) for other in source.survey.relit)
        keys = _Keys(base, first, last, settings.radius, source.stamps, above)
        places = Places(cache_root(node, base), base)
        return NodeState(node, settings, digest, base, first, last, frames, views, places, keys)

    def source(self, node: nuke.Node, frames: tuple[int, ...], views: tuple[str, ...]) -> _Source:
        """What is upstream."""
        until, kept = _SOURCES.get(node.fullName(), (0.0, None))
        young = not self.fresh and time.monotonic() < until
        if kept is not None and young and (kept.stamps.frames, kept.stamps.views) == (frames, views):
            return kept
        found = upstream.survey(node)
        stamps = Stamps(found.files, found.outside, found.keeps_time, found.keeps_view, frames, views, self.files)
        self.found[node.fullName()] = _Source(found, stamps)
        return self.found[node.fullName()]

    def state_if_any(self, node: nuke.Node) -> NodeState | None:
        """The state of a node upstream; None where it has none, as without a look, when it gives no picture either."""
        try:
            return self.state(node)
        except RelightError:
            return None


@dataclass
class _Keys:
    """Frame keys, each computed when it is first needed."""

    base: str
    first: int
    last: int
    radius: int
    stamps: Stamps
    above: tuple[NodeState | None, ...]  # states of the RelightGAN nodes upstream
    takes: dict[tuple[tuple[int, ...], tuple[str, ...]], str] = field(default_factory=dict)
    known: dict[tuple[int, str], str] = field(default_factory=dict)
    contents: dict[tuple[int, str], str] = field(default_factory=dict)

    def frame_key(self, frame: int, view: str) -> str:
        place = (frame, view)
        if place not in self.known:
            window = [[other, self.content(other, view)] for other in self.window(frame)]
            self.known[place] = key_of("frame", self.base, frame, view, window)
        return self.known[place]

    def take(self, frames: tuple[int, ...], views: tuple[str, ...]) -> str:
        if (frames, views) not in self.takes:
            every = [[self.frame_key(frame, view) for frame in frames] for view in views]
            self.takes[frames, views] = key_of("take", self.base, every, frames, views)
        return self.takes[frames, views]

    def window(self, frame: int) -> list[int]:
        around = range(max(frame - self.radius, self.first), min(frame + self.radius, self.last) + 1)
        return sorted({frame, *around})

    def content(self, frame: int, view: str) -> str:
        """A key of the files and relit frames upstream that the source of a frame is made from."""
        place = (frame, view)
        if place not in self.contents:
            relit = [self.relit(state, frame, view) for state in self.above]
            self.contents[place] = key_of(self.stamps.of(frame, view), relit)
        return self.contents[place]

    def relit(self, state: NodeState | None, frame: int, view: str) -> list[str]:
        if state is None:
            return []
        if not self.stamps.keeps_time:
            return [state.take]
        return [state.frame_key(frame, other) for other in self.stamps.views_of(view)]


def settings_key(settings: NodeSettings) -> dict[str, object]:
    """The settings in the frame key; tests/nuke_plugin/test_frame_key.py checks that none is missing."""
    return {
        "exposure": settings.exposure,
        "temporal_blend": settings.temporal_blend,
        "temporal_window": settings.radius,
        "working_space": settings.working_space,
        "premultiplied": settings.premultiplied,
        "precision": settings.precision,
        "crop_to_format": settings.crop_to_format,
    }
