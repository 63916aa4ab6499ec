"""The .gizmo file itself, read by a real Tcl interpreter: the language Nuke reads it with."""

import ast
import re
import tkinter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GIZMO = ROOT / "gizmos" / "RelightGAN.gizmo"
PYTHON_KNOBS = ("onCreate", "knobChanged")  # statements
EXPRESSIONS = ("autolabel",)  # one expression, whose value Nuke shows
BUTTON, TEXT, TAB, LINK = "22", "26", "20", "41"
# Knobs that Nuke itself gives every Gizmo.
NUKES_OWN = {"help", "onCreate", "knobChanged", "autolabel", "tile_color", "name", "disable", "label"}


@dataclass
class UserKnob:
    kind: str
    name: str
    options: dict[str, str]
    flags: set[str]


@dataclass
class GizmoNode:
    kind: str
    knobs: dict[str, str]
    user: list[UserKnob] = field(default_factory=list)
    inputs: list = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.knobs["name"]


class Reader:
    """Runs a .gizmo as Nuke does: every class is a Tcl command, and nodes take their inputs from a stack."""

    def __init__(self, text: str) -> None:
        self.tcl = tkinter.Tcl()
        self.stack: list[GizmoNode | None] = []
        self.nodes: list[GizmoNode] = []
        self.groups = 0
        for name in ("version", "add_layer"):
            self.tcl.createcommand(name, lambda *_: "")
        self.tcl.createcommand("stack", lambda place: str(self.nodes.index(self.stack[-1 - int(place)])))
        self.tcl.createcommand("push", lambda number: self.stack.append(self.nodes[int(number)]) or "")
        self.tcl.createcommand("end_group", self.end_group)
        self.tcl.createcommand("unknown", self.node)
        self.tcl.eval(text)

    def end_group(self) -> str:
        self.groups -= 1
        return ""

    def node(self, kind: str, body: str) -> str:
        made = GizmoNode(kind, {})
        # A node's body is a script too, whose commands are its knobs: so what is wrongly escaped is executed here.
        inner = self.tcl.eval("interp create")
        for hidden in self.tcl.splitlist(self.tcl.eval(f"{inner} eval {{info commands}}")):
            if hidden not in ("rename", "list", "unknown"):
                self.tcl.eval(f"{inner} eval [list rename {{{hidden}}} {{}}]")
        self.tcl.createcommand("take_knob", lambda *words: self.knob(made, words))
        self.tcl.eval(f"interp alias {inner} unknown {{}} take_knob")
        self.tcl.eval(f"{inner} eval {{rename rename {{}}}}")
        self.tcl.call(inner, "eval", body)
        self.tcl.eval(f"interp delete {inner}")
        self.connect(made)
        self.nodes.append(made)
        return ""

    def knob(self, made: GizmoNode, words: tuple[str, ...]) -> str:
        if words[0] != "addUserKnob":
            name, value = words
            made.knobs[name] = value
            return ""
        parts = list(self.tcl.splitlist(words[1]))
        user = UserKnob(parts.pop(0), parts.pop(0), {}, set())
        while parts:
            word = parts.pop(0)
            if word[0] in "+-":
                user.flags.add(word)
            elif word == "R":
                user.options["R"] = f"{parts.pop(0)} {parts.pop(0)}"
            else:
                user.options[word] = parts.pop(0)
        made.user.append(user)
        return ""

    def connect(self, made: GizmoNode) -> None:
        if made.kind in ("Gizmo", "Group"):
            self.groups += 1
            self.stack.append(None)
            return
        count = int(made.knobs.get("inputs", "1"))
        made.inputs = [self.stack.pop() for _ in range(count)]
        self.stack.append(made)


@pytest.fixture(scope="module")
def text() -> str:
    return GIZMO.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader(text) -> Reader:
    return Reader(text)


@pytest.fixture(scope="module")
def gizmo(reader) -> GizmoNode:
    return next(node for node in reader.nodes if node.kind == "Gizmo")


