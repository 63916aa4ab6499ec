"""Checkpoints: the complete state of a fit in one file, so that a resumed fit gives the same numbers.

A checkpoint is a dict of tensors, numbers and strings, and is loaded with `weights_only`: it can't run code. It is
written under a temporary name and renamed, so a file with the right name is always whole. The random numbers of a step
are a function of (seed, images so far), so no state of a generator is stored.
"""

import dataclasses
import errno
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from relightgan.core.errors import TrainingError
from relightgan.core.version import VERSION
from relightgan.training.fit.recipe import Recipe
from relightgan.training.settings import differences, flatten
from relightgan.training.stage_cache import placing
from relightgan.training.stored_arrays import DamagedFile
from relightgan.training.stored_tensors import read_tensors

CHECKPOINT_FORMAT = 1
CONTENT = {
    "config": dict, "data_key": str, "progress": dict, "networks": dict, "ema": dict, "optimisers": dict,
    "memory": dict,
}  # fmt: skip
NAME = "checkpoint-{images:09d}.pt"
# Settings that may differ when a fit is resumed. They decide its length, its logs and the export, but no step.
FREE_KEYS = (
    "preset",
    "train.images",
    "train.max_minutes",
    "train.checkpoint_minutes",
    "train.keep_checkpoints",
    "train.log_images",
    "train.previews",
    "train.preview_photos",
    "relight.match_detail",
)


@dataclasses.dataclass
class FitProgress:
    """How far a fit has come; saved with the networks."""

    images: int = 0  # photos of each day that steps have used
    seconds: float = 0.0  # time spent fitting, summed over all starts
    fraction: float = 0.0  # the share of the schedule that is done; 1 is finished
    previews: int = 0  # number of previews written, of those in the settings
    steps: int = 0  # steps since the last line of metrics
    sums: dict[str, float] = dataclasses.field(default_factory=dict)  # the sum of each loss over these steps


