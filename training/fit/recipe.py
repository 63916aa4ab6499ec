"""What a training recipe offers the loop; `recipe_relight`, `recipe_cyclegan` and `recipe_cut` are three of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from relightgan.training.days import Direction


@dataclasses.dataclass(frozen=True)
class ExportSpec:
    """What export needs to write one direction of a recipe as a look."""

    module: torch.nn.Module  # (plate[, window]) -> outputs, EMA weights
    inputs: tuple[torch.Tensor, ...]  # example inputs
    output_names: tuple[str, ...]  # `relit` first, then the operators, then the AOVs that the facts name
    facts: Mapping[str, Any]  # fields of core.look.LookFacts that the recipe knows
    # Of an operator look, `module` in its two halves: plate -> operators, and plate, window, *operators -> relit, *aovs
    # (a tensor alone where there are none). They are exported one by one and joined, so that the second takes operators
    # of any size wherever they come from.
    halves: tuple[torch.nn.Module, torch.nn.Module] | None = None
    # A name for everything of `module` but its weights. Exports of one name share a graph; "" shares none.
    structure: str = ""


class Recipe(Protocol):
    """Networks, losses and optimisers of one translator, with the data they learn from.

    `a` are the source photos and `b` the target photos; direction "ab" makes a photo of `a` look like `b`.
    """

    networks: dict[str, torch.nn.Module]
    ema: dict[str, torch.nn.Module]  # averaged copies of some of `networks`, same names
    optimisers: dict[str, torch.optim.Optimizer]
    batch_size: int  # photos of each side per step; what the image count goes up by

    def step(self, rng: np.random.Generator, fraction_done: float) -> dict[str, float]:
        """Draws a batch with `rng`, makes one optimisation step of everything, and gives the losses by name."""

    def relight(self, photos: torch.Tensor, direction: Direction) -> torch.Tensor:
        """[N,3,H,W] srgb_log photos relit with the EMA weights; same shape, no gradient."""

    def export(self, direction: Direction) -> ExportSpec:
        """What export needs to write this direction as a look."""

    def memory(self) -> dict[str, torch.Tensor]:
        """State beside networks and optimisers that later steps depend on, such as a pool of earlier pictures."""

    def recall(self, memory: Mapping[str, torch.Tensor]) -> None:
        """Puts back what `memory` gave."""
