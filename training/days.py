"""The two days of a set, the photos of both in one numbering, and the direction from one day to the other."""

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

Direction = Literal["ab", "ba"]
DIRECTIONS: tuple[Direction, Direction] = ("ab", "ba")  # source day to target day, target day to source day
SOURCE, TARGET = 0, 1  # numbers of the two days
DAY_NAMES = ("source", "target")  # names of the two days, by number

T = TypeVar("T")


def from_day(direction: Direction) -> int:
    """The day whose light the plates of a direction have: `SOURCE` for "ab", `TARGET` for "ba"."""
    return SOURCE if direction == "ab" else TARGET


def opposite(direction: Direction) -> Direction:
    """The other direction."""
    return "ba" if direction == "ab" else "ab"


def along(direction: Direction, days: tuple[T, T]) -> tuple[T, T]:
    """A pair for the days (source, target), reordered to (day of the plates, wanted day) of a direction."""
    return days if direction == "ab" else (days[1], days[0])


@dataclass(frozen=True)
class Numbering:
    """One numbering for the photos of both days: the source day's from 0, the target day's after them.

    Attributes:
        counts: number of source photos and of target photos.
    """

    counts: tuple[int, int]

    @property
    def total(self) -> int:
        """How many photos both days have."""
        return sum(self.counts)

    def day(self, photos: np.ndarray) -> np.ndarray:
        """The day, `SOURCE` or `TARGET`, of each photo; same shape, int64."""
        return (np.asarray(photos) >= self.counts[0]).astype(np.int64)

    def start(self, day: int) -> int:
        """The number of a day's first photo."""
        return self.counts[0] if day == TARGET else 0

    def place(self, photo: int) -> tuple[int, int]:
        """The day of a photo, and its number within that day."""
        day = int(photo >= self.counts[0])
        return day, int(photo) - self.start(day)
