"""Damage that a random search seldom comes upon; `tests/fuzz` has the rest."""

import contextlib
import io
import os
import signal
import socket
import struct
import time
from fractions import Fraction
from pathlib import Path

import av
import fuzz_exr
import fuzz_movies
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from relightgan.core.errors import PlateError, SequenceError
from relightgan.core.exr_header import read_headers
from relightgan.core.frames import read_mask, read_plate
from relightgan.core.guidance_files import read_guidance
from relightgan.core.movies import MovieReader
from relightgan.core.plate import Plate
from relightgan.core.regular import open_regular, read_regular
from relightgan.core.sequence import Sequence, parse_frames

READERS = {
    "plate.exr": read_plate,
    "plate.tif": read_plate,
    "mask.png": lambda path: read_mask(path, empty_plate()),
    "guidance.exr": read_guidance,
    "movie.mov": MovieReader,
    "header.exr": read_headers,
}


def empty_plate():
    return Plate(Path("p.exr"), np.zeros((4, 4, 3), np.float32), None, (0, 0, 4, 4), (0, 0, 4, 4))


@pytest.fixture
def at_once():
    """Ends a test that waits."""

    def ring(number, frame):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "folder", "socket", "device", "nothing"])
def odd(request, tmp_path):
    """Makes something that is no file under a name."""

    def make(name):
        path = tmp_path / name
        match request.param:
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "socket":
                server = socket.socket(socket.AF_UNIX)
                request.addfinalizer(server.close)
                server.bind(os.path.relpath(path))  # such a path may have some hundred letters only
            case "device":
                path.symlink_to("/dev/zero")
        return path

    return make


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(name, odd, at_once):
    path = odd(name)
    with pytest.raises(PlateError, match=rf"{name} (can't be read: |doesn't exist)") as caught:
        READERS[name](path)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_up_to_its_limit(tmp_path, odd, at_once):
    path = tmp_path / "notes.json"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(path, 4)
    for name in (odd("odd"), tmp_path / "with\0zero"):
        with pytest.raises(OSError, match=r"."):
            open_regular(name)


# OpenEXR


def with_attribute(content: bytes, name: str, kind: str, value: bytes) -> bytes:
    """The bytes of a file with another value of the same length for an attribute."""
    start = content.index(f"{name}\0{kind}\0".encode()) + len(name) + len(kind) + 2
    (size,) = struct.unpack("<i", content[start : start + 4])
    assert size == len(value)
    return content[: start + 4] + value + content[start + 4 + size :]


def table_of(content: bytes, count: int) -> int:
    """Where the table of chunks begins: after the header's last zero, before offsets that lie in the file."""
    return next(
        place
        for place in range(8, len(content))
        if struct.unpack_from("<q", content, place)[0] == place + 8 * count and content[place - 1] == 0
    )


