"""The knobs: Nuke's classes with Nuke's method names; everything of the simulator's own starts with an underscore.

A knob holds text or fields; a field is a number or a curve (animation or expression). Values are asked for at a frame
and view; without them, at the session's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import expressions, session, tcl
from .expressions import Curve

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
        self._definition = ""
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


class Array_Knob(Knob):
    """Numbers, each of which may be a curve."""

    _names: tuple[str, ...] = ("",)

    def __init__(self, name: str, label: str | None = None, *values: Any) -> None:
        self._fields: list[float | Curve] = [0.0] * len(self._names)
        self._low, self._high = 0.0, 1.0
        super().__init__(name, label, *values)

    def _construct(self, *values: Any) -> None:
        self._store(values[0] if len(values) == 1 else values)

    def arraySize(self) -> int:
        return len(self._fields)

    def value(self, index: int | None = None) -> Any:
        return self.getValue(index)

    def getValue(self, channel: int | None = None) -> Any:
        now = session.current()
        return self.getValueAt(now.frame_now, channel, now.view_now)

    def getValueAt(self, frame: float, index: int | None = None, view: str | None = None) -> Any:
        view = session.current().view_now if view is None else view
        if index is not None and index >= 0:
            return self._field_at(self._fields[index], frame, view)
        values = [self._field_at(field, frame, view) for field in self._fields]
        # Nuke gives one number where all fields are one (a colour's single slider), else a list.
        return values[0] if len(values) == 1 or (self._collapses() and len(set(values)) == 1) else values

    def valueAt(self, frame: float, index: int | None = None, view: str | None = None) -> Any:
        return self.getValueAt(frame, index, view)

    def setValue(self, val: Any, chan: int = -1, time: float | None = None, view: Any = None) -> bool:
        if time is not None or view is not None:
            raise NotImplementedError("simulated setValue knows no time or view; use setValueAt")
        return self._change(lambda: self._store(val, chan))

    def setValueAt(self, val: Any, time: float, index: int = -1, view: str | None = None) -> bool:
        def change() -> None:
            for i, one in self._spread(val, index):
                field = self._fields[i]
                if isinstance(field, Curve) and field.expression is None:
                    field.keys = [key for key in field.keys if key[0] != time] + [(time, one)]
                else:
                    self._fields[i] = one

        return self._change(change)

    def setRange(self, low: float, high: float) -> None:
        """Nuke bounds only the slider with it: what is typed or set may lie outside."""
        self._low, self._high = low, high

    def min(self) -> float:
        return self._low

    def max(self) -> float:
        return self._high

    def defaultValue(self, index: int = 0) -> float:
        other = type(self)._blank(self)
        other._from_script(self._default)
        return float(other._field_at(other._fields[index], 0, "main"))

    def notDefault(self) -> bool:
        return self._not_default()

    def setDefaultValue(self, values: Sequence[float]) -> None:
        other = type(self)._blank(self)
        other._store(list(values))
        self._default = other._script_value()

    def setExpression(self, expression: str, channel: int = -1, view: Any = None) -> bool:
        def change() -> None:
            for i in range(len(self._fields)) if channel < 0 else [channel]:
                self._fields[i] = Curve(expression=expression)

        return self._change(change)

    def hasExpression(self, index: int = -1) -> bool:
        return any(isinstance(f, Curve) and f.expression is not None for f in self._chosen(index))

    def isAnimated(self, channel: int = -1) -> bool:
        return any(isinstance(f, Curve) for f in self._chosen(channel))

    def setAnimated(self, channel: int = -1) -> bool:
        def change() -> None:
            for i in range(len(self._fields)) if channel < 0 else [channel]:
                value = self._fields[i]
                if not isinstance(value, Curve):
                    self._fields[i] = Curve(keys=[(session.current().frame_now, value)])

        return self._change(change)

    def clearAnimated(self, channel: int = -1) -> bool:
        now = session.current()

        def change() -> None:
            for i in range(len(self._fields)) if channel < 0 else [channel]:
                self._fields[i] = self._field_at(self._fields[i], now.frame_now, now.view_now)

        return self._change(change)

    def getNumKeys(self, channel: int = -1) -> int:
        return sum(len(f.keys) for f in self._chosen(channel) if isinstance(f, Curve))

    def getKeyList(self) -> list[int]:
        return sorted({key[0] for f in self._fields if isinstance(f, Curve) for key in f.keys})

    def fromScript(self, script: str) -> None:
        super().fromScript(script)

    def toScript(self, quote: bool = False, context: Any = None) -> str:
        return super().toScript(quote, context)

    def _blank(self) -> Any:
        other = type(self)(self._name)
        other._fields = [0.0] * len(self._fields)
        return other

    def _collapses(self) -> bool:
        return False

    def _chosen(self, index: int) -> list[float | Curve]:
        return self._fields if index < 0 else [self._fields[index]]

    def _spread(self, val: Any, index: int) -> list[tuple[int, float]]:
        if index >= 0:
            return [(index, self._number(val))]
        if isinstance(val, (list, tuple)):
            if len(val) > len(self._fields):
                raise ValueError(f"{self._name} has {len(self._fields)} values, not {len(val)}")
            return [(i, self._number(one)) for i, one in enumerate(val)]
        return [(i, self._number(val)) for i in range(len(self._fields))]

    def _store(self, val: Any, index: int = -1) -> None:
        for i, one in self._spread(val, index):
            field = self._fields[i]
            if isinstance(field, Curve) and field.expression is None:  # Nuke sets a key at the current frame
                frame = session.current().frame_now
                field.keys = [key for key in field.keys if key[0] != frame] + [(frame, one)]
            else:
                self._fields[i] = one

    def _number(self, val: Any) -> float:
        if isinstance(val, str) or not hasattr(val, "__float__"):
            raise TypeError(f"{self._name} takes numbers, not {val!r}")
        return float(val)

    def _field_at(self, field: float | Curve, frame: float, view: str) -> float:
        if not isinstance(field, Curve):
            return field
        if field.expression is None:
            return field.value_of_keys(frame)
        return session.current().expression(field.expression, self._node, frame, view)

    def _field_text(self, field: float | Curve) -> str:
        return "{" + field.text() + "}" if isinstance(field, Curve) else expressions.number(field)

    def _script_value(self) -> str:
        return " ".join(self._field_text(field) for field in self._fields)

    def _from_script(self, text: str) -> None:
        fields: list[float | Curve] = []
        for word, braced in tcl.fields(text):
            fields.append(expressions.parse_curve(_words(word)) if braced else self._parse(word))
        if len(fields) == 1:
            fields = [fields[0]] * len(self._fields)
        if len(fields) != len(self._fields):
            raise ValueError(f"{self._name} has {len(self._fields)} values, not {text!r}")
        self._fields = fields

    def _parse(self, word: str) -> float:
        return float({"true": "1", "false": "0"}.get(word, word))

    def _at(self, frame: float, view: str) -> Any:
        values = [self._field_at(field, frame, view) for field in self._fields]
        return values if len(self._names) > 1 else values[0]


def _words(text: str) -> list[str]:
    return [word for word, _ in tcl.fields(text)]


class Double_Knob(Array_Knob):
    _id = 7


class Int_Knob(Array_Knob):
    _id = 3

    def value(self) -> int:
        return int(self.getValue())

    def _number(self, val: Any) -> float:
        return float(int(super()._number(val)))

    def _at(self, frame: float, view: str) -> int:
        return int(super()._at(frame, view))


class Unsigned_Knob(Int_Knob):
    def _parse(self, word: str) -> float:
        return float(int(word, 0))


class ColorChip_Knob(Unsigned_Knob):
    _id = 40


class Boolean_Knob(Array_Knob):
    _id = 6

    def value(self) -> bool:
        return bool(self.getValue())

    def _field_text(self, field: float | Curve) -> str:
        return super()._field_text(field) if isinstance(field, Curve) else ("true" if field else "false")

    def _number(self, val: Any) -> float:
        return float(bool(super()._number(val)))

    def _at(self, frame: float, view: str) -> bool:
        return bool(super()._at(frame, view))


class Disable_Knob(Boolean_Knob):
    pass


class XY_Knob(Array_Knob):
    _id, _names = 12, ("x", "y")


class XYZ_Knob(Array_Knob):
    _id, _names = 13, ("x", "y", "z")


class WH_Knob(Array_Knob):
    _id, _names = 14, ("w", "h")

    def _collapses(self) -> bool:
        return True


class BBox_Knob(Array_Knob):
    _id, _names = 15, ("x", "y", "r", "t")

    def x(self) -> float:
        return self.getValue(0)

    def y(self) -> float:
        return self.getValue(1)

    def r(self) -> float:
        return self.getValue(2)

    def t(self) -> float:
        return self.getValue(3)


class UV_Knob(Array_Knob):
    _id, _names = 30, ("u", "v")


class Color_Knob(Array_Knob):
    _id, _names = 18, ("r", "g", "b")

    def _collapses(self) -> bool:
        return True


class AColor_Knob(Color_Knob):
    _id, _names = 19, ("r", "g", "b", "a")


class Enumeration_Knob(Unsigned_Knob):
    """One of a list of texts; saved by its text, numbered from 0."""

    _id = 4
    _editable = False

    def __init__(self, name: str, label: str | None = None, values: Sequence[str] = ()) -> None:
        self._items = list(values)
        super().__init__(name, label)

    def values(self) -> list[str]:
        return list(self._items)

    def numValues(self) -> int:
        return len(self._items)

    def enumName(self, n: int) -> str:
        return self._items[n]

    def setValues(self, items: Sequence[str]) -> None:
        now = self.value() if self._items else ""
        self._items = list(items)
        self._fields = [float(self._items.index(now)) if now in self._items else 0.0]

    def value(self) -> str:
        return self._items[int(self.getValue())] if self._items else ""

    def _spread(self, val: Any, index: int) -> list[tuple[int, float]]:
        return [(0, float(self._index_of(val) if isinstance(val, str) else int(val)))]

    def _index_of(self, item: str) -> int:
        if item not in self._items:
            if not self._editable:
                raise TypeError(f"{self._name} has no item {item!r}; it has {self._items}")
            self._items.append(item)
        return self._items.index(item)

    def _field_text(self, field: float | Curve) -> str:
        if isinstance(field, Curve):
            return super()._field_text(field)
        return self._items[int(field)] if self._items else ""

    def _script_value(self) -> str:
        return self._field_text(self._fields[0])

    def _from_script(self, text: str) -> None:
        if text in self._items or (self._editable and not text.startswith("{")):
            self._fields = [float(self._index_of(text))]
        else:
            super()._from_script(text)

    def _parse(self, word: str) -> float:
        return float(int(word)) if word.isdigit() else float(self._index_of(word))

    def _at(self, frame: float, view: str) -> str:
        return self._items[int(self._field_at(self._fields[0], frame, view))] if self._items else ""


class Pulldown_Knob(Enumeration_Knob):
    _id = 47


class Radio_Knob(Enumeration_Knob):
    _id = 83


class EditableEnumeration_Knob(Enumeration_Knob):
    """Also what stands for colourspace knobs, whose items depend on a configuration that isn't simulated."""

    _id, _editable = 85, True


