"""The look: one .onnx file that holds a fitted relighting and every fact needed to use it.

What stands in the file
    metadata `relightgan.format`   the number of this contract, LOOK_FORMAT
    metadata `relightgan.facts`    LookFacts as JSON
    metadata `relightgan.preview`  optional: a photo before | after, side by side, as JPEG in base64; only to be shown
    input  `plate`   float32 [N,3,H,W], the look's model space; N, H and W dynamic
    input  `window`  float32 [4], optional (initializer 0,0,1,1): where this tile lies in the frame, x0,y0,x1,y1 in 0..1
    output `relit`   float32 [N,3,H,W], model space
    outputs named in `facts.operators`: float32 [N,C,h,w], lying over the frame's area
    outputs named in `facts.aovs`: float32 [N,C,H,W], optional: facts about each pixel besides its new colour.
        `gain` (C = 3) is the log2 of what it was multiplied by, in stops; `confidence` (C = 1) how sure that is, 0..1

An *operator look* predicts its operators from the plate, and `relit` and AOVs see the plate only through (this pixel,
window, operators); so the runtime can cut the graph in two, blend operators over time and apply them strip by strip.
An operator named `guide` says where edges of the frame itself are, and so is never blended with those of other frames.
An *image look* has no operators and simply turns one picture into another.
"""

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from relightgan.core.errors import LookError
from relightgan.core.look_metadata import (
    ENCODINGS,
    FACTS_KEY,
    FORMAT_KEY,
    LOOK_FORMAT,
    MAX_LOOK_BYTES,
    PREVIEW_KEY,
    VALUE_RANGES,
    BadPreview,
    checked_fact,
    jpeg_of,
    stated_facts,
    too_much_metadata,
)
from relightgan.core.onnx_scan import BadMessage, TooMuch, scan_model
from relightgan.core.regular import read_regular
from relightgan.core.text import shown

MAX_FIELDS = 10_000  # at the top of an ONNX file; models of others may have functions there

# Operations that give other values in each run, whatever their seed.
RANDOM = frozenset((
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
))  # fmt: skip

PLATE = "plate"
RELIT = "relit"
WINDOW = "window"
GAIN = "gain"
CONFIDENCE = "confidence"
GUIDANCE = "guidance"
GUIDE = "guide"
GRID = "grid"  # gains in stops
Operator = dict[str, np.ndarray]  # operators of a frame by name, each (C, h, w) float32 over the frame's area
AOV_CHANNELS = {GAIN: 3, CONFIDENCE: 1}  # channels of the AOVs that looks may give
RUNTIME_AOVS = {GUIDANCE: 3}  # channels of the AOVs that only the runtime gives


@dataclass(frozen=True)
class LookFacts:
    """Everything a look says about itself; JSON in the file's metadata."""

    name: str
    direction: str  # "day to dusk", or "ab"/"ba" of a fit with two looks
    translator: str  # "relight", "cyclegan", "foreign", ...
    encoding: str  # one of ENCODINGS: how linear values are written for the network
    primaries: str  # colour space name of the model's primaries, such as "lin_rec709"
    value_range: str  # one of VALUE_RANGES
    operators: tuple[str, ...] = ()  # names of operator outputs; empty for an image look
    aovs: tuple[str, ...] = ()  # names of outputs of an operator look that describe each pixel further, such as "gain"
    size_multiple: int = 1  # height and width must be multiples of this, px
    overlap_px: int = 0  # context that each side of a tile needs, px; 0: none
    config: dict[str, Any] = field(default_factory=dict)  # the full recipe
    dataset: dict[str, Any] = field(default_factory=dict)  # manifest of the photos, with hashes
    evaluation: dict[str, Any] = field(default_factory=dict)  # figures measured on held-out photos
    versions: dict[str, Any] = field(default_factory=dict)  # versions of the software that made it
    licence: str = ""
    created: str = ""  # ISO 8601


