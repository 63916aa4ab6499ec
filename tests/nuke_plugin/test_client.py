"""Nuke's side of the worker, against the real worker and against processes that misbehave."""

import ast
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny_looks
import tiny_plates

from relightgan.core.errors import (
    Cancelled,
    LookError,
    ProtocolError,
    RelightError,
    SequenceError,
    UsageError,
    WorkerError,
)
from relightgan.nuke_plugin import client, worker_log, worker_process
from relightgan.nuke_plugin.client import Limits, Worker

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "tests" / "support" / "stand_in_worker.py"
PATIENCE_S = 300.0  # no step here takes so long, on however slow and busy a machine
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("RELIGHTGAN_PYTHON", sys.executable)
    monkeypatch.setenv("RELIGHTGAN_LOG_DIR", str(tmp_path / "logs"))
    yield
    client.stop_shared()


@pytest.fixture
def workers():
    """Makes workers, and ends them after the test."""
    made = []

    def make(*folders, **options) -> Worker:
        made.append(Worker(folders, **options))
        return made[-1]

    yield make
    for worker in made:
        worker.stop()


@pytest.fixture
def stand_in(workers, tmp_path):
    """A worker whose process misbehaves in one way; the limits are short."""

    def make(mode, **limits) -> Worker:
        limits = Limits(**{"start_s": PATIENCE_S, "silence_s": 5.0, "cancel_s": 1.0, **limits})
        return workers(tmp_path, command=[sys.executable, str(STAND_IN), mode], limits=limits)

    return make


@pytest.fixture(scope="module")
def place(
    tmp_path_factory,
) -> Path:
    """A folder with a quick look, a slow one, and four frames."""
    folder = tmp_path_factory.mktemp("place")
    tiny_looks.conv_look(folder / "quick.onnx")
    nodes, stored = tiny_looks.conv_nodes([(3, 64, 1), *[(64, 64, 1)] * 8, (64, 3, 1)])
    facts = tiny_looks.facts_of(name="slow", encoding="srgb_log", value_range="unit", overlap_px=10)
    pictures = [tiny_looks.picture("plate")], [tiny_looks.picture("relit")]
    tiny_looks.write(folder / "slow.onnx", nodes, *pictures, stored, tiny_looks.facts_to_metadata(facts))
    for frame in range(1, 7):
        path = folder / "bake" / f"source.{frame:04d}.exr"
        tiny_plates.write_exr(path, tiny_plates.rgb_channels(tiny_plates.texture(240, 320, frame)), "float")
    return folder


def request(place: Path, target: Path, frames, look="quick.onnx", **changes) -> dict:
    made = {
        "look": str(place / look),
        "look_sha256": hashlib.sha256((place / look).read_bytes()).hexdigest(),
        "device": "cpu",
        "settings": {
            "exposure": 0.0,
            "temporal_blend": 0.0,
            "temporal_window": 2,
            "working_space": "lin_rec709",
            "premultiplied": True,
        },
        "source": str(place / "bake" / "source.%04d.exr"),
        "clip": [1, 6],
        "outputs": {str(frame): str(target / f"key{frame}.exr") for frame in frames},
        "precision": "half",
        "notes": {},
    }
    return {**made, **changes}


def wait(job, seconds=PATIENCE_S) -> list[dict]:
    """All events of a job, once it is finished; fails when that takes too long."""
    events, end = [], time.monotonic() + seconds
    while not job.finished:
        assert time.monotonic() < end, "the job never ends"
        events += job.poll(0.05)
    return events + job.poll()


