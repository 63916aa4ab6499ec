"""The registered photos of a finished fit, from its run folder; what the fit left there isn't made again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from relightgan.core.errors import TrainingError
from relightgan.core.guidance_files import photos_digest
from relightgan.core.progress import Cancellation
from relightgan.training.days import DAY_NAMES
from relightgan.training.guidance.making import load_observers
from relightgan.training.photos.bank import PhotoBank
from relightgan.training.run.config import RunConfig, read_yaml
from relightgan.training.run.day_photos import read_day
from relightgan.training.run.run import Run
from relightgan.training.run.stages import corrected_ids, embed_day, photometry_of, register
from relightgan.training.run_log import RunLog
from relightgan.training.settings import from_dict
from relightgan.training.world.corrected_photos import corrected_banks
from relightgan.training.world.depth import DepthMaps
from relightgan.training.world.registration import Registration
from relightgan.training.world.views import RegisteredViews

FIX = "Give --run the run folder of a `relight` look whose photos were registered; the fit's log says so."


@dataclass(frozen=True)
class RegisteredPhotos:
    """What a run folder knows of its photos.

    Attributes:
        run: the folder with its configuration and backbone.
        banks: source and target training photos, as they came.
        embeddings: (n, C) of the photos of each day, by the run's backbone.
        registration: both days in one world.
        views: the registered photos, corrected by the photometry of their day.
        depths: their depth maps.
        errors: (n,) by how many stops each photo differs from what other photos of its day predict; NaN where none do.
        digest: names the photos as looks do, see `core.guidance_files.photos_digest`.
    """

    run: Run
    banks: tuple[PhotoBank, PhotoBank]
    embeddings: tuple[np.ndarray, np.ndarray]
    registration: Registration
    views: RegisteredViews
    depths: DepthMaps
    errors: np.ndarray
    digest: str


def load_run(run_dir: Path, device: torch.device, style: str, stop: Cancellation) -> RegisteredPhotos:
    """The registered photos of a run.

    Args:
        run_dir: the run folder of a fit.
        device: runs the backbone and the depth search.
        style: of progress, see `core.progress`.
        stop: asked between photos.

    Raises:
        TrainingError: it is no run folder, or its photos weren't registered.
        ConfigError: its configuration belongs to another version.
        PhotoError: photos are missing.
        Cancelled: a stop was asked for; what is done is kept.
    """
    config_path = run_dir / "config.yaml"
    if not config_path.is_file():
        raise TrainingError(f"{run_dir} is no run folder: it has no config.yaml.", FIX)
    config = from_dict(RunConfig, read_yaml(config_path), str(config_path))
    if not (run_dir / "registration" / "solve.npz").is_file():
        raise TrainingError(f"The photos of {run_dir} weren't registered.", FIX)
    run = Run(run_dir, config, device, RunLog(None, style), stop, style)
    source, target = (read_day(name, run) for name in DAY_NAMES)
    a, b = (embed_day(day, run, run.stage("pairs"))[: day.train] for day in (source, target))
    registration = register((source, target), (a, b), run, run.stage("registration"))
    if registration is None:
        raise TrainingError(f"The photos of {run_dir} couldn't be put into one world.", FIX)
    banks = (source.training_bank, target.training_bank)
    photometry = photometry_of((source, target), registration, run, run.stage("registration"))
    ids = corrected_ids((source, target), photometry, config.photo_px)
    views, depths, errors = load_observers(
        registration, corrected_banks(banks, photometry), ids, config.guidance, run.stage("guidance")
    )
    named = {day.name: {"training_photos": [photo.id for photo in day.training_photos]} for day in (source, target)}
    return RegisteredPhotos(run, banks, (a, b), registration, views, depths, errors, photos_digest(named))
