"""Reads movies frame by frame: any frame by its number, exactly.

FFmpeg believes what a file says of itself, so counts and sizes are held to limits, and what it raises on damage becomes
a PlateError behind one border. Values are display-encoded, as in the movie: nothing is made linear here.
"""

import bisect
import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

from relightgan.core.coding import Coding, transfer_name
from relightgan.core.errors import PlateError
from relightgan.core.regular import open_regular

# ITU-T H.273, table 4: the matrices swscale knows.
_MATRICES = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip
_HD_LINES = 720  # pictures lower than this and without a tag are taken as Rec.601, as players do
# Full chroma and accurate rounding: swscale's default is off by several steps at coloured edges.
SCALING = (
    Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
)
# Containers alone, and of this file alone: a playlist under a movie's name would have FFmpeg fetch other files, and of
# a container with a damaged head it would make a bare stream with all else in the file as pictures.
_ONLY_MOVIES = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,mxf,flv,ogg,asf",
}
# "explode": else a damaged frame is filled in and shown as whole. 16K by 8K: no size that only damage could mean.
_DECODING = {"err_detect": "explode", "max_pixels": str(16384 * 8192)}
MAX_FRAMES = 10_000_000  # of a movie: more than a hundred hours; a count beyond it is damage
# What PyAV raises on a damaged file: FFmpeg's errors, and what its wrapping makes of times, sizes and texts.
_LIBRARY_ERRORS = (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError)
# swscale makes and takes 16-bit samples by shifting 8-bit ones, so that white is this, not 65535.
WHITE_16 = 255 << 8
_AGAIN = "Export or copy it again."


class MovieReader:
    """Reads any frame of a movie by its number, counted from 0 in the order of showing.

    The file is gone through once when it is opened, without decoding, so that frames have exact numbers also where the
    frame rate varies, times don't start at 0 or the container states no count. Reading on from frame to frame decodes
    each once; a jump decodes from the key frame before.

    Args:
        path: a movie FFmpeg reads; its first video stream is used.
        hdr: whether HDR video (PQ or HLG), which is no display-encoded SDR, may come: `coding` says what it is.

    Raises:
        PlateError: the file is missing, is no movie, or holds HDR video that nobody asked for.
    """

    path: Path
    frame_count: int  # frames the movie should have; where it is cut short, reading the last of them fails
    fps: Fraction  # frames a second, on average
    size: tuple[int, int]  # width and height of the upright picture
    coding: Coding  # primaries and transfer function, as the first frame names them

    def __init__(self, path: str | Path, hdr: bool = False) -> None:
        self.path, self._hdr = Path(path), hdr
        self._bytes = _size_of(self.path)
        self._frames: Iterator[VideoFrame] = iter(())
        self._next: int | None = None  # the number of the frame that `_frames` gives next
        self._held: tuple[int, VideoFrame] | None = None  # the frame decoded last, and its number
        with _border(f"{self.path} can't be read as a movie"):
            self._container = av.open(str(self.path), container_options=_ONLY_MOVIES)
        try:
            self._open_stream()
        except BaseException:
            self._container.close()
            raise

    def read(self, index: int) -> np.ndarray:
        """One frame, upright.

        Args:
            index: 0 to `frame_count` - 1.

        Returns:
            (H, W, 3) float32, 0..1, display-encoded with the movie's own transfer and primaries (Rec.709 as a rule).

        Raises:
            PlateError: there is no such frame, or it is damaged.
        """
        if not 0 <= index < self.frame_count:
            raise PlateError(f"{self.path} has no frame {index}; it has 0 to {self.frame_count - 1}.")
        if self._held is None or self._held[0] != index:
            self._held = None
            self._held = (index, self._decode(index))
        with _border(f"Frame {index} of {self.path} is damaged"):
            rgb = _upright_rgb(self._held[1])
        if (found := (rgb.shape[1], rgb.shape[0])) != self.size:
            raise PlateError(
                f"Frame {index} of {self.path} is {found[0]}x{found[1]}, the first one {self.size[0]}x{self.size[1]}.",
                _AGAIN,
            )
        return rgb

    def close(self) -> None:
        """Lets the file go."""
        self._frames = iter(())
        self._held = None
        with contextlib.suppress(*_LIBRARY_ERRORS):
            self._container.close()

    def __enter__(self) -> "MovieReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_stream(self) -> None:
        with _border(f"{self.path} is damaged"):
            stream = self._container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.codec_context is None:
                raise PlateError(f"{self.path} holds no video that can be decoded.")
            self._stream = stream
            # With FFmpeg's threads it is a matter of luck whether damage is noticed. One decodes 1080p fast enough.
            stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
            stream.codec_context.options = _DECODING
            times, keys, lacking = _list_times(self._container, stream)
            self.fps = Fraction(stream.average_rate or stream.guessed_rate or 24)
        if not times:
            raise PlateError(f"{self.path} holds no frames.", _AGAIN)
        self._times = sorted(times)
        self._numbers = {time: number for number, time in enumerate(self._times)}
        self._keys = sorted(self._numbers[time] for time in keys)
        self.frame_count = len(self._times) + lacking
        if self.frame_count > min(MAX_FRAMES, self._bytes):  # each takes a byte at the very least
            problem = f"{self.path} is damaged: it says {self.frame_count:,} frames in {self._bytes:,} bytes."
            raise PlateError(problem, _AGAIN)
        first = self._decode(0)
        self.coding = Coding(int(first.color_primaries), int(first.color_trc))
        if self.coding.is_hdr and not self._hdr:
            kind = transfer_name(self.coding.transfer)
            raise PlateError(f"{self.path} is HDR video ({kind}).", "Convert it to Rec.709, or to scene-linear EXR.")
        self._held = (0, first)
        with _border(f"Frame 0 of {self.path} is damaged"):
            across, down, turned = first.width, first.height, _quarters(first) % 2
        self.size = (down, across) if turned else (across, down)

    def _decode(self, index: int) -> VideoFrame:
        if index >= len(self._times):
            raise PlateError(
                f"{self.path} is cut short: frame {index} of 0 to {self.frame_count - 1} isn't there.", _AGAIN
            )
        key = bisect.bisect_right(self._keys, index) - 1
        follows = self._next is not None and self._next <= index and (key < 0 or self._keys[key] <= self._next)
        self._next = None  # nothing follows on an error
        with _border(f"Frame {index} of {self.path} is damaged"):
            if follows and (found := self._go_on_to(index)):
                return found
            # A seek may land behind the frame (open groups of pictures); then from the key before, at last the start.
            for start in dict.fromkeys([*self._keys[max(key - 1, 0) : key + 1][::-1], 0]):
                self._container.seek(self._times[start], stream=self._stream)
                self._frames = self._container.decode(self._stream)
                if found := self._go_on_to(index):
                    return found
        raise PlateError(f"Frame {index} of {self.path} can't be decoded.", _AGAIN)

    def _go_on_to(self, index: int) -> VideoFrame | None:
        for frame in self._frames:
            time = frame.pts if frame.pts is not None else frame.dts
            number = -1 if time is None else self._numbers.get(time, -1)
            if number >= index:
                self._next = number + 1
                return frame if number == index and not frame.is_corrupt else None
        self._next = None
        return None


