"""A shot relit frame after frame: reads ahead, writes behind, says what happened."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from relightgan.core.ahead import ReadAhead, WriteBehind, request_order
from relightgan.core.aovs import check_room, with_aovs
from relightgan.core.clips import Sink, Source
from relightgan.core.guidance import FrameGuidance
from relightgan.core.pipeline import Settings, WindowCache, relight_frame
from relightgan.core.plate import Plate
from relightgan.core.progress import Cancellation
from relightgan.core.session import LookSession
from relightgan.core.temporal import window_frames

PLATES_KEPT_BYTES = 768 << 20  # four UHD plates of RGBA; with it a temporal window reads every frame once


class Shown(Protocol):
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
    session: LookSession,
    settings: Settings,
    mask_of: Callable[[int, Plate], np.ndarray] | None,
    shown: Shown,
    cancelled: Cancellation,
    cache: WindowCache | None = None,
    ends: tuple[int, int] | None = None,
    aov_type: str = "half",
    guidance: Callable[[int], FrameGuidance] | None = None,
) -> None:
    """Relights frames from a source into a sink.

    Args:
        frames: those to relight, in the order to do it.
        source: gives plates; also those of the temporal window beyond `frames`.
        sink: takes the results; the caller opens and closes it.
        session: the look, ready to run.
        settings: what the user chose.
        mask_of: (H, W) float32 for a frame and its plate; None relights everywhere.
        shown: counts frames as their files are finished, and carries messages.
        cancelled: looked at before every frame.
        cache: of an earlier call for the same clip; saves reading and looking at the frames where both meet.
        ends: first and last frame of the clip where the source holds only part of it; the window ends there.
        aov_type: "half" or "float", what AOVs are stored as.
        guidance: gives the guidance of a frame; also of those of the temporal window beyond `frames`.

    Raises:
        Cancelled: somebody asked to stop; the frame being written is finished first.
        RelightError: a frame can't be read, relit or written; those before it are whole.
    """
    look = session.look
    notes = {"relightgan/look": f"{look.facts.name} {look.sha256}", "relightgan/settings": settings_text(settings)}
    if guidance:
        notes["relightgan/guided"] = "yes"
    cache = cache if cache is not None else WindowCache()
    first, last = ends or (source.frames[0], source.frames[-1])
    order = list(request_order(frames, settings.radius, first, last, cache.observations))

    def finished(report: tuple[int, int]) -> None:
        frame, held = report
        if held:
            shown.say(f"Frame {frame}: {held} values beyond what the file can hold were set to the nearest it can.")
        shown.advance()

    def work(frame: int, plate: Plate, rgb: np.ndarray) -> Callable[[], tuple[int, int]]:
        return lambda: (frame, sink.write(frame, plate, rgb, notes))

    with WriteBehind(finished) as writer, ReadAhead(source.read, order, plate_bytes, PLATES_KEPT_BYTES) as plates:
        for frame in frames:
            cancelled.check()
            plate = plates(frame)
            check_room(plate, settings.aovs)
            mask = mask_of(frame, plate) if mask_of else None
            there = window_frames(frame, first, last, settings.radius) if ends else source.frames
            relit = relight_frame(frame, plates, there, session, settings, mask, cache, guidance)
            if relit.nonfinite:
                shown.say(f"Frame {frame}: {relit.nonfinite} values are NaN or infinite and stay as they are.")
            if relit.held:
                shown.say(f"Frame {frame}: {relit.held} values overflowed and are held at the largest number.")
            writer.submit(work(frame, with_aovs(plate, relit.aovs, aov_type), relit.rgb))


def plate_bytes(plate: Plate) -> int:
    """The memory a plate takes up."""
    alpha = 0 if plate.alpha is None else plate.alpha.nbytes
    return plate.rgb.nbytes + alpha + sum(part.rest.nbytes for part in plate.parts)


def settings_text(settings: Settings) -> str:
    """The settings as one line for a file's metadata."""
    values = {**vars(settings), "aovs": " ".join(settings.aovs)}
    return ", ".join(f"{name}={value}" for name, value in values.items() if settings.aovs or name != "aovs")
