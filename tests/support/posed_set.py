"""A made-up yard under a sky, in two lights, whose cameras, depths and change of light are known to the last pixel.

Every pixel's ray is met with every face, so that the truth needs no drawing. Loaded through the fixture `posed_set`.
"""

from typing import NamedTuple

import cv2
import numpy as np

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.world.registration import Registration
from relightgan.training.world.sfm import Solve, project

WIDE, HIGH = 128, 96  # px of photos
FOCAL = 0.85  # of the long side
STOPS = np.float32([[1.0, 0.8, 0.5], [-0.7, -0.5, -0.3]])  # what the second day does to faces of either kind
SKIES = np.float32([[0.32, 0.36, 0.4], [0.2, 0.33, 0.6]])  # linear, of both days
FLOOR = 2.0**-7
FINER = 2  # rays to a pixel, either way


def faces():
    """Corner, two sides (3,) each, and kind of light of every face: ground, a low wall, and boxes."""
    found = [
        ([-6, 0, -1], [12, 0, 0], [0, 0, 8], 0),
        ([-6, -1.6, 5], [12, 0, 0], [0, 1.6, 0], 1),
    ]
    for x, z, wide, high in ((-1.4, 3.2, 0.9, 1.3), (0.2, 2.4, 0.7, 0.9), (1.5, 3.4, 0.8, 1.7)):
        found.append(([x, -high, z], [wide, 0, 0], [0, high, 0], 1))
        found.append(([x, -high, z], [0, 0, wide], [0, high, 0], 0))
        found.append(([x + wide, -high, z], [0, 0, wide], [0, high, 0], 0))
        found.append(([x, -high, z], [wide, 0, 0], [0, 0, wide], 0))
    return [(*map(np.float64, face[:3]), face[3]) for face in found]


def poses_of(rng, count):
    """(count, 3, 4) from world to camera, on an arc in front of the yard."""
    poses = []
    for across in np.linspace(-1.0, 1.0, count):
        centre = np.array([1.5 * across, -1.0 + 0.15 * rng.standard_normal(), -1.6 + 0.2 * rng.standard_normal()])
        ahead = np.array([0.1, -0.75, 3.2]) + 0.1 * rng.standard_normal(3) - centre
        ahead /= np.linalg.norm(ahead)
        right = np.cross([0, 1, 0], ahead)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        poses.append(np.concatenate([rotation, (-rotation @ centre)[:, None]], axis=1))
    return np.array(poses)


def cast(origin, directions):
    """Which face (p,) rays meet first, -1 for none; how far along (p,); and where on the face (p, 2) in 0..1."""
    face = np.full(len(directions), -1)
    far = np.full(len(directions), np.inf)
    place = np.zeros((len(directions), 2))
    for number, (corner, across, down, _) in enumerate(faces()):
        normal = np.cross(across, down)
        towards = directions @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = (corner - origin) @ normal / towards
        met = origin + np.nan_to_num(reach, posinf=0, neginf=0)[:, None] * directions - corner
        u, v = met @ across / (across @ across), met @ down / (down @ down)
        hit = (reach > 1e-6) & (reach < far) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        face[hit], far[hit] = number, reach[hit]
        place[hit] = np.stack([u, v], axis=1)[hit]
    return face, far, place


class Truth(NamedTuple):
    """Of a photo's pixels (h, w): depth along the axis, face, stops of change (3) and point (3); sky is face -1."""

    depth: np.ndarray
    face: np.ndarray
    stops: np.ndarray
    point: np.ndarray


class Bank:
    """Photos in memory, sRGB-encoded."""

    def __init__(self, photos):
        self.photos = list(photos)

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return self.photos[index]

    def raster(self, index, rows, columns):
        """(rows, columns, 3) linear."""
        return cv2.resize(srgb_to_linear(self.photos[index]), (columns, rows), interpolation=cv2.INTER_AREA)


