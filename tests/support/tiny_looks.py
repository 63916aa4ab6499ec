"""Small looks built by hand with onnx.helper, for tests that need a real look but no training.

Loaded through the fixture `tiny_looks`; each builder writes a file and returns its path.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from relightgan.core.look import LookFacts, facts_to_metadata

OPSET = 18
GRID_HEIGHT, GRID_WIDTH = 4, 6
CONV_RADIUS = 3  # of conv_look, in pixels
PICTURE = ["N", 3, "H", "W"]


def facts_of(**changes) -> LookFacts:
    values = {
        "name": "tiny",
        "direction": "day to dusk",
        "translator": "tiny",
        "encoding": "linear",
        "primaries": "lin_rec709",
        "value_range": "unbounded",
        "licence": "Apache-2.0",
        "created": "2026-01-01T00:00:00Z",
    }
    return LookFacts(**{**values, **changes})


def const(name: str, values, dtype=np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def picture(name: str, shape=None, kind=TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, PICTURE if shape is None else shape)


def write(path: Path, nodes, inputs, outputs, stored, metadata: dict[str, str], full_check: bool = True) -> Path:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=full_check)
    onnx.save(model, path)
    return path


def identity_look(path: Path, **changes) -> Path:
    """relit = plate, without operators; linear and unbounded unless changed."""
    nodes = [helper.make_node("Identity", ["plate"], ["relit"])]
    return write(path, nodes, [picture("plate")], [picture("relit")], [], facts_to_metadata(facts_of(**changes)))


def gain_look(path: Path, gain: float, **changes) -> Path:
    """relit = plate x gain in the look's encoding; an image look in 0..1 unless changed."""
    facts = facts_of(**{"encoding": "srgb_log", "value_range": "unit", **changes})
    nodes = [helper.make_node("Mul", ["plate", "gain"], ["relit"])]
    return write(
        path, nodes, [picture("plate")], [picture("relit")], [const("gain", gain)], facts_to_metadata(facts)
    )  # fmt: skip


