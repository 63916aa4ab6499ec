import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from small_disk import file_limit, small_disk

from relightgan.core.errors import PlateError
from relightgan.core.movies import MovieReader, MovieWriter, as_rate

WIDTH, HEIGHT, COUNT = 96, 64, 40


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Soft colours, and the number written as six large black or white bars."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rgb = np.stack([0.2 + 0.6 * x / width, 0.2 + 0.6 * y / height, np.full_like(x, 0.5)], axis=-1)
    for bit in range(6):
        rgb[: height // 2, bit * 16 : bit * 16 + 16] = number >> bit & 1
    return rgb


def number_in(rgb: np.ndarray) -> int:
    return sum(int(rgb[8, bit * 16 + 8].mean() > 0.5) << bit for bit in range(6))


def write_movie(path, count=COUNT, fps=24, **settings):
    with MovieWriter(path, fps, (WIDTH, HEIGHT), **settings) as movie:
        for number in range(count):
            movie.write(picture(number))
    return path


def encode(path, codec, count, options=None, pixels="yuv420p", rate=24, times=None):
    """A movie made with FFmpeg's libraries alone, for what our writer doesn't make."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.time_base = Fraction(1, rate)
        for number in range(count):
            frame = VideoFrame.from_ndarray(np.rint(picture(number) * 255).astype(np.uint8), format="rgb24")
            frame.pts = times[number] if times else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "worst"), [("a.mp4", 0.04), ("a.mov", 0.01), ("a.mkv", 0.04)])
def test_a_written_movie_comes_back_with_its_colours_rate_size_and_number_of_frames(name, worst, tmp_path):
    path = write_movie(tmp_path / name, fps=Fraction(24000, 1001))
    with MovieReader(path) as movie:
        assert (movie.frame_count, movie.fps, movie.size) == (COUNT, Fraction(24000, 1001), (WIDTH, HEIGHT))
        for number in range(COUNT):
            rgb = movie.read(number)
            assert rgb.shape == (HEIGHT, WIDTH, 3)
            assert rgb.dtype == np.float32
            assert number_in(rgb) == number
            assert np.abs(rgb - picture(number))[HEIGHT // 2 + 4 :].max() < worst
            assert 0 <= rgb.min() <= rgb.max() <= 1


def test_any_order_of_reading_gives_the_same_frames_as_reading_on(tmp_path):
    # Key frames far apart and frames stored out of order, as delivery movies have them.
    path = encode(tmp_path / "a.mp4", "libx264", COUNT, {"g": "15", "bf": "3", "crf": "12"})
    with MovieReader(path) as movie:
        in_order = [movie.read(number) for number in range(COUNT)]
        for number in [*range(COUNT - 1, -1, -3), *np.random.default_rng(1).permutation(COUNT), 5, 5]:
            assert np.array_equal(movie.read(int(number)), in_order[number])
    with MovieReader(path) as movie:
        assert np.array_equal(movie.read(31), in_order[31])


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.avi", "mpeg4", {"bf": "2", "g": "12"}),
        ("a.avi", "mjpeg", {"color_range": "pc", "strict": "unofficial"}),
        ("a.webm", "libvpx-vp9", {"cpu-used": "8"}),
        ("a.mkv", "ffv1", {}),
        ("a.mp4", "libx265", {"x265-params": "log-level=none:open-gop=1:keyint=8"}),
    ],
)
def test_frames_have_exact_numbers_in_other_containers_and_codecs(name, codec, options, tmp_path):
    path = encode(tmp_path / name, codec, 20, options)
    with MovieReader(path) as movie:
        assert movie.frame_count == 20
        assert [number_in(movie.read(number)) for number in (19, 3, 0, 8, 7, 12, 13)] == [19, 3, 0, 8, 7, 12, 13]


def test_frames_of_a_varying_rate_and_late_start_are_counted_not_timed(tmp_path):
    times = [1000 + 10 * number + (7 if number % 3 else 0) for number in range(20)]
    path = encode(tmp_path / "a.mkv", "libx264", 20, {"bf": "2"}, rate=240, times=times)
    with MovieReader(path) as movie:
        assert [number_in(movie.read(number)) for number in range(20)] == list(range(20))


@pytest.mark.parametrize(
    ("pixels", "full", "black", "white"),
    [
        ("yuv420p", False, 16, 235),
        ("yuv420p", True, 0, 255),
        ("yuv422p10le", False, 64, 940),
        ("yuv422p10le", True, 0, 1023),
    ],
)
def test_levels_are_exact_at_8_and_10_bits_in_both_ranges(pixels, full, black, white, tmp_path):
    levels = np.linspace(black, white, 8).round().astype(int)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.color_range = 2 if full else 1
        frame = VideoFrame(WIDTH, HEIGHT, pixels)
        kind = np.uint16 if "10" in pixels else np.uint8
        for index, plane in enumerate(frame.planes):
            samples = np.full((plane.height, plane.line_size // kind().itemsize), 512 if "10" in pixels else 128, kind)
            if index == 0:
                samples[:, :WIDTH] = np.repeat(levels, WIDTH // 8)
            plane.update(samples.tobytes())
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with MovieReader(tmp_path / "a.mkv") as movie:
        got = movie.read(0)[HEIGHT // 2, WIDTH // 16 :: WIDTH // 8]
    assert got == pytest.approx(np.repeat((levels - black) / (white - black), 3).reshape(8, 3), abs=3e-4)


def test_a_phone_held_upright_gives_an_upright_picture(tmp_path):
    path = write_movie(tmp_path / "a.mp4", 2)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    # A quarter turn clockwise, as cameras write it (ISO 14496-12, 8.3.2).
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    with MovieReader(path) as movie:
        assert movie.size == (HEIGHT, WIDTH)
        assert movie.read(1) == pytest.approx(np.rot90(picture(1), -1), abs=0.15)


def test_reading_beyond_the_ends_is_refused(tmp_path):
    with MovieReader(write_movie(tmp_path / "a.mp4", 3)) as movie:
        for index in (-1, 3):
            with pytest.raises(PlateError, match=f"no frame {index}; it has 0 to 2"):
                movie.read(index)


def test_what_is_no_movie_is_refused_by_name(tmp_path):
    (tmp_path / "fake.mov").write_text("not a movie, but long enough to be looked at\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("fake.mov", "empty.mp4"):
        with pytest.raises(PlateError, match=f"{name} can't be read as a movie"):
            MovieReader(tmp_path / name)
    with pytest.raises(PlateError, match=r"none\.mov doesn't exist"):
        MovieReader(tmp_path / "none.mov")


def test_a_movie_cut_short_is_refused_or_says_which_frames_are_not_there(tmp_path):
    path = encode(tmp_path / "a.mp4", "libx264", COUNT, {"g": "5", "crf": "8"})
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PlateError, match=r"cut\.mp4 can't be read"):
        MovieReader(tmp_path / "cut.mp4")
    for name, options in (("fast.mp4", {"movflags": "faststart"}), ("b.mkv", {})):
        with av.open(str(tmp_path / name), "w", options=options) as whole, av.open(str(path)) as source:
            stream = whole.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    whole.mux(packet)
        data = (tmp_path / name).read_bytes()
        with MovieReader(tmp_path / name) as movie:
            assert movie.frame_count == COUNT
        for share in (0.6, 0.97):
            (tmp_path / f"cut_{name}").write_bytes(data[: int(len(data) * share)])
            with MovieReader(tmp_path / f"cut_{name}") as movie:
                assert number_in(movie.read(5)) == 5
                with pytest.raises(PlateError, match=r"is cut short|is damaged|can't be decoded"):
                    movie.read(movie.frame_count - 1)


def test_a_damaged_frame_is_an_error_and_the_others_can_still_be_read(tmp_path):
    path = write_movie(tmp_path / "a.mov")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][20]
    data[place + 200 : place + 600] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    with MovieReader(path) as movie:
        with pytest.raises(PlateError, match=r"Frame 20 of .*a\.mov (is damaged|can't be decoded)"):
            movie.read(20)
        assert [number_in(movie.read(number)) for number in (19, 21, 39)] == [19, 21, 39]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_video_is_not_taken_for_display_encoded(transfer, name, tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p10le"
        stream.codec_context.color_trc = transfer
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p10le")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(PlateError, match=rf"HDR video \({name}\)"):
        MovieReader(tmp_path / "a.mkv")


def test_a_movie_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.mp4"
    movie = MovieWriter(path, 24, (WIDTH, HEIGHT))
    movie.write(picture(0))
    assert not path.exists()
    movie.close()
    movie.close()  # does nothing
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_a_movie_whose_folder_goes_ends_at_the_next_frame(tmp_path):
    folder = tmp_path / "shot"
    folder.mkdir()
    movie = MovieWriter(folder / "a.mp4", 24, (WIDTH, HEIGHT))
    movie.write(picture(0))
    folder.rename(tmp_path / "renamed")
    with pytest.raises(PlateError, match=rf"a\.mp4 can't be written: the folder {folder} is gone"):
        movie.write(picture(1))
    assert [p.name for p in tmp_path.iterdir()] == ["renamed"]


def interrupt(movie):
    movie.write(picture(0))
    raise KeyboardInterrupt


def write_noise(path):
    noise = np.random.default_rng(0).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    with MovieWriter(path, 24, (WIDTH, HEIGHT)) as movie:
        for _ in range(40):
            movie.write(noise)


def test_an_abandoned_movie_leaves_nothing_and_the_one_before_as_it_was(tmp_path):
    path = write_movie(tmp_path / "a.mov", 2)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), MovieWriter(path, 24, (WIDTH, HEIGHT)) as movie:
        interrupt(movie)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mov"]


def test_a_movie_without_frames_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(PlateError, match="was given no frames"):
        MovieWriter(tmp_path / "a.mov", 24, (WIDTH, HEIGHT)).close()
    assert list(tmp_path.iterdir()) == []


def test_values_outside_the_display_range_are_held_and_nan_is_black(tmp_path):
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    rgb[:, 32:64] = np.inf
    rgb[:, 64:] = np.nan
    rgb[:32, :32] = -3
    with MovieWriter(tmp_path / "a.mov", 24, (WIDTH, HEIGHT)) as movie:
        movie.write(rgb)
    with MovieReader(tmp_path / "a.mov") as movie:
        got = movie.read(0)
    assert got[:, 8:24].max() < 0.01
    assert got[:, 40:56].min() > 0.99
    assert got[:, 72:].max() < 0.01


def test_what_can_t_be_written_is_refused_before_anything_is_made(tmp_path):
    for name, size, settings, told in [
        ("a.gif", (WIDTH, HEIGHT), {}, "gif can't be written. Use .mov"),
        ("a.mp4", (95, 64), {}, "h264 can't hold 95x64"),
        ("a.mov", (WIDTH, HEIGHT), {"codec": "dnxhd"}, "'dnxhd' is unknown"),
    ]:
        with pytest.raises(PlateError, match=told):
            MovieWriter(tmp_path / name, 24, size, **settings)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PlateError, match=r"a\.mov can't be written"):
        MovieWriter(tmp_path / "file" / "a.mov", 24, (WIDTH, HEIGHT))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with MovieWriter(tmp_path / "b.mov", 24, (WIDTH, HEIGHT)) as movie:
        movie.write(picture(0))
        with pytest.raises(PlateError, match="is 96x64, a frame for it 48x32"):
            movie.write(picture(0)[::2, ::2])


@pytest.mark.process
def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path):
    with small_disk(tmp_path / "small", "128k") as small:
        with pytest.raises(PlateError, match=r"a\.mov can't be written: the disk is full"):
            write_noise(small / "a.mov")
        assert list(small.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_a_movie_that_lacks_only_its_end_is_never_taken_for_whole(tmp_path, suffix):
    whole = write_movie(tmp_path / f"whole{suffix}", 8)
    size = whole.stat().st_size
    path = tmp_path / f"a{suffix}"
    for limit in (0, 1, size // 2, *range(max(size - 5000, 1), size, 499), size - 1):
        with file_limit(limit), pytest.raises(PlateError, match="can't be written"):
            write_movie(path, 8)
        assert [p.name for p in tmp_path.iterdir()] == [whole.name], limit
    with file_limit(size):
        assert write_movie(path, 8).read_bytes() == whole.read_bytes()


def test_rounded_ntsc_rates_are_taken_as_what_they_are():
    assert as_rate(23.976) == Fraction(24000, 1001)
    assert as_rate(29.97) == Fraction(30000, 1001)
    assert as_rate(24) == as_rate(24.0) == 24
    assert as_rate(12.5) == Fraction(25, 2)
    with pytest.raises(PlateError, match="0 frames a second"):
        as_rate(0)


def test_no_damage_is_filled_in_and_shown_as_whole(tmp_path):
    path = encode(tmp_path / "a.mp4", "libx264", COUNT, {"g": "5", "crf": "8", "bf": "0"})
    with MovieReader(path) as movie:
        whole = [movie.read(number) for number in range(COUNT)]
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in (12, 21, 33):
        position, size = places[number]
        data[position + size // 2 : position + size] = np.random.default_rng(number).bytes(size - size // 2)
    path.write_bytes(data)
    damaged = []
    with MovieReader(path) as movie:
        for number in range(COUNT):
            try:
                assert np.array_equal(movie.read(number), whole[number])
            except PlateError:
                damaged.append(number)
    assert {12, 21, 33} <= set(damaged) <= {12, 13, 14, 21, 22, 23, 24, 33, 34}


def test_frames_before_a_cut_in_the_edit_list_are_not_counted(tmp_path):
    # As a phone trims a movie: the frames stay in the file, from the key frame on, but aren't shown.
    path = encode(tmp_path / "a.mp4", "libx264", 20, {"g": "20", "bf": "0"})
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w", options=options) as cut:
        stream = cut.add_stream_from_template(source.streams.video[0])
        one = round(1 / (24 * source.streams.video[0].time_base))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                packet.pts -= 7 * one
                packet.dts -= 7 * one
                cut.mux(packet)
    with MovieReader(tmp_path / "b.mp4") as movie:
        assert [number_in(movie.read(number)) for number in range(movie.frame_count)] == list(range(7, 20))
