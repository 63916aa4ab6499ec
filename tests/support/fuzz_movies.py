"""For `fuzzing`: movies of several containers and codecs, every frame read."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from relightgan.core.movies import MovieReader, MovieWriter

SIDE, COUNT = 32, 4
ENCODED = {
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "3"}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"cpu-used": "8"}),
}


def make_samples(folder: Path) -> list[Path]:
    """Movies of our writer, and some that it doesn't make."""
    rng = np.random.default_rng(0)
    pictures = [rng.random((SIDE, SIDE, 3), np.float32) for _ in range(COUNT)]
    paths = [folder / name for name in ("prores.mov", "h264.mp4", "h264.mkv")]
    for path in paths:
        with MovieWriter(path, 24, (SIDE, SIDE)) as movie:
            for picture in pictures:
                movie.write(picture)
    for name, (codec, pixels, options) in ENCODED.items():
        paths.append(folder / name)
        with av.open(str(paths[-1]), "w", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream(codec, rate=24, options=options)
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, pixels
            stream.codec_context.time_base = Fraction(1, 24)
            for number, picture in enumerate(pictures):
                frame = VideoFrame.from_ndarray(np.rint(picture * 255).astype(np.uint8), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return paths


def read(path: Path, sample: str) -> None:
    """Opens a movie and reads its frames, forwards and the first one again."""
    with MovieReader(path) as movie:
        width, height = movie.size
        assert movie.fps > 0
        for number in [*range(min(movie.frame_count, 3 * COUNT)), 0]:
            rgb = movie.read(number)
            assert rgb.shape == (height, width, 3)
            assert rgb.dtype == np.float32
            assert 0 <= rgb.min() <= rgb.max() <= 1
