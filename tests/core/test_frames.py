import itertools
import os
import struct
import subprocess

import numpy as np
import OpenImageIO
import pytest

from relightgan.core.errors import PlateError
from relightgan.core.exr_header import read_channels, read_compression, read_headers
from relightgan.core.frames import Plate, read_mask, read_plate, write_plate

TYPES = {np.dtype(np.uint32): 0, np.dtype(np.float16): 1, np.dtype(np.float32): 2}
NAMES = {0: "uint", 1: "half", 2: "float"}
OUR_NOTE = "relightgan/software"


def attribute(name, kind, value):
    return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value


def box(x0, y0, x1, y1):
    return struct.pack("<4i", x0, y0, x1 - 1, y1 - 1)


def header_bytes(channels, data, display, attributes=(), line_order=0, sampling=1, part=None):
    entries = b"".join(
        name.encode() + b"\0" + struct.pack("<i4xii", TYPES[pixels.dtype], sampling, sampling)
        for name, pixels in sorted(channels.items())
    )
    values = [
        ("channels", "chlist", entries + b"\0"),
        ("compression", "compression", b"\0"),
        ("dataWindow", "box2i", box(*data)),
        ("displayWindow", "box2i", box(*display)),
        ("lineOrder", "lineOrder", bytes([line_order])),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", bytes(8)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ]
    if part is not None:
        values += [("name", "string", part.encode()), ("type", "string", b"scanlineimage")]
        values += [("chunkCount", "int", struct.pack("<i", data[3] - data[1]))]
    table = {name: (kind, value) for name, kind, value in [*values, *attributes]}
    return b"".join(attribute(name, *content) for name, content in table.items()) + b"\0"


def make_exr(path, *parts):
    """An uncompressed OpenEXR file byte by byte, so that neither our code nor OpenImageIO's is what proves itself.

    Each part is a dict: channels {name: (H, W) array}, and optionally origin, display, attributes, name, line_order.
    """
    several = len(parts) > 1
    parts = [
        {"origin": (0, 0), "attributes": (), "line_order": 0, "sampling": 1, "name": None} | part for part in parts
    ]
    heads, sizes = [], []
    for part in parts:
        height, width = next(iter(part["channels"].values())).shape
        x, y = part["origin"]
        part["data"] = (x, y, x + width * part["sampling"], y + height * part["sampling"])
        heads.append(
            header_bytes(
                part["channels"], part["data"], part.get("display", part["data"]), part["attributes"],
                part["line_order"], part["sampling"], part["name"] if several else None,
            )
        )  # fmt: skip
        sizes.append(height)
    long_names = any(
        len(name) > 31 for part in parts for name in (*part["channels"], *(a[0] for a in part["attributes"]))
    )
    version = 2 | (0x1000 if several else 0) | (0x400 if long_names else 0)
    start = struct.pack("<ii", 20000630, version) + b"".join(heads) + (b"\0" if several else b"")
    position = len(start) + 8 * sum(sizes)
    tables, chunks = b"", b""
    for index, part in enumerate(parts):
        rows = list(range(sizes[index]))
        offsets = {}
        for row in rows[::-1] if part["line_order"] else rows:
            pixels = b"".join(part["channels"][name][row].tobytes() for name in sorted(part["channels"]))
            chunk = (
                (struct.pack("<i", index) if several else b"")
                + struct.pack("<ii", part["data"][1] + row, len(pixels))
                + pixels
            )
            offsets[row] = position
            position += len(chunk)
            chunks += chunk
        tables += struct.pack(f"<{len(rows)}q", *(offsets[row] for row in rows))
    path.write_bytes(start + tables + chunks)
    return path


def stored(path, part=0):
    """Every channel of a part in its own type, as OpenImageIO reads it without conversion."""
    image = OpenImageIO.ImageInput.open(str(path))
    image.seek_subimage(part, 0)
    spec = image.spec()
    kinds = {c.name: c.pixel_type for c in read_channels(read_headers(path)[part])}
    pixels = {
        name: image.read_image(part, 0, k, k + 1, kinds[name])[..., 0] for k, name in enumerate(spec.channelnames)
    }
    image.close()
    return pixels


def assert_same_bits(got, wanted):
    assert set(got) == set(wanted)
    for name in wanted:
        assert got[name].dtype == wanted[name].dtype, name
        assert got[name].tobytes() == wanted[name].tobytes(), name


def ramp(height=12, width=20, seed=0, kind=np.float16):
    return (np.random.default_rng(seed).random((height, width)) * 4 - 0.5).astype(kind)


def rgba(height=12, width=20, kind=np.float16):
    return {name: ramp(height, width, seed, kind) for seed, name in enumerate("RGBA")}


def with_oiio(path, channels, compression="zip", tile=0, formats=None):
    names = list(channels)
    pixels = np.stack([np.asarray(channels[name], np.float32) for name in names], axis=-1)
    spec = OpenImageIO.ImageSpec(pixels.shape[1], pixels.shape[0], len(names), "half")
    spec.channelnames = names
    if formats:
        spec.set_format("float")
        spec.channelformats = tuple(OpenImageIO.TypeDesc(f) for f in formats)
    spec.tile_width = spec.tile_height = tile
    spec.attribute("compression", compression)
    output = OpenImageIO.ImageOutput.create(str(path))
    assert output.open(str(path), spec), output.geterror()
    assert output.write_image(pixels), output.geterror()
    assert output.close()
    return path


def with_oiio_pixels(path, pixels, kind):
    spec = OpenImageIO.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
    output = OpenImageIO.ImageOutput.create(str(path))
    assert output.open(str(path), spec), output.geterror()
    assert output.write_image(pixels.astype(np.float32)), output.geterror()
    assert output.close()
    return path


# What comes in


def test_a_plate_has_rgb_alpha_and_windows_as_they_are_in_the_file(tmp_path):
    channels = rgba()
    plate = read_plate(
        make_exr(tmp_path / "a.exr", {"channels": channels, "origin": (-3, 5), "display": (0, 0, 30, 25)})
    )
    assert plate.rgb.shape == (12, 20, 3)
    assert plate.rgb.dtype == plate.alpha.dtype == np.float32
    assert plate.rgb.flags.c_contiguous
    assert plate.alpha.flags.c_contiguous
    for k, name in enumerate("RGB"):
        assert np.array_equal(plate.rgb[..., k], channels[name].astype(np.float32))
    assert np.array_equal(plate.alpha, channels["A"].astype(np.float32))
    assert plate.data_window == (-3, 5, 17, 17)
    assert plate.display_window == (0, 0, 30, 25)
    assert plate.pixel_aspect == 1


def test_a_plate_without_alpha_has_none(tmp_path):
    channels = {name: ramp() for name in "RGB"}
    assert read_plate(make_exr(tmp_path / "a.exr", {"channels": channels})).alpha is None


def test_tiled_files_read_like_scanlines(tmp_path):
    channels = rgba(70, 100)
    tiled = read_plate(with_oiio(tmp_path / "t.exr", channels, tile=32))
    lines = read_plate(with_oiio(tmp_path / "s.exr", channels))
    assert np.array_equal(tiled.rgb, lines.rgb)
    assert np.array_equal(tiled.alpha, lines.alpha)


def test_rgb_is_taken_from_the_first_part_that_has_it(tmp_path):
    display = (0, 0, 20, 12)
    parts = [
        {"channels": {"Z": ramp(5, 6, kind=np.float32)}, "name": "depth", "display": display},
        {"channels": rgba(), "name": "beauty", "display": display},
        {"channels": rgba(12, 20, np.float32), "name": "spec", "display": display},
    ]
    plate = read_plate(make_exr(tmp_path / "a.exr", *parts))
    assert plate.rgb_part == 1
    assert np.array_equal(plate.rgb[..., 0], parts[1]["channels"]["R"].astype(np.float32))


# What must not change


def test_every_half_float_and_integer_comes_back_bit_for_bit(tmp_path):
    every_half = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    bits = np.random.default_rng(0).integers(0, 2**32, (256, 256), dtype=np.uint32)
    bits[0, :4] = [0x7F800001, 0xFFC12345, 0x00000001, 0x80000000]  # NaNs with a message, a denormal, minus zero
    channels = {name: ramp(256, 256) for name in "RGB"} | {
        "A": every_half,
        "Z": bits.view(np.float32),
        "object.id": bits[::-1].copy(),
        "diffuse.R": every_half[::-1].copy(),
    }
    path = make_exr(tmp_path / "a.exr", {"channels": channels})
    plate = read_plate(path)
    assert write_plate(tmp_path / "b.exr", plate, plate.rgb) == 0
    assert_same_bits(stored(tmp_path / "b.exr"), channels)


def test_the_plate_s_own_rgb_comes_back_bit_for_bit_with_nan_and_infinity(tmp_path):
    channels = rgba(256, 256)
    for name, values in zip("RGB", ([np.nan, 1], [np.inf, 0], [-np.inf, -0.0]), strict=True):
        channels[name][7, 5:7] = values
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": channels}))
    assert write_plate(tmp_path / "b.exr", plate, plate.rgb) == 0
    assert_same_bits(stored(tmp_path / "b.exr"), channels)


def test_new_rgb_is_what_is_written_and_nothing_else(tmp_path):
    channels = rgba() | {"N.x": ramp(seed=9, kind=np.float32)}
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": channels}))
    write_plate(tmp_path / "b.exr", plate, plate.rgb * 2)
    doubled = {name: channels[name] * np.float16(2) for name in "RGB"}
    assert_same_bits(stored(tmp_path / "b.exr"), channels | doubled)


EXACT_ATTRIBUTES = [
    ("owner", "string", b"someone"),
    ("comments", "string", "café ☃\n two lines".encode()),
    ("empty", "string", b""),
    ("software", "string", b"A Renderer 9"),
    ("nuke/version", "string", b"15.1"),
    ("capDate", "string", b"2002:06:23 16:00:00"),
    ("a/name/longer/than/thirty-one/letters/in/all", "string", b"x"),
    ("framesPerSecond", "rational", struct.pack("<iI", 24000, 1001)),
    ("timeCode", "timecode", struct.pack("<II", 0x01020304, 0x87654321)),
    ("keyCode", "keycode", struct.pack("<7i", 1, 2, 3, 4, 5, 4, 64)),
    ("chromaticities", "chromaticities", struct.pack("<8f", 0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)),
    ("worldToCamera", "m44f", struct.pack("<16f", *range(16))),
    ("worldToNDC", "m44f", struct.pack("<16f", *range(16))),
    ("m33", "m33f", struct.pack("<9f", *range(9))),
    ("m44d", "m44d", struct.pack("<16d", *(k / 3 for k in range(16)))),
    ("strings", "stringvector", struct.pack("<i1si2s", 1, b"a", 2, b"bc")),
    ("floats", "floatvector", struct.pack("<2f", 1, 2.5)),
    ("pair", "v2i", struct.pack("<2i", 1, -2)),
    ("triple", "v3d", struct.pack("<3d", 1 / 3, 2, 3)),
    ("whole", "int", struct.pack("<i", -7)),
    ("number", "double", struct.pack("<d", 1 / 3)),
    ("area", "box2f", struct.pack("<4f", 1, 2, 3, 4)),
    ("envmap", "envmap", b"\0"),
    ("theirs", "studio_type", bytes(range(7))),
    ("adoptedNeutral", "v2f", struct.pack("<2f", 0.31, 0.33)),
    ("pixelAspectRatio", "float", struct.pack("<f", 1.9)),
    ("screenWindowWidth", "float", struct.pack("<f", 1.5)),
    ("screenWindowCenter", "v2f", struct.pack("<2f", 0.1, 0.2)),
    ("cryptomatte/1234567/manifest", "string", b'{"a": 1}' * 9000),
]


def test_metadata_of_every_kind_comes_back_byte_for_byte(tmp_path):
    path = make_exr(tmp_path / "a.exr", {"channels": rgba(), "attributes": EXACT_ATTRIBUTES})
    plate = read_plate(path)
    assert plate.pixel_aspect == pytest.approx(1.9)
    write_plate(tmp_path / "b.exr", plate, plate.rgb)
    (after,) = read_headers(tmp_path / "b.exr")
    assert {name: (after[name].kind, after[name].value) for name, _, _ in EXACT_ATTRIBUTES} == {
        name: (kind, value) for name, kind, value in EXACT_ATTRIBUTES
    }
    assert set(after) == set(read_headers(path)[0]) | {OUR_NOTE}


def test_notes_are_added_and_no_date_is(tmp_path):
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba()}))
    write_plate(tmp_path / "b.exr", plate, plate.rgb, notes={"relightgan/look": "dusk"})
    (after,) = read_headers(tmp_path / "b.exr")
    assert after[OUR_NOTE].value.startswith(b"RelightGAN ")
    assert after["relightgan/look"].value == b"dusk"
    assert "capDate" not in after
    again = read_plate(tmp_path / "b.exr")
    write_plate(tmp_path / "c.exr", again, again.rgb)
    assert (tmp_path / "c.exr").read_bytes() == (tmp_path / "b.exr").read_bytes()


