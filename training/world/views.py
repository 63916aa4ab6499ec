"""Registered photos as cameras with small pictures: viewing rays, projection into other photos, and sampling there.

The lens model is COLMAP's SIMPLE_RADIAL: a direction (x, y, 1) is distorted to (x, y) * (1 + k * (x^2 + y^2)). With
k < 0 the mapping folds back beyond a certain radius; nothing outside of it is used. Pixel coordinates are those of a
photo's raster, with the centre of the first pixel at 0.5.
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

NEWTON_STEPS = 12  # largest number of steps that invert the distortion; lenses short of a fisheye need half of them
NEAR_PERCENTILE = 1.0  # percentile of a photo's point depths taken as its nearest surface; closer points are outliers
NEAR_MARGIN = 0.75  # factor on that depth: the closest depth at which surfaces are searched


@dataclass(frozen=True)
class RegisteredViews:
    """The registered photos of both days.

    Rasters of different sizes share one canvas. Each lies in its top left corner; its edge pixels fill the rest.

    Attributes:
        photos: (n,) photo numbers, as in `Solve.photos`.
        day: (n,) int64, `days.SOURCE` or `days.TARGET`.
        sizes: (n, 2) rows and columns of each raster.
        lenses: (n, 5) float64: focal length in x and y, principal point in x and y (all px), radial distortion k.
        poses: (n, 3, 4) float64, world to camera.
        min_depth: (n,) float64, the closest depth at which surfaces are searched, in the solve's unit.
        colour: (n, 3, H, W) float32 linear, on the device used for computing.
    """

    photos: np.ndarray
    day: np.ndarray
    sizes: np.ndarray
    lenses: np.ndarray
    poses: np.ndarray
    min_depth: np.ndarray
    colour: Tensor

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def device(self) -> torch.device:
        """The device that holds the pictures."""
        return self.colour.device

    def grey(self) -> Tensor:
        """(n, H, W) float32: square root of the mean of the linear channels, roughly uniform to the eye."""
        return self.colour.mean(dim=1).clamp(min=0).sqrt()


def load_views(
    registration: Registration, banks: Sequence[Images], raster_px: int, device: torch.device
) -> RegisteredViews:
    """The registered photos on small rasters.

    Args:
        registration: of both days.
        banks: (source photos, target photos), the same as were registered.
        raster_px: longest side of a raster; smaller photos keep their size.
        device: for the pictures.

    Raises:
        PhotoError: a prepared photo can't be read.
    """
    solve, numbering = registration.solve, registration.numbering
    pictures = []
    for photo in solve.photos:
        day, number = numbering.place(photo)
        image = banks[day][number]
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
    # The solve gives lenses in px of the size at which features were detected.
    scale = sizes[:, ::-1] / registration.sizes
    lenses = np.column_stack([solve.lenses[:, :1] * scale, solve.lenses[:, 1:3] * scale, solve.lenses[:, 3]])
    return RegisteredViews(
        solve.photos,
        numbering.day(solve.photos),
        sizes,
        lenses,
        solve.poses,
        min_depths(registration),
        torch.from_numpy(canvas).to(device),
    )


def rows_of_photos(registration: Registration, photos: np.ndarray) -> np.ndarray:
    """The rows of photos in the solve, -1 for photos that aren't registered; same shape as `photos`."""
    rows = np.full(registration.numbering.total, -1)
    rows[registration.solve.photos] = np.arange(len(registration.solve.photos))
    found: np.ndarray = rows[photos]
    return found


def min_depths(registration: Registration) -> np.ndarray:
    """(n,) closest depth at which each photo's surfaces are searched, from the depths of its points."""
    solve = registration.solve
    row = rows_of_photos(registration, solve.seen_photo)
    axis = solve.poses[row, 2]
    depth = (axis[:, :3] * solve.points[solve.seen_point]).sum(axis=1) + axis[:, 3]
    order = np.argsort(row, kind="stable")
    parts = np.split(depth[order], np.cumsum(np.bincount(row, minlength=len(solve.photos)))[:-1])
    usual = float(np.median(depth))
    near = np.array([np.percentile(part, NEAR_PERCENTILE) if len(part) else usual for part in parts])
    return NEAR_MARGIN * np.maximum(near, 1e-3 * usual)


def rays(views: RegisteredViews, row: int) -> Tensor:
    """(3, h * w) float32 viewing directions of a photo's pixels, in its camera, with z = 1."""
    rows, columns = views.sizes[row]
    fx, fy, cx, cy, distortion = views.lenses[row]
    y, x = np.mgrid[:rows, :columns] + 0.5
    flat = undistort(np.stack([(x.ravel() - cx) / fx, (y.ravel() - cy) / fy]), distortion)
    return torch.from_numpy(np.concatenate([flat, np.ones_like(flat[:1])]).astype(np.float32)).to(views.device)


