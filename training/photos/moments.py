"""Photos that show one moment more than once: live photos, raw beside JPEG, brackets. One of them is kept.

A bracket is some photos of one view, taken right after one another at exposures of their own: a camera's series, or one
by hand. They aren't merged: the one in the middle is kept, as the camera metered the light, and a photo of another
exposure is another light to us.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from relightgan.training.photos.bursts import seconds_of
from relightgan.training.photos.checks import LUMA_CELLS
from relightgan.training.photos.files import HEIF_SUFFIXES, JPEG_SUFFIXES, RAW_SUFFIXES
from relightgan.training.photos.measuring import Measured

BRACKET_GAP_S = 5.0  # longest time between two photos of a bracket: at dusk each may take a second or two
BRACKET_STOPS = 0.3  # exposures that differ by less are the same
SAME_VIEW = 0.8  # rank correlation of what both photos show between black and white
SHOWN_LEVELS = (8, 247)  # luma of a signature's cell that is neither black nor blown out
MIN_SHOWN = LUMA_CELLS // 10  # cells that must be so in both photos to tell whether they show one view
RAW_TWIN_S = 2.0  # a camera notes the time of raw and JPEG alike, or nearly so


def moment_reasons(measured: Sequence[Measured], reasons: Sequence[str]) -> dict[int, str]:
    """Row of each photo whose moment another one shows -> why it is left out.

    Args:
        measured: pictures in the order of path and frame.
        reasons: why each is left out on its own account; empty for good ones.
    """
    found = {row: f"twin: {measured[raw].name} is the same moment in raw" for row, raw in _raw_twins(measured, reasons)}
    for series in _brackets(measured, [row for row in range(len(measured)) if row not in found]):
        good = [row for row in series if not reasons[row]]
        if not good:
            continue
        middle = statistics.median(_exposure(measured[row]) for row in series)
        kept = min(good, key=lambda row: (abs(_exposure(measured[row]) - middle), _lost(measured[row]), row))
        for row in series:
            if row != kept:
                stops = _exposure(measured[row]) - _exposure(measured[kept])
                found[row] = f"bracket: of {measured[kept].name}, at {stops:+.1f} stops"
    return found


# Private implementation


def _raw_twins(measured: Sequence[Measured], reasons: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(row of a camera's own JPEG or HEIF, row of the raw file beside it), where the raw file can be used."""
    raws: dict[tuple[Path, str], int] = {}
    for row, one in enumerate(measured):
        if one.path.suffix.lower() in RAW_SUFFIXES and not reasons[row]:
            raws[one.path.parent, one.path.stem.lower()] = row
    for row, one in enumerate(measured):
        raw = raws.get((one.path.parent, one.path.stem.lower()))
        if raw is None or one.path.suffix.lower() not in JPEG_SUFFIXES | HEIF_SUFFIXES:
            continue
        taken, other = seconds_of(one.taken), seconds_of(measured[raw].taken)
        if taken is None or other is None or abs(taken - other) <= RAW_TWIN_S:
            yield row, raw


def _brackets(measured: Sequence[Measured], rows: Sequence[int]) -> Iterator[list[int]]:
    """The rows of each bracket, two or more."""
    timed = []
    seen: set[tuple[Path, str]] = set()
    for row in rows:
        one = measured[row]
        moment, key = seconds_of(one.taken), (one.path.parent, one.digest)
        if moment is not None and one.exposure is not None and one.measures is not None and key not in seen:
            seen.add(key)  # a copy of a file is no further exposure
            timed.append((str(one.path.parent), one.camera, moment, row))
    timed.sort()
    series = [row for *_, row in timed[:1]]
    for before, after in pairwise(timed):
        row = after[3]
        is_near = before[:2] == after[:2] and after[2] - before[2] <= BRACKET_GAP_S
        # An exposure that comes again begins the next series.
        is_new = all(_differ(measured[known], measured[row]) for known in series)
        if not (is_near and is_new and any(_same_view(measured[known], measured[row]) for known in series)):
            if len(series) > 1:
                yield series
            series = []
        series.append(row)
    if len(series) > 1:
        yield series


def _same_view(one: Measured, other: Measured) -> bool:
    """Whether photos differ as their exposures do: the longer one is brighter, and shades come in the same order."""
    darker, brighter = sorted((one, other), key=_exposure)
    dark, bright = _cells(darker), _cells(brighter)
    if dark.mean() >= bright.mean():  # of another view, which the camera metered anew
        return False
    low, high = SHOWN_LEVELS
    shown = (dark > low) & (dark < high) & (bright > low) & (bright < high)
    if shown.sum() < MIN_SHOWN:  # what one of them shows is black or white in the other, as far exposures have it
        return True
    return float(np.corrcoef(_ranks(dark[shown]), _ranks(bright[shown]))[0, 1]) >= SAME_VIEW


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)


def _cells(one: Measured) -> np.ndarray:
    signature = one.measures.signature if one.measures else b""
    return np.frombuffer(signature, np.uint8)[:LUMA_CELLS].astype(np.float32)


def _differ(one: Measured, other: Measured) -> bool:
    return abs(_exposure(one) - _exposure(other)) >= BRACKET_STOPS


def _exposure(one: Measured) -> float:
    return one.exposure if one.exposure is not None else math.nan


def _lost(one: Measured) -> float:
    """Share of the picture that is black or white."""
    return one.measures.clipped + one.measures.dark if one.measures else 1.0
