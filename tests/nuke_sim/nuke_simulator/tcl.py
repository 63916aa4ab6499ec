"""A real Tcl interpreter (Nuke's own language) that runs the `[...]` of knobs, and one that reads .nk files.

Nuke embeds Tcl; Python's tkinter does too. Commands of Nuke's that aren't defined here don't exist, and Tcl says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

try:
    import tkinter
except ImportError as error:  # pragma: no cover - depends on how Python was built
    raise ImportError(
        "The simulator of Nuke needs Python's tkinter, for its Tcl (Debian: apt install python3-tk)."
    ) from error

TclError = tkinter.TclError


class Tcl:
    """An interpreter whose commands are Python functions; a Python error crosses it unchanged."""

    def __init__(self) -> None:
        self._tcl = tkinter.Tcl().tk
        self._failure: Exception | None = None

    def define(self, name: str, function: Callable[..., str]) -> None:
        """Makes `function` (words in, text out) the command `name`; its errors can be caught by Tcl's `catch`."""

        def call(*words: str) -> tuple[str, str]:
            try:
                return "ok", function(*words)
            except Exception as error:
                self._failure = error
                return "error", str(error)

        hidden = f"::python::{name}"
        self._tcl.eval("namespace eval ::python {}")
        self._tcl.createcommand(hidden, call)
        body = f"lassign [{hidden} {{*}}$args] state text; if {{$state eq {{error}}}} {{error $text}}; set text"
        self._tcl.call("proc", name, "args", body)

    def eval(self, text: str) -> str:
        """The text result of a piece of Tcl; raises what a Python command raised, else TclError."""
        return self._run(self._tcl.eval, text)

    def call(self, *words: str) -> str:
        """The result of one command whose words need no quoting."""
        return self._run(self._tcl.call, *words)

    def _run(self, function: Callable[..., object], *arguments: str) -> str:
        self._failure = None
        try:
            result = function(*arguments)
        except TclError as error:
            failure, self._failure = self._failure, None
            if failure is not None and str(failure) in str(error):
                raise failure from None
            raise
        return _text(result)


def commands(text: str) -> Iterator[tuple[int, str]]:
    """The commands of a script, each with the number of its first line; RuntimeError where something isn't closed."""
    complete = tkinter.Tcl().tk
    command, start = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        command = f"{command}\n{line}" if command else line
        if complete.call("info", "complete", command):
            if command.strip() and not command.strip().startswith("#"):
                yield start, command.strip()
            command, start = "", number + 1
    if command.strip():
        raise RuntimeError(f"missing close-brace or quote after line {start}: {command.strip()[:60]!r}")


def split(text: str) -> list[str]:
    """The elements of a Tcl list."""
    return [_text(part) for part in tkinter.Tcl().tk.splitlist(text)]


def quote(text: str) -> str:
    """The text as one word of Tcl, braced or quoted as it needs; empty text is `{}`."""
    if text == "":
        return "{}"
    if not any(c in text for c in ' \t\n\r;"\\$[]{}#'):
        return text
    escaped = "".join({"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(c, f"\\{c}" if c in '"\\$[{}' else c) for c in text)
    return f'"{escaped}"'


def fields(text: str) -> Iterator[tuple[str, bool]]:
    """The elements of a Tcl list, and was each in braces: `1 {a.x}` gives ("1", False), ("a.x", True)."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        if text[at] == "{":
            end = _closing(text, at)
            yield text[at + 1 : end], True
        elif text[at] == '"':
            end = _closing_quote(text, at)
            yield re.sub(r"\\(.)", r"\1", text[at + 1 : end]), False
        else:
            end = at
            while end < len(text) and not text[end].isspace():
                end += 1
            yield text[at:end], False
        at = end + 1


def _closing(text: str, start: int) -> int:
    depth, at = 0, start
    while at < len(text):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 2 if text[at] == "\\" else 1
    raise ValueError(f"unbalanced braces in {text!r}")


def _closing_quote(text: str, start: int) -> int:
    at = start + 1
    while at < len(text):
        if text[at] == '"':
            return at
        at += 2 if text[at] == "\\" else 1
    raise ValueError(f"unbalanced quotes in {text!r}")


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(quote(_text(part)) for part in value)
    return value if isinstance(value, str) else str(value)
