"""The stage that makes guidance: depth of all registered photos, tests of each against its own day, and maps.

Everything is kept in the run folder, depths in parts, so that a stop loses little.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relightgan.core.progress import Cancellation, progress
from relightgan.training.days import Direction
from relightgan.training.guidance.maps import GuidanceMaps, GuidanceSettings
from relightgan.training.guidance.observations import badly_placed, guidance_maps, own_day_errors
from relightgan.training.guidance.sheet import write_guidance_sheet
from relightgan.training.photos.bank import Images
from relightgan.training.stage_cache import digest, read_arrays, write_arrays
from relightgan.training.world.depth import TESTED_BY, DepthMaps, depth_maps, neighbours
from relightgan.training.world.registration import Registration
from relightgan.training.world.views import Views, load_views

LEAST_JOINED = 0.5  # of each day's photos must have been registered for guidance to speak for the set
LEAST_COVERAGE = 0.25  # of the pixels of those photos must have been seen on the other day
FORMAT = 1  # of what is kept; a new number when the same photos would give something else


@dataclass(frozen=True)
class Guidance:
    """What registered photos of both days say about each other.

    Attributes:
        maps: by direction, of the photos that are relit in it.
        sheets: pictures of some maps, by direction.
        errors: (n,) by how many stops (median) each registered photo differs from what its own day's predict; NaN where
            none do.
        dropped: source and target photos left out as badly placed.
    """

    maps: dict[Direction, GuidanceMaps]
    sheets: dict[Direction, Path]
    errors: np.ndarray
    dropped: tuple[int, int]

    def good_enough(self, direction: Direction) -> bool:
        """Does it speak for enough of the photos to fit to it?"""
        return self.maps[direction].coverage >= LEAST_COVERAGE

    def accuracy(self) -> str:
        """What the photos of each day say of one another, in a sentence."""
        tested = self.errors[np.isfinite(self.errors)]
        if len(tested) == 0:
            return "No photo could be tested against its own day's."
        left_out = sum(self.dropped)
        dropped = (
            f" {left_out} badly placed photos were left out."
            if left_out != 1
            else " 1 badly placed photo was left out."
        )
        return (
            f"What photos predict for others of their day is off by {np.median(tested):.2f} stops (median)."
            f"{dropped if left_out else ''}"
        )

    def coverage(self, direction: Direction) -> str:
        """How much of a direction's photos has guidance, in a few words."""
        maps = self.maps[direction]
        here, there = ("source", "target") if direction == "ab" else ("target", "source")
        return f"{there} photos saw {maps.coverage:.0%} of what {len(maps):,} {here} photos show"


def joined_enough(registration: Registration) -> bool:
    """Were enough photos of each day registered for guidance to be worth making?"""
    return all(
        joined >= LEAST_JOINED * count for joined, count in zip(registration.joined, registration.counts, strict=True)
    )


