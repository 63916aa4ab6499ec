"""The list of looks in the panel: read in a thread, painted with before and after, dragged as paths.

Runs inside Nuke (Python 3.9 and later): standard library and Qt only.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from relightgan.core.text import printable
from relightgan.nuke_plugin.library import Entry, describe, find_looks
from relightgan.nuke_plugin.panel_picture import picture_of, tip_of
from relightgan.nuke_plugin.qt import QtCore, QtGui, QtWidgets

THUMB = QtCore.QSize(132, 50)  # before | after
DECODED = QtCore.QSize(2 * THUMB.width(), 2 * THUMB.height())  # the size kept for rows: enough for two pixels a point
ROW_PX, PAD_PX = 66, 8
ENTRY = QtCore.Qt.ItemDataRole.UserRole
PICTURE = QtCore.Qt.ItemDataRole.UserRole + 1


class Reading:
    """Reads looks in a thread, as thousands of files on a slow disk must not block the window.

    The thread touches no widget and no `nuke`; pictures are decoded there too (QImage may be used in any thread), at
    the size of the rows, as all of them are kept.
    """

    def __init__(self, folders: Iterable[Path], used: Iterable[str]) -> None:
        self._found: queue.Queue[tuple[Entry, QtGui.QImage]] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._read, args=(list(folders), list(used)), name="RelightGAN looks", daemon=True
        )
        self._thread.start()

    @property
    def finished(self) -> bool:
        """True when all looks were read and taken."""
        return not self._thread.is_alive() and self._found.empty()

    def take(self, max_count: int) -> list[tuple[Entry, QtGui.QImage]]:
        """Up to `max_count` looks that were read since the last call."""
        taken: list[tuple[Entry, QtGui.QImage]] = []
        while len(taken) < max_count:
            try:
                taken.append(self._found.get_nowait())
            except queue.Empty:
                break
        return taken

    def stop(self) -> None:
        """Stops reading."""
        self._stop.set()

    def _read(self, folders: Sequence[Path], used: Sequence[str]) -> None:
        for path in find_looks(folders, used):
            if self._stop.is_set():
                return
            entry = describe(path)
            self._found.put((entry, picture_of(entry.preview, DECODED)))


class LookList(QtWidgets.QListWidget):
    """A list with one look per row; dragging a row gives the path of its look as text."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setItemDelegate(LookRow(self))
        self.setDragEnabled(True)
        self.setDragDropMode(QtWidgets.QAbstractItemView.DragDropMode.DragOnly)
        self.setDefaultDropAction(QtCore.Qt.DropAction.CopyAction)
        self.setVerticalScrollMode(QtWidgets.QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)

    def add(self, entry: Entry, picture: QtGui.QImage) -> None:
        """Adds a row at the end."""
        item = QtWidgets.QListWidgetItem(entry.name)
        item.setData(ENTRY, entry)
        item.setData(PICTURE, picture)
        item.setToolTip(tip_of(f"{entry.problem} {entry.fix}".strip() if entry.problem else printable(entry.path)))
        if entry.problem:
            item.setFlags(item.flags() & ~QtCore.Qt.ItemFlag.ItemIsDragEnabled)
        self.addItem(item)

    def entries(self) -> list[Entry]:
        """All entries, in order."""
        return [self.item(row).data(ENTRY) for row in range(self.count())]

    def show_only(self, words: str) -> int:
        """Hides rows that don't have every word in their name, direction, facts or path; the number of visible rows."""
        wanted, left = words.lower().split(), 0
        for row in range(self.count()):
            entry = self.item(row).data(ENTRY)
            text = " ".join((entry.name, entry.direction, entry.line, entry.path)).lower()
            shown = all(word in text for word in wanted)
            self.item(row).setHidden(not shown)
            left += shown
        return left

    def choose_shown(self) -> None:
        """Makes the first row that isn't hidden the current one, where the current one is hidden."""
        current = self.currentItem()
        if current is None or current.isHidden():
            shown = [row for row in range(self.count()) if not self.item(row).isHidden()]
            self.setCurrentRow(shown[0] if shown else -1)

    def mimeData(self, items: Sequence[QtWidgets.QListWidgetItem]) -> QtCore.QMimeData:  # noqa: N802 - Qt's name
        """Paths as plain text: what Nuke hands to `nukescripts.addDropDataCallback` functions."""
        data = QtCore.QMimeData()
        data.setText("\n".join(item.data(ENTRY).path for item in items))
        return data


