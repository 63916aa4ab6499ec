"""Baselines for looks (colour transfer without learning), and oracles (fits to the truth).

Every method takes and returns one scene-linear picture, (H, W, 3) float32, Rec.709 primaries, unbounded, no NaN.
Baselines know only the two photo dumps. Oracles know the true picture: they are upper bounds for methods with the same
form of result, and no methods themselves.

Methods in display space take and return the picture clipped to [0, 1] and sRGB-encoded, so highlights are lost. The
transfer in stops and the gain grid keep them.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse

from relightgan.core.colour import linear_to_srgb, luminance, srgb_to_linear
from relightgan.core.errors import PhotoError
from relightgan.training.measure.metrics import to_display
from relightgan.training.pairs.pairing import centred
from relightgan.training.stops import from_stops, to_stops

NEAREST = "histogram of the nearest photo"
PHOTOS_AT_A_TIME = 16  # photos per call of the backbone
HISTOGRAM_BINS = 256  # bins of a histogram: one per 8-bit display value
LUT_SIZE = 17  # entries per axis of the oracle 3D LUT
GRID_COLUMNS = 40  # cells across the picture of the oracle gain grid
GRID_DEPTH = 8  # brightness steps of the oracle gain grid
GRID_MAX_STOPS = 6.0  # maximum gain of the oracle gain grid, in stops, up or down
GRID_ROUNDS = 4  # Gauss-Newton steps in the fit of the oracle gain grid


@dataclass(frozen=True)
class Pool:
    """Colour statistics of all pixels of a photo dump."""

    lab_mean: np.ndarray  # (3,) mean CIE L*a*b* (D65) of the display-encoded photos
    lab_deviation: np.ndarray  # (3,) standard deviation of the same
    stops_mean: np.ndarray  # (3,) stops (`stops.to_stops`) of the linearised photos, red, green and blue
    stops_deviation: np.ndarray  # (3,) standard deviation of the same, in stops
    histogram: np.ndarray  # (3, 256) share of pixels per 8-bit display value


def pool_photos(photos: Iterable[np.ndarray]) -> Pool:
    """Colour statistics of a photo dump, read one photo at a time.

    Args:
        photos: (H, W, 3) float32 each, display-encoded sRGB, 0..1; values above 1 are clipped.

    Raises:
        PhotoError: there is no photo.
    """
    count = 0
    lab_sums, stops_sums = np.zeros((2, 3)), np.zeros((2, 3))
    histogram = np.zeros((3, HISTOGRAM_BINS))
    for photo in photos:
        shown = np.clip(photo, 0.0, 1.0).astype(np.float32)
        count += shown.shape[0] * shown.shape[1]
        for sums, values in ((lab_sums, to_lab(shown)), (stops_sums, to_stops(srgb_to_linear(shown)))):
            flat = values.reshape(-1, 3).astype(np.float64)
            sums += (flat.sum(axis=0), np.square(flat).sum(axis=0))
        histogram += _histogram(shown)
    if count == 0:
        raise PhotoError("There is no photo to take colour statistics from.", "Give a folder with photos.")
    lab_mean, stops_mean = lab_sums[0] / count, stops_sums[0] / count
    return Pool(
        lab_mean=lab_mean,
        lab_deviation=np.sqrt(np.maximum(lab_sums[1] / count - lab_mean**2, 0.0)),
        stops_mean=stops_mean,
        stops_deviation=np.sqrt(np.maximum(stops_sums[1] / count - stops_mean**2, 0.0)),
        histogram=histogram / count,
    )


@dataclass(frozen=True)
class NearPhotos:
    """The target day's photos, with embeddings to find the one nearest in content to a plate.

    Attributes:
        embed: N pictures (display-encoded, 0..1) to (N, C) embeddings; see `backbones.embed_photos`.
        source_mean: (C,) mean of the source photos' embeddings, which is subtracted from a plate's.
        embeddings: (M, C) embeddings of the target photos minus their mean, of unit length; see `pairing.centred`.
        histograms: (M, 3, 256) pixels of each target photo per 8-bit display value.
    """

    embed: Callable[[Sequence[np.ndarray]], np.ndarray]
    source_mean: np.ndarray
    embeddings: np.ndarray
    histograms: np.ndarray

    def nearest(self, plate: np.ndarray) -> int:
        """Index of the target photo nearest to a scene-linear plate by cosine similarity, as photos are paired."""
        centred_plate = self.embed([to_display(plate)])[0] - self.source_mean
        return int((self.embeddings @ centred_plate).argmax())


def near_photos(
    source: Iterable[np.ndarray],
    target: Iterable[np.ndarray],
    embed: Callable[[Sequence[np.ndarray]], np.ndarray],
) -> NearPhotos:
    """Reads two photo dumps for `match_nearest`, a few photos at a time.

    Args:
        source: photos of the source day, (H, W, 3) float32, display-encoded sRGB, 0..1.
        target: photos of the target day.
        embed: see `NearPhotos`.

    Raises:
        PhotoError: a dump is empty.
    """
    here = [embed(some) for some in _some_at_a_time(source)]
    there, histograms = [], []
    for some in _some_at_a_time(target):
        there.append(embed(some))
        histograms += [_histogram(photo).astype(np.float32) for photo in some]
    if not here or not there:
        raise PhotoError("There is no photo to find the nearest of.", "Give two folders with photos.")
    return NearPhotos(
        embed, np.concatenate(here).mean(axis=0), centred(np.concatenate(there)), np.stack(histograms)
    )  # fmt: skip


def identity(plate: np.ndarray) -> np.ndarray:
    """The plate itself, as the baseline without any change."""
    return plate


def transfer_lab(plate: np.ndarray, source: Pool, target: Pool) -> np.ndarray:
    """Maps mean and deviation of L*a*b* from those of one dump to those of the other (Reinhard 2001, pooled)."""
    lab = (to_lab(to_display(plate)) - source.lab_mean) * _ratio(target.lab_deviation, source.lab_deviation)
    return _from_display(_from_lab(lab + target.lab_mean))


def transfer_stops(plate: np.ndarray, source: Pool, target: Pool) -> np.ndarray:
    """Maps mean and deviation per channel, in stops, from those of one dump to those of the other; clips nothing."""
    stops = (to_stops(plate) - source.stops_mean) * _ratio(target.stops_deviation, source.stops_deviation)
    return from_stops(stops + target.stops_mean)


def match_histogram(plate: np.ndarray, source: Pool, target: Pool) -> np.ndarray:
    """A curve per channel, display-encoded, that maps one dump's histogram to the other's."""
    return _with_histogram(plate, source.histogram, target.histogram)


def match_nearest(plate: np.ndarray, near: NearPhotos) -> np.ndarray:
    """A curve per channel, display-encoded, that maps the plate's histogram to the nearest target photo's."""
    return _with_histogram(plate, _histogram(to_display(plate)), near.histograms[near.nearest(plate)])


def oracle_affine(plate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The best 3x4 colour matrix for this picture: display-encoded, least squares against the truth."""
    shown = to_display(plate).reshape(-1, 3)
    inputs = np.concatenate([shown, np.ones_like(shown[:, :1])], axis=1).astype(np.float64)
    matrix = np.linalg.lstsq(inputs, to_display(truth).reshape(-1, 3).astype(np.float64), rcond=None)[0]
    return _from_display((inputs @ matrix).reshape(plate.shape))


