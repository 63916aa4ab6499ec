"""The whole configuration of a training run as one dataclass, and the presets as a table.

    preset < run.yaml < command line

Each layer lies over the one before. What comes out, the *resolved* configuration, is printed by `--dry-run` and kept in
the run folder, in every checkpoint and in the look.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from relightgan.core.errors import ConfigError
from relightgan.training.fit.loop import TrainSettings
from relightgan.training.gan.cut import CutSettings
from relightgan.training.gan.cyclegan import CycleGanSettings
from relightgan.training.guidance.maps import GuidanceSettings
from relightgan.training.pairs.pairing import PairingSettings
from relightgan.training.photos.index import PhotoSettings
from relightgan.training.relight.recipe import RelightSettings
from relightgan.training.settings import from_dict, merge, to_dict, to_yaml
from relightgan.training.world.matching import MatchingSettings
from relightgan.training.world.settings import RegisterSettings

# A row per recipe: what it changes of the defaults. Sources are in the recipes' own modules.
PRESETS: dict[str, dict[str, Any]] = {
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
    # The lighting swap of NeuralVFX (2018) with its own losses, sizes and features, and without its defects.
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
TRANSLATORS = ("relight", "cyclegan", "cut")  # each has a section of its own name


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a training run makes of its photos."""

    # The row of the preset table that the rest stands on.
    preset: str = DEFAULT_PRESET
    # Which recipe is fitted; its settings are in the section of the same name.
    translator: Literal["relight", "cyclegan", "cut"] = "relight"
    # Of the networks' first weights, and of every random number of the fit.
    seed: int = 0
    # Longest side that photos are kept at for training, px.
    photo_px: int = 640
    photos: PhotoSettings = dataclasses.field(default_factory=PhotoSettings)
    pairing: PairingSettings = dataclasses.field(default_factory=PairingSettings)
    matching: MatchingSettings = dataclasses.field(default_factory=MatchingSettings)
    registration: RegisterSettings = dataclasses.field(default_factory=RegisterSettings)
    guidance: GuidanceSettings = dataclasses.field(default_factory=GuidanceSettings)
    train: TrainSettings = dataclasses.field(default_factory=TrainSettings)
    relight: RelightSettings = dataclasses.field(default_factory=RelightSettings)
    cyclegan: CycleGanSettings = dataclasses.field(default_factory=CycleGanSettings)
    cut: CutSettings = dataclasses.field(default_factory=CutSettings)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}.", "Give 0 or more.")
        if self.photo_px < 64:
            raise ConfigError(f"photo_px is {self.photo_px}.", "Give at least 64.")


def resolve(options: Mapping[str, Any], config_path: Path | None = None) -> RunConfig:
    """The configuration from preset, YAML file and command line.

    Args:
        options: settings given on the command line, nested.
        config_path: a YAML file of settings; None where there is none.

    Raises:
        ConfigError: an unknown preset or key, a value that makes no sense, or a setting that would have no effect.
    """
    from_file = read_yaml(config_path) if config_path else {}
    name = str(options.get("preset", from_file.get("preset", DEFAULT_PRESET)))
    if name not in PRESETS:
        raise ConfigError(f"There is no preset '{name}'.", f"Choose one of: {', '.join(PRESETS)}.")
    preset = PRESETS[name]
    where = str(config_path) if config_path else "the command line"
    # Layer by layer, so that a message names the layer at fault.
    from_dict(RunConfig, merge(preset, from_file), where)
    config = from_dict(RunConfig, merge(preset, from_file, options, {"preset": name}), "the command line")
    for layer, origin in ((from_file, where), (options, "the command line")):
        for unused in TRANSLATORS:
            if unused in layer and unused != config.translator:
                raise ConfigError(
                    f"{origin} has settings of '{unused}', but the translator is '{config.translator}'.",
                    f"Remove them, or choose the preset '{unused}'.",
                )
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, nested.

    Raises:
        ConfigError: it can't be read, isn't YAML, or holds no settings.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} can't be read: {error.strerror}.", "Check --config.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{place} is not YAML.", "Write `key: value` lines; --dry-run prints an example."
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings.", "Write `key: value` lines; --dry-run prints an example.")
    return content


def resolved(config: RunConfig) -> dict[str, Any]:
    """The configuration as nested plain values, without the sections of translators that aren't fitted."""
    unused = set(TRANSLATORS) - {config.translator}
    return {name: value for name, value in to_dict(config).items() if name not in unused}


def resolved_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML, each setting with its explanation; a file for --config."""
    return to_yaml(config, leave_out=set(TRANSLATORS) - {config.translator})
