"""What the simulated Read and Write do with real EXR files, rule by rule."""

import shutil

import numpy as np
import OpenImageIO
import pytest
import tiny_plates

ROWS = np.arange(48, dtype=np.float32).reshape(6, 8)  # row 0 is the top one, as in a file


def plate(path, shift=0.0, **options):
    rgb = np.stack([ROWS + shift, ROWS + 100 + shift, ROWS + 200 + shift], axis=2)
    others = options.pop("others", {})
    options.setdefault("kind", "float")
    return tiny_plates.write_exr(path, tiny_plates.rgb_channels(rgb, **others), **options)


def read_node(sim, path, **knobs):
    return sim.node("Read", file=str(path), **{"raw": True, "first": 1, "last": 1, "version": 0, **knobs})


def write_node(sim, source, path, **knobs):
    return sim.node(
        "Write", source, file=str(path), **{"raw": True, "datatype": "32 bit float", "channels": "all", **knobs}
    )


def header(path):
    file = OpenImageIO.ImageInput.open(str(path))
    spec = file.spec()
    file.close()
    return spec


def test_rows_of_a_picture_run_from_the_bottom_up(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr"))
    image = sim.ops.evaluate(read, 1, "main", sim.session())
    assert np.array_equal(image.channels["rgba.red"], ROWS[::-1])
    assert image.bbox == (0, 0, 8, 6)
    assert image.format == (8, 6, 1.0)


def test_a_data_window_beside_the_frame_lands_upside_down_with_one_black_pixel_around(sim, tmp_path):
    path = plate(tmp_path / "a.exr", data_origin=(-3, 2), display=(0, 0, 20, 10))
    image = sim.ops.evaluate(read_node(sim, path), 1, "main", sim.session())
    # 8 x 6 pixels from x -3 and file row 2, which is t = 10 - 2 = 8 seen from below; and the ring.
    assert image.bbox == (-4, 1, 6, 9)
    assert image.format == (20, 10, 1.0)
    assert image.black_outside
    assert image.channels["rgba.red"].shape == (8, 10)
    assert np.array_equal(image.channels["rgba.red"][1:-1, 1:-1], ROWS[::-1])
    assert not image.channels["rgba.red"][0].any()


def test_edge_pixels_repeat_leaves_the_data_window_as_it_is(sim, tmp_path):
    path = plate(tmp_path / "a.exr", data_origin=(-3, 2), display=(0, 0, 20, 10))
    read = read_node(sim, path, edge_pixels="repeat")
    assert sim.ops.evaluate(read, 1, "main", sim.session()).bbox == (-3, 2, 5, 8)


def test_a_display_window_with_a_negative_origin_is_moved_to_zero(sim, tmp_path):
    path = plate(tmp_path / "a.exr", data_origin=(-5, -4), display=(-5, -4, 8, 6))
    image = sim.ops.evaluate(read_node(sim, path), 1, "main", sim.session())
    assert (image.bbox, image.format[:2]) == ((0, 0, 8, 6), (8, 6))


@pytest.mark.parametrize(
    ("origin", "display"), [((0, 0), (0, 0, 8, 6)), ((-3, 2), (0, 0, 20, 10)), ((-2, -1), (0, 0, 4, 4))]
)
def test_windows_pixels_and_aspect_come_through_read_and_write_bit_for_bit(sim, tmp_path, origin, display):
    others = {"A": ROWS / 50, "depth.Z": ROWS * 1e6, "crypto00.red": ROWS * -3}
    path = plate(
        tmp_path / "a.exr",
        others=others,
        data_origin=origin,
        display=display,
        PixelAspectRatio=2.0,
    )
    write = write_node(sim, read_node(sim, path), tmp_path / "b.exr")
    sim.ops.write_frame(write, 1, "main", sim.session())
    before, after = header(path), header(tmp_path / "b.exr")
    for name in ("x", "y", "width", "height", "full_x", "full_y", "full_width", "full_height"):
        assert getattr(before, name) == getattr(after, name), name
    assert after.getattribute("PixelAspectRatio") == 2.0
    first, second = tiny_plates.read_exr(path), tiny_plates.read_exr(tmp_path / "b.exr")
    assert set(first) == set(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_write_drops_alpha_unless_it_is_asked_for(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr", others={"A": ROWS, "depth.Z": ROWS}))
    session = sim.session()
    for channels, names in {
        "rgb": {"R", "G", "B"},
        "rgba": {"R", "G", "B", "A"},
        "rgba depth": {"R", "G", "B", "A", "depth.Z"},
        "rgba.green depth.Z": {"G", "depth.Z"},
        "all": {"R", "G", "B", "A", "depth.Z"},
    }.items():
        sim.ops.write_frame(write_node(sim, read, tmp_path / "b.exr", channels=channels), 1, "main", session)
        assert set(tiny_plates.read_exr(tmp_path / "b.exr")) == names, channels


def test_write_makes_no_alpha_that_the_pipe_has_not(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr"))
    sim.ops.write_frame(write_node(sim, read, tmp_path / "b.exr", channels="rgba"), 1, "main", sim.session())
    assert set(tiny_plates.read_exr(tmp_path / "b.exr")) == {"R", "G", "B"}


def test_write_fails_where_no_channel_is_left(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr"))
    write = write_node(sim, read, tmp_path / "b.exr", channels="depth")
    with pytest.raises(sim.ops.NodeError, match=r"^Write1: exrWriter: No channels selected"):
        sim.ops.write_frame(write, 1, "main", sim.session())


def test_half_overflows_to_infinity_and_float_does_not(sim, tmp_path):
    rgb = np.full((2, 2, 3), 70000, np.float32)
    path = tiny_plates.write_exr(tmp_path / "a.exr", tiny_plates.rgb_channels(rgb), "float")
    for datatype, value, kind in (("16 bit half", np.inf, "half"), ("32 bit float", 70000, "float")):
        write = write_node(sim, read_node(sim, path), tmp_path / "b.exr", datatype=datatype)
        sim.ops.write_frame(write, 1, "main", sim.session())
        assert tiny_plates.read_rgb(tmp_path / "b.exr").max() == value
        assert str(header(tmp_path / "b.exr").format) == kind


@pytest.mark.parametrize(
    ("knob", "word"), [("none", "none"), ("Zip (1 scanline)", "zips"), ("Zip (16 scanlines)", "zip"), ("DWAA", "dwaa")]
)
def test_compression_is_the_knobs(sim, tmp_path, knob, word):
    write = write_node(sim, read_node(sim, plate(tmp_path / "a.exr")), tmp_path / "b.exr", compression=knob)
    sim.ops.write_frame(write, 1, "main", sim.session())
    assert header(tmp_path / "b.exr").getattribute("compression").startswith(word)


def test_autocrop_writes_only_what_is_not_black(sim, tmp_path):
    rgb = np.zeros((6, 8, 3), np.float32)
    rgb[1, 2:5] = 1
    path = tiny_plates.write_exr(tmp_path / "a.exr", tiny_plates.rgb_channels(rgb))
    sim.ops.write_frame(
        write_node(sim, read_node(sim, path), tmp_path / "b.exr", autocrop=True), 1, "main", sim.session()
    )
    spec = header(tmp_path / "b.exr")
    assert (spec.x, spec.y, spec.width, spec.height, spec.full_width, spec.full_height) == (2, 1, 3, 1, 8, 6)


def test_a_missing_folder_is_made_only_where_the_write_says_so(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr"))
    target = tmp_path / "new folder" / "ü" / "b.exr"
    with pytest.raises(sim.ops.NodeError, match="No such file or directory"):
        sim.ops.write_frame(write_node(sim, read, target), 1, "main", sim.session())
    sim.ops.write_frame(write_node(sim, read, target, create_directories=True), 1, "main", sim.session())
    assert target.is_file()


def test_a_failed_write_leaves_neither_a_file_nor_a_temporary_one(sim, tmp_path):
    folder = tmp_path / "out"
    (folder / "b.exr").mkdir(parents=True)  # a folder stands where the file should be
    write = write_node(sim, read_node(sim, plate(tmp_path / "a.exr")), folder / "b.exr")
    with pytest.raises(sim.ops.NodeError, match="Write error"):
        sim.ops.write_frame(write, 1, "main", sim.session())
    assert [p.name for p in folder.iterdir()] == ["b.exr"]


def test_a_file_that_is_written_over_is_another_file(sim, tmp_path):
    read, target = read_node(sim, plate(tmp_path / "a.exr")), tmp_path / "b.exr"
    target.write_bytes(b"old")
    (tmp_path / "link.exr").hardlink_to(target)
    sim.ops.write_frame(write_node(sim, read, target), 1, "main", sim.session())
    assert (tmp_path / "link.exr").read_bytes() == b"old"
    assert np.array_equal(tiny_plates.read_exr(target)["R"], ROWS)


def test_paths_take_frames_and_views(sim):
    put = sim.files.substitute
    assert put("a.%04d.exr", 7, "left") == "a.0007.exr"
    assert put("a.####.exr", -5, "left") == "a.-005.exr"
    assert put("a.%d.exr", 1000007, "left") == "a.1000007.exr"
    assert put("/%V/a_%v.#.exr", 7, "left") == "/left/a_l.7.exr"


def test_views_are_read_from_and_written_into_their_own_folders(sim, tmp_path):
    plate(tmp_path / "in" / "left" / "a.0001.exr")
    plate(tmp_path / "in" / "right" / "a.0001.exr", shift=5)
    session = sim.session(views=("left", "right"))
    read = read_node(sim, tmp_path / "in" / "%V" / "a.%04d.exr")
    write = write_node(sim, read, tmp_path / "out" / "%V" / "b.%04d.exr", create_directories=True)
    written = [sim.ops.write_frame(write, 1, view, session, session.views) for view in session.views]
    assert written == [str(tmp_path / "out" / view / "b.0001.exr") for view in session.views]
    left, right = (tiny_plates.read_rgb(tmp_path / "out" / view / "b.0001.exr") for view in session.views)
    assert np.array_equal(left + 5, right)


def test_two_views_into_one_file_are_refused_not_overwritten(sim, tmp_path):
    session = sim.session(views=("left", "right"))
    write = write_node(sim, read_node(sim, plate(tmp_path / "a.exr")), tmp_path / "b.exr")
    with pytest.raises(NotImplementedError, match="several views in one file"):
        sim.ops.write_frame(write, 1, "left", session, session.views)


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("hold", [1, 1, 1, 1, 2, 3, 4, 4, 4]),
        ("loop", [2, 3, 4, 1, 2, 3, 4, 1, 2]),
        ("bounce", [4, 3, 2, 1, 2, 3, 4, 3, 2]),
        ("black", [None, None, None, 1, 2, 3, 4, None, None]),
    ],
)
def test_frames_outside_the_range_hold_loop_bounce_or_are_black(sim, mode, shown):
    assert [sim.files.shown_frame(f, 1, 4, mode, mode) for f in range(-2, 7)] == shown


def test_black_outside_the_range_has_the_clips_format(sim, tmp_path):
    plate(tmp_path / "a.0003.exr")
    read = read_node(sim, tmp_path / "a.%04d.exr", first=3, last=3, before="black", after="hold")
    session = sim.session(root_format=(100, 50, 1.0))
    image = sim.ops.evaluate(read, 1, "main", session)
    assert image.format[:2] == (8, 6)
    assert not image.channels["rgba.red"].any()
    assert sim.ops.evaluate(read, 9, "main", session).channels["rgba.red"].any()


def test_a_missing_frame_is_an_error_that_names_the_node_and_the_file(sim, tmp_path):
    read = read_node(sim, tmp_path / "a.%04d.exr", name="Group1.Read3", last=4)
    with pytest.raises(sim.ops.NodeError) as caught:
        sim.ops.evaluate(read, 2, "main", sim.session())
    assert str(caught.value) == f"Group1.Read3: {tmp_path}/a.0002.exr: Read error: No such file or directory"
    assert isinstance(caught.value, RuntimeError)


def test_on_error_gives_black_a_checkerboard_or_the_nearest_frame(sim, tmp_path):
    for frame in (1, 4):
        plate(tmp_path / f"a.{frame:04d}.exr", shift=frame)
    session = sim.session()

    def red(on_error, frame):
        read = read_node(sim, tmp_path / "a.%04d.exr", last=4, on_error=on_error)
        return sim.ops.evaluate(read, frame, "main", session).channels["rgba.red"]

    assert not red("black", 2).any()
    assert red("checkerboard", 2).any()
    assert red("nearest frame", 2)[-1, 0] == 1
    assert red("nearest frame", 3)[-1, 0] == 4


def test_a_damaged_file_is_a_read_error_too(sim, tmp_path):
    path = plate(tmp_path / "a.exr")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(sim.ops.NodeError, match=r"a\.exr: Read error: "):
        sim.ops.evaluate(read_node(sim, path), 1, "main", sim.session())


def test_an_overwritten_file_is_not_noticed_until_reload(sim, tmp_path):
    path = plate(tmp_path / "a.exr")
    read, other, session = read_node(sim, path), read_node(sim, path, name="Read2"), sim.session()

    def corner(node):
        return sim.ops.evaluate(node, 1, "main", session).channels["rgba.red"][-1, 0]

    assert corner(read) == corner(other) == 0
    plate(path, shift=7)
    assert corner(read) == 0
    read.knob("version").set += 1  # what the button does
    assert corner(read) == 7
    assert corner(other) == 0


def test_a_new_path_shows_the_new_file_at_once(sim, tmp_path):
    first, second = plate(tmp_path / "a.exr"), plate(tmp_path / "b.exr", shift=7)
    read, session = read_node(sim, first), sim.session()
    sim.ops.evaluate(read, 1, "main", session)
    read.knob("file").set = str(second)
    assert sim.ops.evaluate(read, 1, "main", session).channels["rgba.red"][-1, 0] == 7


def test_a_frame_that_failed_stays_failed_until_reload_or_the_quirk(sim, tmp_path):
    path = tmp_path / "a.exr"
    for reopens in (False, True):
        session = sim.session(quirks=sim.quirks.make_quirks(read_reopens_after_failure=reopens))
        read = read_node(sim, path)
        with pytest.raises(sim.ops.NodeError):
            sim.ops.evaluate(read, 1, "main", session)
        plate(path)
        if not reopens:
            with pytest.raises(sim.ops.NodeError):
                sim.ops.evaluate(read, 1, "main", session)
            read.knob("version").set += 1
        assert sim.ops.evaluate(read, 1, "main", session).channels["rgba.red"].any()
        path.unlink()


def test_a_full_cache_forgets_the_least_used_frame(sim, tmp_path):
    paths = [str(plate(tmp_path / f"{i}.exr", shift=i)) for i in range(3)]
    cache = sim.ops.ReadCache(limit_bytes=2 * 6 * 8 * 3 * 4)  # two frames
    for path in (paths[0], paths[1], paths[0], paths[2]):
        cache.read(path, "0")
    shutil.copy(paths[2], paths[0])
    shutil.copy(paths[2], paths[1])
    assert cache.read(paths[0], "0").channels["rgba.red"][-1, 0] == 0
    assert cache.read(paths[1], "0").channels["rgba.red"][-1, 0] == 2


def test_proxy_mode_reads_and_writes_at_proxy_size(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr"))
    session = sim.session(proxy_scale=0.5)
    sim.ops.write_frame(write_node(sim, read, tmp_path / "b.exr"), 1, "main", session)
    spec = header(tmp_path / "b.exr")
    assert (spec.width, spec.height, spec.full_width, spec.full_height) == (4, 3, 4, 3)
    write = write_node(sim, read, tmp_path / "c.exr", proxy=str(tmp_path / "small.exr"))
    assert sim.ops.write_frame(write, 1, "main", session) == str(tmp_path / "small.exr")
    assert not (tmp_path / "c.exr").exists()


def test_a_colour_space_that_would_need_converting_is_refused(sim, tmp_path):
    path = plate(tmp_path / "a.exr")
    for good in ({"raw": True, "colorspace": "sRGB"}, {"raw": False, "colorspace": "linear"}, {"raw": False}):
        sim.ops.evaluate(read_node(sim, path, **good), 1, "main", sim.session())
    with pytest.raises(NotImplementedError, match="Read1: Read: the colour space 'sRGB'"):
        sim.ops.evaluate(read_node(sim, path, raw=False, colorspace="sRGB"), 1, "main", sim.session())


def test_limit_to_range_leaves_frames_out(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr"))
    write = write_node(sim, read, tmp_path / "b.%d.exr", use_limit=True, first=2, last=3)
    written = [sim.ops.write_frame(write, frame, "main", sim.session()) for frame in (1, 2, 3, 4)]
    assert written == [None, str(tmp_path / "b.2.exr"), str(tmp_path / "b.3.exr"), None]


def test_metadata_names_the_file_that_was_read(sim, tmp_path):
    plate(tmp_path / "a.0003.exr", Copyright="us")
    read = read_node(sim, tmp_path / "a.%04d.exr", first=3, last=3)
    metadata = sim.ops.evaluate(read, 9, "main", sim.session()).metadata
    assert metadata["input/filename"] == str(tmp_path / "a.0003.exr")
    assert metadata["input/frame"] == 3
    assert metadata["exr/Copyright"] == "us"


def test_a_file_of_two_views_gives_each_its_own_channels_and_shares_the_rest(sim, tmp_path):
    values = {"R": 1, "G": 1, "B": 1, "right.R": 2, "right.G": 2, "right.B": 2, "depth.right.Z": 5, "mask.A": 7}
    spec = OpenImageIO.ImageSpec(1, 1, len(values), "float")
    spec.channelnames = list(values)
    spec.attribute("multiView", OpenImageIO.TypeDesc("string[2]"), ("left", "right"))
    file = OpenImageIO.ImageOutput.create("exr")
    assert file.open(str(tmp_path / "a.exr"), spec)
    assert file.write_image(np.float32([[list(values.values())]]))
    assert file.close()
    session = sim.session(views=("left", "right"))
    read = read_node(sim, tmp_path / "a.exr")
    left, right = (sim.ops.evaluate(read, 1, view, session).channels for view in session.views)
    assert {name: pixels[0, 0] for name, pixels in left.items()} == {
        "rgba.red": 1, "rgba.green": 1, "rgba.blue": 1, "mask.alpha": 7
    }  # fmt: skip
    assert {name: pixels[0, 0] for name, pixels in right.items()} == {
        "rgba.red": 2, "rgba.green": 2, "rgba.blue": 2, "mask.alpha": 7, "depth.Z": 5
    }  # fmt: skip


def test_whole_number_channels_keep_their_values(sim, tmp_path):
    # OpenImageIO writes none, so a float channel's bits are declared whole numbers (pixel type 2 becomes 0).
    numbers = np.array([[3, 16777216], [7, 65535]], np.uint32)
    channels = {"R": np.full((2, 2), 0.5, np.float32), "id.object": numbers.view(np.float32)}
    path = tiny_plates.write_exr(tmp_path / "a.exr", channels, "float", compression="none")
    declared = path.read_bytes()
    path.write_bytes(declared.replace(b"id.object\0\2\0\0\0", b"id.object\0\0\0\0\0"))
    image = sim.ops.evaluate(read_node(sim, path), 1, "main", sim.session())
    assert image.channels["id.object"][::-1].tolist() == numbers.tolist()
    assert (image.channels["rgba.red"] == 0.5).all()


def test_write_keeps_the_plates_own_metadata_only_when_asked(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr", Copyright="us", compression="piz"))
    for mode, kept in {"default metadata": None, "default metadata and exr/*": "us", "all metadata": "us"}.items():
        sim.ops.write_frame(write_node(sim, read, tmp_path / "b.exr", metadata=mode), 1, "main", sim.session())
        assert header(tmp_path / "b.exr").getattribute("Copyright") == kept, mode
        assert header(tmp_path / "b.exr").getattribute("compression").startswith("zips")


def test_other_ways_to_lay_out_a_file_are_refused(sim, tmp_path):
    read = read_node(sim, plate(tmp_path / "a.exr"))
    for knobs in ({"interleave": "channels"}, {"write_ACES_compliant_EXR": True}, {"compression": "Zup"}):
        with pytest.raises(NotImplementedError, match="Write1"):
            sim.ops.write_frame(write_node(sim, read, tmp_path / "b.exr", **knobs), 1, "main", sim.session())
