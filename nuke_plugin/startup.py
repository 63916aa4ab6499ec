"""The start of Nuke: init.py calls `start` in every mode, menu.py calls `start_gui` where there is a window.

Both may be called again (a reloaded init.py, a path added twice); they remove earlier registrations first.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only; Qt only once the panel is opened.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import nuke

from relightgan.core.errors import LookError, RelightError
from relightgan.nuke_plugin import cache_sweep, graph, guard, installation, knobs, looks, messages, state
from relightgan.nuke_plugin.config import load_config

NODE_CLASS = "RelightGAN"
ICON = "RelightGAN.png"  # in gizmos/, which init.py adds to the plug-in path
PANEL_NAME, PANEL_ID = "RelightGAN Looks", "com.relightgan.looks"
# Evaluated by Nuke when a pane shows the panel, so that Qt is imported then and not before.
PANEL_WIDGET = "__import__('relightgan.nuke_plugin.panel', fromlist=['LookPanel']).LookPanel"
DEFAULT_LIMIT_GB = 200.0
GB = 1e9

# The registered callbacks, kept over importlib.reload, which makes new functions.
_loading: list[Any] = globals().get("_loading", [])
_dropping: list[Any] = globals().get("_dropping", [])


def start() -> None:
    """Registers the guards and the callback for script loads. Needs no window or Qt, and starts no worker."""
    guard.register()
    while _loading:
        nuke.removeOnScriptLoad(_loading.pop())
    _loading.append(on_script_load)
    nuke.addOnScriptLoad(on_script_load)


def start_gui() -> None:
    """Toolbar with icon (and so the Tab key), menu, panel, and looks dropped into the node graph."""
    import nukescripts  # only where there is a window

    create = f"nuke.createNode('{NODE_CLASS}')"
    nuke.menu("Nodes").addMenu("RelightGAN", icon=ICON).addCommand(NODE_CLASS, create, icon=ICON)
    menu = nuke.menu("Nuke").addMenu("RelightGAN")
    menu.addCommand("Look Library", show_panel)
    menu.addCommand("Relight Selected", relight_selected)
    menu.addCommand("Check Installation", installation.show_check)
    nukescripts.panels.registerWidgetAsPanel(PANEL_WIDGET, PANEL_NAME, PANEL_ID)
    if not _dropping:  # it can't be removed, so it calls the function of the module as loaded now
        _dropping.append(lambda mime_type, text: sys.modules[__name__].on_drop(mime_type, text))
        nukescripts.addDropDataCallback(_dropping[0])


def show_panel() -> None:
    """Opens the look library beside the properties."""
    import nukescripts

    panel = nukescripts.panels.registerWidgetAsPanel(PANEL_WIDGET, PANEL_NAME, PANEL_ID, True)
    panel.addToPane(nuke.getPaneFor("Properties.1"))


def create_node(look: str = "") -> nuke.Node:
    """Makes a node with a look, connected to the selected node."""
    node = nuke.createNode(NODE_CLASS)
    if look:
        knobs.set_path(node, knobs.LOOK, Path(look).as_posix())
    return node


def relight_selected() -> None:
    """Relights the range of every selected RelightGAN node, as its button does."""
    from relightgan.nuke_plugin import hooks

    nodes = [node for node in nuke.selectedNodes() if knobs.is_relight_node(node)]
    if not nodes:
        messages.tell("Select one or more RelightGAN nodes first.")
    for node in nodes:
        hooks.relight_range(node)


def on_script_load() -> None:
    """Links relit frames of all nodes, and reduces the cache to its limit.

    Errors of a node (no look, a missing file) are written to the log; the script opens all the same.
    """
    roots = set()
    for node in graph.relight_nodes():
        try:
            state.relink(node)
            roots.add(state.state_of(node).cache)
        except RelightError as error:
            messages.say(f"{node.fullName()}: {error}")
    # Not on farms, where every task would search the whole cache.
    if nuke.GUI and roots:
        try:
            limit = (load_config().cache_limit_gb or DEFAULT_LIMIT_GB) * GB
        except RelightError as error:
            messages.say(str(error))
            return
        threading.Thread(target=sweep, args=(roots, int(limit)), name="RelightGAN sweep", daemon=True).start()


def sweep(roots: Iterable[Path], limit_bytes: int) -> None:
    """Reduces caches to their limit; runs in a thread, so it doesn't use Nuke."""
    for root in roots:
        try:
            swept = cache_sweep.sweep(root, limit_bytes)
        except OSError as error:
            messages.say(f"The cache {root} can't be swept: {error}.")
            continue
        if swept.bytes_freed:
            messages.say(f"Freed {swept.bytes_freed / GB:.1f} GB in the cache {root}, longest unused first.")
        if swept.left:
            messages.say(f"Left alone in the cache {root}: {'; '.join(swept.left[:5])}.")


def on_drop(mime_type: str, text: str) -> bool | None:
    """Makes a node with a look that is dropped into the node graph; other data is left to other callbacks.

    Nuke calls what `nukescripts.addDropDataCallback` was given with the data's type and text, and goes on to the next
    function unless the answer is True (Foundry, Python Developer's Guide, nukescripts.drop). That a dropped file
    arrives as its path in "text/plain" is what public tools rely on; not verified here, so a file URL is taken too.
    """
    path = dropped_path(mime_type, text)
    if path is None:
        return None
    try:
        looks.look_facts(path)
    except LookError:
        return None  # another tool's .onnx
    create_node(path)
    return True


def dropped_path(mime_type: str, text: str) -> str | None:
    """The .onnx file that a dropped text names; None where it names something else."""
    if mime_type not in ("text/plain", "text/uri-list"):
        return None
    line = text.strip()
    if line.startswith("file:"):
        line = url2pathname(urlsplit(line).path)
    if "\n" in line or not line.lower().endswith(".onnx") or not os.path.isfile(line):  # noqa: PTH113 - Path raises on long text
        return None
    return line
