"""The loop that fits a recipe: schedule, averaged weights, checkpoints, previews and metrics.

The recipe decides what a step learns; this module decides the length of the fit and the files it leaves. Progress is
counted in images, and all random numbers of a step come from (seed, images so far). So a resumed fit gives the numbers
of an uninterrupted one. Two things prevent this: a time limit, as the schedule then follows the clock, and a GPU, whose
sums aren't repeatable to the bit.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relightgan.core.errors import Cancelled, ConfigError, TrainingError
from relightgan.core.files import in_plain_words
from relightgan.core.progress import Cancellation, cancellation
from relightgan.core.regular import read_regular
from relightgan.training.fit.checkpoint import (
    FitProgress,
    check_same_run,
    newest_checkpoint,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from relightgan.training.fit.preview import PreviewPhotos, write_preview
from relightgan.training.fit.recipe import Recipe
from relightgan.training.run_log import RunLog, duration
from relightgan.training.stage_cache import not_written, open_stage, write_page
from relightgan.training.stored_json import MAX_NOTES_BYTES, parse_json, typed, typed_value

STATUS_KEEP = 0.96  # smoothing of the losses in the status line: about the mean of the last 25 steps
DIVERGED = 1e6  # a loss of this size means that the fit has diverged; sound ones stay far below


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The length of a fit, and the files that it leaves."""

    # Length of the fit, in photos of each day. The schedule (learning rates) ends here, or with max_minutes.
    images: int = 400_000
    # Minutes for the whole run, from photos to report. The schedule ends with this or with images. none: no limit.
    max_minutes: float | None = None
    # The exported weights are an exponential average of the fitted ones, with this half-life in images.
    ema_half_life_images: int = 10_000
    # The half-life is at most this share of the images so far (Karras et al. 2020, appendix C).
    ema_warm_up: float = 0.05
    # Multiply in bfloat16 where the GPU or CPU has instructions for it: up to twice as fast. Weights stay float32.
    bf16: bool = True
    # Images per line of metrics, each with the mean of every loss.
    log_images: int = 64
    # When to write previews, as shares of the schedule from 0 to 1.
    previews: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    # Photos per preview and direction.
    preview_photos: int = 4
    # Minutes between checkpoints.
    checkpoint_minutes: float = 5.0
    # Number of checkpoints to keep; older ones are deleted.
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for name in ("images", "ema_half_life_images", "log_images", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "It must be 1 or more.")
        for name in ("ema_warm_up", "preview_photos", "checkpoint_minutes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "Give 0 or more.")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ConfigError(f"max_minutes is {self.max_minutes}.", "It must be above 0, or none.")
        if any(not 0 <= rung <= 1 for rung in self.previews) or list(self.previews) != sorted(self.previews):
            raise ConfigError(f"previews is {list(self.previews)}.", "It must rise from 0 to 1.")


def fit(
    recipe: Recipe,
    run_dir: Path,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    log: RunLog,
    config: Mapping[str, Any],  # the resolved run configuration as nested plain values, stored in every checkpoint
    data_key: str,  # hash of the photos and pairs; a checkpoint with another one is refused
    previews: tuple[PreviewPhotos, ...] = (),  # one per direction; () = no previews
    held_out: Callable[[], Mapping[str, float]] | None = None,  # errors by name; asked after steps, with previews
    seconds_allowed: float | None = None,  # for the fit, summed over all starts; None = the image count alone ends it
    stop: Cancellation | None = None,  # asked before each step; None = SIGINT and SIGTERM ask the fit to stop
) -> FitProgress:
    """Fits a recipe to the end of its schedule, from the newest checkpoint in the run folder if there is one.

    Leaves `metrics.jsonl`, `previews/` and `checkpoints/` in `run_dir`, which is there.

    Raises:
        TrainingError: a checkpoint can't be resumed, or the fit has diverged.
        Cancelled: after SIGINT or SIGTERM, when a checkpoint has been written.
    """
    checkpoints, metrics = run_dir / "checkpoints", run_dir / "metrics.jsonl"

    # Resume.
    progress = FitProgress()
    if (path := newest_checkpoint(checkpoints)) is not None:
        content = read_checkpoint(path, device)
        check_same_run(content["config"], config, content["data_key"], data_key, path)
        progress = restore(content, path, recipe)
        log.say(
            f"Going on from {path.name}: {progress.images:,} images, {duration(progress.seconds)} of fitting so far."
        )
    open_stage(checkpoints, within=run_dir)
    open_stage(run_dir / "previews", within=run_dir)

    forget_after(run_dir, progress.images)

    def checkpoint() -> Path:
        return save_checkpoint(checkpoints, recipe, progress, config, data_key, settings.keep_checkpoints)

    began = time.monotonic() - progress.seconds
    images_at_start, seconds_at_start = progress.images, progress.seconds
    last_checkpoint, per_s = time.monotonic(), 0.0
    smoothed: dict[str, float] = {}  # smoothed losses of the status line
    with cancellation() if stop is None else contextlib.nullcontext(stop) as stop:
        while True:
            # Position in the schedule.
            progress.seconds = time.monotonic() - began
            progress.fraction = fraction_done(progress.images, settings.images, progress.seconds, seconds_allowed)
            done = progress.fraction >= 1

            # Previews.
            due = sum(rung <= progress.fraction for rung in settings.previews)
            if due > progress.previews:
                progress.previews = due
                for photos in previews:
                    name = f"preview-{photos.direction}-{progress.images:09d}.jpg"
                    write_preview(recipe, photos, run_dir / "previews" / name, progress.images)
                if held_out is not None and progress.images:
                    add_line(metrics, progress, held_out())

            # Last metrics, stop, checkpoints.
            if done and progress.steps:
                write_metrics(metrics, progress, per_s)
            if stop.asked:
                path = checkpoint()
                raise Cancelled(
                    f"Stopped after {progress.images:,} images ({progress.fraction:.0%}); all of it is in {path}.",
                    "Run the same command again to go on.",
                )
            is_new = progress.images > images_at_start or not images_at_start
            if (done and is_new) or time.monotonic() - last_checkpoint > settings.checkpoint_minutes * 60:
                checkpoint()
                last_checkpoint = time.monotonic()
            if done:
                stop.check()  # a signal may have come while the last checkpoint was written
                break

            # A step, and the averaged weights.
            rng = np.random.default_rng([seed, progress.images])
            torch.manual_seed(int(rng.integers(2**63)))
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16 and multiplies_bf16(device)):
                losses = recipe.step(rng, progress.fraction)
            check_losses(losses, progress.images, checkpoints)
            progress.images += recipe.batch_size
            keep = ema_keep(recipe.batch_size, progress.images, settings.ema_half_life_images, settings.ema_warm_up)
            update_ema(recipe.ema, recipe.networks, keep)

            # Metrics and status line.
            progress.steps += 1
            for name, value in losses.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
                smoothed[name] = value + STATUS_KEEP * (smoothed.get(name, value) - value)
            progress.seconds = time.monotonic() - began
            per_s = (progress.images - images_at_start) / max(progress.seconds - seconds_at_start, 1e-9)
            if progress.images // settings.log_images > (progress.images - recipe.batch_size) // settings.log_images:
                write_metrics(metrics, progress, per_s)
            left_s = seconds_left(progress.images, settings.images, per_s, progress.seconds, seconds_allowed)
            log.status(
                f"{progress.images:,} images, {per_s:.3g} images/s, {progress.fraction:.0%} done, "
                f"{duration(left_s)} left; " + ", ".join(f"{name} {value:.3g}" for name, value in smoothed.items()),
                progress.fraction,
            )
    word = "Fitted" if progress.images > images_at_start else "The fit was finished before:"
    log.say(f"{word} {progress.images:,} images in {duration(progress.seconds)}.")
    return progress


