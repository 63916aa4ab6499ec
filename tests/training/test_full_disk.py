"""Every kind of file that training writes, on a disk with too little room: an error, and nothing left of it."""

import functools

import numpy as np
import pytest
from small_disk import file_limit
from small_fit import CONFIG, SmallRecipe

from relightgan.core.errors import RelightError
from relightgan.core.guidance import FrameGuidance
from relightgan.core.guidance_files import write_guidance
from relightgan.training.fit.checkpoint import FitProgress, save_checkpoint
from relightgan.training.fit.loop import write_metrics
from relightgan.training.measure import tables
from relightgan.training.photos import bank, measuring
from relightgan.training.report.contact_sheet import contact_sheet
from relightgan.training.report.page import Section, Text, write_report
from relightgan.training.stage_cache import read_arrays, write_arrays, write_notes

NOISE = np.random.default_rng(0).random((90, 120, 3)).astype(np.float32)
CELLS = [[(NOISE, "noise")]]


def checkpoint(path):
    return save_checkpoint(path.parent, SmallRecipe(), FitProgress(images=4), CONFIG, "photos", 2)


def guidance(path):
    known = FrameGuidance(NOISE, np.zeros(NOISE.shape, bool), NOISE[..., 0])
    write_guidance(path, known, {"relightgan/photos": "some"})


WRITERS = {
    "sheet.jpg": functools.partial(contact_sheet, CELLS),
    "sheet.png": functools.partial(contact_sheet, CELLS),
    "report.html": lambda path: write_report(path, "T", "", [Section("A", [Text("words " * 999)])]),
    "notes.json": lambda path: write_notes(path, {"key": "words " * 999}),
    "arrays.npz": lambda path: write_arrays(path, "key", {"noise": NOISE, "more": NOISE}),
    "photo.npy": lambda path: bank._write(NOISE, path),
    "index.json": lambda path: measuring.write_text(path, "words " * 999),
    "evaluation.md": lambda path: tables.write_text(path, "words " * 999),
    "checkpoint-000000004.pt": checkpoint,
    "guidance.exr": guidance,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_finds_too_little_room_is_an_error_and_not_there(tmp_path, name):
    write, path = WRITERS[name], tmp_path / name
    write(path)
    whole = path.read_bytes()
    path.unlink()
    # The last bytes are where libraries don't notice by themselves.
    for limit in (0, 1, len(whole) // 2, len(whole) - 2000, len(whole) - 100, len(whole) - 1):
        with file_limit(limit), pytest.raises(RelightError, match=rf"{name} can't be written: \S") as caught:
            write(path)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == [], limit
    with file_limit(len(whole) + 64):
        write(path)
    assert abs(len(path.read_bytes()) - len(whole)) <= 64


def test_metrics_that_find_no_room_are_an_error(tmp_path):
    progress = FitProgress(images=4, steps=1, sums={"loss": 1.0})
    path = tmp_path / "metrics.jsonl"
    with file_limit(20), pytest.raises(RelightError, match=r"metrics\.jsonl can't be written: File too large"):
        write_metrics(path, progress, 1.0)
    with pytest.raises(RelightError, match=r"the folder .*gone is gone"):
        write_metrics(tmp_path / "gone" / "metrics.jsonl", progress, 1.0)


def test_arrays_come_back_after_an_attempt_without_room(tmp_path):
    path = tmp_path / "arrays.npz"
    write_arrays(path, "old", {"noise": NOISE})
    with file_limit(1000), pytest.raises(RelightError):
        write_arrays(path, "new", {"noise": NOISE + 1})
    assert read_arrays(path, "new") is None
    np.testing.assert_array_equal(read_arrays(path, "old")["noise"], NOISE)
