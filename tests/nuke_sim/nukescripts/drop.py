"""Data dropped into the node graph (Python Developer's Guide, nukescripts.drop)."""

from nuke_simulator import session


def addDropDataCallback(callback):
    """Adds a function; there is no way to take it back."""
    session.current().drop_callbacks.append(callback)


def dropData(mimeType, text):
    """Asks the functions, the last one added first, until one answers True."""
    for callback in reversed(session.current().drop_callbacks):
        if callback(mimeType, text) is True:
            return True
    return None
