"""A log2-gain bilateral grid and how it is read: the flagship's picture of a change of light.

Per cell of a coarse grid over the frame and per step of brightness it holds how many stops to add to red, green and
blue. Every pixel looks up its own gain by position and brightness and is multiplied by 2^gain in scene-linear light. So
detail, highlights, negatives and resolution are the plate's own, and gains of neighbouring frames can be averaged
without ghosts.

The brightness that a pixel is looked up by is the *guide*: its own at edges of light, that of its surroundings in
texture. By its own everywhere, a grid that lifts shadows would lift the dark grains of a wall as well, and flatten it.

Photos are flat above their *white*, so gains end there. What a plate has above it is kept on top of them, or *rolled
off* where a cell says so: clouds have to go where a blue sky comes, and a glint on marble stays.

Networks that predict all this are in `networks_relight`; `core.guidance` asks a look for what is read here.

Sources: the bilateral grid of Chen, Paris and Durand (SIGGRAPH 2007); the guide is the fast guided filter of He and Sun
(2015, arXiv:1505.00996). Gains instead of affine matrices, exposure anchoring and roll-off are ours.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from relightgan.core.guidance import ROLLED_STOPS

FAINTEST = 2.0**-100  # linear; the smallest value a logarithm is taken of
DARKEST_STOPS = -10.0  # stops around the frame's mean; darker pixels count as so dark
GUIDE_STOPS = (-6.0, 4.0)  # stops around the frame's mean; the ends of the brightness axis
LUMA_WEIGHTS = (0.2126, 0.7152, 0.0722)  # Rec. 709
WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0])  # the window of a whole frame
HALF_SURE_STOPS = 0.5  # the expected error that makes a confidence of one half
DARKEST_SHARE = 2.0**-12  # of a frame's mean luminance, which its anchor takes for black
GUIDE_RADIUS = 1  # pixels of the guide's picture around which it looks, either way
GUIDE_EDGE = 0.5  # stops squared: where brightness varies by more it is an edge of light, by less it is texture
MOST_DETAIL_STOPS = 2.0  # of a pixel from its guide: what stands out further is no texture and gets no more contrast


class Operators(NamedTuple):
    """What a network predicts of a frame.

    Attributes:
        grid: (N, 3 * depth, gh, gw) log2 gain in stops.
        anchor: (N, 1, 1, 1) the frame's mean log2 luminance, in stops.
        doubt: (N, 1, h, w) the error to expect of the gains, in stops, on a coarser raster.
        guide: (N, 2, ph, pw) on a finer one; see `guide_of`.
        white: (N, 1, 1, 1) how many stops the photos' white lies above the anchor.
        rolloff: (N, 1, gh, gw) which share of what a channel has above white, at most `ROLLED_STOPS`, is taken away:
            0 nothing, 1 all.
    """

    grid: Tensor
    anchor: Tensor
    doubt: Tensor
    guide: Tensor
    white: Tensor
    rolloff: Tensor


def log2(x: Tensor) -> Tensor:
    """log2 written so that every exporter and provider knows it."""
    return torch.log(x) * 1.4426950408889634


def exp2(x: Tensor) -> Tensor:
    """2^x written so that every exporter and provider knows it."""
    return torch.exp(x * 0.6931471805599453)


def log_luminance(linear: Tensor, darkest: Tensor) -> Tensor:
    """log2 of Rec. 709 luminance, held at `darkest`, linear; (N, 3, H, W) scene-linear to (N, 1, H, W) stops."""
    return log2(torch.maximum(weigh_luminance(linear), darkest))


def anchor_of(linear: Tensor) -> Tensor:
    """The mean log2 luminance of a frame, (N, 3, H, W) scene-linear to (N, 1, 1, 1) stops.

    What counts as black depends on the frame's own brightness, so that a frame of four times the exposure gets two
    stops more, to the bit or so, whatever is black in it.
    """
    mean = weigh_luminance(linear).clamp(min=0).mean(dim=(2, 3), keepdim=True)
    return log_luminance(linear, (mean * DARKEST_SHARE).clamp(min=FAINTEST)).mean(dim=(2, 3), keepdim=True)


def anchored_stops(linear: Tensor, anchor: Tensor) -> Tensor:
    """log2 luminance of pixels of a frame with this anchor, held at `DARKEST_STOPS` around it; see `log_luminance`."""
    return log_luminance(linear, exp2(anchor + DARKEST_STOPS))


def weigh_luminance(linear: Tensor) -> Tensor:
    """Rec. 709 luminance; (N, 3, H, W) linear to (N, 1, H, W)."""
    red, green, blue = LUMA_WEIGHTS
    return linear[:, 0:1] * red + linear[:, 1:2] * green + linear[:, 2:3] * blue


def slice_grid(grid: Tensor, position: Tensor, brightness: Tensor, depth: int) -> Tensor:
    """Looks up each pixel's gain: linear between cells and between brightness steps.

    The five-dimensional lookup is written as two four-dimensional ones on an atlas of the depth planes stacked in
    height, which every ONNX runtime since opset 16 can run; the fifth dimension is interpolated by hand.

    Args:
        grid: (N, 3 * depth, gh, gw) stops, channel-major (red's planes first).
        position: (N, H, W, 2) where each pixel lies in the frame, x and y in 0..1.
        brightness: (N, 1, H, W) place on the brightness axis, 0..depth-1; held at the ends.
        depth: number of brightness steps.

    Returns:
        (N, 3, H, W) log2 gain in stops.
    """
    n, _, gh, gw = grid.shape
    atlas = grid.reshape(n, 3, depth * gh, gw)
    lower = torch.floor(brightness).clamp(0, depth - 2)
    x = position[..., 0] * 2 - 1
    row = (position[..., 1] * gh - 0.5).clamp(min=0)
    row = torch.minimum(row, torch.full_like(row, gh - 1)) + lower[:, 0] * gh

    def plane(atlas_row: Tensor) -> Tensor:
        y = (atlas_row + 0.5) * (2.0 / (depth * gh)) - 1
        where = torch.stack([x, y], dim=-1)
        return F.grid_sample(atlas, where, mode="bilinear", padding_mode="border", align_corners=False)

    below = plane(row)
    return below + (plane(row + gh) - below) * (brightness - lower).clamp(0, 1)


def pixel_positions(height: int, width: int, window: Tensor) -> Tensor:
    """Where the pixels of a tile lie in the frame.

    Args:
        height: tile height in pixels.
        width: tile width in pixels.
        window: (4,) the tile's x0, y0, x1, y1 within the frame, 0..1.

    Returns:
        (1, H, W, 2) x and y of the pixel centres, 0..1 over the frame.
    """
    across = (torch.arange(width, device=window.device, dtype=torch.float32) + 0.5) / width
    down = (torch.arange(height, device=window.device, dtype=torch.float32) + 0.5) / height
    x = window[0] + across * (window[2] - window[0])
    y = window[1] + down * (window[3] - window[1])
    return torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], dim=-1)[None]


def guide_of(stops: Tensor) -> Tensor:
    """The guide of a frame: of each place, how a pixel's own brightness and that of its surroundings are mixed.

    Args:
        stops: (N, 1, h, w) log2 luminance of the frame, reduced.

    Returns:
        (N, 2, h, w): a slope, from nearly 1 among edges to 0 where all is even, and an offset in stops. A pixel's guide
        is its own log2 luminance times the slope, plus the offset.
    """
    middle = stops.mean(dim=(2, 3), keepdim=True)  # squares of large numbers would lose what tells them apart
    around = stops - middle
    mean = box_mean(around)
    spread = (box_mean(around * around) - mean * mean).clamp(min=0)
    slope = spread / (spread + GUIDE_EDGE)
    slope, offset = box_mean(torch.cat([slope, mean - slope * mean], dim=1)).split(1, dim=1)
    return torch.cat([slope, offset + middle * (1 - slope)], dim=1)


def box_mean(x: Tensor) -> Tensor:
    """Means over squares of `GUIDE_RADIUS` pixels to either side; at the border over what lies inside."""
    return F.avg_pool2d(x, 2 * GUIDE_RADIUS + 1, stride=1, padding=GUIDE_RADIUS, count_include_pad=False)


def gain_at(operators: Operators, linear: Tensor, position: Tensor, depth: int, detail: Tensor | None = None) -> Tensor:
    """The log2 gain of given pixels.

    Args:
        operators: of their frame; the doubt isn't looked at.
        linear: (N, 3, H, W) scene-linear pixels.
        position: (N, H, W, 2) their places in the frame, 0..1.
        depth: number of brightness steps.
        detail: a scalar; by so much more (or less) of itself texture stands out from its surroundings. None: 0.

    Returns:
        (N, 3, H, W) stops.
    """
    low, high = GUIDE_STOPS
    own = anchored_stops(linear, operators.anchor)
    mixed = look_up(operators.guide, position)
    guide = mixed[:, 0:1] * own + mixed[:, 1:2]
    above = guide - operators.anchor  # the mean of the frame
    brightness = (torch.minimum(above, operators.white) - low) * ((depth - 1) / (high - low))
    gain = slice_grid(operators.grid, position, brightness.clamp(0, depth - 1), depth)
    # Each channel for itself, as photos clip: a glow that is red above white is white in them.
    colour = log2(linear.clamp(min=FAINTEST)) - own
    over = (above + colour - operators.white).clamp(0.0, ROLLED_STOPS)
    gain = gain - over * look_up(operators.rolloff, position)
    if detail is None:
        return gain
    return gain + (own - guide).clamp(-MOST_DETAIL_STOPS, MOST_DETAIL_STOPS) * detail


def plate_gain(plate: Tensor, window: Tensor, operators: Operators, depth: int, detail: Tensor | None = None) -> Tensor:
    """The log2 gain of every pixel of a plate, or of a tile of it.

    Args:
        plate: (N, 3, H, W) scene-linear, unbounded.
        window: (4,) the tile's x0, y0, x1, y1 within the frame, 0..1.
        operators: of the frame.
        depth: number of brightness steps.
        detail: see `gain_at`.

    Returns:
        (N, 3, H, W) stops. The plate times 2^gain is the relit one: zero stays zero and negatives stay negative.
    """
    n, _, height, width = plate.shape
    position = pixel_positions(height, width, window).expand(n, height, width, 2)
    return gain_at(operators, plate, position, depth, detail)


def look_up(plane: Tensor, position: Tensor) -> Tensor:
    """Planes that lie over a frame, at given places: linear between cells; the ends are held.

    Args:
        plane: (N, C, h, w).
        position: (N, H, W, 2) places in the frame, 0..1.

    Returns:
        (N, C, H, W).
    """
    return F.grid_sample(plane, position * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False)


def confidence_of(doubt: Tensor) -> Tensor:
    """How sure gains are, 1 down to 0, of their expected error in stops; half a stop makes one half.

    1 / (1 + doubt / 0.5) falls fastest where a difference is still of use: errors of a tenth of a stop are hardly seen
    (0.83), one stop is a wrong light (0.33), and beyond it hardly matters how wrong.
    """
    return HALF_SURE_STOPS / (HALF_SURE_STOPS + doubt)
