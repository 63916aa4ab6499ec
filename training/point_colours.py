"""The colours of registered points, as the photos of a day agree on them."""

import dataclasses

import numpy as np

from relightgan.training.batches import PhotoBank
from relightgan.training.register import Registration
from relightgan.training.stops import CLIPPED, to_stops
from relightgan.training.targets import colours_at


@dataclasses.dataclass(frozen=True)
class Sightings:
    """Points of the set as photos show them.

    Attributes:
        point: (n,) which point.
        photo: (n,) of its own day's photos.
        xy: (n, 2) float32 place in the photo, 0..1.
    """

    point: np.ndarray
    photo: np.ndarray
    xy: np.ndarray


def recognised(registration: Registration, target: bool) -> Sightings:
    """The sightings of points by which they were solved, of source or target photos."""
    solve, first = registration.solve, registration.counts[0]
    of_day = (solve.seen_photo >= first) == target
    photo = solve.seen_photo[of_day] - (first if target else 0)
    return Sightings(solve.seen_point[of_day], photo, registration.places[of_day])


def robust_colours(bank: PhotoBank, sightings: Sightings, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What photos agree on about the colours of points.

    Args:
        bank: the photos.
        sightings: of points.
        number: of points.

    Returns:
        (number, 3) median of log2 colours, (number,) median absolute deviation from it in stops, mean of the channels,
        and (number,) how many unclipped looks there were, 0 where most were clipped; zeros where none.
    """
    colour = colours_at(bank, sightings.photo, sightings.xy)
    kept = colour.max(axis=1) < CLIPPED
    # The few looks at a bright point that aren't clipped would speak too low.
    kept &= (2 * np.bincount(sightings.point[kept], minlength=number) > np.bincount(sightings.point, minlength=number))[
        sightings.point
    ]
    point, stops = sightings.point[kept], to_stops(colour[kept])
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
