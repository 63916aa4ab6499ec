"""One comp with two RelightGAN nodes, rendered in every way there is: the pixels are the same to the bit.

    Read1 → RelightGAN1 (temporal blend) → Grade1 ┐
    Read2 → RelightGAN2 ──────────────────────────┴ Merge1 → Write1

Each way starts with an empty cache. Nuke is the simulator, as a process of its own; the worker is the real one.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import OpenImageIO
import pytest
import tiny_plates

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
NUKE = ROOT / "tests" / "nuke_sim" / "bin" / "nuke"
BATCH = ROOT / "nuke_plugin" / "batch.py"
TEMPLATE = ROOT / "nuke_plugin" / "farm" / "bake_and_render" / "template.yaml"
OPENJD = Path(sys.executable).with_name("openjd")
FRAMES = list(range(1001, 1011))
LIMIT_S = 300
SCRIPT = """Root {{
 first_frame 1001
 last_frame 1010
 format "64 48 0 0 64 48 1 small"
}}
Read {{
 inputs 0
 file_type exr
 file {second}
 first 1001
 last 1010
 origset true
 raw true
 name Read2
}}
RelightGAN {{
 inputs 1
 look {image_look}
 strength 0.8
 device cpu
 name RelightGAN2
}}
Read {{
 inputs 0
 file_type exr
 file {first}
 first 1001
 last 1010
 origset true
 raw true
 name Read1
}}
RelightGAN {{
 inputs 1
 look {operator_look}
 temporal_blend 0.7
 temporal_window 2
 exposure 0.5
 device cpu
 name RelightGAN1
}}
Grade {{
 white 1.3
 black_clamp false
 name Grade1
}}
Merge2 {{
 inputs 2
 operation plus
 name Merge1
}}
Write {{
 file {out}
 file_type exr
 channels rgba
 raw true
 datatype "32 bit float"
 create_directories true
 name Write1
}}
"""


@pytest.fixture
def shot(tmp_path, darken_grid_look, conv_look):
    """The plates and looks; `shot(way)` writes the script into a folder of its own, so that its cache is empty."""
    plates = [
        tiny_plates.write_clip(tmp_path / name, FRAMES, size=(48, 64), flicker=flicker)
        for name, flicker in (("first", 0.3), ("second", 0.1))
    ]

    def make(way: str) -> Path:
        folder = tmp_path / way
        folder.mkdir()
        text = SCRIPT.format(
            first=plates[0],
            second=plates[1],
            operator_look=darken_grid_look,
            image_look=conv_look,
            out=folder / "out" / "comp.%04d.exr",
        )
        script = folder / "shot.nk"
        script.write_text(text)
        return script

    return make


@pytest.fixture
def environment(tmp_path):
    """What a Nuke process is started with."""
    return {
        **os.environ,
        "NUKE_SIM_PYTHON": sys.executable,
        "NUKE_PATH": str(ROOT),
        "RELIGHTGAN_PYTHON": sys.executable,
        "RELIGHTGAN_THREADS": "1",
        "RELIGHTGAN_LOG_DIR": str(tmp_path / "logs"),
    }


def run(command, environment):
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def results(script):
    """Channels, windows and pixels of every rendered file by name; a header also has the time of day."""
    return {path.name: picture(path) for path in sorted((script.parent / "out").iterdir())}


def picture(path):
    image = OpenImageIO.ImageInput.open(str(path))
    assert image is not None, OpenImageIO.geterror()
    spec = image.spec()
    pixels = image.read_image(0, 0, 0, spec.nchannels, "float").tobytes()
    image.close()
    return spec.channelnames, (spec.x, spec.y, spec.width, spec.height, spec.full_width, spec.full_height), pixels


def baked_by_hand_then_executed(script, environment, nuke_session, monkeypatch):
    for name in ("RELIGHTGAN_PYTHON", "RELIGHTGAN_THREADS", "RELIGHTGAN_LOG_DIR"):
        monkeypatch.setenv(name, environment[name])
    nuke = nuke_session(gui=True)
    nuke.scriptOpen(str(script))
    for name in ("RelightGAN2", "RelightGAN1"):
        nuke.toNode(name)["relight_range"].execute()
    from nuke_simulator import control

    from relightgan.nuke_plugin import client

    client.stop_shared()
    assert control.messages() == []
    nuke.scriptSaveAs(str(script), overwrite=True)
    run([NUKE, "-x", script], environment)
    return results(script)


def batch(script, environment):
    run([NUKE, "-t", BATCH, f"--script={script}", "--write=Write1", "--frames=1001-1010"], environment)
    return results(script)


def one_process_for_each_frame(script, environment):
    shuffled = random.Random(7).sample(FRAMES, len(FRAMES))
    assert shuffled != FRAMES
    for frame in shuffled:
        run([NUKE, "-t", BATCH, f"--script={script}", "--write=Write1", f"--frames={frame}"], environment)
    return results(script)


def baked_in_batch_then_executed_frame_by_frame(script, environment):
    run([NUKE, "-t", BATCH, f"--script={script}", "--bake-only"], environment)
    for frame in random.Random(11).sample(FRAMES, len(FRAMES)):
        run([NUKE, "-F", str(frame), "-X", "Write1", script], environment)
    return results(script)


def farm(script, environment):
    words = {
        "Script": script, "Batch": BATCH, "Nuke": NUKE, "Device": "cpu", "BakeChunk": 3, "RenderChunk": 4,
        "Frames": "1001-1010",
    }  # fmt: skip
    options = [word for key, value in words.items() for word in ("-p", f"{key}={value}")]
    run([OPENJD, "run", TEMPLATE, "--step", "Render", "--run-dependencies", *options], environment)
    return results(script)


def different(found, wanted):
    """The names of files that only one side has, or that differ."""
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def test_every_way_to_render_a_comp_gives_the_same_bits(shot, environment, nuke_session, monkeypatch):
    by_hand = baked_by_hand_then_executed(shot("by_hand"), environment, nuke_session, monkeypatch)
    assert len(by_hand) == len(FRAMES)
    assert len({pixels for _, _, pixels in by_hand.values()}) == len(FRAMES)
    assert different(batch(shot("batch"), environment), by_hand) == []
    assert different(one_process_for_each_frame(shot("frames"), environment), by_hand) == []
    assert different(baked_in_batch_then_executed_frame_by_frame(shot("executed"), environment), by_hand) == []
    assert different(farm(shot("farm"), environment), by_hand) == []