def save_checkpoint(
    folder: Path, recipe: Recipe, progress: FitProgress, config: Mapping[str, Any], data_key: str, keep: int
) -> Path:
    """Writes a checkpoint and removes all but the newest `keep`; its path.

    Args:
        folder: the folder of checkpoints, which is there.
        recipe: the recipe whose networks, EMA copies, optimisers and memory are saved.
        progress: how far the fit has come.
        config: the resolved run configuration as nested plain values.
        data_key: the hash of the photos and pairs of the fit.
        keep: number of checkpoints to keep, at least 1.

    Raises:
        TrainingError: a network has weights that aren't finite, or the file can't be written.
    """
    for name, network in recipe.networks.items():
        if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
            raise TrainingError(
                f"The network '{name}' holds values that aren't finite after {progress.images:,} images; "
                "no checkpoint was written.",
                "Start again in another --run-dir with a lower learning rate.",
            )
    content = {
        "format": CHECKPOINT_FORMAT,
        "version": VERSION,
        "config": dict(config),
        "data_key": data_key,
        "progress": dataclasses.asdict(progress),
        "networks": {name: network.state_dict() for name, network in recipe.networks.items()},
        "ema": {name: network.state_dict() for name, network in recipe.ema.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in recipe.optimisers.items()},
        "memory": recipe.memory(),
    }
    path = folder / NAME.format(images=progress.images)
    with placing(path) as temporary:
        try:
            # Through a file of Python's, which notices where a full disk takes only a part of the last bytes.
            with temporary.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # torch's word for a failed write names lines of its own source
            raise OSError(errno.EIO, "it came out short") from error
    for old in _checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most images in a folder, or None where there is none."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint, read with `weights_only`.

    Raises:
        TrainingError: the file can't be read, or has another format number.
    """
    try:
        content = read_tensors(path, device)
    except OSError as error:
        problem = f"The checkpoint {path} can't be read: {error.strerror}."
        raise TrainingError(problem, "Delete it to go on from the one before.") from error
    except DamagedFile as error:
        problem = f"The checkpoint {path} can't be read: {error}."
        raise TrainingError(problem, "Delete it to go on from the one before.") from error
    if not isinstance(content, dict) or "format" not in content:
        raise TrainingError(f"The file {path} is no checkpoint.", "Delete it to go on from the one before.")
    found = content["format"]
    if found != CHECKPOINT_FORMAT:
        raise TrainingError(
            f"The checkpoint {path} is of format {found}; this version reads {CHECKPOINT_FORMAT}.",
            "Finish the run with the version that began it, or choose another --run-dir.",
        )
    wrong = [name for name, kind in CONTENT.items() if not isinstance(content.get(name), kind)]
    if wrong:
        problem = f"The checkpoint {path} can't be read: {', '.join(wrong)} is missing or of another kind."
        raise TrainingError(problem, "Delete it to go on from the one before.")
    return content


def restore(content: Mapping[str, Any], path: Path, recipe: Recipe) -> FitProgress:
    """Restores a recipe from a checkpoint; how far the fit had come.

    Args:
        content: the result of `read_checkpoint`.
        path: path of that checkpoint, for messages.
        recipe: a recipe built from the same configuration.

    Raises:
        TrainingError: the recipe's networks have another shape.
    """
    try:
        for name, network in recipe.networks.items():
            network.load_state_dict(content["networks"][name])
        for name, network in recipe.ema.items():
            network.load_state_dict(content["ema"][name])
        for name, optimiser in recipe.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        recipe.recall(content["memory"])
        return _progress_of(content["progress"])
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise TrainingError(
            f"The checkpoint {path} (version {content.get('version')}) doesn't fit this version's networks: "
            f"{_first_line(error)}.",
            "Finish the run with the version that began it, or choose another --run-dir.",
        ) from error


def check_same_run(
    old_config: Mapping[str, Any], config: Mapping[str, Any], old_data: str | None, data_key: str | None, place: Path
) -> None:
    """Refuses to resume a run with other settings or photos.

    Args:
        old_config: the configuration at the start of the run, nested plain values.
        config: the configuration now.
        old_data: the hash of photos and pairs at the start of the run; None where it isn't known yet.
        data_key: the same hash now.
        place: the file with the old values, for messages.

    Raises:
        TrainingError: a setting outside `FREE_KEYS` differs (with the key and both values), or photos or pairs differ.
    """
    known = flatten(config).keys() & flatten(old_config).keys()
    for key, ours, theirs in differences(config, old_config):
        if key in FREE_KEYS:
            continue
        if key not in known:
            raise TrainingError(
                f"{place} was made by another version, which has other settings: {key}.",
                "Go on with that run by the version it was made with, or choose another --run-dir for a new one.",
            )
        raise TrainingError(
            f"{place} was made with {key} = {theirs!r}; now {ours!r} is asked for.",
            f"Set {key} back to go on with that run, or choose another --run-dir for a new one.",
        )
    if old_data is not None and data_key is not None and old_data != data_key:
        raise TrainingError(
            f"{place} was made from other photos or pairs than those found now.",
            "Put the photos back to go on with that run, or choose another --run-dir for a new one.",
        )


# Private implementation


def _progress_of(values: Mapping[str, Any]) -> FitProgress:
    """Raises TypeError or ValueError where a value is missing, of another kind or can't be."""
    progress = FitProgress(**values)
    for field in dataclasses.fields(FitProgress):
        value = getattr(progress, field.name)
        numbers = [value] if field.type in (int, float) else list(value.values())
        whole = field.type is int
        if not all(isinstance(number, int if whole else (int, float)) for number in numbers):
            raise TypeError(f"{field.name} is {value!r:.50}")
        if field.type in (int, float) and not 0 <= value < math.inf:
            raise TypeError(f"{field.name} is {value!r:.50}")
    return progress


def _first_line(error: Exception) -> str:
    """What torch says, in one line without its full stop."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(". ")


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"))
