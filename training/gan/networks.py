"""The two networks of `cyclegan` and `cut`: a ResNet translator that tiles without seams, and a PatchGAN critic.

The translator follows CycleGAN's ResNet-9 (Zhu et al. 2017, appendix 7.2, after Johnson et al. 2016) with five changes:
no normalisation over the frame (it erases a plate's exposure, and makes tiles differ from their frame), resizing before
a convolution instead of transposed convolution (checkerboards: Odena et al. 2016), low-pass before downsampling (Zhang
2019), no dropout, and an output that is a change of the input, nearly 0 at the start.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Upsampling = Literal["resize", "blur"]

LEAK = 0.2  # slope of every leaky ReLU, as in the published translator and critics
HEAD_START = 0.02  # factor on the first weights of the last layer: an untrained translator hardly changes pictures
SQUEEZE = 1.0 / 256.0  # 0..1 is compressed by this at both ends, so that black and white have finite logits


class Generator(nn.Module):
    """A translator of pictures from one light to the other.

    It predicts a change of logits: `logit(relit) = logit(plate) + change`, which multiplies dark
    values by `exp(change)` and levels off towards white. Results stay within 0..1, and a change of 0 is the identity.

    Every layer reads a bounded neighbourhood and nothing else of the frame, so a tile with `overlap_px` of context
    gives the frame's own values.

    Args:
        base_filters: channels at full size; doubled at each halving.
        down_steps: halvings of the size before the residual blocks.
        blocks: residual blocks at the smallest size.
        upsampling: "resize" repeats pixels before each convolution; "blur" low-passes as well (bilinear, which is the
            [1, 3, 3, 1] filter), a little softer and freer of grids.
    """

    def __init__(
        self, base_filters: int = 64, down_steps: int = 2, blocks: int = 9, upsampling: Upsampling = "blur"
    ) -> None:
        super().__init__()
        widths = [base_filters * 2**step for step in range(down_steps + 1)]
        self.size_multiple = 2**down_steps
        self.stem = Convolution(3, widths[0], 7)
        steps = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(Downsample(few, many) for few, many in steps)
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1], blocks) for _ in range(blocks))
        self.up = nn.ModuleList(Upsample(many, few, upsampling) for few, many in reversed(steps))
        self.head = Convolution(widths[0], 3, 7)
        with torch.no_grad():
            self.head.weight.mul_(HEAD_START)
            cast(Tensor, self.head.bias).zero_()

    def forward(self, plate: Tensor) -> Tensor:
        """Relights pictures.

        Args:
            plate: (N, 3, H, W) float32, sRGB-encoded; clamped to 0..1. H and W: multiples of
                `size_multiple`, at least twice that.

        Returns:
            (N, 3, H, W) float32, sRGB-encoded, 0..1.
        """
        display = plate.clamp(0.0, 1.0)
        # No normalisation up to here nor on the residual stream, which keep the plate's exposure.
        features = F.leaky_relu(self.stem(display * 2.0 - 1.0), LEAK)
        for layer in itertools.chain(self.down, self.blocks, self.up):
            features = layer(features)
        return changed(display, self.head(features))

    def encode(self, plate: Tensor, depths: Sequence[int]) -> list[Tensor]:
        """Features of the translator's first half at several depths, for losses that compare places of pictures.

        Args:
            plate: as for `forward`.
            depths: depths in rising order. 0 is the picture; each halving, then each residual block, adds 1. Layers
                after the last depth aren't computed.

        Returns:
            For each depth (N, C, h, w), with gradient to the plate and to the layers up to there.
        """
        picture = plate.clamp(0.0, 1.0) * 2.0 - 1.0
        kept = [picture] if 0 in depths else []
        features = F.leaky_relu(self.stem(picture), LEAK)
        for depth, layer in enumerate(itertools.chain(self.down, self.blocks), start=1):
            if depth > depths[-1]:
                break
            features = layer(features)
            if depth in depths:
                kept.append(features)
        return kept

    def depth_channels(self, depths: Sequence[int]) -> list[int]:
        """The number of channels that `encode` gives at each depth."""
        widths = [3, *(self.stem.out_channels * 2**step for step in range(1, len(self.down) + 1))]
        return [widths[min(depth, len(self.down))] for depth in depths]

    @property
    def reach_px(self) -> int:
        """The largest distance, in pixels, of an input pixel that an output pixel depends on, along one axis."""
        layers = [self.stem, *self.down, *self.blocks, *self.up, self.head]
        farthest = 0
        for pixel in range(self.size_multiple):  # the distance differs among the pixels of a cell
            first = last = pixel
            for layer in reversed(layers):
                first, last = cast(_Layer, layer).reads(first, last)
            farthest = max(farthest, pixel - first, last - pixel)
        return farthest

    @property
    def receptive_field_px(self) -> int:
        """The side, in pixels, of the smallest centred square with all input pixels that an output pixel depends on."""
        return 2 * self.reach_px + 1

    @property
    def overlap_px(self) -> int:
        """The context a tile needs at each side: half the receptive field, rounded up to the size multiple."""
        half = math.ceil(self.receptive_field_px / 2)
        return int(math.ceil(half / self.size_multiple) * self.size_multiple)


def changed(display: Tensor, change: Tensor) -> Tensor:
    """A picture whose logits were changed; a change of 0 gives the picture itself.

    Args:
        display: (N, 3, H, W) in 0..1.
        change: (N, 3, H, W) added to the logits, unbounded; positive brightens.

    Returns:
        (N, 3, H, W) float32 in 0..1.
    """
    inside = display.float() * (1.0 - 2.0 * SQUEEZE) + SQUEEZE
    relit = torch.sigmoid(torch.log(inside) - torch.log(1.0 - inside) + change.float())
    return ((relit - SQUEEZE) / (1.0 - 2.0 * SQUEEZE)).clamp(0.0, 1.0)


class _Layer(nn.Module):
    """A layer that states which input indices it reads, along one axis."""

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """The first and last input index that the outputs `first`..`last` depend on."""
        raise NotImplementedError


class Convolution(nn.Conv2d, _Layer):
    """A convolution that keeps the size, with the picture mirrored at its borders."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, padding_mode="reflect")
        nn.init.kaiming_normal_(self.weight, a=LEAK)

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """Half the kernel to either side."""
        return first - self.kernel_size[0] // 2, last + self.kernel_size[0] // 2


