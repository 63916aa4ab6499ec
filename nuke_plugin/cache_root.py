"""Where a node keeps its relit frames.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import os
from pathlib import Path

import nuke

from relightgan.nuke_plugin import cache, knobs
from relightgan.nuke_plugin.config import load_config

VARIABLE = "RELIGHTGAN_CACHE"
BESIDE_SCRIPT = "relightgan_cache"
OF_UNSAVED_SCRIPTS = "~/.relightgan/cache"


def script_path() -> str:
    """Where the script is saved, from the root and with forward slashes; empty where it isn't yet.

    Nuke may know it by a relative path: the one it was started with.
    """
    name = str(nuke.root().name())
    return "" if name == "Root" else knobs.absolute(name, str(Path.cwd()))


def cache_root(node: nuke.Node, base: str = "") -> Path:
    """The cache folder of a node: its knob, then RELIGHTGAN_CACHE, the plug-in's config, or beside the script.

    Where nobody chose one, a node that shows frames of its present state keeps to the folder they lie in: a script that
    is saved elsewhere, or copied to a farm, doesn't lose its frames.

    Args:
        node: a RelightGAN node.
        base: key of its present state, if known.

    Raises:
        RelightError: the plug-in's config can't be read.
    """
    script = script_path()
    beside = str(Path(script).parent) if script else ""
    home = str(Path(OF_UNSAVED_SCRIPTS).expanduser())
    chosen = knobs.path_of(node, knobs.CACHE_FOLDER)
    if chosen:
        return Path(knobs.absolute(chosen, beside or home))
    given = os.environ.get(VARIABLE) or load_config().cache
    if given:
        return Path(knobs.absolute(given, beside or home))
    if not beside:
        return Path(home)
    shown = cache.places_of(str(knobs.value_of(node, knobs.RESULT_PATH) or ""))
    # The cache of unsaved scripts lies in the artist's home, where no farm finds it.
    if shown is None or shown.base != base or shown.root == Path(home) or cache.read_sentinel(shown.folder) is None:
        return Path(beside, BESIDE_SCRIPT)
    return shown.root
