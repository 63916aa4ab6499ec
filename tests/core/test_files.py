import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_disk import file_limit, small_disk

from relightgan.core.clips import open_sink
from relightgan.core.errors import PlateError, RelightError
from relightgan.core.files import (
    OLD_S,
    PART,
    host_mark,
    in_plain_words,
    open_folder,
    replacing,
    sweep_parts,
    temporary_for,
    write_whole,
)
from relightgan.core.worker_tasks import StoreSink

ROOT = Path(__file__).resolve().parents[2]
WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from relightgan.core.errors import RelightError
from relightgan.core.files import replacing
with replacing(Path(sys.argv[1]), lambda error: RelightError(str(error))) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)
"""


def told(error):
    return PlateError(f"a.exr can't be written: {error.strerror}.", "")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def aged(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


@contextlib.contextmanager
def a_writer(path):
    """A process in the middle of writing a file, killed at the end where it still lives."""
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        try:
            yield process
        finally:
            process.kill()


# Whole or not there


@pytest.mark.parametrize("size", [0, 1, 4096, 99_999])
def test_a_file_that_finds_too_little_room_is_not_there_and_the_one_before_stays(tmp_path, size):
    path = tmp_path / "a.exr"
    path.write_bytes(b"the one before")
    with file_limit(size), pytest.raises(PlateError, match=r"a\.exr can't be written: File too large"):
        write_whole(path, bytes(100_000), told)
    assert path.read_bytes() == b"the one before"
    assert names(tmp_path) == ["a.exr"]


def test_whatever_ends_the_block_leaves_nothing(tmp_path):
    def write_half(end):
        with replacing(tmp_path / "a.exr", told) as temporary:
            temporary.write_bytes(b"half")
            raise end("")

    for end in (KeyboardInterrupt, RelightError, ValueError):
        with pytest.raises(end):
            write_half(end)
        assert names(tmp_path) == []


@pytest.mark.process
def test_a_full_disk_is_called_so_whoever_says_it(tmp_path):
    assert in_plain_words(OSError(errno.ENOSPC, "No space left on device"), tmp_path).strerror == (
        "the disk is full (No space left on device)"
    )
    assert in_plain_words(OSError(errno.EDQUOT, "Disk quota exceeded"), None).strerror.startswith("the disk is full")
    assert in_plain_words(OSError("not all of it could be stored"), tmp_path).strerror == (
        "not all of it could be stored"  # a library's words, on a disk with room
    )
    with small_disk(tmp_path / "small", "64k") as small:
        with pytest.raises(PlateError, match="the disk is full"):
            write_whole(small / "a.exr", bytes(100_000), told)
        assert names(small) == []
        (small / "filler").write_bytes(bytes(64 * 1024))
        said = in_plain_words(OSError("not all of it could be stored"), small).strerror
        assert said == "the disk is full (not all of it could be stored)"


def test_two_writers_of_one_file_each_write_their_own_and_the_last_stays(tmp_path):
    path = tmp_path / "a.exr"
    with replacing(path, told) as first:
        first.write_bytes(b"first")
        with replacing(path, told) as second:
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["a.exr"]


# Names


@pytest.mark.parametrize(
    "name", ["a" * 251 + ".exr", "é" * 125 + ".exr", "\U0001f3ac" * 62 + ".exr", "a" * 237 + ".exr"]
)
def test_a_name_as_long_as_the_disk_takes_is_written(tmp_path, name):
    write_whole(tmp_path / name, b"whole", told)
    assert names(tmp_path) == [name]
    temporary = temporary_for(tmp_path / name)
    assert len(os.fsencode(temporary.name)) <= 255
    assert PART.fullmatch(temporary.name)


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path):
    with (
        pytest.raises(PlateError, match="its name has 260 bytes, and 255 are the most there"),
        replacing(tmp_path / ("a" * 256 + ".exr"), told),
    ):
        pytest.fail("the block was run")


# Folders


def test_a_folder_that_goes_during_the_work_is_an_error_and_is_not_made_again(tmp_path):
    folder = open_folder(tmp_path / "shot" / "v1", told)

    def write_while_it_goes():
        with replacing(folder / "a.exr", told) as temporary:
            temporary.write_bytes(b"whole")
            folder.rename(tmp_path / "elsewhere")

    with pytest.raises(PlateError, match=f"the folder {folder} is gone"):
        write_while_it_goes()
    with pytest.raises(PlateError, match=f"the folder {folder} is gone"), replacing(folder / "b.exr", told):
        pytest.fail("the block was run")
    assert not folder.exists()


def test_a_folder_within_one_that_has_gone_is_not_made(tmp_path):
    run = open_folder(tmp_path / "run", told)
    open_folder(run / "photos" / "source", told, within=run)
    run.rename(tmp_path / "elsewhere")
    with pytest.raises(PlateError, match=f"the folder {run} is gone"):
        open_folder(run / "pairs", told, within=run)
    assert names(tmp_path) == ["elsewhere"]


def test_a_file_in_the_place_of_a_folder_is_called_so(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PlateError, match="file is no folder"):
        open_folder(tmp_path / "file", told)
    with pytest.raises(PlateError, match="Not a directory"):
        open_folder(tmp_path / "file" / "in", told)


# What killed runs left


@pytest.mark.process
def test_the_file_of_a_killed_process_goes_at_once_and_that_of_a_living_one_never(tmp_path):
    with a_writer(tmp_path / "dead.exr") as dead, a_writer(tmp_path / "living.exr"):
        (living,) = tmp_path.glob(".living.exr.*.part")
        aged(living, 10 * OLD_S)
        assert sweep_parts(tmp_path) == []
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        (left,) = tmp_path.glob(".dead.exr.*.part")
        assert left.read_bytes() == b"half"
        open_folder(tmp_path, told)
        assert names(tmp_path) == [living.name]


@pytest.mark.process
def test_a_process_that_nobody_collected_counts_as_gone(tmp_path):
    with a_writer(tmp_path / "a.exr") as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not collected
        assert len(sweep_parts(tmp_path)) == 1


@pytest.mark.process
@pytest.mark.parametrize(
    "opened",
    [
        lambda folder: open_sink(str(folder / "r.%04d.exr"), "ACEScg", 24),
        lambda folder: open_sink(str(folder / "r.mov"), "ACEScg", 24),
        lambda folder: StoreSink([folder.parents[1]], {1: folder / "key.exr"}, "half", {}, print),
    ],
    ids=["frames", "movie", "store"],
)
def test_every_sink_makes_its_folder_and_removes_what_killed_runs_left(tmp_path, opened):
    folder = tmp_path / "new" / "shot"
    with opened(folder):
        assert names(folder) == []
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    (folder / f".key.exr.{host_mark()}-{process.pid}.0a1b2c3d.part").write_bytes(b"half")
    (folder / f".key.exr.{host_mark()}-{os.getpid()}.0a1b2c3d.part").write_bytes(b"ours")
    with opened(folder):
        assert names(folder) == [f".key.exr.{host_mark()}-{os.getpid()}.0a1b2c3d.part"]


def test_what_another_machine_or_an_earlier_version_wrote_stays_for_a_day(tmp_path):
    theirs, old = tmp_path / ".a.exr.00000000-1.0a1b2c3d.part", tmp_path / ".relit.1001.exr.0a1b2c3d.part"
    assert host_mark() != "00000000"
    for path in (theirs, old):
        path.write_bytes(b"half")
        aged(path, OLD_S - 60)
    assert sweep_parts(tmp_path) == []
    for path in (theirs, old):
        aged(path, OLD_S + 60)
    assert sorted(sweep_parts(tmp_path)) == sorted([theirs, old])
    assert names(tmp_path) == []


def test_nothing_else_is_ever_removed(tmp_path):
    others = [
        "a.exr", ".a.exr", "a.exr.0a1b2c3d.part", ".a.exr.part", ".a.exr.0a1b2c3.part", ".a.exr.0A1B2C3D.part",
        ".a.exr.0a1b2c3d.part.exr", "..0a1b2c3d.part",
    ]  # fmt: skip
    for name in others:
        aged_file = tmp_path / name
        aged_file.write_bytes(b"not ours")
        aged(aged_file, 2 * OLD_S)
    (tmp_path / ".folder.0a1b2c3d.part").mkdir()
    (tmp_path / ".link.0a1b2c3d.part").symlink_to(tmp_path / "a.exr")
    for name in (".folder.0a1b2c3d.part", ".link.0a1b2c3d.part"):
        os.utime(tmp_path / name, (0, 0), follow_symlinks=False)
    before = names(tmp_path)
    assert sweep_parts(tmp_path) == []
    assert names(tmp_path) == before
    assert sweep_parts(tmp_path / "nowhere") == []
