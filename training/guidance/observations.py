"""What photos of the other day saw at the places that a photo shows.

The depth of a pixel says where in the set its place is, and where that lies in any other photo; the other photo's own
depth says whether it sees the place or something in front of it. What several photos of the other day saw there is
combined robustly, so that a passer-by or a highlight in one of them is outvoted. Pixels without a known depth are taken
for sky: far away, and looked up among the unknown pixels of other photos.

The photos of the *same* day, asked in the same way, predict what a photo shows. How far that is off gives the weight of
each pixel, finds badly placed photos, and says how exact guidance is, without any truth to compare with.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.stops import tensor_stops
from relightgan.training.world.depth import DepthMaps
from relightgan.training.world.views import Sight, Views, nearest_values, rays, sight, smooth_colours

SAME_SHARE = 0.04  # of a depth: by how much two photos may differ about it and still see the same place,
SAME_STEPS = 0.7  # or by so many planes
AHEAD = 0.3  # cosine between the axes of two photos from which on they may show the same
TURNED_DEGREES = 25.0  # between two looks at a place: one from so far aside counts half, as highlights move
SCORED_PIXELS = 400  # of a photo, by which the photos to ask are chosen
CHECKED_PIXELS = 1500  # of a photo, by which it is tested against its own day
OWN_LOOKS = 8  # photos of its own day that a photo is tested against
DOUBTED_STOPS = 0.3  # a pixel about which photos disagree by this much counts half
LOOSE_STOPS = 0.15  # a photo that differs this much from what its own day's photos predict is badly placed,
LOOSE_TIMES = 3.0  # if it also is so many times worse than most
LEAST_CHECKED = 50  # pixels by which a photo can be judged
LONE_WEIGHT = 0.25  # of what one photo alone saw
UNTESTED_WEIGHT = 0.7  # of a place that no photo of the own day can test
SKY_WEIGHT = 0.5
LEAST_WEIGHT = 0.05  # less is as good as nothing
LEAST_SKY_LOOKS = 3
MEDIAN_STEPS = 10  # bisections, from the darkest to the brightest look
SETTLED_STOPS = 0.15  # looks within this of the median are averaged


@dataclass(frozen=True)
class Looks:
    """What V photos saw at p places.

    Attributes:
        stops: (V, 3, p) `stops.to_stops`.
        weight: (V, p) of each look; 0 where the photo doesn't see the place.
    """

    stops: Tensor
    weight: Tensor


@torch.no_grad()
def own_day_errors(views: Views, depths: DepthMaps, advance: Callable[[int], None] = lambda count: None) -> np.ndarray:
    """(n,) by how many stops each photo differs from what its own day's photos predict for it; NaN where none do.

    The median over pixels of the mean over channels. `advance(1)` after each photo.
    """
    errors = np.full(len(views), np.nan)
    everybody = np.ones(len(views), bool)
    for row in range(len(views)):
        pixels = torch.nonzero(_of(views, depths.known, row).reshape(-1))[:, 0]
        pixels = pixels[:: max(1, len(pixels) // CHECKED_PIXELS)]
        if len(pixels):
            directions = rays(views, row)[:, pixels]
            inverse = _of(views, depths.inverse, row).reshape(-1)[pixels]
            others = best_looks(views, depths, row, bool(views.of_target[row]), everybody, OWN_LOOKS)
            colour, _, count = agreed(surface_looks(views, depths, row, directions, inverse, others))
            off = (colour - tensor_stops(_of(views, views.colour, row).reshape(3, -1)[:, pixels])).abs().mean(dim=0)
            off = off[count >= 2]
            if len(off) >= LEAST_CHECKED:
                errors[row] = float(off.median())
        advance(1)
    return errors


def badly_placed(errors: np.ndarray) -> np.ndarray:
    """(n,) bool, which photos differ too much from their own day's; `errors` as `own_day_errors` gives them."""
    usual = float(np.median(errors[np.isfinite(errors)])) if np.isfinite(errors).any() else 0.0
    return np.isfinite(errors) & (errors > max(LOOSE_STOPS, LOOSE_TIMES * usual))


