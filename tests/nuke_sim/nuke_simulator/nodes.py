"""Nodes, Groups, Gizmos and the Root: Nuke's classes with Nuke's method names; what is the simulator's is underscored.

The functions at the top are what the pictures (ops.py) and execute.py ask of a node.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from . import constants as c
from . import knobs as k
from . import session
from .classes import CLASSES, EXR_KNOBS, make_knobs

if TYPE_CHECKING:
    from .formats import Format, FrameRange, Info


def input_nodes(node: Node) -> list[Node | None]:
    """What is connected to the node's inputs; shorter than its maximum where nothing is."""
    return list(node._inputs)


def knob_value(node: Node, name: str, frame: float, view: str) -> Any:
    """The evaluated value of a knob at a frame and view; KeyError when the node has no such knob."""
    knob = node.knob(name)
    if knob is None:
        raise KeyError(f"{node.fullName()} has no knob {name!r}")
    return knob._at(frame, view)


def has_knob(node: Node, name: str) -> bool:
    return node.knob(name) is not None


def group_output(group: Group) -> Node | None:
    """The Output node inside a group."""
    return next((node for node in group._children if node.Class() == "Output"), None)


def group_source(node: Node) -> Node | None:
    """What feeds the group's input that this inner Input node stands for."""
    group = node.parent()
    ends = sorted((n for n in group._children if n.Class() == "Input"), key=lambda n: n._knobs["number"].value())
    index = ends.index(node)
    return group._inputs[index] if index < len(group._inputs) else None


