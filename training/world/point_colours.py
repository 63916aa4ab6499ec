"""The colours of registered points in the photos of a day."""

import dataclasses

import cv2
import numpy as np

from relightgan.core.colour import srgb_to_linear
from relightgan.training.photos.bank import Images
from relightgan.training.stops import CLIPPED, to_stops
from relightgan.training.world.registration import Registration

POINT_BLUR = 0.004  # standard deviation of the Gaussian average around a point, as a share of the photo's width


@dataclasses.dataclass(frozen=True)
class PointObservations:
    """Observations of the solve's points in the photos of one day.

    Attributes:
        point: (n,) number of the point in the solve.
        photo: (n,) number of the photo within its day.
        xy: (n, 2) float32 position in the photo, 0..1.
    """

    point: np.ndarray
    photo: np.ndarray
    xy: np.ndarray


def point_observations(registration: Registration, day: int) -> PointObservations:
    """The observations in one day's photos from which the points were solved."""
    solve, numbering = registration.solve, registration.numbering
    of_day = numbering.day(solve.seen_photo) == day
    photo = solve.seen_photo[of_day] - numbering.start(day)
    return PointObservations(solve.seen_point[of_day], photo, registration.places[of_day])


def robust_colours(
    bank: Images, observations: PointObservations, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The median colour of each point over a day's photos.

    Args:
        bank: the day's photos.
        observations: of points in them.
        number: of points.

    Returns:
        (number, 3) median colour in stops (`stops.to_stops`), 0 without observations; (number,) median absolute
        deviation from it in stops, mean of the channels; and (number,) the number of unclipped observations. All are 0
        for a point with half or more of its observations clipped.
    """
    colour = colours_at(bank, observations.photo, observations.xy)
    kept = colour.max(axis=1) < CLIPPED
    # The few unclipped observations of a bright point would give it too dark a colour.
    total = np.bincount(observations.point, minlength=number)
    kept &= (2 * np.bincount(observations.point[kept], minlength=number) > total)[observations.point]
    point, stops = observations.point[kept], to_stops(colour[kept])
    middle = group_median(point, stops, number)
    spread = group_median(point, np.abs(stops - middle[point]), number).mean(axis=1)
    return middle, spread, np.bincount(point, minlength=number)


def colours_at(bank: Images, photos: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(n, 3) float32 linear colours at positions in photos, each averaged over a small neighbourhood.

    Args:
        bank: the photos.
        photos: (n,) numbers of photos.
        xy: (n, 2) positions in them, 0..1.
    """
    found = np.zeros((len(photos), 3), np.float32)
    for photo in np.unique(photos):
        image = srgb_to_linear(bank[int(photo)])
        height, width = image.shape[:2]
        image = cv2.GaussianBlur(image, (0, 0), max(0.5, POINT_BLUR * width))
        rows = np.nonzero(photos == photo)[0]
        places = (xy[rows] * np.array([width, height]) - 0.5).astype(np.float32)
        x, y = np.ascontiguousarray(places[None, :, 0]), np.ascontiguousarray(places[None, :, 1])
        # remap takes at most 32767 columns; no photo has as many points.
        found[rows] = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return found


def group_median(group: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """(number, C) median over each group's rows; 0 for an empty group.

    Args:
        group: (n,) number of each row's group, from 0.
        values: (n, C) rows.
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