def wait_for(job, kind, seconds=PATIENCE_S) -> dict:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for event in job.poll(0.05):
            if event["type"] == kind:
                return event
    raise AssertionError(f"no {kind}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# The way it should go


def test_a_request_is_done_and_its_events_come_to_the_thread_that_polls(place, tmp_path):
    heard = []
    job = client.shared([place, tmp_path]).relight(
        request(place, tmp_path / "out", [1, 2, 3]), lambda event: heard.append((event, threading.current_thread()))
    )
    events = wait(job)
    assert job.result()["frames"] == [1, 2, 3]
    assert job.frames == [1, 2, 3]
    assert job.result()["device"].startswith("Running on CPU")
    assert [event["type"] for event in events] == ["accepted", "started", "frame", "frame", "frame", "done"]
    assert [event for event, _ in heard] == events
    assert {thread for _, thread in heard} == {threading.current_thread()}
    assert names(tmp_path / "out") == ["key1.exr", "key2.exr", "key3.exr"]
    assert job.poll(5) == []


def test_one_worker_serves_all_and_another_takes_over_where_new_folders_are_needed(place, tmp_path):
    first = client.shared([place, tmp_path / "a"])
    long = first.relight(request(place, tmp_path / "a", [1, 2], look="slow.onnx"))
    wait_for(long, "started")
    pid = first.pid
    assert client.shared([place]) is first
    assert client.shared([place / "bake"]) is first
    second = client.shared([tmp_path / "b"])
    assert second is not first
    assert second.covers([place, tmp_path / "a", tmp_path / "b"])
    wait(second.relight(request(place, tmp_path / "b", [1])))
    assert second.pid != pid
    wait(long)
    assert long.result()["frames"] == [1, 2]
    end = time.monotonic() + PATIENCE_S
    while first.pid is not None and time.monotonic() < end:
        time.sleep(0.05)
    assert first.pid is None
    assert first.closed
    assert client.shared([place]) is second


@posix
def test_folders_count_by_where_they_lie_and_not_by_how_they_are_written(place, tmp_path):
    (tmp_path / "link").symlink_to(place, target_is_directory=True)
    worker = Worker([tmp_path / "link"])
    assert worker.covers([place / "bake", tmp_path / "link" / "new"])
    assert not worker.covers([tmp_path / "link" / ".." / "elsewhere"])
    assert not worker.covers([f"{place}_too"])


def test_a_look_says_what_is_inside_and_what_is_none_is_an_error(place, tmp_path):
    assert client.look_facts(place / "slow.onnx")["name"] == "slow"
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(LookError, match=r"text\.onnx"):
        client.look_facts(tmp_path / "text.onnx")


def test_errors_come_back_as_the_classes_they_were(place, tmp_path, workers):
    worker = workers(place, tmp_path)
    asked = request(place, tmp_path, [1])
    for changes, kind, words in (
        ({"look_sha256": "0" * 64}, LookError, "isn't the look that was asked for"),
        ({"outputs": {"1": "/elsewhere/a.exr"}}, UsageError, "outside the folders"),
        ({"source": str(place / "none.%04d.exr")}, RelightError, r"none\.%04d\.exr"),
    ):
        job = worker.relight({**asked, **changes})
        assert wait(job)[-1]["type"] == "failed"
        with pytest.raises(kind, match=words) as caught:
            job.result()
        assert caught.value.fix


def test_what_cannot_be_sent_is_an_error_at_once_and_leaves_no_job(place, tmp_path, workers):
    worker = workers(place, tmp_path)
    outputs = {str(frame): str(tmp_path / ("x" * 200 + ".exr")) for frame in range(6000)}
    with pytest.raises(ProtocolError, match="bytes long"):
        worker.relight(request(place, tmp_path, [1], outputs=outputs))
    job = worker.relight(request(place, tmp_path / "out", [1]))
    wait(job)
    assert job.result()["frames"] == [1]


def test_several_requests_wait_their_turn_and_each_hears_its_own_events(place, tmp_path, workers):
    worker = workers(place, tmp_path)
    jobs = [worker.relight(request(place, tmp_path / f"{turn}", [turn, turn + 1])) for turn in range(1, 5)]
    for turn, job in enumerate(jobs, 1):
        assert {event["id"] for event in wait(job)} == {job.id}
        assert job.result()["frames"] == [turn, turn + 1]


def test_two_clients_at_once_share_one_store(
    place,
    tmp_path,
    workers,
):
    one, other = workers(place, tmp_path), workers(place, tmp_path)
    jobs = [worker.relight(request(place, tmp_path / "store", range(1, 7))) for worker in (one, other) * 3]
    for job in jobs:
        wait(job)
        assert job.result()["frames"] == [1, 2, 3, 4, 5, 6]
    assert one.pid != other.pid
    assert names(tmp_path / "store") == [f"key{frame}.exr" for frame in range(1, 7)]
    wait(one.relight(request(place, tmp_path / "alone", range(1, 7))))
    for name in names(tmp_path / "store"):
        assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


# Cancel


def test_a_running_request_is_cancelled_within_a_second_and_keeps_its_finished_frames(place, tmp_path, workers):
    worker = workers(place, tmp_path)
    took = []
    while len(took) < 4 and min(took, default=1.0) >= 1.0:  # on a busy machine one try may be slow for no fault of ours
        folder = tmp_path / f"out{len(took)}"
        job = worker.relight(request(place, folder, range(1, 7), look="slow.onnx"))
        wait_for(job, "frame")
        asked = time.monotonic()
        job.cancel()
        job.cancel()
        wait(job)
        took.append(time.monotonic() - asked)
        with pytest.raises(Cancelled):
            job.result()
        assert 1 <= len(job.frames) < 6
        assert names(folder) == [f"key{frame}.exr" for frame in sorted(job.frames)]
    assert min(took) < 1.0
    job.cancel()
    again = worker.relight(request(place, tmp_path / "again", [1]))
    wait(again)
    assert again.result()["frames"] == [1]


def test_a_waiting_request_is_cancelled_without_disturbing_the_one_that_runs(place, tmp_path, workers):
    worker = workers(place, tmp_path)
    first = worker.relight(request(place, tmp_path / "first", [1, 2], look="slow.onnx"))
    second = worker.relight(request(place, tmp_path / "second", [1, 2]))
    wait_for(first, "started")
    second.cancel()
    wait(second)
    with pytest.raises(Cancelled):
        second.result()
    assert not first.finished
    wait(first)
    assert first.result()["frames"] == [1, 2]
    assert names(tmp_path / "second") == []


def test_a_worker_that_does_not_cancel_is_killed(stand_in, place, tmp_path):
    worker = stand_in("deaf")
    job = worker.relight(request(place, tmp_path, [1]))
    wait_for(job, "accepted")
    pid = worker.pid
    job.cancel()
    wait(job)
    with pytest.raises(Cancelled):
        job.result()
    assert worker.pid != pid


def test_stopping_the_worker_cancels_what_it_had(place, tmp_path, workers):
    worker = workers(place, tmp_path)
    job = worker.relight(request(place, tmp_path / "out", range(1, 7), look="slow.onnx"))
    wait_for(job, "started")
    worker.stop()
    with pytest.raises(Cancelled):
        job.result()
    with pytest.raises(WorkerError, match="told to end"):
        worker.relight(request(place, tmp_path / "out", [1]))


# The worker dies, hangs, or was never well


@posix
def test_a_worker_killed_in_the_middle_is_started_again_for_the_frames_left(place, tmp_path, workers):
    worker = workers(place, tmp_path)
    job = worker.relight(request(place, tmp_path / "out", range(1, 7), look="slow.onnx"))
    queued = worker.relight(request(place, tmp_path / "queued", [1]))
    first = wait_for(job, "frame")
    time.sleep(0.1)
    pid = worker.pid
    os.kill(pid, signal.SIGKILL)
    events = wait(job)
    assert job.result()["frames"] == [1, 2, 3, 4, 5, 6]
    assert worker.pid not in (None, pid)
    said = next(event["text"] for event in events if event["type"] == "log")
    assert "killed by signal 9" in said
    frames = [first, *(event for event in events if event["type"] == "frame")]
    assert [event["frame"] for event in frames] == [1, 2, 3, 4, 5, 6]
    assert [event["done"] for event in frames] == [1, 2, 3, 4, 5, 6]
    assert {event["total"] for event in frames} == {6}
    assert [name for name in names(tmp_path / "out") if name.endswith(".exr")] == [f"key{f}.exr" for f in range(1, 7)]
    wait(queued)
    assert queued.result()["frames"] == [1]


@posix
def test_killed_twice_it_is_reported_with_the_reason_and_the_log(place, tmp_path, workers):
    worker = workers(place, tmp_path)
    job = worker.relight(request(place, tmp_path / "out", range(1, 7), look="slow.onnx"))
    for _ in range(2):
        wait_for(job, "started")
        os.kill(worker.pid, signal.SIGKILL)
    wait(job)
    with pytest.raises(WorkerError, match=r"killed by signal 9.*relight .*started again") as caught:
        job.result()
    assert str(client.log_path()) in caught.value.fix
    again = worker.relight(request(place, tmp_path / "out", [1]))
    wait(again)
    assert again.result()["frames"] == [1]


@posix
def test_a_request_that_only_waited_while_another_killed_the_worker_is_done(place, tmp_path, workers):
    """However often: only the request that ran counts as the reason."""
    worker = workers(place, tmp_path)
    deadly = worker.relight(request(place, tmp_path / "deadly", range(1, 7), look="slow.onnx"))
    deadlier = worker.relight(request(place, tmp_path / "deadlier", range(1, 7), look="slow.onnx"))
    innocent = worker.relight(request(place, tmp_path / "innocent", [1, 2]))
    for job in (deadly, deadly, deadlier, deadlier):
        wait_for(job, "started")
        os.kill(worker.pid, signal.SIGKILL)
    for job in (deadly, deadlier):
        wait(job)
        with pytest.raises(WorkerError, match=r"killed by signal 9.*started again"):
            job.result()
    wait(innocent)
    assert innocent.result()["frames"] == [1, 2]


def test_a_request_behind_one_that_cannot_be_cancelled_is_done_by_another_worker(stand_in, place, tmp_path):
    worker = stand_in("deaf_at_first")
    stuck = worker.relight(request(place, tmp_path, [1]))
    waiting = worker.relight(request(place, tmp_path, [2]))
    wait_for(stuck, "accepted")
    stuck.cancel()
    wait(waiting)
    assert waiting.result()["type"] == "done"
    with pytest.raises(Cancelled):
        stuck.result()


@posix
def test_a_worker_that_hangs_is_killed_and_reported(place, tmp_path, workers):
    worker = workers(place, tmp_path, limits=Limits(silence_s=2.0))
    job = worker.relight(request(place, tmp_path / "out", range(1, 7), look="slow.onnx"))
    wait_for(job, "started")
    pid = worker.pid
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    wait(job)
    assert time.monotonic() - stopped > 1.5
    with pytest.raises(WorkerError, match="hung: it gave no sign of life for 2 s"):
        job.result()
    assert worker.pid != pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@posix
def test_nothing_here_waits_for_a_worker_that_does_not_read(place, tmp_path, workers):
    """Requests of several times what a pipe holds are taken at once, and reported when it is found to hang."""
    worker = workers(place, tmp_path, limits=Limits(silence_s=6.0))
    wait(worker.relight(request(place, tmp_path / "out", [1])))
    os.kill(worker.pid, signal.SIGSTOP)
    outputs = {str(frame): str(tmp_path / f"{frame}.exr") for frame in range(5000)}
    started = time.monotonic()
    jobs = [worker.relight(request(place, tmp_path, [1], outputs=outputs)) for _ in range(4)]
    assert time.monotonic() - started < 4  # before the worker is found to hang
    wait(jobs[0])
    with pytest.raises(WorkerError, match="no sign of life"):
        jobs[0].result()
    for job in jobs[1:]:  # never begun, so another worker does them
        wait(job)
        with pytest.raises(SequenceError, match="lacks 4994 frames"):
            job.result()


def test_a_worker_that_reads_late_gets_everything(stand_in, place, tmp_path):
    outputs = {str(frame): str(tmp_path / f"{frame}.exr") for frame in range(3000)}
    worker = stand_in("slow_reader", silence_s=20.0)
    jobs = [worker.relight(request(place, tmp_path, [1], outputs=outputs)) for _ in range(6)]
    for job in jobs[1:]:
        wait(job)
        assert job.result()["type"] == "done"


def test_a_worker_that_talks_much_is_heard_though_nobody_polls(stand_in, place, tmp_path):
    job = stand_in("chatty").relight(request(place, tmp_path, [1]))
    time.sleep(1)
    assert wait(job)[-1]["type"] == "done"


def test_a_slow_frame_is_waited_for(
    place,
    tmp_path,
    workers,
):
    """It lasts longer than the silence that counts as hanging, but heartbeats come."""
    worker = workers(place, tmp_path, limits=Limits(silence_s=3.0))
    side, seconds = 400, 0.0
    while seconds < 4.0:  # as large as this machine needs
        source = place / f"large{side}" / "source.%04d.exr"
        tiny_plates.write_exr(Path(str(source) % 1), tiny_plates.rgb_channels(tiny_plates.texture(side, side)), "float")
        changes = {"look": "slow.onnx", "source": str(source), "clip": [1, 1]}
        job = worker.relight(request(place, tmp_path / str(side), [1], **changes))
        wait(job)
        seconds = job.result()["seconds"]
        side = round(side * max(1.2, min((5.0 / seconds) ** 0.5, 3.0)))


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("later", r"speaks protocol 3 \(RelightGAN 9\.1\.0\), this plug-in speaks 2 \(RelightGAN "),
        ("banner", "broke the protocol with b\"Welcome to the studio's Python"),
        ("garbage", "broke the protocol with b'.x00.xff"),
        ("unknown_event", "broke the protocol.*dance"),
        ("huge", "1048576 are allowed"),
        ("refuses", "refused a message: I don't like it"),
        ("no_module", "ended with exit code 1 at its start.*No module named relightgan"),
    ],
)
def test_a_worker_that_is_none_is_reported_at_once_with_what_it_said(stand_in, place, tmp_path, mode, words):
    job = stand_in(mode).relight(request(place, tmp_path, [1]))
    wait(job, PATIENCE_S / 2)
    with pytest.raises(WorkerError, match=words) as caught:
        job.result()
    assert str(client.log_path()) in str(caught.value)
    assert sys.executable in str(caught.value) or mode in ("refuses",)


