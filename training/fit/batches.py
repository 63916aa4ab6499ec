"""Batches: random crops of content-paired photos, with small rolls, zooms and shifts of the camera.

There are no flips and no colour changes on purpose: they would destroy the direction and colour of the light, which the
fit has to learn.
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

MAX_ROLL_DEGREES = 6.0  # the largest roll of a crop, either way
MIN_CROP_SHARE = 0.6  # the smallest side of a crop, as a share of the largest that fits into the photo


@dataclass(frozen=True)
class Batch:
    """Content-paired crops.

    Attributes:
        a: (N, 3, h, w) float32 source crops, sRGB-encoded (`srgb_log`); 0..1 for 8-bit photos.
        b: (N, 3, h, w) target crops; row n is a photo with the content of row n of `a`, in the target light.
        index_a: (N,) indices of the source photos.
        index_b: (N,) indices of the target photos.
        matrix_a: (N, 2, 3) affine maps from x, y in a crop of `a` to x, y in its photo, both 0..1.
    """

    a: Tensor
    b: Tensor
    index_a: np.ndarray
    index_b: np.ndarray
    matrix_a: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """The training photos of both days and their content pairs.

    Attributes:
        a: source photos.
        b: target photos.
        pairs: content pairs, as indices into `a` and `b`.
        gains: gains measured on the source photos by `pairs.patch_gains`; None where there is guidance, and for
            recipes that need no gains.
        guidance: guidance of the source photos from the target photos; None where the days couldn't be registered well
            enough.
    """

    a: Images
    b: Images
    pairs: Pairs
    gains: GainSamples | None = None
    guidance: GuidanceMaps | None = None

    def draw(self, rng: np.random.Generator, batch_size: int, size_px: int | tuple[int, int]) -> Batch:
        """Draws content-paired crops, balanced over viewpoints.

        Args:
            rng: the only source of random numbers: the same state gives the same batch.
            batch_size: number of pairs.
            size_px: side of square crops, or height and width, in pixels.
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
        rng: draws positions, zooms and rolls.
        bank: the photos.
        photos: (N,) indices into the bank.
        size: height and width of the crops in pixels.

    Returns:
        The crops (N, 3, h, w), sRGB-encoded (`srgb_log`), and (N, 2, 3) affine maps from x, y in a crop to x, y in its
        photo, both 0..1.
    """
    seeds = rng.integers(2**63, size=len(photos))  # one per photo, so that the order of the threads doesn't matter

    def draw(photo: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_crop(np.random.default_rng(seed), bank[photo], size)

    crops, matrices = zip(*workers().map(draw, photos.tolist(), seeds.tolist()), strict=True)
    return to_tensor(crops), np.stack(matrices)


@functools.cache
def workers() -> ThreadPoolExecutor:
    """The threads that decode and sample crops in parallel: a single one couldn't keep a GPU busy."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "crops")


def draw_crop(rng: np.random.Generator, image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A random crop of a photo: shifted, zoomed and rolled a little, with the aspect of pixels kept.

    Args:
        rng: draws position, zoom and roll.
        image: (H, W, 3) float32.
        size: height and width of the crop in pixels.

    Returns:
        The crop (h, w, 3) float32, and the (2, 3) affine map from x, y in the crop to x, y in the photo, both 0..1.
    """
    height, width = image.shape[:2]
    largest = min(width / size[1], height / size[0])  # photo pixels per crop pixel of the largest crop that fits
    scale = largest * rng.uniform(MIN_CROP_SHARE, 1.0)
    roll = math.radians(rng.uniform(-MAX_ROLL_DEGREES, MAX_ROLL_DEGREES))
    half_w, half_h = scale * size[1] / 2, scale * size[0] / 2
    centre_x = rng.uniform(half_w, width - half_w) if width > 2 * half_w else width / 2
    centre_y = rng.uniform(half_h, height - half_h) if height > 2 * half_h else height / 2
    turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    linear = turn @ np.diag([2 * half_w, 2 * half_h])  # maps 0..1 of the crop to photo pixels
    start = np.array([centre_x, centre_y]) - linear @ np.array([0.5, 0.5])
    crop = sample_affine(image, linear, start, size)
    to_unit = 1.0 / np.array([width, height])
    return crop, np.concatenate([linear * to_unit[:, None], (start * to_unit)[:, None]], axis=1)


def sample_affine(image: np.ndarray, linear: np.ndarray, start: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Samples a rotated rectangle of an image, antialiased where the result is smaller.

    Args:
        image: (H, W, 3) float32.
        linear: (2, 2) linear map from x, y in the result, 0..1, to pixels of the image.
        start: (2,) the position of the result's corner 0, 0 in the image, in pixels with edges at whole numbers.
        size: height and width of the result in pixels.
    """
    height, width = size
    finer = max(1, math.ceil(max(np.linalg.norm(linear[:, 0]) / width, np.linalg.norm(linear[:, 1]) / height) - 0.25))
    step = linear / np.array([width * finer, height * finer])
    # In OpenCV pixel centres lie at whole numbers, so half a pixel is added in the result and subtracted in the image.
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
    """N images (h, w, 3) of one size as a tensor (N, 3, h, w)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