def darken_grid_look(path: Path, aovs: bool = False, **changes) -> Path:
    """An operator look: relit = plate x 2^(grid at this pixel - 0.5 x the pixel's place across and down the frame).

    The grid holds log2 gains from -1.5 to -0.5 that follow the plate's own brightness, without values below 0. The
    pixel's place comes from `window`, so that tiles given a wrong window come out wrong. With `aovs` it also tells the
    gain, and a confidence of 0.5 / (0.5 + doubt) from the operator `doubt`, which is the largest of the frame's own
    colours in each cell.
    """
    told = {"operators": ("grid", "doubt"), "aovs": ("gain", "confidence")} if aovs else {"operators": ("grid",)}
    facts = facts_of(**{"name": "darken", **told, **changes})
    node = helper.make_node
    nodes = [
        # predict
        node("Relu", ["plate"], ["light"]),
        node("Resize", ["light", "", "", "grid_size"], ["small"], axes=[2, 3], mode="linear", antialias=1),
        node("Tanh", ["small"], ["squashed"]),
        node("Mul", ["squashed", "minus_half"], ["scaled"]),
        node("Sub", ["scaled", "one"], ["grid"]),
        # where each pixel of this tile lies in the frame, 0..1
        node("Shape", ["plate"], ["shape"]),
        node("Split", ["shape"], ["n", "c", "h", "w"], num_outputs=4, axis=0),
        node("Squeeze", ["h"], ["rows"]),
        node("Squeeze", ["w"], ["columns"]),
        node("Split", ["window"], ["x0", "y0", "x1", "y1"], num_outputs=4, axis=0),
        *place_nodes("x", "columns", "[1,1,W]"),
        *place_nodes("y", "rows", "[1,H,1]"),
        # the grid and a ramp at those places
        node("Concat", ["one_i", "h", "w"], ["area"], axis=0),
        node("Expand", ["across", "area"], ["across_full"]),
        node("Expand", ["down", "area"], ["down_full"]),
        node("Unsqueeze", ["across_full", "last"], ["across_last"]),
        node("Unsqueeze", ["down_full", "last"], ["down_last"]),
        node("Concat", ["across_last", "down_last"], ["places"], axis=-1),
        node("Mul", ["places", "two"], ["doubled"]),
        node("Sub", ["doubled", "one"], ["signed"]),
        node("GridSample", ["grid", "signed"], ["sampled"], align_corners=0, padding_mode="border"),
        node("Add", ["across_full", "down_full"], ["ramp_flat"]),
        node("Unsqueeze", ["ramp_flat", "one_i"], ["ramp"]),
        node("Mul", ["ramp", "minus_half"], ["falling"]),
        node("Add", ["sampled", "falling"], ["stops"]),
        node("Pow", ["two", "stops"], ["factor"]),
        node("Mul", ["plate", "factor"], ["relit"]),
    ]
    if aovs:
        nodes += [
            node("ReduceMax", ["small", "one_i"], ["brightest"], keepdims=1),
            node("Relu", ["brightest"], ["doubt"]),
            node("GridSample", ["doubt", "signed"], ["doubt_here"], align_corners=0, padding_mode="border"),
            node("Add", ["doubt_here", "half"], ["doubt_more"]),
            node("Div", ["half", "doubt_more"], ["confidence"]),
            node("Identity", ["stops"], ["gain"]),
        ]
    stored = [
        const("grid_size", [GRID_HEIGHT, GRID_WIDTH], np.int64),
        const("minus_half", -0.5), const("half", 0.5), const("one", 1.0), const("two", 2.0),
        const("one_i", [1], np.int64), const("last", [-1], np.int64),
        const("zero_s", 0, np.int64), const("one_s", 1, np.int64),
        const("[1,1,W]", [1, 1, -1], np.int64), const("[1,H,1]", [1, -1, 1], np.int64),
        const("window", [0.0, 0.0, 1.0, 1.0]),
    ]  # fmt: skip
    inputs = [picture("plate"), picture("window", [4])]
    outputs = [picture("relit"), picture("grid", ["N", 3, GRID_HEIGHT, GRID_WIDTH])]
    if aovs:
        doubt = picture("doubt", ["N", 1, GRID_HEIGHT, GRID_WIDTH])
        outputs += [doubt, picture("gain"), picture("confidence", ["N", 1, "H", "W"])]
    return write(path, nodes, inputs, outputs, stored, facts_to_metadata(facts))


def odd_operator_look(path: Path, predict=None, apply=None, outputs=None, stored=(), **changes) -> Path:
    """An operator look, relit = plate x grid, of which either half can be something else.

    Args:
        path: the file to write.
        predict: nodes that make `grid` from `plate`, in place of its mean.
        apply: nodes that make `relit` from `plate` and `grid`, in place of their product.
        outputs: ports, in place of `relit` and `grid` of any size.
        stored: constants of these nodes.
        changes: facts.
    """
    node = helper.make_node
    predict = predict or [node("ReduceMean", ["plate", "axes"], ["grid"], keepdims=1)]
    apply = apply or [node("Mul", ["plate", "grid"], ["relit"])]
    grid = picture("grid", [None] * 4)
    facts = facts_of(**{"operators": ("grid",), **changes})
    given = [const("axes", [1, 2, 3], np.int64), *stored]
    ports = [picture("relit"), grid] if outputs is None else outputs
    return write(path, [*predict, *apply], [picture("plate")], ports, given, facts_to_metadata(facts), full_check=False)


