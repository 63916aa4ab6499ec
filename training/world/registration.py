"""Registration: the photos of both days in one world, by structure from motion over all of them together.

Which photos are tried against each other comes from what they show (the features of content pairing), within each day
and across, so that the work grows with the number of photos and not with its square. One incremental solve takes both
days; where it doesn't join them, each day is solved alone and the two are put together by their common points.

Nothing is masked: what moves finds no matches that agree with one geometry, and falls out with the other mismatches.

Everything is kept in the run folder, matches in parts, so that a stop loses little; see `sfm` for what two runs share.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from relightgan.core.progress import progress
from relightgan.training.days import SOURCE, TARGET, Numbering
from relightgan.training.pairs.pairing import centred, nearest
from relightgan.training.stage import Stage
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
from relightgan.training.world.sfm import MIN_SOLVE_PHOTOS, Features, Matches, Solve, put_together, solve_cameras

PART_PAIRS = 500  # pairs of photos between two writes of matches
ROOTED_PHOTOS = 128  # photos whose descriptors stay ready for comparing; 0.6 MB each
# Random samples for the geometry of a pair: half the usual number, which loses 2 of 100 pairs, those of few matches.
MAX_TRIES = 1000
FORMAT = 4  # version of the kept files; it changes when the same input gives another result


@dataclasses.dataclass(frozen=True)
class Day:
    """The photos of one day.

    Attributes:
        images: (H, W, 3) float32 sRGB-encoded; may be a lazy sequence.
        embeddings: (N, C) by the backbone of content pairing.
        ids: a name for each photo's content.
        focals_35mm: mm, 35 mm equivalent; None where unknown.
    """

    images: Sequence[np.ndarray]
    embeddings: np.ndarray
    ids: Sequence[str]
    focals_35mm: Sequence[float | None]


@dataclasses.dataclass(frozen=True)
class Registration:
    """The photos of both days in one world.

    Attributes:
        solve: cameras and points; photos are numbered as in `numbering`.
        places: (o, 2) float32 place of each observation in its photo, 0..1.
        sizes: (n, 2) width and height of each of the solve's photos, px, at the size of its lens.
        counts: number of source photos and of target photos, registered or not.
        pairs: (P, 2) photos that were matched with each other.
        verified: number of pairs that agree on a geometry: of source photos, of target photos, and across.
        apart: True where each day was solved alone and the two were put together afterwards.
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
    def digest(self) -> str:
        """A hash of cameras, points and observations."""
        solve, found = self.solve, hashlib.sha256()
        for part in (solve.photos, solve.poses, solve.lenses, solve.points, solve.seen_point, solve.seen_photo):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    @property
    def joined(self) -> tuple[int, int]:
        """The numbers of registered source photos and target photos."""
        return _count_days(self.solve, self.numbering)

    @property
    def on_both_days(self) -> np.ndarray:
        """(p,) bool, True for points that photos of both days show."""
        day, number = self.numbering.day(self.solve.seen_photo), len(self.solve.points)
        source, target = (
            np.bincount(self.solve.seen_point[day == each], minlength=number) for each in (SOURCE, TARGET)
        )
        return (source > 0) & (target > 0)

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
    stage: Stage,
) -> Registration | None:
    """Both days in one world; None where the photos don't allow it.

    Args:
        source: photos of the day whose light plates have.
        target: photos of the day whose light they shall get.
        settings: numbers of photos, points and partners.
        matching: conditions of a match.
        seed: of the random choices.
        stage: keeps matches and the solve; unchanged ones are not made again.

    Raises:
        TrainingError: the stage's folder can't be written.
        Cancelled: a stop was asked for; what is done is kept.
    """
    days = (source, target)
    numbering = Numbering((len(source.ids), len(target.ids)))
    chosen = [_evenly(len(day.ids), settings.max_photos) for day in days]
    if min(map(len, chosen)) < MIN_SOLVE_PHOTOS:
        return None
    pairs = pairs_to_register(days, chosen, settings)
    key = digest([FORMAT, source.ids, target.ids, pairs.tolist(), settings.max_points, dataclasses.asdict(matching)])
    used = np.concatenate([chosen[0], chosen[1] + numbering.start(TARGET)])
    xy, sizes, matches = _matches(days, used, pairs, settings.max_points, matching, stage, key)
    features = [
        Features(xy[n], (int(sizes[n, 0]), int(sizes[n, 1])), camera, focal)
        for n, (camera, focal) in enumerate(_lenses(days, sizes))
    ]
    key = digest([key, seed, [list(source.focals_35mm), list(target.focals_35mm)]])
    solve, apart = _solve(features, matches, numbering, len(used), seed, stage, key)
    if solve is None:
        return None
    places = np.array(
        [xy[n][m] / sizes[n] for n, m in zip(solve.seen_photo, solve.seen_feature, strict=True)], np.float32
    )
    verified = np.zeros(3, int)
    for pair in matches:
        one, two = numbering.day(np.array(pair))
        verified[2 if one != two else one] += 1
    a, b, across = (int(number) for number in verified)
    return Registration(solve, places, sizes[solve.photos], numbering.counts, pairs, (a, b, across), apart)