def test_a_preview_of_the_plate_before_is_not_passed_off_as_one_of_the_result(tmp_path):
    preview = ("preview", "preview", struct.pack("<II", 1, 1) + bytes(4))
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba(), "attributes": [preview]}))
    write_plate(tmp_path / "b.exr", plate, plate.rgb)
    assert "preview" not in read_headers(tmp_path / "b.exr")[0]


@pytest.mark.parametrize(
    ("origin", "display"),
    [
        ((0, 0), (0, 0, 20, 12)),
        ((-15, -9), (0, 0, 8, 6)),
        ((100, 50), (0, 0, 1920, 1080)),
        ((-40, -30), (0, 0, 10, 10)),
        ((5, 5), (-10, -20, 40, 50)),
    ],
)
def test_windows_come_back_larger_smaller_apart_and_below_0(origin, display, tmp_path):
    channels = rgba()
    path = make_exr(tmp_path / "a.exr", {"channels": channels, "origin": origin, "display": display})
    plate = read_plate(path)
    write_plate(tmp_path / "b.exr", plate, plate.rgb)
    again = read_plate(tmp_path / "b.exr")
    assert again.data_window == plate.data_window == (*origin, origin[0] + 20, origin[1] + 12)
    assert again.display_window == plate.display_window == display
    assert_same_bits(stored(tmp_path / "b.exr"), channels)


