"""Who is called when, in which order and context: Foundry's "Callbacks" chapter, as far as RelightGAN uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import knobs as k

if TYPE_CHECKING:
    from .nodes import Group, Node
    from .session import Session

# event: the class a registered function is for unless it says another
EVENTS = {
    "OnUserCreate": "*", "OnCreate": "*", "OnScriptLoad": "Root", "OnScriptSave": "Root", "OnScriptClose": "Root",
    "OnDestroy": "*", "KnobChanged": "*", "UpdateUI": "*", "Autolabel": "*", "BeforeRender": "Write",
    "BeforeFrameRender": "Write", "AfterFrameRender": "Write", "AfterRender": "Write", "RenderProgress": "Write",
    "FilenameFilter": "*",
}  # fmt: skip


class Callbacks:
    """The functions registered in one Nuke process, and the node and knob they are called for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lists: dict[str, dict[str, list[tuple]]] = {event: {} for event in EVENTS}
        self._context: list[tuple[Node, Any]] = []
        self.running: list[str] = []  # the events being handled, innermost last

    def add(self, event: str, call: Callable, args: Any, kwargs: dict, node_class: str, node: Any = None) -> None:
        if not callable(call):
            raise ValueError("call must be a callable")
        if not isinstance(kwargs, dict):
            raise ValueError("kwargs must be a dictionary")
        self.remove(event, call, args, kwargs, node_class, node)  # once in the list, at its end
        entry = (call, args if isinstance(args, tuple) else (args,), kwargs, node)
        self._lists[event].setdefault(node_class, []).append(entry)

    def remove(self, event: str, call: Callable, args: Any, kwargs: dict, node_class: str, node: Any = None) -> None:
        entry = (call, args if isinstance(args, tuple) else (args,), kwargs, node)
        found = self._lists[event].get(node_class, [])
        if entry in found:
            found.remove(entry)

    def registered(self, event: str) -> list[tuple[str, Callable]]:
        """For tests: (class, function) of what is registered."""
        return [(cls, entry[0]) for cls, entries in self._lists[event].items() for entry in entries]

    # --- context

    def this_node(self) -> Node:
        return self._context[-1][0] if self._context else self._session.group

    def this_knob(self) -> Any:
        if not self._context or self._context[-1][1] is None:
            raise RuntimeError("There is no current knob outside knobChanged and buttons")
        return self._context[-1][1]

    @contextmanager
    def context(self, event: str, node: Node, knob: Any = None) -> Iterator[None]:
        """nuke.thisNode() is `node`, nuke.thisGroup() the group it is in."""
        groups = self._session.groups
        before = list(groups)
        groups.append(node.parent() or self._session.root)
        self._context.append((node, knob))
        self.running.append(event)
        try:
            yield
        finally:
            self.running.pop()
            self._context.pop()
            groups.pop()
            if groups != before:
                groups[:] = before
                raise RuntimeError(f"{event} of {node.fullName()} left a Group.begin() without its end()")

    # --- events

    def run(self, event: str, node: Node, knob: Any = None) -> None:
        """The node's own knob first, then functions for its class, then those for '*', each in the order added."""
        with self.context(event, node, knob):
            own = node._knobs.get(event[0].lower() + event[1:])
            if isinstance(own, k.String_Knob) and own._text:
                run_python(own._text, f"{node.fullName()}.{own.name()}")
            for call, args, kwargs, only in self._entries(event, node):
                if only is None or only is node:
                    call(*args, **kwargs)

    def _entries(self, event: str, node: Node) -> list[tuple]:
        lists = self._lists[event]
        return [*lists.get(node.Class(), []), *lists.get("*", [])]

    def knob_changed(self, node: Node, knob: Any) -> None:
        """Only for the user's changes in an open panel; not while another knobChanged runs."""
        session = self._session
        if session.loading or "KnobChanged" in self.running or not session.gui:
            return
        if node._panel_open or session.quirks.knob_changed_when_closed:
            self.run("KnobChanged", node, k.Knob(knob) if isinstance(knob, str) else knob)

    def created(self, node: Node, by_user: bool) -> None:
        """onUserCreate, then onCreate of what is inside, then of the node itself."""
        if by_user:
            self.run("OnUserCreate", node)
        self._run_inside_first("OnCreate", node)

    def _run_inside_first(self, event: str, node: Node) -> None:
        for inner in getattr(node, "_children", ()):
            self._run_inside_first(event, inner)
        self.run(event, node)

    def destroyed(self, node: Node) -> None:
        """onDestroy, of a group before what is inside."""
        self.run("OnDestroy", node)
        for inner in getattr(node, "_children", ()):
            self.destroyed(inner)

    def autolabel(self, node: Node) -> str:
        """The text on the node: from its own knob, else from the last function added that gives one, else its name."""
        with self.context("Autolabel", node):
            own = node._knobs.get("autolabel")
            if isinstance(own, k.String_Knob) and own._text:
                label = eval_python(own._text, f"{node.fullName()}.autolabel")
                if label is not None:
                    return str(label)
            for cls in (node.Class(), "*"):
                for call, args, kwargs, _ in reversed(self._lists["Autolabel"].get(cls, [])):
                    label = call(*args, **kwargs)
                    if label is not None:
                        return str(label)
        return node.name()

    def filter_filename(self, node: Node, filename: str) -> str:
        """The path as the functions registered with addFilenameFilter want it; the last one added comes first."""
        entries = [*self._lists["FilenameFilter"].get("*", []), *self._lists["FilenameFilter"].get(node.Class(), [])]
        if not entries:
            return filename
        with self.context("FilenameFilter", node):
            for call, args, kwargs, _ in reversed(entries):
                changed = call(filename, *args, **kwargs)
                filename = filename if changed is None else changed
        return filename


def run_python(text: str, where: str) -> None:
    """Runs a knob's Python as Nuke does: in __main__, with `nuke` at hand."""
    exec(compile(text, f"<{where}>", "exec"), _main())


def eval_python(text: str, where: str) -> Any:
    """The value of a knob's Python, which must be an expression."""
    return eval(compile(text.strip(), f"<{where}>", "eval"), _main())


def _main() -> dict[str, Any]:
    import __main__
    import nuke

    __main__.nuke = nuke
    return __main__.__dict__


def inside(group: Group) -> Iterator[Node]:
    """All nodes of a group and of the groups in it."""
    for node in group._children:
        yield node
        if hasattr(node, "_children"):
            yield from inside(node)
