"""Registered photos as cameras with small pictures: rays through their pixels, and where points appear in others.

Lenses bend radially, as COLMAP's SIMPLE_RADIAL: x (1 + k |x|^2) for a direction (x, 1). Beyond the radius at which that
turns back on itself nothing is seen. Places are px of a photo's raster, the middle of the first pixel at 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from relightgan.core.colour import srgb_to_linear
from relightgan.training.photos.bank import Images
from relightgan.training.world.registration import Registration

STRAIGHTENING_STEPS = 12  # of Newton's method; lenses that bend less than a fisheye need half of them
NEAR_SHARE = 0.75  # of the distance of a photo's nearest points: how near its surfaces may come
NEAREST_PERCENT = 1.0  # of a photo's points are taken for mistakes


@dataclass(frozen=True)
class Views:
    """Registered photos of both days.

    Rasters of different sizes lie at the top left of one canvas, which goes on with the colours of their edges.

    Attributes:
        photos: (n,) which photos, as in `Solve.photos`.
        of_target: (n,) bool, whether of the target's day.
        sizes: (n, 2) rows and columns of each raster.
        lenses: (n, 5) float64 focal length across and down, centre across and down in px, and bend.
        poses: (n, 3, 4) float64 from world to camera.
        nearest: (n,) float64 distance within which nothing is looked for, in the solve's unit.
        colour: (n, 3, H, W) float32 linear, on the device that works with them.
    """

    photos: np.ndarray
    of_target: np.ndarray
    sizes: np.ndarray
    lenses: np.ndarray
    poses: np.ndarray
    nearest: np.ndarray
    colour: Tensor

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def device(self) -> torch.device:
        """Where the pictures are."""
        return self.colour.device

    def grey(self) -> Tensor:
        """(n, H, W) float32 brightness in steps that look alike: the square root of the mean of the channels."""
        return self.colour.mean(dim=1).clamp(min=0).sqrt()


def load_views(registration: Registration, banks: Sequence[Images], raster_px: int, device: torch.device) -> Views:
    """The registered photos on small rasters.

    Args:
        registration: of both days.
        banks: source and target photos, as they were registered.
        raster_px: longest side of a raster; smaller photos keep their size.
        device: for the pictures.

    Raises:
        PhotoError: a prepared photo can't be read.
    """
    solve, first = registration.solve, registration.counts[0]
    pictures = []
    for photo in solve.photos:
        image = banks[0][int(photo)] if photo < first else banks[1][int(photo - first)]
        scale = min(1.0, raster_px / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        pictures.append(cv2.resize(srgb_to_linear(image), size, interpolation=cv2.INTER_AREA))
    sizes = np.array([picture.shape[:2] for picture in pictures]).reshape(-1, 2)
    height, width = sizes.max(axis=0)
    canvas = np.stack(
        [
            cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, width - p.shape[1], cv2.BORDER_REPLICATE).transpose(
                2, 0, 1
            )
            for p in pictures
        ]
    ).astype(np.float32)
    # The lens is given for the size at which points were found.
    scale = sizes[:, ::-1] / registration.sizes
    lenses = np.column_stack([solve.lenses[:, :1] * scale, solve.lenses[:, 1:3] * scale, solve.lenses[:, 3]])
    return Views(
        solve.photos,
        solve.photos >= first,
        sizes,
        lenses,
        solve.poses,
        nearest_surfaces(registration),
        torch.from_numpy(canvas).to(device),
    )


def nearest_surfaces(registration: Registration) -> np.ndarray:
    """(n,) how near a photo's surfaces may come, from the points it shows."""
    solve = registration.solve
    row_of = np.full(sum(registration.counts), -1)
    row_of[solve.photos] = np.arange(len(solve.photos))
    row = row_of[solve.seen_photo]
    axis = solve.poses[row, 2]
    depth = (axis[:, :3] * solve.points[solve.seen_point]).sum(axis=1) + axis[:, 3]
    order = np.argsort(row, kind="stable")
    parts = np.split(depth[order], np.cumsum(np.bincount(row, minlength=len(solve.photos)))[:-1])
    usual = float(np.median(depth))
    near = np.array([np.percentile(part, NEAREST_PERCENT) if len(part) else usual for part in parts])
    return NEAR_SHARE * np.maximum(near, 1e-3 * usual)


def rays(views: Views, row: int) -> Tensor:
    """(3, h * w) float32 directions through the pixels of a photo's raster, in its camera, z being 1."""
    rows, columns = views.sizes[row]
    fx, fy, cx, cy, bend = views.lenses[row]
    y, x = np.mgrid[:rows, :columns] + 0.5
    flat = straightened(np.stack([(x.ravel() - cx) / fx, (y.ravel() - cy) / fy]), bend)
    return torch.from_numpy(np.concatenate([flat, np.ones_like(flat[:1])]).astype(np.float32)).to(views.device)