@dataclass(frozen=True)
class Look:
    """A look that was read and found to keep the contract.

    The bytes are kept so that what runs is what was hashed, even when the file is replaced meanwhile.
    """

    path: Path
    facts: LookFacts
    sha256: str
    model: bytes = field(repr=False, compare=False)
    plate_name: str = PLATE  # a foreign model may name its input and output otherwise
    relit_name: str = RELIT
    takes_window: bool = False
    preview: str = field(default="", repr=False, compare=False)  # as it stands in the file; empty where there is none


# Facts nobody can guess about a model that isn't ours, each with what may be given.
FOREIGN_FACTS = {
    "encoding": " or ".join(ENCODINGS),
    "value_range": " or ".join(VALUE_RANGES),
    "primaries": "such as lin_rec709",
    "size_multiple": "pixels, 1 if any size will do",
    "overlap_px": "pixels of context a tile needs, its receptive field's radius",
}


def facts_to_metadata(facts: LookFacts) -> dict[str, str]:
    """The metadata entries that make an ONNX file a look; the inverse of `facts_from_metadata`."""
    return {
        FORMAT_KEY: str(LOOK_FORMAT),
        FACTS_KEY: json.dumps(dataclasses.asdict(facts), sort_keys=True, ensure_ascii=False),
    }


