"""Settings as frozen dataclasses, converted to and from YAML and the command line; each option is written once.

A *key* is the dotted name of one value, such as `train.images`. Sections are dataclasses inside dataclasses. The
explanation of a field is the comment beside or above it, or the string under it; it appears in `--help` and in YAML.
"""

import argparse
import ast
import dataclasses
import difflib
import functools
import inspect
import io
import math
import textwrap
import tokenize
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar

import yaml

from relightgan.core.errors import ConfigError
from relightgan.core.text import shown

Settings = TypeVar("Settings")
MAX_WHOLE = 2**63  # torch and numpy take whole numbers below it
NONE_WORDS = ("none", "null", "")


@dataclasses.dataclass(frozen=True)
class Field:
    """One value of a settings class."""

    key: str  # dotted name, such as `train.images`
    type: Any  # its annotation, resolved
    default: Any  # its value where none is given
    help: str  # the explanation beside the field


def fields_of(settings: type, prefix: str = "") -> list[Field]:
    """All values of a settings class in the order of its source, those of its sections included.

    Args:
        settings: a dataclass whose fields all have defaults.
        prefix: for each key, with its dot.
    """
    hints, helps, found = typing.get_type_hints(settings), _explanations(settings), []
    for field in dataclasses.fields(settings):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            found += fields_of(typing.cast(type, kind), f"{prefix}{field.name}.")
        else:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            found.append(Field(prefix + field.name, kind, default, helps.get(field.name, "")))
    return found


