"""Files made by version 0.1.0 still work: a look, a run folder and a saved comp.

`tests/data/made_by_0.1.0.zip` was written by that version on the photos of `tests/support/solid_set.py`: a tiny relight
fit (without prepared photos and pictures), two plates, and what that version made of them. `@HERE@` stands for the
folder of the files.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_plates

from relightgan.core import cli
from relightgan.core.guidance_files import read_guidance

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "tests" / "data" / "made_by_0.1.0.zip"
FRAMES = (1, 2)
# Another kind of CPU sums in another order; a step of half float is 5e-4.
TOLERANCE = 2e-3


@pytest.fixture
def made(tmp_path):
    """The files, in a folder of this test."""
    with zipfile.ZipFile(ARCHIVE) as packed:
        packed.extractall(tmp_path)
    for path in (*tmp_path.rglob("*.json"), tmp_path / "shot.nk"):
        path.write_text(path.read_text().replace("@HERE@", str(tmp_path)))
    return tmp_path


def run(*words) -> int:
    return cli.main([*map(str, words), "--progress", "none"])


def assert_same_frames(found: Path, expected: Path, frames=FRAMES, name="p.%04d.exr") -> None:
    for frame in frames:
        ours, theirs = (tiny_plates.read_rgb(folder / (name % frame)) for folder in (found, expected))
        assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


def test_a_look_relights_as_it_did(made):
    words = (made / "look.onnx", made / "plates/p.%04d.exr", made / "new/p.%04d.exr", "--device", "cpu")
    assert run("infer", *words) == 0
    assert_same_frames(made / "new", made / "relit")


def test_a_look_is_guided_by_earlier_guidance_as_it_was(made):
    words = (made / "look.onnx", made / "plates/p.%04d.exr", made / "new/p.%04d.exr", "--device", "cpu")
    assert run("infer", *words, "--guidance", made / "guidance/p.%04d.exr") == 0
    assert_same_frames(made / "new", made / "guided")


def test_plates_are_located_in_an_earlier_run(made):
    words = (made / "plates/p.%04d.exr", "--run", made / "run", "--out", made / "new/p.%04d.exr")
    assert run("locate", *words) == 0
    for frame in FRAMES:
        ours, theirs = (read_guidance(made / folder / f"p.{frame:04}.exr")[0] for folder in ("new", "guidance"))
        sure = (ours.confidence > 0.5) & (theirs.confidence > 0.5)
        assert sure.mean() > 0.3
        assert np.median(np.abs(ours.gain - theirs.gain)[sure]) < 0.05


def test_an_earlier_run_is_gone_on_with_by_the_same_command(made, capsys):
    settings = "--train.images 8 --relight.net.proxy-px 64 --relight.net.width 4 --relight.batch-size 2"
    split = "--photos.near-duplicates 0 --photos.blur-ratio 0 --photos.val-share 0 --photos.test-share 0"
    folders = ("--source", made / "day1", "--target", made / "day2", "--out", made / "look.onnx")
    more = ("--run-dir", made / "run", "--device", "cpu", *settings.split(), *split.split())
    assert run("train", *folders, *more, "--guidance.raster-px", "64") == 0
    said = capsys.readouterr().err
    assert "The fit was finished before: 8 images" in said
    assert (made / "run" / "report.html").is_file()


def test_a_saved_comp_opens_relights_and_renders_as_it_did(made):
    environment = {
        **os.environ,
        "NUKE_SIM_PYTHON": sys.executable,
        "RELIGHTGAN_PYTHON": sys.executable,
        "NUKE_PATH": str(ROOT),
        "PYTHONPATH": str(ROOT),
    }
    before = made / "out"
    before.rename(made / "before")
    batch = [str(ROOT / "tests/nuke_sim/bin/nuke"), "-t", str(ROOT / "nuke_plugin/batch.py")]
    done = subprocess.run(
        [*batch, f"--script={made / 'shot.nk'}", "--device=cpu"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_frames(made / "out", made / "before", frames=(1,), name="shot.%04d.exr")
