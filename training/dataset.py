"""From two photo folders to what a fit learns from: index, prepared photos, content pairs, and guidance or gains.

Every stage keeps what it made in the run folder and does nothing where that still holds.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relightgan.core.errors import TrainingError
from relightgan.core.progress import Cancellation, progress
from relightgan.training.back_translation import with_back_translation
from relightgan.training.backbones import Backbone, embed_photos, load_backbone
from relightgan.training.batches import TrainingData
from relightgan.training.config import RunConfig
from relightgan.training.contact_sheet import contact_sheet
from relightgan.training.guiding import LEAST_COVERAGE, LEAST_JOINED, Guidance, joined_enough, make_guidance
from relightgan.training.kept import digest, read_arrays, read_notes, write_arrays, write_notes
from relightgan.training.pairing import Pairs, centred, pair_photos
from relightgan.training.photo_measuring import usual_workers
from relightgan.training.photos import Photo, PhotoIndex, index_photos
from relightgan.training.photos_command import write_sheet
from relightgan.training.prepare import PhotoBank, prepare_photos
from relightgan.training.preview import PreviewPhotos
from relightgan.training.recipe import Direction
from relightgan.training.register import Day, Registration, register_days
from relightgan.training.settings import to_dict
from relightgan.training.targets import GainSamples, LazyImages, measure_gains, measuring_work

FEWEST_PHOTOS = 4  # on each side; below this there is no set to learn
SHOWN_PAIRS = 10
NOT_REGISTERED = (
    "The photos of the two days couldn't be registered: too few points of the set are recognised across the change of "
    "light. The fit goes on with gains of single pairs of photos, and of patches."
)
TOO_FEW_REGISTERED = (
    f"Less than {LEAST_JOINED:.0%} of the photos of a day were registered, too few to guide the fit. It goes on with "
    "gains of single pairs of photos, and of patches."
)
TOO_LITTLE_SEEN = (
    f"That is less than {LEAST_COVERAGE:.0%}, too little to guide the fit. It goes on with gains of single pairs of "
    "photos, and of patches."
)
SIDES = ("source", "target")
PREVIEW_PX = 384  # longest side of photos in previews


@dataclasses.dataclass(frozen=True)
class Side:
    """The photos of one light.

    Attributes:
        name: "source" or "target".
        index: everything found in its folders.
        photos: training photos first, then validation photos; the test photos are left alone.
        train: how many of them are training photos.
        bank: the same photos, prepared.
        sheet: contact sheet of the folder.
    """

    name: str
    index: PhotoIndex
    photos: tuple[Photo, ...]
    train: int
    bank: PhotoBank
    sheet: Path


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What the fits of a run learn from.

    Attributes:
        source: photos of the light that plates have.
        target: photos of the light that they shall get.
        features: (N, C) float32 backbone features of each side's photos, centred and at unit length.
        pairs: content pairs of the training photos, source to target.
        gains: measured gains by direction; empty for recipes that don't use them, and where guidance serves instead.
        verified_pairs: pairs of photos in which points of the set were recognised, by direction.
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
    gains: dict[Direction, tuple[GainSamples, GainSamples]]
    verified_pairs: dict[Direction, int]
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
        gains = self.gains.get(direction, ())
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
            tuple(preview_tensor(here.bank.image(int(row)), device) for row in rows),
            tuple(preview_tensor(there.bank.image(int(row)), device) for row in nearest),
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
    dataset = Dataset(source, target, (unit[0], unit[1]), pairs, {}, {}, sheet, key, registration, guidance, again)
    if config.translator == "relight":
        for direction in directions:
            if guidance:
                enough = dataset.guides(direction)
                say(f"Guidance: {guidance.coverage(direction)}.{'' if enough else ' ' + TOO_LITTLE_SEEN}")
                if enough:
                    continue
            gains, verified = side_gains(dataset, direction, folder, config, network, device, style, stop)
            dataset.gains[direction], dataset.verified_pairs[direction] = gains, verified
            say(
                f"Measured gains: {len(gains[0]):,} points seen on both days in {verified:,} pairs of photos, "
                f"{len(gains[1]):,} patches."
            )
    return dataset


def make_side(
    name: str,
    folders: Sequence[Path],
    run_dir: Path,
    config: RunConfig,
    style: str,
    stop: Cancellation,
    say: Callable[[str], None],
) -> Side:
    """The photos of one light: indexed, shown on a sheet, and prepared.

    Raises:
        TrainingError: fewer photos than can be learned from.
    """
    place = run_dir / "photos" / name
    index = index_photos(folders, config.photos, place, style, stop.check)
    train, val = index.kept("train"), index.kept("val")
    counts = f"{len(index.photos):,} found, {len(index.left_out()):,} left out, {len(train):,} to learn from"
    say(f"The {name} photos: {counts}.")
    if len(train) < FEWEST_PHOTOS:
        raise TrainingError(
            f"Only {len(train)} photos of {', '.join(map(str, folders))} can be learned from, not {FEWEST_PHOTOS}.",
            "See why with `relightgan photos`, or give more photos.",
        )
    sheet = place / "contact_sheet.jpg"
    key = digest([photo.id + photo.status + photo.split for photo in index.photos])
    if not (sheet.exists() and read_notes(place / "sheet.json").get("key") == key):
        title = ", ".join(folder.resolve().name for folder in folders)
        write_sheet(index, title, sheet, usual_workers())
        write_notes(place / "sheet.json", {"key": key})
    stop.check()
    photos = (*train, *val)
    bank = prepare_photos(photos, run_dir / "prepared", config.photo_px, style, stop.check)
    return Side(name, index, photos, len(train), bank, sheet)


def warn_of_shared(source: Side, target: Side, say: Callable[[str], None]) -> None:
    """Says where a photo is on both sides: it can't show both lights.

    Raises:
        TrainingError: so many are that there is no change of light to learn.
    """
    ids = {photo.id for photo in source.photos}
    shared = [photo for photo in target.photos if photo.id in ids]
    if not shared:
        return
    problem = f"{len(shared)} photos are both source and target, {shared[0].path} for one."
    if 2 * len(shared) > min(len(source.photos), len(target.photos)):
        raise TrainingError(problem, "Give folders of two different lights.")
    say(f"Warning: {problem}")


def side_features(
    side: Side,
    folder: Path,
    config: RunConfig,
    network: Callable[[], Backbone],
    device: torch.device,
    style: str,
    stop: Cancellation,
) -> np.ndarray:
    """(N, C) float32 features of a side's photos, from the run folder where they are known."""
    key = digest(
        [config.pairing.backbone, config.pairing.weights, config.photo_px, [photo.id for photo in side.photos]]
    )
    path = folder / f"features-{side.name}.npz"
    if (known := read_arrays(path, key)) is not None:
        return known["features"]
    with progress(len(side.photos), f"{side.name} photos looked at", style) as shown:

        def looked_at(count: int) -> None:
            shown.advance(count)
            stop.check()

        features = embed_photos(network(), LazyImages(side.bank, looked_at), str(device))
    write_arrays(path, key, {"features": features})
    return features


