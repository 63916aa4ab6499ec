import argparse
import sys
import time

import numpy as np
import OpenImageIO
import pytest

from benchmarks import speed
from relightgan.core.errors import RelightError
from relightgan.core.look import load_look

pytestmark = pytest.mark.fits


def read(path):
    image = OpenImageIO.ImageInput.open(str(path))
    pixels = image.read_image("float")
    image.close()
    return pixels


@pytest.mark.process
def test_the_lut_pass_grades_and_writes_every_frame(tmp_path):
    source = speed.write_plates(tmp_path / "plates", 96, 64, frames=3)
    command = speed.lut_pass(speed.write_cube(tmp_path / "grade.cube"), source, argparse.Namespace(frames=3))
    began = time.monotonic()
    turn = speed.run_turn(command, tmp_path / "out.%04d.exr", frames=3)
    assert 0 < 2 * turn.seconds_per_frame < time.monotonic() - began
    assert turn.peak_mib > 10
    plate, graded = read(tmp_path / "plates" / "plate.0002.exr"), read(tmp_path / "out.0002.exr")
    inside = (plate < 1.0).all(axis=-1)
    assert inside.any()
    assert graded[inside][:, 1] == pytest.approx(0.95 * plate[inside][:, 1], rel=2e-3, abs=1e-4)


def test_plates_have_values_above_1_and_differ_from_frame_to_frame(tmp_path):
    pattern = speed.write_plates(tmp_path / "plates", 96, 64, frames=2)
    first, second = (read(str(pattern) % frame) for frame in (1, 2))
    assert first.max() > 2
    assert np.array_equal(np.roll(first, 4, 1), second)


def test_looks_that_were_never_trained_can_be_measured(tmp_path):
    look = load_look(speed.untrained_flagship(tmp_path / "flagship.onnx", {"proxy_px": 64, "depth": 4, "width": 4}))
    assert look.facts.operators == ("grid", "anchor", "doubt", "guide", "white", "rolloff")
    small = {"base_filters": 4, "blocks": 1, "critic_filters": 4}
    assert load_look(speed.untrained_cyclegan(tmp_path / "cyclegan.onnx", small)).facts.operators == ()


@pytest.mark.process
def test_a_process_that_fails_is_told_with_its_last_words(tmp_path):
    def command(target):
        return [sys.executable, "-c", "raise SystemExit('no frames today')"]

    with pytest.raises(RelightError, match="no frames today"):
        speed.run_turn(command, tmp_path / "out.%04d.exr", frames=2)


@pytest.mark.process
def test_peak_memory_is_the_process_s_own_and_not_its_parent_s(tmp_path):
    held = np.ones(2**25)  # 256 MiB that a child, forked from here, would be charged with
    (tmp_path / "out.0001.exr").touch()
    (tmp_path / "out.0002.exr").touch()
    small = speed.run_turn(lambda target: [sys.executable, "-c", "pass"], tmp_path / "out.%04d.exr", frames=2)
    large = speed.run_turn(
        lambda target: [sys.executable, "-c", "b'x' * 2**27"], tmp_path / "out.%04d.exr", frames=2
    )  # fmt: skip
    assert held.nbytes == 2**28
    assert small.peak_mib < 64
    assert large.peak_mib == pytest.approx(small.peak_mib + 128, abs=16)


def test_ratios_compare_medians_and_a_small_frame_is_stretched_by_pixels():
    turns = [speed.Turn(seconds, 1.0, 100.0) for seconds in (0.4, 9.0, 0.5)]
    flagship = speed.summary(speed.FLAGSHIP, "UHD", 3840, 2160, turns)
    lut = speed.summary(speed.LUT, "UHD", 3840, 2160, [speed.Turn(0.25, 1.0, 50.0)])
    small = speed.summary(speed.CYCLEGAN, "small", 480, 270, [speed.Turn(1.0, 1.0, 900.0)])
    uhd = speed.stretched(small, "UHD")
    assert flagship.seconds_per_frame == 0.5
    assert uhd.seconds_per_frame == pytest.approx(64.0)
    assert (uhd.extrapolated_from, uhd.peak_mib) == ("480x270", None)
    assert speed.ratios([flagship, lut, small, uhd]) == {
        "UHD": {"cyclegan / flagship": pytest.approx(128.0), "flagship / LUT": pytest.approx(2.0)}
    }
