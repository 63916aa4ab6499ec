"""Photos of the wanted light carried back into the light of the plates: more views to learn from.

What photos of the source day saw where a target photo looks is a picture of its view in the source light, imperfect;
the target photo itself is what that view should become, perfect. So each target photo gives one more pair, from a
camera that no source photo had. (Back-translation: Sennrich et al., "Improving Neural Machine Translation Models with
Monolingual Data", ACL 2016: what was made by machine is the input, never the goal.)
"""

from collections.abc import Sequence

import cv2
import numpy as np

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.photos.bank import Images
from relightgan.training.stops import from_stops, to_stops

WEIGHT = 0.7  # of such a pair; its plate is a little soft, and wrong where depths are
FILL_SHARES = (0.012, 0.03, 0.075, 0.25)  # of the width: how far gains reach into holes, first the near ones
LEAST_SHARE = 0.05  # of known pixels around a hole, below which gains from further away take over
TRUSTED = 0.5  # a weight from which on the source day's colours stand as they are


class JoinedImages(Images):
    """Photos, and pictures in memory after them, as one sequence."""

    def __init__(self, photos: Images, pictures: Sequence[np.ndarray]) -> None:
        self.photos, self.pictures = photos, pictures

    def __len__(self) -> int:
        return len(self.photos) + len(self.pictures)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        if index < len(self.photos):
            return self.photos[index]
        return self.pictures[index - len(self.photos)].astype(np.float32)


def with_back_translation(
    a: Images, b: Images, guidance: GuidanceMaps, back: GuidanceMaps
) -> tuple[JoinedImages, GuidanceMaps]:
    """Source photos and their guidance, and after them target photos carried back, guided by themselves.

    Args:
        a: source photos.
        b: target photos.
        guidance: of the source photos.
        back: of the target photos: what source photos saw there.
    """
    pictures, wanted = [], []
    raster = back.weight.shape[1:]
    for photo, colour, weight in zip(back.photo, back.colour, back.weight, strict=True):
        linear = srgb_to_linear(b[int(photo)])
        height, width = linear.shape[:2]
        scale = max(raster) / max(height, width)
        shape = (max(1, round(height * scale)), max(1, round(width * scale)))  # maps have one raster, photos their own
        own = to_stops(at_raster(linear, *shape))
        found = (at_raster(part.astype(np.float32), *shape) for part in (colour, weight))
        pictures.append(carried_back(own, *found).astype(np.float16))
        wanted.append(to_stops(at_raster(linear, *raster)).astype(np.float16))
    if not pictures:
        return JoinedImages(a, []), guidance
    colour = np.stack(wanted)
    weight = np.full(colour.shape[:3], WEIGHT, np.float16)
    joined = GuidanceMaps(
        np.concatenate([guidance.photo, len(a) + np.arange(len(pictures))]),
        np.concatenate([guidance.colour, colour]),
        np.concatenate([guidance.weight, weight]),
    )
    return JoinedImages(a, pictures), joined


def carried_back(own: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A photo's view in the other light: colours of the other day's photos, holes by the gains around them.

    Args:
        own: (h, w, 3) stops of the photo, `stops.to_stops`.
        colour: (h, w, 3) stops of the other day's photos there.
        weight: (h, w) of them, 0..1.

    Returns:
        (h, w, 3) float32 sRGB-encoded, 0..1.
    """
    gain = (colour - own) * weight[..., None]
    filled, left = np.zeros_like(gain), np.ones_like(weight)
    for share in FILL_SHARES:
        reach = max(0.5, share * own.shape[1])
        around, known = (cv2.GaussianBlur(part, (0, 0), reach) for part in (gain, weight))
        taken = left * known / (known + LEAST_SHARE)
        filled += taken[..., None] * around / np.maximum(known, 1e-6)[..., None]
        left -= taken
    trust = np.clip(weight / TRUSTED, 0, 1)[..., None]
    stops = trust * colour + (1 - trust) * (own + filled)
    return linear_to_srgb(np.minimum(from_stops(stops), 1)).astype(np.float32)


def at_raster(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (H, W, 3) averaged down, or spread, to a raster."""
    finer = image.shape[0] > height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if finer else cv2.INTER_LINEAR)