class OneView_Knob(EditableEnumeration_Knob):
    pass


class String_Knob(Knob):
    _id = 1

    def __init__(self, name: str, label: str | None = None, value: str = "") -> None:
        self._text = value
        super().__init__(name, label)
        if value:
            self._default = ""

    def value(self) -> str:
        return self._text

    def getValue(self) -> str:
        return self._text

    def getText(self) -> str:
        return self._text

    def setValue(self, val: str, view: str | None = None) -> bool:
        if view is not None:
            raise NotImplementedError("simulated text knobs have one value for all views")
        if not isinstance(val, str):
            raise TypeError(f"{self._name} takes text, not {val!r}")
        return self._change(lambda: self._from_script(val))

    def setText(self, val: str) -> bool:
        return self.setValue(val)

    def _script_value(self) -> str:
        return self._text

    def _from_script(self, text: str) -> None:
        self._text = text


class OutputContext:
    """A frame and a view to ask knobs for; views are counted from 1."""

    def __init__(self) -> None:
        now = session.current()
        self._frame, self._view = float(now.frame_now), self.viewFromName(now.view_now)

    def frame(self) -> float:
        return self._frame

    def setFrame(self, f: float) -> None:
        self._frame = float(f)

    def view(self) -> int:
        return self._view

    def setView(self, v: int) -> None:
        self._view = int(v)

    def viewFromName(self, name: str) -> int:
        return session.current().views.index(name) + 1

    def viewname(self, n: int) -> str:
        return session.current().views[n - 1]