def test_a_worker_that_never_starts_is_killed_and_its_words_are_told(stand_in, place, tmp_path):
    job = stand_in("mute", start_s=1.5).relight(request(place, tmp_path, [1]))
    wait(job)
    with pytest.raises(
        WorkerError, match=r"didn't start within 1\.5 s\. Its last words: still looking for my packages"
    ):
        job.result()


def test_a_worker_that_dies_again_and_again_is_reported_with_its_last_words(stand_in, place, tmp_path):
    job = stand_in("half_a_line").relight(request(place, tmp_path, [1]))
    events = wait(job)
    assert [event["type"] for event in events].count("log") == 1
    with pytest.raises(WorkerError, match=r"exit code 3.*Traceback \.\.\. \| Segmentation fault"):
        job.result()


def test_a_request_whose_frames_were_all_finished_is_done_though_the_worker_died(stand_in, place, tmp_path):
    job = stand_in("does_all_but_say_so").relight(request(place, tmp_path, [3, 4]))
    wait(job)
    assert job.result()["frames"] == [3, 4]


def test_a_refused_request_ends_alone(stand_in, place, tmp_path):
    job = stand_in("refuses_this").relight(request(place, tmp_path, [1]))
    wait(job)
    with pytest.raises(ProtocolError, match=r"don't like this one\. Ask for another"):
        job.result()


