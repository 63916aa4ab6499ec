"""Picture files, opened with OpenImageIO behind a border: whatever it has against a file becomes a PlateError.

The decoders are C++ and believe what a file says of itself. So pipes and devices are refused, the header of an OpenEXR
file is checked before any decoder sees it (`exr_check`), and sizes are held to limits before room is made for pixels.
Only calls into OpenImageIO stand within the border, so that mistakes of our own stay visible.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import OpenImageIO

from relightgan.core import exr_header
from relightgan.core.errors import PlateError
from relightgan.core.exr_check import MAX_CHANNELS, MAX_PARTS, MAX_PIXELS, MAX_SAMPLES, checked_headers, windows_in
from relightgan.core.exr_header import DAMAGED_FIX, Header
from relightgan.core.plate import windows_of
from relightgan.core.regular import open_regular

# What the Python side of OpenImageIO raises on a damaged file: std::exception and its kin, strings that are no UTF-8.
LIBRARY_ERRORS = (RuntimeError, ValueError, IndexError, OverflowError, MemoryError)
MAX_PIXELS_PER_BYTE = 16_384  # of kinds that no machine could pack tighter; a bit a pixel, packed by 1032, is half that
PACKED = frozenset({"png", "tiff", "jpeg", "bmp", "dpx", "hdr", "targa", "sgi", "psd", "cineon", "pnm", "dds"})


JPEG_START = b"\xff\xd8\xff"
JPEG_SCAN, JPEG_END = 0xDA, 0xD9
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan, 00 and restarts belong to it
MAX_JPEG_BYTES = 1 << 30  # a JPEG that large is taken for cut short


class ImageFile:
    """An open picture file; closed at the end of a `with` block.

    Args:
        path: a file of any kind that OpenImageIO reads.
        config: what OpenImageIO takes as hints for its readers.
        fix: what to do about a file that can't be read, for messages.

    Attributes:
        path: of the file.
        headers: of an OpenEXR file, checked, one for each part; none of other kinds.
        specs: OpenImageIO's description of each part, its size within limits.

    Raises:
        PlateError: it isn't there, is no regular file, no picture, damaged, or claims a size that can't be.
    """

    def __init__(self, path: Path, config: OpenImageIO.ImageSpec | None = None, fix: str = DAMAGED_FIX) -> None:
        self.path, self._fix = path, fix
        check_name(path)
        file_bytes = self._check_file()
        self.headers: list[Header] = checked_headers(path) if exr_header.is_exr(path) else []
        with self._border():
            opened = OpenImageIO.ImageInput.open(str(path), config or OpenImageIO.ImageSpec())
            reason = OpenImageIO.geterror() if opened is None else ""
        if opened is None:
            raise PlateError(f"{path} can't be read: {first_line(reason)}.", fix)
        self._image: OpenImageIO.ImageInput = opened
        try:
            self.specs = self._read_specs(file_bytes)
        except BaseException:
            self.close()
            raise

    def pixels(
        self, part: int, kind: str, channels: tuple[int, int] | None = None, rows: tuple[int, int] | None = None
    ) -> np.ndarray:
        """(rows, width, channels) of a part, as `kind`.

        Args:
            part: its number.
            kind: "float", "uint" and the like, as OpenImageIO calls them.
            channels: the first one, and the one after the last; all of them by default.
            rows: the first one, and the one after the last, counted from the top of the data window; all by default.
                Not for parts in tiles.

        Raises:
            PlateError: they are damaged, cut short or not there.
        """
        spec = self.specs[part]
        first, last = channels or (0, spec.nchannels)
        top, bottom = rows or (0, spec.height)
        with self._border():
            if rows is None:
                found = self._image.read_image(part, 0, first, last, kind)
            else:
                found = self._image.read_scanlines(part, 0, spec.y + top, spec.y + bottom, 0, first, last, kind)
            reason = self._image.geterror() if found is None or self._image.has_error else ""
        if found is None or reason:
            raise self.damaged(reason)
        if found.size != (bottom - top) * spec.width * (last - first):
            raise self.damaged("it holds less than its header says")
        return found.reshape(bottom - top, spec.width, last - first)

    def note(self, part: int, name: str) -> Any:
        """What the metadata of a part say under a name; None where they say nothing.

        Raises:
            PlateError: it is a text that can't be read.
        """
        with self._border():
            return self.specs[part].getattribute(name)

    def damaged(self, reason: str) -> PlateError:
        """The error that says so."""
        return PlateError(f"{self.path} is damaged or cut short: {first_line(reason)}.", self._fix)

    def close(self) -> None:
        """Lets the file go."""
        with contextlib.suppress(*LIBRARY_ERRORS):
            self._image.close()

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:
            raise PlateError(f"{self.path} needs more memory than there is.", "Close other programs.") from error
        except LIBRARY_ERRORS as error:
            raise self.damaged(str(error)) from error

    def _check_file(self) -> int:
        """The size of the file in bytes."""
        try:
            with open_regular(self.path) as file:
                is_jpeg = file.read(len(JPEG_START)) == JPEG_START
                file.seek(0)
                # Of a progressive JPEG that ends early, OpenImageIO makes a picture of what there is and says nothing.
                if is_jpeg and not ends_jpeg(file.read(MAX_JPEG_BYTES)):
                    raise self.damaged("its last marker is missing")
                return file.seek(0, 2)
        except FileNotFoundError as error:
            raise PlateError(f"{self.path} doesn't exist.") from error
        except OSError as error:
            problem = f"{self.path} can't be read: {error.strerror}."
            raise PlateError(problem, "Check the file and its rights.") from error

    def _read_specs(self, file_bytes: int) -> list[OpenImageIO.ImageSpec]:
        specs: list[OpenImageIO.ImageSpec] = []
        with self._border():
            packed = self._image.format_name() in PACKED
            # A reader of a kind with one picture a file may lose its place when it is asked for a second one.
            most = MAX_PARTS + 1 if self._image.supports("multiimage") else 1
            while len(specs) < most and self._image.seek_subimage(len(specs), 0):
                spec = OpenImageIO.ImageSpec(self._image.spec())
                list(spec.channelnames)  # names that are no UTF-8 are found here
                specs.append(spec)
            reason = self._image.geterror()  # the step past the last one says nothing but that
        if not 1 <= len(specs) <= MAX_PARTS:
            raise self.damaged(reason or f"{len(specs)} parts or more")
        if self.headers and len(specs) != len(self.headers):
            raise self.damaged(f"{len(specs)} of {len(self.headers)} parts can be found")
        for number, spec in enumerate(specs):
            most = file_bytes * MAX_PIXELS_PER_BYTE if packed else MAX_PIXELS
            if problem := _impossible(spec, min(most, MAX_PIXELS)):
                raise self.damaged(f"its header says {problem}")
            if self.headers and windows_of(spec) != tuple(map(_open_ended, windows_in(self.headers[number]))):
                raise self.damaged("its windows can be read in two ways")
        return specs


def ends_jpeg(content: bytes) -> bool:
    """Whether the first picture of a JPEG goes on to its end marker (ITU-T T.81, annex B)."""
    place = 2
    while len(found := content[place : place + 4]) >= 2 and found[0] == 0xFF:
        kind = found[1]
        if kind == JPEG_END:
            return True
        if kind == 0xFF:  # a filler
            place += 1
            continue
        place += 2 + int.from_bytes(found[2:4])
        if kind == JPEG_SCAN:
            after = _JPEG_MARKER.search(content, place)
            place = after.start() if after else len(content)
    return False


def check_name(path: Path) -> None:
    """Makes sure that OpenImageIO takes the name of a file.

    Raises:
        PlateError: it has bytes that Python couldn't read, and OpenImageIO won't.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        fix = "Rename it, or set LC_ALL=C.UTF-8 where the name is right."
        raise PlateError(f"{path} isn't a name in UTF-8.", fix) from error


def first_line(text: str) -> str:
    """The first line of what a library says, without its full stop."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given").rstrip(". ")


# Private implementation


def _impossible(spec: OpenImageIO.ImageSpec, most_pixels: int) -> str:
    """What can't be about the size of a picture, in words; empty where all is well."""
    if not 1 <= spec.nchannels <= MAX_CHANNELS:
        return f"{spec.nchannels} channels"
    if spec.depth > 1:
        return f"{spec.depth} pictures in depth"
    pixels = spec.width * spec.height
    if min(spec.width, spec.height) < 1 or pixels > most_pixels or pixels * spec.nchannels > MAX_SAMPLES:
        return f"{spec.width}x{spec.height} pixels of {spec.nchannels} channels"
    if min(spec.full_width, spec.full_height) < 1 or spec.full_width * spec.full_height > MAX_PIXELS:
        return f"a frame of {spec.full_width}x{spec.full_height} pixels"
    return ""


def _open_ended(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return box[0], box[1], box[2] + 1, box[3] + 1
