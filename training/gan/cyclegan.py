"""The `cyclegan` recipe: the lighting swap of NeuralVFX (2018), without its defects.

Two translators and two critics are fitted to content-paired photos of two days. Losses: adversarial, L1 cycle,
identity, and means and deviations of the critics' features (Zhu et al. 2017;
github.com/NeuralVFX/lighting-swap-cyclegan). Corrected: critics get gradients of their own loss only; no dropout, no
instance norm (so that exposure survives), no transposed convolution.
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
EXAMPLE_PX = (64, 96)  # height and width of the picture that export traces; looks take any size


@dataclasses.dataclass(frozen=True)
class CycleGanSettings:
    """Networks, losses and schedule of the `cyclegan` recipe.

    Raises:
        ConfigError: a value makes no sense.
    """

    base_filters: int = 64  # channels of a translator at full size: 64 as in the published ResNet-9, 16 for a CPU
    down_steps: int = 2  # number of halvings of the picture before the residual blocks
    blocks: int = 9  # residual blocks of a translator; each adds 4 px to its context on every side
    upsampling: Upsampling = "blur"  # resize repeats pixels; blur also low-passes: softer, with fewer grid artefacts
    critic_filters: int = 64  # channels of a critic's first layer
    critic_halvings: int = 3  # strided layers of a critic; with 3 it judges patches of 70 px
    adversary: Literal["lsgan", "bce"] = "lsgan"  # lsgan: least squares, steadier; bce: cross-entropy, as NeuralVFX
    adversarial_weight: float = 1.0  # weight of the loss of the translators against the critics
    cycle_weight: float = 10.0  # weight of the L1 difference between a photo and its translation there and back
    identity_weight: float = 5.0  # weight of the L1 change of photos of the target light; 0 turns it off
    feature_weight: float = 5.0  # weight of the differences in the critics' feature statistics; 0 turns it off
    pool_size: int = 50  # earlier pictures kept for the critics; 0 gives them new ones only
    batch_size: int = 4  # photos of each day per step
    size_px: int = 256  # side of the square crops
    learning_rate: float = 2e-4  # learning rate of the translators (Adam)
    critic_learning_rate: float = 2e-4  # learning rate of the critics (Adam)
    constant_fraction: float = 0.5  # share of the run at the full learning rate; then a straight line down to 0

    def __post_init__(self) -> None:
        counts = ("base_filters", "down_steps", "blocks", "critic_filters", "critic_halvings", "batch_size")
        not_negative = ("adversarial_weight", "cycle_weight", "identity_weight", "feature_weight", "pool_size")
        min_size_px = 3 * 2**self.critic_halvings  # below this a critic has no patch to judge
        for name, minimum in {
            **dict.fromkeys(counts, 1),
            **dict.fromkeys(not_negative, 0),
            "size_px": min_size_px,
        }.items():
            if getattr(self, name) < minimum:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {minimum}.")
        if self.size_px % 2**self.down_steps:
            raise ConfigError(f"size_px is {self.size_px}.", f"Give a multiple of {2**self.down_steps}.")
        if min(self.learning_rate, self.critic_learning_rate) <= 0.0:
            raise ConfigError("A learning rate must be above 0.", "Give for example 2e-4.")
        if not 0.0 <= self.constant_fraction <= 1.0:
            raise ConfigError(f"constant_fraction is {self.constant_fraction}.", "Give a value from 0 to 1.")


class PairedPhotos(Protocol):
    """A batch of content pairs: photos of both days, pair by pair."""

    @property
    def a(self) -> Tensor:
        """(N, 3, h, w) float32, srgb_log."""

    @property
    def b(self) -> Tensor:
        """(N, 3, h, w) float32, srgb_log."""


class PairedData(Protocol):
    """A source of batches, such as `fit.batches.TrainingData`."""

    def draw(self, rng: np.random.Generator, batch_size: int, size_px: int, /) -> PairedPhotos:
        """A batch, which depends on the state of `rng` alone."""


class CycleGanRecipe:
    """Two translators, two critics, their optimisers and training data; see `fit.recipe.Recipe`.

    Args:
        settings: settings of this recipe.
        data: the source of content-paired batches.
        device: the device of the networks.
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
        """Draws a batch and makes a step of the translators, then one of the critics.

        Args:
            rng: draws the batch, and pictures of the pools for the critics.
            fraction_done: the share of the run that is done, 0..1; it sets the learning rates.

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

        # A single wait for the GPU, not one per loss.
        values = torch.stack([value.detach() for value in losses.values()]).tolist()
        return dict(zip(losses, values, strict=True))

    def generator_losses(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The losses of the translators, with gradients to them alone.

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
        """The losses of the critics, with gradients to them alone.

        Args:
            a, b: (N, 3, h, w) photos.
            fake_a, fake_b: (N, 3, h, w) translated pictures, of this step or earlier ones.
        """
        adversary = ADVERSARIES[self.settings.adversary]
        losses = {}
        for name, real, fake in (("a", a, fake_a.detach()), ("b", b, fake_b.detach())):
            # One call for both, so that spectral norm makes one power iteration per step.
            real_scores, fake_scores = self.critics[name](torch.cat((real, fake)))[0].split(len(real))
            losses[f"critic_{name}"] = adversary.critic(real_scores, fake_scores)
        return losses | {"critics": losses["critic_a"] + losses["critic_b"]}

    def relight(self, photos: Tensor, direction: Direction) -> Tensor:
        """Photos relit by the averaged translator.

        Args:
            photos: (N, 3, H, W) float32, srgb_log, any size from 8 px; clamped to 0..1.
            direction: "ab" or "ba".

        Returns:
            (N, 3, H, W) float32, 0..1, on this recipe's device, without gradient.
        """
        return relight_any_size(self._averaged(direction), self._photos(photos))

    def export(self, direction: Direction, learned: bool = True) -> ExportSpec:
        """The averaged translator of one direction as an image look."""
        return image_look(self._averaged(direction), direction, "cyclegan")

    def memory(self) -> dict[str, Tensor]:
        """The pools of earlier pictures."""
        return {f"pool_{name}": pool.state() for name, pool in self.pools.items()}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Restores the pools from `memory`."""
        for name, pool in self.pools.items():
            pool.restore(memory[f"pool_{name}"], self.device)

    def _translate(self, direction: Direction, photos: Tensor, already_there: Tensor | None) -> tuple[Tensor, Tensor]:
        # One call for both: no layer mixes pictures of a batch, so the results are those of two calls.
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
    """The recipe with new networks, whose weights come from torch's global random numbers; see `CycleGanRecipe`."""
    return CycleGanRecipe(settings, data, device)


