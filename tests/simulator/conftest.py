from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def sim(monkeypatch):
    """The simulator's picture side, and a graph of plain nodes to feed it."""
    monkeypatch.syspath_prepend(str(HERE.parent / "nuke_sim"))
    import tiny_graph as graph
    from nuke_simulator import exr, images, op_files, op_pixels, ops, quirks

    def session(**settings):
        settings.setdefault("quirks", quirks.Quirks())
        return graph.tiny_session(ops.ReadCache(), **settings)

    return SimpleNamespace(
        exr=exr,
        images=images,
        files=op_files,
        pixels=op_pixels,
        ops=ops,
        quirks=quirks,
        node=graph.TinyNode,
        group=graph.TinyGroup,
        session=session,
    )
