"""What a bake touches in Nuke and leaves as it was: on success, on an error, and when cancelled.

The way of the thumbnail render in tk-nuke-writenode (Shotgun Software, handler.py): the inner Write is switched on for
our own execute alone.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import nuke

from relightgan.nuke_plugin import graph, knobs

__all__ = ["session_as_it_was", "source_writer", "without_undo"]

RESULT_KNOBS = (knobs.RESULT_PATH, knobs.RESULT_FIRST, knobs.RESULT_LAST)


@contextmanager
def session_as_it_was(nodes: Sequence[nuke.Node]) -> Iterator[None]:
    """Full size and no undo within the block; afterwards proxy, frame, selection and undo are as before.

    The script counts as changed afterwards only if it was before, or if a node points to other results: then it should
    be saved, so that a machine without this plug-in finds them too.
    """
    root = nuke.root()
    proxy, frame, modified = root.proxy(), nuke.frame(), root.modified()
    selected = nuke.selectedNodes()
    results = _results(nodes)
    with without_undo():
        try:
            # A Write renders at the proxy's scale and takes no argument against it.
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
    """Keeps what our code sets out of the artist's undo list: undoing it would show frames of another state.

    Where undo is off already, as in a terminal, nothing is done: whether Nuke counts each disable() isn't known.
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
    """A node's inner Write, switched on and set to a pattern within the block; off again and unset afterwards.

    Args:
        node: a RelightGAN gizmo, or the Group made from it.
        pattern: with %V for the view and %04d for the frame; forward slashes.

    Raises:
        RelightError: somebody took the inner Write out of the group.
    """
    write = graph.inner(node, knobs.WRITE_NODE)
    path, off = node[knobs.SOURCE_PATH], write["disable"]
    before = path.value()
    try:
        path.setValue(pattern)
        off.setValue(False)
        yield write
    finally:
        # Off, whatever it was: an inner Write that is on would be rendered by everybody who executes all Writes.
        off.setValue(True)
        path.setValue(before)


def _results(nodes: Sequence[nuke.Node]) -> list[object]:
    return [node[name].value() for node in nodes for name in RESULT_KNOBS]
