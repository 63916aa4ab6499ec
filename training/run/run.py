"""A run: what every stage from photos to report shares."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from relightgan.core.progress import Cancellation
from relightgan.training.pairs.backbones import Backbone, load_backbone
from relightgan.training.run.config import RunConfig
from relightgan.training.run_log import RunLog
from relightgan.training.stage import Stage
from relightgan.training.stage_cache import open_stage


@dataclass(frozen=True)
class Run:
    """A run folder with what its stages need.

    Attributes:
        folder: keeps everything but the look.
        config: decides what the run makes of its photos.
        device: runs the networks.
        log: takes a line about each stage.
        stop: asked between steps.
        style: of the stages' progress, one of `core.progress.STYLES`; the log's own when empty.
    """

    folder: Path
    config: RunConfig
    device: torch.device
    log: RunLog
    stop: Cancellation
    style: str = ""

    def stage(self, name: str) -> Stage:
        """The place, which is made, and the means of the stage that keeps its files in the sub-folder of this name.

        Raises:
            TrainingError: its folder can't be made, or the run folder is gone.
        """
        folder = open_stage(self.folder / name, within=self.folder)
        return Stage(folder, self.device, self.style or self.log.stage_style, self.stop)

    @cached_property
    def backbone(self) -> Backbone:
        """The pretrained backbone on the run's device, loaded when it is first needed."""
        pairing = self.config.pairing
        return load_backbone(pairing.backbone, pairing.weights).to(self.device)
