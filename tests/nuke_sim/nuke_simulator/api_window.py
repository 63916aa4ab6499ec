"""What needs a window or the main loop: messages, questions, progress, menus, calls from other threads."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from . import session

_HANGS_S = 60.0


def message(prompt: str) -> None:
    """Raises without a window: what a real Nuke does there is unverified, and neither choice is one to rest on."""
    now = session.current()
    if not now.gui:
        raise RuntimeError(f"nuke.message in a session without a window: {prompt}")
    now.messages.append(prompt)


def ask(prompt: str) -> bool:
    now = session.current()
    if not now.gui:
        raise RuntimeError(f"nuke.ask in a session without a window: {prompt}")
    now.messages.append(prompt)
    if not now.answers:
        raise RuntimeError(f"nuke.ask, and the test has no answer ready (control.answer): {prompt}")
    return now.answers.popleft()


def tprint(*args: Any, sep: str = " ", end: str = "\n", file: Any = None) -> None:
    print(*args, sep=sep, end=end, file=file or sys.stdout)


class ProgressTask:
    """The progress window; closed when the last reference goes."""

    def __init__(self, title: str = "") -> None:
        self._title, self._progress, self._messages = title, 0, []
        session.current().tasks.append(self)

    def setMessage(self, message: str) -> None:
        self._messages.append(message)

    def setProgress(self, progress: int) -> None:
        if not isinstance(progress, int):
            raise TypeError(f"setProgress takes a whole number, not {progress!r}")
        self._progress = progress

    def isCancelled(self) -> bool:
        return session.current().cancel_pressed()


def executeInMainThread(call: Callable, args: Any = (), kwargs: Any = None) -> None:
    """Queues the call for the main loop, which runs it when idle (control.idle)."""
    _on_loop(call, args, kwargs or {})


def executeInMainThreadWithResult(call: Callable, args: Any = (), kwargs: Any = None) -> Any:
    """Waits for the main loop to run the call. An exception in it is printed, and the result is None."""
    now = session.running()
    if threading.current_thread() is threading.main_thread():
        if now is not None and now.quirks.execute_in_main_thread_from_main == "hang":
            raise TimeoutError("executeInMainThreadWithResult on the main thread: Nuke before 10 hangs here")
        raise RuntimeError("executeInMainThreadWithResult may not be called from the main thread")
    done, result = threading.Event(), []

    def run() -> None:
        try:
            result.append(call(*_tuple(args), **(kwargs or {})))
        except Exception:
            traceback.print_exc()
        finally:
            done.set()

    _on_loop(run, (), {})
    if not done.wait(_HANGS_S):
        raise TimeoutError("nobody runs the main loop: Nuke would wait for ever")
    return result[0] if result else None


def _on_loop(call: Callable, args: Any, kwargs: dict) -> None:
    now = session.running()
    if now is None:
        raise RuntimeError("No simulated Nuke is running")
    if not now.gui:
        raise RuntimeError("a session without a window has no loop that would run this call: call the function itself")
    now.main_thread_calls.append(lambda: call(*_tuple(args), **kwargs))


def _tuple(args: Any) -> tuple:
    return args if isinstance(args, tuple) else (args,)


class MenuItem:
    """An entry of a menu: text run as Python in __main__, or a function."""

    def __init__(self, name: str, command: Any = None, shortcut: str = "", icon: str = "") -> None:
        self._name, self._command, self._shortcut, self._icon = name, command, shortcut, icon
        self._enabled = True

    def name(self) -> str:
        return self._name

    def script(self) -> Any:
        return self._command

    def icon(self) -> str:
        return self._icon

    def shortcut(self) -> str:
        return self._shortcut

    def setEnabled(self, enabled: bool, recursive: bool = False) -> None:
        self._enabled = enabled

    def invoke(self) -> None:
        from .callbacks import run_python

        if callable(self._command):
            self._command()
        elif self._command:
            run_python(self._command, f"menu {self._name}")


class Menu(MenuItem):
    """A menu; a name with slashes makes the menus between."""

    def __init__(self, name: str, icon: str = "") -> None:
        super().__init__(name, icon=icon)
        self._items: list[MenuItem] = []

    def items(self) -> list[MenuItem]:
        return list(self._items)

    def findItem(self, name: str) -> MenuItem | None:
        first, _, rest = name.partition("/")
        found = next((item for item in self._items if item.name() == first), None)
        return found.findItem(rest) if rest and isinstance(found, Menu) else (None if rest else found)

    def menu(self, name: str) -> Menu | None:
        found = self.findItem(name)
        return found if isinstance(found, Menu) else None

    def addMenu(self, name: str, icon: str = "", tooltip: str = "", index: int = -1) -> Menu:
        first, _, rest = name.partition("/")
        found = self.menu(first)
        if found is None:
            found = Menu(first, icon="" if rest else icon)
            self._insert(found, index)
        return found.addMenu(rest, icon, tooltip) if rest else found

    def addCommand(
        self, name: str, command: Any = None, shortcut: str = "", icon: str = "", tooltip: str = "",
        index: int = -1, readonly: bool = False, shortcutContext: int = 0,
    ) -> MenuItem:  # fmt: skip
        first, _, rest = name.rpartition("/")
        if first:
            return self.addMenu(first).addCommand(rest, command, shortcut, icon, tooltip, index)
        self.removeItem(name)
        made = MenuItem(name, command, shortcut, icon)
        self._insert(made, index)
        return made

    def addSeparator(self, index: int = -1) -> MenuItem:
        made = MenuItem("")
        self._insert(made, index)
        return made

    def removeItem(self, name: str) -> None:
        self._items = [item for item in self._items if item.name() != name]

    def clearMenu(self) -> None:
        self._items.clear()

    def _insert(self, item: MenuItem, index: int) -> None:
        self._items.insert(len(self._items) if index < 0 else index, item)


_MENUS = ("Nuke", "Nodes", "Node Graph", "Pane", "Properties", "Animation", "Viewer", "Axis")


def menu(name: str) -> Menu:
    now = session.current()
    if name not in _MENUS:
        raise ValueError(f"there is no menu {name!r}; there are {_MENUS}")
    return now.menus.setdefault(name, Menu(name))


def toolbar(name: str, create: bool = True) -> Menu:
    if name != "Nodes":
        raise NotImplementedError("the only simulated toolbar is Nodes")
    return menu("Nodes")


def getPaneFor(panelName: str) -> Any:
    return panelName if session.current().gui else None
