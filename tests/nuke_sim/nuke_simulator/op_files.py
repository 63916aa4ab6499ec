"""Read and Write: paths, frame ranges, missing frames, the Read's cache.

Rules:
- `before` and `after` say what is shown outside first..last: hold, loop, bounce, black (DOC: Nuke Reference Guide,
  "Read"; the order of loop and bounce is from its examples, e.g. 5, 4, 3, 2 before a bounced 1).
- `on_error`: error, black, checkerboard, nearest frame (DOC: the same). The size of the black and the checkerboard
  picture is unverified: the first frame's that is there, else the knob `format`, else the root's.
- What Read remembers is known by the path, not by the file's bytes: an overwritten file isn't noticed until `reload`,
  which raises the hidden knob `version` (SRC: public cache writers for Nuke say so). Whether a Read that failed opens
  a file that has appeared since is unverified: quirk `read_reopens_after_failure`.
- Proxy mode: with the root's proxy on, Read gives its `proxy` file if it has one, else its `file`, at proxy scale, and
  Write writes to `proxy` (DOC: Nuke Reference Guide, "Write": renders at the active scale). An empty `proxy` of a Write
  falls back to `file` (unverified). Pixels are scaled by the nearest one (unverified).
- Only EXR, and only values that need no colour conversion: raw, or a linear colour space.
- `create_directories` off and a missing folder is an error (DOC: "Write").
- The Write's `views` are the caller's affair; one file with several views isn't simulated.
"""

import math
import os
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np

from nuke_simulator import nodes
from nuke_simulator.exr import COMPRESSIONS, DATATYPES, ExrError, kept_metadata, read_exr, with_edges, write_exr
from nuke_simulator.images import RGBA, Format, Image, channel_names, resampled, scaled_format, solid
from nuke_simulator.op_base import OpContext

CACHE_BYTES = 512 * 1024 * 1024
_ALL_EXR_METADATA = {"default metadata and exr/*", "all metadata except input/*", "all metadata"}
_LINEAR = {"", "default", "linear", "scene_linear", "data", "raw"}


class ReadCache:
    """The frames that Reads have opened in this script, by path; the least used go when it is full."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._images: OrderedDict[tuple[str, str, str], Image] = OrderedDict()
        self._failures: dict[tuple[str, str, str], str] = {}
        self._limit = limit_bytes

    def read(self, path: str, version: str, retry_failures: bool = False, view: str = "") -> Image:
        """The frame as it was when first asked for by a Read whose knob `version` has that value.

        Raises:
            ExrError: it can't be read, or could not be when it was first asked for.
        """
        key = (path, version, view)
        if key in self._images:
            self._images.move_to_end(key)
            return self._images[key]
        if key in self._failures and not retry_failures:
            raise ExrError(self._failures[key])
        try:
            image = read_exr(path, view)
        except ExrError as error:
            self._failures[key] = str(error)
            raise
        self._failures.pop(key, None)
        self._images[key] = image
        while len(self._images) > 1 and sum(map(_size, self._images.values())) > self._limit:
            self._images.popitem(last=False)
        return image

    def clear(self) -> None:
        self._images.clear()
        self._failures.clear()


def substitute(path: str, frame: float, view: str) -> str:
    """A path with the frame for #### or %04d and the view for %V, its first letter for %v (DOC: "Write", "Read")."""
    number = round_frame(frame)
    path = path.replace("%V", view).replace("%v", view[:1])
    path = re.sub(r"%0?(\d*)d", lambda match: f"%0{match[1]}d" % number if match[1] else str(number), path)
    return re.sub(r"#+", lambda match: f"%0{len(match[0])}d" % number, path)


def round_frame(frame: float) -> int:
    """The whole frame a file is taken for (unverified between frames)."""
    return math.floor(frame + 0.5)


def shown_frame(frame: float, first: int, last: int, before: str, after: str) -> int | None:
    """The frame of first..last that a clip shows at `frame`; None for black."""
    at = round_frame(frame)
    if first <= at <= last:
        return at
    mode = before if at < first else after
    if mode == "black":
        return None
    if mode == "hold":
        return first if at < first else last
    length = last - first + 1
    if mode == "loop":
        return first + (at - first) % length
    if mode == "bounce":
        place = (at - first) % max(2 * length - 2, 1)
        return first + min(place, 2 * length - 2 - place) if length > 1 else first
    raise ValueError(f"{mode} isn't hold, loop, bounce or black")


