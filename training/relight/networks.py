"""The networks of the flagship: `GainGridNet` predicts a grid of gains from a small proxy of the plate.

Photos clip at their *white*, plates don't. So the plate is clamped to the photos' white before it enters the network.
`WhiteNet`, a tiny network that knows the set, predicts where that white lies in the plate. Its training photos have
skies that were made up to a stop and a half brighter than white. So gains don't depend on the plate's exposure, and
skies brighter than any photo enter the network as white.

Grids predicted by a network: HDRnet (Gharbi et al., SIGGRAPH 2017). Their sampling: `gain_grid`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relightgan.core.errors import ConfigError
from relightgan.training.relight.gain_grid import (
    GUIDE_STOPS,
    MIN_LINEAR,
    Operators,
    anchor_of,
    anchored_stops,
    confidence_of,
    exp2,
    guide_of,
    log2,
    pixel_positions,
    plate_gain,
    sample_plane,
)

UNSHUFFLE = 4  # squares of so many pixels to a side become the channels of one pixel at the input of a network
MIN_DOUBT_STOPS = 0.02  # the minimum doubt: gains of photos can't be measured better, and the loss divides by it
ROLLOFF_BIAS = 3.0  # subtracted before the sigmoid of the roll-off: an untrained network keeps 95 % of highlights
MAX_ROLLOFF = 0.98  # the maximum roll-off: below 1, so that highlights keep their order
WHITE_SCALE = 3.0  # white as an untrained network predicts it, in stops above the anchor
GUIDE_PX = 640  # long side of the picture that the guide is made from; the smaller proxy would give edges a halo


@dataclass(frozen=True)
class GainGridSettings:
    """The shape of the gain-grid network.

    Raises:
        ConfigError: a value makes no sense.
    """

    proxy_px: int = 256  # long side of the proxy, the reduced plate that enters the network, px
    depth: int = 8  # brightness steps of the grid
    width: int = 16  # channels of the first stage; the later ones are multiples of it
    max_stops: float = 6.0  # maximum gain of the grid, in stops, up or down

    def __post_init__(self) -> None:
        for name, minimum in (("proxy_px", 16), ("depth", 2), ("width", 1)):
            if getattr(self, name) < minimum:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {minimum}.")
        if self.max_stops <= 0:
            raise ConfigError(f"max_stops is {self.max_stops}.", "Give a number of stops above 0.")


class GainGridNet(nn.Module):
    """Predicts a frame's gain grid from the plate.

    A small U-Net at the size of the proxy, with a global branch. It has no normalisation layers: they would erase
    exposure, and make a gain depend on the batch. Instead its input is in stops from the frame's own anchor, so that a
    plate of four times the exposure gets the same gains.
    """

    def __init__(self, settings: GainGridSettings) -> None:
        super().__init__()
        self.settings = settings
        w = settings.width
        self.enter = conv(3 * UNSHUFFLE**2, 2 * w)  # 1/4 of the proxy: the raster of the grid
        self.middle = block(2 * w, 4 * w, stride=2)  # 1/8 of the proxy
        self.bottom = nn.Sequential(block(4 * w, 6 * w, stride=2), block(6 * w, 6 * w))
        self.whole = nn.Sequential(nn.Linear(6 * w, 6 * w), nn.SiLU(), nn.Linear(6 * w, 6 * w))
        self.merge = nn.Sequential(conv(10 * w, 5 * w), nn.SiLU(), conv(5 * w, 5 * w), nn.SiLU())
        self.leave = nn.Conv2d(5 * w, 3 * settings.depth + 1, 1)
        # The grid is twice as fine as the features with the large context: shadow edges follow those of the plate.
        self.narrow = nn.Conv2d(5 * w, 2 * w, 1)
        self.refine = nn.Sequential(nn.SiLU(), conv(4 * w, 2 * w), nn.SiLU(), conv(2 * w, 2 * w), nn.SiLU())
        self.leave_fine = nn.Conv2d(2 * w, 3 * settings.depth + 1, 1)
        for parameter in (*self.leave.parameters(), *self.leave_fine.parameters()):
            nn.init.zeros_(parameter)  # starts as the identity: no gain anywhere
        # With random numbers of their own, so that all other weights start as they would without them.
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

        A grid depends a little on where its cells lie in the picture, and flickers as the camera moves. So grids are
        predicted for the proxy and for the proxy shifted by half a cell, and averaged. Values below 0 don't count as
        light, as in `core.operator_look`.
        """
        small = averaged_down(plate.clamp(min=0), guide_size(*plate.shape[-2:]))
        white = self.white(self.proxy(small))
        photo = self.proxy(torch.minimum(small, exp2(white)))
        anchor = anchor_of(photo)
        cells, doubt = self.cells_and_doubt(torch.cat([photo, half_a_cell_down(photo)]), torch.cat([anchor, anchor]))
        n = plate.shape[0]
        return operators_of((cells[:n] + half_a_cell_up(cells[n:])) / 2, doubt[:n], anchor, white, small)

    def from_reduced(self, plate: Tensor, white: Tensor) -> Operators:
        """The operators of a frame at the size of its proxy, from one prediction.

        Args:
            plate: (N, 3, h, w) linear; h and w multiples of 16.
            white: (N, 1, 1, 1) log2 of the photos' white in this frame, to which it is clamped.
        """
        photo = torch.minimum(plate, exp2(white))
        anchor = anchor_of(photo)
        cells, doubt = self.cells_and_doubt(photo, anchor)
        return operators_of(cells, doubt, anchor, white, plate)

    def cells_and_doubt(self, photo: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """The grid with the roll-off as its last plane, and the doubt; see `Operators`.

        The doubt is predicted from the features of the gains, and its gradient doesn't flow back into them.

        Args:
            photo: (N, 3, h, w) linear, clamped to white; h and w multiples of 16.
            anchor: (N, 1, 1, 1) the anchor of the photo.
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
        rolloff = MAX_ROLLOFF * torch.sigmoid(found[:, -1:] - ROLLOFF_BIAS)
        cells = torch.cat([torch.tanh(found[:, :-1] / limit) * limit, rolloff], dim=1)
        doubt = F.softplus(self.doubt(x.detach()).float()) + MIN_DOUBT_STOPS
        return cells, doubt


class WhiteNet(nn.Module):
    """Predicts the photos' white in a plate of the same set, as log2 of a linear value.

    Each cell of a coarse raster gives an estimate and a trust in it; the result is the weighted mean.
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
        """The estimate of each cell, (N, 1, h / 16, w / 16) log2 of white, and the trust in it, which sums to 1."""
        anchor = anchor_of(proxy)
        found = self.leave(self.middle(self.enter(entrance(proxy, anchor)))).float()
        trust = torch.exp(found[:, 1:2].clamp(-10, 10))
        return anchor + WHITE_SCALE * (1 + found[:, 0:1]), trust / trust.sum(dim=(2, 3), keepdim=True)


def entrance(proxy: Tensor, anchor: Tensor) -> Tensor:
    """The input of both networks: stops of a proxy (N, 3, h, w) from its anchor, with squares of pixels as channels."""
    low, high = GUIDE_STOPS
    stops = log2(proxy.clamp(min=MIN_LINEAR)) - anchor
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
    """The operators, put together.

    Args:
        cells: (N, 3 * depth + 1, gh, gw) the grid, with the roll-off as its last plane.
        doubt: (N, 1, h, w) stops.
        anchor: (N, 1, 1, 1) stops.
        white: (N, 1, 1, 1) log2 of the photos' white in the plate.
        plate: (N, 3, H, W) linear, the source of the guide.
    """
    guide = guide_of(anchored_stops(plate, anchor))
    return Operators(cells[:, :-1], anchor, doubt, guide, white - anchor, cells[:, -1:])


def half_a_cell_down(photo: Tensor) -> Tensor:
    """A proxy (N, C, h, w) shifted down and to the right by half a cell of the grid; its border is repeated."""
    half, (height, width) = UNSHUFFLE // 2, photo.shape[-2:]
    return F.pad(photo, (half, 0, half, 0), mode="replicate")[..., :height, :width]


def half_a_cell_up(grid: Tensor) -> Tensor:
    """The grid (N, C, gh, gw) of a proxy `half_a_cell_down`, shifted back: each cell is the mean of four."""
    return F.avg_pool2d(F.pad(grid, (0, 1, 0, 1), mode="replicate"), 2, stride=1)


def averaged_down(plate: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) at another height and width, without aliasing."""
    return F.interpolate(plate, size=size, mode="bilinear", antialias=True, align_corners=False)


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps (or halves) the raster."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """Two convolutions, each after an activation; the first may halve the raster."""
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
            relit: (N, 3, H, W) scene-linear, plate * 2^gain; gain: (N, 3, H, W) stops;
            confidence: (N, 1, H, W) 0..1, see `confidence_of`.
        """
        operators = Operators(grid, anchor, doubt, guide, white, rolloff)
        n, _, height, width = plate.shape
        gain = plate_gain(plate, window, operators, self.depth, self.detail)
        position = pixel_positions(height, width, window).expand(n, height, width, 2)
        return plate * exp2(gain), gain, confidence_of(sample_plane(doubt, position))


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
