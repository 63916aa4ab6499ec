import json
from dataclasses import replace

import cv2
import numpy as np
import OpenImageIO
import pytest
import torch

from relightgan.core.cli import main as relightgan
from relightgan.core.errors import LookError, PlateError, UsageError
from relightgan.core.guidance import FrameGuidance
from relightgan.core.guidance_files import DIRECTION_NOTE, PHOTOS_NOTE, photos_digest, write_guidance
from relightgan.training.fit.batches import TrainingData
from relightgan.training.fit.export import export_look
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.measure.clips import TRUTH, find_clip, measure_clip
from relightgan.training.measure.evaluation import Request, evaluate, look_names, pool_folder, stated_direction
from relightgan.training.measure.paired_views import UNTOUCHED, Method, find_views, measure_views, untouched_method
from relightgan.training.relight import recipe as recipe_relight
from relightgan.training.relight.networks import GainGridSettings

pytestmark = pytest.mark.fits

SIZE = (48, 64)
FRAMES = range(1, 6)
STEP_PX = 3


def write_exr(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    output = OpenImageIO.ImageOutput.create(str(path))
    assert output.open(str(path), OpenImageIO.ImageSpec(rgb.shape[1], rgb.shape[0], 3, "half"))
    assert output.write_image(np.ascontiguousarray(rgb, dtype=np.float32))
    output.close()


def texture(width=SIZE[1], seed=0):
    random = np.random.default_rng(seed)
    coarse = cv2.resize(random.uniform(-3, 0.5, (6, 10, 3)).astype(np.float32), (width, SIZE[0]))
    return np.exp2(coarse + 0.2 * random.standard_normal(coarse.shape)).astype(np.float32)


def sunlit(rgb):
    """The other light: warmer, and darker to the right."""
    fall = np.linspace(1.0, -1.0, rgb.shape[1])[None, :, None]
    return rgb * np.exp2(fall + np.array([0.5, 0.0, -0.5]))


@pytest.fixture
def pairs(tmp_path):
    for number in range(2):
        plate = texture(seed=number)
        write_exr(tmp_path / f"pairs/A/{number:04}.exr", plate)
        write_exr(tmp_path / f"pairs/B/{number:04}.exr", sunlit(plate))
        mask = np.zeros(SIZE, np.uint8)
        mask[16:] = 255
        (tmp_path / "pairs/mask").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"pairs/mask/{number:04}.png"), mask)
    return tmp_path / "pairs"


@pytest.fixture
def clip(tmp_path):
    """A camera that pans: every point of a frame was STEP_PX further right in the frame before."""
    wide = texture(width=SIZE[1] + STEP_PX * len(FRAMES))
    for frame in FRAMES:
        plate = wide[:, STEP_PX * frame : STEP_PX * frame + SIZE[1]]
        write_exr(tmp_path / f"clip/A/{frame:04}.exr", plate)
        write_exr(tmp_path / f"clip/B/{frame:04}.exr", plate * [1.5, 1.0, 0.7])
        flow = np.zeros((*SIZE, 3), np.float32)
        flow[..., 0], flow[:, :-STEP_PX, 2] = STEP_PX, 1
        if frame > FRAMES[0]:
            write_exr(tmp_path / f"clip/flow/{frame:04}.exr", flow)
    return tmp_path / "clip"


@pytest.fixture
def dumps(tmp_path):
    for day, colour in {"day1": (90, 100, 110), "day2": (60, 110, 180)}.items():
        (tmp_path / day).mkdir()
        for number in range(3):
            noise = np.random.default_rng(number).integers(-40, 40, (40, 60, 3))
            cv2.imwrite(
                str(tmp_path / day / f"{number}.jpg"), np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            )
    return tmp_path / "day1", tmp_path / "day2"


