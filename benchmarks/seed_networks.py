"""The two networks and the feature loss of NeuralVFX's lighting swap (2018), as they were published: defects included.

Written anew from a reading of github.com/NeuralVFX/lighting-swap-cyclegan (commit 093df42); nothing is copied. Only the
benchmark uses them. `training/gan/networks.py` is what the product fits.

What is known to be wrong and kept: instance norm everywhere (it deletes a plate's exposure, and makes a tile disagree
with its frame), the norm after the activation, dropout in the residual blocks, transposed convolutions (checkerboards),
and a Tanh that ends at white.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2  # slope of all leaky ReLUs but that of the translator's first layer
FIRST_LEAK = 0.01  # slope of that one, torch's default
DROPOUT = 0.5  # probability of dropout in residual blocks
WEIGHT_DEVIATION = 0.02  # standard deviation of the first weights of all convolutions


class SeedTranslator(nn.Module):
    """A translator of pictures from one light to the other.

    Args:
        filters: channels of the residual blocks; halved at each doubling of size.
        blocks: residual blocks.
        layers: halvings of the size.
    """

    def __init__(self, filters: int = 256, blocks: int = 9, layers: int = 2) -> None:
        super().__init__()
        widths = [filters // 2**step for step in reversed(range(layers + 1))]  # at full size first
        self.size_multiple = 2**layers
        # Reach of the convolutions in px. Instance norm depends on the whole picture, so tiles differ with any overlap.
        self.reach_px = 3 + (2**layers - 1) + 2 * blocks * 2**layers + 2 * (2**layers - 1) + 3
        self.first = nn.Conv2d(3, widths[0], 7)
        self.down = nn.ModuleList(
            nn.Conv2d(few, many, 3, stride=2, padding=1, bias=False) for few, many in itertools.pairwise(widths)
        )
        self.blocks = nn.ModuleList(SeedBlock(filters) for _ in range(blocks))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(many, few, 3, stride=2, padding=1, output_padding=1, bias=False)
            for few, many in reversed(list(itertools.pairwise(widths)))
        )
        self.last = nn.Conv2d(widths[0], 3, 7)
        first_weights(self)

    def forward(self, plate: Tensor) -> Tensor:
        """(N, 3, H, W) sRGB-encoded pictures in -1..1 to the same in the other light; sides multiples of 4, from 8."""
        x = F.leaky_relu(self.first(F.pad(plate, (3, 3, 3, 3), mode="reflect")), FIRST_LEAK)
        for layer in self.down:
            x = F.instance_norm(F.leaky_relu(layer(x), LEAK))
        for block in self.blocks:
            x = block(x)
        for layer in self.up:
            x = F.instance_norm(F.leaky_relu(layer(x), LEAK))
        return torch.tanh(self.last(F.pad(x, (3, 3, 3, 3), mode="reflect")))


class SeedBlock(nn.Module):
    """A residual block with dropout between its convolutions, in training only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(channels, channels, 3), nn.Conv2d(channels, channels, 3)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns (N, C, h, w)."""
        branch = F.instance_norm(F.leaky_relu(self.enter(F.pad(x, (1, 1, 1, 1), mode="reflect")), LEAK))
        branch = self.leave(F.pad(self.dropout(branch), (1, 1, 1, 1), mode="reflect"))
        return x + F.instance_norm(branch)


class SeedCritic(nn.Module):
    """Scores patches of a picture: photo of this light, or translation.

    Args:
        filters: channels of the last hidden layer; halved towards the picture.
        layers: strided layers.
    """

    def __init__(self, filters: int = 512, layers: int = 3) -> None:
        super().__init__()
        widths = [3, *(filters // 2**step for step in reversed(range(layers)))]
        self.hidden = nn.ModuleList(
            nn.Conv2d(few, many, 4, stride=2, padding=1, bias=False) for few, many in itertools.pairwise(widths)
        )
        self.judge = nn.Conv2d(filters, 1, 4)
        first_weights(self)

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Chances 0..1 that patches are real (N, 1, h, w), and the activations of all hidden layers but the first.

        Args:
            pictures: (N, 3, H, W), -1..1; sides from 32 at three layers.
        """
        x, kept = pictures, []
        for layer in self.hidden:
            active = F.leaky_relu(layer(x), LEAK)
            kept.append(active)
            x = F.instance_norm(active)
        return torch.sigmoid(self.judge(x)), kept[1:]


def feature_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Squared difference of the critic's features' means and deviations, summed over layers.

    Taken over the *batch alone*, for each channel at each place: with pairs of like content that compares blurred
    pictures, not styles. Gradient goes to both sides, as published.

    Args:
        real: layers of (N, C, h, w), N at least 2.
        fake: the same of made-up pictures.
    """
    total = torch.zeros((), device=fake[0].device)
    for r, f in zip(real, fake, strict=True):
        total = total + F.mse_loss(f.mean(0), r.mean(0)) + F.mse_loss(f.std(0), r.std(0))
    return total


def first_weights(network: nn.Module) -> None:
    """Draws the weights of all convolutions around 0; biases keep torch's values."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, WEIGHT_DEVIATION)
