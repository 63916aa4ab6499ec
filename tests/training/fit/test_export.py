import dataclasses
import datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from relightgan.core import runtime
from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.core.errors import LookError
from relightgan.core.look import load_look
from relightgan.core.operator_look import cut
from relightgan.core.session import LookSession
from relightgan.core.version import VERSION
from relightgan.training.fit import export
from relightgan.training.fit.batches import TrainingData
from relightgan.training.fit.export import PROOF_TOLERANCE, export_look, prove, relative_difference
from relightgan.training.fit.recipe import ExportSpec
from relightgan.training.gan import cyclegan as recipe_cyclegan
from relightgan.training.relight import recipe as recipe_relight
from relightgan.training.relight.networks import GainGridSettings

pytestmark = pytest.mark.fits

STATED = {
    "name": "courtyard", "licence": "Apache-2.0", "dataset": {"photos": 12}, "config": {"seed": 3},
    "evaluation": {"psnr_db": 27.5},
}  # fmt: skip
WHOLE = np.float32([0, 0, 1, 1])


@dataclasses.dataclass(frozen=True)
class Exported:
    """A look on disk, the recipe's spec that it came from, and a plain onnxruntime session on it."""

    path: object
    recipe: object
    spec: ExportSpec
    proof: object
    session: onnxruntime.InferenceSession


OUTPUTS = ["relit", "grid", "anchor", "doubt", "guide", "white", "rolloff", "gain", "confidence"]


