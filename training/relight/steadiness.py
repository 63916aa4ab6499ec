"""Steadiness: a loss for gains that don't follow a small camera move.

The gains that a network predicts for a surface change a little when it moves to other pixels of the proxy, so relit
clips flicker. This loss trains against it with stills: a crop is warped as by a hand-held camera, and its gains must be
the warped gains of the crop. (Temporal stability by equivariance, from stills: Eilertsen, Mantiuk and Unger, CVPR 2019,
arXiv:1902.10424.)
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from relightgan.training.relight.gain_grid import WHOLE, Operators, gain_at, pixel_positions
from relightgan.training.relight.networks import GainGridNet

# The largest camera move, either way.
MAX_TURN_DEGREES = 4.0  # rotation around the lens axis
MAX_ZOOM = 1.12  # scale factor
MAX_SHIFT = 0.04  # shift, as a share of the frame
QUERY_SHRINK = 2  # the proxy is reduced by this to the raster on which gains are compared
BORDER = 0.015  # the share of the frame at each side where gains aren't compared, as there is no picture beyond


def drawn_motions(rng: np.random.Generator, number: int, aspect: float) -> Tensor:
    """Random camera moves, (number, 2, 3) float32: affine maps from positions in the warped frame to the frame, -1..1.

    Args:
        rng: draws them.
        number: number of frames.
        aspect: width over height of the frames.
    """
    turn = np.radians(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES, number))
    zoom = MAX_ZOOM ** rng.uniform(-1, 1, number)
    shift = 2 * rng.uniform(-MAX_SHIFT, MAX_SHIFT, (number, 2))  # positions -1..1 span 2
    across = [zoom * np.cos(turn), -zoom * np.sin(turn) / aspect, shift[:, 0]]
    down = [zoom * np.sin(turn) * aspect, zoom * np.cos(turn), shift[:, 1]]
    return torch.from_numpy(np.stack([np.stack(across, 1), np.stack(down, 1)], 1).astype(np.float32))


def unsteadiness(net: GainGridNet, plate: Tensor, operators: Operators, motion: Tensor) -> Tensor:
    """The mean difference between gains of warped frames and warped gains, (N,) stops, where both frames have pixels.

    Args:
        net: the network that predicted the operators.
        plate: (N, 3, h, w) linear frames at the size of the proxy, sides multiples of 16.
        operators: operators of these frames, from `net.from_reduced`.
        motion: (N, 2, 3) camera moves from `drawn_motions`.
    """
    n, _, height, width = plate.shape
    depth, small = net.settings.depth, (height // QUERY_SHRINK, width // QUERY_SHRINK)
    positions = warped_positions(height, width, motion)
    warped = F.grid_sample(plate, positions, padding_mode="reflection", align_corners=False)
    there = warped_positions(*small, motion)
    inside = (there.abs() < 1 - 2 * BORDER).all(dim=-1)[:, None].to(plate)
    asked = F.avg_pool2d(warped, QUERY_SHRINK)
    here = pixel_positions(*small, WHOLE.to(plate.device)).expand(n, *small, 2)
    wanted = gain_at(operators, asked, (there + 1) / 2, depth)
    found = gain_at(net.from_reduced(warped, operators.anchor + operators.white), asked, here, depth)
    off = ((found - wanted).abs() * inside).sum(dim=(1, 2, 3))
    return off / (inside.sum(dim=(1, 2, 3)) * 3).clamp(min=1)


def warped_positions(height: int, width: int, motion: Tensor) -> Tensor:
    """Positions in the frames of the pixels of warped frames, (N, height, width, 2), -1..1.

    Written out: a matrix product would be off by up to half a pixel where a fit multiplies in bfloat16.
    """
    x, y = (pixel_positions(height, width, WHOLE.to(motion.device)) * 2 - 1).split(1, dim=-1)
    across, down, shift = motion[:, None, None].unbind(dim=-1)
    return x * across + y * down + shift