def test_a_look_that_changes_nothing_scores_what_the_input_scores(pairs, identity_look):
    result = evaluate(Request(looks=(identity_look,), pairs=pairs))
    methods = result["pairs"]["methods"]
    assert methods["identity"]["views"] == methods[UNTOUCHED]["views"]
    assert methods["identity"]["mean"]["gain_correlation"]["mean"] == 0.0
    assert set(methods["identity"]["views"]) == {"0000", "0001"}


@pytest.fixture(scope="module")
def fresh_look(tmp_path_factory):
    """A look of the relight recipe that has learned nothing."""
    maps = GuidanceMaps(np.zeros(1, int), np.zeros((1, 8, 12, 3), np.float16), np.ones((1, 8, 12), np.float16))
    recipe = recipe_relight.build(
        recipe_relight.RelightSettings(net=GainGridSettings(proxy_px=64, depth=4, width=4), match_detail=False),
        TrainingData([], [], None, guidance=maps),
        torch.device("cpu"),
    )
    path = tmp_path_factory.mktemp("looks") / "fresh.onnx"
    export_look(recipe.export("ab"), path, {"name": "fresh", "dataset": {}})
    return path


def located(pairs, folder, confidence):
    """Guidance files that know the truth, with some confidence."""
    folder.mkdir()
    for path in sorted((pairs / "A").glob("*.exr")):
        plate, truth = (OpenImageIO.ImageBuf(str(pairs / side / path.name)).get_pixels() for side in "AB")
        small = [cv2.resize(picture, (40, 24), interpolation=cv2.INTER_AREA) for picture in (plate, truth)]
        gain = np.log2(small[1] / small[0])
        known = FrameGuidance(gain, np.zeros(gain.shape, bool), np.full(gain.shape[:2], confidence, np.float32))
        write_guidance(folder / path.name, known, {PHOTOS_NOTE: photos_digest({}), DIRECTION_NOTE: "ab"})
    return folder


def test_guidance_that_knows_the_truth_lifts_a_look_that_has_learned_nothing(pairs, fresh_look, tmp_path):
    request = Request(looks=(fresh_look,), pairs=pairs, device="cpu")
    sure, unsure = located(pairs, tmp_path / "sure", 1.0), located(pairs, tmp_path / "unsure", 0.0)
    psnr = {}
    for name, folder in (("sure", sure), ("unsure", unsure)):
        methods = evaluate(replace(request, guidance=folder))["pairs"]["methods"]
        psnr[name] = {method: each["mean"]["psnr"]["mean"] for method, each in methods.items()}
    assert psnr["unsure"]["fresh, guided"] == psnr["unsure"]["fresh"] == psnr["sure"]["fresh"]
    assert psnr["sure"]["fresh, guided"] > psnr["sure"]["fresh"] + 3
    (sure / "0001.exr").unlink()
    with pytest.raises(PlateError, match=r"no guidance .*0001\.exr"):
        evaluate(replace(request, guidance=sure))


def test_only_looks_with_a_grid_are_guided(pairs, identity_look, tmp_path):
    methods = evaluate(Request(looks=(identity_look,), pairs=pairs, device="cpu", guidance=tmp_path))["pairs"][
        "methods"
    ]
    assert list(methods) == [UNTOUCHED, identity_look.stem]


def test_the_truth_as_a_method_is_perfect_and_a_half_way_one_is_better_than_nothing(pairs):
    half_way = Method("half", lambda view: np.sqrt(view.plate.rgb * view.truth))
    measured = measure_views(
        find_views(pairs), [untouched_method(), half_way, Method("truth", lambda view: view.truth)]
    )
    mean = {name: each["mean"] for name, each in measured.items()}
    assert mean["truth"]["psnr"]["mean"] == float("inf")
    assert mean["truth"]["gain_correlation"]["mean"] == pytest.approx(1.0)
    assert mean["half"]["gain_correlation"]["mean"] > 0.95
    assert mean[UNTOUCHED]["psnr"]["mean"] < mean["half"]["psnr"]["mean"]
    assert "psnr_surfaces" in mean["half"]


