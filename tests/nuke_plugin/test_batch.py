"""`nuke -t batch.py` as a process: exit codes, the words in the log, and frames that a plain `nuke -x` then finds.

The program is the simulated Nuke's; worker, looks and files are real. Only the path of batch.py leads to the plug-in:
unless a test says otherwise there is no NUKE_PATH.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import small_comps
import tiny_plates

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
NUKE = ROOT / "tests" / "nuke_sim" / "bin" / "nuke"
BATCH = ROOT / "nuke_plugin" / "batch.py"
FRAMES = list(range(1001, 1007))
FARM_FAILS_ON = re.compile(r"ERROR:|Error ?:")  # as in deadline-cloud-for-nuke's adaptor

HEADER = """version 14.0 v5
Root {
 inputs 0
 name "%(script)s"
 first_frame 1001
 last_frame 1006
 proxy_scale 0.5
 format "32 24 0 0 32 24 1 tiny"
%(views)s}
"""
STEREO = ' views "left #ff0000\\nright #00ff00"\n'
READ = """Read {
 inputs 0
 file "%(plates)s"
 first 1001
 last 1006
 raw true
 name Read1
}
"""
RELIGHT = """RelightGAN {
 look "%(look)s"
 device cpu
 name RelightGAN1
%(knobs)s}
"""
WRITE = """Write {
 file "%(out)s"
 file_type exr
 datatype "32 bit float"
 channels all
 raw true
 create_directories true
 name Write1
%(write)s}
"""


@pytest.fixture
def shot(darken_grid_look, tmp_path):
    """A saved script Read → RelightGAN → Write, and how to run Nuke on it."""
    folder = tmp_path / "a shot"
    plates = tiny_plates.write_clip(folder / "plates", FRAMES, size=small_comps.SIZE, flicker=0.3)
    made = SimpleNamespace(folder=folder, plates=plates, look=darken_grid_look, script=folder / "shot.nk")
    made.out = folder / "out" / "relit.%04d.exr"
    made.values = {"plates": plates, "look": darken_grid_look, "out": made.out, "script": made.script.as_posix()}
    made.values.update(knobs="", write="", views="")
    made.env = {
        **os.environ,
        **small_comps.environment(tmp_path),
        "HOME": str(tmp_path),
        "NUKE_SIM_PYTHON": sys.executable,
    }
    made.env.pop("NUKE_PATH", None)

    def save(*pieces, **values):
        made.script.write_text("".join(pieces or (HEADER, READ, RELIGHT, WRITE)) % {**made.values, **values})

    def nuke(*words, cwd=folder, **changes):
        return subprocess.run(
            [NUKE, *map(str, words)],
            env={**made.env, **changes},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def batch(*words, **changes):
        return nuke("-t", BATCH, f"--script={made.script}", *words, **changes)

    made.save, made.nuke, made.batch = save, nuke, batch
    save()
    return made


def outputs(shot):
    return sorted(int(path.name.split(".")[1]) for path in shot.out.parent.glob("relit.*.exr"))


def errors_in(done):
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR:")]


def expected_half(shot, frames):
    """What infer makes of the plates; they are half, as the node's results are."""
    return small_comps.inferred(shot.look, shot.plates, shot.folder / "expected.%04d.exr", frames)


# Done


def test_one_command_bakes_and_renders(
    shot,
):
    done = shot.batch("--write=Write1", "--frames=1001-1003")
    assert done.returncode == 0, done.stderr
    assert outputs(shot) == [1001, 1002, 1003]
    expected = expected_half(shot, [1001, 1002, 1003])
    for frame in expected:
        assert small_comps.same_bits(small_comps.rgb(str(shot.out) % frame), expected[frame])
    assert not FARM_FAILS_ON.search(done.stdout + done.stderr)
    assert re.search(r"RelightGAN1: 3 frames relit, \d+\.\d\d s per frame\. Running on CPU", done.stderr)
    assert "Write1: 3 of 3 frames rendered." in done.stderr
    assert "Traceback" not in done.stderr


