"""The colours of registered points, as the photos of a day agree on them."""

import dataclasses

import cv2
import numpy as np

from relightgan.core.colour import srgb_to_linear
from relightgan.training.photos.bank import Images
from relightgan.training.stops import CLIPPED, to_stops
from relightgan.training.world.registration import Registration

POINT_BLUR = 0.004  # of the photo's width: the neighbourhood a point's colour is averaged over


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


def robust_colours(bank: Images, sightings: Sightings, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def colours_at(bank: Images, photos: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(n, 3) linear colour of places in photos, averaged over a small neighbourhood."""
    found = np.zeros((len(photos), 3), np.float32)
    for photo in np.unique(photos):
        image = srgb_to_linear(bank[int(photo)])
        height, width = image.shape[:2]
        image = cv2.GaussianBlur(image, (0, 0), max(0.5, POINT_BLUR * width))
        rows = np.nonzero(photos == photo)[0]
        places = (xy[rows] * np.array([width, height]) - 0.5).astype(np.float32)
        x, y = np.ascontiguousarray(places[None, :, 0]), np.ascontiguousarray(places[None, :, 1])
        # remap takes at most 32767 columns, far more than a photo has points
        found[rows] = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return found


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
