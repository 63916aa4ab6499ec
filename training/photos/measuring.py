"""Measures photo files in parallel, each once: measures are stored for later runs. Damaged files give a problem."""

import base64
import dataclasses
import functools
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from relightgan.core.errors import PhotoError, PlateError
from relightgan.core.files import write_whole
from relightgan.core.movies import MovieReader
from relightgan.core.regular import open_regular, read_regular
from relightgan.core.text import printable, shown
from relightgan.training.photos.camera_raw import PACKAGE_FIX
from relightgan.training.photos.checks import MEASURE_SIDE, SIGNATURE_BYTES, Measures, measure_photo
from relightgan.training.photos.files import HEIF_SUFFIXES, JPEG_SUFFIXES, decode_photo, is_movie_file
from relightgan.training.photos.profiles import coded_to_srgb
from relightgan.training.stored_json import MAX_NOTES_BYTES, Kinds, parse_json, typed

MEASURES_FORMAT = 2
"""Version of the stored measures. Raise it when decoding or measuring changes; stored measures are then discarded."""
# What is stored of each picture, and what of its measures.
STORED: dict[str, Kinds] = {
    "frame": (int, None), "digest": str, "width": int, "height": int, "profile": str, "taken": (str, None),
    "focal_35mm": (float, None), "exposure": (float, None), "camera": str, "measures": (dict, None), "problem": str,
}  # fmt: skip
STORED_MEASURES: dict[str, Kinds] = {
    "blur_px": (float, None), "brightness": float, "clipped": float, "dark": float, "spread": float, "signature": str,
}  # fmt: skip
MOVING_SUFFIXES = JPEG_SUFFIXES | HEIF_SUFFIXES  # of photos that phones put a movie of the same moment beside
LIVE_S = 10  # longest length of such a movie, seconds; Apple's have three
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Measured:
    """The measures of one picture of a file, or the problem with it."""

    path: Path
    frame: int | None = None  # number of the frame in its movie, from 0; None for a still
    digest: str = ""  # hash of the file's content, see `digest_of`
    width: int = 0  # px, upright
    height: int = 0
    profile: str = ""
    taken: str | None = None  # ISO 8601
    focal_35mm: float | None = None  # mm, 35 mm equivalent
    exposure: float | None = None  # stops, from EXIF, see `exif.CameraFacts`
    camera: str = ""  # which one, from EXIF
    measures: Measures | None = None
    problem: str = ""  # why there are no measures

    @property
    def name(self) -> str:
        """File name, fit to be printed, and the frame of a movie."""
        name = shown(self.path.name)
        return name if self.frame is None else f"{name} frame {self.frame}"


def measure_files(
    paths: Sequence[Path],
    movie_frames: int,
    seed: int,
    store: Path,
    advance: Callable[[int], None],
    check: Callable[[], None],
    workers: int,
) -> list[Measured]:
    """The measures of all files, in the order of the paths; only new and changed files are opened.

    A file is unchanged if its size and modification time are; for a movie, seed, number of frames and the photo it may
    belong to must be unchanged, too. A file for which a decoder was missing is opened again. Measures taken before a
    stop are stored.

    Args:
        paths: photos and movies.
        movie_frames: number of frames to take from a movie.
        seed: of the choice of frames.
        store: JSON file that stores the measures.
        advance: called with 1 after each file.
        check: called between files; may raise to stop.
        workers: number of threads that decode.
    """
    before = read_store(store)
    done: dict[str, dict[str, Any]] = {}
    stills: dict[tuple[Path, str], str] = {}  # folder and stem -> name of a readable photo that may have moved
    fresh = 0

    def measure(path: Path) -> tuple[dict[str, Any], bool]:
        still = stills.get((path.parent, path.stem.lower()), "") if is_movie_file(path) else ""
        state = _state_of(path, [movie_frames, seed, still])
        known = before.get(str(path))
        if known is not None and state is not None and known["state"] == state:
            return known, False
        pictures = measure_file(path, movie_frames, seed, still)
        if any(PACKAGE_FIX in one.problem for one in pictures):
            state = None
        return {"state": state, "pictures": [_to_json(one) for one in pictures]}, True

    try:
        # Movies last: then it is known which of them belong to a photo.
        for group in ([p for p in paths if not is_movie_file(p)], [p for p in paths if is_movie_file(p)]):
            for path, (entry, is_new) in in_parallel(measure, group, workers):
                done[str(path)] = entry
                fresh += is_new
                if path.suffix.lower() in MOVING_SUFFIXES and not any(one["problem"] for one in entry["pictures"]):
                    stills[path.parent, path.stem.lower()] = path.name
                advance(1)
                check()
    finally:
        if fresh or set(done) != set(before):
            # After a stop, files that were not reached keep their stored measures.
            reached = done if len(done) == len(paths) else before | done
            write_store(store, reached)
    return [one for path in paths for one in measured_of(path, done[str(path)])]


