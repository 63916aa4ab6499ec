"""The plug-in's configuration: `relightgan.json` in its folder, written at installation.

Runs inside Nuke (Python 3.9 and later): standard library only.

    {
      "python": "/opt/relightgan/.venv/bin/python",    the interpreter that relights
      "pythonpath": "/opt/relightgan",                 only where RelightGAN isn't installed in that interpreter
      "cache": "/mnt/cache/relightgan",                cache folder; else beside the script
      "cache_limit_gb": 200,                           size to which the cache is reduced
      "looks": ["/mnt/looks"]                          folders the look library shows
    }

Every entry may be left out, and so may the file.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relightgan.core.errors import ConfigError
from relightgan.core.regular import read_regular

FILE_NAME = "relightgan.json"
MAX_BYTES = 1 << 20
ROOT = Path(__file__).absolute().parents[1]  # not resolved: an installation made of links has its own file


@dataclass(frozen=True)
class Config:
    """The entries of relightgan.json; None or empty: not given."""

    python: str | None = None  # path of an interpreter
    pythonpath: str | None = None  # folder with the package relightgan, for that interpreter
    cache: str | None = None  # cache folder
    cache_limit_gb: float | None = None  # size of the cache in GB, above 0
    looks: tuple[str, ...] = ()  # folders of the look library


def load_config(root: Path = ROOT) -> Config:
    """Reads the plug-in's configuration.

    Args:
        root: folder of the plug-in.

    Raises:
        ConfigError: the file can't be read, or has an unknown entry or a wrong value; names the file and the entry.
    """
    path = root / FILE_NAME
    try:
        content = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.", "Check its rights.") from error
    try:
        values = json.loads(content.decode("utf-8-sig"))  # editors on Windows add a byte order mark
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} isn't JSON ({error}).", "Mend it, or run 'relightgan nuke-install' again."
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} isn't a JSON object.", "Mend it, or run 'relightgan nuke-install' again.")
    return checked(values, path)


def checked(values: Mapping[str, Any], path: Path) -> Config:
    """The entries of a file as a Config.

    Raises:
        ConfigError: an unknown entry or a wrong value.
    """
    known = [field.name for field in dataclasses.fields(Config)]
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{path} has an unknown entry '{name}'.", f"Entries are: {', '.join(known)}.")
        fits, wanted = RULES[name]
        if value is not None and not fits(value):
            raise ConfigError(f"{path}: '{name}' is {value!r}.", f"It must be {wanted}.")
    given = {name: value for name, value in values.items() if value is not None}
    if "looks" in given:
        given["looks"] = tuple(given["looks"])
    return Config(**given)


def is_path(value: Any) -> bool:
    """True for a path: a text that isn't empty."""
    return isinstance(value, str) and value.strip() != "" and "\0" not in value


def is_limit(value: Any) -> bool:
    """True for a size above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "python": (is_path, "the path of a Python interpreter"),
    "pythonpath": (is_path, "the path of a folder"),
    "cache": (is_path, "the path of a folder"),
    "cache_limit_gb": (is_limit, "a number above 0"),
    "looks": (lambda value: isinstance(value, list) and all(map(is_path, value)), "a list of paths of folders"),
}