@pytest.mark.parametrize("make", ["zip", "zips", "none", "rle", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab"])
def test_a_frame_with_a_lost_chunk_is_never_shown_as_whole(make, tmp_path):
    path = fuzz_exr.write(tmp_path / "a.exr", [fuzz_exr.MAKES[make]])
    content = path.read_bytes()
    rows = {"zips": 1, "none": 1, "rle": 1}.get(make, 16)
    place = table_of(content, fuzz_exr.SIDE // rows)
    (chunk,) = struct.unpack_from("<q", content, place)
    beyond = struct.pack("<q", len(content) + 100)
    for damage in (
        content[:place] + bytes(8) + content[place + 8 :],  # not written
        content[:place] + beyond + content[place + 8 :],
        content[:-3],
        content[:chunk] + struct.pack("<i", 7) + content[chunk + 4 :],  # another row than the table says
        content[: chunk + 4] + struct.pack("<i", 2**30) + content[chunk + 8 :],
    ):
        path.write_bytes(damage)
        # OpenEXR finds the chunks again where only the table is lost.
        with contextlib.suppress(PlateError):
            assert np.array_equal(read_plate(path).rgb, original(tmp_path, make).rgb)
    with pytest.raises(PlateError, match=r"a\.exr is damaged or cut short"):
        read_plate(path)


def original(folder, make):
    return read_plate(fuzz_exr.write(folder / "whole.exr", [fuzz_exr.MAKES[make]]))


@pytest.mark.parametrize(
    ("name", "kind", "value", "told"),
    [
        ("dataWindow", "box2i", (0, 0, 10**9, 10**9), "data window"),
        ("dataWindow", "box2i", (0, 0, 199_999, 4_999), r"200000x5000 pixels, more than its [\d,]+ bytes can hold"),
        ("dataWindow", "box2i", (-(2**31), 0, 2**31 - 1, 15), "data window"),
        ("dataWindow", "box2i", (0, 0, -1, 15), "data window"),
        ("dataWindow", "box2i", (15, 15, 0, 0), "data window"),
        ("displayWindow", "box2i", (0, 0, 10**9, 10**9), "display window"),
        ("displayWindow", "box2i", (0, 0, 200_000, 200_000), "display window"),
        ("displayWindow", "box2i", (2**31 - 9, 0, 2**31 - 1, 15), "display window"),
    ],
)
def test_windows_that_can_t_be_are_refused_before_room_is_made(name, kind, value, told, tmp_path):
    path = fuzz_exr.write(tmp_path / "a.exr", [fuzz_exr.MAKES["zip"]])
    path.write_bytes(with_attribute(path.read_bytes(), name, kind, struct.pack("<4i", *value)))
    begun = time.monotonic()
    with pytest.raises(PlateError, match=rf"a\.exr is damaged: its header says .*{told}"):
        read_plate(path)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("aspect", [0.0, -1.0, np.nan, np.inf, 1e9])
def test_a_pixel_aspect_that_can_t_be_is_refused(aspect, tmp_path):
    path = fuzz_exr.write(tmp_path / "a.exr", [fuzz_exr.MAKES["zip"]])
    path.write_bytes(with_attribute(path.read_bytes(), "pixelAspectRatio", "float", struct.pack("<f", aspect)))
    with pytest.raises(PlateError, match=r"a\.exr is damaged: its header says a pixel aspect of"):
        read_plate(path)


def header_of(count: int, name: str = "c{}") -> bytes:
    entries = b"".join(name.format(n).encode() + b"\0" + struct.pack("<i4xii", 1, 1, 1) for n in range(count))
    values = {
        ("channels", "chlist"): entries + b"\0",
        ("compression", "compression"): b"\3",
        ("dataWindow", "box2i"): struct.pack("<4i", 0, 0, 15, 15),
        ("displayWindow", "box2i"): struct.pack("<4i", 0, 0, 15, 15),
        ("lineOrder", "lineOrder"): b"\0",
        ("pixelAspectRatio", "float"): struct.pack("<f", 1),
    }
    parts = [f"{key}\0{kind}\0".encode() + struct.pack("<i", len(v)) + v for (key, kind), v in values.items()]
    return b"".join(parts) + b"\0"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (struct.pack("<ii", 20000630, 2) + header_of(10_000), "its header says 10000 channels"),
        (struct.pack("<ii", 20000630, 2) + header_of(0), "its header says 0 channels"),
        (struct.pack("<ii", 20000630, 2) + header_of(2, "R"), "two channels of one name"),
        (struct.pack("<ii", 20000630, 0x1002) + header_of(3) * 2_000 + b"\0", "its header says 2000 parts"),
        (struct.pack("<ii", 20000630, 2) + b"a\0string\0" + struct.pack("<i", -5), "header can't be read"),
        (struct.pack("<ii", 20000630, 2) + b"a\0string\0" + struct.pack("<i", 2**31 - 1), "header can't be read"),
    ],
)
def test_counts_and_lengths_that_can_t_be_are_refused(content, told, tmp_path):
    path = tmp_path / "a.exr"
    path.write_bytes(content + bytes(1_000))
    with pytest.raises(PlateError, match=rf"a\.exr is damaged: .*{told}"):
        read_plate(path)


def test_metadata_that_is_no_utf8_don_t_lose_the_plate(tmp_path):
    path = fuzz_exr.write(tmp_path / "a.exr", [fuzz_exr.MAKES["zip"]])
    path.write_bytes(path.read_bytes().replace("näher".encode(), b"n\xe4he\xff\0"))
    assert read_plate(path).parts[0].header["note"].value == b"n\xe4he\xff\0"


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_ends_early_is_no_plate(progressive, tmp_path):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(whole, "JPEG", progressive=progressive, restart_marker_rows=1)
    path = tmp_path / "a.jpg"
    path.write_bytes(whole.getvalue() + b"what a phone appends")
    assert read_plate(path).rgb.shape == (48, 64, 3)
    for end in (len(whole.getvalue()) // 2, len(whole.getvalue()) - 2):
        path.write_bytes(whole.getvalue()[:end])
        with pytest.raises(PlateError, match=r"a\.jpg is damaged or cut short"):
            read_plate(path)


# Movies


def test_a_frame_of_another_size_is_refused(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        for number, side in enumerate((32, 32, 16, 32)):
            coder = av.CodecContext.create("mjpeg", "w")
            coder.width, coder.height, coder.pix_fmt, coder.time_base = side, side, "yuvj420p", Fraction(1, 24)
            frame = VideoFrame.from_ndarray(np.full((side, side, 3), 90, np.uint8), format="rgb24")
            for packet in [*coder.encode(frame), *coder.encode(None)]:
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 24)
                container.mux(packet)
    with MovieReader(path) as movie:
        assert movie.read(1).shape == (32, 32, 3)
        with pytest.raises(PlateError, match=r"Frame 2 of .*a\.avi is 16x16, the first one 32x32"):
            movie.read(2)
        assert movie.read(3).shape == (32, 32, 3)


def test_the_verdict_on_a_damaged_frame_is_no_matter_of_luck(tmp_path):
    path = next(path for path in fuzz_movies.make_samples(tmp_path) if path.name == "h264.mkv")
    content = path.read_bytes()
    refused = 0
    for place in range(1_500, len(content) - 400, 350):
        path.write_bytes(content[:place] + b"\xff" * 200 + content[place + 200 :])
        verdicts = [verdict(path) for _ in range(20)]
        assert len(set(verdicts)) == 1, (place, verdicts)
        refused += bool(verdicts[0])
    assert refused > 3


def verdict(path) -> str:
    try:
        fuzz_movies.read(path, path.name)
    except PlateError as error:
        return str(error)
    return ""


def test_a_playlist_under_a_movie_s_name_fetches_nothing(tmp_path):
    secret = tmp_path / "secret.ts"
    secret.write_bytes(b"\x47" * 188 * 10)
    for name, text in {
        "a.mov": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "b.mov": f"ffconcat version 1.0\nfile {secret}\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(PlateError, match=rf"{name} can't be read as a movie"):
            MovieReader(tmp_path / name)


# Names and ranges


@pytest.mark.parametrize("pattern", ["a\0.exr", "a.%099d.exr", "a." + 30 * "#" + ".exr", "a.%" + 4000 * "9" + "d.exr"])
def test_a_pattern_that_can_be_no_name_is_refused(pattern):
    with pytest.raises(SequenceError, match="can be no file's name"):
        Sequence(pattern)


@pytest.mark.parametrize("text", ["9" * 5_000, "1-" + "9" * 5_000, "1-9x" + "9" * 5_000, "٣"])
def test_a_frame_number_without_end_is_refused(text):
    with pytest.raises(SequenceError, match="can't be read") as caught:
        parse_frames(text)
    assert len(str(caught.value)) < 1_000
