"""Depth maps of registered photos, by plane sweep over neighbouring photos of the same day.

Planes at equal steps of inverse depth are swept through the set. Neighbours are warped onto the photo by way of each
plane; on the right plane they match it. Semi-global matching makes the choice of planes smooth. (R. Collins, "A
Space-Sweep Approach to True Multi-Image Matching", CVPR 1996; on graphics hardware R. Yang and M. Pollefeys,
"Multi-Resolution Real-Time Stereo on Commodity Graphics Hardware", CVPR 2003.)
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
from relightgan.training.world.semi_global import aggregate_costs, best_plane
from relightgan.training.world.views import (
    RegisteredViews,
    project_pixels,
    rays,
    relative_poses,
    rotate,
    rows_of_photos,
    sample_nearest,
)

WINDOW = 5  # px, side of the square window that is compared
FLAT_VARIANCE = 1e-4  # added to a window's variance of brightness, so that windows without texture match nothing
BEST_ANGLE_DEGREES = 5.0  # best angle between two viewing rays of a point: smaller ones give inexact depths
ANGLE_FALLOFF_DEGREES = 10.0  # excess over the best angle at which a neighbour's worth falls to 1/e
MIN_COMMON_POINTS = 12  # two photos are neighbours only if they share this many points
MIN_NEIGHBOUR_SCORE = 3.0  # the smallest score of a neighbour, in points seen from the best angle
MAX_OBSERVATIONS = 40  # observations of one point used to score neighbours
# Two photos agree on a depth if they differ by less than either of these.
AGREED_SHARE = 0.03  # difference as a share of the inverse depth
AGREED_STEPS = 0.4  # difference in planes of the sweep
CHECKING_NEIGHBOURS = 8  # neighbours whose depths are compared; comparing is cheaper than sweeping
MIN_AGREEING = 2  # a depth is known if this many of them agree
FORMAT = 1  # version of the stored depths; raise it when the same photos would give other depths
PART_PHOTOS = 64  # photos in one stored file
PIXELS_AT_ONCE = {"cpu": 50_000, "cuda": 1_000_000}  # pixels of a batch; on a CPU, what its caches hold


@dataclass(frozen=True)
class DepthMaps:
    """Depth maps of all views, on the canvas of the views.

    Attributes:
        inverse: (n, H, W) float32, 1 / depth along the camera's axis, in the solve's unit; 0 at infinity.
        known: (n, H, W) bool, True where neighbours agree on the depth.
        step: (n,) float32, difference in inverse depth between two neighbouring planes of the sweep.
    """

    inverse: Tensor
    known: Tensor
    step: Tensor


@torch.no_grad()
def depth_maps(
    views: RegisteredViews,
    neighbour_rows: list[np.ndarray],
    max_swept: int,
    planes: int,
    folder: Path,
    key: str,
    advance: Callable[[int], None] = lambda count: None,
) -> DepthMaps:
    """Depth maps of all views; those stored in the folder are not computed again.

    Args:
        views: registered photos.
        neighbour_rows: `neighbours(...)` of each photo, at least `CHECKING_NEIGHBOURS` where it has as many.
        max_swept: how many of them the sweep uses, best first.
        planes: number of planes between infinity and the closest depth.
        folder: where depths are stored, in parts.
        key: identifies photos, cameras and rasters.
        advance: called with the number of photos done; may raise to stop.

    Raises:
        TrainingError: the folder can't be written.
    """
    swept = [others[:max_swept] for others in neighbour_rows]
    key = digest([FORMAT, key, planes, [rows.tolist() for rows in swept]])
    grey, inverse = views.grey(), torch.zeros_like(views.colour[:, 0])
    for number, start in enumerate(range(0, len(views), PART_PHOTOS)):
        rows = np.arange(start, min(start + PART_PHOTOS, len(views)))
        path = folder / f"depth-{number:03}.npz"
        if (kept := read_arrays(path, key, ["inverse"])) is not None:
            inverse[rows[0] : rows[-1] + 1] = torch.from_numpy(kept["inverse"]).to(views.device)
            advance(len(rows))
            continue
        for batch in batches(views.sizes[rows], PIXELS_AT_ONCE[views.device.type]):
            height, width = views.sizes[rows[batch[0]]]
            found = sweep(views, grey, rows[batch], [swept[n] for n in rows[batch]], planes)
            inverse[torch.from_numpy(rows[batch]).to(views.device), :height, :width] = found
            advance(len(batch))
        write_arrays(path, key, {"inverse": inverse[rows[0] : rows[-1] + 1].cpu().numpy()})
    min_depth = torch.from_numpy(views.min_depth.astype(np.float32)).to(views.device)
    step = 1 / ((planes - 1) * min_depth)
    known = torch.zeros_like(inverse, dtype=torch.bool)
    for row, others in enumerate(neighbour_rows):
        height, width = views.sizes[row]
        known[row, :height, :width] = known_depths(views, inverse, step, row, others)
    return DepthMaps(inverse, known, step)


def batches(sizes: np.ndarray, max_pixels: int) -> list[np.ndarray]:
    """Indices of rasters (n, 2), in batches of one size and at most `max_pixels`; a larger raster is a batch alone."""
    found = []
    for size in np.unique(sizes, axis=0):
        same = np.nonzero((sizes == size).all(axis=1))[0]
        count = max(1, max_pixels // int(size.prod()))
        found += [same[start : start + count] for start in range(0, len(same), count)]
    return found


def neighbours(registration: Registration, max_count: int) -> list[np.ndarray]:
    """For each registered photo, the rows of the photos of its day best suited to find its depth, best first.

    A neighbour shares many points with the photo, seen under about `BEST_ANGLE_DEGREES` and from a similar distance.
    Time grows with the number of observations.
    """
    solve, number = registration.solve, len(registration.solve.photos)
    order = np.argsort(solve.seen_point, kind="stable")
    point, row = solve.seen_point[order], rows_of_photos(registration, solve.seen_photo[order])
    # Of a point with very many observations, some are taken, evenly spread.
    observations = np.maximum(np.bincount(point, minlength=len(solve.points))[point], MAX_OBSERVATIONS)
    place = np.arange(len(point)) - np.searchsorted(point, point)
    kept = (place * MAX_OBSERVATIONS // observations) != ((place - 1) * MAX_OBSERVATIONS // observations)
    point, row = point[kept], row[kept]
    towards = solve.centres[row] - solve.points[point]
    distance = np.linalg.norm(towards, axis=1)
    towards = towards / np.maximum(distance, 1e-12)[:, None]
    day = registration.numbering.day(solve.photos)
    common, score = np.zeros(number * number), np.zeros(number * number)
    for apart in range(1, MAX_OBSERVATIONS + 1):
        one, two = np.arange(len(point) - apart), np.arange(apart, len(point))
        same = (point[:-apart] == point[apart:]) & (day[row[:-apart]] == day[row[apart:]])
        one, two = one[same], two[same]
        worth = point_worth((towards[one] * towards[two]).sum(axis=1), distance[one], distance[two])
        pair = row[one] * number + row[two]
        common += np.bincount(pair, minlength=number * number)
        score += np.bincount(pair, worth, minlength=number * number)
    common, score = (table.reshape(number, number) + table.reshape(number, number).T for table in (common, score))
    return [best_neighbours(common[n], score[n], max_count) for n in range(number)]


def point_worth(cosine: np.ndarray, distance: np.ndarray, other_distance: np.ndarray) -> np.ndarray:
    """How well two cameras find the depth of a common point, 0..1.

    Args:
        cosine: of the angle between the two viewing rays; any shape.
        distance: from the point to the first camera.
        other_distance: from the point to the second camera.
    """
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    too_wide = np.exp(-(((angle - BEST_ANGLE_DEGREES) / ANGLE_FALLOFF_DEGREES) ** 2))
    worth = np.where(angle < BEST_ANGLE_DEGREES, (angle / BEST_ANGLE_DEGREES) ** 2, too_wide)
    found: np.ndarray = worth * np.minimum(distance, other_distance) / np.maximum(distance, other_distance)
    return found


def best_neighbours(common: np.ndarray, score: np.ndarray, max_count: int) -> np.ndarray:
    """The rows of one camera's neighbours, best first.

    Args:
        common: (n,) points that it shares with each registered photo.
        score: (n,) sums of `point_worth` over them.
        max_count: how many at most.
    """
    score = np.where((common >= MIN_COMMON_POINTS) & (score > MIN_NEIGHBOUR_SCORE), score, 0)
    chosen = np.argsort(-score, kind="stable")[:max_count]
    return chosen[score[chosen] > 0]


@torch.no_grad()
def sweep(
    views: RegisteredViews, grey: Tensor, rows: np.ndarray, neighbour_rows: list[np.ndarray], planes: int
) -> Tensor:
    """(N, h, w) inverse depths of N photos with rasters of one size; 0 throughout for a photo without neighbours.

    Args:
        views: all photos.
        grey: (n, H, W) `views.grey()`.
        rows: (N,) rows of the photos.
        neighbour_rows: for each of them, the rows of its neighbours.
        planes: number of planes between infinity and the closest depth.
    """
    height, width = views.sizes[rows[0]]
    own = grey[torch.from_numpy(rows).to(grey.device), :height, :width]
    directions = torch.stack([rays(views, int(row)) for row in rows])
    min_depth = torch.from_numpy(views.min_depth[rows].astype(np.float32)).to(views.device)
    inverse = torch.linspace(0, 1, planes, device=views.device) / min_depth[:, None]
    max_count = max((len(others) for others in neighbour_rows), default=0)
    own_mean = box_mean(own[..., None])
    own_spread = (box_mean(own.square()[..., None]) - own_mean.square()).clamp(min=0) + FLAT_VARIANCE
    kept: list[Tensor] = []
    for number in range(max_count):
        there = [len(others) > number for others in neighbour_rows]
        others = np.array([o[number] if has else row for o, has, row in zip(neighbour_rows, there, rows, strict=True)])
        warped, inside = _warp_to_planes(views, grey, rows, others, directions, inverse)
        inside &= torch.tensor(there, device=views.device)[:, None, None]
        warped = warped.view(-1, height, width, planes)
        mean = box_mean(warped)
        spread = (box_mean(warped.square()) - mean.square()).clamp_(min=0).add_(FLAT_VARIANCE)
        match = (box_mean(warped * own[..., None]) - mean * own_mean) * (spread * own_spread).rsqrt()
        cost = (0.5 - 0.5 * match).masked_fill_(~inside.view_as(match), torch.inf)
        # Only the better half of the neighbours counts: the surface may be hidden from the others.
        for place, lower in enumerate(kept):
            kept[place], cost = torch.minimum(lower, cost), torch.maximum(lower, cost)
        if len(kept) < (max_count + 1) // 2:
            kept.append(cost)
    if not kept:
        return torch.zeros_like(own)
    total, seen = torch.zeros_like(kept[0]), torch.zeros_like(kept[0])
    for cost in kept:
        sees = torch.isfinite(cost)
        total += torch.where(sees, cost, 0.0)
        seen += sees
    mean_cost = torch.where(seen > 0, total / seen.clamp(min=1), 0.5)  # neutral where no neighbour sees the plane
    return best_plane(aggregate_costs(mean_cost, own)) / ((planes - 1) * min_depth[:, None, None])


def box_mean(values: Tensor) -> Tensor:
    """(N, h, w, D) means over the `WINDOW` x `WINDOW` pixels around each pixel that lie in the picture."""
    for axis in (1, 2):
        values = _mean_along(values, axis)
    return values


def known_depths(views: RegisteredViews, inverse: Tensor, step: Tensor, row: int, others: np.ndarray) -> Tensor:
    """(h, w) bool: where at least `MIN_AGREEING` of the other photos have the same depth.

    Args:
        views: all photos.
        inverse: (n, H, W) `DepthMaps.inverse`.
        step: (n,) `DepthMaps.step`.
        row: of the photo.
        others: (V,) rows of the other photos.
    """
    height, width = views.sizes[row]
    if len(others) < MIN_AGREEING:
        return torch.zeros((height, width), dtype=torch.bool, device=views.device)
    depth = inverse[row, :height, :width].reshape(-1)
    seen = project_pixels(views, row, rays(views, row), depth, others)
    apart = (sample_nearest(inverse, others, seen) - seen.inverse_depth).abs()
    allowed = torch.maximum(AGREED_SHARE * seen.inverse_depth, AGREED_STEPS * step[torch.from_numpy(others)][:, None])
    return ((seen.inside & (apart < allowed)).sum(dim=0) >= MIN_AGREEING).view(height, width)


# Private implementation


def _warp_to_planes(
    views: RegisteredViews, grey: Tensor, rows: np.ndarray, others: np.ndarray, directions: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Another photo's brightness (N, p, D) at each pixel's point on each plane, and whether that is in its raster."""
    device = views.device
    size = torch.from_numpy(views.sizes[others].astype(np.float32)).to(device)
    lens = views.lenses[others].astype(np.float32)
    height, width = grey.shape[1:]
    poses = [relative_poses(views, int(row), np.array([other])) for row, other in zip(rows, others, strict=True)]
    ahead = torch.cat([rotate(rotations, d) for (rotations, _), d in zip(poses, directions, strict=True)])[..., None]
    shift = torch.cat([shifts for _, shifts in poses])[:, :, None, None]
    steps = inverse[:, None, :]
    depth = torch.addcmul(ahead[:, 2], shift[:, 2], steps)
    inside = depth > 1e-4
    over = depth.clamp_(min=1e-4).reciprocal_()
    flat = [torch.addcmul(ahead[:, axis], shift[:, axis], steps).mul_(over) for axis in (0, 1)]
    if _has_distortion(views):
        square = flat[0].square().addcmul_(flat[1], flat[1])
        distortion = torch.from_numpy(lens[:, 4]).to(device)[:, None, None]
        inside &= 1 + 3 * distortion * square > 0
        for part in flat:
            part.mul_(1 + distortion * square)
    grid = torch.empty((*flat[0].shape, 2), device=device)
    for axis, full in ((0, width), (1, height)):
        # grid_sample takes canvas coordinates in -1..1.
        scale = torch.from_numpy(lens[:, axis] * (2 / full)).to(device)[:, None, None]
        start = torch.from_numpy(lens[:, 2 + axis] * (2 / full) - 1).to(device)[:, None, None]
        place = torch.addcmul(start, flat[axis], scale, out=flat[axis])
        inside &= (place > -1) & (place < size[:, 1 - axis, None, None] * (2 / full) - 1)
        grid[..., axis] = place
    pictures = grey[torch.from_numpy(others).to(device), None]
    warped = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return warped[:, 0], inside


def _has_distortion(views: RegisteredViews) -> bool:
    """Whether any lens's distortion moves a pixel by more than 0.05 px."""
    corner = (views.sizes[:, ::-1] / 2 / views.lenses[:, :2]) ** 2
    radius = np.sqrt(corner.sum(axis=1))
    return bool((np.abs(views.lenses[:, 4]) * radius**3 * views.lenses[:, :2].max(axis=1)).max(initial=0) > 0.05)


def _mean_along(values: Tensor, axis: int) -> Tensor:
    length, half = values.shape[axis], WINDOW // 2
    sums = F.pad(values, [0, 0] * (values.dim() - 1 - axis) + [half, half])
    # Sums over 1, 2, 4 ... pixels make a window's sum in fewer steps than adding pixel by pixel.
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
