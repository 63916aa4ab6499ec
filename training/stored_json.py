"""Values out of JSON files that a run stored, each of the kind it was written as."""

import json
from collections.abc import Sequence
from typing import Any

MAX_NOTES_BYTES = 1 << 28  # of a file
MAX_NUMBER = 2**63
Kinds = type | Sequence[type | None]  # a kind, or several; float takes whole numbers, too, and None stands for null


def parse_json(content: bytes) -> Any:
    """The value that JSON stands for.

    Raises:
        ValueError: it is no JSON in UTF-8, or nests too deep.
    """
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def typed(values: Any, name: str, kinds: Kinds) -> Any:
    """The value under a name.

    Raises:
        TypeError: there is none, or it is of another kind, or no number below 2**63; the text is the name.
    """
    if not isinstance(values, dict) or name not in values:
        raise TypeError(name)
    return typed_value(values[name], name, kinds)


def typed_value(value: Any, name: str, kinds: Kinds) -> Any:
    """The value, where it is of one of these kinds; `name` is for the error, see `typed`."""
    if not any(_is_of(value, kind) for kind in ((kinds,) if isinstance(kinds, type) else kinds)):
        raise TypeError(name)
    return value


# Private implementation


def _is_of(value: Any, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if kind in (int, float):  # true and false are numbers to Python; NaN is below nothing
        return isinstance(value, (int, kind)) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
    return isinstance(value, kind)
