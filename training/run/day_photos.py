"""The photos of one day, ready to be learned from: indexed, shown on a contact sheet, prepared."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from relightgan.core.errors import TrainingError
from relightgan.core.text import shown
from relightgan.training.photos.bank import PhotoBank, prepare_photos
from relightgan.training.photos.index import Photo, PhotoIndex, index_photos, read_index
from relightgan.training.photos.measuring import usual_workers
from relightgan.training.photos.overview import write_sheet
from relightgan.training.run.run import Run
from relightgan.training.stage_cache import digest, read_notes, write_notes

MIN_PHOTOS = 4  # photos of a day in the training split; fewer show no set that could be learned


@dataclasses.dataclass(frozen=True)
class DayPhotos:
    """The photos of one day.

    Attributes:
        name: "source" or "target", or the name of a folder.
        index: everything found in the day's folders.
        photos: the training split first, then the validation split; the test split is left out.
        train: number of photos in the training split.
        bank: the same photos, prepared.
        sheet: contact sheet of the folders.
    """

    name: str
    index: PhotoIndex
    photos: tuple[Photo, ...]
    train: int
    bank: PhotoBank
    sheet: Path

    @property
    def training_photos(self) -> tuple[Photo, ...]:
        """The photos of the training split."""
        return self.photos[: self.train]

    @property
    def training_bank(self) -> PhotoBank:
        """The prepared photos of the training split."""
        return PhotoBank(self.training_photos, self.bank.paths[: self.train])


def make_day(name: str, folders: Sequence[Path], run: Run) -> DayPhotos:
    """The photos of one day: indexed, shown on a contact sheet, and prepared.

    Args:
        name: "source" or "target".
        folders: searched for photos and movies.
        run: keeps the index, the sheet and the prepared photos.

    Raises:
        PhotoError: a folder can't be used.
        TrainingError: there are fewer photos than can be learned from.
        Cancelled: a stop was asked for; what is done is kept.
    """
    stage = run.stage(f"photos/{name}")
    index = index_photos(folders, run.config.photos, stage.folder, stage.style, run.stop.check)
    train = index.kept("train")
    counts = f"{len(index.photos):,} found, {len(index.left_out()):,} left out, {len(train):,} to learn from"
    run.log.say(f"The {name} photos: {counts}.")
    if len(train) < MIN_PHOTOS:
        raise TrainingError(
            f"Only {len(train)} photos of {', '.join(map(str, folders))} can be learned from, not {MIN_PHOTOS}.",
            "See why with `relightgan photos`, or give more photos.",
        )
    sheet = stage.folder / "contact_sheet.jpg"
    key = digest([photo.id + photo.status + photo.split for photo in index.photos])
    if not (sheet.exists() and read_notes(stage.folder / "sheet.json").get("key") == key):
        title = ", ".join(shown(folder.resolve().name) for folder in folders)
        write_sheet(index, title, sheet, usual_workers())
        write_notes(stage.folder / "sheet.json", {"key": key})
    run.stop.check()
    return prepare_day(name, index, sheet, run)


def read_day(name: str, run: Run) -> DayPhotos:
    """The photos of one day of a finished run, from its folder; photos are prepared again where that is needed.

    Raises:
        PhotoError: the index or a photo is missing.
        Cancelled: a stop was asked for; what is done is kept.
    """
    folder = run.folder / "photos" / name
    return prepare_day(name, read_index(folder / "index.json"), folder / "contact_sheet.jpg", run)


def prepare_day(name: str, index: PhotoIndex, sheet: Path, run: Run) -> DayPhotos:
    """The photos that an index keeps for training and validation, prepared; see `DayPhotos` for the arguments."""
    train, val = index.kept("train"), index.kept("val")
    photos = (*train, *val)
    stage = run.stage("prepared")
    bank = prepare_photos(photos, stage.folder, run.config.photo_px, stage.style, run.stop.check)
    return DayPhotos(name, index, photos, len(train), bank, sheet)


def warn_of_shared(source: DayPhotos, target: DayPhotos, say: Callable[[str], None]) -> None:
    """Says where a photo belongs to both days: it can't show both lights.

    Raises:
        TrainingError: most photos do, so there is no change of light to learn.
    """
    ids = {photo.id for photo in source.photos}
    shared = [photo for photo in target.photos if photo.id in ids]
    if not shared:
        return
    problem = f"{len(shared)} photos are both source and target, {shared[0].path} for one."
    if 2 * len(shared) > min(len(source.photos), len(target.photos)):
        raise TrainingError(problem, "Give folders of two different lights.")
    say(f"Warning: {problem}")


def content_ids(bank: PhotoBank, photo_px: int) -> list[str]:
    """A name for the content of each prepared photo; what is kept of a photo is made again where its name differs."""
    return [f"{photo.id} {photo_px}" for photo in bank.photos]
