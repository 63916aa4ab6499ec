import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_looks
from onnx import helper

from relightgan.core import runtime, threads
from relightgan.core.colour import linear_to_model, model_to_linear
from relightgan.core.devices import ORT_ERRORS, choose_providers, start_trouble
from relightgan.core.errors import Cancelled, DeviceError, LookError, UsageError
from relightgan.core.image_look import GAIN_FLOOR, apply_gain
from relightgan.core.look import facts_to_metadata, load_look
from relightgan.core.runtime import OutOfMemoryError
from relightgan.core.session import LookSession

ROOT = Path(__file__).resolve().parents[2]
COURTYARD = ROOT / "examples" / "courtyard" / "look.onnx"
HANG_S = 600  # no process here takes so long, on however slow and busy a machine
HAS_CUDA = start_trouble("CUDAExecutionProvider") is None


def picture(height, width, seed=0, top=1.0):
    """Grain on a ramp, so that neighbouring pixels and far places both differ."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, width, dtype=np.float32)[None, :, None] * np.linspace(0.2, 1, height)[:, None, None]
    return np.ascontiguousarray((ramp * 0.8 + 0.2 * rng.random((height, width, 3))) * top, dtype=np.float32)


def hdr_ramp():
    """-0.1 to 100, with exact 0 and 1, as one row of a picture."""
    values = np.concatenate([[-0.1, -1e-4, 0.0, 1e-6, 1e-3, 1.0], np.geomspace(1e-3, 100, 506)]).astype(np.float32)
    return np.repeat(values.reshape(1, -1, 1), 3, axis=2).repeat(4, axis=0)


def relit(session, plate):
    return session.apply(plate, session.predict(plate))


def whole_run(path, plate, encoding="linear"):
    """What onnxruntime makes of the uncut look in one piece."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    encoded = np.ascontiguousarray(linear_to_model(plate, encoding).transpose(2, 0, 1)[None])
    return model_to_linear(session.run(["relit"], {"plate": encoded})[0][0].transpose(1, 2, 0), encoding)


def test_the_hdr_ramp_comes_back_from_identity_looks(identity_look, unit_identity_look, tmp_path):
    signed = tiny_looks.identity_look(tmp_path / "signed.onnx", encoding="srgb_log", value_range="signed")
    logged = tiny_looks.identity_look(tmp_path / "logged.onnx", encoding="srgb_log")
    ramp = hdr_ramp()
    for path in (identity_look, unit_identity_look, signed, logged):
        result = relit(LookSession(load_look(path), "cpu"), ramp)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, ramp, rtol=1e-3, atol=1e-7)


def test_a_linear_identity_is_exact_to_the_bit(identity_look):
    ramp = hdr_ramp()
    np.testing.assert_array_equal(relit(LookSession(load_look(identity_look), "cpu"), ramp), ramp)


@pytest.mark.parametrize("encoding", ["linear", "srgb_log"])
@pytest.mark.parametrize("size", [(200, 333), (64, 65), (1, 7), (129, 40)])
def test_strips_give_what_the_whole_look_gives(tmp_path, encoding, size):
    path = tiny_looks.darken_grid_look(tmp_path / "grid.onnx", encoding=encoding)
    plate = picture(*size, top=4.0)
    plate[0, 0] = -0.1
    session = LookSession(load_look(path), "cpu")
    operator = session.predict(plate)
    assert operator["grid"].shape == (3, tiny_looks.GRID_HEIGHT, tiny_looks.GRID_WIDTH)
    result = session.apply(plate, operator)
    np.testing.assert_allclose(result, whole_run(path, plate, encoding), rtol=3e-6, atol=1e-6)
    # The look does something that depends on the place, or strips with wrong windows would pass.
    flat = relit(session, np.ones((200, 50, 3), np.float32))
    assert flat[0].mean() > 1.2 * flat[-1].mean()


def test_apply_follows_the_operator_it_is_given(darken_grid_look):
    session = LookSession(load_look(darken_grid_look), "cpu")
    plate = picture(100, 80)
    grid = session.predict(plate)["grid"]
    brighter = session.apply(plate, {"grid": grid + 1})
    np.testing.assert_allclose(brighter, 2 * session.apply(plate, {"grid": grid}), rtol=1e-5)


