"""Movies, frame by frame: any frame by its number (`movie_reader`), and new movies written whole or not at all.

Values are display-encoded, as in the movie: nothing is made linear here. Sound is neither read nor written.
"""

import contextlib
import errno
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from relightgan.core.errors import PlateError
from relightgan.core.files import drop, in_plain_words, put_in_place, temporary_for
from relightgan.core.movie_reader import SCALING, WHITE_16, MovieReader, reason_of

__all__ = ["MovieReader", "MovieWriter", "as_rate"]

# What `MovieWriter` makes: encoder, its pixels, the samples we hand over, options. crf 16 is where x264's losses stop
# being seen; ProRes profile 3 is HQ.
CODECS = {
    "prores": ("prores_ks", "yuv422p10le", "rgb48le", {"profile": "3"}),
    "h264": ("libx264", "yuv420p", "rgb24", {"crf": "16", "preset": "medium"}),
}
CONTAINERS = {".mov": ("mov", "prores"), ".mp4": ("mp4", "h264"), ".m4v": ("mp4", "h264"), ".mkv": ("matroska", "h264")}


class MovieWriter:
    """Writes a movie without sound, whole or not at all: it appears under its name when `close` is through.

    As a context manager it closes at the end, and leaves nothing where an error came up. H.264 is 8-bit 4:2:0 at
    crf 16, ProRes is 422 HQ, 10-bit; both limited range and tagged Rec.709.

    Args:
        path: where to write, in a folder that is there. The suffix decides the container.
        fps: frames a second; a float is taken as the fraction it stands for (23.976 is 24000/1001).
        size: width and height in pixels, even ones (chroma is stored for pairs of pixels).
        codec: "prores", "h264", or "auto": ProRes in .mov, else H.264.

    Raises:
        PlateError: the suffix, codec or size can't be written, or the file can't be made.
    """

    def __init__(self, path: str | Path, fps: Fraction | float, size: tuple[int, int], codec: str = "auto") -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in CONTAINERS:
            raise PlateError(f"{self.path}: {suffix or 'no suffix'} can't be written.", f"Use {', '.join(CONTAINERS)}.")
        container, usual = CONTAINERS[suffix]
        codec = usual if codec == "auto" else codec
        if codec not in CODECS:
            raise PlateError(f"The movie codec {codec!r} is unknown.", f"It is one of auto, {', '.join(CODECS)}.")
        encoder, pixels, self._samples, options = CODECS[codec]
        if size[0] % 2 or (size[1] % 2 and codec == "h264"):
            raise PlateError(
                f"{self.path}: {codec} can't hold {size[0]}x{size[1]}, only even numbers of pixels.",
                "Crop the plates by a pixel, or write an image sequence.",
            )
        self.size = size
        self.frame_count = 0
        self._temporary: Path | None = None
        self._open: OutputContainer | None = None
        rate = as_rate(fps)
        with self._telling():
            self._temporary = temporary_for(self.path)
            self._temporary.touch()  # FFmpeg makes its file with the first frame
            # bitexact: no random ids, no dates.
            self._open = av.open(str(self._temporary), "w", format=container, options={"fflags": "+bitexact"})
            stream = self._open.add_stream(encoder, rate=rate, options=options)
            assert isinstance(stream, VideoStream)
            self._stream = stream
            stream.thread_type = "AUTO"
            self._stream.width, self._stream.height = size
            self._stream.pix_fmt = pixels
            context = self._stream.codec_context
            context.time_base = 1 / rate
            context.color_primaries = context.color_trc = context.colorspace = 1  # Rec.709, H.273
            context.color_range = ColorRange.MPEG

    def write(self, rgb: np.ndarray) -> None:
        """Adds a frame.

        Args:
            rgb: (H, W, 3) float32, display-encoded; clamped to 0..1, NaN becomes 0.

        Raises:
            PlateError: the frame is of another size, or can't be stored (disk full); then the movie is abandoned.
        """
        if rgb.shape != (self.size[1], self.size[0], 3):
            raise PlateError(
                f"{self.path} is {self.size[0]}x{self.size[1]}, a frame for it {rgb.shape[1]}x{rgb.shape[0]}.",
                "All frames of a movie must be of one size.",
            )
        white, kind = (255, np.uint8) if self._samples == "rgb24" else (WHITE_16, np.uint16)
        clamped = np.clip(np.nan_to_num(rgb, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        frame = VideoFrame.from_ndarray(np.rint(clamped * np.float32(white)).astype(kind), format=self._samples)
        frame = frame.reformat(
            format=self._stream.pix_fmt,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALING,
        )
        frame.pts = self.frame_count
        frame.time_base = self._stream.codec_context.time_base
        self._mux(frame)
        self.frame_count += 1

    def close(self) -> None:
        """Finishes the movie and puts it under its name; a second call does nothing.

        Raises:
            PlateError: it can't be finished (disk full) or holds no frame; then the movie is abandoned.
        """
        if self._open is None:
            return
        if self.frame_count == 0:
            self.abandon()
            raise PlateError(f"{self.path} was given no frames.")
        self._mux(None)
        with self._telling():
            container, self._open = self._open, None
            container.close()
            assert self._temporary is not None
            put_in_place(self._temporary, self.path)

    def abandon(self) -> None:
        """Drops what was written; a movie that was there before under that name stays."""
        container, self._open = self._open, None
        with contextlib.suppress(av.FFmpegError, OSError):
            if container is not None:
                container.close()
        if self._temporary is not None:
            drop(self._temporary)

    def __enter__(self) -> "MovieWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _mux(self, frame: VideoFrame | None) -> None:
        with self._telling():
            if self._open is None or self._temporary is None:
                raise OSError(errno.EBADF, "it is closed")
            self._temporary.stat()  # an open file can be written long after its folder has gone
            self._open.mux(self._stream.encode(frame))

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            self.abandon()
            said = in_plain_words(OSError(error.errno, reason_of(error)), self.path.parent)
            raise PlateError(f"{self.path} can't be written: {said.strerror}.", "Check its folder and disk.") from error


def as_rate(fps: Fraction | float) -> Fraction:
    """Frames a second as a fraction; the NTSC rates, usually given rounded (23.976, 29.97), as what they are.

    Raises:
        PlateError: the rate is not a positive number.
    """
    if not (np.isfinite(float(fps)) and fps > 0):
        raise PlateError(f"{fps} frames a second can't be.", "Give a rate such as 24 or 23.976.")
    if isinstance(fps, Fraction):
        return fps
    ntsc = Fraction(round(fps) * 1000, 1001)
    return ntsc if abs(float(ntsc) - fps) < 0.002 else Fraction(fps).limit_denominator(1000)
