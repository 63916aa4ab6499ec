"""A made-up set in two lights whose true change is known: textured ground and a plain sky, photographed on both days.

Loaded through the fixture `painted_set`.
"""

import cv2
import numpy as np

from relightgan.core.colour import linear_to_srgb

SKY_STOPS = np.float32([-0.5, -0.1, 0.3])  # what the second day does to the sky: bluer
GROUND_STOPS = np.float32([1.0, 1.0, 1.0])  # and to the ground: one stop brighter
PHOTO_PX = (180, 240)  # height and width


class PaintedBank:
    """Photos in memory, sRGB-encoded."""

    def __init__(self, photos):
        self.photos = list(photos)

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return self.photos[index]


def texture(rng, height, width, cells=(6, 24, 72), strengths=(0.3, 0.3, 0.4)):
    """(height, width, 3) float32 in 0..1: blotches of several sizes, rich in corners."""
    picture = np.zeros((height, width, 3), np.float32)
    for count, strength in zip(cells, strengths, strict=True):
        blotches = rng.random((count, count * width // height, 3), dtype=np.float32)
        picture += strength * cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    return picture.clip(0, 1)


def view(rng, horizon, size=PHOTO_PX):
    """One view in the first light, linear (H, W, 3), and where its sky is (H, W)."""
    height, width = size
    sky = np.arange(height)[:, None] < horizon * height + 6 * np.sin(np.arange(width) / 17 + 9 * horizon)
    falling = np.linspace(1.1, 0.9, height, dtype=np.float32)[:, None, None]
    plain = np.float32([0.3, 0.36, 0.45]) * falling * np.ones((1, width, 1), np.float32)
    ground = (0.06 + 0.38 * texture(rng, height, width)) * rng.uniform(0.7, 1.0, 3).astype(np.float32)
    return np.where(sky[..., None], plain, ground), sky


def second_day(linear, sky):
    """The same view in the second light, linear."""
    return linear * np.exp2(np.where(sky[..., None], SKY_STOPS, GROUND_STOPS))


def painted_days(count=6, seed=0):
    """Photos of `count` views in both lights, photo n of both banks from nearly the same place.

    Returns:
        Bank of the first day, bank of the second day, and the first day's sky masks.
    """
    rng = np.random.default_rng(seed)
    first, second, skies = [], [], []
    for horizon in np.linspace(0.3, 0.6, count):
        linear, sky = view(rng, horizon)
        height, width = sky.shape
        later = second_day(linear, sky)
        camera = np.float64([[1.04, 0.02, -5.0], [-0.01, 1.05, -3.0], [3e-5, 2e-5, 1.0]])
        moved = cv2.warpPerspective(later, camera, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        first.append(linear_to_srgb(linear))
        second.append(linear_to_srgb(moved.clip(0, 1)))
        skies.append(sky)
    return PaintedBank(first), PaintedBank(second), skies
