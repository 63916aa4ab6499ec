"""Trains looks: from two folders of set photos to looks and a report.

    photos (index, bank) -> pairs -> world (registration) -> guidance, or gains of patches -> fit -> look -> report

Each stage leaves files in the run folder and is skipped where nothing it depends on has changed; so the same command
again goes on where it was stopped.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from relightgan.core.errors import TrainingError
from relightgan.core.files import open_folder
from relightgan.core.look_verdict import VERDICT
from relightgan.core.progress import cancellation
from relightgan.training.days import Direction
from relightgan.training.fit.checkpoint import FitProgress, check_same_run, newest_checkpoint, read_checkpoint
from relightgan.training.fit.export import export_look
from relightgan.training.fit.held_out import HeldOut, measure
from relightgan.training.fit.loop import fit
from relightgan.training.fit.preview import look_preview
from relightgan.training.fit.recipe import Recipe
from relightgan.training.fit.verdict import learned
from relightgan.training.run.config import RunConfig, resolved, resolved_yaml
from relightgan.training.run.dataset import Dataset, make_dataset, manifest
from relightgan.training.run.held_out import make_held_out
from relightgan.training.run.judging import Fitted, judge_fit, verdict_line
from relightgan.training.run.report import note_run, write_run_report
from relightgan.training.run.run import Run
from relightgan.training.run_log import RunLog, duration
from relightgan.training.stage_cache import (
    digest,
    file_digest,
    open_stage,
    read_notes,
    write_notes,
    write_page,
)
from relightgan.training.stored_json import typed

# The share of a time limit that export and report of each fit get, with bounds in seconds; measured: 55 s for a
# `relight` look on two cores, with 256 photos of 320 px.
RESERVE_SHARE, MIN_RESERVE_S, MAX_RESERVE_S = 0.05, 40.0, 120.0
HELD_OUT = "held-out photos"  # name of the curve of the error on them, in stops
MIN_FIT_SHARE = 0.25  # the fit gets this share of the time limit, however long the photos took


@dataclasses.dataclass(frozen=True)
class Job:
    """What the command line asks for."""

    sources: tuple[Path, ...]  # folders with photos of the light that plates have
    targets: tuple[Path, ...]  # folders with photos of the light that they shall get
    out: Path  # the look to write
    run_dir: Path  # keeps everything but the look
    both_directions: bool  # also write the look from target to source
    device: torch.device
    progress: str  # style


@dataclasses.dataclass(frozen=True)
class FitPart:
    """One fit of a run, and the looks that come out of it."""

    directions: tuple[Direction, ...]
    folder: Path


def train(job: Job, config: RunConfig, command: str = "") -> tuple[list[Path], Path]:
    """Runs all stages; goes on where an earlier run in the same folder was stopped.

    Args:
        job: what to make, where.
        config: how.
        command: the command line, for the report.

    Returns:
        The looks written, and the report.

    Raises:
        RelightError: see the stages.
        Cancelled: SIGINT or SIGTERM came; the same command goes on.
    """
    with opened_run(job, config) as run:
        run.log.say(
            f"Fitting the preset {config.preset} on {describe_device(run.device)}. "
            f"Everything but the look goes to {run.folder}."
        )
        is_new = begin(run)
        parts = parts_of(job, config)
        with preparing(run.folder, is_new) as spent:
            directions = [direction for part in parts for direction in part.directions]
            dataset = make_dataset(job.sources, job.targets, run, directions)
            held_out = {direction: make_held_out(dataset, direction, run) for direction in directions}
            run.stop.check()  # a signal after the last photo must not be lost
        allowed_s = seconds_for_fit(config.train.max_minutes, spent.seconds, len(parts))
        if allowed_s is not None:
            run.log.say(time_plan(config.train.max_minutes or 0, spent.seconds, allowed_s * len(parts)))
        looks, fits, verdicts = [], [], []
        for number, part in enumerate(parts):
            run.log.part(number, len(parts))
            recipe = build_recipe(dataset, part, run)
            progress = fit_part(recipe, part, dataset, held_out, run, allowed_s)
            fits.append({"folder": os.path.relpath(part.folder, run.folder), **dataclasses.asdict(progress)})
            fitted = Fitted(part.folder, progress, spent.seconds + MAX_RESERVE_S * len(parts), len(parts))
            for direction in part.directions:
                verdicts.append(judge_fit(recipe, held_out[direction], dataset, direction, fitted, run))
                looks.append(write_look(job, run, dataset, recipe, part, direction, verdicts[-1]))
                run.stop.check()
        note_run(run, dataset, looks, fits, verdicts, describe_device(run.device), command)
        report = write_run_report(run.folder)
        run.log.say(f"The report: {report}")
        for look, stated in zip(looks, verdicts, strict=True):
            run.log.say(verdict_line(look, stated))
    return looks, report


@contextlib.contextmanager
def opened_run(job: Job, config: RunConfig) -> Iterator[Run]:
    """The run of a job; its folder is made and nobody else may train there.

    Raises:
        TrainingError: the run folder, the look or the backbone's weights can't be had.
    """
    make_run_dir(job.run_dir)
    check_out(job.out)
    check_weights(config)
    with (
        only_run_in(job.run_dir),
        RunLog(job.run_dir / "log.txt", job.progress) as log,
        cancellation() as stop,
    ):
        yield Run(job.run_dir, config, job.device, log, stop)


def begin(run: Run) -> bool:
    """Writes the configuration into the run folder; True where no fit has begun there.

    Raises:
        TrainingError: the folder holds a run of other settings, which must not be half overwritten.
    """
    first = newest_checkpoint(run.folder / "checkpoints")
    if first is not None:
        check_same_run(read_checkpoint(first)["config"], resolved(run.config), None, None, first)
    write_page(run.folder / "config.yaml", resolved_yaml(run.config))
    return first is None


@dataclasses.dataclass
class Spent:
    """The time that preparing photos took, over all starts of a run."""

    seconds: float


@contextlib.contextmanager
def preparing(run_dir: Path, is_new: bool) -> Iterator[Spent]:
    """Counts the time of the block as time spent on preparing, and keeps it in the run folder.

    Args:
        run_dir: keeps the time.
        is_new: no fit has begun; else the time counts no more, as the photos are there already.
    """
    began, notes = time.monotonic(), run_dir / "timing.json"
    spent = Spent(_seconds_in(read_notes(notes)))
    try:
        yield spent
    finally:
        if is_new:
            spent.seconds += time.monotonic() - began
            write_notes(notes, {"before_fit_s": round(spent.seconds, 1)})


def time_plan(max_minutes: float, spent_s: float, fit_s: float) -> str:
    """How a time limit is divided, in a sentence."""
    total_s = max_minutes * 60
    late = " The run ends later than asked." if spent_s + fit_s > total_s else ""
    return f"Of {duration(total_s)}, preparing took {duration(spent_s)}; {duration(fit_s)} are for the fit.{late}"


def fit_part(
    recipe: Recipe,
    part: FitPart,
    dataset: Dataset,
    held_out: Mapping[Direction, HeldOut | None],
    run: Run,
    allowed_s: float | None,
) -> FitProgress:
    """Fits a part; how far it came."""
    settings = run.config.train
    open_stage(part.folder, within=run.folder)
    measured = [known for direction in part.directions if (known := held_out[direction]) is not None]
    return fit(
        recipe,
        part.folder,
        settings,
        seed=run.config.seed,
        device=run.device,
        log=run.log,
        config=resolved(run.config),
        data_key=dataset.key,
        previews=tuple(
            dataset.previews(direction, settings.preview_photos, run.device) for direction in part.directions
        ),
        held_out=(lambda: {HELD_OUT: measure(recipe, measured[0], run.device).look}) if measured else None,
        seconds_allowed=allowed_s,
        stop=run.stop,
    )


def make_run_dir(run_dir: Path) -> None:
    """Makes the run folder.

    Raises:
        TrainingError: it can't be made or written to.
    """

    def explain(error: OSError) -> TrainingError:
        return TrainingError(f"The run folder {run_dir} can't be made: {error.strerror}.", "Give another --run-dir.")

    open_folder(run_dir, explain)
    if not os.access(run_dir, os.W_OK):
        raise TrainingError(f"The run folder {run_dir} can't be written to.", "Give another --run-dir.")


@contextlib.contextmanager
def only_run_in(run_dir: Path) -> Iterator[None]:
    """Within it, no other process may train in the run folder; the lock goes with this process, however it ends.

    Raises:
        TrainingError: another process is training there.
    """
    lock = FileLock(run_dir / ".lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise TrainingError(
            f"Another process is training in {run_dir}.", "Wait for it, stop it, or give another --run-dir."
        ) from error


def check_weights(config: RunConfig) -> None:
    """Checks that a file of backbone weights is there: better found wanting now than after preparing every photo.

    Raises:
        TrainingError: it isn't.
    """
    weights = config.pairing.weights
    if weights and not Path(weights).is_file():
        raise TrainingError(f"The weights {weights} are not there.", "Check --pairing.weights.")


def check_out(out: Path) -> None:
    """Makes the look's folder: better found wanting now than after hours of fitting.

    Raises:
        TrainingError: the look can't be written there.
    """

    def explain(error: OSError) -> TrainingError:
        return TrainingError(f"The folder of {out} can't be made: {error.strerror}.", "Give another --out.")

    open_folder(out.parent, explain)
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        why = "is a folder" if out.is_dir() else "can't be written"
        raise TrainingError(f"The look {out} {why}.", "Give another --out.")


def describe_device(device: torch.device) -> str:
    """What is fitted on, in words, and why where it is a choice."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    why = "asked for" if torch.cuda.is_available() else f"torch {torch.__version__} finds no CUDA device"
    return f"the CPU, {torch.get_num_threads()} threads ({why})"


