"""Finds the Python interpreter that relights: Nuke's own has no onnxruntime, and shouldn't.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin.config import FILE_NAME, ROOT, load_config

__all__ = ["ROOT", "VARIABLE", "clean_environment", "find_interpreter"]

VARIABLE = "RELIGHTGAN_PYTHON"
# Variables that Nuke sets for its own interpreter, and that break others.
NUKE_PYTHON_VARIABLES = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONEXECUTABLE",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "QT_PLUGIN_PATH",
)


def find_interpreter(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> Path:
    """The interpreter that has our packages.

    Args:
        environment: `RELIGHTGAN_PYTHON` in it comes first; empty counts as not set.
        root: folder of the plug-in; "python" in its relightgan.json comes next, then a `.venv` or `venv` in it.

    Raises:
        RelightError: there is none; the message names all places that were searched.
        ConfigError: relightgan.json can't be read.
    """
    named = environment.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise RelightError(f"{VARIABLE} is {named}, which isn't there.", "Set it to a Python interpreter.")
        return Path(named).absolute()
    chosen = load_config(root).python
    if chosen:
        path = root / chosen  # an absolute path stays what it is
        if not path.is_file():
            raise RelightError(
                f"'python' in {root / FILE_NAME} is {chosen}, which isn't there.",
                f"Run 'relightgan nuke-install' again, or set {VARIABLE}.",
            )
        return path
    program = Path("Scripts", "python.exe") if sys.platform == "win32" else Path("bin", "python")
    places = [root / folder / program for folder in (".venv", "venv")]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        places = [root / FILE_NAME, *places]
        raise RelightError(
            f"RelightGAN's own Python was not found; looked at {VARIABLE}, {', '.join(map(str, places))}.",
            f"Run 'make setup' in {root}, or set {VARIABLE}.",
        )
    return found


def clean_environment(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> dict[str, str]:
    """The environment of that interpreter: without the variables of Nuke's own, and with one place for RelightGAN.

    A checkout has all of RelightGAN in the plug-in's folder: the worker imports it from there, so that it has the
    plug-in's version. Elsewhere the worker imports it from "pythonpath" of relightgan.json; without that entry
    RelightGAN is installed in the interpreter.

    Raises:
        ConfigError: relightgan.json can't be read.
    """
    kept = {name: value for name, value in environment.items() if name not in NUKE_PYTHON_VARIABLES}
    # Without it `python -m` imports first from the folder that Nuke was started in, which may have any module.
    kept["PYTHONSAFEPATH"] = "1"
    elsewhere = load_config(root).pythonpath
    if (root / "core" / "worker.py").is_file():
        # In a wheel the folder that makes it importable is the one above.
        kept["PYTHONPATH"] = str(root if (root / "relightgan.py").is_file() else root.parent)
    elif elsewhere:
        kept["PYTHONPATH"] = elsewhere
    return kept
