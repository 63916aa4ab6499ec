"""The worker's log in the panel, followed while it can be seen.

Runs inside Nuke (Python 3.9 and later): standard library and Qt only.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from relightgan.core.regular import open_regular
from relightgan.nuke_plugin.panel_picture import tip_of
from relightgan.nuke_plugin.qt import QtCore, QtGui, QtWidgets
from relightgan.nuke_plugin.worker_log import log_path

EVERY_MS = 500
MAX_BYTES = 256 * 1024  # maximum read at a time, and from the end of an existing log
MAX_LOG_BYTES = 1 << 40  # only its end is read
MAX_LINES = 5000  # maximum number of lines in the window


class LogView(QtWidgets.QWidget):
    """The worker's log; stays at its end unless one scrolls up."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._path, self._offset = Path(), 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text = QtWidgets.QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setMaximumBlockCount(MAX_LINES)
        self.text.setLineWrapMode(QtWidgets.QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setFont(QtGui.QFontDatabase.systemFont(QtGui.QFontDatabase.SystemFont.FixedFont))
        self.text.setPlaceholderText("The worker has said nothing yet. It starts with the first bake.")
        self.where = QtWidgets.QLabel()
        self.where.setTextFormat(QtCore.Qt.TextFormat.PlainText)
        self.where.setEnabled(False)
        self.where.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.where.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 8, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(self.where)
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self.follow)

    def showEvent(self, event: QtGui.QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Follows from now on."""
        super().showEvent(event)
        self.follow()
        self._timer.start()

    def hideEvent(self, event: QtGui.QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Stops following: a hidden log isn't read."""
        self._timer.stop()
        super().hideEvent(event)

    def follow(self) -> None:
        """Shows what was written since the last time."""
        path = log_path()
        try:
            size = path.stat().st_size
        except OSError:
            size = 0
        if path != self._path or size < self._offset:  # another log, or begun anew
            self._path, self._offset = path, max(0, size - MAX_BYTES)
            self._decoder.reset()
            self.text.clear()
            self.where.setText(str(path))
            self.where.setToolTip(tip_of(str(path)))
        if size > self._offset:
            self._add(self._read())

    def _read(self) -> str:
        try:
            with open_regular(self._path, MAX_LOG_BYTES) as file:
                file.seek(self._offset)
                content = file.read(MAX_BYTES)
        except OSError:
            return ""
        self._offset += len(content)
        return self._decoder.decode(content)

    def _add(self, text: str) -> None:
        bar = self.text.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        cursor = QtGui.QTextCursor(self.text.document())
        cursor.movePosition(QtGui.QTextCursor.MoveOperation.End)
        cursor.insertText(text)
        if at_end:
            bar.setValue(bar.maximum())
