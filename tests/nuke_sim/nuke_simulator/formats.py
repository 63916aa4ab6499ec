"""Formats, boxes and frame ranges: Nuke's small value classes."""

from __future__ import annotations

import re
from collections.abc import Iterator


class Format:
    """Width and height in pixels and the aspect of a pixel."""

    def __init__(self, width: int, height: int, x: int, y: int, r: int, t: int, pixel_aspect: float) -> None:
        self._width, self._height, self._aspect = int(width), int(height), float(pixel_aspect)
        self._x, self._y, self._r, self._t = x, y, r, t
        self._name = ""

    def width(self) -> int:
        return self._width

    def height(self) -> int:
        return self._height

    def x(self) -> int:
        return self._x

    def y(self) -> int:
        return self._y

    def r(self) -> int:
        return self._r

    def t(self) -> int:
        return self._t

    def pixelAspect(self) -> float:
        return self._aspect

    def name(self) -> str | None:
        return self._name or None

    def setName(self, name: str) -> None:
        self._name = name

    def _script_text(self) -> str:
        aspect = int(self._aspect) if self._aspect.is_integer() else self._aspect
        box = f"{self._x} {self._y} {self._r} {self._t}"
        return f"{self._width} {self._height} {box} {aspect} {self._name}".rstrip()


def parse_format(text: str) -> Format:
    """`width height [x y r t] pixel-aspect [name]`, as scripts and nuke.addFormat have it."""
    words = text.split()
    name = "" if re.fullmatch(r"[-+\d.]+", words[-1]) else words.pop()
    numbers = [float(word) for word in words]
    if len(numbers) not in (2, 3, 6, 7):
        raise ValueError(f"not a format: {text!r}")
    width, height = int(numbers[0]), int(numbers[1])
    box = [int(n) for n in numbers[2:6]] if len(numbers) > 3 else [0, 0, width, height]
    made = Format(width, height, *box, pixel_aspect=numbers[-1] if len(numbers) in (3, 7) else 1.0)
    made.setName(name)
    return made


class Info:
    """A bounding box, bottom-left origin."""

    def __init__(self, x: float, y: float, w: float, h: float) -> None:
        self._x, self._y, self._w, self._h = x, y, w, h

    def x(self) -> float:
        return self._x

    def y(self) -> float:
        return self._y

    def w(self) -> float:
        return self._w

    def h(self) -> float:
        return self._h


class FrameRange:
    """first-last with a step; iterates over its frames. Also made from text such as "1-10x2"."""

    def __init__(self, *numbers: int | str) -> None:
        if len(numbers) == 1 and isinstance(numbers[0], str):
            match = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?(?:x(\d+))?", numbers[0].strip())
            if match is None:
                raise ValueError(f"not a frame range: {numbers[0]!r}")
            first = int(match[1])
            self._first, self._last, self._step = first, int(match[2] or first), int(match[3] or 1)
        else:
            self._first, self._last = int(numbers[0]), int(numbers[1])
            self._step = int(numbers[2]) if len(numbers) > 2 else 1
        if self._step < 1:
            raise NotImplementedError("simulated frame ranges go forward")

    def first(self) -> int:
        return self._first

    def last(self) -> int:
        return self._last

    def increment(self) -> int:
        return self._step

    def setFirst(self, n: int) -> None:
        self._first = n

    def setLast(self, n: int) -> None:
        self._last = n

    def setIncrement(self, n: int) -> None:
        self._step = n

    def minFrame(self) -> int:
        return self._first

    def maxFrame(self) -> int:
        return self._last

    def frames(self) -> int:
        return len(list(self))

    def getFrame(self, n: int) -> int:
        return self._first + n * self._step

    def isInRange(self, n: int) -> bool:
        return n in list(self)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._first, self._last + 1, self._step))

    def __str__(self) -> str:
        plain = str(self._first) if self._first == self._last else f"{self._first}-{self._last}"
        return plain if self._step == 1 else f"{plain}x{self._step}"


class FrameRanges:
    """Several ranges: from text ("1-10 20"), from FrameRange objects or from a list of frames."""

    def __init__(self, ranges: object = ()) -> None:
        if isinstance(ranges, FrameRange):
            self._ranges = [ranges]
        elif isinstance(ranges, str):
            self._ranges = [FrameRange(part) for part in re.split(r"[\s,]+", ranges.strip()) if part]
        else:
            self._ranges = [one if isinstance(one, FrameRange) else FrameRange(str(one)) for one in ranges]

    def add(self, r: FrameRange) -> None:
        self._ranges.append(r)

    def clear(self) -> None:
        self._ranges.clear()

    def size(self) -> int:
        return len(self._ranges)

    def minFrame(self) -> int:
        return min(self.toFrameList())

    def maxFrame(self) -> int:
        return max(self.toFrameList())

    def toFrameList(self) -> list[int]:
        return [frame for one in self._ranges for frame in one]

    def __iter__(self) -> Iterator[FrameRange]:
        return iter(self._ranges)

    def __str__(self) -> str:
        return " ".join(str(one) for one in self._ranges)
