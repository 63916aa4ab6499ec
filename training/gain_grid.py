"""The flagship translator: a log2-gain bilateral grid, predicted from a small proxy and sliced at full resolution.

A network sees the plate at low resolution and predicts, per cell of a coarse grid over the frame and per step of
brightness, how many stops to add to red, green and blue. Every pixel looks up its own gain by position and brightness
and is multiplied by 2^gain in scene-linear light. So detail, highlights, negatives and resolution are the plate's own,
and gains of neighbouring frames can be averaged without ghosts.

What the network sees is held at the *white* of the photos: above it they are flat, and plates are not. How bright that
white would be in a plate is told by another, tiny network, which knows the set and was taught under skies up to a stop
and a half above white. So nothing depends on the plate's exposure, and a sky that no photo could show is seen as white.
Gains end at white as well. What a plate has above it is kept on top of them, or *rolled off* where the network says so:
clouds have to go where a blue sky comes, and a glint on marble stays.

The brightness that a pixel is looked up by is the *guide*: its own at edges of light, that of its surroundings in
texture. By its own everywhere, a grid that lifts shadows would lift the dark grains of a wall as well, and flatten it.

Sources: the bilateral grid of Chen, Paris and Durand (SIGGRAPH 2007), predicted by a network as in HDRnet (Gharbi et
al., SIGGRAPH 2017); the guide is the fast guided filter of He and Sun (2015, arXiv:1505.00996). Gains instead of affine
matrices, and exposure anchoring, are ours.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relightgan.core.errors import ConfigError
from relightgan.core.guidance import DARKEST_STOPS, GUIDE_STOPS, ROLLED_STOPS

LUMA_WEIGHTS = (0.2126, 0.7152, 0.0722)  # Rec. 709
WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0])  # the window of a whole frame
UNSHUFFLE = 4  # proxy pixels folded into channels at the entrance, either way
HALF_SURE_STOPS = 0.5  # the expected error that makes a confidence of one half
LEAST_DOUBT_STOPS = 0.02  # nobody measures gains of photos better than that, and the doubt's loss needs a floor
DARKEST_SHARE = 2.0**-12  # of a frame's mean luminance, which its anchor takes for black
FAINTEST = 2.0**-100  # linear; no logarithm sees less
NO_ROLLOFF = 3.0  # what has to be learned against before highlights are rolled off: a fresh network leaves 95 %
MOST_ROLLOFF = 0.98  # below 1, so that what is brighter stays brighter
WHITE_SCALE = 3.0  # stops; so far above the mean of a frame white is looked for first
GUIDE_PX = 640  # long side of the picture that the guide is made from; finer than the proxy, or edges get a halo
GUIDE_RADIUS = 1  # pixels of it around which it looks, either way
GUIDE_EDGE = 0.5  # stops squared: where brightness varies by more it is an edge of light, by less it is texture
MOST_DETAIL_STOPS = 2.0  # of a pixel from its guide: what stands out further is no texture and gets no more contrast


@dataclass(frozen=True)
class GainGridSettings:
    """The shape of the gain-grid network.

    Raises:
        ConfigError: a value makes no sense.
    """

    proxy_px: int = 256  # long side of the low-resolution proxy the network sees
    depth: int = 8  # brightness steps of the grid
    width: int = 16  # channels of the first stage; the later ones are multiples of it
    max_stops: float = 6.0  # largest gain of the grid, in stops, either way

    def __post_init__(self) -> None:
        for name, least in (("proxy_px", 16), ("depth", 2), ("width", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {least}.")
        if self.max_stops <= 0:
            raise ConfigError(f"max_stops is {self.max_stops}.", "Give a number of stops above 0.")


class Operators(NamedTuple):
    """What a network predicts of a frame.

    Attributes:
        grid: (N, 3 * depth, gh, gw) log2 gain in stops.
        anchor: (N, 1, 1, 1) the frame's mean log2 luminance, in stops.
        doubt: (N, 1, h, w) the error to expect of the gains, in stops, on a coarser raster.
        guide: (N, 2, ph, pw) on a finer one; see `guide_of`.
        white: (N, 1, 1, 1) how many stops the photos' white lies above the anchor.
        rolloff: (N, 1, gh, gw) which share of the `ROLLED_STOPS` above white is taken away, 0..`MOST_ROLLOFF`.
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
    gain = gain - (above - operators.white).clamp(0.0, ROLLED_STOPS) * look_up(operators.rolloff, position)
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


