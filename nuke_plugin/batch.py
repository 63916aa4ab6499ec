"""Relights and renders a script without a window:

    nuke -t nuke_plugin/batch.py --script=shot.nk --write=Write1 --frames=1001-1100

This file only finds the plug-in, by its own path where Nuke doesn't know it; the work is in batch_job.py.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import nuke

NAME = "batch.py"


def own_path(known: str | None, raw: Sequence[str], argv: Sequence[str]) -> Path:
    """Where this file lies.

    Args:
        known: `__file__`, which not every program that runs a Python file sets.
        raw: all words of Nuke's command line.
        argv: the words that Nuke left for Python.
    """
    named = [word for word in (known, *raw, *argv[:1]) if word and Path(word).name == NAME]
    return Path(named[0] if named else NAME).absolute()


def words_after(name: str, raw: Sequence[str], argv: Sequence[str]) -> list[str]:
    """The options of this command: all words after this file's name.

    Nuke takes a frame range at the end of the line for itself, and sys.argv lacks it; nuke.rawArgs doesn't (Foundry,
    Python Developer's Guide, "Using the Command-line").
    """
    for i, word in enumerate(raw):
        if Path(word).name == name:
            return list(raw[i + 1 :])
    return list(argv[1:])


def find_plugin(path: Path) -> None:
    """Makes `relightgan` importable, and the gizmo known, where no init.py has done so."""
    inside = path.parents[1]
    # A checkout has relightgan.py beside its folders; a wheel's folder is `relightgan` itself.
    root = inside if (inside / "relightgan.py").is_file() else inside.parent
    if str(root) not in sys.path:
        sys.path.append(str(root))
    if not any(Path(place, "RelightGAN.gizmo").is_file() for place in nuke.pluginPath()):
        nuke.pluginAddPath((inside / "gizmos").as_posix(), addToSysPath=False)


def start() -> int:
    """Does what the command line says; the exit code."""
    raw = [str(word) for word in getattr(nuke, "rawArgs", [])]
    path = own_path(globals().get("__file__"), raw, sys.argv)
    find_plugin(path)
    from relightgan.nuke_plugin import batch_job  # only now can it be found

    return batch_job.main(words_after(path.name, raw, sys.argv))


if __name__ == "__main__":
    sys.exit(start())