class EvalString_Knob(String_Knob):
    """Text whose `[...]` Nuke runs as Tcl, whose %04d or #### is the frame and whose %V or %v is the view."""

    def evaluate(self, frame: float | None = None, view: str | None = None) -> str:
        now = session.current()
        return self._at(now.frame_now if frame is None else frame, now.view_now if view is None else view)

    def _at(self, frame: float, view: str) -> str:
        return session.current().text(self._text, self._node, frame, view)


class Multiline_Eval_String_Knob(EvalString_Knob):
    _id = 43


class File_Knob(EvalString_Knob):
    _id = 2

    def fromUserText(self, text: str) -> None:
        """As if typed or dropped: `path first-last` also sets the frame range of a Read."""
        session.current().file_from_user_text(self, text)

    def getEvaluatedValue(self, oc: OutputContext | None = None) -> str:
        return self.evaluate() if oc is None else self.evaluate(oc.frame(), oc.viewname(oc.view()))


class Script_Knob(String_Knob):
    """A button that runs text; a Tcl button isn't simulated."""

    _id = 32

    def command(self) -> str:
        return self._text

    def setCommand(self, cmd: str) -> None:
        self.setValue(cmd)

    def execute(self) -> None:
        if self._name == "reload":  # Nuke raises the hidden version, so that the frames are known under another name
            version = self.node()["version"]
            version.setValue(version.value() + 1)
            return
        raise NotImplementedError("simulated Tcl buttons can't be pressed")


