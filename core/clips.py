"""Where frames come from and go to: image sequences, stills and movies behind one pair of shapes.

Plates are handed on in the comp's scene-linear working space. EXR and float TIFF hold that already and pass unchanged.
Movies, PNG, JPEG and integer TIFF are display-referred: they are taken as sRGB (IEC 61966-2-1), made linear when read,
and encoded again, clamped to 0..1, when written.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from relightgan.core.colour import linear_to_srgb, srgb_to_linear, working_space
from relightgan.core.errors import SequenceError, UsageError
from relightgan.core.files import open_folder
from relightgan.core.frames import not_written, read_plate, write_plate
from relightgan.core.movies import MovieReader, MovieWriter
from relightgan.core.pipeline import cover_of
from relightgan.core.plate import Plate, window_size
from relightgan.core.sequence import Sequence, format_frames, is_movie

DISPLAY_SUFFIXES = (".png", ".jpg", ".jpeg")
EITHER_SUFFIXES = (".tif", ".tiff")  # linear in floats, display-referred in integers
PLATE_SUFFIXES = (".exr", *EITHER_SUFFIXES, *DISPLAY_SUFFIXES)
FIRST_MOVIE_FRAME = 1  # number of a movie's first frame, as in Nuke
DEFAULT_FPS = 24.0


class Source(Protocol):
    """Frames to be read."""

    frames: list[int]  # those there are, ascending
    fps: Fraction | float | None  # frames a second of a movie
    about: str  # for the log: what is read, and what is assumed about it

    def read(self, frame: int) -> Plate:
        """A frame, scene-linear in the working space."""

    def files(self) -> set[Path]:
        """Every file frames are read from, resolved."""

    def require(self, frames: Iterable[int]) -> None:
        """Checks that frames are there."""

    def close(self) -> None:
        """Lets the files go."""


class Sink(Protocol):
    """Where relit frames go. As a context it makes its folder, and finishes what it holds or, at an error, drops it."""

    about: str  # for the log: what is written, and how
    holds_many: bool  # False for a still

    def write(self, frame: int, plate: Plate, rgb: np.ndarray, notes: Mapping[str, str]) -> int:
        """Writes a frame; returns the number of values clamped to the range of the file."""

    def files(self, frames: Iterable[int]) -> dict[int, Path]:
        """The file of each frame."""

    def __enter__(self) -> "Sink": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FileSource:
    """A numbered sequence, or a still, which is frame 1.

    Raises:
        UsageError: a kind of file that isn't read.
        SequenceError: there is no such file.
    """

    fps: Fraction | float | None = None

    def __init__(self, pattern: str, space: str) -> None:
        self.sequence = Sequence(pattern)
        self.space = space
        display = may_be_display_referred(pattern)
        self.frames = self.sequence.existing()
        if not self.frames:
            fix = "Check the path and the number of digits, which are written as %04d or ####."
            raise SequenceError(f"There are no frames {pattern}.", fix)
        assumed = f"sRGB pictures, made linear {space}" if display else f"scene-linear {space}"
        self.about = f"{pattern}, {assumed}"

    def read(self, frame: int) -> Plate:
        """A frame, scene-linear in the working space."""
        plate = read_plate(self.sequence.path(frame))
        return display_to_working(plate, self.space) if is_display_referred(plate.path, plate) else plate

    def files(self) -> set[Path]:
        """Every file frames are read from, resolved."""
        return {self.sequence.path(frame).resolve() for frame in self.frames}

    def require(self, frames: Iterable[int]) -> None:
        """Checks that frames are there.

        Raises:
            SequenceError: names those that are missing.
        """
        self.sequence.require(frames)

    def close(self) -> None:
        """Does nothing: every file is closed once it is read."""


class MovieSource:
    """A movie, its frames numbered from 1.

    Raises:
        PlateError: the movie can't be read.
    """

    def __init__(self, path: str, space: str) -> None:
        self.reader = MovieReader(path)
        self.space = space
        self.fps: Fraction | float | None = self.reader.fps
        self.frames = list(range(FIRST_MOVIE_FRAME, FIRST_MOVIE_FRAME + self.reader.frame_count))
        self.about = f"{path}, display-referred, taken as sRGB and made linear {space}; sound isn't kept"

    def read(self, frame: int) -> Plate:
        """A frame, scene-linear in the working space."""
        rgb = self.reader.read(frame - FIRST_MOVIE_FRAME)
        window = (0, 0, rgb.shape[1], rgb.shape[0])
        return display_to_working(Plate(self.reader.path, rgb, None, window, window), self.space)

    def files(self) -> set[Path]:
        """The movie's file, resolved."""
        return {self.reader.path.resolve()}

    def require(self, frames: Iterable[int]) -> None:
        """Checks that frames are there.

        Raises:
            SequenceError: names those that are missing.
        """
        if missing := sorted(set(frames) - set(self.frames)):
            raise SequenceError(
                f"{self.reader.path} has no frames {format_frames(missing)}.", f"It has {format_frames(self.frames)}."
            )

    def close(self) -> None:
        """Lets the movie go."""
        self.reader.close()


