"""The metadata of an ONNX file, read without the network.

An ONNX file is one protobuf message (ModelProto, onnx.proto in github.com/onnx/onnx): the graph with all weights is
field 7, `metadata_props` is field 14. Only the tags are read on the way; the graph is skipped by seeking, so a look of
any size answers at once. Lengths are whatever the file says, so nothing is read before it was found to be small.

Standard library only; also runs inside Nuke (Python 3.9 and later).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import BinaryIO

from relightgan.core.look_metadata import MAX_METADATA_BYTES

__all__ = ["BadMessage", "TooMuch", "scan_model"]

GRAPH_FIELD = 7
METADATA_FIELD = 14
MAX_FIELDS = 100  # at the top, unless told otherwise; a look has about ten
HEAD_BYTES = 20  # the longest tag and length
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # protobuf's wire types
MAX_VARINT_BYTES = 10


class BadMessage(Exception):
    """The bytes aren't the protobuf message they should be."""


class TooMuch(Exception):
    """The metadata are larger than MAX_METADATA_BYTES."""


def scan_model(file: BinaryIO, size: int, keys: Collection[str], max_fields: int = MAX_FIELDS) -> dict[str, str]:
    """The metadata entries of a ModelProto.

    Args:
        file: the ONNX file.
        size: its size in bytes.
        keys: the entries that are wanted; others are dropped.
        max_fields: the maximum number of fields at the top.

    Raises:
        BadMessage: it isn't one.
        TooMuch: its metadata are too large.
    """
    entries: dict[str, str] = {}
    has_graph = False
    place = fields = total = 0
    while place < size:
        fields += 1
        if fields > max_fields:
            raise BadMessage(f"more than {max_fields} parts")
        file.seek(place)
        head = file.read(HEAD_BYTES)
        tag, at = varint_at(head, 0)
        field, kind = tag >> 3, tag & 7
        if field == 0 or field > 1000:
            raise BadMessage("unknown content")
        length = 0
        if kind == VARINT:
            _, at = varint_at(head, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        elif kind == LENGTH:
            length, at = varint_at(head, at)
        else:
            raise BadMessage("unknown content")
        if length > size - place - at:
            raise BadMessage("cut short")
        if field == METADATA_FIELD and kind == LENGTH:
            total += length
            if total > MAX_METADATA_BYTES:
                raise TooMuch
            file.seek(place + at)
            key, value = entry_of(file.read(length))
            if key in keys:
                entries[key] = value
        has_graph = has_graph or (field == GRAPH_FIELD and kind == LENGTH)
        place += at + length
    if not has_graph:
        raise BadMessage("no network in it")
    return entries


# Private implementation


def entry_of(message: bytes) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto: fields 1 and 2."""
    found = {1: b"", 2: b""}
    place = fields = 0
    while place < len(message):
        fields += 1
        if fields > MAX_FIELDS:
            raise BadMessage("unknown content")
        tag, place = varint_at(message, place)
        length, place = varint_at(message, place)
        if tag & 7 != LENGTH or place + length > len(message):
            raise BadMessage("unknown content")
        found[tag >> 3] = message[place : place + length]
        place += length
    try:
        return found[1].decode("utf-8"), found[2].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage("unknown content") from error


def varint_at(message: bytes, place: int) -> tuple[int, int]:
    """The number at a place (seven bits a byte, the least significant first), and the place after it."""
    value = 0
    for count, byte in enumerate(message[place : place + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place + count + 1
    raise BadMessage("cut short" if len(message) - place < MAX_VARINT_BYTES else "unknown content")
