"""Measures the flicker of looks on clips with known flow.

A clip is a folder with A/, flow/ and optionally B/. Each has a file per frame, whose name ends in the frame number.
Flow NNNN has u, v and valid as R, G, B and goes from frame NNNN to NNNN-1: the point (x, y) of NNNN is at
(x + u, y + v) in NNNN-1.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relightgan.core.errors import PlateError
from relightgan.core.frames import read_plate
from relightgan.core.pipeline import Relighting, Settings, relight_frame
from relightgan.core.plate import Plate
from relightgan.core.session import LookSession
from relightgan.training.measure.metrics import gain_flicker, psnr, to_display, warp_error
from relightgan.training.measure.paired_views import (
    DAY_FOLDERS,
    UNTOUCHED,
    check_finite,
    pictures_of,
    read_picture,
    size_text,
)
from relightgan.training.stops import to_stops

TRUTH = "truth"  # row of the true relit clip


@dataclass(frozen=True)
class Clip:
    """Consecutive frames with the true flow between them."""

    folder: Path
    plates: dict[int, Path]
    truths: dict[int, Path]  # frames of the true relit clip; empty where there is none
    flows: dict[int, Path]  # from the frame of this number to the one before

    def steps(self) -> list[int]:
        """The frames with a flow and a previous frame."""
        return [frame for frame in self.plates if frame in self.flows and frame - 1 in self.plates]


def find_clip(folder: Path, direction: str = "ab") -> Clip:
    """The frames of a clip folder; see the top of this module.

    Raises:
        PlateError: the input frames or the flow aren't there, or the truth lacks frames.
    """
    here, there = (folder / name for name in DAY_FOLDERS[direction])
    plates = _by_frame(here)
    truths = _by_frame(there) if there.is_dir() else {}
    if truths and (missing := sorted(plates.keys() - truths.keys())):
        raise PlateError(f"{there} has no frame {missing[0]}.", "Give all frames of the true clip, or none.")
    clip = Clip(folder, plates, truths, _by_frame(folder / "flow"))
    if not clip.steps():
        raise PlateError(f"{folder} has no two consecutive frames with flow.", "Give flow/NNNN.exr for frame NNNN.")
    return clip


def measure_clip(
    clip: Clip,
    sessions: Mapping[str, LookSession],
    blends: Sequence[float] = (0.0, 1.0),
    window: int = 2,
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, float]]:
    """Flicker of the input, of the truth (if there is one), and of each look with each temporal blend.

    Args:
        clip: the result of `find_clip`.
        sessions: looks by name; may be empty.
        blends: temporal blends, 0..1 each.
        window: temporal window, in frames to either side.
        on_frame: called after each measured frame; `rows_of` times the clip's steps in all.

    Returns:
        row -> means over frames of warp_error, warp_error_square and gain_flicker (see `metrics`), and of psnr where
        there is a truth. The rows UNTOUCHED and TRUTH are the floors.

    Raises:
        PlateError: a file can't be read or has another size.
        LookError: a look made NaN or infinity.
    """
    reader = functools.lru_cache(maxsize=2 * window + 3)(lambda frame: read_picture(clip.plates[frame]))
    rows: dict[str, Callable[[int], np.ndarray]] = {UNTOUCHED: lambda frame: reader(frame).rgb}
    if clip.truths:
        rows[TRUTH] = lambda frame: read_picture(clip.truths[frame]).rgb
    for name, session in sessions.items():
        for blend in blends:
            settings = Settings(temporal_blend=blend, temporal_window=window)
            relighting = Relighting(session, settings)
            rows[f"{name}, blend {blend:g}"] = functools.partial(_relit, reader, tuple(clip.plates), relighting)
    return {name: _measure_row(name, clip, reader, picture, on_frame) for name, picture in rows.items()}


def rows_of(clip: Clip, looks: int, blends: int) -> int:
    """The number of rows of `measure_clip`."""
    return 1 + bool(clip.truths) + looks * blends


# Private implementation


def _by_frame(folder: Path) -> dict[int, Path]:
    """The pictures of a folder by the frame number at the end of their names, in order.

    Raises:
        PlateError: as `pictures_of`, or a name ends in no number.
    """
    frames = {}
    for name, path in pictures_of(folder).items():
        number = re.search(r"\d+$", name)
        if number is None:
            raise PlateError(f"{path} has no frame number.", "Name frames like 0001.exr.")
        frames[int(number[0])] = path
    return dict(sorted(frames.items()))


def _read_flow(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Flow (H, W, 2) float32 in pixels and validity (H, W) bool of a flow file of a clip's size.

    Raises:
        PlateError: the file can't be read or has another size.
    """
    stored = read_plate(path).rgb
    if stored.shape != shape:
        raise PlateError(f"{path} is {size_text(stored)}, the clip {shape[1]}x{shape[0]}.", "Use one size.")
    return np.ascontiguousarray(stored[..., :2]), (stored[..., 2] > 0.5) & np.isfinite(stored).all(axis=-1)


def _relit(
    reader: Callable[[int], Plate],
    frames: tuple[int, ...],
    relighting: Relighting,
    frame: int,
) -> np.ndarray:
    return relight_frame(frame, reader, frames, relighting).rgb


def _measure_row(
    name: str,
    clip: Clip,
    reader: Callable[[int], Plate],
    picture: Callable[[int], np.ndarray],
    on_frame: Callable[[], None],
) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    current: tuple[int, np.ndarray, np.ndarray] | None = None
    for frame in clip.steps():
        if current is None or current[0] != frame - 1:
            current = _shown_and_gain(name, frame - 1, reader, picture)
        before, current = current, _shown_and_gain(name, frame, reader, picture)
        flow, valid = _read_flow(clip.flows[frame], current[1].shape)
        if not valid.any():
            raise PlateError(
                f"{clip.flows[frame]} has no valid pixel.", "Its B channel must be 1 where the flow is valid."
            )
        figures = warp_error(current[1], before[1], flow, valid)
        figures["gain_flicker"] = gain_flicker(current[2], before[2], flow, valid)
        if clip.truths:
            figures["psnr"] = psnr(current[1], to_display(read_picture(clip.truths[frame]).rgb))
        for figure, value in figures.items():
            sums.setdefault(figure, []).append(value)
        on_frame()
    return {figure: float(np.mean(values)) for figure, values in sums.items()}


def _shown_and_gain(
    name: str, frame: int, reader: Callable[[int], Plate], picture: Callable[[int], np.ndarray]
) -> tuple[int, np.ndarray, np.ndarray]:
    relit = picture(frame)
    check_finite(relit, name, f"frame {frame}")
    return frame, to_display(relit), to_stops(relit) - to_stops(reader(frame).rgb)