def facts_from_metadata(
    metadata: Mapping[str, str], path: str | os.PathLike, overrides: Mapping[str, Any] | None = None
) -> LookFacts:
    """The facts of a look, from its metadata or, for a foreign model, from what the user gives.

    Facts that this version doesn't know are passed over: within one format number a newer version may only add some.

    Args:
        metadata: the metadata of the ONNX file.
        path: the file, for messages.
        overrides: facts by name; for a foreign model at least FOREIGN_FACTS. Text such as "16" is accepted for numbers.

    Raises:
        LookError: another format number, a missing or wrong fact, or an override of what the look itself states.
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    known = {f.name: f for f in dataclasses.fields(LookFacts)}
    for key in given:
        if key not in known:
            raise LookError(f"There is no fact '{key}' about a look.", f"Facts are: {', '.join(known)}.")
    if FORMAT_KEY not in metadata:
        missing = [f"{key} ({text})" for key, text in FOREIGN_FACTS.items() if key not in given]
        if missing:
            raise LookError(
                f"{path} doesn't say how it wants its pictures: it wasn't exported by RelightGAN.",
                f"Relight with --fact NAME=VALUE for each of: {'; '.join(missing)}.",
            )
        return build_facts({"name": Path(path).stem, "direction": "", "translator": "foreign", **given}, path)
    stated = stated_facts(metadata, path)
    facts = build_facts({**given, **{key: value for key, value in stated.items() if key in known}}, path)
    for key, value in given.items():
        if key in stated and str(getattr(facts, key)) != str(value):
            raise LookError(f"{path} itself says {key} = {getattr(facts, key)}, not {value}.", f"Leave {key} out.")
    return facts


def build_facts(values: Mapping[str, Any], path: str | os.PathLike) -> LookFacts:
    """LookFacts from loose values, each checked for its type and range.

    Raises:
        LookError: naming the file and the fact.
    """
    checked: dict[str, Any] = {}
    for fact in dataclasses.fields(LookFacts):
        if fact.name in values:
            checked[fact.name] = checked_fact(fact.name, values[fact.name], path)
        elif fact.default is dataclasses.MISSING and fact.default_factory is dataclasses.MISSING:
            raise LookError(f"{path} doesn't state the fact '{fact.name}'.", "Export it again.")
    facts = LookFacts(**checked)
    if facts.operators and facts.value_range != "unbounded":
        raise LookError(
            f"{path} predicts operators but takes value_range {facts.value_range}; operators act on unbounded plates.",
            "Export it with value_range unbounded.",
        )
    if facts.operators and facts.size_multiple != 1:
        raise LookError(
            f"{path} predicts operators but takes only multiples of {facts.size_multiple} px; strips have any size.",
            "Resize inside the model, and export it with size_multiple 1.",
        )
    if facts.aovs and not facts.operators:
        raise LookError(
            f"{path} names the AOVs {shown(', '.join(facts.aovs))} but no operators.", "Export it without AOVs."
        )
    return facts


def load_look(
    path: str | os.PathLike,
    overrides: Mapping[str, Any] | None = None,
    allow: Callable[[str, Path], None] = lambda sha256, path: None,
) -> Look:
    """Reads a look and checks that it keeps the contract at the top of this module.

    Args:
        path: the .onnx file.
        overrides: facts of a model that wasn't exported by RelightGAN; see `facts_from_metadata`.
        allow: refuses a file by its SHA-256, before it is parsed; see `allowed_looks`.

    Raises:
        LookError: the file isn't there, isn't ONNX, keeps its weights elsewhere, has an unknown format number,
            lacks facts, or has other inputs or outputs than a look.
    """
    place = Path(path)
    try:
        model_bytes = read_regular(place, MAX_LOOK_BYTES)
    except OSError as error:
        raise LookError(
            f"The look {place} can't be read: {error.strerror}.", "Check the path and its permissions."
        ) from error
    digest = hashlib.sha256(model_bytes).hexdigest()
    allow(digest, place)
    check_metadata_size(model_bytes, place)
    model = parse_model(model_bytes, place)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    facts = facts_from_metadata(metadata, place, overrides)
    plate_name, relit_name, takes_window = checked_ports(model.graph, facts, place)
    preview = metadata.get(PREVIEW_KEY, "")
    return Look(place, facts, digest, model_bytes, plate_name, relit_name, takes_window, preview)


def preview_jpeg(look: Look) -> bytes:
    """The look's preview as the bytes of a JPEG: a photo of the set before and after, side by side.

    Raises:
        LookError: the look carries none, or something else.
    """
    if not look.preview:
        raise LookError(f"{look.path} carries no preview.", "Fit it again; every new look carries one.")
    try:
        return jpeg_of(look.preview)
    except BadPreview as error:
        raise LookError(f"The preview in {look.path} can't be used: {error}.", "Export it again.") from error


def check_metadata_size(model_bytes: bytes, path: Path) -> None:
    """Refuses large metadata before onnx, which copies all of them several times, sees the file.

    Raises:
        LookError: there are more than MAX_METADATA_BYTES.
    """
    try:
        scan_model(io.BytesIO(model_bytes), len(model_bytes), (), MAX_FIELDS)
    except TooMuch as error:
        raise too_much_metadata(path) from error
    except BadMessage:
        return  # onnx says what is wrong with it


def parse_model(model_bytes: bytes, path: Path) -> onnx.ModelProto:
    """The ONNX model in a file's bytes, whole and valid.

    Raises:
        LookError: the bytes aren't a whole, valid ONNX model, or its weights lie in another file.
    """
    split = LookError(
        f"{path} keeps its weights in another file; a look is one file.",
        f"Join them: onnx.save(onnx.load('{path}'), 'look.onnx').",
    )
    # The checker parses for itself and, unlike protobuf's own parser, fails with errors that onnx names.
    try:
        onnx.checker.check_model(model_bytes)
    except (onnx.checker.ValidationError, ValueError) as error:
        # It looks for outside weights in the current folder, and says this where they aren't.
        if "should be stored in" in str(error):
            raise split from error
        reason = " ".join(str(error).split())[:200]
        fix = "Export it again, or copy it again if it was cut short."
        raise LookError(f"{path} isn't a valid ONNX model ({reason}).", fix) from error
    model = onnx.load_model_from_string(model_bytes)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in all_tensors(model.graph)):
        raise split
    kinds = {node.op_type for part in (model.graph, *model.functions) for node in all_nodes(part)}
    if random := sorted(kinds & RANDOM):
        raise LookError(
            f"{path} draws random numbers ({', '.join(random)}): a frame would come out otherwise each time.",
            "Export it without.",
        )
    return model


def all_nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph or a function, and of the graphs in its branches and loops."""
    for node in graph.node:
        yield node
        for nested in graphs_in(node):
            yield from all_nodes(nested)


