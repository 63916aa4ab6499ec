"""Back-translation: target photos translated into the source light, as further pairs to learn from.

The source day's photos give a picture of a target photo's view in the source light. It is imperfect, and serves as the
plate; the target photo itself is the perfect result wanted for it. So each target photo adds a pair whose camera no
source photo had. (Sennrich et al., "Improving Neural Machine Translation Models with Monolingual Data", ACL 2016: the
machine-made half of a pair is always the input, never the result to learn.)
"""

from collections.abc import Sequence

import cv2
import numpy as np

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.photos.bank import Images
from relightgan.training.stops import from_stops, to_stops

PAIR_WEIGHT = 0.7  # weight of such a pair: its plate is a little soft, and wrong where depths are wrong
FILL_SHARES = (0.012, 0.03, 0.075, 0.25)  # reaches of gains into holes, as shares of the width, nearest first
MIN_KNOWN_SHARE = 0.05  # share of known pixels within a reach below which gains from the next reach take over
TRUSTED_WEIGHT = 0.5  # weight from which on the source day's colours are used unchanged


class JoinedImages(Images):
    """A sequence of photos followed by pictures in memory."""

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
    """The source photos and their guidance, followed by back-translated target photos guided by the target photos.

    Args:
        a: source photos.
        b: target photos.
        guidance: maps of the source photos.
        back: maps of the target photos.
    """
    pictures, wanted = [], []
    raster = back.weight.shape[1:]
    for photo, colour, weight in zip(back.photo, back.colour, back.weight, strict=True):
        linear = srgb_to_linear(b[int(photo)])
        height, width = linear.shape[:2]
        scale = max(raster) / max(height, width)
        shape = (
            max(1, round(height * scale)),
            max(1, round(width * scale)),
        )  # all maps have one shape, photos their own
        own = to_stops(resampled(linear, *shape))
        found = (resampled(part.astype(np.float32), *shape) for part in (colour, weight))
        pictures.append(back_translated(own, *found).astype(np.float16))
        wanted.append(to_stops(resampled(linear, *raster)).astype(np.float16))
    if not pictures:
        return JoinedImages(a, []), guidance
    colour = np.stack(wanted)
    weight = np.full(colour.shape[:3], PAIR_WEIGHT, np.float16)
    joined = GuidanceMaps(
        np.concatenate([guidance.photo, len(a) + np.arange(len(pictures))]),
        np.concatenate([guidance.colour, colour]),
        np.concatenate([guidance.weight, weight]),
    )
    return JoinedImages(a, pictures), joined


def back_translated(own: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A photo's view in the other light: guidance where there is any, the photo under surrounding gains elsewhere.

    Args:
        own: (h, w, 3) the photo, as `stops.to_stops`.
        colour: (h, w, 3) the other day's colour, as `stops.to_stops`.
        weight: (h, w) its weight, 0..1.

    Returns:
        (h, w, 3) float32 sRGB-encoded, 0..1.
    """
    gain = (colour - own) * weight[..., None]
    filled, left = np.zeros_like(gain), np.ones_like(weight)
    for share in FILL_SHARES:
        reach = max(0.5, share * own.shape[1])
        around, known = (cv2.GaussianBlur(part, (0, 0), reach) for part in (gain, weight))
        taken = left * known / (known + MIN_KNOWN_SHARE)
        filled += taken[..., None] * around / np.maximum(known, 1e-6)[..., None]
        left -= taken
    trust = np.clip(weight / TRUSTED_WEIGHT, 0, 1)[..., None]
    stops = trust * colour + (1 - trust) * (own + filled)
    return linear_to_srgb(np.minimum(from_stops(stops), 1)).astype(np.float32)


def resampled(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (H, W, C) at another size: by area averaging when smaller, bilinear when larger."""
    finer = image.shape[0] > height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if finer else cv2.INTER_LINEAR)