def test_inputs_are_left_as_they_were(darken_grid_look, conv_look, identity_look):
    for path in (darken_grid_look, conv_look, identity_look):
        session, plate = LookSession(load_look(path), "cpu"), picture(70, 50, top=2.0)
        kept = plate.copy()
        operator = session.predict(plate)
        kept_operator = {name: array.copy() for name, array in operator.items()}
        session.apply(plate, operator)
        np.testing.assert_array_equal(plate, kept)
        for name, array in operator.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, kept_operator[name])


def test_a_gain_in_linear_light_reaches_highlights(tmp_path):
    """A look of 0..1 that halves light turns 100 into 50, keeps the order above 1 and leaves negatives near."""
    path = tiny_looks.gain_look(tmp_path / "half.onnx", 0.5, encoding="linear")
    ramp = hdr_ramp()
    session = LookSession(load_look(path), "cpu")
    result = relit(session, ramp)
    expected = np.where(ramp > 0, ramp * np.float32(0.5), ramp)
    # Above 1 the gain is that of the plate's clipped value 1, floor included: 0.5 becomes (0.5+e)/(1+e).
    np.testing.assert_allclose(result, expected, rtol=4e-3, atol=1e-6)
    values = np.sort(ramp[0, :, 0])
    assert (
        np.diff(relit(LookSession(load_look(path), "cpu"), np.repeat(values[None, :, None], 3, 2))[0, :, 0]) >= 0
    ).all()


def test_apply_gain_is_the_stated_formula():
    rng = np.random.default_rng(4)
    plate = rng.uniform(-0.5, 8, (20, 20, 3)).astype(np.float32)
    gain = rng.uniform(-3, 3, (20, 20, 3)).astype(np.float32)
    x, g, floor = plate.astype(np.float64), gain.astype(np.float64), GAIN_FLOOR
    inside = np.clip(x, 0, 1)
    stated = (inside + floor) * 2**g - floor + (x - inside) * np.where(x > 1, 2**g, 1)
    np.testing.assert_allclose(apply_gain(plate, gain), stated, rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(apply_gain(plate, np.zeros_like(gain)), plate)


def test_an_image_look_gives_the_picture_its_network_gives(conv_look):
    plate = picture(90, 120)
    result = relit(LookSession(load_look(conv_look), "cpu"), plate)
    np.testing.assert_allclose(result, whole_run(conv_look, plate, "srgb_log"), rtol=1e-4, atol=1e-5)


def test_tiles_show_no_seam(conv_look, strided_conv_look):
    plate = picture(301, 403, top=1.5)
    for path in (conv_look, strided_conv_look):
        look = load_look(path)
        whole = LookSession(look, "cpu").predict(plate)["gain"]
        tiled = LookSession(look, "cpu", tile_px=128).predict(plate)["gain"]
        assert tiled.shape == whole.shape == (3, 301, 403)
        assert np.abs(tiled - whole).max() < 2e-5  # stops


def test_missing_context_is_seen_so_the_test_above_means_something(tmp_path):
    look = load_look(tiny_looks.conv_look(tmp_path / "short.onnx", overlap_px=1))
    plate = picture(200, 200)
    whole = LookSession(look, "cpu").predict(plate)["gain"]
    assert np.abs(LookSession(look, "cpu", tile_px=128).predict(plate)["gain"] - whole).max() > 1e-3


def test_each_run_and_each_session_gives_the_same_bits(darken_grid_look, conv_look, monkeypatch):
    plate = picture(333, 257, top=3.0)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 8)
    for path in (darken_grid_look, conv_look):
        look, results = load_look(path), []
        for count in ("1", "2", "3", "2"):
            monkeypatch.setenv("RELIGHTGAN_THREADS", count)
            session = LookSession(look, "cpu")
            assert f"{count} threads" in session.device_line
            results += [relit(session, plate), relit(session, plate)]
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


def test_a_frame_does_not_depend_on_the_ones_before(conv_look, darken_grid_look):
    first, other = picture(100, 150, 1), picture(64, 80, 2, top=5.0)
    for path in (conv_look, darken_grid_look):
        session = LookSession(load_look(path), "cpu")
        alone = relit(LookSession(load_look(path), "cpu"), first)
        relit(session, other)
        np.testing.assert_array_equal(relit(session, first), alone)


