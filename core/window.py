"""The temporal window of a frame: which neighbours count, what is known of each, and the blend of all.

What a frame gives its neighbours (an *observation*) depends on that frame alone, and a flow on two frames alone. So a
cache can hand both on from frame to frame without changing a value.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from relightgan.core.errors import PlateError, SequenceError
from relightgan.core.flow import flow_confidence, measure_flow
from relightgan.core.look import Operator
from relightgan.core.sequence import format_frames
from relightgan.core.temporal import Box, Motion, Neighbour, blend_operators, resample, union, window_frames


@dataclass(frozen=True)
class Observation:
    """What a frame gives its neighbours.

    Args:
        operator: its own correction.
        picture: (h, w) float32 from `flow_picture`: what its motion is measured on.
        box: its data window, which both cover.
        size: width and height of its display window.
    """

    operator: Operator
    picture: np.ndarray
    box: Box
    size: tuple[int, int]


class WindowCache:
    """Observations and flows of the frames around the last one, so that a run over a clip computes each once.

    It saves time and never changes a value. One cache serves one clip.
    """

    def __init__(self) -> None:
        self.owner: object = None
        self.observations: dict[int, Observation] = {}
        self.flows: dict[tuple[int, int], np.ndarray] = {}

    def move_to(self, frame: int, radius: int, owner: object) -> None:
        """Forgets what a frame's window doesn't need, and everything when the owner is another.

        Args:
            frame: the frame to be blended next.
            radius: frames to either side.
            owner: whatever else observations depend on: the look and the settings.
        """
        if owner != self.owner:
            self.observations, self.flows, self.owner = {}, {}, owner
        self.observations = {f: seen for f, seen in self.observations.items() if abs(f - frame) <= radius}
        self.flows = {pair: flow for pair, flow in self.flows.items() if all(abs(f - frame) <= radius for f in pair)}


def blend_window(
    frame: int,
    observe: Callable[[int], Observation],
    frames_available: Collection[int],
    blend: float,
    radius: int,
    cache: WindowCache,
) -> Operator:
    """The correction of a frame, blended over its window.

    Args:
        frame: its number.
        observe: gives the observation of a frame; called for frames of the window that the cache doesn't hold.
        frames_available: the frames the clip has; its first and last shrink the window.
        blend: weight of the neighbours, above 0, to 1.
        radius: frames to either side.
        cache: moved to this frame already.

    Raises:
        SequenceError: the clip has a gap inside the window.
        PlateError: the window's frames differ in size.
    """
    window = window_frames(frame, min(frames_available), max(frames_available), radius)
    if missing := sorted(set(window) - set(frames_available)):
        raise SequenceError(
            f"Temporal blend of frame {frame} needs {format_frames(missing)}, which the clip lacks.",
            "Render what is missing, or set the temporal blend to 0.",
        )
    neighbours = []
    for other in [frame, *(f for f in window if f != frame)]:
        if other not in cache.observations:
            cache.observations[other] = observe(other)
        centre, seen = cache.observations[frame], cache.observations[other]
        if seen.size != centre.size:
            raise PlateError(
                f"Frame {other} is {seen.size[0]}x{seen.size[1]} and frame {frame} is {centre.size[0]}x"
                f"{centre.size[1]}: a temporal blend needs one size.",
                "Give a sequence of one size, or set the temporal blend to 0.",
            )
        if other != frame:
            motion = motion_between(frame, other, cache)
            neighbours.append(Neighbour(seen.operator, seen.box, abs(other - frame), motion))
    centre = cache.observations[frame]
    return blend_operators(centre.operator, centre.box, neighbours, blend, radius)


def motion_between(frame: int, other: int, cache: WindowCache) -> Motion:
    """The motion from one observed frame to another, on a raster that covers both data windows."""
    here, there = cache.observations[frame], cache.observations[other]
    box, pictures = here.box, (here.picture, there.picture)
    if here.box != there.box:
        box = union(here.box, there.box)
        # The finer of the two densities: the same, whichever of both frames asks.
        density = max(seen.picture.shape[1] / (seen.box[2] - seen.box[0]) for seen in (here, there))
        size = tuple(max(1, round((box[i + 2] - box[i]) * density)) for i in (1, 0))
        pictures = (resample(here.picture, here.box, box, size), resample(there.picture, there.box, box, size))
    for pair, start, end in (((frame, other), *pictures), ((other, frame), *pictures[::-1])):
        if pair not in cache.flows:
            cache.flows[pair] = measure_flow(start, end)
    forward, backward = cache.flows[frame, other], cache.flows[other, frame]
    return Motion(forward, flow_confidence(*pictures, forward, backward), box)
