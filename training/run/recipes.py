"""The recipes as one table, and the presets as another: a recipe is added by its module and a row in each.

A row says what the rest of the product must know of a recipe. Everything else is the recipe's own affair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from relightgan.training.fit.batches import TrainingData
from relightgan.training.fit.recipe import Recipe
from relightgan.training.gan import cut, cyclegan
from relightgan.training.relight import recipe as relight


@dataclass(frozen=True)
class RecipeRow:
    """What the rest of the product knows of a recipe.

    Attributes:
        settings: the dataclass of its settings; they are a section of the configuration that bears the recipe's name.
        build: makes the recipe from its settings, the training photos and a device.
        needs_gains: it learns how places change: the photos are registered, and gains are measured where that fails.
        both_directions: one fit learns both directions; else each direction is a fit of its own.
    """

    settings: type
    build: Callable[[Any, TrainingData, torch.device], Recipe]
    needs_gains: bool
    both_directions: bool


# By name: the value of the setting `translator`, and the name of the section of settings.
RECIPES: Mapping[str, RecipeRow] = {
    "relight": RecipeRow(relight.RelightSettings, relight.build, needs_gains=True, both_directions=False),
    "cyclegan": RecipeRow(cyclegan.CycleGanSettings, cyclegan.build, needs_gains=False, both_directions=True),
    "cut": RecipeRow(cut.CutSettings, cut.build, needs_gains=False, both_directions=False),
}

# By name: what a preset changes of the defaults. The sources stand in the recipes' own modules.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The flagship: a gain grid fitted to what the photos of both days say about each place.
    "relight": {"translator": "relight", "train": {"images": 100_000}},
    # Two-way translation of pictures, content-paired; wants a GPU.
    "cyclegan": {"translator": "cyclegan"},
    # The same, small enough to see it move on a CPU.
    "cyclegan-small": {
        "translator": "cyclegan",
        "cyclegan": {"base_filters": 16, "blocks": 4, "critic_filters": 16, "batch_size": 2, "size_px": 128},
    },
    # Contrastive translation (Park et al. 2020), one way, content-paired: to compare with; wants a GPU.
    "cut": {"translator": "cut"},
    # The same at the size of cyclegan-small.
    "cut-small": {
        "translator": "cut",
        "cut": {"base_filters": 16, "blocks": 4, "critic_filters": 16, "batch_size": 2, "size_px": 128},
    },
    # The lighting swap of NeuralVFX (2018) with its own losses, sizes and backbone, and without its defects.
    "lighting-swap": {
        "translator": "cyclegan",
        "pairing": {"backbone": "resnet34", "top_k": 10, "threshold": -1.0},
        "cyclegan": {
            "adversary": "bce",
            "adversarial_weight": 0.5,
            "identity_weight": 0.0,
            "batch_size": 7,
            "size_px": 128,
            "learning_rate": 1e-4,
            "critic_learning_rate": 1e-4,
        },
    },
}
DEFAULT_PRESET = "relight"
