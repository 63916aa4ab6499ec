"""A bake killed at any moment: whatever counts as ready afterwards is whole and right.

Nuke (the simulator, in a process of its own), the worker, or both are killed with SIGKILL at random moments of a bake.
After each, a fresh session looks at the cache as Nuke would on opening the script.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import OpenImageIO
import pytest
import tiny_plates

from relightgan.core import infer

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
NUKE = ROOT / "tests" / "nuke_sim" / "bin" / "nuke"
BATCH = ROOT / "nuke_plugin" / "batch.py"
FRAMES = list(range(1001, 1013))
SIZE = (192, 256)
LIMIT_S = 300
SCRIPT = """Root {{
 first_frame 1001
 last_frame 1012
 format "256 192 0 0 256 192 1 small"
}}
Read {{
 inputs 0
 file_type exr
 file {plates}
 first 1001
 last 1012
 origset true
 raw true
 name Read1
}}
RelightGAN {{
 inputs 1
 look {look}
 device cpu
 name RelightGAN1
}}
Write {{
 file {out}
 file_type exr
 create_directories true
 name Write1
}}
"""


@pytest.fixture
def killed_bakes(tmp_path, conv_look, nuke_session, monkeypatch):
    """A script, its true frames, and what kills bakes of it."""
    variables = {
        "RELIGHTGAN_PYTHON": sys.executable,
        "RELIGHTGAN_THREADS": "1",
        "RELIGHTGAN_LOG_DIR": str(tmp_path / "logs"),
        "NUKE_SIM_PYTHON": sys.executable,
        "NUKE_PATH": str(ROOT),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    plates = tiny_plates.write_clip(tmp_path / "plates", FRAMES, size=SIZE, flicker=0.2)
    out = tmp_path / "truth.%04d.exr"
    assert infer.main([str(conv_look), str(plates), str(out), "--device=cpu", "--progress=none"]) == 0
    script = tmp_path / "shot.nk"
    script.write_text(SCRIPT.format(plates=plates, look=conv_look, out=tmp_path / "comp.%04d.exr"))
    return Bakes(script, {frame: rgb(Path(str(out) % frame)) for frame in FRAMES}, nuke_session)


class Bakes:
    def __init__(self, script, truth, nuke_session):
        self.script, self.truth, self.nuke_session = script, truth, nuke_session
        self.cache = script.parent / "relightgan_cache"
        self.log = script.parent / "nuke0.log"

    def start(self, number=0):
        words = [NUKE, "-t", BATCH, f"--script={self.script}", "--bake-only"]
        with self.log.with_name(f"nuke{number}.log").open("wb") as log:
            return subprocess.Popen(
                [str(word) for word in words], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def kill_at(self, frames, delay_s, victim):
        """Bakes from an empty cache, and kills some time after that many frames were begun; how many were ready."""
        shutil.rmtree(self.cache, ignore_errors=True)
        process = self.start()
        while frames and process.poll() is None and len(list(self.cache.glob("*/frames/*"))) < frames:
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay_s)
        children = children_of(process.pid)
        if victim in ("nuke", "both"):
            process.kill()
        if victim in ("worker", "both"):
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        process.wait(LIMIT_S)  # with its worker gone Nuke starts another, or says so; it never hangs
        wait_for_end(children)
        return self.check()

    def check(self):
        """Looks at the cache as a new session; every frame that counts as ready has the true pixels."""
        nuke = self.nuke_session()
        nuke.scriptOpen(str(self.script))
        from relightgan.nuke_plugin import state

        node = nuke.toNode("RelightGAN1")
        state.relink(node)
        found = state.status_of(node, fresh=True)
        pattern = node["result_path"].value().replace("%V", "main")
        for frame in found.ready:
            assert np.array_equal(rgb(Path(pattern % frame)), self.truth[frame]), f"frame {frame}"
        assert found.stale == ()
        assert sorted([*found.ready, *found.missing]) == FRAMES
        for path in self.cache.glob("*/frames/*.exr"):  # also what no take names yet
            assert any(np.array_equal(rgb(path), true) for true in self.truth.values()), path
        return len(found.ready)


def rgb(path):
    image = OpenImageIO.ImageInput.open(str(path))
    assert image is not None, f"{path}: {OpenImageIO.geterror()}"
    pixels = image.read_image(0, 0, 0, 3, "float")
    assert pixels is not None, f"{path}: {image.geterror()}"
    image.close()
    return pixels


def children_of(pid):
    """The processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def wait_for_end(pids):
    """Waits until processes are gone, or only wait to be collected."""
    end = time.monotonic() + LIMIT_S
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, f"{pids} outlive their parent"
        time.sleep(0.05)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_many(bakes, times):
    chance = random.Random(times)
    ready = [
        bakes.kill_at(
            chance.randint(0, len(FRAMES)), chance.uniform(0.0, 0.1), chance.choice(("nuke", "worker", "both"))
        )
        for _ in range(times)
    ]
    assert bakes.start().wait(LIMIT_S) == 0, bakes.log.read_text()
    assert bakes.check() == len(FRAMES)  # and what a killed bake left doesn't keep the next one from finishing
    return ready


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the worker through Linux's /proc")
def test_a_bake_killed_at_random_moments_leaves_no_wrong_or_partial_frame(killed_bakes):
    kill_many(killed_bakes, 6)


def test_processes_that_bake_the_same_frames_at_once_all_succeed_and_share_them(killed_bakes):
    processes = [killed_bakes.start(number) for number in range(3)]
    logs = [killed_bakes.log.with_name(f"nuke{number}.log") for number in range(3)]
    for process, log in zip(processes, logs, strict=True):
        assert process.wait(LIMIT_S) == 0, log.read_text()
    assert killed_bakes.check() == len(FRAMES)
    assert len(list(killed_bakes.cache.glob("*/frames/*"))) == len(FRAMES)  # under one key each, and nothing half


@pytest.mark.slow
def test_a_bake_killed_at_fifty_random_moments_leaves_no_wrong_or_partial_frame(killed_bakes):
    ready = kill_many(killed_bakes, 50)
    print(f"frames ready after each kill: {ready}")
    assert sum(0 < count < len(FRAMES) for count in ready) >= 10  # many of the moments were in the middle