def test_an_error_of_an_unknown_kind_is_an_error_of_ours(stand_in, place, tmp_path):
    job = stand_in("unknown_kind").relight(request(place, tmp_path, [1]))
    wait(job)
    with pytest.raises(RelightError, match="What is this") as caught:
        job.result()
    assert type(caught.value) is RelightError


def test_an_interpreter_that_is_not_there_is_an_error_at_once(place, tmp_path, workers, monkeypatch):
    monkeypatch.setenv("RELIGHTGAN_PYTHON", "/no/python")
    with pytest.raises(RelightError, match="RELIGHTGAN_PYTHON is /no/python"):
        workers(place).relight(request(place, tmp_path, [1]))
    with pytest.raises(WorkerError, match="/no/such/program"):
        workers(place, command=["/no/such/program"]).relight(request(place, tmp_path, [1]))


def test_what_lies_in_the_folder_nuke_was_started_in_is_no_code_of_the_worker(place, tmp_path, workers, monkeypatch):
    """`python -m` would look there first: a script of that name stops the worker, or takes it over."""
    for name in ("numpy", "argparse", "relightgan"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('somebody else is here')")
    monkeypatch.chdir(tmp_path)
    job = workers(place, tmp_path).relight(request(place, tmp_path / "out", [1]))
    wait(job)
    assert job.result()["frames"] == [1]


def test_after_an_idle_end_the_worker_is_started_again_unseen(place, tmp_path, workers):
    command = [*worker_process.worker_command([place, tmp_path]), "--idle-s", "0.3"]
    worker = workers(place, tmp_path, command=command)
    for turn in range(3):
        job = worker.relight(request(place, tmp_path / f"{turn}", [1, 2]))
        events = wait(job)
        assert job.result()["frames"] == [1, 2]
        assert "log" not in [event["type"] for event in events]
        end = time.monotonic() + PATIENCE_S
        while worker.pid is not None and time.monotonic() < end:
            time.sleep(0.05)
        assert worker.pid is None


def test_a_request_that_comes_just_as_the_worker_ends_for_want_of_work_is_done(place, tmp_path, workers):
    command = [*worker_process.worker_command([place, tmp_path]), "--idle-s", "0.25"]
    worker = workers(place, tmp_path, command=command)
    for turn in range(6):
        job = worker.relight(request(place, tmp_path / f"{turn}", [1]))
        wait(job)
        assert job.result()["frames"] == [1]
        time.sleep(0.235 + 0.006 * turn)


@posix
@pytest.mark.parametrize("python", ["ours", "python3.9"])
def test_the_worker_dies_with_nuke_and_nothing_here_needs_more_than_python_3_9(place, tmp_path, python, wanted_python):
    """A process stands for Nuke, is killed without a chance to tidy up, and its busy worker goes within 2 s."""
    script = (
        "import json, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from relightgan.nuke_plugin import client\n"
        "folders, first, second = json.loads(sys.argv[1])\n"
        "worker = client.shared(folders)\n"
        "done = worker.relight(first).result()\n"
        "job = worker.relight(second)\n"
        "while not any(event['type'] == 'started' for event in job.poll(0.1)): pass\n"
        "print(json.dumps([worker.pid, done['frames']]), flush=True)\n"
        "job.result()\n"
    )
    first = request(place, tmp_path / "first", [1, 2])
    second = request(place, tmp_path / "second", range(1, 7), look="slow.onnx")
    words = json.dumps([[str(place), str(tmp_path)], first, second])
    with subprocess.Popen([wanted_python(python), "-c", script, words], stdout=subprocess.PIPE) as nuke:
        pid, frames = json.loads(nuke.stdout.readline())
        assert frames == [1, 2]
        nuke.kill()
        nuke.wait()
        end = time.monotonic() + PATIENCE_S
        while alive(pid):
            assert time.monotonic() < end, "the worker outlives Nuke"
            time.sleep(0.05)
    assert [name for name in names(tmp_path / "second") if not name.startswith("key")] == []


@posix
def test_nuke_ends_its_worker_when_it_ends_itself(place, tmp_path, wanted_python):
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from relightgan.nuke_plugin import client\n"
        "print(client.look_facts(sys.argv[1])['name'], client._shared.pid)\n"
    )
    done = subprocess.run(
        [wanted_python("ours"), "-c", script, str(place / "quick.onnx")],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=PATIENCE_S,
    )
    name, pid = done.stdout.split()
    assert name == "conv"
    assert not alive(int(pid))


