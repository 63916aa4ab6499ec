"""Overview of a photo folder: its contact sheet, and its row in a table."""

import contextlib
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from relightgan.core.errors import PhotoError, PlateError
from relightgan.training.photos.bursts import SPLITS
from relightgan.training.photos.files import to_float
from relightgan.training.photos.index import Photo, PhotoIndex, by_file, load_pixels
from relightgan.training.photos.measuring import in_parallel
from relightgan.training.report.contact_sheet import Cell, contact_sheet, in_rows

THUMBNAIL_PX, COLUMNS = 176, 10  # width of a cell of the contact sheet, and cells in a row
MAX_SHOWN_KEPT, MAX_SHOWN_LEFT_OUT = 150, 50  # pictures on a sheet, evenly spread over the folder


def write_sheet(index: PhotoIndex, name: str, path: Path, workers: int) -> Path:
    """Writes the contact sheet of an index: kept photos, then those left out with their reasons; returns its path.

    Of a large folder it shows a selection, evenly spread. Files that can't be decoded are shown grey.
    """
    kept, left_out = index.kept(), index.left_out()
    shown, shown_out = evenly(kept, MAX_SHOWN_KEPT), evenly(left_out, MAX_SHOWN_LEFT_OUT)
    thumbnails = _thumbnails([*shown, *shown_out], workers)
    rows = in_rows([(next(thumbnails), photo.name) for photo in shown], COLUMNS)
    headings = {0: f"Kept: {_counted(shown, kept)}"} if shown else {}
    if shown_out:
        headings[len(rows)] = f"Left out: {_counted(shown_out, left_out)}"
    cells: list[Cell] = [(next(thumbnails), f"{reason_word(photo)} · {photo.name}") for photo in shown_out]
    splits = ", ".join(f"{split} {len(index.kept(split))}" for split in SPLITS)
    subtitle = f"{len(kept):,} of {len(index.photos):,} photos kept · {splits}"
    return contact_sheet(
        [*rows, *in_rows(cells, COLUMNS)], path, title=name, subtitle=subtitle, headings=headings, cell_px=THUMBNAIL_PX
    )


def evenly(photos: Sequence[Photo], max_count: int) -> list[Photo]:
    """All photos; or `max_count` of them, evenly spread from the first to the last."""
    if len(photos) <= max_count:
        return list(photos)
    return [photos[row] for row in np.linspace(0, len(photos) - 1, max_count).round().astype(int)]


def summary(name: str, index: PhotoIndex) -> dict[str, str]:
    """One folder's row of the table: column -> text."""
    kept = index.kept()
    sizes = Counter((photo.width, photo.height) for photo in kept)
    brightness = sorted(photo.brightness for photo in kept)
    sharpness = [photo.sharpness for photo in kept if photo.sharpness is not None]
    return {
        "folder": name,
        "photos": f"{len(index.photos):,}",
        "kept": f"{len(kept):,}",
        "left out": f"{len(index.left_out()):,}",
        "bursts": f"{len({photo.burst for photo in kept}):,}",
        "train/val/test": "/".join(str(len(index.kept(split))) for split in SPLITS),
        "size": "-"
        if not sizes
        else "{}x{}".format(*sizes.most_common(1)[0][0]) + (f" +{len(sizes) - 1}" if len(sizes) > 1 else ""),
        "brightness": f"{statistics.median(brightness):.2f}" if brightness else "-",
        "sharpness": f"{statistics.median(sharpness):.2f}" if sharpness else "-",
    }


def reason_word(photo: Photo) -> str:
    """The kind of reason why a photo was left out, such as "blurred"; "unreadable" for an unreadable file."""
    return photo.reason.partition(":")[0] if photo.width else "unreadable"


# Private implementation


def _thumbnails(photos: Sequence[Photo], workers: int) -> Iterator[np.ndarray]:
    for _, pictures in in_parallel(_thumbnails_of_file, by_file(photos), workers):
        yield from pictures


def _thumbnails_of_file(photos: Sequence[Photo]) -> list[np.ndarray]:
    pictures: list[np.ndarray] = []
    # Files that can't be decoded were reported by the index; on the sheet they are grey.
    with contextlib.suppress(PhotoError, PlateError):
        for pixels in load_pixels(photos, THUMBNAIL_PX):
            pictures.append(np.round(np.clip(to_float(pixels), 0, 1) * 255).astype(np.uint8))
    grey = np.full((THUMBNAIL_PX * 3 // 4, THUMBNAIL_PX, 3), 60, np.uint8)
    return pictures + [grey] * (len(photos) - len(pictures))


def _counted(shown: Sequence[Photo], everything: Sequence[Photo]) -> str:
    return f"{len(everything):,}" if len(shown) == len(everything) else f"{len(shown)} of {len(everything):,} shown"