def test_without_frames_and_write_the_whole_project_and_all_writes_that_are_on_are_done(shot):
    off = WRITE.replace("Write1", "Write2").replace("%(write)s", " disable true\n")
    shot.save(HEADER, READ, RELIGHT, WRITE, off)
    done = shot.batch()
    assert done.returncode == 0, done.stderr
    assert outputs(shot) == FRAMES
    assert "Write2" not in done.stderr


def test_the_plugin_is_found_where_nuke_does_not_say_where_the_file_is(shot):
    done = shot.batch("--frames=1001-1001", "--bake-only", NUKE_SIM_QUIRKS="main_file_defined=false")
    assert done.returncode == 0, done.stderr


def test_an_init_py_on_the_plugin_path_does_no_harm(shot):
    assert shot.batch("--frames=1001-1001", NUKE_PATH=str(ROOT)).returncode == 0
    assert outputs(shot) == [1001]


def test_a_trailing_range_that_nuke_takes_for_itself_is_recovered(shot):
    done = shot.batch("--write=Write1", "--frames", "1002-1003")
    assert done.returncode == 0, done.stderr
    assert outputs(shot) == [1002, 1003]


def test_writes_are_rendered_by_their_render_order(shot):
    second = (
        WRITE.replace("Write1", "Write2").replace("%(out)s", "%(second)s").replace("%(write)s", " render_order 0\n")
    )
    shot.values["second"] = shot.folder / "first" / "relit.%04d.exr"
    shot.save(HEADER, READ, RELIGHT, WRITE, second, write=" render_order 5\n")
    done = shot.batch("--frames=1001-1001")
    assert done.returncode == 0, done.stderr
    assert done.stderr.index("Write2: 1 of 1") < done.stderr.index("Write1: 1 of 1")


def test_nodes_in_groups_and_nodes_that_feed_nodes_are_baked(
    shot,
):
    inner = RELIGHT.replace("RelightGAN {", "RelightGAN {\n exposure 1\n temporal_blend 0.7\n temporal_window 1")
    inlet = " Input {\n  inputs 0\n  name Input1\n }\n"
    outlet = " Output {\n  name Output1\n }\n"
    group = f"Group {{\n name Group1\n}}\n{inlet}{inner}{outlet}end_group\n"
    shot.save(HEADER, READ, RELIGHT, group, WRITE)
    done = shot.batch("--frames=1003-1003")
    assert done.returncode == 0, done.stderr
    assert "RelightGAN1: 3 frames relit" in done.stderr
    assert "Group1.RelightGAN1: 1 frame relit" in done.stderr
    once = shot.folder / "once.%04d.exr"
    small_comps.inferred(shot.look, shot.plates, once, FRAMES)
    words = ("--exposure=1", "--temporal-blend=0.7", "--temporal-window=1")
    twice = small_comps.inferred(shot.look, once, shot.folder / "twice.%04d.exr", [1003], *words)
    assert small_comps.same_bits(small_comps.rgb(str(shot.out) % 1003), twice[1003])


def test_a_time_offset_above_the_write_bakes_the_shifted_frames(
    shot,
):
    offset = "TimeOffset {\n time_offset 2\n name TimeOffset1\n}\n"
    shot.save(HEADER, READ, RELIGHT, offset, WRITE)
    done = shot.batch("--frames=1004-1005")
    assert done.returncode == 0, done.stderr
    expected = expected_half(shot, [1002, 1003])
    assert small_comps.same_bits(small_comps.rgb(str(shot.out) % 1004), expected[1002])


def test_views_can_be_chosen(
    shot,
):
    for seed, view in enumerate(("left", "right")):
        tiny_plates.write_clip(shot.folder / view, FRAMES, size=small_comps.SIZE, seed=seed)
    shot.values["plates"] = f"{shot.folder.as_posix()}/%V/plates.%04d.exr"
    shot.values["out"] = f"{shot.folder.as_posix()}/out/%V.%04d.exr"
    shot.save(views=STEREO, write=" views {left right}\n")
    one = shot.batch("--frames=1001-1001", "--views=right")
    assert one.returncode == 0, one.stderr
    assert [path.name for path in (shot.folder / "out").iterdir()] == ["right.1001.exr"]
    both = shot.batch("--frames=1001-1001")
    assert both.returncode == 0, both.stderr
    for view in ("left", "right"):
        plates = shot.folder / view / "plates.%04d.exr"
        expected = small_comps.inferred(shot.look, plates, shot.folder / f"{view}.%04d.exr", [1001])
        assert small_comps.same_bits(small_comps.rgb(shot.folder / "out" / f"{view}.1001.exr"), expected[1001])


