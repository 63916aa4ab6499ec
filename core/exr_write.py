"""Writing OpenEXR so that only rgb changes: OpenImageIO stores the pixels, the header is put in as bytes.

The header's place is made by OpenImageIO: a first, empty file shows how many bytes its own header takes, the real one
gets a dummy attribute that makes up the difference, and ours is then written over it. So no pixel has to move.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import OpenImageIO

from relightgan.core import exr_header
from relightgan.core.errors import PlateError
from relightgan.core.exr_header import Attribute, Header
from relightgan.core.plate import RGB, Part, window_size

HALF_MAX = 65504.0  # the largest finite 16-bit float
# Rows written at once: a multiple of every compression's block (up to 256, DWAB), and small beside a frame.
STRIP_ROWS = 256

_LOSSLESS = ("none", "rle", "zips", "zip", "piz")
# What says how pixels lie in the file, not what they are, comes from the file we write. The preview is left out: it is
# a small picture of the plate before it was relit.
_STRUCTURE = (
    "channels", "chunkCount", "compression", "dataWindow", "displayWindow", "lineOrder", "maxSamplesPerPixel", "tiles",
    "type", "version",
)  # fmt: skip
_PREVIEW = "preview"
_ROOM = "room"


def write_exr_file(path: Path, parts: Sequence[Part], rgb_part: int, rgb: np.ndarray, notes: Mapping[str, str]) -> int:
    """Writes all parts into a new file, and returns the number of rgb values clamped to +-65504.

    Args:
        path: the file to write, in a folder that exists; of any suffix. What an error leaves of it is no picture.
        parts: all images of the file.
        rgb_part: the part that `rgb` belongs to.
        rgb: (H, W, 3) float32.
        notes: strings to add to that part's metadata; at least the version's, so that the header needs more room.

    Raises:
        OSError: the file can't be written, or not all of it could be stored; with OpenImageIO's or the system's reason.
    """
    specs = [_spec(part, f"{index}" if len(parts) > 1 else "") for index, part in enumerate(parts)]
    made = _headers_for(path, specs)
    headers = []
    for index, part in enumerate(parts):
        source = {key: value for key, value in _source_header(path, part).items() if key not in (*_STRUCTURE, _PREVIEW)}
        header = {key: value for key, value in made[index].items() if key != _ROOM} | source
        header["channels"] = exr_header.channels_attribute(part.channels)
        if index == rgb_part:
            header |= {name: exr_header.string_attribute(text) for name, text in notes.items()}
        headers.append(header)
    several = len(parts) > 1
    room = exr_header.headers_size(headers, several) - exr_header.headers_size(made, several)
    specs[0].attribute(_ROOM, "x" * (1 + room))

    output = _open(path, specs)
    clamped = 0
    for index, part in enumerate(parts):
        if index > 0 and not output.open(str(path), specs[index], "AppendSubimage"):
            raise _failed(output)
        clamped += _write_pixels(output, specs[index], part, rgb if index == rgb_part else None)
    if not output.close():
        raise _failed(output)
    exr_header.replace_headers(path, headers)
    _check_ends(path, len(parts))
    return clamped


def clamp(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, int]:
    """The values with finite ones clamped to two limits, and the number of those outside.

    Args:
        values: float32, any shape.
        low: the lower limit.
        high: the upper limit.
    """
    with np.errstate(invalid="ignore"):
        outside = (values < low) | (values > high)
    outside &= np.isfinite(values)
    count = int(np.count_nonzero(outside))
    return (np.where(outside, np.clip(values, low, high), values), count) if count else (values, 0)


def write_plain_exr(path: Path, spec: OpenImageIO.ImageSpec, pixels: np.ndarray) -> None:
    """Writes a picture of our own making, which has no header to keep.

    Args:
        path: the file to write; of any suffix, so that it can be a temporary one.
        spec: of the file.
        pixels: (H, W, C) float32.

    Raises:
        OSError: the file can't be written; with OpenImageIO's or the system's reason.
    """
    output = create_output("openexr")
    if not (output.open(str(path), spec) and output.write_image(np.ascontiguousarray(pixels)) and output.close()):
        raise _failed(output)
    _check_ends(path, 1)


def create_output(kind: str) -> OpenImageIO.ImageOutput:
    """OpenImageIO's writer for a kind of file, by its name or suffix ("openexr", "png").

    Raises:
        OSError: this OpenImageIO has none.
    """
    output = OpenImageIO.ImageOutput.create(kind)
    if output is None:
        raise OSError(f"OpenImageIO has no writer for {kind} ({OpenImageIO.geterror().strip()})")
    return output


# Private implementation


def _spec(part: Part, name: str) -> OpenImageIO.ImageSpec:
    names = sorted((c.name for c in part.channels), key=str.encode)
    # Unsigned integers are kept as bits: stored as floats here, declared as what they are in the header.
    stored = {c.name: "half" if c.pixel_type == "half" else "float" for c in part.channels}
    formats = [OpenImageIO.TypeDesc(stored[name]) for name in names]
    width, height = window_size(part.data_window)
    spec = OpenImageIO.ImageSpec(width, height, len(names), "half" if set(stored.values()) == {"half"} else "float")
    spec.channelnames = names
    if len(set(stored.values())) > 1:
        spec.channelformats = tuple(formats)
    spec.x, spec.y = part.data_window[:2]
    spec.full_x, spec.full_y = part.display_window[:2]
    spec.full_width, spec.full_height = window_size(part.display_window)
    spec.attribute("compression", _kept_compression(part))
    spec.attribute("DateTime", "")  # keeps OpenImageIO from adding the time of writing
    if name:
        spec.attribute("oiio:subimagename", name)
    return spec


def _kept_compression(part: Part) -> str:
    # PXR24 rounds 32-bit floats to 24 bits and keeps the rest; the others change even what has been through them.
    lossless = part.compression in _LOSSLESS
    exact_pxr24 = part.compression == "pxr24" and all(c.pixel_type == "half" for c in part.channels)
    return part.compression if lossless or exact_pxr24 else "zip"


def _source_header(path: Path, part: Part) -> Header:
    if part.header or part.spec is None:
        return part.header
    spec = OpenImageIO.ImageSpec(part.spec)
    spec.set_format("float")
    spec.channelformats = ()
    spec.attribute("compression", "zip")
    spec.attribute("DateTime", part.spec.get_string_attribute("DateTime"))
    return {key: value for key, value in _headers_for(path, [spec])[0].items() if key != _ROOM}


def _headers_for(path: Path, specs: list[OpenImageIO.ImageSpec]) -> list[dict[str, Attribute]]:
    specs = [OpenImageIO.ImageSpec(spec) for spec in specs]
    specs[0].attribute(_ROOM, "x")
    output = _open(path, specs)
    output.close()
    output.geterror()  # an empty file is what we want
    try:
        return [dict(header) for header in exr_header.read_headers(path)]
    except PlateError as error:
        raise OSError("not even its header could be stored") from error


def _open(path: Path, specs: list[OpenImageIO.ImageSpec]) -> OpenImageIO.ImageOutput:
    output = create_output("openexr")
    if not (output.open(str(path), specs[0]) if len(specs) == 1 else output.open(str(path), tuple(specs))):
        raise _failed(output)
    return output


def _write_pixels(
    output: OpenImageIO.ImageOutput, spec: OpenImageIO.ImageSpec, part: Part, rgb: np.ndarray | None
) -> int:
    names = list(spec.channelnames)
    columns = {name: names.index(name) for name in names}
    half = {c.name for c in part.channels if c.pixel_type == "half"}
    clamped = 0
    for top in range(0, spec.height, STRIP_ROWS):
        rows = slice(top, min(top + STRIP_ROWS, spec.height))
        pixels = np.empty((rows.stop - rows.start, spec.width, len(names)), dtype=np.float32)
        for k, name in enumerate(part.rest_names):
            pixels[..., columns[name]] = part.rest[rows, :, k]
        if rgb is not None:
            for k, name in enumerate(RGB):
                channel, count = clamp(rgb[rows, :, k], -HALF_MAX, HALF_MAX) if name in half else (rgb[rows, :, k], 0)
                pixels[..., columns[name]] = channel
                clamped += count
        if not output.write_scanlines(spec.y + rows.start, spec.y + rows.stop, 0, pixels):
            raise _failed(output)
    return clamped


def _check_ends(path: Path, part_count: int) -> None:
    # OpenEXR doesn't notice when the last piece it holds in its buffer finds no room on the disk.
    image = OpenImageIO.ImageInput.open(str(path))
    if image is None:
        raise OSError(f"it can't be read back ({OpenImageIO.geterror().strip()})")
    for index in range(part_count):
        image.seek_subimage(index, 0)
        spec = image.spec()
        bottom = spec.y + spec.height
        if image.read_scanlines(index, 0, bottom - 1, bottom, 0, 0, spec.nchannels, "float") is None:
            image.geterror()
            raise OSError("not all of it could be stored")
    image.close()


def _failed(output: OpenImageIO.ImageOutput) -> OSError:
    lines = output.geterror().strip().splitlines() or OpenImageIO.geterror().strip().splitlines()
    return OSError(lines[0].rstrip(". ") if lines else "no reason given")
