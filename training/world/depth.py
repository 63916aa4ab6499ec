"""Depth of every pixel of registered photos, from the photos of the same day around them.

Planes at steps of inverse depth are swept through the set (R. Collins, "A Space-Sweep Approach to True Multi-Image
Matching", CVPR 1996; on graphics hardware R. Yang and M. Pollefeys, "Multi-Resolution Real-Time Stereo on Commodity
Graphics Hardware", CVPR 2003): on the right plane the neighbours' pictures, laid over the photo's own, agree with it.
Semi-global matching makes the choice smooth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from relightgan.training.stage_cache import digest, read_arrays, write_arrays
from relightgan.training.world.registration import Registration
from relightgan.training.world.semi_global import best_plane, smoothed
from relightgan.training.world.views import Views, between, nearest_values, rays, sight, turned

WINDOW = 5  # px, side of the neighbourhood that is compared
FLAT = 1e-4  # variance of brightness below which a neighbourhood says nothing
LEAST_COMMON = 12  # points that two photos must share to be neighbours
BEST_ANGLE = 5.0  # degrees between two looks at a point: less is inexact,
WIDE_ANGLE = 10.0  # and so much more looks different
LEAST_SCORE = 3.0  # of a neighbour, in points seen from the best angle
MOST_LOOKS = 40  # at one point that count when neighbours are chosen
AGREED_SHARE = 0.03  # of a depth: by how much two photos may differ about it,
AGREED_STEPS = 0.4  # or by so many planes
FORMAT = 1  # of what is kept; a new number when the same photos would give something else
PART_PHOTOS = 64  # whose depths are found between two savings
PIXELS_AT_ONCE = {"cpu": 50_000, "cuda": 1_000_000}  # of a batch; a processor's caches hold no more
TESTED_BY = 8  # neighbours that are asked whether they agree, which costs less than finding depths from them,
LEAST_AGREED = 2  # and how many must for a depth to be known


@dataclass(frozen=True)
class DepthMaps:
    """How far away what photos show is.

    Attributes:
        inverse: (n, H, W) float32, 1 over the depth along the camera's axis, in the solve's unit; for each of the
            views, on the same canvas.
        known: (n, H, W) bool, where neighbours agree about it.
        step: (n,) float32 distance of two planes that were tried.
    """

    inverse: Tensor
    known: Tensor
    step: Tensor


@torch.no_grad()
def depth_maps(
    views: Views,
    near_by: list[np.ndarray],
    most: int,
    planes: int,
    folder: Path,
    key: str,
    advance: Callable[[int], None] = lambda count: None,
) -> DepthMaps:
    """Depth maps of all views, from the folder where they are known.

    Args:
        views: registered photos.
        near_by: `neighbours(...)` of each, `TESTED_BY` or more where there are so many.
        most: of them that depths are found from.
        planes: tried between infinity and the nearest surface.
        folder: keeps what is found, in parts.
        key: names photos, cameras and rasters.
        advance: called with numbers of photos that are done; may raise to stop.

    Raises:
        TrainingError: the folder can't be written.
    """
    swept = [others[:most] for others in near_by]
    key = digest([FORMAT, key, planes, [rows.tolist() for rows in swept]])
    grey, inverse = views.grey(), torch.zeros_like(views.colour[:, 0])
    for number, start in enumerate(range(0, len(views), PART_PHOTOS)):
        rows = np.arange(start, min(start + PART_PHOTOS, len(views)))
        path = folder / f"depth-{number:03}.npz"
        if (kept := read_arrays(path, key)) is not None:
            inverse[rows[0] : rows[-1] + 1] = torch.from_numpy(kept["inverse"]).to(views.device)
            advance(len(rows))
            continue
        for batch in batches(views.sizes[rows], PIXELS_AT_ONCE[views.device.type]):
            height, width = views.sizes[rows[batch[0]]]
            found = sweep(views, grey, rows[batch], [swept[n] for n in rows[batch]], planes)
            inverse[torch.from_numpy(rows[batch]).to(views.device), :height, :width] = found
            advance(len(batch))
        write_arrays(path, key, {"inverse": inverse[rows[0] : rows[-1] + 1].cpu().numpy()})
    nearest = torch.from_numpy(views.nearest.astype(np.float32)).to(views.device)
    step = 1 / ((planes - 1) * nearest)
    known = torch.zeros_like(inverse, dtype=torch.bool)
    for row, others in enumerate(near_by):
        height, width = views.sizes[row]
        known[row, :height, :width] = known_depths(views, inverse, step, row, others)
    return DepthMaps(inverse, known, step)


def batches(sizes: np.ndarray, most: int) -> list[np.ndarray]:
    """Indices of rasters, grouped into batches of one size and about `most` pixels; sizes are (n, 2)."""
    found = []
    for size in np.unique(sizes, axis=0):
        same = np.nonzero((sizes == size).all(axis=1))[0]
        count = max(1, most // int(size.prod()))
        found += [same[start : start + count] for start in range(0, len(same), count)]
    return found


def neighbours(registration: Registration, most: int) -> list[np.ndarray]:
    """For each registered photo the rows of those of its day that tell its depth best, best first.

    Those that see many of its points from an angle of about `BEST_ANGLE` and from a similar distance. The work grows
    with the number of sightings.
    """
    solve, number = registration.solve, len(registration.solve.photos)
    row_of = np.full(sum(registration.counts), -1)
    row_of[solve.photos] = np.arange(number)
    order = np.argsort(solve.seen_point, kind="stable")
    point, row = solve.seen_point[order], row_of[solve.seen_photo[order]]
    # Looks at a point that very many photos see are thinned, evenly.
    looks = np.bincount(point, minlength=len(solve.points))
    place = np.arange(len(point)) - np.searchsorted(point, point)
    thinned = (place * MOST_LOOKS // np.maximum(looks[point], MOST_LOOKS)) != (
        (place - 1) * MOST_LOOKS // np.maximum(looks[point], MOST_LOOKS)
    )
    point, row = point[thinned], row[thinned]
    towards = solve.centres[row] - solve.points[point]
    far = np.linalg.norm(towards, axis=1)
    towards = towards / np.maximum(far, 1e-12)[:, None]
    of_target = solve.photos >= registration.counts[0]
    common, score = np.zeros(number * number), np.zeros(number * number)
    for apart in range(1, MOST_LOOKS + 1):
        one, two = np.arange(len(point) - apart), np.arange(apart, len(point))
        same = (point[:-apart] == point[apart:]) & (of_target[row[:-apart]] == of_target[row[apart:]])
        one, two = one[same], two[same]
        angle = np.degrees(np.arccos(np.clip((towards[one] * towards[two]).sum(axis=1), -1, 1)))
        worth = np.where(
            angle < BEST_ANGLE, (angle / BEST_ANGLE) ** 2, np.exp(-(((angle - BEST_ANGLE) / WIDE_ANGLE) ** 2))
        )
        worth = worth * np.minimum(far[one], far[two]) / np.maximum(far[one], far[two])
        pair = row[one] * number + row[two]
        common += np.bincount(pair, minlength=number * number)
        score += np.bincount(pair, worth, minlength=number * number)
    common, score = (table.reshape(number, number) + table.reshape(number, number).T for table in (common, score))
    score = np.where((common >= LEAST_COMMON) & (score > LEAST_SCORE), score, 0)
    chosen = np.argsort(-score, axis=1, kind="stable")[:, :most]
    return [rows[score[n, rows] > 0] for n, rows in enumerate(chosen)]


@torch.no_grad()
def sweep(views: Views, grey: Tensor, rows: np.ndarray, near_by: list[np.ndarray], planes: int) -> Tensor:
    """(N, h, w) inverse depths of photos whose rasters have one size; 0 throughout where a photo has no neighbours.

    Args:
        views: all photos.
        grey: (n, H, W) `views.grey()`.
        rows: (N,) of the photos.
        near_by: for each of them, its neighbours.
        planes: tried between infinity and the nearest surface.
    """
    height, width = views.sizes[rows[0]]
    own = grey[torch.from_numpy(rows).to(grey.device), :height, :width]
    directions = torch.stack([rays(views, int(row)) for row in rows])
    nearest = torch.from_numpy(views.nearest[rows].astype(np.float32)).to(views.device)
    inverse = torch.linspace(0, 1, planes, device=views.device) / nearest[:, None]
    most = max((len(others) for others in near_by), default=0)
    own_mean = box(own[..., None])
    own_spread = (box(own.square()[..., None]) - own_mean.square()).clamp(min=0) + FLAT
    kept: list[Tensor] = []
    for number in range(most):
        there = [len(others) > number for others in near_by]
        others = np.array([o[number] if has else row for o, has, row in zip(near_by, there, rows, strict=True)])
        shown, inside = _laid_over(views, grey, rows, others, directions, inverse)
        inside &= torch.tensor(there, device=views.device)[:, None, None]
        shown = shown.view(-1, height, width, planes)
        mean = box(shown)
        spread = (box(shown.square()) - mean.square()).clamp_(min=0).add_(FLAT)
        alike = (box(shown * own[..., None]) - mean * own_mean) * (spread * own_spread).rsqrt()
        cost = (0.5 - 0.5 * alike).masked_fill_(~inside.view_as(alike), torch.inf)
        # The better half of the neighbours counts: the others may not see the place.
        for place, lower in enumerate(kept):
            kept[place], cost = torch.minimum(lower, cost), torch.maximum(lower, cost)
        if len(kept) < (most + 1) // 2:
            kept.append(cost)
    if not kept:
        return torch.zeros_like(own)
    total, seen = torch.zeros_like(kept[0]), torch.zeros_like(kept[0])
    for cost in kept:
        sees = torch.isfinite(cost)
        total += torch.where(sees, cost, 0.0)
        seen += sees
    mean_cost = torch.where(seen > 0, total / seen.clamp(min=1), 0.5)  # what nobody sees speaks neither way
    return best_plane(smoothed(mean_cost, own)) / ((planes - 1) * nearest[:, None, None])


def box(values: Tensor) -> Tensor:
    """(N, h, w, D) means over windows of `WINDOW` x `WINDOW` around each pixel, as far as they lie in the picture."""
    for axis in (1, 2):
        values = _mean_along(values, axis)
    return values


def known_depths(views: Views, inverse: Tensor, step: Tensor, row: int, others: np.ndarray) -> Tensor:
    """(h, w) bool, where at least `LEAST_AGREED` of the other photos have the same depth."""
    height, width = views.sizes[row]
    if len(others) < LEAST_AGREED:
        return torch.zeros((height, width), dtype=torch.bool, device=views.device)
    depth = inverse[row, :height, :width].reshape(-1)
    seen = sight(views, row, rays(views, row), depth, others)
    apart = (nearest_values(inverse, others, seen) - seen.inverse_depth).abs()
    allowed = torch.maximum(AGREED_SHARE * seen.inverse_depth, AGREED_STEPS * step[torch.from_numpy(others)][:, None])
    return ((seen.inside & (apart < allowed)).sum(dim=0) >= LEAST_AGREED).view(height, width)


# Private implementation


def _laid_over(
    views: Views, grey: Tensor, rows: np.ndarray, others: np.ndarray, directions: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """(N, p, D) brightness that another photo has at each pixel's place on each plane, and whether it sees it."""
    device = views.device
    size = torch.from_numpy(views.sizes[others].astype(np.float32)).to(device)
    lens = views.lenses[others].astype(np.float32)
    height, width = grey.shape[1:]
    moves = [between(views, int(row), np.array([other])) for row, other in zip(rows, others, strict=True)]
    ahead = torch.cat([turned(turns, d) for (turns, _), d in zip(moves, directions, strict=True)])[..., None]
    shift = torch.cat([shifts for _, shifts in moves])[:, :, None, None]
    steps = inverse[:, None, :]
    depth = torch.addcmul(ahead[:, 2], shift[:, 2], steps)
    inside = depth > 1e-4
    over = depth.clamp_(min=1e-4).reciprocal_()
    flat = [torch.addcmul(ahead[:, axis], shift[:, axis], steps).mul_(over) for axis in (0, 1)]
    if _bends(views):
        square = flat[0].square().addcmul_(flat[1], flat[1])
        bend = torch.from_numpy(lens[:, 4]).to(device)[:, None, None]
        inside &= 1 + 3 * bend * square > 0
        for part in flat:
            part.mul_(1 + bend * square)
    grid = torch.empty((*flat[0].shape, 2), device=device)
    for axis, full in ((0, width), (1, height)):
        # To the canvas' -1..1, as grid_sample counts.
        scale = torch.from_numpy(lens[:, axis] * (2 / full)).to(device)[:, None, None]
        start = torch.from_numpy(lens[:, 2 + axis] * (2 / full) - 1).to(device)[:, None, None]
        place = torch.addcmul(start, flat[axis], scale, out=flat[axis])
        inside &= (place > -1) & (place < size[:, 1 - axis, None, None] * (2 / full) - 1)
        grid[..., axis] = place
    pictures = grey[torch.from_numpy(others).to(device), None]
    shown = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return shown[:, 0], inside