def measure_file(path: Path, movie_frames: int, seed: int, still: str = "") -> list[Measured]:
    """The measures of the picture in a file, or of some frames of a movie; or the problem of an unusable file.

    Args:
        path: of the file.
        movie_frames: number of frames to take from a movie.
        seed: of the choice of frames.
        still: name of a photo of the same stem beside a movie: a short movie is taken for the moving part of it.
    """
    try:
        if is_movie_file(path):
            return _measure_movie(path, movie_frames, seed, still)
        decoded = decode_photo(path, MEASURE_SIDE)
        return [
            Measured(
                path=path,
                digest=digest_of(path),
                width=decoded.width,
                height=decoded.height,
                profile=decoded.profile,
                taken=decoded.taken,
                focal_35mm=decoded.focal_35mm,
                exposure=decoded.exposure,
                camera=decoded.camera,
                measures=measure_photo(decoded.rgb, decoded.is_hdr),
            )
        ]
    except (PhotoError, PlateError) as error:
        return [Measured(path, problem=_without_name(error.problem, path))]
    except OSError as error:  # deleted or locked since it was listed
        return [Measured(path, problem=f"can't be read: {error.strerror}")]


def sample_frames(count: int, wanted: int, seed: int, name: str) -> list[int]:
    """Random frames of a movie, ascending: one from each of `wanted` equal parts of its length.

    Args:
        count: number of frames in the movie.
        wanted: number of frames to take; a shorter movie gives all.
        seed: of the choice.
        name: file name of the movie; movies of one length but different names give different frames.
    """
    if wanted >= count:
        return list(range(count))
    rng = np.random.default_rng([seed, int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=4).digest())])
    bounds = [round(part * count / wanted) for part in range(wanted + 1)]
    return [int(rng.integers(start, end)) for start, end in pairwise(bounds)]


def read_frames(path: Path, frames: Sequence[int]) -> Iterator[np.ndarray]:
    """These frames of a movie, each (H, W, 3) uint8 sRGB, or float32 srgb_log of HDR.

    Raises:
        PlateError: the movie or a frame can't be read.
    """
    with _open_movie(path) as movie:
        for frame in frames:
            yield _read_frame(movie, frame)


def digest_of(path: Path) -> str:
    """BLAKE2b of a file's content, 16 hex digits; for a movie, of its size, first MiB and last MiB."""
    with open_regular(path) as file:
        if not is_movie_file(path):
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
        size = os.fstat(file.fileno()).st_size
        head = file.read(1 << 20)
        file.seek(max(0, size - (1 << 20)))
        return hashlib.blake2b(str(size).encode() + head + file.read(1 << 20), digest_size=8).hexdigest()


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    """(item, result) in the order of the items, computed by threads that run at most 4 items per worker ahead.

    Decoders release the GIL, so threads are enough. Few results are in memory at a time.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="photos") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) >= 4 * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def usual_workers() -> int:
    """The number of threads that decode: the usable cores, at most 8, because each thread holds a whole picture."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all, in a folder that is there.

    Raises:
        PhotoError: the file can't be written.
    """
    write_whole(path, text, functools.partial(not_written, path))


def not_written(path: Path, error: OSError) -> PhotoError:
    """The error for a file or folder about photos that can't be written, see `core.files.replacing`."""
    return PhotoError(f"{path} can't be written: {error.strerror}.", "Give another output folder, or free some space.")


