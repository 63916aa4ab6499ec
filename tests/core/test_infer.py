"""`relightgan infer` through its command line, on real files; what needs another process is in the journey."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import OpenImageIO
import pytest
import tiny_looks
import tiny_plates

from relightgan.core import cli, devices
from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.core.movies import MovieReader, MovieWriter

ROOT = Path(__file__).resolve().parents[2]
FRAMES = range(1, 8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """A moving, flickering clip of frames 1 to 7, only to be read."""
    return tiny_plates.write_clip(tmp_path_factory.mktemp("clip"), FRAMES, flicker=0.3)


@pytest.fixture
def infer(capsys):
    """Runs `relightgan infer` and gives its exit code, stdout and stderr."""

    def run(*words):
        device = () if "--device" in words else ("--device", "cpu")
        code = cli.main(["infer", *map(str, words), *device])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def error_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "Error" in line]


def test_a_range_is_relit_and_the_log_says_what_ran_and_how(
    clip,
    infer,
    darken_grid_look,
    tmp_path,
):
    code, out, log = infer(darken_grid_look, clip, tmp_path / "out" / "r.####.exr", "--frames", "2-3,5")
    assert (code, out) == (0, "")
    assert files(tmp_path / "out") == ["r.0002.exr", "r.0003.exr", "r.0005.exr"]
    before, after = tiny_plates.read_rgb(clip % 5), tiny_plates.read_rgb(tmp_path / "out" / "r.0005.exr")
    assert np.all(after < before)
    assert "Running on CPU" in log
    assert "as asked" in log
    assert "scene-linear lin_rec709" in log
    assert re.search(r"3/3 frames, [\d.]+ frames/s, 0:00:00 left", log)
    assert "Error" not in log


def test_all_frames_there_are_is_the_default(
    clip,
    infer,
    identity_look,
    tmp_path,
):
    assert infer(identity_look, clip, tmp_path / "r.%04d.exr")[0] == 0
    assert files(tmp_path) == [f"r.{f:04d}.exr" for f in FRAMES]
    for frame in FRAMES:
        np.testing.assert_array_equal(
            tiny_plates.read_rgb(tmp_path / f"r.{frame:04d}.exr"), tiny_plates.read_rgb(clip % frame)
        )


@pytest.mark.parametrize("look", ["darken_grid_look", "conv_look"])
def test_one_frame_alone_equals_that_frame_of_the_range_and_chunks_do_not_matter(clip, infer, look, tmp_path, request):
    look = request.getfixturevalue(look)
    blend = ("--temporal-blend", "0.8", "--temporal-window", "2")
    assert infer(look, clip, tmp_path / "all" / "r.%04d.exr", *blend)[0] == 0
    for chunk in ("6-7", "4", "1-3", "5"):
        assert infer(look, clip, tmp_path / "chunks" / "r.%04d.exr", "--frames", chunk, *blend)[0] == 0
    assert infer(look, clip, tmp_path / "single" / "r.%04d.exr")[0] == 0
    for frame in FRAMES:
        name = f"r.{frame:04d}.exr"
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "chunks" / name).read_bytes()
        assert (tmp_path / "all" / name).read_bytes() != (tmp_path / "single" / name).read_bytes()


def test_blend_nought_equals_no_blend_to_the_bit(
    clip,
    infer,
    darken_grid_look,
    tmp_path,
):
    infer(darken_grid_look, clip, tmp_path / "a.%04d.exr", "--temporal-blend", "0", "--temporal-window", "3")
    infer(darken_grid_look, clip, tmp_path / "b.%04d.exr", "--temporal-window", "0", "--temporal-blend", "1")
    infer(darken_grid_look, clip, tmp_path / "c.%04d.exr")
    for frame in FRAMES:
        pictures = [tiny_plates.read_rgb(tmp_path / f"{name}.{frame:04d}.exr").tobytes() for name in "abc"]
        assert pictures[0] == pictures[1] == pictures[2]


def test_a_still_is_one_frame(
    clip,
    infer,
    darken_grid_look,
    tmp_path,
):
    assert infer(darken_grid_look, clip % 3, tmp_path / "still.exr")[0] == 0
    infer(darken_grid_look, clip, tmp_path / "r.%04d.exr", "--frames", "3")
    np.testing.assert_array_equal(
        tiny_plates.read_rgb(tmp_path / "still.exr"), tiny_plates.read_rgb(tmp_path / "r.0003.exr")
    )


def test_what_was_done_stands_in_the_file(clip, infer, darken_grid_look, tmp_path):
    infer(darken_grid_look, clip % 3, tmp_path / "still.exr", "--strength", "0.5")
    spec = OpenImageIO.ImageInput.open(str(tmp_path / "still.exr")).spec()
    assert spec.get_string_attribute("relightgan/look").startswith("darken ")
    assert "strength=0.5" in spec.get_string_attribute("relightgan/settings")


def test_nan_is_counted_and_what_half_cannot_hold_too(
    infer,
    identity_look,
    tmp_path,
):
    rgb = np.ones((8, 8, 3), np.float32)
    rgb[1, 1, 0], rgb[2, 2] = np.nan, np.inf
    tiny_plates.write_exr(tmp_path / "p.0004.exr", tiny_plates.rgb_channels(rgb))
    code, _, log = infer(identity_look, tmp_path / "p.%04d.exr", tmp_path / "r.%04d.exr")
    assert code == 0
    assert "Frame 4: 4 values are NaN or infinite and stay as they are." in log
    np.testing.assert_array_equal(tiny_plates.read_rgb(tmp_path / "r.0004.exr"), rgb)


def test_values_beyond_half_are_held_and_counted(
    infer,
    tmp_path,
):
    look = tiny_looks.gain_look(tmp_path / "x4.onnx", 4.0, encoding="linear", value_range="unbounded")
    rgb = np.full((8, 8, 3), 0.5, np.float32)
    rgb[3, 3] = 60000
    tiny_plates.write_exr(tmp_path / "p.0004.exr", tiny_plates.rgb_channels(rgb))
    code, _, log = infer(look, tmp_path / "p.%04d.exr", tmp_path / "r.%04d.exr")
    assert code == 0
    assert "Frame 4: 3 values beyond what the file can hold" in log
    assert tiny_plates.read_rgb(tmp_path / "r.0004.exr").max() == 65504


def test_a_mask_sequence_and_a_mask_for_all_frames(
    clip,
    infer,
    darken_grid_look,
    tmp_path,
):
    mask = np.zeros((72, 96), np.float32)
    mask[:, 48:] = 1
    tiny_plates.write_exr(tmp_path / "still.exr", {"A": mask})
    for frame in (2, 3):
        tiny_plates.write_exr(tmp_path / f"m.{frame:04d}.exr", {"A": mask, "B": 1 - mask})
    words = (darken_grid_look, clip, "--frames", "2-3")
    assert infer(*words[:2], tmp_path / "a.%04d.exr", *words[2:], "--mask", tmp_path / "still.exr")[0] == 0
    assert infer(*words[:2], tmp_path / "b.%04d.exr", *words[2:], "--mask", tmp_path / "m.%04d.exr")[0] == 0
    other = ("--mask", tmp_path / "m.%04d.exr", "--mask-channel", "B")
    assert infer(*words[:2], tmp_path / "c.%04d.exr", *words[2:], *other)[0] == 0
    plate, a, b, c = (tiny_plates.read_rgb(p) for p in (clip % 3, *(tmp_path / f"{n}.0003.exr" for n in "abc")))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a[:, :48], plate[:, :48])
    np.testing.assert_array_equal(c[:, 48:], plate[:, 48:])
    assert np.all(a[:, 48:] < plate[:, 48:])


def test_farm_progress_goes_to_stdout(clip, infer, identity_look, tmp_path):
    code, out, log = infer(identity_look, clip, tmp_path / "r.%04d.exr", "--progress", "openjd")
    assert code == 0
    assert "openjd_progress: 100.0" in out.splitlines()
    assert all(line.startswith("openjd_") for line in out.splitlines())
    assert "Error" not in log


# What is there already


def test_frames_that_are_there_are_kept_unless_told_otherwise(clip, infer, darken_grid_look, tmp_path):
    target = tmp_path / "r.%04d.exr"
    infer(darken_grid_look, clip, target, "--frames", "2-3")
    first = (tmp_path / "r.0002.exr").read_bytes()
    code, _, log = infer(darken_grid_look, clip, target, "--frames", "1-4", "--strength", "0.5")
    assert code == 1
    assert error_lines(log) == [f"Error: Frames 2-3 of {target} are there already. Use --overwrite or --skip-existing."]
    assert files(tmp_path) == ["r.0002.exr", "r.0003.exr"]

    assert infer(darken_grid_look, clip, target, "--frames", "1-4", "--strength", "0.5", "--skip-existing")[0] == 0
    assert files(tmp_path) == [f"r.{f:04d}.exr" for f in (1, 2, 3, 4)]
    assert (tmp_path / "r.0002.exr").read_bytes() == first

    code, _, log = infer(darken_grid_look, clip, target, "--frames", "1-4", "--skip-existing")
    assert code == 0
    assert "nothing to do" in log

    assert infer(darken_grid_look, clip, target, "--frames", "1-4", "--strength", "0.5", "--overwrite")[0] == 0
    assert (tmp_path / "r.0002.exr").read_bytes() != first


def test_plates_are_never_written_over(clip, infer, darken_grid_look, tmp_path):
    (tmp_path / "link").symlink_to(Path(clip).parent)
    before = [Path(clip % f).read_bytes() for f in FRAMES]
    for target in (clip, tmp_path / "link" / "plates.####.exr", clip % 3):
        code, _, log = infer(darken_grid_look, clip, target, "--frames", "3", "--overwrite")
        assert code == 2
        assert "would be overwritten by its own result" in log
    assert [Path(clip % f).read_bytes() for f in FRAMES] == before


# What can't be done: one clear line, exit code 1, nothing half done


def failure(result, folder=None, code=1) -> str:
    """The one error line of a run that failed, after looking for leftovers."""
    found, out, log = result
    assert found == code
    assert out == ""
    lines = error_lines(log)
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert log.splitlines()[-1] == lines[0]
    assert "Traceback" not in log
    if folder:
        assert files(folder) == []
    return lines[0]


def test_missing_frames_are_named(clip, infer, identity_look, tmp_path):
    line = failure(infer(identity_look, clip, tmp_path / "o" / "r.%04d.exr", "--frames", "5-12,20"), tmp_path / "o")
    assert clip in line
    assert "8-12,20" in line


def test_no_frames_at_all(infer, identity_look, tmp_path):
    assert "There are no frames" in failure(
        infer(identity_look, tmp_path / "p.%04d.exr", tmp_path / "o" / "r.%04d.exr")
    )


def test_a_gap_within_the_temporal_window_is_named(
    infer,
    identity_look,
    tmp_path,
):
    clip = tiny_plates.write_clip(tmp_path / "clip", [1, 2, 4, 5])
    target = tmp_path / "o" / "r.%04d.exr"
    line = failure(infer(identity_look, clip, target, "--frames", "5", "--temporal-blend", "1"), tmp_path / "o")
    assert "frame 3." in line
    assert (
        infer(identity_look, clip, target, "--frames", "5", "--temporal-blend", "1", "--temporal-window", "1")[0] == 0
    )


def test_a_range_that_makes_no_sense(clip, infer, identity_look, tmp_path):
    assert "'12-'" in failure(infer(identity_look, clip, tmp_path / "r.%04d.exr", "--frames", "12-"))


def test_an_empty_range_is_no_silent_everything(clip, infer, identity_look, tmp_path):
    assert "no number or range" in failure(infer(identity_look, clip, tmp_path / "r.%04d.exr", "--frames", ""))


def test_names_too_long_for_the_system_are_named(clip, infer, identity_look, tmp_path):
    long = "x" * 300 + ".exr"
    assert f"{long}: File name too long." in failure(infer(identity_look, clip % 1, tmp_path / long), tmp_path)
    assert f"{long}: File name too long." in failure(infer(identity_look, long, tmp_path / "a.exr"), tmp_path)


def test_a_working_space_that_the_plate_cannot_be_in_is_not_blamed_on_the_look(infer, identity_look, tmp_path):
    bright = tiny_plates.rgb_channels(np.full((4, 4, 3), 60000, np.float32))
    plate = tiny_plates.write_exr(tmp_path / "p.exr", bright)
    line = failure(infer(identity_look, plate, tmp_path / "r.exr", "--working-space", "ACEScct"))
    assert "p.exr has values up to 59" in line or "p.exr has values up to 60000" in line
    assert "too large for ACEScct" in line


def in_a_shell(words, streams):
    line = f'"{sys.executable}" -m relightgan {words} {streams}'
    return subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_streams_that_are_closed_or_full(clip, identity_look, tmp_path):
    for words in (f"look {identity_look}", f"look {identity_look} --json", "--help", "--version", "doctor"):
        full = in_a_shell(words, ">/dev/full")
        assert full.returncode == 1
        assert full.stderr.startswith("Error: The output: the disk is full (No space left on device).")
        assert full.stderr.count("\n") == 1
    nowhere = in_a_shell(f"look {tmp_path / 'no.onnx'}", ">/dev/full 2>/dev/full")
    assert nowhere.returncode == 1  # not 120, with which Python ends where it can't write its own complaint
    closed = in_a_shell(f"infer {identity_look} {clip % 1} {tmp_path / 'a.exr'} --device cpu", "<&- 2>&-")
    assert (closed.returncode, closed.stdout, files(tmp_path)) == (0, "", ["a.exr"])


def test_frames_of_another_size_within_the_window(
    infer,
    darken_grid_look,
    tmp_path,
):
    for frame in range(1, 8):
        rgb = tiny_plates.texture(24, 32 if frame < 6 else 40)
        tiny_plates.write_exr(tmp_path / f"p.{frame:04d}.exr", tiny_plates.rgb_channels(rgb))
    words = (darken_grid_look, tmp_path / "p.%04d.exr", tmp_path / "o" / "r.%04d.exr")
    line = failure(infer(*words, "--temporal-blend", "0.5"))
    assert "Frame 6 is 40x24 and frame 4 is 32x24" in line
    assert files(tmp_path / "o") == ["r.0001.exr", "r.0002.exr", "r.0003.exr"]  # those before are finished and whole
    assert tiny_plates.read_rgb(tmp_path / "o" / "r.0003.exr").shape == (24, 32, 3)
    assert infer(*words, "--overwrite")[0] == 0  # frame by frame sizes may differ


def test_a_damaged_frame_is_named_and_those_before_are_whole(
    infer,
    darken_grid_look,
    tmp_path,
):
    clip = tiny_plates.write_clip(tmp_path / "clip", range(1, 6))
    whole = Path(clip % 3).read_bytes()
    Path(clip % 3).write_bytes(whole[: len(whole) // 2])
    line = failure(infer(darken_grid_look, clip, tmp_path / "o" / "r.%04d.exr"))
    assert "plates.0003.exr" in line
    assert files(tmp_path / "o") == ["r.0001.exr", "r.0002.exr"]
    assert tiny_plates.read_rgb(tmp_path / "o" / "r.0002.exr").shape == (72, 96, 3)


def test_a_mask_of_another_size_or_missing(
    clip,
    infer,
    identity_look,
    tmp_path,
):
    tiny_plates.write_exr(tmp_path / "m.0001.exr", {"A": np.ones((10, 10))})
    words = (identity_look, clip, tmp_path / "o" / "r.%04d.exr", "--mask")
    assert "m.0001.exr is 10x10, its plate" in failure(infer(*words, tmp_path / "m.0001.exr"), tmp_path / "o")
    assert "m.%04d.exr lacks 6 frames: 2-7" in failure(infer(*words, tmp_path / "m.%04d.exr"), tmp_path / "o")


def test_an_output_folder_that_cannot_be_made(clip, infer, identity_look, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    line = failure(infer(identity_look, clip, tmp_path / "file" / "r.%04d.exr"))
    assert f"r.%04d.exr can't be written: {tmp_path / 'file'} is no folder" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_output_folder(clip, infer, identity_look, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o").chmod(0o555)
    assert "can't be written: Permission denied" in failure(
        infer(identity_look, clip, tmp_path / "o" / "r.%04d.exr"), tmp_path / "o"
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system nobody can write to")
def test_a_read_only_file_system(clip, infer, identity_look):
    assert "can't be written" in failure(infer(identity_look, clip, "/proc/relightgan/r.%04d.exr"))


def test_a_look_that_cannot_be_read(clip, infer, identity_look, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(identity_look.read_bytes()[:40])
    target = tmp_path / "o" / "r.%04d.exr"
    assert "bad.onnx" in failure(infer(tmp_path / "bad.onnx", clip, target), tmp_path / "o")
    assert "none.onnx" in failure(infer(tmp_path / "none.onnx", clip, target), tmp_path / "o")


def test_cuda_where_there_is_none_is_an_error_and_no_fall_back(clip, infer, identity_look, tmp_path):
    if devices.start_trouble(devices.CUDA) is None:
        pytest.skip("CUDA starts here")
    failure(infer(identity_look, clip, tmp_path / "o" / "r.%04d.exr", "--device", "cuda"), tmp_path / "o")


def test_an_unknown_working_space_lists_the_near_ones(clip, infer, identity_look, tmp_path):
    line = failure(infer(identity_look, clip, tmp_path / "r.%04d.exr", "--working-space", "ACESgc"))
    assert "ACEScg" in line


@pytest.mark.parametrize(
    "words",
    [("--strength", "2"), ("--temporal-window", "-1"), ("--device", "gpu"), ("--fact", "encoding")],
    ids=lambda words: words[0],
)
def test_settings_that_make_no_sense_are_usage_errors(clip, infer, identity_look, tmp_path, words):
    failure(infer(identity_look, clip, tmp_path / "o" / "r.%04d.exr", *words), tmp_path / "o", code=2)


def test_words_that_make_no_sense_are_usage_errors(clip, infer, identity_look, tmp_path):
    for words in (("--tile", "0"), ("--fps", "nan"), ("--overwrite", "--skip-existing"), ("--progress", "loud")):
        with pytest.raises(SystemExit) as stopped:
            infer(identity_look, clip, tmp_path / "r.%04d.exr", *words)
        assert stopped.value.code == 2


def test_several_frames_into_one_still_and_unknown_kinds_of_file(clip, infer, identity_look, tmp_path):
    assert "7 frames can't go into the one file" in failure(infer(identity_look, clip, tmp_path / "r.exr"), code=2)
    assert "'.dpx' isn't a kind of file" in failure(infer(identity_look, clip, tmp_path / "r.%04d.dpx"), code=2)


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["infer", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "plates.%04d.exr" in text


def test_a_model_that_is_not_ours_needs_its_facts(
    clip,
    infer,
    tmp_path,
):
    import onnx

    model = onnx.load(tiny_looks.gain_look(tmp_path / "ours.onnx", 0.5, encoding="linear"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    words = (tmp_path / "foreign.onnx", clip % 3, tmp_path / "r.exr")
    assert "--fact NAME=VALUE for each of: encoding" in failure(infer(*words))
    facts = ("encoding=linear", "value_range=unit", "primaries=lin_rec709", "size_multiple=1", "overlap_px=0")
    assert infer(*words, *(word for fact in facts for word in ("--fact", fact)))[0] == 0
    assert np.all(tiny_plates.read_rgb(tmp_path / "r.exr") < tiny_plates.read_rgb(clip % 3))


# Display-referred files


@pytest.fixture
def movie(
    tmp_path,
):
    """A ProRes movie of six frames, and the sRGB values it was made of."""
    frames = [np.clip(linear_to_srgb(tiny_plates.texture(64, 96, seed=f, cells=(3, 6)) / 2), 0, 1) for f in range(6)]
    with MovieWriter(tmp_path / "in.mov", 25, (96, 64)) as writer:
        for frame in frames:
            writer.write(frame)
    return tmp_path / "in.mov", frames


def test_a_movie_becomes_linear_frames(
    movie,
    infer,
    identity_look,
    tmp_path,
):
    path, frames = movie
    code, _, log = infer(identity_look, path, tmp_path / "r.%03d.exr", "--frames", "2-6x2")
    assert code == 0
    assert "taken as sRGB and made linear lin_rec709" in log
    assert files(tmp_path) == ["in.mov", "r.002.exr", "r.004.exr", "r.006.exr"]
    result = tiny_plates.read_rgb(tmp_path / "r.004.exr")
    with MovieReader(path) as reader:
        np.testing.assert_allclose(result, srgb_to_linear(reader.read(3)), rtol=1e-3, atol=1e-5)  # 16-bit floats
    assert np.abs(linear_to_srgb(result) - frames[3]).mean() < 0.02


def test_a_movie_becomes_a_movie(movie, infer, identity_look, tmp_path):
    path, _ = movie
    code, _, log = infer(
        identity_look, path, tmp_path / "out.mov", "--working-space", "ACEScg", "--temporal-blend", "1"
    )
    assert code == 0
    assert "25 frames a second, sRGB" in log
    with MovieReader(path) as before, MovieReader(tmp_path / "out.mov") as after:
        assert (after.frame_count, float(after.fps), after.size) == (6, 25.0, (96, 64))
        for index in range(6):
            assert np.abs(after.read(index) - before.read(index)).mean() < 0.005  # once more through ProRes
    assert files(tmp_path) == ["in.mov", "out.mov"]


def test_frames_become_a_movie_of_the_display_window(
    infer,
    identity_look,
    tmp_path,
):
    rgb = tiny_plates.texture(40, 60, cells=(3, 5))
    window = {"data_origin": (10, -4), "display": (0, 0, 64, 48)}
    for frame in range(1, 4):
        tiny_plates.write_exr(tmp_path / f"p.{frame:04d}.exr", tiny_plates.rgb_channels(rgb), **window)
    assert infer(identity_look, tmp_path / "p.%04d.exr", tmp_path / "out.mov", "--fps", "30")[0] == 0
    with MovieReader(tmp_path / "out.mov") as movie:
        assert (movie.frame_count, float(movie.fps), movie.size) == (3, 30.0, (64, 48))
        picture = movie.read(1)
    want = np.zeros((48, 64, 3), np.float32)
    want[:36, 10:] = np.clip(linear_to_srgb(rgb[4:, :54]), 0, 1)
    assert np.abs(picture - want).mean() < 0.02


def test_a_movie_that_cannot_be_finished_leaves_nothing(movie, infer, identity_look, tmp_path):
    path, _ = movie
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    failure(infer(identity_look, path, tmp_path / "out.mp4"))
    assert files(tmp_path) == ["in.mov"]


def test_frames_a_movie_does_not_have(movie, infer, identity_look, tmp_path):
    assert "has no frames 0,7" in failure(infer(identity_look, movie[0], tmp_path / "r.%03d.exr", "--frames", "0-7x7"))


def test_png_is_taken_as_srgb_and_comes_back_as_such(
    infer,
    identity_look,
    tmp_path,
):
    steps = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(4, 2)
    steps[..., 3] = 255
    steps[0, :, 3] = 128
    spec = OpenImageIO.ImageSpec(16, 16, 4, "uint8")
    out = OpenImageIO.ImageOutput.create("png")
    assert out.open(str(tmp_path / "p.png"), spec)
    assert out.write_image(steps)
    out.close()
    code, _, log = infer(identity_look, tmp_path / "p.png", tmp_path / "same.png")
    assert code == 0
    assert "sRGB pictures, made linear" in log
    pixels = [
        OpenImageIO.ImageBuf(str(tmp_path / name)).get_pixels(OpenImageIO.UINT8) for name in ("p.png", "same.png")
    ]
    assert np.abs(pixels[0].astype(int) - pixels[1]).max() <= 1
    np.testing.assert_array_equal(pixels[0][..., 3], pixels[1][..., 3])

    assert infer(identity_look, tmp_path / "p.png", tmp_path / "linear.exr")[0] == 0
    linear = tiny_plates.read_rgb(tmp_path / "linear.exr")
    np.testing.assert_allclose(
        linear[1:, :, 0], srgb_to_linear(steps[1:, :, 0] / np.float32(255)), rtol=2e-3, atol=1e-6
    )
    assert infer(identity_look, tmp_path / "linear.exr", tmp_path / "back.png")[0] == 0
    back = OpenImageIO.ImageBuf(str(tmp_path / "back.png"))
    assert np.abs(back.get_pixels(OpenImageIO.FLOAT)[1:, :, :3] * 255 - steps[1:, :, :3]).max() <= 1