def test_all_parts_come_back_with_their_names_windows_types_and_bits(tmp_path):
    display = (0, 0, 40, 30)
    parts = [
        {"channels": {"Z": ramp(5, 6, kind=np.float32)}, "name": "depth", "display": display, "origin": (7, -3)},
        {"channels": rgba(), "name": "beauty", "display": display, "attributes": [("left", "string", b"as it was")]},
        {"channels": {"id": np.arange(240, dtype=np.uint32).reshape(12, 20)}, "name": "", "display": display},
        {"channels": rgba(9, 9, np.float32), "name": "spec", "display": display},
    ]
    plate = read_plate(make_exr(tmp_path / "a.exr", *parts))
    write_plate(tmp_path / "b.exr", plate, np.zeros_like(plate.rgb))
    after = read_headers(tmp_path / "b.exr")
    assert [header["name"].value.decode() for header in after] == [part["name"] for part in parts]
    assert after[1]["left"].value == b"as it was"
    assert OUR_NOTE in after[1]
    assert OUR_NOTE not in after[0]
    for index, part in enumerate(parts):
        wanted = dict(part["channels"])
        if index == 1:
            wanted |= {name: np.zeros((12, 20), np.float16) for name in "RGB"}
        assert_same_bits(stored(tmp_path / "b.exr", index), wanted)
    assert read_plate(tmp_path / "b.exr").parts[0].data_window == (7, -3, 13, 2)


