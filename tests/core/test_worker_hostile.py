"""The worker against looks that hang, folders that are exchanged, and faults that nobody foresaw."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_looks
import tiny_plates
import worker_driver as driver

from relightgan.core.errors import UsageError
from relightgan.core.output_folder import OutputFolder
from relightgan.core.worker import QueuedRequest, RequestServer

posix = pytest.mark.skipif(os.name != "posix", reason="signals and links of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="writes through open folders the Linux way")
TRIES = 4  # at what has to be quick, as others use the machine too


@pytest.fixture(scope="module")
def place(tmp_path_factory, darken_grid_look) -> Path:
    """A folder with a look, the only one the worker may touch."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "good.onnx").write_bytes(darken_grid_look.read_bytes())
    return folder


@pytest.fixture(scope="module")
def clip(place) -> Path:
    for frame in range(1, 5):
        path = place / "bake" / f"source.{frame:04d}.exr"
        tiny_plates.write_exr(path, tiny_plates.rgb_channels(tiny_plates.texture(90, 160, frame)), "float")
    return place / "bake" / "source.%04d.exr"


def endless_look(path: Path, half: str) -> Path:
    nodes, stored = tiny_looks.endless_nodes("plate", "relit" if half == "apply" else "grid")
    return tiny_looks.odd_operator_look(path, **{half: nodes}, stored=stored)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.process
@pytest.mark.parametrize("half", ["predict", "apply"])
def test_an_endless_loop_in_a_look_is_cancelled_within_a_second_and_the_next_request_runs(place, clip, half):
    look = endless_look(place / f"endless_{half}.onnx", half)
    with driver.Driver(place) as worker:
        took = []
        while len(took) < TRIES and min(took, default=1.0) >= 1.0:
            outputs = driver.outputs_in(place / f"endless_{half}", [1])
            worker.send(**driver.relight(look, clip, outputs, (1, 4), name="endless"))
            worker.until("started", id="endless")
            time.sleep(0.5)
            asked = time.monotonic()
            worker.send(type="cancel", id="endless")
            assert worker.until(*driver.LAST, id="endless")["type"] == "cancelled"
            took.append(time.monotonic() - asked)
        assert min(took) < 1.0
        outputs = driver.outputs_in(place / f"after_{half}", [1])
        assert worker.do(**driver.relight(place / "good.onnx", clip, outputs, (1, 4), name="n"))["type"] == "done"


@posix
@pytest.mark.process
def test_sigterm_ends_a_worker_whose_look_loops_for_ever(place, clip):
    look = endless_look(place / "endless_term.onnx", "predict")
    with driver.Driver(place) as worker:
        worker.send(**driver.relight(look, clip, driver.outputs_in(place / "term", [1]), (1, 4)))
        worker.until("started")
        time.sleep(0.5)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.until(*driver.LAST)["type"] == "cancelled"
        assert worker.process.wait(driver.PATIENCE_S) == 0


@pytest.mark.process
def test_looks_with_values_of_the_wrong_shape_fail_and_the_next_request_runs(place, clip):
    node = tiny_looks.helper.make_node
    scalar = [node("ReduceMean", ["plate"], ["grid"], keepdims=0)]
    with driver.Driver(place) as worker:
        look = tiny_looks.odd_operator_look(place / "scalar.onnx", predict=scalar)
        request = driver.relight(look, clip, driver.outputs_in(place / "scalar", [1]), (1, 4), name="scalar")
        event = worker.do(**request)
        assert (event["type"], event["kind"]) == ("failed", "LookError")
        assert "scalar.onnx" in event["problem"]
        outputs = driver.outputs_in(place / "after_shapes", [1])
        assert worker.do(**driver.relight(place / "good.onnx", clip, outputs, (1, 4), name="n"))["type"] == "done"


@pytest.mark.process
def test_a_path_of_thousands_of_folders_is_answered_and_the_next_request_runs(place, clip):
    deep = place / "deep"
    with driver.Driver(place) as worker:
        try:
            for count in (1900, 4000):  # the second is longer than any path may be
                outputs = driver.outputs_in(deep.joinpath(*["d"] * count), [1])
                event = worker.do(**driver.relight(place / "good.onnx", clip, outputs, (1, 4), name=str(count)))
                assert event["type"] == ("done" if count == 1900 else "failed"), event
        finally:
            subprocess.run(["rm", "-rf", str(deep)], check=True)  # too deep for Python's own
        outputs = driver.outputs_in(place / "after_deep", [1])
        assert worker.do(**driver.relight(place / "good.onnx", clip, outputs, (1, 4), name="n"))["type"] == "done"


