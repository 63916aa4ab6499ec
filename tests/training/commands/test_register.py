"""`relightgan photos A/ B/ --register` as a trainer meets it, and the page it writes."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import painted_set
import pytest
import solid_set
import torch
from PIL import Image

from relightgan.core.cli import main
from relightgan.core.colour import srgb_to_linear
from relightgan.core.progress import Cancellation
from relightgan.training.commands import photos as photos_command
from relightgan.training.guidance import making as guiding
from relightgan.training.run.config import resolve
from relightgan.training.run.dataset import NOT_REGISTERED, TOO_FEW_REGISTERED, TOO_LITTLE_SEEN, make_dataset
from relightgan.training.run.report import guidance_blocks
from relightgan.training.run.run import Run
from relightgan.training.run_log import RunLog
from relightgan.training.stops import DARK_FLOOR
from relightgan.training.world.corrected_photos import CorrectedImages
from relightgan.training.world.page import upright

pytestmark = pytest.mark.fits


def photos(*words):
    return main(["photos", *map(str, words), "--progress", "none"])


def write_day(folder, photos):
    folder.mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray((photo * 255).round().astype(np.uint8)).save(
            folder / f"{number}.jpg", quality=97, subsampling=0
        )
    return folder


CPU = torch.device("cpu")
KEEP_ALL = ("--near-duplicates", 0, "--blur-ratio", 0, "--val-share", 0, "--test-share", 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Photos of two days."""
    place = tmp_path_factory.mktemp("solid")
    days = solid_set.solid_days(painted_set.texture, count=5)
    return [write_day(place / name, pair[0]) for name, pair in zip(("cloudy", "sunny"), days, strict=True)]


def test_two_days_in_one_world_are_told_and_shown(folders, tmp_path, capsys):
    assert photos(*folders, "--out", tmp_path / "out", "--register", *KEEP_ALL) == 0
    told = capsys.readouterr().out
    for line in (
        r"photos of cloudy that joined +5 of 5",
        r"photos of sunny that joined +5 of 5",
        r"the days were solved +together",
        r"pairs of photos with one geometry +\d+ in cloudy, \d+ in sunny, \d+ across",
        r"points seen on both days +\d\d+",
        r"reprojection error +0\.\d\d px at 640 px long side",
        r"share of cloudy that was seen in sunny +\d\d%",
        r"share of sunny that was seen in cloudy +\d\d%",
        r"Exposures of cloudy spread by 0\.\d\d stops, white balance by \d\.\d%",
        r"Exposures of sunny spread by 0\.\d\d stops, white balance by \d\.\d%",
        r"The mean exposure and white balance of each day stay",
        r"off by 0\.\d\d stops \(median\)",
    ):
        assert re.search(line, told), line
    page = (tmp_path / "out" / "registration.html").read_text()
    assert told.rstrip().endswith("registration.html")
    assert r"\n" not in told
    assert "What the cameras did" in page
    assert "://" not in page  # "http" alone may well lie in a picture's base64
    scene = json.loads(re.search(r"const SCENE = (\{.*?\});\n", page).group(1))
    assert [camera["b"] for camera in scene["cameras"]] == [0] * 5 + [1] * 5
    assert all(len(camera["at"]) == 15 for camera in scene["cameras"])
    number = len(scene["points"]) // 3
    assert number == len(scene["a"]) == len(scene["b"]) == len(scene["gain"]) == len(scene["both"])
    both = np.array(scene["both"], bool)
    gains, expected = np.array(scene["gain"])[both], solid_set.STOPS.mean(axis=1)
    assert (np.abs(gains[:, None] - expected).min(axis=1) < 0.3).mean() > 0.8


class Said(RunLog):
    """A log that hands its lines on."""

    def __init__(self, take):
        super().__init__(None, "none")
        self.take = take

    def say(self, text):
        self.take(text)


def run_in(folder, config, take):
    folder.mkdir(exist_ok=True)
    return Run(folder, config, CPU, Said(take), Cancellation(), "none")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """One run folder for tests that begin in the same way: what is known isn't made again."""
    return tmp_path_factory.mktemp("run")


def test_the_fit_is_guided_by_registered_photos_in_both_directions(folders, run_folder):
    settings = {"near_duplicates": 0, "blur_ratio": 0, "val_share": 0, "test_share": 0}
    config = resolve({"photos": settings})
    said = []
    dataset = make_dataset(folders[:1], folders[1:], run_in(run_folder, config, said.append), ["ab", "ba"])
    assert any(line.startswith("Registered 5 of 5 source and 5 of 5 target photos: ") for line in said)
    assert [line.split(" photos ")[0] for line in said if line.startswith("Exposures of")] == [
        "Exposures of the source",
        "Exposures of the target",
    ]
    assert any(re.search(r"photos predict for others of their day are off by 0\.\d\d stops", line) for line in said)
    assert any(re.match(r"Guidance: target photos saw \d\d% of what 5 source photos show\.$", line) for line in said)
    assert not any("Measured gains" in line for line in said)
    assert dataset.gains == {}
    assert isinstance(dataset.training_data("ab").b, CorrectedImages)
    for direction, sign in (("ab", 1), ("ba", -1)):
        data = dataset.training_data(direction)
        assert data.gains is None
        maps = data.guidance
        off = []
        for row, photo in enumerate(maps.photo):
            size = maps.weight.shape[:0:-1]
            own = cv2.resize(srgb_to_linear(data.a[int(photo)]), size, interpolation=cv2.INTER_AREA)
            gain = maps.colour[row].astype(np.float32) - np.log2(own + DARK_FLOOR)
            near = np.abs(gain[:, :, None] - sign * solid_set.STOPS).mean(axis=3).min(axis=2)
            off.append(near[maps.weight[row] > 0.5])
        assert (np.concatenate(off) < 0.3).mean() > 0.8


