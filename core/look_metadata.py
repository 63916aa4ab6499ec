"""The texts in a look's metadata: its format, its facts, its preview; each read with bounds.

A look may come from anybody. Whoever opens one must get its facts or one clear line, in little time and memory. So
sizes, depths, digits and counts have limits here that no look of ours comes near.

Standard library only; also runs inside Nuke (Python 3.9 and later). `look` describes the whole contract.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from relightgan.core.errors import LookError
from relightgan.core.text import shown

__all__ = [
    "CHOICES",
    "ENCODINGS",
    "FACTS_KEY",
    "FORMAT_KEY",
    "LOOK_FORMAT",
    "MAX_LOOK_BYTES",
    "MAX_METADATA_BYTES",
    "PREVIEW_KEY",
    "VALUE_RANGES",
    "BadPreview",
    "checked_fact",
    "jpeg_of",
    "stated_facts",
    "too_much_metadata",
]

LOOK_FORMAT = 1
FORMAT_KEY = "relightgan.format"
FACTS_KEY = "relightgan.facts"
PREVIEW_KEY = "relightgan.preview"

ENCODINGS = ("linear", "srgb_log")
# unbounded: any scene-linear value may go in; unit: a picture in 0..1; signed: one in -1..1 (many foreign models).
VALUE_RANGES = ("unbounded", "unit", "signed")
CHOICES = {"encoding": ENCODINGS, "value_range": VALUE_RANGES}

MAX_LOOK_BYTES = 2 << 30  # protobuf's own limit; a look of ours has some tens of MB
MAX_METADATA_BYTES = 4 << 20  # all entries in sum; the hashes of 50,000 photos
MAX_DEPTH = 32  # levels of lists and tables in the facts
MAX_VALUES = 200_000  # in the facts; each empty list takes a dozen times its text in memory
MAX_DIGITS = 100  # of a number in the facts; reading one of a million digits takes minutes
MAX_TEXT = 10_000  # characters of a fact that is text
MAX_NAMES, MAX_NAME = 64, 200  # names in a list of outputs, and characters of each
MAX_PX = 4096  # of size_multiple and overlap_px

# Previews: those of training are 640 px wide and have 40 kB.
MAX_PREVIEW_BYTES = 256 << 10
MAX_PREVIEW_PX = 2048  # of each side
MAX_PREVIEW_SCANS = 16  # a progressive JPEG has about ten; each costs as much as decoding all of it once
JPEG_START = b"\xff\xd8\xff"
JPEG_SIZES = frozenset((0xC0, 0xC1, 0xC2))  # markers before the size: baseline, extended, progressive
JPEG_SCAN = b"\xff\xda"


class BadPreview(Exception):
    """The preview isn't a JPEG of a sane size; the text says what it is."""


