"""The least a graph must offer to be evaluated: nodes with plain knob values. For tests of the operators alone."""

from types import SimpleNamespace

HD = (8, 6, 1.0)


class TinyNode:
    """A node whose knobs are given by name; one that is a function is asked for (frame, view)."""

    def __init__(self, kind: str, *inputs, name: str | None = None, children=None, **knobs):
        self.kind = kind
        self.inputs = list(inputs)
        self.full_name = name or f"{kind}1"
        self.parent = None
        self.children = children
        self.knobs = knobs
        for child in children or []:
            child.parent = self

    def Class(self) -> str:  # noqa: N802 — Nuke's name
        return self.kind

    def knob_value(self, name: str, frame: float, view: str):
        value = self.knobs[name]
        return value(frame, view) if callable(value) else value


def tiny_session(read_cache, quirks=None, views=("main",), root_format=HD, proxy_scale=None, root_range=(1, 10)):
    """A script's settings; proxy mode is on where a scale is given."""
    return SimpleNamespace(
        root_format=root_format,
        root_range=root_range,
        views=list(views),
        proxy_on=proxy_scale is not None,
        proxy_scale=proxy_scale or 1.0,
        quirks=quirks,
        read_cache=read_cache,
    )
