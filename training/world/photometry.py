"""Photometry: what each photo of a day did to the light: exposure, white balance, vignetting, and the camera's curve.

A point of the set that several photos of one day show has one colour there. So the differences between its samples are
those of the photos, and all of them together tell, in stops and for each channel,

    curve(sample) = colour of the point + gain of the photo + vignetting(distance from the middle)

after Goldman and Chen ("Vignette and Exposure Calibration and Compensation", ICCV 2005), with what PPISP
(arXiv:2601.18336) learns beside a scene solved before anything is learned. What was chosen: gains are free for each
photo and channel. Vignetting is a falling polynomial of the lens, in r^2 and r^4. The curve departs from sRGB by
two numbers, and leaves black, white and the middle of the code values where they are: exposures and curve can't be
told apart altogether (Kim and Pollefeys, "Robust Radiometric Calibration and Vignetting Correction", PAMI 2008: any
power of both fits as well), so its form decides, and a prior to sRGB.

The mean gain of a day's photos, in stops, is taken to be right: it stays 0. What is known of the light of one day
against the other's is as good as before.
"""

import dataclasses
import hashlib

import numpy as np
from scipy import linalg, sparse

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.photos.bank import Images
from relightgan.training.stops import CLIPPED
from relightgan.training.world.point_colours import PointObservations, colours_at

# Linear values of a channel within which a sample is used: below are noise and rounding, and above a part of what was
# averaged may have been clipped. Within the narrower range must lie what the model expects: a choice by the samples
# alone would keep the brighter of the dark ones, and the darker of the bright.
DARKEST, BRIGHTEST = 0.008, 0.97 * CLIPPED
DARKEST_EXPECTED, BRIGHTEST_EXPECTED = 0.02, 0.75
MIN_SAMPLES = 12  # fewest samples, shared with other photos, by which a photo is solved
MIN_LENS_PHOTOS = 8  # fewest photos by which a lens's vignetting, or a camera's curve, is solved
HUBER = 1.5  # distance from the model, in standard deviations, beyond which a sample pulls no harder
CONVEX_ROUNDS, ROUNDS = 6, 14  # rounds with Huber's weights, and rounds in all: the later ones let outliers go
# Standard deviations of what to expect beforehand, in stops; of the curve, in its own numbers. Samples scatter by 0.1.
GAIN_PRIOR, VIGNETTING_PRIOR, CURVE_PRIOR, SAMPLE_STOPS = 1.0, 0.5, 0.06, 0.1
# What photos taken alike seem to differ by, in stops, as highlights move with the camera. Measured on
# the rendered statue set: exposures 0.03 to 0.05, white balance 0.006.
LIKE_EXPOSURES, LIKE_WHITES = 0.05, 0.008
CURVES = 2  # numbers of a camera's curve
MAX_CURVE = 0.8  # largest of them, either way; the curve rises everywhere
GRID = np.linspace(0, 1, 1025)  # code values at which curves are inverted
EXPECTED_CODES = linear_to_srgb(np.array([DARKEST_EXPECTED, BRIGHTEST_EXPECTED], np.float32))
OUTSIDE = 1e-6  # weight of samples that are expected outside of it
MIN_STOPS = 1e-3  # smallest standard deviation of samples, in stops: that of perfect ones
PRIOR_SHARE = 1e-4  # what is expected of lenses and cameras beforehand counts as this share of the samples