def stated_facts(metadata: Mapping[str, str], path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts that a look states, as JSON values that aren't checked one by one yet.

    Args:
        metadata: the entries of the ONNX file; FORMAT_KEY is among them.
        path: the file, for messages.

    Raises:
        LookError: another format number, or the facts can't be read.
    """
    found = metadata[FORMAT_KEY]
    if found != str(LOOK_FORMAT):
        newer = is_whole_number(found, MAX_DIGITS) and int(found) > LOOK_FORMAT
        raise LookError(
            f"{path} is look format {shown(found, 40)}; this version reads format {LOOK_FORMAT}.",
            "Update RelightGAN on this machine." if newer else "Export it again with this version.",
        )
    text = metadata.get(FACTS_KEY, "")
    if len(text) > MAX_METADATA_BYTES:
        raise too_much_metadata(path)
    if sum(map(text.count, "[{,")) > MAX_VALUES:
        raise LookError(f"The facts in {path} ({FACTS_KEY}) have more than {MAX_VALUES:,} values.", "Export it again.")
    try:
        facts = json.loads(text, parse_int=bounded_int, parse_float=bounded_float)
    except RecursionError as error:
        raise too_deep(path) from error
    except ValueError as error:
        raise LookError(
            f"The facts in {path} ({FACTS_KEY}) can't be read: {shown(error)}.", "Export it again."
        ) from error
    if not isinstance(facts, dict):
        raise LookError(f"The facts in {path} ({FACTS_KEY}) aren't a JSON object.", "Export it again.")
    if is_deep(facts):
        raise too_deep(path)
    return facts


def checked_fact(name: str, value: Any, path: str | os.PathLike[str]) -> Any:
    """One fact in its right type; facts that this version doesn't know are text to it.

    Raises:
        LookError: the value has another type, is out of its range or isn't one of the choices.
    """
    if name in ("operators", "aovs"):
        if not isinstance(value, (list, tuple)) or not all(is_name(item) for item in value) or len(value) > MAX_NAMES:
            raise senseless(name, value, path, f"It is a list of output names, at most {MAX_NAMES}.")
        return tuple(value)
    if name in ("size_multiple", "overlap_px"):
        minimum = 1 if name == "size_multiple" else 0
        digits = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
        if not is_whole_number(digits, len(str(MAX_PX))) or not minimum <= int(digits) <= MAX_PX:
            raise senseless(name, value, path, f"It is a whole number from {minimum} up to {MAX_PX}, in pixels.")
        return int(digits)
    if name in ("config", "dataset", "evaluation", "versions"):
        if not isinstance(value, dict):
            raise senseless(name, value, path, "It is a table of names and values.")
        return value
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise senseless(name, value, path, f"It is text of at most {MAX_TEXT:,} characters.")
    if name in CHOICES and value not in CHOICES[name]:
        raise senseless(name, value, path, f"It is one of: {', '.join(CHOICES[name])}.")
    return value


def jpeg_of(text: str) -> bytes:
    """The bytes of a preview, a JPEG of at most MAX_PREVIEW_PX a side.

    Raises:
        BadPreview: it is no such picture.
    """
    if len(text) > MAX_PREVIEW_BYTES * 4 // 3 + 4:
        raise BadPreview("it is too large")
    try:
        jpeg = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPreview(f"it isn't base64: {shown(error)}") from error
    width, height = jpeg_size(jpeg)
    if not (0 < width <= MAX_PREVIEW_PX and 0 < height <= MAX_PREVIEW_PX):
        raise BadPreview(f"it has {width} x {height} pixels, and at most {MAX_PREVIEW_PX} a side are read")
    if jpeg.count(JPEG_SCAN) > MAX_PREVIEW_SCANS:  # within the coded pixels an FF is always followed by 00
        raise BadPreview("it has too many scans")
    return jpeg


def too_much_metadata(path: str | os.PathLike[str]) -> LookError:
    """The error for a look whose metadata are above MAX_METADATA_BYTES."""
    return LookError(
        f"{path} carries more than {MAX_METADATA_BYTES >> 20} MB of metadata.",
        "Export it again; a look of RelightGAN carries far less.",
    )


# Private implementation


def senseless(name: str, value: Any, path: str | os.PathLike[str], fix: str) -> LookError:
    """The error for a wrong fact."""
    return LookError(f"The fact {name} = {shown(repr(value))} of {path} makes no sense.", fix)


def too_deep(path: str | os.PathLike[str]) -> LookError:
    """The error for facts with too many levels."""
    return LookError(
        f"The facts in {path} ({FACTS_KEY}) have more than {MAX_DEPTH} levels of lists and tables.", "Export it again."
    )


def is_deep(facts: dict[str, Any]) -> bool:
    """True where lists and tables have more than MAX_DEPTH levels; level by level, as deep ones can't be recursed."""
    level: list[Any] = [facts]
    for _ in range(MAX_DEPTH):
        level = [item for values in level for item in contents(values) if isinstance(item, (dict, list))]
    return bool(level)


def contents(values: Any) -> Iterable[Any]:
    """The values in a table or list."""
    return values.values() if isinstance(values, dict) else values


def is_name(item: Any) -> bool:
    """True for the name of an output."""
    return isinstance(item, str) and 0 < len(item) <= MAX_NAME


def is_whole_number(text: str, max_digits: int) -> bool:
    """True for ASCII digits; `str.isdigit` also takes `²`, which is no number to `int`."""
    return text.isascii() and text.isdigit() and len(text) <= max_digits


def bounded_int(digits: str) -> int:
    """A whole number in JSON.

    Raises:
        ValueError: it has too many digits.
    """
    return int(few_digits(digits))


def bounded_float(digits: str) -> float:
    """Another number in JSON.

    Raises:
        ValueError: it has too many digits.
    """
    return float(few_digits(digits))


def few_digits(digits: str) -> str:
    """The digits of a number.

    Raises:
        ValueError: there are too many.
    """
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return digits


def jpeg_size(jpeg: bytes) -> tuple[int, int]:
    """Width and height from the header of a JPEG (ITU-T T.81, annex B): segments of a marker, a length and content.

    Raises:
        BadPreview: it has no such header.
    """
    if not jpeg.startswith(JPEG_START):
        raise BadPreview("it isn't a JPEG")
    place = 2
    while place + 9 <= len(jpeg) and jpeg[place] == 0xFF:
        marker, length = jpeg[place + 1], int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if marker in JPEG_SIZES:
            height, width = (int.from_bytes(jpeg[place + at : place + at + 2], "big") for at in (5, 7))
            return width, height
        if not 0xC0 <= marker <= 0xFE or marker == JPEG_SCAN[1]:
            break
        place += 2 + length
    raise BadPreview("its JPEG header is damaged")
