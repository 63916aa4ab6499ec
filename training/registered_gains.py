"""Gains at points of the set whose place in both days' photos is known from registration.

Against gains of single pairs of photos: many photos say what a point looks like on the other day, so one of them with a
passer-by, a highlight or a mismatch in it is outvoted, and how far they agree gives the weight. And a point needs to be
*recognised* on one day only: where it is, it is known where to look for it in the other day's photos.
"""

import dataclasses

import numpy as np

from relightgan.training.batches import PhotoBank
from relightgan.training.register import Registration
from relightgan.training.sfm import project
from relightgan.training.targets import (
    CLIPPED,
    DARK_FLOOR,
    MOST_STOPS,
    GainSamples,
    colours_at,
    sort_by_photo,
)

DOUBTED_STOPS = 0.5  # a sample whose photos disagree by this much counts half
MOST_TURNED_DEGREES = 35.0  # between the directions a point is looked at from on the two days
MOST_NEARER = 2.0  # and between the distances, as a ratio: beyond it other things lie in between, or nothing is sharp
MOST_LOOKS = 12  # photos of the other day that are asked about a point, those from the nearest directions
FEWEST_LOOKS = 2


@dataclasses.dataclass(frozen=True)
class Looks:
    """Points of the set as photos show them.

    Attributes:
        point: (n,) which point.
        photo: (n,) of its own day's photos.
        xy: (n, 2) float32 place in the photo, 0..1.
    """

    point: np.ndarray
    photo: np.ndarray
    xy: np.ndarray


def registered_samples(registration: Registration, a: PhotoBank, b: PhotoBank, reach: str) -> GainSamples:
    """Gains of source photos at the registered points they show.

    Args:
        registration: of both days.
        a: source photos, as they were registered.
        b: target photos.
        reach: "recognised" asks the target photos in which a point was matched; "projected" all that should see it.

    Returns:
        Samples whose gain is the median of the target photos over the source photo's own colour.
    """
    own = recognised(registration, target=False)
    looks = recognised(registration, target=True) if reach == "recognised" else projected(registration)
    theirs, spread, count = robust_colours(b, looks, len(registration.solve.points))
    ours, our_spread, _ = robust_colours(a, own, len(registration.solve.points))
    colour = colours_at(a, own.photo, own.xy)
    stops = np.log2(np.maximum(colour, 0) + DARK_FLOOR)
    gain = theirs[own.point] - stops
    # A highlight or a passer-by in this one photo: it doesn't look as the point does in the others.
    odd = np.abs(stops - ours[own.point]).mean(axis=1)
    doubt = (spread[own.point] + our_spread[own.point] / 2 + odd) / DOUBTED_STOPS
    weight = 1 / (1 + doubt**2)
    least = 1 if reach == "recognised" else FEWEST_LOOKS
    good = (count[own.point] >= least) & (colour.max(axis=1) < CLIPPED) & (np.abs(gain).max(axis=1) < MOST_STOPS)
    return sort_by_photo(own.photo[good], len(a), own.xy[good], colour[good], gain[good], weight[good])


def recognised(registration: Registration, target: bool) -> Looks:
    """The looks at points by which they were solved, of source or target photos."""
    solve, first = registration.solve, registration.counts[0]
    of_day = (solve.seen_photo >= first) == target
    photo = solve.seen_photo[of_day] - (first if target else 0)
    return Looks(solve.seen_point[of_day], photo, registration.places[of_day])


def projected(registration: Registration) -> Looks:
    """Where target photos should show the points that source photos show.

    Sight isn't traced. But who looks from nearly the same direction and distance as a source photo that sees the point
    mostly sees it too, and those that don't are outvoted.
    """
    solve, first = registration.solve, registration.counts[0]
    row_of = np.full(sum(registration.counts), -1)
    row_of[solve.photos] = np.arange(len(solve.photos))
    centres = solve.centres
    of_source = solve.seen_photo < first
    point, camera = solve.seen_point[of_source], row_of[solve.seen_photo[of_source]]
    number = len(solve.points)
    ray = centres[camera] - solve.points[point]
    distance = np.linalg.norm(ray, axis=1)
    seen = np.bincount(point, minlength=number)
    direction = np.stack([np.bincount(point, ray[:, k] / distance, number) for k in range(3)], axis=1)
    direction = direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    usual: np.ndarray = np.bincount(point, distance, number) / np.maximum(seen, 1)
    found: list[tuple[np.ndarray, ...]] = []
    for row in np.nonzero(solve.photos >= first)[0]:
        xy, depth = project(solve.poses[row], solve.lenses[row], solve.points)
        xy = xy / registration.sizes[row]
        towards = centres[row] - solve.points
        far = np.linalg.norm(towards, axis=1)
        turned = (towards / far[:, None] * direction).sum(axis=1)
        nearer = np.maximum(far / np.maximum(usual, 1e-9), usual / far)
        sees = (seen > 0) & (depth > 0) & (np.abs(xy - 0.5) < 0.49).all(axis=1)
        sees &= (turned > np.cos(np.radians(MOST_TURNED_DEGREES))) & (nearer < MOST_NEARER)
        rows = np.nonzero(sees)[0]
        found.append((rows, np.full(len(rows), solve.photos[row] - first), xy[rows].astype(np.float32), turned[rows]))
    point, photo, xy, turned = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((-turned, point))
    place = np.arange(len(order)) - np.searchsorted(point[order], point[order])
    order = order[place < MOST_LOOKS]
    return Looks(point[order], photo[order], xy[order])


def robust_colours(bank: PhotoBank, looks: Looks, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What photos agree on about the colours of points.

    Args:
        bank: the photos.
        looks: at points.
        number: of points.

    Returns:
        (number, 3) median of log2 colours, (number,) median absolute deviation from it in stops, mean of the channels,
        and (number,) how many unclipped looks there were, 0 where most were clipped; zeros where none.
    """
    colour = colours_at(bank, looks.photo, looks.xy)
    kept = colour.max(axis=1) < CLIPPED
    # The few looks at a bright point that aren't clipped would speak too low.
    kept &= (2 * np.bincount(looks.point[kept], minlength=number) > np.bincount(looks.point, minlength=number))[
        looks.point
    ]
    point, stops = looks.point[kept], np.log2(np.maximum(colour[kept], 0) + DARK_FLOOR)
    middle = group_median(point, stops, number)
    spread = group_median(point, np.abs(stops - middle[point]), number).mean(axis=1)
    return middle, spread, np.bincount(point, minlength=number)


def group_median(group: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """(number, C) median of each group's rows, 0 where a group is empty.

    Args:
        group: (n,) 0..number - 1.
        values: (n, C).
        number: of groups.
    """
    result = np.zeros((number, values.shape[1]))
    size = np.bincount(group, minlength=number)
    start = np.cumsum(size) - size
    has = size > 0
    for channel in range(values.shape[1]):
        ordered = values[np.lexsort((values[:, channel], group)), channel]
        low, high = start + (size - 1) // 2, start + size // 2
        result[has, channel] = (ordered[low[has]] + ordered[high[has]]) / 2
    return result