def test_proxy_is_for_the_render_only(
    shot,
):
    done = shot.batch("--frames=1001-1001", "--proxy")
    assert done.returncode == 0, done.stderr
    assert small_comps.rgb(str(shot.out) % 1001).shape == (12, 16, 3)
    (stored,) = shot.folder.parent.glob("cache/*/frames/*.exr")
    assert small_comps.rgb(stored).shape == (24, 32, 3)


def test_a_script_saved_in_proxy_mode_is_rendered_at_full_size_without_proxy(
    shot,
):
    shot.script.write_text(shot.script.read_text().replace(" proxy_scale 0.5", " proxy true\n proxy_scale 0.5"))
    assert shot.batch("--frames=1001-1001").returncode == 0
    assert small_comps.rgb(str(shot.out) % 1001).shape == (24, 32, 3)


def test_chunks_cut_the_frames_and_an_empty_chunk_is_done_at_once(shot):
    assert shot.batch("--frames=1001-1006", "--chunk=1003:2").returncode == 0
    assert outputs(shot) == [1003, 1004]
    empty = shot.batch("--frames=1001-1006", "--chunk=2000:10")
    assert empty.returncode == 0
    assert "nothing to do" in empty.stderr


def test_negative_frames_and_gaps_are_rendered(
    shot,
):
    frames = list(range(-4, 2))
    shot.values["plates"] = tiny_plates.write_clip(shot.folder / "early", frames, size=small_comps.SIZE)
    shot.save()
    text = shot.script.read_text()
    for name in ("first", "last"):
        text = text.replace(f"{name} 1001", f"{name} -4").replace(f"{name} 1006", f"{name} 1")
    shot.script.write_text(text.replace("_frame 1001", "_frame -4").replace("_frame 1006", "_frame 1"))
    done = shot.batch("--frames=-4--3,-1,1")
    assert done.returncode == 0, done.stderr
    assert outputs(shot) == [-4, -3, -1, 1]
    expected = small_comps.inferred(shot.look, shot.values["plates"], shot.folder / "e.%04d.exr", [1])
    assert small_comps.same_bits(small_comps.rgb(str(shot.out) % 1), expected[1])


def test_open_job_description_lines_grow_to_100(shot):
    done = shot.batch("--frames=1001-1004", "--progress=openjd")
    shares = [float(share) for share in re.findall(r"^openjd_progress: (\S+)$", done.stdout, re.MULTILINE)]
    assert shares == sorted(shares)
    assert shares[-1] == 100.0
    assert "openjd_status: " in done.stdout
    assert "openjd_fail" not in done.stdout


def test_empty_options_count_as_not_given(shot):
    done = shot.batch("--device=", "--views=", "--write=", "--plugin-path=", "--chunk=", "--frames=1001-1001")
    assert done.returncode == 0, done.stderr


# Bake here, render there


def test_a_plain_render_says_what_to_run_and_after_that_works(
    shot,
):
    path = {"NUKE_PATH": str(ROOT)}
    refused = shot.nuke("-F", "1002", "-x", shot.script, **path)
    assert refused.returncode == 1
    assert outputs(shot) == []
    (line,) = [line for line in refused.stderr.splitlines() if "Run: " in line]
    words = shlex.split(line[line.index("Run: ") + 5 :])
    assert words[1:3] == ["-t", str(BATCH)]
    told = subprocess.run(
        [NUKE, *words[1:], "--bake-only"], env=shot.env, capture_output=True, text=True, check=False, timeout=600
    )
    assert told.returncode == 0, told.stderr
    rendered = shot.nuke("-x", shot.script, **path)
    assert rendered.returncode == 0, rendered.stderr
    assert outputs(shot) == FRAMES
    expected = expected_half(shot, FRAMES)
    for frame in FRAMES:
        assert small_comps.same_bits(small_comps.rgb(str(shot.out) % frame), expected[frame])


