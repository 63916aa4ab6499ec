"""Frame ranges as text: the words of core/sequence.py, which Nuke's interpreter can't import.

    1001-1100,1150    1-20x2 every second    1-20y2 those between    1-20:4 all (an order, which is of no use here)

Runs inside Nuke (Python 3.9 and later): standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from relightgan.core.errors import SequenceError

__all__ = ["format_frames", "parse_frames", "runs"]

MAX_FRAMES = 10_000_000  # the maximum number of frames in a range; more is a typing error
EXAMPLE = "Write ranges like 1001-1100,1150 or 1-20x2."
PIECE = re.compile(r"(-?\d+)(?:-(-?\d+)(?:([xy:])(-?\d+))?)?")


def parse_frames(text: str) -> list[int]:
    """The frame numbers a range text means, each once, in rising order.

    Args:
        text: numbers and ranges with commas between them; negative numbers work ("-10--5"), a range may fall ("10-1").

    Raises:
        SequenceError: the text can't be read, or means too many frames.
    """
    found: set[int] = set()
    for piece in (part.strip() for part in text.split(",")):
        match = PIECE.fullmatch(piece)
        if match is None:
            raise SequenceError(f"The frames {text!r} can't be read: {piece!r} is no number or range.", EXAMPLE)
        first, last = int(match[1]), int(match[2] or match[1])
        step = int(match[4] or 1)
        if step < 1:
            raise SequenceError(f"The frames {text!r} can't be read: the step in {piece!r} isn't above 0.", EXAMPLE)
        if abs(last - first) + len(found) >= MAX_FRAMES:
            raise SequenceError(f"The frames {text!r} are more than {MAX_FRAMES}.", EXAMPLE)
        every = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        if match[3] == "y":
            found.update(set(every) - set(every[::step]))
        else:
            found.update(every[::step] if match[3] == "x" else every)
    return sorted(found)


def format_frames(frames: Iterable[int]) -> str:
    """Frame numbers as a short text that `parse_frames` reads back: "1001-1100,1150"; "none" where there are none."""
    return ",".join(_piece(run) for run in _steady(sorted(set(frames)))) or "none"


def runs(frames: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of every unbroken run of frames, in rising order."""
    found: list[tuple[int, int]] = []
    for frame in sorted(set(frames)):
        if found and frame == found[-1][1] + 1:
            found[-1] = (found[-1][0], frame)
        else:
            found.append((frame, frame))
    return found


# Private implementation


def _steady(frames: list[int]) -> Iterator[list[int]]:
    """Cuts rising frames into pieces of one step; two frames with a gap between them are no piece."""
    run: list[int] = []
    for frame in frames:
        if len(run) >= 2 and frame - run[-1] != run[1] - run[0]:
            if len(run) == 2 and run[1] - run[0] != 1:
                yield run[:1]
                run = run[1:]
            else:
                yield run
                run = []
        run.append(frame)
    if len(run) == 2 and run[1] - run[0] != 1:
        yield run[:1]
        run = run[1:]
    if run:
        yield run


def _piece(run: list[int]) -> str:
    if len(run) == 1:
        return str(run[0])
    step = run[1] - run[0]
    return f"{run[0]}-{run[-1]}" if step == 1 else f"{run[0]}-{run[-1]}x{step}"
