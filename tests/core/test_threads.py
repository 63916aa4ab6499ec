"""The number of threads must not show in a pixel: every operation we rely on, whole looks, and whole frames."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import tiny_looks
from onnx import TensorProto, helper, numpy_helper

from relightgan.core import threads
from relightgan.core.devices import session_options
from relightgan.core.guidance import FrameGuidance
from relightgan.core.look import load_look
from relightgan.core.pipeline import Relighting, Settings, relight_frame
from relightgan.core.plate import Plate
from relightgan.core.session import LookSession

COURTYARD = Path(__file__).resolve().parents[2] / "examples" / "courtyard" / "look.onnx"
COUNTS = (1, 2, 3, 7, 12, 32)
SIZES = [(1920, 1080), (2048, 858), (3840, 2160), (1013, 577), (333, 251), (33, 17), (3, 3), (1, 1)]

EACH_VALUE = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSoftmax", "Neg", "Reciprocal", "Relu", "Round",
    "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
]  # fmt: skip
SUMS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare")
EVEN_AXES = ([1, 2, 3], [2, 3], [3], [1], [0], [1, 2])


def stored(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def model_of(*nodes, given=(), inner="x"):
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph(nodes, "one", [port], [helper.make_empty_tensor_value_info("y")], given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def one(kind, *more, given=(), **attributes):
    return model_of(helper.make_node(kind, ["x", *more], ["y"], **attributes), given=given)


def reduction(kind, axes):
    return one(kind, "axes", given=[stored("axes", axes, np.int64)])


def even_models():
    """Models of single operations, by name."""
    found = {kind: one(kind) for kind in EACH_VALUE}
    found |= {f"{kind} {axes}": reduction(kind, axes) for kind in SUMS for axes in EVEN_AXES}
    for power in (2.2, 3.0, 0.5):
        found[f"Pow {power}"] = one("Pow", "p", given=[stored("p", power)])
    rng = np.random.default_rng(1)
    found["Conv"] = one("Conv", "w", given=[stored("w", rng.normal(size=(8, 5, 3, 3)))], pads=[1] * 4)
    found["ConvTranspose"] = one(
        "ConvTranspose", "w", given=[stored("w", rng.normal(size=(5, 8, 3, 3)))], strides=[2, 2]
    )
    found["AveragePool"] = one("AveragePool", kernel_shape=[5, 5])
    scales = stored("scales", [1, 1, 0.37, 1.41])
    for mode in ("linear", "cubic", "nearest"):
        found[f"Resize {mode}"] = one("Resize", "", "scales", given=[scales], mode=mode)
    found["Resize antialias"] = one("Resize", "", "scales", given=[scales], mode="linear", antialias=1)
    ones, zeros = np.ones(5), np.zeros(5)
    found["InstanceNormalization"] = one(
        "InstanceNormalization", "s", "b", given=[stored("s", ones), stored("b", zeros)]
    )
    found["LayerNormalization"] = one("LayerNormalization", "s", given=[stored("s", [1.0])])
    flipped = helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2])
    found["MatMul"] = model_of(flipped, helper.make_node("MatMul", ["x", "t"], ["y"]))
    return found


def results_for(model, plates, counts=(1, 3, 7, 12)):
    """The model's answers to each plate, by the number of threads."""
    found = {}
    for count in counts:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), session_options(count), providers=["CPUExecutionProvider"]
        )
        found[count] = [session.run(None, {"x": plate})[0] for plate in plates]
    return found


def differing(found):
    """The numbers of threads whose answers aren't those of one thread."""
    return [
        count
        for count, answers in found.items()
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(answers, found[1], strict=True))
    ]


@pytest.fixture(scope="module")
def plates():
    rng = np.random.default_rng(0)
    return [rng.uniform(0.05, 0.95, (1, 5, *size)).astype(np.float32) for size in ((333, 251), (112, 256))]


@pytest.mark.parametrize("name", even_models())
def test_an_operation_held_to_be_even_is(name, plates):
    model = even_models()[name]
    assert threads.without_uneven(model)
    assert differing(results_for(model, plates)) == []


@pytest.mark.parametrize("kind", threads.UNEVEN)
def test_an_operation_held_to_be_uneven_is_so_the_tests_above_mean_something(kind, plates):
    model = one(kind)
    assert not threads.without_uneven(model)
    assert differing(results_for(model, plates))


def test_a_sum_between_kept_axes_is_uneven(plates):
    model = reduction("ReduceMean", [2])
    assert not threads.without_uneven(model)
    assert differing(results_for(model, plates))


@pytest.mark.parametrize(
    "model",
    [
        reduction("ReduceSum", [-2]),
        reduction("ReduceSum", [1, 3]),
        model_of(
            helper.make_node("Shape", ["x"], ["axes"], start=0, end=1),
            helper.make_node("ReduceSum", ["x", "axes"], ["y"]),
        ),
        one("FusedMatMul", "x", domain="com.microsoft"),
    ],
    ids=["counted from the end", "two with one kept between", "computed axes", "an operation of onnxruntime's own"],
)
def test_what_is_not_known_to_be_even_counts_as_uneven(model):
    assert not threads.without_uneven(model)


def test_uneven_operations_are_found_inside_branches():
    port = helper.make_empty_tensor_value_info
    branch = helper.make_graph([helper.make_node("Softplus", ["x"], ["b"])], "branch", [], [port("b")])
    model = model_of(
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch), given=[stored("c", True, bool)]
    )
    assert not threads.without_uneven(model)