def test_the_log_line_says_what_runs_and_why(identity_look):
    asked = LookSession(load_look(identity_look), "cpu").device_line
    assert asked.startswith("Running on CPU (onnxruntime ")
    assert asked.endswith("as asked.")


@pytest.mark.skipif(HAS_CUDA, reason="this machine has what the test misses")
def test_without_cuda_auto_is_the_cpu_with_the_reason_and_cuda_is_an_error(identity_look):
    choice = choose_providers("auto")
    assert choice.name == "CPU"
    assert "CUDA" in choice.why
    for device in ("cuda", "cuda:1"):
        with pytest.raises(DeviceError, match=f"The device {device} was asked for, but .*CUDA.*relightgan doctor"):
            LookSession(load_look(identity_look), device)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs an NVIDIA GPU and onnxruntime-gpu")
def test_cuda_gives_the_numbers_of_the_cpu(darken_grid_look, conv_look):
    plate = picture(700, 500, top=4.0)
    for path in (darken_grid_look, conv_look):
        look = load_look(path)
        gpu = LookSession(look, "cuda")
        assert gpu.device_line.startswith("Running on CUDA 0 (")
        np.testing.assert_allclose(relit(gpu, plate), relit(LookSession(look, "cpu"), plate), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(relit(gpu, plate), relit(LookSession(look, "cuda"), plate))


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:x", "auto:1", ""])
def test_an_unknown_device_is_a_usage_error(device):
    with pytest.raises(UsageError, match="There is no device"):
        choose_providers(device)


@pytest.mark.parametrize("asked", ["many", "0", "-1", "", "²", "1e3", "9" * 5000])
def test_a_thread_count_that_makes_no_sense_is_a_usage_error(identity_look, monkeypatch, asked):
    monkeypatch.setenv("RELIGHTGAN_THREADS", asked)
    with pytest.raises(UsageError, match=f"RELIGHTGAN_THREADS={asked[:40]} makes no sense"):
        LookSession(load_look(identity_look), "cpu")


def test_no_more_threads_than_cpus_are_taken_and_the_log_says_so(identity_look, monkeypatch):
    monkeypatch.setattr(threads, "usable_cpus", lambda: 2)
    monkeypatch.setenv("RELIGHTGAN_THREADS", "1000000")
    session = LookSession(load_look(identity_look), "cpu")
    assert session.runtime.threads == 2
    assert "2 threads (RELIGHTGAN_THREADS=1000000, but this process may use 2 CPUs)" in session.device_line


def test_cancelling_stops_between_strips_and_tiles(darken_grid_look, conv_look):
    asked = threading.Event()

    def stop():
        if asked.is_set():
            raise Cancelled("Stopped as asked.")

    plate = picture(300, 300)
    for path, tile_px in ((darken_grid_look, None), (conv_look, 128)):
        look = load_look(path)
        operator = LookSession(look, "cpu", tile_px).predict(plate)
        stopped = LookSession(look, "cpu", tile_px, check=stop)
        asked.set()
        with pytest.raises(Cancelled):
            stopped.predict(plate)
        with pytest.raises(Cancelled):
            stopped.apply(plate, operator)
        asked.clear()


def test_cancelling_ends_a_run_of_an_image_look_that_is_under_way(conv_look, monkeypatch):
    monkeypatch.setattr(runtime, "CHECK_EVERY_S", 0.001)
    asked, opened = [], threading.Event()

    def stop():
        asked.extend([None] * opened.is_set())
        if len(asked) > 1:  # the first question comes before the run
            raise Cancelled("Stopped as asked.")

    session = LookSession(load_look(conv_look), "cpu", check=stop)
    opened.set()
    with pytest.raises(Cancelled):
        session.predict(picture(1200, 1200))


@pytest.mark.parametrize("half", ["predict", "apply"])
def test_cancelling_ends_an_endless_loop_in_either_half_of_an_operator_look(half, tmp_path):
    nodes, stored = tiny_looks.endless_nodes("plate", "relit" if half == "apply" else "same")
    if half == "predict":
        nodes.append(helper.make_node("ReduceMean", ["same", "axes"], ["grid"], keepdims=1))
    look = load_look(tiny_looks.odd_operator_look(tmp_path / "endless.onnx", **{half: nodes}, stored=stored))
    asked = threading.Event()

    def stop():
        if asked.is_set():
            raise Cancelled("Stopped as asked.")

    session, plate = LookSession(look, "cpu", check=stop), picture(300, 300)
    threading.Timer(0.3, asked.set).start()
    with pytest.raises(Cancelled):
        session.apply(plate, session.predict(plate) if half == "predict" else {"grid": np.ones((1, 1, 1), np.float32)})
    asked.clear()
    assert not session.runtime.under_way  # nothing goes on behind


def test_cancelling_ends_the_loading_of_a_look(tmp_path):
    """What a look computes of constants alone is computed while it is loaded."""
    size, steps = 1000, 200
    square = [helper.make_node("ConstantOfShape", ["size"], ["s0"])]
    square += [helper.make_node("MatMul", [f"s{i}", "s0"], [f"s{i + 1}"]) for i in range(steps)]
    square += [helper.make_node("ReduceMax", [f"s{steps}"], ["zero"], keepdims=0)]
    nodes = [*square, helper.make_node("Add", ["plate", "zero"], ["grid"])]
    path = tmp_path / "constants.onnx"
    tiny_looks.odd_operator_look(path, predict=nodes, stored=[tiny_looks.const("size", [size, size], np.int64)])
    asked = threading.Event()

    def stop():
        if asked.is_set():
            raise Cancelled("Stopped as asked.")

    threading.Timer(0.1, asked.set).start()
    with pytest.raises(Cancelled):
        LookSession(load_look(path), "cpu", check=stop)


def test_an_operator_of_too_many_channels_is_a_look_error(tmp_path):
    nodes = [helper.make_node("Expand", ["one", "many"], ["grid"])]
    stored = [tiny_looks.const("one", [[[[1.0]]]]), tiny_looks.const("many", [1, 1025, 1, 1], np.int64)]
    with pytest.raises(LookError, match=r"operator grid of .*odd\.onnx has 1,025 channels"):
        LookSession(odd_grid(tmp_path, *nodes, stored=stored), "cpu").predict(picture(20, 30))


def odd_grid(tmp_path, *nodes, **more):
    return load_look(tiny_looks.odd_operator_look(tmp_path / "odd.onnx", predict=list(nodes), **more))


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([helper.make_node("ReduceMean", ["plate"], ["grid"], keepdims=0)], r"\[\]"),
        ([helper.make_node("ReduceMean", ["plate", "axes"], ["grid"], keepdims=0)], r"\[1\]"),
        ([helper.make_node("Concat", ["plate", "plate"], ["grid"], axis=0)], r"\[2, 3, 20, 30\]"),
        ([helper.make_node("Slice", ["plate", "zero", "zero", "three"], ["grid"])], r"\[1, 3, 20, 0\]"),
    ],
    ids=["one value", "one axis", "two pictures", "nothing"],
)
def test_an_operator_of_another_shape_is_a_look_error(tmp_path, nodes, shape):
    stored = [tiny_looks.const("zero", [0], np.int64), tiny_looks.const("three", [3], np.int64)]
    session = LookSession(odd_grid(tmp_path, *nodes, stored=stored), "cpu")
    with pytest.raises(LookError, match=rf"operator grid of .*odd\.onnx has the shape {shape}; one is \[1,C,h,w\]"):
        session.predict(picture(20, 30))


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([helper.make_node("ReduceMean", ["plate"], ["relit"], keepdims=0)], r"\[\]"),
        ([helper.make_node("ReduceMean", ["plate", "axes"], ["relit"], keepdims=1)], r"\[1, 1, 1, 1\]"),
        ([helper.make_node("Concat", ["plate", "plate"], ["relit"], axis=1)], r"\[1, 6, 20, 30\]"),
    ],
    ids=["one value", "one pixel", "six channels"],
)
def test_a_result_of_another_shape_is_a_look_error_and_is_never_spread_over_the_frame(tmp_path, nodes, shape):
    ports = [tiny_looks.picture(name, [None] * 4) for name in ("relit", "grid")]
    path = tiny_looks.odd_operator_look(tmp_path / "odd.onnx", apply=nodes, outputs=ports)
    session = LookSession(load_look(path), "cpu")
    with pytest.raises(LookError, match=rf"output relit of .*odd\.onnx has the shape {shape} where it should have"):
        session.apply(picture(20, 30), {"grid": np.ones((1, 1, 1), np.float32)})