class GainGridNet(nn.Module):
    """Predicts a frame's gain grid from the plate.

    A small U-Net at proxy resolution with a global branch. No normalisation layer: those would erase exposure and make
    a pixel's gain depend on the batch. Exposure is anchored instead: the network sees stops around the frame's own
    mean, so a plate exposed four times brighter gets the same gains.
    """

    def __init__(self, settings: GainGridSettings) -> None:
        super().__init__()
        self.settings = settings
        w = settings.width
        self.enter = conv(3 * UNSHUFFLE**2, 2 * w)  # 1/4 of the proxy: the grid's own raster
        self.middle = block(2 * w, 4 * w, stride=2)  # 1/8 of the proxy
        self.bottom = nn.Sequential(block(4 * w, 6 * w, stride=2), block(6 * w, 6 * w))
        self.whole = nn.Sequential(nn.Linear(6 * w, 6 * w), nn.SiLU(), nn.Linear(6 * w, 6 * w))
        self.merge = nn.Sequential(conv(10 * w, 5 * w), nn.SiLU(), conv(5 * w, 5 * w), nn.SiLU())
        self.leave = nn.Conv2d(5 * w, 3 * settings.depth + 1, 1)
        # The grid is twice as fine as the features that know the place: shadow edges follow those of the plate.
        self.narrow = nn.Conv2d(5 * w, 2 * w, 1)
        self.refine = nn.Sequential(nn.SiLU(), conv(4 * w, 2 * w), nn.SiLU(), conv(2 * w, 2 * w), nn.SiLU())
        self.leave_fine = nn.Conv2d(2 * w, 3 * settings.depth + 1, 1)
        for parameter in (*self.leave.parameters(), *self.leave_fine.parameters()):
            nn.init.zeros_(parameter)  # starts as the identity: no gain anywhere
        # With random numbers of its own, so that every other weight starts as it would without it.
        with torch.random.fork_rng(devices=[]):
            self.doubt = nn.Sequential(nn.Conv2d(5 * w, 2 * w, 1), nn.SiLU(), nn.Conv2d(2 * w, 1, 1))
            self.white = WhiteNet(max(2, 3 * w // 4))
        self.detail: Tensor
        self.register_buffer("detail", torch.zeros(()))  # see `gain_at`; measured after the fit, not learned

    def proxy(self, plate: Tensor) -> Tensor:
        """The plate averaged down to the proxy raster, sides multiples of 16; (N, 3, H, W) to (N, 3, h, w) linear."""
        height, width = plate.shape[-2:]
        return averaged_down(plate, proxy_size(height, width, self.settings.proxy_px))

    def forward(self, plate: Tensor) -> Operators:
        """Predicts the operators of a whole frame, (N, 3, H, W) scene-linear.

        A grid depends a little on where its cells happen to fall on things, and flickers as a camera moves. So the
        frame is looked at twice, half a cell apart, and both grids are averaged.
        """
        small = averaged_down(plate, guide_size(*plate.shape[-2:]))
        white = self.white(self.proxy(small))
        photo = self.proxy(torch.minimum(small, exp2(white)))
        anchor = anchor_of(photo)
        cells, doubt = self.cells_and_doubt(torch.cat([photo, half_a_cell_down(photo)]), torch.cat([anchor, anchor]))
        n = plate.shape[0]
        return operators_of((cells[:n] + half_a_cell_up(cells[n:])) / 2, doubt[:n], anchor, white, small)

    def from_reduced(self, plate: Tensor, white: Tensor) -> Operators:
        """The operators of a frame at the size of its proxy, looked at once.

        Args:
            plate: (N, 3, h, w) linear; h and w multiples of 16.
            white: (N, 1, 1, 1) log2 of the photos' white in it, which the network sees it held at.
        """
        photo = torch.minimum(plate, exp2(white))
        anchor = anchor_of(photo)
        cells, doubt = self.cells_and_doubt(photo, anchor)
        return operators_of(cells, doubt, anchor, white, plate)

    def cells_and_doubt(self, photo: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """The grid with the roll-off as its last plane, and the doubt, of a photo (N, 3, h, w) linear; see `Operators`.

        The doubt looks at the features and doesn't change them: no gradient of it reaches the gains.
        """
        fine = self.enter(entrance(photo, anchor))
        middle = self.middle(fine)
        coarse = self.bottom(middle)
        coarse = coarse + self.whole(coarse.mean(dim=(2, 3)))[:, :, None, None]
        x = self.merge(torch.cat([F.interpolate(coarse, scale_factor=2.0, mode="nearest"), middle], dim=1))
        edges = self.refine(torch.cat([F.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest"), fine], dim=1))
        broad = F.interpolate(self.leave(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        limit = self.settings.max_stops
        found = (broad + self.leave_fine(edges)).float()
        rolloff = MOST_ROLLOFF * torch.sigmoid(found[:, -1:] - NO_ROLLOFF)
        cells = torch.cat([torch.tanh(found[:, :-1] / limit) * limit, rolloff], dim=1)
        doubt = F.softplus(self.doubt(x.detach()).float()) + LEAST_DOUBT_STOPS
        return cells, doubt


class WhiteNet(nn.Module):
    """Tells how bright the photos' white would be in a plate: their exposure, of a set that it knows.

    Every cell of a coarse raster gives an estimate, and says how much to trust it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = conv(3 * UNSHUFFLE**2, 2 * width)
        self.middle = nn.Sequential(block(2 * width, 3 * width, stride=2), block(3 * width, 4 * width, stride=2))
        last = nn.Conv2d(4 * width, 2, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.leave = nn.Sequential(nn.SiLU(), last)

    def forward(self, proxy: Tensor) -> Tensor:
        """(N, 3, h, w) linear with h and w multiples of 16 to (N, 1, 1, 1) log2 of white."""
        estimates, trust = self.estimates(proxy)
        return (estimates * trust).sum(dim=(2, 3), keepdim=True)

    def estimates(self, proxy: Tensor) -> tuple[Tensor, Tensor]:
        """What each cell says, (N, 1, h / 16, w / 16) log2 of white, and the trust in it, which sums to 1."""
        anchor = anchor_of(proxy)
        found = self.leave(self.middle(self.enter(entrance(proxy, anchor)))).float()
        trust = torch.exp(found[:, 1:2].clamp(-10, 10))
        return anchor + WHITE_SCALE * (1 + found[:, 0:1]), trust / trust.sum(dim=(2, 3), keepdim=True)


def entrance(proxy: Tensor, anchor: Tensor) -> Tensor:
    """What networks see of a proxy (N, 3, h, w): its stops around the anchor, squares of pixels as channels."""
    low, high = GUIDE_STOPS
    stops = log2(proxy.clamp(min=FAINTEST)) - anchor
    return F.pixel_unshuffle(stops.clamp(low, high) * 0.4, UNSHUFFLE)


def proxy_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Height and width of the proxy: about the plate's aspect, sides multiples of 16, the long one `long_side`."""
    longest = max(height, width)
    return tuple(max(16, (side * long_side + 8 * longest) // (16 * longest) * 16) for side in (height, width))  # type: ignore[return-value]


def guide_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the picture that a frame's guide is made from: never larger than the frame."""
    longest = max(height, width)
    return tuple(max(1, side * min(longest, GUIDE_PX) // longest) for side in (height, width))  # type: ignore[return-value]


def operators_of(cells: Tensor, doubt: Tensor, anchor: Tensor, white: Tensor, plate: Tensor) -> Operators:
    """Operators of cells with the roll-off as their last plane, and the guide of a plate (N, 3, H, W) linear.

    White is given as it is in the plate, log2; the doubt is that of the first look alone.
    """
    guide = guide_of(anchored_stops(plate, anchor))
    return Operators(cells[:, :-1], anchor, doubt, guide, white - anchor, cells[:, -1:])


def half_a_cell_down(photo: Tensor) -> Tensor:
    """A proxy (N, C, h, w) moved down and to the right by half a cell of the grid; its own border fills the gap."""
    half, (height, width) = UNSHUFFLE // 2, photo.shape[-2:]
    return F.pad(photo, (half, 0, half, 0), mode="replicate")[..., :height, :width]


def half_a_cell_up(grid: Tensor) -> Tensor:
    """A grid (N, C, gh, gw) of a proxy `half_a_cell_down`, over the proxy as it was: each cell the mean of four."""
    return F.avg_pool2d(F.pad(grid, (0, 1, 0, 1), mode="replicate"), 2, stride=1)


def averaged_down(plate: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) at another height and width, without aliasing."""
    return F.interpolate(plate, size=size, mode="bilinear", antialias=True, align_corners=False)


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps (or halves) the raster."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """Two convolutions, each behind its activation; the first may halve the raster."""
    return nn.Sequential(nn.SiLU(), conv(inputs, outputs, stride), nn.SiLU(), conv(outputs, outputs))


class GainGridApply(nn.Module):
    """The second half of the look, for export: plate, window and operators in; relit plate and AOVs out.

    Args:
        depth: number of brightness steps.
        detail: a scalar; see `gain_at`.
    """

    def __init__(self, depth: int, detail: Tensor) -> None:
        super().__init__()
        self.depth = depth
        self.detail: Tensor
        self.register_buffer("detail", detail)

    def forward(
        self,
        plate: Tensor,
        window: Tensor,
        grid: Tensor,
        anchor: Tensor,
        doubt: Tensor,
        guide: Tensor,
        white: Tensor,
        rolloff: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Relights a plate or tile; see `plate_gain`.

        Returns:
            relit: (N, 3, H, W) scene-linear; gain: (N, 3, H, W) the stops it was made with, `relit = plate * 2^gain`;
            confidence: (N, 1, H, W) 0..1, see `confidence_of`.
        """
        operators = Operators(grid, anchor, doubt, guide, white, rolloff)
        n, _, height, width = plate.shape
        gain = plate_gain(plate, window, operators, self.depth, self.detail)
        position = pixel_positions(height, width, window).expand(n, height, width, 2)
        return plate * exp2(gain), gain, confidence_of(look_up(doubt, position))


class GainGridLook(nn.Module):
    """The whole look: plate and window in; relit plate, operators and AOVs out."""

    def __init__(self, net: GainGridNet) -> None:
        super().__init__()
        self.net = net
        self.apply_operators = GainGridApply(net.settings.depth, net.detail)

    def forward(self, plate: Tensor, window: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) scene-linear and (4,) window to relit (N, 3, H, W), `Operators`, and gain and confidence."""
        operators = self.net(plate)
        relit, *aovs = self.apply_operators(plate, window, *operators)
        return (relit, *operators, *aovs)
