"""Semi-global matching: a smooth choice among planes of depth for every pixel.

H. Hirschmueller, "Stereo Processing by Semiglobal Matching and Mutual Information", PAMI 2008, sections 2.3 and 2.4,
along four directions. A change of plane costs more where the picture is flat than across its edges.
"""

import torch
from torch import Tensor

STEP_COST = 0.03  # of going to the next plane; a pixel's own cost is 0..1
JUMP_COST = 0.25  # of going to any other, where the picture is flat
EDGE = 0.03  # step in brightness between two pixels that halves the cost of a jump


def smoothed(cost: Tensor, grey: Tensor) -> Tensor:
    """(N, h, w, D) costs with those of the smoothest ways to each pixel added up.

    Args:
        cost: (N, h, w, D) of each plane, 0..1.
        grey: (N, h, w) the picture, whose edges allow jumps.
    """
    across, down = grey.diff(dim=2).abs(), grey.diff(dim=1).abs()
    total = _swept(cost, down)
    total += _swept(cost.flip(1), down.flip(1)).flip(1)
    sideways, across = cost.transpose(1, 2), across.transpose(1, 2)
    total += _swept(sideways, across).transpose(1, 2)
    total += _swept(sideways.flip(1), across.flip(1)).flip(1).transpose(1, 2)
    return total


def best_plane(total: Tensor) -> Tensor:
    """(N, h, w) the cheapest plane of (N, h, w, D), between planes by the parabola through it and its neighbours."""
    last = total.shape[-1] - 1
    best = total.argmin(dim=-1, keepdim=True)
    middle = best.clamp(1, last - 1)
    before, here, after = (total.gather(-1, middle + step) for step in (-1, 0, 1))
    bow = before - 2 * here + after
    shift = torch.where(bow > 1e-6, 0.5 * (before - after) / bow.clamp(min=1e-6), torch.zeros_like(bow)).clamp(
        -0.5, 0.5
    )
    inner = (best > 0) & (best < last)
    return torch.where(inner, best + shift, best.to(total.dtype))[..., 0]


# Private implementation


def _swept(cost: Tensor, step: Tensor) -> Tensor:
    """The cheapest ways to each pixel down the rows of cost (N, L, M, D); step (N, L - 1, M) is the picture's."""
    number, rows, columns, planes = cost.shape
    jump = (JUMP_COST / (1 + step / EDGE)).clamp(min=1.5 * STEP_COST)[..., None]
    ways = torch.empty((number, rows, columns, planes), dtype=cost.dtype, device=cost.device)
    ways[:, 0] = cost[:, 0]
    # One plane more on either side, where no way leads.
    padded = torch.full((number, columns, planes + 2), torch.inf, dtype=cost.dtype, device=cost.device)
    before = padded[..., 1:-1]
    for row in range(1, rows):
        before.copy_(ways[:, row - 1])
        least = before.amin(dim=-1, keepdim=True)
        way = torch.minimum(padded[..., :-2], padded[..., 2:]).add_(STEP_COST)
        torch.minimum(way, before, out=way)
        torch.minimum(way, least + jump[:, row - 1], out=way)
        way.sub_(least)
        torch.add(way, cost[:, row], out=ways[:, row])
    return ways
