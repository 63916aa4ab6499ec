"""Which frames of a node are ready, stale or missing in its present state (`node_state`), and linking of ready ones.

Nothing is rendered for it.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import nuke

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin import cache, graph, knobs, upstream
from relightgan.nuke_plugin.cache_root import cache_root
from relightgan.nuke_plugin.node_state import NodeState, forget, frame_keys, state_of
from relightgan.nuke_plugin.ranges import format_frames, parse_frames
from relightgan.nuke_plugin.restore import without_undo

__all__ = [
    "NodeState",
    "Status",
    "badge",
    "cache_root",
    "forget",
    "frame_keys",
    "frames_wanted",
    "relink",
    "state_of",
    "status_of",
]


@dataclass(frozen=True)
class Status:
    """Ready, stale and missing frames of a node; the worst status among its views is that of the frame."""

    ready: tuple[int, ...]
    stale: tuple[int, ...]
    missing: tuple[int, ...]

    @property
    def is_ready(self) -> bool:
        """True where no frame is stale or missing."""
        return not (self.stale or self.missing)

    def __str__(self) -> str:
        parts = [
            f"{name} {format_frames(frames)}"
            for name, frames in (("ready", self.ready), ("stale", self.stale), ("missing", self.missing))
            if frames
        ]
        return ", ".join(parts) or "no frames"


def status_of(
    node: nuke.Node, frames: Iterable[int] | None = None, views: Sequence[str] | None = None, fresh: bool = False
) -> Status:
    """Which frames are ready, stale or missing. Changes nothing.

    Args:
        node: a RelightGAN node.
        frames: frame numbers; None: `frames_wanted`.
        views: names of views; None: all of the project.
        fresh: as in `state_of`.

    Raises:
        RelightError: as `state_of`.
    """
    state = state_of(node, fresh)
    wanted = sorted(set(frames_wanted(node) if frames is None else frames))
    shown = knobs.pattern_of(node, knobs.RESULT_PATH)
    # The name of a take is the hash of its frame keys, so all frames in it are ready.
    right = set(state.frames) if shown == state.pattern else set()
    stale: set[int] = set()
    missing: set[int] = set()
    for view in state.views if views is None else views:
        there = cache.existing_frames(shown, view)
        missing.update(frame for frame in wanted if frame not in there)
        doubtful = [frame for frame in wanted if frame in there and frame not in right]
        stale.update(frame for frame in doubtful if not _is_same(state, shown, frame, view))
    stale -= missing
    ready = [frame for frame in wanted if frame not in stale and frame not in missing]
    return Status(tuple(ready), tuple(sorted(stale)), tuple(sorted(missing)))


def relink(node: nuke.Node) -> Status:
    """Links frames of the store into the node's take, and sets `result_path` to it if it has any.

    Sets result_path, result_first and result_last only where they differ. Reloads RG_Read only then, or when the take
    has other frames than last time, from any machine. Must not be called while Nuke executes.

    Returns:
        The new status of `frames_wanted`.

    Raises:
        RelightError: as `state_of`, or the cache can't be written.
    """
    state = state_of(node, fresh=True)
    stored = cache.stored_keys(state.places)
    shown: set[tuple[str, int]] = set()
    linked = 0
    for view in state.views:
        there = cache.existing_frames(state.pattern, view)
        for frame in state.frames:
            key = state.frame_key(frame, view)
            if frame in there or key in stored:
                if frame not in there:
                    linked += cache.link(state.places, state.take, view, frame, key)
                shown.add((view, frame))
    if shown:
        with contextlib.suppress(RelightError):  # a read-only cache can still be shown
            cache.touch(state.places, take=state.take)
        if linked:
            _SHOWN.pop(node.fullName(), None)
        _show(node, state, shown)
    return status_of(node)


def reload_results(node: nuke.Node) -> None:
    """Makes Nuke read the relit files again: it caches by path, missing files too."""
    knobs.knob_of(graph.inner(node, knobs.READ_NODE), "reload").execute()
    _SHOWN.pop(node.fullName(), None)


def frames_wanted(node: nuke.Node) -> list[int]:
    """The frames of the knob `frames`; where it is empty, the source's range within the project's.

    Raises:
        RelightError: the knob can't be read, or there is no source.
    """
    text = str(knobs.value_of(node, knobs.FRAMES) or "").strip()
    if text:
        return parse_frames(text)
    root = nuke.root()
    return _shared(upstream.source_range(node), (int(root.firstFrame()), int(root.lastFrame())))


def badge(node: nuke.Node) -> str:
    """The status in a line for the artist, such as `ready 1001-1010, stale 1011, missing 1012-1100`.

    An error is a line too, as the artist can mend it.
    """
    try:
        if not knobs.path_of(node, knobs.LOOK):
            return "no look chosen"
        return str(status_of(node))
    except RelightError as error:
        return error.problem


# Private implementation

# By full name of a node: pattern, views and frames at the last reload of RG_Read.
_SHOWN: dict[str, tuple[str, set[tuple[str, int]]]] = {}


def _show(node: nuke.Node, state: NodeState, shown: set[tuple[str, int]]) -> None:
    """Sets the result knobs to the take of these views and frames; only a change of these modifies the script."""
    results = {
        knobs.RESULT_PATH: knobs.escaped(state.pattern),
        knobs.RESULT_FIRST: state.frames[0],
        knobs.RESULT_LAST: state.frames[-1],
    }
    changed = {name: value for name, value in results.items() if knobs.value_of(node, name) != value}
    if not changed and _SHOWN.get(node.fullName()) == (state.pattern, shown):
        return
    root = nuke.root()
    modified = root.modified()
    with without_undo():
        for name, value in changed.items():
            knobs.knob_of(node, name).setValue(value)
        reload_results(node)
    if not changed:
        root.setModified(modified)
    _SHOWN[node.fullName()] = (state.pattern, shown)


def _is_same(state: NodeState, shown: str, frame: int, view: str) -> bool:
    """True where a frame of another take is the same file as the frame that is wanted now."""
    return cache.same_file(cache.relit_path(shown, view, frame), state.stored(frame, view))


def _shared(a: tuple[int, int], b: tuple[int, int]) -> list[int]:
    return list(range(max(a[0], b[0]), min(a[1], b[1]) + 1)) or list(range(b[0], b[1] + 1))
