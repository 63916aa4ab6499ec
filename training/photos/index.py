"""The index of a photo folder: its photos, those left out with a reason, bursts, and the train/validation/test split.

    files -> measures (stored) -> kept or left out -> bursts -> split

Only the first step opens files. The others take a second for 12,000 photos, so changed settings cause no new decoding.
"""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relightgan.core.errors import ConfigError, PhotoError
from relightgan.core.files import open_folder
from relightgan.core.progress import progress as show_progress
from relightgan.core.regular import read_regular
from relightgan.core.text import json_text, shown
from relightgan.training.photos.bursts import SPLITS, find_bursts, split_bursts
from relightgan.training.photos.checks import SIGNATURE_BYTES, blur_limit, faults, find_copies
from relightgan.training.photos.files import decode_photo, find_photo_files, fit_inside, is_movie_file, to_float
from relightgan.training.photos.measuring import (
    Measured,
    measure_files,
    not_written,
    read_frames,
    usual_workers,
    write_text,
)
from relightgan.training.photos.moments import moment_reasons
from relightgan.training.stored_json import MAX_NOTES_BYTES, Kinds, parse_json, typed, typed_value

KEPT, LEFT_OUT = "kept", "left out"
INDEX_FORMAT = 1
PHOTO_ID = re.compile(r"([0-9a-f]{1,64}(f[0-9]{6,9})?)?")  # as of `_identity`; empty for an unreadable file
# What the values of a photo are in a stored index.
PHOTO_TYPES: dict[str, Kinds] = {
    "id": str, "path": str, "frame": (int, None), "width": int, "height": int, "taken": (str, None),
    "focal_35mm": (float, None), "sharpness": (float, None), "brightness": float, "status": str, "reason": str,
    "burst": int, "split": str, "profile": str,
}  # fmt: skip