@pytest.mark.parametrize("error", [ValueError("a\nb \x1b[31m"), RecursionError(), KeyError("x"), AssertionError()])
def test_a_fault_that_nobody_foresaw_fails_the_request_and_keeps_its_frames(error, capsys):
    reader, writer = os.pipe()
    server = RequestServer(os.fdopen(reader, "rb"), os.fdopen(writer, "wb", buffering=0), [], 60.0)
    task = QueuedRequest({"type": "relight", "id": "r"}, finished=[3, 1])

    def fail(task):
        raise error

    event = server.result_of(fail, task)
    assert (event["type"], event["kind"], event["frames"]) == ("failed", "WorkerError", [1, 3])
    assert type(error).__name__ in event["problem"]
    assert event["problem"].isprintable()
    logged = capsys.readouterr().err
    assert "in fail" in logged  # the traceback, for whoever mends it
    assert "\x1b" not in logged


@linux
@pytest.mark.process
@pytest.mark.parametrize("level", ["store", "above"])
def test_a_folder_exchanged_for_a_link_during_a_request_gets_nothing(place, clip, tmp_path, level):
    nodes, stored = tiny_looks.conv_nodes([(3, 64, 1), *[(64, 64, 1)] * 14, (64, 3, 1)])
    facts = tiny_looks.facts_to_metadata(tiny_looks.facts_of(value_range="unit", overlap_px=16))
    ports = [tiny_looks.picture("plate")], [tiny_looks.picture("relit")]
    look = tiny_looks.write(place / f"slow_{level}.onnx", nodes, *ports, stored, facts)
    victim = place / f"exchanged_{level}" / "above"
    store = victim / "store"
    outside = tmp_path / "outside"
    (outside / "store").mkdir(parents=True)
    with driver.Driver(place) as worker:
        worker.send(**driver.relight(look, clip, driver.outputs_in(store, [1, 2, 3, 4]), (1, 4)))
        worker.until("frame")
        moved = store if level == "store" else victim
        moved.rename(moved.with_name("moved"))
        moved.symlink_to(outside / "store" if level == "store" else outside)
        event = worker.until(*driver.LAST)
    assert (event["type"], event["kind"]) == ("failed", "PlateError")
    assert "removed or exchanged" in event["problem"]
    assert 1 in event["frames"]
    assert names(outside) == ["store"]
    assert names(outside / "store") == []


@linux
def test_an_output_folder_is_never_opened_through_a_link(tmp_path):
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    allowed.mkdir()
    outside.mkdir()
    (allowed / "link").symlink_to(outside)
    (allowed / "file").write_bytes(b"")
    for name in ("link", "file"):
        for folder in (allowed / name, allowed / name / "below"):
            with pytest.raises(UsageError, match=f"A link or a file is in the place of .*{name}"):
                OutputFolder([allowed], folder)
    with pytest.raises(UsageError, match="outside the folders"):
        OutputFolder([allowed], outside)
    assert names(outside) == []


@linux
def test_an_output_folder_is_made_and_written_through_and_leaves_no_descriptor(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    folder = OutputFolder([tmp_path], tmp_path / "a" / "b" / "c")
    path = folder.path("frame.exr")
    path.write_bytes(b"x")
    folder.require()
    assert (tmp_path / "a" / "b" / "c" / "frame.exr").read_bytes() == b"x"
    folder.close()
    folder.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.process
@posix
def test_infer_of_a_look_that_loops_for_ever_ends_on_sigterm(place, clip, tmp_path):
    look = endless_look(tmp_path / "endless.onnx", "apply")
    command = [sys.executable, "-m", "relightgan.core.cli", "infer", str(look), str(clip), str(tmp_path / "o.%04d.exr")]
    with driver.Driver(command=command, hello=False) as infer:  # only its process is of use here
        end = time.monotonic() + driver.PATIENCE_S
        while not any("Running on" in line for line in infer.log):
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)
        infer.process.send_signal(signal.SIGTERM)
        assert infer.process.wait(driver.PATIENCE_S) == 130
        infer.log_reader.join(driver.PATIENCE_S)
        assert "Cancelled: Stopped as asked" in "".join(infer.log)
    assert names(tmp_path) == ["endless.onnx"]
