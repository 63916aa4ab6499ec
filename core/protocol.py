"""The words between Nuke and the worker: one JSON object per line, checked on both sides. Standard library only.

Requests go to the worker's stdin, events come from its stdout. A line is UTF-8, at most MAX_BYTES long, and an object
whose `type` is one of REQUESTS or EVENTS; the tables below say which fields it has. Pixels never pass through here:
they lie in files, whose paths do.

    hello → hello                                       both state PROTOCOL; anything else comes after
    relight → accepted, started, frame ..., then exactly one of done, failed, cancelled
    look → look, or failed                              what is inside a look
    cancel                                              of a request that waits or runs; an unknown id does nothing
    ping → heartbeat                                    one comes each second by itself, too
    shutdown                                            cancels everything; the worker ends
    anything that isn't of this protocol → refused      with the id it was for, where that could be read
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from relightgan.core.errors import ProtocolError

PROTOCOL = 2  # raised when old and new can't talk
PIXELS = 2  # raised when the same request gives other files than before, so that no cache mixes them
MAX_BYTES = 1 << 20
PRECISIONS = ("half", "float")
NOTE_PREFIX = "relightgan/"  # prefix of a note's name, so that no note can replace an attribute that a file needs

Message = dict[str, Any]
Check = Callable[[Any], str]  # what is wrong with a value, as "must be ..."; empty where nothing is
MAX_ID = 200
MAX_FRAME = 1 << 31


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as one line, with its line end.

    Raises:
        ProtocolError: it is too long, or holds what JSON can't, such as NaN.
    """
    try:
        line = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, ValueError) as error:  # lone surrogates are a ValueError too
        raise ProtocolError(f"A message can't be written ({error}).", "Use numbers, and names in UTF-8.") from error
    if len(line) >= MAX_BYTES:
        raise too_long(len(line) + 1)
    return line + b"\n"


def decode(line: bytes, kinds: Mapping[str, Mapping[str, Check]]) -> Message:
    """A line as a message that keeps to the tables below.

    Args:
        line: with or without its line end.
        kinds: REQUESTS or EVENTS: what may come from that side.

    Raises:
        ProtocolError: it is too long, no JSON object, of an unknown type, has an unknown field, lacks one, or has a
            value of the wrong type or out of range; names the field.
    """
    if len(line) > MAX_BYTES:
        raise too_long(len(line))
    try:
        message = parsed(line, parse_constant=no_constant, object_pairs_hook=no_doubles)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"A message isn't JSON: {excerpt(line)}.", ONE_VERSION) from error
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ProtocolError(f"A message is of no known type: {excerpt(line)}.", ONE_VERSION)
    fields = kinds[kind]
    for name in message:
        # Whoever says hello may know more than we do; what counts in it is the number.
        if name != "type" and name not in fields and name + "?" not in fields and kind != "hello":
            raise ProtocolError(f"'{kind}' has an unknown field {excerpt(name)}.", ONE_VERSION)
    for name, check in fields.items():
        plain = name.rstrip("?")
        if plain not in message:
            if name == plain:
                raise ProtocolError(f"'{kind}' lacks '{name}'.", ONE_VERSION)
            continue
        if wrong := check(message[plain]):
            raise ProtocolError(f"'{plain}' of '{kind}' {wrong}, and is {excerpt(message[plain])}.", ONE_VERSION)
    return message


def id_in(line: bytes) -> str | None:
    """The id in a line that `decode` refused, where one can be read."""
    try:
        message = parsed(line)
    except (ValueError, RecursionError):
        return None
    found = message.get("id") if isinstance(message, dict) else None
    return found if isinstance(found, str) and not is_id(found) else None


def parsed(line: bytes, **hooks: Any) -> Any:
    """A line of JSON as values.

    Raises:
        ValueError: it is none, or has half a character in it, such as \\ud800, which no answer and no file can hold.
        RecursionError: it is nested deeply.
    """
    found = json.loads(line.decode("utf-8"), **hooks)
    if b"\\u" in line:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    return found


def sendable(text: str, longest: int = 10_000) -> str:
    """A text for people, made fit for a message: what UTF-8 can't hold is spelt out, and the end of much left out."""
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return plain if len(plain) <= longest else f"{plain[:longest]}…"


