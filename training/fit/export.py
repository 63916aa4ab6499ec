"""Writes a look: one ONNX file, whose output is compared with torch before it gets its final name."""

import base64
import copy
import dataclasses
import datetime
import functools
import logging
import platform
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch.export import Dim

from relightgan.core.devices import ORT_ERRORS, first_line
from relightgan.core.errors import LookError
from relightgan.core.files import replacing
from relightgan.core.look import (
    PLATE,
    RELIT,
    WINDOW,
    LookFacts,
    build_facts,
    facts_to_metadata,
    load_look,
)
from relightgan.core.look_metadata import PREVIEW_KEY
from relightgan.core.version import VERSION
from relightgan.training.fit.recipe import ExportSpec

OPSET = 18  # the first ONNX opset with an antialiased Resize; GridSample came with 16
# Height and width of the plates for the comparison with torch: one with odd sides, one larger than `GUIDE_PX`.
PROOF_SIZES = ((211, 157), (160, 1280))
# The largest difference allowed, relative for values above 1, absolute below. Measured: about 1e-6. Other processors
# sum float32 in other orders, and may differ more.
PROOF_TOLERANCE = 2e-4


@dataclasses.dataclass(frozen=True)
class Proof:
    """The differences between the outputs of onnxruntime and torch, for each size of plate."""

    sizes: tuple[tuple[int, int], ...]  # height and width of the plates
    differences: tuple[float, ...]  # for each size, the largest relative difference over all outputs
    tolerance: float  # the largest difference that was allowed


def export_look(spec: ExportSpec, path: Path, facts: Mapping[str, Any], preview: bytes = b"") -> Proof:
    """Exports one direction of a recipe, compares it with torch, and then moves it to its path.

    Args:
        spec: the result of a recipe's `export`.
        path: the .onnx file to write, in a folder that is there.
        facts: fields of `LookFacts` that the recipe doesn't decide, such as name and dataset.
        preview: JPEG from `preview.look_preview`; empty for none.

    Returns:
        The measured differences.

    Raises:
        LookError: the file can't be written, or onnxruntime and torch differ too much.
    """
    complete = {**dict(spec.facts), "created": now(), "versions": versions(), **dict(facts)}
    look_facts = build_facts(complete, path)

    def explain(error: OSError) -> LookError:
        problem = f"The look {path} can't be written: {error.strerror}."
        return LookError(problem, "Check the folder and its space.")

    with replacing(path, explain) as partial:
        model = to_onnx(spec)
        proof = prove(spec, model.SerializeToString(), look_facts)
        look_facts = dataclasses.replace(
            look_facts, evaluation={**look_facts.evaluation, "export": dataclasses.asdict(proof)}
        )
        shown = {PREVIEW_KEY: base64.b64encode(preview).decode()} if preview else {}
        onnx.helper.set_model_props(model, {**facts_to_metadata(look_facts), **shown})
        partial.write_bytes(model.SerializeToString())
        load_look(partial)
    return proof


def to_onnx(spec: ExportSpec) -> onnx.ModelProto:
    """The recipe's module as an ONNX model with dynamic N, H and W, and `window` optional."""
    picture = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    if spec.halves is None:
        model = convert(spec.module, spec.inputs, [PLATE], list(spec.output_names), [picture], spec.structure)
    else:
        predict, apply = spec.halves
        plate, window = spec.inputs
        aovs = list(spec.facts.get("aovs", ()))
        names = [name for name in spec.output_names[1:] if name not in aovs]
        with torch.no_grad():
            operators = predict(plate)
        shapes = [picture if min(o.shape[2:]) > 1 else {0: Dim.DYNAMIC} for o in operators]
        first = convert(predict, (plate,), [PLATE], names, [picture], spec.structure)
        inputs, outputs = [PLATE, WINDOW, *names], [RELIT, *aovs]
        second = convert(apply, (plate, window, *operators), inputs, outputs, [picture, None, *shapes], spec.structure)
        model = joined(first, second, names, aovs)
        # An initializer with an input's name is that input's default, so that other hosts need to give the plate only.
        model.graph.initializer.append(onnx.numpy_helper.from_array(window.numpy(), WINDOW))
    model.producer_name, model.producer_version = "relightgan", VERSION
    return model


def convert(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    dynamic_shapes: list[dict[int, Any] | None],
    structure: str = "",
) -> onnx.ModelProto:
    """One torch module as an ONNX model.

    The exporter reasons about sizes for half a minute; a graph of the same structure is taken again, with the module's
    weights. `prove` compares the result with torch either way.

    Args:
        module: to export.
        inputs: example inputs.
        input_names: names of the inputs.
        output_names: names of the outputs.
        dynamic_shapes: the free axes of each input; None where all are fixed.
        structure: names everything of the module but its weights; "" where its graph is of no use to others.
    """
    key = (structure, *input_names, *output_names, *(tuple(each.shape) for each in inputs))
    if structure and key in GRAPHS:
        return with_weights(GRAPHS[key], module)
    with warnings.catch_warnings(), quiet_exporter():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            (scattered(module) if structure else module).eval(),
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=tuple(dynamic_shapes),
            verbose=False,
        )
    assert program is not None
    model = without_traces(program.model_proto)
    if not structure:
        return model
    missing = {name for name, _ in module.named_parameters()} - {each.name for each in model.graph.initializer}
    assert not missing, f"the graph of {structure} has no weights named {missing}"
    GRAPHS[key] = model.SerializeToString()
    return with_weights(GRAPHS[key], module)