def test_an_operator_that_is_no_float_is_a_look_error(tmp_path):
    nodes = [helper.make_node("Shape", ["plate"], ["grid"])]
    grid = helper.make_tensor_value_info("grid", onnx.TensorProto.INT64, [4])
    apply = [helper.make_node("Identity", ["plate"], ["relit"])]
    look = odd_grid(tmp_path, *nodes, apply=apply, outputs=[tiny_looks.picture("relit"), grid])
    with pytest.raises(LookError, match=r"output grid of .* is int64, not float32"):
        LookSession(look, "cpu").predict(picture(20, 30))


def test_frames_smaller_than_a_network_s_border_are_relit(tmp_path):
    """A blur that reflects 4 px at the border, as a translator's convolutions do; onnxruntime fails on fewer."""
    nodes = [
        helper.make_node("Pad", ["plate", "pads"], ["padded"], mode="reflect"),
        helper.make_node("AveragePool", ["padded"], ["relit"], kernel_shape=[9, 9]),
    ]
    facts = facts_to_metadata(tiny_looks.facts_of(value_range="unit", overlap_px=4))
    pads = tiny_looks.const("pads", [0, 0, 4, 4, 0, 0, 4, 4], np.int64)
    ports = ([tiny_looks.picture("plate")], [tiny_looks.picture("relit")])
    session = LookSession(load_look(tiny_looks.write(tmp_path / "blur.onnx", nodes, *ports, [pads], facts)), "cpu")
    for size in ((1, 1), (1, 40), (40, 1), (3, 5)):
        plate = np.full((*size, 3), 0.5, np.float32)
        np.testing.assert_allclose(relit(session, plate), plate, rtol=1e-6)


