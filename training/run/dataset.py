"""From two photo folders to what a fit learns from: index, prepared photos, content pairs, and guidance or gains.

Every stage keeps what it made in the run folder and does nothing where that still holds.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relightgan.core.progress import Cancellation, progress
from relightgan.training.days import Direction
from relightgan.training.fit.batches import TrainingData
from relightgan.training.fit.preview import PreviewPhotos
from relightgan.training.guidance.back_translation import with_back_translation
from relightgan.training.guidance.making import MIN_COVERAGE, MIN_JOINED_SHARE, Guidance, joined_enough
from relightgan.training.pairs.backbones import Backbone, load_backbone
from relightgan.training.pairs.pairing import Pairs, centred, pair_photos
from relightgan.training.pairs.patch_gains import GainSamples, measure_gains
from relightgan.training.run.config import RunConfig
from relightgan.training.run.sides import SIDES, Side, make_side, training_bank, warn_of_shared
from relightgan.training.run.stages import guide_sides, pairs_sheet, register_sides, side_features
from relightgan.training.settings import to_dict
from relightgan.training.stage_cache import digest, read_arrays, write_arrays
from relightgan.training.world.registration import Registration

NOT_REGISTERED = (
    "The photos of the two days couldn't be registered: too few points of the set are recognised across the change of "
    "light. The fit goes on with gains of look-alike patches."
)
TOO_FEW_REGISTERED = (
    f"Less than {MIN_JOINED_SHARE:.0%} of the photos of a day were registered, too few to guide the fit. It goes on "
    "with gains of look-alike patches."
)
TOO_LITTLE_SEEN = (
    f"That is less than {MIN_COVERAGE:.0%}, too little to guide the fit. It goes on with gains of look-alike patches."
)
GAINS_FORMAT = 2  # of measured gains in the run folder; an older file is made anew
PREVIEW_PX = 384  # longest side of photos in previews


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What the fits of a run learn from.

    Attributes:
        source: photos of the light that plates have.
        target: photos of the light that they shall get.
        features: (N, C) float32 backbone features of each side's photos, centred and at unit length.
        pairs: content pairs of the training photos, source to target.
        gains: measured gains by direction; empty for recipes that don't use them, and where guidance serves instead.
        registration: the training photos in one world; None where that wasn't wanted or didn't come about.
        sheet: contact sheet of pairs.
        key: names photos and pairs; the same photos and settings give the same key.
        guidance: what registered photos saw of each other; None where that wasn't wanted or didn't come about.
        back_translation: guided fits also learn from target photos carried back into the source light.
    """

    source: Side
    target: Side
    features: tuple[np.ndarray, np.ndarray]
    pairs: Pairs
    gains: dict[Direction, GainSamples]
    sheet: Path
    key: str
    registration: Registration | None = None
    guidance: Guidance | None = None
    back_translation: bool = False

    def guides(self, direction: Direction) -> bool:
        """Is the fit of this direction guided, rather than by measured gains?"""
        return self.guidance is not None and direction in self.guidance.maps and self.guidance.good_enough(direction)

    def training_data(self, direction: Direction) -> TrainingData:
        """The training photos as a recipe takes them, `a` being what is relit in this direction."""
        a, b = (training_bank(side) for side in (self.source, self.target))
        gains = self.gains.get(direction)
        pairs = self.pairs
        if direction == "ba":
            a, b, pairs = b, a, swapped(pairs)
        if self.guidance is None or not self.guides(direction):
            return TrainingData(a, b, pairs, gains)
        guidance = self.guidance.maps[direction]
        back: Direction = "ba" if direction == "ab" else "ab"
        if not (self.back_translation and self.guides(back)):
            return TrainingData(a, b, pairs, gains, guidance)
        more, guidance = with_back_translation(a, b, guidance, self.guidance.maps[back])
        return TrainingData(more, b, pairs, gains, guidance)

    def previews(self, direction: Direction, count: int, device: torch.device) -> PreviewPhotos:
        """Validation photos (or training ones, where there are none) and the nearest photos of the other light."""
        here, there = (self.source, self.target) if direction == "ab" else (self.target, self.source)
        ours, theirs = self.features if direction == "ab" else self.features[::-1]
        first = here.train if len(here.photos) > here.train else 0
        count = min(count, len(here.photos) - first)
        rows = np.linspace(first, len(here.photos) - 1, count).round().astype(int)
        nearest = (ours[rows] @ theirs[: there.train].T).argmax(axis=1)
        return PreviewPhotos(
            direction,
            tuple(preview_tensor(here.bank[int(row)], device) for row in rows),
            tuple(preview_tensor(there.bank[int(row)], device) for row in nearest),
        )


