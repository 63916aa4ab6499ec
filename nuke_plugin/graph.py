"""Walks the node graph: what is upstream, through groups, and which RelightGAN nodes are there. Skeleton.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

from collections.abc import Iterable

import nuke


def upstream(node: nuke.Node, inputs: Iterable[int] | None = None, frame: int | None = None) -> list[nuke.Node]:
    """Every node that a node's pixels can come from, nearest first, without the node itself; through groups both ways.

    Args:
        node: where to start; also inside a group.
        inputs: start at these inputs only; all when None.
        frame: leave out what isn't looked at on this frame (inputs of a Switch, of disabled nodes); None for everything.
    """
    raise NotImplementedError


def relight_nodes(group: nuke.Group | None = None) -> list[nuke.Node]:
    """Every RelightGAN node of the script, or in a group and the groups in it; each after those it depends on."""
    raise NotImplementedError


def relight_nodes_upstream(node: nuke.Node, frame: int | None = None) -> list[nuke.Node]:
    """The RelightGAN nodes that a node's pixels come from, each after those it depends on; not the node itself.

    Args:
        node: any node, such as a Write or a RelightGAN.
        frame: as in `upstream`.
    """
    raise NotImplementedError


def inert(node: nuke.Node, frame: int | None = None) -> bool:
    """True where a RelightGAN node gives its source untouched: disabled, bypassed, or at strength 0.

    Args:
        frame: on this frame; on every frame when None.
    """
    raise NotImplementedError


def time_neutral(nodes: Iterable[nuke.Node]) -> bool:
    """True where every node is known to need of its inputs only the frame it is asked for."""
    raise NotImplementedError


def inner(node: nuke.Node, name: str) -> nuke.Node:
    """A node inside a RelightGAN node, by name (knobs.WRITE_NODE, knobs.READ_NODE).

    Raises:
        RelightError: it isn't there.
    """
    raise NotImplementedError
