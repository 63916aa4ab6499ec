"""Restores the state of Nuke that a bake changes: after success, an error or a cancel.

As in the thumbnail render of tk-nuke-writenode (Shotgun Software, handler.py), the inner Write is on for our own
execute alone.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import nuke

from relightgan.nuke_plugin import graph, knobs

__all__ = ["session_as_it_was", "source_writer", "without_undo"]

# The knobs of a node that a bake may change for good.
RESULT_KNOBS = (knobs.RESULT_PATH, knobs.RESULT_FIRST, knobs.RESULT_LAST)


@contextmanager
def session_as_it_was(nodes: Sequence[nuke.Node]) -> Iterator[None]:
    """A context at full size and without undo; afterwards proxy, frame, selection and undo are as before.

    The script is then modified only if it was before, or if a node has other results: it should be saved then, so that
    a machine without this plug-in finds these.
    """
    root = nuke.root()
    proxy, frame, modified = root.proxy(), nuke.frame(), root.modified()
    selected = nuke.selectedNodes()
    results = _results(nodes)
    with without_undo():
        try:
            # A Write renders at the proxy's scale, and has no argument for full size.
            root.setProxy(False)
            yield
        finally:
            root.setProxy(proxy)
            if nuke.frame() != frame:
                nuke.frame(frame)
            now = nuke.selectedNodes()
            if now != selected:
                for node in now:
                    node.setSelected(False)
                for node in selected:
                    node.setSelected(True)
            if results == _results(nodes):
                root.setModified(modified)


@contextmanager
def without_undo() -> Iterator[None]:
    """A context whose changes aren't in the artist's undo list, as undoing them would show frames of another state.

    Does nothing where undo is off already, as in a terminal: it isn't known whether Nuke counts calls of disable().
    """
    off = nuke.Undo.disabled()
    if not off:
        nuke.Undo.disable()
    try:
        yield
    finally:
        if not off:
            nuke.Undo.enable()


@contextmanager
def source_writer(node: nuke.Node, pattern: str) -> Iterator[nuke.Node]:
    """A context with a node's inner Write on and set to a pattern; afterwards it is off and the pattern is restored.

    Args:
        node: a RelightGAN gizmo, or the Group made from it.
        pattern: path with %V for the view, %04d for the frame, and forward slashes.

    Raises:
        RelightError: the group has no inner Write any more.
    """
    write = graph.inner(node, knobs.WRITE_NODE)
    path, off = node[knobs.SOURCE_PATH], write["disable"]
    before = path.value()
    try:
        knobs.set_path(node, knobs.SOURCE_PATH, pattern)
        off.setValue(False)
        yield write
    finally:
        # Always off: an inner Write that is on would be rendered with all Writes of the script.
        off.setValue(True)
        path.setValue(before)


def _results(nodes: Sequence[nuke.Node]) -> list[object]:
    return [node[name].value() for node in nodes for name in RESULT_KNOBS]
