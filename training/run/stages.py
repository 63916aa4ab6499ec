"""The stages that see the photos of both days: embeddings, the sheet of pairs, registration, guidance and gains.

Each keeps what it made in the run folder, and does nothing where that still holds.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relightgan.training.days import DAY_NAMES, Direction
from relightgan.training.fit.batches import TrainingData
from relightgan.training.guidance.making import Guidance, make_guidance
from relightgan.training.pairs.backbones import embed_photos
from relightgan.training.pairs.pairing import Pairs
from relightgan.training.pairs.patch_gains import GainSamples, measure_gains
from relightgan.training.photos.index import Photo
from relightgan.training.report.contact_sheet import contact_sheet
from relightgan.training.run.day_photos import DayPhotos, content_ids
from relightgan.training.run.run import Run
from relightgan.training.settings import to_dict
from relightgan.training.stage import Stage
from relightgan.training.stage_cache import digest, read_arrays, read_notes, write_arrays, write_notes
from relightgan.training.world.corrected_photos import corrected_banks
from relightgan.training.world.photometry import Photometry, point_samples, solve_photometry
from relightgan.training.world.point_colours import point_observations
from relightgan.training.world.registration import Day, Registration, register_days

SHEET_PAIRS = 10  # pairs on the contact sheet
PHOTOMETRY_FORMAT = 1  # the version of the photometry in a run folder; that of an older version is solved anew
GAINS_FORMAT = 2  # the version of the measured gains in a run folder; gains of an older version are measured anew


def embed_day(day: DayPhotos, run: Run, stage: Stage) -> np.ndarray:
    """(N, C) float32 embeddings of a day's photos by the run's backbone; known ones are read from the folder."""
    config = run.config
    key = digest([config.pairing.backbone, config.pairing.weights, config.photo_px, [photo.id for photo in day.photos]])
    path = stage.folder / f"features-{day.name}.npz"
    if (known := read_arrays(path, key, ["features"])) is not None:
        return known["features"]
    with stage.counting(len(day.photos), f"{day.name} photos embedded") as advance:
        embeddings = embed_photos(run.backbone, day.bank, str(stage.device), advance=advance)
    write_arrays(path, key, {"features": embeddings})
    return embeddings


def pairs_sheet(pairs: Pairs, source: DayPhotos, target: DayPhotos, path: Path) -> Path:
    """Writes a contact sheet of pairs from the most to the least similar, two to a row, no source photo twice."""
    order = np.argsort(-pairs.similarity, kind="stable")
    best = order[np.sort(np.unique(pairs.a[order], return_index=True)[1])]
    shown = best[np.unique(np.linspace(0, len(best) - 1, min(SHEET_PAIRS, len(best))).round().astype(int))]
    key = digest([source.photos[int(pairs.a[n])].id + target.photos[int(pairs.b[n])].id for n in shown])
    if path.exists() and read_notes(path.with_suffix(".json")).get("key") == key:
        return path
    cells = []
    for number in shown:
        a, b = int(pairs.a[number]), int(pairs.b[number])
        cells.append(
            [
                (source.bank[a], source.photos[a].name),
                (target.bank[b], f"{target.photos[b].name} · similarity {pairs.similarity[number]:.2f}"),
            ]
        )
    rows = [[cell for pair in cells[n : n + 2] for cell in pair] for n in range(0, len(cells), 2)]
    title = f"{len(pairs):,} content pairs"
    subtitle = "source | nearest target, from the most to the least similar"
    contact_sheet(rows, path, title=title, subtitle=subtitle, cell_px=300)
    write_notes(path.with_suffix(".json"), {"key": key})
    return path


def register(
    days: tuple[DayPhotos, DayPhotos], embeddings: tuple[np.ndarray, np.ndarray], run: Run, stage: Stage
) -> Registration | None:
    """The training photos of both days in one world; None where they don't allow it.

    Args:
        days: source and target.
        embeddings: (N, C) of each day's training photos.
        run: gives settings and seed.
        stage: keeps what was found.

    Raises:
        TrainingError: the stage's folder can't be written.
        Cancelled: a stop was asked for; what is done is kept.
    """
    config = run.config
    banks = [day.training_bank for day in days]
    a, b = (
        Day(bank, values, content_ids(bank, config.photo_px), [photo.focal_35mm for photo in bank.photos])
        for bank, values in zip(banks, embeddings, strict=True)
    )
    return register_days(a, b, config.registration, config.matching, config.seed, stage)


def photometry_of(
    days: tuple[DayPhotos, DayPhotos], registration: Registration, run: Run, stage: Stage
) -> tuple[Photometry, Photometry]:
    """What the cameras of each day did to the light of its training photos.

    Args:
        days: source and target.
        registration: of both.
        run: gives the settings.
        stage: keeps what was found.

    Raises:
        PhotoError: a prepared photo can't be read.
        TrainingError: the stage's folder can't be written.
        Cancelled: a stop was asked for; what is done is kept.
    """
    names = [field.name for field in dataclasses.fields(Photometry)]
    found = []
    for number, day in enumerate(days):
        bank = day.training_bank
        path = stage.folder / f"photometry-{DAY_NAMES[number]}.npz"
        key = digest([PHOTOMETRY_FORMAT, content_ids(bank, run.config.photo_px), number, registration.digest])
        known = read_arrays(path, key, names)
        if known is None:
            samples = point_samples(bank, point_observations(registration, number))
            photometry = solve_photometry(samples, len(bank), *lenses_and_cameras(bank.photos))
            known = {name: getattr(photometry, name) for name in names}
            write_arrays(path, key, known)
        found.append(Photometry(*(known[name] for name in names)))
        run.stop.check()
    return found[0], found[1]


def lenses_and_cameras(photos: Sequence[Photo]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) numbers of the lenses and (n,) of the cameras that photos were taken with, as far as files tell.

    Photos of one size are taken to be of one camera, and those of one focal length, too, of one lens.
    """
    cameras = [(min(photo.width, photo.height), max(photo.width, photo.height)) for photo in photos]
    lenses = [(*camera, photo.focal_35mm or 0.0) for camera, photo in zip(cameras, photos, strict=True)]
    return _numbers(lenses), _numbers(cameras)


