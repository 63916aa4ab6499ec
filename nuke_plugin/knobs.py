"""The node's knobs: every name once, what the artist set as one value, and how texts of others get into them.

Nuke evaluates the text of a knob as Tcl, so a file that is called `sun[exec rm x].onnx` would run a command. What an
artist types stays an expression. A path that our code sets goes through `set_path`, which escapes it; a text that is
only shown goes through `harmless`.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nuke

from relightgan.core.errors import RelightError, UsageError
from relightgan.core.text import printable

# What the artist sees
LOOK = "look"
LOOK_INFO = "look_info"
STRENGTH = "strength"
EXPOSURE = "exposure"
WORKING_SPACE = "working_space"
PREMULTIPLIED = "premultiplied"
TEMPORAL_BLEND = "temporal_blend"
TEMPORAL_WINDOW = "temporal_window"
MASK_CHANNEL = "mask_channel"
MASK_INVERT = "mask_invert"
BYPASS = "bypass"
FRAMES = "frames"
RELIGHT_FRAME = "relight_frame"
RELIGHT_RANGE = "relight_range"
CLEAR = "clear"
STATUS = "status"
OPEN_LOG = "open_log"
OPEN_REPORT = "open_report"
DEVICE = "device"
PRECISION = "precision"
CROP_TO_FORMAT = "crop_to_format"
CACHE_FOLDER = "cache_folder"

# What only our code reads
VERSION = "relightgan_version"  # a node that has this knob is ours, whether it is a gizmo or a Group made from one
# Path pattern of the relit frames, with %V and %04d. Saved in the script, so that it shows them without our Python.
RESULT_PATH = "result_path"
RESULT_FIRST = "result_first"  # first frame of the take in result_path
RESULT_LAST = "result_last"  # last frame of that take
SOURCE_PATH = "source_path"  # path pattern of RG_Write during a bake; never saved

# Nodes inside
WRITE_NODE = "RG_Write"
READ_NODE = "RG_Read"

# Knobs that change the node's output without changing its relit frames. They count in the frame keys of RelightGAN
# nodes downstream, beside this node's own frame keys.
LIVE = (STRENGTH, MASK_CHANNEL, MASK_INVERT, BYPASS, CROP_TO_FORMAT, "disable")

# Minimum and maximum of each number, as in core/pipeline.py.
RANGES = {EXPOSURE: (-30.0, 30.0), TEMPORAL_BLEND: (0.0, 1.0), TEMPORAL_WINDOW: (0.0, 32.0)}
PRECISIONS = ("half", "float")

# What Tcl acts on in a text: [ runs a command, $ names a variable, \ changes what follows. It isn't documented which of
# the last two Nuke evaluates; where \ means nothing, `\[exec ...]` would still run. So nothing but a command that gives
# the character stands for it; Tcl doesn't evaluate its result again.
ESCAPES = {letter: f"[format %c {ord(letter)}]" for letter in "[$\\"}
ESCAPE = re.compile(r"\[format %c (91|36|92)\]")
# For texts that are only shown, where it isn't documented what Nuke evaluates: the same letters in their full width,
# which neither Tcl nor HTML takes for theirs.
FULL_WIDTH = {ord(letter): ord(letter) + 0xFEE0 for letter in "<>&[]$\\"}


@dataclass(frozen=True)
class NodeSettings:
    """The knobs that a bake depends on; strength, mask and bypass are live in Nuke and not among them."""

    look: str  # path of the .onnx with forward slashes; empty: none chosen
    exposure: float  # stops
    temporal_blend: float  # 0..1
    temporal_window: int  # frames to either side
    working_space: str
    premultiplied: bool
    crop_to_format: bool
    precision: str  # one of PRECISIONS
    device: str  # "auto", "cpu", "cuda", "cuda:N"; not part of the frame key
    cache_folder: str  # with forward slashes; empty: the default

    @property
    def radius(self) -> int:
        """Frames to either side that a relit frame depends on."""
        return self.temporal_window if self.temporal_blend > 0.0 else 0


def is_relight_node(node: nuke.Node) -> bool:
    """True for a RelightGAN gizmo and for a Group made from one."""
    return node.knob(VERSION) is not None


def read_settings(node: nuke.Node) -> NodeSettings:
    """The settings of a node; values are checked, never clamped.

    Raises:
        UsageError: a value is out of its range, or changes over the shot; names the node and the knob.
    """
    precision = str(value_of(node, PRECISION))
    if precision not in PRECISIONS:
        raise UsageError(f"{node.fullName()}: {PRECISION} is '{precision}'.", f"Set one of: {', '.join(PRECISIONS)}.")
    return NodeSettings(
        look=path_of(node, LOOK),
        exposure=number_of(node, EXPOSURE),
        temporal_blend=number_of(node, TEMPORAL_BLEND),
        temporal_window=int(number_of(node, TEMPORAL_WINDOW)),
        working_space=str(value_of(node, WORKING_SPACE)),
        premultiplied=bool(steady_value(node, PREMULTIPLIED)),
        crop_to_format=bool(steady_value(node, CROP_TO_FORMAT)),
        precision=precision,
        device=str(value_of(node, DEVICE)),
        cache_folder=path_of(node, CACHE_FOLDER),
    )


def knob_of(node: nuke.Node, name: str) -> Any:
    """A knob of a RelightGAN node; `Any`, because its class depends on its name.

    Raises:
        RelightError: the node lacks it, so it was made by another version or taken apart.
    """
    knob = node.knob(name)
    if knob is None:
        raise RelightError(
            f"{node.fullName()} has no knob '{name}': made by another version of RelightGAN, or changed by hand.",
            "Make a new RelightGAN node and set it the same.",
        )
    return knob


def value_of(node: nuke.Node, name: str) -> Any:
    """A knob's value now."""
    return knob_of(node, name).value()


