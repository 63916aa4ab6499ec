"""Looks that somebody made to do harm: each in a file of its own, with what may be expected of it.

Written by hand as protobuf, as no library writes most of them.
"""

import base64
import contextlib
import dataclasses
import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import tiny_looks
from onnx import TensorProto, helper
from PIL import Image

FORMAT, FACTS, PREVIEW = "relightgan.format", "relightgan.facts", "relightgan.preview"
GRAPH_FIELD, METADATA_FIELD = 7, 14
RUN = "exec touch PWNED"  # what names and facts try to run; the test runs in a folder of its own

# What the library must make of it: a look that can be used, or a problem in a line.
WORKS, PROBLEM = True, False


@dataclass(frozen=True)
class Hostile:
    """One hostile look: the name of its file, what writes it, and whether the library can use it."""

    file: str
    write: Callable[[Path], object]
    works: bool


def varint(value: int) -> bytes:
    """Protobuf's number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def chunk(field: int, content: bytes, length: int | None = None) -> bytes:
    """A field with content; `length` lies about its length."""
    return varint(field << 3 | 2) + varint(len(content) if length is None else length) + content


def entry(key: str | bytes, value: str | bytes) -> bytes:
    """An entry of the metadata."""
    parts = [part if isinstance(part, bytes) else part.encode() for part in (key, value)]
    return chunk(METADATA_FIELD, chunk(1, parts[0]) + chunk(2, parts[1]))


def bare_model() -> bytes:
    """The identity look without its metadata."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["plate"], ["relit"])],
        "hostile",
        [tiny_looks.picture("plate")],
        [tiny_looks.picture("relit")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", tiny_looks.OPSET)], ir_version=10)
    return model.SerializeToString()


def stated(**changes: object) -> str:
    """The facts of a good look, with changes."""
    return json.dumps({**dataclasses.asdict(tiny_looks.facts_of()), **changes})


def look(facts: str | bytes | None = None, preview: str | None = None, form: str = "1", more: bytes = b"") -> bytes:
    """A look with these texts in its metadata."""
    content = bare_model() + entry(FORMAT, form) + entry(FACTS, stated() if facts is None else facts)
    return content + (entry(PREVIEW, preview) if preview is not None else b"") + more


def jpeg(width: int, height: int, **options: object) -> bytes:
    """A grey JPEG."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (120, 130, 140)).save(stream, "JPEG", **options)
    return stream.getvalue()


def resized(content: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header lies about its size."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[at + 4 :]


def many_scans(content: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    at = content.rindex(b"\xff\xda")
    return content[:at] + content[at:-2] * count + content[-2:]


def png(width: int, height: int) -> bytes:
    """A grey PNG."""
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def outside_weights(location: str) -> bytes:
    """A look whose weights lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    pair = tensor.external_data.add()
    pair.key, pair.value = "location", location
    model = onnx.load_model_from_string(look())
    model.graph.initializer.append(tensor)
    return model.SerializeToString()


def content(made: Callable[[], bytes]) -> Callable[[Path], object]:
    """Writes bytes that are made when they are needed."""
    return lambda path: path.write_bytes(made())


def sparse(size: int) -> Callable[[Path], object]:
    """Writes a file that says that it is large."""

    def write(path: Path) -> None:
        path.write_bytes(look())
        os.truncate(path, size)

    return write


def listening(path: Path) -> None:
    """Makes a socket with this name; its path must be short."""
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind(path.name)


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def odd_names() -> Iterator[tuple[str, Hostile]]:
    """Good looks whose names are a trap."""
    names = {
        "command": f"sun[{RUN}]ny.onnx",
        "python": "sun[python __import__('os').system('touch PWNED')].onnx",
        "python exec": "[python -exec open('PWNED','w')].onnx",
        "variable": "price$env(HOME)$gui ${x}.onnx",
        "backslash": f"a\\[{RUN}\\]\\n.onnx",
        "our own escape": "a[format %c 91]b.onnx",
        "half an escape": f"[format %c 91[{RUN}]].onnx",
        "braces": "a}{b} {c.onnx",
        "quotes and backticks": "a\"b'c`touch PWNED`;touch PWNED;.onnx",
        "frame": "look_%04d_####_%V[1].onnx",
        "html": "<b>bold<img src=x><a href='file:x'>.onnx",
        "entities": "&lt;b&gt;&amp;.onnx",
        "percent": "100%s%n%n%n.onnx",
        "long": "x" * 250 + ".onnx",
        "direction of text": "evil\u202exnno.\u2066exe.onnx",
        "farm": "openjd_fail: Error: failed.onnx",
        "dash": "--json.onnx",
        "spaces": "  a  b  .onnx",
        "tilde": "~root.onnx",
    }
    for name, file in names.items():
        yield f"name, {name}", Hostile(file, content(look), WORKS)
    hidden = {"line": "a\nERROR: b.onnx", "escape": "a\x1b[31m\x07.onnx", "return": "a\rb.onnx", "tab": "a\tb.onnx"}
    for name, file in {**hidden, "bytes": "caf\udce9.onnx", "separator": "a\u2028b.onnx"}.items():
        yield f"name, {name}", Hostile(file, content(look), PROBLEM)


def odd_bytes() -> Iterator[tuple[str, Hostile]]:
    """Files that are no whole ONNX."""
    whole = look(preview=in_base64(jpeg(64, 32)))
    graph_end = len(bare_model())
    cases = {
        "empty": b"",
        "text": b"this is no look\n" * 1000,
        "zeros": bytes(10_000),
        "all ones": b"\xff" * 10_000,
        "overlong number": varint(GRAPH_FIELD << 3 | 2) + b"\xff" * 30 + b"\x01",
        "overlong tag": b"\x80" * 30 + b"\x01" + whole,
        "huge length": chunk(METADATA_FIELD, b"x", 1 << 60) + whole,
        "length of 2^64": chunk(METADATA_FIELD, b"x", (1 << 64) - 1) + whole,
        "length beyond the end": whole + chunk(GRAPH_FIELD, b"abc", 1000),
        "entry longer than its message": bare_model() + chunk(METADATA_FIELD, chunk(1, b"key", 500)),
        "entry of numbers": bare_model() + chunk(METADATA_FIELD, b"\x08\x01" * 1000),
        "entry of tiny fields": bare_model() + chunk(METADATA_FIELD, chunk(1, b"") * 1_000_000),
        "group": b"\x0b\x0c" * 10 + whole,
        "a million tiny fields": b"\x08\x01" * 1_000_000 + whole,
        "metadata that isn't UTF-8": bare_model() + entry(FORMAT, b"\xff\xfe") + entry(FACTS, b"\xc3\x28"),
        "no network": whole[graph_end:],
        "nested messages": chunk(GRAPH_FIELD, nested(20_000)),
    }
    for name, data in cases.items():
        yield f"bytes, {name}", Hostile(f"{name}.onnx", content(lambda data=data: data), PROBLEM)
    for part in range(1, 8):
        at = graph_end * part // 8
        yield f"bytes, cut at {part}/8", Hostile(f"cut{part}.onnx", content(lambda at=at: whole[:at]), PROBLEM)


def nested(deep: int) -> bytes:
    """A graph in an attribute of a node in a graph, and so on."""
    data = b""
    for _ in range(deep // 100):
        for field in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            data = chunk(field, data)
    return data


def odd_metadata() -> Iterator[tuple[str, Hostile]]:
    """Entries that are too many or too large."""
    yield (
        "metadata, a thousand keys",
        Hostile("keys.onnx", content(lambda: look(more=b"".join(entry(f"key{i}", "x") for i in range(1000)))), PROBLEM),
    )
    yield (
        "metadata, one large foreign entry",
        Hostile("foreign.onnx", content(lambda: look(more=entry("other", "x" * (40 << 20)))), PROBLEM),
    )
    yield (
        "metadata, many entries above the limit in sum",
        Hostile("sum.onnx", content(lambda: look(more=entry("other", "x" * (1 << 20)) * 5)), PROBLEM),
    )
    yield (
        "metadata, large facts",
        Hostile("facts.onnx", content(lambda: look(stated(config={"x": "y" * (30 << 20)}))), PROBLEM),
    )
    yield "metadata, none", Hostile("none.onnx", content(bare_model), PROBLEM)
    yield (
        "metadata, facts missing",
        Hostile("nofacts.onnx", content(lambda: bare_model() + entry(FORMAT, "1")), PROBLEM),
    )
    for form in ("²", "-1", "99", "1.0", "9" * 4000, "", " 1", "1\n", "\x1b[31m", "١"):
        name = "nines" if len(form) > 100 else repr(form).strip("'")
        yield f"format {name}", Hostile("format.onnx", content(lambda form=form: look(form=form)), PROBLEM)


def odd_facts() -> Iterator[tuple[str, Hostile]]:
    """Facts that aren't what they should be."""
    good = stated()
    opened = good.rstrip("}")
    texts = {
        "not JSON": "{'name': 1}",
        "empty": "",
        "a list": "[1, 2]",
        "a number": "1",
        "NUL": "\0",
        "100,000 brackets": f'{opened}, "config": {{"x": {"[" * 100_000}{"]" * 100_000}}}}}',
        "100,000 open brackets": "[" * 100_000,
        "100,000 tables": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "40 levels": f'{opened}, "config": {{"x": {"[" * 40}{"]" * 40}}}}}',
        "990 levels": opened + ', "evaluation": ' + '{"a":' * 990 + "1" + "}" * 990 + "}",
        "a million empty lists": f'{opened}, "config": {{"x": [{"[]," * 1_000_000}1]}}}}',
        "a million numbers": f'{opened}, "config": {{"x": [{"1," * 1_000_000}1]}}}}',
        "4000 digits": f'{opened}, "config": {{"seed": {"9" * 4000}}}}}',
        "a million digits": f'{opened}, "config": {{"seed": {"9" * 1_000_000}}}}}',
        "a fraction of a million digits": f'{opened}, "config": {{"seed": 0.{"9" * 1_000_000}}}}}',
    }  # fmt: skip
    for name, text in texts.items():
        yield f"facts, {name}", Hostile("facts.onnx", content(lambda text=text: look(text)), PROBLEM)
    wrong = {
        "name": (1, None, ["a"], {"a": 1}, "x" * 100_000), "direction": (["ab"], 3), "translator": (None, {}),
        "encoding": ("gamma", 1, []), "primaries": (7,), "value_range": ("huge", None), "licence": ([], 1.5),
        "created": (20260101, {}), "operators": ("grid", [1], [["a"]], ["o"] * 100_000, ["x" * 1000], {"a": 1}),
        "aovs": (5, [None]), "size_multiple": (0, "²", 1e9, 10**50, "9" * 4000, True, [1], 4097),
        "overlap_px": (-1, "٣", 5000, {}, 1.5), "config": ([], "x", None), "dataset": ([], 1, "x"),
        "evaluation": ([1], "x"), "versions": ("x", 1),
    }  # fmt: skip
    for name, values in wrong.items():
        for number, value in enumerate(values):
            facts = stated(**{name: value})
            yield (
                f"facts, wrong {name} {number}",
                Hostile("wrong.onnx", content(lambda facts=facts: look(facts)), PROBLEM),
            )
    deep = {"source": {"kept": "x", "folders": 5}, "target": {"kept": 10**60, "folders": [["a"], None, {"b": 1}]}}
    odd = {
        "NaN": opened + ', "evaluation": {"a": NaN, "b": Infinity, "c": -Infinity, "d": 1e999}}',
        "kept is text": stated(dataset=deep),
        "kept is true": stated(dataset={"source": {"kept": True, "folders": ["a"]}, "target": []}),
        "10,000 folders": stated(dataset={s: {"kept": 1, "folders": ["f" * 300] * 5000} for s in ("source", "target")}),
        "huge whole numbers": stated(evaluation={"a": 10**90, "b": -(10**98)}),
        "100,000 figures": stated(evaluation={f"figure {i}": i for i in range(100_000)}),
        "tables of tables": stated(evaluation={f"t{i}": {f"u{k}": {"v": 1} for k in range(200)} for i in range(200)}),
        "90,000 empty lists": stated(config={"x": [[]] * 90_000}),
        "commands": stated(name=f"[{RUN}]$x", direction=f"[{RUN}]", licence=f"[{RUN}]", created=f"[{RUN}]"),
        "html": stated(name="<h1>big</h1>", licence="<img src='file:///etc/passwd'>", translator="<b>", created="<i>"),
        "lines": stated(name="a\nERROR: b\nopenjd_fail: c", direction="a\r\nb", licence="x\x1b[2J\x00"),
        "lone surrogates": stated(name="\ud800\udfff", licence="\udce9"),
        "direction of text": stated(name="\u202egnp.exe", licence="\u2066\u200f\u200b"),
        "long": stated(name="n" * 9000, licence="l " * 4900, direction="d" * 9999),
        "html in the names of figures": stated(evaluation={f"<b>{RUN}</b>[{RUN}]": 1, "a\nb": 2, "x" * 50_000: 3}),
        "a verdict of commands": stated(evaluation={"verdict": {"kind": f"[{RUN}]", "words": f"$x[{RUN}]\nError: a"}}),
        "a verdict of html": stated(evaluation={"verdict": {"kind": "<h1>good</h1>", "words": "<b>", "advice": "<i>"}}),
        "a long verdict": stated(
            evaluation={"verdict": {"kind": "k" * 9999, "words": "w" * 10**6, "advice": "a\0" * 999}}
        ),
        "a verdict of other types": stated(evaluation={"verdict": {"kind": ["good"], "words": {"a": 1}, "advice": 3}}),
        "a verdict that is a list": stated(evaluation={"verdict": [[]] * 9999}),
        "unknown facts": stated(mood={"a": [1]}, other="<b>", more=[[[1]]]),
    }
    for name, text in odd.items():
        yield f"facts, {name}", Hostile("odd.onnx", content(lambda text=text: look(text)), WORKS)


def odd_previews() -> Iterator[tuple[str, Hostile]]:
    """Good looks with pictures that are a trap; they are shown without a preview, or with what can be decoded."""
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd' width='9' height='9'/></svg>"
    small = jpeg(64, 32)
    pictures = {
        "SVG": svg,
        "SVG after a JPEG's start": b"\xff\xd8\xff" + svg,
        "PNG": png(640, 240),
        "large PNG": png(20_000, 2_000),
        "GIF": b"GIF89a" + bytes(100),
        "huge JPEG": resized(small, 65_000, 65_000),
        "JPEG of no size": resized(small, 0, 0),
        "8192 px": jpeg(8192, 64),
        "cut JPEG": small[: len(small) // 2],
        "cut header": small[:12],
        "only the start": small[:3],
        "JPEG of 1x1": jpeg(1, 1),
        "2000 scans": many_scans(jpeg(1024, 1024, progressive=True), 2000),
        "segments without end": b"\xff\xd8" + b"\xff\xe0\x00\x00" * 40_000,
        "empty": b"",
    }
    for name, data in pictures.items():
        text = in_base64(data)
        yield f"preview, {name}", Hostile("preview.onnx", content(lambda text=text: look(preview=text)), WORKS)
    for name, text in {"not base64": "no, not base64!", "not ASCII": "²²²²"}.items():
        yield f"preview, {name}", Hostile("preview.onnx", content(lambda text=text: look(preview=text)), WORKS)
    yield "preview, 3 MB", Hostile("preview.onnx", content(lambda: look(preview="A" * (3 << 20))), WORKS)
    yield "preview, 60 MB", Hostile("preview.onnx", content(lambda: look(preview="A" * (60 << 20))), PROBLEM)


def odd_files() -> Iterator[tuple[str, Hostile]]:
    """Names that aren't files, or files that aren't here."""
    yield "file, pipe", Hostile("pipe.onnx", os.mkfifo, PROBLEM)
    yield "file, socket", Hostile("socket.onnx", listening, PROBLEM)
    yield "file, folder", Hostile("folder.onnx", Path.mkdir, PROBLEM)
    for device in ("zero", "null", "random", "tty"):
        yield (
            f"file, link to {device}",
            Hostile("device.onnx", lambda path, device=device: path.symlink_to(f"/dev/{device}"), PROBLEM),
        )
    yield "file, link to nothing", Hostile("dangling.onnx", lambda path: path.symlink_to("nothing"), PROBLEM)
    yield "file, link to itself", Hostile("loop.onnx", lambda path: path.symlink_to(path.name), PROBLEM)
    yield "file, link to /proc", Hostile("proc.onnx", lambda path: path.symlink_to("/proc/self/maps"), PROBLEM)
    yield "file, above 2 GB", Hostile("large.onnx", sparse(3 << 30), PROBLEM)
    for name, place in {"above": "../../etc/passwd", "absolute": "/etc/passwd", "device": "/dev/zero"}.items():
        yield f"weights, {name}", Hostile("weights.onnx", content(lambda place=place: outside_weights(place)), WORKS)


CASES: dict[str, Hostile] = dict(
    case for cases in (odd_names, odd_bytes, odd_metadata, odd_facts, odd_previews, odd_files) for case in cases()
)
