"""Points of the set found again in other photos, of the same day or the other, by local features.

SIFT (Lowe, 2004) with the root transform (Arandjelovic and Zisserman, 2012) survives a change of light on textured
surfaces. Matches of two photos are kept where they are mutual, distinct (Lowe's ratio test) and agree with
one epipolar geometry (MAGSAC++, Barath et al., 2020).
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from relightgan.core.errors import ConfigError

WORKING_PX = 640  # long side at which features are found: small photos are doubled, large ones reduced
EPIPOLAR_PX = 2.0  # largest distance of a match from its epipolar line, px at that size
MIN_INLIERS = 8  # lower limit of the setting `least_inliers`: any seven matches agree on some epipolar geometry
MAX_TRIES = 2000  # random samples from which the geometry of two photos is found
MIN_AGREEING_SHARE = 0.2  # share of the matches that must agree: by chance up to 13 of 100 do, and 22 of 300


@dataclass(frozen=True)
class MatchingSettings:
    """Which points of two photos are taken for one point of the set.

    Raises:
        ConfigError: a value makes no sense.
    """

    ratio: float = 0.85  # Lowe's ratio: a match must be this much nearer than the second nearest
    least_inliers: int = 15  # matches that must agree on one geometry, or the pair is dropped

    def __post_init__(self) -> None:
        if self.least_inliers < MIN_INLIERS:
            raise ConfigError(f"least_inliers is {self.least_inliers}.", f"Give at least {MIN_INLIERS}.")
        if not 0.0 < self.ratio <= 1.0:
            raise ConfigError(f"ratio is {self.ratio}.", "Give a value above 0, up to 1.")


@dataclass(frozen=True)
class Points:
    """The SIFT points of one photo: places (n, 2) in 0..1, and SIFT's own descriptors (n, 128) uint8."""

    xy: np.ndarray
    descriptors: np.ndarray
    size: tuple[int, int]  # width and height they were found at


def find_points(image: np.ndarray, max_points: int) -> Points:
    """The SIFT points of a photo.

    Args:
        image: (H, W, 3) float32 sRGB-encoded; values outside 0..1 are clamped.
        max_points: the strongest points are kept, at most so many.
    """
    height, width = image.shape[:2]
    scale = WORKING_PX / max(height, width)
    grey = cv2.cvtColor((np.clip(image, 0, 1) * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    size = (round(width * scale), round(height * scale))
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    # Without the precise upscale OpenCV's places lie a quarter of a pixel too far right and down.
    sift = cv2.SIFT.create(nfeatures=max_points, contrastThreshold=0.02, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None:
        return Points(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8), size)
    places = np.array([k.pt for k in keypoints], np.float32)
    # SIFT's floats are whole numbers up to 255; as bytes, thousands of photos fit into memory.
    return Points((places + 0.5) / np.array(size, np.float32), descriptors.astype(np.uint8), size)


def rooted(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors (n, 128) under the root transform: float32, at unit length."""
    values = descriptors.astype(np.float32)
    root: np.ndarray = np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-6))
    return root


def match_points(
    a: Points,
    b: Points,
    settings: MatchingSettings,
    unit_a: np.ndarray | None = None,
    unit_b: np.ndarray | None = None,
    tries: int = MAX_TRIES,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of points in `a` and `b` that are one point of the set; both (n,), empty where none agree.

    Args:
        a: points of one photo.
        b: of another.
        settings: what counts as a match.
        unit_a: `rooted` descriptors of `a`, where the caller has them.
        unit_b: likewise of `b`.
        tries: of their geometry, at most.
    """
    none = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if min(len(a.xy), len(b.xy)) < settings.least_inliers:
        return none
    unit_a = rooted(a.descriptors) if unit_a is None else unit_a
    unit_b = rooted(b.descriptors) if unit_b is None else unit_b
    in_a, in_b = distinct_matches(unit_a, unit_b, settings.ratio)
    if len(in_a) < settings.least_inliers:
        return none
    agreed = of_one_geometry(a.xy[in_a] * a.size, b.xy[in_b] * b.size, tries)
    if agreed.sum() < max(settings.least_inliers, MIN_AGREEING_SHARE * len(in_a)):
        return none
    return in_a[agreed], in_b[agreed]


def distinct_matches(unit_a: np.ndarray, unit_b: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of descriptors that are each other's nearest, and much nearer than the second; both (n,), ascending in a.

    Args:
        unit_a: (n, 128) float32, at unit length.
        unit_b: (m, 128) likewise.
        ratio: Lowe's.
    """
    similarity = unit_a @ unit_b.T
    best = similarity.argmax(axis=1)
    rows = np.arange(len(best))
    first = similarity[rows, best]
    # A column's largest value is read several times as fast as its place.
    nearest_both_ways = similarity.max(axis=0)[best] == first
    similarity[rows, best] = -1
    second = similarity.max(axis=1)
    # They have unit length, so distance squared is 2 - 2 * similarity.
    distinct = (1 - first) < ratio**2 * (1 - second)
    in_a = np.nonzero(nearest_both_ways & distinct)[0]
    # Equal descriptors in `a` share their nearest in `b`: the first one has it.
    in_a = in_a[np.sort(np.unique(best[in_a], return_index=True)[1])]
    return in_a, best[in_a]


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Within it, OpenCV and numpy's matrix products take one thread for each call.

    For many photos at once, each in a thread of its own: the libraries' own threads then only wait for each other, and
    twice the processor time is spent on the same numbers. It holds for the whole process.
    """
    blas, threads = _blas_threads(), cv2.getNumThreads()
    before = blas[0]() if blas else 0
    cv2.setNumThreads(1)
    if blas:
        blas[1](1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        if blas:
            blas[1](before)


def of_one_geometry(places_a: np.ndarray, places_b: np.ndarray, tries: int = MAX_TRIES) -> np.ndarray:
    """Which matches agree with one geometry of two cameras; (n, 2) places in pixels each, to (n,) bool."""
    cv2.setRNGSeed(0)
    try:
        _, inliers = cv2.findFundamentalMat(places_a, places_b, cv2.USAC_MAGSAC, EPIPOLAR_PX, 0.999, tries)
    except cv2.error:
        # OpenCV 5.0 trips over an empty model on one in twenty pairs of photos from the same place, such as from a
        # tripod. There the epipolar geometry isn't unique; a homography is.
        _, inliers = cv2.findHomography(places_a, places_b, cv2.USAC_MAGSAC, EPIPOLAR_PX, None, tries, 0.999)
    return np.zeros(len(places_a), bool) if inliers is None else inliers[:, 0] > 0


# Private implementation


def _blas_threads() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Reads and sets the threads of the OpenBLAS in numpy's wheel; None where numpy has another library."""
    package = Path(np.__file__).parent
    for path in (*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(str(path))  # the one numpy has loaded: a path is loaded once
            for name in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads"):
                if hasattr(library, name.format("set")):
                    return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None