def test_line_order_and_tiles_are_storage_and_become_scanlines_from_the_top(tmp_path):
    channels = rgba(70, 100)
    upward = make_exr(tmp_path / "a.exr", {"channels": channels, "line_order": 1})
    tiled = with_oiio(tmp_path / "t.exr", channels, tile=32)
    for path in (upward, tiled):
        plate = read_plate(path)
        write_plate(tmp_path / "b.exr", plate, plate.rgb)
        assert_same_bits(stored(tmp_path / "b.exr"), channels)
        (after,) = read_headers(tmp_path / "b.exr")
        assert after["lineOrder"].value == b"\0"
        assert "tiles" not in after


@pytest.mark.parametrize("compression", ["none", "rle", "zips", "zip", "piz", "pxr24"])
def test_lossless_compressions_are_kept(compression, tmp_path):
    channels = rgba(40, 50)
    plate = read_plate(with_oiio(tmp_path / "a.exr", channels, compression))
    write_plate(tmp_path / "b.exr", plate, plate.rgb)
    assert read_compression(read_headers(tmp_path / "b.exr")[0]) == compression
    assert_same_bits(stored(tmp_path / "b.exr"), channels)


@pytest.mark.parametrize(
    ("compression", "z"), [("dwaa", "half"), ("dwab", "half"), ("b44", "half"), ("b44a", "half"), ("pxr24", "float")]
)
def test_lossy_compressions_become_zip_so_that_what_passes_through_stays_as_it_was(compression, z, tmp_path):
    channels = {name: ramp(40, 50, seed, np.float32) for seed, name in enumerate(["R", "G", "B", "A", "diffuse.R"])}
    path = with_oiio(tmp_path / "a.exr", channels, compression, formats=["half"] * 4 + [z])
    before = stored(path)
    plate = read_plate(path)
    write_plate(tmp_path / "b.exr", plate, plate.rgb)
    assert read_compression(read_headers(tmp_path / "b.exr")[0]) == "zip"
    assert_same_bits(stored(tmp_path / "b.exr"), before)


# What is added, held or counted


def test_no_kind_of_file_gets_the_time_of_writing(tmp_path):
    plate = Plate(tmp_path, np.full((4, 5, 3), 0.5, np.float32), None, (0, 0, 5, 4), (0, 0, 5, 4))
    for suffix in ("exr", "tif", "png", "jpg"):
        write_plate(tmp_path / f"a.{suffix}", plate, plate.rgb)
        spec = OpenImageIO.ImageInput.open(str(tmp_path / f"a.{suffix}")).spec()
        assert spec.get_string_attribute("DateTime") == ""