def path_of(node: nuke.Node, name: str) -> str:
    """A path, with forward slashes where the artist typed it; expressions evaluated, escapes taken back."""
    knob = knob_of(node, name)
    text = str(knob.value() or "")
    # Evaluated only with an expression in it: Tcl would drop the backslashes of a Windows path as escapes.
    if has_expression(text):
        return slashes(str(knob.evaluate() or ""))
    return unescaped(text) if ESCAPE.search(text) else slashes(text)


def pattern_of(node: nuke.Node, name: str) -> str:
    """A path that our code has set, never evaluated: %V and %04d stay."""
    text = str(value_of(node, name) or "")
    return text if has_expression(text) else unescaped(text)


def set_path(node: nuke.Node, name: str, path: str) -> None:
    """Sets a knob to a path that somebody else has named, so that Nuke evaluates nothing in it."""
    knob_of(node, name).setValue(escaped(path))


def escaped(text: str) -> str:
    """The text of a knob that evaluates to this text."""
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def unescaped(text: str) -> str:
    """The inverse of `escaped`."""
    return ESCAPE.sub(lambda match: chr(int(match[1])), text)


def has_expression(text: str) -> bool:
    """True where Nuke evaluates more of a knob's text than what `escaped` wrote."""
    return any(letter in ESCAPE.sub("", text) for letter in "[$")


def harmless(text: str) -> str:
    """A text for a Text knob or a node's label, each line as it is read: nothing in it is a command or markup."""
    return "\n".join(printable(line).translate(FULL_WIDTH) for line in text.split("\n"))


def slashes(path: str) -> str:
    """The path with forward slashes, which Nuke accepts on every system; Tcl reads a backslash as an escape."""
    return path.replace("\\", "/")


def steady_value(node: nuke.Node, name: str) -> float:
    """The value of a knob that must be the same on every frame of the project, as a bake has one set of settings.

    Raises:
        UsageError: it is animated with more than one value.
    """
    knob = knob_of(node, name)
    if not (knob.isAnimated() or knob.hasExpression()):
        return float(knob.value())
    root = nuke.root()
    values = {float(knob.getValueAt(frame)) for frame in range(root.firstFrame(), root.lastFrame() + 1)}
    if len(values) > 1:
        raise UsageError(
            f"{node.fullName()}: {name} changes over the shot, and frames are relit with one value.",
            f"Remove the animation; animate {STRENGTH}, or a Grade before the node, instead.",
        )
    return values.pop() if values else float(knob.value())


def number_of(node: nuke.Node, name: str) -> float:
    """A number that has to be the same on every frame, in its range.

    Raises:
        UsageError: it varies, or is out of its range. (A slider's range doesn't limit typed values.)
    """
    number = float(steady_value(node, name))
    minimum, maximum = RANGES[name]
    if not (math.isfinite(number) and minimum <= number <= maximum):
        raise UsageError(f"{node.fullName()}: {name} is {number:g}.", f"Set {minimum:g} to {maximum:g}.")
    return number


def absolute(path: str, folder: str) -> str:
    """A path made absolute against a folder, with forward slashes; `~` stands for the home folder."""
    return slashes(os.path.normpath(Path(folder) / Path(path).expanduser()))
