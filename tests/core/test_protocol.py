import ast
import json
import random
import sys
from pathlib import Path

import pytest

from relightgan.core import protocol
from relightgan.core.errors import ProtocolError
from relightgan.core.pipeline import Settings
from relightgan.core.protocol import EVENTS, MAX_BYTES, REQUESTS, SETTINGS, decode, encode, id_in

SHA = "0" * 64
RELIGHT = {
    "type": "relight",
    "id": "a",
    "look": "/looks/a.onnx",
    "look_sha256": SHA,
    "device": "auto",
    "settings": {
        "exposure": -1.5,
        "temporal_blend": 0.5,
        "temporal_window": 2,
        "working_space": "ACEScg",
        "premultiplied": True,
    },
    "source": "/cache/source.%04d.exr",
    "clip": [-10, 1100],
    "outputs": {"-10": "/cache/ä b.exr", "0": "/cache/0.exr"},
    "precision": "half",
    "notes": {"relightgan/node": "RelightGAN1"},
}
REQUEST_EXAMPLES = [
    {"type": "hello", "protocol": 2, "client": "RelightGAN 0.1.0"},
    RELIGHT,
    {"type": "look", "id": "b", "path": "/looks/a.onnx"},
    {"type": "cancel", "id": "a"},
    {"type": "ping"},
    {"type": "shutdown"},
]
EVENT_EXAMPLES = [
    {"type": "hello", "protocol": 2, "version": "0.1.0", "pid": 7},
    {"type": "accepted", "id": "a", "queued": 0},
    {"type": "started", "id": "a", "device": "CPU"},
    {"type": "frame", "id": "a", "frame": -10, "done": 1, "total": 2, "seconds": 0.25},
    {"type": "done", "id": "a", "frames": [-10, 0], "seconds": 1.5, "device": "CPU"},
    {"type": "failed", "id": "a", "kind": "LookError", "problem": "No.", "fix": "Yes.", "frames": []},
    {"type": "cancelled", "id": "a", "frames": [-10]},
    {"type": "look", "id": "b", "facts": {"name": "dusk"}, "sha256": SHA},
    {"type": "log", "text": "Frame 1: ä"},
    {"type": "heartbeat", "busy": False},
    {"type": "refused", "problem": "No.", "fix": ""},
]


@pytest.mark.parametrize("message", REQUEST_EXAMPLES, ids=lambda message: message["type"])
def test_a_request_comes_back_as_it_went_and_is_one_line(message):
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line, REQUESTS) == message


@pytest.mark.parametrize("message", EVENT_EXAMPLES, ids=lambda message: message["type"])
def test_an_event_comes_back_as_it_went(message):
    assert decode(encode(message), EVENTS) == message


def test_there_is_an_example_of_every_message():
    assert {message["type"] for message in REQUEST_EXAMPLES} == set(REQUESTS)
    assert {message["type"] for message in EVENT_EXAMPLES} == set(EVENTS)


@pytest.mark.parametrize("message", REQUEST_EXAMPLES, ids=lambda message: message["type"])
def test_every_field_is_needed_but_those_that_may_be_left_out(message):
    for name in message:
        less = {key: value for key, value in message.items() if key != name}
        if name + "?" in REQUESTS[message["type"]]:
            assert decode(encode(less), REQUESTS) == less
        else:
            with pytest.raises(ProtocolError, match=f"lacks '{name}'|no known type"):
                decode(encode(less), REQUESTS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""), ("id", 5), ("id", "x" * 201),
        ("look", ""), ("look", "a\0b"), ("look", None),
        ("look_sha256", "abc"), ("look_sha256", SHA.replace("0", "G")), ("look_sha256", SHA + "\n"),
        ("clip", [2, 1]), ("clip", [1]), ("clip", [1, 2, 3]), ("clip", [1.0, 2]), ("clip", [True, 2]), ("clip", 7),
        ("clip", [0, 10**12]),
        ("outputs", {}), ("outputs", []), ("outputs", {"1.0": "/a.exr"}), ("outputs", {"01": "/a.exr"}),
        ("outputs", {"١": "/a.exr"}), ("outputs", {"9999999999": "/a.exr"}), ("outputs", {"1": ""}),
        ("outputs", {"-0": "/a.exr"}), ("outputs", {"1": 2}),
        ("precision", "double"), ("precision", ["half"]),
        ("notes", {"channels": "x"}), ("notes", {"relightgan/a": 1}), ("notes", {"relightgan/": "x"}),
        ("notes", {"relightgan/a": "a\0b"}), ("notes", []),
        ("settings", {}), ("settings", {**RELIGHT["settings"], "strength": 1}),
        ("settings", {**RELIGHT["settings"], "exposure": 31}), ("settings", {**RELIGHT["settings"], "exposure": "1"}),
        ("settings", {**RELIGHT["settings"], "exposure": 10**400}),
        ("settings", {**RELIGHT["settings"], "exposure": True}),
        ("settings", {**RELIGHT["settings"], "temporal_window": 2.0}),
        ("settings", {**RELIGHT["settings"], "temporal_blend": -0.1}),
        ("settings", {**RELIGHT["settings"], "premultiplied": 1}),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_and_its_field_named(field, value):
    with pytest.raises(ProtocolError, match=f"'{field}' of 'relight'") as caught:
        decode(encode({**RELIGHT, field: value}), REQUESTS)
    assert len(caught.value.problem) < 400


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"{", b"[]", b"null", b"12", b"\xff\xfe", b"\x00" * 50, b"hello\n", b'{"type": 5}', b'{"type": []}',
        b'{"type": "dance"}', b'{"type": "ping", "type": "ping"}', b"[" * 100_000, b'{"type":"hello","protocol":NaN}',
        b'{"type":"hello","protocol":1e999}', b'{"type":"hello","protocol":' + b"9" * 5000 + b"}",
        b'{"type":"cancel","id":"\\ud800"}', b'{"type":"hello","protocol":1,"\\udcff":0}',
    ],
)  # fmt: skip
def test_garbage_is_refused_in_words(line):
    with pytest.raises(ProtocolError) as caught:
        decode(line, REQUESTS)
    assert caught.value.fix
    assert len(caught.value.problem) < 200
    assert caught.value.problem.isprintable()


