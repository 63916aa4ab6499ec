"""AOVs: what is known of each pixel of a relit frame beside its colour, so that a comp can grade the light alone.

    gain         stops (log2) that red, green and blue of the plate are multiplied by: plate x 2^gain = relit
    confidence   how sure the look is of them, 0..1: 1 / (1 + expected error / half a stop)

    guidance     stops that photos of the other day ask for at this place, see `guidance`; 0 where they say nothing

The first two are those of the look at full strength and without a mask, after the temporal blend. In a file each is
a layer of its own, named as OpenEXR names layers: gain.R, gain.G, gain.B, and the lone confidence.R, which every host
can show. Nuke's reader makes them gain.red, gain.green, gain.blue and confidence.red (ExrChannelNameToNuke.cpp among
the Nuke Developer Kit's examples: the last word is the channel, R becomes red, what stands before it is the layer).

A further AOV needs a name in `look.AOV_CHANNELS` where looks give it, or a place in `aovs_of` and `pipeline.frame_aovs`
where the runtime does; the rest goes by names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from relightgan.core import exr_header
from relightgan.core.errors import LookError, PlateError, UsageError
from relightgan.core.exr_header import Header
from relightgan.core.look import AOV_CHANNELS, GAIN, GUIDANCE, RUNTIME_AOVS, Look, known_aovs
from relightgan.core.plate import Plate, plain_part, with_extra_channels

LETTERS = "RGB"
CHANNELS = {**AOV_CHANNELS, **RUNTIME_AOVS}  # channels of every AOV, in their order in the file
MAX_STOPS = 16.0  # measured gains are clamped to this; they are as large only where next to no light becomes some
STRIP_ROWS = 128  # rows that are measured at a time


def aovs_of(look: Look, guided: bool = False) -> tuple[str, ...]:
    """The AOVs there can be with a look: gain with every look, others where the look gives them, or is guided."""
    return tuple(dict.fromkeys((GAIN, *known_aovs(look.facts), *((GUIDANCE,) if guided else ()))))


def wanted_aovs(look: Look, names: Sequence[str], guided: bool = False) -> tuple[str, ...]:
    """The AOVs a user asked for, each once, in the order of our table.

    Args:
        look: the look.
        names: what was asked for; none for all that there can be.
        guided: there is guidance.

    Raises:
        UsageError: there is no AOV of such a name, or no guidance.
        LookError: the look can't give it.
    """
    if unknown := [name for name in names if name not in CHANNELS]:
        raise UsageError(f"There is no AOV '{unknown[0]}'.", f"AOVs are: {', '.join(CHANNELS)}.")
    if GUIDANCE in names and not guided:
        raise UsageError("The AOV guidance shows guidance, and there is none.", "Give --guidance FILES.")
    there = aovs_of(look, guided)
    if missing := [name for name in names if name not in there]:
        raise LookError(
            f"{look.path} doesn't give {', '.join(missing)}: an older version made it, or it isn't a relight look.",
            f"Fit it again with this version, or ask for --aovs {' '.join(there)}.",
        )
    return tuple(name for name in CHANNELS if name in (names or there))


def working_gain(plate_rgb: np.ndarray, relit_rgb: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """The gain that makes relit values of plate values in the space both are in, whatever the look did in its own.

    Args:
        plate_rgb: (H, W, 3) float32, anything.
        relit_rgb: (H, W, 3) float32, finite where the plate is.
        own: (H, W, 3) float32, the look's gain in its own primaries; taken where no factor leads from one value to
            the other: where the plate is 0 or not finite, or changes its sign. 0 there when None.

    Returns:
        (H, W, 3) float32 stops, finite, within MAX_STOPS either way where measured.
    """
    gain = np.zeros(plate_rgb.shape, np.float32) if own is None else np.array(own, np.float32)
    for top in range(0, len(gain), STRIP_ROWS):
        rows = slice(top, top + STRIP_ROWS)
        plate = plate_rgb[rows]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            factor = relit_rgb[rows] / plate
            stops = np.clip(np.log2(factor), -MAX_STOPS, MAX_STOPS)
        np.copyto(gain[rows], stops, where=(factor > 0) & (plate != 0))
    return gain


def channel_names(name: str) -> tuple[str, ...]:
    """The OpenEXR channels of an AOV."""
    return tuple(f"{name}.{letter}" for letter in LETTERS[: CHANNELS[name]])


def with_aovs(plate: Plate, aovs: Mapping[str, np.ndarray], pixel_type: str) -> Plate:
    """The plate with AOVs as further channels, to be written.

    Args:
        plate: any plate.
        aovs: (H, W, C) float32 by name, over its data window.
        pixel_type: "half" or "float".
    """
    if not aovs:
        return plate
    layers = {
        channel: picture[..., k] for name, picture in aovs.items() for k, channel in enumerate(channel_names(name))
    }
    parts = list(plate.parts) or [plain_part(plate)]
    parts[plate.rgb_part] = with_extra_channels(parts[plate.rgb_part], layers, pixel_type)
    return replace(plate, parts=tuple(parts))


def check_room(plate: Plate, aovs: Sequence[str]) -> None:
    """Makes sure that a plate has no layers of the names that AOVs will have.

    Raises:
        PlateError: it has; no layer of a plate is ever replaced or doubled.
    """
    if not aovs:
        return
    found = {name for part in plate.parts for name in layers_of(part.header, [c.name for c in part.channels])}
    if taken := [name for name in aovs if name in found]:
        raise PlateError(
            f"{plate.path} already has the layer {', '.join(taken)}.",
            "Remove it from the plate (in Nuke: Remove), or leave it out of --aovs.",
        )


def lacks_aovs(path: Path, aovs: Sequence[str]) -> bool:
    """True where an OpenEXR file hasn't all channels of these AOVs.

    Raises:
        PlateError: the file can't be read.
    """
    found = {channel.name for header in exr_header.read_headers(path) for channel in exr_header.read_channels(header)}
    return not found.issuperset(channel for name in aovs for channel in channel_names(name))


# Private implementation


def layers_of(header: Header, channels: Sequence[str]) -> set[str]:
    """The layers of one part: what stands before the last dot of its channels, and the part's own name."""
    part_name = {header["name"].value.decode("utf-8", "replace")} if "name" in header else set()
    return {name.rpartition(".")[0] for name in channels} - {""} | part_name
