"""Writes scripts: of a gizmo only its own knobs, of a Group everything; what is at its default isn't written."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import constants as c
from . import knobs as k
from . import tcl
from .classes import CLASSES

if TYPE_CHECKING:
    from .nodes import Gizmo, Group, Node
    from .session import Session

_NEVER = {"selected"}


def script_text(session: Session) -> str:
    """The whole script."""
    head = "version " + c.NUKE_VERSION_STRING.replace("v", " v")
    body = "".join(f" {line}\n" for line in knob_lines(session.root))
    return f"{head}\nRoot {{\n inputs 0\n{body}}}\n{nodes_text(session.root._children)}"


def nodes_text(nodes: Iterable[Node]) -> str:
    """These nodes and the connections between them."""
    chosen = list(nodes)
    return "".join(_node_text(node, chosen) for node in _sources_first(chosen))


def knob_lines(node: Node) -> list[str]:
    """`addUserKnob` and value lines of a node, values that aren't the default's only."""
    lines: list[str] = []
    for knob in node._knobs.values():
        if knob._user and not knob._from_gizmo:
            lines.append(f"addUserKnob {{{definition(knob)}}}")
        if _is_written(knob) and (knob._not_default() or (knob.name() == "name" and node.Class() != "Root")):
            lines.append(f"{knob.name()} {value_word(knob)}")
    return lines


def value_word(knob: k.Knob) -> str:
    """The value as one word of Tcl: numbers and curves in braces, texts quoted."""
    text = knob._script_value()
    return (
        "{" + text + "}"
        if isinstance(knob, k.Array_Knob) and any(c in text for c in " {") and not isinstance(knob, k.Enumeration_Knob)
        else tcl.quote(text)
    )


def _is_written(knob: k.Knob) -> bool:
    from .nodes import Gizmo

    if isinstance(knob, k.Link_Knob):
        return isinstance(knob._node, Gizmo)
    return knob._saved and not knob.getFlag(k.DO_NOT_WRITE) and knob.name() not in _NEVER


def _node_text(node: Node, chosen: list[Node]) -> str:
    from .nodes import Gizmo, Group

    inputs = [one if one in chosen else None for one in node._inputs]
    optional = CLASSES.get(node.Class(), CLASSES["Group"]).optional
    masked = optional is not None and len(inputs) == optional + 1
    count = f"{optional}+1" if masked else str(len(inputs))
    text = "".join(f"push {'0' if one is None else '$' + _id(one)}\n" for one in reversed(inputs))
    lines = ([] if count == "1" else [f"inputs {count}"]) + knob_lines(node)
    text += f"{node.Class()} {{\n" + "".join(f" {line}\n" for line in lines) + "}\n"
    if isinstance(node, Group) and not isinstance(node, Gizmo):
        text += nodes_text(node._children) + "end_group\n"
    return f"{text}set {_id(node)} [stack 0]\n"


def _id(node: Node) -> str:
    return f"N{id(node):x}"


def _sources_first(nodes: list[Node]) -> list[Node]:
    done: list[Node] = []

    def visit(node: Node) -> None:
        if node in done:
            return
        for one in node._inputs:
            if one is not None and one in nodes:
                visit(one)
        done.append(node)

    for node in nodes:
        visit(node)
    return done


def definition(knob: k.Knob) -> str:
    """What stands after addUserKnob, with the label, texts and flags as they are now."""
    words = [str(knob._id), tcl.quote(knob.name())]
    if knob._label is not None:
        words += ["l", tcl.quote(knob._label)]
    if knob._tooltip:
        words += ["t", tcl.quote(knob._tooltip)]
    if isinstance(knob, k.Link_Knob):
        words += ["T", tcl.quote(knob._target)]
    elif isinstance(knob, (k.Script_Knob, k.Text_Knob)) and knob._text:
        words += ["T", tcl.quote(knob._text)]
    if isinstance(knob, k.Tab_Knob) and knob._kind:
        words += ["n", str(knob._kind)]
    if isinstance(knob, k.Enumeration_Knob):
        words += ["M", "{" + " ".join(tcl.quote(item) for item in knob._items) + "}"]
    elif isinstance(knob, k.Array_Knob) and (knob._low, knob._high) != (0.0, 1.0):
        words += ["R", str(knob._low), str(knob._high)]
    words += [f"+{word}" for word, flag in k.FLAG_WORDS.items() if knob.getFlag(flag) and word != "HIDDEN"]
    return " ".join(words)


def write_knobs(session: Session, node: Node, flags: int) -> str:
    """Node.writeKnobs: one line per knob; with TO_SCRIPT or TO_VALUE its value too."""
    lines = []
    for knob in node._knobs.values():
        if flags & c.WRITE_USER_KNOB_DEFS and knob._user:
            lines.append(f"addUserKnob {{{definition(knob)}}}")
        if not _is_written(knob) or (flags & c.WRITE_NON_DEFAULT_ONLY and not knob._not_default()):
            continue
        if flags & c.TO_SCRIPT:
            lines.append(f"{knob.name()} {value_word(knob)}")
        elif flags & c.TO_VALUE:
            lines.append(f"{knob.name()} {tcl.quote(str(knob.value()))}")
        else:
            lines.append(knob.name())
    if session.quirks.shuffled_write_knobs:
        random.shuffle(lines)
    return "\n".join(lines)


def make_group(session: Session, gizmo: Gizmo) -> Group:
    """Node.makeGroup: a Group with the gizmo's knobs, values and inside; connected like nothing yet."""
    from . import script

    head = [line for line in _gizmo_lines(gizmo) if not line.startswith("name ")]
    text = "Group {\n inputs 0\n" + "".join(f" {line}\n" for line in head) + "}\n"
    text += nodes_text(gizmo._children) + "end_group\n"
    made = script.read_text(session, text, f"makeGroup of {gizmo.fullName()}")[0]
    made._knobs["name"]._from_script(_group_name(gizmo, made))
    return made


def _gizmo_lines(gizmo: Gizmo) -> list[str]:
    """All its knobs: in a Group nothing is left to the .gizmo file."""
    lines = []
    for knob in gizmo._knobs.values():
        if knob._user:
            lines.append(f"addUserKnob {{{definition(knob)}}}")
        if isinstance(knob, k.Link_Knob) or not _is_written(knob):
            continue
        if (
            knob._user
            or knob._not_default()
            or knob.name() in ("onCreate", "onDestroy", "knobChanged", "autolabel", "updateUI")
        ):
            lines.append(f"{knob.name()} {value_word(knob)}")
    return lines


def _group_name(gizmo: Gizmo, made: Group) -> str:
    from .session import free_name

    taken = {one.name() for one in made.parent()._children if one is not made}
    return free_name(re.sub(r"\d+$", "", gizmo.name()) + "1", taken)