@dataclasses.dataclass(frozen=True)
class Samples:
    """Colours of points in the photos of a day.

    Attributes:
        point: (n,) number of the point.
        photo: (n,) number of the photo within its day.
        radius: (n,) float32 distance from the middle of the photo, 1 at its corners.
        linear: (n, 3) float32 colour, taking code values for sRGB.
    """

    point: np.ndarray
    photo: np.ndarray
    radius: np.ndarray
    linear: np.ndarray

    def rows(self, which: np.ndarray) -> "Samples":
        """Some of the samples, by a mask or by their numbers."""
        return Samples(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Photometry:
    """What the photos of a day did to the light.

    Attributes:
        gains: (n, 3) stops by which each photo is brighter than its day's common exposure, by channel; 0 on average
            over the photos that were solved, and where nothing is known.
        solved: (n,) bool, False for photos that share too few points with others.
        lens: (n,) number of each photo's lens.
        vignetting: (lenses, 2) stops, 0 or less, see `falloff`.
        camera: (n,) number of each photo's camera.
        curve: (cameras, 2) how its code values depart from sRGB, see `straightened`.
        error: stops by which samples differ from the model: the median.
    """

    gains: np.ndarray
    solved: np.ndarray
    lens: np.ndarray
    vignetting: np.ndarray
    camera: np.ndarray
    curve: np.ndarray
    error: np.ndarray

    @property
    def exposure(self) -> np.ndarray:
        """(n,) stops, the mean of the channels."""
        exposure: np.ndarray = self.gains.mean(axis=1)
        return exposure

    @property
    def white(self) -> np.ndarray:
        """(n, 3) white balance: stops of each channel beside the exposure."""
        white: np.ndarray = self.gains - self.exposure[:, None]
        return white

    @property
    def digest(self) -> str:
        """A hash of all that corrects photos."""
        found = hashlib.sha256()
        for part in (self.gains, self.lens, self.vignetting, self.camera, self.curve):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()


def point_samples(bank: Images, observations: PointObservations) -> Samples:
    """The samples of a day's points that are neither clipped nor dark.

    Args:
        bank: the day's photos, as they came.
        observations: of points in them.
    """
    linear = colours_at(bank, observations.photo, observations.xy)
    shapes = {int(photo): bank[int(photo)].shape[:2] for photo in np.unique(observations.photo)}
    sides = np.array([shapes[int(photo)][::-1] for photo in observations.photo], float).reshape(-1, 2)
    usable = (linear.min(axis=1) > DARKEST) & (linear.max(axis=1) < BRIGHTEST)
    radius = radii(observations.xy, sides)
    return Samples(observations.point, observations.photo, radius, linear).rows(usable)


def radii(xy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(...) float32 distance from the middle of a photo of this size (width, height) to places (..., 2); corners 1."""
    away = (xy - 0.5) * size
    distance: np.ndarray = np.sqrt((away**2).sum(axis=-1) / ((np.asarray(size) / 2) ** 2).sum(axis=-1))
    return distance.astype(np.float32)


def falloff(radius: np.ndarray) -> np.ndarray:
    """(..., 2) the two forms of vignetting at a distance from the middle; what a lens takes away is a sum of them.

    1 and 1 at the corner together; sums with factors of one sign are all the polynomials in r^2 and r^4 that only fall.
    """
    square = radius**2
    return np.stack([2 * square - square**2, square**2], axis=-1)


def straightened(code: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """The sRGB code values of a camera's; values beyond 0..1 stay.

    Args:
        code: any shape, sRGB-encoded as far as the camera goes.
        curve: (2,) contrast of the middle that the camera added, and of its ends.
    """
    inside = np.clip(code, 0, 1)
    result: np.ndarray = code + bends(inside) @ curve
    return result


def bends(code: np.ndarray) -> np.ndarray:
    """(..., 2) the forms of a curve at code values 0..1: 0 at black, middle and white."""
    s = code * (1 - code) * (1 - 2 * code)
    return np.stack([s, 4 * s * code * (1 - code)], axis=-1)


def solve_photometry(samples: Samples, photos: int, lens: np.ndarray, camera: np.ndarray) -> Photometry:
    """Gains, vignetting and curves of a day's photos from samples of common points.

    Iterated least squares with weights that let outliers go. Points are eliminated first, then photos, so that what is
    left to solve is small. The same samples give the same numbers.

    Args:
        samples: usable ones.
        photos: number of photos.
        lens: (photos,) number of each photo's lens, from 0.
        camera: (photos,) number of each photo's camera, from 0.
    """
    samples = shared(samples, photos)
    solved = np.bincount(samples.photo, minlength=photos) > 0
    vignetting = np.zeros((int(lens.max(initial=-1)) + 1, 2))
    curve = np.zeros((int(camera.max(initial=-1)) + 1, CURVES))
    gains, error = np.zeros((photos, 3)), 0.0
    if solved.any():
        system = _System(samples, solved, lens, camera, vignetting, curve)
        for number in range(ROUNDS):
            system.step(convex=number < CONVEX_ROUNDS)
        gains[solved] = _believed(system.gains - system.gains.mean(axis=0))
        error = float(np.median(np.abs(system.residuals)))
    return Photometry(gains, solved, lens, vignetting, camera, curve, np.array(error))


def shared(samples: Samples, photos: int) -> Samples:
    """The samples of points with samples in two photos or more, of photos with `MIN_SAMPLES` such samples or more."""
    while True:
        _, first = np.unique(np.column_stack([samples.point, samples.photo]), axis=0, return_index=True)
        kept = samples.rows(np.sort(first))
        often = np.bincount(kept.point, minlength=int(kept.point.max(initial=-1)) + 1)
        kept = kept.rows(often[kept.point] >= 2)
        many = np.bincount(kept.photo, minlength=photos)
        kept = kept.rows(many[kept.photo] >= MIN_SAMPLES)
        if len(kept.point) == len(samples.point):
            return kept
        samples = kept


# Private implementation


class _System:
    """The least squares problem of a day, and where its solution stands.

    Args:
        samples: as of `shared`.
        solved: (photos,) bool, photos with samples.
        lens, camera: (photos,) numbers.
        vignetting, curve: filled in place.
    """

    def __init__(
        self,
        samples: Samples,
        solved: np.ndarray,
        lens: np.ndarray,
        camera: np.ndarray,
        vignetting: np.ndarray,
        curve: np.ndarray,
    ) -> None:
        _, self.point = np.unique(samples.point, return_inverse=True)
        self.photo = (np.cumsum(solved) - 1)[samples.photo]
        self.number = int(solved.sum())
        self.code = linear_to_srgb(samples.linear).astype(np.float64)
        self.vignetting, self.curve = vignetting, curve
        self.lens, self.camera = lens[samples.photo], camera[samples.photo]
        self.forms = falloff(samples.radius.astype(np.float64))
        self.lenses = np.nonzero(np.bincount(lens[solved], minlength=len(vignetting)) >= MIN_LENS_PHOTOS)[0]
        self.cameras = np.nonzero(np.bincount(camera[solved], minlength=len(curve)) >= MIN_LENS_PHOTOS)[0]
        self.gains = np.zeros((self.number, 3))
        self.predicted = self.code
        self.residuals = np.zeros_like(self.code)
        self.weight = np.ones(len(self.point))

    def step(self, convex: bool) -> None:
        """One round: weights from the residuals, then the solution under them."""
        if self.residuals.any():
            self.weight = _weights(self.residuals, convex) * np.where(self._expected_inside(), 1, OUTSIDE)
        stops = self._stops()
        own = self._centred(stops)
        columns = self._columns()
        centred = [self._centred(column) for column in columns]
        right = np.concatenate([self._per_photo(part) for part in (own, *centred)], axis=1)
        factor = linalg.cho_factor(self._photo_matrix())
        solution = linalg.cho_solve(factor, right).reshape(self.number, -1, 3)
        right = right.reshape(self.number, -1, 3)
        weighted = [self.weight[:, None] * part for part in centred]
        # The photos are eliminated: what is left belongs to lenses and cameras.
        left = np.array([[(a * b).sum() for b in centred] for a in weighted]).reshape(len(columns), len(columns))
        left -= np.einsum("nkc,nlc->kl", right[:, 1:], solution[:, 1:])
        wanted = np.array([(a * own).sum() for a in weighted])
        wanted -= np.einsum("nkc,nc->k", right[:, 1:], solution[:, 0])
        common = self._take(left, wanted)
        self.gains = solution[:, 0] - np.einsum("nkc,k->nc", solution[:, 1:], common)
        self._predict()

    def _expected_inside(self) -> np.ndarray:
        low, high = EXPECTED_CODES
        inside: np.ndarray = (self.predicted.min(axis=1) > low) & (self.predicted.max(axis=1) < high)
        return inside

    def _stops(self) -> np.ndarray:
        stops = np.empty_like(self.code)
        for camera, curve in enumerate(self.curve):
            mine = self.camera == camera
            stops[mine] = _stops_of(self.code[mine], curve)
        return stops

    def _columns(self) -> list[np.ndarray]:
        """(n, 3) each: how samples depend on the numbers of lenses and cameras."""
        found = [
            np.repeat((self.forms[:, form] * (self.lens == lens))[:, None], 3, axis=1)
            for lens in self.lenses
            for form in range(2)
        ]
        # By what is predicted, not by what was sampled: noise that is in the columns too would flatten the curve.
        for camera in self.cameras:
            mine = self.camera == camera
            slope = np.zeros((*self.code.shape, CURVES))
            slope[mine] = _stops_by_curve(self.predicted[mine], self.curve[camera])
            found += [-slope[..., form] for form in range(CURVES)]
        return found

    def _take(self, left: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The numbers of lenses (new) and cameras (changes), within their limits; also kept in their places."""
        lenses = 2 * len(self.lenses)
        before = np.concatenate([np.zeros(lenses), self.curve[self.cameras].ravel()])
        # Only exposures that differ tell of a curve.
        differing = _share_beyond(self.gains.mean(axis=1), LIKE_EXPOSURES)
        ease = np.where(np.arange(len(before)) < lenses, VIGNETTING_PRIOR, max(CURVE_PRIOR * differing, MIN_STOPS**2))
        prior = (SAMPLE_STOPS / ease) ** 2 * len(self.point) * PRIOR_SHARE
        left = left + np.diag(prior)
        wanted = wanted - prior * before
        common = np.zeros(len(before))
        free = np.ones(len(before), bool)
        while free.any():
            common[:] = 0
            common[free] = np.linalg.solve(left[np.ix_(free, free)], wanted[free])
            rising = (common > 0) & (np.arange(len(before)) < lenses)
            if not rising.any():
                break
            free &= ~rising
        self.vignetting[self.lenses] = common[:lenses].reshape(-1, 2)
        curve = np.clip(before[lenses:] + common[lenses:], -MAX_CURVE, MAX_CURVE)
        self.curve[self.cameras] = curve.reshape(-1, CURVES)
        return common

    def _predict(self) -> None:
        """Residuals, and the code values that the model expects."""
        shade = (self.forms * self.vignetting[self.lens]).sum(axis=1)[:, None] + self.gains[self.photo]
        stops = self._stops()
        colour = stops - shade
        middle = self._mean(colour)[self.point]
        self.residuals = colour - middle
        self.predicted = np.empty_like(self.code)
        for camera in range(len(self.curve)):
            mine = self.camera == camera
            self.predicted[mine] = _code_of((middle + shade)[mine], self.curve[camera])

    def _mean(self, values: np.ndarray) -> np.ndarray:
        total = np.bincount(self.point, self.weight)
        sums = [np.bincount(self.point, self.weight * values[:, c]) for c in range(3)]
        return np.stack(sums, axis=1) / np.maximum(total, 1e-12)[:, None]

    def _centred(self, values: np.ndarray) -> np.ndarray:
        """Values without the mean of their point."""
        return values - self._mean(values)[self.point]

    def _per_photo(self, values: np.ndarray) -> np.ndarray:
        sums = [np.bincount(self.photo, self.weight * values[:, c], self.number) for c in range(3)]
        return np.stack(sums, axis=1)

    def _photo_matrix(self) -> np.ndarray:
        """(number, number) normal equations of the photos' gains, the points eliminated."""
        table = sparse.csr_matrix((self.weight, (self.point, self.photo)), (int(self.point.max()) + 1, self.number))
        total = np.maximum(np.asarray(table.sum(axis=1)).ravel(), 1e-12)
        common = (table.T @ sparse.diags(1 / total) @ table).toarray()
        own = np.bincount(self.photo, self.weight, self.number)
        matrix: np.ndarray = np.diag(own + (SAMPLE_STOPS / GAIN_PRIOR) ** 2) - common
        return matrix


def _believed(gains: np.ndarray) -> np.ndarray:
    """Gains (n, 3) as far as they are beyond what photos taken alike seem to differ by; the mean stays 0.

    What a whole day differs by decides (James and Stein 1961), or what a single photo does, whichever says more.
    """
    exposure = gains.mean(axis=1, keepdims=True)
    kept = np.zeros_like(gains)
    for part, like in ((exposure, LIKE_EXPOSURES), (gains - exposure, LIKE_WHITES)):
        kept = kept + part * np.maximum(_share_beyond(part, like), part**2 / (part**2 + like**2))
    centred: np.ndarray = kept - kept.mean(axis=0)
    return centred


def _share_beyond(values: np.ndarray, like: float) -> float:
    """The share of the variance of values around 0 that isn't there where photos were taken alike, 0..1."""
    spread = 1.4826 * float(np.median(np.abs(values)))
    return max(0.0, 1 - (like / spread) ** 2) if spread > 0 else 0.0


def _weights(residuals: np.ndarray, convex: bool) -> np.ndarray:
    """(n,) weights of samples: Huber's, or Geman and McClure's, which leaves outliers without any."""
    distance = np.sqrt((residuals**2).mean(axis=1))
    usual = max(1.4826 * float(np.median(distance)), MIN_STOPS)
    beyond = distance / (HUBER * usual)
    weight: np.ndarray = 1 / np.maximum(beyond, 1) if convex else 1 / (1 + beyond**2 / 3) ** 2
    return weight


def _stops_of(code: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """log2 of the linear value of a camera's code values."""
    stops: np.ndarray = np.log2(np.maximum(srgb_to_linear(straightened(code, curve)), DARKEST / 64))
    return stops


def _stops_by_curve(code: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """(..., 2) derivative of `_stops_of` by the curve."""
    straight = straightened(code, curve)[..., None]
    slope: np.ndarray = 2.4 / (np.log(2) * (straight + 0.055)) * bends(np.clip(code, 0, 1))
    return slope


def _code_of(stops: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """The inverse of `_stops_of`, within 0..1."""
    code: np.ndarray = np.interp(stops, _stops_of(GRID, curve), GRID)
    return code