def oracle_lut(plate: np.ndarray, truth: np.ndarray, size: int = LUT_SIZE) -> np.ndarray:
    """The best 3D lookup table for this picture: display-encoded, trilinear, least squares against the truth.

    Args:
        plate: scene-linear picture.
        truth: the same view under the target light.
        size: entries per axis.
    """
    shown = to_display(plate)
    lookup = _trilinear(shown.reshape(-1, 3) * (size - 1), (size, size, size))
    axis = np.linspace(0.0, 1.0, size)
    table = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    wanted = to_display(truth).reshape(-1, 3)
    table = table + _least_squares(lookup, wanted - lookup @ table, np.ones_like(wanted), ridge=1e-2, rounds=400)
    return _from_display((lookup @ table).reshape(plate.shape))


def oracle_gain_grid(
    plate: np.ndarray, truth: np.ndarray, columns: int = GRID_COLUMNS, depth: int = GRID_DEPTH
) -> np.ndarray:
    """The best log2-gain bilateral grid for this picture: an upper bound for `relight` looks.

    relit = plate * 2^gain; the gain is sampled by position and brightness from a grid of three channels. Damped
    Gauss-Newton steps minimise the display-encoded error; pixels above 1 in both pictures hardly count, as they look
    equal.

    Args:
        plate: scene-linear picture.
        truth: the same view under the target light.
        columns: cells across the picture; the rows follow its aspect.
        depth: brightness steps, at equal distances in display-encoded luminance 0..1.
    """
    height, width = plate.shape[:2]
    rows = max(2, round(columns * height / width))
    y, x = np.mgrid[:height, :width]
    place = np.stack(
        [
            np.clip((y + 0.5) * rows / height - 0.5, 0, rows - 1),
            np.clip((x + 0.5) * columns / width - 0.5, 0, columns - 1),
            linear_to_srgb(np.clip(luminance(plate), 0.0, 1.0)) * (depth - 1),
        ],
        axis=-1,
    )
    lookup = _trilinear(place.reshape(-1, 3), (rows, columns, depth))
    pixels = np.maximum(plate, 0.0).reshape(-1, 3).astype(np.float64)
    wanted_linear = truth.reshape(-1, 3).astype(np.float64)
    wanted = linear_to_srgb(wanted_linear.astype(np.float32))
    log_gain = to_stops(wanted_linear) - to_stops(pixels)
    grid = _least_squares(lookup, log_gain, np.square(_slope(np.maximum(wanted_linear, 0.0))), ridge=1e-4, rounds=60)
    best, min_cost = grid, np.inf
    for _ in range(GRID_ROUNDS):
        relit = pixels * np.exp2(lookup @ grid)
        error = wanted - linear_to_srgb(relit.astype(np.float32))
        visible = np.where((relit > 1.0) & (wanted_linear > 1.0), 0.01, 1.0)
        cost = float((visible * np.square(error)).sum())
        if cost < min_cost:
            best, min_cost = grid, cost
        slope = _slope(relit)
        step = _least_squares(
            lookup, error / np.maximum(slope, 1e-3), visible * np.square(slope), ridge=1e-2, rounds=40
        )  # fmt: skip
        grid = np.clip(grid + np.clip(step, -1.0, 1.0), -GRID_MAX_STOPS, GRID_MAX_STOPS)
    return np.asarray(plate.reshape(-1, 3) * np.exp2(lookup @ best), dtype=np.float32).reshape(plate.shape)


