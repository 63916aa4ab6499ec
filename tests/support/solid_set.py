"""A made-up courtyard in two lights whose cameras are known: textured walls and boxes, drawn from several places.

Loaded through the fixture `solid_set`.
"""

import cv2
import numpy as np

from relightgan.core.colour import linear_to_srgb

PHOTO_PX = (150, 200)  # height and width
FOCAL = 0.9  # of the width
STOPS = np.float32([[1.2, 1.0, 0.6], [-0.8, -0.6, -0.3]])  # what the second day does to sunny and to shaded faces


def faces():
    """Four corners (4, 3) of each face, and which of `STOPS` it gets: a floor, two walls and three boxes."""
    found = [
        ([[-3, 0, 5], [3, 0, 5], [3, 0, 0], [-3, 0, 0]], 0),
        ([[-3, -3, 5], [3, -3, 5], [3, 0, 5], [-3, 0, 5]], 1),
        ([[-3, -3, 0], [-3, -3, 5], [-3, 0, 5], [-3, 0, 0]], 0),
    ]
    for x, z, wide, high in ((-1.2, 3.2, 1.0, 1.6), (0.4, 2.6, 0.8, 0.9), (1.6, 3.6, 0.9, 2.0)):
        found.append(([[x, -high, z], [x + wide, -high, z], [x + wide, 0, z], [x, 0, z]], 1))  # front
        found.append(([[x, -high, z + wide], [x, -high, z], [x, 0, z], [x, 0, z + wide]], 0))  # left
        found.append(
            ([[x, -high, z + wide], [x + wide, -high, z + wide], [x + wide, -high, z], [x, -high, z]], 0)
        )  # top
    return [(np.float64(corners), kind) for corners, kind in found]


def cameras(rng, count):
    """(count, 3, 4) from world to camera, on an arc in front of the boxes, all looking at them."""
    poses = []
    for across in np.linspace(-1.0, 1.0, count):
        centre = np.array([1.7 * across, -1.2 + 0.3 * rng.standard_normal(), -2.2 + 0.3 * rng.standard_normal()])
        ahead = np.array([0.2, -0.7, 3.4]) + 0.15 * rng.standard_normal(3) - centre
        ahead /= np.linalg.norm(ahead)
        right = np.cross([0, 1, 0], ahead)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        poses.append(np.concatenate([rotation, (-rotation @ centre)[:, None]], axis=1))
    return np.array(poses)


def draw(pose, textures, second_day):
    """A photo, sRGB-encoded (H, W, 3): floor and walls, then the boxes' faces from the farthest to the nearest."""
    height, width = PHOTO_PX
    lens = np.array([[FOCAL * width, 0, width / 2], [0, FOCAL * width, height / 2], [0, 0, 1]])
    photo = np.full((height, width, 3), 0.25, np.float32)
    local = [(corners @ pose[:, :3].T + pose[:, 3], kind, texture) for (corners, kind), texture in textures]
    boxes = sorted(local[3:], key=lambda face: -np.linalg.norm(face[0].mean(axis=0)))
    for corners, kind, texture in local[:3] + boxes:
        if np.dot(np.cross(corners[1] - corners[0], corners[3] - corners[0]), corners[0]) < 0:
            continue  # seen from behind
        # From x, y, 1 in the texture to the point on the face, and to the picture; and back.
        size = np.array([texture.shape[1], texture.shape[0]], float)
        plane = np.stack([(corners[1] - corners[0]) / size[0], (corners[3] - corners[0]) / size[1], corners[0]], axis=1)
        into = lens @ plane
        y, x = np.mgrid[: photo.shape[0], : photo.shape[1]] + 0.5
        back = np.linalg.inv(into) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        inside = (back[2] > 0) & (back[:2] > 0).all(axis=0)
        place = back[:2] / np.where(inside, back[2], 1)
        inside &= (place < size[:, None]).all(axis=0)
        maps = (np.where(inside, place, 0) - 0.5).astype(np.float32).reshape(2, *photo.shape[:2])
        colours = cv2.remap(texture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if second_day:
            colours = colours * np.exp2(STOPS[kind])
        photo = np.where(inside.reshape(photo.shape[:2])[..., None], colours, photo)
    return linear_to_srgb(photo.clip(0, 1)).astype(np.float32)


def solid_days(texture, count=7, seed=0, shared=True):
    """Photos of two days from different places.

    Args:
        texture: `painted_set.texture`.
        count: photos of each day.
        seed: of places and textures.
        shared: both days show one set; else the second shows other textures.

    Returns:
        Photos and poses of the first day, and of the second.
    """
    rng = np.random.default_rng(seed)

    def clad():
        sides = [(np.linalg.norm(c[1] - c[0]), np.linalg.norm(c[3] - c[0])) for c, _ in faces()]
        return [
            (face, 0.05 + 0.33 * texture(rng, round(90 * high), round(90 * wide)))
            for face, (wide, high) in zip(faces(), sides, strict=True)
        ]

    clothes = clad()
    others = clothes if shared else clad()
    days = []
    for second_day, textures in ((False, clothes), (True, others)):
        poses = cameras(rng, count)
        days.append(([draw(pose, textures, second_day) for pose in poses], poses))
    return days