def guide(
    days: tuple[DayPhotos, DayPhotos],
    registration: Registration,
    photometry: tuple[Photometry, Photometry],
    directions: Sequence[Direction],
    run: Run,
    stage: Stage,
) -> Guidance:
    """What the registered photos of each day say about places that photos of the other day show.

    Args:
        days: source and target.
        registration: of both.
        photometry: by which the photos are corrected.
        directions: "ab" makes maps of source photos, "ba" of target photos.
        run: gives the settings.
        stage: keeps what was made.

    Raises:
        TrainingError: the stage's folder can't be written.
        Cancelled: a stop was asked for; what is done is kept.
    """
    banks = corrected_banks([day.training_bank for day in days], photometry)
    ids = corrected_ids(days, photometry, run.config.photo_px)
    return make_guidance(registration, banks, ids, run.config.guidance, directions, stage)


def corrected_ids(
    days: tuple[DayPhotos, DayPhotos], photometry: tuple[Photometry, Photometry] | None, photo_px: int
) -> list[str]:
    """A name for the content of each training photo as photometry leaves it, source first."""
    ids = [name for day in days for name in content_ids(day.training_bank, photo_px)]
    return ids if photometry is None else [*ids, *(day.digest for day in photometry)]


def gains_of(data: TrainingData, data_key: str, direction: Direction, run: Run, stage: Stage) -> GainSamples:
    """Gains of one direction, measured on look-alike patches.

    Args:
        data: the training photos of the direction.
        data_key: names photos and pairs.
        direction: names the file.
        run: gives settings and the backbone.
        stage: keeps what was measured.
    """
    key = digest([GAINS_FORMAT, data_key, to_dict(run.config.pairing), run.config.photo_px])
    path = stage.folder / f"gains-{direction}.npz"
    names = [field.name for field in dataclasses.fields(GainSamples)]
    if (known := read_arrays(path, key, names)) is not None:
        return GainSamples(*(known[name] for name in names))
    with stage.counting(len(data.a) + len(data.b), "photos measured") as advance:
        gains = measure_gains(data.a, data.b, data.pairs, run.backbone, str(stage.device), advance)
    write_arrays(path, key, {name: getattr(gains, name) for name in names})
    return gains


# Private implementation


def _numbers(kinds: Sequence[tuple[float, ...]]) -> np.ndarray:
    """(n,) for each the number of its kind, counted from 0 in the order of kinds."""
    known = {kind: number for number, kind in enumerate(sorted(set(kinds)))}
    return np.array([known[kind] for kind in kinds], int)
