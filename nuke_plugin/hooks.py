"""The functions that the node calls: onCreate, knobChanged and autolabel, and those of its buttons.

The first three run very often. So they do little, use states kept for about two seconds, and never raise, render or
change the graph. Buttons run at top level, where Nuke allows a render.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import nuke

from relightgan.core.errors import Cancelled, RelightError
from relightgan.core.text import printable
from relightgan.core.version import VERSION
from relightgan.nuke_plugin import bake, cache, cache_sweep, client, knobs, looks, messages, state
from relightgan.nuke_plugin.interpreter import clean_environment

__all__ = [
    "autolabel",
    "clear",
    "knob_changed",
    "on_create",
    "open_log",
    "open_report",
    "relight_frame",
    "relight_range",
]

INFO_VERSION, INFO_SHA256 = "info_version", "info_sha256"
# Knobs whose change can change the status.
STATE_KNOBS = frozenset((
    knobs.LOOK, knobs.EXPOSURE, knobs.WORKING_SPACE, knobs.PREMULTIPLIED, knobs.TEMPORAL_BLEND, knobs.TEMPORAL_WINDOW,
    knobs.FRAMES, knobs.PRECISION, knobs.CROP_TO_FORMAT, knobs.CACHE_FOLDER, knobs.RESULT_PATH,
))  # fmt: skip
PANEL_OPENED, INPUT_CHANGED = "showPanel", "inputChange"  # knob names of these events in knobChanged

Answer = TypeVar("Answer")


def never_raising(call: Callable[..., Answer]) -> Callable[..., Answer | None]:
    """Turns exceptions into a line of the log, once each; the function then returns None.

    Nuke calls these hooks at every redraw and for half-made nodes. An exception would be repeated each time, and in
    autolabel would hide the node's name.
    """
    said: set[str] = set()

    @functools.wraps(call)
    def quiet(*args: Any) -> Answer | None:
        try:
            return call(*args)
        except Exception as error:
            line = f"{call.__name__}: {type(error).__name__}: {' '.join(str(error).split())}"
            if line not in said:
                said.add(line)
                messages.say(line)
            return None

    return quiet


def button(call: Callable[[nuke.Node], None]) -> Callable[[nuke.Node], None]:
    """Shows errors to the artist; without a window it raises them, so that the task fails.

    Raises:
        RuntimeError: without a window, in place of a RelightError.
    """

    @functools.wraps(call)
    def shown(node: nuke.Node) -> None:
        try:
            call(node)
        except Cancelled as error:
            if not nuke.GUI:
                raise RuntimeError(str(error)) from error
        except RelightError as error:
            if not nuke.GUI:
                raise RuntimeError(str(error)) from error
            messages.tell(str(error))
        finally:
            state.forget()
            show_status(node)

    return shown


@never_raising
def on_create(node: nuke.Node) -> None:
    """Runs when a node is made, loaded or pasted. It shows no status, as inputs may not be connected yet."""
    state.forget(node)
    if nuke.GUI:
        show_look(node)


@never_raising
def knob_changed(node: nuke.Node, knob: nuke.Knob) -> None:
    """Runs when the artist has changed a knob, connected an input, or opened the panel."""
    name = knob.name()
    if name in (knobs.LOOK, PANEL_OPENED):
        show_look(node)
    if name in (knobs.TEMPORAL_BLEND, PANEL_OPENED):
        blend = knobs.value_of(node, knobs.TEMPORAL_BLEND)
        knobs.knob_of(node, knobs.TEMPORAL_WINDOW).setEnabled(blend > 0.0)
    if name in STATE_KNOBS or name in (PANEL_OPENED, INPUT_CHANGED):
        state.forget(node, source=name in (PANEL_OPENED, INPUT_CHANGED))
        show_status(node)


def autolabel(node: nuke.Node) -> str:
    """The node's text in the graph: its name, the artist's label, the status."""
    return label_of(node) or node.name()


@never_raising
def label_of(node: nuke.Node) -> str:
    """The text of `autolabel`."""
    label = node.knob("label")
    lines = [node.name(), str(label.value() or "") if label is not None else ""]
    if knobs.value_of(node, knobs.BYPASS):
        lines.append("bypassed")
    lines.append(knobs.harmless(state.badge(node)))  # a label is markup to Nuke
    return "\n".join(line for line in lines if line)


@button
def relight_frame(node: nuke.Node) -> None:
    """Relights the current frame of the viewer."""
    bake.bake(node, [nuke.frame()])


@button
def relight_range(node: nuke.Node) -> None:
    """Relights every frame of the range that isn't ready."""
    state.relink(node)  # includes frames that another artist or the farm has relit meanwhile
    status = state.status_of(node, fresh=True)
    wanted = sorted({*status.stale, *status.missing})
    if wanted:
        bake.bake(node, wanted)
    else:
        messages.tell(f"{node.name()}: all {len(status.ready)} frames are ready.")


