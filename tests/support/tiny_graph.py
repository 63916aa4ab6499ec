"""The least a graph must offer to be evaluated: nodes with plain knob values. For tests of the operators alone."""

from types import SimpleNamespace

from nuke_simulator import nodes


class TinyNode:
    """A node whose knobs are given by name; one that is a function is asked for (frame, view)."""

    def __init__(self, kind: str, *inputs, name: str | None = None, **knobs):
        self.kind = kind
        self._inputs = list(inputs)
        self._name = name or f"{kind}1"
        self._parent = None
        self._knobs = {name: TinyKnob(value) for name, value in knobs.items()}

    def Class(self) -> str:  # noqa: N802 — Nuke's name
        return self.kind

    def fullName(self) -> str:  # noqa: N802
        return self._name

    def parent(self):
        return self._parent

    def knob(self, name: str):
        return self._knobs.get(name)


class TinyGroup(TinyNode, nodes.Group):
    """A group of the nodes given as `children`."""

    def __init__(self, kind: str, *inputs, children, **knobs):
        TinyNode.__init__(self, kind, *inputs, **knobs)
        self._children = list(children)
        for child in children:
            child._parent = self


class TinyKnob:
    """One value at all frames, or what a function of frame and view says."""

    def __init__(self, value):
        self.set = value

    def value(self):
        return self.set

    def _at(self, frame: float, view: str):
        return self.set(frame, view) if callable(self.set) else self.set


def tiny_session(
    read_cache, quirks=None, views=("main",), root_format=(8, 6, 1.0), proxy_scale=None, root_range=(1, 10)
):
    """A script's settings; proxy mode is on where a scale is given."""
    return SimpleNamespace(
        root_format=root_format,
        first=root_range[0],
        last=root_range[1],
        views=list(views),
        proxy_on=proxy_scale is not None,
        proxy_scale=proxy_scale or 1.0,
        quirks=quirks,
        read_cache=read_cache,
    )
