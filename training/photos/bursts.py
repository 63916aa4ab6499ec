"""Bursts of photos, and a train/validation/test split that keeps each burst together.

Photos of one burst are nearly the same picture. With one in the training set and another in the test set, the test
would measure memorisation.
"""

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np

from relightgan.training.photos.checks import LUMA_CELLS
from relightgan.training.photos.measuring import Measured

SPLITS = ("train", "val", "test")
SIMILAR = 0.9
"""Correlation of two luma signatures from which neighbours by name are one burst; different views stay below."""


def find_bursts(measured: Sequence[Measured], signatures: np.ndarray, gap_s: float) -> list[int]:
    """The burst number of each picture, counted from 0 in the order of the pictures.

    One burst are: frames of one movie; photos of one folder taken within `gap_s` of each other; and similar photos that
    are neighbours by file name.

    Args:
        measured: pictures in the order of path and frame.
        signatures: (N, SIGNATURE_BYTES) uint8, of the same pictures.
        gap_s: longest time between two photos of one burst, seconds.
    """
    parent = list(range(len(measured)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(one: int, other: int) -> None:
        first, second = sorted((find(one), find(other)))
        parent[second] = first

    for row, (one, after) in enumerate(pairwise(measured)):
        is_same_movie = one.path == after.path
        if is_same_movie or (
            one.path.parent == after.path.parent and _correlation(signatures[row], signatures[row + 1]) >= SIMILAR
        ):
            join(row, row + 1)
    timed = sorted(
        (str(one.path.parent), moment, row)
        for row, one in enumerate(measured)
        if (moment := seconds_of(one.taken)) is not None
    )
    for (folder, moment, row), (next_folder, next_moment, next_row) in pairwise(timed):
        if folder == next_folder and next_moment - moment <= gap_s:
            join(row, next_row)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find(row), len(numbers)) for row in range(len(measured))]


def split_bursts(
    bursts: Sequence[int], ids: Sequence[str], seed: int, val_share: float, test_share: float
) -> tuple[list[int], list[str]]:
    """The split of each photo, with bursts kept whole, as close to the shares as that allows.

    Only where validation or test would be empty (one long movie, for example), the longest burst is cut into runs of
    neighbours, each a tenth of all photos.

    Args:
        bursts: burst number of each photo.
        ids: id of each photo; the order is drawn from ids and seed, not from file names.
        seed: another seed gives another split.
        val_share: share of photos for validation, 0..1.
        test_share: share of photos for the test, 0..1.

    Returns:
        The burst number of each photo (runs of a cut burst have their own), and the split of each photo.
    """
    groups: dict[int, list[int]] = {}
    for row, burst in enumerate(bursts):
        groups.setdefault(burst, []).append(row)
    pieces = list(groups.values())
    count = len(bursts)
    targets = [count * (1 - val_share - test_share), count * val_share, count * test_share]
    piece_size = max(1, math.ceil(count / 10))
    while True:
        splits = _assign(pieces, ids, seed, targets)
        is_short = any(target >= 1 and name not in splits for target, name in zip(targets, SPLITS, strict=True))
        longest = max(pieces, key=len, default=[])
        if not is_short or len(longest) <= piece_size:
            break
        at = pieces.index(longest)
        pieces[at : at + 1] = [longest[start : start + piece_size] for start in range(0, len(longest), piece_size)]
    numbers, split = [0] * count, [""] * count
    for number, (piece, name) in enumerate(zip(pieces, splits, strict=True)):
        for row in piece:
            numbers[row], split[row] = number, name
    return numbers, split


def seconds_of(taken: str | None) -> float | None:
    """Seconds of ISO 8601 in a camera's time; None where it is none."""
    if taken is None:
        return None
    try:
        return (datetime.fromisoformat(taken.partition(".")[0]) - datetime(1970, 1, 1)).total_seconds() + _fraction(
            taken
        )
    except ValueError:
        return None


# Private implementation


def _assign(pieces: Sequence[Sequence[int]], ids: Sequence[str], seed: int, targets: Sequence[float]) -> list[str]:
    total = sum(targets)

    def turn(number: int) -> tuple[int, bytes]:
        piece = pieces[number]
        # Long pieces first, while there is room for them; the order of the others depends on the seed alone.
        size = len(piece) if len(piece) > total / 20 else 0
        return -size, hashlib.blake2b(f"{seed} {min(ids[row] for row in piece)}".encode(), digest_size=8).digest()

    room = list(targets)
    splits = [""] * len(pieces)
    for number in sorted(range(len(pieces)), key=turn):
        split = max(range(len(SPLITS)), key=lambda index: room[index])
        room[split] -= len(pieces[number])
        splits[number] = SPLITS[split]
    return splits


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    a = one[:LUMA_CELLS].astype(np.float32)
    b = other[:LUMA_CELLS].astype(np.float32)
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6))


def _fraction(taken: str) -> float:
    return float(f"0.{taken.partition('.')[2] or 0}")
