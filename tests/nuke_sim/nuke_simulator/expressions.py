"""Nuke's number language (`!parent.x`, `frame - 1`, `a ? b : c`) and animation curves."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

# name, frame or None for now -> its value. Raises NothingNamed.
Resolve = Callable[[str, float | None], float]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)|(?P<name>[A-Za-z_][\w.]*)|(?P<sign>\*\*|&&|\|\||[<>=!]=|[-+*/%!?:(),<>]))"
)
_LEVELS = [["||"], ["&&"], ["==", "!="], ["<", "<=", ">", ">="], ["+", "-"], ["*", "/", "%"]]
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs, "ceil": math.ceil, "floor": math.floor, "int": math.trunc, "rint": round, "sqrt": math.sqrt,
    "min": min, "max": max, "pow": math.pow, "exp": math.exp, "log": math.log, "sin": math.sin, "cos": math.cos,
    "clamp": lambda x, low=0.0, high=1.0: min(max(x, low), high),
    "lerp": lambda a, b, t: a + (b - a) * t,
}  # fmt: skip


class NothingNamed(RuntimeError):
    """An expression names a node or knob that isn't there."""

    def __init__(self, name: str) -> None:
        super().__init__(f'Nothing is named "{name}"')


def evaluate(text: str, resolve: Resolve) -> float:
    """The number an expression gives, its `[...]` already replaced; NotImplementedError for what isn't known here."""
    parser = _Parser(text, resolve)
    value = parser.ternary()
    if parser.token:
        raise NotImplementedError(f"simulated expressions don't know {parser.token!r} in {text!r}")
    return value


class _Parser:
    def __init__(self, text: str, resolve: Resolve) -> None:
        self.tokens = _tokens(text)
        self.resolve = resolve

    @property
    def token(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, *wanted: str) -> str:
        if wanted and self.token not in wanted:
            raise NotImplementedError(f"simulated expressions expected {wanted}, found {self.token!r}")
        return self.tokens.pop(0)

    def ternary(self) -> float:
        condition = self.binary(0)
        if self.token != "?":
            return condition
        self.take("?")
        yes = self.ternary()
        self.take(":")
        no = self.ternary()
        return yes if condition else no

    def binary(self, level: int) -> float:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.token in _LEVELS[level]:
            left = _combine(self.take(), left, self.binary(level + 1))
        return left

    def unary(self) -> float:
        if self.token == "!":
            self.take()
            return float(not self.unary())
        if self.token in ("-", "+"):
            return -self.unary() if self.take() == "-" else self.unary()
        return self.primary()

    def primary(self) -> float:
        token = self.take() if self.token else ""
        if token == "(":
            value = self.ternary()
            self.take(")")
            return value
        if token[:1].isdigit() or (token[:1] == "." and token[1:2].isdigit()):
            return float(token)
        if not (token[:1].isalpha() or token[:1] == "_"):
            raise NotImplementedError(f"simulated expressions don't know {token!r}")
        if self.token != "(":
            return (
                {"pi": math.pi, "true": 1.0, "false": 0.0}[token]
                if token in ("pi", "true", "false")
                else self.resolve(token, None)
            )
        arguments = self.arguments()
        if token in _FUNCTIONS:
            return float(_FUNCTIONS[token](*arguments))
        return self.resolve(token, arguments[0])  # Blur1.size(frame - 1): the knob at another frame

    def arguments(self) -> list[float]:
        self.take("(")
        found = []
        while self.token != ")":
            found.append(self.ternary())
            if self.token == ",":
                self.take()
        self.take(")")
        return found


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotImplementedError(f"simulated expressions don't know {text[at:]!r} in {text!r}")
        found.append(match.group().strip())
        at = match.end()
    return found


def _combine(sign: str, a: float, b: float) -> float:
    match sign:
        case "||":
            return float(bool(a) or bool(b))
        case "&&":
            return float(bool(a) and bool(b))
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a / b
        case "%":
            return math.fmod(a, b)
    compared = {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
    return float(compared[sign])


@dataclasses.dataclass
class Curve:
    """An animated or linked field of a knob."""

    expression: str | None = None  # as written, `[...]` included; over the keys
    keys: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    shape: str = ""  # L linear, K constant, nothing: smooth

    def value_of_keys(self, frame: float) -> float:
        """The curve at a frame, flat beyond its ends."""
        keys = sorted(self.keys)
        if not keys:
            return 0.0
        before = [key for key in keys if key[0] <= frame]
        after = [key for key in keys if key[0] > frame]
        if not before or not after:
            return (before or after)[-1 if before else 0][1]
        (x0, y0), (x1, y1) = before[-1], after[0]
        if self.shape == "" and len(keys) > 2 and frame != x0:
            raise NotImplementedError("simulated smooth curves of more than two keys have values at their keys only")
        return y0 if self.shape == "K" else y0 + (y1 - y0) * (frame - x0) / (x1 - x0)

    def text(self) -> str:
        """As it stands between braces in a script."""
        keys = " ".join(f"x{number(x)} {number(y)}" for x, y in sorted(self.keys))
        if self.expression is None:
            return f"curve {self.shape} {keys}".replace("  ", " ").rstrip()
        quoted = f'"{self.expression}"' if re.search(r"[\s\[\]{}$;]", self.expression) else self.expression
        return f"{quoted} {keys}".rstrip()


def parse_curve(words: Sequence[str]) -> Curve:
    """The curve that the words between braces describe; the first is `curve` or an expression."""
    if not words:
        raise ValueError("empty braces where a number, a curve or an expression was expected")
    curve = Curve(expression=None if words[0] == "curve" else words[0])
    at: float | None = None
    for word in words[1:]:
        if word[0] == "x" and _is_number(word[1:]):
            at = float(word[1:])
        elif word in ("L", "K"):
            curve.shape = word
        elif word in ("i", "C", "S", "R", "P"):
            raise NotImplementedError(f"simulated curves are linear or constant: {' '.join(words)}")
        elif _is_number(word) and at is not None:
            curve.keys.append((at, float(word)))
            at += 1  # values that follow without an x of their own are one frame apart
        else:
            raise NotImplementedError(
                f"simulated curves don't know {word!r} in {{{' '.join(words)}}}; an expression with spaces needs quotes"
            )
    return curve


def number(value: float) -> str:
    """As Nuke writes numbers: whole ones without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
