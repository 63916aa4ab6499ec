"""HEIC, HEIF and AVIF: recognised by what they hold, upright once, with their colours."""

import sys

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from tiny_profiles import DISPLAY_P3_XYZ, profile

from relightgan.core.coding import DISPLAY_P3_XY
from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.core.errors import PhotoError
from relightgan.training.photos.files import decode_photo, make_upright
from relightgan.training.photos.heif import brand_of
from relightgan.training.photos.index import PhotoSettings, index_photos
from relightgan.training.photos.profiles import primaries_matrix

SIZE = (96, 128)
COLOURS = np.array([[[200, 60, 50], [60, 180, 70], [50, 80, 200], [180, 180, 180]]], np.uint8)  # Rec.709, all in P3


def corners():
    """(96, 128, 3) uint8: another colour at each corner, so that any turn shows."""
    return cv2.resize(COLOURS.reshape(2, 2, 3), SIZE[::-1], interpolation=cv2.INTER_NEAREST)


def exif(orientation=1):
    notes = Image.Exif()
    notes[0x0112] = orientation
    notes.get_ifd(0x8769).update({0x9003: "2024:05:01 09:08:07", 0x829A: 0.01, 0x829D: 4.0, 0x8827: 100})
    return notes.tobytes()


def write_heic(path, rgb, orientation=1, **options):
    """As phones do: an EXIF orientation above 1 is written once more as a property of the picture."""
    mode = "RGB;16" if rgb.dtype == np.uint16 else "RGB"
    file = pillow_heif.from_bytes(mode, rgb.shape[1::-1], rgb.tobytes())
    file.info["exif"] = exif(orientation)
    file.save(path, quality=95, chroma=444, **options)
    return path


def write_avif(path, rgb, orientation=1):
    Image.fromarray(rgb).save(path, "AVIF", quality=95, subsampling="4:4:4", exif=exif(orientation))
    return path


WRITERS = {"heic": write_heic, "avif": write_avif}


def middles(rgb):
    """(4, 3): the colours of the four quarters, left to right and top to bottom."""
    height, width = rgb.shape[:2]
    return np.array([rgb[row, column] for row in (height // 4, -height // 4) for column in (width // 4, -width // 4)])


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["p.heic", "p.jpg", "p.png"])
def test_it_is_recognised_by_what_it_holds(tmp_path, kind, name):
    found = decode_photo(WRITERS[kind](tmp_path / name, corners()), 4096)
    assert np.abs(middles(found.rgb).astype(int) - COLOURS[0]).max() <= 3
    assert (found.width, found.height, found.is_hdr, found.profile) == (128, 96, False, "sRGB (embedded)")
    assert found.taken == "2024-05-01T09:08:07"
    assert found.exposure == pytest.approx(np.log2(0.01 / 16), abs=0.001)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_once(tmp_path, kind, orientation):
    path = WRITERS[kind](tmp_path / "p.heic", corners(), orientation)
    assert orientation == 1 or any(word in path.read_bytes() for word in (b"irot", b"imir"))
    found = decode_photo(path, 4096)
    wanted = make_upright(corners(), orientation)
    assert found.rgb.shape == wanted.shape
    assert (found.width, found.height) == wanted.shape[1::-1]
    assert np.abs(middles(found.rgb).astype(int) - middles(wanted)).max() <= 3


def p3_of(rgb):
    """sRGB code values as Display P3 has them: another encoding of the same colours."""
    linear = srgb_to_linear(rgb.astype(np.float32) / 255) @ np.linalg.inv(primaries_matrix(DISPLAY_P3_XY)).T
    return np.round(linear_to_srgb(np.clip(linear, 0, 1)) * 255).astype(np.uint8)


def test_display_p3_by_its_code_points_is_converted(tmp_path):
    options = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6, "full_range_flag": 1}
    found = decode_photo(write_heic(tmp_path / "p.heic", p3_of(corners()), **options), 4096)
    assert found.profile == "sRGB, Display P3 (embedded)"
    assert np.abs(middles(found.rgb).astype(int) - COLOURS[0]).max() <= 4
    assert np.abs(p3_of(corners()).astype(int) - corners()).max() > 15  # else this would prove nothing


def test_display_p3_by_an_embedded_profile_is_converted(tmp_path):
    path = tmp_path / "p.heic"
    file = pillow_heif.from_bytes("RGB", SIZE[::-1], p3_of(corners()).tobytes())
    file.info["icc_profile"] = profile("Display P3", DISPLAY_P3_XYZ)
    file.info["icc_profile_type"] = "prof"
    file.save(path, quality=95, chroma=444)
    found = decode_photo(path, 4096)
    assert found.profile == "Display P3 (embedded)"
    assert np.abs(middles(found.rgb).astype(int) - COLOURS[0]).max() <= 4


def test_ten_bits_of_hlg_become_light_with_reference_white_at_one(tmp_path):
    """BT.2408: 75 % of HLG is reference white, 203 of 1,000 cd/m2; full signal is 1,000."""
    levels = np.repeat(np.round(np.array([[0.75, 1.0]]) * 65535).astype("<u2"), 64, 1)
    rgb = np.repeat(np.repeat(levels, 64, 0)[..., None], 3, 2)
    options = {"color_primaries": 9, "transfer_characteristics": 18, "matrix_coefficients": 9, "full_range_flag": 1}
    found = decode_photo(write_heic(tmp_path / "p.heic", rgb, **options), 4096)
    assert (found.is_hdr, found.profile) == (True, "HLG, Rec.2020 (embedded)")
    linear = srgb_to_linear(found.rgb)
    assert linear[32, 32] == pytest.approx([1.0] * 3, rel=0.02)
    assert linear[32, 96] == pytest.approx([1000 / 203] * 3, rel=0.02)


def test_a_coding_that_nobody_can_convert_is_named(tmp_path):
    options = {"color_primaries": 1, "transfer_characteristics": 10, "matrix_coefficients": 6}
    with pytest.raises(PhotoError, match=r"p\.heic can't be read: log 316:1 can't be converted"):
        decode_photo(write_heic(tmp_path / "p.heic", corners(), **options), 64)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_file_cut_short_is_refused_by_name(tmp_path, kind, share):
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)
    path = WRITERS[kind](tmp_path / "p.heic", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(PhotoError, match=r"p\.heic") as caught:
        decode_photo(path, 64)
    assert "\n" not in str(caught.value)


def test_without_pillow_heif_the_photo_is_left_out_until_it_is_there(tmp_path, monkeypatch):
    (tmp_path / "day").mkdir()
    write_heic(tmp_path / "day" / "p.heic", corners())
    Image.fromarray(255 - corners()).save(tmp_path / "day" / "q.png")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pillow_heif", None)
        index = index_photos([tmp_path / "day"], PhotoSettings(), tmp_path / "cache")
    assert [photo.reason for photo in index.photos] == [
        "is HEIF, which takes pillow-heif: install relightgan[train]",
        "",
    ]
    index = index_photos([tmp_path / "day"], PhotoSettings(), tmp_path / "cache")
    assert len(index.kept()) == 2


def test_brands_beyond_the_first_count_and_other_boxes_do_not():
    assert brand_of(b"\0\0\0\x18ftypMSF1\0\0\0\0heicmif1") == "heif"
    assert brand_of(b"\0\0\0\x18ftypmif1\0\0\0\0avifmif1") == "avif"
    assert brand_of(b"\0\0\0\x18ftypcrx \0\0\0\0crx isom") == ""
    assert brand_of(b"\0\0\0\x18ftypqt  \0\0\0\0qt  isom") == ""
    assert brand_of(b"ftypheic") == ""