@pytest.fixture
def wanted_python():
    def find(name: str) -> str:
        if name == "ours":
            return sys.executable
        places = [*map(str, sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python"))), shutil.which(name)]
        for found in filter(None, places):
            if subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
                return found
        pytest.skip(f"there is no {name} here")

    return find


def alive(pid: int) -> bool:
    """Whether a process that isn't our child runs; one nobody waits for stays as a zombie."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
    except (ProcessLookupError, FileNotFoundError):
        return False


# The log


def test_a_log_that_may_still_be_written_is_not_swept(place, tmp_path, workers):
    """A farm's hosts may share a home folder, and have more workers than logs are kept."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(30):
        (folder / f"worker-otherhost-{number + 10_000_000}.log").write_text("at work")
    wait(workers(place, tmp_path).relight(request(place, tmp_path, [1])))
    assert len(names(folder)) == 31


def test_the_log_has_what_the_worker_said_and_old_ones_are_swept(place, tmp_path, workers):
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(30):
        old = folder / f"worker-otherhost-{number + 10_000_000}.log"
        old.write_text("old")
        os.utime(old, (1_000_000 + number, 1_000_000 + number))
    (folder / "notes.txt").write_text("not ours")
    wait(workers(place, tmp_path).relight(request(place, tmp_path, [1])))
    assert client.log_path() == folder / f"worker-{socket.gethostname()}-{os.getpid()}.log"
    assert "is ready" in client.log_path().read_text()
    left = [name for name in names(folder) if name.startswith("worker-")]
    assert len(left) == worker_log.KEPT
    assert "worker-otherhost-10000029.log" in left
    assert "worker-otherhost-10000000.log" not in left
    assert (folder / "notes.txt").exists()


def test_without_the_variable_the_log_is_in_the_home_folder(monkeypatch):
    monkeypatch.setenv("RELIGHTGAN_LOG_DIR", "")
    assert client.log_path().parent == Path.home() / ".relightgan" / "logs"


def test_a_log_that_cannot_be_written_is_an_error_that_names_it(place, tmp_path, workers, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RELIGHTGAN_LOG_DIR", str(tmp_path / "file" / "logs"))
    with pytest.raises(WorkerError, match=r"log .*file.*Set RELIGHTGAN_LOG_DIR"):
        workers(place).relight(request(place, tmp_path, [1]))


# What Nuke's Python has


@pytest.mark.parametrize("name", ["client", "worker_process", "worker_log", "config", "interpreter"])
def test_it_is_written_in_python_3_9_and_uses_nothing_of_posix_alone(name):
    source = (ROOT / "nuke_plugin" / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    posix_alone = {"fork", "killpg", "setsid", "preexec_fn", "SIGKILL", "getpgid", "pass_fds", "mkfifo", "set_blocking"}
    assert used & posix_alone == set()
    assert imported & {"fcntl", "select", "resource", "pwd", "grp", "termios", "nuke"} == set()
    assert imported <= set(sys.stdlib_module_names)
