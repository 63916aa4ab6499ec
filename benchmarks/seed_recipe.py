"""How NeuralVFX's lighting swap (2018) was trained, as a recipe that our loop can fit; see `seed_cyclegan.py`.

Kept as published: the critics are updated with the translators' gradient added to their own; see `SeedRecipe.step`.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.seed_networks import SeedCritic, SeedTranslator, feature_loss
from relightgan.core.errors import ConfigError
from relightgan.training.days import Direction
from relightgan.training.fit.batches import sample_affine, to_tensor
from relightgan.training.fit.recipe import ExportSpec
from relightgan.training.gan.image_pool import ImagePool
from relightgan.training.pairs.pairing import centred, nearest
from relightgan.training.photos.bank import Images

CYCLE_WEIGHT, ADVERSARIAL_WEIGHT, FEATURE_WEIGHT = 10.0, 0.5, 0.5
POOL_SIZE = 50
WEIGHT_DECAY = 1e-5
LAYERS, CRITIC_LAYERS = 2, 3
MIN_SIZE_PX = 4 * 2**CRITIC_LAYERS  # below this a critic has no patch to judge
EXAMPLE_PX = (64, 96)  # height and width of the picture that export traces


@dataclasses.dataclass(frozen=True)
class SeedSettings:
    """Sizes and schedule; the defaults are the published ones.

    Raises:
        ConfigError: a value makes no sense.
    """

    filters: int = 256  # channels of a translator's residual blocks
    blocks: int = 9  # residual blocks of a translator
    critic_filters: int = 512  # channels of a critic's last hidden layer
    batch_size: int = 7  # photos of each day per step
    size_px: int = 128  # side of the crops
    learning_rate: float = 1e-4  # learning rate of translators and critics (Adam)
    cycles: int = 5  # warm restarts, each twice as long as the one before
    partners: int = 10  # number of nearest photos of the other day from which a partner is drawn

    def __post_init__(self) -> None:
        multiple, critic_multiple = 2**LAYERS, 2 ** (CRITIC_LAYERS - 1)
        for name, minimum in {
            "filters": multiple,
            "critic_filters": critic_multiple,
            "blocks": 1,
            "batch_size": 2,  # the feature loss takes deviations over the batch
            "size_px": MIN_SIZE_PX,
            "cycles": 1,
            "partners": 1,
        }.items():
            if getattr(self, name) < minimum:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {minimum}.")
        for name in ("filters", "critic_filters", "size_px"):
            if getattr(self, name) % multiple:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give a multiple of {multiple}.")
        if self.learning_rate <= 0.0:
            raise ConfigError(f"learning_rate is {self.learning_rate}.", "Give a value above 0, such as 1e-4.")


class SeedPhotos:
    """Pairs of photos as the lighting swap drew them: each photo once an epoch, with any of its nearest.

    Args:
        a: source photos.
        b: target photos.
        embeddings_a: (N, C) embeddings of the source photos; only ranks of similarity count.
        embeddings_b: (M, C) embeddings of the target photos.
        settings: settings of the recipe.
        seed: seed of the order of photos in each epoch.
    """

    def __init__(
        self,
        a: Images,
        b: Images,
        embeddings_a: np.ndarray,
        embeddings_b: np.ndarray,
        settings: SeedSettings,
        seed: int = 0,
    ) -> None:
        self.a, self.b, self.settings, self.seed = a, b, settings, seed
        unit_a, unit_b = centred(embeddings_a), centred(embeddings_b)
        self.partners_a = _ranks(unit_a, unit_b, settings.partners)
        self.partners_b = _ranks(unit_b, unit_a, settings.partners)

    def __len__(self) -> int:
        """Pairs in an epoch."""
        return len(self.a) + len(self.b)

    def draw(self, rng: np.random.Generator, position: int) -> tuple[Tensor, Tensor]:
        """The batch at a position in the sequence of epochs.

        Args:
            rng: decides the partners and the crops.
            position: pairs drawn before. A batch may reach over the end of an epoch: the published loader ended with a
                shorter one, whose feature loss has no deviation if a single pair is left.

        Returns:
            Two of (N, 3, size_px, size_px) float32, sRGB-encoded, 0..1.
        """
        crops_a, crops_b = [], []
        for place in range(position, position + self.settings.batch_size):
            epoch, number = divmod(place, len(self))
            row = int(np.random.default_rng([self.seed, epoch]).permutation(len(self))[number])
            if row < len(self.a):
                i, j = row, int(rng.choice(self.partners_a[row]))
            else:
                i, j = int(rng.choice(self.partners_b[row - len(self.a)])), row - len(self.a)
            zoom = rng.uniform(1.0, 2.5)
            # The published code meant to crop both photos alike, by seeding numpy, which some transforms of torchvision
            # used and some didn't: the roll is shared here, the crop isn't.
            roll = math.radians(rng.uniform(-6.0, 6.0) * zoom)
            crops_a.append(seed_crop(rng, self.a[i], zoom, roll, self.settings.size_px))
            crops_b.append(seed_crop(rng, self.b[j], zoom, roll, self.settings.size_px))
        return to_tensor(crops_a).clamp(0.0, 1.0), to_tensor(crops_b).clamp(0.0, 1.0)


class SeedRecipe:
    """Two translators, two critics, their optimisers and training data; see `training.fit.recipe.Recipe`.

    Args:
        settings: settings of this recipe.
        data: the source of batches.
        device: the device of the networks.
    """

    def __init__(self, settings: SeedSettings, data: SeedPhotos, device: torch.device) -> None:
        self.settings, self.data, self.device = settings, data, device
        self.batch_size = settings.batch_size
        self.translators = {
            name: SeedTranslator(settings.filters, settings.blocks, LAYERS).to(device) for name in ("ab", "ba")
        }
        # By day: a critic knows the photos of one.
        self.critics = {name: SeedCritic(settings.critic_filters, CRITIC_LAYERS).to(device) for name in ("a", "b")}
        self.networks: dict[str, nn.Module] = {
            **{f"translator_{name}": network for name, network in self.translators.items()},
            **{f"critic_{name}": network for name, network in self.critics.items()},
        }
        self.ema: dict[str, nn.Module] = {}  # the published code has no averaged weights
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "translators": _adam([*self.translators.values()], settings.learning_rate),
            **{f"critic_{name}": _adam([network], settings.learning_rate) for name, network in self.critics.items()},
        }
        self.pools = {name: ImagePool(POOL_SIZE) for name in ("a", "b")}
        self.position = 0  # pairs drawn so far

    def step(self, rng: np.random.Generator, fraction_done: float) -> dict[str, float]:
        """A step as published, with its defect.

        The critics' gradients are cleared *before* the translators' backward pass and not again, so each critic also
        changes by `d(0.5 * BCE(critic(fake), 1) + 0.5 * features) / d(critic)`: it helps the translator to fool it.

        Args:
            rng: draws the batch, and pictures of the pools for the critics.
            fraction_done: the share of the run that is done, 0..1; it sets the learning rates.

        Returns:
            Losses by name, before weighting.
        """
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = self.settings.learning_rate * warm_restarts(fraction_done, self.settings.cycles)
        a, b = (2.0 * photos.to(self.device) - 1.0 for photos in self.data.draw(rng, self.position))
        self.position += self.batch_size
        for network in self.translators.values():
            network.train()

        losses, fakes, real_scores = self.translator_losses(a, b)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        losses["translators"].backward(retain_graph=True)  # into the critics too
        self.optimisers["translators"].step()

        for name in ("a", "b"):
            fake_scores, _ = self.critics[name](self.pools[name].exchange(fakes[name], rng))
            losses[f"critic_{name}"] = 0.5 * (_bce(real_scores[name], 1.0) + _bce(fake_scores, 0.0))
            losses[f"critic_{name}"].backward()
            self.optimisers[f"critic_{name}"].step()
        values = torch.stack([value.detach() for value in losses.values()]).tolist()
        return dict(zip(losses, values, strict=True))

    def translator_losses(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Losses of the translators, with gradients to the critics too; by day, translations and scores of photos.

        Args:
            a, b: (N, 3, h, w) photos, -1..1, content-paired.
        """
        ab, ba = self.translators["ab"], self.translators["ba"]
        fakes = {"b": ab(a)}
        cycle = F.l1_loss(ba(fakes["b"]), a)
        fakes["a"] = ba(b)
        cycle = cycle + F.l1_loss(ab(fakes["a"]), b)
        fooled = features = torch.zeros((), device=self.device)
        real_scores = {}
        for name, real in (("a", a), ("b", b)):
            scores, fake_features = self.critics[name](fakes[name])
            real_scores[name], real_features = self.critics[name](real)
            fooled = fooled + _bce(scores, 1.0)
            features = features + feature_loss(real_features, fake_features)
        total = ADVERSARIAL_WEIGHT * fooled + FEATURE_WEIGHT * features + CYCLE_WEIGHT * cycle
        losses = {"adversarial": fooled, "cycle": cycle, "features": features, "translators": total}
        return losses, fakes, real_scores

    @torch.no_grad()
    def relight(self, photos: Tensor, direction: Direction) -> Tensor:
        """Photos (N, 3, H, W), srgb_log, any size from 8 px, relit without dropout; 0..1."""
        network = self.translators[direction].eval()
        height, width = photos.shape[-2:]
        signed = 2.0 * photos.to(self.device).clamp(0.0, 1.0) - 1.0
        pad = (0, -width % network.size_multiple, 0, -height % network.size_multiple)
        relit: Tensor = network(F.pad(signed, pad, mode="reflect"))
        return (0.5 * relit + 0.5)[..., :height, :width]

    def export(self, direction: Direction) -> ExportSpec:
        """One translator, without dropout, as an image look of pictures in -1..1."""
        module = copy.deepcopy(self.translators[direction]).cpu().eval().requires_grad_(False)
        facts: dict[str, Any] = {
            "direction": direction,
            "translator": "seed-cyclegan",
            "encoding": "srgb_log",
            "primaries": "lin_rec709",
            "value_range": "signed",
            "operators": (),
            "size_multiple": module.size_multiple,
            "overlap_px": math.ceil(module.reach_px / module.size_multiple) * module.size_multiple,
        }
        return ExportSpec(module, (torch.zeros(1, 3, *EXAMPLE_PX),), ("relit",), facts)

    def memory(self) -> dict[str, Tensor]:
        """The pools of earlier pictures, and how many pairs were drawn."""
        pools = {f"pool_{name}": pool.state() for name, pool in self.pools.items()}
        return {**pools, "position": torch.tensor(self.position)}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Restores a state from `memory`."""
        for name, pool in self.pools.items():
            pool.restore(memory[f"pool_{name}"], self.device)
        self.position = int(memory["position"])


def warm_restarts(fraction_done: float, cycles: int) -> float:
    """The share of the full learning rate, 0..1: half cosines of 1, 2, 4, ... parts of the run (Loshchilov 2017).

    The published cycles have 1, 2, 4, ... epochs; here they are scaled to the length of the run.

    Args:
        fraction_done: the share of the run that is done, 0..1.
        cycles: number of half cosines.
    """
    part = min(fraction_done, 1.0) * (2**cycles - 1)
    cycle = min(int(math.log2(part + 1.0)), cycles - 1)
    into = (part - (2**cycle - 1)) / 2**cycle
    return 0.5 + 0.5 * math.cos(math.pi * min(into, 1.0))


def seed_crop(rng: np.random.Generator, image: np.ndarray, zoom: float, roll: float, size_px: int) -> np.ndarray:
    """A rolled crop of a photo's middle at `size_px`.

    The published code cut 270 px out of the middle of its frames first; here that is the photo's shorter side. It
    rolled and resized in two steps, here it is one. Its margin is up to 2% too small: corners that stick out of the
    photo were black, here they are mirrored.

    Args:
        rng: draws the area (within a tenth) and the position of the crop.
        image: (H, W, 3) float32.
        zoom: 1 to 2.5; a larger one allows more roll, and so leaves a smaller crop.
        roll: radians.
        size_px: side of the crop.
    """
    height, width = image.shape[:2]
    square = min(height, width) * (1.0 - 0.074 * zoom)
    side = square * math.sqrt(rng.uniform(0.9, 1.0))
    corner = rng.uniform(0.0, square - side, 2) - square / 2.0
    turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    start = np.array([width, height]) / 2.0 + turn @ corner
    return sample_affine(image, turn * side, start, (size_px, size_px))


def _ranks(queries: np.ndarray, others: np.ndarray, count: int) -> np.ndarray:
    found = nearest(queries, others, count, threshold=-2.0)  # a rank and no threshold
    return np.array([other for _, other, _ in found]).reshape(len(queries), -1)


def _bce(chances: Tensor, wanted: float) -> Tensor:
    return F.binary_cross_entropy(chances, torch.full_like(chances, wanted))


def _adam(networks: list[nn.Module], rate: float) -> torch.optim.Optimizer:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999), weight_decay=WEIGHT_DECAY)
