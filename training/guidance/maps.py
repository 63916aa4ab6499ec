"""Guidance maps: for each pixel of a photo, its colour on the other day. `observations` makes them.

This module doesn't import `world`: a configuration can be read, and a recipe fitted, without pycolmap.
"""

from dataclasses import dataclass

import numpy as np

from relightgan.core.errors import ConfigError


@dataclass(frozen=True)
class GuidanceSettings:
    """How guidance is made from registered photos.

    Raises:
        ConfigError: a value makes no sense.
    """

    raster_px: int = 160  # longest side of a guidance map, px; time grows with its square
    planes: int = 48  # number of depths tried for each pixel
    neighbours: int = 5  # photos of the same day from which a photo's depths are computed
    looks: int = 16  # photos of the other day that observe what a photo shows, at most
    # Also learn from target photos translated back into the source light: they show views that no source photo has.
    back_translation: bool = True

    def __post_init__(self) -> None:
        for name, lowest in (("raster_px", 32), ("planes", 8), ("neighbours", 2), ("looks", 1)):
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {lowest}.")


@dataclass(frozen=True)
class GuidanceMaps:
    """For photos of one day, the other day's colours on a raster over each photo.

    The raster spans a photo from edge to edge, whatever its shape: a position in 0..1 of the photo is the same position
    in 0..1 of its map.

    Attributes:
        photo: (n,) ascending numbers among the training photos of its day; photos without guidance are missing.
        colour: (n, h, w, 3) float16, the other day's colour as `stops.to_stops`; 0 where the weight is 0. Values from
            `stops.CLIPPED_STOPS` on are clipped: the true colour is at least as bright.
        weight: (n, h, w) float16, confidence 0..1; 0 where no photo of the other day sees the place.
    """

    photo: np.ndarray
    colour: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def coverage(self) -> float:
        """The share 0..1 of the maps' pixels with a weight above 0; 0 without maps."""
        return float((self.weight > 0).mean()) if self.weight.size else 0.0
