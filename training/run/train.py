"""`relightgan train`: two folders of set photos in, a look out.

    photos -> index -> prepare -> pairs -> fit -> export -> report

Each stage leaves files in the run folder and is skipped where nothing it depends on has changed; so the same command
again goes on where it was stopped.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from relightgan.core.errors import TrainingError
from relightgan.core.progress import cancellation
from relightgan.training.days import Direction
from relightgan.training.fit.checkpoint import check_same_run, newest_checkpoint, read_checkpoint
from relightgan.training.fit.export import export_look
from relightgan.training.fit.loop import fit
from relightgan.training.fit.preview import look_preview
from relightgan.training.fit.recipe import Recipe
from relightgan.training.gan import cut as recipe_cut
from relightgan.training.gan import cyclegan as recipe_cyclegan
from relightgan.training.relight import recipe as recipe_relight
from relightgan.training.run.config import RunConfig, resolved, resolved_yaml
from relightgan.training.run.dataset import Dataset, make_dataset, manifest
from relightgan.training.run.report import note_run, write_run_report
from relightgan.training.run_log import RunLog, duration
from relightgan.training.stage_cache import digest, file_digest, placing, read_notes, write_notes

# Of a time limit, what export and report of each fit get; measured 55 s of a `relight` look on two cores, with 256
# photos of 320 px.
RESERVE_SHARE, LEAST_RESERVE_S, MOST_RESERVE_S = 0.05, 40.0, 120.0
LEAST_FIT_SHARE = 0.25  # of the time limit: however long the photos took, so much is fitted


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
class Part:
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
    began = time.monotonic()
    make_run_dir(job.run_dir)
    check_out(job.out)
    check_weights(config)
    with only_run_in(job.run_dir), RunLog(job.run_dir / "log.txt", job.progress) as log:
        log.say(
            f"Fitting the preset {config.preset} on {describe_device(job.device)}. "
            f"Everything but the look goes to {job.run_dir}."
        )
        first = newest_checkpoint(job.run_dir / "checkpoints")
        if first is not None:
            # Before any stage: a run of other settings must not be half overwritten.
            check_same_run(read_checkpoint(first)["config"], resolved(config), None, None, first)
        with placing(job.run_dir / "config.yaml") as temporary:
            temporary.write_text(resolved_yaml(config), encoding="utf-8")

        parts = parts_of(job, config)
        timing = job.run_dir / "timing.json"
        spent_s = float(read_notes(timing).get("before_fit_s", 0.0))
        try:
            with cancellation() as stop:
                dataset = make_dataset(
                    job.sources,
                    job.targets,
                    job.run_dir,
                    config,
                    [direction for part in parts for direction in part.directions],
                    job.device,
                    log.stage_style,
                    stop,
                    log.say,
                )
                stop.check()  # a signal after the last photo must not be lost
        finally:
            if first is None:
                spent_s += time.monotonic() - began
                write_notes(timing, {"before_fit_s": round(spent_s, 1)})

        allowed_s = seconds_for_fit(config.train.max_minutes, spent_s, len(parts))
        if allowed_s is not None:
            total_s = (config.train.max_minutes or 0) * 60
            late = " The run ends later than asked." if spent_s + allowed_s * len(parts) > total_s else ""
            log.say(
                f"Of {duration(total_s)}, preparing took {duration(spent_s)}; "
                f"{duration(allowed_s * len(parts))} are for the fit.{late}"
            )
        looks, fits = [], []
        for number, part in enumerate(parts):
            log.part(number, len(parts))
            recipe = build_recipe(config, dataset, part, job.device)
            progress = fit(
                recipe,
                part.folder,
                config.train,
                seed=config.seed,
                device=job.device,
                log=log,
                config=resolved(config),
                data_key=dataset.key,
                previews=tuple(
                    dataset.previews(direction, config.train.preview_photos, job.device)
                    for direction in part.directions
                ),
                seconds_allowed=allowed_s,
            )
            fits.append({"folder": os.path.relpath(part.folder, job.run_dir), **dataclasses.asdict(progress)})
            with cancellation() as stop:
                for direction in part.directions:
                    looks.append(write_look(job, config, dataset, recipe, part, direction, log))
                    stop.check()

        note_run(job.run_dir, config, dataset, looks, fits, describe_device(job.device), command)
        report = write_run_report(job.run_dir)
        log.say(f"The report: {report}")
    return looks, report


def make_run_dir(run_dir: Path) -> None:
    """Makes the run folder.

    Raises:
        TrainingError: it can't be made or written to.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"The run folder {run_dir} can't be made: {error.strerror}.", "Give another --run-dir."
        ) from error
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
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"The folder of {out} can't be made: {error.strerror}.", "Give another --out.") from error
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        why = "is a folder" if out.is_dir() else "can't be written"
        raise TrainingError(f"The look {out} {why}.", "Give another --out.")