def make_guidance(
    registration: Registration,
    banks: Sequence[Images],
    ids: Sequence[str],
    settings: GuidanceSettings,
    directions: Sequence[Direction],
    folder: Path,
    device: torch.device,
    style: str = "none",
    stop: Cancellation | None = None,
) -> Guidance:
    """Guidance of registered photos, from the folder where it is known.

    Args:
        registration: of both days.
        banks: source and target photos, as they were registered.
        ids: name the content of all of them, source first.
        settings: rasters and how many photos are asked.
        directions: "ab" makes maps of source photos, "ba" of target photos.
        folder: keeps what is made.
        device: that works.
        style: of progress, see `core.progress`.
        stop: asked between photos.

    Raises:
        PhotoError: a prepared photo can't be read.
        TrainingError: the folder can't be written.
        Cancelled: a stop was asked for; what is done is kept.
    """
    stop = stop or Cancellation()
    key = _key(registration, ids, settings)
    paths = {direction: folder / f"guidance-{direction}.npz" for direction in directions}
    sheets = {direction: folder / f"guidance-{direction}.jpg" for direction in directions}
    kept = {direction: read_arrays(paths[direction], key) for direction in directions}
    missing = [d for d in directions if kept[d] is None or not sheets[d].exists()]
    if missing:
        days = {d: int(((registration.solve.photos >= registration.counts[0]) == (d == "ba")).sum()) for d in missing}
        total = 2 * len(registration.solve.photos) + sum(days.values())
        with progress(total, "steps of guidance", style) as shown:

            def done(count: int) -> None:
                shown.advance(count)
                stop.check()

            views, depths = _views_with_depths(registration, banks, settings, folder, key, device, done)
            errors = own_day_errors(views, depths, done)
            bad = badly_placed(errors)
            for direction in missing:
                target = direction == "ba"
                maps = guidance_maps(views, depths, target, ~bad, registration.counts[0], settings.looks, done)
                write_guidance_sheet(views, depths, maps, target, registration.counts[0], banks, sheets[direction])
                arrays = {field.name: getattr(maps, field.name) for field in dataclasses.fields(GuidanceMaps)}
                dropped = np.array([(bad & ~views.of_target).sum(), (bad & views.of_target).sum()])
                write_arrays(paths[direction], key, {**arrays, "errors": errors, "dropped": dropped})
                kept[direction] = read_arrays(paths[direction], key)
    found = {direction: arrays for direction, arrays in kept.items() if arrays is not None}
    first = found[directions[0]]
    return Guidance(
        {direction: GuidanceMaps(a["photo"], a["colour"], a["weight"]) for direction, a in found.items()},
        sheets,
        first["errors"],
        (int(first["dropped"][0]), int(first["dropped"][1])),
    )


def photos_to_ask(
    registration: Registration,
    banks: Sequence[Images],
    ids: Sequence[str],
    settings: GuidanceSettings,
    folder: Path,
    device: torch.device,
    style: str = "none",
    stop: Cancellation | None = None,
) -> tuple[Views, DepthMaps, np.ndarray]:
    """Registered photos with their depths, and (n,) by how many stops each is off, see `lookups.own_day_errors`.

    For asking about pictures that aren't among them. What the fit left in the folder isn't made again; see
    `make_guidance` for arguments and errors.
    """
    stop = stop or Cancellation()
    key = _key(registration, ids, settings)
    kept = [read_arrays(folder / f"guidance-{direction}.npz", key) for direction in ("ab", "ba")]
    known = [arrays["errors"] for arrays in kept if arrays is not None]
    number = len(registration.solve.photos)
    with progress(number if known else 2 * number, "photos made ready", style) as shown:

        def done(count: int) -> None:
            shown.advance(count)
            stop.check()

        views, depths = _views_with_depths(registration, banks, settings, folder, key, device, done)
        errors = known[0] if known else own_day_errors(views, depths, done)
    return views, depths, errors


# Private implementation


def _key(registration: Registration, ids: Sequence[str], settings: GuidanceSettings) -> str:
    return digest([FORMAT, list(ids), _making(settings), _solve_digest(registration)])


def _views_with_depths(
    registration: Registration,
    banks: Sequence[Images],
    settings: GuidanceSettings,
    folder: Path,
    key: str,
    device: torch.device,
    done: Callable[[int], None],
) -> tuple[Views, DepthMaps]:
    views = load_views(registration, banks, settings.raster_px, device)
    near_by = neighbours(registration, max(settings.neighbours, TESTED_BY))
    return views, depth_maps(views, near_by, settings.neighbours, settings.planes, folder, key, done)


def _making(settings: GuidanceSettings) -> dict[str, Any]:
    """What maps depend on, of the settings."""
    return {name: value for name, value in dataclasses.asdict(settings).items() if name != "back_translation"}


def _solve_digest(registration: Registration) -> str:
    solve, found = registration.solve, hashlib.sha256()
    for part in (solve.photos, solve.poses, solve.lenses, solve.points, solve.seen_point, solve.seen_photo):
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()