def excerpt(value: Any) -> str:
    """The start of anything, for a message; safe to print."""
    text = repr(bytes(value[:80])) if isinstance(value, bytes) else ascii(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def too_long(size: int) -> ProtocolError:
    """The error for a line of that many bytes."""
    return ProtocolError(f"A message is {size} bytes long; {MAX_BYTES} are allowed.", "Ask for fewer frames at a time.")


ONE_VERSION = "Use one version of RelightGAN on both sides."


# What a field may hold


def number(low: float, high: float) -> Check:
    """A finite number within limits."""

    def check(value: Any) -> str:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        return "" if fits else f"must be a number from {low:g} to {high:g}"

    return check


def whole(low: int, high: int) -> Check:
    """A whole number within limits."""

    def check(value: Any) -> str:
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if fits else f"must be a whole number from {low} to {high}"

    return check


def text(longest: int = 100_000) -> Check:
    """A text."""
    return lambda value: "" if isinstance(value, str) and len(value) <= longest else "must be a text"


def one_of(*words: str) -> Check:
    """One of some words."""
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def is_bool(value: Any) -> str:
    """True or false."""
    return "" if isinstance(value, bool) else "must be true or false"


def is_id(value: Any) -> str:
    """What a request is called, chosen by who asks."""
    return "" if isinstance(value, str) and 0 < len(value) <= MAX_ID else f"must be a text of 1 to {MAX_ID} letters"


def is_path(value: Any) -> str:
    """A path; whether it may be touched is the worker's to say."""
    return "" if isinstance(value, str) and value and "\0" not in value else "must be a path"


def is_sha256(value: Any) -> str:
    """A hash in lower-case hexadecimal digits."""
    fits = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    return "" if fits else "must be 64 hexadecimal digits"


def is_range(value: Any) -> str:
    """First and last frame, both included."""
    fits = isinstance(value, list) and len(value) == 2 and not any(map(is_frame, value)) and value[0] <= value[1]
    return "" if fits else "must be [first, last]"


def is_frames(value: Any) -> str:
    """Frame numbers."""
    return "" if isinstance(value, list) and not any(map(is_frame, value)) else "must be frame numbers"


def is_outputs(value: Any) -> str:
    """A path by frame number; JSON's names are texts, so "1001" stands for 1001."""
    if not isinstance(value, dict) or not value:
        return "must name a path by frame number"
    for frame, path in value.items():
        if not re.fullmatch(r"0|-?[1-9][0-9]{0,9}", frame) or is_frame(int(frame)) or is_path(path):
            return 'must name a path by frame number, such as {"1001": "/cache/a.exr"}'
    return ""


def is_settings(value: Any) -> str:
    """Every setting, by name."""
    if not isinstance(value, dict) or set(value) != set(SETTINGS):
        return f"must have exactly {', '.join(SETTINGS)}"
    return next(
        (f"has '{name}', which {wrong}" for name, check in SETTINGS.items() if (wrong := check(value[name]))), ""
    )


def is_notes(value: Any) -> str:
    """Texts for the files' headers, by name."""
    fits = isinstance(value, dict) and all(
        re.fullmatch(NOTE_PREFIX + r"[\w .-]{1,100}", name, re.ASCII) and isinstance(words, str) and "\0" not in words
        for name, words in value.items()
    )
    return "" if fits else f"must be texts whose names begin with {NOTE_PREFIX}"


def is_object(value: Any) -> str:
    """Anything by name."""
    return "" if isinstance(value, dict) else "must be an object"


def no_constant(word: str) -> Any:
    """Refuses NaN and Infinity, which Python's reader would take and no other."""
    raise ValueError(f"{word} is no JSON")


def no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, refused where a name stands in it twice: two readers might take different ones."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands there twice")
    return made


is_frame = whole(-MAX_FRAME, MAX_FRAME)
is_count = whole(0, MAX_FRAME)
is_seconds = number(0, 1e9)

# The ranges are those of core/pipeline.py: Settings, which checks them again.
SETTINGS: dict[str, Check] = {
    "exposure": number(-30, 30),  # stops
    "temporal_blend": number(0, 1),
    "temporal_window": whole(0, 32),  # frames to either side
    "working_space": text(200),
    "premultiplied": is_bool,
}

# A name that ends in ? may be left out.
REQUESTS: dict[str, dict[str, Check]] = {
    "hello": {"protocol": is_count, "client?": text(1000)},
    "relight": {
        "id": is_id,
        "look": is_path,
        "look_sha256": is_sha256,  # what the file must have; else the request fails
        "device": text(100),  # auto, cpu, cuda or cuda:N
        "settings": is_settings,
        "source": is_path,  # with one place for the frame number, such as %04d
        "clip": is_range,  # the temporal window ends there
        "outputs": is_outputs,  # each frame has its own file, because results are stored by what they depend on
        "precision": one_of(*PRECISIONS),  # of the files written
        "notes": is_notes,
    },
    "look": {"id": is_id, "path": is_path},
    "cancel": {"id": is_id},
    "ping": {},
    "shutdown": {},
}

EVENTS: dict[str, dict[str, Check]] = {
    "hello": {"protocol": is_count, "version?": text(100), "pid?": is_count, "device_line?": text(1000)},
    "accepted": {"id": is_id, "queued": is_count},  # how many requests come before
    "started": {"id": is_id, "device": text(1000)},
    "frame": {"id": is_id, "frame": is_frame, "done": is_count, "total": is_count, "seconds": is_seconds},
    "done": {"id": is_id, "frames": is_frames, "seconds": is_seconds, "device": text(1000)},
    "failed": {"id": is_id, "kind": text(100), "problem": text(), "fix": text(), "frames": is_frames},
    "cancelled": {"id": is_id, "frames": is_frames},
    "look": {"id": is_id, "facts": is_object, "sha256": is_sha256},
    "log": {"text": text(), "id?": is_id},
    "heartbeat": {"busy": is_bool},
    "refused": {"problem": text(), "fix": text(), "id?": is_id},
}
LAST_EVENTS = ("done", "failed", "cancelled", "look", "refused")  # after one of these nothing comes for that id
