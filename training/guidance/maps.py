"""Guidance as fits take it: maps of what the other day's photos saw where each photo looks. See `lookups` for how.

Apart from what makes it: a configuration is read, and a recipe fitted, where nothing is registered.
"""

from dataclasses import dataclass

import numpy as np

from relightgan.core.errors import ConfigError


@dataclass(frozen=True)
class GuidanceSettings:
    """How registered photos are asked what they saw at places of the set.

    Raises:
        ConfigError: a value makes no sense.
    """

    raster_px: int = 160  # longest side of a photo's map, px; time grows with its square
    planes: int = 48  # depths that are tried for each pixel
    neighbours: int = 5  # photos of the same day that a photo's depths are found from
    looks: int = 16  # photos of the other day that are asked about what a photo shows
    # Learn from target photos as well, carried back into the source light: views that no source photo had.
    back_translation: bool = True

    def __post_init__(self) -> None:
        for name, least in (("raster_px", 32), ("planes", 8), ("neighbours", 2), ("looks", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {least}.")


@dataclass(frozen=True)
class GuidanceMaps:
    """What the photos of the other day saw where photos of one day look, on a raster over each photo.

    The raster spans a photo from edge to edge, whatever its shape: a place in 0..1 of the photo is one in 0..1 of its
    map.

    Attributes:
        photo: (n,) which of its side's training photos, ascending; photos without guidance aren't in it.
        colour: (n, h, w, 3) float16, stops: `stops.to_stops` of the other day's colour, 0 where the
            weight is 0. From `stops.CLIPPED_STOPS` on it was clipped, and means "at least".
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
