"""The temporal window of a frame: the neighbours that count, their operators, and the blend of all.

An *observation*, the contribution of a frame to its neighbours, depends on that frame alone, and a flow on two frames
alone. So a cache can reuse both from frame to frame without changing a value.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from relightgan.core.errors import PlateError, SequenceError
from relightgan.core.flow import flow_confidence, measure_flow
from relightgan.core.look import Operator
from relightgan.core.plate import Window
from relightgan.core.sequence import format_frames
from relightgan.core.temporal import Motion, Neighbour, blend_operators, resample, union, window_frames


@dataclass(frozen=True)
class FrameOperator:
    """The contribution of a frame to its neighbours.

    Args:
        operator: the own operator, never a blended one.
        picture: (h, w) float32 from `flow_picture`, which its motion is measured on.
        box: its data window, which operator and picture cover.
        size: width and height of its display window.
    """

    operator: Operator
    picture: np.ndarray
    box: Window
    size: tuple[int, int]


class WindowCache:
    """Observations and flows of the frames around the last one, so that a run over a clip computes each once.

    It saves time and never changes a value. One cache serves one clip.
    """

    def __init__(self) -> None:
        self.owner: object = None
        self.frame_operators: dict[int, FrameOperator] = {}
        self.flows: dict[tuple[int, int], np.ndarray] = {}

    def move_to(self, frame: int, radius: int, owner: object) -> None:
        """Forgets the frames outside a temporal window, and everything when the owner is another.

        Args:
            frame: the middle of that window, to be blended next.
            radius: frames to either side.
            owner: everything else that operators depend on: the look and the settings.
        """
        if owner != self.owner:
            self.frame_operators, self.flows, self.owner = {}, {}, owner
        self.frame_operators = {f: seen for f, seen in self.frame_operators.items() if abs(f - frame) <= radius}
        self.flows = {pair: flow for pair, flow in self.flows.items() if all(abs(f - frame) <= radius for f in pair)}


def blend_window(
    frame: int,
    predict: Callable[[int], FrameOperator],
    frames_available: Collection[int],
    blend: float,
    radius: int,
    cache: WindowCache,
) -> Operator:
    """The operator of a frame, blended over its temporal window.

    Args:
        frame: its number.
        predict: gives the operator of a frame; called for frames of the temporal window that the cache lacks.
        frames_available: the frames of the clip; its first and last shrink the temporal window.
        blend: weight of the neighbours, above 0, to 1.
        radius: frames to either side.
        cache: moved to this frame already.

    Raises:
        SequenceError: the clip has a gap inside the temporal window.
        PlateError: frames of the temporal window differ in size.
    """
    window = window_frames(frame, min(frames_available), max(frames_available), radius)
    if missing := sorted(set(window) - set(frames_available)):
        raise SequenceError(
            f"Temporal blend of frame {frame} needs {format_frames(missing)}, which the clip lacks.",
            "Render what is missing, or set the temporal blend to 0.",
        )
    neighbours = []
    for other in [frame, *(f for f in window if f != frame)]:
        if other not in cache.frame_operators:
            cache.frame_operators[other] = predict(other)
        centre, seen = cache.frame_operators[frame], cache.frame_operators[other]
        if seen.size != centre.size:
            raise PlateError(
                f"Frame {other} is {seen.size[0]}x{seen.size[1]} and frame {frame} is {centre.size[0]}x"
                f"{centre.size[1]}: a temporal blend needs one size.",
                "Give a sequence of one size, or set the temporal blend to 0.",
            )
        if other != frame:
            motion = motion_between(frame, other, cache)
            neighbours.append(Neighbour(seen.operator, seen.box, abs(other - frame), motion))
    centre = cache.frame_operators[frame]
    return blend_operators(centre.operator, centre.box, neighbours, blend, radius)


def motion_between(frame: int, other: int, cache: WindowCache) -> Motion:
    """The motion from one observed frame to another, on a raster that covers both data windows."""
    here, there = cache.frame_operators[frame], cache.frame_operators[other]
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