def reason_of(error: Exception) -> str:
    """What FFmpeg or the system says, in one line without its full stop."""
    text = getattr(error, "strerror", None) or str(error)
    return text.strip().splitlines()[0].rstrip(". ") if text.strip() else type(error).__name__


# Private implementation


def _list_times(container: InputContainer, stream: VideoStream) -> tuple[list[int], list[int], int]:
    """The times of all frames, those of key frames, and how many frames are lacking at the end."""
    times: list[int] = []
    keys: list[int] = []
    hidden = end = 0
    broken = 0
    try:
        for packet in itertools.islice(container.demux(stream), MAX_FRAMES):
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None:  # the empty packet that ends the stream
                continue
            if packet.is_corrupt:
                broken = 1
            elif packet.is_discard:  # before the start of an edit list: decoded, never shown
                hidden += 1
            else:
                times.append(time)
                end = max(end, time + (packet.duration or 0))
                if packet.is_keyframe:
                    keys.append(time)
    except av.FFmpegError:
        broken = 1  # the end came within a packet
    return times, keys, max(stream.frames - hidden - len(times), _lacking_by_duration(stream, end), broken, 0)


def _lacking_by_duration(stream: VideoStream, end: int) -> int:
    # Matroska states no number of frames but a duration, such as 00:00:02.000000000.
    stated = stream.metadata.get("DURATION", "")
    rate = stream.average_rate
    if stated.count(":") != 2 or rate is None or stream.time_base is None:
        return 0
    try:
        hours, minutes, seconds = (float(number) for number in stated.split(":"))
    except ValueError:
        return 0  # a note like any other
    # Durations are rounded to the millisecond, and the last frame's may be counted short.
    return max(int(((hours * 60 + minutes) * 60 + seconds - float(end * stream.time_base)) * float(rate) + 0.1), 0)


def _upright_rgb(frame: VideoFrame) -> np.ndarray:
    full = frame.color_range == ColorRange.JPEG or frame.format.is_rgb or frame.format.name.startswith("yuvj")
    default = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
    samples = frame.to_ndarray(
        format="rgb48le",
        src_colorspace=_MATRICES.get(frame.colorspace, default),
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=SCALING,
    )
    rgb = samples.astype(np.float32)
    rgb *= np.float32(1 / _white(frame, full))
    np.minimum(rgb, 1, out=rgb)
    return np.ascontiguousarray(np.rot90(rgb, _quarters(frame)))


def _quarters(frame: VideoFrame) -> int:
    """Quarter turns to the left that bring a frame upright."""
    return round(frame.rotation / 90) % 4


def _white(frame: VideoFrame, full: bool) -> int:
    bits = frame.format.components[0].bits
    if frame.format.is_rgb:
        return WHITE_16 if bits == 8 else 65535
    return ((1 << bits) - 1) << (16 - bits) if full else WHITE_16


@contextlib.contextmanager
def _border(problem: str) -> Iterator[None]:
    """Turns what PyAV raises into a PlateError; only calls into it, and what is made of its answers, stand within."""
    try:
        yield
    except MemoryError as error:
        raise PlateError(f"{problem}: it needs more memory than there is.", "Close other programs.") from error
    except _LIBRARY_ERRORS as error:
        raise PlateError(f"{problem}: {reason_of(error)}.", _AGAIN) from error


def _size_of(path: Path) -> int:
    """The size of a regular file in bytes."""
    try:
        with open_regular(path) as file:
            return file.seek(0, 2)
    except FileNotFoundError as error:
        raise PlateError(f"{path} doesn't exist.") from error
    except OSError as error:
        raise PlateError(f"{path} can't be read: {error.strerror}.", "Check the file and its rights.") from error
