"""The protocol between recipes and the loop. `relight.recipe`, `gan.cyclegan` and `gan.cut` implement it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from relightgan.training.days import Direction


@dataclasses.dataclass(frozen=True)
class ExportSpec:
    """Everything that export needs to write one direction of a recipe as a look."""

    module: torch.nn.Module  # the whole look with EMA weights: (plate[, window]) -> outputs
    inputs: tuple[torch.Tensor, ...]  # example inputs for tracing
    output_names: tuple[str, ...]  # `relit`, then the operators, then the AOVs in the order of the facts
    facts: Mapping[str, Any]  # the fields of core.look.LookFacts that the recipe decides
    # The two halves of `module`, for an operator look: plate -> operators, and (plate, window, *operators) -> (relit,
    # *aovs), or relit alone without AOVs. They are exported separately and joined, so that the second half takes
    # operators of any size, from any source.
    halves: tuple[torch.nn.Module, torch.nn.Module] | None = None
    # A name for everything of `module` but its weights. Exports of one name share a graph; "" shares none.
    structure: str = ""


class Recipe(Protocol):
    """Networks, losses, optimisers and training data of one translator.

    `a` are the source photos and `b` the target photos; direction "ab" makes a photo of `a` look like `b`.
    """

    networks: dict[str, torch.nn.Module]
    ema: dict[str, torch.nn.Module]  # averaged copies of some of `networks`, same names
    optimisers: dict[str, torch.optim.Optimizer]
    batch_size: int  # photos of each day per step, which a step adds to the image count

    def step(self, rng: np.random.Generator, fraction_done: float) -> dict[str, float]:
        """Draws a batch with `rng` and makes one optimisation step; the losses by name.

        Args:
            rng: the only source of random numbers.
            fraction_done: the share of the run that is done, 0..1.
        """

    def relight(self, photos: torch.Tensor, direction: Direction) -> torch.Tensor:
        """Photos relit with the EMA weights, without gradients; (N, 3, H, W) srgb_log in and out."""

    def export(self, direction: Direction, learned: bool = True) -> ExportSpec:
        """Everything that export needs to write this direction as a look.

        Args:
            direction: of the look.
            learned: False where the fit hasn't learned the change of light: then nothing that only goes with the new
                light, such as its contrast of texture, is measured on photos of the other day.
        """

    def memory(self) -> dict[str, torch.Tensor]:
        """The state of a recipe beside its networks and optimisers, such as a pool of earlier pictures."""

    def recall(self, memory: Mapping[str, torch.Tensor]) -> None:
        """Restores a state from `memory`."""