class PosedSet(NamedTuple):
    """The registration of the photos, the photos, and what is true of them."""

    registration: Registration
    banks: tuple[Bank, Bank]

    @property
    def sky_stops(self):
        return np.log2(SKIES + FLOOR)

    def rays(self, row, rows, columns):
        """(rows * columns, 3) directions in the world through the pixels of a raster over a photo; 1 along its axis."""
        focal, cx, cy, bend = self.registration.solve.lenses[row]
        width, height = self.registration.sizes[row]
        y, x = np.mgrid[:rows, :columns] + 0.5
        bent = np.stack([(x.ravel() * width / columns - cx) / focal, (y.ravel() * height / rows - cy) / focal], axis=1)
        flat = bent.copy()
        for _ in range(50):
            flat = bent / (1 + bend * (flat**2).sum(axis=1, keepdims=True))
        return np.column_stack([flat, np.ones(len(flat))]) @ self.registration.solve.poses[row, :, :3]

    def truth(self, row, rows, columns):
        """What is true of the pixels of a raster over a photo."""
        directions, origin = self.rays(row, rows, columns), self.registration.solve.centres[row]
        face, far, _ = cast(origin, directions)
        kinds = np.array([kind for *_, kind in faces()])
        stops = np.where((face >= 0)[:, None], STOPS[kinds[face]], np.log2(SKIES[1] / SKIES[0]))
        point = origin + np.where(np.isfinite(far), far, 1e6)[:, None] * directions
        shape = (rows, columns)
        return Truth(far.reshape(shape), face.reshape(shape), stops.reshape(*shape, 3), point.reshape(*shape, 3))

    def sees(self, row, truth):
        """(h, w) bool, whether another photo sees the points of a truth."""
        solve, origin = self.registration.solve, self.registration.solve.centres[row]
        points = truth.point.reshape(-1, 3)
        local = points @ solve.poses[row, :, :3].T + solve.poses[row, :, 3]
        focal, cx, cy, _ = solve.lenses[row]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = focal * local[:, :2] / local[:, 2:] + [cx, cy]
        inside = (local[:, 2] > 0) & (xy > 0).all(axis=1) & (xy < self.registration.sizes[row]).all(axis=1)
        return (inside & (cast(origin, points - origin)[1] > 0.999)).reshape(truth.face.shape)


def posed_set(texture, count=6, seed=0, bend=0.0, upright=()):
    """Photos of two days from different places.

    Args:
        texture: `painted_set.texture`.
        count: photos of each day.
        seed: of places and textures.
        bend: of the lens.
        upright: which photos of the first day are.
    """
    rng = np.random.default_rng(seed)
    clothes = []
    for _, across, down, _ in faces():
        size = [max(24, round(40 * np.linalg.norm(side))) for side in (down, across)]
        clothes.append(0.05 + 0.35 * texture(rng, *size, cells=tuple(max(3, size[0] // n) for n in (20, 7, 3))))
    poses = np.concatenate([poses_of(rng, count), poses_of(rng, count)])
    sizes = np.array([(HIGH, WIDE) if n in upright else (WIDE, HIGH) for n in range(2 * count)])
    lenses = np.array([[FOCAL * WIDE, width / 2, height / 2, bend] for width, height in sizes])
    empty = np.zeros(0, int)
    solve = Solve(np.arange(2 * count), poses, lenses, np.zeros((0, 3)), np.zeros(0), empty, empty, empty)
    bare = Registration(solve, np.zeros((0, 2)), sizes, (count, count), np.zeros((0, 2), int), (1, 1, 1), False)
    scene = PosedSet(bare, (Bank(()), Bank(())))
    photos = [draw(scene, row, clothes, second_day=row >= count) for row in range(2 * count)]
    points = np.concatenate([_points_on(rng, face) for face in faces()])
    everywhere = Truth(*(np.zeros((1, len(points))) for _ in range(3)), points[None])
    seen = np.stack([scene.sees(row, everywhere)[0] for row in range(2 * count)])
    kept = seen.sum(axis=0) >= 2
    point, photo = np.nonzero(seen[:, kept].T)
    solve = Solve(
        solve.photos, poses, lenses, points[kept], np.full(int(kept.sum()), 0.3), point, photo, np.arange(len(point))
    )
    places = np.zeros((len(point), 2), np.float32)
    for row in range(2 * count):
        places[photo == row] = project(poses[row], lenses[row], solve.points[point[photo == row]])[0] / sizes[row]
    whole = Registration(solve, places, sizes, (count, count), bare.pairs, (1, 1, 1), False)
    return PosedSet(whole, (Bank(photos[:count]), Bank(photos[count:])))


def draw(scene, row, clothes, second_day):
    """A photo, sRGB-encoded (H, W, 3)."""
    width, height = scene.registration.sizes[row]
    directions = scene.rays(row, FINER * height, FINER * width)
    face, _, place = cast(scene.registration.solve.centres[row], directions)
    photo = np.tile(SKIES[int(second_day)], (len(face), 1))
    kinds = [kind for *_, kind in faces()]
    for number, texture in enumerate(clothes):
        mine = np.nonzero(face == number)[0]
        at = (place[mine] * [texture.shape[1], texture.shape[0]] - 0.5).astype(np.float32)
        for start in range(0, len(mine), 30_000):  # remap takes no more columns
            part = at[None, start : start + 30_000]
            colours = cv2.remap(texture, part[..., 0], part[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            photo[mine[start : start + 30_000]] = colours[0] * np.exp2(STOPS[kinds[number]] * second_day)
    fine = photo.reshape(FINER * height, FINER * width, 3).astype(np.float32)
    return linear_to_srgb(cv2.resize(fine, (int(width), int(height)), interpolation=cv2.INTER_AREA).clip(0, 1))


def _points_on(rng, face):
    corner, across, down, _ = face
    count = int(np.clip(30 * np.linalg.norm(across) * np.linalg.norm(down), 15, 250))
    u, v = rng.random((2, count, 1))
    return corner + u * across + v * down