@torch.no_grad()
def guidance_maps(
    views: Views,
    depths: DepthMaps,
    of_target: bool,
    usable: np.ndarray,
    first: int,
    looks: int,
    advance: Callable[[int], None] = lambda count: None,
) -> GuidanceMaps:
    """Maps of one day's photos, from the photos of the other.

    Args:
        views: registered photos of both days.
        depths: their depths.
        of_target: whose photos get maps: the target's or the source's.
        usable: (n,) bool, which of the views may be asked and get maps.
        first: what the target's photos are counted from in `views.photos`.
        looks: photos of the other day that are asked about each photo.
        advance: called with 1 for each photo.
    """
    height, width = _common_size(views.sizes)
    photos, colours, weights = [], [], []
    for row in np.nonzero((views.of_target == of_target) & usable)[0]:
        colour, weight = (part.cpu().numpy() for part in guide(views, depths, int(row), usable, looks))
        if weight.max() > 0:
            photos.append(int(views.photos[row]) - (first if of_target else 0))
            colour, weight = _resized(colour, weight, height, width)
            colours.append(colour.astype(np.float16))
            weights.append(weight.astype(np.float16))
        advance(1)
    if not photos:
        return GuidanceMaps(
            np.zeros(0, int), np.zeros((0, height, width, 3), np.float16), np.zeros((0, height, width), np.float16)
        )
    return GuidanceMaps(np.array(photos), np.stack(colours), np.stack(weights))


def guide(views: Views, depths: DepthMaps, row: int, usable: np.ndarray, most: int) -> tuple[Tensor, Tensor]:
    """What the other day's photos saw at one photo's pixels: stops (h, w, 3), and weight (h, w)."""
    height, width = views.sizes[row]
    target = bool(views.of_target[row])
    known, inverse = (_of(views, maps, row).reshape(-1) for maps in (depths.known, depths.inverse))
    own = tensor_stops(_of(views, views.colour, row).reshape(3, -1))
    directions = rays(views, row)
    colour, weight = torch.zeros_like(own), torch.zeros_like(own[0])
    # Next to what is known, an unknown pixel shows a bit of it.
    sky = F.max_pool2d(known.view(1, 1, height, width).float(), 3, 1, 1).view(-1) == 0
    kinds = ((known, surface_looks, inverse, 1, 1.0), (sky, sky_looks, inverse * 0, LEAST_SKY_LOOKS, SKY_WEIGHT))
    for mask, looks_of, at, least, share in kinds:
        pixels = torch.nonzero(mask)[:, 0]
        if len(pixels) == 0:
            continue
        kind = (directions[:, pixels], at[pixels])
        far = looks_of is sky_looks
        theirs = best_looks(views, depths, row, not target, usable, most, far)
        ours = best_looks(views, depths, row, target, usable, OWN_LOOKS, far)
        found, spread, count = agreed(looks_of(views, depths, row, *kind, theirs))
        predicted, _, tests = agreed(looks_of(views, depths, row, *kind, ours))
        off = (predicted - own[:, pixels]).abs().mean(dim=0)
        trust = share / (1 + (spread / DOUBTED_STOPS).square())
        trust = trust * torch.where(tests > 0, 1 / (1 + (off / DOUBTED_STOPS).square()), UNTESTED_WEIGHT)
        trust = trust * torch.where(count == 1, LONE_WEIGHT, 1.0)
        trust = trust * ((count >= least) & (trust >= LEAST_WEIGHT))
        colour[:, pixels] = torch.where(trust > 0, found, torch.zeros_like(found))
        weight[pixels] = trust
    return colour.T.reshape(height, width, 3), weight.view(height, width)


