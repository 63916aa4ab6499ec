"""Observations: what other photos show at the places of the set that a photo shows.

A pixel's depth gives its place in the set, and so its position in any other photo. The other photo's own depth tells
whether it sees that place or something in front of it. A robust mean combines the observations of several photos of the
other day, so that a passer-by or a highlight in one of them hardly counts. Pixels without a known depth are taken for
sky: infinitely far away, and observed among the pixels without a known depth of other photos.

Photos of the *same* day predict a photo's colours in the same way. The error of this prediction gives the weight of
each pixel, finds badly placed photos, and measures how exact guidance is, without any ground truth.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from relightgan.training.days import SOURCE, TARGET, Numbering
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.stops import tensor_stops
from relightgan.training.world.depth import DepthMaps
from relightgan.training.world.views import (
    Projection,
    RegisteredViews,
    project_pixels,
    rays,
    sample_colours,
    sample_nearest,
)

# Two photos see the same place if their inverse depths there differ by less than either of these.
SAME_SHARE = 0.04  # difference as a share of the inverse depth
SAME_STEPS = 0.7  # difference in planes of the sweep
MIN_AXIS_COSINE = 0.3  # cosine between two photos' optical axes above which they may see the same place
HALF_WEIGHT_DEGREES = 25.0  # angle between two viewing rays at which an observation's weight is halved: highlights move
SCORED_PIXELS = 400  # pixels of a photo used to choose its observers
CHECKED_PIXELS = 1500  # pixels of a photo compared with its own day's prediction
OWN_DAY_OBSERVERS = 8  # photos of its own day that predict a photo
HALF_TRUST_STOPS = 0.3  # spread or error of prediction that halves a pixel's weight
# A photo is badly placed if its prediction error is above both of these.
MISPLACED_STOPS = 0.15  # error in stops
MISPLACED_FACTOR = 3.0  # error as a multiple of the median photo's
MIN_CHECKED_PIXELS = 50  # smallest number of compared pixels that gives a prediction error
SINGLE_WEIGHT = 0.25  # factor on the weight of a pixel with a single observation
UNCHECKED_WEIGHT = 0.7  # factor on the weight of a pixel that no photo of its own day sees
SKY_WEIGHT = 0.5  # factor on the weight of sky
MIN_WEIGHT = 0.05  # smallest weight that is kept; lower ones become 0
MIN_SKY_OBSERVATIONS = 3  # smallest number of observations that gives a pixel of sky any weight
MEDIAN_STEPS = 10  # bisections between the darkest and the brightest observation
MEAN_STOPS = 0.15  # distance from the median at which an observation counts half in the mean


@dataclass(frozen=True)
class Observations:
    """The colours of p places in V photos.

    Attributes:
        stops: (V, 3, p) colours, as `stops.to_stops`.
        weight: (V, p) weight of each observation; 0 where the photo doesn't see the place.
    """

    stops: Tensor
    weight: Tensor


@torch.no_grad()
def own_day_errors(
    views: RegisteredViews, depths: DepthMaps, advance: Callable[[int], None] = lambda count: None
) -> np.ndarray:
    """(n,) each photo's difference from its own day's prediction, in stops; NaN where too few photos see it.

    Median over pixels of the mean over channels. Calls `advance(1)` after each photo.
    """
    errors = np.full(len(views), np.nan)
    everybody = np.ones(len(views), bool)
    for row in range(len(views)):
        pixels = torch.nonzero(_on_raster(views, depths.known, row).reshape(-1))[:, 0]
        pixels = pixels[:: max(1, len(pixels) // CHECKED_PIXELS)]
        if len(pixels):
            directions = rays(views, row)[:, pixels]
            inverse = _on_raster(views, depths.inverse, row).reshape(-1)[pixels]
            others = best_observers(views, depths, row, int(views.day[row]), everybody, OWN_DAY_OBSERVERS)
            colour, _, count = consensus(surface_observations(views, depths, row, directions, inverse, others))
            own = tensor_stops(_on_raster(views, views.colour, row).reshape(3, -1)[:, pixels])
            error = (colour - own).abs().mean(dim=0)
            error = error[count >= 2]
            if len(error) >= MIN_CHECKED_PIXELS:
                errors[row] = float(error.median())
        advance(1)
    return errors


def badly_placed(errors: np.ndarray) -> np.ndarray:
    """(n,) bool, True for photos too far from their own day's prediction; `errors` (n,) as of `own_day_errors`."""
    usual = float(np.median(errors[np.isfinite(errors)])) if np.isfinite(errors).any() else 0.0
    return np.isfinite(errors) & (errors > max(MISPLACED_STOPS, MISPLACED_FACTOR * usual))


