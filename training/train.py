"""`relightgan train`: two folders of set photos in, a look out.

    photos -> index -> prepare -> pairs -> fit -> export -> report

Each stage leaves files in the run folder and is skipped where nothing it depends on has changed; so the same command
again goes on where it was stopped.
"""

import argparse
import contextlib
import dataclasses
import difflib
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from relightgan.core.errors import DeviceError, PhotoError, TrainingError, UsageError
from relightgan.core.progress import STYLES, cancellation
from relightgan.training import recipe_cut, recipe_cyclegan, recipe_relight
from relightgan.training.checkpoint import check_same_run, newest_checkpoint, read_checkpoint
from relightgan.training.config import PRESETS, RunConfig, resolve, resolved, resolved_yaml
from relightgan.training.dataset import Dataset, make_dataset, manifest
from relightgan.training.export import export_look
from relightgan.training.kept import digest, file_digest, placing, read_notes, write_notes
from relightgan.training.loop import fit
from relightgan.training.preview import look_preview
from relightgan.training.recipe import Direction, Recipe
from relightgan.training.run_log import RunLog, duration
from relightgan.training.run_report import note_run, write_run_report
from relightgan.training.settings import add_options, given_options

SHORT_OPTIONS = {"train.max_minutes": "--max-minutes"}
# Of a time limit, what export and report of each fit get; measured 55 s of a `relight` look on two cores, with 256
# photos of 320 px.
RESERVE_SHARE, LEAST_RESERVE_S, MOST_RESERVE_S = 0.05, 40.0, 120.0
LEAST_FIT_SHARE = 0.25  # of the time limit: however long the photos took, so much is fitted
EXAMPLES = f"""examples:
  relightgan train --source cloudy_day --target sunny_day --out sunny.onnx --max-minutes 30
  relightgan train --source day1 day1_extra --target day2 --out look.onnx --preset cyclegan --both-directions
  relightgan train --source day1 --target day2 --out look.onnx --config run.yaml --relight.batch-size 16
  relightgan train --preset cyclegan --dry-run > run.yaml

The same command again goes on where it was stopped. Presets: {", ".join(PRESETS)}.
"""


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


def main(argv: Sequence[str]) -> int:
    """Runs `relightgan train`; see its --help."""
    parser = make_parser()
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        names = [name for action in parser._actions for name in action.option_strings]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], names, n=1, cutoff=0.5)
        parser.error(f"there is no option {unknown[0]}" + (f"; did you mean {near[0]}?" if near else ""))
    device = choose_device(options.device)
    config = resolve(given_options(options, RunConfig), options.config)
    if options.dry_run:
        print(resolved_yaml(config), end="")
        return 0
    for name in ("source", "target", "out"):
        if getattr(options, name) is None:
            parser.error(f"--{name} is needed")
    job = make_job(options, device)
    command = shlex.join(["relightgan", "train", *argv])
    looks, report = train(job, config, command)
    for path in (*looks, report):
        print(path)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The options of the command: its own, and one for each setting."""
    parser = argparse.ArgumentParser(
        prog="relightgan train",
        usage="relightgan train --source DIR... --target DIR... --out LOOK [options]",
        description="Fits a look to two folders of set photos, taken under two lights.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, light in (("--source", "the light that your plates have"), ("--target", "the light that they shall get")):
        parser.add_argument(name, nargs="+", type=Path, metavar="DIR", help=f"folders with photos of {light}")
    parser.add_argument("--out", type=Path, metavar="LOOK", help="the look to write, .onnx")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="for all other files [LOOK without .onnx, + _run]")
    parser.add_argument("--config", type=Path, metavar="YAML", help="settings; --dry-run prints them all")
    parser.add_argument("--both-directions", action="store_true", help="also write LOOK_back.onnx, target to source")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1, ... or auto [auto]")
    parser.add_argument("--progress", choices=STYLES, default="auto", help="how to show progress [auto]")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved settings as YAML, and stop")
    add_options(parser, RunConfig, SHORT_OPTIONS)
    return parser


def make_job(options: argparse.Namespace, device: torch.device) -> Job:
    """What the options ask for.

    Raises:
        UsageError: they contradict each other.
        PhotoError: a folder isn't there; found now, and not when the other side's photos have been looked at.
    """
    out: Path = options.out
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out is {out}, but a look is an .onnx file.", f"Give --out {out.with_suffix('.onnx')}.")
    sources, targets = tuple(options.source), tuple(options.target)
    shared = {folder.resolve() for folder in sources} & {folder.resolve() for folder in targets}
    if shared:
        raise UsageError(f"{shared.pop()} is both --source and --target.", "Give folders of two different lights.")
    for folder in (*sources, *targets):
        if not folder.is_dir():
            raise PhotoError(f"{folder} is not a folder.", "Give a folder with photos in it.")
    run_dir = options.run_dir or out.with_name(f"{out.stem}_run")
    return Job(sources, targets, out, run_dir, options.both_directions, device, options.progress)


def choose_device(name: str) -> torch.device:
    """The device to fit on: "auto" is the first GPU where torch has one, else the CPU.

    Raises:
        DeviceError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"There is no device '{name}'.", "Give cpu, cuda, cuda:1, ... or auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA devices.",
            "See `relightgan doctor`, install torch with CUDA, or give --device cpu.",
        )
    return device


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