def test_a_script_given_by_a_relative_path_keeps_its_frames_beside_it_and_is_found_from_elsewhere(shot):
    shot.save(HEADER.replace(' name "%(script)s"\n', ""), READ, RELIGHT, WRITE)
    anew = {"NUKE_PATH": str(ROOT), "RELIGHTGAN_CACHE": ""}
    refused = shot.nuke("-F", 1001, "-x", shot.script.name, **anew)
    (line,) = errors_in(refused)
    assert f"--script={shot.script}" in shlex.split(line[line.index("Run: ") :])
    done = shot.nuke("-t", BATCH, f"--script={shot.script.name}", "--bake-only", "--frames=1001", RELIGHTGAN_CACHE="")
    assert done.returncode == 0, done.stderr
    assert (shot.folder / "relightgan_cache").is_dir()
    for script, folder in ((shot.script.name, shot.folder), (f"{shot.folder.name}/shot.nk", shot.folder.parent)):
        rendered = shot.nuke("-F", 1001, "-x", script, cwd=folder, **anew)
        assert rendered.returncode == 0, rendered.stderr
        Path(str(shot.out) % 1001).unlink()


@pytest.mark.parametrize("load_callbacks", ["true", "false"])
def test_frames_baked_by_a_farm_are_found_by_a_plain_render_of_the_same_script(shot, load_callbacks):
    assert shot.batch("--bake-only", "--frames=1001-1003").returncode == 0
    assert shot.batch("--bake-only", "--frames=1004-1006").returncode == 0
    quirks = f"on_script_load_in_execute={load_callbacks}"
    rendered = shot.nuke("-x", shot.script, NUKE_PATH=str(ROOT), NUKE_SIM_QUIRKS=quirks)
    assert rendered.returncode == 0, rendered.stderr
    assert outputs(shot) == FRAMES


def test_frames_rendered_one_by_one_in_any_order_are_those_of_the_batch(
    shot,
):
    shot.save(knobs=" temporal_blend 0.7\n temporal_window 2\n")
    assert shot.batch().returncode == 0
    before = {frame: small_comps.rgb(str(shot.out) % frame) for frame in FRAMES}
    for frame in (1004, 1001, 1006):
        Path(str(shot.out) % frame).unlink()
        done = shot.nuke("-F", frame, "-x", shot.script, NUKE_PATH=str(ROOT))
        assert done.returncode == 0, done.stderr
        assert small_comps.same_bits(small_comps.rgb(str(shot.out) % frame), before[frame])


def test_bake_only_renders_nothing_and_render_only_bakes_nothing(shot):
    missing = shot.batch("--frames=1001-1002", "--render-only")
    assert missing.returncode == 1
    (line,) = errors_in(missing)
    assert "relit frame 1001 is missing. Run: " in line
    assert outputs(shot) == []
    assert shot.batch("--frames=1001-1002", "--bake-only").returncode == 0
    assert outputs(shot) == []
    ready = shot.batch("--frames=1001-1002", "--render-only")
    assert ready.returncode == 0, ready.stderr
    assert outputs(shot) == [1001, 1002]


# Failed


def test_a_missing_source_frame_fails_with_one_line_and_keeps_the_others(shot):
    Path(shot.plates % 1003).unlink()
    done = shot.batch("--progress=openjd")
    assert done.returncode == 1
    (line,) = errors_in(done)
    assert "RelightGAN1: frame 1003: " in line
    assert "plates.1003.exr isn't there" in line
    assert "openjd_fail: " in done.stdout
    assert outputs(shot) == []
    assert len(list(shot.folder.parent.glob("cache/*/frames/*.exr"))) == 5


def test_continue_on_error_renders_the_other_frames_and_still_fails(shot):
    Path(shot.plates % 1003).unlink()
    done = shot.batch("--continue-on-error")
    assert done.returncode == 1
    assert outputs(shot) == [1001, 1002, 1004, 1005, 1006]
    assert len(errors_in(done)) == 1
    assert "Write1: 5 of 6 frames rendered." in done.stderr


