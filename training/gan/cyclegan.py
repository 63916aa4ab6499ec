"""The `cyclegan` recipe: the lighting swap of NeuralVFX (2018), with its defects mended.

Two translators and two critics learn from content-paired photos of two lights: adversary, L1 cycle, identity, and the
means and deviations of the critics' features (Zhu et al. 2017; github.com/NeuralVFX/lighting-swap-cyclegan). Mended:
the critics learn from their own loss only, no dropout, no instance norm (exposure survives), no transposed convolution.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relightgan.core.errors import ConfigError
from relightgan.training.days import Direction
from relightgan.training.fit.optimisers import set_rate
from relightgan.training.fit.recipe import ExportSpec
from relightgan.training.gan.image_pool import ImagePool
from relightgan.training.gan.losses import ADVERSARIES, cycle_l1, feature_statistics, identity_l1
from relightgan.training.gan.networks import Critic, Generator, Upsampling

Network = TypeVar("Network", bound=nn.Module)
EXAMPLE_PX = (64, 96)  # size of the picture that export traces; any size works afterwards


@dataclasses.dataclass(frozen=True)
class CycleGanSettings:
    """Networks, losses and schedule of the `cyclegan` recipe.

    Raises:
        ConfigError: a value makes no sense.
    """

    base_filters: int = 64  # channels of a translator at full size; 64 is the published ResNet-9, 16 suits a CPU
    down_steps: int = 2  # how often a translator halves the picture before its residual blocks
    blocks: int = 9  # residual blocks of a translator; each widens what a pixel sees by 4 px on every side
    upsampling: Upsampling = "blur"  # resize repeats pixels; blur low-passes too, softer and freer of grids
    critic_filters: int = 64  # channels of a critic's first layer
    critic_halvings: int = 3  # strided layers of a critic; 3 makes it judge patches of 70 px
    adversary: Literal["lsgan", "bce"] = "lsgan"  # lsgan: least squares, steadier; bce: cross-entropy, as NeuralVFX
    adversarial_weight: float = 1.0  # how much it matters that critics take the pictures for photos of the other light
    cycle_weight: float = 10.0  # of L1 between a photo and its way there and back
    identity_weight: float = 5.0  # of L1 change to photos that have the wanted light already; 0 leaves it out
    feature_weight: float = 5.0  # of means and deviations of the critics' features (small, by spectral norm); 0: none
    pool_size: int = 50  # earlier pictures kept to show the critics again; 0 shows new ones only
    batch_size: int = 4  # photos of each light per step
    size_px: int = 256  # side of the square crops
    learning_rate: float = 2e-4  # Adam, translators
    critic_learning_rate: float = 2e-4  # Adam, critics
    constant_fraction: float = 0.5  # of the run at full learning rate; then straight down to 0

    def __post_init__(self) -> None:
        counts = ("base_filters", "down_steps", "blocks", "critic_filters", "critic_halvings", "batch_size")
        not_negative = ("adversarial_weight", "cycle_weight", "identity_weight", "feature_weight", "pool_size")
        smallest_px = 3 * 2**self.critic_halvings  # below this a critic has no patch left to judge
        for name, least in {
            **dict.fromkeys(counts, 1),
            **dict.fromkeys(not_negative, 0),
            "size_px": smallest_px,
        }.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {least}.")
        if self.size_px % 2**self.down_steps:
            raise ConfigError(f"size_px is {self.size_px}.", f"Give a multiple of {2**self.down_steps}.")
        if min(self.learning_rate, self.critic_learning_rate) <= 0.0:
            raise ConfigError("A learning rate must be above 0.", "Give for example 2e-4.")
        if not 0.0 <= self.constant_fraction <= 1.0:
            raise ConfigError(f"constant_fraction is {self.constant_fraction}.", "Give a value from 0 to 1.")


class PairedPhotos(Protocol):
    """A batch: photos of both lights, row by row of like content."""

    @property
    def a(self) -> Tensor:
        """(N, 3, h, w) float32, srgb_log."""

    @property
    def b(self) -> Tensor:
        """(N, 3, h, w) float32, srgb_log."""


class PairedData(Protocol):
    """Where batches come from; TrainingData of `batches` is one."""

    def draw(self, rng: np.random.Generator, batch_size: int, size_px: int, /) -> PairedPhotos:
        """A batch that is a function of `rng`'s state."""