def test_target_photos_are_back_translated_unless_that_is_switched_off(folders, run_folder):
    for wanted in (True, False):
        config = resolve({
            "photos": {"near_duplicates": 0, "blur_ratio": 0, "val_share": 0, "test_share": 0},
            "guidance": {"back_translation": wanted},
        })  # fmt: skip
        dataset = make_dataset(folders[:1], folders[1:], run_in(run_folder, config, lambda line: None), ["ab"])
        data = dataset.training_data("ab")
        assert len(data.a) == len(data.guidance) == (10 if wanted else 5)
        assert [len(data.a[int(photo)].shape) for photo in data.guidance.photo] == [3] * len(data.guidance)


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [("MIN_COVERAGE", 1.1, TOO_LITTLE_SEEN), ("MIN_JOINED_SHARE", 1.1, TOO_FEW_REGISTERED)],
)
def test_where_guidance_speaks_for_too_little_the_fit_says_so_and_measures_gains(
    folders, run_folder, monkeypatch, limit, value, reason
):
    monkeypatch.setattr(guiding, limit, value)
    config = resolve({"photos": {"near_duplicates": 0, "blur_ratio": 0, "val_share": 0, "test_share": 0}})
    said = []
    dataset = make_dataset(folders[:1], folders[1:], run_in(run_folder, config, said.append), ["ab"])
    assert any(line.endswith(reason) for line in said)
    assert dataset.training_data("ab").guidance is None
    assert len(dataset.gains["ab"]) > 0


def test_the_report_tells_of_guidance_and_shows_it(tmp_path):
    sheets = [{"path": "guidance/guidance-ab.jpg", "coverage": "target photos saw 9% of it", "used": False}]
    notes = {
        "registration": "Registered 5 of 5 photos.",
        "cameras": "Exposures spread.",
        "guidance": {"accuracy": "Off by much.", "sheets": sheets},
    }
    blocks = guidance_blocks(tmp_path, notes)
    assert [block.text for block in blocks[:4]] == [
        "Registered 5 of 5 photos.",
        "Exposures spread.",
        "Off by much.",
        "The target photos saw 9% of it. That was too little to fit to.",
    ]
    assert blocks[4].path == tmp_path / "guidance/guidance-ab.jpg"
    assert guidance_blocks(tmp_path, {"registration": ""}) == []


def test_days_that_cannot_be_registered_are_fitted_from_pairs(tmp_path):
    days = painted_set.painted_days(count=4)[:2]
    folders = [write_day(tmp_path / name, bank.photos) for name, bank in zip(("one", "two"), days, strict=True)]
    settings = {"near_duplicates": 0, "blur_ratio": 0, "val_share": 0, "test_share": 0}
    config = resolve({"photos": settings})
    said = []
    dataset = make_dataset(folders[:1], folders[1:], run_in(tmp_path / "run", config, said.append), ["ab"])
    assert dataset.registration is None
    assert NOT_REGISTERED in said
    assert len(dataset.gains["ab"]) > 500


def test_a_missing_library_is_named_before_any_photo_is_looked_at(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(photos_command.importlib.util, "find_spec", lambda name: None if name == "pycolmap" else name)
    assert photos(tmp_path / "a", tmp_path / "b", "--register") == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Error: --register needs the package pycolmap")
    assert "pip install 'relightgan[train]'" in shown


def test_too_few_photos_are_said_to_be_too_few(tmp_path, capsys):
    days = solid_set.solid_days(painted_set.texture, count=2)
    folders = [write_day(tmp_path / name, pair[0]) for name, pair in zip(("cloudy", "sunny"), days, strict=True)]
    assert photos(*folders, "--out", tmp_path / "out", "--register", *KEEP_ALL) == 1
    assert "Only 2 photos of cloudy can be used, too few to register. Give at least 3" in capsys.readouterr().err


def test_registering_takes_two_folders(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        photos(tmp_path, "--register")
    assert stopped.value.code == 2
    assert "--register needs two folders" in capsys.readouterr().err


def test_photos_held_upright_show_the_set_upright():
    quarter = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0]], float)  # looks along +y, its down is -z
    turn = upright(np.stack([quarter, quarter]))
    np.testing.assert_allclose(turn @ [0, 0, 1], [0, 0, 1], atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)


@pytest.mark.slow  # about 80 s
def test_the_sample_photos_register_though_their_best_pair_leads_nowhere(tmp_path, capsys):
    # The pair that COLMAP tries first gives a solve of three photos, with a focal length four times off.
    courtyard = Path(__file__).resolve().parents[3] / "examples" / "courtyard"
    days = [str(courtyard / day) for day in ("cloudy_day", "sunny_day")]
    assert main(["photos", *days, "--register", "--out", str(tmp_path)]) == 0
    joined = re.findall(r"photos of \w+ that joined +(\d+) of 88", capsys.readouterr().out)
    assert len(joined) == 2
    assert min(map(int, joined)) >= 80