class Node:
    """One node; made by session.new_node."""

    def __init__(self, class_name: str, parent: Group | None) -> None:
        self._class = class_name
        self._parent = parent
        self._inputs: list[Node | None] = []
        self._knobs: dict[str, k.Knob] = {}
        self._panel_open = False
        self._deleted = False
        for knob in make_knobs(self._base_class()).values():
            default = session.current().knob_defaults.get((class_name, knob.name()))
            if default is not None:
                knob._from_script(default)
                knob._set_default()
            self._attach(knob)

    def _base_class(self) -> str:
        return self._class

    def _attach(self, knob: k.Knob) -> None:
        knob._node = self
        self._knobs[knob.name()] = knob

    # --- what it is

    def Class(self) -> str:
        return self._class

    def name(self) -> str:
        return self._alive()._knobs["name"].value()

    def fullName(self) -> str:
        inside = self._parent is not None and not isinstance(self._parent, Root)
        return f"{self._parent.fullName()}.{self.name()}" if inside else self.name()

    def setName(self, name: str, uncollide: bool = True, updateExpressions: bool = False) -> None:
        if updateExpressions:
            raise NotImplementedError("simulated setName doesn't update expressions")
        taken = {node.name() for node in self._parent._children if node is not self}
        if name in taken and not uncollide:
            raise ValueError(f"There is already a node named {name}")
        self._knobs["name"].setValue(session.free_name(name, taken))

    def parent(self) -> Group | None:
        return self._parent

    def rootNode(self) -> Root:
        return session.current().root

    def _alive(self) -> Node:
        if self._deleted:
            raise ValueError("A PythonObject is not attached to a node")
        return self

    # --- knobs

    def knob(self, p: str | int, follow_link: bool = False) -> k.Knob | None:
        if isinstance(p, int):
            return list(self.knobs().values())[p]
        found = self._alive()._knobs.get(p)
        if found is not None and p in EXR_KNOBS and self._class == "Write" and not self._writes_exr():
            return None
        if follow_link and isinstance(found, k.Link_Knob):
            return found.getLinkedKnob()
        return found

    def knobs(self) -> dict[str, k.Knob]:
        return {name: knob for name, knob in self._alive()._knobs.items() if self.knob(name) is not None}

    def allKnobs(self) -> list[k.Knob]:
        return list(self.knobs().values())

    def numKnobs(self) -> int:
        return len(self.knobs())

    def getNumKnobs(self) -> int:
        return len(self.knobs())

    def addKnob(self, knob: k.Knob) -> None:
        knob._user = True
        self._alive()._attach(knob)
        session.current().changed(lambda: self._knobs.pop(knob.name(), None))

    def removeKnob(self, knob: k.Knob) -> None:
        if not knob._user:
            raise ValueError(f"{knob.name()} isn't a user knob")
        del self._knobs[knob.name()]
        session.current().changed(lambda: self._attach(knob))

    def __getitem__(self, name: str) -> k.Knob:
        found = self.knob(name)
        if found is None:
            raise NameError(f"knob {name} does not exist")
        return found

    def __len__(self) -> int:
        return len(self.knobs())

    def __bool__(self) -> bool:
        return True

    def _writes_exr(self) -> bool:
        return self._knobs["file_type"].value() == "exr" or self._knobs["file"].value().endswith(".exr")

    def readKnobs(self, s: str) -> None:
        session.current().read_knobs(self, s)

    def writeKnobs(self, flags: int = 0) -> str:
        return session.current().write_knobs(self, flags)

    def resetKnobsToDefault(self) -> None:
        for knob in self._knobs.values():
            if knob.name() != "name" and knob._saved and not isinstance(knob, k.Link_Knob):
                knob.fromScript(knob._default)

    def _knob_changed(self, knob: k.Knob, before: str) -> None:
        """A knob's value became another: `before` is the old one as a script has it."""
        moved = isinstance(self, Root) and knob.name() == "frame"  # scrubbing changes no script
        if not moved and not knob.getFlag(k.NO_UNDO):
            marks = session.current().quirks.unsaved_knobs_modify or not knob.getFlag(k.DO_NOT_WRITE)
            session.current().changed(lambda: knob._from_script(before), marks=marks)
        session.current().callbacks.knob_changed(self, knob)

    # --- connections

    def inputs(self) -> int:
        return len(self._inputs)

    def input(self, index: int) -> Node | None:
        return self._alive()._inputs[index] if 0 <= index < len(self._inputs) else None

    def setInput(self, i: int, node: Node | None) -> bool:
        if not self.canSetInput(i, node):
            return False
        before = list(self._inputs)
        self._inputs += [None] * (i + 1 - len(self._inputs))
        self._inputs[i] = node
        while self._inputs and self._inputs[-1] is None:
            self._inputs.pop()
        session.current().changed(lambda: setattr(self, "_inputs", before))
        session.current().callbacks.knob_changed(self, "inputChange")
        return True

    def connectInput(self, i: int, node: Node | None) -> bool:
        free = next((n for n in range(i, self.maxInputs()) if self.input(n) is None), None)
        return free is not None and self.setInput(free, node)

    def canSetInput(self, i: int, node: Node | None) -> bool:
        if not 0 <= i < self.maxInputs():
            return False
        if node is None:
            return True
        return node is not self and node.parent() is self.parent() and self not in session.upstream(node)

    def maxInputs(self) -> int:
        spec = CLASSES[self._base_class()]
        regular = spec.inputs if spec.maximum is None else spec.maximum
        return regular + (spec.optional is not None)

    def maximumInputs(self) -> int:
        return self.maxInputs()

    def minInputs(self) -> int:
        return CLASSES[self._base_class()].inputs

    def minimumInputs(self) -> int:
        return self.minInputs()

    def optionalInput(self) -> int:
        spec = CLASSES[self._base_class()]
        return 0 if spec.optional is None else spec.optional

    def dependencies(self, mask: int = -1) -> list[Node]:
        """The nodes this one takes pictures from (INPUTS), and those its expressions name (EXPRESSIONS)."""
        found = [node for node in self._inputs if node is not None] if mask & c.INPUTS else []
        if mask & c.EXPRESSIONS:
            found += [node for node in session.current().commands.named_by(self) if node not in found]
        return found

    def dependent(self, mask: int = -1, forceEvaluate: bool = True) -> list[Node]:
        return [node for node in self._parent._children if self in node.dependencies(mask)]

    # --- pictures (ops.py)

    def format(self) -> Format:
        return session.current().pictures.format(self)

    def width(self) -> int:
        return self.format().width()

    def height(self) -> int:
        return self.format().height()

    def pixelAspect(self) -> float:
        return self.format().pixelAspect()

    def bbox(self) -> Info:
        return session.current().pictures.bbox(self)

    def channels(self) -> list[str]:
        return session.current().pictures.channels(self)

    def metadata(self, key: Any = None, time: float | None = None, view: str | None = None) -> Any:
        return session.current().pictures.metadata(self, key, time, view)

    def sample(self, c: str, x: float, y: float, dx: float = 1, dy: float = 1, frame: float | None = None) -> float:
        return session.current().pictures.sample(self, c, x, y, dx, dy, frame)

    def firstFrame(self) -> int:
        return session.current().pictures.frame_range(self)[0]

    def lastFrame(self) -> int:
        return session.current().pictures.frame_range(self)[1]

    def frameRange(self) -> FrameRange:
        return session.current().pictures.frame_range_object(self)

    def hasError(self) -> bool:
        return session.current().pictures.has_error(self)

    def error(self) -> bool:
        return self.hasError()

    def treeHasError(self) -> bool:
        return self.hasError()

    def forceValidate(self) -> None:
        session.current().pictures.image(self)

    def opHashes(self) -> list[int]:
        raise NotImplementedError("simulated nodes have no op hashes")

    # --- window

    def showControlPanel(self, forceFloat: bool = False) -> None:
        if session.current().gui and not self._panel_open:
            self._panel_open = True
            session.current().callbacks.knob_changed(self, "showPanel")

    def hideControlPanel(self) -> None:
        self._panel_open = False

    def shown(self) -> bool:
        return self._panel_open

    def isSelected(self) -> bool:
        return bool(self._knobs["selected"].value())

    def setSelected(self, selected: bool) -> None:
        self._knobs["selected"]._from_script("true" if selected else "false")

    def selectOnly(self) -> None:
        for node in self._parent._children:
            node.setSelected(node is self)

    def xpos(self) -> int:
        return self._knobs["xpos"].value()

    def ypos(self) -> int:
        return self._knobs["ypos"].value()

    def setXpos(self, x: int) -> None:
        self._knobs["xpos"].setValue(x)

    def setYpos(self, y: int) -> None:
        self._knobs["ypos"].setValue(y)

    def setXYpos(self, x: int, y: int) -> None:
        self.setXpos(x)
        self.setYpos(y)

    def screenWidth(self) -> int:
        return 80

    def screenHeight(self) -> int:
        return 18

    def autoplace(self) -> None:
        """Positions aren't simulated."""

    def redraw(self) -> None:
        """Nothing is drawn here."""

    def help(self) -> str:
        return self._knobs["help"].value()

    def clones(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"<{self._class}({self.fullName()})>"


class Group(Node):
    """A node with nodes inside."""

    def __init__(self, class_name: str, parent: Group | None) -> None:
        self._children: list[Node] = []
        super().__init__(class_name, parent)

    def begin(self) -> Group:
        session.current().enter(self)
        return self

    def end(self) -> None:
        session.current().leave(self)

    def __enter__(self) -> Group:
        return self.begin()

    def __exit__(self, *error: object) -> None:
        self.end()

    def nodes(self) -> list[Node]:
        return list(self._alive()._children)

    def numNodes(self) -> int:
        return len(self._children)

    def node(self, s: str) -> Node | None:
        first, _, rest = s.partition(".")
        found = next((node for node in self._alive()._children if node.name() == first), None)
        return found.node(rest) if rest and isinstance(found, Group) else (None if rest else found)

    def output(self) -> Node | None:
        return group_output(self)

    def selectedNodes(self) -> list[Node]:
        return [node for node in self._children if node.isSelected()]

    def selectedNode(self) -> Node | None:
        chosen = self.selectedNodes()
        return chosen[-1] if chosen else None

    def maxInputs(self) -> int:
        return sum(node.Class() == "Input" for node in self._children)

    def minInputs(self) -> int:
        return self.maxInputs()


class Gizmo(Group):
    """A Group whose inside comes from <class>.gizmo on the plug-in path, each time a script is loaded."""

    _filename = ""

    def _base_class(self) -> str:
        return "Group"

    def filename(self) -> str:
        return self._filename

    def command(self) -> str:
        return self._class

    def makeGroup(self) -> Group:
        return session.current().make_group(self)


class Root(Group):
    """The script: project settings, views and all top-level nodes."""

    def __init__(self) -> None:
        super().__init__("Root", None)

    def name(self) -> str:
        return self._knobs["name"].value() or "Root"

    def fullName(self) -> str:
        return "root"

    def modified(self) -> bool:
        return session.current().modified

    def setModified(self, modified: bool) -> None:
        session.current().modified = bool(modified)

    def proxy(self) -> bool:
        return self._knobs["proxy"].value()

    def setProxy(self, proxy: bool) -> None:
        self._knobs["proxy"].setValue(bool(proxy))

    def firstFrame(self) -> int:
        return self._knobs["first_frame"].value()

    def lastFrame(self) -> int:
        return self._knobs["last_frame"].value()

    def fps(self) -> int:
        return int(self._knobs["fps"].value())

    def realFps(self) -> float:
        return self._knobs["fps"].value()

    def setFrame(self, frame: int) -> None:
        self._knobs["frame"].setValue(frame)

    def format(self) -> Format:
        return self._knobs["format"].value()

    def addView(self, name: str, colour: str = "") -> None:
        session.current().add_view(name)

    def deleteView(self, name: str) -> None:
        session.current().delete_view(name)

    def setView(self, view: str) -> None:
        session.current().set_view(view)

    def isSelected(self) -> bool:
        return False

    def maxInputs(self) -> int:
        return 0


class Viewer(Node):
    pass


class BackdropNode(Node):
    def getNodes(self) -> list[Node]:
        raise NotImplementedError("simulated nodes have no positions worth a backdrop")


NODE_TYPES: dict[str, type[Node]] = {"Group": Group, "Viewer": Viewer, "BackdropNode": BackdropNode}


def default_name(class_name: str) -> str:
    """What a new node is called before its number: Merge2 gives Merge."""
    return re.sub(r"\d+$", "", class_name) or class_name
