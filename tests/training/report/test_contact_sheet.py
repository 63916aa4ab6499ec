"""Contact sheets hold every picture, whole, with its caption."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relightgan.core.errors import PhotoError
from relightgan.training.report.contact_sheet import BACKGROUND, contact_sheet, in_rows


def plain(colour, height=60, width=80):
    return np.full((height, width, 3), colour, np.uint8)


def share_of(path, colour):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - np.array(colour)).max(-1) <= 6).sum())


def test_every_picture_is_on_the_sheet_whole(tmp_path):
    rows = [[(plain((255, 0, 0)), "red"), (plain((0, 255, 0)), "green")], [(plain((0, 0, 255)), "blue")]]
    path = contact_sheet(rows, tmp_path / "sheet.png", title="Three", subtitle="of them", headings={1: "B"})
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert share_of(path, colour) == 60 * 80


def test_large_and_tall_pictures_are_made_to_fit_without_stretching(tmp_path):
    path = contact_sheet(
        [[(plain((255, 0, 0), 400, 200), "tall")], [(plain((0, 255, 0), 200, 400), "")]],
        tmp_path / "s.png",
        cell_px=100,
    )
    assert share_of(path, (255, 0, 0)) == 100 * 50
    assert share_of(path, (0, 255, 0)) == 100 * 50


def test_float_pictures_are_cut_at_white_and_a_nan_is_black(tmp_path):
    picture = np.full((60, 80, 3), 7.0, np.float32)
    picture[0] = np.nan
    path = contact_sheet([[(picture, "")]], tmp_path / "s.png")
    assert share_of(path, (255, 255, 255)) == 59 * 80
    assert share_of(path, (0, 0, 0)) == 80


def test_captions_stay_inside_their_cell(tmp_path):
    long = contact_sheet(
        [[(plain((255, 0, 0)), "wide words " * 40), (plain((255, 0, 0)), "")]], tmp_path / "a.png", cell_px=130
    )
    with Image.open(long) as image:
        written = np.abs(np.asarray(image).astype(int) - BACKGROUND).max(-1) > 20
    assert written[:, 20:150].any()
    assert not written[60 + 20 + 4 :, 152:].any()


def test_a_caption_is_written(tmp_path):
    with_words = contact_sheet([[(plain((255, 0, 0)), "statue é 0001.jpg")]], tmp_path / "a.png").read_bytes()
    assert with_words != contact_sheet([[(plain((255, 0, 0)), "")]], tmp_path / "b.png").read_bytes()


def test_jpeg_sheets_are_made_too_and_leave_nothing_beside_them(tmp_path):
    contact_sheet([[(plain((200, 100, 50)), "one")]], tmp_path / "s.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["s.jpg"]
    assert share_of(tmp_path / "s.jpg", (200, 100, 50)) > 0.9 * 60 * 80


def test_an_empty_sheet_is_an_error():
    with pytest.raises(PhotoError, match="no pictures for"):
        contact_sheet([[]], Path("s.png"))


def test_a_suffix_nobody_knows_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(PhotoError, match=r"sheet\.xyz can't be written"):
        contact_sheet([[(plain((1, 2, 3)), "")]], tmp_path / "sheet.xyz")
    assert list(tmp_path.iterdir()) == []


def test_a_long_list_becomes_rows():
    assert [len(row) for row in in_rows([(plain(0), "")] * 7, 3)] == [3, 3, 1]
