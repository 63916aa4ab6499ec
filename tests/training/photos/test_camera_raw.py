"""Camera raw: developed to known colours, one way for all photos; damaged files and a missing decoder."""

import sys

import numpy as np
import pytest
from tiny_raw import write_dng

from relightgan.core.colour import srgb_to_linear
from relightgan.core.errors import PhotoError
from relightgan.training.commands.photos import main as photos_command
from relightgan.training.photos.bank import prepare_photos
from relightgan.training.photos.files import decode_photo, make_upright
from relightgan.training.photos.index import PhotoSettings, index_photos

# Linear Rec.709 of the four quarters of a picture; the last one has a patch above white.
RED, GREEN, BLUE, GREY = (0.5, 0.2, 0.1), (0.1, 0.4, 0.2), (0.1, 0.15, 0.5), (0.6, 0.6, 0.6)
MIDDLES = {RED: (16, 24), GREEN: (16, 72), BLUE: (48, 24), GREY: (36, 54)}
ABOVE = (48, 70)  # within the patch


def quarters(patch=0.6, light=1.0):
    """(64, 96, 3) linear Rec.709."""
    rgb = np.empty((64, 96, 3))
    rgb[:32, :48], rgb[:32, 48:], rgb[32:, :48], rgb[32:, 48:] = RED, GREEN, BLUE, GREY
    rgb[40:56, 60:80] = patch
    return rgb * light


def linear_of(path, max_side=4096):
    return srgb_to_linear(decode_photo(path, max_side).rgb)


@pytest.mark.parametrize(("side", "size", "step"), [(4096, (64, 96), 1), (48, (32, 48), 2)])
def test_colours_come_out_as_linear_rec709_at_full_and_at_half_size(tmp_path, side, size, step):
    path = write_dng(tmp_path / "p.dng", quarters())
    found = decode_photo(path, side)
    assert found.rgb.shape[:2] == size
    assert (found.width, found.height, found.is_hdr) == (96, 64, True)
    assert found.profile == "camera raw, daylight white balance"
    linear = srgb_to_linear(found.rgb)
    for colour, (row, column) in MIDDLES.items():
        assert linear[row // step, column // step] == pytest.approx(colour, rel=0.005, abs=0.001)


def test_white_balance_is_not_that_of_the_shot(tmp_path):
    one = linear_of(write_dng(tmp_path / "a.dng", quarters(), neutral=(0.5, 1.0, 0.7)))
    other = linear_of(write_dng(tmp_path / "b.dng", quarters(), neutral=(0.9, 1.0, 0.3)))
    assert np.array_equal(one, other)


def test_nothing_is_brightened_whatever_a_photo_shows(tmp_path):
    dark = linear_of(write_dng(tmp_path / "dark.dng", quarters(light=1 / 16)))
    with_lamp = linear_of(write_dng(tmp_path / "lamp.dng", quarters(patch=1.5)))
    for colour, (row, column) in MIDDLES.items():
        assert dark[row, column] == pytest.approx(np.array(colour) / 16, rel=0.02, abs=0.001)
        assert with_lamp[row, column] == pytest.approx(colour, rel=0.005, abs=0.001)


def test_highlights_stay_above_white_and_have_no_false_colour(tmp_path):
    linear = linear_of(write_dng(tmp_path / "p.dng", quarters(patch=1.6)))[ABOVE]
    assert 1.2 < linear.mean() <= 1.61
    assert np.ptp(linear) < 0.01  # green is full at 1, red isn't: without care that is magenta
    brightest = linear_of(write_dng(tmp_path / "q.dng", quarters(patch=50.0)))[ABOVE]
    assert brightest.mean() > linear.mean()
    assert np.ptp(brightest) < 0.01


@pytest.mark.parametrize("orientation", range(1, 9))
def test_raw_files_are_turned_upright_once(tmp_path, orientation):
    upright = decode_photo(write_dng(tmp_path / "a.dng", quarters()), 48)
    found = decode_photo(write_dng(tmp_path / "b.dng", quarters(), orientation=orientation), 48)
    assert np.abs(found.rgb - make_upright(upright.rgb, orientation)).max() < 0.01
    assert (found.width, found.height) == ((96, 64) if orientation < 5 else (64, 96))


def test_what_the_camera_noted_is_read(tmp_path):
    path = write_dng(tmp_path / "p.dng", quarters(), subsecond="25", seconds=1 / 50, f_number=4, iso=400)
    found = decode_photo(path, 48)
    assert (found.taken, found.focal_35mm) == ("2024-05-01T09:08:07.25", 28.0)
    assert found.exposure == pytest.approx(np.log2(400 / 100 / 50 / 16), abs=0.001)
    assert found.camera == "Maker Camera 1"


def test_a_name_that_is_no_utf8_is_no_trouble(tmp_path):
    path = write_dng(tmp_path / "caf\udce9.dng", quarters())
    assert decode_photo(path, 48).rgb.shape == (32, 48, 3)


def test_a_bank_keeps_what_is_above_white(tmp_path):
    (tmp_path / "day").mkdir()
    write_dng(tmp_path / "day" / "p.dng", quarters(patch=1.6))
    kept = index_photos([tmp_path / "day"], PhotoSettings(), tmp_path / "cache").kept()
    (picture,) = list(prepare_photos(kept, tmp_path / "bank", 48))
    assert picture.dtype == np.float32
    assert picture.max() > 1.05
    assert srgb_to_linear(picture)[8, 12] == pytest.approx(RED, rel=0.01)


@pytest.mark.parametrize("cut", [12, 100, 400, 5000])
def test_a_raw_file_cut_short_is_refused_by_name(tmp_path, cut):
    path = write_dng(tmp_path / "p.dng", quarters())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(PhotoError, match=r"^p\.dng ") as caught:
        decode_photo(path, 64)
    assert "\n" not in str(caught.value)


def test_a_size_beyond_what_its_bytes_can_hold_is_refused(tmp_path):
    path = write_dng(tmp_path / "p.dng", quarters())
    content = path.read_bytes()
    for tag, side in ((b"\x00\x01", 96), (b"\x01\x01", 64)):
        entry = tag + b"\x04\x00\x01\x00\x00\x00" + side.to_bytes(4, "little")
        assert entry in content
        content = content.replace(entry, entry[:8] + (15_000).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(PhotoError, match="its header says 15000x15000 pixels"):
        decode_photo(path, 64)


def test_without_rawpy_the_dump_goes_on_and_says_what_to_install(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "day"
    folder.mkdir()
    for number in range(3):
        write_dng(folder / f"{number}.dng", quarters(patch=number / 4))
    (folder / "other.dng").write_bytes(b"")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "rawpy", None)
        with pytest.raises(PhotoError, match="No photo of day"):
            photos_command([str(folder), "--out", str(tmp_path / "out"), "--progress", "none"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "camera raw" in line]
    assert lines == ["    3 of them: is camera raw, which takes rawpy: install relightgan[train]"]
    again = index_photos([folder], PhotoSettings(near_duplicates=0), tmp_path / "out" / "day")
    assert len(again.kept()) == 3