@button
def clear(node: nuke.Node) -> None:
    """Deletes the relit frames of the node's present state, after a question."""
    found = state.state_of(node, fresh=True)
    keys = {found.frame_key(frame, view) for frame in found.frames for view in found.views}
    count = len(keys & cache.stored_keys(found.places))
    if nuke.GUI and count and not nuke.ask(f"Delete {count} relit frames of {node.name()} from the disk?"):
        return
    left = cache_sweep.clear(found.places, found.take, keys).left
    state.reload_results(node)
    if left:
        messages.tell(f"{node.name()}: not cleared: {'; '.join(left)}.")


@button
def open_log(node: nuke.Node) -> None:
    """Opens the worker's log."""
    path = client.log_path()
    if not path.is_file():
        raise RelightError(
            "There is no log yet: nothing was relit since Nuke was started.", f"Earlier logs are in {path.parent}."
        )
    open_file(path)


@button
def open_report(node: nuke.Node) -> None:
    """Opens the training report of the node's look.

    Raises:
        RuntimeError: without a window, where there is none.
    """
    look = knobs.path_of(node, knobs.LOOK)
    if not look:
        raise RelightError(f"{node.name()} has no look.", "Choose one first.")
    looks.look_facts(look)
    report = looks.report_of(look)
    if report is None:
        raise RelightError(
            f"There is no training report beside {look}.",
            f"Training writes it to {looks.usual_report(look)}; look where the look was trained.",
        )
    open_file(report)


# Private implementation


def show_look(node: nuke.Node) -> None:
    """Shows the facts of the look, or why it can't be read, below its path."""
    path = knobs.path_of(node, knobs.LOOK)
    try:
        text = looks.look_info(path) if path else "No look chosen."
    except RelightError as error:
        text = str(error)
    show_text(node, knobs.LOOK_INFO, text)
    if node.knob(INFO_SHA256) is not None:  # groups made from an earlier gizmo lack it
        show_text(node, INFO_SHA256, looks.sha256_line(path) if path else "No look chosen.")
    made = knobs.value_of(node, knobs.VERSION)
    show_text(node, INFO_VERSION, f"node {made}, RelightGAN {VERSION}")


def show_status(node: nuke.Node) -> None:
    """Shows the status in the panel."""
    show_text(node, knobs.STATUS, state.badge(node))


def show_text(node: nuke.Node, name: str, text: str) -> None:
    """Sets a Text knob that scripts don't save, without marking the script as modified."""
    knob, text = knobs.knob_of(node, name), knobs.harmless(text)
    if knob.value() == text:
        return
    modified = nuke.root().modified()
    knob.setValue(text)
    if not modified:
        nuke.root().setModified(False)


def open_file(path: Path) -> None:
    """Opens a file as a double click would; without a window its path is printed.

    Raises:
        RelightError: this system has no program that opens files.
    """
    if not nuke.GUI:
        print(printable(str(path)))
        return
    try:
        if sys.platform == "win32":
            os.startfile(path)
        else:
            program = "open" if sys.platform == "darwin" else "xdg-open"
            # Without Nuke's library paths, which break browsers.
            subprocess.Popen([program, str(path)], env=clean_environment(), start_new_session=True)
    except OSError as error:
        raise RelightError(f"{path} can't be opened: {error.strerror}.", "Open it by hand.") from error