def _bends(views: Views) -> bool:
    """Does any lens move a pixel by a twentieth of one or more?"""
    corner = (views.sizes[:, ::-1] / 2 / views.lenses[:, :2]) ** 2
    radius = np.sqrt(corner.sum(axis=1))
    return bool((np.abs(views.lenses[:, 4]) * radius**3 * views.lenses[:, :2].max(axis=1)).max(initial=0) > 0.05)


def _mean_along(values: Tensor, axis: int) -> Tensor:
    length, half = values.shape[axis], WINDOW // 2
    sums = F.pad(values, [0, 0] * (values.dim() - 1 - axis) + [half, half])
    # A window's sum from sums of 1, 2, 4 ... pixels, which takes fewer steps than adding them up.
    total, begun, wide = None, 0, 1
    while True:
        if WINDOW & wide:
            part = sums.narrow(axis, begun, length)
            total = part.clone() if total is None else total.add_(part)
            begun += wide
        wide *= 2
        if wide > WINDOW:
            break
        shorter = sums.shape[axis] - wide // 2
        sums = sums.narrow(axis, 0, shorter) + sums.narrow(axis, wide // 2, shorter)
    assert total is not None
    place = torch.arange(length, device=values.device)
    count = (place + half).clamp(max=length - 1) - (place - half).clamp(min=0) + 1
    shape = [1] * values.dim()
    shape[axis] = length
    return total.mul_((1 / count).view(shape))