class LookRow(QtWidgets.QStyledItemDelegate):
    """Paints a row: before | after, and beside it name, direction and facts, each elided to its line."""

    def sizeHint(self, option: QtWidgets.QStyleOptionViewItem, index: Any) -> QtCore.QSize:  # noqa: N802
        """All rows are of one height."""
        return QtCore.QSize(THUMB.width() + 120, ROW_PX)

    def paint(self, painter: QtGui.QPainter, option: QtWidgets.QStyleOptionViewItem, index: Any) -> None:
        """Draws one row."""
        entry, picture = index.data(ENTRY), index.data(PICTURE)
        state, style = option.state, option.widget.style()
        painter.save()
        style.drawPrimitive(
            QtWidgets.QStyle.PrimitiveElement.PE_PanelItemViewItem, option, painter, option.widget
        )  # the selection
        box = QtCore.QRect(QtCore.QPoint(0, 0), THUMB.boundedTo(QtCore.QSize(option.rect.width() * 2 // 5, ROW_PX)))
        box.moveCenter(option.rect.center())
        box.moveLeft(option.rect.left() + PAD_PX)
        selected = bool(state & QtWidgets.QStyle.StateFlag.State_Selected)
        role = QtGui.QPalette.ColorRole.HighlightedText if selected else QtGui.QPalette.ColorRole.Text
        colour = option.palette.color(role)
        faint = QtGui.QColor(colour)
        faint.setAlphaF(0.65)
        painter.fillRect(box, option.palette.color(QtGui.QPalette.ColorRole.AlternateBase))
        if entry.problem:
            icon = style.standardIcon(QtWidgets.QStyle.StandardPixmap.SP_MessageBoxWarning)
            icon.paint(painter, box.adjusted(0, 12, 0, -12))
        elif picture.isNull():
            painter.setPen(faint)
            painter.drawText(box, QtCore.Qt.AlignmentFlag.AlignCenter, "no preview")
        else:
            draw_fitted(painter, box, picture)
        text = option.rect.adjusted(PAD_PX * 2 + box.width(), PAD_PX, -PAD_PX, -PAD_PX)
        reason = entry.problem.replace(printable(entry.path), "This file")
        lines = (entry.name, reason) if entry.problem else (entry.name, entry.direction, entry.line)
        self._draw_lines(painter, option, text, lines, colour, faint)
        painter.restore()

    def _draw_lines(
        self,
        painter: QtGui.QPainter,
        option: QtWidgets.QStyleOptionViewItem,
        text: QtCore.QRect,
        lines: Sequence[str],
        colour: QtGui.QColor,
        faint: QtGui.QColor,
    ) -> None:
        height = text.height() // 3
        top = text.top() + (text.height() - height * len(lines)) // 2
        for number, line in enumerate(lines):
            font = QtGui.QFont(option.font)
            font.setBold(number == 0)
            painter.setFont(font)
            painter.setPen(faint if number == len(lines) - 1 else colour)
            rect = QtCore.QRect(text.left(), top + number * height, text.width(), height)
            # Long names differ at their ends, where versions stand.
            mode = QtCore.Qt.TextElideMode.ElideMiddle if number == 0 else QtCore.Qt.TextElideMode.ElideRight
            elided = QtGui.QFontMetrics(font).elidedText(line, mode, rect.width())
            painter.drawText(rect, QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft, elided)


def draw_fitted(painter: QtGui.QPainter, box: QtCore.QRect, picture: QtGui.QImage) -> QtCore.QRect:
    """Draws a picture in the middle of a box, as large as fits; its rectangle."""
    size = picture.size().scaled(box.size(), QtCore.Qt.AspectRatioMode.KeepAspectRatio)
    place = QtCore.QRect(QtCore.QPoint(0, 0), size)
    place.moveCenter(box.center())
    painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
    painter.drawImage(place, picture)
    return place