def test_a_model_that_onnxruntime_cannot_load_is_a_look_error(identity_look, tmp_path):
    model = onnx.load(identity_look)
    model.graph.node[0].domain = "studio.private"
    model.opset_import.append(onnx.helper.make_opsetid("studio.private", 1))
    path = tmp_path / "private.onnx"
    onnx.save(model, path)
    with pytest.raises(LookError, match=r"can't load .*private\.onnx .*studio\.private"):
        LookSession(load_look(path), "cpu")


def test_a_look_whose_operators_depend_on_the_window_is_refused(darken_grid_look, tmp_path):
    model = onnx.load(darken_grid_look)
    for node in model.graph.node:
        if node.output[0] == "scaled":
            node.input[1] = "x0"  # part of the window
    model.graph.node.sort(key=lambda node: "window" not in node.input)
    path = tmp_path / "wrong.onnx"
    onnx.save(model, path)
    with pytest.raises(LookError, match="depend on 'window'"):
        LookSession(load_look(path), "cpu")


def test_a_wrong_size_multiple_is_named(tmp_path):
    look = load_look(tiny_looks.strided_conv_look(tmp_path / "odd.onnx", size_multiple=1))
    with pytest.raises(LookError, match=r"turned 33x31 pixels into 34x32.*size multiple"):
        LookSession(look, "cpu").predict(picture(31, 33))


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from relightgan.core.look import load_look
from relightgan.core.session import LookSession
def address_space(name):
    status = Path("/proc/self/status").read_text()
    return int(status.split(name + ":")[1].split()[0]) * 1024