def describe_device(device: torch.device) -> str:
    """What is fitted on, in words, and why where it is a choice."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    why = "asked for" if torch.cuda.is_available() else f"torch {torch.__version__} finds no CUDA device"
    return f"the CPU, {torch.get_num_threads()} threads ({why})"


def parts_of(job: Job, config: RunConfig) -> list[Part]:
    """The fits of a run: one, or for both directions two where the recipe learns only one at a time."""
    if not job.both_directions:
        return [Part(("ab",), job.run_dir)]
    if config.translator == "cyclegan":
        return [Part(("ab", "ba"), job.run_dir)]
    return [Part(("ab",), job.run_dir), Part(("ba",), job.run_dir / "back")]


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
    reserve_s = min(max(total_s * RESERVE_SHARE, LEAST_RESERVE_S), MOST_RESERVE_S) * parts
    return max(total_s - spent_s - reserve_s, total_s * LEAST_FIT_SHARE) / parts


def build_recipe(config: RunConfig, dataset: Dataset, part: Part, device: torch.device) -> Recipe:
    """The recipe of one fit, with first weights that depend on the seed alone."""
    data = dataset.training_data(part.directions[0])
    torch.manual_seed(config.seed)
    if config.translator == "cyclegan":
        return recipe_cyclegan.build(config.cyclegan, data, device)
    if config.translator == "cut":
        return recipe_cut.build(config.cut, data, device)
    return recipe_relight.build(config.relight, data, device)


def write_look(
    job: Job,
    config: RunConfig,
    dataset: Dataset,
    recipe: Recipe,
    part: Part,
    direction: Direction,
    log: RunLog,
) -> Path:
    """Exports one direction as a look, unless the file that lies there already is just that.

    Raises:
        LookError: the look can't be written, or isn't equal to torch.
    """
    path = job.out if direction == "ab" else job.out.with_name(f"{job.out.stem}_back.onnx")
    facts = {"name": path.stem, "config": resolved(config), "dataset": manifest(dataset, job.sources, job.targets)}
    notes_path = job.run_dir / "exports.json"
    notes = read_notes(notes_path)
    checkpoint = newest_checkpoint(part.folder / "checkpoints")
    key = digest([facts, file_digest(checkpoint) if checkpoint else ""])
    known = notes.get(str(path.resolve()), {})
    if known.get("key") == key and known.get("sha256") == file_digest(path):
        log.say(f"The look {path} is up to date.")
        return path
    spec = recipe.export(direction)
    preview = look_preview(recipe, dataset.previews(direction, 1, job.device))
    if detail := spec.facts.get("evaluation", {}).get("detail"):
        more = "more" if detail > 0 else "less"
        log.say(f"Texture gets {abs(detail):.0%} {more} contrast, as photos of the wanted light show.")
    proof = export_look(spec, path, facts, preview)
    note = {"key": key, "sha256": file_digest(path), "direction": direction, "difference": max(proof.differences)}
    write_notes(notes_path, {**notes, str(path.resolve()): note})
    log.say(f"Wrote the look {path}; onnxruntime and torch differ by {max(proof.differences):.1e} at most.")
    return path
