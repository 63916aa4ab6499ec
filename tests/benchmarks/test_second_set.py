import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import quality, second_set
from benchmarks.market.boxes import boxes_of
from benchmarks.market.draw import camera
from benchmarks.market.light import Detail
from benchmarks.market.scene import market_street
from relightgan.core.colour import linear_to_srgb
from relightgan.core.errors import PlateError, UsageError
from relightgan.core.frames import read_plate
from relightgan.training.measure.clips import find_clip, measure_clip
from relightgan.training.measure.paired_views import find_views

pytestmark = pytest.mark.fits

COARSE = Detail(texture=0.12, light=0.12, rays=12, sun_rays=2)


def settings(out, **others):
    return second_set.SecondSetSettings(
        out, photos=3, views=3, frames=3, photo_px=(80, 60), plate_px=(96, 72), detail=COARSE, **others
    )  # fmt: skip


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def contents(folder):
    return {name: path.read_bytes() for name, path in files_of(folder).items()}


@pytest.fixture(scope="module")
def place():
    """The place itself, coarse."""
    return second_set.prepare(settings(None), "none")


@pytest.fixture(scope="module")
def made(place, tmp_path_factory):
    """A tiny set of it."""
    folder = tmp_path_factory.mktemp("second") / "set"
    assert second_set.render(settings(folder), "none", place) == 3 + 3 + 3 + 3
    return folder


def rgb(path):
    return read_plate(path).rgb


def test_the_set_is_laid_out_as_the_quality_benchmark_wants_it(made):
    names = [f"{number:04}" for number in (1, 2, 3)]
    wanted = {"second_set.json", "test/pairs/cameras.json", "clips/clip1/cameras.json"}
    wanted |= {f"train/{day}/{name}.jpg" for day in ("A_overcast", "B_sunny") for name in names}
    wanted |= {f"test/pairs/{side}/{name}.exr" for side in "AB" for name in names}
    wanted |= {f"test/pairs/mask/{name}.png" for name in names}
    wanted |= {f"clips/clip1/{side}/{name}.exr" for side in "AB" for name in names}
    wanted |= {f"clips/clip1/flow/{name}.exr" for name in names[1:]}
    assert set(files_of(made)) == wanted
    assert quality.the_folder(made, "train/A*").name == "A_overcast"


def test_the_quality_benchmark_reads_it(made, tmp_path, capsys):
    assert quality.main(["--data", str(made), "--no-oracles", "--out", str(tmp_path), "--progress", "none"]) == 0
    capsys.readouterr()
    record = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))
    assert set(record["directions"]["ab"]) == {"pairs", "clip1"}