def read(ctx: OpContext) -> Image:
    first, last = ctx.whole("first", 1), ctx.whole("last", 1)
    frame = shown_frame(file_frame(ctx, first), first, last, ctx.value("before", "hold"), ctx.value("after", "hold"))
    if frame is None:
        return solid(_format_of(ctx, first, last), dict.fromkeys(RGBA, 0.0))
    try:
        return _opened(ctx, frame)
    except ExrError as error:
        return _instead(ctx, frame, first, last, error)


def file_frame(ctx: OpContext, first: int) -> float:
    """The frame in the file's numbers, after `frame_mode` (DOC: "Read": expression, start at, offset)."""
    mode, text = str(ctx.value("frame_mode", "expression")), str(ctx.value("frame", "") or "").strip()
    if not text or text == "frame":
        return ctx.frame
    try:
        value = float(text)
    except ValueError:
        raise ctx.not_simulated(f"frame_mode {mode} with '{text}'") from None
    if mode == "start at":
        return ctx.frame - value + first
    return ctx.frame + value if mode == "offset" else value


def write(ctx: OpContext) -> Image:
    """Pulled through, a Write is its input (DOC: "Write" can be anywhere in the tree), unless `reading` is on."""
    if ctx.flag("reading", False):
        raise ctx.not_simulated("reading its file back")
    return ctx.pipe(0)


def write_file(ctx: OpContext, views: list[str] | None) -> str | None:
    """Renders one frame of a Write; the path written, or None where `use_limit` leaves the frame out."""
    if ctx.flag("use_limit", False) and not ctx.number("first", 1) <= ctx.frame <= ctx.number("last", 1):
        return None
    pattern = _pattern(ctx, "Write")
    if not pattern:
        raise ctx.error("No file name was given to write to")
    number = _written_frame(ctx)
    path = substitute(pattern, number, ctx.view)
    others = [view for view in views or [] if view != ctx.view]
    if any(substitute(_pattern(ctx, "Write", None, view), number, view) == path for view in others):
        raise ctx.not_simulated("several views in one file (the path has no %V)")
    _check_type(ctx, path)
    image = ctx.pipe(0)
    names = channel_names(str(ctx.value("channels", "rgb")), image.channels)
    if not names:
        raise ctx.error("exrWriter: No channels selected (or available) for write")
    folder = Path(path).parent
    if not folder.is_dir():
        if not ctx.flag("create_directories", False):
            raise ctx.error(f"{path}: Write error: can't write into {folder}: No such file or directory")
        folder.mkdir(parents=True, exist_ok=True)
    datatype = str(ctx.value("datatype", "16 bit half"))
    compression = str(ctx.value("compression", "Zip (1 scanline)"))
    if datatype not in DATATYPES or compression not in COMPRESSIONS:
        raise ctx.not_simulated(f"datatype '{datatype}' with compression '{compression}'")
    for knob, plain in (("interleave", "channels, layers and views"), ("write_ACES_compliant_EXR", False)):
        if ctx.value(knob, plain) != plain:
            raise ctx.not_simulated(f"{knob} {ctx.value(knob)}")
    # Nuke's own default keeps a few keys such as the time code; those aren't simulated.
    kept = kept_metadata(image) if str(ctx.value("metadata", "")) in _ALL_EXR_METADATA else {}
    try:
        write_exr(path, image, names, datatype, compression, ctx.flag("autocrop", False), kept)
    except ExrError as error:
        raise ctx.error(f"{path}: Write error: {error}") from error
    return path


