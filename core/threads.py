"""How many threads compute, and how their number is kept out of the pixels.

onnxruntime cuts an operation into one piece for each thread. Nearly all operations give each value the same bits
wherever the cuts lie. Measured (tests/core/test_threads.py runs them all), those that don't are

    Log, Softplus, Mish      Eigen computes whole vectors; the values left over at a piece's end are rounded otherwise
    ReduceMean, ReduceSum    over axes with kept ones on both sides: partial sums, one for each piece

So a network of a whole frame runs on a number of threads that never changes, `EVEN_THREADS`, where it has such an
operation, and on all threads where it has none. As most image looks have just the logarithm, that is first put into a
form that is even.
"""

import os
import re
from collections.abc import Sequence

import onnx
from onnx import helper, numpy_helper

from relightgan.core.errors import UsageError
from relightgan.core.look import all_nodes

__all__ = ["EVEN_THREADS", "THREADS_VARIABLE", "thread_count", "threads_text", "with_even_logs", "without_uneven"]

THREADS_VARIABLE = "RELIGHTGAN_THREADS"
# Threads of a network that has an uneven operation. The predictor of an operator look takes a tenth of a frame's time,
# and one of two cores less for it would be noticed, one of many more would not.
EVEN_THREADS = 2
UNEVEN = ("Log", "Softplus", "Mish")
UNEVEN_SUMS = ("ReduceMean", "ReduceSum")
AXES_AS_INPUT = 18  # opset from which ReduceLogSum takes its axes as an input
OWN_DOMAINS = ("", "ai.onnx")


def thread_count() -> int:
    """How many threads to compute with: RELIGHTGAN_THREADS, but at most the CPUs this process may use, busy or not.

    Raises:
        UsageError: RELIGHTGAN_THREADS isn't a whole number from 1 up.
    """
    asked = os.environ.get(THREADS_VARIABLE)
    if asked is None:
        return usable_cpus()
    if re.fullmatch("0*[1-9][0-9]{0,8}", asked) is None:
        raise UsageError(f"{THREADS_VARIABLE}={asked[:40]} makes no sense.", "Set it to a whole number from 1 up.")
    return min(int(asked), usable_cpus())


def threads_text(threads: int) -> str:
    """The number of threads for the log, with the wish where more were asked for than there are CPUs."""
    asked = os.environ.get(THREADS_VARIABLE, "")
    more = f" ({THREADS_VARIABLE}={asked}, but this process may use {threads} CPUs)"
    return f"{threads} threads" + (more if asked.isdecimal() and int(asked) > threads else "")


def usable_cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_even_logs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model whose logarithms don't depend on the number of threads: the log of a sum of one value each.

    Logarithms inside the branches and loops of a model stay as they are, and keep it uneven.
    """
    evened = onnx.ModelProto()
    evened.CopyFrom(model)
    graph = evened.graph
    version = next((opset.version for opset in model.opset_import if opset.domain in OWN_DOMAINS), 0)
    types = known_types(model)
    if version < AXES_AS_INPUT:
        return evened
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | set(types)
    taken |= {tensor.name for tensor in graph.initializer}
    axis = free_name("even_axis", taken)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        given = types.get(node.input[0]) if node.input else None
        if is_own(node, "Log") and given is not None and given.elem_type == onnx.TensorProto.FLOAT:
            deeper = free_name(f"{node.output[0]}_even", taken)
            nodes.append(helper.make_node("Unsqueeze", [node.input[0], axis], [deeper]))
            nodes.append(helper.make_node("ReduceLogSum", [deeper, axis], [node.output[0]], keepdims=0))
        else:
            nodes.append(node)
    if len(nodes) > len(graph.node):
        graph.initializer.append(helper.make_tensor(axis, onnx.TensorProto.INT64, [1], [-1]))
        del graph.node[:]
        graph.node.extend(nodes)
    return evened


def without_uneven(model: onnx.ModelProto) -> bool:
    """True where the pixels can't depend on the number of threads; False where they do, or where that isn't known."""
    types = known_types(model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in all_nodes(model.graph):
        if node.domain not in OWN_DOMAINS or node.op_type in UNEVEN:
            return False
        if node.op_type in UNEVEN_SUMS and may_cut_sums(node, types, stored):
            return False
    return True


# Private implementation


def is_own(node: onnx.NodeProto, kind: str) -> bool:
    """True for an operation of ONNX itself, of this kind."""
    return node.op_type == kind and node.domain in OWN_DOMAINS


def may_cut_sums(
    node: onnx.NodeProto, types: dict[str, onnx.TypeProto.Tensor], stored: dict[str, onnx.TensorProto]
) -> bool:
    """False where a reduction takes the last axes, the first ones or all; the axis of pictures, of which there is one,
    counts as taken."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axes: Sequence[int] = attributes.get("axes", ())
    if len(node.input) > 1:
        given_axes = stored.get(node.input[1])
        if given_axes is None or given_axes.data_type != onnx.TensorProto.INT64:  # onnxruntime refuses others
            return True
        axes = numpy_helper.to_array(given_axes).ravel().tolist()
    if not axes:
        return bool(attributes.get("noop_with_empty_axes"))  # else it reduces all
    given = types.get(node.input[0])
    if given is None or not given.HasField("shape") or not given.shape.dim:
        return True
    rank = len(given.shape.dim)
    taken = sorted({axis % rank for axis in axes})
    in_one_piece = taken == list(range(taken[0], taken[-1] + 1))
    return not (in_one_piece and (taken[0] <= 1 or taken[-1] == rank - 1))


def known_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """The types of a graph's values, by name, as far as onnx can infer them; none of a graph it can't follow."""
    # onnx holds Python's lock while it infers, so nothing could end it: neither functions that call each other millions
    # of times, nor an Einsum whose equation it doesn't come to the end of (several `...`).
    if model.functions or any(node.op_type == "Einsum" for node in all_nodes(model.graph)):
        return {}
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # or a text in the model is no UTF-8
        return {}
    ports = (*graph.value_info, *graph.input, *graph.output)
    return {port.name: port.type.tensor_type for port in ports if port.type.HasField("tensor_type")}


def free_name(wish: str, taken: set[str]) -> str:
    """A name that no value of a graph has yet; it is taken then."""
    while wish in taken:
        wish += "_"
    taken.add(wish)
    return wish