class PyScript_Knob(Script_Knob):
    """A button that runs Python with its node as nuke.thisNode()."""

    _id = 22

    def execute(self) -> None:
        session.current().press(self)


class PythonKnob(String_Knob):
    """Python text that Nuke runs at an event (onCreate, knobChanged, ...)."""


class PyCustom_Knob(Script_Knob):
    _id = 52


class Channel_Knob(Knob):
    """The name of a channel or a layer; the simulator doesn't check that it exists."""

    _id = 11

    def __init__(self, name: str, label: str | None = None, value: str = "none") -> None:
        self._text = value
        super().__init__(name, label)

    def value(self) -> str:
        return self._text

    def setValue(self, name: str) -> bool:
        return self._change(lambda: self._from_script(name))

    def _script_value(self) -> str:
        return self._text

    def _from_script(self, text: str) -> None:
        self._text = text


class ChannelMask_Knob(Channel_Knob):
    _id = 10


class Format_Knob(Knob):
    """A format; its value is one, its script text `width height pixel aspect` or a known name."""

    _id = 17

    def __init__(self, name: str, label: str | None = None) -> None:
        self._format: Any = None  # None: the project's
        super().__init__(name, label)

    def value(self) -> Any:
        return session.current().format_of(self._format)

    def notDefault(self) -> bool:
        return self._not_default()

    def actualValue(self) -> Any:
        return self.value()

    def setValue(self, val: Any) -> bool:
        def change() -> None:
            self._format = session.current().find_format(val)

        return self._change(change)

    def _script_value(self) -> str:
        return "" if self._format is None else self._format._script_text()

    def _from_script(self, text: str) -> None:
        self._format = session.current().find_format(text)

    def _at(self, frame: float, view: str) -> tuple[int, int, float]:
        chosen = self.value()
        return chosen.width(), chosen.height(), chosen.pixelAspect()


class Link_Knob(Knob):
    """Shows a knob of another node of the group: what is asked of it is asked of that one."""

    _id = 41
    _saved = False

    def __init__(self, name: str, label: str | None = None, target: str = "") -> None:
        self._target = target
        super().__init__(name, label)

    def getLink(self) -> str:
        return self._target

    def setLink(self, s: str) -> None:
        self._target = s

    def makeLink(self, s: str, t: str) -> None:
        self._target = f"{s}.{t}"

    def getLinkedKnob(self) -> Knob:
        found = session.current().find_knob(self._target, self.node(), inside=True)
        if found is None:
            raise ValueError(f"{self.fullyQualifiedName()} links to {self._target}, which isn't there")
        return found

    def value(self) -> Any:
        return self.getLinkedKnob().value()

    def getValue(self) -> Any:
        return self.getLinkedKnob().getValue()

    def setValue(self, *values: Any) -> Any:
        return self.getLinkedKnob().setValue(*values)

    def _at(self, frame: float, view: str) -> Any:
        return self.getLinkedKnob()._at(frame, view)

    def _script_value(self) -> str:
        linked = self._linked()
        return "" if linked is None else linked._script_value()

    def _linked(self) -> Knob | None:
        """The knob it shows; None while the nodes inside are still being made."""
        return None if self._node is None else session.current().find_knob(self._target, self._node, inside=True)

    def _from_script(self, text: str) -> None:
        self.getLinkedKnob()._from_script(text)


USER_KNOBS: dict[int, type[Knob]] = {
    1: EvalString_Knob, 2: File_Knob, 3: Int_Knob, 4: Enumeration_Knob, 6: Boolean_Knob, 7: Double_Knob,
    10: ChannelMask_Knob, 11: Channel_Knob, 12: XY_Knob, 13: XYZ_Knob, 14: WH_Knob, 15: BBox_Knob, 17: Format_Knob,
    18: Color_Knob, 19: AColor_Knob, 20: Tab_Knob, 22: PyScript_Knob, 26: Text_Knob, 30: UV_Knob, 32: Script_Knob,
    35: Pulldown_Knob, 40: ColorChip_Knob, 41: Link_Knob, 43: Multiline_Eval_String_Knob, 47: Pulldown_Knob,
    52: PyCustom_Knob, 68: Enumeration_Knob, 83: Radio_Knob, 85: EditableEnumeration_Knob,
}  # fmt: skip
FLAG_WORDS = {
    "STARTLINE": STARTLINE, "ENDLINE": ENDLINE, "INVISIBLE": INVISIBLE, "HIDDEN": HIDDEN, "DISABLED": DISABLED,
    "DO_NOT_WRITE": DO_NOT_WRITE,
}  # fmt: skip
