import json

import cv2
import numpy as np
import OpenImageIO
import painted_set
import pytest
from PIL import Image

from benchmarks import compare, compare_fits
from benchmarks.compare_fits import ALL, FULL, SMALL, Fit, System, run_process
from benchmarks.compare_report import spread, spread_text
from benchmarks.compare_scores import nearness, unpaired_views
from relightgan.core.errors import PlateError, UsageError
from relightgan.training.commands.train import make_parser
from relightgan.training.measure.paired_views import untouched_method
from relightgan.training.run.config import RunConfig, resolve
from relightgan.training.settings import given_options

pytestmark = pytest.mark.process

TINY = "--train.preview-photos 1 --photo-px 96 --relight.net.proxy-px 64 --relight.net.depth 4 --relight.net.width 4"
SYSTEMS = (
    System("broken", "has an option that isn't there", "--no-such-option 1"),
    System(
        "ours", "without registration", f"--preset relight --registration.enabled false --train.images 16 {TINY}",
        column="ours",
    ),
)  # fmt: skip


def write_exr(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    output = OpenImageIO.ImageOutput.create(str(path))
    assert output.open(str(path), OpenImageIO.ImageSpec(rgb.shape[1], rgb.shape[0], 3, "half"))
    assert output.write_image(np.ascontiguousarray(rgb, dtype=np.float32))
    output.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A painted set laid out as the statue set is: 10 photos a day, two views, a clip of three frames."""
    folder = tmp_path_factory.mktemp("painted")
    first, second, _ = painted_set.painted_days(10)
    for name, bank in (("A_dull", first), ("B_bright", second)):
        (folder / "train" / name).mkdir(parents=True)
        for number, photo in enumerate(bank.photos):
            Image.fromarray(np.round(photo * 255).astype(np.uint8)).save(folder / "train" / name / f"{number}.png")
    for number in range(2):
        linear, sky = painted_set.view(np.random.default_rng(90 + number), 0.7, (60, 80))
        write_exr(folder / f"test/pairs/A/{number}.exr", linear)
        write_exr(folder / f"test/pairs/B/{number}.exr", painted_set.second_day(linear, sky))
        (folder / "test/pairs/mask").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"test/pairs/mask/{number}.png"), np.where(sky, 0, 255).astype(np.uint8))
    still = np.zeros((60, 80, 3), np.float32)
    still[..., 2] = 1
    for frame in (1, 2, 3):
        write_exr(folder / f"clips/still/A/{frame:04}.exr", linear)
        write_exr(folder / f"clips/still/B/{frame:04}.exr", painted_set.second_day(linear, sky))
        write_exr(folder / f"clips/still/flow/{frame:04}.exr", still)
    return folder


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    """The benchmark, run twice on two systems of which one is broken; everything both runs left."""
    place = tmp_path_factory.mktemp("compared")
    argv = [
        "--data", str(data), "--work", str(place / "work"), "--out", str(place / "out"), "--minutes", "30",
        "--rows", *(system.name for system in SYSTEMS), "--no-oracles", "--device", "cpu",
        "--directions", "ba",
    ]  # fmt: skip
    codes, records, started = [], [], []

    def noted(command, *more):
        started[-1].append(next(system.name for system in SYSTEMS if system.words.split()[0] in command))
        return run_process(command, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_fits, "run_process", noted)
        for _ in range(2):
            started.append([])
            codes.append(compare.main(argv, SYSTEMS))
            records.append(json.loads((place / "out" / "compare.json").read_text(encoding="utf-8")))
    return place, codes, records, started


def test_a_broken_row_is_reported_with_its_last_words_and_the_others_go_on(compared):
    place, codes, (record, _), _ = compared
    assert codes == [1, 1]
    (failed,) = record["failed"]
    assert "broken, seed 0" in failed["what"]
    assert "there is no option --no-such-option" in failed["error"][-1]
    assert list(record["sets"]["pairs"]["directions"]["ba"]["systems"]) == ["ours"]
    page = (place / "out" / "compare.md").read_text(encoding="utf-8")
    assert "## Failed" in page
    assert "--no-such-option" in page
    assert "broken, seed 0 (FAILED)" in page


def test_a_system_has_all_figures_and_what_it_took(compared):
    place, _, (record, _), _ = compared
    found = record["sets"]["pairs"]
    each = found["directions"]["ba"]
    assert "histogram of the nearest photo" in each["baselines"]
    ours = each["systems"]["ours"]
    assert {"psnr", "psnr_surfaces", "shadow_sign", "exposure_error", "gain_correlation"} <= set(ours["spread"])
    assert set(ours["seeds"]["0"]["clips"]["still"]) == {"blend 0", "blend 1"}
    ours = found["fits"]["ours"]["0"]
    (part,) = ours["fits"]
    assert (part["directions"], part["images"]) == (["ba"], 16)
    assert set(ours["looks"]) == {"ba"}
    assert ours["learned_from"]["ba"].endswith(" patches")
    assert 0 < ours["photos_s"] < ours["wall_s"]
    assert 2**26 < ours["peak_bytes"] < 2**34
    page = (place / "out" / "compare.md").read_text(encoding="utf-8")
    assert "## B to A, still" in page
    assert str(place) not in page
    sheet = cv2.imread(str(place / "out" / "compare-ba.jpg"))
    assert sheet.shape[1] > 4 * 80


def test_the_same_command_again_trains_nothing_that_was_finished(compared):
    place, _, (first, second), started = compared
    assert first["sets"] == second["sets"] | {
        "pairs": {**second["sets"]["pairs"], "fits": first["sets"]["pairs"]["fits"]}
    }
    assert first["sets"]["pairs"]["fits"]["ours"] == second["sets"]["pairs"]["fits"]["ours"]
    # What failed was tried again.
    broken = [each["sets"]["pairs"]["fits"]["broken"]["0"]["wall_s"] for each in (first, second)]
    assert broken[1] > broken[0]
    assert started == [["broken", "ours"], ["broken"]]
    (log,) = (place / "work" / "pairs").glob("*/run/log.txt")
    assert log.read_text(encoding="utf-8").count("The report: ") == 1


def test_each_system_gets_equal_time_for_the_directions_asked_for(data, tmp_path):
    photos = (data / "train" / "A_dull", data / "train" / "B_bright")
    fits = {
        (system.name, directions): Fit(system, 1, 3.0, directions, photos, "cpu", tmp_path)
        for system in SMALL
        for directions in (("ab",), ("ba",), ("ab", "ba"))
    }
    for (_, directions), fit in fits.items():
        words = fit.command()
        assert words[words.index("--max-minutes") + 1] == str(3 * len(directions))
        assert ("--both-directions" in words) == (len(directions) == 2)
        source, target = (words[words.index(option) + 1] for option in ("--source", "--target"))
        assert (source, target) == tuple(map(str, photos if directions[0] == "ab" else photos[::-1]))
    assert len({fit.folder for fit in fits.values()}) == len(fits)


def test_a_two_way_fit_is_one_part_of_both_directions_and_others_are_two(data, tmp_path):
    photos = (data / "train" / "A_dull", data / "train" / "B_bright")
    fit = Fit(SMALL[1], 0, 1.0, ("ab", "ba"), photos, "cpu", tmp_path)
    for folder, images in (("run", 24), ("run/back", 12)):
        (fit.folder / folder).mkdir(parents=True)
        lines = [json.dumps({"images": n, "seconds": 2.0 * n, "losses": {}}) for n in (4, images)]
        (fit.folder / folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        done = compare_fits.what_was_done(fit)
        if folder == "run":
            assert done["fits"] == [{"directions": ["ab", "ba"], "images": 24, "seconds": 48.0}]
    assert done["fits"][1] == {"directions": ["ba"], "images": 12, "seconds": 24.0}
    assert done["photos_s"] is None


def test_a_guided_row_that_was_not_guided_says_so():
    def notes(gains, enabled):
        return {"config": {"translator": "relight", "registration": {"enabled": enabled}}, "gains": gains}

    gains = {"ab": {"patches": 1200}}
    assert compare_fits.learned_from(notes(gains, True), ("ab", "ba")) == {
        "ab": "NOT guided: 1,200 patches",
        "ba": "guidance",
    }
    assert compare_fits.learned_from(notes(gains, False), ("ba",)) == {"ba": "1,200 patches"}
    assert compare_fits.learned_from({"config": {"translator": "cut"}}, ("ab",)) == {}


@pytest.mark.parametrize("system", [each for each in ALL if not each.seed_script], ids=lambda each: each.name)
def test_the_options_of_every_row_are_settings_that_there_are(system):
    options, unknown = make_parser().parse_known_args(system.words.split())
    assert unknown == []
    config = resolve(given_options(options, RunConfig))
    assert config.preset == system.words.split()[1]
    assert config.registration.enabled == ("patches" not in system.name)


@pytest.mark.parametrize(("more", "systems"), [([], SMALL), (["--full"], FULL)])
def test_ours_is_compared_with_rivals_of_either_size(more, systems):
    words = compare.build_parser().parse_args(["--data", "here", "--work", "there", *more])
    assert compare.chosen_systems(words, ALL) == list(systems)
    assert {"relight", "relight-patches"} <= {system.name for system in systems}


def test_a_stop_reaches_the_process_and_lets_it_end_by_itself(tmp_path):
    script = (
        "import pathlib, signal, sys, time\n"
        "def end(number, frame):\n"
        "    time.sleep(0.5); print('kept what there is', flush=True); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, end)\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(300)\n"
    )
    (tmp_path / "sleeper.py").write_text(script)

    class WhenReady:
        @property
        def asked(self):
            return (tmp_path / "ready").exists()

    code, _, seconds = run_process([compare_fits.sys.executable, str(tmp_path / "sleeper.py")], tmp_path, WhenReady())
    assert code == 130
    assert seconds < 300  # it didn't sleep to its end
    assert (tmp_path / "train.log").read_text().strip() == "kept what there is"


def test_means_come_with_half_the_range_over_seeds():
    figures = spread([{"psnr": 18.0, "ssim": 0.5}, {"psnr": 18.6, "ssim": None}, {"psnr": 18.3, "ssim": 0.5}])
    assert spread_text(figures["psnr"], 2) == "18.30 ± 0.30"
    assert spread_text(figures.get("ssim"), 2) == "–"
    assert spread_text(spread([{"psnr": 18.0}])["psnr"], 1) == "18.0"


def test_pictures_of_the_other_light_are_near_its_folder_and_lose_no_detail(data):
    from relightgan.training.measure.evaluation import pool_folder

    here, there = (unpaired_views(data / "train" / side, 10) for side in ("A_dull", "B_bright"))
    target = pool_folder(data / "train" / "B_bright")
    far, near = (nearness(untouched_method(), views, target) for views in (here, there))
    assert near["histogram"] < 0.1 < 10 < far["histogram"]
    assert near["lab_mean"] < 0.1 < 5 < far["lab_mean"]
    assert far["detail_correlation_plate"] == pytest.approx(1.0)


def test_a_set_without_truth_is_compared_by_its_colours(data, tmp_path, capsys):
    argv = ["--data", str(data), "--lab", str(data), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert compare.main([*argv, "--rows", "--no-oracles", "--directions", "ab"]) == 0
    assert "## A to B, film frames" in capsys.readouterr().out
    assert (tmp_path / "out" / "compare-lab-ab.jpg").exists()


@pytest.mark.parametrize(
    ("more", "error", "named"),
    [
        (["--minutes", "0"], UsageError, "--minutes is 0"),
        (["--rows", "nobody"], UsageError, "no system 'nobody'"),
        (["--seeds", "1", "1"], UsageError, "--seeds names one twice"),
        (["--data", "nowhere"], PlateError, "nowhere has no test/pairs"),
    ],
)
def test_what_makes_no_sense_is_named_before_anything_is_done(data, tmp_path, more, error, named):
    with pytest.raises(error, match=named):
        compare.main(["--data", str(data), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), *more])
    assert list(tmp_path.iterdir()) == []