def best_looks(
    views: Views, depths: DepthMaps, row: int, target: bool, usable: np.ndarray, most: int, far: bool = False
) -> np.ndarray:
    """(V,) rows of the photos of a day to ask about a photo: together they see as much of it as they can.

    Args:
        views: all photos.
        depths: of all photos.
        row: of the photo; it isn't asked itself.
        target: the target's day, or the source's.
        usable: (n,) bool, which may be asked.
        most: of them.
        far: ask about sky, not surfaces.
    """
    axes = views.poses[:, 2, :3]
    allowed = (views.of_target == target) & usable & (axes @ axes[row] > AHEAD)
    allowed[row] = False
    others = np.nonzero(allowed)[0]
    mask = _of(views, depths.known, row).reshape(-1) != far
    pixels = torch.nonzero(mask)[:, 0]
    if len(others) == 0 or len(pixels) == 0:
        return others[:0]
    pixels = pixels[:: max(1, len(pixels) // SCORED_PIXELS)]
    directions, inverse = rays(views, row)[:, pixels], _of(views, depths.inverse, row).reshape(-1)[pixels]
    if far:
        worth = _sky_worth(views, depths, row, directions, others)[1]
    else:
        worth = _surface_worth(views, depths, row, directions, inverse, others)[1]
    # One after another, each the one that adds most where few have been chosen.
    table, chosen = worth.cpu().numpy(), np.zeros(0, int)
    covered = np.zeros(table.shape[1])
    for _ in range(min(most, len(others))):
        gain = (table / (1 + covered)).sum(axis=1)  # not as a product of matrices, whose order depends on threads
        gain[chosen] = -1
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        chosen = np.append(chosen, best)
        covered += table[best]
    return others[chosen]


def surface_looks(
    views: Views, depths: DepthMaps, row: int, directions: Tensor, inverse: Tensor, others: np.ndarray
) -> Looks:
    """What other photos saw at places of a photo whose depth is known: those that have the same depth there.

    Args:
        views: all photos.
        depths: of all photos.
        row: of the photo.
        directions: (3, p) of its pixels.
        inverse: (p,) inverse depths.
        others: (V,) rows to ask.
    """
    seen, weight = _surface_worth(views, depths, row, directions, inverse, others)
    return Looks(tensor_stops(smooth_colours(views, others, seen)), weight)


def sky_looks(
    views: Views, depths: DepthMaps, row: int, directions: Tensor, inverse: Tensor, others: np.ndarray
) -> Looks:
    """What other photos saw infinitely far away in the directions of a photo's pixels; as `surface_looks`."""
    seen, weight = _sky_worth(views, depths, row, directions, others)
    return Looks(tensor_stops(smooth_colours(views, others, seen)), weight)


def agreed(looks: Looks) -> tuple[Tensor, Tensor, Tensor]:
    """What looks agree on: colour (3, p) in stops, their spread (p,) in stops, and how many (p,) there were.

    The colour is the mean of those near the weighted median; the spread, the weighted median distance from it.
    """
    seen = looks.weight > 0
    count = seen.sum(dim=0)
    if len(looks.stops) == 0:
        empty = torch.zeros(looks.stops.shape[1:], device=looks.stops.device)
        return empty, empty[0], count
    middle = weighted_median(looks.stops, looks.weight[:, None].expand_as(looks.stops))
    near = looks.weight[:, None] / (1 + ((looks.stops - middle) / SETTLED_STOPS).square())
    colour = (looks.stops * near).sum(dim=0) / near.sum(dim=0).clamp(min=1e-12)
    spread = weighted_median((looks.stops - colour).abs().mean(dim=1), looks.weight)
    return colour, spread, count


def weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """The weighted medians along the first axis, to 1/2048 of the values' range; by bisection, so without sorting."""
    start, step = float(values.min()), float(values.max() - values.min())
    found = torch.full_like(values[0], start)
    half = weight.sum(dim=0) / 2
    for _ in range(MEDIAN_STEPS):
        step /= 2
        below = ((values <= found + step) * weight).sum(dim=0)
        found += (below < half) * step
    return found + step / 2


# Private implementation


def _surface_worth(
    views: Views, depths: DepthMaps, row: int, directions: Tensor, inverse: Tensor, others: np.ndarray
) -> tuple[Sight, Tensor]:
    seen = sight(views, row, directions, inverse, others)
    apart = (nearest_values(depths.inverse, others, seen) - seen.inverse_depth).abs()
    step = depths.step[torch.from_numpy(others).to(views.device)][:, None]
    visible = seen.inside & (apart < torch.maximum(SAME_SHARE * seen.inverse_depth, SAME_STEPS * step))
    return seen, visible * _of_likeness(seen.likeness)


def _sky_worth(
    views: Views, depths: DepthMaps, row: int, directions: Tensor, others: np.ndarray
) -> tuple[Sight, Tensor]:
    seen = sight(views, row, directions, torch.zeros_like(directions[0]), others)
    return seen, (seen.inside & ~nearest_values(depths.known, others, seen)).float()


def _of_likeness(cosine: Tensor) -> Tensor:
    """Weights of looks that differ in direction: 1 for the same, half at `TURNED_DEGREES`."""
    aside = 2 * (1 - cosine.clamp(-1, 1))  # about the square of the angle
    return 1 / (1 + aside / np.radians(TURNED_DEGREES) ** 2)


def _of(views: Views, maps: Tensor, row: int) -> Tensor:
    height, width = views.sizes[row]
    return maps[row, ..., :height, :width]


def _common_size(sizes: np.ndarray) -> tuple[int, int]:
    """The rows and columns that most rasters have."""
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    height, width = kinds[counts.argmax()]
    return int(height), int(width)


def _resized(colour: np.ndarray, weight: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A map on another raster; colours don't mix with pixels that have none."""
    if weight.shape == (height, width):
        return colour, weight
    both = cv2.resize(np.dstack([colour * weight[..., None], weight]), (width, height), interpolation=cv2.INTER_AREA)
    share = both[..., 3]
    return np.where(share[..., None] > 0, both[..., :3] / np.maximum(share, 1e-9)[..., None], 0), share