def straightened(bent: np.ndarray, bend: float) -> np.ndarray:
    """(2, p) directions before the lens bent them, from those behind it."""
    radius = np.linalg.norm(bent, axis=0)
    most = np.inf if bend >= 0 else np.sqrt(-1 / (3 * bend))  # where the lens turns back on itself
    found = np.minimum(radius, 0.999 * most)
    for _ in range(STRAIGHTENING_STEPS):
        before = found
        found = found - (found + bend * found**3 - radius) / (1 + 3 * bend * found**2)
        found = np.clip(found, 0, 0.999 * most)
        if np.abs(found - before).max(initial=0) < 1e-9:
            break
    result: np.ndarray = bent * (found / np.maximum(radius, 1e-12))
    return result


def between(views: Views, row: int, others: np.ndarray) -> tuple[Tensor, Tensor]:
    """(V, 3, 3) rotations and (V, 3) shifts from a photo's camera to those of others, float32."""
    rotation, shift = views.poses[row, :, :3], views.poses[row, :, 3]
    turns = views.poses[others, :, :3] @ rotation.T
    shifts = views.poses[others, :, 3] - turns @ shift
    return tuple(torch.from_numpy(part.astype(np.float32)).to(views.device) for part in (turns, shifts))  # type: ignore[return-value]


def turned(turns: Tensor, directions: Tensor) -> Tensor:
    """(V, 3, p) directions (3, p) in other cameras; written out, as libraries sum in another order on more threads."""
    x, y, z = directions
    return turns[:, :, 0, None] * x + turns[:, :, 1, None] * y + turns[:, :, 2, None] * z


@dataclass(frozen=True)
class Sight:
    """Where points seen in one photo appear in V others.

    Attributes:
        x: (V, p) px across.
        y: (V, p) px down.
        inverse_depth: (V, p) in the others' cameras.
        inside: (V, p) bool, in front of the camera and at least half a pixel from the photo's edge.
        likeness: (V, p) cosine of the angle between the directions from which the two photos see the point.
    """

    x: Tensor
    y: Tensor
    inverse_depth: Tensor
    inside: Tensor
    likeness: Tensor


def sight(views: Views, row: int, directions: Tensor, inverse_depth: Tensor, others: np.ndarray) -> Sight:
    """Where other photos show what one photo shows.

    Args:
        views: all photos.
        row: of the photo.
        directions: (3, p) in its camera, z being 1.
        inverse_depth: (p,) along z; 0 is infinitely far.
        others: (V,) rows of photos to look at.
    """
    turns, shifts = between(views, row, others)
    ahead = turned(turns, directions)
    local = ahead + shifts[:, :, None] * inverse_depth
    depth = local[:, 2]
    in_front = depth > 1e-4
    over = 1 / depth.clamp(min=1e-4)
    x, y = local[:, 0] * over, local[:, 1] * over
    lens = torch.from_numpy(views.lenses[others].astype(np.float32)).to(views.device)[:, :, None]
    size = torch.from_numpy(views.sizes[others].astype(np.float32)).to(views.device)[:, :, None]
    square = x * x + y * y
    bent = 1 + lens[:, 4] * square
    px, py = lens[:, 0] * x * bent + lens[:, 2], lens[:, 1] * y * bent + lens[:, 3]
    inside = in_front & (1 + 3 * lens[:, 4] * square > 0)
    inside &= (px > 0.5) & (px < size[:, 1] - 0.5) & (py > 0.5) & (py < size[:, 0] - 0.5)
    likeness = (local * ahead).sum(dim=1) / (local.square().sum(dim=1) * ahead.square().sum(dim=1)).sqrt().clamp(1e-12)
    return Sight(px, py, inverse_depth * over, inside, likeness)


def nearest_values(maps: Tensor, others: np.ndarray, seen: Sight) -> Tensor:
    """(V, p) values of maps (n, H, W) at the pixels that `seen` lies in; anything where it isn't inside."""
    x = seen.x.clamp(0, maps.shape[2] - 1).long()
    y = seen.y.clamp(0, maps.shape[1] - 1).long()
    return maps[torch.from_numpy(others).to(maps.device)].flatten(1).gather(1, y * maps.shape[2] + x)


def smooth_colours(views: Views, others: np.ndarray, seen: Sight) -> Tensor:
    """(V, 3, p) linear colours, between pixels, of the places that `seen` names; the edge's where it isn't inside."""
    height, width = views.colour.shape[2:]
    grid = torch.stack([seen.x * (2 / width) - 1, seen.y * (2 / height) - 1], dim=-1)[:, None]
    pictures = views.colour[torch.from_numpy(others).to(views.device)]
    found = torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return found[:, :, 0]