def multiplies_bf16(device: torch.device) -> bool:
    """True where the device has instructions for bfloat16; others emulate it, slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 lacks it
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def fraction_done(images: int, images_budget: int, seconds: float, seconds_allowed: float | None) -> float:
    """The share of the schedule that is done, 0..1: the larger of its shares by images and by time.

    Learning rates follow it, so a time limit shortens the schedule instead of cutting it off.
    """
    by_time = seconds / max(seconds_allowed, 1e-9) if seconds_allowed is not None else 0.0
    return min(1.0, max(images / images_budget, by_time))


def seconds_left(
    images: int, images_budget: int, images_per_s: float, seconds: float, seconds_allowed: float | None
) -> float:
    """Seconds until the schedule ends at this rate, by images or by time, whichever ends first."""
    by_images = (images_budget - images) / max(images_per_s, 1e-9)
    by_time = seconds_allowed - seconds if seconds_allowed is not None else math.inf
    return max(0.0, min(by_images, by_time))


def ema_keep(batch_size: int, images: int, half_life_images: float, warm_up: float) -> float:
    """The weight of the old average in a step of the exponential average, 0..1.

    Args:
        batch_size: images per step.
        images: images so far.
        half_life_images: half-life of the average, in images.
        warm_up: the half-life is at most this share of `images`, which limits the influence of the first steps; 0: no
            such limit.

    Source: Karras et al., Training GANs with Limited Data, 2020, appendix C and its code.
    """
    half_life = min(half_life_images, images * warm_up) if warm_up else half_life_images
    return float(0.5 ** (batch_size / max(half_life, 1e-9)))


@torch.no_grad()
def update_ema(ema: Mapping[str, torch.nn.Module], networks: Mapping[str, torch.nn.Module], keep: float) -> None:
    """Moves each averaged network towards the fitted one of its name; buffers are copied.

    Args:
        ema: averaged copies, changed in place.
        networks: the fitted networks, with at least the names of `ema`.
        keep: the result of `ema_keep`.
    """
    for name, average in ema.items():
        for mean, now in zip(average.parameters(), networks[name].parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
        for old, new in zip(average.buffers(), networks[name].buffers(), strict=True):
            old.copy_(new)


def write_metrics(path: Path, progress: FitProgress, images_per_s: float) -> None:
    """Appends a line of JSON: progress, speed, and the mean of each loss since the last line.

    Raises:
        TrainingError: the file can't be written.
    """
    rate = {"images_per_s": round(images_per_s, 3)}
    add_line(path, progress, {name: total / progress.steps for name, total in progress.sums.items()}, rate)
    progress.steps, progress.sums = 0, {}


def add_line(
    path: Path, progress: FitProgress, losses: Mapping[str, float], more: Mapping[str, float] | None = None
) -> None:
    """Appends a line of JSON to the metrics.

    Raises:
        TrainingError: the file can't be written.
    """
    place = {"images": progress.images, "seconds": round(progress.seconds, 3), "fraction": round(progress.fraction, 6)}
    line = {**place, **(more or {}), "losses": dict(losses)}
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise not_written(path, in_plain_words(error, path.parent)) from error


def check_losses(losses: Mapping[str, float], images: int, checkpoints: Path) -> None:
    """Stops a fit with a loss that is not finite or larger than `DIVERGED`. No step is skipped or reverted silently.

    Args:
        losses: losses of one step, by name.
        images: images before that step.
        checkpoints: the folder of checkpoints, for the message.

    Raises:
        TrainingError: with the loss, its value and the newest checkpoint.
    """
    wrong = [f"{name} = {value:.3g}" for name, value in losses.items() if not abs(value) < DIVERGED]
    if wrong:
        newest = newest_checkpoint(checkpoints)
        kept = f"The last checkpoint before that is {newest}." if newest else "No checkpoint had been written yet."
        raise TrainingError(
            f"The fit has diverged after {images:,} images: {', '.join(wrong)}. {kept}",
            "The same command would end the same: give a lower learning rate or another --seed, and a new --run-dir.",
        )


def forget_after(run_dir: Path, images: int) -> None:
    """Removes metrics and previews later than the checkpoint, as the resumed fit makes them again."""
    metrics = run_dir / "metrics.jsonl"
    if metrics.exists():
        kept = "".join(json.dumps(line) + "\n" for line in read_metrics(metrics) if line["images"] <= images)
        if kept.encode() != metrics.read_bytes():
            write_page(metrics, kept)
    for preview in (run_dir / "previews").glob("preview-*.jpg"):
        number = preview.stem.rpartition("-")[2]
        if number.isdecimal() and int(number) > images:
            preview.unlink()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; [] where there is none. A last line that was cut off by a stop doesn't count.

    Raises:
        TrainingError: it can't be read, or a line isn't what `write_metrics` writes.
    """
    if not path.exists():
        return []
    fix = "Delete it; only the report's curves are made of it."
    try:
        *lines, _ = read_regular(path, MAX_NOTES_BYTES).split(b"\n")
    except OSError as error:
        raise TrainingError(f"{path} can't be read: {error.strerror}.", fix) from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            values = parse_json(line)
            typed(values, "images", int)
            for name, loss in typed(values, "losses", dict).items():
                typed_value(loss, name, float)
        except (TypeError, ValueError) as error:
            raise TrainingError(f"Line {number} of {path} is damaged.", fix) from error
        found.append(values)
    return found
