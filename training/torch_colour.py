"""The srgb_log curve of `core.colour` for tensors, differentiable; a test checks that both give the same values."""

import torch
import torch.nn.functional as F
from torch import Tensor

BREAK_LINEAR, BREAK_ENCODED = 0.0031308, 0.0031308 * 12.92
TOP_SLOPE = 1.055 / 2.4  # slope of the sRGB curve at 1, where the logarithm begins


def encode_srgb(linear: Tensor) -> Tensor:
    """Linear (unbounded) to srgb_log: sRGB (IEC 61966-2-1) in 0..1, linear below 0, logarithmic above 1."""
    # Each branch is clamped to its own range: elsewhere its slope may be infinite, which makes the gradient NaN.
    curve = 1.055 * linear.clamp(BREAK_LINEAR, 1.0) ** (1 / 2.4) - 0.055
    top = TOP_SLOPE * torch.log1p(F.relu(linear - 1.0))
    return torch.where(linear < BREAK_LINEAR, linear * 12.92, curve + top)


def decode_srgb(encoded: Tensor) -> Tensor:
    """srgb_log (unbounded) to linear, the inverse of `encode_srgb`."""
    curve = ((encoded.clamp(BREAK_ENCODED, 1.0) + 0.055) / 1.055) ** 2.4
    top = torch.exp(F.relu(encoded - 1.0) / TOP_SLOPE)
    return torch.where(encoded < BREAK_ENCODED, encoded / 12.92, curve * top)