def test_whatever_comes_is_taken_or_refused_and_both_can_be_answered():
    """Messages with wrong values, lacking fields, odd letters and flipped bytes, always the same ones."""
    chance = random.Random(1)
    taken = 0
    for kinds, examples in ((REQUESTS, REQUEST_EXAMPLES), (EVENTS, EVENT_EXAMPLES)):
        for _ in range(2000):
            line = spoiled(chance.choice(examples), chance)
            try:
                encode(decode(line, kinds))
                taken += 1
            except ProtocolError as error:
                name = id_in(line)
                answer = {"type": "refused", "problem": error.problem, "fix": error.fix}
                assert decode(encode(answer if name is None else {**answer, "id": name}), EVENTS)
    assert 100 < taken < 3000


def spoiled(message: dict, chance: random.Random) -> bytes:
    """A message with up to three of its values replaced or left out, and now and then a few of its bytes changed."""
    texts = ["", "\0", "\ud800", "é😀\u2028", "x" * 300]
    odd = [None, True, -1, 1.5, 1e308, 10**400, *texts, [], {}, [[1]], {"1": "/a.exr"}]
    made = dict(message)
    for _ in range(chance.randrange(4)):
        name = chance.choice([*message, "news", "\udcff"])
        if chance.random() < 0.2:
            made.pop(name, None)
        else:
            made[name] = chance.choice(odd)
    line = bytearray(json.dumps(made, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass"))
    if chance.random() < 0.3:
        for _ in range(chance.randrange(1, 5)):
            line[chance.randrange(len(line))] = chance.randrange(256)
    return bytes(line)


def test_an_unknown_field_is_refused_but_in_hello():
    with pytest.raises(ProtocolError, match="unknown field 'colour'"):
        decode(b'{"type":"ping","colour":1}', REQUESTS)
    assert decode(b'{"type":"hello","protocol":9,"colour":1}', REQUESTS)["protocol"] == 9


def test_requests_are_no_events_and_events_no_requests():
    for kind in ({"type": "ping"}, RELIGHT):
        with pytest.raises(ProtocolError, match="no known type"):
            decode(encode(kind), EVENTS)
    with pytest.raises(ProtocolError, match="no known type"):
        decode(encode({"type": "heartbeat", "busy": True}), REQUESTS)


def test_a_message_beyond_the_limit_is_neither_written_nor_read():
    with pytest.raises(ProtocolError, match=f"{MAX_BYTES} are allowed"):
        encode({"type": "log", "text": "x" * MAX_BYTES})
    with pytest.raises(ProtocolError, match=f"{MAX_BYTES} are allowed"):
        decode(b" " * (MAX_BYTES + 1), REQUESTS)


def test_the_longest_line_that_can_be_written_can_be_read():
    room = MAX_BYTES - len(encode({**RELIGHT, "source": "/"}))
    message = {**RELIGHT, "source": "/" + "x" * room}
    line = encode(message)
    assert len(line) == MAX_BYTES
    assert decode(line, REQUESTS) == message
    with pytest.raises(ProtocolError, match=f"{MAX_BYTES + 1} bytes"):
        encode({**RELIGHT, "source": message["source"] + "x"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object(), "\udcff"])
def test_what_json_cannot_hold_is_not_written(value):
    with pytest.raises(ProtocolError):
        encode({"type": "log", "text": value})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"type":"relight","id":"a"}', "a"), (b'{"id":5}', None), (b"{", None), (b"[]", None), (b'{"id":""}', None),
        (b'{"id":"\\ud800"}', None),
    ],
)  # fmt: skip
def test_the_id_of_a_refused_line_is_read_where_it_can_be(line, found):
    assert id_in(line) == found


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in ("working_space", "premultiplied")])
def test_the_settings_have_the_ranges_of_the_pipeline(name):
    """Both check them; here by trying the ends, and a little beyond."""
    ends = {"exposure": (-30, 30), "temporal_blend": (0, 1), "temporal_window": (0, 32)}[name]
    for value in ends:
        assert SETTINGS[name](value) == ""
        Settings(**{name: value})
    for value in (ends[0] - 1, ends[1] + 1):
        assert SETTINGS[name](value)
        with pytest.raises(Exception, match="out of range"):
            Settings(**{name: value})


def test_every_setting_but_the_strength_and_the_aovs_is_sent():
    assert {*SETTINGS, "strength", "aovs"} == set(vars(Settings()))  # a node mixes by itself, and holds rgb alone


def test_the_protocol_needs_nothing_but_the_standard_library_and_our_errors():
    tree = ast.parse(Path(protocol.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))
    heads = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    heads |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {head for head in heads if head.partition(".")[0] not in sys.stdlib_module_names} == {
        "relightgan.core.errors"
    }