def test_exposure_passes_through_nothing_done_and_not_through_a_display_transfer(pairs, dumps):
    result = evaluate(Request(pairs=pairs, source_photos=dumps[0], target_photos=dumps[1], oracles=True))
    error = {
        name: each["mean"]["exposure_error"]["mean"]
        for name, each in result["pairs"]["methods"].items()
        if "oracle" not in name
    }
    assert error[UNTOUCHED] == 0.0
    assert error["pooled histogram match"] > 0.1
    assert "exposure_error" not in result["pairs"]["methods"]["oracle: 3D LUT 17^3"]["mean"]


def test_the_other_direction_swaps_plate_and_truth(pairs):
    there, back = (next(iter(find_views(pairs, direction))) for direction in ("ab", "ba"))
    assert np.array_equal(there.plate.rgb, back.truth)
    assert np.array_equal(there.truth, back.plate.rgb)


def test_png_views_are_linearised(tmp_path):
    for side in "AB":
        (tmp_path / side).mkdir()
        cv2.imwrite(str(tmp_path / side / "view.png"), np.full((16, 16, 3), 128, np.uint8))
    view = next(iter(find_views(tmp_path)))
    assert view.plate.rgb == pytest.approx(np.full((16, 16, 3), 0.21586), abs=1e-4)
    assert view.mask is None


def test_a_view_without_partner_is_named(pairs):
    (pairs / "B" / "0001.exr").unlink()
    with pytest.raises(PlateError, match=r"one of A and B only: 0001\."):
        find_views(pairs)


def test_an_empty_folder_and_a_wrong_size_are_named(pairs, tmp_path):
    with pytest.raises(PlateError, match="no pictures"):
        find_views(tmp_path / "nowhere")
    write_exr(pairs / "B" / "0001.exr", texture(width=32))
    with pytest.raises(PlateError, match=r"64x48 and .* is 32x48"):
        list(find_views(pairs))


def test_nan_in_a_plate_or_a_result_is_an_error_and_not_a_figure(pairs):
    with pytest.raises(LookError, match="bad makes 9216 values of 0000"):
        measure_views(find_views(pairs), [Method("bad", lambda view: view.plate.rgb * np.float32(np.nan))])
    broken = texture()
    broken[3, 4, 1] = np.nan
    write_exr(pairs / "A" / "0000.exr", broken)
    with pytest.raises(PlateError, match=r"0000\.exr has NaN"):
        next(iter(find_views(pairs)))


def test_pooled_baselines_and_oracles_stand_in_the_table(pairs, dumps):
    result = evaluate(Request(pairs=pairs, source_photos=dumps[0], target_photos=dumps[1], oracles=True))
    psnr = {name: each["mean"]["psnr"]["mean"] for name, each in result["pairs"]["methods"].items()}
    assert len(psnr) == 1 + 3 + 1 + 3
    assert "histogram of the nearest photo" in psnr
    assert psnr["oracle: gain grid 40 x 8 deep"] > psnr["oracle: 3D LUT 17^3"] > psnr["oracle: 3x4 colour matrix"]
    assert psnr["oracle: 3x4 colour matrix"] > psnr[UNTOUCHED]


def test_an_unreadable_photo_is_named_and_left_out_of_the_statistics(dumps, capsys):
    whole = pool_folder(dumps[0])
    (dumps[0] / "bad.jpg").write_bytes(b"\xff\xd8\xffnot a photo")
    assert np.array_equal(pool_folder(dumps[0]).lab_mean, whole.lab_mean)
    assert "bad.jpg" in capsys.readouterr().err