def scattered(module: torch.nn.Module) -> torch.nn.Module:
    """A copy with random weights: the exporter would make one of two weights of equal values, such as biases of 0."""
    copied = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in (*copied.parameters(), *copied.buffers()):
            if values.is_floating_point():
                values.copy_(torch.randn(values.shape, generator=generator))
    return copied


# Graphs that were exported in this process, by structure.
GRAPHS: dict[tuple[Any, ...], bytes] = {}


def with_weights(graph: bytes, module: torch.nn.Module) -> onnx.ModelProto:
    """A graph that another module of the same structure was exported to, with this module's weights."""
    model = onnx.load_model_from_string(graph)
    weights = module.state_dict()
    for initializer in model.graph.initializer:
        if initializer.name in weights:
            values = weights[initializer.name].detach().cpu().numpy()
            initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))
    return model


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporter's notes on its nodes, which name files of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def joined(first: onnx.ModelProto, second: onnx.ModelProto, operators: list[str], aovs: list[str]) -> onnx.ModelProto:
    """The two halves of an operator look as one graph: plate [and window] in; relit, operators and AOVs out."""
    # Both halves have an input `plate`, and merging needs different names.
    second = onnx.compose.add_prefix(second, "apply/")
    first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
    links = [(name, f"apply/{name}") for name in operators]
    made = [RELIT, *aovs]
    outputs = [*(f"apply/{name}" for name in made), *operators]
    model: onnx.ModelProto = onnx.compose.merge_models(first, second, links, outputs=outputs)
    plain = {f"apply/{name}": name for name in (PLATE, WINDOW, *made)}
    for node in model.graph.node:
        node.input[:] = [plain.get(name, name) for name in node.input]
        node.output[:] = [plain.get(name, name) for name in node.output]
    for port in [*model.graph.input, *model.graph.output]:
        port.name = plain.get(port.name, port.name)
    inputs = {port.name: port for port in model.graph.input}  # without the second plate
    del model.graph.input[:]
    model.graph.input.extend(inputs.values())
    ports = {port.name: port for port in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(ports[name] for name in (RELIT, *operators, *aovs))  # other hosts show the first output
    return model


class quiet_exporter:  # noqa: N801 - a context manager reads as a word
    """Suppresses the messages of torch's exporter about torchvision, which we don't use."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("torch.onnx._internal.exporter._registration")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)


def prove(spec: ExportSpec, model: bytes, facts: LookFacts) -> Proof:
    """Compares onnxruntime with torch on plates of two sizes, with values far above 1 if the look is unbounded.

    Raises:
        LookError: onnxruntime can't run the model, or an output differs by more than `PROOF_TOLERANCE`.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warning that `window` has a default
    session = run_or_refuse(
        lambda: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]), "load"
    )
    rng = np.random.default_rng(0)
    sizes = tuple((h - h % facts.size_multiple, w - w % facts.size_multiple) for h, w in PROOF_SIZES)
    differences = []
    for height, width in sizes:
        plate = rng.random((1, 3, height, width), np.float32)
        if facts.value_range == "unbounded":
            plate = plate**4 * 40 - 0.05
        with torch.no_grad():
            expected = spec.module(torch.from_numpy(plate), *spec.inputs[1:])
        expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
        found = run_or_refuse(functools.partial(session.run, list(spec.output_names), {PLATE: plate}), "run")
        # numpy's max gives NaN if any difference is NaN
        worst = float(np.max([relative_difference(e.numpy(), f) for e, f in zip(expected, found, strict=True)]))
        if not worst <= PROOF_TOLERANCE:
            raise LookError(
                f"onnxruntime {onnxruntime.__version__} differs from torch by {worst:.2g} at {width}x{height} "
                f"(allowed: {PROOF_TOLERANCE:g}).",
                "Update onnxruntime and torch to the versions in requirements.lock.",
            )
        differences.append(worst)
    return Proof(sizes, tuple(differences), PROOF_TOLERANCE)


def run_or_refuse(call: Callable[[], Any], what: str) -> Any:
    """The result of a call of onnxruntime.

    Args:
        call: the call.
        what: a verb for the message, such as "load".

    Raises:
        LookError: the call failed.
    """
    try:
        return call()
    except ORT_ERRORS as error:
        raise LookError(
            f"onnxruntime {onnxruntime.__version__} can't {what} the exported look ({first_line(error)}).",
            "Update onnxruntime and torch to the versions in requirements.lock.",
        ) from error


def relative_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference: relative for expected values above 1, else absolute."""
    return float(np.max(np.abs(expected - found) / np.maximum(np.abs(expected), 1.0)))


def versions() -> dict[str, str]:
    """Versions of the software that writes the look, by package."""
    return {
        "relightgan": VERSION,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
    }


def now() -> str:
    """The present time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