def _opened(ctx: OpContext, frame: int) -> Image:
    path = substitute(_pattern(ctx, "Read", frame), frame, ctx.view)
    if not path:
        raise ExrError("No file name")
    _check_type(ctx, path)
    retry = ctx.session.quirks.read_reopens_after_failure
    image = ctx.session.read_cache.read(path, str(ctx.value("version", "")), retry, _view_in(ctx))
    image = with_edges(image, str(ctx.value("edge_pixels", "plate detect")))
    if ctx.flag("auto_alpha", False) and RGBA[3] not in image.channels and RGBA[0] in image.channels:
        alpha = np.ones_like(image.channels[RGBA[0]])
        image = Image({**image.channels, RGBA[3]: alpha}, *_rest(image))
    metadata = {**image.metadata, "input/frame": frame}
    image = Image(image.channels, image.bbox, image.format, image.black_outside, metadata)
    if ctx.proxy_scale == 1.0:
        return image
    # A proxy file is taken to be that much smaller already; what is left is brought to the proxy's format.
    full = Format(*ctx.value("format", None) or image.format) if _uses_proxy_file(ctx) else image.format
    format = scaled_format(full, ctx.proxy_scale)
    format = Format(format.width, format.height, image.format.pixel_aspect)
    return resampled(image, format.width / image.format.width, format.height / image.format.height, format)


def _view_in(ctx: OpContext) -> str:
    # A file may hold several views; a script with one view shows the file's first.
    return ctx.view if len(ctx.session.views) > 1 else ""


def _instead(ctx: OpContext, frame: int, first: int, last: int, error: ExrError) -> Image:
    mode = str(ctx.value("on_error", "error"))
    if mode == "nearest frame":
        for near in sorted(range(first, last + 1), key=lambda other: (abs(other - frame), other)):
            if os.path.exists(substitute(_pattern(ctx, "Read", near), near, ctx.view)):  # noqa: PTH110
                return _opened(ctx, near)
    if mode == "black":
        return solid(_format_of(ctx, first, last), dict.fromkeys(RGBA, 0.0))
    if mode == "checkerboard":
        return checkerboard(_format_of(ctx, first, last), 64)
    path = substitute(_pattern(ctx, "Read", frame), frame, ctx.view)
    raise ctx.error(f"{path}: Read error: {error}") from error


def checkerboard(format: Format, size: int) -> Image:
    """Grey squares (unverified: Nuke's colours)."""
    rows, columns = np.ogrid[: format.height, : format.width]
    grey = np.where((rows // size + columns // size) % 2, 0.5, 0.1).astype(np.float32)
    channels = dict.fromkeys(RGBA[:3], grey) | {RGBA[3]: np.ones_like(grey)}
    return Image(channels, format.box, format)


def _format_of(ctx: OpContext, first: int, last: int) -> Format:
    for frame in (first, last):
        try:
            return _opened(ctx, frame).format
        except ExrError:
            continue
    full = Format(*ctx.value("format", None) or ctx.session.root_format)
    return scaled_format(full, ctx.proxy_scale)


def _pattern(ctx: OpContext, kind: str, frame: int | None = None, view: str | None = None) -> str:
    at = ctx.frame if frame is None else frame
    name = "proxy" if _uses_proxy_file(ctx) else "file"
    try:
        return str(nodes.knob_value(ctx.node, name, at, ctx.view if view is None else view) or "")
    except KeyError:
        return ""


def _uses_proxy_file(ctx: OpContext) -> bool:
    return bool(ctx.session.proxy_on and ctx.value("proxy", ""))


def _written_frame(ctx: OpContext) -> float:
    mode, text = str(ctx.value("frame_mode", "expression")), str(ctx.value("frame", "") or "").strip()
    if not text or text == "frame":
        return ctx.frame
    if mode == "offset":
        return ctx.frame + float(text)
    raise ctx.not_simulated(f"frame_mode {mode} with '{text}'")


def _check_type(ctx: OpContext, path: str) -> None:
    if not path.lower().endswith(".exr"):
        raise ctx.not_simulated(f"{path}: a file other than .exr")
    colour = str(ctx.value("colorspace", "") or "")
    plain = re.sub(r"^default \((.*)\)$", r"\1", colour)
    if not ctx.flag("raw", False) and plain not in _LINEAR:
        raise ctx.not_simulated(f"the colour space '{colour}' (set raw, or linear)")


def _rest(image: Image) -> tuple:
    return (image.bbox, image.format, image.black_outside, image.metadata)


def _size(image: Image) -> int:
    return sum(pixels.nbytes for pixels in image.channels.values())
