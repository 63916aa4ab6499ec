"""The `cut` recipe: contrastive unpaired translation (Park et al., ECCV 2020), one direction at a time.

One translator and one critic. Instead of a cycle, a contrastive loss keeps the content: from the features of the
translator's first half, each place of the relit picture must be matched to the same place of the photo, among 256. The
same loss applies to photos of the target light, which should stay as they are.

This recipe is for comparison, so all else is that of `cyclegan`: networks, content-paired batches, crops and schedule.
Differences from the published code: no instance norm (it would erase a plate's exposure, see `gan.networks`), pairs by
content instead of random ones, and the two contrastive losses are added with their weights as in the paper, where the
code takes half of each.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from relightgan.core.errors import ConfigError
from relightgan.training.days import Direction
from relightgan.training.fit.optimisers import set_rate
from relightgan.training.fit.recipe import ExportSpec
from relightgan.training.gan.cyclegan import (
    PairedData,
    adam,
    averaged_copy,
    frozen,
    image_look,
    on_device,
    placed,
    rate_share,
    relight_any_size,
)
from relightgan.training.gan.losses import ADVERSARIES, patch_nce
from relightgan.training.gan.networks import Critic, Generator, Upsampling


@dataclasses.dataclass(frozen=True)
class CutSettings:
    """Networks, losses and schedule of the `cut` recipe.

    Raises:
        ConfigError: a value makes no sense.
    """

    base_filters: int = 64  # channels of the translator at full size: 64 as in the published ResNet-9, 16 for a CPU
    down_steps: int = 2  # number of halvings of the picture before the residual blocks
    blocks: int = 9  # residual blocks of the translator; each adds 4 px to its context on every side
    upsampling: Upsampling = "blur"  # resize repeats pixels; blur also low-passes: softer, with fewer grid artefacts
    critic_filters: int = 64  # channels of the critic's first layer
    critic_halvings: int = 3  # strided layers of the critic; with 3 it judges patches of 70 px
    adversary: Literal["lsgan", "bce"] = "lsgan"  # lsgan: least squares, as published; bce: cross-entropy
    adversarial_weight: float = 1.0  # weight of the loss of the translator against the critic
    nce_weight: float = 1.0  # weight of the contrastive loss between relit photo and photo
    identity_nce_weight: float = 1.0  # weight of the contrastive loss for photos of the target light; 0 turns it off
    patches: int = 256  # places per picture in the contrastive loss
    temperature: float = 0.07  # temperature of the contrastive loss; lower is stricter
    head_channels: int = 256  # length of the vectors that describe places
    batch_size: int = 4  # photos of each day per step
    size_px: int = 256  # side of the square crops
    learning_rate: float = 2e-4  # learning rate of the translator and its projection heads (Adam)
    critic_learning_rate: float = 2e-4  # learning rate of the critic (Adam)
    constant_fraction: float = 0.5  # share of the run at the full learning rate; then a straight line down to 0

    def __post_init__(self) -> None:
        counts = ("base_filters", "down_steps", "blocks", "critic_filters", "critic_halvings", "head_channels")
        for name, minimum in {
            **dict.fromkeys((*counts, "batch_size"), 1),
            **dict.fromkeys(("adversarial_weight", "nce_weight", "identity_nce_weight"), 0),
            "patches": 2,  # a contrast needs two places
            "size_px": 3 * 2**self.critic_halvings,  # below this the critic has no patch to judge
        }.items():
            if getattr(self, name) < minimum:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {minimum}.")
        if self.size_px % 2**self.down_steps:
            raise ConfigError(f"size_px is {self.size_px}.", f"Give a multiple of {2**self.down_steps}.")
        if min(self.learning_rate, self.critic_learning_rate) <= 0.0:
            raise ConfigError("A learning rate must be above 0.", "Give for example 2e-4.")
        if self.temperature <= 0.0:
            raise ConfigError(f"temperature is {self.temperature}.", "Give a value above 0, for example 0.07.")
        if not 0.0 <= self.constant_fraction <= 1.0:
            raise ConfigError(f"constant_fraction is {self.constant_fraction}.", "Give a value from 0 to 1.")


class ProjectionHeads(nn.Module):
    """For each depth, a two-layer MLP from features to the vectors that describe places.

    Args:
        channels: channels of the features at each depth.
        head_channels: length of the vectors.
    """

    def __init__(self, channels: Sequence[int], head_channels: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(few, head_channels), nn.ReLU(), nn.Linear(head_channels, head_channels))
            for few in channels
        )

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """The vectors at some places.

        Args:
            features: for each depth (N, C, h, w).
            places: for each depth (S,) indices of cells, row by row; the same for every picture.

        Returns:
            For each depth (N, S, head_channels), not normalised.
        """
        return [
            head(layer.flatten(2)[..., cells].transpose(1, 2))
            for head, layer, cells in zip(self.heads, features, places, strict=True)
        ]


class CutRecipe:
    """A translator, its projection heads, a critic, their optimisers and training data; see `fit.recipe.Recipe`.

    Only the direction "ab" of the data is learned. The other direction is another fit, on data with both days swapped.

    Args:
        settings: settings of this recipe.
        data: the source of content-paired batches.
        device: the device of the networks.
    """

    def __init__(self, settings: CutSettings, data: PairedData, device: torch.device) -> None:
        self.settings, self.data, self.device = settings, data, device
        self.batch_size = settings.batch_size
        generator = Generator(settings.base_filters, settings.down_steps, settings.blocks, settings.upsampling)
        self.depths = nce_depths(settings.down_steps, settings.blocks)
        self.generator = placed(generator, device)
        self.heads = ProjectionHeads(generator.depth_channels(self.depths), settings.head_channels).to(device)
        self.critic = placed(Critic(settings.critic_filters, settings.critic_halvings), device)
        self.networks: dict[str, nn.Module] = {
            "generator": self.generator, "heads": self.heads, "critic": self.critic
        }  # fmt: skip
        self.averaged = averaged_copy(self.generator)
        self.ema: dict[str, nn.Module] = {"generator": self.averaged}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": adam({"generator": self.generator, "heads": self.heads}, settings.learning_rate),
            "critic": adam({"critic": self.critic}, settings.critic_learning_rate),
        }

    def step(self, rng: np.random.Generator, fraction_done: float) -> dict[str, float]:
        """Draws a batch and makes a step of the translator and its heads, then one of the critic.

        Args:
            rng: draws the batch and the places of the contrastive loss.
            fraction_done: the share of the run that is done, 0..1; it sets the learning rates.

        Returns:
            Losses by name, before weighting; `generator` and `critic` are what was minimised.
        """
        settings = self.settings
        share = rate_share(fraction_done, settings.constant_fraction)
        set_rate(self.optimisers["generator"], settings.learning_rate * share)
        set_rate(self.optimisers["critic"], settings.critic_learning_rate * share)
        batch = self.data.draw(rng, settings.batch_size, settings.size_px)
        a, b = on_device(batch.a, self.device), on_device(batch.b, self.device)

        losses, fake = self.generator_losses(a, b, rng)
        self.optimisers["generator"].zero_grad(set_to_none=True)
        torch.autograd.backward(losses["generator"])
        self.optimisers["generator"].step()

        losses["critic"] = self.critic_loss(b, fake)
        self.optimisers["critic"].zero_grad(set_to_none=True)
        torch.autograd.backward(losses["critic"])
        self.optimisers["critic"].step()

        # A single wait for the GPU, not one per loss.
        values = torch.stack([value.detach() for value in losses.values()]).tolist()
        return dict(zip(losses, values, strict=True))

    def generator_losses(self, a: Tensor, b: Tensor, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of the translator, with gradients to it and its heads alone.

        Args:
            a, b: (N, 3, h, w) photos on the device, srgb_log, 0..1, content-paired.
            rng: draws the places of the contrastive loss.

        Returns:
            Losses by name (`generator` is their weighted sum), and the relit photos of `a`.
        """
        settings = self.settings
        wants_identity = settings.identity_nce_weight > 0.0
        # One call for both: no layer mixes pictures of a batch, so the results are those of two calls.
        made = self.generator(torch.cat((a, b)) if wants_identity else a)
        fake, same = made[: len(a)], made[len(a) :]
        with frozen(self.critic):
            losses = {"adversarial": ADVERSARIES[settings.adversary].generator(self.critic(fake)[0])}
        losses["nce"] = self.nce(a, fake, rng)
        weights = {"adversarial": settings.adversarial_weight, "nce": settings.nce_weight}
        if wants_identity:
            losses["identity_nce"] = self.nce(b, same, rng)
            weights["identity_nce"] = settings.identity_nce_weight
        losses["generator"] = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        return losses, fake

    def nce(self, photos: Tensor, made: Tensor, rng: np.random.Generator) -> Tensor:
        """The contrastive loss between photos and their translations, averaged over depths.

        Args:
            photos: (N, 3, h, w), 0..1; no gradient flows through their features.
            made: (N, 3, h, w) their translations; the gradient flows through them to the translator, and through their
                features to translator and heads.
            rng: draws the places.
        """
        made_features = self.generator.encode(made, self.depths)
        places = [draw_places(rng, layer, self.settings.patches) for layer in made_features]
        queries = self.heads(made_features, places)
        with torch.no_grad():
            keys = self.heads(self.generator.encode(photos, self.depths), places)
        losses = [patch_nce(q, k, self.settings.temperature) for q, k in zip(queries, keys, strict=True)]
        return torch.stack(losses).mean()

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The loss of the critic for photos and relit photos (N, 3, h, w), with gradients to it alone."""
        # One call for both, so that spectral norm makes one power iteration per step.
        real_scores, fake_scores = self.critic(torch.cat((real, fake.detach())))[0].split(len(real))
        return ADVERSARIES[self.settings.adversary].critic(real_scores, fake_scores)

    def relight(self, photos: Tensor, direction: Direction) -> Tensor:
        """Photos relit by the averaged translator.

        Args:
            photos: (N, 3, H, W) float32, srgb_log, any size from 8 px; clamped to 0..1.
            direction: the fit's only direction.

        Returns:
            (N, 3, H, W) float32, 0..1, on this recipe's device, without gradient.
        """
        return relight_any_size(self.averaged, on_device(photos, self.device))

    def export(self, direction: Direction, learned: bool = True) -> ExportSpec:
        """The averaged translator as an image look, in the form of `cyclegan`'s."""
        return image_look(self.averaged, direction, "cut")

    def memory(self) -> dict[str, Tensor]:
        """Nothing: a step depends on networks, optimisers and its random numbers alone."""
        return {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Does nothing, as `memory` gives nothing."""


def build(settings: CutSettings, data: PairedData, device: torch.device) -> CutRecipe:
    """The recipe with new networks, whose weights come from torch's global random numbers; see `CutRecipe`."""
    return CutRecipe(settings, data, device)


def nce_depths(down_steps: int, blocks: int) -> tuple[int, ...]:
    """The depths (see `Generator.encode`) of the contrastive loss.

    The picture, each halving, the first and the middle residual block: with nine blocks, the five layers of the paper's
    appendix.
    """
    return tuple(sorted({*range(down_steps + 1), down_steps + 1, down_steps + (blocks + 1) // 2}))


def draw_places(rng: np.random.Generator, features: Tensor, count: int) -> Tensor:
    """(S,) random indices of different cells of a layer (N, C, h, w), row by row; all cells where there are fewer."""
    cells = features.shape[-2] * features.shape[-1]
    return torch.from_numpy(rng.choice(cells, min(count, cells), replace=False)).to(features.device)
