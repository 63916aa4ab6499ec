"""Photo files of every kind, whole and broken."""

import io

import cv2
import numpy as np
import OpenImageIO
import pytest
from PIL import Image, ImageOps
from tiny_profiles import GAMMA_22, SRGB_XYZ, profile

from relightgan.core.coding import REC709_XY
from relightgan.core.colour import linear_to_model, srgb_to_linear
from relightgan.core.errors import PhotoError
from relightgan.training.photos import files as photo_files
from relightgan.training.photos.files import decode_photo, find_photo_files, fit_inside, make_upright, to_float
from relightgan.training.photos.profiles import ADOBE_RGB_XY, primaries_matrix


def picture(height=96, width=128, seed=0):
    """(H, W, 3) uint8: smooth coloured blobs, which every codec keeps."""
    rng = np.random.default_rng(seed)
    blobs = rng.integers(20, 236, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)


def write_exr(path, rgb, channels=("R", "G", "B"), **attributes):
    spec = OpenImageIO.ImageSpec(rgb.shape[1], rgb.shape[0], rgb.shape[2], "half")
    spec.channelnames = channels
    for name, (kind, value) in attributes.items():
        spec.attribute(name, kind, value)
    out = OpenImageIO.ImageOutput.create(str(path))
    assert out.open(str(path), spec)
    assert out.write_image(np.ascontiguousarray(rgb, np.float32))
    out.close()
    return path


def saved(path, image, **options):
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def difference(a, b):
    return float(np.abs(to_float(a) - to_float(b)).mean())


def test_folders_are_searched_to_the_bottom_and_hidden_files_are_passed_by(tmp_path):
    deep = tmp_path / "day 1" / "card é"
    deep.mkdir(parents=True)
    (tmp_path / ".trash").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    for name in (
        "b.JPG",
        "a.jpg",
        "._a.jpg",
        ".hidden.png",
        "notes.txt",
        "clip.MOV",
        "x.nef",
        ".trash/c.jpg",
        "__MACOSX/d.jpg",
    ):
        (tmp_path / name).write_bytes(b"x")
    (deep / "e.tiff").write_bytes(b"x")
    found = find_photo_files(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found.photos] == [
        "a.jpg",
        "b.JPG",
        "clip.MOV",
        "day 1/card é/e.tiff",
        "x.nef",
    ]
    assert found.others == {".txt": 1}


