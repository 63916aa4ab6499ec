"""What every knob has, and those that hold nothing: Nuke's classes with Nuke's method names.

Everything of the simulator's own starts with an underscore. A knob's value as a script has it is `_script_value()`;
`_from_script()` takes it back; `_at(frame, view)` is what the pictures get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import session, tcl

if TYPE_CHECKING:
    from .nodes import Node

DISABLED, NO_ANIMATION, DO_NOT_WRITE, INVISIBLE, STARTLINE, ENDLINE = 128, 256, 512, 1024, 4096, 8192
HIDDEN, NO_UNDO, KNOB_CHANGED_RECURSIVE = 0x40000, 0x80000, 0x8000000


class Knob:
    """What all knobs have. Knobs that hold nothing (tabs, texts, buttons) are told apart by their class."""

    _id = 0  # the number of addUserKnob
    _saved = True  # does it have a value line in a script?

    def __init__(self, name: str, label: str | None = None, *values: Any) -> None:
        self._name, self._label, self._tooltip = name, label, ""
        self._flags = 0
        self._node: Node | None = None
        self._user = self._from_gizmo = False
        self._default = self._script_value()
        if values:
            self._construct(*values)

    def _construct(self, *values: Any) -> None:
        raise NotImplementedError(f"simulated {self.Class()}: values {values} in the constructor")

    # --- what it is

    def Class(self) -> str:
        return type(self).__name__

    def name(self) -> str:
        return self._name

    def setName(self, name: str) -> None:
        self._name = name

    def node(self) -> Node:
        if self._node is None:
            raise ValueError("A PythonObject is not attached to a node")
        return self._node

    def fullyQualifiedName(self, channel: int = -1) -> str:
        if channel != -1:
            raise NotImplementedError("simulated fullyQualifiedName knows no channels")
        return f"{self.node().fullName()}.{self._name}"

    def label(self) -> str:
        return self._name if self._label is None else self._label

    def setLabel(self, label: str) -> None:
        self._label = label

    def tooltip(self) -> str:
        return self._tooltip

    def setTooltip(self, tooltip: str) -> None:
        self._tooltip = tooltip

    def setFlag(self, flag: int) -> None:
        self._flags |= flag

    def clearFlag(self, flag: int) -> None:
        self._flags &= ~flag

    def getFlag(self, flag: int) -> bool:
        return bool(self._flags & flag)

    def enabled(self) -> bool:
        return not self.getFlag(DISABLED)

    def setEnabled(self, enabled: bool) -> None:
        (self.clearFlag if enabled else self.setFlag)(DISABLED)

    def visible(self) -> bool:
        return not self.getFlag(INVISIBLE | HIDDEN)

    def setVisible(self, visible: bool) -> None:
        (self.clearFlag if visible else self.setFlag)(INVISIBLE)

    # --- its value

    def value(self) -> Any:
        return None

    def getValue(self) -> Any:
        return self.value()

    def setValue(self, val: Any, chan: int = -1) -> bool:
        raise NotImplementedError(f"simulated {self.Class()} has no setValue")

    def toScript(self, quote: bool = False, context: Any = None) -> str:
        if context is not None:
            raise NotImplementedError("simulated toScript knows no context")
        text = self._script_value()
        return tcl.quote(text) if quote else text

    def fromScript(self, script: str) -> None:
        self._change(lambda: self._from_script(script))

    def _not_default(self) -> bool:
        return self._script_value() != self._default

    def hasExpression(self, index: int = -1) -> bool:
        return False

    def isAnimated(self, channel: int = -1) -> bool:
        return False

    def _script_value(self) -> str:
        return ""

    def _from_script(self, text: str) -> None:
        raise NotImplementedError(f"simulated {self.Class()} takes no value ({self._name} {text!r})")

    def _set_default(self) -> None:
        """From now on what it holds is its default, which isn't written to scripts."""
        self._default = self._script_value()

    def _at(self, frame: float, view: str) -> Any:
        return self.value()

    def _change(self, change: Any) -> bool:
        """Does `change`, and tells undo, the modified flag and knobChanged when the value became another."""
        if self._node is not None:
            session.current().render.refuse_edit()
        before = self._script_value()
        change()
        changed = before != self._script_value()
        if changed and self._node is not None:
            self._node._knob_changed(self, before)
        return changed


class Obsolete_Knob(Knob):
    pass


class Text_Knob(Knob):
    """Shows text; a divider when empty."""

    _id = 26

    def __init__(self, name: str, label: str | None = None, text: str = "") -> None:
        self._text = text
        super().__init__(name, label)

    def value(self) -> str:
        return self._text

    def setValue(self, text: str) -> bool:
        def change() -> None:
            self._text = str(text)

        return self._change(change)

    def _script_value(self) -> str:
        return self._text

    def _from_script(self, text: str) -> None:
        self._text = text


class Tab_Knob(Knob):
    """A tab, or the begin or end of a folding group: `kind` is 0 or TABBEGINGROUP (1), closed (2), TABENDGROUP (-1)."""

    _id = 20
    _saved = False

    def __init__(self, name: str, label: str | None = None, kind: int = 0) -> None:
        super().__init__(name, label)
        self._kind = kind

    def value(self) -> int:
        return self._kind


class BeginTabGroup_Knob(Knob):
    _id, _saved = 20, False


class EndTabGroup_Knob(Knob):
    _id, _saved = 20, False


class Help_Knob(Knob):
    _saved = False
