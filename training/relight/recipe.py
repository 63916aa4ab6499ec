"""The `relight` recipe: a gain grid fitted to what the photos of both days say about each place.

Plain regression, without an adversary: the photos of the other day show what each place should look like. Where the
days were registered they show it densely (guided lessons), elsewhere by patches that look alike (measured ones).
"""

import copy
import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relightgan.core.errors import ConfigError, TrainingError
from relightgan.training.days import Direction
from relightgan.training.fit.batches import TrainingData, draw_photos
from relightgan.training.fit.optimisers import Muon, set_rate
from relightgan.training.fit.recipe import ExportSpec
from relightgan.training.fit.side_by_side import descend, parts_for
from relightgan.training.relight.detail import measured_detail
from relightgan.training.relight.gain_grid import (
    HALF_SURE_STOPS,
    WHOLE,
    Operators,
    gain_at,
    look_up,
    pixel_positions,
    plate_gain,
)
from relightgan.training.relight.lessons import (
    Lesson,
    brightened,
    guided_lesson,
    lesson_loss,
    measured_lesson,
    missed_stops,
    relit_stops,
)
from relightgan.training.relight.networks import GainGridLook, GainGridNet, GainGridSettings, WhiteNet, proxy_size
from relightgan.training.relight.steadiness import drawn_motions, unsteadiness
from relightgan.training.torch_colour import decode_srgb, encode_srgb

# Width over height of the crops a batch may have, with how often: plates are wider than photos.
ASPECTS = ((4 / 3, 0.5), (16 / 9, 0.3), (2.39, 0.1), (3 / 4, 0.1))
EXAMPLE_PX = (96, 128)  # size of the plate that export traces; any size works afterwards
WARM_UP_FRACTION = 0.02
CLOUDS, CLOUD_DEPTH = (4, 5), 0.6  # of drawn skies: how finely they vary, down and across, and by which share
WHITE_OFF = 0.3  # stops by which white may be told wrongly: photos are shown held so much too high or too low
MOVED_SHARE = 0.25  # of the batches, whose crops are moved as well; see `steadiness`
CELL_SHARE = 0.2  # of what each cell says of white, beside what they say together
# Biases are stepped by Adam, this much more slowly than kernels by Muon, and damped by gradients of a thousand batches:
# what a batch asks for differs much from batch to batch, as each shows other corners of the set.
BIAS_RATE = 1 / 15  # which makes 0.0008
BETAS = (0.9, 0.999)


@dataclasses.dataclass(frozen=True)
class RelightSettings:
    """Network, losses and schedule of the `relight` recipe.

    Raises:
        ConfigError: a value makes no sense.
    """

    net: GainGridSettings = dataclasses.field(default_factory=GainGridSettings)
    patches_per_photo: int = 128  # where the days couldn't be registered: how many gains a crop is asked about per step
    smooth_weight: float = 0.02  # of the difference between neighbouring cells, in stops
    batch_size: int = 8  # photos per step
    learning_rate: float = 0.012  # of kernels, by Muon
    match_detail: bool = True  # give texture the contrast it has in photos of the wanted light
    steady_weight: float = 0.1  # of gains that don't move as the camera does, in stops
    rolloff_weight: float = 0.01  # of rolled-off highlights: where nothing is known of them they are kept
    unclip_stops: float = 1.5  # clipped skies of photos are shown up to this many stops brighter, as a plate has them

    def __post_init__(self) -> None:
        for name in ("patches_per_photo", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "Give at least 1.")
        for name in ("smooth_weight", "steady_weight", "rolloff_weight", "unclip_stops"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "Give 0 or more.")
        if self.learning_rate <= 0:
            raise ConfigError("A learning rate must be above 0.", "Give for example 0.01.")