def test_a_worker_that_can_not_start_fails_with_its_reason(shot):
    done = shot.batch("--frames=1001-1001", "--python=/nowhere/python")
    assert done.returncode == 1
    (line,) = errors_in(done)
    assert "/nowhere/python" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--write=Write9"], "There is no node Write9. This script has Write1."),
        (["--write=RelightGAN1"], "RelightGAN1 is a RelightGAN, not a Write."),
        (["--frames=abc"], "The frames 'abc' can't be read"),
        (["--views=left"], "There is no view left"),
        (["--frames=5000-5001"], "asked for 5000-5001"),
        (["--plugin-path=/nowhere"], "The folder /nowhere isn't there"),
    ],
)
def test_values_that_make_no_sense_fail_with_one_line(shot, words, said):
    done = shot.batch(*words)
    assert done.returncode == 1
    (line,) = errors_in(done)
    assert said in line
    assert "Traceback" not in done.stderr


def test_a_script_that_is_not_there_or_can_not_be_read_fails(shot):
    gone = shot.nuke("-t", BATCH, "--script=gone.nk")
    assert gone.returncode == 1
    assert "The script gone.nk isn't there" in errors_in(gone)[0]
    shot.script.write_text("Read {\n file {\n")
    broken = shot.batch()
    assert broken.returncode == 1
    assert "can't open" in errors_in(broken)[0]


# Wrong options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--script is missing"),
        (["--script=a.nk", "--frame=1"], "unrecognized|ambiguous"),
        (["--script=a.nk", "--bake-only", "--render-only"], "leave nothing to do"),
        (["--script=a.nk", "--chunk=1-5"], "START:COUNT"),
        (["--script=a.nk", "--progress=loud"], "invalid choice"),
        (["--script=a.nk", "1001-1002"], r"'1001-1002' stands alone; a frame range is written as --frames=1001-1002"),
    ],
)
def test_wrong_options_are_exit_code_2(shot, words, said):
    done = shot.nuke("-t", BATCH, *words)
    assert done.returncode == 2
    assert re.search(said, done.stderr)


def test_help_shows_examples(shot):
    done = shot.nuke("-t", BATCH, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "--script=shot.nk --write=Write1 --frames=1001-1100" in done.stdout


# Cancelled


def slow(
    shot,
):
    """Plates that take a while."""
    shot.values["plates"] = tiny_plates.write_clip(shot.folder / "big", FRAMES, size=(540, 960))
    shot.save(knobs=" temporal_blend 0.7\n temporal_window 2\n")


def cancelled(shot, sent, ready):
    """Starts a batch, sends a signal once something is there; the exit code, and what was said."""
    process = subprocess.Popen(
        [NUKE, "-t", BATCH, f"--script={shot.script}"],
        env=shot.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sent)
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_bake_is_exit_code_130_and_keeps_what_is_finished(shot, sent):
    slow(
        shot,
    )
    cache = shot.folder.parent / "cache"
    code, said = cancelled(shot, sent, lambda: len(list(cache.glob("*/frames/*.exr"))) >= 2)
    assert code == 130, said
    assert not FARM_FAILS_ON.search(said)
    assert "Cancelled" in said
    assert not list(cache.glob("bakes/*"))
    kept = len(list(cache.glob("*/frames/*.exr")))
    assert 2 <= kept < 6
    done = shot.batch("--bake-only")
    assert done.returncode == 0
    assert f"{kept} frames in the cache already" in done.stderr


def test_a_cancelled_render_is_exit_code_130(
    shot,
):
    slow(
        shot,
    )
    assert shot.batch("--bake-only").returncode == 0
    code, said = cancelled(shot, signal.SIGTERM, lambda: (shot.out.parent / "relit.1001.exr").exists())
    assert code == 130, said
    assert not FARM_FAILS_ON.search(said)
    assert outputs(shot)[0] == 1001
    assert len(outputs(shot)) < 6


def test_values_above_one_reach_the_output(
    shot,
):
    path = Path(shot.plates % 1001)
    bright = {name: pixels * np.float32(8) for name, pixels in tiny_plates.read_exr(path).items()}
    tiny_plates.write_exr(path, bright)
    assert shot.batch("--frames=1001-1001").returncode == 0
    assert small_comps.rgb(str(shot.out) % 1001).max() > 1