class ChannelNorm(nn.Module):
    """Normalises each pixel's features over the *channels* (layer norm as in ConvNeXt, Liu et al. 2022).

    Unlike instance norm it mixes no pixels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Takes and returns (N, C, H, W)."""
        rows = F.layer_norm(features.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-5)
        return rows.permute(0, 3, 1, 2)


class Downsample(_Layer):
    """Half the size, more channels, without aliasing: low-pass [1, 3, 3, 1], then a strided convolution.

    The low-pass *before* the strided convolution costs a quarter of Zhang's order (convolution, then blur) and is as
    free of aliases, as both are linear. The even filter centres each output among its four pixels, as the upsampling
    needs.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, 3, stride=2)
        nn.init.kaiming_normal_(self.convolution.weight, a=LEAK)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8.0
        self.register_buffer("taps", taps.expand(channels_in, 1, 4).clone(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H/2, W/2); H and W even."""
        taps = cast(Tensor, self.taps)
        channels = taps.shape[0]
        padded = F.pad(features, (2, 2, 2, 2), mode="reflect")
        soft = F.conv2d(F.conv2d(padded, taps[:, :, :, None], groups=channels), taps[:, :, None, :], groups=channels)
        return F.leaky_relu(self.convolution(soft), LEAK)

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """Six taps around each pair of pixels."""
        return 2 * first - 2, 2 * last + 3


class ResidualBlock(_Layer):
    """`features + branch(features)`: the branch is normalised, the stream is not.

    Each branch starts scaled by 1/sqrt(blocks), so that their sum has about the size of one from the first
    step (Fixup, Zhang et al. 2019; its further rules aren't needed with a norm in the branch).
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.enter = Convolution(channels, channels, 3)
        self.norm = ChannelNorm(channels)
        self.leave = Convolution(channels, channels, 3)
        with torch.no_grad():
            self.leave.weight.mul_(1.0 / math.sqrt(blocks))

    def forward(self, features: Tensor) -> Tensor:
        """Takes and returns (N, C, H, W)."""
        branch = F.leaky_relu(self.norm(self.enter(features)), LEAK)
        return cast(Tensor, features + self.leave(branch))

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """Two 3x3 convolutions."""
        return self.enter.reads(*self.leave.reads(first, last))


class Upsample(_Layer):
    """Twice the size, fewer channels: resize, then convolve; no transposed convolution, so no checkerboard."""

    def __init__(self, channels_in: int, channels_out: int, upsampling: Upsampling) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.convolution = Convolution(channels_in, channels_out, 3)
        self.norm = ChannelNorm(channels_out)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', 2H, 2W)."""
        if self.upsampling == "resize":
            large = F.interpolate(features, scale_factor=2.0, mode="nearest")
        else:
            large = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
        return F.leaky_relu(self.norm(self.convolution(large)), LEAK)

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """A 3x3 convolution, then one tap (nearest) or two (bilinear)."""
        first, last = self.convolution.reads(first, last)
        return (first // 2, last // 2) if self.upsampling == "resize" else ((first - 1) // 2, (last + 1) // 2)


class Critic(nn.Module):
    """Scores patches of a picture: photo of this light, or translation (PatchGAN, Isola et al. 2017).

    4x4 convolutions; with three halvings a score depends on 70x70 pixels. Spectral norm (Miyato et al. 2018) on all
    layers but the last limits the slope. There is no instance norm: it would hide brightness and contrast.

    Args:
        base_filters: channels of the first layer; doubled per layer, at most 8 times.
        halvings: strided layers.
    """

    def __init__(self, base_filters: int = 64, halvings: int = 3) -> None:
        super().__init__()
        widths = [3, *(base_filters * min(2**step, 8) for step in range(halvings + 1))]
        self.hidden = nn.ModuleList(
            spectral_norm(_critic_convolution(few, many, stride=2 if step < halvings else 1))
            for step, (few, many) in enumerate(itertools.pairwise(widths))
        )
        self.judge = _critic_convolution(widths[-1], 1, stride=1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The score of each patch, and features.

        Args:
            pictures: (N, 3, H, W), sRGB-encoded, 0..1; sides of at least 24 at three halvings.

        Returns:
            Scores (N, 1, h, w), unbounded (logits for `bce`), and the activations of all hidden layers but the first,
            whose features are too close to pixels for statistics of style.
        """
        features = pictures * 2.0 - 1.0
        kept = []
        for layer in self.hidden:
            features = F.leaky_relu(layer(features), LEAK)
            kept.append(features)
        return self.judge(features), kept[1:]


def _critic_convolution(channels_in: int, channels_out: int, stride: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels_in, channels_out, 4, stride=stride, padding=1)
    nn.init.kaiming_normal_(convolution.weight, a=LEAK)
    return convolution
