"""The `relight` recipe: a gain grid fitted to what the photos of both days say about each place.

Most of the run is plain regression on measured gains (see `targets`); a patch critic joins late and for a short time,
as in DeOldify's NoGAN schedule, to decide what measurements leave open.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relightgan.core.errors import ConfigError, TrainingError
from relightgan.training.batches import Batch, TrainingData
from relightgan.training.gain_grid import (
    HALF_SURE_STOPS,
    GainGridLook,
    GainGridNet,
    GainGridSettings,
    apply_grid,
    doubt_at,
    gain_at,
    pixel_positions,
    proxy_size,
)
from relightgan.training.losses import lsgan_critic, lsgan_generator
from relightgan.training.networks_cyclegan import Critic
from relightgan.training.recipe import Direction, ExportSpec
from relightgan.training.recipe_cyclegan import frozen
from relightgan.training.targets import GainSamples
from relightgan.training.torch_colour import decode_srgb, encode_srgb

# Width over height of the crops a batch may have, with how often: plates are wider than photos.
ASPECTS = ((4 / 3, 0.5), (16 / 9, 0.3), (2.39, 0.1), (3 / 4, 0.1))
EXAMPLE_PX = (96, 128)  # size of the plate that export traces; any size works afterwards
WARM_UP_FRACTION = 0.02
# Doubt learns so much faster than the gains whose errors it foretells: on the courtyard's held-out views its rank
# correlation with their true error was 0.41 after 450 steps, and 0.31 at the same rate.
DOUBT_RATE = 3.0


@dataclasses.dataclass(frozen=True)
class RelightSettings:
    """Network, losses and schedule of the `relight` recipe.

    Raises:
        ConfigError: a value makes no sense.
    """

    net: GainGridSettings = dataclasses.field(default_factory=GainGridSettings)
    points_per_photo: int = 256  # exact gains a crop is asked about per step
    patches_per_photo: int = 128  # patch gains a crop is asked about per step
    patch_weight: float = 1.0  # of patch gains against exact ones
    smooth_weight: float = 0.02  # of the difference between neighbouring cells, in stops
    bright_weight: float = 1.0  # how much more an error counts where the result is bright, as it does to the eye
    adversarial_weight: float = 0.02  # of the critic; 0 leaves it out
    adversarial_from: float = 0.75  # fraction of the run after which the critic joins
    critic_filters: int = 32  # channels of the critic's first layer
    batch_size: int = 8  # photos of each light per step
    learning_rate: float = 1.5e-3  # Adam, the network
    critic_learning_rate: float = 4e-4  # Adam, the critic
    unclip_stops: float = 0.8  # clipped skies of photos are shown up to this many stops brighter, as a plate has them

    def __post_init__(self) -> None:
        for name in ("points_per_photo", "patches_per_photo", "critic_filters", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "Give at least 1.")
        for name in ("patch_weight", "smooth_weight", "adversarial_weight", "unclip_stops"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "Give 0 or more.")
        # Above 1 an error in the dark would count less than nothing, and so be sought.
        if not 0.0 <= self.bright_weight <= 1.0:
            raise ConfigError(f"bright_weight is {self.bright_weight}.", "Give a value from 0 to 1.")
        if not 0.0 <= self.adversarial_from <= 1.0:
            raise ConfigError(f"adversarial_from is {self.adversarial_from}.", "Give a value from 0 to 1.")
        if self.learning_rate <= 0 or self.critic_learning_rate <= 0:
            raise ConfigError("A learning rate must be above 0.", "Give for example 1e-3.")


@dataclasses.dataclass(frozen=True)
class AskedGains:
    """Gains a batch of crops is asked about, N crops with P places each.

    Attributes:
        position: (N, 1, P, 2) place in the crop, 0..1.
        plate: (N, 3, 1, P) linear colour of the photo there.
        gain: (N, 3, 1, P) wanted, in stops.
        weight: (N, 1, 1, P), 0 where a crop has fewer places.
    """

    position: Tensor
    plate: Tensor
    gain: Tensor
    weight: Tensor


class RelightRecipe:
    """A gain-grid network, its critic and their optimisers, with the data they learn from; see `recipe.Recipe`.

    Args:
        settings: of this recipe.
        data: photos, content pairs and measured gains of the direction "ab".
        device: where the networks live.

    Raises:
        TrainingError: the photos gave no gain at all.
    """

    def __init__(self, settings: RelightSettings, data: TrainingData, device: torch.device) -> None:
        if not any(len(samples) for samples in data.gains):
            raise TrainingError(
                "No place of the set was recognised on both days, so there is nothing to learn from.",
                "Check that both folders show one set (relightgan photos), or lower --pairing.threshold.",
            )
        self.settings, self.data, self.device = settings, data, device
        self.batch_size = settings.batch_size
        self.net = GainGridNet(settings.net).to(device)
        self.critic = Critic(settings.critic_filters, halvings=3).to(device)
        self.networks: dict[str, nn.Module] = {"net": self.net, "critic": self.critic}
        self.averaged = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.ema: dict[str, nn.Module] = {"net": self.averaged}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "net": torch.optim.Adam(
                [
                    {"params": self.net.gain_parameters(), "rate": 1.0},
                    {"params": list(self.net.doubt.parameters()), "rate": DOUBT_RATE},
                ],
                lr=settings.learning_rate,
                betas=(0.9, 0.99),
            ),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=settings.critic_learning_rate, betas=(0.5, 0.99)),
        }

    def step(self, rng: np.random.Generator, fraction_done: float) -> dict[str, float]:
        """Draws a batch, improves the network once, and late in the run the critic once.

        Args:
            rng: decides the batch and which gains are asked about.
            fraction_done: of the whole run, 0..1; sets learning rates and when the critic joins.

        Returns:
            Losses by name, before weighting.
        """
        settings = self.settings
        share = rate_share(fraction_done)
        for group in self.optimisers["net"].param_groups:
            group["lr"] = settings.learning_rate * share * group["rate"]
        batch = self.data.draw(rng, settings.batch_size, crop_size(rng, settings.net.proxy_px))
        brighter = torch.from_numpy(rng.uniform(0, settings.unclip_stops, len(batch.a)).astype(np.float32))
        asked = [
            (weight, ask(samples, batch, rng, count))
            for samples, weight, count in zip(
                self.data.gains,
                (1.0, settings.patch_weight),
                (settings.points_per_photo, settings.patches_per_photo),
                strict=True,
            )
        ]
        plate = unclip(decode_srgb(batch.a), brighter)[0].to(self.device)
        grid, anchor, doubt = self.net.from_proxy(plate)
        losses = {
            name: self.gain_loss(grid, anchor, gains, brighter)
            for name, (_, gains) in zip(("points", "patches"), asked, strict=True)
        }
        unsure = self.doubt_loss(doubt, grid, anchor, [gains for _, gains in asked], brighter)
        losses["smooth"] = roughness(grid)
        total = losses["points"] + settings.patch_weight * losses["patches"] + settings.smooth_weight * losses["smooth"]
        with_critic = settings.adversarial_weight > 0 and fraction_done >= settings.adversarial_from
        if with_critic:
            real = batch.b.to(self.device).clamp(0, 1)
            fake = self.display(plate, grid, anchor)
            with frozen(self.critic):
                losses["adversarial"] = lsgan_generator(self.critic(fake)[0])
            total = total + settings.adversarial_weight * losses["adversarial"]
        losses["doubt"] = unsure
        self.optimisers["net"].zero_grad(set_to_none=True)
        (total + unsure).backward()
        nn.utils.clip_grad_norm_(self.net.gain_parameters(), 1.0)  # apart, so that doubt never shortens a gain's step
        nn.utils.clip_grad_norm_(self.net.doubt.parameters(), 1.0)
        self.optimisers["net"].step()
        if with_critic:
            losses["critic"] = self.critic_loss(real, fake.detach())
            self.optimisers["critic"].zero_grad(set_to_none=True)
            losses["critic"].backward()
            self.optimisers["critic"].step()
        names = list(losses)
        return dict(zip(names, torch.stack([losses[name].detach() for name in names]).tolist(), strict=True))

    def gain_loss(self, grid: Tensor, anchor: Tensor, asked: AskedGains, brighter: Tensor) -> Tensor:
        """Weighted mean error in stops of the gains asked about (L1, so that mismatches don't pull)."""
        plate, added = unclip(asked.plate, brighter)
        wanted = (asked.gain - added).to(self.device)
        found = gain_at(grid, anchor, plate.to(self.device), asked.position.to(self.device), self.settings.net.depth)
        result = encode_srgb((plate.to(self.device) * torch.exp2(wanted)).clamp(0, 1))
        weight = asked.weight.to(self.device) * (1 + self.settings.bright_weight * (2 * result - 1).clamp(-0.9))
        return ((found - wanted).abs() * weight).sum() / (3 * asked.weight.sum().to(self.device)).clamp(min=1)

    def doubt_loss(
        self, doubt: Tensor, grid: Tensor, anchor: Tensor, asked: Sequence[AskedGains], brighter: Tensor
    ) -> Tensor:
        """How badly the doubt tells the error of the gains; nothing flows into the gains or their features.

        The likelihood of a Laplace distribution as wide as the doubt, `error / doubt + log(doubt)`, which is least
        where the doubt is the mean error (Kendall and Gal, NeurIPS 2017, with L1); less what a fixed doubt of half a
        stop would have, so that below 0 is better than knowing nothing. Gains count by the weight they were measured
        with, in the dark as in the light.
        """
        depth = self.settings.net.depth
        total, weights = torch.zeros((), device=doubt.device), torch.zeros((), device=doubt.device)
        for gains in asked:
            plate, added = (value.to(self.device) for value in unclip(gains.plate, brighter))
            position, weight = gains.position.to(self.device), gains.weight.to(self.device)
            with torch.no_grad():
                found = gain_at(grid, anchor, plate, position, depth)
                error = (found - (gains.gain.to(self.device) - added)).abs().mean(dim=1, keepdim=True)
            expected = doubt_at(doubt.float(), position)
            fixed = error / HALF_SURE_STOPS + float(np.log(HALF_SURE_STOPS))
            total = total + ((error / expected + torch.log(expected) - fixed) * weight).sum()
            weights = weights + weight.sum()
        return total / weights.clamp(min=1)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """LSGAN: photos of the target light to 1, relit ones to 0; nothing flows into the network."""
        real_scores, fake_scores = self.critic(torch.cat([real, fake]))[0].split(len(real))
        return lsgan_critic(real_scores, fake_scores)

    def display(self, plate: Tensor, grid: Tensor, anchor: Tensor) -> Tensor:
        """The relit crop as a photo would show it: (N, 3, h, w) sRGB-encoded 0..1, with gradient."""
        window = torch.tensor([0.0, 0.0, 1.0, 1.0], device=plate.device)
        relit = apply_grid(plate, window, grid, anchor, self.settings.net.depth)
        return encode_srgb(relit.clamp(0, 1))

    @torch.no_grad()
    def relight(self, photos: Tensor, direction: Direction) -> Tensor:
        """Photos in the other light, by the averaged network.

        Args:
            photos: (N, 3, H, W) float32, sRGB-encoded 0..1.
            direction: "ab"; a look of the other direction is another fit.
        """
        plate = decode_srgb(photos.to(self.device))
        height, width = plate.shape[-2:]
        grid, anchor, _ = self.averaged(plate)
        window = torch.tensor([0.0, 0.0, 1.0, 1.0], device=self.device)
        position = pixel_positions(height, width, window).expand(len(plate), height, width, 2)
        gain = gain_at(grid, anchor, plate, position, self.settings.net.depth)
        return encode_srgb((plate * torch.exp2(gain)).clamp(0, 1))

    def export(self, direction: Direction) -> ExportSpec:
        """The averaged network as an operator look."""
        module = GainGridLook(copy.deepcopy(self.averaged).cpu()).eval()
        facts = {
            "direction": direction,
            "translator": "relight",
            "encoding": "linear",
            "primaries": "lin_rec709",
            "value_range": "unbounded",
            "operators": ("grid", "anchor", "doubt"),
            "aovs": ("gain", "confidence"),
            "size_multiple": 1,
            "overlap_px": 0,
        }
        example = (torch.full((1, 3, *EXAMPLE_PX), 0.5), torch.tensor([0.0, 0.0, 1.0, 1.0]))
        outputs = ("relit", "grid", "anchor", "doubt", "gain", "confidence")
        return ExportSpec(module, example, outputs, facts, (module.net, module.apply_operators))

    def memory(self) -> dict[str, Tensor]:
        """Nothing: a step depends on networks, optimisers and its own random numbers alone."""
        return {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Puts back what `memory` gave."""


def build(settings: RelightSettings, data: TrainingData, device: torch.device) -> RelightRecipe:
    """The recipe, with fresh networks drawn from torch's own random numbers; see `RelightRecipe`."""
    return RelightRecipe(settings, data, device)


def rate_share(fraction_done: float) -> float:
    """The share of the full learning rate, 0..1: a short warm-up, then a half cosine to 0."""
    warm = min(1.0, (fraction_done + 1e-3) / WARM_UP_FRACTION)
    return warm * 0.5 * (1 + float(np.cos(np.pi * min(1.0, fraction_done))))


def crop_size(rng: np.random.Generator, proxy_px: int) -> tuple[int, int]:
    """Height and width of a batch's crops: one of `ASPECTS`, as large as the proxy of such a plate."""
    aspects, often = zip(*ASPECTS, strict=True)
    aspect = float(rng.choice(aspects, p=often))
    return proxy_size(round(1000 / max(1.0, aspect)), round(1000 * min(1.0, aspect)), proxy_px)


def ask(samples: GainSamples, batch: Batch, rng: np.random.Generator, count: int) -> AskedGains:
    """Draws `count` measured gains for each crop, of those that lie inside it.

    Args:
        samples: of the source photos.
        batch: the crops.
        rng: decides which are drawn.
        count: per crop; crops with none get zeros of weight zero.
    """
    n = len(batch.index_a)
    position, plate = np.full((n, count, 2), 0.5, np.float32), np.full((n, count, 3), 0.5, np.float32)
    gain, weight = np.zeros((n, count, 3), np.float32), np.zeros((n, count), np.float32)
    for row, photo in enumerate(batch.index_a):
        where = samples.of(int(photo))
        matrix = batch.matrix_a[row]
        xy = (samples.xy[where] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        inside = np.nonzero(((xy > 0) & (xy < 1)).all(axis=1))[0]
        if len(inside) == 0:
            continue
        drawn = rng.choice(inside, count)
        position[row], plate[row] = xy[drawn], samples.plate[where][drawn]
        gain[row], weight[row] = samples.gain[where][drawn], samples.weight[where][drawn]

    def place(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).transpose(1, 2)[:, :, None]

    return AskedGains(torch.from_numpy(position)[:, None], place(plate), place(gain), place(weight[..., None]))


def unclip(linear: Tensor, stops: Tensor) -> tuple[Tensor, Tensor]:
    """Shows clipped highlights brighter, as a scene-linear plate of the same view would have them.

    Args:
        linear: (N, 3, H, W) linear photo values.
        stops: (N,) how much brighter fully clipped pixels become.

    Returns:
        The brighter picture, and the stops added to each pixel (N, 1, H, W).
    """
    clipped = ((linear.amax(dim=1, keepdim=True) - 0.9) / 0.1).clamp(0, 1)
    added = clipped * stops[:, None, None, None]
    return linear * torch.exp2(added), added


def roughness(grid: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring cells, in stops; keeps unmeasured places near measured ones."""
    across = F.l1_loss(grid[..., 1:], grid[..., :-1])
    down = F.l1_loss(grid[..., 1:, :], grid[..., :-1, :])
    return across + down
