"""What the tests of the Nuke side share."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_comps
import tiny_plates
import tiny_relit

FRAMES = range(1001, 1007)
KEY, TAKE = "0123456789abcdef", "fedcba9876543210"  # what `base` makes unless told otherwise
DAY_S = 24 * 3600


@pytest.fixture
def worker_env(tmp_path, monkeypatch):
    """The environment in which Nuke finds our interpreter; ends the worker that a test started."""
    for name, value in small_comps.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    yield
    from relightgan.nuke_plugin import client

    client.stop_shared()


@pytest.fixture
def read_and_relight(worker_env, darken_grid_look, tmp_path):
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


@pytest.fixture
def base():
    """Makes a base of the cache as a bake leaves it: a store, one take that links to it, a sentinel."""
    from relightgan.nuke_plugin import cache, cache_frames

    def make(root: Path, name: str = KEY, frames: int = 2, size: int = 1000, days_old: float = 0.0) -> cache.Places:
        places = cache.Places(root, name)
        cache.touch(places, {"look": "dusk.onnx"})
        places.store.mkdir()
        for frame in range(frames):
            key = cache.key_of(name, frame)
            tiny_relit.write_relit(places.frame(key), key, bytes([frame % 256]), size)
            cache_frames.link(places, TAKE, "main", frame, key)
        if days_old:
            words = json.loads(places.sentinel.read_text())
            places.sentinel.write_text(json.dumps({**words, "last_used": time.time() - days_old * DAY_S}))
        return places

    return make
