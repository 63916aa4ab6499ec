"""Previews of looks as pictures, and texts of others where Qt would take them for HTML.

Runs inside Nuke (Python 3.9 and later), pictures also in a thread: standard library and Qt only.
"""

from __future__ import annotations

import html

from relightgan.nuke_plugin.qt import QtCore, QtGui

__all__ = ["picture_of", "tip_of"]


def picture_of(jpeg: bytes, box: QtCore.QSize) -> QtGui.QImage:
    """A preview, no larger than a box; empty where it can't be decoded.

    Qt isn't left to guess the format: an SVG, for one, may name files of this machine. The size in the header was
    checked by `looks.look_preview`; the JPEG is decoded right at the smaller size.
    """
    if not jpeg:
        return QtGui.QImage()
    content = QtCore.QBuffer()
    content.setData(QtCore.QByteArray(jpeg))
    content.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    reader = QtGui.QImageReader(content, QtCore.QByteArray(b"jpeg"))
    reader.setAutoDetectImageFormat(False)
    size = reader.size()
    if size.width() > box.width() or size.height() > box.height():
        smaller = size.scaled(box, QtCore.Qt.AspectRatioMode.KeepAspectRatio)
        reader.setScaledSize(smaller.expandedTo(QtCore.QSize(1, 1)))
    return reader.read()


def tip_of(text: str) -> str:
    """A text as a tooltip, which has no plain format: HTML of it."""
    return f"<p style='white-space: pre'>{html.escape(text)}</p>" if text else ""
