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
def read_and_relight(worker_env, small_comps, tiny_plates, darken_grid_look, tmp_path):
    """Makes Read → RelightGAN in a Nuke, on six frames that move and flicker."""

    def build(nuke):
        small_comps.project(nuke, FRAMES[0], FRAMES[-1])
        plates = tiny_plates.write_clip(tmp_path / "plates", FRAMES, size=small_comps.SIZE, flicker=0.3)
        read = small_comps.reader(nuke, plates, FRAMES)
        node = small_comps.relighter(nuke, read, darken_grid_look)
        return SimpleNamespace(
            nuke=nuke, plates=plates, read=read, node=node, look=darken_grid_look, frames=list(FRAMES), folder=tmp_path
        )

    return build


@pytest.fixture
def comp(read_and_relight, nuke_session):
    """Read → RelightGAN in a terminal session."""
    return read_and_relight(nuke_session())


@pytest.fixture
def gui_comp(read_and_relight, nuke_session):
    """As `comp`, with a window."""
    return read_and_relight(nuke_session(gui=True))
