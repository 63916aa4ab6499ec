"""One running Nuke: its script, where it stands (frame, view, proxy, undo, modified) and who may do what.

`current()` is the only global; a test starts a fresh one, as a process would.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import formats, quirks

if TYPE_CHECKING:
    from .knobs import File_Knob, Knob, PyScript_Knob
    from .nodes import Gizmo, Group, Node, Root

_current: Session | None = None


def current() -> Session:
    """The running session; RuntimeError when another thread than the main one asks, which Nuke doesn't allow."""
    if _current is None:
        raise RuntimeError("No simulated Nuke is running: start one with the fixture nuke_session or with bin/nuke")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("Only the main thread may use nuke; others go through nuke.executeInMainThread")
    return _current


def running() -> Session | None:
    """The running session for the few calls that any thread may make."""
    return _current


def start(*, gui: bool = False, wanted: quirks.Quirks | None = None) -> Session:
    """Ends the session before, if any, and starts an empty one."""
    global _current
    _current = Session(gui, wanted or quirks.Quirks())
    _current.clear()
    return _current


def stop() -> None:
    """As if Nuke had been closed."""
    global _current
    _current = None


class Session:
    """State and the services that knobs and nodes ask for; the larger ones live in modules of their own."""

    def __init__(self, gui: bool, wanted: quirks.Quirks) -> None:
        from . import callbacks, commands, execute, op_files, pictures

        self.gui, self.quirks = gui, wanted
        self.plugin_paths: list[str] = []
        self.gizmos: dict[str, str] = {}
        self.read_cache = op_files.ReadCache()
        self.callbacks = callbacks.Callbacks(self)
        self.commands = commands.Commands(self)
        self.pictures = pictures.Pictures(self)
        self.render = execute.Render(self)
        self.raw_args: list[str] = []
        self.frames_all = ""
        self.main_thread_calls: deque[Callable[[], None]] = deque()
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.answers: deque[bool] = deque()
        self.cancel_in: int | None = None
        self.tasks: list[Any] = []
        self.undo_steps: list[Callable[[], object]] = []
        self.undo_open: list[int] = []
        self.undo_disabled = 0 if gui else 1  # without a window there is no undo
        self.loading = False
        self.menu_started = False
        self.knob_defaults: dict[tuple[str, str], str] = {}  # by class and knob
        self.formats: list[formats.Format] = []
        self.menus: dict[str, Any] = {}
        self.panels: dict[str, Any] = {}
        self.panels_shown: list[Any] = []
        self.drop_callbacks: list[Any] = []

    def clear(self) -> None:
        """A new script."""
        from .nodes import Root

        self.root: Root = Root()
        self.groups: list[Group] = [self.root]
        self.views: list[str] = ["main"]
        self.view = "main"
        self.frame_context: list[tuple[float, str]] = []
        self.modified = False
        self.undo_steps.clear()
        self.read_cache.clear()

    # --- where it stands

    @property
    def group(self) -> Group:
        """The group that new nodes go into and names are looked up in."""
        return self.groups[-1]

    @property
    def frame(self) -> int:
        return int(self.root._knobs["frame"].value())

    @property
    def frame_now(self) -> float:
        """The frame that knobs are asked at: of the frame being rendered, else the session's."""
        if self.frame_context:
            return self.frame_context[-1][0]
        field = self.root._knobs["frame"]._fields[0]
        return float(field)

    @property
    def view_now(self) -> str:
        return self.frame_context[-1][1] if self.frame_context else self.view

    @contextmanager
    def at(self, frame: float, view: str) -> Iterator[None]:
        """Inside, knobs are asked at this frame and view."""
        self.frame_context.append((frame, view))
        try:
            yield
        finally:
            self.frame_context.pop()

    @property
    def first(self) -> int:
        return self.root.firstFrame()

    @property
    def last(self) -> int:
        return self.root.lastFrame()

    @property
    def root_range(self) -> tuple[int, int]:
        return self.first, self.last

    @property
    def root_format(self) -> tuple[int, int, float]:
        chosen = self.root.format()
        return chosen.width(), chosen.height(), chosen.pixelAspect()

    @property
    def proxy_on(self) -> bool:
        return self.root.proxy()

    @property
    def proxy_scale(self) -> float:
        return float(self.root._knobs["proxy_scale"].value()) if self.proxy_on else 1.0

    def enter(self, group: Group) -> None:
        if self.loading and "OnCreate" in self.callbacks.running:
            raise RuntimeError(
                "Group.begin() inside onCreate while a script loads breaks Nuke's own onCreate of the root"
            )
        self.groups.append(group)

    def leave(self, group: Group) -> None:
        if len(self.groups) == 1 or self.groups[-1] is not group:
            raise RuntimeError(f"{group.fullName()}.end() without its begin()")
        self.groups.pop()

    def add_view(self, name: str) -> None:
        self._set_views([*self.views, name])

    def delete_view(self, name: str) -> None:
        if name not in self.views or len(self.views) == 1:
            raise ValueError(f"There is no view {name!r} that could be deleted")
        self._set_views([view for view in self.views if view != name])

    def _set_views(self, names: list[str]) -> None:
        self.views = names
        self.view = self.view if self.view in names else names[0]
        self.root._knobs["views"]._from_script("\n".join(f'{view} ""' for view in names))

    def set_view(self, view: str) -> None:
        if view not in self.views:
            raise ValueError(f"There is no view {view!r}")
        self.view = view

    # --- changes

    def changed(self, inverse: Callable[[], object], *, marks: bool = True) -> None:
        """The script changed; `inverse` takes it back."""
        if self.loading:
            return
        self.modified = self.modified or marks
        if not self.undo_disabled:
            self.undo_steps.append(inverse)

    def undo(self) -> None:
        if self.undo_steps:
            inverse = self.undo_steps.pop()
            self.undo_disabled += 1
            try:
                inverse()
            finally:
                self.undo_disabled -= 1

    def new_node(self, class_name: str, group: Group) -> Node:
        """A node of a class, with a name of its own; RuntimeError as Nuke's for a class nobody knows."""
        from . import script
        from .classes import CLASSES
        from .nodes import NODE_TYPES, Node, default_name

        if class_name in CLASSES and class_name != "Root":
            node = NODE_TYPES.get(class_name, Node)(class_name, group)
        else:
            node = script.new_gizmo(self, class_name, group)
        taken = {one.name() for one in group._children}
        node._knobs["name"]._from_script(free_name(f"{default_name(class_name)}1", taken))
        group._children.append(node)
        return node

    def delete(self, node: Node) -> None:
        group = node.parent()
        self.callbacks.destroyed(node)
        feeds = [(other, i) for other in group._children for i, one in enumerate(other._inputs) if one is node]
        for other, i in feeds:
            other._inputs[i] = node.input(0)
        at = group._children.index(node)
        group._children.remove(node)
        node._deleted = True

        def back() -> None:
            node._deleted = False
            group._children.insert(at, node)
            for other, i in feeds:
                other._inputs[i] = node

        self.changed(back)

    # --- names and texts

    def text(self, text: str, node: Node | None, frame: float, view: str) -> str:
        """Text with its `[...]` run, the frame and the view in place."""
        text = self.commands.substitute(text, node, frame, view)
        return with_frame(with_view(text, view), frame)

    def expression(self, text: str, node: Node | None, frame: float, view: str) -> float:
        """The number that an expression on a knob of `node` gives."""
        return self.commands.expression(text, node, frame, view)

    def find_knob(self, name: str, node: Node, *, inside: bool = False) -> Knob | None:
        from .nodes import Group, Node

        found = self.commands.find(name, node, inside=inside and isinstance(node, Group))
        return None if found is None or isinstance(found, Node) else found[0]

    def find_format(self, wanted: Any) -> formats.Format | None:
        if isinstance(wanted, formats.Format):
            return wanted
        if not isinstance(wanted, str) or not wanted.strip():
            return None
        named = next((one for one in self.formats if one.name() == wanted.strip()), None)
        return named or formats.parse_format(wanted)

    def format_of(self, chosen: formats.Format | None) -> formats.Format:
        """The format a knob shows: the project's where none is chosen."""
        mine = self.root._knobs["format"]._format
        return chosen or mine or formats.parse_format("2048 1556 0 0 2048 1556 1 2K_Super_35(full-ap)")

    def file_from_user_text(self, knob: File_Knob, text: str) -> None:
        match = re.fullmatch(r"(.*\S)\s+(-?\d+)-(-?\d+)", text)
        knob.setValue(match[1] if match else text)
        node = knob.node()
        if match and node.Class() == "Read":
            for name, value in (("first", 2), ("last", 3), ("origfirst", 2), ("origlast", 3)):
                node[name].setValue(int(match[value]))
            node["origset"].setValue(True)

    def read_knobs(self, node: Node, text: str) -> None:
        from . import script

        script.apply_knobs(self, node, script.parse_body(text), name_too=True)

    def write_knobs(self, node: Node, flags: int) -> str:
        from . import saving

        return saving.write_knobs(self, node, flags)

    def make_group(self, gizmo: Gizmo) -> Group:
        from . import saving

        return saving.make_group(self, gizmo)

    def press(self, knob: PyScript_Knob) -> None:
        """A button: its Python with its node as context; not inside a render."""
        from .callbacks import run_python

        with self.callbacks.context("Button", knob.node(), knob):
            run_python(knob.command(), knob.fullyQualifiedName())

    def cancel_pressed(self) -> bool:
        """Has the user cancelled by now? Each question counts down to the press that control.cancel_after set."""
        if self.cancel_in is None:
            return False
        self.cancel_in -= 1
        return self.cancel_in < 0

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def plugin_file(self, name: str) -> Path | None:
        """The first file of that name on the plug-in path."""
        found = (Path(folder) / name for folder in self.plugin_paths)
        return next((path for path in found if path.is_file()), None)


def free_name(wanted: str, taken: set[str]) -> str:
    """The name, its number raised until nobody has it."""
    if wanted not in taken:
        return wanted
    stem = re.sub(r"\d+$", "", wanted)
    return next(f"{stem}{n}" for n in range(1, len(taken) + 2) if f"{stem}{n}" not in taken)


def with_frame(text: str, frame: float) -> str:
    """%04d, %d and #### replaced by the frame."""
    number = int(frame)
    text = re.sub(r"%0?(\d*)d", lambda m: f"{number:0{m[1] or 1}d}", text)
    return re.sub(r"#+", lambda m: f"{number:0{len(m[0])}d}", text)


def with_view(text: str, view: str) -> str:
    """%V replaced by the view's name, %v by its first letter."""
    return text.replace("%V", view).replace("%v", view[:1])


def upstream(node: Node) -> set[Node]:
    """Everything in the same group that this node takes pictures from."""
    found: set[Node] = set()
    waiting = list(node._inputs)
    while waiting:
        one = waiting.pop()
        if one is not None and one not in found:
            found.add(one)
            waiting += one._inputs
    return found