@torch.no_grad()
def guidance_maps(
    views: RegisteredViews,
    depths: DepthMaps,
    day: int,
    usable: np.ndarray,
    numbering: Numbering,
    max_observers: int,
    advance: Callable[[int], None] = lambda count: None,
) -> GuidanceMaps:
    """Guidance maps of one day's photos, from observations by the other day's.

    Args:
        views: registered photos of both days.
        depths: of all views.
        day: `days.SOURCE` or `days.TARGET`: whose photos get maps.
        usable: (n,) bool, True for views that may observe and get maps.
        numbering: of `views.photos`.
        max_observers: photos of the other day that observe each photo, at most.
        advance: called with 1 after each photo.
    """
    height, width = _common_size(views.sizes)
    photos, colours, weights = [], [], []
    for row in np.nonzero((views.day == day) & usable)[0]:
        maps = photo_guidance(views, depths, int(row), usable, max_observers)
        colour, weight = (part.cpu().numpy() for part in maps)
        if weight.max() > 0:
            photos.append(int(views.photos[row]) - numbering.start(day))
            colour, weight = _resized(colour, weight, height, width)
            colours.append(colour.astype(np.float16))
            weights.append(weight.astype(np.float16))
        advance(1)
    if not photos:
        return GuidanceMaps(
            np.zeros(0, int), np.zeros((0, height, width, 3), np.float16), np.zeros((0, height, width), np.float16)
        )
    return GuidanceMaps(np.array(photos), np.stack(colours), np.stack(weights))


def photo_guidance(
    views: RegisteredViews, depths: DepthMaps, row: int, usable: np.ndarray, max_observers: int
) -> tuple[Tensor, Tensor]:
    """The guidance of one photo: the other day's colour (h, w, 3) in stops, and its weight (h, w) 0..1.

    Args:
        views: all photos.
        depths: of all photos.
        row: of the photo.
        usable: (n,) bool, True for views that may observe.
        max_observers: photos of the other day that observe it, at most.
    """
    height, width = views.sizes[row]
    own_day = int(views.day[row])
    other_day = SOURCE if own_day == TARGET else TARGET
    known, inverse = (_on_raster(views, maps, row).reshape(-1) for maps in (depths.known, depths.inverse))
    own = tensor_stops(_on_raster(views, views.colour, row).reshape(3, -1))
    directions = rays(views, row)
    colour, weight = torch.zeros_like(own), torch.zeros_like(own[0])
    # A pixel next to one of known depth shows a part of that surface, and is no sky.
    sky = F.max_pool2d(known.view(1, 1, height, width).float(), 3, 1, 1).view(-1) == 0
    kinds = (
        (known, surface_observations, inverse, 1, 1.0),
        (sky, sky_observations, inverse * 0, MIN_SKY_OBSERVATIONS, SKY_WEIGHT),
    )
    for mask, observe, at, min_count, factor in kinds:
        pixels = torch.nonzero(mask)[:, 0]
        if len(pixels) == 0:
            continue
        places = (directions[:, pixels], at[pixels])
        is_sky = observe is sky_observations
        theirs = best_observers(views, depths, row, other_day, usable, max_observers, is_sky)
        ours = best_observers(views, depths, row, own_day, usable, OWN_DAY_OBSERVERS, is_sky)
        found, spread, count = consensus(observe(views, depths, row, *places, theirs))
        predicted, _, checks = consensus(observe(views, depths, row, *places, ours))
        error = (predicted - own[:, pixels]).abs().mean(dim=0)
        trust = factor / (1 + (spread / HALF_TRUST_STOPS).square())
        trust = trust * torch.where(checks > 0, 1 / (1 + (error / HALF_TRUST_STOPS).square()), UNCHECKED_WEIGHT)
        trust = trust * torch.where(count == 1, SINGLE_WEIGHT, 1.0)
        trust = trust * ((count >= min_count) & (trust >= MIN_WEIGHT))
        colour[:, pixels] = torch.where(trust > 0, found, torch.zeros_like(found))
        weight[pixels] = trust
    return colour.T.reshape(height, width, 3), weight.view(height, width)