def rate_share(fraction_done: float, constant_fraction: float) -> float:
    """The share of the full learning rate, 1..0: constant, then a straight line to 0 at the end (Zhu et al. 2017).

    Args:
        fraction_done: the share of the run that is done, 0..1.
        constant_fraction: the share of the run at the full rate, 0..1.
    """
    if fraction_done <= constant_fraction:
        return 1.0
    return max(0.0, (1.0 - fraction_done) / (1.0 - constant_fraction))


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """A context in which the network's parameters get no gradients; gradients pass through it to its input."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def on_device(photos: Tensor, device: torch.device) -> Tensor:
    """Photos on the device of the networks, clamped to 0..1, channels last in memory."""
    return photos.to(device, non_blocking=True).clamp(0.0, 1.0).contiguous(memory_format=torch.channels_last)


def placed(network: Network, device: torch.device, layout: torch.memory_format = torch.channels_last) -> Network:
    """A network on a device, channels last in memory: faster for these shapes and for a norm over channels."""
    result: Network = network.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    return result


def averaged_copy(network: Network) -> Network:
    """A copy for the averaged weights, without gradients."""
    return copy.deepcopy(network).requires_grad_(False).eval()


def adam(networks: Mapping[str, nn.Module], rate: float) -> torch.optim.Optimizer:
    """One optimiser for several networks (betas of Zhu et al. 2017's code)."""
    parameters = [parameter for network in networks.values() for parameter in network.parameters()]
    return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999))


def relight_any_size(network: Generator, photos: Tensor) -> Tensor:
    """Photos (N, 3, H, W) of any size from 8 px, relit without gradients: padded to the size multiple, and cropped."""
    height, width = photos.shape[-2:]
    below, right = -height % network.size_multiple, -width % network.size_multiple
    with torch.no_grad():
        relit: Tensor = network(F.pad(photos, (0, right, 0, below), mode="reflect"))
    return relit[..., :height, :width]


def image_look(network: Generator, direction: Direction, translator: str) -> ExportSpec:
    """A copy of a translator as an image look of pictures in 0..1, for export."""
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
