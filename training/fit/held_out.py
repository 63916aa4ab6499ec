"""Held-out photos, and how many stops a look is off on them.

The photos of the validation and test splits teach a fit nothing. Where it is known what the other day's photos saw at
the places that they show (guidance, or else patches that look alike), a look can be measured on them. Beside its error
stand that of the untouched photo, and that of the best simple colour transfer: a gain and a contrast for each channel,
fitted to the training photos. A look that isn't better than this hasn't learned anything about places.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch

from relightgan.core.colour import srgb_to_linear
from relightgan.training.days import Direction
from relightgan.training.fit.recipe import Recipe
from relightgan.training.guidance.back_translation import resampled
from relightgan.training.stops import CLIPPED_STOPS, to_stops

MAX_SIDE_PX = 320  # longest side of the pictures that are relit; a look reads less of them
WHITE_STOPS = CLIPPED_STOPS - 2.0**-10  # wanted colours from here up are minima; a little lower, as float16 rounds
TRANSFER_ROUNDS = 12  # reweighted fits of the transfer; its figures then stand still to 0.001 stops
NEAR_STOPS = 0.05  # errors below this count as if they were this large in a fit; it keeps weights finite
MIN_SPREAD = 1e-3  # the least variance of own colours, in stops squared, that shows a contrast


@dataclass(frozen=True)
class HeldOutPhoto:
    """A photo, and what is known of its places in the other light.

    Attributes:
        picture: (H, W, 3) float32, sRGB-encoded (`srgb_log`).
        wanted: (h, w, 3) stops (`stops.to_stops`) in the other light, on a raster over the photo; values from
            `WHITE_STOPS` up are minima.
        weight: (h, w) confidence, 0..1; 0 where nothing is known.
        sky: (h, w) bool, True for sky; None where that isn't known.
    """

    picture: np.ndarray
    wanted: np.ndarray
    weight: np.ndarray
    sky: np.ndarray | None = None


@dataclass(frozen=True)
class Transfer:
    """The simple colour transfer: stops = contrast * stops + gain, each (3,), one for each channel."""

    contrast: np.ndarray
    gain: np.ndarray

    def __call__(self, stops: np.ndarray) -> np.ndarray:
        """Colours (..., 3) in stops, in the other light."""
        return stops * self.contrast + self.gain


@dataclass(frozen=True)
class HeldOut:
    """What a look of one direction is measured on.

    Attributes:
        direction: of the look.
        photos: at least one.
        known_by: "guidance": the other day's photos of the same places; "patches": patches that look alike.
        unseen: True where the fit learns nothing from these photos.
        transfer: fitted to the training photos.
    """

    direction: Direction
    photos: Sequence[HeldOutPhoto]
    known_by: Literal["guidance", "patches"]
    unseen: bool
    transfer: Transfer


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors on held-out photos, in stops, weighted by confidence.

    Attributes:
        look: of the look.
        untouched: of the photos as they are.
        transfer: of the best simple colour transfer.
        sky: of the look where there is sky; None where none is known.
        surface: of the look elsewhere; None likewise.
    """

    look: float
    untouched: float
    transfer: float
    sky: float | None = None
    surface: float | None = None


@torch.no_grad()
def measure(recipe: Recipe, held_out: HeldOut, device: torch.device) -> Errors:
    """The errors of a recipe's averaged weights; it uses no random numbers.

    Args:
        recipe: relights.
        held_out: of a direction that the recipe has.
        device: of the recipe.
    """
    sums = {name: np.zeros(2) for name in ("look", "untouched", "transfer", "sky", "surface")}

    def add(name: str, stops: np.ndarray, photo: HeldOutPhoto, weight: np.ndarray) -> None:
        sums[name] += (missed(stops, photo.wanted) * weight).sum(), weight.sum()

    for photo in held_out.photos:
        picture = torch.from_numpy(photo.picture).permute(2, 0, 1)[None].contiguous().to(device)
        with one_core():
            relit = recipe.relight(picture, held_out.direction)[0].float().permute(1, 2, 0).cpu().numpy()
        shape = photo.weight.shape
        own = on_raster(photo.picture, shape)
        theirs = on_raster(np.nan_to_num(relit), shape)
        add("look", theirs, photo, photo.weight)
        add("untouched", own, photo, photo.weight)
        add("transfer", held_out.transfer(own), photo, photo.weight)
        if photo.sky is not None:
            add("sky", theirs, photo, photo.weight * photo.sky)
            add("surface", theirs, photo, photo.weight * ~photo.sky)
    means = {name: float(total / weight) if weight > 0 else None for name, (total, weight) in sums.items()}
    look, untouched, transfer = (means[name] or 0.0 for name in ("look", "untouched", "transfer"))
    return Errors(look, untouched, transfer, means["sky"], means["surface"])


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Within it, torch works on one core: small pictures are done sooner so, on a busy machine twenty times."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(cores)


def missed(stops: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(h, w) the error of colours in stops, mean over channels; none above a wanted colour that was clipped."""
    off = stops - wanted
    off[(wanted >= WHITE_STOPS) & (off > 0)] = 0
    mean: np.ndarray = np.abs(off).mean(axis=-1)
    return mean


def on_raster(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w, 3) stops of a picture, sRGB-encoded, on a raster over it."""
    return to_stops(resampled(srgb_to_linear(picture), *shape))


def reduced(picture: np.ndarray) -> np.ndarray:
    """A picture with no side longer than `MAX_SIDE_PX`."""
    height, width = picture.shape[:2]
    scale = MAX_SIDE_PX / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(picture, np.float32)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def fit_transfer(own: np.ndarray, wanted: np.ndarray, weight: np.ndarray) -> Transfer:
    """The transfer with the smallest weighted mean absolute error, by reweighted least squares.

    Args:
        own: (n, 3) stops of the plate.
        wanted: (n, 3) stops in the other light; those from `WHITE_STOPS` up don't count.
        weight: (n,) confidence, 0..1.
    """
    contrast, gain = np.ones(3), np.zeros(3)
    for channel in range(3):
        known = (wanted[:, channel] < WHITE_STOPS) & (weight > 0)
        x, y, trust = (part[known].astype(np.float64) for part in (own[:, channel], wanted[:, channel], weight))
        if len(x) == 0:
            continue
        near = trust
        for _ in range(TRANSFER_ROUNDS):
            mean_x, mean_y = np.average(x, weights=near), np.average(y, weights=near)
            spread = np.average((x - mean_x) ** 2, weights=near)
            slope = np.average((x - mean_x) * (y - mean_y), weights=near) / spread if spread > MIN_SPREAD else 1.0
            contrast[channel], gain[channel] = slope, mean_y - slope * mean_x
            near = trust / np.maximum(np.abs(x * slope + gain[channel] - y), NEAR_STOPS)
    return Transfer(contrast, gain)


def transfer_of(photos: Iterable[HeldOutPhoto]) -> Transfer:
    """The simple transfer that suits these photos best."""
    own, wanted, weight = [], [], []
    for photo in photos:
        own.append(on_raster(photo.picture, photo.weight.shape).reshape(-1, 3))
        wanted.append(photo.wanted.reshape(-1, 3))
        weight.append(photo.weight.reshape(-1))
    return fit_transfer(*(np.concatenate(part) for part in (own, wanted, weight)))
