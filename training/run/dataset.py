"""From two photo folders to what a fit learns from: index, prepared photos, content pairs, and guidance or gains.

Every stage keeps what it made in the run folder and does nothing where that still holds.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relightgan.training.days import DAY_NAMES, DIRECTIONS, Direction, along, opposite
from relightgan.training.fit.batches import TrainingData
from relightgan.training.fit.preview import PreviewPhotos
from relightgan.training.guidance.back_translation import with_back_translation
from relightgan.training.guidance.making import MIN_COVERAGE, MIN_JOINED_SHARE, Guidance, joined_enough
from relightgan.training.pairs.pairing import Pairs, centred, pair_photos
from relightgan.training.pairs.patch_gains import GainSamples
from relightgan.training.run.day_photos import DayPhotos, make_day, warn_of_shared
from relightgan.training.run.run import Run
from relightgan.training.run.stages import embed_day, gains_of, guide, pairs_sheet, photometry_of, register
from relightgan.training.stage_cache import digest
from relightgan.training.world.corrected_photos import corrected_banks
from relightgan.training.world.photometry import Photometry
from relightgan.training.world.photometry_words import MEAN_STAYS, summary
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
PREVIEW_PX = 384  # longest side of photos in previews


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What the fits of a run learn from.

    Attributes:
        source: photos of the day whose light plates have.
        target: photos of the day whose light they shall get.
        embeddings: (N, C) float32 of each day's photos by the backbone, centred and at unit length.
        pairs: content pairs of the training photos, source to target.
        gains: measured gains by direction; empty for recipes that don't use them, and where guidance serves instead.
        sheet: contact sheet of pairs.
        key: names photos and pairs; the same photos and settings give the same key.
        registration: the training photos in one world; None where that wasn't wanted or didn't come about.
        photometry: what the cameras of each day did to the light, by which training photos are corrected; None where
            there is no guidance.
        guidance: what registered photos say of the other day; None where that wasn't wanted or didn't come about.
        back_translation: guided fits also learn from target photos translated back into the source light.
    """

    source: DayPhotos
    target: DayPhotos
    embeddings: tuple[np.ndarray, np.ndarray]
    pairs: Pairs
    gains: dict[Direction, GainSamples]
    sheet: Path
    key: str
    registration: Registration | None = None
    photometry: tuple[Photometry, Photometry] | None = None
    guidance: Guidance | None = None
    back_translation: bool = False

    def guides(self, direction: Direction) -> bool:
        """Is the fit of this direction guided, rather than by measured gains?"""
        return self.guidance is not None and direction in self.guidance.maps and self.guidance.good_enough(direction)

    def training_data(self, direction: Direction) -> TrainingData:
        """The training photos as a recipe takes them, `a` being the photos that are relit in this direction."""
        banks = (self.source.training_bank, self.target.training_bank)
        a, b = along(direction, corrected_banks(banks, self.photometry))
        pairs, _ = along(direction, (self.pairs, swapped(self.pairs)))
        if self.guidance is None or not self.guides(direction):
            return TrainingData(a, b, pairs, self.gains.get(direction))
        guidance, back = self.guidance.maps[direction], opposite(direction)
        if not (self.back_translation and self.guides(back)):
            return TrainingData(a, b, pairs, self.gains.get(direction), guidance)
        more, guidance = with_back_translation(a, b, guidance, self.guidance.maps[back])
        return TrainingData(more, b, pairs, self.gains.get(direction), guidance)

    def previews(self, direction: Direction, count: int, device: torch.device) -> PreviewPhotos:
        """Validation photos (or training ones, where there are none) and the nearest photos of the other day."""
        here, there = along(direction, (self.source, self.target))
        ours, theirs = along(direction, self.embeddings)
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
    sources: Sequence[Path], targets: Sequence[Path], run: Run, directions: Sequence[Direction]
) -> Dataset:
    """Photos of two days, indexed, prepared and paired; with guidance, or measured gains, for recipes that need them.

    Args:
        sources: folders with photos of the light that plates have.
        targets: folders with photos of the light that they shall get.
        run: keeps what the stages make.
        directions: that the recipe will be fitted in.

    Raises:
        PhotoError: a folder can't be used.
        TrainingError: too few photos, or no pair of them shows the same.
        Cancelled: a stop was asked for; what is done is kept.
    """
    config, say, stage = run.config, run.log.say, run.stage("pairs")
    source, target = (make_day(name, folders, run) for name, folders in zip(DAY_NAMES, (sources, targets), strict=True))
    warn_of_shared(source, target, say)
    embeddings = embed_day(source, run, stage), embed_day(target, run, stage)
    trained = embeddings[0][: source.train], embeddings[1][: target.train]
    pairs = pair_photos(*trained, config.pairing)
    sheet = pairs_sheet(pairs, source, target, stage.folder / "pairs.jpg")
    say(
        f"Paired by content: {len(pairs):,} pairs, of {len(np.unique(pairs.a)):,} of {source.train:,} source "
        f"and {len(np.unique(pairs.b)):,} of {target.train:,} target photos."
    )
    registration, photometry, guidance = None, None, None
    if config.recipe.needs_gains and config.registration.enabled:
        registration, photometry, guidance = register_and_guide((source, target), trained, directions, run)
    dataset = Dataset(
        source,
        target,
        (centred(embeddings[0]), centred(embeddings[1])),
        pairs,
        {},
        sheet,
        data_key(source, target, pairs),
        registration,
        photometry,
        guidance,
        config.guidance.back_translation,
    )
    if config.recipe.needs_gains:
        measure_where_unguided(dataset, directions, run)
    return dataset