def endless_nodes(given: str, result: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A loop of 2^62 steps from one value to another, each of which changes nothing, and what it needs stored."""
    value = helper.make_tensor_value_info
    inner = [
        helper.make_node("Identity", ["go_in"], ["go_out"]),
        helper.make_node("Mul", ["step_in", "unchanged"], ["step_out"]),
    ]
    ports = [value("i", TensorProto.INT64, []), value("go_in", TensorProto.BOOL, []), picture("step_in", [None] * 4)]
    ends = [value("go_out", TensorProto.BOOL, []), picture("step_out", [None] * 4)]
    body = helper.make_graph(inner, "body", ports, ends, [const("unchanged", 1.0)])
    nodes = [helper.make_node("Loop", ["steps", "go", given], [result], body=body)]
    return nodes, [const("steps", 2**62, np.int64), const("go", True, bool)]


def place_nodes(axis: str, count: str, shape: str) -> list[onnx.NodeProto]:
    """axis0 + (index + 0.5) / count x (axis1 - axis0), shaped to lie along its own axis."""
    node, out = helper.make_node, {"x": "across", "y": "down"}[axis]
    return [
        node("Range", ["zero_s", count, "one_s"], [f"{axis}_index"]),
        node("Cast", [f"{axis}_index"], [f"{axis}_float"], to=TensorProto.FLOAT),
        node("Add", [f"{axis}_float", "half"], [f"{axis}_centre"]),
        node("Cast", [count], [f"{axis}_count"], to=TensorProto.FLOAT),
        node("Div", [f"{axis}_centre", f"{axis}_count"], [f"{axis}_share"]),
        node("Sub", [f"{axis}1", f"{axis}0"], [f"{axis}_span"]),
        node("Mul", [f"{axis}_share", f"{axis}_span"], [f"{axis}_part"]),
        node("Add", [f"{axis}_part", f"{axis}0"], [f"{axis}_place"]),
        node("Reshape", [f"{axis}_place", shape], [out]),
    ]


def conv_look(path: Path, **changes) -> Path:
    """An image look in srgb_log 0..1 of three 3x3 convolutions: each pixel sees CONV_RADIUS pixels around it."""
    facts = {"name": "conv", "encoding": "srgb_log", "value_range": "unit", "overlap_px": CONV_RADIUS, **changes}
    layers = [(3, 8, 1), (8, 8, 1), (8, 3, 1)]
    nodes, stored = conv_nodes(layers)
    return write(
        path, nodes, [picture("plate")], [picture("relit")], stored, facts_to_metadata(facts_of(**facts))
    )  # fmt: skip


def strided_conv_look(path: Path, **changes) -> Path:
    """As conv_look, at half size inside: needs sizes that are multiples of 2 and sees at most 8 pixels around."""
    facts = {"name": "strided", "encoding": "srgb_log", "value_range": "unit", "overlap_px": 8, "size_multiple": 2}
    layers = [(3, 8, 2), (8, 8, 1), (8, 8, 0.5), (8, 3, 1)]
    nodes, stored = conv_nodes(layers)
    return write(
        path, nodes, [picture("plate")], [picture("relit")], stored, facts_to_metadata(facts_of(**{**facts, **changes}))
    )  # fmt: skip


def conv_nodes(layers) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """3x3 convolutions (channels in, out, stride; 0.5 doubles the size first) with ReLU between and a sigmoid last."""
    rng = np.random.default_rng(7)
    nodes, stored, source = [], [], "plate"
    for i, (before, after, stride) in enumerate(layers):
        stored.append(const(f"weight{i}", rng.normal(0, 0.3, (after, before, 3, 3))))
        if stride == 0.5:
            stored.append(const("double", [1.0, 1.0, 2.0, 2.0]))
            nodes.append(helper.make_node("Resize", [source, "", "double"], [f"up{i}"], mode="nearest"))
            source, stride = f"up{i}", 1
        nodes.append(
            helper.make_node("Conv", [source, f"weight{i}"], [f"conv{i}"], pads=[1, 1, 1, 1], strides=[stride, stride])
        )
        last = i == len(layers) - 1
        source = "relit" if last else f"act{i}"
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"conv{i}"], [source]))
    return nodes, stored
