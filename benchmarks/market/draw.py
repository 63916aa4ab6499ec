"""Cameras and pictures of the second set: surfaces that rays meet, their colours, and optical flow.

Exact: a camera ray times the inverse of (right, down, corner) of a rectangle, in camera space, is (s, t, 1) over depth,
so all three are affine in the pixel. Every pixel is 3x3 rays; textures are taken from the size that fits each ray.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.market.boxes import Boxes, Scene, rotation
from benchmarks.market.light import SUN, Painted, Sky, remap
from benchmarks.market.textures import Rng

FOV_X = 60.0  # horizontal field of view in degrees
RAYS = 3  # rays per pixel along each axis
NEAR = 0.05  # minimum distance of a surface from the camera, in metres
SKY = -1  # surface index of rays that meet none


@dataclass(frozen=True)
class Seen:
    """The surfaces that the rays of a camera meet."""

    pose: np.ndarray  # (4, 4) camera to world
    size: tuple[int, int]  # width and height of the picture
    surface: np.ndarray  # (3 H, 3 W) int16, index of the surface in the scene, or SKY
    nearness: np.ndarray  # (3 H, 3 W) float32, 1 / depth; 0 for the sky


def camera_rows(pose: np.ndarray) -> np.ndarray:
    """(3, 3) from world to camera directions: right, down, ahead."""
    return np.stack([pose[:3, 0], -pose[:3, 1], -pose[:3, 2]])


def focal_px(width: int) -> float:
    """The focal length in pixels of a picture of this width."""
    return width / 2 / float(np.tan(np.radians(FOV_X / 2)))


def see(scene: Scene, painted: list[Painted], pose: np.ndarray, size: tuple[int, int]) -> Seen:
    """The first surface of every ray of a camera.

    Args:
        scene: the place.
        painted: the surfaces of the scene, for their cut-outs.
        pose: (4, 4) camera to world; x right, y up, looking along -z.
        size: width and height of the picture in pixels.
    """
    wide, high = RAYS * size[0], RAYS * size[1]
    focal = focal_px(wide)
    nearness = np.zeros((high, wide), np.float32)
    surface = np.full((high, wide), SKY, np.int16)
    rows = camera_rows(pose)
    for number, inverse in inverses(scene, pose).items():
        each = scene.surfaces[number]
        area = screen_box(each.corner, each.right, each.down, pose[:3, 3], rows, focal, (wide, high))
        if area is None:
            continue
        x0, x1, y0, y1 = area
        x, y = (np.arange(x0, x1) + 0.5 - wide / 2) / focal, (np.arange(y0, y1) + 0.5 - high / 2) / focal
        s, t, w = (
            (row[0] * x).astype(np.float32)[None] + (row[1] * y + row[2]).astype(np.float32)[:, None] for row in inverse
        )
        part = slice(y0, y1), slice(x0, x1)
        won = (w > nearness[part]) & (w < 1 / NEAR) & (s >= 0) & (t >= 0) & (s <= w) & (t <= w)
        if painted[number].alphas and won.any():
            spot = np.flatnonzero(won)
            w_there = w.ravel()[spot]
            solid = sample(
                painted[number].alphas, s.ravel()[spot] / w_there, t.ravel()[spot] / w_there,
                level_of(painted[number], inverse, w_there, focal),
            ) > 0.5  # fmt: skip
            won.ravel()[spot[~solid]] = False
        np.copyto(nearness[part], w, where=won)
        np.copyto(surface[part], number, where=won)
    return Seen(pose, size, surface, nearness)


def picture(seen: Seen, scene: Scene, painted: list[Painted], sky: Sky, day: str) -> np.ndarray:
    """(H, W, 3) float32, scene-linear, under a day's light."""
    high, wide = seen.surface.shape
    focal = focal_px(wide)
    found = np.empty((high * wide, 3), np.float32)
    surface, nearness = seen.surface.ravel(), seen.nearness.ravel()
    order = np.argsort(surface, kind="stable")
    edges = np.flatnonzero(np.diff(surface[order])) + 1
    matrices = inverses(scene, seen.pose)
    for spot in np.split(order, edges):
        x = ((spot % wide).astype(np.float32) + np.float32(0.5 - wide / 2)) / np.float32(focal)
        y = ((spot // wide).astype(np.float32) + np.float32(0.5 - high / 2)) / np.float32(focal)
        number = int(surface[spot[0]])
        if number == SKY:
            way = np.stack([x, y, np.ones_like(x)], axis=-1)
            way /= np.linalg.norm(way, axis=-1, keepdims=True)
            found[spot] = sky.radiance(way @ camera_rows(seen.pose).astype(np.float32), day)
            continue
        each, inverse, w = painted[number], matrices[number], nearness[spot]
        s, t = ((row[0] * x + row[1] * y + row[2]).astype(np.float32) / w for row in inverse[:2])
        shown = sample(each.levels, s, t, level_of(each, inverse, w, focal))
        light = lookup(each.sky[day], s, t)
        if day == "B":
            light = light + (lookup(each.sun, s, t) * shown[:, 3])[:, None] * SUN
        found[spot] = shown[:, :3] * light
    return cv2.resize(found.reshape(high, wide, 3), seen.size, interpolation=cv2.INTER_AREA)


def solid_pixels(seen: Seen) -> np.ndarray:
    """(H, W) bool, true where more than half of a pixel's rays meet a surface."""
    met = (seen.surface != SKY).astype(np.float32)
    return cv2.resize(met, seen.size, interpolation=cv2.INTER_AREA) > 0.5


def flow_back(now: Seen, before: Seen) -> np.ndarray:
    """(H, W, 3) float32: u, v in pixels from a frame to the one before it, and 1 where the flow is valid, else 0.

    It is valid where the point is within the frame before, and all four pixels that bilinear sampling reads there show
    the same surface, or another within 2 % of its depth. The sky is infinitely far.
    """
    wide, high = now.size
    middle = slice(RAYS // 2, None, RAYS)
    nearness = now.nearness[middle, middle].astype(np.float64)
    focal = focal_px(wide)
    y, x = np.mgrid[:high, :wide]
    ray = np.stack([(x + 0.5 - wide / 2) / focal, (y + 0.5 - high / 2) / focal, np.ones((high, wide))], axis=-1)
    # Over its depth, so that the sky needs no case of its own.
    world = ray @ camera_rows(now.pose) + nearness[..., None] * (now.pose[:3, 3] - before.pose[:3, 3])
    local = world @ camera_rows(before.pose).T
    ahead = local[..., 2] > 1e-6
    depth = np.where(ahead, local[..., 2], 1)
    there = local[..., :2] / depth[..., None] * focal + [wide / 2 - 0.5, high / 2 - 0.5]
    flow = there - np.stack([x, y], axis=-1)
    inside = ahead & (there >= 0).all(axis=-1) & (there[..., 0] <= wide - 1) & (there[..., 1] <= high - 1)
    left, top = (np.where(inside, np.floor(there[..., k]), 0).astype(int) for k in range(2))
    old = before.nearness[middle, middle]
    expected = nearness / depth
    valid = inside
    for dx in (0, 1):
        for dy in (0, 1):
            spot = np.minimum(top + dy, high - 1), np.minimum(left + dx, wide - 1)
            same = before.surface[middle, middle][spot] == now.surface[middle, middle]
            valid = valid & (same | (np.abs(old[spot] - expected) <= 0.02 * expected))
    return np.dstack([np.where(inside[..., None], flow, 0), valid]).astype(np.float32)


def camera_draw(rng: Rng, boxes: Boxes) -> np.ndarray:
    """A handheld camera somewhere in the street, (4, 4) from camera to world: x right, y up, looking along -z.

    Most look along the street, some anywhere, some up, some at the ground. None is within things or close before one.
    """
    while True:
        place = np.array([rng.uniform(-4.5, 9.5), rng.uniform(-1.4, 1.4), rng.uniform(0.9, 2.2)])
        kind = rng.random()
        yaw, pitch = (
            (rng.normal(0, 24), rng.normal(4, 8)) if kind < 0.60
            else (rng.uniform(-180, 180), rng.normal(4, 9)) if kind < 0.72
            else (rng.normal(0, 50), rng.uniform(18, 48)) if kind < 0.90
            else (rng.normal(0, 55), rng.uniform(-40, -16))
        )  # fmt: skip
        pose = camera(place, yaw, pitch, rng.normal(0, 4))
        if boxes.away(place[None])[0] > 0.5 and free_ahead(pose, boxes, 1.3):
            return pose


def camera(place: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(4, 4) from camera to world. Angles in degrees: yaw from x to the left, pitch up, roll."""
    found = np.eye(4)
    turned = rotation("z", yaw) @ rotation("y", -pitch) @ rotation("x", roll)
    found[:3, :3] = turned @ np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]])
    found[:3, 3] = place
    return found


def walk(seed: int, frame: int) -> np.ndarray:
    """The camera of a clip's frame, from 0 on: a step down the street, a pan, an unsteady hand."""
    rng = np.random.default_rng([seed, 3])
    phase = rng.uniform(0, 2 * np.pi, (6, 2))
    sway = np.sin(frame * np.array([0.45, 0.83]) + phase) @ np.array([1.0, 0.45])
    place = np.array([0.2 + 0.06 * frame, -0.7 + 0.025 * frame, 1.62]) + np.array([0.01, 0.012, 0.012]) * sway[:3]
    return camera(place, 14 - 0.55 * frame + 0.5 * sway[3], 4 + 0.15 * frame + 0.4 * sway[4], 1.2 * sway[5])


def free_ahead(pose: np.ndarray, boxes: Boxes, reach: float) -> bool:
    """True where no surface is closer than `reach` in and around the middle of the view."""
    ways = np.array([[0, 0, -1], [-0.3, 0, -1], [0.3, 0, -1], [0, 0.2, -1], [0, -0.2, -1]]) @ pose[:3, :3].T
    steps = np.arange(0.3, reach, 0.2)
    points = pose[:3, 3] + ways[:, None] * steps[:, None]
    return bool(boxes.away(points.reshape(-1, 3)).min() > 0)


# Private implementation


def inverses(scene: Scene, pose: np.ndarray) -> dict[int, np.ndarray]:
    """For each surface that faces the camera, the (3, 3) matrix from camera rays to s, t and 1 / depth."""
    found = {}
    rows = camera_rows(pose)
    for number, each in enumerate(scene.surfaces):
        to_corner = each.corner - pose[:3, 3]
        if each.both or to_corner @ np.cross(each.down, each.right) < 0:
            matrix = rows @ np.stack([each.right, each.down, to_corner], axis=1)
            if abs(np.linalg.det(matrix)) > 1e-9:
                found[number] = np.linalg.inv(matrix)
    return found


def screen_box(
    corner: np.ndarray, right: np.ndarray, down: np.ndarray, eye: np.ndarray, rows: np.ndarray, focal: float,
    size: tuple[int, int],
) -> tuple[int, int, int, int] | None:  # fmt: skip
    """The first and last columns and rows that a rectangle may reach, or None."""
    local = (np.stack([corner, corner + right, corner + right + down, corner + down]) - eye) @ rows.T
    before = local[:, 2] > NEAR
    if not before.any():
        return None
    points = list(local[before])
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
        if before[a] != before[b]:
            points.append(local[a] + (local[b] - local[a]) * (NEAR - local[a, 2]) / (local[b, 2] - local[a, 2]))
    place = np.array([point[:2] / point[2] for point in points]) * focal + np.array(size) / 2
    low, high = np.floor(place.min(axis=0)).clip(0, size), np.ceil(place.max(axis=0)).clip(0, size)
    if (low >= high).any():
        return None
    return int(low[0]), int(high[0]), int(low[1]), int(high[1])


def level_of(painted: Painted, inverse: np.ndarray, w: np.ndarray, focal: float) -> np.ndarray:
    """The texture size that fits each ray: 0 the finest, 1 half of it, and so on."""
    rows, columns = painted.levels[0].shape[:2]
    # A ray's footprint in texels: the determinant of a projective map is its matrix's over the cube of w. Seen at an
    # angle it is longer than wide; then it is a compromise, which several rays a pixel make up for.
    area = abs(np.linalg.det(inverse)) * rows * columns / focal**2
    tall = float(np.linalg.norm(inverse[2]))
    slant = (w / np.float32(tall)).clip(0.02, 1)
    return 0.5 * np.log2(np.maximum(np.float32(area) / (w**3 * slant ** np.float32(0.6)), 1e-6))


def sample(levels: tuple[np.ndarray, ...], s: np.ndarray, t: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Trilinear samples (N,) or (N, C) at (N,) shares of the width and height."""
    level = level.clip(0, len(levels) - 1)
    base = np.minimum(level.astype(np.int32), max(len(levels) - 2, 0))
    first, last = int(base.min()), int(base.max())
    found = np.empty((len(s), *levels[0].shape[2:]), np.float32)
    for number in range(first, last + 1):
        spot = np.flatnonzero(base == number)
        if not len(spot):
            continue
        fine = lookup(levels[number], s[spot], t[spot])
        share = level[spot] - number
        if number + 1 < len(levels) and share.max() > 0:
            share = share.reshape(-1, *[1] * (fine.ndim - 1)).astype(np.float32)
            fine = fine + share * (lookup(levels[number + 1], s[spot], t[spot]) - fine)
        found[spot] = fine
    return found


def lookup(image: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Bilinear samples at (N,) shares of the width and height."""
    x = s * np.float32(image.shape[1]) - np.float32(0.5)
    y = t * np.float32(image.shape[0]) - np.float32(0.5)
    return remap(image, x, y)
