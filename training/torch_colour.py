"""The sRGB curve of `core.colour` for tensors, with gradient; a test holds the two equal."""

import torch
from torch import Tensor

BREAK_LINEAR, BREAK_ENCODED = 0.0031308, 0.04045


def encode_srgb(linear: Tensor) -> Tensor:
    """Linear to sRGB-encoded (IEC 61966-2-1), straight below 0; meant for 0..1, where it is exact."""
    curve = 1.055 * linear.clamp(min=BREAK_LINEAR) ** (1 / 2.4) - 0.055
    return torch.where(linear <= BREAK_LINEAR, linear * 12.92, curve)


def decode_srgb(encoded: Tensor) -> Tensor:
    """sRGB-encoded to linear (IEC 61966-2-1), straight below 0; meant for 0..1, where it is exact."""
    curve = ((encoded.clamp(min=BREAK_ENCODED) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= BREAK_ENCODED, encoded / 12.92, curve)
