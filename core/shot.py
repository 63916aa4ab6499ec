"""A shot relit frame after frame: reads ahead, writes behind, says what happened."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from relightgan.core.ahead import ReadAhead, WriteBehind, request_order
from relightgan.core.aovs import check_room, with_aovs
from relightgan.core.clips import Sink, Source
from relightgan.core.pipeline import Relighting, Settings, relight_frame
from relightgan.core.plate import Plate
from relightgan.core.progress import Cancellation
from relightgan.core.temporal import window_frames

PLATES_KEPT_BYTES = 768 << 20  # room for four UHD plates of RGBA: a temporal window then reads every frame once


class ShotProgress(Protocol):
    """Who hears how a shot goes, such as a `Progress`."""

    def say(self, text: str) -> None:
        """Takes a line for people."""

    def advance(self) -> None:
        """Counts one more frame as finished."""


def window_union(frames: Iterable[int], existing: Sequence[int], radius: int) -> list[int]:
    """Every frame that the results for `frames` depend on, ascending."""
    return sorted({other for frame in frames for other in window_frames(frame, existing[0], existing[-1], radius)})


def relight_shot(
    frames: Sequence[int],
    source: Source,
    sink: Sink,
    relighting: Relighting,
    shown: ShotProgress,
    cancelled: Cancellation,
    ends: tuple[int, int] | None = None,
    aov_type: str = "half",
) -> None:
    """Relights frames from a source into a sink.

    Args:
        frames: those to relight, in the order to do it.
        source: gives plates; also those of the temporal window beyond `frames`.
        sink: takes the results; the caller opens and closes it.
        relighting: the look and all choices for this clip. With the cache of an earlier call for the same clip, frames
            of its temporal window are neither read nor predicted again.
        shown: counts frames as their files are finished, and shows messages.
        cancelled: checked before every frame.
        ends: first and last frame of the clip where the source holds only part of it; the temporal window ends there.
        aov_type: "half" or "float", the pixel type of AOVs in the file.

    Raises:
        Cancelled: somebody asked to stop; the frame being written is finished first.
        RelightError: a frame can't be read, relit or written; those before it are whole.
    """
    settings, look = relighting.settings, relighting.session.look
    notes = {"relightgan/look": f"{look.facts.name} {look.sha256}", "relightgan/settings": settings_text(settings)}
    if relighting.guidance:
        notes["relightgan/guided"] = "yes"
    first, last = ends or (source.frames[0], source.frames[-1])
    order = list(request_order(frames, settings.radius, first, last, relighting.cache.frame_operators))

    def finished(report: tuple[int, int]) -> None:
        frame, clamped = report
        if clamped:
            shown.say(f"Frame {frame}: {clamped} values beyond what the file can hold were set to the nearest it can.")
        shown.advance()

    def work(frame: int, plate: Plate, rgb: np.ndarray) -> Callable[[], tuple[int, int]]:
        return lambda: (frame, sink.write(frame, plate, rgb, notes))

    with WriteBehind(finished) as writer, ReadAhead(source.read, order, plate_bytes, PLATES_KEPT_BYTES) as plates:
        for frame in frames:
            cancelled.check()
            plate = plates(frame)
            check_room(plate, settings.aovs)
            there = window_frames(frame, first, last, settings.radius) if ends else source.frames
            relit = relight_frame(frame, plates, there, relighting)
            if relit.nonfinite:
                shown.say(f"Frame {frame}: {relit.nonfinite} values are NaN or infinite and stay as they are.")
            if relit.clamped:
                shown.say(f"Frame {frame}: {relit.clamped} values overflowed and are held at the largest number.")
            writer.submit(work(frame, with_aovs(plate, relit.aovs, aov_type), relit.rgb))


def plate_bytes(plate: Plate) -> int:
    """The memory a plate takes up."""
    alpha = 0 if plate.alpha is None else plate.alpha.nbytes
    return plate.rgb.nbytes + alpha + sum(part.rest.nbytes for part in plate.parts)


def settings_text(settings: Settings) -> str:
    """The settings as one line for a file's metadata."""
    values = {**vars(settings), "aovs": " ".join(settings.aovs)}
    return ", ".join(f"{name}={value}" for name, value in values.items() if settings.aovs or name != "aovs")