def register_sides(
    sides: tuple[Side, Side],
    features: tuple[np.ndarray, np.ndarray],
    folder: Path,
    config: RunConfig,
    style: str,
    stop: Cancellation,
) -> Registration | None:
    """The training photos of both sides in one world, from the run folder where known; None where they don't allow it.

    Args:
        sides: source and target.
        features: (N, C) of each side's training photos.
        folder: keeps what was found.
        config: of the run.
        style: of progress, see `core.progress`.
        stop: asked between steps.
    """
    banks = [training_bank(side) for side in sides]
    a, b = (
        Day(
            LazyImages(bank),
            values,
            content_ids(bank, config),
            [photo.focal_35mm for photo in bank.photos],
        )
        for bank, values in zip(banks, features, strict=True)
    )
    return register_days(a, b, config.registration, config.matching, config.seed, folder, style, stop)


def guide_sides(
    sides: tuple[Side, Side],
    registration: Registration,
    directions: Sequence[Direction],
    folder: Path,
    config: RunConfig,
    device: torch.device,
    style: str,
    stop: Cancellation,
) -> Guidance:
    """What the registered photos of both sides saw of each other, from the run folder where known."""
    banks = [training_bank(side) for side in sides]
    ids = [name for bank in banks for name in content_ids(bank, config)]
    return make_guidance(registration, banks, ids, config.guidance, directions, folder, device, style, stop)