class FileSink:
    """A numbered sequence, or a still."""

    def __init__(self, pattern: str, space: str) -> None:
        self.sequence = Sequence(pattern)
        self.space = space
        display = may_be_display_referred(pattern)
        self.about = f"{pattern}, {'sRGB pictures, held in 0..1' if display else f'scene-linear {space}'}"
        self.holds_many = not self.sequence.is_still

    def write(self, frame: int, plate: Plate, rgb: np.ndarray, notes: Mapping[str, str]) -> int:
        """Writes a frame; returns the number of values clamped to the range of the file."""
        path = self.sequence.path(frame)
        if is_display_referred(path, plate):
            rgb = working_to_display(plate, rgb, self.space)
        return write_plate(path, plate, rgb, notes=notes)

    def files(self, frames: Iterable[int]) -> dict[int, Path]:
        """The file of each frame."""
        return {frame: self.sequence.path(frame) for frame in frames}

    def __enter__(self) -> "FileSink":
        path = Path(self.sequence.pattern)
        open_folder(path.parent, functools.partial(not_written, path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class MovieSink:
    """A movie of the display window, over black; it appears when it is whole."""

    holds_many = True

    def __init__(self, path: str, space: str, fps: Fraction | float) -> None:
        self.path = Path(path)
        self.space = space
        self.fps = fps
        self.writer: MovieWriter | None = None
        self.about = f"{path}, {float(fps):.5g} frames a second, sRGB, held in 0..1"

    def write(self, frame: int, plate: Plate, rgb: np.ndarray, notes: Mapping[str, str]) -> int:
        """Adds a frame; values outside 0..1 are the display's limit, not a fault, and aren't counted."""
        width, height = window_size(plate.display_window)
        if self.writer is None:
            self.writer = MovieWriter(self.path, self.fps, (width, height))
        encoded = linear_to_srgb(working_space(self.space).to_model_primaries(rgb))
        self.writer.write(on_display(plate, encoded))
        return 0

    def files(self, frames: Iterable[int]) -> dict[int, Path]:
        """The file of each frame: the one movie."""
        return dict.fromkeys(frames, self.path)

    def __enter__(self) -> "MovieSink":
        open_folder(self.path.parent, functools.partial(not_written, self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.__exit__(kind, error, trace)


def open_source(path: str, space: str) -> Source:
    """A movie, sequence or still to read from, going by the suffix."""
    return MovieSource(path, space) if is_movie(path) else FileSource(path, space)


def open_sink(path: str, space: str, fps: Fraction | float) -> Sink:
    """A movie, sequence or still to write to, going by the suffix."""
    return MovieSink(path, space, fps) if is_movie(path) else FileSink(path, space)


def may_be_display_referred(path: str) -> bool:
    """True for kinds of file that hold sRGB pictures, False for those that hold scene-linear ones.

    Raises:
        UsageError: neither, such as DPX, whose encoding can't be known.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in PLATE_SUFFIXES:
        known = ", ".join(PLATE_SUFFIXES)
        raise UsageError(f"{path}: '{suffix}' isn't a kind of file for plates.", f"Use a movie or {known}.")
    return suffix in DISPLAY_SUFFIXES


def is_display_referred(path: Path, plate: Plate) -> bool:
    """True where the file at `path`, read as `plate` or to be written from it, holds sRGB values."""
    suffix = path.suffix.lower()
    if suffix in EITHER_SUFFIXES:
        spec = plate.parts[0].spec if plate.parts else None
        return spec is not None and str(spec.format) in ("uint8", "uint16")
    return suffix in DISPLAY_SUFFIXES


def display_to_working(plate: Plate, space: str) -> Plate:
    """A plate of sRGB values, linear and in the working space; premultiplied as it was."""
    cover = cover_of(plate.alpha)
    rgb = plate.rgb if cover is None else plate.rgb / cover[..., None]
    rgb = working_space(space).from_model_primaries(srgb_to_linear(rgb))
    return replace(plate, rgb=rgb if cover is None else rgb * cover[..., None])


def working_to_display(plate: Plate, rgb: np.ndarray, space: str) -> np.ndarray:
    """Linear rgb of a plate as sRGB, unclipped; premultiplied as it was. The inverse of `display_to_working`."""
    cover = cover_of(plate.alpha)
    rgb = rgb if cover is None else rgb / cover[..., None]
    encoded = linear_to_srgb(working_space(space).to_model_primaries(rgb))
    return encoded if cover is None else encoded * cover[..., None]


def on_display(plate: Plate, rgb: np.ndarray) -> np.ndarray:
    """(h, w, 3): the plate's pixels over the display window; 0 where there are none."""
    if plate.data_window == plate.display_window:
        return rgb
    (x0, y0, x1, y1), (left, top, right, bottom) = plate.display_window, plate.data_window
    canvas = np.zeros((y1 - y0, x1 - x0, 3), np.float32)
    x_from, x_to, y_from, y_to = max(x0, left), min(x1, right), max(y0, top), min(y1, bottom)
    if x_from < x_to and y_from < y_to:
        piece = rgb[y_from - top : y_to - top, x_from - left : x_to - left]
        canvas[y_from - y0 : y_to - y0, x_from - x0 : x_to - x0] = piece
    return canvas