def test_what_is_missing_is_rendered_as_it_was_and_what_is_there_is_left_alone(made, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(made, folder)
    before = contents(folder)
    times = {name: path.stat().st_mtime_ns for name, path in files_of(folder).items()}
    assert second_set.render(settings(folder), "none") == 0
    lost = ("train/B_sunny/0002.jpg", "test/pairs/mask/0001.png", "test/pairs/A/0003.exr", "clips/clip1/flow/0002.exr")
    for name in lost:
        (folder / name).unlink()
    # The place is made anew, so the same seed gives the same place, light and pictures.
    assert second_set.render(settings(folder), "none") == len(lost)
    assert contents(folder) == before
    assert (folder / "train/B_sunny/0001.jpg").stat().st_mtime_ns == times["train/B_sunny/0001.jpg"]


def test_another_seed_gives_other_cameras_and_textures():
    scenes = [market_street(seed) for seed in (0, 1)]
    poses = [second_set.drawn(seed, "A", 0, boxes_of(scene)) for seed, scene in enumerate(scenes)]
    assert not np.allclose(*poses)
    assert not np.allclose(second_set.walk(0, 0), second_set.walk(1, 0))
    first, second = (
        scene.surfaces[0].material(np.random.default_rng([seed, 2, 0]), 2.0, 2.0, 30.0)
        for seed, scene in enumerate(scenes)
    )
    assert np.abs(first.rgb - second.rgb).mean() > 0.02


def test_more_photos_leave_the_first_ones_as_they_are():
    boxes = boxes_of(market_street(0))
    few = [second_set.drawn(0, "A", number, boxes) for number in range(2)]
    many = [second_set.drawn(0, "A", number, boxes) for number in range(4)]
    assert np.array_equal(few, many[:2])
    assert not np.allclose(second_set.drawn(0, "B", 0, boxes), few[0])


def test_a_folder_of_another_seed_or_of_something_else_is_left_alone(made, tmp_path):
    with pytest.raises(PlateError, match="another seed"):
        second_set.render(settings(made, seed=7), "none")
    (tmp_path / "letter.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(PlateError, match="isn't a second set"):
        second_set.render(settings(tmp_path), "none")
    for wrong in ({"photos": 0}, {"views": 0}, {"frames": 1}, {"seed": -1}):
        with pytest.raises(UsageError):
            second_set.render(replace(settings(tmp_path / "new"), **wrong), "none")
    assert not (tmp_path / "new").exists()


def test_photos_are_8_bit_srgb_of_the_size_asked_for_and_days_have_their_own_cameras(made):
    for day in ("A_overcast", "B_sunny"):
        with Image.open(made / "train" / day / "0001.jpg") as photo:
            assert (photo.size, photo.mode, photo.format) == ((80, 60), "RGB", "JPEG")
            assert {factors[1:3] for factors in photo.layer} == {(1, 1)}  # 4:4:4
    boxes = boxes_of(market_street(0))
    for number in range(6):
        for stream in ("A", "B", "views"):
            pose = second_set.drawn(0, stream, number, boxes)
            assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3))
            assert boxes.away(pose[:3, 3][None])[0] > 0.5


def test_a_pair_shows_one_camera_under_two_lights(made):
    for number in (1, 2, 3):
        a, b = (rgb(made / f"test/pairs/{side}/{number:04}.exr") for side in "AB")
        mask = cv2.imread(str(made / f"test/pairs/mask/{number:04}.png"), cv2.IMREAD_UNCHANGED)
        assert a.shape == b.shape == (72, 96, 3)
        assert mask.shape == (72, 96)
        assert set(np.unique(mask)) <= {0, 255}
        solid = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
        stops = np.log2(b[solid].mean(axis=-1) / a[solid].mean(axis=-1))
        assert stops.std() > 0.25  # light falls elsewhere, which no exposure makes up for
        # What is painted is the same: so is which of two neighbours is the more colourful.
        colourful = [each[..., 0] / each.sum(axis=-1) for each in (a, b)]
        assert np.corrcoef(colourful[0][solid], colourful[1][solid])[0, 1] > 0.6