@dataclasses.dataclass(frozen=True)
class Share:
    """Some pictures of a batch.

    Attributes:
        plate: (n, 3, h, w) linear, with highlights as plates have them.
        white: (n, 1, 1, 1) log2 of what passes for the photos' white in it; in truth 0.
        motion: (n, 2, 3) of a camera, see `steadiness`; None in batches that aren't moved.
        lesson: what they should become.
        taught: of what the lesson of the whole batch weighs, the share of this part.
        shown: the share of the pictures.
    """

    plate: Tensor
    white: Tensor
    motion: Tensor | None
    lesson: Lesson
    taught: float = 1.0
    shown: float = 1.0


class RelightRecipe:
    """A gain-grid network and its optimisers, with the data they learn from; see `recipe.Recipe`.

    Args:
        settings: of this recipe.
        data: photos of the direction "ab", with guidance or with measured gains.
        device: where the network lives.

    Raises:
        TrainingError: the photos gave neither.
    """

    def __init__(self, settings: RelightSettings, data: TrainingData, device: torch.device) -> None:
        if not data.guidance and not data.gains:
            raise TrainingError(
                "Nothing in the photos of one day looks like anything of the other, so there is nothing to learn from.",
                "Check that both folders show one set (relightgan photos), or lower --pairing.threshold.",
            )
        self.settings, self.data, self.device = settings, data, device
        self.batch_size = settings.batch_size
        self.net = GainGridNet(settings.net).to(device)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's own stubs
        self.networks: dict[str, nn.Module] = {"net": self.net}
        self.averaged = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.ema: dict[str, nn.Module] = {"net": self.averaged}
        kernels = [parameter for parameter in self.net.parameters() if parameter.ndim > 1]
        biases = [parameter for parameter in self.net.parameters() if parameter.ndim == 1]
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "kernels": Muon(kernels, settings.learning_rate),
            "biases": torch.optim.Adam(biases, settings.learning_rate * BIAS_RATE, BETAS),
        }

    def step(self, rng: np.random.Generator, fraction_done: float) -> dict[str, float]:
        """Draws a batch and improves the network once.

        Args:
            rng: decides the batch and which gains are asked about.
            fraction_done: of the whole run, 0..1; sets the learning rate.

        Returns:
            Losses by name, before weighting.
        """
        batch = self.draw(rng)
        parts = shares_of(batch, parts_for(self.device, len(batch.plate)))
        losses = descend(parts, self.losses, list(self.net.parameters()))
        rate = self.settings.learning_rate * rate_share(fraction_done)
        set_rate(self.optimisers["kernels"], rate)
        set_rate(self.optimisers["biases"], rate * BIAS_RATE)
        for optimiser in self.optimisers.values():
            optimiser.step()
        return losses

    def losses(self, part: Share) -> tuple[Tensor, dict[str, Tensor]]:
        """What a part of a batch adds to the loss of the batch, and to its figures before weighting."""
        settings = self.settings
        operators = self.net.from_reduced(part.plate, part.white)
        gain = gain_at(operators, part.lesson.plate, part.lesson.position, settings.net.depth)
        losses = {
            "guided" if self.data.guidance else "measured": lesson_loss(part.lesson, gain) * part.taught,
            "smooth": roughness(operators.grid) * part.shown,
            "doubt": doubt_loss(operators.doubt, part.lesson, gain) * part.taught,
            "white": white_loss(self.net.white, part.plate) * part.shown,
            "rolloff": operators.rolloff.mean() * part.shown,
            "steady": torch.zeros((), device=self.device),
        }
        weights = {
            "smooth": settings.smooth_weight,
            "steady": settings.steady_weight,
            "rolloff": settings.rolloff_weight,
        }
        if part.motion is not None:
            unsteady = unsteadiness(self.net, part.plate, operators, part.motion)
            losses["steady"] = unsteady.mean() / MOVED_SHARE * part.shown
        total = torch.stack([loss * weights.get(name, 1.0) for name, loss in losses.items()]).sum()
        return total, losses

    def draw(self, rng: np.random.Generator) -> Share:
        """A batch: crops to relight, under skies as plates have them, and what they should become."""
        settings, data = self.settings, self.data
        number, size = settings.batch_size, crop_size(rng, settings.net.proxy_px)
        rows = np.zeros(0, np.int64)
        if data.guidance:
            rows = rng.integers(0, len(data.guidance), number)
            photos = data.guidance.photo[rows]
        else:
            photos = data.pairs.a[data.pairs.draw(rng, number)]
        crops, matrices = draw_photos(rng, data.a, photos, size)
        clouds = drawn_clouds(rng, number, settings.unclip_stops)
        position = pixel_positions(*size, WHOLE).expand(number, *size, 2)
        plate = unclip(decode_srgb(crops), look_up(clouds, position))[0]
        if data.guidance:
            lesson = guided_lesson(data.guidance, rows, matrices, plate)
        else:
            assert data.gains is not None  # or there would be no recipe
            found = measured_lesson(data.gains, photos, matrices, rng, settings.patches_per_photo)
            lesson = brightened(found, unclip(found.plate, look_up(clouds, found.position))[1])
        white = torch.from_numpy(rng.uniform(-WHITE_OFF, WHITE_OFF, (number, 1, 1, 1)).astype(np.float32))
        motion = None
        if settings.steady_weight and rng.random() < MOVED_SHARE:
            motion = drawn_motions(rng, number, size[1] / size[0]).to(self.device)
        return Share(plate.to(self.device), white.to(self.device), motion, lesson.to(self.device))

    @torch.no_grad()
    def relight(self, photos: Tensor, direction: Direction) -> Tensor:
        """Photos in the other light, by the averaged network; with the detail that `export` measured, once it has.

        Args:
            photos: (N, 3, H, W) float32, sRGB-encoded 0..1.
            direction: "ab"; a look of the other direction is another fit.
        """
        plate = decode_srgb(photos.to(self.device))
        net, window = self.averaged, WHOLE.to(self.device)
        gain = plate_gain(plate, window, net(plate), self.settings.net.depth, net.detail)
        return encode_srgb((plate * torch.exp2(gain)).clamp(0, 1))

    def export(self, direction: Direction) -> ExportSpec:
        """The averaged network as an operator look."""
        detail = 0.0
        if self.settings.match_detail:
            detail = measured_detail(self.averaged, self.data.a, self.data.b, self.data.pairs)
        self.averaged.detail.fill_(detail)
        module = GainGridLook(copy.deepcopy(self.averaged).cpu()).eval()
        facts = {
            "direction": direction,
            "translator": "relight",
            "encoding": "linear",
            "primaries": "lin_rec709",
            "value_range": "unbounded",
            "operators": Operators._fields,
            "aovs": ("gain", "confidence"),
            "size_multiple": 1,
            "overlap_px": 0,
            "evaluation": {"detail": round(detail, 3)},
        }
        example = (torch.full((1, 3, *EXAMPLE_PX), 0.5), WHOLE)
        outputs = ("relit", *Operators._fields, "gain", "confidence")
        halves = module.net, module.apply_operators
        return ExportSpec(module, example, outputs, facts, halves, structure=repr(self.settings.net))

    def memory(self) -> dict[str, Tensor]:
        """Nothing: a step depends on networks, optimisers and its own random numbers alone."""
        return {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Puts back what `memory` gave."""


def build(settings: RelightSettings, data: TrainingData, device: torch.device) -> RelightRecipe:
    """The recipe, with fresh networks drawn from torch's own random numbers; see `RelightRecipe`."""
    return RelightRecipe(settings, data, device)


def shares_of(batch: Share, number: int) -> list[Share]:
    """A batch in parts, whose losses add up to the losses of the batch."""
    if number == 1:
        return [batch]
    weights = batch.lesson.weight.sum(dim=(1, 2, 3)).double()
    return [
        Share(
            batch.plate[rows],
            batch.white[rows],
            None if batch.motion is None else batch.motion[rows],
            batch.lesson.rows(rows),
            taught=float(weights[rows].sum() / weights.sum().clamp(min=1e-6)),
            shown=len(rows) / len(batch.plate),
        )
        for rows in torch.arange(len(batch.plate)).chunk(number)
    ]


def rate_share(fraction_done: float) -> float:
    """The share of the full learning rate, 0..1: a short warm-up, then a half cosine to 0."""
    warm = min(1.0, (fraction_done + 1e-3) / WARM_UP_FRACTION)
    return warm * 0.5 * (1 + float(np.cos(np.pi * min(1.0, fraction_done))))


def crop_size(rng: np.random.Generator, proxy_px: int) -> tuple[int, int]:
    """Height and width of a batch's crops: one of `ASPECTS`, as large as the proxy of such a plate."""
    aspects, often = zip(*ASPECTS, strict=True)
    aspect = float(rng.choice(aspects, p=often))
    return proxy_size(round(1000 / max(1.0, aspect)), round(1000 * min(1.0, aspect)), proxy_px)


def doubt_loss(doubt: Tensor, lesson: Lesson, gain: Tensor) -> Tensor:
    """How badly the doubt tells the error of the gains; nothing flows into the gains or their features.

    The likelihood of a Laplace distribution as wide as the doubt, `error / doubt + log(doubt)`, which is least where
    the doubt is the mean error (Kendall and Gal, NeurIPS 2017, with L1); less what a fixed doubt of half a stop would
    have, so that below 0 is better than knowing nothing.

    Args:
        doubt: (N, 1, gh, gw) stops.
        lesson: what is wanted.
        gain: (N, 3, h, w) that was given, in stops.
    """
    with torch.no_grad():
        error = missed_stops(lesson, relit_stops(lesson, gain)).abs().mean(dim=1, keepdim=True)
    expected = look_up(doubt, lesson.position)
    fixed = error / HALF_SURE_STOPS + float(np.log(HALF_SURE_STOPS))
    surplus = ((error / expected + torch.log(expected) - fixed) * lesson.weight).sum()
    return surplus / lesson.weight.sum().clamp(min=1)


def white_loss(white: WhiteNet, plate: Tensor) -> Tensor:
    """By how many stops white is missed, as a whole and (counting less) by each cell; photos are white at 1.

    Args:
        white: to be taught.
        plate: (N, 3, h, w) linear crops of photos, with skies as bright as in plates.
    """
    estimates, trust = white.estimates(plate)
    return (estimates * trust).sum(dim=(2, 3)).abs().mean() + CELL_SHARE * estimates.abs().mean()


def drawn_clouds(rng: np.random.Generator, number: int, most: float) -> Tensor:
    """Random smooth skies, (N, 1, h, w) stops from 0 to at most `most`, different in each: by how much over white.

    Photos clip bright skies to one flat white that no plate has; a network could tell white by that alone.
    """
    brightest, depth = rng.uniform(0, most, (number, 1, 1, 1)), rng.random((number, 1, *CLOUDS))
    return torch.from_numpy((brightest * (1 - CLOUD_DEPTH * depth)).astype(np.float32))


def unclip(linear: Tensor, stops: Tensor) -> tuple[Tensor, Tensor]:
    """Shows clipped highlights brighter, as a scene-linear plate of the same view would have them.

    Args:
        linear: (N, 3, H, W) linear photo values.
        stops: (N, 1, H or 1, W or 1) how much brighter a fully clipped pixel becomes.

    Returns:
        The brighter picture, and the stops added to each pixel (N, 1, H, W).
    """
    clipped = ((linear.amax(dim=1, keepdim=True) - 0.9) / 0.1).clamp(0, 1)
    added = clipped * stops
    return linear * torch.exp2(added), added


def roughness(grid: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring cells, in stops; keeps unmeasured places near measured ones."""
    across = F.l1_loss(grid[..., 1:], grid[..., :-1])
    down = F.l1_loss(grid[..., 1:, :], grid[..., :-1, :])
    return across + down