def pairs_to_register(days: Sequence[Day], chosen: Sequence[np.ndarray], settings: RegisterSettings) -> np.ndarray:
    """(P, 2) photos to be matched, the smaller number first; target photos are numbered after the source's.

    Args:
        days: source and target.
        chosen: the photos of each day that take part.
        settings: numbers of partners.
    """
    unit = [centred(day.embeddings[rows]) for day, rows in zip(days, chosen, strict=True)]
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


def _evenly(count: int, max_count: int) -> np.ndarray:
    return (
        np.unique(np.linspace(0, count - 1, min(count, max_count)).round().astype(np.int64))
        if count
        else np.zeros(0, int)
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
    max_points: int,
    matching: MatchingSettings,
    stage: Stage,
    key: str,
) -> tuple[list[np.ndarray], np.ndarray, Matches]:
    """Features (n, 2) px and size (2,) of every photo, and matches; from the folder where they are known."""
    parts = [pairs[n : n + PART_PAIRS] for n in range(0, len(pairs), PART_PAIRS)]
    paths = [stage.folder / f"matches-{n:03}.npz" for n in range(len(parts))]
    count = sum(len(day.ids) for day in days)
    known = [read_arrays(path, key, ["rows", "lengths"]) for path in paths]
    places = read_arrays(stage.folder / "points.npz", key, ["xy", "lengths", "sizes"])
    if places is None or None in known:
        work = len(used) + sum(len(part) for part, had in zip(parts, known, strict=True) if had is None)
        with (
            stage.counting(work, "steps of registering") as done,
            one_thread_each(),
            ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        ):
            points = _points(days, used, max_points, pool, done)
            places = {
                "xy": np.concatenate([points[n].xy * np.array(points[n].size, np.float32) for n in used]),
                "lengths": np.array([len(points[n].xy) if n in points else 0 for n in range(count)]),
                "sizes": np.array([points[n].size if n in points else (0, 0) for n in range(count)]),
            }
            write_arrays(stage.folder / "points.npz", key, places)
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
    max_points: int,
    pool: ThreadPoolExecutor,
    done: Callable[[int], None],
) -> dict[int, Points]:
    numbering = Numbering((len(days[0].ids), len(days[1].ids)))

    def find(number: int) -> Points:
        day, photo = numbering.place(number)
        return find_points(days[day].images[photo], max_points)

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
    numbering: Numbering,
    photos: int,
    seed: int,
    stage: Stage,
    key: str,
) -> tuple[Solve | None, bool]:
    """The solve that holds both days and whether the days were put together; (None, ...) where there is none."""
    names, path = [field.name for field in dataclasses.fields(Solve)], stage.folder / "solve.npz"
    if (known := read_arrays(path, key, [*names, "apart"])) is not None:
        solve = Solve(*(known[name] for name in names)) if len(known["photos"]) else None
        return solve, bool(known["apart"])

    def solved(own: Matches) -> Solve | None:
        with progress(photos, "photos placed", stage.style) as shown:
            return solve_cameras(features, own, seed, stage.stop, shown.advance)

    solve = solved(matches)
    apart = solve is None or min(_count_days(solve, numbering)) < MIN_SOLVE_PHOTOS
    if apart:
        days = {pair: tuple(numbering.day(np.array(pair)).tolist()) for pair in matches}
        source, target = (
            solved({pair: rows for pair, rows in matches.items() if days[pair] == (day, day)})
            for day in (SOURCE, TARGET)
        )
        across = {pair: rows for pair, rows in matches.items() if days[pair] == (SOURCE, TARGET)}
        solve = put_together(source, target, across, seed) if source and target else None
    arrays = {name: getattr(solve, name) if solve else np.zeros(0) for name in names}
    write_arrays(path, key, {**arrays, "apart": np.array(apart)})
    return solve, apart


def _count_days(solve: Solve, numbering: Numbering) -> tuple[int, int]:
    source, target = np.bincount(numbering.day(solve.photos), minlength=2).tolist()
    return source, target
