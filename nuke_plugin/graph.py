"""Walks the node graph: nodes upstream, through groups, and the RelightGAN nodes among them.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import nuke

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin import knobs

__all__ = [
    "inert",
    "inner",
    "inputs_of",
    "keeps_time",
    "keeps_view",
    "relight_nodes",
    "relight_nodes_upstream",
    "time_neutral",
    "upstream",
    "view_neutral",
]

# Classes that need, for a frame, only that frame of their inputs. Others (TimeOffset, Retime, FrameHold, Kronos, a
# plug-in of the studio) may need any frame.
KEEP_TIME = frozenset((
    "Add", "AddChannels", "AddMix", "AdjBBox", "Anaglyph", "Assert", "BlackOutside", "Blur", "ChannelMerge",
    "CheckerBoard2", "ChromaKeyer", "Clamp", "ColorBars", "ColorCorrect", "ColorLookup", "ColorMatrix", "ColorWheel",
    "Colorspace", "Constant", "Copy", "CopyBBox", "CopyMetaData", "CornerPin2D", "Crop", "Defocus", "Difference",
    "Dissolve", "Dither", "Dot", "EXPTool", "EdgeBlur", "EdgeDetectWrapper", "Emboss", "Erode", "Expression",
    "FilterErode", "Gamma", "Glow2", "Grade", "HueCorrect", "HueKeyer", "HueShift", "IDistort", "Input", "Invert",
    "JoinViews", "Keyer", "Keylight", "Keymix", "Laplacian", "Log2Lin", "Median", "Merge", "Merge2",
    "MergeExpression", "Mirror", "Mirror2", "MixViews", "ModifyMetaData", "Multiply", "NoOp", "Noise",
    "OCIOCDLTransform", "OCIOColorSpace", "OCIODisplay", "OCIOFileTransform", "OCIOLogConvert", "OCIOLookTransform",
    "OneView", "Output", "PLogLin", "Position", "Posterize", "Premult", "Radial", "Ramp", "Read", "Rectangle",
    "Reformat", "Remove", "Roto", "STMap", "Saturation", "Sharpen", "Shuffle", "Shuffle1", "Shuffle2", "ShuffleCopy",
    "ShuffleViews", "SideBySide", "SoftClip", "Soften", "Switch", "Text", "Text2", "Tile", "Transform",
    "TransformMasked", "Unpremult", "VectorBlur", "VectorBlur2", "Vectorfield", "Write", "ZDefocus2", "ZMerge",
    "ZSlice",
))  # fmt: skip
# Classes among them that may take the picture of one view from another.
CHANGE_VIEW = frozenset(("Anaglyph", "JoinViews", "MixViews", "OneView", "ShuffleViews", "SideBySide"))

NUMBER = re.compile(r"-?\d+(\.\d*)?(e[-+]?\d+)?")
LITERALS = {"true": 1.0, "false": 0.0}


def upstream(node: nuke.Node, inputs: Iterable[int] | None = None, frame: int | None = None) -> list[nuke.Node]:
    """All nodes that a node's pixels can come from, without the node itself; into and out of groups.

    Args:
        node: the first node; may be inside a group.
        inputs: the inputs to follow; None: all.
        frame: leaves out inputs unused on this frame: those that a Switch doesn't select, and all but the first of a
            disabled node. None, and above nodes that may need other frames: leaves out inputs unused on every frame.

    Returns:
        Nodes, each once, with those inside groups, in an order that depends on the connections alone.
    """
    found: dict[str, nuke.Node] = {}
    asked: dict[str, set[int | None]] = {}  # by name: the frames for which the node was visited
    first = inputs_of(node, frame) if inputs is None else [node.input(i) for i in inputs]
    above = frame if keeps_time(node) else None
    waiting = [(other, above) for other in reversed(first) if other is not None]
    while waiting:
        here, frame = waiting.pop()
        name = here.fullName()
        visited = asked.setdefault(name, set())
        if frame in visited or None in visited:
            continue
        visited.add(frame)
        found[name] = here
        above = frame if keeps_time(here) else None
        waiting += [(other, above) for other in reversed(inputs_of(here, frame)) if other is not None]
    found.pop(node.fullName(), None)
    return list(found.values())


def inputs_of(node: nuke.Node, frame: int | None = None) -> list[nuke.Node | None]:
    """The nodes that feed a node: its inputs in order, then for a group its Output nodes.

    An Input node of a group is fed by the group's input. `frame` as in `upstream`.
    """
    if node.Class() == "Input":
        return [fed_by(node)]
    inputs = [node.input(i) for i in range(node.inputs())]
    if is_off(node, frame):
        return inputs[:1]
    chosen = chosen_input(node, frame)
    if chosen is not None:
        return inputs[chosen : chosen + 1]
    return [*inputs, *(inside for inside in insides(node) if inside.Class() == "Output")]


def insides(node: nuke.Node) -> list[nuke.Node]:
    """The nodes inside a group or gizmo; none for others."""
    return list(node.nodes()) if isinstance(node, nuke.Group) else []


def fed_by(group_input: nuke.Node) -> nuke.Node | None:
    """The node that feeds a group at one of its Input nodes; None outside groups, or where nothing is connected."""
    group = parent_of(group_input)
    if group is None:
        return None
    number = group_input.knob("number")
    return group.input(int(number.value()) if number is not None else 0)


def parent_of(node: nuke.Node) -> nuke.Node | None:
    """The group that a node is in; None at the top."""
    group = node.parent()
    return None if group is None or group.Class() == "Root" else group


def is_off(node: nuke.Node, frame: int | None) -> bool:
    """True where a node is disabled on a frame, or with None on every frame, and so passes its first input.

    False for unknown classes with several inputs, which may pass another input.
    """
    return (node.inputs() <= 1 or keeps_time(node)) and bool(certain(node, "disable", frame))


def chosen_input(node: nuke.Node, frame: int | None) -> int | None:
    """The input that a Switch selects on a frame, or with None on every frame; None where that isn't certain."""
    which = certain(node, "which", frame) if node.Class() == "Switch" else None
    return None if which is None else min(max(int(which), 0), max(node.inputs() - 1, 0))


