"""A farm's day: a shot relit in chunks by several processes, masks, alpha, another working space, and being stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import OpenImageIO
import pytest
import tiny_plates

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "relightgan.core.cli", "infer"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def infer(*words, **options) -> subprocess.CompletedProcess:
    command = [*COMMAND, *map(str, words), "--device", "cpu"]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False, **options)


def names(folder: Path) -> list[str]:
    """Every file in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_shot_relit_in_chunks_by_several_processes_is_the_shot_relit_in_one_go(tmp_path, darken_grid_look):
    height, width, origin = 90, 140, (-6, 4)
    window = {"data_origin": origin, "display": (0, 0, 128, 96), "framesPerSecond": 24.0, "nuke/node_hash": "1a2b"}
    big = tiny_plates.texture(height + 20, width + 20)
    alpha = np.tile(np.clip(np.linspace(-0.2, 1.2, width), 0, 1), (height, 1)).astype(np.float32)
    for frame in range(1001, 1007):
        shift = 2 * (1006 - frame)
        rgb = big[shift : shift + height, shift : shift + width] * alpha[..., None]
        rgb[5, 7, 1] = np.nan
        others = {"A": alpha, "depth.Z": np.full((height, width), frame, np.float32)}
        tiny_plates.write_exr(tmp_path / "in" / f"p.{frame}.exr", tiny_plates.rgb_channels(rgb, **others), **window)
    mask = np.zeros((96, 128), np.float32)
    mask[20:70, 30:90] = 0.75
    tiny_plates.write_exr(tmp_path / "mask.exr", {"A": mask})
    words = (
        "--mask",
        tmp_path / "mask.exr",
        "--working-space",
        "ACEScg",
        "--exposure",
        "0.5",
        "--temporal-blend",
        "0.7",
    )
    plates = tmp_path / "in" / "p.%04d.exr"

    whole = infer(darken_grid_look, plates, tmp_path / "whole" / "r.####.exr", *words)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout == ""
    assert "Frame 1003: 1 values are NaN or infinite" in whole.stderr
    for chunk in ("1005-1006,1001", "1002-1004"):
        done = infer(darken_grid_look, plates, tmp_path / "chunks" / "r.%04d.exr", "--frames", chunk, *words)
        assert done.returncode == 0, done.stderr
    assert names(tmp_path / "whole") == names(tmp_path / "chunks") == [f"r.{frame}.exr" for frame in range(1001, 1007)]
    for name in names(tmp_path / "whole"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "chunks" / name).read_bytes()

    before = tiny_plates.read_exr(tmp_path / "in" / "p.1003.exr")
    after = tiny_plates.read_exr(tmp_path / "whole" / "r.1003.exr")
    assert set(after) == set(before)
    assert all(after[name].tobytes() == before[name].tobytes() for name in ("A", "depth.Z"))
    over = np.zeros((height, width), bool)  # the mask's part of the display, seen from the data window
    over[16:66, 36:96] = True
    lit = before["R"] > 0
    np.testing.assert_array_equal(after["R"][~over], before["R"][~over])
    assert np.all(after["R"][over & lit] < before["R"][over & lit])
    np.testing.assert_array_equal(np.isnan(after["G"]), np.isnan(before["G"]))

    spec = OpenImageIO.ImageInput.open(str(tmp_path / "whole" / "r.1003.exr")).spec()
    assert (spec.x, spec.y, spec.width, spec.height) == (*origin, width, height)
    assert (spec.full_width, spec.full_height) == (128, 96)
    assert spec.get_string_attribute("nuke/node_hash") == "1a2b"


def test_ctrl_c_leaves_whole_frames_and_no_others(tmp_path, conv_look):
    first = tiny_plates.write_exr(
        tmp_path / "in" / "p.0001.exr", tiny_plates.rgb_channels(tiny_plates.texture(300, 400))
    )
    for frame in range(2, 301):
        (tmp_path / "in" / f"p.{frame:04d}.exr").hardlink_to(first)
    target = tmp_path / "out"
    command = [
        *COMMAND,
        str(conv_look),
        str(tmp_path / "in" / "p.%04d.exr"),
        str(target / "r.%04d.exr"),
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (target / "r.0003.exr").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, log = process.communicate(timeout=300)
    assert process.returncode == 130, log
    assert out == ""
    assert "Cancelled" in log
    assert "Error" not in log
    assert "Traceback" not in log
    done = names(target)
    assert done == [f"r.{frame:04d}.exr" for frame in range(1, len(done) + 1)]
    assert 3 <= len(done) < 300
    for name in done:
        assert tiny_plates.read_rgb(target / name).shape == (300, 400, 3)

    # The same command goes on where it stopped.
    more = infer(*command[4:7], "--frames", f"1-{len(done) + 2}", "--skip-existing")
    assert more.returncode == 0, more.stderr
    assert len(names(target)) == len(done) + 2


def test_a_movie_that_the_farm_stops_is_not_there(tmp_path, conv_look):
    first = tiny_plates.write_exr(
        tmp_path / "in" / "p.0001.exr", tiny_plates.rgb_channels(tiny_plates.texture(300, 400))
    )
    for frame in range(2, 301):
        (tmp_path / "in" / f"p.{frame:04d}.exr").hardlink_to(first)
    (tmp_path / "out").mkdir()
    command = [
        *COMMAND,
        str(conv_look),
        str(tmp_path / "in" / "p.%04d.exr"),
        str(tmp_path / "out" / "r.mov"),
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not names(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 130, log
    assert names(tmp_path / "out") == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux gives it")
def test_a_uhd_frame_takes_less_than_three_gigabytes(tmp_path, darken_grid_look):
    rgb = np.tile(tiny_plates.texture(540, 960), (4, 4, 1))
    others = {"A": np.full(rgb.shape[:2], 0.5, np.float32)}
    first = tiny_plates.write_exr(tmp_path / "p.0001.exr", tiny_plates.rgb_channels(rgb, **others))
    for frame in range(2, 6):
        (tmp_path / f"p.{frame:04d}.exr").hardlink_to(first)
    words = (darken_grid_look, tmp_path / "p.%04d.exr", tmp_path / "out" / "r.%04d.exr", "--working-space", "ACEScg")
    script = "import resource, sys; from relightgan.core.cli import main; code = main(); " \
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"  # fmt: skip
    command = [sys.executable, "-c", script, "infer", *map(str, words), "--temporal-blend", "1", "--strength", "0.5"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 3e9
