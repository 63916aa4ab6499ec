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
from relightgan.nuke_plugin import cache, cache_frames, graph, knobs, upstream
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

STALE, MISSING = "stale", "missing"


@dataclass(frozen=True)
class Status:
    """Ready, stale and missing frames of a node; the worst status among its views is that of the frame.

    Args:
        ready: frames that are shown and right.
        stale: frames that are shown and belong to another state.
        missing: frames that aren't there, or not whole.
        faults: frames under whose name something else lies, by what it is, such as `an empty file`.
    """

    ready: tuple[int, ...]
    stale: tuple[int, ...]
    missing: tuple[int, ...]
    faults: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def is_ready(self) -> bool:
        """True where no frame is stale or missing."""
        return not (self.stale or self.missing)

    @property
    def why(self) -> str:
        """What lies in place of frames, such as ` (1003: an empty file)`; empty where nothing does."""
        reasons = [f"{format_frames(frames)}: {fault}" for fault, frames in self.faults]
        return f" ({'; '.join(reasons)})" if reasons else ""

    def __str__(self) -> str:
        parts = [
            f"{name} {format_frames(frames)}"
            for name, frames in (("ready", self.ready), ("stale", self.stale), ("missing", self.missing))
            if frames
        ]
        return (", ".join(parts) or "no frames") + self.why


def status_of(
    node: nuke.Node,
    frames: Iterable[int] | None = None,
    views: Sequence[str] | None = None,
    fresh: bool = False,
    thorough: bool = False,
) -> Status:
    """Which frames are ready, stale or missing. Changes nothing.

    Args:
        node: a RelightGAN node.
        frames: frame numbers; None: `frames_wanted`.
        views: names of views; None: all of the project.
        fresh: as in `state_of`; also thorough.
        thorough: check all bytes of the frames, each file once; else sizes and headers of those not checked before.

    Raises:
        RelightError: as `state_of`.
    """
    state = state_of(node, fresh)
    wanted = sorted(set(frames_wanted(node) if frames is None else frames))
    shown = knobs.pattern_of(node, knobs.RESULT_PATH)
    stale: set[int] = set()
    missing: set[int] = set()
    faults: dict[str, set[int]] = {}
    for view in state.views if views is None else views:
        there = cache.existing_frames(shown, view)
        for frame in wanted:
            status, fault = _status(state, shown if frame in there else "", frame, view, thorough or fresh)
            if status:
                (stale if status == STALE else missing).add(frame)
            if fault:
                faults.setdefault(fault, set()).add(frame)
    stale -= missing
    ready = [frame for frame in wanted if frame not in stale and frame not in missing]
    found = tuple((fault, tuple(sorted(numbers))) for fault, numbers in sorted(faults.items()))
    return Status(tuple(ready), tuple(sorted(stale)), tuple(sorted(missing)), found)


def relink(node: nuke.Node) -> Status:
    """Links frames of the store into the node's take, and sets `result_path` to it if it has any.

    Sets result_path, result_first and result_last only where they differ. Reloads RG_Read only then, or when the take
    has other frames than last time, from any machine. What lies in the take under the name of a frame and is none is
    replaced by the frame, or removed where the store doesn't have it. Must not be called while Nuke executes.

    Returns:
        The new status of `frames_wanted`.

    Raises:
        RelightError: as `state_of`, or the cache can't be written.
    """
    state = state_of(node, fresh=True)
    stored = cache.stored_keys(state.places)
    shown: set[tuple[str, int]] = set()
    changed = 0
    for view in state.views:
        there = cache.existing_frames(state.pattern, view)
        for frame in state.frames:
            key = state.frame_key(frame, view)
            if frame not in there and key not in stored:
                continue
            path = cache.relit_path(state.pattern, view, frame)
            if frame in there and cache_frames.fault_of(path, key) == "":
                shown.add((view, frame))
                continue
            try:
                changed += cache_frames.link(state.places, state.take, view, frame, key)
                shown.add((view, frame))
            except cache_frames.NotWhole:
                changed += frame in there and cache_frames.discard(state.places, state.take, view, frame)
    if shown:
        with contextlib.suppress(RelightError):  # a read-only cache can still be shown
            cache.touch(state.places, take=state.take)
        if changed:
            _SHOWN.pop(node.fullName(), None)
        _show(node, state, shown)
    elif changed:
        reload_results(node)
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


def _status(state: NodeState, shown: str, frame: int, view: str, thorough: bool) -> tuple[str, str]:
    """The status of a frame in a view, empty where it is ready; what lies in its place, if anything does.

    Args:
        state: the present state.
        shown: the pattern that RG_Read shows; empty where that has no such frame.
        frame: its number.
        view: its view.
        thorough: as in `status_of`.
    """
    key = state.frame_key(frame, view)
    if not shown:
        return MISSING, cache_frames.remembered_fault(state.stored(frame, view), key)
    found = cache_frames.examine(cache.relit_path(shown, view, frame), thorough)
    if found is None:
        return MISSING, ""
    if not found.fault and found.key == key and _in_same_cache(state, shown):
        return "", ""
    if shown != state.pattern and (found.key or found.fault == cache_frames.NO_FRAME):
        return STALE, ""
    return MISSING, found.fault or cache_frames.ANOTHER


def _in_same_cache(state: NodeState, shown: str) -> bool:
    """True where a take lies in the cache of the present state: frames in another one are for another site or user."""
    places = cache.places_of(shown)
    return places is not None and places.root == state.places.root


def _shared(a: tuple[int, int], b: tuple[int, int]) -> list[int]:
    return list(range(max(a[0], b[0]), min(a[1], b[1]) + 1)) or list(range(b[0], b[1] + 1))