def side_gains(
    dataset: Dataset,
    direction: Direction,
    folder: Path,
    config: RunConfig,
    network: Callable[[], Backbone],
    device: torch.device,
    style: str,
    stop: Cancellation,
) -> tuple[tuple[GainSamples, GainSamples], int]:
    """Gains at points and patches of one direction, and pairs with a geometry; from the run folder where known."""
    key = digest([dataset.key, to_dict(config.pairing), to_dict(config.matching), config.photo_px])
    path = folder / f"gains-{direction}.npz"
    names = [field.name for field in dataclasses.fields(GainSamples)]
    if (known := read_arrays(path, key)) is not None:
        points, patches = (GainSamples(*(known[f"{kind}_{name}"] for name in names)) for kind in ("points", "patches"))
        return (points, patches), int(known["verified_pairs"])
    data = dataset.training_data(direction)
    work = measuring_work(len(data.a), len(data.b), data.pairs, config.matching)
    with progress(work, "steps of measuring", style) as shown:

        def measured(count: int) -> None:
            shown.advance(count)
            stop.check()

        found = measure_gains(
            data.a, data.b, data.pairs, config.matching, network(), str(device), os.cpu_count() or 1, measured
        )
    arrays = {f"points_{name}": getattr(found.points, name) for name in names}
    arrays |= {f"patches_{name}": getattr(found.patches, name) for name in names}
    write_arrays(path, key, {**arrays, "verified_pairs": np.array(found.verified_pairs)})
    return (found.points, found.patches), found.verified_pairs


def pairs_sheet(pairs: Pairs, source: Side, target: Side, path: Path) -> Path:
    """Writes a contact sheet of pairs from the most to the least similar, two to a row, no source photo twice."""
    order = np.argsort(-pairs.similarity, kind="stable")
    best = order[np.sort(np.unique(pairs.a[order], return_index=True)[1])]
    shown = best[np.unique(np.linspace(0, len(best) - 1, min(SHOWN_PAIRS, len(best))).round().astype(int))]
    key = digest([source.photos[int(pairs.a[n])].id + target.photos[int(pairs.b[n])].id for n in shown])
    if path.exists() and read_notes(path.with_suffix(".json")).get("key") == key:
        return path
    cells = []
    for number in shown:
        a, b = int(pairs.a[number]), int(pairs.b[number])
        cells.append(
            [
                (source.bank.image(a), source.photos[a].name),
                (target.bank.image(b), f"{target.photos[b].name} · similarity {pairs.similarity[number]:.2f}"),
            ]
        )
    rows = [[cell for pair in cells[n : n + 2] for cell in pair] for n in range(0, len(cells), 2)]
    title = f"{len(pairs):,} content pairs"
    subtitle = "source | nearest target, from the most to the least similar"
    contact_sheet(rows, path, title=title, subtitle=subtitle, cell_px=300)
    write_notes(path.with_suffix(".json"), {"key": key})
    return path


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


def training_bank(side: Side) -> PhotoBank:
    """The training photos of a side alone."""
    return PhotoBank(side.bank.photos[: side.train], side.bank.paths[: side.train])


def content_ids(bank: PhotoBank, config: RunConfig) -> list[str]:
    """Names of what prepared photos hold: what is kept of them is made again where these differ."""
    return [f"{photo.id} {config.photo_px}" for photo in bank.photos]


def preview_tensor(image: np.ndarray, device: torch.device) -> torch.Tensor:
    """(1, 3, h, w) from (H, W, 3) float32, no side longer than `PREVIEW_PX`."""
    photo = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    scale = min(1.0, PREVIEW_PX / max(photo.shape[-2:]))
    if scale < 1:
        photo = torch.nn.functional.interpolate(photo, scale_factor=scale, mode="bilinear", antialias=True)
    return photo.to(device)
