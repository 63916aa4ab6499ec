"""Knobs of numbers, each of which may be a curve (animation or expression), and of choices.

Values are asked for at a frame and view; without them, at the session's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import expressions, session, tcl
from .expressions import Curve
from .knob_base import Knob


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