def make_dataset(
    sources: Sequence[Path],
    targets: Sequence[Path],
    run_dir: Path,
    config: RunConfig,
    directions: Sequence[Direction],
    device: torch.device,
    style: str,
    stop: Cancellation,
    say: Callable[[str], None],
) -> Dataset:
    """Photos of two lights, indexed, prepared and paired.

    Args:
        sources: folders with photos of the light that plates have.
        targets: folders with photos of the light that they shall get.
        run_dir: keeps what the stages make.
        config: of the run.
        directions: for which gains are measured, where the recipe uses them.
        device: for the backbone.
        style: of progress, see `core.progress`.
        stop: asked between photos.
        say: takes a line of text about each stage.

    Raises:
        PhotoError: a folder can't be used.
        TrainingError: too few photos, or no pair of them shows the same.
        Cancelled: a stop was asked for; what is done is kept.
    """
    source, target = (
        make_side(name, folders, run_dir, config, style, stop, say)
        for name, folders in zip(SIDES, (sources, targets), strict=True)
    )
    warn_of_shared(source, target, say)
    folder = run_dir / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    backbone: list[Backbone] = []

    def network() -> Backbone:
        # Loaded when first needed: where all features are known from an earlier run, never.
        if not backbone:
            backbone.append(load_backbone(config.pairing.backbone, config.pairing.weights).to(device))
        return backbone[0]

    features = tuple(side_features(side, folder, config, network, device, style, stop) for side in (source, target))
    pairs = pair_photos(features[0][: source.train], features[1][: target.train], config.pairing)
    unit = tuple(centred(values) for values in features)
    sheet = pairs_sheet(pairs, source, target, folder / "pairs.jpg")
    say(
        f"Paired by content: {len(pairs):,} pairs, of {len(np.unique(pairs.a)):,} of {source.train:,} source "
        f"and {len(np.unique(pairs.b)):,} of {target.train:,} target photos."
    )
    registration, guidance = None, None
    if config.translator == "relight" and config.registration.enabled:
        known = (features[0][: source.train], features[1][: target.train])
        registration = register_sides((source, target), known, run_dir / "registration", config, style, stop)
        say(registration.summary() if registration else NOT_REGISTERED)
        if registration and not joined_enough(registration):
            say(TOO_FEW_REGISTERED)
        elif registration:
            asked: Sequence[Direction] = ("ab", "ba") if config.guidance.back_translation else directions
            guidance = guide_sides(
                (source, target), registration, asked, run_dir / "guidance", config, device, style, stop
            )
            say(guidance.accuracy())
    key = data_key(source, target, pairs)
    again = config.guidance.back_translation
    dataset = Dataset(source, target, (unit[0], unit[1]), pairs, {}, sheet, key, registration, guidance, again)
    if config.translator == "relight":
        for direction in directions:
            if guidance:
                enough = dataset.guides(direction)
                say(f"Guidance: {guidance.coverage(direction)}.{'' if enough else ' ' + TOO_LITTLE_SEEN}")
                if enough:
                    continue
            gains = side_gains(dataset, direction, folder, config, network, device, style, stop)
            dataset.gains[direction] = gains
            say(f"Measured gains: {len(gains):,} patches that look like some of the other day.")
    return dataset


def side_gains(
    dataset: Dataset,
    direction: Direction,
    folder: Path,
    config: RunConfig,
    network: Callable[[], Backbone],
    device: torch.device,
    style: str,
    stop: Cancellation,
) -> GainSamples:
    """Measured gains of one direction, from the run folder where they are known."""
    key = digest([GAINS_FORMAT, dataset.key, to_dict(config.pairing), config.photo_px])
    path = folder / f"gains-{direction}.npz"
    names = [field.name for field in dataclasses.fields(GainSamples)]
    if (known := read_arrays(path, key)) is not None:
        return GainSamples(*(known[name] for name in names))
    data = dataset.training_data(direction)
    with progress(len(data.a) + len(data.b), "photos measured", style) as shown:

        def measured(count: int) -> None:
            shown.advance(count)
            stop.check()

        gains = measure_gains(data.a, data.b, data.pairs, network(), str(device), measured)
    write_arrays(path, key, {name: getattr(gains, name) for name in names})
    return gains


def manifest(dataset: Dataset, sources: Sequence[Path], targets: Sequence[Path]) -> dict[str, Any]:
    """Which photos a look was made from, for its metadata: counts, and the hash of each photo's content."""
    sides = {}
    for side, folders in ((dataset.source, sources), (dataset.target, targets)):
        sides[side.name] = {
            "folders": [folder.resolve().name for folder in folders],
            "found": len(side.index.photos),
            "kept": len(side.index.kept()),
            "training_photos": [photo.id for photo in side.photos[: side.train]],
        }
    return {**sides, "pairs": len(dataset.pairs), "key": dataset.key}


def swapped(pairs: Pairs) -> Pairs:
    """The same pairs with source and target exchanged."""
    return Pairs(pairs.b, pairs.a, pairs.similarity, pairs.probability)


def data_key(source: Side, target: Side, pairs: Pairs) -> str:
    """A hash of the training photos and their pairs."""
    ids = [[photo.id for photo in side.photos[: side.train]] for side in (source, target)]
    return digest([ids, pairs.a.tolist(), pairs.b.tolist()])


def preview_tensor(image: np.ndarray, device: torch.device) -> torch.Tensor:
    """(1, 3, h, w) from (H, W, 3) float32, no side longer than `PREVIEW_PX`."""
    photo = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    scale = min(1.0, PREVIEW_PX / max(photo.shape[-2:]))
    if scale < 1:
        photo = torch.nn.functional.interpolate(photo, scale_factor=scale, mode="bilinear", antialias=True)
    return photo.to(device)