class CycleGanRecipe:
    """Two translators, two critics and their optimisers, with the data they learn from; see `recipe.Recipe`.

    Args:
        settings: of this recipe.
        data: gives content-paired batches.
        device: where the networks live.
    """

    def __init__(self, settings: CycleGanSettings, data: PairedData, device: torch.device) -> None:
        self.settings, self.data, self.device = settings, data, device
        self.batch_size = settings.batch_size
        self.generators: dict[str, Generator] = {name: placed(_generator(settings), device) for name in ("ab", "ba")}
        self.critics: dict[str, Critic] = {
            name: placed(Critic(settings.critic_filters, settings.critic_halvings), device) for name in ("a", "b")
        }
        self.networks: dict[str, nn.Module] = {
            **{f"generator_{name}": network for name, network in self.generators.items()},
            **{f"critic_{name}": network for name, network in self.critics.items()},
        }
        self.ema: dict[str, nn.Module] = {
            f"generator_{name}": averaged_copy(network) for name, network in self.generators.items()
        }
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "generators": adam(self.generators, settings.learning_rate),
            "critics": adam(self.critics, settings.critic_learning_rate),
        }
        self.pools = {name: ImagePool(settings.pool_size) for name in ("a", "b")}

    def step(self, rng: np.random.Generator, fraction_done: float) -> dict[str, float]:
        """Draws a batch, improves the translators once, then the critics once.

        Args:
            rng: decides the batch and what the critics see of the pools.
            fraction_done: of the whole run, 0..1; sets the learning rates.

        Returns:
            Losses by name, before weighting; `generators` and `critics` are the sums that were minimised.
        """
        settings = self.settings
        share = rate_share(fraction_done, settings.constant_fraction)
        for name, rate in (("generators", settings.learning_rate), ("critics", settings.critic_learning_rate)):
            set_rate(self.optimisers[name], rate * share)
        batch = self.data.draw(rng, settings.batch_size, settings.size_px)
        a, b = self._photos(batch.a), self._photos(batch.b)

        losses, fake_a, fake_b = self.generator_losses(a, b)
        self.optimisers["generators"].zero_grad(set_to_none=True)
        torch.autograd.backward(losses["generators"])
        self.optimisers["generators"].step()

        losses |= self.critic_losses(a, b, self.pools["a"].exchange(fake_a, rng), self.pools["b"].exchange(fake_b, rng))
        self.optimisers["critics"].zero_grad(set_to_none=True)
        torch.autograd.backward(losses["critics"])
        self.optimisers["critics"].step()

        # One wait for the GPU, not one for each loss.
        values = torch.stack([value.detach() for value in losses.values()]).tolist()
        return dict(zip(losses, values, strict=True))

    def generator_losses(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """What the translators minimise, with gradient to the translators and to nothing else.

        Args:
            a, b: (N, 3, h, w) photos on the device, srgb_log, 0..1, content-paired.

        Returns:
            Losses by name (`generators` is their weighted sum), and the translated pictures of light a and of light b.
        """
        settings, adversary = self.settings, ADVERSARIES[self.settings.adversary]
        with frozen(self.critics["a"]), frozen(self.critics["b"]):
            wants_identity = settings.identity_weight > 0.0
            fake_b, same_b = self._translate("ab", a, b if wants_identity else None)
            fake_a, same_a = self._translate("ba", b, a if wants_identity else None)
            fooled = torch.zeros((), device=self.device)
            features = torch.zeros((), device=self.device)
            for critic, real, fake in ((self.critics["a"], a, fake_a), (self.critics["b"], b, fake_b)):
                scores, fake_features = critic(fake)
                fooled = fooled + adversary.generator(scores)
                if settings.feature_weight > 0.0:
                    with torch.no_grad():
                        _, real_features = critic(real)
                    features = features + feature_statistics(real_features, fake_features)
            losses = {
                "adversarial": fooled,
                "cycle": cycle_l1(a, self.generators["ba"](fake_b)) + cycle_l1(b, self.generators["ab"](fake_a)),
            }
            if wants_identity:
                losses["identity"] = identity_l1(a, same_a) + identity_l1(b, same_b)
            if settings.feature_weight > 0.0:
                losses["features"] = features
        weights = {
            "adversarial": settings.adversarial_weight,
            "cycle": settings.cycle_weight,
            "identity": settings.identity_weight,
            "features": settings.feature_weight,
        }
        losses["generators"] = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        return losses, fake_a, fake_b

    def critic_losses(self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor) -> dict[str, Tensor]:
        """What the critics minimise, with gradient to the critics and to nothing else.

        Args:
            a, b: (N, 3, h, w) photos.
            fake_a, fake_b: (N, 3, h, w) translated pictures, of this step or earlier ones.
        """
        adversary = ADVERSARIES[self.settings.adversary]
        losses = {}
        for name, real, fake in (("a", a, fake_a.detach()), ("b", b, fake_b.detach())):
            # Both at once, so that the power iteration of spectral norm moves once per step.
            real_scores, fake_scores = self.critics[name](torch.cat((real, fake)))[0].split(len(real))
            losses[f"critic_{name}"] = adversary.critic(real_scores, fake_scores)
        return losses | {"critics": losses["critic_a"] + losses["critic_b"]}

    def relight(self, photos: Tensor, direction: Direction) -> Tensor:
        """Photos in the other light, by the averaged translator.

        Args:
            photos: (N, 3, H, W) float32, srgb_log, any size from 8 px; held to 0..1.
            direction: "ab" or "ba".

        Returns:
            (N, 3, H, W) float32, 0..1, on this recipe's device, without gradient.
        """
        return relight_any_size(self._averaged(direction), self._photos(photos))

    def export(self, direction: Direction) -> ExportSpec:
        """The averaged translator of one direction as an image look."""
        return image_look(self._averaged(direction), direction, "cyclegan")

    def memory(self) -> dict[str, Tensor]:
        """The pools of earlier pictures."""
        return {f"pool_{name}": pool.state() for name, pool in self.pools.items()}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Puts back what `memory` gave."""
        for name, pool in self.pools.items():
            pool.restore(memory[f"pool_{name}"], self.device)

    def _translate(self, direction: Direction, photos: Tensor, already_there: Tensor | None) -> tuple[Tensor, Tensor]:
        # One call for both: no layer looks from one picture to another, so they stay what they would be alone.
        if already_there is None:
            relit: Tensor = self.generators[direction](photos)
            return relit, relit[:0]
        fake, same = self.generators[direction](torch.cat((photos, already_there))).split(len(photos))
        return fake, same

    def _averaged(self, direction: Direction) -> Generator:
        network = self.ema[f"generator_{direction}"]
        assert isinstance(network, Generator)
        return network

    def _photos(self, photos: Tensor) -> Tensor:
        return on_device(photos, self.device)


def build(settings: CycleGanSettings, data: PairedData, device: torch.device) -> CycleGanRecipe:
    """The recipe, with fresh networks drawn from torch's own random numbers; see `CycleGanRecipe`."""
    return CycleGanRecipe(settings, data, device)


def rate_share(fraction_done: float, constant_fraction: float) -> float:
    """The share of the full learning rate, 1..0: constant first, then straight to 0 at the end (Zhu et al. 2017).

    Args:
        fraction_done: of the run, 0..1.
        constant_fraction: of the run at full rate, 0..1.
    """
    if fraction_done <= constant_fraction:
        return 1.0
    return max(0.0, (1.0 - fraction_done) / (1.0 - constant_fraction))


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within it, losses give the network no gradient, though gradient passes through to its input."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def on_device(photos: Tensor, device: torch.device) -> Tensor:
    """Photos as the networks take them: on their device, held to 0..1, channels last."""
    return photos.to(device, non_blocking=True).clamp(0.0, 1.0).contiguous(memory_format=torch.channels_last)


def placed(network: Network, device: torch.device, layout: torch.memory_format = torch.channels_last) -> Network:
    """A network moved to a device. Channels last is faster for these shapes, and free for a norm over channels."""
    moved: Network = network.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    return moved


def averaged_copy(network: Network) -> Network:
    """A copy for the loop to average into: it learns nothing by itself."""
    return copy.deepcopy(network).requires_grad_(False).eval()


def adam(networks: Mapping[str, nn.Module], rate: float) -> torch.optim.Optimizer:
    """One optimiser for several networks (betas of Zhu et al. 2017's code)."""
    parameters = [parameter for network in networks.values() for parameter in network.parameters()]
    return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999))


def relight_any_size(network: Generator, photos: Tensor) -> Tensor:
    """Photos (N, 3, H, W) of any size from 8 px, relit without gradient; padded to the size multiple and cut again."""
    height, width = photos.shape[-2:]
    below, right = -height % network.size_multiple, -width % network.size_multiple
    with torch.no_grad():
        relit: Tensor = network(F.pad(photos, (0, right, 0, below), mode="reflect"))
    return relit[..., :height, :width]


def image_look(network: Generator, direction: Direction, translator: str) -> ExportSpec:
    """A translator as an image look of pictures in 0..1; a copy, so that later steps don't change it."""
    module = placed(copy.deepcopy(network), torch.device("cpu"), torch.contiguous_format)
    facts = {
        "direction": direction,
        "translator": translator,
        "encoding": "srgb_log",
        "primaries": "lin_rec709",
        "value_range": "unit",
        "operators": (),
        "size_multiple": module.size_multiple,
        "overlap_px": module.overlap_px,
    }
    return ExportSpec(module, (torch.full((1, 3, *EXAMPLE_PX), 0.5),), ("relit",), facts)


def _generator(settings: CycleGanSettings) -> Generator:
    return Generator(settings.base_filters, settings.down_steps, settings.blocks, settings.upsampling)
