"""Qt in the version of this Nuke: PySide6 from Nuke 16 on, PySide2 before.

Imported only where there is a window, never by init.py. The panel uses names that both have, and enumerations by their
full names, which both take.
"""

from __future__ import annotations

try:
    from PySide6 import QtCore, QtGui, QtWidgets
except ImportError:
    from PySide2 import QtCore, QtGui, QtWidgets  # type: ignore[import-not-found, no-redef]

__all__ = ["QtCore", "QtGui", "QtWidgets", "pointer_x"]


def pointer_x(event: QtGui.QMouseEvent) -> float:
    """The pointer's distance from the left of the widget in pixels, by the names of Qt 5 and 6."""
    return float(event.position().x() if hasattr(event, "position") else event.pos().x())