def all_tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Every stored tensor of a graph: initializers, constants and those of nested graphs."""
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t] if attribute.HasField("t") else []
            tensors += attribute.tensors
        for nested in graphs_in(node):
            tensors += all_tensors(nested)
    return tensors


def graphs_in(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches and the loop's body of a node."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def checked_ports(graph: onnx.GraphProto, facts: LookFacts, path: Path) -> tuple[str, str, bool]:
    """The names of the plate's input and the relit output, and whether there is a window.

    Raises:
        LookError: an input or output is missing, unknown, or has the wrong type or a fixed size.
    """
    stored = {tensor.name for tensor in graph.initializer}
    required = [port for port in graph.input if port.name not in stored]
    inputs = {port.name: port for port in graph.input}
    outputs = {port.name: port for port in graph.output}
    if len(required) != 1 or (facts.translator != "foreign" and required[0].name != PLATE):
        raise LookError(
            f"{path} needs the inputs {shown([port.name for port in required])}; a look needs just '{PLATE}'.",
            "Export it as a picture-to-picture model.",
        )
    relit_name = RELIT if facts.translator != "foreign" or RELIT in outputs else next(iter(outputs), RELIT)
    for name in (relit_name, *facts.operators, *facts.aovs):
        if name not in outputs:
            raise LookError(f"{path} has no output '{name}', only {shown(list(outputs))}.", "Export it again.")
    check_picture(required[0], path)
    check_picture(outputs[relit_name], path)
    for name in known_aovs(facts):
        check_picture(outputs[name], path, AOV_CHANNELS[name])
    takes_window = WINDOW in inputs and WINDOW in stored
    if takes_window and port_shape(inputs[WINDOW]) != [4]:
        raise LookError(f"The input '{WINDOW}' of {path} isn't float32 [4].", "Export it again.")
    return required[0].name, relit_name, takes_window


def known_aovs(facts: LookFacts) -> tuple[str, ...]:
    """The look's AOVs that this version knows; a newer look may have more."""
    return tuple(name for name in facts.aovs if name in AOV_CHANNELS)


def check_picture(port: onnx.ValueInfoProto, path: Path, channels: int = 3) -> None:
    """Checks that a port carries float32 [N,channels,H,W] pictures of any size.

    Raises:
        LookError: it carries something else.
    """
    kind, name = port.type.tensor_type.elem_type, shown(port.name)
    if kind != onnx.TensorProto.FLOAT:
        found = (
            onnx.TensorProto.DataType.Name(kind) if kind in onnx.TensorProto.DataType.values() else "of no known type"
        )
        raise LookError(f"'{name}' of {path} is {found}; a look is float32 in and out.", "Export it in float32.")
    shape = port_shape(port)
    # Exporters often leave the output's size open or compute it; only what is stated can be wrong.
    if shape and (len(shape) != 4 or shape[1] not in (0, channels)):
        wanted = f"[N,{channels},H,W]"
        raise LookError(f"'{name}' of {path} has the shape {shown(shape)}; a look's is {wanted}.", "Export it so.")
    if shape and (shape[2] or shape[3]):
        raise LookError(
            f"'{name}' of {path} has the fixed size {shape[3]}x{shape[2]}; a look takes any size.",
            "Export it with dynamic height and width.",
        )


def port_shape(port: onnx.ValueInfoProto) -> list[int]:
    """The stated shape of an input or output, 0 where it is dynamic; empty when none is stated."""
    return [dim.dim_value if dim.HasField("dim_value") else 0 for dim in port.type.tensor_type.shape.dim]