def test_a_steady_clip_has_next_to_no_warp_error_and_a_flickering_one_has(clip):
    figures = measure_clip(find_clip(clip), {})
    assert list(figures) == [UNTOUCHED, TRUTH]
    assert figures[UNTOUCHED]["warp_error"] < 1e-3  # what 16-bit floats and bilinear sampling leave
    assert figures[UNTOUCHED]["gain_flicker"] == 0.0
    assert figures[TRUTH]["gain_flicker"] < 0.02
    for frame in FRAMES[::2]:
        path = clip / f"B/{frame:04}.exr"
        write_exr(path, 0.5 * texture())
    assert measure_clip(find_clip(clip), {})[TRUTH]["gain_flicker"] > 0.3


def test_a_clip_measures_every_blend_of_every_look(clip, darken_grid_look):
    result = evaluate(Request(looks=(darken_grid_look,), clip=clip, blends=(0.0, 1.0), window=1))
    rows = result["clip"]["rows"]
    assert set(rows) == {UNTOUCHED, TRUTH, "darken_grid, blend 0", "darken_grid, blend 1"}
    assert rows["darken_grid, blend 1"]["gain_flicker"] < rows["darken_grid, blend 0"]["gain_flicker"]
    assert result["clip"]["frames"] == len(FRAMES) - 1


def test_a_gap_in_the_true_clip_is_named(clip):
    (clip / "B" / "0003.exr").unlink()
    with pytest.raises(PlateError, match=r"no frame 3\."):
        find_clip(clip)


def test_a_clip_without_flow_is_refused(clip):
    for path in (clip / "flow").iterdir():
        path.unlink()
    with pytest.raises(PlateError, match="flow has no pictures"):
        find_clip(clip)


def test_the_command_prints_a_table_and_writes_json_and_pictures(pairs, clip, identity_look, tmp_path, capsys):
    out = tmp_path / "report"
    argv = [
        "evaluate",
        str(identity_look),
        "--pairs",
        str(pairs),
        "--clip",
        str(clip),
        "--blend",
        "0",
        "--out",
        str(out),
    ]
    assert relightgan([*argv, "--progress", "none"]) == 0
    printed = capsys.readouterr().out
    assert "| input unchanged" in printed
    assert "| identity, blend 0" in printed
    assert printed == (out / "evaluation.md").read_text(encoding="utf-8")
    written = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert written["command"].startswith("relightgan evaluate ")
    assert "relightgan" in written["versions"]
    assert len(written["looks"]["identity"]["sha256"]) == 64
    picture = cv2.imread(str(out / "views" / "0000.jpg"))
    assert picture.shape[1] > 3 * SIZE[1]
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "evaluation.md", "views"]


def test_json_on_stdout_is_json_even_where_a_figure_is_infinite(pairs, identity_look, capsys):
    for path in (pairs / "A").iterdir():
        (pairs / "B" / path.name).write_bytes(path.read_bytes())
    assert relightgan(["evaluate", str(identity_look), "--pairs", str(pairs), "--json", "--progress", "none"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["pairs"]["methods"]["identity"]["mean"]["psnr"]["mean"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "nothing to measure"), (["--pairs", "x", "--source-photos", "x"], "needs both dumps")],
)
def test_options_that_make_no_sense_exit_with_2(identity_look, options, message, capsys):
    assert relightgan(["evaluate", str(identity_look), *options]) == 2
    assert message in capsys.readouterr().err


def test_looks_of_opposite_directions_are_refused():
    assert stated_direction(["ba", "day to dusk"]) == "ba"
    assert stated_direction([]) == "ab"
    with pytest.raises(UsageError, match="opposite"):
        stated_direction(["ab", "ba"])


def test_looks_of_one_file_name_are_told_apart_by_their_folders(tmp_path):
    assert list(look_names([tmp_path / "a" / "look.onnx", tmp_path / "b.onnx"])) == ["look", "b"]
    assert list(look_names([tmp_path / "a" / "look.onnx", tmp_path / "look.onnx"]))[1] == str(tmp_path / "look.onnx")
    with pytest.raises(UsageError, match="twice"):
        look_names([tmp_path / "look.onnx", tmp_path / "look.onnx"])
