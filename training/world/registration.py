"""Registration: the photos of both days in one world, by structure from motion over all of them together.

Which photos are tried against each other comes from what they show (the features of content pairing), within each day
and across, so that the work grows with the number of photos and not with its square. One incremental solve takes both
days; where it doesn't join them, each day is solved alone and the two are put together by their common points.

Nothing is masked: what moves finds no matches that agree with one geometry, and falls out with the other mismatches.

Everything is kept in the run folder, matches in parts, so that a stop loses little; see `sfm` for what two runs share.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from relightgan.core.progress import Cancellation, progress
from relightgan.training.days import Numbering
from relightgan.training.pairs.pairing import centred, nearest
from relightgan.training.stage_cache import digest, read_arrays, write_arrays
from relightgan.training.world.matching import (
    MatchingSettings,
    Points,
    find_points,
    match_points,
    one_thread_each,
    rooted,
)
from relightgan.training.world.settings import RegisterSettings
from relightgan.training.world.sfm import LEAST_PHOTOS, Features, Matches, Solve, put_together, solve_cameras

PART_PAIRS = 500  # pairs of photos that are matched between two savings
ROOTED_PHOTOS = 128  # photos whose descriptors are kept ready to compare; 0.6 MB each
MAX_TRIES = 1000  # of a pair's geometry; half the usual ones, which loses 2 of 100 pairs: those with fewest matches
FORMAT = 4  # of what is kept; a new number when the same input would give something else


@dataclasses.dataclass(frozen=True)
class Day:
    """The photos of one light.

    Attributes:
        images: (H, W, 3) float32 sRGB-encoded; may be a lazy sequence.
        features: (N, C) of the content-pairing backbone.
        ids: name each photo's content.
        focals_35mm: mm, 35 mm equivalent; None where unknown.
    """

    images: Sequence[np.ndarray]
    features: np.ndarray
    ids: Sequence[str]
    focals_35mm: Sequence[float | None]


@dataclasses.dataclass(frozen=True)
class Registration:
    """The photos of both days in one world.

    Attributes:
        solve: its cameras and points. Source photos are numbered from 0, target photos from `counts[0]` on.
        places: (o, 2) float32 where each of the solve's sightings lies in its photo, 0..1.
        sizes: (n, 2) width and height of each of the solve's photos at the size its lens is given for, px.
        counts: how many source and target photos there were.
        pairs: (P, 2) photos that were tried against each other.
        verified: pairs of photos that agreed on a geometry: of source photos, of target photos, and across.
        apart: the days were solved alone and put together afterwards.
    """

    solve: Solve
    places: np.ndarray
    sizes: np.ndarray
    counts: tuple[int, int]
    pairs: np.ndarray
    verified: tuple[int, int, int]
    apart: bool

    @property
    def numbering(self) -> Numbering:
        """The one numbering for the photos of both days."""
        return Numbering(self.counts)

    @property
    def joined(self) -> tuple[int, int]:
        """How many source and target photos found their place."""
        return _count_days(self.solve, self.counts[0])

    @property
    def on_both_days(self) -> np.ndarray:
        """(p,) bool, which points are seen on both days."""
        of_target = self.solve.seen_photo >= self.counts[0]
        number = len(self.solve.points)
        first, second = (
            np.bincount(self.solve.seen_point[of_day], minlength=number) for of_day in (~of_target, of_target)
        )
        return (first > 0) & (second > 0)

    def summary(self) -> str:
        """The outcome in a sentence."""
        (a, b), solve = self.joined, self.solve
        how = ", each day alone and then put together" if self.apart else ""
        return (
            f"Registered {a:,} of {self.counts[0]:,} source and {b:,} of {self.counts[1]:,} target photos{how}: "
            f"{len(solve.points):,} points, {int(self.on_both_days.sum()):,} of them seen on both days, "
            f"reprojection error {solve.errors.mean():.2f} px."
        )


def register_days(
    source: Day,
    target: Day,
    settings: RegisterSettings,
    matching: MatchingSettings,
    seed: int,
    folder: Path,
    style: str = "none",
    stop: Cancellation | None = None,
) -> Registration | None:
    """Both days in one world; None where the photos don't allow it.

    Args:
        source: photos of the light that is relit.
        target: photos of the light that is wanted.
        settings: which photos are matched with which.
        matching: what counts as a match.
        seed: of the random choices.
        folder: keeps matches and the solve; unchanged ones are not made again.
        style: of progress, see `core.progress`.
        stop: asked between steps.

    Raises:
        TrainingError: the folder can't be written.
        Cancelled: a stop was asked for; what is done is kept.
    """
    stop = stop or Cancellation()
    days = (source, target)
    first = len(source.ids)
    chosen = [_evenly(len(day.ids), settings.max_photos) for day in days]
    if min(map(len, chosen)) < LEAST_PHOTOS:
        return None
    pairs = pairs_to_register(days, chosen, settings)
    key = digest([FORMAT, source.ids, target.ids, pairs.tolist(), settings.max_points, dataclasses.asdict(matching)])
    used = np.concatenate([chosen[0], chosen[1] + first])
    xy, sizes, matches = _matches(days, used, pairs, settings.max_points, matching, folder, key, style, stop)
    features = [
        Features(xy[n], (int(sizes[n, 0]), int(sizes[n, 1])), camera, focal)
        for n, (camera, focal) in enumerate(_lenses(days, sizes))
    ]
    key = digest([key, seed, [list(source.focals_35mm), list(target.focals_35mm)]])
    solve, apart = _solve(features, matches, first, len(used), seed, folder / "solve.npz", key, style, stop)
    if solve is None:
        return None
    places = np.array(
        [xy[n][m] / sizes[n] for n, m in zip(solve.seen_photo, solve.seen_feature, strict=True)], np.float32
    )
    verified = np.zeros(3, int)
    for one, two in matches:
        verified[2 if one < first <= two else int(one >= first)] += 1
    counts = (first, len(target.ids))
    a, b, across = (int(number) for number in verified)
    return Registration(solve, places, sizes[solve.photos], counts, pairs, (a, b, across), apart)


def pairs_to_register(days: Sequence[Day], chosen: Sequence[np.ndarray], settings: RegisterSettings) -> np.ndarray:
    """(P, 2) photos to look for common points in, first < second; target photos count on from the source's.

    Args:
        days: source and target.
        chosen: which photos of each day take part.
        settings: how many partners each has.
    """
    unit = [centred(day.features[rows]) for day, rows in zip(days, chosen, strict=True)]
    numbers = (chosen[0], chosen[1] + len(days[0].ids))
    found: set[tuple[int, int]] = set()
    for query in (0, 1):
        for other, partners in ((query, settings.partners + 1), (1 - query, settings.partners_across)):
            for row, column, _ in nearest(unit[query], unit[other], partners, -1.0):
                one, two = int(numbers[query][row]), int(numbers[other][column])
                if one != two:
                    found.add((min(one, two), max(one, two)))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


# Private implementation


def _evenly(count: int, most: int) -> np.ndarray:
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)) if count else np.zeros(0, int)
    )


def _lenses(days: Sequence[Day], sizes: np.ndarray) -> list[tuple[int, float | None]]:
    """For each photo the number of its lens and the focal length EXIF gives it.

    Photos of one day, size and focal length are taken to share a lens: many photos then decide its focal length.
    """
    numbers: dict[tuple[int, int, int, float | None], int] = {}
    lenses = []
    focals = [(which, focal) for which, day in enumerate(days) for focal in day.focals_35mm]
    for (which, focal), (width, height) in zip(focals, sizes, strict=True):
        lens = (which, int(width), int(height), focal)
        lenses.append((numbers.setdefault(lens, len(numbers)), focal))
    return lenses


def _matches(
    days: Sequence[Day],
    used: np.ndarray,
    pairs: np.ndarray,
    most: int,
    matching: MatchingSettings,
    folder: Path,
    key: str,
    style: str,
    stop: Cancellation,
) -> tuple[list[np.ndarray], np.ndarray, Matches]:
    """Features (n, 2) px and size (2,) of every photo, and matches; from the folder where they are known."""
    parts = [pairs[n : n + PART_PAIRS] for n in range(0, len(pairs), PART_PAIRS)]
    paths = [folder / f"matches-{n:03}.npz" for n in range(len(parts))]
    count = sum(len(day.ids) for day in days)
    known = [read_arrays(path, key) for path in paths]
    places = read_arrays(folder / "points.npz", key)
    if places is None or None in known:
        work = len(used) + sum(len(part) for part, had in zip(parts, known, strict=True) if had is None)
        with (
            progress(work, "steps of registering", style) as shown,
            one_thread_each(),
            ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        ):

            def done(steps: int) -> None:
                shown.advance(steps)
                stop.check()

            points = _points(days, used, most, pool, done)
            places = {
                "xy": np.concatenate([points[n].xy * np.array(points[n].size, np.float32) for n in used]),
                "lengths": np.array([len(points[n].xy) if n in points else 0 for n in range(count)]),
                "sizes": np.array([points[n].size if n in points else (0, 0) for n in range(count)]),
            }
            write_arrays(folder / "points.npz", key, places)
            for number, (part, path) in enumerate(zip(parts, paths, strict=True)):
                if known[number] is None:
                    known[number] = _match_part(points, part, matching, pool, done)
                    write_arrays(path, key, known[number] or {})
    matches = {}
    for part, arrays in zip(parts, known, strict=True):
        assert arrays is not None
        ends = np.cumsum(arrays["lengths"])
        for (one, two), rows in zip(part, np.split(arrays["rows"], ends[:-1]), strict=True):
            if len(rows):
                matches[int(one), int(two)] = rows
    return np.split(places["xy"], np.cumsum(places["lengths"])[:-1]), places["sizes"], matches


def _points(
    days: Sequence[Day],
    used: np.ndarray,
    most: int,
    pool: ThreadPoolExecutor,
    done: Callable[[int], None],
) -> dict[int, Points]:
    first = len(days[0].ids)

    def find(number: int) -> Points:
        image = days[0].images[number] if number < first else days[1].images[number - first]
        return find_points(image, most)

    points = {}
    for number, found in zip(used, pool.map(find, used), strict=True):
        points[int(number)] = found
        done(1)
    return points


def _match_part(
    points: dict[int, Points],
    part: np.ndarray,
    matching: MatchingSettings,
    pool: ThreadPoolExecutor,
    done: Callable[[int], None],
) -> dict[str, np.ndarray]:
    unit = functools.lru_cache(ROOTED_PHOTOS)(lambda photo: rooted(points[photo].descriptors))

    def match(pair: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        one, two = pair
        return match_points(points[one], points[two], matching, unit(one), unit(two), MAX_TRIES)

    rows = []
    for in_one, in_two in pool.map(match, part.tolist()):
        rows.append(np.stack([in_one, in_two], axis=1))
        done(1)
    return {
        "rows": np.concatenate([np.zeros((0, 2), np.int64), *rows]),
        "lengths": np.array([len(found) for found in rows], np.int64),
    }


def _solve(
    features: Sequence[Features],
    matches: Matches,
    first: int,
    photos: int,
    seed: int,
    path: Path,
    key: str,
    style: str,
    stop: Cancellation,
) -> tuple[Solve | None, bool]:
    """The solve that holds both days and whether the days were put together; (None, ...) where there is none."""
    names = [field.name for field in dataclasses.fields(Solve)]
    if (known := read_arrays(path, key)) is not None:
        solve = Solve(*(known[name] for name in names)) if len(known["photos"]) else None
        return solve, bool(known["apart"])
    with progress(photos, "photos placed", style) as shown:
        solve = solve_cameras(features, matches, seed, stop, shown.advance)
    apart = solve is None or min(_count_days(solve, first)) < LEAST_PHOTOS
    if apart:
        alone: list[Solve | None] = []
        for target in (False, True):
            own = {pair: rows for pair, rows in matches.items() if (pair[0] >= first) == (pair[1] >= first) == target}
            with progress(photos, "photos placed", style) as shown:
                alone.append(solve_cameras(features, own, seed, stop, shown.advance))
        across = {pair: rows for pair, rows in matches.items() if pair[0] < first <= pair[1]}
        solve = put_together(alone[0], alone[1], across, seed) if alone[0] and alone[1] else None
    arrays = {name: getattr(solve, name) if solve else np.zeros(0) for name in names}
    write_arrays(path, key, {**arrays, "apart": np.array(apart)})
    return solve, apart


def _count_days(solve: Solve, first: int) -> tuple[int, int]:
    of_source = int((solve.photos < first).sum())
    return of_source, len(solve.photos) - of_source