BASELINES: dict[str, Callable[[np.ndarray, Pool, Pool], np.ndarray]] = {
    "pooled Lab mean and deviation (Reinhard)": transfer_lab,
    "pooled mean and deviation in stops": transfer_stops,
    "pooled histogram match": match_histogram,
}
ORACLES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "oracle: 3x4 colour matrix": oracle_affine,
    "oracle: 3D LUT 17^3": oracle_lut,
    "oracle: gain grid 40 x 8 deep": oracle_gain_grid,
}


def to_lab(shown: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of a display-encoded picture: L in 0..100, float32."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(shown, dtype=np.float32), cv2.COLOR_RGB2Lab))


def _histogram(shown: np.ndarray) -> np.ndarray:
    """(3, 256) pixels per 8-bit display value of a display-encoded picture, clamped to 0..1."""
    levels = np.rint(np.clip(shown, 0.0, 1.0) * (HISTOGRAM_BINS - 1)).astype(np.intp).reshape(-1, 3)
    return np.stack([np.bincount(levels[:, channel], minlength=HISTOGRAM_BINS) for channel in range(3)])


def _with_histogram(plate: np.ndarray, own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The plate through the curves that turn one (3, 256) histogram into another, each of any sum."""
    shown = to_display(plate)
    levels = np.linspace(0.0, 1.0, HISTOGRAM_BINS)
    matched = np.empty_like(shown)
    for channel in range(3):
        below, wanted_below = (np.cumsum(h[channel], dtype=np.float64) / h[channel].sum() for h in (own, wanted))
        matched[..., channel] = np.interp(shown[..., channel], levels, np.interp(below, wanted_below, levels))
    return _from_display(matched)


def _some_at_a_time(photos: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    left = iter(photos)
    while some := list(itertools.islice(left, PHOTOS_AT_A_TIME)):
        yield some


def _from_lab(lab: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB))


def _from_display(shown: np.ndarray) -> np.ndarray:
    return np.asarray(srgb_to_linear(np.clip(shown, 0.0, 1.0).astype(np.float32)), dtype=np.float32)


def _ratio(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    # A dump of one flat colour has no deviation; only its mean is mapped then.
    ratio: np.ndarray = np.divide(target, source, out=np.ones_like(target), where=source > 1e-6)
    return ratio


def _slope(linear: np.ndarray) -> np.ndarray:
    """Change of the encoded value per stop, at a linear value: d srgb(x 2^g) / dg."""
    brighter = linear_to_srgb((linear * 1.01).astype(np.float32)).astype(np.float64)
    slope: np.ndarray = (brighter - linear_to_srgb(linear.astype(np.float32))) / np.log2(1.01)
    return slope


def _trilinear(place: np.ndarray, shape: tuple[int, int, int]) -> sparse.csr_matrix:
    """The matrix that samples a flattened 3D table at (N, 3) positions in cells: (N, cells), 8 values per row."""
    limits = np.asarray(shape) - 1
    lower = np.minimum(np.floor(place).astype(np.int64), limits - 1)
    part = place - lower
    columns, weights = [], []
    for corner in np.ndindex(2, 2, 2):
        at = lower + corner
        columns.append((at[:, 0] * shape[1] + at[:, 1]) * shape[2] + at[:, 2])
        weights.append(np.where(corner, part, 1.0 - part).prod(axis=1))
    starts = np.arange(0, 8 * len(place) + 1, 8)
    data = np.stack(weights, axis=1).ravel(), np.stack(columns, axis=1).ravel(), starts
    return sparse.csr_matrix(data, shape=(len(place), int(np.prod(shape))))


def _least_squares(
    lookup: sparse.csr_matrix, wanted: np.ndarray, weights: np.ndarray, ridge: float, rounds: int
) -> np.ndarray:
    """The table (cells, 3) whose samples are nearest to the wanted values, by weighted least squares.

    Conjugate gradients on the normal equations, scaled by their diagonal (Saad 2003, algorithm 9.1); `ridge` times that
    diagonal's mean keeps cells that no pixel samples at 0.
    """
    turned = lookup.T.tocsr()
    diagonal = lookup.multiply(lookup).T.tocsr() @ weights
    damping = ridge * np.maximum(diagonal.mean(axis=0), 1e-12)
    scale = 1.0 / (diagonal + damping)
    table = np.zeros_like(diagonal)
    rest = turned @ (weights * wanted)
    direction = ready = scale * rest
    energy = (rest * ready).sum(axis=0)
    enough = 1e-10 * energy
    for _ in range(rounds):
        pushed = turned @ (weights * (lookup @ direction)) + damping * direction
        length = energy / np.maximum((direction * pushed).sum(axis=0), 1e-30)
        table = table + length * direction
        rest = rest - length * pushed
        ready = scale * rest
        before, energy = energy, (rest * ready).sum(axis=0)
        if (energy <= enough).all():
            break
        direction = ready + direction * (energy / np.maximum(before, 1e-30))
    return np.asarray(table)
