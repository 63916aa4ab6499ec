"""The details of the chosen look in the panel: before and after under a wipe, and its facts; or why it can't be used.

Runs inside Nuke (Python 3.9 and later): standard library and Qt only.
"""

from __future__ import annotations

from relightgan.nuke_plugin.library import Entry
from relightgan.nuke_plugin.panel_picture import picture_of, tip_of
from relightgan.nuke_plugin.qt import QtCore, QtGui, QtWidgets, pointer_x

MAX_HEIGHT_PX = 320  # the maximum height of previews
DECODED = QtCore.QSize(1280, 2 * MAX_HEIGHT_PX)  # the maximum size of the preview that is shown, before | after


class Wipe(QtWidgets.QWidget):
    """One photo before (left of the line) and after (right of it); the line follows the pointer."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._before = self._after = QtGui.QImage()
        self._share = 0.5
        self.setMouseTracking(True)
        self.setCursor(QtCore.Qt.CursorShape.SplitHCursor)
        policy = QtWidgets.QSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def show_picture(self, both: QtGui.QImage) -> None:
        """Shows a preview, before and after side by side in one picture; hides itself without one."""
        half = both.width() // 2
        self._before, self._after = both.copy(0, 0, half, both.height()), both.copy(half, 0, half, both.height())
        self._share = 0.5
        self.setVisible(half > 0)
        self.updateGeometry()
        self.update()

    def hasHeightForWidth(self) -> bool:  # noqa: N802 - Qt's name
        """True: the height follows from the width."""
        return True

    def heightForWidth(self, width: int) -> int:  # noqa: N802 - Qt's name
        """The height of the photo at this width, clamped to `MAX_HEIGHT_PX`."""
        if self._before.isNull():
            return 0
        return min(MAX_HEIGHT_PX, max(1, round(width * self._before.height() / self._before.width())))

    def sizeHint(self) -> QtCore.QSize:  # noqa: N802 - Qt's name
        """The photo's own size."""
        return self._before.size().boundedTo(QtCore.QSize(MAX_HEIGHT_PX, MAX_HEIGHT_PX))

    def minimumSizeHint(self) -> QtCore.QSize:  # noqa: N802 - Qt's name
        """Small: the panel may be narrow."""
        return QtCore.QSize(80, 60)

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Moves the line."""
        place = self._place()
        self._share = min(1.0, max(0.0, (pointer_x(event) - place.left()) / max(1, place.width())))
        self.update()

    def leaveEvent(self, event: QtCore.QEvent) -> None:  # noqa: N802 - Qt's name
        """Puts the line back in the middle."""
        self._share = 0.5
        self.update()
        super().leaveEvent(event)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draws both halves, the line and two labels."""
        if self._before.isNull():
            return
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        place = self._place()
        line = place.left() + round(place.width() * self._share)
        for picture, left, right in ((self._before, place.left(), line), (self._after, line, place.right() + 1)):
            painter.setClipRect(QtCore.QRect(left, place.top(), right - left, place.height()))
            painter.drawImage(place, picture)
        painter.setClipping(False)
        painter.fillRect(line - 1, place.top(), 2, place.height(), QtGui.QColor(255, 255, 255, 220))
        self._word(painter, place, "before", left=True)
        self._word(painter, place, "after", left=False)
        painter.end()

    def _place(self) -> QtCore.QRect:
        size = self._before.size().scaled(self.size(), QtCore.Qt.AspectRatioMode.KeepAspectRatio)
        place = QtCore.QRect(QtCore.QPoint(0, 0), size)
        place.moveCenter(self.rect().center())
        return place

    def _word(self, painter: QtGui.QPainter, place: QtCore.QRect, word: str, *, left: bool) -> None:
        metrics = QtGui.QFontMetrics(self.font())
        size = QtCore.QSize(metrics.boundingRect(word).width() + 14, metrics.height() + 4)
        x = place.left() + 6 if left else place.right() - 5 - size.width()
        box = QtCore.QRect(QtCore.QPoint(x, place.bottom() - 5 - size.height()), size)
        painter.fillRect(box, QtGui.QColor(0, 0, 0, 150))
        painter.setPen(QtGui.QColor(255, 255, 255))
        painter.drawText(box, QtCore.Qt.AlignmentFlag.AlignCenter, word)


class OneLine(QtWidgets.QLabel):
    """A text in one line: an ellipsis replaces what doesn't fit, and the tooltip has the whole text."""

    def __init__(self, text: str = "", elide: QtCore.Qt.TextElideMode = QtCore.Qt.TextElideMode.ElideRight) -> None:
        super().__init__(text)
        self._elide = elide
        self.setTextFormat(QtCore.Qt.TextFormat.PlainText)
        self.setToolTip(tip_of(text))
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draws the text, elided to the width."""
        painter = QtGui.QPainter(self)
        text = self.fontMetrics().elidedText(self.text(), self._elide, self.width())
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(self.rect(), QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft, text)
        painter.end()


class Details(QtWidgets.QWidget):
    """The details of the chosen look."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.wipe = Wipe()
        self.problem = QtWidgets.QLabel()
        self.problem.setWordWrap(True)
        self.problem.setTextFormat(QtCore.Qt.TextFormat.PlainText)
        self.facts = QtWidgets.QWidget()
        self._grid = QtWidgets.QGridLayout(self.facts)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(1, 1)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for widget in (self.wipe, self.problem, self.facts):
            layout.addWidget(widget)
        layout.addStretch(1)
        self._shown: Entry | None = None
        self.show_entry(None)

    def show_entry(self, entry: Entry | None) -> None:
        """Shows a look; None for no look."""
        if entry is None or entry is not self._shown:  # the line of the wipe stays while rows come in
            self.wipe.show_picture(picture_of(entry.preview, DECODED) if entry is not None else QtGui.QImage())
        self._shown = entry
        problem = (
            f"{entry.name} can't be used.\n\n{entry.problem}\n\n{entry.fix}"
            if entry is not None and entry.problem
            else ""
        )
        self.problem.setText(breakable(problem))
        self.problem.setVisible(bool(problem))
        for old in self.facts.findChildren(QtWidgets.QLabel):
            self._grid.removeWidget(old)
            old.hide()
            old.deleteLater()
        for row, (title, value) in enumerate(entry.rows if entry is not None else ()):
            label = QtWidgets.QLabel(title)
            label.setTextFormat(QtCore.Qt.TextFormat.PlainText)
            label.setEnabled(False)  # fainter than the value
            elide = QtCore.Qt.TextElideMode.ElideMiddle if title == "File" else QtCore.Qt.TextElideMode.ElideRight
            self._grid.addWidget(label, row, 0)
            self._grid.addWidget(OneLine(value, elide), row, 1)
        self.facts.setVisible(entry is not None and bool(entry.rows))


def breakable(text: str) -> str:
    """A text whose paths may be broken into lines: Qt breaks at spaces only, and a long path would widen the panel."""
    return text.replace("/", "/\u200b").replace("\\", "\\\u200b").replace("_", "_\u200b")
