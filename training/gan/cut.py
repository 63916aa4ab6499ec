"""The `cut` recipe: contrastive unpaired translation (Park et al., ECCV 2020), one direction at a time.

One translator and one critic. Instead of a way back, each place of the relit picture must be recognised, by what the
translator's own first half sees, among 256 places of the photo it was made from. The same is asked of photos that have
the wanted light already.

A recipe to compare with, so all but that idea is `cyclegan`'s: networks, content-paired batches, crops and schedule.
Unlike the published code: no instance norm anywhere (it would erase a plate's exposure, see `networks_cyclegan`), pairs
by content and not by chance, and the two contrastive losses are added with their weights as the paper's objective has
them, where its code takes half of each.
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

    base_filters: int = 64  # channels of the translator at full size; 64 is the published ResNet-9, 16 suits a CPU
    down_steps: int = 2  # how often the translator halves the picture before its residual blocks
    blocks: int = 9  # residual blocks of the translator; each widens what a pixel sees by 4 px on every side
    upsampling: Upsampling = "blur"  # resize repeats pixels; blur low-passes too, softer and freer of grids
    critic_filters: int = 64  # channels of the critic's first layer
    critic_halvings: int = 3  # strided layers of the critic; 3 makes it judge patches of 70 px
    adversary: Literal["lsgan", "bce"] = "lsgan"  # lsgan: least squares, as published; bce: cross-entropy
    adversarial_weight: float = 1.0  # how much it matters that the critic takes pictures for photos of the other light
    nce_weight: float = 1.0  # of recognising a relit photo's places in the photo
    identity_nce_weight: float = 1.0  # of the same for photos that have the wanted light already; 0 leaves it out
    patches: int = 256  # places of a picture that are told apart
    temperature: float = 0.07  # of telling places apart; lower is stricter
    head_channels: int = 256  # length of the vectors by which places are compared
    batch_size: int = 4  # photos of each light per step
    size_px: int = 256  # side of the square crops
    learning_rate: float = 2e-4  # Adam, the translator and its projection heads
    critic_learning_rate: float = 2e-4  # Adam, the critic
    constant_fraction: float = 0.5  # of the run at full learning rate; then straight down to 0

    def __post_init__(self) -> None:
        counts = ("base_filters", "down_steps", "blocks", "critic_filters", "critic_halvings", "head_channels")
        for name, least in {
            **dict.fromkeys((*counts, "batch_size"), 1),
            **dict.fromkeys(("adversarial_weight", "nce_weight", "identity_nce_weight"), 0),
            "patches": 2,  # one place alone can't be mistaken for another
            "size_px": 3 * 2**self.critic_halvings,  # below this the critic has no patch left to judge
        }.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {least}.")
        if self.size_px % 2**self.down_steps:
            raise ConfigError(f"size_px is {self.size_px}.", f"Give a multiple of {2**self.down_steps}.")
        if min(self.learning_rate, self.critic_learning_rate) <= 0.0:
            raise ConfigError("A learning rate must be above 0.", "Give for example 2e-4.")
        if self.temperature <= 0.0:
            raise ConfigError(f"temperature is {self.temperature}.", "Give a value above 0, for example 0.07.")
        if not 0.0 <= self.constant_fraction <= 1.0:
            raise ConfigError(f"constant_fraction is {self.constant_fraction}.", "Give a value from 0 to 1.")


class ProjectionHeads(nn.Module):
    """For each depth, a two-layer MLP from its features to the vectors by which places are compared.

    Args:
        channels: of the features at each depth.
        head_channels: of the vectors.
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
            places: for each depth (S,) numbers of cells, row by row; the same in every picture.

        Returns:
            For each depth (N, S, head_channels), of any length.
        """
        return [
            head(layer.flatten(2)[..., cells].transpose(1, 2))
            for head, layer, cells in zip(self.heads, features, places, strict=True)
        ]


class CutRecipe:
    """A translator, its projection heads, a critic and their optimisers, with the data they learn from.

    See `recipe.Recipe`. Only the direction "ab" of the data is learned; a look of the other direction is another fit,
    on data with its sides exchanged.

    Args:
        settings: of this recipe.
        data: gives content-paired batches.
        device: where the networks live.
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
        """Draws a batch, improves the translator and its heads once, then the critic once.

        Args:
            rng: decides the batch and the places that are told apart.
            fraction_done: of the whole run, 0..1; sets the learning rates.

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

        # One wait for the GPU, not one for each loss.
        values = torch.stack([value.detach() for value in losses.values()]).tolist()
        return dict(zip(losses, values, strict=True))

    def generator_losses(self, a: Tensor, b: Tensor, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """What the translator minimises, with gradient to it and its heads and to nothing else.

        Args:
            a, b: (N, 3, h, w) photos on the device, srgb_log, 0..1, content-paired.
            rng: decides the places that are told apart.

        Returns:
            Losses by name (`generator` is their weighted sum), and the relit photos of `a`.
        """
        settings = self.settings
        wants_identity = settings.identity_nce_weight > 0.0
        # One call for both: no layer looks from one picture to another, so they stay what they would be alone.
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
        """How hard it is to recognise places of what was made of photos in the photos, averaged over depths.

        Args:
            photos: (N, 3, h, w), 0..1; what is seen of them is fixed, as the thing to be found.
            made: (N, 3, h, w) what the translator made of them; gradient goes through here to the translator, and
                to translator and heads as what looks at it.
            rng: decides the places.
        """
        looked_at = self.generator.encode(made, self.depths)
        places = [draw_places(rng, layer, self.settings.patches) for layer in looked_at]
        queries = self.heads(looked_at, places)
        with torch.no_grad():
            keys = self.heads(self.generator.encode(photos, self.depths), places)
        losses = [patch_nce(q, k, self.settings.temperature) for q, k in zip(queries, keys, strict=True)]
        return torch.stack(losses).mean()

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic minimises, with gradient to it and to nothing else; (N, 3, h, w) photos and relit ones."""
        # Both at once, so that the power iteration of spectral norm moves once per step.
        real_scores, fake_scores = self.critic(torch.cat((real, fake.detach())))[0].split(len(real))
        return ADVERSARIES[self.settings.adversary].critic(real_scores, fake_scores)

    def relight(self, photos: Tensor, direction: Direction) -> Tensor:
        """Photos in the other light, by the averaged translator.

        Args:
            photos: (N, 3, H, W) float32, srgb_log, any size from 8 px; held to 0..1.
            direction: what the fit's own direction is called; there is only one.

        Returns:
            (N, 3, H, W) float32, 0..1, on this recipe's device, without gradient.
        """
        return relight_any_size(self.averaged, on_device(photos, self.device))

    def export(self, direction: Direction) -> ExportSpec:
        """The averaged translator as an image look, exactly as `cyclegan` exports its own."""
        return image_look(self.averaged, direction, "cut")

    def memory(self) -> dict[str, Tensor]:
        """Nothing: a step depends on networks, optimisers and its own random numbers alone."""
        return {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Puts back what `memory` gave."""


def build(settings: CutSettings, data: PairedData, device: torch.device) -> CutRecipe:
    """The recipe, with fresh networks drawn from torch's own random numbers; see `CutRecipe`."""
    return CutRecipe(settings, data, device)


def nce_depths(down_steps: int, blocks: int) -> tuple[int, ...]:
    """At which depths (see `Generator.encode`) places are compared.

    The picture, each halving, the first residual block and the middle one: for nine blocks the five layers of the
    paper's appendix.
    """
    return tuple(sorted({*range(down_steps + 1), down_steps + 1, down_steps + (blocks + 1) // 2}))


def draw_places(rng: np.random.Generator, features: Tensor, count: int) -> Tensor:
    """(S,) numbers of different cells of a layer (N, C, h, w), row by row; all of them where it has fewer."""
    cells = features.shape[-2] * features.shape[-1]
    return torch.from_numpy(rng.choice(cells, min(count, cells), replace=False)).to(features.device)
