"""The held-out photos of a run, with what is known of their places in the other light; `fit.held_out` measures on them.

Where the fit is guided, photos of the validation and test splits are located among the registered ones, as plates are,
and the other day's photos say what they saw there. Else validation photos get gains of look-alike patches. Where there
are no such photos, or none can be located, training photos serve instead: less surely, as the fit knows them.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.days import Direction, along, from_day
from relightgan.training.fit.held_out import HeldOut, HeldOutPhoto, fit_transfer, one_core, reduced, transfer_of
from relightgan.training.guidance.making import load_observers
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.guidance.observations import badly_placed
from relightgan.training.guidance.plates import PlateViews
from relightgan.training.pairs.patch_gains import PATCH_PARTNERS, GainSamples, patch_samples, patch_table
from relightgan.training.photos.bank import Images, PhotoBank, prepare_photos
from relightgan.training.photos.index import Photo
from relightgan.training.run.dataset import Dataset
from relightgan.training.run.day_photos import DayPhotos, content_ids
from relightgan.training.run.run import Run
from relightgan.training.run.stages import embed_day
from relightgan.training.settings import to_dict
from relightgan.training.stage_cache import digest, read_arrays, write_arrays
from relightgan.training.stops import CLIPPED_STOPS, to_stops
from relightgan.training.world.locating import Locator

MAX_LOCATED = 8  # held-out photos that are located; about a second of CPU time each
MAX_PATCHED = 8  # validation photos whose patches are compared
PATCH_CONTEXT = 24  # training photos that are embedded with them, as features are centred over a day
TRANSFER_PHOTOS = 48  # training photos that the simple transfer is fitted to
TRANSFER_PATCHES = 20_000  # patches that it is fitted to
PATCH_SIDE = 24  # longest side of the raster that patches are put on; photos have 7 to 10 patches along a side
FORMAT = 1  # of the stored arrays; raise it when the same photos would give others
STORED = ("photo", "exposure")  # of all photos that were located
MAPS = ("wanted", "weight", "sky")  # of each of them, with its number: `wanted-0`


def make_held_out(dataset: Dataset, direction: Direction, run: Run) -> HeldOut | None:
    """What a look of this direction is measured on; None for recipes that learn nothing about places.

    Raises:
        PhotoError: a photo can't be read.
        TrainingError: the run folder can't be written.
        Cancelled: a stop was asked for; what is done is kept.
    """
    if not run.config.recipe.needs_gains:
        return None
    day, _ = along(direction, (dataset.source, dataset.target))
    if dataset.guides(direction) and dataset.guidance is not None:
        maps = dataset.guidance.maps[direction]
        learned = mapped_photos(day.training_bank, maps)
        unseen = located_photos(dataset, direction, day, run)
        return HeldOut(direction, unseen or learned, "guidance", bool(unseen), transfer_of(learned))
    gains = dataset.gains.get(direction)
    if gains is None or len(gains) == 0:
        return None
    some = np.random.default_rng(0).permutation(len(gains))[:TRANSFER_PATCHES]
    own = to_stops(gains.plate[some])
    transfer = fit_transfer(own, own + gains.gain[some], gains.weight[some])
    unseen = patched_photos(dataset, direction, day, run)
    learned = unseen or photos_with_gains(day.training_bank, gains, evenly(day.train, MAX_PATCHED))
    return HeldOut(direction, learned, "patches", bool(unseen), transfer) if learned else None


def mapped_photos(bank: Images, maps: GuidanceMaps) -> list[HeldOutPhoto]:
    """Some training photos with their guidance, evenly spread."""
    return [
        HeldOutPhoto(
            reduced(bank[int(maps.photo[row])]),
            maps.colour[row].astype(np.float32),
            maps.weight[row].astype(np.float32),
        )
        for row in evenly(len(maps), TRANSFER_PHOTOS)
    ]


def located_photos(dataset: Dataset, direction: Direction, day: DayPhotos, run: Run) -> list[HeldOutPhoto]:
    """Held-out photos of a day that can be located, with guidance; kept in the run folder."""
    assert dataset.registration is not None  # guided fits are registered
    kept = [photo for split in ("val", "test") for photo in day.index.kept(split)]
    photos = [kept[row] for row in evenly(len(kept), MAX_LOCATED)]
    if not photos:
        return []
    prepared = run.stage("prepared")
    bank = prepare_photos(photos, prepared.folder, run.config.photo_px, "none", run.stop.check)
    settings = [to_dict(part) for part in (run.config.registration, run.config.matching, run.config.guidance)]
    ids = content_ids(bank, run.config.photo_px)
    key = digest([FORMAT, dataset.key, direction, ids, run.config.seed, settings])
    path = run.stage("held_out").folder / f"located-{direction}.npz"
    arrays = read_arrays(path, key, STORED)
    if arrays is None or any(f"{name}-{n}" not in arrays for n in range(len(arrays["photo"])) for name in MAPS):
        with one_core():
            arrays = locate_photos(dataset, direction, bank, photos, run)
        write_arrays(path, key, arrays)
    found = []
    for number, (photo, exposure) in enumerate(zip(arrays["photo"].tolist(), arrays["exposure"].tolist(), strict=True)):
        wanted, weight, sky = (arrays[f"{name}-{number}"] for name in MAPS)
        bright = srgb_to_linear(reduced(bank[photo])) * np.float32(2.0**exposure)
        found.append(HeldOutPhoto(linear_to_srgb(bright), wanted.astype(np.float32), weight, sky))
    return found


def locate_photos(
    dataset: Dataset, direction: Direction, bank: PhotoBank, photos: Sequence[Photo], run: Run
) -> dict[str, np.ndarray]:
    """The guidance of photos that can be located: `photo` and `exposure` (k,), and for each `wanted-<n>`, ..."""
    config, registration = run.config, dataset.registration
    assert registration is not None
    days, number = (dataset.source, dataset.target), from_day(direction)
    banks = [day.training_bank for day in days]
    ids = [name for each in banks for name in content_ids(each, config.photo_px)]
    guide = config.guidance
    views, depths, errors = load_observers(registration, banks, ids, guide, run.stage("guidance"))
    rooms = PlateViews(
        registration, views, depths, errors, number, guide.planes, guide.neighbours, guide.looks
    )  # fmt: skip
    day = days[number]
    locator = Locator(
        registration, banks, embed_day(day, run, run.stage("pairs"))[: day.train], run.backbone, config.matching,
        config.registration.max_points, number, ~badly_placed(errors),
    )  # fmt: skip
    found: dict[str, np.ndarray] = {}
    placed: list[tuple[int, float]] = []
    with run.stage("held_out").counting(len(bank), "held-out photos located") as advance:
        for row, photo in enumerate(photos):
            picture = bank[row]
            linear = srgb_to_linear(picture)
            rows, columns = rooms.raster((picture.shape[1], picture.shape[0]))
            raster = cv2.resize(linear, (columns, rows), interpolation=cv2.INTER_AREA)
            for camera in locator.locate(np.clip(picture, 0, 1), (0.5, 0.5), photo.focal_35mm):
                judged = rooms.plate_guidance(raster, camera)
                guidance = judged.guidance
                if judged.agrees and guidance.confidence.max() > 0:
                    own = to_stops(raster * np.float32(2.0**judged.exposure))
                    wanted = np.where(guidance.clipped, CLIPPED_STOPS, own + guidance.gain)
                    name = len(placed)
                    found[f"wanted-{name}"] = wanted.astype(np.float16)
                    found[f"weight-{name}"] = guidance.confidence.astype(np.float32)
                    found[f"sky-{name}"] = ~judged.surface
                    placed.append((row, judged.exposure))
                    break
            advance(1)
    found["photo"] = np.array([row for row, _ in placed], int)
    found["exposure"] = np.array([exposure for _, exposure in placed], float)
    return found


def patched_photos(dataset: Dataset, direction: Direction, day: DayPhotos, run: Run) -> list[HeldOutPhoto]:
    """Validation photos with gains of patches that look alike; kept in the run folder."""
    held = day.train + evenly(len(day.photos) - day.train, MAX_PATCHED)
    if len(held) == 0:
        return []
    _, other = along(direction, (dataset.source, dataset.target))
    ours, theirs = along(direction, dataset.embeddings)
    stage = run.stage("held_out")
    names = [field.name for field in dataclasses.fields(GainSamples)]
    key = digest([FORMAT, dataset.key, direction, [day.photos[row].id for row in held], run.config.pairing.backbone])
    path = stage.folder / f"patches-{direction}.npz"
    rows = np.concatenate([held, evenly(day.train, PATCH_CONTEXT)])
    if (arrays := read_arrays(path, key, names)) is None:
        nearest = np.argsort(-(ours[held] @ theirs[: other.train].T), axis=1, kind="stable")[:, :PATCH_PARTNERS]
        used, places = np.unique(nearest, return_inverse=True)
        with stage.counting(len(rows) + len(used), "photos compared") as advance:
            device = str(stage.device)
            here = patch_table(run.backbone, Some(day.bank, rows), device, advance)
            there = patch_table(run.backbone, Some(other.training_bank, used), device, advance)
            partners = [*places.reshape(nearest.shape), *([np.zeros(0, int)] * (len(rows) - len(held)))]
            gains = patch_samples(here, there, partners, device)
        arrays = {name: getattr(gains, name) for name in names}
        write_arrays(path, key, arrays)
    return photos_with_gains(Some(day.bank, rows), GainSamples(*(arrays[name] for name in names)), range(len(held)))


def photos_with_gains(bank: Images, gains: GainSamples, rows: Sequence[int] | np.ndarray) -> list[HeldOutPhoto]:
    """Photos with gains of patches, each on the pixel of a raster that its middle falls on."""
    found = []
    for row in rows:
        where = gains.of(int(row))
        picture = reduced(bank[int(row)])
        scale = PATCH_SIDE / max(picture.shape[:2])
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        wanted, weight = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
        x, y = (np.minimum(gains.xy[where] * [width, height], [width - 1, height - 1])).astype(int).T
        own = to_stops(cv2.resize(srgb_to_linear(picture), (width, height), interpolation=cv2.INTER_AREA))
        wanted[y, x], weight[y, x] = own[y, x] + gains.gain[where], gains.weight[where]
        if weight.max() > 0:
            found.append(HeldOutPhoto(picture, wanted, weight))
    return found


class Some(Images):
    """Some photos of a bank, by their numbers."""

    def __init__(self, bank: Images, rows: Sequence[int] | np.ndarray) -> None:
        self.bank, self.rows = bank, [int(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        return self.bank[self.rows[index]]


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` numbers from 0, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count > 0 else np.zeros(0, int)
