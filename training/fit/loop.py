"""The loop that fits a recipe: time, schedule, average weights, checkpoints, previews and metrics, from top to bottom.

What a step learns from is the recipe's business; how long, and what is left behind on disk, is this module's. Progress
is counted in images, and every random number of a step comes from (seed, images seen): the same command again goes on
to the numbers an uninterrupted fit would have had. (With a time limit the schedule follows the clock, so it isn't
repeated to the bit; nor are the sums of a GPU.)
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relightgan.core.errors import Cancelled, ConfigError, TrainingError
from relightgan.core.progress import Cancellation, cancellation
from relightgan.training.fit.checkpoint import (
    Progress,
    check_same_run,
    newest_checkpoint,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from relightgan.training.fit.preview import PreviewPhotos, write_preview
from relightgan.training.fit.recipe import Recipe
from relightgan.training.run_log import RunLog, duration
from relightgan.training.stage_cache import placing

STATUS_KEEP = 0.96  # of the losses shown, at each step: about the mean of the last 25, some of which lack a loss
DIVERGED = 1e6  # no loss of ours comes near this while a fit is sound


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How long a fit runs, and what it leaves behind on the way."""

    # Length of the fit, in photos shown from each side. The schedule (learning rates) ends here, or with max_minutes.
    images: int = 400_000
    # Minutes for everything, from photos to report; the schedule ends in this time, or with the images. none: no limit.
    max_minutes: float | None = None
    # The exported weights are an average of the fitted ones in which those of this many images ago count half.
    ema_half_life_images: int = 10_000
    # While fewer images have been seen, the half-life is at most this share of them (Karras et al. 2020, appendix C).
    ema_warm_up: float = 0.05
    # Multiply in bfloat16, on CUDA and on CPUs made for it: up to twice as fast. Weights stay float32.
    bf16: bool = True
    # One line of metrics per this many images: the mean of each loss over them.
    log_images: int = 64
    # When to write previews, as parts of the schedule from 0 to 1.
    previews: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    # Photos in each preview, of each direction.
    preview_photos: int = 4
    # Minutes between checkpoints.
    checkpoint_minutes: float = 5.0
    # Checkpoints kept, newest first.
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
    config: Mapping[str, Any],  # the resolved run configuration as nested plain values, kept in every checkpoint
    data_key: str,  # names the photos and pairs; a checkpoint made from others is refused
    previews: tuple[PreviewPhotos, ...] = (),  # one per direction; () = no previews
    seconds_allowed: float | None = None,  # for the fit over all its starts; None = the image count alone ends it
    stop: Cancellation | None = None,  # asked before each step; None = SIGINT and SIGTERM ask the fit to stop
) -> Progress:
    """Fits a recipe until its schedule is finished; goes on from the newest checkpoint in the run folder.

    Leaves `metrics.jsonl`, `previews/` and `checkpoints/` in `run_dir`.

    Raises:
        TrainingError: a checkpoint can't be gone on from, or the fit has diverged.
        Cancelled: SIGINT or SIGTERM came; a checkpoint has been written first.
    """
    checkpoints, metrics = run_dir / "checkpoints", run_dir / "metrics.jsonl"

    # Where were we?
    progress = Progress()
    if (path := newest_checkpoint(checkpoints)) is not None:
        content = read_checkpoint(path, device)
        check_same_run(content["config"], config, content["data_key"], data_key, path)
        progress = restore(content, path, recipe)
        log.say(
            f"Going on from {path.name}: {progress.images:,} images, {duration(progress.seconds)} of fitting so far."
        )
    forget_after(run_dir, progress.images)
    run_dir.mkdir(parents=True, exist_ok=True)

    def checkpoint() -> Path:
        return save_checkpoint(checkpoints, recipe, progress, config, data_key, settings.keep_checkpoints)

    began = time.monotonic() - progress.seconds
    images_at_start, seconds_at_start = progress.images, progress.seconds
    last_checkpoint, per_s = time.monotonic(), 0.0
    usual: dict[str, float] = {}  # losses as they are shown
    with cancellation() if stop is None else contextlib.nullcontext(stop) as stop:
        while True:
            # How far is it?
            progress.seconds = time.monotonic() - began
            progress.fraction = fraction_done(progress.images, settings.images, progress.seconds, seconds_allowed)
            done = progress.fraction >= 1

            # Pictures of how far it is.
            due = sum(rung <= progress.fraction for rung in settings.previews)
            if due > progress.previews:
                progress.previews = due
                for photos in previews:
                    name = f"preview-{photos.direction}-{progress.images:09d}.jpg"
                    write_preview(recipe, photos, run_dir / "previews" / name, progress.images)

            # Keep what there is.
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
                stop.check()  # one that came while the last checkpoint was written
                break

            # One step, and the average of the weights.
            rng = np.random.default_rng([seed, progress.images])
            torch.manual_seed(int(rng.integers(2**63)))
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16 and multiplies_bf16(device)):
                losses = recipe.step(rng, progress.fraction)
            check_losses(losses, progress.images, checkpoints)
            progress.images += recipe.batch_size
            keep = ema_keep(recipe.batch_size, progress.images, settings.ema_half_life_images, settings.ema_warm_up)
            update_ema(recipe.ema, recipe.networks, keep)

            # Numbers of how far it is.
            progress.steps += 1
            for name, value in losses.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
                usual[name] = value + STATUS_KEEP * (usual.get(name, value) - value)
            progress.seconds = time.monotonic() - began
            per_s = (progress.images - images_at_start) / max(progress.seconds - seconds_at_start, 1e-9)
            if progress.images // settings.log_images > (progress.images - recipe.batch_size) // settings.log_images:
                write_metrics(metrics, progress, per_s)
            left_s = seconds_left(progress.images, settings.images, per_s, progress.seconds, seconds_allowed)
            log.status(
                f"{progress.images:,} images, {per_s:.3g} images/s, {progress.fraction:.0%} done, "
                f"{duration(left_s)} left; " + ", ".join(f"{name} {value:.3g}" for name, value in usual.items()),
                progress.fraction,
            )
    word = "Fitted" if progress.images > images_at_start else "The fit was finished before:"
    log.say(f"{word} {progress.images:,} images in {duration(progress.seconds)}.")
    return progress


