"""The `relight` recipe: a gain grid fitted by plain regression, without an adversary.

Its targets are colours of the same places in photos of the target day: dense ones where the days were registered
(guided lessons), else those of patches that look alike (measured lessons).
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
    pixel_positions,
    plate_gain,
    sample_plane,
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

# The aspects (width / height) of crops, with their probabilities: plates are wider than photos.
ASPECTS = ((4 / 3, 0.5), (16 / 9, 0.3), (2.39, 0.1), (3 / 4, 0.1))
EXAMPLE_PX = (96, 128)  # height and width of the plate that export traces; looks take any size
WARM_UP_FRACTION = 0.02  # the share of the run in which the learning rate rises to its full value
CLOUDS = (4, 5)  # rows and columns of the random brightness of a sky
CLOUD_DEPTH = 0.6  # the largest share by which a cloud is darker than the brightest place of its sky
MAX_WHITE_ERROR_STOPS = 0.3  # the largest random error, either way, of the white to which crops are clamped
STEADY_SHARE = 0.25  # the share of batches with the loss of `steadiness`
CELL_WEIGHT = 0.2  # the weight of the error of each cell in the loss of white, beside that of their weighted mean
# Adam steps the biases, with this share of the learning rate of the kernels: 0.0008 by default. The second of its betas
# averages over a thousand batches, as gradients differ much between batches: each has other parts of the set.
BIAS_RATE = 1 / 15
BETAS = (0.9, 0.999)


@dataclasses.dataclass(frozen=True)
class RelightSettings:
    """Network, losses and schedule of the `relight` recipe.

    Raises:
        ConfigError: a value makes no sense.
    """

    net: GainGridSettings = dataclasses.field(default_factory=GainGridSettings)
    patches_per_photo: int = 128  # measured gains per crop and step, where the days couldn't be registered
    smooth_weight: float = 0.02  # weight of the difference between neighbouring cells, in stops
    batch_size: int = 8  # photos per step
    learning_rate: float = 0.012  # learning rate of the kernels (optimiser Muon)
    match_detail: bool = True  # give texture the contrast it has in photos of the target light
    steady_weight: float = 0.1  # weight of the change of gains under a small camera move, in stops
    rolloff_weight: float = 0.01  # weight of the roll-off: highlights are kept where photos ask for nothing else
    unclip_stops: float = 1.5  # clipped skies of photos are made up to this many stops brighter, as in plates

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
class BatchPart:
    """Some pictures of a batch, or all of them.

    Attributes:
        plate: (n, 3, h, w) linear crops, with highlights above white as in plates.
        white: (n, 1, 1, 1) log2 of the white to which the crops are clamped; the true one is 0.
        motion: (n, 2, 3) camera moves, see `steadiness`; None in batches without that loss.
        lesson: wanted colours.
        lesson_share: this part's share of the weights of the whole batch's lesson, 0..1.
        picture_share: this part's share of the pictures of the batch, 0..1.
    """

    plate: Tensor
    white: Tensor
    motion: Tensor | None
    lesson: Lesson
    lesson_share: float = 1.0
    picture_share: float = 1.0


class RelightRecipe:
    """A gain-grid network, its optimisers and its training data; see `fit.recipe.Recipe`.

    Args:
        settings: settings of this recipe.
        data: photos of the direction "ab", with guidance or with measured gains.
        device: the device of the network.

    Raises:
        TrainingError: there is neither guidance nor any measured gain.
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
        """Draws a batch and makes one optimisation step.

        Args:
            rng: draws the batch and the measured gains.
            fraction_done: the share of the run that is done, 0..1; it sets the learning rate.

        Returns:
            Losses by name, before weighting.
        """
        batch = self.draw(rng)
        parts = batch_parts(batch, parts_for(self.device, len(batch.plate)))
        losses = descend(parts, self.losses, list(self.net.parameters()))
        rate = self.settings.learning_rate * rate_share(fraction_done)
        set_rate(self.optimisers["kernels"], rate)
        set_rate(self.optimisers["biases"], rate * BIAS_RATE)
        for optimiser in self.optimisers.values():
            optimiser.step()
        return losses

    def losses(self, part: BatchPart) -> tuple[Tensor, dict[str, Tensor]]:
        """The contribution of a part to the loss of the batch, and to each of its losses before weighting."""
        settings = self.settings
        operators = self.net.from_reduced(part.plate, part.white)
        gain = gain_at(operators, part.lesson.plate, part.lesson.position, settings.net.depth)
        losses = {
            "guided" if self.data.guidance else "measured": lesson_loss(part.lesson, gain) * part.lesson_share,
            "smooth": roughness(operators.grid) * part.picture_share,
            "doubt": doubt_loss(operators.doubt, part.lesson, gain) * part.lesson_share,
            "white": white_loss(self.net.white, part.plate) * part.picture_share,
            "rolloff": operators.rolloff.mean() * part.picture_share,
            "steady": torch.zeros((), device=self.device),
        }
        weights = {
            "smooth": settings.smooth_weight,
            "steady": settings.steady_weight,
            "rolloff": settings.rolloff_weight,
        }
        if part.motion is not None:
            unsteady = unsteadiness(self.net, part.plate, operators, part.motion)
            losses["steady"] = unsteady.mean() / STEADY_SHARE * part.picture_share
        total = torch.stack([loss * weights.get(name, 1.0) for name, loss in losses.items()]).sum()
        return total, losses

    def draw(self, rng: np.random.Generator) -> BatchPart:
        """A batch: crops with skies as bright as in plates, and their lesson."""
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
        plate = unclip(decode_srgb(crops), sample_plane(clouds, position))[0]
        if data.guidance:
            lesson = guided_lesson(data.guidance, rows, matrices, plate)
        else:
            assert data.gains is not None  # `__init__` refuses data with neither
            found = measured_lesson(data.gains, photos, matrices, rng, settings.patches_per_photo)
            lesson = brightened(found, unclip(found.plate, sample_plane(clouds, found.position))[1])
        off = rng.uniform(-MAX_WHITE_ERROR_STOPS, MAX_WHITE_ERROR_STOPS, (number, 1, 1, 1))
        white = torch.from_numpy(off.astype(np.float32))
        motion = None
        if settings.steady_weight and rng.random() < STEADY_SHARE:
            motion = drawn_motions(rng, number, size[1] / size[0]).to(self.device)
        return BatchPart(plate.to(self.device), white.to(self.device), motion, lesson.to(self.device))

    @torch.no_grad()
    def relight(self, photos: Tensor, direction: Direction) -> Tensor:
        """Photos relit by the averaged network; after `export`, with the detail that it measured.

        Args:
            photos: (N, 3, H, W) float32, sRGB-encoded 0..1.
            direction: "ab"; the other direction is another fit.
        """
        plate = decode_srgb(photos.to(self.device))
        net, window = self.averaged, WHOLE.to(self.device)
        gain = plate_gain(plate, window, net(plate), self.settings.net.depth, net.detail)
        return encode_srgb((plate * torch.exp2(gain)).clamp(0, 1))

    def export(self, direction: Direction, learned: bool = True) -> ExportSpec:
        """The averaged network as an operator look; its detail is only matched where the light is learned."""
        detail = 0.0
        if self.settings.match_detail and learned:
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
        """Nothing: a step depends on networks, optimisers and its random numbers alone."""
        return {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Does nothing, as `memory` gives nothing."""


def build(settings: RelightSettings, data: TrainingData, device: torch.device) -> RelightRecipe:
    """The recipe with new networks, whose weights come from torch's global random numbers; see `RelightRecipe`."""
    return RelightRecipe(settings, data, device)


def batch_parts(batch: BatchPart, number: int) -> list[BatchPart]:
    """Splits a batch into parts whose losses add up to the losses of the batch."""
    if number == 1:
        return [batch]
    weights = batch.lesson.weight.sum(dim=(1, 2, 3)).double()
    return [
        BatchPart(
            batch.plate[rows],
            batch.white[rows],
            None if batch.motion is None else batch.motion[rows],
            batch.lesson.rows(rows),
            lesson_share=float(weights[rows].sum() / weights.sum().clamp(min=1e-6)),
            picture_share=len(rows) / len(batch.plate),
        )
        for rows in torch.arange(len(batch.plate)).chunk(number)
    ]


def rate_share(fraction_done: float) -> float:
    """The share of the full learning rate, 0..1: a short warm-up, then a half cosine down to 0."""
    warm = min(1.0, (fraction_done + 1e-3) / WARM_UP_FRACTION)
    return warm * 0.5 * (1 + float(np.cos(np.pi * min(1.0, fraction_done))))


def crop_size(rng: np.random.Generator, proxy_px: int) -> tuple[int, int]:
    """Height and width of a batch's crops in px: a random aspect, at the size of the proxy of such a plate."""
    aspects, often = zip(*ASPECTS, strict=True)
    aspect = float(rng.choice(aspects, p=often))
    return proxy_size(round(1000 / max(1.0, aspect)), round(1000 * min(1.0, aspect)), proxy_px)


def doubt_loss(doubt: Tensor, lesson: Lesson, gain: Tensor) -> Tensor:
    """The loss of the doubt as a prediction of the error of gains; no gradient flows into the gains.

    The negative log likelihood of a Laplace distribution whose scale is the doubt, `error / doubt + log(doubt)`. Its
    minimum is where the doubt is the mean error (Kendall and Gal, NeurIPS 2017, with L1). The same value for a fixed
    doubt of half a stop is subtracted: below 0 is better than a constant.

    Args:
        doubt: (N, 1, gh, gw) stops.
        lesson: places and wanted colours.
        gain: (N, 3, h, w) the predicted gains, in stops.
    """
    with torch.no_grad():
        error = missed_stops(lesson, relit_stops(lesson, gain)).abs().mean(dim=1, keepdim=True)
    expected = sample_plane(doubt, lesson.position)
    fixed = error / HALF_SURE_STOPS + float(np.log(HALF_SURE_STOPS))
    surplus = ((error / expected + torch.log(expected) - fixed) * lesson.weight).sum()
    return surplus / lesson.weight.sum().clamp(min=1)


def white_loss(white: WhiteNet, plate: Tensor) -> Tensor:
    """The error of predicted white in stops: of the weighted mean, and with less weight of each cell.

    The true value is 0, as the white of photos is 1.

    Args:
        white: the network that predicts white.
        plate: (N, 3, h, w) linear crops of photos, with skies as bright as in plates.
    """
    estimates, trust = white.estimates(plate)
    return (estimates * trust).sum(dim=(2, 3)).abs().mean() + CELL_WEIGHT * estimates.abs().mean()


def drawn_clouds(rng: np.random.Generator, number: int, max_stops: float) -> Tensor:
    """Random smooth skies, (N, 1, h, w) stops above white, 0 to `max_stops`.

    Photos clip bright skies to a flat white that no plate has. Without this, the network would find white by that.
    """
    brightest, depth = rng.uniform(0, max_stops, (number, 1, 1, 1)), rng.random((number, 1, *CLOUDS))
    return torch.from_numpy((brightest * (1 - CLOUD_DEPTH * depth)).astype(np.float32))


def unclip(linear: Tensor, stops: Tensor) -> tuple[Tensor, Tensor]:
    """Makes clipped highlights brighter, as in a scene-linear plate of the same view.

    Args:
        linear: (N, 3, H, W) linear photo values.
        stops: (N, 1, H or 1, W or 1) stops added to a fully clipped pixel.

    Returns:
        The brighter picture, and the stops added to each pixel (N, 1, H, W).
    """
    clipped = ((linear.amax(dim=1, keepdim=True) - 0.9) / 0.1).clamp(0, 1)
    added = clipped * stops
    return linear * torch.exp2(added), added


def roughness(grid: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring cells, in stops; it keeps cells without targets near those with."""
    across = F.l1_loss(grid[..., 1:], grid[..., :-1])
    down = F.l1_loss(grid[..., 1:, :], grid[..., :-1, :])
    return across + down
