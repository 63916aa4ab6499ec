"""The cache folder of a node.

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
UNSAVED_SCRIPTS_CACHE = "~/.relightgan/cache"


def script_path() -> str:
    """The absolute path of the script with forward slashes; empty where it isn't saved yet.

    Nuke may have a relative path, from its command line.
    """
    name = str(nuke.root().name())
    return "" if name == "Root" else knobs.absolute(name, str(Path.cwd()))


def cache_root(node: nuke.Node, base: str = "") -> Path:
    """The cache folder of a node: its knob, then RELIGHTGAN_CACHE, the plug-in's config, or beside the script.

    Without such a choice, a node with frames of its present state keeps the folder of these frames, so that a script
    saved under another path, or copied to a farm, doesn't lose them.

    Args:
        node: a RelightGAN node.
        base: the base of its present state, if known.

    Raises:
        RelightError: the plug-in's config can't be read.
    """
    script = script_path()
    beside = str(Path(script).parent) if script else ""
    home = str(Path(UNSAVED_SCRIPTS_CACHE).expanduser())
    chosen = knobs.path_of(node, knobs.CACHE_FOLDER)
    if chosen:
        return Path(knobs.absolute(chosen, beside or home))
    given = os.environ.get(VARIABLE) or load_config().cache
    if given:
        return Path(knobs.absolute(given, beside or home))
    if not beside:
        return Path(home)
    shown = cache.places_of(knobs.pattern_of(node, knobs.RESULT_PATH))
    # Except the cache of unsaved scripts: it is in the artist's home, where no farm finds it.
    if shown is None or shown.base != base or shown.root == Path(home) or cache.read_sentinel(shown.folder) is None:
        return Path(beside, BESIDE_SCRIPT)
    return shown.root