def certain(node: nuke.Node, name: str, frame: int | None) -> float | None:
    """The value of a knob in all views on a frame, or with None on every frame; None where that isn't certain."""
    knob = node.knob(name)
    if knob is None:
        return None
    text = str(knob.toScript())
    if text in LITERALS:
        return LITERALS[text]
    if NUMBER.fullmatch(text):
        return float(text)
    # Animated, an expression, or one value for each view.
    return float(knob.getValueAt(frame)) if frame is not None and len(nuke.views()) == 1 else None


def relight_nodes(group: nuke.Group | None = None) -> list[nuke.Node]:
    """Every RelightGAN node of the script, or of a group and the groups in it; each after those it depends on."""
    found: list[nuke.Node] = []
    waiting = insides(nuke.root() if group is None else group)
    while waiting:
        node = waiting.pop()
        if knobs.is_relight_node(node):
            found.append(node)
        else:
            waiting += insides(node)
    found.sort(key=lambda node: node.fullName())
    return in_order(found)


def relight_nodes_upstream(node: nuke.Node, frame: int | None = None) -> list[nuke.Node]:
    """The RelightGAN nodes that a node's pixels come from, each after those it depends on; not the node itself.

    Args:
        node: any node, such as a Write or a RelightGAN.
        frame: as in `upstream`.
    """
    return in_order([other for other in upstream(node, frame=frame) if knobs.is_relight_node(other)])


def in_order(nodes: list[nuke.Node]) -> list[nuke.Node]:
    """RelightGAN nodes, each after those of them that it depends on."""
    names = {node.fullName(): node for node in nodes}
    before = {
        name: {other.fullName() for other in upstream(node)} & set(names) - {name} for name, node in names.items()
    }
    ordered: list[str] = []
    while len(ordered) < len(names):
        # The first that depends on no other one left; in a loop of nodes, which Nuke forbids, the first.
        left = [name for name in names if name not in ordered]
        ordered.append(next((name for name in left if before[name] <= set(ordered)), left[0]))
    return [names[name] for name in ordered]


def inert(node: nuke.Node, frame: int | None = None) -> bool:
    """True where a RelightGAN node passes its source unchanged: disabled, bypassed, or at strength 0.

    Args:
        node: a RelightGAN node.
        frame: a frame; None: on every frame, which is False with an animated knob.
    """
    off, bypass, strength = (certain(node, name, frame) for name in ("disable", knobs.BYPASS, knobs.STRENGTH))
    return bool(off) or bool(bypass) or (strength is not None and strength <= 0)


def time_neutral(nodes: Iterable[nuke.Node]) -> bool:
    """True where all nodes are known to need only their own frame of their inputs."""
    return all(keeps_time(node) for node in nodes)


def view_neutral(nodes: Iterable[nuke.Node]) -> bool:
    """True where all nodes are known to need only their own view of their inputs."""
    return all(keeps_view(node) for node in nodes)


def keeps_time(node: nuke.Node) -> bool:
    """True where a node is known to need only its own frame of its inputs; of a group, the nodes inside decide."""
    return node.Class() in KEEP_TIME or isinstance(node, nuke.Group)


def keeps_view(node: nuke.Node) -> bool:
    """True where a node is known to need only its own view of its inputs; of a group, the nodes inside decide."""
    return keeps_time(node) and node.Class() not in CHANGE_VIEW


def inner(node: nuke.Node, name: str) -> nuke.Node:
    """A node inside a RelightGAN node, by name (knobs.WRITE_NODE, knobs.READ_NODE).

    Raises:
        RelightError: there is no such node.
    """
    found = next((inside for inside in insides(node) if inside.name() == name), None)
    if found is None:
        raise RelightError(
            f"{node.fullName()} has no node '{name}' inside: it was taken apart.",
            "Make a new RelightGAN node and set it the same.",
        )
    return found