session = LookSession(load_look(sys.argv[1]), "cpu")
plate = np.full((1400, 1500, 3), 0.5, np.float32)
session.predict(plate[:64, :64])
used = address_space("VmSize")
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]),) * 2)
print(session.predict(plate)["gain"].shape, address_space("VmPeak") - used)
"""


def predict_in_memory(look, *limit):
    # With one arena glibc reserves no address space for each thread, which would count here.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1", "RELIGHTGAN_THREADS": "2"}
    command = [sys.executable, "-c", SHORT_OF_MEMORY, str(look), *map(str, limit)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory the Linux way")
def test_short_of_memory_an_image_look_goes_on_in_smaller_tiles_and_then_gives_up_clearly(conv_look):
    """Processors differ in how much memory a convolution takes: what a whole frame takes is measured first."""
    done = predict_in_memory(conv_look)
    assert done.stdout.startswith("(3, 1400, 1500) "), done.stderr
    assert "Memory" not in done.stderr
    whole = int(done.stdout.split()[-1])
    done = predict_in_memory(conv_look, round(0.7 * whole))
    assert done.stdout.startswith("(3, 1400, 1500) "), done.stderr
    assert "Memory ran out on CPU; going on with tiles of 750 px." in done.stderr
    assert "onnxruntime" not in done.stderr
    done = predict_in_memory(conv_look, 20 << 20)  # the gains alone are 25 MB
    assert "OutOfMemoryError: CPU ran out of memory over a frame of 1500x1400" in done.stderr


class ShortOfMemory:
    """An onnxruntime session that has no memory for more than so many pixels, and says so as onnxruntime does."""

    def __init__(self, session, most_pixels):
        self.session, self.most_pixels = session, most_pixels
        self.sizes = []

    def run(self, names, feed, options=None):
        height, width = feed["plate"].shape[2:]
        self.sizes.append((height, width))
        if height * width > self.most_pixels:
            raise ORT_ERRORS[0]("Non-zero status code returned while running Conv node. Failed to allocate memory for")
        return self.session.run(names, feed, options)


def test_tiles_are_halved_until_they_fit_and_the_gains_stay_the_same(conv_look):
    plate, said = picture(600, 500), []
    session = LookSession(load_look(conv_look), "cpu", report=said.append)
    whole = session.predict(plate)["gain"]
    network = ShortOfMemory(session.kind.network, 150 * 150)
    session.kind.network = network
    assert np.abs(session.predict(plate)["gain"] - whole).max() < 2e-5  # stops
    assert said == [f"Memory ran out on CPU; going on with tiles of {side} px." for side in (300, 150)]
    assert network.sizes[:2] == [(600, 500), (300, 300)]
    assert set(network.sizes[2:]) == {(150, 150)}
    network.most_pixels = 100 * 100  # less than the smallest tiles
    with pytest.raises(OutOfMemoryError, match=r"over a frame of 500x600 in the smallest tiles\. .*--tile"):
        session.predict(plate)


UHD = """
import sys
from pathlib import Path
import numpy as np
from relightgan.core.look import load_look
from relightgan.core.session import LookSession
def memory(name):  # not getrusage: that counts what the parent process held when it forked
    return Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]
session = LookSession(load_look(sys.argv[1]), "cpu")
before = memory("VmRSS")
plate = np.full((2160, 3840, 3), 0.5, np.float32)
session.apply(plate, session.predict(plate))
print(before, memory("VmHWM"))
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_uhd_frame_of_an_operator_look_stays_small(darken_grid_look):
    """Plate, network input and result are 100 MB each; the frame may not take more than half as much again.

    On two threads, as each has a strip of its own.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RELIGHTGAN_THREADS": "2"}
    command = [sys.executable, "-c", UHD, str(darken_grid_look)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG_S, check=True)
    before, peak = (int(word) * 1024 for word in done.stdout.split())
    assert peak - before < 450e6


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 3), (20, 20)])
@pytest.mark.parametrize("kind", ["noise around black", "one colour", "saturated", "one bright pixel"])
def test_a_handful_of_pixels_changes_within_sane_bounds(size, kind):
    """Before, 1x1 plates of ordinary values changed by as much as 13."""
    session, rng = LookSession(load_look(COURTYARD), "cpu"), np.random.default_rng(0)
    makers = {
        "noise around black": lambda: rng.normal(0.2, 0.3, (*size, 3)),
        "one colour": lambda: np.broadcast_to(rng.random(3), (*size, 3)),
        "saturated": lambda: np.eye(3)[rng.integers(0, 3, size)] * rng.random((*size, 1)),
        "one bright pixel": lambda: (
            np.where(np.arange(size[0] * size[1]).reshape(*size, 1) == 0, 1.0, 1e-3) * np.ones(3)
        ),
    }
    for _ in range(25):
        plate = makers[kind]().astype(np.float32)
        gain = session.gain(plate, session.predict(plate))
        change = relit(session, plate) - plate
        assert np.isfinite(change).all()
        assert gain.max() < 3.0  # stops
        assert np.abs(change).max() < 7 * np.abs(plate).max()


def test_values_below_zero_do_not_count_as_light():
    """A frame with a negative luminance has no anchor; what remains is that of the same frame without them."""
    session = LookSession(load_look(COURTYARD), "cpu")
    plate = picture(60, 80)
    plate[:30, :, 1] = -0.5
    found, wanted = session.predict(plate), session.predict(np.maximum(plate, 0.0))
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
