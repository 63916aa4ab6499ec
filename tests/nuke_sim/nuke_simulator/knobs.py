"""Knobs of texts, channels, formats and links; and all knob classes by name and number."""

# ruff: noqa: F401 - the other modules take every knob class from here
from __future__ import annotations

from typing import Any

from . import session
from .knob_base import (
    DISABLED,
    DO_NOT_WRITE,
    ENDLINE,
    HIDDEN,
    INVISIBLE,
    KNOB_CHANGED_RECURSIVE,
    NO_ANIMATION,
    NO_UNDO,
    STARTLINE,
    BeginTabGroup_Knob,
    EndTabGroup_Knob,
    Help_Knob,
    Knob,
    Obsolete_Knob,
    Tab_Knob,
    Text_Knob,
)
from .knob_numbers import (
    AColor_Knob,
    Array_Knob,
    BBox_Knob,
    Boolean_Knob,
    Color_Knob,
    ColorChip_Knob,
    Disable_Knob,
    Double_Knob,
    EditableEnumeration_Knob,
    Enumeration_Knob,
    Int_Knob,
    OneView_Knob,
    Pulldown_Knob,
    Radio_Knob,
    Unsigned_Knob,
    UV_Knob,
    WH_Knob,
    XY_Knob,
    XYZ_Knob,
)


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
