"""The Tcl commands of Nuke's that knobs use, and how names in expressions find nodes and knobs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from . import expressions, tcl
from . import knobs as k
from .expressions import NothingNamed

if TYPE_CHECKING:
    from .nodes import Node
    from .session import Session

# A node, or a knob with the index of one of its numbers (-1: all).
Found = "Node | tuple[k.Knob, int]"
_DEPTH = 30  # knobs that refer to one another in a ring


class Commands:
    """One Tcl interpreter; the node, frame and view that a text is evaluated for are on a stack."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stack: list[tuple[Node | None, float, str]] = []
        self._tcl = tcl.Tcl()
        defined = {
            "value": self._value, "numvalue": self._value, "knob": self._knob, "exists": self._exists,
            "frame": self._frame, "frames": self._frames, "python": self._python, "expression": self._expression,
            "getenv": self._getenv, "basename": lambda path: PurePosixPath(path).name, "class": self._class,
        }  # fmt: skip
        for name, function in defined.items():
            self._tcl.define(name, function)

    def eval(self, text: str) -> str:
        """nuke.tcl: a command with the current context."""
        return self._inside(None, self._session.frame_now, self._session.view_now, self._tcl.eval, text)

    def call(self, *words: str) -> str:
        return self._inside(None, self._session.frame_now, self._session.view_now, self._tcl.call, *words)

    def substitute(self, text: str, node: Node | None, frame: float, view: str) -> str:
        """The text with its `[...]` run, and with a quirk with its $names and backslashes replaced."""
        everything = self._session.quirks.texts_substitute_all
        if not any(letter in text for letter in ("[$\\" if everything else "[")):
            return text
        kept = () if everything else ("-nobackslashes", "-novariables")
        return self._inside(node, frame, view, self._tcl.call, "subst", *kept, text)

    def expression(self, text: str, node: Node | None, frame: float, view: str) -> float:
        if "[" in text:
            text = self.substitute(text, node, frame, view)

        def resolve(name: str, at: float | None) -> float:
            return self._number(name, node, frame if at is None else at, view)

        return self._inside(node, frame, view, expressions.evaluate, text, resolve)

    def _inside(self, node: Node | None, frame: float, view: str, function: Callable[..., Any], *words: Any) -> Any:
        if len(self._stack) > _DEPTH:
            raise RuntimeError(f"{node.fullName() if node else 'an expression'} refers to itself")
        self._stack.append((node, frame, view))
        try:
            return function(*words)
        finally:
            self._stack.pop()

    # --- names

    def find(self, name: str, node: Node | None, *, inside: bool = False) -> Found | None:
        """What a dotted name means on a knob of `node`; `inside`: names are those of the nodes in it."""
        from .nodes import Group

        words = name.split(".")
        group = node if inside else (node.parent() if node is not None else self._session.group)
        start: Node | None = node
        first = words[0]
        if first in ("this", "node"):
            words = words[1:]
        elif first == "root":
            start, words = self._session.root, words[1:]
        elif inside or node is None or not self._is_of(node, first):
            start = group.node(first) if isinstance(group, Group) else None
            words = words[1:]
        return None if start is None else self._walk(start, words)

    def named_by(self, node: Node) -> list[Node]:
        """The other nodes that the expressions and the `[...]` of a node name."""
        from .nodes import Node as NodeType

        found: list[Node] = []
        for knob in node._knobs.values():
            for name in _names_in(knob):
                hit = self.find(name, node)
                owner = hit if isinstance(hit, NodeType) or hit is None else hit[0].node()
                if owner is not None and owner is not node and owner not in found:
                    found.append(owner)
        return found

    def _is_of(self, node: Node, word: str) -> bool:
        return word == "parent" or _input_number(word) is not None or node.knob(word) is not None

    def _walk(self, node: Node, words: list[str]) -> Found | None:
        from .nodes import Group

        while words:
            word, *rest = words
            whole = node.knob(".".join(words))  # names with dots: Retime's input.first
            knob = whole or node.knob(word)
            if whole is not None:
                return whole, -1
            if knob is not None:
                return _part(knob, rest)
            number = _input_number(word)
            if word == "parent":
                step = node.parent()
            elif number is not None:
                step = node.input(number)
            else:
                step = node.node(word) if isinstance(node, Group) else None
            if step is None:
                return None
            node, words = step, rest
        return node

    def _number(self, name: str, node: Node | None, frame: float, view: str) -> float:
        from .nodes import Node as NodeType

        if name in ("frame", "t", "x"):
            return frame
        head, _, last = name.rpartition(".")
        if last in ("width", "height", "pixel_aspect", "first_frame", "last_frame"):
            owner = self.find(head, node) if head else node
            if isinstance(owner, NodeType) and owner.knob(last) is None:
                return self._fact(owner, last)
        found = self.find(name, node)
        if found is None or isinstance(found, NodeType):
            raise NothingNamed(name)
        return self._knob_number(found, frame, view)

    def _knob_number(self, found: tuple[k.Knob, int], frame: float, view: str) -> float:
        knob, index = found
        if isinstance(knob, k.Link_Knob):
            knob = knob.getLinkedKnob()
        if isinstance(knob, k.Array_Knob):
            return knob._field_at(knob._fields[max(index, 0)], frame, view)
        return float(knob._at(frame, view))

    def _fact(self, node: Node, name: str) -> float:
        """The format or range of what a node is given: of its first input, without one the project's."""
        from . import ops

        source = node.input(0)
        if name in ("first_frame", "last_frame"):
            return float(ops.frame_range(node, self._session)[name == "last_frame"])
        shape = self._session.root_format if source is None else self._session.pictures.image(source).format
        return float(shape[("width", "height", "pixel_aspect").index(name)])

    # --- commands

    def _here(self) -> tuple[Node | None, float, str]:
        return self._stack[-1]

    def _value(self, name: str, default: str | None = None) -> str:
        from .nodes import Node as NodeType

        node, frame, view = self._here()
        found = self.find(name, node)
        if found is None or isinstance(found, NodeType):
            if default is not None:
                return default
            raise NothingNamed(name)
        knob, index = found
        if isinstance(knob, k.Link_Knob):
            knob = knob.getLinkedKnob()
        if isinstance(knob, k.Enumeration_Knob) or not isinstance(knob, k.Array_Knob):
            return script_text(knob, frame, view)
        fields = knob._fields if index < 0 else [knob._fields[index]]
        return " ".join(expressions.number(knob._field_at(field, frame, view)) for field in fields)

    def _knob(self, name: str, *value: str) -> str:
        from .nodes import Node as NodeType

        if value:
            raise NotImplementedError("the simulated Tcl command knob only reads")
        found = self.find(name, self._here()[0])
        if found is None or isinstance(found, NodeType):
            raise NothingNamed(name)
        return found[0].toScript()

    def _exists(self, name: str) -> str:
        return "1" if self.find(name, self._here()[0]) is not None else "0"

    def _frame(self, *to: str) -> str:
        if to:
            raise NotImplementedError("the simulated Tcl command frame only reads")
        return expressions.number(self._here()[1])

    def _frames(self, which: str = "all", *more: str) -> str:
        if more or which != "all":
            raise NotImplementedError(f"the simulated Tcl command frames knows only `all`, not {which!r}")
        return self._session.frames_all

    def _expression(self, text: str) -> str:
        node, frame, view = self._here()
        return expressions.number(self.expression(text, node, frame, view))

    def _python(self, *words: str) -> str:
        from .callbacks import eval_python, run_python

        node = self._here()[0]
        with self._session.callbacks.context("Python", node or self._session.root):
            if words[0] == "-exec":
                run_python(words[1], "tcl python")
                return ""
            value = eval_python(" ".join(words), "tcl python")
        return str(int(value) if isinstance(value, bool) else value)

    def _getenv(self, name: str, default: str = "") -> str:
        return os.environ.get(name, default)

    def _class(self, name: str = "this") -> str:
        from .nodes import Node as NodeType

        found = self.find(name, self._here()[0])
        if not isinstance(found, NodeType):
            raise NothingNamed(name)
        return found.Class()


