"""The node classes the simulator knows, read from node_classes.txt: how many inputs, which knobs, which defaults."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from . import tcl
from .knobs import (
    AColor_Knob,
    BBox_Knob,
    Boolean_Knob,
    Channel_Knob,
    ChannelMask_Knob,
    ColorChip_Knob,
    Disable_Knob,
    Double_Knob,
    EditableEnumeration_Knob,
    Enumeration_Knob,
    EvalString_Knob,
    File_Knob,
    Format_Knob,
    Int_Knob,
    Knob,
    Multiline_Eval_String_Knob,
    OneView_Knob,
    PyScript_Knob,
    Script_Knob,
    String_Knob,
    WH_Knob,
    XY_Knob,
)

KINDS: dict[str, type[Knob]] = {
    "String": String_Knob, "Eval": EvalString_Knob, "Multiline": Multiline_Eval_String_Knob, "File": File_Knob,
    "Int": Int_Knob, "Double": Double_Knob, "Bool": Boolean_Knob, "Disable": Disable_Knob, "Enum": Enumeration_Knob,
    "Free": EditableEnumeration_Knob, "Channel": Channel_Knob, "Mask": ChannelMask_Knob, "XY": XY_Knob, "WH": WH_Knob,
    "BBox": BBox_Knob, "Color": AColor_Knob, "Format": Format_Knob, "Button": Script_Knob, "PyButton": PyScript_Knob,
    "Chip": ColorChip_Knob, "View": OneView_Knob,
}  # fmt: skip


@dataclasses.dataclass
class NodeClass:
    """`inputs` is how many arrows are there; `optional` the index of the mask input."""

    inputs: int = 1
    maximum: int | None = None
    optional: int | None = None
    group: bool = False
    executable: bool = False
    lines: list[str] = dataclasses.field(default_factory=list)  # a knob each


def make_knobs(class_name: str) -> dict[str, Knob]:
    """Fresh knobs of a class, in order; KeyError for a class that isn't known."""
    lines = CLASSES[class_name].lines + ([] if class_name == "Root" else PARTS["common"])
    return {knob.name(): knob for knob in map(_make_knob, lines)}


def _make_knob(line: str) -> Knob:
    cls, name, items, default = _parsed(line)
    knob = cls(name, None, items) if issubclass(cls, Enumeration_Knob) else cls(name)
    if default:
        knob._from_script(default)
    knob._set_default()
    return knob


@functools.cache
def _parsed(line: str) -> tuple[type[Knob], str, list[str], str]:
    kind, name, *rest = [word for word, _ in tcl.fields(line)]
    items = [word for word, _ in tcl.fields(rest.pop(0))] if issubclass(KINDS[kind], Enumeration_Knob) else []
    return KINDS[kind], name, items, rest[0] if rest else ""


def _load() -> tuple[dict[str, NodeClass], dict[str, list[str]]]:
    classes: dict[str, NodeClass] = {}
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in (Path(__file__).parent / "node_classes.txt").read_text(encoding="utf-8").split("\n"):
        sign, _, rest = line.partition(" ")
        if sign == "*":
            lines = parts.setdefault(rest, [])
        elif sign == "=":
            name, *facts = rest.split()
            pairs = (fact.partition("=") for fact in facts)
            classes[name] = NodeClass(**{key: int(value) if value else True for key, _, value in pairs})
            lines = classes[name].lines
        elif sign == "+":
            lines += parts[rest]
        elif line and sign != "#":
            lines.append(line)
    return classes, parts


CLASSES, PARTS = _load()
# Nuke makes these knobs of a Write only once it knows that the file is an EXR.
EXR_KNOBS = frozenset(line.split()[1] for line in PARTS["exr"])