@pytest.mark.parametrize(
    "axes",
    [stored("axes", [0.5]), helper.make_tensor("axes", TensorProto.STRING, [1], [b"\xff"])],
    ids=["numbers", "a text that is no UTF-8"],
)
def test_axes_that_are_no_whole_numbers_are_left_to_onnxruntime(axes):
    assert not threads.without_uneven(one("ReduceMean", "axes", given=[axes]))


def test_types_are_not_inferred_where_nothing_could_end_it():
    inner = [helper.make_opsetid("", 20)]
    function = helper.make_function("ours", "Twice", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], inner)
    called = model_of(helper.make_node("Twice", ["x"], ["y"], domain="ours"))
    called.functions.append(function)
    called.opset_import.append(helper.make_opsetid("ours", 1))
    for model in (called, one("Einsum", equation="abcd->abcd")):
        assert threads.known_types(model) == {}
    assert threads.known_types(one("Neg")) != {}


def test_logarithms_are_made_even_and_keep_their_values(plates):
    model = model_of(helper.make_node("Log", ["x"], ["l"]), helper.make_node("Log", ["l"], ["y"]))
    evened = threads.with_even_logs(model)
    assert threads.without_uneven(evened)
    assert [node.op_type for node in model.graph.node] == ["Log", "Log"]  # the model itself stays as it was
    for values in (plates, [np.array([[[[0.0, -1.0, np.inf, np.nan, 1e-45, 1.0]]]], np.float32)]):
        found = results_for(evened, values)
        assert differing(found) == []
        for answer, wanted in zip(found[1], results_for(model, values, [1])[1], strict=True):
            np.testing.assert_allclose(answer, wanted, rtol=1e-6, atol=1e-6)


def test_an_older_model_keeps_its_logarithms_and_counts_as_uneven():
    model = one("Log")
    model.opset_import[0].version = 17
    evened = threads.with_even_logs(model)
    assert evened == model
    assert not threads.without_uneven(evened)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_look_predicts_the_same_bits_with_any_number_of_threads(size, monkeypatch):
    monkeypatch.setattr(threads, "usable_cpus", lambda: 64)
    plate = np.exp(np.random.default_rng(0).normal(-2, 1.5, (*size[::-1], 3))).astype(np.float32)
    look = load_look(COURTYARD)
    found = []
    for count in COUNTS:
        monkeypatch.setenv(threads.THREADS_VARIABLE, str(count))
        found.append(LookSession(look, "cpu").predict(plate))
    for operator in found[1:]:
        assert {name: array.tobytes() for name, array in operator.items()} == {
            name: array.tobytes() for name, array in found[0].items()
        }


def test_an_image_look_with_logarithms_gives_the_same_bits_on_all_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "usable_cpus", lambda: 64)
    look = load_look(log_look(tmp_path / "log.onnx"))
    plate = np.random.default_rng(0).random((333, 251, 3), np.float32)
    found = []
    for count in COUNTS:
        monkeypatch.setenv(threads.THREADS_VARIABLE, str(count))
        session = LookSession(look, "cpu")
        assert session.kind.network.get_session_options().intra_op_num_threads == count
        found.append(session.predict(plate)["gain"])
    assert all(np.array_equal(gain, found[0]) for gain in found)


def log_look(path):
    """An image look of pictures in 0..1: log(1 + plate) / log(2)."""
    nodes = [
        helper.make_node("Add", ["plate", "one"], ["more"]),
        helper.make_node("Log", ["more"], ["stops"]),
        helper.make_node("Mul", ["stops", "scale"], ["relit"]),
    ]
    given = [tiny_looks.const("one", 1.0), tiny_looks.const("scale", 1 / np.log(2))]
    facts = tiny_looks.facts_to_metadata(tiny_looks.facts_of(value_range="unit"))
    return tiny_looks.write(path, nodes, [tiny_looks.picture("plate")], [tiny_looks.picture("relit")], given, facts)


def test_a_blended_guided_frame_has_the_same_bits_with_any_number_of_threads(monkeypatch):
    """With the threads of OpenCV, which measures the motion and spreads the guidance."""
    monkeypatch.setattr(threads, "usable_cpus", lambda: 64)
    rng = np.random.default_rng(0)
    light = np.exp2(cv2.GaussianBlur(rng.normal(0, 8, (577, 1013, 3)).astype(np.float32), (0, 0), 5) - 2)
    window = (0, 0, 1013, 577)
    clip = {frame: Plate(Path("p"), np.roll(light, 3 * frame, 1), None, window, window) for frame in range(1, 4)}
    gains = rng.normal(0, 1, (48, 84, 3)).astype(np.float32)
    guidance = FrameGuidance(gains, np.zeros(gains.shape, bool), np.full((48, 84), 0.7, np.float32))
    look, before, found = load_look(COURTYARD), cv2.getNumThreads(), []
    try:
        for count in COUNTS:
            cv2.setNumThreads(count)
            monkeypatch.setenv(threads.THREADS_VARIABLE, str(count))
            settings = Settings(temporal_blend=0.7, temporal_window=1)
            relighting = Relighting(LookSession(look, "cpu"), settings, guidance=lambda frame: guidance)
            found.append(relight_frame(2, clip.__getitem__, list(clip), relighting).rgb)
    finally:
        cv2.setNumThreads(before)
    assert all(np.array_equal(rgb, found[0]) for rgb in found)
