"""The verdict on each look of a run: what its fit has come to, measured on held-out photos, and what to do next."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from relightgan.core.look_verdict import Verdict
from relightgan.training.days import Direction
from relightgan.training.fit.checkpoint import FitProgress
from relightgan.training.fit.held_out import HeldOut, measure
from relightgan.training.fit.loop import read_metrics
from relightgan.training.fit.recipe import Recipe
from relightgan.training.fit.verdict import ENOUGH_IMAGES, Findings, judge
from relightgan.training.guidance.making import MIN_JOINED_SHARE
from relightgan.training.run.dataset import Dataset
from relightgan.training.run.run import Run

WHITE_LINES = 10  # lines of metrics that the error of the predicted white is a mean of
APART_SHARE = 0.1  # where fewer of a day's photos can be placed among those of the other, they show another place
MINUTES = (5, 10, 15, 20, 30, 45, 60, 90, 120)  # time limits that are advised; above them, whole hours


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A finished fit.

    Attributes:
        folder: has its metrics.
        progress: how far it came.
        other_s: seconds of the run that aren't for fits: photos, guidance, export and report.
        fits: number of fits that share the rest.
    """

    folder: Path
    progress: FitProgress
    other_s: float
    fits: int


def judge_fit(
    recipe: Recipe, held_out: HeldOut | None, dataset: Dataset, direction: Direction, fit: Fitted, run: Run
) -> dict[str, Any]:
    """The verdict on one direction of a finished fit, with its figures, as it stands in the look's facts."""
    errors = measure(recipe, held_out, run.device) if held_out else None
    coverage, placed, overlap = overlap_of(dataset, direction)
    found = Findings(
        fit.progress.images,
        errors,
        len(held_out.photos) if held_out else 0,
        held_out.known_by if held_out else "",
        held_out.unseen if held_out else True,
        coverage,
        placed,
        overlap,
        white_error(fit.folder),
    )
    verdict = judge(found, go_on(fit, run))
    return {**dataclasses.asdict(verdict), **figures_of(found)}


def verdict_line(look: Path, stated: Mapping[str, Any]) -> str:
    """A verdict with what to do next, in a line of the log."""
    verdict = Verdict(stated["kind"], stated["words"], stated["advice"])
    return f"Verdict on {look.name}: {verdict.line}. {verdict.advice}".strip()


def go_on(fit: Fitted, run: Run) -> str:
    """How a fit that ended early can go on to `ENOUGH_IMAGES`, after "go on with"."""
    options, settings = [], run.config.train
    if settings.max_minutes is not None:
        rate = fit.progress.images / max(fit.progress.seconds, 1e-9)
        seconds = fit.other_s + fit.fits * ENOUGH_IMAGES / max(rate, 1e-9)
        options.append(f"--max-minutes {max(next_limit(seconds / 60), math.ceil(settings.max_minutes) + 1)}")
    if settings.images < ENOUGH_IMAGES:
        options.append(f"--train.images {ENOUGH_IMAGES}")
    return "the same command" + (f" and `{' '.join(options)}`" if options else "")


def next_limit(minutes: float) -> int:
    """The smallest round time limit that is long enough, in minutes."""
    return next((limit for limit in MINUTES if limit >= minutes), 60 * math.ceil(minutes / 60))


def overlap_of(dataset: Dataset, direction: Direction) -> tuple[float | None, float | None, bool]:
    """What the days have in common: coverage and placed share as in `Findings`, and whether that is enough."""
    guidance, registration = dataset.guidance, dataset.registration
    if guidance is not None and direction in guidance.maps:
        return guidance.maps[direction].coverage, None, guidance.good_enough(direction)
    if registration is None:
        return None, None, True
    shares = [joined / count for joined, count in zip(registration.joined, registration.counts, strict=True)]
    return None, min(shares), not (min(shares) < APART_SHARE and max(shares) >= MIN_JOINED_SHARE)


def white_error(folder: Path) -> float | None:
    """The error of the predicted white at the end of a fit, in stops; None where it learned no white."""
    losses = [line["losses"]["white"] for line in read_metrics(folder / "metrics.jsonl") if "white" in line["losses"]]
    return float(np.mean(losses[-WHITE_LINES:])) if losses else None


def figures_of(found: Findings) -> dict[str, Any]:
    """The figures behind a verdict, by names that say their unit; those that aren't known are left out."""
    errors = dataclasses.asdict(found.errors) if found.errors else {}
    figures: Mapping[str, Any] = {
        "images": found.images,
        **{f"{name}_stops": value for name, value in errors.items()},
        "white_stops": found.white,
        "coverage": found.coverage,
        "photos": found.photos or None,
        "known_by": found.known_by or None,
        "unseen": found.unseen if found.photos else None,
    }
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in figures.items()
        if value is not None
    }