def script_text(knob: k.Knob, frame: float, view: str) -> str:
    """A knob's evaluated value as text. A path keeps its %04d: the knob that shows it puts the frame in."""
    from . import session

    if isinstance(knob, k.EvalString_Knob):
        return session.current().commands.substitute(knob._text, knob._node, frame, view)
    if isinstance(knob, k.Enumeration_Knob):
        return knob._at(frame, view)
    return str(knob.value())


def _names_in(knob: k.Knob) -> list[str]:
    texts = []
    if isinstance(knob, k.Array_Knob):
        texts = [
            field.expression for field in knob._fields if isinstance(field, expressions.Curve) and field.expression
        ]
    elif isinstance(knob, k.EvalString_Knob) and "[" in knob._text:
        texts = re.findall(r"\[[^\]]*\]", knob._text)
    return [name for text in texts for name in re.findall(r"[A-Za-z_][\w.]*", text)]


def _input_number(word: str) -> int | None:
    if word == "input":
        return 0
    return int(word[5:]) if word.startswith("input") and word[5:].isdigit() else None


def _part(knob: k.Knob, rest: list[str]) -> tuple[k.Knob, int] | None:
    if not rest:
        return knob, -1
    names = getattr(knob, "_names", ())
    if len(rest) == 1 and rest[0] in names:
        return knob, names.index(rest[0])
    return (knob, int(rest[0])) if len(rest) == 1 and rest[0].isdigit() and int(rest[0]) < len(names) else None
