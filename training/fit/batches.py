"""The photos of both days as the fit sees them: content-paired crops with small, light-preserving changes of camera.

Flips and colour changes are left out on purpose: they would destroy the direction and the colour of the light, which is
what is to be learned. Small rolls, zooms and shifts only move the camera.
"""

import functools
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.pairs.pairing import Pairs
from relightgan.training.pairs.patch_gains import GainSamples
from relightgan.training.photos.bank import Images

MOST_ROLL_DEGREES = 6.0
LEAST_ZOOM = 0.6  # the smallest crop, as a fraction of the largest that fits


@dataclass(frozen=True)
class Batch:
    """Content-paired crops.

    Attributes:
        a: (N, 3, h, w) float32 source crops, sRGB-encoded (`srgb_log`); 0..1 for 8-bit photos.
        b: (N, 3, h, w) target crops; row n shows what row n of `a` shows, in the other light.
        index_a: (N,) the source photos.
        index_b: (N,) the target photos.
        matrix_a: (N, 2, 3) from a crop's x, y in 0..1 to its photo's x, y in 0..1.
    """

    a: Tensor
    b: Tensor
    index_a: np.ndarray
    index_b: np.ndarray
    matrix_a: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """The training photos of both folders and their content pairs.

    Attributes:
        a: source photos.
        b: target photos.
        pairs: which show the same, by index into `a` and `b`.
        gains: measured on the source photos, from `targets.measure_gains`; None for recipes that don't use them, and
            where there is guidance.
        guidance: what target photos saw where source photos look; None where the days couldn't be registered well
            enough.
    """

    a: Images
    b: Images
    pairs: Pairs
    gains: GainSamples | None = None
    guidance: GuidanceMaps | None = None

    def draw(self, rng: np.random.Generator, batch_size: int, size_px: int | tuple[int, int]) -> Batch:
        """Draws content-paired crops, balanced over views.

        Args:
            rng: decides everything; the same state gives the same batch.
            batch_size: number of pairs.
            size_px: side of the square crops, or their height and width.
        """
        size = (size_px, size_px) if isinstance(size_px, int) else size_px
        numbers = self.pairs.draw(rng, batch_size)
        index_a, index_b = self.pairs.a[numbers], self.pairs.b[numbers]
        a, matrices = draw_photos(rng, self.a, index_a, size)
        b, _ = draw_photos(rng, self.b, index_b, size)
        return Batch(a, b, index_a, index_b, matrices)


def draw_photos(
    rng: np.random.Generator, bank: Images, photos: np.ndarray, size: tuple[int, int]
) -> tuple[Tensor, np.ndarray]:
    """A random crop of each of some photos; see `draw_crop`.

    Args:
        rng: decides places, zooms and rolls.
        bank: the photos.
        photos: (N,) which of them.
        size: height and width of the crops in pixels.

    Returns:
        The crops (N, 3, h, w), sRGB-encoded (`srgb_log`), and (N, 2, 3) from their x, y in 0..1 to their photos'.
    """
    seeds = rng.integers(2**63, size=len(photos))  # one each, so that it doesn't matter who is done first

    def draw(photo: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_crop(np.random.default_rng(seed), bank[photo], size)

    crops, matrices = zip(*workers().map(draw, photos.tolist(), seeds.tolist()), strict=True)
    return to_tensor(crops), np.stack(matrices)


@functools.cache
def workers() -> ThreadPoolExecutor:
    """Threads that decode and cut crops side by side; a GPU would wait for one alone."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "crops")


def draw_crop(rng: np.random.Generator, image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A random crop of a photo: shifted, zoomed and rolled a little, never stretched.

    Args:
        rng: decides place, zoom and roll.
        image: (H, W, 3) float32.
        size: height and width of the crop in pixels.

    Returns:
        The crop (h, w, 3) float32, and the (2, 3) matrix from its x, y in 0..1 to the photo's x, y in 0..1.
    """
    height, width = image.shape[:2]
    largest = min(width / size[1], height / size[0])  # photo pixels per crop pixel of the largest crop that fits
    scale = largest * rng.uniform(LEAST_ZOOM, 1.0)
    roll = math.radians(rng.uniform(-MOST_ROLL_DEGREES, MOST_ROLL_DEGREES))
    half_w, half_h = scale * size[1] / 2, scale * size[0] / 2
    centre_x = rng.uniform(half_w, width - half_w) if width > 2 * half_w else width / 2
    centre_y = rng.uniform(half_h, height - half_h) if height > 2 * half_h else height / 2
    turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    linear = turn @ np.diag([2 * half_w, 2 * half_h])  # from 0..1 of the crop to photo pixels
    start = np.array([centre_x, centre_y]) - linear @ np.array([0.5, 0.5])
    crop = sample_affine(image, linear, start, size)
    to_unit = 1.0 / np.array([width, height])
    return crop, np.concatenate([linear * to_unit[:, None], (start * to_unit)[:, None]], axis=1)


def sample_affine(image: np.ndarray, linear: np.ndarray, start: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Samples a turned rectangle of an image, without aliasing where that reduces it.

    Args:
        image: (H, W, 3) float32.
        linear: (2, 2) from x, y in 0..1 of the result to pixels of the image.
        start: (2,) where the result's 0, 0 lies, in pixels of the image (edges at whole numbers).
        size: height and width of the result in pixels.
    """
    height, width = size
    finer = max(1, math.ceil(max(np.linalg.norm(linear[:, 0]) / width, np.linalg.norm(linear[:, 1]) / height) - 0.25))
    step = linear / np.array([width * finer, height * finer])
    # OpenCV counts pixel centres, so half a pixel goes in on one side and out on the other.
    matrix = np.concatenate([step, (start + step @ np.array([0.5, 0.5]) - 0.5)[:, None]], axis=1)
    fine = cv2.warpAffine(
        image,
        matrix,
        (width * finer, height * finer),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    return fine if finer == 1 else cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)


def to_tensor(images: Sequence[np.ndarray]) -> Tensor:
    """Images (h, w, 3) of one size as one (N, 3, h, w) tensor."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
