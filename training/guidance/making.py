"""The guidance stage: depth of all registered photos, a check of each photo by its own day, and guidance maps.

All results are stored in the run folder, depths in parts, so that a stop loses little.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relightgan.training.days import DAY_NAMES, DIRECTIONS, Direction, along, from_day
from relightgan.training.guidance.maps import GuidanceMaps, GuidanceSettings
from relightgan.training.guidance.observations import badly_placed, guidance_maps, own_day_errors
from relightgan.training.guidance.sheet import write_guidance_sheet
from relightgan.training.photos.bank import Images
from relightgan.training.stage import Stage
from relightgan.training.stage_cache import digest, read_arrays, write_arrays
from relightgan.training.world.depth import CHECKING_NEIGHBOURS, DepthMaps, depth_maps, neighbours
from relightgan.training.world.registration import Registration
from relightgan.training.world.views import RegisteredViews, load_views

MIN_JOINED_SHARE = 0.5  # share of each day's photos that must be registered for guidance to represent the set
MIN_COVERAGE = 0.25  # share of a direction's pixels that must have guidance for a fit to use it
STORED = (*(field.name for field in dataclasses.fields(GuidanceMaps)), "errors", "dropped")  # arrays of a file
FORMAT = 1  # version of the stored maps; raise it when the same photos would give other maps


@dataclass(frozen=True)
class Guidance:
    """Guidance maps of a run, with figures.

    Attributes:
        maps: by direction, of the photos that the direction relights.
        sheets: by direction, contact sheets of some maps.
        errors: (n,) each registered photo's difference from its own day's prediction, in stops; see
            `observations.own_day_errors`.
        dropped: (source, target) number of photos left out as badly placed.
    """

    maps: dict[Direction, GuidanceMaps]
    sheets: dict[Direction, Path]
    errors: np.ndarray
    dropped: tuple[int, int]

    def good_enough(self, direction: Direction) -> bool:
        """Whether enough pixels of the direction's photos have guidance for a fit to use it."""
        return self.maps[direction].coverage >= MIN_COVERAGE

    def accuracy(self) -> str:
        """How exact guidance is, and how many photos were left out, in a sentence or two."""
        tested = self.errors[np.isfinite(self.errors)]
        if len(tested) == 0:
            return "No photo could be compared with its own day's prediction."
        left_out = sum(self.dropped)
        dropped = (
            f" {left_out} badly placed photos were left out."
            if left_out != 1
            else " 1 badly placed photo was left out."
        )
        return (
            f"Colours that photos predict for others of their day are off by {np.median(tested):.2f} stops (median)."
            f"{dropped if left_out else ''}"
        )

    def coverage(self, direction: Direction) -> str:
        """How much of a direction's photos has guidance, as a part of a sentence."""
        maps = self.maps[direction]
        here, there = along(direction, DAY_NAMES)
        return f"{there} photos saw {maps.coverage:.0%} of what {len(maps):,} {here} photos show"


def joined_enough(registration: Registration) -> bool:
    """Whether enough photos of each day were registered for guidance to represent the set."""
    return all(
        joined >= MIN_JOINED_SHARE * count
        for joined, count in zip(registration.joined, registration.counts, strict=True)
    )


def make_guidance(
    registration: Registration,
    banks: Sequence[Images],
    ids: Sequence[str],
    settings: GuidanceSettings,
    directions: Sequence[Direction],
    stage: Stage,
) -> Guidance:
    """Guidance of registered photos; what the folder holds is not made again.

    Args:
        registration: of both days.
        banks: (source photos, target photos), those that were registered, as they came or corrected.
        ids: of the content of all photos, source first; other ones where photos are corrected otherwise.
        settings: raster, planes, and numbers of neighbours and observers.
        directions: "ab" makes maps of source photos, "ba" of target photos.
        stage: where results are stored, and how they are computed.

    Raises:
        PhotoError: a prepared photo can't be read.
        TrainingError: the folder can't be written.
        Cancelled: a stop was asked for; what is done is kept.
    """
    key = _key(registration, ids, settings)
    paths = {direction: stage.folder / f"guidance-{direction}.npz" for direction in directions}
    sheets = {direction: stage.folder / f"guidance-{direction}.jpg" for direction in directions}
    kept = {direction: read_arrays(paths[direction], key, STORED) for direction in directions}
    missing = [d for d in directions if kept[d] is None or not sheets[d].exists()]
    if missing:
        total = 2 * len(registration.solve.photos) + sum(registration.joined[from_day(d)] for d in missing)
        with stage.counting(total, "steps of guidance") as done:
            views, depths = _views_with_depths(registration, banks, settings, stage, key, done)
            errors = own_day_errors(views, depths, done)
            bad = badly_placed(errors)
            for direction in missing:
                day, numbering = from_day(direction), registration.numbering
                maps = guidance_maps(views, depths, day, ~bad, numbering, settings.looks, done)
                write_guidance_sheet(views, depths, maps, day, numbering, banks, sheets[direction])
                arrays = {field.name: getattr(maps, field.name) for field in dataclasses.fields(GuidanceMaps)}
                dropped = np.bincount(views.day[bad], minlength=2)
                write_arrays(paths[direction], key, {**arrays, "errors": errors, "dropped": dropped})
                kept[direction] = read_arrays(paths[direction], key, STORED)
    found = {direction: arrays for direction, arrays in kept.items() if arrays is not None}
    first = found[directions[0]]
    return Guidance(
        {direction: GuidanceMaps(a["photo"], a["colour"], a["weight"]) for direction, a in found.items()},
        sheets,
        first["errors"],
        (int(first["dropped"][0]), int(first["dropped"][1])),
    )


def load_observers(
    registration: Registration,
    banks: Sequence[Images],
    ids: Sequence[str],
    settings: GuidanceSettings,
    stage: Stage,
) -> tuple[RegisteredViews, DepthMaps, np.ndarray]:
    """The registered photos as observers of plates: views, depths, and errors (n,) as of `own_day_errors`.

    Results that the fit left in the stage's folder are not made again. See `make_guidance` for arguments and errors.
    """
    key = _key(registration, ids, settings)
    kept = [read_arrays(stage.folder / f"guidance-{direction}.npz", key, STORED) for direction in DIRECTIONS]
    known = [arrays["errors"] for arrays in kept if arrays is not None]
    number = len(registration.solve.photos)
    with stage.counting(number if known else 2 * number, "photos made ready") as done:
        views, depths = _views_with_depths(registration, banks, settings, stage, key, done)
        errors = known[0] if known else own_day_errors(views, depths, done)
    return views, depths, errors


# Private implementation


def _key(registration: Registration, ids: Sequence[str], settings: GuidanceSettings) -> str:
    return digest([FORMAT, list(ids), _map_settings(settings), registration.digest])


def _views_with_depths(
    registration: Registration,
    banks: Sequence[Images],
    settings: GuidanceSettings,
    stage: Stage,
    key: str,
    done: Callable[[int], None],
) -> tuple[RegisteredViews, DepthMaps]:
    views = load_views(registration, banks, settings.raster_px, stage.device)
    neighbour_rows = neighbours(registration, max(settings.neighbours, CHECKING_NEIGHBOURS))
    return views, depth_maps(views, neighbour_rows, settings.neighbours, settings.planes, stage.folder, key, done)


def _map_settings(settings: GuidanceSettings) -> dict[str, Any]:
    """The settings that maps depend on."""
    return {name: value for name, value in dataclasses.asdict(settings).items() if name != "back_translation"}