def multiplies_bf16(device: torch.device) -> bool:
    """Does the device multiply bfloat16 itself? Others go the long way round, slower than with float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 doesn't tell
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def fraction_done(images: int, images_budget: int, seconds: float, seconds_allowed: float | None) -> float:
    """How much of the schedule is done, 0 to 1: by images or by time, whichever is further on.

    Learning rates follow this number, so a time limit ends in a finished schedule and not in a cut-off one.
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
    """The share of the average that stays at one step, 0 to 1.

    Args:
        batch_size: images per step.
        images: seen so far.
        half_life_images: after so many images a weight's part in the average has halved.
        warm_up: the half-life is at most this share of `images`, so that the start is soon forgotten; 0 turns it off.

    Source: Karras et al., Training GANs with Limited Data, 2020, appendix C and its code.
    """
    half_life = min(half_life_images, images * warm_up) if warm_up else half_life_images
    return float(0.5 ** (batch_size / max(half_life, 1e-9)))


@torch.no_grad()
def update_ema(ema: Mapping[str, torch.nn.Module], networks: Mapping[str, torch.nn.Module], keep: float) -> None:
    """Moves each averaged network towards the fitted one of its name; buffers are copied.

    Args:
        ema: averaged copies, changed in place.
        networks: the fitted networks, holding the names of `ema`.
        keep: from `ema_keep`.
    """
    for name, average in ema.items():
        for mean, now in zip(average.parameters(), networks[name].parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
        for old, new in zip(average.buffers(), networks[name].buffers(), strict=True):
            old.copy_(new)


def write_metrics(path: Path, progress: Progress, images_per_s: float) -> None:
    """Appends one line of JSON: how far, how fast, and the mean of each loss since the line before.

    Raises:
        TrainingError: the file can't be written.
    """
    line = {
        "images": progress.images,
        "seconds": round(progress.seconds, 3),
        "fraction": round(progress.fraction, 6),
        "images_per_s": round(images_per_s, 3),
        "losses": {name: total / progress.steps for name, total in progress.sums.items()},
    }
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise TrainingError(
            f"{path} can't be written: {error.strerror}.", "Free some space, or choose another --run-dir."
        ) from error
    progress.steps, progress.sums = 0, {}


def check_losses(losses: Mapping[str, float], images: int, checkpoints: Path) -> None:
    """Stops a fit whose losses are no longer finite, or beyond all reason. Nothing is put back or skipped on the quiet.

    Args:
        losses: of one step, by name.
        images: seen before that step.
        checkpoints: the folder they lie in, for the message.

    Raises:
        TrainingError: names the loss, its value and where the last sound state is.
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
    """Removes metrics and previews of a run folder that are later than its checkpoint: they will be made again."""
    metrics = run_dir / "metrics.jsonl"
    if metrics.exists():
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["images"] <= images]
        if kept != lines:
            with placing(metrics) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")
    for preview in (run_dir / "previews").glob("preview-*.jpg"):
        if int(preview.stem.rpartition("-")[2]) > images:
            preview.unlink()