def test_values_beyond_16_bits_are_held_and_counted_but_not_nan_infinity_or_32_bits(tmp_path):
    plate = read_plate(make_exr(tmp_path / "half.exr", {"channels": rgba()}))
    rgb = plate.rgb.copy()
    rgb[0, :6, 0] = [1e6, -1e6, 65504, 65519, np.nan, np.inf]
    assert write_plate(tmp_path / "b.exr", plate, rgb) == 3
    got = read_plate(tmp_path / "b.exr").rgb[0, :6, 0]
    assert got == pytest.approx([65504, -65504, 65504, 65504, np.nan, np.inf], nan_ok=True)
    plate = read_plate(make_exr(tmp_path / "float.exr", {"channels": rgba(kind=np.float32)}))
    assert write_plate(tmp_path / "c.exr", plate, rgb) == 0
    assert np.array_equal(read_plate(tmp_path / "c.exr").rgb, rgb, equal_nan=True)


def test_extra_channels_are_added_as_floats_or_put_in_place_of_their_namesakes(tmp_path):
    channels = rgba() | {"gain.R": ramp(seed=8)}
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": channels}))
    added = {"gain.R": ramp(seed=10, kind=np.float32), "a.first": ramp(seed=11, kind=np.float32)}
    write_plate(tmp_path / "b.exr", plate, plate.rgb, added)
    assert_same_bits(stored(tmp_path / "b.exr"), channels | added)
    assert plate.parts[0].rest_names == ("A", "gain.R")


def test_arrays_of_another_size_are_refused(tmp_path):
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba()}))
    with pytest.raises(PlateError, match="data window"):
        write_plate(tmp_path / "b.exr", plate, plate.rgb[1:])
    with pytest.raises(PlateError, match="gain"):
        write_plate(tmp_path / "b.exr", plate, plate.rgb, {"gain": plate.alpha[1:]})
    with pytest.raises(PlateError, match="R are rgb"):
        write_plate(tmp_path / "b.exr", plate, plate.rgb, {"R": plate.alpha})
    assert not (tmp_path / "b.exr").exists()


def test_a_plate_made_from_an_array_is_written_as_half(tmp_path):
    rgb = np.random.default_rng(0).random((6, 8, 3)).astype(np.float32)
    for alpha, names in ((None, "BGR"), (rgb[..., 0], "ABGR")):
        plate = Plate(tmp_path, rgb, alpha, (-2, 0, 6, 6), (0, 0, 8, 6))
        write_plate(tmp_path / "a.exr", plate, rgb)
        channels = read_channels(read_headers(tmp_path / "a.exr")[0])
        assert [(c.name, c.pixel_type) for c in channels] == [(name, "half") for name in names]
        again = read_plate(tmp_path / "a.exr")
        assert again.rgb == pytest.approx(rgb, rel=1e-3)
        assert again.data_window == (-2, 0, 6, 6)


# What is refused