def test_masks_are_black_exactly_on_the_sky(made):
    found = list(find_views(made / "test" / "pairs", "ab"))
    sky = [view for view in found if view.mask is not None and (~view.mask).mean() > 0.05]
    assert len(found) == 3
    for view in sky:
        inner = cv2.erode((~view.mask).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        a, b = view.plate.rgb[inner], view.truth[inner]
        assert (b[:, 2] > b[:, 0]).mean() > 0.98  # blue
        assert a.mean() > 0.7  # bright, nearly grey
        assert np.abs(a / a.mean(axis=-1, keepdims=True) - 1).max() < 0.15


def test_the_overcast_sky_goes_above_white_and_the_clear_one_stays_blue(place):
    seen = place.see(camera(np.array([1.0, 0, 1.6]), 0, 60, 0), (96, 72))
    sky = ~second_set.solid_pixels(seen)
    a, b = (place.picture(seen, day)[sky] for day in "AB")
    assert sky.mean() > 0.2
    assert a.max() > 1.2
    assert np.median(a) > 1
    assert b[:, 2].mean() > 1.5 * b[:, 0].mean()
    assert np.median(b) < 0.9


def test_surfaces_are_exposed_for_photos(place):
    seen = place.see(camera(np.array([-3.0, 0, 1.6]), 0, 0, 0), (96, 72))
    solid = second_set.solid_pixels(seen)
    for day in "AB":
        coded = linear_to_srgb(place.picture(seen, day)[solid].clip(0, 1))
        low, middle, high = np.percentile(coded, [5, 50, 95])
        assert 0.25 < middle < 0.6
        assert low > 0.03
        assert high > 0.5


def test_the_sun_casts_shadows_and_the_overcast_sky_does_not(place):
    # Straight down onto the street between the houses: cobbles in the sun and in the shade of what stands there.
    seen = place.see(camera(np.array([2.5, 0, 6.5]), 0, -89, 0), (96, 72))
    stops = [np.log2(cv2.blur(place.picture(seen, day), (5, 5)).mean(axis=-1)) for day in "AB"]
    spread = [np.subtract(*np.percentile(each, [90, 10])) for each in stops]
    assert spread[1] > spread[0] + 1


def test_flow_moves_the_frame_before_onto_the_next(made):
    folder = made / "clips" / "clip1"
    for number in (2, 3):
        flow = rgb(folder / f"flow/{number:04}.exr")
        valid = flow[..., 2] > 0.5
        assert set(np.unique(flow[..., 2])) <= {0, 1}
        assert valid.mean() > 0.7
        y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
        for side in "AB":
            plates = (rgb(folder / f"{side}/{each:04}.exr") for each in (number, number - 1))
            now, before = (linear_to_srgb(plate.clip(0, 1)) for plate in plates)
            moved = cv2.remap(before, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
            assert np.abs(moved - now)[valid].mean() < 0.5 * np.abs(before - now)[valid].mean()
    assert find_clip(folder).steps() == [2, 3]
    rows = measure_clip(find_clip(folder), {})
    assert set(rows) == {"input unchanged", "truth"}


def test_flow_of_a_turning_camera_moves_the_sky_too_and_a_standing_one_nothing(place):
    first = place.see(camera(np.array([1.0, 0, 1.6]), 0, 40, 0), (96, 72))
    turned = place.see(camera(np.array([1.0, 0, 1.6]), 2, 40, 0), (96, 72))
    still = second_set.flow_back(first, first)
    assert np.abs(still[..., :2]).max() < 1e-3
    flow = second_set.flow_back(turned, first)
    sky = ~second_set.solid_pixels(turned)
    assert sky.mean() > 0.1
    assert (flow[sky][:, 2] > 0.5).mean() > 0.7
    # Turned to the left, the world went right; what is here now was further to the left before.
    assert (flow[sky & (flow[..., 2] > 0.5)][:, 0] < -1).all()


def test_flow_holds_for_known_points(place):
    poses = [camera(np.array([1.0, 0, 1.6]), 4, 2, 1), camera(np.array([1.1, 0.05, 1.62]), 3, 2.5, -1)]
    before, now = (place.see(pose, (96, 72)) for pose in poses)
    flow = second_set.flow_back(now, before)
    rows = np.argwhere(flow[..., 2] > 0.5)
    for y, x in rows[:: max(len(rows) // 40, 1)]:
        nearness = now.nearness[3 * y + 1, 3 * x + 1]
        if nearness == 0:
            continue
        focal = 48 / np.tan(np.radians(30))
        ray = np.array([(x + 0.5 - 48) / focal, -(y + 0.5 - 36) / focal, -1])
        point = poses[1][:3, 3] + poses[1][:3, :3] @ ray / nearness
        local = poses[0][:3, :3].T @ (point - poses[0][:3, 3])
        there = np.array([48 - local[0] / local[2] * focal - 0.5, 36 + local[1] / local[2] * focal - 0.5])
        assert flow[y, x, :2] == pytest.approx(there - (x, y), abs=1e-3)


def test_help_has_an_example_and_a_wrong_folder_is_one_line(tmp_path, capsys, monkeypatch):
    assert "python benchmarks/second_set.py --out" in second_set.build_parser().format_help()
    (tmp_path / "file").touch()
    code = second_set.run_command(lambda: second_set.main(["--out", str(tmp_path / "file"), "--progress", "none"]))
    assert code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error:")
    assert "--out" in line
