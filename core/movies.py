"""Movies, frame by frame: any frame by its number, exactly, and new movies written whole or not at all.

Values are display-encoded, as in the movie: nothing is made linear here. Sound is neither read nor written.
"""

import bisect
import contextlib
import errno
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

from relightgan.core.errors import PlateError
from relightgan.core.files import drop, in_plain_words, put_in_place, temporary_for

# What `MovieWriter` makes: encoder, its pixels, the samples we hand over, options. crf 16 is where x264's losses stop
# being seen; ProRes profile 3 is HQ.
CODECS = {
    "prores": ("prores_ks", "yuv422p10le", "rgb48le", {"profile": "3"}),
    "h264": ("libx264", "yuv420p", "rgb24", {"crf": "16", "preset": "medium"}),
}
CONTAINERS = {".mov": ("mov", "prores"), ".mp4": ("mp4", "h264"), ".m4v": ("mp4", "h264"), ".mkv": ("matroska", "h264")}

# ITU-T H.273: the transfer functions of HDR video (table 3) and the matrices swscale knows (table 4).
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_MATRICES = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip
_HD_LINES = 720  # pictures lower than this and without a tag are taken as Rec.601, as players do
# Full chroma and accurate rounding: swscale's default is off by several steps at coloured edges.
_SCALING = (
    Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
)
# swscale makes and takes 16-bit samples by shifting 8-bit ones, so that white is this, not 65535.
_WHITE_16 = 255 << 8
_AGAIN = "Export or copy it again."


class MovieReader:
    """Reads any frame of a movie by its number, counted from 0 in the order of showing.

    The file is gone through once when it is opened, without decoding, so that frames have exact numbers also where the
    frame rate varies, times don't start at 0 or the container states no count. Reading on from frame to frame decodes
    each once; a jump decodes from the key frame before.

    Args:
        path: a movie FFmpeg reads; its first video stream is used.

    Raises:
        PlateError: the file is missing, is no movie, or holds HDR video (PQ or HLG), which is no display-encoded SDR.
    """

    path: Path
    frame_count: int  # frames the movie should have; where it is cut short, reading the last of them fails
    fps: Fraction  # frames a second, on average
    size: tuple[int, int]  # width and height of the upright picture

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise PlateError(f"{self.path} is not a file." if self.path.exists() else f"{self.path} doesn't exist.")
        self._frames: Iterator[VideoFrame] = iter(())
        self._next: int | None = None  # the number of the frame that `_frames` gives next
        self._held: tuple[int, VideoFrame] | None = None  # the frame decoded last, and its number
        try:
            self._container = av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:
            raise PlateError(f"{self.path} can't be read as a movie: {_reason(error)}.", _AGAIN) from error
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
        return _upright_rgb(self._held[1])

    def close(self) -> None:
        """Lets the file go."""
        self._frames = iter(())
        self._held = None
        self._container.close()

    def __enter__(self) -> "MovieReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_stream(self) -> None:
        stream = self._container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise PlateError(f"{self.path} holds no video that can be decoded.")
        self._stream = stream
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"err_detect": "explode"}  # else a damaged frame is filled in and shown as whole
        times, keys, lacking = _list_times(self._container, stream)
        if not times:
            raise PlateError(f"{self.path} holds no frames.", _AGAIN)
        self._times = sorted(times)
        self._numbers = {time: number for number, time in enumerate(self._times)}
        self._keys = sorted(self._numbers[time] for time in keys)
        self.frame_count = len(self._times) + lacking
        self.fps = Fraction(stream.average_rate or stream.guessed_rate or 24)
        first = self._decode(0)
        if first.color_trc in _HDR_TRANSFERS:
            kind = _HDR_TRANSFERS[first.color_trc]
            raise PlateError(f"{self.path} is HDR video ({kind}).", "Convert it to Rec.709, or to scene-linear EXR.")
        self._held = (0, first)
        across, down = first.width, first.height
        self.size = (down, across) if first.rotation % 180 else (across, down)

    def _decode(self, index: int) -> VideoFrame:
        if index >= len(self._times):
            raise PlateError(
                f"{self.path} is cut short: frame {index} of 0 to {self.frame_count - 1} isn't there.", _AGAIN
            )
        try:
            key = bisect.bisect_right(self._keys, index) - 1
            follows = self._next is not None and self._next <= index and (key < 0 or self._keys[key] <= self._next)
            if follows and (found := self._go_on_to(index)):
                return found
            # A seek may land behind the frame (open groups of pictures); then from the key before, at last the start.
            for start in dict.fromkeys([*self._keys[max(key - 1, 0) : key + 1][::-1], 0]):
                self._container.seek(self._times[start], stream=self._stream)
                self._frames = self._container.decode(self._stream)
                if found := self._go_on_to(index):
                    return found
        except (av.FFmpegError, OSError) as error:
            self._next = None
            raise PlateError(f"Frame {index} of {self.path} is damaged: {_reason(error)}.", _AGAIN) from error
        self._next = None
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
        white, kind = (255, np.uint8) if self._samples == "rgb24" else (_WHITE_16, np.uint16)
        clamped = np.clip(np.nan_to_num(rgb, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        frame = VideoFrame.from_ndarray(np.rint(clamped * np.float32(white)).astype(kind), format=self._samples)
        frame = frame.reformat(
            format=self._stream.pix_fmt,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALING,
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
            said = in_plain_words(OSError(error.errno, _reason(error)), self.path.parent)
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


# Private implementation


def _list_times(container: InputContainer, stream: VideoStream) -> tuple[list[int], list[int], int]:
    """The times of all frames, those of key frames, and how many frames are lacking at the end."""
    times: list[int] = []
    keys: list[int] = []
    hidden = end = 0
    broken = 0
    try:
        for packet in container.demux(stream):
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
    hours, minutes, seconds = (float(number) for number in stated.split(":"))
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
        interpolation=_SCALING,
    )
    rgb = samples.astype(np.float32)
    rgb *= np.float32(1 / _white(frame, full))
    np.minimum(rgb, 1, out=rgb)
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))


def _white(frame: VideoFrame, full: bool) -> int:
    bits = frame.format.components[0].bits
    if frame.format.is_rgb:
        return _WHITE_16 if bits == 8 else 65535
    return ((1 << bits) - 1) << (16 - bits) if full else _WHITE_16


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.strip().splitlines()[0].rstrip(". ") if text.strip() else type(error).__name__
