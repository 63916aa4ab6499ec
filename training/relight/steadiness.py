"""Steadiness: gains that move with what they lie on, when the camera moves a little.

A network may answer differently as things fall on other pixels of its proxy, and its looks flicker. Stills teach it
better: a crop is moved as a hand-held camera would move it, and its gains have to be the moved ones. (Equivariance as a
source of temporal stability, from stills: Eilertsen, Mantiuk and Unger, CVPR 2019, arXiv:1902.10424.)
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from relightgan.training.relight.gain_grid import WHOLE, Operators, gain_at, pixel_positions
from relightgan.training.relight.networks import GainGridNet

# How far a camera moves, at most either way.
TURN = 4.0  # degrees
ZOOM = 1.12  # times
SHIFT = 0.04  # of the frame
SHRINK = 2  # proxy pixels to a place that is asked about, either way
BORDER = 0.015  # of the frame, at each side, that isn't asked about: there is no picture beyond


def drawn_motions(rng: np.random.Generator, number: int, aspect: float) -> Tensor:
    """Motions of a camera, (number, 2, 3) float32: from places -1..1 in the moved frame to those in the frame.

    Args:
        rng: decides them.
        number: of frames.
        aspect: width over height of the frames.
    """
    turn = np.radians(rng.uniform(-TURN, TURN, number))
    zoom = ZOOM ** rng.uniform(-1, 1, number)
    shift = 2 * rng.uniform(-SHIFT, SHIFT, (number, 2))  # the frame is 2 wide there
    across = [zoom * np.cos(turn), -zoom * np.sin(turn) / aspect, shift[:, 0]]
    down = [zoom * np.sin(turn) * aspect, zoom * np.cos(turn), shift[:, 1]]
    return torch.from_numpy(np.stack([np.stack(across, 1), np.stack(down, 1)], 1).astype(np.float32))


def unsteadiness(net: GainGridNet, plate: Tensor, operators: Operators, motion: Tensor) -> Tensor:
    """By how many stops gains of moved frames differ from the moved gains; (N,), the mean over what both show.

    Args:
        net: that predicted the operators.
        plate: (N, 3, h, w) linear frames at the size of the proxy, sides multiples of 16.
        operators: of them, as `net.from_reduced` gave.
        motion: (N, 2, 3) from `drawn_motions`.
    """
    n, _, height, width = plate.shape
    depth, small = net.settings.depth, (height // SHRINK, width // SHRINK)
    moved = F.grid_sample(plate, carried(height, width, motion), padding_mode="reflection", align_corners=False)
    there = carried(*small, motion)
    inside = (there.abs() < 1 - 2 * BORDER).all(dim=-1)[:, None].to(plate)
    asked = F.avg_pool2d(moved, SHRINK)
    here = pixel_positions(*small, WHOLE.to(plate.device)).expand(n, *small, 2)
    wanted = gain_at(operators, asked, (there + 1) / 2, depth)
    found = gain_at(net.from_reduced(moved, operators.anchor + operators.white), asked, here, depth)
    off = ((found - wanted).abs() * inside).sum(dim=(1, 2, 3))
    return off / (inside.sum(dim=(1, 2, 3)) * 3).clamp(min=1)


def carried(height: int, width: int, motion: Tensor) -> Tensor:
    """(N, height, width, 2) where pixels of moved frames lie in the frames, -1..1.

    Written out, as a product of matrices would be rounded to half a pixel where a fit multiplies in bfloat16.
    """
    x, y = (pixel_positions(height, width, WHOLE.to(motion.device)) * 2 - 1).split(1, dim=-1)
    across, down, shift = motion[:, None, None].unbind(dim=-1)
    return x * across + y * down + shift
