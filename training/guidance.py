"""Guidance: what photos of the other day saw at the places that each photo shows."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GuidanceMaps:
    """What the photos of the other day saw where photos of one day look, on a raster over each photo.

    The raster spans a photo from edge to edge whatever its shape, so a place in 0..1 of the photo is one in 0..1 of its map.

    Attributes:
        photo: (n,) which of its side's training photos, ascending; photos without guidance aren't in it.
        colour: (n, h, w, 3) float16, stops: log2(linear + `targets.DARK_FLOOR`) of the other day's colour, 0 where the
            weight is 0. From log2(`targets.CLIPPED` + `targets.DARK_FLOOR`) on it was clipped, and means "at least".
        weight: (n, h, w) float16, how far to trust it, 0..1; 0 where the other day's photos say nothing.
    """

    photo: np.ndarray
    colour: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def coverage(self) -> float:
        """The share of the maps' pixels with a weight above 0; 0 without maps."""
        return float((self.weight > 0).mean()) if self.weight.size else 0.0
