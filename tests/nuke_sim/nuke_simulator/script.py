"""Reads .nk and .gizmo files with a real Tcl interpreter, as Nuke does.

A script is Tcl: `Class {knob value ...}` makes a node, `push`, `set N1 [stack 0]` and `inputs` connect it. In the body
of a node every line is a command too, so that an unescaped `[` or `$` there fails here as it would in Nuke.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import knobs as k
from . import tcl
from .classes import CLASSES

if TYPE_CHECKING:
    from .nodes import Gizmo, Group, Node
    from .session import Session

Body = list[tuple[str, list[str]]]


def open_script(session: Session, path: Path, *, load_callbacks: bool = True) -> None:
    """Replaces the script by the one in the file; RuntimeError with file and line when Nuke couldn't load it."""
    text = path.read_text(encoding="utf-8")
    session.clear()
    session.loading = True
    try:
        Reader(session, session.root, str(path)).read(text)
        session.root._knobs["name"]._from_script(path.as_posix())
        session.callbacks.run("OnCreate", session.root)
        if load_callbacks:
            session.callbacks.run("OnScriptLoad", session.root)
    finally:
        session.loading = False


def read_text(session: Session, text: str, where: str = "text") -> list[Node]:
    """Adds a script's nodes to the current group and selects them; the settings of its Root are left out."""
    reader = Reader(session, session.group, where, root_too=False)
    with _loading(session):
        reader.read(text)
    for node in session.group._children:
        node.setSelected(node in reader.made)
    made = list(reader.made)

    def back() -> None:
        for node in made:
            node._deleted = True
            node.parent()._children.remove(node)

    session.changed(back)
    return made


def new_gizmo(session: Session, class_name: str, group: Group) -> Node:
    """A node whose class is a .gizmo file on the plug-in path, without its onCreate."""
    from .nodes import Gizmo

    path = session.plugin_file(f"{class_name}.gizmo")
    if path is None:
        raise RuntimeError(f"{class_name}: Unknown command")
    gizmo = Gizmo(class_name, group)
    gizmo._filename = path.as_posix()
    with _loading(session):
        Reader(session, group, gizmo.filename(), gizmo=gizmo).read(path.read_text(encoding="utf-8"))
    for knob in gizmo._knobs.values():
        knob._set_default()
        knob._from_gizmo = knob._user
    return gizmo


@contextmanager
def _loading(session: Session) -> Iterator[None]:
    before, session.loading = session.loading, True
    try:
        yield
    finally:
        session.loading = before


class Reader:
    """One pass over one file."""

    def __init__(
        self, session: Session, group: Group, where: str, *, gizmo: Gizmo | None = None, root_too: bool = True
    ) -> None:
        self._session, self._where, self._gizmo, self._root_too = session, where, gizmo, root_too
        self._groups: list[Group] = [group]
        self._stacks: list[list[Node | None]] = [[]]
        self._ids: dict[str, Node | None] = {"0": None}
        self.made: list[Node] = []
        self._tcl = tcl.Tcl()
        for name, function in {
            "nuke_node": self._node, "nuke_push": self._push, "nuke_stack": self._stack,
            "nuke_end_group": self._end_group, "nuke_ignore": lambda *words: "", "nuke_clone": self._clone,
        }.items():  # fmt: skip
            self._tcl.define(name, function)
        self._tcl.eval("interp create -safe nk")
        for alias, target in {
            "unknown": "nuke_node", "push": "nuke_push", "stack": "nuke_stack", "end_group": "nuke_end_group",
            "version": "nuke_ignore", "define_window_layout_xml": "nuke_ignore", "add_layer": "nuke_ignore",
            "clone": "nuke_clone",
        }.items():  # fmt: skip
            self._tcl.eval(f"interp alias nk {alias} {{}} {target}")

    def read(self, text: str) -> None:
        line = 1
        try:
            for line, command in tcl.commands(text):  # noqa: B007 - the error names it
                self._tcl.call("interp", "eval", "nk", command)
            if len(self._groups) != 1:
                raise RuntimeError(f"{self._groups[-1].fullName()} has no end_group")
        except (RuntimeError, ValueError, TypeError, tcl.TclError) as error:
            kind = NotImplementedError if isinstance(error, NotImplementedError) else RuntimeError
            raise kind(f"{self._where}:{line}: {error}") from error

    # --- commands

    def _node(self, class_name: str, *words: str) -> str:
        if len(words) != 1:
            raise RuntimeError(f"{class_name}: Unknown command")
        body = parse_body(words[0])
        if class_name == "Root":
            if self._root_too:
                _apply_root(self._session, body)
            return ""
        if class_name == "Gizmo":
            if self._gizmo is None:
                raise RuntimeError("Gizmo: Unknown command")
            self._open(self._gizmo)
            apply_knobs(self._session, self._gizmo, body)
            return ""
        node = self._session.new_node(class_name, self._groups[-1])
        self._connect(node, body)
        apply_knobs(self._session, node, body, name_too=True)
        self._stacks[-1].append(node)
        if class_name == "Group":
            self._open(node)
        else:
            self._finished(node)
        return ""

    def _connect(self, node: Node, body: Body) -> None:
        count = next((words[0] for name, words in body if name == "inputs"), "1")
        regular, _, mask = count.partition("+")
        optional = CLASSES.get(node.Class(), CLASSES["Group"]).optional
        if mask and (optional is None or int(regular) > optional):
            raise NotImplementedError(f"the simulator doesn't know how {node.name()} has inputs {count}")
        taken = [self._stacks[-1].pop() if self._stacks[-1] else None for _ in range(int(regular) + int(mask or 0))]
        if mask:
            taken = [*taken[: int(regular)], *[None] * (optional - int(regular)), taken[-1]]
        while taken and taken[-1] is None:
            taken.pop()
        node._inputs = taken

    def _open(self, group: Group) -> None:
        self._groups.append(group)
        self._stacks.append([])

    def _end_group(self) -> str:
        if len(self._groups) == 1:
            raise RuntimeError("end_group without a Group")
        group = self._groups.pop()
        self._stacks.pop()
        if group is not self._gizmo:
            self._finished(group)
        return ""

    def _finished(self, node: Node) -> None:
        if len(self._groups) == 1:
            self.made.append(node)
            self._session.callbacks.created(node, by_user=False)

    def _push(self, name: str) -> str:
        if name not in self._ids:
            raise RuntimeError(f"push {name}: no such node")
        self._stacks[-1].append(self._ids[name])
        return ""

    def _stack(self, index: str) -> str:
        stack = self._stacks[-1]
        node = stack[-1 - int(index)] if int(index) < len(stack) else None
        name = "0" if node is None else f"N{id(node):x}"
        self._ids[name] = node
        return name

    def _clone(self, *words: str) -> str:
        raise NotImplementedError("clones aren't simulated")