def to_dict(settings: Any) -> dict[str, Any]:
    """The settings as nested dicts of plain YAML and JSON values (tuples become lists)."""
    return {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def from_dict(cls: type[Settings], values: Mapping[str, Any], where: str, prefix: str = "") -> Settings:
    """Settings with these values, and defaults for all others.

    Args:
        cls: the settings class.
        values: nested, as of `to_dict`; may be partial.
        where: origin of the values, for messages: a file name or "the command line".
        prefix: of the keys in messages, with its dot.

    Raises:
        ConfigError: an unknown key (the message names the most similar known key), or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{where}: '{prefix.rstrip('.')}' must hold settings, not {shown(repr(values))}.",
            "Write `key: value` lines.",
        )
    hints = typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    for name, value in values.items():
        key = shown(f"{prefix}{name}")
        if name not in hints:
            raise unknown_key(key, [prefix + known for known in hints], where)
        if dataclasses.is_dataclass(hints[name]):
            given[name] = from_dict(typing.cast(type, hints[name]), value, where, f"{key}.")
        else:
            try:
                given[name] = convert(value, hints[name])
            except ValueError as error:
                raise ConfigError(
                    f"{where}: {key} is {shown(repr(value))}, but it must be {error}.", "Change the value."
                ) from error
    try:
        return cls(**given)
    except ConfigError as error:
        part = f", {prefix.rstrip('.')}" if prefix else ""
        raise ConfigError(f"{where}{part}: {error.problem}", error.fix) from error


def unknown_key(key: str, known: Iterable[str], where: str) -> ConfigError:
    """The error for an unknown key; it names the most similar known key, or else all of them."""
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    fix = f"Did you mean '{near[0]}'?" if near else f"Known here: {', '.join(known)}."
    return ConfigError(f"{where}: there is no setting '{key}'.", fix)


def convert(value: Any, kind: Any) -> Any:
    """A value from YAML or a command line, converted to the annotated type.

    Strings are converted to numbers and lists where the type is one, because YAML 1.1 reads `1e5` as a string.

    Raises:
        ValueError: no value of that type; the message says what it must be.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in NONE_WORDS):
            return None
        return convert(value, next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        if value not in args:
            raise ValueError(f"one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        return _convert_tuple(value, args)
    if kind is bool:
        return _convert_bool(value)
    if kind in (int, float):
        return _convert_number(value, kind)
    if kind is str and isinstance(value, str):
        return value
    raise ValueError(describe(kind))


def describe(kind: Any) -> str:
    """A type in words, for messages and help."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return f"{describe(next(arg for arg in args if arg is not type(None)))} or none"
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is tuple:
        count = "" if len(args) == 2 and args[1] is Ellipsis else f"{len(args)} "
        return f"{count}values with commas between, each {describe(args[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}.get(kind, str(kind))


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts merged into one; later ones override earlier ones."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            old = result.get(name)
            both = isinstance(value, Mapping) and isinstance(old, Mapping)
            result[name] = merge(typing.cast(Mapping, old), value) if both else value
    return result


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    result: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        inner = result
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return result


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, our value, their value) for each dotted key whose values differ; a missing value is None."""
    a, b = flatten(ours), flatten(theirs)
    return [
        (key, a.get(key), b.get(key)) for key in [*a, *(key for key in b if key not in a)] if a.get(key) != b.get(key)
    ]


def to_yaml(settings: Any, leave_out: Collection[str] = ()) -> str:
    """The settings as YAML, with its explanation above each field; `yaml.safe_load` gives back `to_dict`.

    Args:
        settings: of any settings class.
        leave_out: names of fields that are not written.
    """
    shown = {name: value for name, value in to_dict(settings).items() if name not in leave_out}
    return "\n".join(_yaml_lines(settings, shown, "")) + "\n"


def add_options(parser: argparse.ArgumentParser, cls: type, short: Mapping[str, str]) -> None:
    """Adds one option per field to a parser, `--section.field`, in one group per section.

    Options that aren't given are absent from the namespace; `given_options` reads the others.

    Args:
        parser: the parser to add to.
        cls: the settings class.
        short: a second name for some keys, such as {"train.max_minutes": "--max-minutes"}.
    """
    groups: dict[str, Any] = {}
    for field in fields_of(cls):
        section = field.key.rpartition(".")[0]
        group = groups.setdefault(
            section, parser.add_argument_group(f"settings of {section}" if section else "settings")
        )
        names = dict.fromkeys([short.get(field.key, ""), f"--{field.key.replace('_', '-')}", f"--{field.key}"])
        group.add_argument(
            *filter(None, names),
            dest=field.key,
            default=argparse.SUPPRESS,
            type=functools.partial(_argument, field.type),
            metavar=_metavar(field.type),
            help=f"{field.help} [{_flow(field.default)}]".strip().replace("%", "%%"),
        )


def given_options(namespace: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The settings given on the command line, nested."""
    given = vars(namespace)
    return nest({field.key: _plain(given[field.key]) for field in fields_of(cls) if field.key in given})


# Private implementation


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _argument(kind: Any, text: str) -> Any:
    try:
        return convert(text, kind)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from error


def _metavar(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _metavar(next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        return "{" + ",".join(map(str, args)) + "}"
    if origin is tuple:
        return f"{_metavar(args[0])},..."
    return {int: "N", float: "X", bool: "BOOL"}.get(kind, "TEXT")


def _convert_tuple(value: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        items = [items]
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(convert(item, args[0]) for item in items)
    if len(items) != len(args):
        raise ValueError(f"{len(args)} values")
    return tuple(convert(item, kind) for item, kind in zip(items, args, strict=True))


def _convert_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("true or false")


def _convert_number(value: Any, kind: type) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(describe(kind))
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(describe(kind)) from error
    if not math.isfinite(number):
        raise ValueError(describe(kind))
    if kind is float:
        return number
    if number != int(number) or abs(number) >= MAX_WHOLE:
        raise ValueError(describe(kind))
    try:
        return int(value)  # not by way of a float, which would make another seed of one with twenty digits
    except ValueError:
        return int(number)  # 1e5, a string to YAML 1.1


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _yaml_lines(settings: Any, shown: Mapping[str, Any], indent: str) -> list[str]:
    lines, helps = [], _explanations(type(settings))
    # Single values first: after an inner section they would be read as part of it, by eye if not by YAML.
    for name in sorted(shown, key=lambda name: dataclasses.is_dataclass(getattr(settings, name))):
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            lines += ["", f"{indent}{name}:", *_yaml_lines(value, to_dict(value), indent + "  ")]
        else:
            lines += textwrap.wrap(
                helps.get(name, ""), 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
            lines.append(f"{indent}{name}: {_flow(value)}")
    return lines


def _explanations(cls: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        found |= _own_explanations(base)
    return found


def _own_explanations(cls: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # a class made by a call has no source, and so no explanations
        return {}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT}
    code_rows = {number for number, line in enumerate(source.splitlines(), 1) if not line.lstrip().startswith("#")}
    found = {}
    body = typing.cast(ast.ClassDef, ast.parse(source).body[0]).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        below = following.value if isinstance(following, ast.Expr) else None
        if isinstance(below, ast.Constant) and isinstance(below.value, str):
            text = below.value
        else:
            rows = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
            text = _comments_in(comments, rows)
            if not text:
                first = statement.lineno
                while first > 1 and first - 1 not in code_rows:
                    first -= 1
                text = _comments_in(comments, range(first, statement.lineno))
        found[statement.target.id] = " ".join(text.split())
    return found


def _comments_in(comments: Mapping[tuple[int, int], str], rows: range) -> str:
    return " ".join(text for (row, _), text in sorted(comments.items()) if row in rows)
