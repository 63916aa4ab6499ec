"""Prepared photos: each decoded once into a small file, which is memory-mapped when it is read."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from relightgan.core.errors import PhotoError
from relightgan.core.files import open_folder, write_whole
from relightgan.core.progress import progress as show_progress
from relightgan.training.photos.files import to_float
from relightgan.training.photos.index import Photo, by_file, load_pixels
from relightgan.training.photos.measuring import MEASURES_FORMAT, in_parallel, usual_workers
from relightgan.training.stored_arrays import DamagedFile, map_npy

STORED_TYPES = (np.dtype(np.uint8), np.dtype(np.float16))
Images = Sequence[np.ndarray]
"""Photos, each (H, W, 3) float32, srgb_log in Rec.709 primaries: 0..1, or above 1 from scene-linear files."""


class PhotoBank(Images):
    """Prepared photos as a sequence of images, each read from disk at every access.

    `bank[n]` is (H, W, 3) float32, srgb_log in Rec.709 primaries: 0..1, or above 1 from scene-linear files.

    Args:
        photos: in the order of the bank.
        paths: the prepared file of each photo.
    """

    def __init__(self, photos: Sequence[Photo], paths: Sequence[Path]) -> None:
        self.photos = tuple(photos)
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.photos)

    def pixels(self, index: int) -> np.ndarray:
        """(H, W, 3) as stored, memory-mapped and read-only: uint8, or float16 for photos of more than 8 bits.

        Crop before converting to float: then only the crop is read from disk.

        Raises:
            PhotoError: the prepared file is missing or damaged.
        """
        path, fix = self.paths[index], "Delete its folder and start again."
        try:
            mapped = map_npy(path)
        except OSError as error:
            raise PhotoError(f"{path} can't be read: {error.strerror}.", fix) from error
        except DamagedFile as error:
            raise PhotoError(f"{path} can't be read: {error}.", fix) from error
        if mapped.ndim != 3 or mapped.shape[2] != 3 or mapped.size == 0 or mapped.dtype not in STORED_TYPES:
            raise PhotoError(f"{path} can't be read: it holds no picture.", fix)
        return mapped

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        return to_float(self.pixels(index))


def prepare_photos(
    photos: Sequence[Photo],
    cache_dir: Path,
    max_side: int,
    progress: str = "none",
    check: Callable[[], None] = lambda: None,
    workers: int | None = None,
) -> PhotoBank:
    """A bank of these photos; photos that were prepared before are not decoded again.

    The name of a prepared file holds the hash of the photo's content, so it can't be out of date.

    Args:
        photos: kept photos of an index.
        cache_dir: created if absent, in a folder that is there; holds one folder for each size.
        max_side: longest side, px; smaller photos keep their size.
        progress: style, see `core.progress`.
        check: called between photos, from several threads; may raise to stop.
        workers: number of threads that decode; None for `usual_workers()`.

    Raises:
        PhotoError: a photo is missing since it was indexed, or the cache can't be written.
    """
    folder = cache_dir / f"{max_side}px-{MEASURES_FORMAT}"
    paths = [folder / f"{photo.id}.npy" for photo in photos]

    def explain(error: OSError) -> PhotoError:
        return PhotoError(f"{folder} can't be made: {error.strerror}.", "Give another run folder.")

    open_folder(folder, explain, within=cache_dir.parent)
    try:
        there = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise PhotoError(f"{folder} can't be read: {error.strerror}.", "Check its rights.") from error
    wanted = [photo for photo, path in zip(photos, paths, strict=True) if path.name not in there]

    def prepare(group: Sequence[Photo]) -> None:
        for photo, pixels in zip(group, load_pixels(group, max_side), strict=True):
            _write(pixels, folder / f"{photo.id}.npy")
            check()

    with show_progress(len(wanted), "photos prepared", progress) as shown:
        for group, _ in in_parallel(prepare, by_file(wanted), workers or usual_workers()):
            shown.advance(len(group))
            check()
    return PhotoBank(photos, paths)


# Private implementation


def _write(pixels: np.ndarray, path: Path) -> None:
    small = pixels if pixels.dtype == np.uint8 else np.clip(pixels, -65504, 65504).astype(np.float16)

    def explain(error: OSError) -> PhotoError:
        problem = f"{path} can't be written: {error.strerror or error}."
        return PhotoError(problem, "Free some space, or give another run folder.")

    file = io.BytesIO()  # into memory first: NumPy doesn't notice where a full disk takes only a part of it
    np.save(file, np.ascontiguousarray(small), allow_pickle=False)
    write_whole(path, file.getbuffer(), explain)
