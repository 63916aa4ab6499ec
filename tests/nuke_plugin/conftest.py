"""What the tests of the Nuke side share."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

FRAMES = range(1001, 1007)


@pytest.fixture(scope="session")
def small_comps():
    """The builders of small_comps.py."""
    spec = importlib.util.spec_from_file_location("small_comps", Path(__file__).parent / "small_comps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def worker_env(small_comps, tmp_path, monkeypatch):
    """The environment in which Nuke finds our interpreter; ends the worker that a test started."""
    for name, value in small_comps.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    yield
    from relightgan.nuke_plugin import client

    client.stop_shared()


@pytest.fixture
def comp(worker_env, nuke_session, small_comps, tiny_plates, darken_grid_look, tmp_path):
    """Read → RelightGAN in a terminal session, on six frames that move and flicker."""
    return build(nuke_session(), small_comps, tiny_plates, darken_grid_look, tmp_path)


@pytest.fixture
def gui_comp(worker_env, nuke_session, small_comps, tiny_plates, darken_grid_look, tmp_path):
    """As `comp`, with a window."""
    return build(nuke_session(gui=True), small_comps, tiny_plates, darken_grid_look, tmp_path)


def build(nuke, small_comps, tiny_plates, look, tmp_path):
    small_comps.project(nuke, FRAMES[0], FRAMES[-1])
    plates = tiny_plates.write_clip(tmp_path / "plates", FRAMES, size=small_comps.SIZE, flicker=0.3)
    read = small_comps.reader(nuke, plates, FRAMES)
    node = small_comps.relighter(nuke, read, look)
    return SimpleNamespace(
        nuke=nuke, plates=plates, read=read, node=node, look=look, frames=list(FRAMES), folder=tmp_path
    )