_body_tcl: tuple[tcl.Tcl, list[list[str]]] | None = None


def parse_body(text: str) -> Body:
    """The lines of a node's body as (name, words), quoted and escaped as Tcl has it; TclError where Tcl would fail."""
    interpreter, captured = _body_interpreter()
    captured.clear()
    for _, command in tcl.commands(text):
        interpreter.call("interp", "eval", "body", f"nuke_line {command}")
    return [(words[0], words[1:]) for words in captured]


def _body_interpreter() -> tuple[tcl.Tcl, list[list[str]]]:
    """An interpreter without any command, so that `[x]` in a body is an error and not a call."""
    global _body_tcl
    if _body_tcl is None:
        interpreter, captured = tcl.Tcl(), []

        def line(*words: str) -> str:
            captured.append(list(words))
            return ""

        interpreter.define("nuke_body_line", line)
        interpreter.eval("interp create -safe body")
        interpreter.eval("foreach name [interp eval body {info commands}] {interp hide body $name}")
        interpreter.eval("interp alias body nuke_line {} nuke_body_line")
        _body_tcl = interpreter, captured
    return _body_tcl


def apply_knobs(session: Session, node: Node, body: Body, *, name_too: bool = False) -> None:
    """Sets the knobs that a body names. An unknown knob of a native class is refused, of a gizmo it is a warning."""
    from .nodes import Gizmo

    for name, words in body:
        if name == "inputs" or (name == "name" and not name_too):
            continue
        if len(words) != 1:
            raise RuntimeError(f"{node.fullName()}.{name}: expected one value, got {words}")
        if name == "addUserKnob":
            add_user_knob(session, node, words[0])
            continue
        knob = node.knob(name)
        if knob is None and isinstance(node, Gizmo) and node._children:
            session.warn(f"{node.fullName()}.{name}: no such knob")
            continue
        if knob is None:
            raise RuntimeError(f"{node.fullName()}.{name}: no such knob (or the simulator's classes.py lacks it)")
        if name == "name":
            taken = {one.name() for one in node.parent()._children if one is not node}
            from .session import free_name

            knob._from_script(free_name(words[0], taken))
        else:
            knob._from_script(words[0])


def add_user_knob(session: Session, node: Node, text: str) -> None:
    """`{id name l label t tooltip T text M {items} R low high n group +FLAG -FLAG}`."""
    number, *words = tcl.split(text)
    name = words.pop(0) if words else ""
    if int(number) not in k.USER_KNOBS:
        raise NotImplementedError(f"{node.fullName()}: the simulator doesn't know user knobs of type {number} ({name})")
    known = node._knobs.get(name)
    if known is not None and known._user:
        return
    knob = k.USER_KNOBS[int(number)](name or f"_unnamed{len(node._knobs)}")
    knob._user = True
    while words:
        key = words.pop(0)
        if key[:1] in "+-" and key[1:] in k.FLAG_WORDS:
            (knob.setFlag if key[0] == "+" else knob.clearFlag)(k.FLAG_WORDS[key[1:]])
        elif key == "l":
            knob.setLabel(words.pop(0))
        elif key == "t":
            knob.setTooltip(words.pop(0))
        elif key == "T":
            _set_text(knob, words.pop(0))
        elif key == "M" and isinstance(knob, k.Enumeration_Knob):
            knob._items = tcl.split(words.pop(0))
        elif key == "R" and isinstance(knob, k.Array_Knob):
            knob.setRange(float(words.pop(0)), float(words.pop(0)))
        elif key == "n" and isinstance(knob, k.Tab_Knob):
            knob._kind = int(words.pop(0))
        else:
            raise NotImplementedError(
                f"{node.fullName()}: the simulator doesn't know {key!r} in addUserKnob {{{text}}}"
            )
    node._attach(knob)
    knob._set_default()


def _set_text(knob: k.Knob, text: str) -> None:
    if isinstance(knob, k.Link_Knob):
        knob._target = text
    elif isinstance(knob, (k.Text_Knob, k.Script_Knob, k.String_Knob)):
        knob._text = text
    else:
        raise NotImplementedError(f"the simulator doesn't know T for {knob.Class()}")


def _apply_root(session: Session, body: Body) -> None:
    apply_knobs(session, session.root, body, name_too=False)
    views = [line.split()[0] for line in session.root._knobs["views"].value().split("\n") if line.strip()]
    if views:
        session.views, session.view = views, views[0]
