"""Finds the Python interpreter that relights: Nuke's own has no onnxruntime, and shouldn't.

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from relightgan.core.errors import RelightError

VARIABLE = "RELIGHTGAN_PYTHON"
# Not resolved: a linked installation is the folder of the links, where its relightgan.json lies.
ROOT = Path(__file__).absolute().parents[1]
# Variables by which Nuke steers its own interpreter; another one would be led astray by them.
OF_NUKES_PYTHON = (
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
        environment: `RELIGHTGAN_PYTHON` in it comes first.
        root: folder of the plug-in; a `.venv` or `venv` in it comes next.

    Raises:
        RelightError: there is none; names every place that was looked at.
    """
    named = environment.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise RelightError(f"{VARIABLE} is {named}, which isn't there.", "Set it to a Python interpreter.")
        return Path(named)
    program = Path("Scripts", "python.exe") if sys.platform == "win32" else Path("bin", "python")
    places = [root / folder / program for folder in (".venv", "venv")]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise RelightError(
            f"RelightGAN's own Python was not found; looked at {VARIABLE}, {', '.join(map(str, places))}.",
            f"Run 'make setup' in {root}, or set {VARIABLE}.",
        )
    return found


def clean_environment(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> dict[str, str]:
    """The environment to start that interpreter in: without what steers Nuke's, and with this plug-in importable."""
    kept = {name: value for name, value in environment.items() if name not in OF_NUKES_PYTHON}
    kept["PYTHONPATH"] = str(root)
    return kept
