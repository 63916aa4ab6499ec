"""Temporal blend: a frame's operator averaged with those of its neighbours, warped along the motion.

A finite, symmetric temporal window of frames relit on their own; nothing is remembered from frame to frame, so any
frame can be computed alone. Corrections (*operators*: smooth arrays of log2 gains) are averaged, not pixels: detail
always comes from the frame itself and nothing can ghost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import cv2
import numpy as np

from relightgan.core.look import GUIDE, Operator
from relightgan.core.plate import Window


@dataclass(frozen=True)
class Motion:
    """Flow from a frame to a neighbour, on a raster that covers both.

    Args:
        flow: (h, w, 2) float32, pixels of this raster.
        confidence: (h, w) float32 from 0 to 1.
        box: the part of the frame under the raster.
    """

    flow: np.ndarray
    confidence: np.ndarray
    box: Window


@dataclass(frozen=True)
class Neighbour:
    """A frame near the one being relit.

    Args:
        operator: its own operator, of the same names and channel counts as the centre's.
        box: the neighbour's data window, which its operator covers.
        distance: frames between it and the centre, at least 1.
        motion: flow from the centre to it.
    """

    operator: Operator
    box: Window
    distance: int
    motion: Motion


def window_frames(frame: int, first: int, last: int, radius: int) -> list[int]:
    """The frames a result depends on: those within the radius, fewer at the clip's ends.

    Args:
        frame: the frame to be relit.
        first: first frame of the clip.
        last: last frame of the clip.
        radius: frames to either side.

    Returns:
        ascending frame numbers, `frame` among them.
    """
    return [*range(max(first, frame - radius), frame), frame, *range(frame + 1, min(last, frame + radius) + 1)]


def distance_weight(distance: int, radius: int) -> float:
    """How much a frame this far away counts: 1 at the centre, 1/e for the first frame outside the temporal window."""
    return exp(-((distance / (radius + 1)) ** 2))


def blend_operators(
    centre: Operator, box: Window, neighbours: Sequence[Neighbour], blend: float, radius: int
) -> Operator:
    """The centre's operator, averaged with its neighbours' where the same points are surely seen.

    Args:
        centre: the frame's own operator.
        box: the frame's data window, which the operator covers.
        neighbours: the other frames of the temporal window.
        blend: weight of the neighbours, from 0 (none: `centre` itself comes back) to 1.
        radius: frames of the temporal window to either side.

    Returns:
        an operator like `centre`: `(centre + sum(w * warped)) / (1 + sum(w))` at each cell, with
        w = blend * distance weight * confidence. Where all agree, it is the centre's to the bit. Its `guide` stays.
    """
    if blend == 0.0 or not neighbours:
        return centre
    blended = {
        name: _blend_array(own, box, [(n, n.operator[name]) for n in neighbours], blend, radius)
        for name, own in centre.items()
        if name != GUIDE
    }
    return {**centre, **blended}


def _blend_array(
    own: np.ndarray, box: Window, others: Sequence[tuple[Neighbour, np.ndarray]], blend: float, radius: int
) -> np.ndarray:
    change = np.zeros_like(own)
    total = np.ones(own.shape[1:], np.float32)
    for neighbour, array in others:
        x, y, confidence = _sightings(own.shape[1:], box, neighbour, array.shape[1:])
        weight = confidence * np.float32(blend * distance_weight(neighbour.distance, radius))
        for channel, plane in enumerate(array):
            seen = cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            change[channel] += weight * (seen - own[channel])
        total += weight
    change /= total
    change += own
    return change


def _sightings(
    cells: tuple[int, ...], box: Window, neighbour: Neighbour, other_cells: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each cell of the centre: its place in the neighbour's cells (x, y), and the confidence that it is there."""
    motion = neighbour.motion
    per_px_x = motion.flow.shape[1] / (motion.box[2] - motion.box[0])
    per_px_y = motion.flow.shape[0] / (motion.box[3] - motion.box[1])
    confidence = resample(motion.confidence, motion.box, box, cells)
    # The motion of a cell is that of its trusted points; without any, its weight is nought anyway.
    trusted = resample(motion.flow * motion.confidence[..., None], motion.box, box, cells)
    flow = trusted / np.maximum(confidence, np.float32(1e-6))[..., None]
    x0, y0, x1, y1 = box
    n_x0, n_y0, n_x1, n_y1 = neighbour.box
    x = (np.arange(cells[1]) + 0.5) * ((x1 - x0) / cells[1]) + (x0 - n_x0) + flow[..., 0] / per_px_x
    y = (np.arange(cells[0])[:, None] + 0.5) * ((y1 - y0) / cells[0]) + (y0 - n_y0) + flow[..., 1] / per_px_y
    inside = (x >= 0) & (x <= n_x1 - n_x0) & (y >= 0) & (y <= n_y1 - n_y0)
    x = x * (other_cells[1] / (n_x1 - n_x0)) - 0.5
    y = y * (other_cells[0] / (n_y1 - n_y0)) - 0.5
    return x.astype(np.float32), y.astype(np.float32), confidence * inside


def resample(field: np.ndarray, field_box: Window, box: Window, size: tuple[int, ...]) -> np.ndarray:
    """A field over one part of the frame, resampled over another part at another size.

    Args:
        field: (h, w) or (h, w, C) float32 lying over `field_box`.
        field_box: the part of the frame that it covers.
        box: the wanted part; beyond `field_box` the nearest value goes on.
        size: (rows, columns) wanted.

    Returns:
        float32 of that size: cell averages where it gets smaller, linear between samples where it gets larger.
    """
    if box != field_box:
        scale_x = field.shape[1] / (field_box[2] - field_box[0])
        scale_y = field.shape[0] / (field_box[3] - field_box[1])
        columns = max(1, round((box[2] - box[0]) * scale_x))
        rows = max(1, round((box[3] - box[1]) * scale_y))
        step_x = (box[2] - box[0]) / columns * scale_x
        step_y = (box[3] - box[1]) / rows * scale_y
        x = (np.arange(columns) + 0.5) * step_x + (box[0] - field_box[0]) * scale_x - 0.5
        y = (np.arange(rows) + 0.5) * step_y + (box[1] - field_box[1]) * scale_y - 0.5
        grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        field = cv2.remap(field, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if field.shape[:2] == tuple(size):
        return field
    smaller = size[0] <= field.shape[0] and size[1] <= field.shape[1]
    resized: np.ndarray = cv2.resize(
        field, (size[1], size[0]), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )
    return resized


def union(a: Window, b: Window) -> Window:
    """The smallest box around both."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
