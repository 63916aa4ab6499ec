"""The whole configuration of a training run as one dataclass.

    preset < run.yaml < command line

Each layer lies over the one before. What comes out, the *resolved* configuration, is printed by `--dry-run` and kept in
the run folder, in every checkpoint and in the look.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from relightgan.core.errors import ConfigError
from relightgan.core.regular import read_regular
from relightgan.core.text import shown
from relightgan.training.fit.loop import TrainSettings
from relightgan.training.guidance.maps import GuidanceSettings
from relightgan.training.pairs.pairing import PairingSettings
from relightgan.training.photos.index import PhotoSettings
from relightgan.training.run.recipes import DEFAULT_PRESET, PRESETS, RECIPES, RecipeRow
from relightgan.training.settings import from_dict, merge, to_dict, to_yaml
from relightgan.training.world.matching import MatchingSettings
from relightgan.training.world.settings import RegisterSettings
from relightgan.training.yaml_file import parse_yaml

MAX_YAML_BYTES = 1 << 20  # a file with every setting has some thousands

if TYPE_CHECKING:
    Translator = str
else:
    Translator = Literal[tuple(RECIPES)]


@dataclasses.dataclass(frozen=True)
class CommonConfig:
    """What a configuration holds whichever recipe is fitted."""

    # The row of the preset table that the rest stands on.
    preset: str = DEFAULT_PRESET
    # The recipe that is fitted; its settings are the section of the same name.
    translator: Translator = "relight"
    # The seed of the networks' first weights and of every random number of the fit.
    seed: int = 0
    # Longest side of the photos that the training sees, px.
    photo_px: int = 640
    photos: PhotoSettings = dataclasses.field(default_factory=PhotoSettings)
    pairing: PairingSettings = dataclasses.field(default_factory=PairingSettings)
    matching: MatchingSettings = dataclasses.field(default_factory=MatchingSettings)
    registration: RegisterSettings = dataclasses.field(default_factory=RegisterSettings)
    guidance: GuidanceSettings = dataclasses.field(default_factory=GuidanceSettings)
    train: TrainSettings = dataclasses.field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}.", "Give 0 or more.")
        if self.photo_px < 64:
            raise ConfigError(f"photo_px is {self.photo_px}.", "Give at least 64.")

    @property
    def recipe(self) -> RecipeRow:
        """The row of the recipe that is fitted."""
        return RECIPES[self.translator]

    @property
    def recipe_settings(self) -> Any:
        """The settings of the recipe that is fitted."""
        return getattr(self, self.translator)


if TYPE_CHECKING:
    RunConfig = CommonConfig
else:
    # Everything that decides what a training run makes of its photos: a section for each row of the table of recipes.
    RunConfig = dataclasses.make_dataclass(
        "RunConfig",
        [(name, row.settings, dataclasses.field(default_factory=row.settings)) for name, row in RECIPES.items()],
        bases=(CommonConfig,),
        frozen=True,
    )


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
    where = str(config_path) if config_path else "the command line"
    if name not in PRESETS:
        place = "" if "preset" in options else f"{where}: "
        raise ConfigError(f"{place}There is no preset '{shown(name)}'.", f"Choose one of: {', '.join(PRESETS)}.")
    preset = PRESETS[name]
    # Layer by layer, so that a message names the layer at fault.
    from_dict(RunConfig, merge(preset, from_file), where)
    config = from_dict(RunConfig, merge(preset, from_file, options, {"preset": name}), "the command line")
    for layer, origin in ((from_file, where), (options, "the command line")):
        for unused in RECIPES:
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
        content = parse_yaml(read_regular(path, MAX_YAML_BYTES))
    except OSError as error:
        raise ConfigError(f"The configuration {path} can't be read: {error.strerror}.", "Check --config.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{place} is not YAML that holds settings.", "Write `key: value` lines; --dry-run prints an example."
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings.", "Write `key: value` lines; --dry-run prints an example.")
    return content


def resolved(config: RunConfig) -> dict[str, Any]:
    """The configuration as nested plain values, without the sections of translators that aren't fitted."""
    unused = set(RECIPES) - {config.translator}
    return {name: value for name, value in to_dict(config).items() if name not in unused}


def resolved_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML, each setting with its explanation; a file for --config."""
    return to_yaml(config, leave_out=set(RECIPES) - {config.translator})
