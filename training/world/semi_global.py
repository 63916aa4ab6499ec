"""Semi-global matching: chooses a plane of depth for every pixel, smoothly.

H. Hirschmueller, "Stereo Processing by Semiglobal Matching and Mutual Information", PAMI 2008, sections 2.3 and 2.4,
along four directions. A jump between planes costs more where the picture is flat than across its edges.
"""

import torch
from torch import Tensor

STEP_COST = 0.03  # cost of a step to the next plane (P1 in the paper); a pixel's own cost is 0..1
JUMP_COST = 0.25  # cost of a jump to any other plane (P2), where the picture is flat
EDGE = 0.03  # difference in brightness between two pixels that halves the cost of a jump


def aggregate_costs(cost: Tensor, grey: Tensor) -> Tensor:
    """(N, h, w, D) costs aggregated along paths from the left, the right, above and below.

    Args:
        cost: (N, h, w, D) cost of each plane, 0..1.
        grey: (N, h, w) brightness of the picture; its edges make jumps cheaper.
    """
    across, down = grey.diff(dim=2).abs(), grey.diff(dim=1).abs()
    total = _aggregate_down(cost, down)
    total += _aggregate_down(cost.flip(1), down.flip(1)).flip(1)
    sideways, across = cost.transpose(1, 2), across.transpose(1, 2)
    total += _aggregate_down(sideways, across).transpose(1, 2)
    total += _aggregate_down(sideways.flip(1), across.flip(1)).flip(1).transpose(1, 2)
    return total


def best_plane(total: Tensor) -> Tensor:
    """(N, h, w) number of the cheapest plane in (N, h, w, D), refined by a parabola through it and its neighbours."""
    last = total.shape[-1] - 1
    best = total.argmin(dim=-1, keepdim=True)
    middle = best.clamp(1, last - 1)
    before, here, after = (total.gather(-1, middle + step) for step in (-1, 0, 1))
    curvature = before - 2 * here + after
    shift = 0.5 * (before - after) / curvature.clamp(min=1e-6)
    shift = torch.where(curvature > 1e-6, shift, torch.zeros_like(shift)).clamp(-0.5, 0.5)
    inner = (best > 0) & (best < last)
    return torch.where(inner, best + shift, best.to(total.dtype))[..., 0]


# Private implementation


def _aggregate_down(cost: Tensor, step: Tensor) -> Tensor:
    """Costs (N, L, M, D) aggregated from the first row to the last.

    Args:
        cost: (N, L, M, D).
        step: (N, L - 1, M) differences in brightness between rows.
    """
    number, rows, columns, planes = cost.shape
    jump = (JUMP_COST / (1 + step / EDGE)).clamp(min=1.5 * STEP_COST)[..., None]
    paths = torch.empty((number, rows, columns, planes), dtype=cost.dtype, device=cost.device)
    paths[:, 0] = cost[:, 0]
    # One plane of padding on either side, at infinite cost.
    padded = torch.full((number, columns, planes + 2), torch.inf, dtype=cost.dtype, device=cost.device)
    before = padded[..., 1:-1]
    for row in range(1, rows):
        before.copy_(paths[:, row - 1])
        lowest = before.amin(dim=-1, keepdim=True)
        path = torch.minimum(padded[..., :-2], padded[..., 2:]).add_(STEP_COST)
        torch.minimum(path, before, out=path)
        torch.minimum(path, lowest + jump[:, row - 1], out=path)
        path.sub_(lowest)
        torch.add(path, cost[:, row], out=paths[:, row])
    return paths
