"""Guidance on disk: one small OpenEXR file a frame, written by `relightgan locate` and read by `relightgan infer`.

    guidance.R guidance.G guidance.B   stops from the plate's day to the other, in the look's primaries
    guidance.A                         confidence, 0..1
    least.R least.G least.B            1 where the gain is a minimum (the other day's photos were clipped), else 0

The raster lies over the plate's data window. Metadata say among which photos the plate was located, and for which
direction, so that a look of others can refuse it.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO

from relightgan.core.errors import PlateError
from relightgan.core.exr_header import Header
from relightgan.core.exr_write import write_plain_exr
from relightgan.core.files import replacing
from relightgan.core.guidance import FrameGuidance
from relightgan.core.image_file import ImageFile
from relightgan.core.look import Look
from relightgan.core.sequence import Sequence

GUIDANCE_FORMAT = "1"
FORMAT_NOTE = "relightgan/guidance"
PHOTOS_NOTE = "relightgan/photos"
DIRECTION_NOTE = "relightgan/direction"
FOUND_NOTE = "relightgan/located"  # metadata for people: how the plate was located
LAYERS = tuple(f"guidance.{letter}" for letter in "RGBA") + tuple(f"least.{letter}" for letter in "RGB")


class GuidanceFiles:
    """The guidance of a shot.

    Args:
        pattern: of the files, as `Sequence` takes it.
        look: that is going to be corrected.
    """

    def __init__(self, pattern: str, look: Look) -> None:
        self.sequence = Sequence(pattern)
        self.look = look

    def require(self, frames: Iterable[int]) -> None:
        """Makes sure that every one of these frames has its file.

        Raises:
            SequenceError: some are missing; the message names them.
        """
        self.sequence.require(frames)

    def read(self, frame: int) -> FrameGuidance:
        """A frame's guidance.

        Raises:
            PlateError: the file can't be read, isn't guidance, or was made from other photos than the look.
        """
        path = self.sequence.path(frame)
        guidance, notes = read_guidance(path)
        facts = self.look.facts
        if notes.get(PHOTOS_NOTE) != photos_digest(facts.dataset):
            raise PlateError(
                f"{path} was located among other photos than {self.look.path} was fitted to.",
                "Locate the plates with --run, the run folder of this look.",
            )
        if notes.get(DIRECTION_NOTE) != facts.direction:
            raise PlateError(
                f"{path} is for the direction {notes.get(DIRECTION_NOTE)}, {self.look.path} for {facts.direction}.",
                f"Locate the plates with --direction {facts.direction}.",
            )
        return guidance


def photos_digest(dataset: Mapping[str, Any]) -> str:
    """A hash of the photos in a look's `facts.dataset`; what it lacks is as if there were none."""
    ids = [list(dataset.get(side, {}).get("training_photos", ())) for side in ("source", "target")]
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:32]


def write_guidance(path: Path, guidance: FrameGuidance, notes: Mapping[str, str]) -> None:
    """Writes a frame's guidance, whole or not at all.

    Args:
        path: of the file, .exr, in a folder that is there.
        guidance: of the frame.
        notes: its metadata, beside the format.

    Raises:
        PlateError: it can't be written.
    """
    height, width = guidance.confidence.shape
    spec = OpenImageIO.ImageSpec(width, height, len(LAYERS), "half")
    spec.channelnames = LAYERS
    spec.attribute("compression", "zip")
    spec.attribute("DateTime", "")  # else OpenImageIO adds the time: the same plate gives the same file
    for name, text in {FORMAT_NOTE: GUIDANCE_FORMAT, **notes}.items():
        spec.attribute(name, text)
    pixels = np.dstack([guidance.gain, guidance.confidence, guidance.clipped]).astype(np.float32)
    with replacing(path, functools.partial(not_written, path)) as temporary:
        write_plain_exr(temporary, spec, pixels)


def read_guidance(path: Path) -> tuple[FrameGuidance, dict[str, str]]:
    """A frame's guidance and its metadata.

    Raises:
        PlateError: the file can't be read or isn't guidance of this version.
    """
    with ImageFile(path, fix="Locate it again.") as image:
        spec = image.specs[0]
        notes = _notes_in(image.headers[0]) if image.headers else {}
        if notes.get(FORMAT_NOTE) != GUIDANCE_FORMAT or not set(LAYERS) <= set(spec.channelnames):
            raise PlateError(f"{path} isn't guidance that this version reads.", "Make it with `relightgan locate`.")
        pixels = image.pixels(0, "float")
    names = list(spec.channelnames)
    pixels = pixels[..., [names.index(name) for name in LAYERS]]
    if not np.isfinite(pixels).all():
        raise PlateError(f"{path} holds NaN or infinity.", "Locate it again.")
    confidence = np.ascontiguousarray(np.clip(pixels[..., 3], 0, 1))
    return FrameGuidance(np.ascontiguousarray(pixels[..., :3]), pixels[..., 4:] > 0.5, confidence), notes


def not_written(path: Path, error: OSError) -> PlateError:
    """The error for guidance that can't be written, see `core.files.replacing`."""
    return PlateError(f"{path} can't be written: {error.strerror or error}.", "Check the folder, its rights and space.")


# Private implementation


def _notes_in(header: Header) -> dict[str, str]:
    return {
        name: attribute.value.decode("utf-8", "replace")
        for name, attribute in header.items()
        if name.startswith("relightgan/") and attribute.kind == "string"
    }