@pytest.mark.parametrize("kind", ["none", "zip", "piz", "dwaa", "tiled"])
def test_a_file_cut_short_anywhere_is_refused(kind, tmp_path):
    path = with_oiio(tmp_path / "a.exr", rgba(300, 60), "zip" if kind == "tiled" else kind, tile=32 * (kind == "tiled"))
    data = path.read_bytes()
    for length in (3, 30, 200, 400, len(data) // 2, len(data) - 200, len(data) - 1):
        (tmp_path / "cut.exr").write_bytes(data[:length])
        with pytest.raises(PlateError, match=r"cut\.exr (is damaged|can't be read)"):
            read_plate(tmp_path / "cut.exr")


def test_damaged_pixels_are_refused(tmp_path):
    path = with_oiio(tmp_path / "a.exr", rgba(300, 60))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(PlateError, match=r"a\.exr is damaged or cut short"):
        read_plate(path)


def test_what_is_no_picture_is_refused_by_name(tmp_path):
    (tmp_path / "fake.exr").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.exr").mkdir()
    for name, told in [
        ("fake.exr", "can't be read"),
        ("empty.jpg", "can't be read"),
        ("folder.exr", "can't be read: it isn't a file"),
        ("none.exr", "doesn't exist"),
    ]:
        with pytest.raises(PlateError, match=f"{name} {told}"):
            read_plate(tmp_path / name)


def test_a_plate_without_rgb_is_refused_with_the_channels_it_has(tmp_path):
    path = make_exr(tmp_path / "a.exr", {"channels": {"Z": ramp(), "diffuse.R": ramp(), "A": ramp()}})
    with pytest.raises(PlateError, match=r"no channels R, G and B; it has A, Z, diffuse\.R"):
        read_plate(path)


def test_subsampled_channels_are_refused(tmp_path):
    path = make_exr(tmp_path / "a.exr", {"channels": {name: ramp(6, 10) for name in "RGB"}, "sampling": 2})
    with pytest.raises(PlateError, match=r"a\.exr (stores B, G, R at a lower resolution|can't be read)"):
        read_plate(path)


def test_rgb_in_whole_numbers_is_refused_rather_than_read_as_bits(tmp_path):
    channels = {**rgba(), "G": np.arange(240, dtype=np.uint32).reshape(12, 20)}
    with pytest.raises(PlateError, match=r"a\.exr has whole numbers in G\. Render them as half or float\."):
        read_plate(make_exr(tmp_path / "a.exr", {"channels": channels}))


def test_deep_images_are_refused(tmp_path):
    spec = OpenImageIO.ImageSpec(4, 4, 4, "half")
    spec.deep = True
    deep = OpenImageIO.DeepData()
    deep.init(spec)
    output = OpenImageIO.ImageOutput.create(str(tmp_path / "a.exr"))
    assert output.open(str(tmp_path / "a.exr"), spec)
    assert output.write_deep_image(deep)
    assert output.close()
    with pytest.raises(PlateError, match="is a deep image"):
        read_plate(tmp_path / "a.exr")


def test_stereo_views_are_refused_rather_than_one_of_them_relit(tmp_path):
    parts = [
        {"channels": rgba(), "name": view, "attributes": [("view", "string", view.encode())]}
        for view in ("left", "right")
    ]
    with pytest.raises(PlateError, match="holds the views left, right"):
        read_plate(make_exr(tmp_path / "a.exr", *parts))
    views = ("multiView", "stringvector", struct.pack("<i4si5s", 4, b"left", 5, b"right"))
    both = rgba() | {f"right.{name}": ramp() for name in "RGB"}
    with pytest.raises(PlateError, match="holds the views left, right"):
        read_plate(make_exr(tmp_path / "b.exr", {"channels": both, "attributes": [views]}))
    assert read_plate(make_exr(tmp_path / "c.exr", {"channels": rgba(), "attributes": [views]})).rgb_part == 0


# Whole or not at all


@pytest.mark.parametrize("name", ["b.exr", "b.png"])
def test_a_folder_that_has_gone_is_not_made_again(tmp_path, name):
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba()}))
    with pytest.raises(PlateError, match=rf"can't be written: the folder {tmp_path / 'gone'} is gone"):
        write_plate(tmp_path / "gone" / name, plate, plate.rgb)
    assert [path.name for path in tmp_path.iterdir()] == ["a.exr"]


def test_nothing_but_the_file_is_left_in_its_folder(tmp_path):
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba()}))
    write_plate(tmp_path / "b.exr", plate, plate.rgb)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.exr", "b.exr"]


def test_a_plate_may_replace_its_own_file(tmp_path):
    path = make_exr(tmp_path / "a.exr", {"channels": rgba()})
    plate = read_plate(path)
    write_plate(path, plate, plate.rgb + 1)
    assert read_plate(path).rgb == pytest.approx(plate.rgb + 1, rel=1e-2)


def test_a_file_in_the_place_of_a_folder_is_an_error_of_one_line(tmp_path):
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba()}))
    for target in (tmp_path / "a.exr" / "b.exr", tmp_path / "a.exr" / "c" / "b.png"):
        with pytest.raises(PlateError, match=r"b\.(exr|png) can't be written: [A-Z].*") as caught:
            write_plate(target, plate, plate.rgb)
        assert "\n" not in str(caught.value)


def test_a_name_that_is_no_utf8_is_named(tmp_path):
    plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba()}))
    latin = tmp_path / os.fsdecode(b"\xe9.exr")
    latin.write_bytes((tmp_path / "a.exr").read_bytes())
    fix = r"\\xe9\.(exr|png) isn't a name in UTF-8\. Rename it"
    with pytest.raises(PlateError, match=fix):
        read_plate(latin)
    for target in (latin, latin.with_suffix(".png")):
        with pytest.raises(PlateError, match=fix):
            write_plate(target, plate, plate.rgb)


def refusal(path, plate):
    try:
        write_plate(path, plate, plate.rgb)
    except PlateError as error:
        return str(error)
    return None


