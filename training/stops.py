"""Stops for fits and measures: log2(linear + 2^-7), whose floor gives near-black little weight; and the clip level.

Near-black values of photos are mostly noise.
"""

import numpy as np
import torch
from torch import Tensor

DARK_FLOOR = 2.0**-7  # linear value that is added before the logarithm
CLIPPED = 0.97  # linear value from which on a photo is taken to be clipped
CLIPPED_STOPS = float(np.log2(CLIPPED + DARK_FLOOR))


def to_stops(linear: np.ndarray) -> np.ndarray:
    """log2(max(linear, 0) + `DARK_FLOOR`), float32: 0 becomes -7, 1 about 0."""
    stops: np.ndarray = np.log2(np.maximum(linear, 0.0, dtype=np.float32) + np.float32(DARK_FLOOR))
    return stops


def from_stops(stops: np.ndarray) -> np.ndarray:
    """The inverse of `to_stops`: linear, float32, 0 or more."""
    linear: np.ndarray = np.maximum(np.exp2(stops, dtype=np.float32) - np.float32(DARK_FLOOR), 0)
    return linear


def tensor_stops(linear: Tensor) -> Tensor:
    """`to_stops` for tensors, differentiable."""
    return torch.log2(linear.clamp(min=0) + DARK_FLOOR)
