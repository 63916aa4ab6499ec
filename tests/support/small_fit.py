"""A real but small recipe, two convolutions that learn to warm up pictures, and a command that fits it.

`python small_fit.py RUN_DIR --images N` is to `fit` what `relightgan train` is: the same command again goes on.
"""

import argparse
import copy
import sys
from pathlib import Path

import numpy as np
import torch

from relightgan.core.cli import run_command
from relightgan.training.fit.loop import TrainSettings, fit
from relightgan.training.fit.recipe import ExportSpec
from relightgan.training.run_log import RunLog

CONFIG = {"seed": 3, "small": {"learning_rate": 0.01}, "train": {"images": 0}}


class SmallRecipe:
    """Regression from generated pictures to the same ones with a warm gain, with dropout and a memory of one number.

    Dropout draws from torch's generator, and the memory bends later steps: both must survive a stop.
    """

    def __init__(self, learning_rate: float = 0.01):
        self.batch_size = 4
        self.learning_rate = learning_rate
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(0.1),
            torch.nn.Conv2d(8, 3, 1),
        )  # fmt: skip
        self.networks = {"net": net}
        self.ema = {"net": copy.deepcopy(net).eval()}
        self.optimisers = {"net": torch.optim.Adam(net.parameters(), lr=learning_rate)}
        self.running = torch.zeros(1)
        self.fractions: list[float] = []

    def step(self, rng, fraction_done):
        self.fractions.append(fraction_done)
        self.optimisers["net"].param_groups[0]["lr"] = self.learning_rate * (1 - fraction_done)
        photos = torch.from_numpy(rng.random((self.batch_size, 3, 12, 12), dtype=np.float32))
        wanted = photos * torch.tensor([1.2, 1.0, 0.7]).view(1, 3, 1, 1)
        difference = ((self.networks["net"](photos) - wanted) ** 2).mean()
        self.running = 0.9 * self.running + 0.1 * difference.detach()
        loss = difference / (1 + self.running)
        self.optimisers["net"].zero_grad()
        loss.backward()
        self.optimisers["net"].step()
        return {"difference": difference.item(), "loss": loss.item()}

    @torch.no_grad()
    def relight(self, photos, direction):
        return self.ema["net"](photos)

    def export(self, direction, learned=True):
        return ExportSpec(self.ema["net"], (torch.zeros(1, 3, 8, 8),), ("relit",), {})

    def memory(self):
        return {"running": self.running}

    def recall(self, memory):
        self.running = memory["running"]


def small_fit(
    run_dir: Path,
    images: int,
    recipe=None,
    config=None,
    data_key="photos",
    previews=(),
    seconds=None,
    held_out=None,
    **settings,
):
    """Fits a fresh SmallRecipe in `run_dir`, or goes on there. Gives (recipe, progress)."""
    run_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(CONFIG["seed"])
    recipe = recipe or SmallRecipe()
    values = {"log_images": 20, "ema_half_life_images": 100, **settings}
    with RunLog(style="none") as log:
        progress = fit(
            recipe, run_dir, TrainSettings(images=images, **values), seed=CONFIG["seed"], device=torch.device("cpu"),
            log=log, config=config or CONFIG, data_key=data_key, previews=previews, seconds_allowed=seconds,
            held_out=held_out,
        )  # fmt: skip
    return recipe, progress


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--images", type=int, required=True)
    arguments = parser.parse_args()
    small_fit(arguments.run_dir, arguments.images)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
