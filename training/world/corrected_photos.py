"""Photos brought to the common exposure, white balance and curve of their day."""

from collections.abc import Sequence

import numpy as np

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.photos.bank import Images
from relightgan.training.stops import CLIPPED
from relightgan.training.world.photometry import Photometry, falloff, radii, straightened

# Code value from which on a photo is taken to be clipped.
CLIPPED_CODE = float(linear_to_srgb(np.array([CLIPPED], np.float32))[0])


class CorrectedImages(Images):
    """The photos of a day as they would be had all been taken alike, corrected whenever one is read.

    Each is (H, W, 3) float32 srgb_log, as in the bank; above 1 where a dark photo knows more than a usual one
    could show. What was clipped in the photo stays known as clipped: it is 1 or more.

    Args:
        images: the day's photos, as they came.
        photometry: of the first of them; those beyond it stay as they came.
    """

    def __init__(self, images: Images, photometry: Photometry) -> None:
        self.images, self.photometry = images, photometry

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        image, index = self.images[index], range(len(self))[index]
        found = self.photometry
        if index >= len(found.gains):
            return image
        return corrected(
            image, found.gains[index], found.vignetting[found.lens[index]], found.curve[found.camera[index]]
        )


def corrected(code: np.ndarray, gain: np.ndarray, vignetting: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """A photo without what its camera did to the light.

    Args:
        code: (H, W, 3) float32 srgb_log.
        gain: (3,) stops that the photo is too bright by.
        vignetting: (2,) see `photometry.falloff`.
        curve: (2,) see `photometry.straightened`.
    """
    if not (gain.any() or vignetting.any() or curve.any()):
        return code
    height, width = code.shape[:2]
    y, x = ((np.arange(side) + 0.5) / side for side in (height, width))
    shade = falloff(radii(np.stack(np.meshgrid(x, y), axis=-1), np.array([width, height]))) @ vignetting.astype(
        np.float32
    )
    straight = straightened(code, curve.astype(np.float32)) if curve.any() else code
    linear = srgb_to_linear(straight) * np.exp2(-(shade[..., None] + gain)).astype(np.float32)
    if code.max() <= 1:  # scene-linear files have no white to be clipped at
        linear = np.where(code >= CLIPPED_CODE, np.maximum(linear, 1), linear)
    return linear_to_srgb(linear)


def corrected_banks(banks: Sequence[Images], days: Sequence[Photometry] | None) -> tuple[Images, Images]:
    """The photos of both days, corrected; as they came where there is no photometry."""
    source, target = banks if days is None else map(CorrectedImages, banks, days)
    return source, target
