"""Points of the set found in photos of both days, by local features.

SIFT (Lowe, 2004) with the root transform (Arandjelovic and Zisserman, 2012) survives a change of light on textured
surfaces. Matches of content-paired photos are kept where they are mutual, distinct (Lowe's ratio test) and agree with
one epipolar geometry (MAGSAC++, Barath et al., 2020).
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from relightgan.core.errors import ConfigError

WORKING_PX = 640  # long side the features are found at: small photos are doubled, large ones reduced
EPIPOLAR_PX = 2.0  # at that size, how far a match may lie from its epipolar line
FEWEST_INLIERS = 8  # any seven matches agree on some epipolar geometry
LEAST_SHARE = 0.2  # of the matches that must agree: by chance up to 13 of 100 do, and 22 of 300


@dataclass(frozen=True)
class MatchingSettings:
    """How points seen on both days are found.

    Raises:
        ConfigError: a value makes no sense.
    """

    enabled: bool = True  # off: the fit learns from patches alone
    max_points: int = 2000  # SIFT points a photo, strongest first
    ratio: float = 0.85  # Lowe's ratio: a match must be this much nearer than the second nearest
    least_inliers: int = 15  # matches that must agree on one geometry, or the pair is dropped
    partners: int = 12  # each photo is matched with this many of its content-paired photos, nearest first
    max_pairs: int = 20000  # pairs of photos that are tried in all; every photo's nearest come first

    def __post_init__(self) -> None:
        for name, least in (("max_points", 1), ("least_inliers", FEWEST_INLIERS), ("partners", 1), ("max_pairs", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {least}.")
        if not 0.0 < self.ratio <= 1.0:
            raise ConfigError(f"ratio is {self.ratio}.", "Give a value above 0, up to 1.")


@dataclass(frozen=True)
class PointMatches:
    """Points of the set seen in a source and a target photo.

    Attributes:
        a: (n,) index of the source photo.
        b: (n,) index of the target photo.
        xy_a: (n, 2) float32 place in the source photo, x and y in 0..1 of its width and height.
        xy_b: (n, 2) float32 place in the target photo.
        verified_pairs: how many pairs of photos agreed on a geometry.
    """

    a: np.ndarray
    b: np.ndarray
    xy_a: np.ndarray
    xy_b: np.ndarray
    verified_pairs: int

    def __len__(self) -> int:
        return len(self.a)


@dataclass(frozen=True)
class Points:
    """The SIFT points of one photo: places (n, 2) in 0..1, and SIFT's own descriptors (n, 128) uint8."""

    xy: np.ndarray
    descriptors: np.ndarray
    size: tuple[int, int]  # width and height they were found at


def find_points(image: np.ndarray, settings: MatchingSettings) -> Points:
    """The SIFT points of a photo.

    Args:
        image: (H, W, 3) float32 sRGB-encoded; values outside 0..1 are held.
        settings: how many points.
    """
    height, width = image.shape[:2]
    scale = WORKING_PX / max(height, width)
    grey = cv2.cvtColor((np.clip(image, 0, 1) * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    size = (round(width * scale), round(height * scale))
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    # Without the precise upscale OpenCV's places lie a quarter of a pixel too far right and down.
    sift = cv2.SIFT.create(nfeatures=settings.max_points, contrastThreshold=0.02, enable_precise_upscale=True)
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


def match_points(a: Points, b: Points, settings: MatchingSettings) -> tuple[np.ndarray, np.ndarray]:
    """Indices of points in `a` and `b` that are one point of the set; both (n,), empty where none agree."""
    none = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if min(len(a.xy), len(b.xy)) < settings.least_inliers:
        return none
    similarity = rooted(a.descriptors) @ rooted(b.descriptors).T
    best = similarity.argmax(axis=1)
    rows = np.arange(len(best))
    first = similarity[rows, best]
    mutual = similarity.argmax(axis=0)[best] == rows
    similarity[rows, best] = -1
    second = similarity.max(axis=1)
    # They have unit length, so distance squared is 2 - 2 * similarity.
    distinct = (1 - first) < settings.ratio**2 * (1 - second)
    in_a = np.nonzero(mutual & distinct)[0]
    in_b = best[in_a]
    if len(in_a) < settings.least_inliers:
        return none
    agreed = of_one_geometry(a.xy[in_a] * a.size, b.xy[in_b] * b.size)
    if agreed.sum() < max(settings.least_inliers, LEAST_SHARE * len(in_a)):
        return none
    return in_a[agreed], in_b[agreed]


def of_one_geometry(places_a: np.ndarray, places_b: np.ndarray) -> np.ndarray:
    """Which matches agree with one geometry of two cameras; (n, 2) places in pixels each, to (n,) bool."""
    cv2.setRNGSeed(0)
    try:
        _, inliers = cv2.findFundamentalMat(places_a, places_b, cv2.USAC_MAGSAC, EPIPOLAR_PX, 0.999, 2000)
    except cv2.error:
        # OpenCV 5.0 trips over an empty model on one in twenty pairs of photos from the same place, such as from a
        # tripod. There the epipolar geometry isn't unique; a homography is.
        _, inliers = cv2.findHomography(places_a, places_b, cv2.USAC_MAGSAC, EPIPOLAR_PX, None, 2000, 0.999)
    return np.zeros(len(places_a), bool) if inliers is None else inliers[:, 0] > 0


def match_photos(
    images_a: Sequence[np.ndarray],
    images_b: Sequence[np.ndarray],
    pairs: np.ndarray,
    settings: MatchingSettings,
    threads: int,
    advance: Callable[[int], None] = lambda count: None,
) -> PointMatches:
    """Finds points of the set in content-paired photos.

    Args:
        images_a: source photos, (H, W, 3) float32 sRGB-encoded; may be a lazy sequence.
        images_b: target photos.
        pairs: (P, 2) indices of a source and a target photo, the most promising first.
        settings: what counts as a match.
        threads: how many at a time; the result doesn't depend on it.
        advance: told how many photos and pairs have been done since the last call, out of
            len(images_a) + len(images_b) + P.
    """

    def points_of(images: Sequence[np.ndarray], index: int) -> Points:
        found = find_points(images[index], settings)
        advance(1)
        return found

    def match(pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = match_points(points_a[pair[0]], points_b[pair[1]], settings)
        advance(1)
        return found

    with ThreadPoolExecutor(threads) as pool:
        # By number: given the images themselves, map would read all of them first.
        points_a = list(pool.map(functools.partial(points_of, images_a), range(len(images_a))))
        points_b = list(pool.map(functools.partial(points_of, images_b), range(len(images_b))))
        matched = list(pool.map(match, pairs))
    counts = [len(in_a) for in_a, _ in matched]
    a, b = np.repeat(pairs[:, 0], counts), np.repeat(pairs[:, 1], counts)
    xy_a = [points_a[i].xy[found] for (i, _), (found, _) in zip(pairs, matched, strict=True)]
    xy_b = [points_b[j].xy[found] for (_, j), (_, found) in zip(pairs, matched, strict=True)]
    empty = np.zeros((0, 2), np.float32)
    return PointMatches(
        a, b, np.concatenate([empty, *xy_a]), np.concatenate([empty, *xy_b]), sum(count > 0 for count in counts)
    )
