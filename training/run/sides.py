"""The photos of one light, ready to be learned from: indexed, shown on a sheet, prepared."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from relightgan.core.errors import TrainingError
from relightgan.core.progress import Cancellation
from relightgan.training.photos.bank import PhotoBank, prepare_photos
from relightgan.training.photos.index import Photo, PhotoIndex, index_photos
from relightgan.training.photos.measuring import usual_workers
from relightgan.training.photos.overview import write_sheet
from relightgan.training.run.config import RunConfig
from relightgan.training.stage_cache import digest, read_notes, write_notes

SIDES = ("source", "target")
FEWEST_PHOTOS = 4  # on each side; below this there is no set to learn


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


def training_bank(side: Side) -> PhotoBank:
    """The training photos of a side alone."""
    return PhotoBank(side.bank.photos[: side.train], side.bank.paths[: side.train])


def content_ids(bank: PhotoBank, config: RunConfig) -> list[str]:
    """Names of what prepared photos hold: what is kept of them is made again where these differ."""
    return [f"{photo.id} {config.photo_px}" for photo in bank.photos]