def read_store(store: Path) -> dict[str, dict[str, Any]]:
    """The stored entry of each file, by absolute path; none that is missing, damaged or of another format."""
    try:
        content = parse_json(read_regular(store, MAX_NOTES_BYTES))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("format") != MEASURES_FORMAT:
        return {}
    files = content.get("files")
    return {path: entry for path, entry in files.items() if _is_whole(entry)} if isinstance(files, dict) else {}


def measured_of(path: Path, entry: dict[str, Any]) -> list[Measured]:
    """The measures of a file, out of its stored entry."""
    return [_from_json(path, picture) for picture in entry["pictures"]]


def write_store(store: Path, files: dict[str, dict[str, Any]]) -> None:
    """Stores the entries of files; see `write_text`."""
    write_text(store, json.dumps({"format": MEASURES_FORMAT, "files": files}, separators=(",", ":")))


# Private implementation


def _state_of(path: Path, sampling: list[int | str]) -> list[int | str] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, *(sampling if is_movie_file(path) else [])]


def _measure_movie(path: Path, wanted: int, seed: int, still: str) -> list[Measured]:
    digest = digest_of(path)
    found = []
    with _open_movie(path) as movie:
        across, down = movie.size
        if still and movie.frame_count <= LIVE_S * movie.fps:
            return [Measured(path, 0, digest, across, down, problem=f"live photo: {shown(still)} shows its moment")]
        profile = f"movie, {'sRGB (assumed)' if movie.coding.is_srgb else movie.coding.name}"
        for frame in sample_frames(movie.frame_count, wanted, seed, path.name):
            try:
                rgb = _read_frame(movie, frame)
            except PlateError as error:  # the rest of a damaged movie may be readable
                found.append(Measured(path, frame, digest, problem=_without_name(error.problem, path)))
                continue
            height, width = rgb.shape[:2]
            measures = measure_photo(rgb, movie.coding.is_hdr)
            found.append(Measured(path, frame, digest, width, height, profile, measures=measures))
    return found or [Measured(path, problem="has no frames")]


def _open_movie(path: Path) -> MovieReader:
    movie = MovieReader(path, hdr=True)
    if problem := movie.coding.problem:
        movie.close()
        raise PlateError(f"{path} can't be used: {problem}.", "Convert it to Rec.709.")
    return movie


def _read_frame(movie: MovieReader, frame: int) -> np.ndarray:
    coded = movie.read(frame)
    rgb = coded if movie.coding.is_srgb else coded_to_srgb(coded, movie.coding)[0]
    return rgb if movie.coding.is_hdr else np.round(rgb * 255).astype(np.uint8)


def _without_name(problem: str, path: Path) -> str:
    return problem.removeprefix(printable(path.name)).removeprefix(printable(str(path))).strip(" .")


def _to_json(measured: Measured) -> dict[str, Any]:
    values = {
        field.name: getattr(measured, field.name) for field in dataclasses.fields(measured) if field.name != "path"
    }
    if measured.measures is not None:
        signature = base64.b85encode(measured.measures.signature).decode()
        values["measures"] = dataclasses.asdict(measured.measures) | {"signature": signature}
    return values


def _is_whole(entry: Any) -> bool:
    """Whether a stored entry has all that was stored, each of its kind; a file with another one is measured again."""
    try:
        typed(entry, "state", (list, None))
        for picture in typed(entry, "pictures", list):
            _check_names(picture, STORED)
            if picture["measures"] is not None:
                _check_names(picture["measures"], STORED_MEASURES)
                if len(base64.b85decode(picture["measures"]["signature"])) != SIGNATURE_BYTES:
                    return False
    except (TypeError, ValueError):
        return False
    return True


def _check_names(values: Any, kinds: dict[str, Kinds]) -> None:
    for name in kinds:
        typed(values, name, kinds[name])
    if values.keys() != kinds.keys():
        raise ValueError("other names")


def _from_json(path: Path, values: dict[str, Any]) -> Measured:
    measures = values["measures"]
    if measures is not None:
        measures = Measures(**measures | {"signature": base64.b85decode(measures["signature"])})
    return Measured(path, **values | {"measures": measures})
