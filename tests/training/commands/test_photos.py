"""`relightgan photos` as a trainer meets it."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from relightgan.core.cli import main
from relightgan.training.commands.photos import folder_names
from relightgan.training.photos.index import read_index
from relightgan.training.photos.overview import evenly


@pytest.fixture
def folders(tmp_path):
    for name, first in (("cloudy", 0), ("sunny", 100)):
        (tmp_path / name).mkdir()
        for seed in range(first, first + 12):
            blobs = np.random.default_rng(seed).integers(0, 255, (12, 16, 3)).astype(np.uint8)
            picture = cv2.resize(blobs, (160, 120), interpolation=cv2.INTER_NEAREST)
            Image.fromarray(picture).save(tmp_path / name / f"{seed:03}.jpg")
    (tmp_path / "cloudy" / "broken.jpg").write_text("not a photo")
    return tmp_path


def photos(*words):
    return main(["photos", *map(str, words), "--progress", "none"])


def test_two_folders_give_a_table_sheets_and_the_photos_left_out(folders, capsys):
    assert photos(folders / "cloudy", folders / "sunny", "--out", folders / "out") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].split()[:5] == ["folder", "photos", "kept", "left", "out"]
    assert lines[1].split()[:6] == ["cloudy", "13", "12", "1", "12", "10/1/1"]
    assert lines[2].split()[:4] == ["sunny", "12", "12", "0"]
    assert "    broken.jpg: can't be read" in shown.out
    assert shown.err == ""
    for name in ("cloudy", "sunny"):
        with Image.open(folders / "out" / name / "contact_sheet.jpg") as sheet:
            assert sheet.width > 10 * 160
        assert len(read_index(folders / "out" / name / "index.json").kept()) == 12
    assert (
        (folders / "out" / "cloudy" / "left_out.txt")
        .read_text()
        .startswith(f"{folders / 'cloudy' / 'broken.jpg'}: can't be read: ")
    )


def test_settings_are_options(folders, capsys):
    assert photos(folders / "sunny", "--out", folders / "out", "--min-side-px", 500, "--seed", 3) == 1
    shown = capsys.readouterr()
    assert "left out: too small 12" in shown.out
    assert shown.err == "Error: No photo of sunny can be used. See the reasons above.\n"


def test_a_photo_in_both_folders_is_pointed_out(folders, capsys):
    shutil.copy(folders / "sunny" / "105.jpg", folders / "cloudy" / "copy.jpg")
    assert photos(folders / "cloudy", folders / "sunny", "--out", folders / "out") == 0
    assert "Warning: 1 photos are in both cloudy and sunny, copy.jpg for one." in capsys.readouterr().err


def test_a_missing_folder_is_one_line_and_exit_code_1(tmp_path, capsys):
    assert photos(tmp_path / "nowhere") == 1
    assert (
        capsys.readouterr().err == f"Error: {tmp_path / 'nowhere'} is not a folder. Give a folder with photos in it.\n"
    )


@pytest.mark.parametrize("words", [[], ["x", "--workers", "0"], ["x", "--seed", "lots"], ["x", "--no-such"]])
def test_words_that_make_no_sense_are_a_usage_error(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        photos(*words)
    assert stopped.value.code == 2
    assert "usage: relightgan photos" in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        photos("--help")
    assert stopped.value.code == 0
    assert "relightgan photos cloudy/ sunny/" in capsys.readouterr().out


def test_folders_of_one_name_get_sheets_of_their_own(tmp_path):
    assert folder_names([tmp_path / "a" / "set", tmp_path / "b" / "set", tmp_path / "set"]) == ["set", "set-2", "set-3"]


def test_a_large_folder_is_shown_from_its_first_photo_to_its_last():
    assert evenly(list(range(1000)), 5) == [0, 250, 500, 749, 999]
    assert evenly([1, 2], 5) == [1, 2]