@pytest.fixture(scope="module")
def inside(reader) -> dict[str, GizmoNode]:
    return {node.name: node for node in reader.nodes if node.kind != "Gizmo"}


def knob_names() -> dict[str, str]:
    """Every knob the code names: the constants of knobs.py, read without importing it, because it imports nuke."""
    tree = ast.parse((ROOT / "nuke_plugin" / "knobs.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def test_tcl_reads_it_whole_and_every_group_is_closed(reader):
    assert reader.groups == 0
    assert [node.kind for node in reader.nodes].count("Gizmo") == 1


def test_a_lost_brace_would_be_found(text):
    with pytest.raises(tkinter.TclError):
        Reader(text.replace("name RG_Crop\n", "name RG_Crop {\n"))


def test_a_bracket_that_is_not_escaped_in_a_knobs_value_would_be_found(text):
    with pytest.raises(tkinter.TclError):
        Reader(text.replace("Relights the Source", "Relights the [Source]"))


def test_nothing_in_a_users_knob_would_be_substituted_if_tcl_read_it_once_more(text):
    lines = [line for line in text.splitlines() if "addUserKnob" in line]
    assert [line for line in lines if re.search(r"(?<!\\)[\[\]$]", line)] == []


def test_the_first_knob_is_a_tab_and_names_are_unique(gizmo):
    assert gizmo.user[0].kind == TAB
    names = [knob.name for knob in gizmo.user if knob.name]
    assert sorted(names) == sorted(set(names))
    assert not set(names) & NUKES_OWN


def test_every_knob_the_code_names_exists_and_every_knob_of_the_node_is_named_in_the_code(gizmo):
    there = {knob.name for knob in gizmo.user if knob.name and knob.kind != TAB}
    names = knob_names()
    in_code = {value for key, value in names.items() if not key.endswith("_NODE")}
    assert in_code <= there
    assert there - in_code == {"info_version", "info_sha256", "info_help"}


def test_every_value_set_is_that_of_a_knob_declared_before(gizmo):
    declared = {knob.name for knob in gizmo.user}
    assert set(gizmo.knobs) <= declared | NUKES_OWN


def test_every_visible_knob_has_a_tooltip_written_in_sentences(gizmo):
    for knob in gizmo.user:
        if "+INVISIBLE" in knob.flags or knob.kind == TAB or (knob.kind == TEXT and not knob.name):
            continue
        tip = knob.options.get("t", "")
        assert tip.endswith("."), knob.name
        assert len(tip) > 20, knob.name


def test_python_in_it_compiles_for_the_oldest_python_nuke_has(gizmo):
    def check(code: str, mode: str) -> None:
        compile(ast.parse(code, mode=mode, feature_version=(3, 9)), "<knob>", mode)

    for name in PYTHON_KNOBS:
        check(gizmo.knobs[name], "exec")
    for name in EXPRESSIONS:
        check(gizmo.knobs[name], "eval")
    buttons = [knob for knob in gizmo.user if knob.kind == BUTTON]
    assert len(buttons) == 5
    for knob in buttons:
        check(knob.options["T"], "exec")


def test_every_function_it_calls_exists_and_every_import_may_fail(gizmo):
    hooks = ast.parse((ROOT / "nuke_plugin" / "hooks.py").read_text(encoding="utf-8"))
    there = {node.name for node in hooks.body if isinstance(node, ast.FunctionDef)}
    code = [gizmo.knobs[name] for name in PYTHON_KNOBS] + [k.options["T"] for k in gizmo.user if k.kind == BUTTON]
    called = {name for piece in code for name in re.findall(r"hooks\.(\w+)\(", piece)}
    assert called | {"autolabel"} <= there
    assert len(called) == 7
    assert all("except ImportError" in piece for piece in code)


def test_without_our_package_the_label_is_the_nodes_name_and_hooks_do_nothing(gizmo, monkeypatch):
    class Node:
        def name(self) -> str:
            return "RelightGAN1"

    class Nuke:
        thisNode = staticmethod(Node)  # noqa: N815
        thisKnob = staticmethod(lambda: None)  # noqa: N815

    import sys

    for name in ("relightgan", "relightgan.nuke_plugin", "relightgan.nuke_plugin.hooks"):
        monkeypatch.setitem(sys.modules, name, None)
    assert eval(gizmo.knobs["autolabel"], {"nuke": Nuke}) == "RelightGAN1"
    for name in PYTHON_KNOBS:
        exec(gizmo.knobs[name], {"nuke": Nuke})
    for knob in gizmo.user:
        if knob.kind == BUTTON:
            with pytest.raises(RuntimeError, match="not installed on this machine"):
                exec(knob.options["T"], {"nuke": Nuke})


def test_it_names_no_place_on_any_machine_and_keeps_no_positions(text):
    assert not re.search(r"(?<![\w<])/(usr|home|work|mnt|tmp|opt|Users)\b|[A-Z]:[\\/]", text)
    assert not re.search(r"\b[xy]pos\b|cut_paste_input|selected true", text)


def test_links_point_at_knobs_of_nodes_inside(gizmo, inside):
    links = [knob for knob in gizmo.user if knob.kind == LINK]
    assert {knob.options["T"] for knob in links} == {"RG_Mask.maskChannel", "RG_Mask.invertMask"}
    assert all(knob.options["T"].partition(".")[0] in inside for knob in links)


def test_every_expression_inside_refers_to_knobs_of_the_node(gizmo, inside):
    own = {knob.name for knob in gizmo.user} | {"input1"}
    named = {
        name
        for node in inside.values()
        for value in node.knobs.values()
        for name in re.findall(r"parent\.(\w+)", value)
    }
    assert named <= own
    assert {"result_path", "source_path", "strength", "bypass", "crop_to_format", "input1"} <= named


def test_the_write_inside_is_off_raw_full_float_and_off_the_stream(inside):
    write = inside["RG_Write"].knobs
    assert write["disable"] == "true"
    assert write["raw"] == "true"
    assert write["channels"] == "rgba"
    assert write["datatype"] == "32 bit float"
    assert write["compression"] == "none"
    assert all("RG_Write" not in [other.name for other in node.inputs if other] for node in inside.values())


def test_the_read_inside_fails_on_a_missing_frame_and_shows_raw_values(inside):
    read = inside["RG_Read"].knobs
    assert read["on_error"] == "error"
    assert (read["before"], read["after"]) == ("black", "black")
    assert read["raw"] == "true"
    assert read["file"] == "[value parent.result_path]"
    assert "proxy" not in read


def test_only_red_green_and_blue_come_from_the_read(inside):
    copy = inside["RG_Copy"]
    assert [node.name for node in copy.inputs] == ["RG_Crop", "RG_Check"]
    assert [copy.knobs[f"{way}{i}"] for i in range(3) for way in ("from", "to")] == [
        f"rgba.{colour}" for colour in ("red", "green", "blue") for _ in range(2)
    ]
    assert inside["RG_Strength"].knobs["channels"] == "rgb"
    assert inside["RG_Mask"].knobs["channels"] == "rgb"


def test_plate_and_relit_go_to_the_right_sides_of_mix_mask_and_bypass(inside):
    def sides(name: str) -> list[str]:
        return [node.name for node in inside[name].inputs]

    assert sides("RG_Strength") == ["RG_Crop", "RG_Copy"]
    assert sides("RG_Mask") == ["RG_Crop", "RG_Strength", "mask"]
    assert sides("RG_MaskSwitch") == ["RG_Strength", "RG_Mask"]
    assert sides("RG_BypassSwitch") == ["Source", "RG_MaskSwitch"]
    assert sides("Output1") == ["RG_BypassSwitch"]
    assert inside["mask"].knobs["number"] == "1"