def exported(recipe, path):
    spec = recipe.export("ab")
    path.parent.mkdir(exist_ok=True)
    proof = export_look(spec, path, STATED)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return Exported(path, recipe, spec, proof, onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"]))


@pytest.fixture(scope="module")
def relight(tmp_path_factory, measured_days):
    """A look of the relight recipe, with gains of up to a few stops that vary over the frame and with brightness."""
    recipe = relight_recipe(measured_days, seed=0)
    return exported(recipe, tmp_path_factory.mktemp("relight") / "new folder" / "look.onnx")


def relight_recipe(days, seed):
    data = TrainingData(days.first, days.second, days.pairs, days.gains)
    settings = recipe_relight.RelightSettings(net=GainGridSettings(proxy_px=64, depth=4, width=4))
    torch.manual_seed(seed)
    recipe = recipe_relight.build(settings, data, torch.device("cpu"))
    nn.init.normal_(recipe.averaged.leave.weight, std=8.0)
    return recipe


@pytest.fixture(scope="module")
def cyclegan(tmp_path_factory):
    """A look of the cyclegan recipe, untrained."""
    settings = recipe_cyclegan.CycleGanSettings(base_filters=4, blocks=1, down_steps=1, critic_filters=4, size_px=32)
    torch.manual_seed(0)
    recipe = recipe_cyclegan.build(settings, None, torch.device("cpu"))
    return exported(recipe, tmp_path_factory.mktemp("cyclegan") / "look.onnx")


def plates(height, width, count=1, seed=0):
    """(N, 3, H, W) scene-linear, from a little below 0 to 40, smooth with grain."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.random((count, 3, 5, 7), dtype=np.float32))
    smooth = F.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1).numpy()
    grain = rng.random((count, 3, height, width), dtype=np.float32)
    return np.float32(40 * (0.8 * smooth + 0.2 * grain) ** 4 - 0.02)


def by_torch(spec, plate, *more):
    with torch.no_grad():
        found = spec.module(torch.from_numpy(plate), *(torch.from_numpy(array) for array in more))
    return [array.numpy() for array in ((found,) if isinstance(found, torch.Tensor) else found)]


def assert_same_numbers(found, expected):
    assert [array.shape for array in found] == [array.shape for array in expected]
    assert max(relative_difference(e, f) for e, f in zip(expected, found, strict=True)) < PROOF_TOLERANCE


# The flagship


@pytest.mark.parametrize(
    "size", [(96, 128), (20, 33), (33, 20), (135, 240), (157, 211), (320, 180), (107, 256), (16, 16), (1, 1)]
)
def test_a_relight_look_gives_torchs_numbers_at_any_size(relight, size):
    plate = plates(*size)
    found = relight.session.run(OUTPUTS, {"plate": plate, "window": WHOLE})
    expected = by_torch(relight.spec, plate, WHOLE)
    assert_same_numbers(found, expected)
    assert np.abs(np.log2(np.abs(found[0] / plate))).max() > 0.1  # it does change the plate


def test_a_relight_look_takes_several_plates_at_once(relight):
    plate = np.concatenate([plates(60, 90), 0.1 * plates(60, 90, seed=4)])
    found = relight.session.run(OUTPUTS, {"plate": plate})
    assert_same_numbers(found, by_torch(relight.spec, plate, WHOLE))
    for n in range(2):
        alone = relight.session.run(OUTPUTS, {"plate": plate[n : n + 1]})
        assert_same_numbers([array[n : n + 1] for array in found], alone)


def test_a_plain_host_gives_the_plate_only(relight):
    graph = onnx.load(relight.path).graph
    stored = {tensor.name for tensor in graph.initializer}
    assert [port.name for port in graph.input if port.name not in stored] == ["plate"]
    assert [port.name for port in graph.output] == OUTPUTS
    plate = plates(50, 80)
    alone, whole, other = (
        relight.session.run(["relit"], {"plate": plate, **more})[0]
        for more in ({}, {"window": WHOLE}, {"window": np.float32([0.5, 0, 1, 0.5])})
    )
    np.testing.assert_array_equal(alone, whole)
    assert np.abs(other - whole).max() > 0.01
    assert_same_numbers([other], by_torch(relight.spec, plate, np.float32([0.5, 0, 1, 0.5]))[:1])


def test_a_relight_look_cut_in_halves_by_the_runtime_equals_torch_end_to_end(relight):
    look = load_look(relight.path)
    assert look.takes_window
    session = LookSession(look, device="cpu")
    for height, width in ((200, 150), (64, 153), (31, 20)):  # several strips, one, and less than one
        plate = plates(height, width)
        rgb = np.ascontiguousarray(plate[0].transpose(1, 2, 0))
        operator = session.predict(rgb)
        expected = dict(zip(OUTPUTS, by_torch(relight.spec, plate, WHOLE), strict=True))
        assert list(operator) == ["grid", "anchor", "doubt", "guide", "white", "rolloff"]
        assert session.applied == ("grid", "anchor", "guide", "white", "rolloff")  # the doubt is for others
        assert_same_numbers([array[None] for array in operator.values()], [expected[name] for name in operator])
        relit = session.apply(rgb, operator)
        assert_same_numbers([relit.transpose(2, 0, 1)[None]], [expected["relit"]])


@pytest.mark.parametrize("rows", [1, 17, 64])
def test_strips_that_the_runtime_relights_have_no_seams(relight, rows, monkeypatch):
    # Texture, an edge and detail: all three are told apart by the frame's guide and not by the strip's own pixels.
    session = LookSession(load_look(relight.path), device="cpu")
    plate = 0.05 + np.abs(plates(129, 90))
    plate[..., 50:] *= 12
    rgb = np.ascontiguousarray(plate[0].transpose(1, 2, 0))
    operator = session.predict(rgb)
    monkeypatch.setattr(runtime, "STRIP_ROWS", 129)
    whole = session.apply(rgb, operator)
    monkeypatch.setattr(runtime, "STRIP_ROWS", rows)
    assert relative_difference(whole, session.apply(rgb, operator)) < 1e-4
    assert relative_difference(by_torch(relight.spec, plate, WHOLE)[0], whole.transpose(2, 0, 1)[None]) < 1e-4
    # A strip by itself would be guided otherwise.
    alone = session.predict(np.ascontiguousarray(rgb[:64]))
    assert relative_difference(whole[:64], session.apply(rgb[:64].copy(), alone)) > 0.01


def test_the_runtime_gives_a_relight_looks_aovs_as_torch_does(relight):
    look = load_look(relight.path)
    session = LookSession(look, device="cpu", aovs=("gain", "confidence"))
    plain = LookSession(look, device="cpu")
    for height, width in ((200, 150), (31, 20)):
        plate = plates(height, width)
        rgb = np.ascontiguousarray(plate[0].transpose(1, 2, 0))
        operator = session.predict(rgb)
        assert list(operator) == ["grid", "anchor", "doubt", "guide", "white", "rolloff"]
        expected = by_torch(relight.spec, plate, WHOLE)
        relit, aovs = session.apply_with_aovs(rgb, operator)
        assert [array.shape[2] for array in aovs.values()] == [3, 1]
        assert_same_numbers(
            [array.transpose(2, 0, 1)[None] for array in (relit, *aovs.values())], [expected[0], *expected[-2:]]
        )
        np.testing.assert_array_equal(relit, plain.apply(rgb, operator))
        assert plain.apply_with_aovs(rgb, operator)[1] == {}


def test_a_plate_four_times_brighter_has_the_same_aovs(relight):
    session = LookSession(load_look(relight.path), device="cpu", aovs=("gain", "confidence"))
    rgb = np.ascontiguousarray(np.maximum(plates(90, 120)[0], 2.0**-8).transpose(1, 2, 0))
    darker, brighter = (session.apply_with_aovs(x, session.predict(x))[1] for x in (rgb, 4 * rgb))
    assert darker["gain"].std() > 0.3
    for name, tolerance in (("gain", 2e-3), ("confidence", 1e-4)):
        np.testing.assert_allclose(brighter[name], darker[name], atol=tolerance)


def test_nothing_is_computed_for_aovs_that_are_not_asked_for(relight):
    look = load_look(relight.path)
    (_, bare, _), (_, full, operators) = cut(look), cut(look, ("gain", "confidence"))
    assert operators == ("grid", "anchor", "doubt", "guide", "white", "rolloff")
    assert [port.name for port in bare.graph.output] == ["relit"]
    counts = [[node.op_type for node in half.graph.node].count("GridSample") for half in (bare, full)]
    assert counts == [4, 5]  # the fifth looks up the doubt
    gain_only = cut(look, ("gain",))
    assert gain_only[2] == ("grid", "anchor", "guide", "white", "rolloff")
    assert len(gain_only[1].graph.node) == len(bare.graph.node)  # the gain is made on the way anyway


def test_the_runtime_takes_operators_of_another_frame_and_raster(relight):
    # Blending over time hands the second half operators that the first didn't just make.
    session = LookSession(load_look(relight.path), device="cpu")
    rgb = np.ascontiguousarray(plates(70, 100)[0].transpose(1, 2, 0))
    operator = {
        "grid": np.full((12, 3, 17), -1.0, np.float32), "anchor": np.zeros((1, 1, 1), np.float32),
        "guide": np.float32([[[1.0]], [[0.0]]]) * np.ones((1, 5, 9), np.float32),
        "white": np.full((1, 1, 1), 100.0, np.float32),
        "rolloff": np.zeros((1, 2, 3), np.float32),
    }  # fmt: skip
    np.testing.assert_allclose(session.apply(rgb, operator), rgb / 2, rtol=1e-5)


def test_a_relight_look_matches_the_recipes_own_previews(relight, measured_days):
    session = LookSession(load_look(relight.path), device="cpu")
    photo = measured_days.first[2]
    linear = srgb_to_linear(photo)
    relit = session.apply(linear, session.predict(linear))
    assert abs(relight.spec.module.net.detail) > 0.05
    preview = relight.recipe.relight(torch.from_numpy(photo).permute(2, 0, 1)[None], "ab")
    shown = preview[0].permute(1, 2, 0).numpy()
    unclipped = (shown > 0) & (shown < 1)
    assert unclipped.mean() > 0.3
    np.testing.assert_allclose(linear_to_srgb(relit)[unclipped], shown[unclipped], atol=2e-4)


def test_a_look_says_everything_about_itself(relight):
    facts = load_look(relight.path).facts
    assert (facts.name, facts.licence, facts.direction, facts.translator) == (
        "courtyard",
        "Apache-2.0",
        "ab",
        "relight",
    )
    assert (facts.encoding, facts.primaries, facts.value_range) == ("linear", "lin_rec709", "unbounded")
    assert facts.operators == ("grid", "anchor", "doubt", "guide", "white", "rolloff")
    assert facts.aovs == ("gain", "confidence")
    assert (facts.size_multiple, facts.overlap_px) == (1, 0)
    assert (facts.dataset, facts.config) == ({"photos": 12}, {"seed": 3})
    assert facts.evaluation["psnr_db"] == 27.5
    proof = facts.evaluation["export"]
    assert [tuple(size) for size in proof["sizes"]] == list(relight.proof.sizes)
    assert proof["differences"] == list(relight.proof.differences)
    assert len(proof["differences"]) == 2
    assert 0 < max(proof["differences"]) < proof["tolerance"] == PROOF_TOLERANCE
    assert facts.versions["relightgan"] == VERSION
    assert {"torch", "onnx", "onnxruntime", "python"} < set(facts.versions)
    made = datetime.datetime.fromisoformat(facts.created)
    assert abs(datetime.datetime.now(datetime.UTC) - made) < datetime.timedelta(hours=1)
    model = onnx.load(relight.path)
    assert (model.producer_name, model.producer_version) == ("relightgan", VERSION)
    assert sorted(path.name for path in relight.path.parent.iterdir()) == ["look.onnx"]


# The cyclegan


@pytest.mark.parametrize("size", [(96, 128), (20, 34), (158, 210), (108, 256)])
def test_a_cyclegan_look_gives_torchs_numbers(cyclegan, size):
    plate = np.clip(plates(*size, count=2), 0, 1)
    assert_same_numbers(cyclegan.session.run(["relit"], {"plate": plate}), by_torch(cyclegan.spec, plate))


def test_a_cyclegan_look_is_an_image_look_in_display_values(cyclegan):
    look = load_look(cyclegan.path)
    assert (look.facts.translator, look.facts.operators, look.takes_window) == ("cyclegan", (), False)
    assert (look.facts.encoding, look.facts.value_range) == ("srgb_log", "unit")
    assert look.facts.size_multiple == cyclegan.spec.module.size_multiple
    # The sizes it says it was proved at are those it was proved at.
    assert all(side % look.facts.size_multiple == 0 for size in cyclegan.proof.sizes for side in size)


def test_the_runtime_relights_odd_sizes_as_the_cyclegan_recipe_does(cyclegan):
    session = LookSession(load_look(cyclegan.path), device="cpu")
    linear = np.ascontiguousarray(np.clip(plates(57, 83), 0, 1)[0].transpose(1, 2, 0))
    relit = session.apply(linear, session.predict(linear))
    photos = torch.from_numpy(linear_to_srgb(linear)).permute(2, 0, 1)[None]
    expected = srgb_to_linear(cyclegan.recipe.relight(photos, "ab")[0].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(relit, expected, atol=1e-4)


# What goes wrong


class Mean(nn.Module):
    """Half a look: the frame's mean colour as a gain."""

    def forward(self, plate):
        return (plate.mean((2, 3), keepdim=True),)


class Times(nn.Module):
    """The other half: plate times gain."""

    def forward(self, plate, window, gain):
        return plate * gain


class Whole(nn.Module):
    """Both halves, with a gain that is off by a factor, or that isn't a number."""

    def __init__(self, factor=1.0, operator_factor=1.0):
        super().__init__()
        self.factor, self.operator_factor = factor, operator_factor

    def forward(self, plate, window):
        gain = plate.mean((2, 3), keepdim=True)
        return plate * gain * self.factor, gain * self.operator_factor


def tiny_spec(**changes):
    facts = {
        "direction": "ab", "translator": "tiny", "encoding": "linear", "primaries": "lin_rec709",
        "value_range": "unbounded", "operators": ("gain",), "size_multiple": 1, "overlap_px": 0,
    }  # fmt: skip
    inputs = (torch.full((1, 3, 16, 24), 0.5), torch.from_numpy(WHOLE))
    return ExportSpec(Whole(**changes), inputs, ("relit", "gain"), facts, (Mean(), Times()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The path of a sound tiny look that took the place of another file."""
    path = tmp_path_factory.mktemp("tiny") / "look.onnx"
    path.write_bytes(b"an older look")
    export_look(tiny_spec(), path, STATED)
    return path


def test_a_sound_look_takes_the_place_of_an_older_one(tiny):
    assert load_look(tiny).facts.translator == "tiny"
    assert [found.name for found in tiny.parent.iterdir()] == ["look.onnx"]


def test_a_look_that_onnxruntime_gets_wrong_is_refused_and_the_one_in_its_place_kept(tiny):
    before = tiny.read_bytes()
    with pytest.raises(LookError, match=r"differs from torch by 0\.0\d+ at 157x211 \(allowed: 0\.0002\)"):
        export_look(tiny_spec(factor=1.01), tiny, STATED)
    assert tiny.read_bytes() == before
    assert [found.name for found in tiny.parent.iterdir()] == ["look.onnx"]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"operator_factor": 0.99}, r"0\.0\d+"),
        ({"factor": float("nan")}, "nan"),
        ({"operator_factor": float("nan")}, "nan"),
    ],
)
def test_every_output_must_be_right_and_a_number(tiny, changes, difference):
    look = load_look(tiny)
    assert max(prove(tiny_spec(), look.model, look.facts).differences) < PROOF_TOLERANCE
    with pytest.raises(LookError, match=f"differs from torch by {difference}"):
        prove(tiny_spec(**changes), look.model, look.facts)


def test_a_model_that_onnxruntime_cannot_load_or_run_is_one_clear_error(tiny):
    facts = load_look(tiny).facts
    broken = onnx.load(tiny)
    broken.graph.node[-1].op_type = "NoSuchOperator"
    with pytest.raises(LookError, match=r"can't load the exported look \(.*NoSuchOperator"):
        prove(tiny_spec(), broken.SerializeToString(), facts)
    fixed = onnx.load(tiny)
    for axis, side in ((2, 16), (3, 24)):
        fixed.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    with pytest.raises(LookError, match="can't run the exported look"):
        prove(tiny_spec(), fixed.SerializeToString(), facts)


def test_a_place_that_cannot_be_written_is_named_before_the_work(tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("not a folder")
    with pytest.raises(LookError, match=r"a file/look\.onnx can't be written: (Not a directory|File exists)"):
        export_look(tiny_spec(), blocked / "look.onnx", STATED)
    assert blocked.read_text() == "not a folder"


def test_facts_without_sense_are_refused_before_the_work(tmp_path):
    with pytest.raises(LookError, match="encoding"):
        export_look(tiny_spec(), tmp_path / "look.onnx", {**STATED, "encoding": "rec709"})
    with pytest.raises(LookError, match="name"):
        export_look(tiny_spec(), tmp_path / "look.onnx", {"licence": "none"})
    assert list(tmp_path.iterdir()) == []


def test_the_difference_is_relative_above_1_and_absolute_below():
    assert relative_difference(np.float32([100.0, 0.0]), np.float32([101.0, 0.005])) == pytest.approx(0.01)
    assert relative_difference(np.float32([0.5, -8.0]), np.float32([0.25, -8.0])) == 0.25
    assert np.isnan(relative_difference(np.float32([1.0, 2.0]), np.float32([1.0, np.nan])))


def test_a_second_export_of_one_structure_takes_the_graph_and_its_own_weights(relight, measured_days, tmp_path):
    before = len(export.GRAPHS)
    other = relight_recipe(measured_days, seed=1)
    second = exported(other, tmp_path / "second.onnx")
    assert len(export.GRAPHS) == before > 0
    assert second.proof.differences < (PROOF_TOLERANCE,) * 2
    assert second.path.read_bytes() != relight.path.read_bytes()


@pytest.mark.parametrize("kind", ["relight", "cyclegan"])
def test_a_look_names_no_file_of_the_machine_that_made_it(kind, request):
    content = request.getfixturevalue(kind).path.read_bytes()
    for word in (b"site-packages", b"stack_trace", str(Path(__file__).parents[3]).encode()):
        assert word not in content