def parts_of(job: Job, config: RunConfig) -> list[FitPart]:
    """The fits of a run: one, or for both directions two where the recipe learns only one at a time."""
    if not job.both_directions:
        return [FitPart(("ab",), job.run_dir)]
    if config.recipe.both_directions:
        return [FitPart(("ab", "ba"), job.run_dir)]
    return [FitPart(("ab",), job.run_dir), FitPart(("ba",), job.run_dir / "back")]


def seconds_for_fit(max_minutes: float | None, spent_s: float, parts: int) -> float | None:
    """Seconds that each fit of a run may take, so that everything ends within the time limit.

    Args:
        max_minutes: the limit for everything; None for no limit.
        spent_s: already spent on photos and pairs.
        parts: how many fits share the rest.
    """
    if max_minutes is None:
        return None
    total_s = max_minutes * 60
    reserve_s = min(max(total_s * RESERVE_SHARE, MIN_RESERVE_S), MAX_RESERVE_S) * parts
    return max(total_s - spent_s - reserve_s, total_s * MIN_FIT_SHARE) / parts


def build_recipe(dataset: Dataset, part: FitPart, run: Run) -> Recipe:
    """The recipe of one fit, with first weights that depend on the seed alone."""
    data = dataset.training_data(part.directions[0])
    torch.manual_seed(run.config.seed)
    return run.config.recipe.build(run.config.recipe_settings, data, run.device)