def best_observers(
    views: RegisteredViews,
    depths: DepthMaps,
    row: int,
    day: int,
    usable: np.ndarray,
    max_count: int,
    sky: bool = False,
) -> np.ndarray:
    """(V,) rows of the photos of a day that together see as much of a photo's places as possible.

    Args:
        views: all photos.
        depths: of all photos.
        row: of the photo; it doesn't observe itself.
        day: `days.SOURCE` or `days.TARGET`: the day of the observers.
        usable: (n,) bool, True for views that may observe.
        max_count: how many at most.
        sky: True for observers of the photo's sky, False for observers of its surfaces.
    """
    axes = views.poses[:, 2, :3]
    allowed = (views.day == day) & usable & (axes @ axes[row] > MIN_AXIS_COSINE)
    allowed[row] = False
    others = np.nonzero(allowed)[0]
    mask = _on_raster(views, depths.known, row).reshape(-1) != sky
    pixels = torch.nonzero(mask)[:, 0]
    if len(others) == 0 or len(pixels) == 0:
        return others[:0]
    pixels = pixels[:: max(1, len(pixels) // SCORED_PIXELS)]
    directions, inverse = rays(views, row)[:, pixels], _on_raster(views, depths.inverse, row).reshape(-1)[pixels]
    if sky:
        worth = _sky_weights(views, depths, row, directions, others)[1]
    else:
        worth = _surface_weights(views, depths, row, directions, inverse, others)[1]
    # Greedy: each next observer is the one that adds most where few have been chosen.
    table, chosen = worth.cpu().numpy(), np.zeros(0, int)
    covered = np.zeros(table.shape[1])
    for _ in range(min(max_count, len(others))):
        gain = (table / (1 + covered)).sum(axis=1)  # no matrix product: its sum order depends on the number of threads
        gain[chosen] = -1
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        chosen = np.append(chosen, best)
        covered += table[best]
    return others[chosen]


def surface_observations(
    views: RegisteredViews, depths: DepthMaps, row: int, directions: Tensor, inverse: Tensor, others: np.ndarray
) -> Observations:
    """Other photos' observations of a photo's pixels of known depth. A photo sees a place if it has the same depth.

    Args:
        views: all photos.
        depths: of all photos.
        row: of the photo.
        directions: (3, p) viewing directions of its pixels, z = 1.
        inverse: (p,) their inverse depths.
        others: (V,) rows of the observers.
    """
    seen, weight = _surface_weights(views, depths, row, directions, inverse, others)
    return Observations(tensor_stops(sample_colours(views, others, seen)), weight)


def sky_observations(
    views: RegisteredViews, depths: DepthMaps, row: int, directions: Tensor, inverse: Tensor, others: np.ndarray
) -> Observations:
    """Other photos' observations of a photo's sky, at infinity; arguments as of `surface_observations`."""
    seen, weight = _sky_weights(views, depths, row, directions, others)
    return Observations(tensor_stops(sample_colours(views, others, seen)), weight)


def consensus(observations: Observations) -> tuple[Tensor, Tensor, Tensor]:
    """The robust mean (3, p) of observations in stops, their spread (p,) in stops, and their number (p,).

    The mean weights observations down with their distance from the weighted median. The spread is the weighted median
    distance from the mean.
    """
    seen = observations.weight > 0
    count = seen.sum(dim=0)
    stops, weight = observations.stops, observations.weight
    if len(stops) == 0:
        empty = torch.zeros(stops.shape[1:], device=stops.device)
        return empty, empty[0], count
    middle = weighted_median(stops, weight[:, None].expand_as(stops))
    near = weight[:, None] / (1 + ((stops - middle) / MEAN_STOPS).square())
    colour = (stops * near).sum(dim=0) / near.sum(dim=0).clamp(min=1e-12)
    spread = weighted_median((stops - colour).abs().mean(dim=1), weight)
    return colour, spread, count


def weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted medians along the first axis, to 1/2048 of the values' range; by bisection, without sorting."""
    start, step = float(values.min()), float(values.max() - values.min())
    found = torch.full_like(values[0], start)
    half = weight.sum(dim=0) / 2
    for _ in range(MEDIAN_STEPS):
        step /= 2
        below = ((values <= found + step) * weight).sum(dim=0)
        found += (below < half) * step
    return found + step / 2


# Private implementation


def _surface_weights(
    views: RegisteredViews, depths: DepthMaps, row: int, directions: Tensor, inverse: Tensor, others: np.ndarray
) -> tuple[Projection, Tensor]:
    seen = project_pixels(views, row, directions, inverse, others)
    apart = (sample_nearest(depths.inverse, others, seen) - seen.inverse_depth).abs()
    step = depths.step[torch.from_numpy(others).to(views.device)][:, None]
    visible = seen.inside & (apart < torch.maximum(SAME_SHARE * seen.inverse_depth, SAME_STEPS * step))
    return seen, visible * _angle_weights(seen.cosine)


def _sky_weights(
    views: RegisteredViews, depths: DepthMaps, row: int, directions: Tensor, others: np.ndarray
) -> tuple[Projection, Tensor]:
    seen = project_pixels(views, row, directions, torch.zeros_like(directions[0]), others)
    return seen, (seen.inside & ~sample_nearest(depths.known, others, seen)).float()


def _angle_weights(cosine: Tensor) -> Tensor:
    """Weights by the angle between two viewing rays: 1 for none, 0.5 for `HALF_WEIGHT_DEGREES`."""
    squared_angle = 2 * (1 - cosine.clamp(-1, 1))  # approximately
    return 1 / (1 + squared_angle / np.radians(HALF_WEIGHT_DEGREES) ** 2)


def _on_raster(views: RegisteredViews, maps: Tensor, row: int) -> Tensor:
    """A photo's part of maps (n, ..., H, W) on the canvas."""
    height, width = views.sizes[row]
    return maps[row, ..., :height, :width]


def _common_size(sizes: np.ndarray) -> tuple[int, int]:
    """The most common rows and columns of rasters (n, 2)."""
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    height, width = kinds[counts.argmax()]
    return int(height), int(width)


def _resized(colour: np.ndarray, weight: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A map resampled to another raster; pixels without weight don't mix into the colours."""
    if weight.shape == (height, width):
        return colour, weight
    both = cv2.resize(np.dstack([colour * weight[..., None], weight]), (width, height), interpolation=cv2.INTER_AREA)
    share = both[..., 3]
    return np.where(share[..., None] > 0, both[..., :3] / np.maximum(share, 1e-9)[..., None], 0), share