@dataclass(frozen=True)
class PhotoSettings:
    """Which photos are kept, and how they are split.

    Raises:
        ConfigError: a value makes no sense.
    """

    seed: int = 0  # random seed of the split and of the frames taken from movies
    movie_frames: int = 60  # number of frames taken from each movie, at random over its whole length
    min_side_px: int = 64  # photos with a shorter side are left out
    wasted_share: float = 0.97  # share of black or of blown-out pixels from which a photo is left out, 0 to 1
    blur_px: float = 1.1  # blur that is always accepted: standard deviation, px of a copy 640 px long
    # A photo more than this many times as blurred as the folder's sharper quarter is left out; 0 keeps any blur.
    blur_ratio: float = 2.0
    near_duplicates: float = 1.0  # tolerance: 0 keeps near-duplicates, 1 drops re-saved photos and still bursts
    burst_gap_s: float = 1.5  # photos taken within this many seconds of each other are one burst
    val_share: float = 0.1  # share of the kept photos used for validation
    test_share: float = 0.1  # share of the kept photos set aside for the final measurement

    def __post_init__(self) -> None:
        for name, lowest in (("seed", 0), ("movie_frames", 1), ("min_side_px", 1)):
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {lowest}.")
        for name in ("blur_px", "blur_ratio", "near_duplicates", "burst_gap_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "Give 0 or more.")
        for name in ("wasted_share", "val_share", "test_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "Give a value from 0 to 1.")
        if self.val_share + self.test_share >= 1.0:
            both = f"val_share is {self.val_share} and test_share {self.test_share}"
            raise ConfigError(f"{both}: no photo would be left to train on.", "Give shares that add up to less than 1.")


@dataclass(frozen=True)
class Photo:
    """One picture: a file, or a frame of a movie."""

    id: str  # hash of the file's content, and the frame; independent of the path
    path: Path  # absolute
    frame: int | None  # number of the frame in its movie, from 0; None for a still
    width: int  # px, upright; 0 for an unreadable file
    height: int  # px
    taken: str | None  # ISO 8601, camera time
    focal_35mm: float | None  # mm, 35 mm equivalent
    sharpness: float | None  # 1 / (1 + blur in px of a copy 640 px long); None with too few edges
    brightness: float  # mean luma, sRGB-encoded, 0..1; may be above 1 for scene-linear files
    status: str  # KEPT or LEFT_OUT
    reason: str  # why the photo was left out; empty where kept
    burst: int  # number of the burst, which is kept whole in the split; -1 where left out
    split: str  # "train", "val" or "test"; empty where left out
    profile: str  # colour space of the file, and whether it was embedded or assumed

    @property
    def name(self) -> str:
        """File name, fit to be printed, and the frame of a movie."""
        name = shown(self.path.name)
        return name if self.frame is None else f"{name} frame {self.frame}"


@dataclass(frozen=True)
class PhotoIndex:
    """The photos of one or more folders."""

    folders: tuple[Path, ...]
    photos: tuple[Photo, ...]  # in the order of path and frame
    others: dict[str, int]  # suffix -> number of files with other suffixes, which are ignored

    def kept(self, split: str | None = None) -> list[Photo]:
        """The kept photos, of one split ("train", "val" or "test") or of all."""
        return [photo for photo in self.photos if photo.status == KEPT and split in (None, photo.split)]

    def left_out(self) -> list[Photo]:
        """The photos that were left out, each with its reason."""
        return [photo for photo in self.photos if photo.status == LEFT_OUT]


def index_photos(
    folders: Sequence[Path],
    settings: PhotoSettings,
    cache: Path,
    progress: str = "none",
    check: Callable[[], None] = lambda: None,
    workers: int | None = None,
) -> PhotoIndex:
    """The index of the photos in some folders, which is also written to `cache`/index.json.

    Files that haven't changed since the last time are not opened again. Damaged files are left out with a reason.

    Args:
        folders: searched with their subfolders.
        settings: of the choice and the split.
        cache: folder for index.json and measures.json, made in one that is there. Each index needs its own.
        progress: style, see `core.progress`.
        check: called between files; may raise to stop. Measures taken until then are stored.
        workers: number of threads that decode; None for `usual_workers()`.

    Raises:
        PhotoError: a folder doesn't exist or holds no photo files, or the cache can't be written.
    """
    roots = tuple(Path(os.path.abspath(folder)) for folder in folders)  # noqa: PTH100 - links in the path are kept
    paths, others = _find(roots)
    open_folder(cache, functools.partial(not_written, cache), within=cache.parent)
    with show_progress(len(paths), "photos", progress) as shown:
        measured = measure_files(
            paths,
            settings.movie_frames,
            settings.seed,
            cache / "measures.json",
            shown.advance,
            check,
            workers or usual_workers(),
        )
    reasons = judge(measured, settings)
    index = PhotoIndex(roots, _photos(measured, reasons, settings), others)
    write_index(index, settings, cache / "index.json")
    return index


def judge(measured: Sequence[Measured], settings: PhotoSettings) -> list[str]:
    """The reason why each picture is left out; empty for kept ones.

    Of photos of one moment, one is kept (`moments`). Of near-duplicates, the one with the most pixels is kept, then the
    sharper one, then the first by name.
    """
    reasons = [one.problem for one in measured]
    for row, one in enumerate(measured):
        if one.measures is not None:
            reasons[row] = faults(one.measures, one.width, one.height, settings.min_side_px, settings.wasted_share)
    for row, reason in moment_reasons(measured, reasons).items():
        reasons[row] = reason
    good = [row for row, reason in enumerate(reasons) if not reason]
    order = sorted(good, key=lambda row: (-measured[row].width * measured[row].height, _blur(measured[row]), row))
    first_of: dict[tuple[str, int | None], int] = {}
    for row in order:
        key = (measured[row].digest, measured[row].frame)
        if first_of.setdefault(key, row) != row:
            reasons[row] = f"duplicate: the same file as {measured[first_of[key]].name}"
    if settings.blur_ratio > 0:
        blurs = [known.blur_px for row in good if (known := measured[row].measures) is not None]
        limit = blur_limit(blurs, settings.blur_px, settings.blur_ratio)
        for row in good:
            blur = _blur(measured[row])
            if not reasons[row] and blur > limit:
                reasons[row] = f"blurred: by {blur:.1f} px in a copy of 640 px; the limit in this folder is {limit:.1f}"
    order = [row for row in order if not reasons[row]]
    for row, kept in find_copies(_signatures(measured), order, settings.near_duplicates).items():
        reasons[row] = f"near-duplicate: hardly differs from {measured[kept].name}"
    return reasons


def load_photo(photo: Photo, max_side: int) -> np.ndarray:
    """The picture of a photo, upright.

    Args:
        photo: from an index.
        max_side: longest side, px; smaller photos keep their size.

    Returns:
        (H, W, 3) float32, srgb_log in Rec.709 primaries: 0..1, or above 1 from scene-linear files.

    Raises:
        PhotoError: the file is missing or has changed since it was indexed.
        PlateError: a movie can't be read.
    """
    return to_float(next(load_pixels([photo], max_side)))


def load_pixels(photos: Sequence[Photo], max_side: int) -> Iterator[np.ndarray]:
    """The pictures of one file, as of `load_photo` but uint8 for files of 8 bits; a movie is opened only once.

    Args:
        photos: one still, or frames of one movie, ascending.
        max_side: longest side, px.
    """
    path = photos[0].path
    if not is_movie_file(path):
        for _ in photos:
            yield decode_photo(path, max_side).rgb
        return
    for rgb in read_frames(path, [photo.frame or 0 for photo in photos]):
        yield fit_inside(rgb, max_side)


def by_file(photos: Sequence[Photo]) -> list[list[Photo]]:
    """The photos in groups for `load_pixels`: consecutive frames of one movie together, each still alone."""
    groups: list[list[Photo]] = []
    for photo in photos:
        if photo.frame is not None and groups and groups[-1][0].path == photo.path:
            groups[-1].append(photo)
        else:
            groups.append([photo])
    return groups


def write_index(index: PhotoIndex, settings: PhotoSettings, path: Path) -> None:
    """Writes an index as JSON, one photo per line; a name that is no UTF-8 is spelt so that it reads back the same."""
    head = {
        "format": INDEX_FORMAT,
        "settings": dataclasses.asdict(settings),
        "folders": [str(folder) for folder in index.folders],
        "others": index.others,
    }
    lines = [_json_line({**dataclasses.asdict(photo), "path": str(photo.path)}) for photo in index.photos]
    body = ",\n  ".join(lines)
    write_text(path, f'{_json_line(head)[:-1]},\n "photos": [\n  {body}\n]}}\n')


def read_index(path: Path) -> PhotoIndex:
    """The index in a file.

    Raises:
        PhotoError: missing, damaged, or of another format.
    """
    try:
        content = parse_json(read_regular(path, MAX_NOTES_BYTES))
    except OSError as error:
        raise PhotoError(f"{path} is no photo index: {error.strerror}.", "Index the folder again.") from error
    except ValueError as error:
        raise PhotoError(f"{path} is no photo index: {error}.", "Index the folder again.") from error
    if isinstance(content, dict) and content.get("format", INDEX_FORMAT) != INDEX_FORMAT:
        problem = f"{path} is index format {shown(content['format'])}; this version reads {INDEX_FORMAT}."
        raise PhotoError(problem, "Index again.")
    try:
        return _index_of(content)
    except (ValueError, TypeError) as error:
        problem = f"{path} is no photo index: '{shown(error)}' is missing or of another kind."
        raise PhotoError(problem, "Index the folder again.") from error


# Private implementation


def _json_line(values: dict[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False)
    # Looking at each letter takes long for thousands of photos; hardly a name has a letter that can't be stored.
    return text if text.isprintable() else json_text(values)


def _index_of(content: Any) -> PhotoIndex:
    """Raises TypeError or ValueError with the name of what is missing or of another kind."""
    photos = tuple(_photo_of(values) for values in typed(content, "photos", list))
    folders = tuple(Path(typed_value(folder, "folders", str)) for folder in typed(content, "folders", list))
    others = typed(content, "others", dict)
    for suffix, count in others.items():
        typed_value(count, suffix, int)
    return PhotoIndex(folders, photos, others)


def _photo_of(values: Any) -> Photo:
    found = {name: typed(values, name, kinds) for name, kinds in PHOTO_TYPES.items()}
    if not PHOTO_ID.fullmatch(found["id"]):  # it becomes the name of a file
        raise ValueError("id")
    if found["status"] not in (KEPT, LEFT_OUT) or found["split"] not in ("", *SPLITS):
        raise ValueError("status")
    if min(found["width"], found["height"], found["frame"] or 0) < 0:
        raise ValueError("width")
    return Photo(**{**found, "path": Path(found["path"])})


def _find(roots: tuple[Path, ...]) -> tuple[list[Path], dict[str, int]]:
    paths: dict[Path, None] = {}
    others: dict[str, int] = {}
    for root in roots:
        found = find_photo_files(root)
        if not found.photos:
            seen = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in found.others.items())
            raise PhotoError(
                f"{root} has no photos in it{f', only other files ({seen})' if seen else ''}.", "Give another folder."
            )
        paths |= dict.fromkeys(found.photos)  # one folder may contain another
        for suffix, count in found.others.items():
            others[suffix] = others.get(suffix, 0) + count
    return list(paths), others


def _photos(measured: Sequence[Measured], reasons: Sequence[str], settings: PhotoSettings) -> tuple[Photo, ...]:
    kept = [row for row, reason in enumerate(reasons) if not reason]
    # Bursts are found among all readable pictures: one that is left out may connect two that are kept.
    readable = [row for row, one in enumerate(measured) if one.measures is not None]
    numbers = find_bursts(
        [measured[row] for row in readable], _signatures([measured[row] for row in readable]), settings.burst_gap_s
    )
    burst_of = dict(zip(readable, numbers, strict=True))
    ids = [_identity(one) for one in measured]
    numbers, splits = split_bursts(
        [burst_of[row] for row in kept],
        [ids[row] for row in kept],
        settings.seed,
        settings.val_share,
        settings.test_share,
    )
    placed = dict(zip(kept, zip(numbers, splits, strict=True), strict=True))
    photos = []
    for row, (one, reason) in enumerate(zip(measured, reasons, strict=True)):
        burst, split = placed.get(row, (-1, ""))
        blur = one.measures.blur_px if one.measures else None
        photos.append(
            Photo(
                id=ids[row],
                path=one.path,
                frame=one.frame,
                width=one.width,
                height=one.height,
                taken=one.taken,
                focal_35mm=one.focal_35mm,
                sharpness=None if blur is None else round(1 / (1 + blur), 3),
                brightness=one.measures.brightness if one.measures else 0.0,
                status=LEFT_OUT if reason else KEPT,
                reason=reason,
                burst=burst,
                split=split,
                profile=one.profile,
            )
        )
    return tuple(photos)


def _identity(one: Measured) -> str:
    return one.digest if one.frame is None else f"{one.digest}f{one.frame:06d}"


def _blur(one: Measured) -> float:
    return 0.0 if one.measures is None or one.measures.blur_px is None else one.measures.blur_px


def _signatures(measured: Sequence[Measured]) -> np.ndarray:
    rows = np.zeros((len(measured), SIGNATURE_BYTES), np.uint8)
    for row, one in enumerate(measured):
        if one.measures is not None:
            rows[row] = np.frombuffer(one.measures.signature, np.uint8)
    return rows
