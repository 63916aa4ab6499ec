"""A bilateral grid of log2 gains, and its sampling: how the flagship represents a change of light.

The grid lies over the frame. Each cell has a gain in stops for red, green and blue, for each of several steps of
brightness. A pixel samples its gain at its position and brightness, and is multiplied by 2^gain in scene-linear light.
Detail, highlights, negatives and resolution stay those of the plate, and gains of neighbouring frames can be averaged
without ghosting.

The brightness at which a pixel samples the grid is the *guide*: the pixel's own brightness at edges of light, that of
its surroundings in texture. With its own brightness everywhere, a grid that lifts shadows would also lift the dark
grains of a wall, and flatten its texture.

Photos clip at their *white*, so the grid has no gains above it. Brightness of the plate above white is kept, or *rolled
off* by the share that a cell predicts: clouds must disappear where the sky turns blue, a glint on marble must stay.

`training.relight.networks` predicts the operators. `core.guidance` reads grids through an exported look.

Sources: the bilateral grid of Chen, Paris and Durand (SIGGRAPH 2007); the guide is the fast guided filter of He and Sun
(2015, arXiv:1505.00996). Gains instead of affine matrices, exposure anchoring and roll-off are ours.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from relightgan.core.guidance import ROLLED_STOPS

MIN_LINEAR = 2.0**-100  # the minimum linear value under a logarithm; smaller ones are clamped to it
MIN_ANCHORED_STOPS = -10.0  # the minimum brightness, in stops from the anchor; darker pixels are clamped to it
GUIDE_STOPS = (-6.0, 4.0)  # both ends of the grid's brightness axis, in stops from the anchor
LUMA_WEIGHTS = (0.2126, 0.7152, 0.0722)  # Rec. 709 weights of linear red, green and blue
WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0])  # the window of a whole frame: x0, y0, x1, y1 in 0..1
HALF_SURE_STOPS = 0.5  # the doubt, in stops, at which the confidence is 0.5
BLACK_SHARE = 2.0**-12  # pixels below this share of a frame's mean luminance count as black in its anchor
GUIDE_RADIUS = 1  # the radius of the guide's box filter, in pixels of the reduced plate
GUIDE_EDGE = 0.5  # the variance of brightness, in stops squared, that separates texture (less) from edges (more)
# Detail adds contrast to a pixel's difference from its guide, up to this many stops. Larger ones are no texture.
MAX_DETAIL_STOPS = 2.0


class Operators(NamedTuple):
    """What a network predicts of a frame.

    Attributes:
        grid: (N, 3 * depth, gh, gw) log2 gain in stops.
        anchor: (N, 1, 1, 1) the frame's mean log2 luminance, in stops.
        doubt: (N, 1, h, w) the expected error of the gains in stops, on a coarser raster than the grid.
        guide: (N, 2, ph, pw) slope and offset of the guide, on a finer raster than the grid; see `guide_of`.
        white: (N, 1, 1, 1) the photos' white, in stops above the anchor.
        rolloff: (N, 1, gh, gw) the share, 0..1, that is taken from the stops of each channel above white. It applies to
            the first `ROLLED_STOPS` above white.
    """

    grid: Tensor
    anchor: Tensor
    doubt: Tensor
    guide: Tensor
    white: Tensor
    rolloff: Tensor


def log2(x: Tensor) -> Tensor:
    """log2 by operations that every exporter and onnxruntime provider supports."""
    return torch.log(x) * 1.4426950408889634


def exp2(x: Tensor) -> Tensor:
    """2^x by operations that every exporter and onnxruntime provider supports."""
    return torch.exp(x * 0.6931471805599453)


def log_luminance(linear: Tensor, darkest: Tensor) -> Tensor:
    """log2 of Rec. 709 luminance, at least `darkest` (linear); (N, 3, H, W) linear to (N, 1, H, W) stops."""
    return log2(torch.maximum(weigh_luminance(linear), darkest))


def anchor_of(linear: Tensor) -> Tensor:
    """The mean log2 luminance of a frame, (N, 3, H, W) scene-linear to (N, 1, 1, 1) stops.

    The threshold of black scales with the frame's mean luminance. So four times the exposure raises the anchor by two
    stops (within rounding), whatever is black in the frame.
    """
    mean = weigh_luminance(linear).clamp(min=0).mean(dim=(2, 3), keepdim=True)
    return log_luminance(linear, (mean * BLACK_SHARE).clamp(min=MIN_LINEAR)).mean(dim=(2, 3), keepdim=True)


def anchored_stops(linear: Tensor, anchor: Tensor) -> Tensor:
    """log2 luminance of pixels, at least the anchor plus `MIN_ANCHORED_STOPS`; see `log_luminance`."""
    return log_luminance(linear, exp2(anchor + MIN_ANCHORED_STOPS))


def weigh_luminance(linear: Tensor) -> Tensor:
    """Rec. 709 luminance; (N, 3, H, W) linear to (N, 1, H, W)."""
    red, green, blue = LUMA_WEIGHTS
    return linear[:, 0:1] * red + linear[:, 1:2] * green + linear[:, 2:3] * blue


def slice_grid(grid: Tensor, position: Tensor, brightness: Tensor, depth: int) -> Tensor:
    """Samples each pixel's gain: linear between cells and between brightness steps.

    The brightness planes are stacked in height, as an atlas. The two planes around a pixel's brightness are sampled
    with a four-dimensional GridSample, which ONNX has had since opset 16, and interpolated by hand.

    Args:
        grid: (N, 3 * depth, gh, gw) stops, channel-major (red's planes first).
        position: (N, H, W, 2) x and y of each pixel in the frame, 0..1.
        brightness: (N, 1, H, W) position on the brightness axis, clamped to 0..depth-1.
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
    """The positions of a tile's pixels in the frame.

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
    """The guide of a frame: for each place, the mix of a pixel's own brightness and that of its surroundings.

    Args:
        stops: (N, 1, h, w) log2 luminance of the frame, reduced.

    Returns:
        (N, 2, h, w): a slope, nearly 1 at edges and 0 in even areas, and an offset in stops. A pixel's guide is its own
        log2 luminance times the slope, plus the offset.
    """
    middle = stops.mean(dim=(2, 3), keepdim=True)  # subtracted, as squares of large values lose precision
    around = stops - middle
    mean = box_mean(around)
    spread = (box_mean(around * around) - mean * mean).clamp(min=0)
    slope = spread / (spread + GUIDE_EDGE)
    slope, offset = box_mean(torch.cat([slope, mean - slope * mean], dim=1)).split(1, dim=1)
    return torch.cat([slope, offset + middle * (1 - slope)], dim=1)


def box_mean(x: Tensor) -> Tensor:
    """Means over squares of `GUIDE_RADIUS` pixels to either side; at the border over the pixels inside."""
    return F.avg_pool2d(x, 2 * GUIDE_RADIUS + 1, stride=1, padding=GUIDE_RADIUS, count_include_pad=False)


def gain_at(operators: Operators, linear: Tensor, position: Tensor, depth: int, detail: Tensor | None = None) -> Tensor:
    """The log2 gain of given pixels.

    Args:
        operators: operators of the frame; the doubt isn't used.
        linear: (N, 3, H, W) scene-linear pixels.
        position: (N, H, W, 2) positions of the pixels in the frame, 0..1.
        depth: number of brightness steps.
        detail: a scalar: the relative change of contrast of texture, such as 0.2 for a fifth more. None is 0.

    Returns:
        (N, 3, H, W) stops.
    """
    low, high = GUIDE_STOPS
    own = anchored_stops(linear, operators.anchor)
    mixed = sample_plane(operators.guide, position)
    guide = mixed[:, 0:1] * own + mixed[:, 1:2]
    above = guide - operators.anchor
    brightness = (torch.minimum(above, operators.white) - low) * ((depth - 1) / (high - low))
    gain = slice_grid(operators.grid, position, brightness.clamp(0, depth - 1), depth)
    # Channel by channel, as photos clip: a red glow brighter than white is white in a photo.
    colour = log2(linear.clamp(min=MIN_LINEAR)) - own
    over = (above + colour - operators.white).clamp(0.0, ROLLED_STOPS)
    gain = gain - over * sample_plane(operators.rolloff, position)
    if detail is None:
        return gain
    return gain + (own - guide).clamp(-MAX_DETAIL_STOPS, MAX_DETAIL_STOPS) * detail


def plate_gain(plate: Tensor, window: Tensor, operators: Operators, depth: int, detail: Tensor | None = None) -> Tensor:
    """The log2 gain of every pixel of a plate, or of a tile of it.

    Args:
        plate: (N, 3, H, W) scene-linear, unbounded.
        window: (4,) the tile's x0, y0, x1, y1 within the frame, 0..1.
        operators: operators of the frame.
        depth: number of brightness steps.
        detail: see `gain_at`.

    Returns:
        (N, 3, H, W) stops. The relit plate is plate * 2^gain: zero stays zero and negatives stay negative.
    """
    n, _, height, width = plate.shape
    position = pixel_positions(height, width, window).expand(n, height, width, 2)
    return gain_at(operators, plate, position, depth, detail)


def sample_plane(plane: Tensor, position: Tensor) -> Tensor:
    """Samples planes that cover a frame: linear between cells, clamped at the borders.

    Args:
        plane: (N, C, h, w) values over the whole frame.
        position: (N, H, W, 2) positions in the frame, 0..1.

    Returns:
        (N, C, H, W).
    """
    return F.grid_sample(plane, position * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False)


def confidence_of(doubt: Tensor) -> Tensor:
    """The confidence of gains, 1 down to 0, from their expected error in stops: 1 / (1 + doubt / 0.5).

    It falls fastest at small errors, where differences matter: 0.1 stop is hardly visible (0.83), 1 stop is a wrong
    light (0.33), and larger errors are all as bad.
    """
    return HALF_SURE_STOPS / (HALF_SURE_STOPS + doubt)