@pytest.mark.process
def test_a_full_disk_never_leaves_a_partial_file_or_loses_the_one_before(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba(90, 130)}))
        write_plate(tmp_path / "whole.exr", plate, plate.rgb)
        need = (tmp_path / "whole.exr").stat().st_size
        (small / "b.exr").write_bytes(b"the one before")
        outcomes = []
        # From no room at all, by pages, to just enough: the last pages are where OpenEXR doesn't notice by itself.
        for pages in [0, 1, *range(need // 4096 - 2, need // 4096 + 3)]:
            (small / "filler").write_bytes(bytes((100 - 1 - pages) * 4096))
            error = refusal(small / "b.exr", plate)
            outcomes.append("refused" if error else "written")
            if error:
                assert "b.exr can't be written" in error
                assert "MB are free" in error
                assert (small / "b.exr").read_bytes() == b"the one before"
            else:
                assert (small / "b.exr").read_bytes() == (tmp_path / "whole.exr").read_bytes()
                (small / "b.exr").write_bytes(b"the one before")
            assert sorted(path.name for path in small.iterdir()) == ["b.exr", "filler"]
            (small / "filler").unlink()
        assert outcomes[:3] == ["refused"] * 3
        assert outcomes[-1] == "written"
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.process
def test_a_full_disk_is_noticed_for_png_and_jpeg_too_and_does_not_end_the_process(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        noise = np.random.default_rng(0).random((150, 150, 3)).astype(np.float32)
        plate = Plate(tmp_path / "x", noise, None, (0, 0, 150, 150), (0, 0, 150, 150))
        for name in ("b.png", "b.jpg", "b.tif"):
            (small / name).write_bytes(b"the one before")
            (small / "filler").write_bytes(bytes(32 * 1024))
            assert f"{name} can't be written: the disk is full (No space left on device)" in refusal(
                small / name, plate
            )
            assert (small / name).read_bytes() == b"the one before"
            assert sorted(path.name for path in small.iterdir()) == sorted([name, "filler"])
            (small / name).unlink()
    finally:
        subprocess.run(["umount", small], check=True)


# Other kinds of file


@pytest.mark.parametrize(
    ("name", "kind", "channels", "step"),
    [
        ("a.png", "uint8", 4, 0),
        ("a.png", "uint16", 3, 0),
        ("a.tif", "uint16", 4, 0),
        ("a.tif", "float", 3, 0),
        ("a.jpg", "uint8", 3, 0.05),
    ],
)
def test_other_files_come_back_in_their_own_depth_and_as_exr(name, kind, channels, step, tmp_path):
    y, x = np.mgrid[0:30, 0:40]
    pixels = np.stack([x / 50, y / 40, (x + y) / 90, np.ones_like(x)], axis=-1)[..., :channels]
    plate = read_plate(with_oiio_pixels(tmp_path / name, pixels, kind))
    assert (plate.alpha is not None) == (channels == 4)
    assert write_plate(tmp_path / f"out_{name}", plate, plate.rgb) == 0
    again = read_plate(tmp_path / f"out_{name}")
    assert np.abs(again.rgb - plate.rgb).max() <= step
    assert OpenImageIO.ImageInput.open(str(tmp_path / f"out_{name}")).spec().format == kind
    write_plate(tmp_path / "out.exr", plate, plate.rgb)
    as_exr = read_plate(tmp_path / "out.exr")
    assert np.array_equal(as_exr.rgb, plate.rgb)
    assert ("capDate" in read_headers(tmp_path / "out.exr")[0]) == (name == "a.tif")  # OpenImageIO dated the source
    if channels == 4:
        assert np.array_equal(as_exr.alpha, plate.alpha)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_other_files_cut_short_are_refused(name, tmp_path, capfd):
    noise = np.random.default_rng(0).random((60, 80, 3))
    data = with_oiio_pixels(tmp_path / name, noise, "uint8").read_bytes()
    for share in (0.1, 0.5, 0.95):
        (tmp_path / f"cut_{name}").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(PlateError, match=r"cut_a\.\w+ (is damaged|can't be read)"):
            read_plate(tmp_path / f"cut_{name}")
    capfd.readouterr()  # libpng speaks for itself


def test_integers_hold_0_to_1_and_count_the_rest(tmp_path):
    plate = read_plate(with_oiio_pixels(tmp_path / "a.png", np.full((4, 5, 3), 0.5), "uint8"))
    rgb = plate.rgb.copy()
    rgb[0, :, 0] = [-0.5, 1.5, np.nan, np.inf, 1]
    assert write_plate(tmp_path / "b.png", plate, rgb) == 4
    assert read_plate(tmp_path / "b.png").rgb[0, :, 0].tolist() == [0, 1, 0, 1, 1]


def test_what_another_kind_of_file_can_t_hold_is_refused_not_dropped(tmp_path):
    layered = read_plate(make_exr(tmp_path / "a.exr", {"channels": rgba() | {"Z": ramp()}}))
    windowed = read_plate(make_exr(tmp_path / "b.exr", {"channels": rgba(), "display": (0, 0, 50, 50)}))
    plain = read_plate(make_exr(tmp_path / "c.exr", {"channels": rgba()}))
    for name, plate, told in [
        ("o.png", layered, "can't hold the channels Z"),
        ("o.tif", windowed, "data window"),
        ("o.jpg", plain, "channels A"),
        ("o.bmp", plain, "isn't written here"),
        ("o", plain, "without suffix"),
    ]:
        with pytest.raises(PlateError, match=told):
            write_plate(tmp_path / name, plate, plate.rgb)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.exr", "b.exr", "c.exr"]


# Masks


@pytest.fixture
def windowed_plate(tmp_path):
    return read_plate(
        make_exr(tmp_path / "plate.exr", {"channels": rgba(), "origin": (-4, 2), "display": (0, 0, 30, 25)})
    )


def test_a_mask_lies_where_the_plate_s_pixels_are_and_is_0_beyond_its_own(windowed_plate, tmp_path):
    mask = np.float32(np.arange(25 * 30).reshape(25, 30) + 1)
    full = read_mask(make_exr(tmp_path / "m.exr", {"channels": {"A": mask}}), windowed_plate)
    assert full.shape == windowed_plate.rgb.shape[:2]
    assert (full[:, :4] == 0).all()
    assert np.array_equal(full[:, 4:], mask[2:14, :16])
    small = make_exr(
        tmp_path / "s.exr", {"channels": {"A": mask[5:8, 6:9]}, "origin": (6, 5), "display": (0, 0, 30, 25)}
    )
    placed = read_mask(small, windowed_plate)
    assert np.array_equal(placed[3:6, 10:13], mask[5:8, 6:9])
    assert np.count_nonzero(placed) == 9
    away = make_exr(
        tmp_path / "w.exr", {"channels": {"A": mask[:3, :3]}, "origin": (90, 90), "display": (0, 0, 30, 25)}
    )
    assert not read_mask(away, windowed_plate).any()


def test_a_mask_of_another_size_is_refused_with_both_sizes(windowed_plate, tmp_path):
    path = make_exr(tmp_path / "m.exr", {"channels": {"A": ramp()}})
    with pytest.raises(PlateError, match=r"m\.exr is 20x12, its plate .*plate\.exr is 30x25"):
        read_mask(path, windowed_plate)


def test_a_mask_is_the_channel_named_or_else_alpha_or_the_only_one_or_red(windowed_plate, tmp_path):
    def channel(value):
        return np.full((25, 30), value, np.float32)

    def first(channels, name=None):
        return read_mask(make_exr(tmp_path / "m.exr", {"channels": channels}), windowed_plate, name)[0, 10]

    layered = {"R": channel(1), "A": channel(2), "matte.R": channel(3), "Y": channel(4)}
    assert first(layered) == 2
    assert first(layered, "matte.R") == 3
    assert first({"R": channel(1), "Y": channel(4)}) == 4
    assert first({"matte": channel(5)}) == 5
    assert first({name: channel(k) for k, name in enumerate("BGR")}) == 2
    with pytest.raises(PlateError, match=r"no channel Q; it has R, Y, A, matte\.R"):
        first(layered, "Q")
    with pytest.raises(PlateError, match="no channel A, Y or R; it has U, V"):
        first({"U": channel(1), "V": channel(1)})


def test_nan_in_a_mask_is_0_and_grey_pictures_are_masks(windowed_plate, tmp_path):
    mask = np.full((25, 30), 0.5, np.float32)
    mask[2, 0] = np.nan
    got = read_mask(make_exr(tmp_path / "m.exr", {"channels": {"A": mask}}), windowed_plate)
    assert got[0, 4:7].tolist() == [0, 0.5, 0.5]
    grey = with_oiio_pixels(tmp_path / "m.png", np.full((25, 30, 1), 0.2), "uint8")
    assert read_mask(grey, windowed_plate)[0, 10] == pytest.approx(51 / 255)


def test_a_damaged_mask_is_refused(windowed_plate, tmp_path):
    path = with_oiio(tmp_path / "m.exr", {"A": ramp(25, 30)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PlateError, match=r"m\.exr is damaged or cut short"):
        read_mask(path, windowed_plate)


def test_every_pair_of_channel_types_can_stand_side_by_side(tmp_path):
    for kinds in itertools.product((np.float16, np.float32), repeat=3):
        channels = {name: ramp(seed=k, kind=kind) for k, (name, kind) in enumerate(zip("RGB", kinds, strict=True))}
        plate = read_plate(make_exr(tmp_path / "a.exr", {"channels": channels}))
        assert write_plate(tmp_path / "b.exr", plate, plate.rgb) == 0
        assert_same_bits(stored(tmp_path / "b.exr"), channels)
