"""The registered photos of a finished fit, from its run folder; nothing there is made anew that the fit left."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from relightgan.core.errors import TrainingError
from relightgan.core.guidance_files import photos_digest
from relightgan.core.progress import Cancellation
from relightgan.training.guidance.making import load_observers
from relightgan.training.pairs.backbones import Backbone, load_backbone
from relightgan.training.photos.bank import PhotoBank, prepare_photos
from relightgan.training.photos.index import read_index
from relightgan.training.run.config import RunConfig, read_yaml
from relightgan.training.run.sides import SIDES, Side, content_ids, training_bank
from relightgan.training.run.stages import register_sides, side_features
from relightgan.training.settings import from_dict
from relightgan.training.world.depth import DepthMaps
from relightgan.training.world.registration import Registration
from relightgan.training.world.views import RegisteredViews

FIX = "Give --run the run folder of a `relight` look whose photos were registered; the fit's log says so."


@dataclass(frozen=True)
class RunPhotos:
    """What a run folder knows of its photos.

    Attributes:
        config: of the fit.
        banks: source and target training photos.
        features: (n, C) of both, as the backbone gives them.
        backbone: that gave them.
        registration: of both.
        views: the registered photos.
        depths: of them.
        errors: (n,) by how many stops each differs from what its own day's predict; NaN where none do.
        digest: names the photos as looks do, see `core.guidance_files.photos_digest`.
    """

    config: RunConfig
    banks: tuple[PhotoBank, PhotoBank]
    features: tuple[np.ndarray, np.ndarray]
    backbone: Backbone
    registration: Registration
    views: RegisteredViews
    depths: DepthMaps
    errors: np.ndarray
    digest: str


def load_run(run_dir: Path, device: torch.device, style: str, stop: Cancellation) -> RunPhotos:
    """The registered photos of a run.

    Args:
        run_dir: of the fit.
        device: that works.
        style: of progress, see `core.progress`.
        stop: asked between photos.

    Raises:
        TrainingError: it is no run folder, or its photos weren't registered.
        ConfigError: its configuration is of another version.
        PhotoError: photos are missing.
        Cancelled: a stop was asked for; what is done is kept.
    """
    config_path = run_dir / "config.yaml"
    if not config_path.is_file():
        raise TrainingError(f"{run_dir} is no run folder: it has no config.yaml.", FIX)
    config = from_dict(RunConfig, read_yaml(config_path), str(config_path))
    if not (run_dir / "registration" / "solve.npz").is_file():
        raise TrainingError(f"The photos of {run_dir} weren't registered.", FIX)
    backbone = load_backbone(config.pairing.backbone, config.pairing.weights).to(device)
    source, target = (_side(name, run_dir, config, style, stop) for name in SIDES)
    network: Callable[[], Backbone] = lambda: backbone  # noqa: E731 - typed
    a, b = (
        side_features(side, run_dir / "pairs", config, network, device, style, stop)[: side.train]
        for side in (source, target)
    )
    registration = register_sides((source, target), (a, b), run_dir / "registration", config, style, stop)
    if registration is None:
        raise TrainingError(f"The photos of {run_dir} couldn't be put into one world.", FIX)
    banks = (training_bank(source), training_bank(target))
    ids = [name for bank in banks for name in content_ids(bank, config)]
    views, depths, errors = load_observers(
        registration, banks, ids, config.guidance, run_dir / "guidance", device, style, stop
    )
    named = {side.name: {"training_photos": [p.id for p in side.photos[: side.train]]} for side in (source, target)}
    digest = photos_digest(named)
    return RunPhotos(config, banks, (a, b), backbone, registration, views, depths, errors, digest)


# Private implementation


def _side(name: str, run_dir: Path, config: RunConfig, style: str, stop: Cancellation) -> Side:
    index = read_index(run_dir / "photos" / name / "index.json")
    train, val = index.kept("train"), index.kept("val")
    photos = (*train, *val)
    bank = prepare_photos(photos, run_dir / "prepared", config.photo_px, style, stop.check)
    return Side(name, index, photos, len(train), bank, run_dir / "photos" / name / "contact_sheet.jpg")