def write_look(
    job: Job,
    run: Run,
    dataset: Dataset,
    recipe: Recipe,
    part: FitPart,
    direction: Direction,
    verdict: Mapping[str, Any],
) -> Path:
    """Exports one direction as a look with its verdict, unless the file that lies there already is just that.

    Raises:
        LookError: the look can't be written, or isn't equal to torch.
    """
    path = look_path(job.out, direction)
    facts = {"name": path.stem, "config": resolved(run.config), "dataset": manifest(dataset, job.sources, job.targets)}
    notes_path = run.folder / "exports.json"
    notes = read_notes(notes_path)
    checkpoint = newest_checkpoint(part.folder / "checkpoints")
    key = digest([facts, file_digest(checkpoint) if checkpoint else "", verdict["kind"]])
    known = notes.get(str(path.resolve()))
    if isinstance(known, dict) and known.get("key") == key and known.get("sha256") == file_digest(path):
        run.log.say(f"The look {path} is up to date.")
        return path
    spec = recipe.export(direction, learned(verdict["kind"]))
    preview = look_preview(recipe, dataset.previews(direction, 1, run.device))
    evaluation = spec.facts.get("evaluation", {})
    if detail := evaluation.get("detail"):
        more = "more" if detail > 0 else "less"
        run.log.say(f"Texture gets {abs(detail):.0%} {more} contrast, as photos of the wanted light show.")
    proof = export_look(spec, path, {**facts, "evaluation": {**evaluation, VERDICT: dict(verdict)}}, preview)
    note = {"key": key, "sha256": file_digest(path), "direction": direction, "difference": max(proof.differences)}
    write_notes(notes_path, {**notes, str(path.resolve()): note})
    run.log.say(f"Wrote the look {path}; onnxruntime and torch differ by {max(proof.differences):.1e} at most.")
    return path


def look_path(out: Path, direction: Direction) -> Path:
    """Where the look of a direction is written: `out`, or beside it for the way back."""
    return out if direction == "ab" else out.with_name(f"{out.stem}_back.onnx")


# Private implementation


def _seconds_in(notes: dict[str, Any]) -> float:
    """The time an earlier start spent on preparing; 0 where it isn't known."""
    try:
        return max(float(typed(notes, "before_fit_s", float)), 0.0)
    except TypeError:
        return 0.0
