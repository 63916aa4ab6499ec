"""Panels made from a Qt widget, after Foundry's own nukescripts/panels.py (Python Developer's Guide 16.0, _modules)."""

from typing import Any

from nuke_simulator import session


class PythonPanel:
    """A panel whose widget is made when a pane shows it: `widget` is an expression that gives a class or function."""

    def __init__(self, widget: str, name: str, id: str) -> None:
        self._expression, self._name, self._id = widget, name, id
        self._shown: Any = None

    def addToPane(self, pane: Any = None) -> "PythonPanel":
        # Nuke evaluates it within a larger expression; which names it knows is unverified, so only builtins are there.
        self._shown = eval(self._expression, {})()
        session.current().panels_shown.append(self._shown)
        return self


def registerWidgetAsPanel(widget, name, id, create=False):
    """Remembers the panel, with an entry in the menu Pane; `create` also gives one."""
    if not isinstance(widget, str):
        raise TypeError("registerWidgetAsPanel takes the widget's class as text")
    now = session.current()
    now.panels[id] = (widget, name)
    import nuke

    nuke.menu("Pane").addCommand(name, lambda: PythonPanel(widget, name, id).addToPane())
    return PythonPanel(widget, name, id) if create else None


def restorePanel(id):
    """Shows a panel of a saved workspace."""
    widget, name = session.current().panels[id]
    return PythonPanel(widget, name, id).addToPane()