def test_a_link_back_up_does_not_go_round_for_ever(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"x")
    (tmp_path / "in" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert [path.name for path in find_photo_files(tmp_path).photos] == ["a.jpg"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PhotoError, match="nowhere is not a folder"):
        find_photo_files(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.tif", "p.webp", "p.bmp", "png.jpg"])
def test_eight_bit_formats_give_the_same_picture(tmp_path, name):
    kind = "PNG" if name == "png.jpg" else None
    got = decode_photo(saved(tmp_path / name, picture(), format=kind, quality=95), 4096)
    assert got.rgb.dtype == np.uint8
    assert (got.width, got.height, got.is_hdr, got.profile) == (128, 96, False, "sRGB (assumed)")
    assert difference(got.rgb, picture()) < 0.01


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_odd_pixel_kinds_become_rgb(tmp_path, mode, suffix):
    if (mode, suffix) in {("LA", ".jpg"), ("RGBA", ".jpg"), ("P", ".jpg"), ("CMYK", ".png")}:
        pytest.skip("the format has no such pixels")
    image = Image.fromarray(picture()).convert(mode)
    got = decode_photo(saved(tmp_path / f"p{suffix}", image), 4096)
    assert got.rgb.shape == (96, 128, 3)
    assert difference(got.rgb, np.asarray(image.convert("RGB"))) < 0.02


def test_transparent_parts_keep_the_colours_stored_there(tmp_path):
    rgba = np.dstack([picture(), np.full((96, 128), 40, np.uint8)])
    assert difference(decode_photo(saved(tmp_path / "p.png", rgba), 4096).rgb, picture()) == 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    ramp = np.repeat(np.arange(20000, 20128, dtype=np.uint16)[None, :, None], 96, 0).repeat(3, 2)
    assert cv2.imwrite(str(tmp_path / f"p{suffix}"), ramp)
    got = decode_photo(tmp_path / f"p{suffix}", 4096)
    assert got.rgb.dtype == np.float32
    assert np.array_equal(np.round(got.rgb * 65535), ramp)


def test_of_an_animated_png_the_first_picture_counts(tmp_path):
    path = saved(tmp_path / "p.png", picture(), save_all=True, append_images=[Image.fromarray(255 - picture())])
    assert difference(decode_photo(path, 4096).rgb, picture()) == 0


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"p{suffix}", picture(), exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    got = decode_photo(path, 4096)
    assert (got.height, got.width) == upright.shape[:2] == got.rgb.shape[:2]
    assert difference(got.rgb, upright) < 0.003


def test_an_unknown_orientation_changes_nothing():
    assert np.array_equal(make_upright(picture(), 99), picture())


def test_time_and_lens_come_from_the_exif(tmp_path):
    exif = Image.Exif()
    camera = exif.get_ifd(0x8769)
    camera[0x9003], camera[0x9291], camera[0xA405] = "2024:05:01 09:08:07", "25", 28
    got = decode_photo(saved(tmp_path / "p.jpg", picture(), exif=exif), 64)
    assert (got.taken, got.focal_35mm) == ("2024-05-01T09:08:07.25", 28.0)


def test_time_and_lens_come_from_a_tiff_too(tmp_path):
    spec = OpenImageIO.ImageSpec(128, 96, 3, "uint8")
    spec.attribute("Exif:DateTimeOriginal", "2024:05:01 09:08:07")
    spec.attribute("Exif:FocalLengthIn35mmFilm", 28)
    out = OpenImageIO.ImageOutput.create(str(tmp_path / "p.tif"))
    assert out.open(str(tmp_path / "p.tif"), spec)
    assert out.write_image(picture())
    out.close()
    got = decode_photo(tmp_path / "p.tif", 64)
    assert (got.taken, got.focal_35mm) == ("2024-05-01T09:08:07", 28.0)


@pytest.mark.parametrize("time", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""])
def test_a_clock_that_was_never_set_gives_no_time(tmp_path, time):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = time
    assert decode_photo(saved(tmp_path / "p.jpg", picture(), exif=exif), 64).taken is None


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_lose_the_photo(tmp_path):
    path = saved(tmp_path / "p.jpg", picture(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)
    assert decode_photo(path, 4096).rgb.shape == (96, 128, 3)


def profile_with_red_and_green_exchanged():
    """A profile whose red is sRGB's green and the other way round."""
    red, green, blue = SRGB_XYZ
    return profile("Exchanged", (green, red, blue), GAMMA_22)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_an_embedded_profile_is_honoured(tmp_path, suffix):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    got = decode_photo(saved(tmp_path / f"p{suffix}", red, icc_profile=profile_with_red_and_green_exchanged()), 4096)
    assert got.profile == "Exchanged (embedded)"
    assert np.abs(got.rgb.astype(int) - (0, 255, 0)).max() <= 6


def test_a_profile_for_other_pixels_is_said_to_be_unused(tmp_path):
    got = decode_photo(
        saved(tmp_path / "p.tif", picture()[..., 0], icc_profile=profile_with_red_and_green_exchanged()), 4096
    )
    assert got.profile == "grey sRGB (assumed): the profile 'Exchanged' is for RGB"
    broken = decode_photo(saved(tmp_path / "q.jpg", picture(), icc_profile=b"no profile at all"), 4096)
    assert broken.profile == "sRGB (assumed): the embedded profile is damaged"


def test_adobe_rgb_is_recognised_by_its_exif_alone(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    grey = np.full((32, 32, 3), 128, np.uint8)
    got = decode_photo(saved(tmp_path / "p.jpg", grey, exif=exif), 4096)
    assert got.profile == "Adobe RGB (EXIF)"
    # 128 stands for (128/255)^2.199 = 0.2198 of light, which sRGB writes as 128.6; neutral stays neutral.
    assert np.abs(got.rgb.astype(int) - 129).max() <= 1


def test_primaries_keep_white_and_move_adobe_green_out_of_rec709():
    matrix = primaries_matrix(ADOBE_RGB_XY)
    assert np.allclose(matrix @ np.ones(3), 1, atol=1e-5)
    assert (matrix @ [0, 1, 0])[0] < -0.3
    assert np.allclose(primaries_matrix(REC709_XY), np.eye(3), atol=1e-5)


def test_scene_linear_files_keep_their_light_above_white(tmp_path):
    linear = np.linspace(-0.1, 40, 64 * 64 * 3, dtype=np.float32).reshape(64, 64, 3)
    got = decode_photo(write_exr(tmp_path / "p.exr", linear), 4096)
    stored = linear.astype(np.float16).astype(np.float32)
    assert got.is_hdr
    assert got.profile == "linear Rec.709 (assumed)"
    assert np.allclose(got.rgb, linear_to_model(stored, "srgb_log"), atol=1e-5)
    assert got.rgb.max() > 1


def test_scene_linear_files_in_other_primaries_are_converted(tmp_path):
    aces = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)  # ACES AP1, S-2014-004
    rgb = np.full((8, 8, 3), 0.18, np.float32)
    got = decode_photo(write_exr(tmp_path / "p.exr", rgb, chromaticities=("float[8]", aces)), 4096)
    assert got.profile == "linear, other primaries (embedded)"
    assert np.allclose(srgb_to_linear(got.rgb), 0.18, atol=2e-4)


def test_a_nan_does_not_leave_its_pixel(tmp_path):
    rgb = np.full((32, 32, 3), 0.5, np.float32)
    rgb[3, 4], rgb[5, 6] = np.nan, np.inf
    got = decode_photo(write_exr(tmp_path / "p.exr", rgb), 4096).rgb
    assert np.isfinite(got).all()
    assert (np.delete(got.reshape(-1, 3), [3 * 32 + 4, 5 * 32 + 6], 0) == got[0, 0]).all()


def test_an_exr_without_rgb_lists_what_it_has(tmp_path):
    with pytest.raises(PhotoError, match=r"p\.exr has no R, G and B; its channels are Z, id"):
        decode_photo(write_exr(tmp_path / "p.exr", np.ones((8, 8, 2), np.float32), channels=("Z", "id")), 64)


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.tif", "p.webp", "p.exr"])
def test_truncated_files_are_refused_by_name(tmp_path, name, capfd):
    path = tmp_path / name
    if name == "p.exr":
        write_exr(path, picture() / 255)
    else:
        saved(path, np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(PhotoError, match=name):
        decode_photo(path, 64)


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.tif", "p.exr", "p.hdr", "p.webp"])
@pytest.mark.parametrize("content", [b"", b"these are only words\n" * 20, b"\xff\xd8\xff\xe0", bytes(100)])
def test_files_that_are_no_pictures_are_refused_by_name(tmp_path, name, content, capfd):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PhotoError, match=name):
        decode_photo(tmp_path / name, 64)


@pytest.mark.parametrize("name", ["p.jpg", "p.png"])
def test_a_size_beyond_any_photo_is_refused_from_the_header(tmp_path, monkeypatch, name):
    monkeypatch.setattr(photo_files, "MAX_PIXELS", 96 * 128 - 1)
    with pytest.raises(
        PhotoError, match=rf"{name} (can't be decoded|is damaged or cut short): its header says 128x96 pixels"
    ):
        decode_photo(saved(tmp_path / name, picture()), 64)


def test_of_a_raw_file_nobody_can_develop_we_do_not_take_the_thumbnail(tmp_path):
    saved(tmp_path / "p.tif", picture())
    (tmp_path / "p.tif").rename(tmp_path / "p.dng")
    with pytest.raises(PhotoError, match=r"p\.dng can't be developed: .*[Uu]nsupported"):
        decode_photo(tmp_path / "p.dng", 64)


def test_a_large_jpeg_is_scaled_as_a_picture_not_as_a_grid(tmp_path):
    large = picture(1200, 1600)
    got = decode_photo(saved(tmp_path / "p.jpg", large, quality=95), 200)
    assert got.rgb.shape == (150, 200, 3)
    assert (got.width, got.height) == (1600, 1200)
    assert difference(got.rgb, cv2.resize(large, (200, 150), interpolation=cv2.INTER_AREA)) < 0.006


def test_fitting_keeps_small_pictures_and_the_shape_of_thin_ones():
    assert fit_inside(picture(), 128).shape == (96, 128, 3)
    assert fit_inside(picture(4, 1000), 100).shape == (1, 100, 3)
    assert fit_inside(picture(300, 200)[..., :1], 30).shape == (30, 20, 1)


def test_a_jpeg_of_many_pictures_gives_the_first(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(255 - picture())])
    (tmp_path / "p.jpg").write_bytes(buffer.getvalue())
    assert difference(decode_photo(tmp_path / "p.jpg", 4096).rgb, picture()) < 0.02