def undistort(distorted: np.ndarray, distortion: float) -> np.ndarray:
    """(2, p) directions (x, y) without the lens's distortion, by Newton's method.

    Args:
        distorted: (2, p) directions with it.
        distortion: k of SIMPLE_RADIAL.
    """
    radius = np.linalg.norm(distorted, axis=0)
    max_radius = np.inf if distortion >= 0 else np.sqrt(-1 / (3 * distortion))  # where the mapping folds back
    found = np.minimum(radius, 0.999 * max_radius)
    for _ in range(NEWTON_STEPS):
        before = found
        found = found - (found + distortion * found**3 - radius) / (1 + 3 * distortion * found**2)
        found = np.clip(found, 0, 0.999 * max_radius)
        if np.abs(found - before).max(initial=0) < 1e-9:
            break
    result: np.ndarray = distorted * (found / np.maximum(radius, 1e-12))
    return result


def relative_poses(views: RegisteredViews, row: int, others: np.ndarray) -> tuple[Tensor, Tensor]:
    """(V, 3, 3) rotations and (V, 3) translations from a photo's camera to V others, float32."""
    rotation, shift = views.poses[row, :, :3], views.poses[row, :, 3]
    rotations = views.poses[others, :, :3] @ rotation.T
    shifts = views.poses[others, :, 3] - rotations @ shift
    return tuple(torch.from_numpy(part.astype(np.float32)).to(views.device) for part in (rotations, shifts))  # type: ignore[return-value]


def rotate(rotations: Tensor, directions: Tensor) -> Tensor:
    """(V, 3, p): directions (3, p) under each of the rotations (V, 3, 3).

    Written out, because the sum order of a matrix product depends on the number of threads.
    """
    x, y, z = directions
    return rotations[:, :, 0, None] * x + rotations[:, :, 1, None] * y + rotations[:, :, 2, None] * z


@dataclass(frozen=True)
class Projection:
    """One photo's pixels projected into V other photos.

    Attributes:
        x: (V, p) px.
        y: (V, p) px.
        inverse_depth: (V, p) in the other cameras.
        inside: (V, p) bool: in front of the camera, and at least half a pixel inside of its raster.
        cosine: (V, p) of the angle between the two photos' viewing rays of the point.
    """

    x: Tensor
    y: Tensor
    inverse_depth: Tensor
    inside: Tensor
    cosine: Tensor


def project_pixels(
    views: RegisteredViews, row: int, directions: Tensor, inverse_depth: Tensor, others: np.ndarray
) -> Projection:
    """A photo's pixels projected into other photos.

    Args:
        views: all photos.
        row: of the photo.
        directions: (3, p) viewing directions of the pixels in its camera, z = 1.
        inverse_depth: (p,) 1 over depth along z; 0 at infinity.
        others: (V,) rows of the other photos.
    """
    rotations, shifts = relative_poses(views, row, others)
    ahead = rotate(rotations, directions)
    local = ahead + shifts[:, :, None] * inverse_depth
    depth = local[:, 2]
    in_front = depth > 1e-4
    over = 1 / depth.clamp(min=1e-4)
    x, y = local[:, 0] * over, local[:, 1] * over
    lens = torch.from_numpy(views.lenses[others].astype(np.float32)).to(views.device)[:, :, None]
    size = torch.from_numpy(views.sizes[others].astype(np.float32)).to(views.device)[:, :, None]
    square = x * x + y * y
    factor = 1 + lens[:, 4] * square
    px, py = lens[:, 0] * x * factor + lens[:, 2], lens[:, 1] * y * factor + lens[:, 3]
    inside = in_front & (1 + 3 * lens[:, 4] * square > 0)
    inside &= (px > 0.5) & (px < size[:, 1] - 0.5) & (py > 0.5) & (py < size[:, 0] - 0.5)
    cosine = (local * ahead).sum(dim=1) / (local.square().sum(dim=1) * ahead.square().sum(dim=1)).sqrt().clamp(1e-12)
    return Projection(px, py, inverse_depth * over, inside, cosine)


def sample_nearest(maps: Tensor, others: np.ndarray, projection: Projection) -> Tensor:
    """(V, p) values of maps (n, H, W) at the nearest pixels of a projection; undefined where it isn't inside."""
    x = projection.x.clamp(0, maps.shape[2] - 1).long()
    y = projection.y.clamp(0, maps.shape[1] - 1).long()
    return maps[torch.from_numpy(others).to(maps.device)].flatten(1).gather(1, y * maps.shape[2] + x)


def sample_colours(views: RegisteredViews, others: np.ndarray, projection: Projection) -> Tensor:
    """(V, 3, p) linear colours at a projection, bilinear; the edge's colour where it isn't inside."""
    height, width = views.colour.shape[2:]
    grid = torch.stack([projection.x * (2 / width) - 1, projection.y * (2 / height) - 1], dim=-1)[:, None]
    pictures = views.colour[torch.from_numpy(others).to(views.device)]
    found = torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return found[:, :, 0]
