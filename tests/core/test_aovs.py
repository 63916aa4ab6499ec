"""AOVs: gain and confidence of real looks, from the session to the channels of a real EXR file."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import OpenImageIO
import pytest
import tiny_looks
import tiny_plates

from relightgan.core import cli
from relightgan.core.aovs import MAX_STOPS, wanted_aovs, working_gain
from relightgan.core.errors import LookError, PlateError, UsageError
from relightgan.core.frames import read_plate
from relightgan.core.look import load_look
from relightgan.core.operator_look import cut
from relightgan.core.pipeline import Relighting, Settings, predict, relight_frame
from relightgan.core.session import LookSession

AOVS = ("gain", "confidence")
LAYERS = {"gain.R", "gain.G", "gain.B", "confidence.R"}
FRAMES = range(1, 6)


@pytest.fixture(scope="module")
def look(tmp_path_factory) -> Path:
    """An operator look whose gain and confidence vary over the frame and follow the plate."""
    return tiny_looks.darken_grid_look(tmp_path_factory.mktemp("look") / "darken_aovs.onnx", aovs=True)


@pytest.fixture(scope="module")
def session(look) -> LookSession:
    return LookSession(load_look(look), "cpu", aovs=AOVS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """A moving, flickering clip, only to be read."""
    return tiny_plates.write_clip(tmp_path_factory.mktemp("clip"), FRAMES, flicker=0.5)


@pytest.fixture
def infer(capsys):
    """Runs `relightgan infer` and gives its exit code and stderr."""

    def run(*words):
        code = cli.main(["infer", *map(str, words), "--device", "cpu"])
        return code, capsys.readouterr().err

    return run


def hard_rgb(height=70, width=90) -> np.ndarray:
    """A texture with highlights far above 1, negatives, zeros, and saturated colours."""
    rgb = tiny_plates.texture(height, width)
    rgb[5:9, 5:9] *= 200
    rgb[20:24, 10:20] = [-0.25, 0.5, 0.0]
    rgb[40, 40] = 0.0
    rgb[50:53, 50:60] = [0.0, 0.9, 0.001]
    return rgb


def frame_of(tmp_path, session, rgb, settings, **others):
    """One frame through the pipeline: the plate and its result."""
    plate = read_plate(tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(rgb, **others), "float"))
    return plate, relight_frame(1, lambda _: plate, [1], Relighting(session, settings))


def relight_clip(session, clip, frame, **settings):
    plates = {number: read_plate(clip % number) for number in FRAMES}
    return relight_frame(frame, plates.__getitem__, list(FRAMES), Relighting(session, Settings(**settings)))


@pytest.mark.parametrize("changes", [{}, {"exposure": 1.5}, {"premultiplied": False}])
def test_the_plate_times_two_to_the_gain_is_the_relit_plate(tmp_path, session, changes):
    rgb = hard_rgb()
    alpha = np.clip(tiny_plates.texture(70, 90, seed=4)[..., 0], 0, 1)
    plate, frame = frame_of(tmp_path, session, rgb, Settings(aovs=AOVS, **changes), A=alpha)
    gain = frame.aovs["gain"]
    assert gain.shape == rgb.shape
    assert gain.std() > 0.15
    assert plate.rgb.min() < 0 < 100 < plate.rgb.max()
    assert (plate.rgb == 0).sum() > 30
    np.testing.assert_allclose(plate.rgb * np.exp2(gain), frame.rgb, rtol=3e-6, atol=0)


@pytest.mark.parametrize("kind", ["darken_grid_look", "gain_look", "conv_look", "identity_look"])
@pytest.mark.parametrize("space", ["lin_rec709", "ACEScg"])
def test_the_product_holds_in_the_comps_space_for_any_look_wherever_there_is_such_a_factor(tmp_path, kind, space):
    path = getattr(tiny_looks, kind)(tmp_path / "look.onnx", **({"gain": 1.7} if kind == "gain_look" else {}))
    session = LookSession(load_look(path), "cpu", aovs=("gain",))
    rgb = hard_rgb()
    plate, frame = frame_of(tmp_path, session, rgb, Settings(aovs=("gain",), working_space=space))
    gain = frame.aovs["gain"]
    assert np.isfinite(gain).all()
    factor = np.divide(frame.rgb, plate.rgb, out=np.zeros_like(rgb), where=plate.rgb != 0)
    there = (factor > 2.0**-MAX_STOPS) & (factor < 2.0**MAX_STOPS)
    assert there.mean() > 0.97
    np.testing.assert_allclose((plate.rgb * np.exp2(gain))[there], frame.rgb[there], rtol=1e-5)


def test_the_looks_own_gain_stands_where_no_factor_leads_from_the_plate_to_the_result():
    plate = np.float32([[[0.0, 1.0, -2.0], [0.5, np.inf, np.nan], [1e-38, -1e-38, 4.0]]])
    relit = np.float32([[[0.0, 4.0, 1.0], [0.0, np.inf, np.nan], [3e38, -1.0, 1e-38]]])
    own = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    expected = np.float32([[[0, 2, 2], [3, 4, 5], [MAX_STOPS, MAX_STOPS, -MAX_STOPS]]])
    np.testing.assert_array_equal(working_gain(plate, relit, own), expected)
    assert own[0, 0, 1] == 1.0  # left as it was
    np.testing.assert_array_equal(working_gain(plate, relit, None), np.where(expected == own, 0, expected))


def test_nan_and_infinity_of_the_plate_do_not_reach_the_aovs(tmp_path, session):
    rgb = hard_rgb()
    rgb[3, 3], rgb[4, 4, 1] = np.nan, np.inf
    plate, frame = frame_of(tmp_path, session, rgb, Settings(aovs=AOVS))
    assert all(np.isfinite(picture).all() for picture in frame.aovs.values())
    np.testing.assert_allclose(plate.rgb * np.exp2(frame.aovs["gain"]), frame.rgb, rtol=3e-6)


def test_strips_of_aovs_put_together_are_what_the_whole_look_gives(session):
    import onnxruntime

    rgb = hard_rgb(200, 50)
    assert rgb.shape[0] > 3 * 64
    plate = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    whole = onnxruntime.InferenceSession(session.look.model, options, ["CPUExecutionProvider"])
    expected = whole.run(["relit", *AOVS], {"plate": plate})
    relit, aovs = session.apply_with_aovs(rgb, session.predict(rgb))
    for found, wanted in zip((relit, *aovs.values()), expected, strict=True):
        np.testing.assert_allclose(found, wanted[0].transpose(1, 2, 0), rtol=1e-5, atol=1e-6)


def test_a_session_without_aovs_makes_no_pictures_for_them(look, session, darken_grid_look):
    plain, rgb = LookSession(load_look(look), "cpu"), hard_rgb()
    assert (plain.applied, session.applied) == (("grid",), ("grid", "doubt"))
    assert list(plain.predict(rgb)) == list(session.predict(rgb)) == ["grid", "doubt"]
    assert [list(predict(rgb, 1, Relighting(each))) for each in (plain, session)] == [["grid"], ["grid", "doubt"]]
    relit, aovs = plain.apply_with_aovs(rgb, plain.predict(rgb))
    assert aovs == {}
    np.testing.assert_array_equal(relit, session.apply(rgb, session.predict(rgb)))
    half, bare = (cut(load_look(path))[1] for path in (look, darken_grid_look))
    assert [node.op_type for node in half.graph.node] == [node.op_type for node in bare.graph.node]
    assert [port.name for port in half.graph.output] == [port.name for port in bare.graph.output]


def test_strength_mask_and_what_they_leave_out_do_not_alter_aovs(clip, session):
    blend = {"temporal_blend": 0.8, "aovs": AOVS}
    full = relight_clip(session, clip, 3, **blend)
    plates = {number: read_plate(clip % number) for number in FRAMES}
    mask = np.zeros(full.rgb.shape[:2], np.float32)
    mask[:, :10] = 0.5
    for strength, cover in ((0.3, None), (0.0, None), (1.0, mask), (1.0, mask * 0)):
        frame = relight_frame(
            3,
            plates.__getitem__,
            list(FRAMES),
            Relighting(session, Settings(strength=strength, **blend), lambda *_, cover=cover: cover),
        )
        for name in AOVS:
            np.testing.assert_array_equal(frame.aovs[name], full.aovs[name])
        if strength == 0.0:
            np.testing.assert_array_equal(frame.rgb, plates[3].rgb)


def test_aovs_are_blended_over_time_as_the_frame_is(clip, session, tmp_path):
    bright = {"exposure": 2.0}  # where this look's gains follow the plate most
    alone = relight_clip(session, clip, 3, aovs=AOVS, **bright)
    blended = relight_clip(session, clip, 3, aovs=AOVS, temporal_blend=1.0, **bright)
    for name in AOVS:
        assert np.abs(blended.aovs[name] - alone.aovs[name]).max() > 0.02, name
    plate = read_plate(clip % 3).rgb
    np.testing.assert_allclose(plate * np.exp2(blended.aovs["gain"]), blended.rgb, rtol=3e-6)
    np.testing.assert_array_equal(blended.rgb, relight_clip(session, clip, 3, temporal_blend=1.0, **bright).rgb)

    still = tiny_plates.write_clip(tmp_path, FRAMES, step=(0, 0), flicker=0.2)  # nothing but flicker changes there

    def steps(name, blend):
        frames = [relight_clip(session, still, f, aovs=AOVS, temporal_blend=blend, **bright) for f in FRAMES]
        return np.abs(np.diff([frame.aovs[name].mean() for frame in frames])).mean()

    for name in AOVS:
        assert steps(name, 1.0) < 0.8 * steps(name, 0.0), name


def test_confidence_is_of_0_to_1_and_lower_where_the_doubt_is_larger(tmp_path, session):
    rgb = hard_rgb()
    _, frame = frame_of(tmp_path, session, rgb, Settings(aovs=("confidence",)))
    confidence = frame.aovs["confidence"]
    assert list(frame.aovs) == ["confidence"]
    assert confidence.shape == (*rgb.shape[:2], 1)
    assert 0 < confidence.min() < confidence.max() <= 1
    doubt = session.predict(rgb)["doubt"][0]
    row, column = np.unravel_index(doubt.argmax(), doubt.shape)
    at = confidence[int((row + 0.5) * 70 / 4), int((column + 0.5) * 90 / 6), 0]
    assert at == pytest.approx(0.5 / (0.5 + doubt.max()), rel=0.1)


# Files


def test_nuke_shows_a_layer_gain_and_a_layer_confidence(clip, infer, look, tmp_path, monkeypatch):
    assert infer(look, clip % 3, tmp_path / "r.exr", "--aovs")[0] == 0
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "nuke_sim"))
    from nuke_simulator.exr import read_exr  # keeps the rules of the reader that the Nuke Developer Kit shows

    names = set(read_exr(str(tmp_path / "r.exr")).channels)
    rgb = {"rgba.red", "rgba.green", "rgba.blue"}
    assert names == rgb | {"gain.red", "gain.green", "gain.blue", "confidence.red"}


def test_everything_the_plate_had_comes_through_beside_the_aovs(
    infer,
    look,
    tmp_path,
):
    rgb = hard_rgb()
    others = {
        "A": rgb[..., 0].clip(0, 1),
        "depth.Z": rgb[..., 1],
        "gainer.R": rgb[..., 2],
        "specular.gain": rgb[..., 1],
    }
    source = tiny_plates.write_exr(
        tmp_path / "p.exr", tiny_plates.rgb_channels(rgb, **others), data_origin=(-5, 3), display=(0, 0, 80, 60)
    )
    for words, kind in (((), "half"), (("--aov-float",), "float")):
        out = tmp_path / f"{kind}.exr"
        assert infer(look, source, out, *words, "--aovs", "gain", "confidence")[0] == 0
        plate, relit = read_plate(source), read_plate(out)
        assert (relit.data_window, relit.display_window) == (plate.data_window, plate.display_window)
        before, after = tiny_plates.read_exr(source), tiny_plates.read_exr(out)
        assert set(after) == set(before) | LAYERS
        for name in others:
            np.testing.assert_array_equal(after[name], before[name])
        types = {channel.name: channel.pixel_type for channel in relit.parts[0].channels}
        assert {types[name] for name in LAYERS} == {kind}
        assert {types[name] for name in before} == {"half"}
        bare = tmp_path / f"bare_{kind}.exr"
        assert infer(look, source, bare)[0] == 0
        np.testing.assert_array_equal(read_plate(bare).rgb, relit.rgb)
        gain = np.stack([after[f"gain.{letter}"] for letter in "RGB"], axis=-1)
        step = {"half": 2.0**-11 * 4, "float": 0.0}[kind]  # half steps of 2 stops and more, and those of rgb itself
        np.testing.assert_allclose(plate.rgb * np.exp2(gain), relit.rgb, rtol=2.0**-11 + step, atol=3e-7)


def test_frames_with_aovs_do_not_depend_on_chunks(clip, infer, look, tmp_path):
    words = ("--temporal-blend", "0.8", "--temporal-window", "1", "--aovs")
    assert infer(look, clip, tmp_path / "all.%04d.exr", *words)[0] == 0
    for chunk in ("4-5", "2", "3", "1"):
        assert infer(look, clip, tmp_path / "one.%04d.exr", "--frames", chunk, *words)[0] == 0
    for frame in FRAMES:
        pictures = [(tmp_path / f"{name}.{frame:04d}.exr").read_bytes() for name in ("all", "one")]
        assert pictures[0] == pictures[1]


def test_a_plate_that_has_such_a_layer_already_is_refused(
    infer,
    look,
    tmp_path,
):
    rgb = tiny_plates.texture(20, 30)
    for name in ("gain.red", "gain.Y"):
        source = tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(rgb, **{name: rgb[..., 0]}))
        code, log = infer(look, source, tmp_path / "r.exr", "--aovs")
        assert code == 1
        assert f"{source} already has the layer gain." in log
        assert not (tmp_path / "r.exr").exists()
        assert infer(look, source, tmp_path / "r.exr", "--aovs", "confidence")[0] == 0
        assert set(tiny_plates.read_exr(tmp_path / "r.exr")) == {"R", "G", "B", name, "confidence.R"}
        (tmp_path / "r.exr").unlink()


def test_a_part_of_that_name_counts_as_such_a_layer(look, session, tmp_path):
    specs = []
    for name, channels in (("rgba", ("R", "G", "B")), ("gain", ("red", "green", "blue"))):
        spec = OpenImageIO.ImageSpec(8, 6, 3, "half")
        spec.channelnames = channels
        spec.attribute("oiio:subimagename", name)
        specs.append(spec)
    out = OpenImageIO.ImageOutput.create("openexr")
    path, pixels = tmp_path / "parts.exr", np.full((6, 8, 3), 0.5, np.float32)
    assert out.open(str(path), tuple(specs))
    assert out.write_image(pixels)
    assert out.open(str(path), specs[1], "AppendSubimage")
    assert out.write_image(pixels)
    assert out.close()
    code = cli.main(["infer", str(look), str(path), str(tmp_path / "r.exr"), "--device", "cpu", "--aovs"])
    assert code == 1
    assert not (tmp_path / "r.exr").exists()


def test_only_openexr_holds_aovs(clip, infer, look, tmp_path):
    for name in ("r.%04d.png", "r.%04d.tif", "r.mov"):
        code, log = infer(look, clip, tmp_path / name, "--aovs")
        assert code == 2
        assert "can't hold the layers gain, confidence" in log
    assert list(tmp_path.iterdir()) == []


def test_frames_that_are_there_without_aovs_are_not_skipped_on_the_quiet(
    clip,
    infer,
    look,
    tmp_path,
):
    out = tmp_path / "r.%04d.exr"
    assert infer(look, clip, out, "--frames", "2-3")[0] == 0
    code, log = infer(look, clip, out, "--frames", "1-4", "--skip-existing", "--aovs")
    assert code == 1
    assert f"Frames 2-3 of {out} are there without gain, confidence." in log
    assert infer(look, clip, out, "--frames", "2-3", "--overwrite", "--aovs")[0] == 0
    kept = (tmp_path / "r.0002.exr").read_bytes()
    code, log = infer(look, clip, out, "--frames", "1-4", "--skip-existing", "--aovs", "gain")
    assert code == 0
    assert "Relit 2 frames" in log
    assert (tmp_path / "r.0002.exr").read_bytes() == kept
    assert infer(look, clip, out, "--skip-existing")[0] == 0


def test_a_look_of_an_older_version_gives_its_gain_and_says_what_it_lacks(
    clip, infer, darken_grid_look, look, tmp_path
):
    code, log = infer(darken_grid_look, clip % 3, tmp_path / "old.exr", "--aov-float", "--aovs")
    assert code == 0
    assert "AOVs: gain.R, gain.G, gain.B; this look gives no confidence." in log
    assert infer(look, clip % 3, tmp_path / "new.exr", "--aov-float", "--aovs")[0] == 0
    old, new = (tiny_plates.read_exr(tmp_path / f"{name}.exr") for name in ("old", "new"))
    assert set(old) == {"R", "G", "B", *LAYERS} - {"confidence.R"}
    for letter in "RGB":
        np.testing.assert_array_equal(old[letter], new[letter])
        np.testing.assert_allclose(old[f"gain.{letter}"], new[f"gain.{letter}"], atol=1e-5)
    code, log = infer(darken_grid_look, clip % 3, tmp_path / "r.exr", "--aovs", "confidence")
    assert code == 1
    assert f"{darken_grid_look} doesn't give confidence" in log
    assert "Fit it again with this version, or ask for --aovs gain." in log
    assert not (tmp_path / "r.exr").exists()


def test_a_name_that_is_no_aov_is_a_usage_error(look):
    with pytest.raises(UsageError, match=r"no AOV 'gian'.*gain, confidence"):
        wanted_aovs(load_look(look), ["gian"])
    assert wanted_aovs(load_look(look), []) == AOVS
    assert wanted_aovs(load_look(look), ["confidence", "gain", "gain"]) == AOVS


def test_what_was_written_stands_in_the_files_settings(clip, infer, look, tmp_path):
    for words, expected in (((), False), (("--aovs",), True)):
        infer(look, clip % 3, tmp_path / "r.exr", "--overwrite", *words)
        text = OpenImageIO.ImageInput.open(str(tmp_path / "r.exr")).spec().get_string_attribute("relightgan/settings")
        assert ("aovs=gain confidence" in text) is expected
        assert ("aovs" in text) is expected


# Looks


def test_a_look_that_promises_aovs_it_has_not_is_refused(look, tmp_path):
    def rewritten(name, **changes):
        model = onnx.load(look)
        facts = dataclasses.replace(load_look(look).facts, **changes)
        onnx.helper.set_model_props(model, tiny_looks.facts_to_metadata(facts))
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    with pytest.raises(LookError, match="no output 'guidance'"):
        load_look(rewritten("a.onnx", aovs=("guidance",)))
    with pytest.raises(LookError, match="but no operators"):
        load_look(rewritten("b.onnx", operators=()))
    # One that this version doesn't know is passed over, because a newer look may have more.
    newer = load_look(rewritten("c.onnx", aovs=("gain", "confidence", "grid")))
    assert wanted_aovs(newer, []) == AOVS


def test_an_aov_of_another_kind_is_refused(look, tmp_path):
    model = onnx.load(look)
    port = next(port for port in model.graph.output if port.name == "confidence")
    port.type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(model, tmp_path / "wide.onnx")
    with pytest.raises(LookError, match=r"'confidence' .* the shape \[0, 3, 0, 0\]; a look's is \[N,1,H,W\]"):
        load_look(tmp_path / "wide.onnx")


def test_a_plate_error_is_what_a_taken_layer_raises(tmp_path):
    from relightgan.core.aovs import check_room

    rgb = tiny_plates.texture(6, 8)
    plate = read_plate(
        tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(rgb, **{"gain.B": rgb[..., 0]}))
    )
    check_room(plate, ())
    check_room(plate, ("confidence",))
    with pytest.raises(PlateError, match="Remove it from the plate"):
        check_room(plate, AOVS)
