"""The dockable panel: a library of looks with before, after and facts, and the worker's log.

A double click, the button or a drag into the node graph makes a node with that look. Registered by startup.start_gui();
nothing without a window imports it.

Runs inside Nuke (Python 3.9 and later): standard library, `nuke` and Qt only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nuke

from relightgan.core.errors import RelightError
from relightgan.core.text import printable
from relightgan.nuke_plugin import graph, knobs, messages, startup
from relightgan.nuke_plugin.config import load_config
from relightgan.nuke_plugin.library import MAX_LOOKS, VARIABLE, Entry, look_folders
from relightgan.nuke_plugin.panel_details import Details, OneLine, breakable
from relightgan.nuke_plugin.panel_list import ENTRY, LookList, Reading
from relightgan.nuke_plugin.panel_log import LogView
from relightgan.nuke_plugin.qt import QtCore, QtGui, QtWidgets

EVERY_MS, AT_A_TIME = 30, 20  # interval and number of added rows: small groups, so that the window stays responsive
LIST_PX, DETAILS_PX = 300, 460  # first heights of the list and of the details
EMPTY = (
    "No looks yet.\n\nA look is an .onnx file that `relightgan train` writes. Looks are searched for in:\n\n{places}"
)
NO_PLACES = f"(no folder: set {VARIABLE}, or run `relightgan nuke-install --looks FOLDER`)"


class LookPanel(QtWidgets.QWidget):
    """The panel; Nuke makes one for each pane that shows it."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._reading: Reading | None = None
        self._places = NO_PLACES
        self.filter = QtWidgets.QLineEdit()
        self.filter.setPlaceholderText("Filter by name, light, photos or file")
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self._show_rows)
        self.looks = LookList()
        self.looks.itemDoubleClicked.connect(lambda item: self._make_node(item.data(ENTRY)))
        self.looks.currentItemChanged.connect(self._show_current)
        self.empty = QtWidgets.QLabel()
        self.empty.setWordWrap(True)
        self.empty.setTextFormat(QtCore.Qt.TextFormat.PlainText)
        self.empty.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self.empty.setMargin(24)
        self.details = Details()
        self.count = OneLine()
        self.count.setEnabled(False)
        self.log = LogView()
        self.refresh_button = button("Refresh", "Search the folders again", self.refresh)
        self.create_button = button(
            "Create Node", "A RelightGAN node with this look; a double click does the same", self._create
        )
        self.use_button = button("Use in Selected", "Set this look in the selected RelightGAN nodes", self._use)
        self._lay_out()
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self._take_read)
        self.refresh()

    def refresh(self) -> None:
        """Searches the folders again, in the background."""
        if self._reading is not None:
            self._reading.stop()
        self.looks.clear()
        try:
            folders = look_folders(load_config().looks)
        except RelightError as error:
            folders = look_folders(())
            messages.tell(str(error))
        self._places = "\n".join(map(place_text, folders)) or NO_PLACES
        reading = self._reading = Reading(folders, looks_in_script())
        self.destroyed.connect(lambda *_: reading.stop())  # Nuke deletes a panel without closing it
        self._timer.start()
        self._show_rows()

    @property
    def busy(self) -> bool:
        """True while looks are being read."""
        return self._timer.isActive()

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Stops reading."""
        if self._reading is not None:
            self._reading.stop()
        self._timer.stop()
        super().closeEvent(event)

    # Private implementation

    def _lay_out(self) -> None:
        head = QtWidgets.QHBoxLayout()
        head.addWidget(self.filter, 1)
        head.addWidget(self.refresh_button)
        self._stack = QtWidgets.QStackedWidget()
        self._stack.addWidget(self.looks)
        self._stack.addWidget(self.empty)
        below = self._below = QtWidgets.QScrollArea()
        below.setWidget(self.details)
        below.setWidgetResizable(True)
        below.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        below.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        split = QtWidgets.QSplitter(QtCore.Qt.Orientation.Vertical)
        split.addWidget(self._stack)
        split.addWidget(below)
        split.setChildrenCollapsible(False)
        split.setStretchFactor(0, 1)
        split.setSizes([LIST_PX, DETAILS_PX])
        split.setHandleWidth(9)
        foot = QtWidgets.QHBoxLayout()
        foot.addWidget(self.count, 1)
        foot.addWidget(self.use_button)
        foot.addWidget(self.create_button)
        library = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(library)
        column.setContentsMargins(0, 8, 0, 0)
        column.addLayout(head)
        column.addWidget(split, 1)
        column.addLayout(foot)
        tabs = QtWidgets.QTabWidget()
        tabs.setDocumentMode(True)
        tabs.addTab(library, "Looks")
        tabs.addTab(self.log, "Worker Log")
        self.tabs = tabs
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(8, 8, 8, 8)
        whole.addWidget(tabs)
        self.setMinimumWidth(260)

    def _take_read(self) -> None:
        assert self._reading is not None
        for entry, picture in self._reading.take(AT_A_TIME):
            self.looks.add(entry, picture)
        if self._reading.finished:
            self._timer.stop()
        self._show_rows()

    def _show_rows(self, *_: Any) -> None:
        left, total = self.looks.show_only(self.filter.text()), self.looks.count()
        busy = self._reading is not None and not self._reading.finished
        broken = sum(bool(entry.problem) for entry in self.looks.entries())
        words = [f"{total} look{'' if total == 1 else 's'}"]
        words += [f"{left} shown"] if left != total else []
        words += [f"{broken} can't be used"] if broken else []
        words += ["reading…"] if busy else []
        words += ["no more are shown"] if total >= MAX_LOOKS else []
        self.count.setText(", ".join(words) if total or busy else "")
        self.empty.setText(
            breakable(EMPTY.format(places=self._places)) if not total else f"No look has “{self.filter.text()}”."
        )
        self._stack.setCurrentIndex(0 if left or busy else 1)
        self.looks.choose_shown()
        self._show_current()

    def _show_current(self, *_: Any) -> None:
        item = self.looks.currentItem()
        shown = item is not None and not item.isHidden()
        entry = item.data(ENTRY) if shown else None
        self.details.show_entry(entry)
        self._below.setVisible(entry is not None)
        usable = entry is not None and not entry.problem
        self.create_button.setEnabled(usable)
        self.use_button.setEnabled(usable)

    def _current(self) -> Entry | None:
        item = self.looks.currentItem()
        return item.data(ENTRY) if item is not None else None

    def _create(self) -> None:
        entry = self._current()
        if entry is not None:
            self._make_node(entry)

    def _make_node(self, entry: Entry) -> None:
        if entry.problem:
            messages.tell(f"{entry.problem} {entry.fix}")
            return
        told(lambda: startup.create_node(entry.path))

    def _use(self) -> None:
        entry = self._current()
        if entry is None:
            return
        nodes = [node for node in nuke.selectedNodes() if knobs.is_relight_node(node)]
        if not nodes:
            messages.tell("Select the RelightGAN nodes that shall have this look.")
        for node in nodes:
            knobs.set_path(node, knobs.LOOK, entry.path)


def looks_in_script() -> list[str]:
    """Looks that nodes of this script have; asked here, because only the main thread may ask Nuke."""
    return [path for path in (knobs.path_of(node, knobs.LOOK) for node in graph.relight_nodes()) if path]


def place_text(folder: Path) -> str:
    """A folder of the library in a line."""
    return f"{printable(str(folder))}{'' if os.path.isdir(folder) else ' (not there)'}"  # noqa: PTH112 - never raises


def button(text: str, tip: str, call: Callable[[], Any]) -> QtWidgets.QPushButton:
    """A button that calls a function."""
    made = QtWidgets.QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda *_: call())
    return made


def told(call: Callable[[], Any]) -> None:
    """Calls a function; what can be explained becomes a message, as a Qt signal has nobody to raise to."""
    try:
        call()
    except (RelightError, RuntimeError) as error:  # RuntimeError is what Nuke raises
        messages.tell(str(error))