def register_and_guide(
    days: tuple[DayPhotos, DayPhotos],
    embeddings: tuple[np.ndarray, np.ndarray],
    directions: Sequence[Direction],
    run: Run,
) -> tuple[Registration | None, tuple[Photometry, Photometry] | None, Guidance | None]:
    """The training photos in one world, their photometry, and what they say of each other; None for what is missing."""
    registration = register(days, embeddings, run, run.stage("registration"))
    run.log.say(registration.summary() if registration else NOT_REGISTERED)
    if registration is None:
        return None, None, None
    if not joined_enough(registration):
        run.log.say(TOO_FEW_REGISTERED)
        return registration, None, None
    photometry = photometry_of(days, registration, run, run.stage("registration"))
    for line in camera_words(days, photometry):
        run.log.say(line)
    wanted = DIRECTIONS if run.config.guidance.back_translation else directions
    guidance = guide(days, registration, photometry, wanted, run, run.stage("guidance"))
    run.log.say(guidance.accuracy())
    return registration, photometry, guidance


def camera_words(days: tuple[DayPhotos, DayPhotos], photometry: tuple[Photometry, Photometry]) -> list[str]:
    """What the cameras of both days did to the light, and what becomes of it, in lines."""
    said = [
        summary(found, f"the {day.name} photos", [photo.name for photo in day.training_photos])
        for day, found in zip(days, photometry, strict=True)
    ]
    return [*said, MEAN_STAYS]


def measure_where_unguided(dataset: Dataset, directions: Sequence[Direction], run: Run) -> None:
    """Measures gains for the directions that have no guidance, or too little; adds them to the dataset."""
    for direction in directions:
        if dataset.guidance:
            enough = dataset.guides(direction)
            run.log.say(f"Guidance: {dataset.guidance.coverage(direction)}.{'' if enough else ' ' + TOO_LITTLE_SEEN}")
            if enough:
                continue
        gains = gains_of(dataset.training_data(direction), dataset.key, direction, run, run.stage("pairs"))
        dataset.gains[direction] = gains
        run.log.say(f"Measured gains: {len(gains):,} patches that look like some of the other day.")


def manifest(dataset: Dataset, sources: Sequence[Path], targets: Sequence[Path]) -> dict[str, Any]:
    """Which photos a look was made from, for its metadata: counts, and the hash of each photo's content."""
    days: dict[str, Any] = {}
    for day, folders in ((dataset.source, sources), (dataset.target, targets)):
        days[day.name] = {
            "folders": [folder.resolve().name for folder in folders],
            "found": len(day.index.photos),
            "kept": len(day.index.kept()),
            "training_photos": [photo.id for photo in day.training_photos],
        }
    return {**days, "pairs": len(dataset.pairs), "key": dataset.key}


def swapped(pairs: Pairs) -> Pairs:
    """The same pairs with source and target exchanged."""
    return Pairs(pairs.b, pairs.a, pairs.similarity, pairs.probability)


def data_key(source: DayPhotos, target: DayPhotos, pairs: Pairs) -> str:
    """A hash of the training photos and their pairs."""
    ids = [[photo.id for photo in day.training_photos] for day in (source, target)]
    return digest([ids, pairs.a.tolist(), pairs.b.tolist()])


def preview_tensor(image: np.ndarray, device: torch.device) -> torch.Tensor:
    """(1, 3, h, w) from (H, W, 3) float32, no side longer than `PREVIEW_PX`."""
    photo = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    scale = min(1.0, PREVIEW_PX / max(photo.shape[-2:]))
    if scale < 1:
        photo = torch.nn.functional.interpolate(photo, scale_factor=scale, mode="bilinear", antialias=True)
    return photo.to(device)
