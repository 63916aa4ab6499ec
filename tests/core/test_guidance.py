"""Correction of gain grids by guidance, asked of a real look, and guidance on disk."""

import dataclasses
import re
import zipfile
from pathlib import Path

import numpy as np
import onnx
import OpenImageIO
import pytest
import tiny_plates

from relightgan.core import cli
from relightgan.core.errors import LookError, PlateError
from relightgan.core.guidance import (
    MAX_STOPS,
    MIN_CONFIDENCE,
    FrameGuidance,
    check_grid,
    corrected,
    finer,
    interpolated,
    read_grid,
    upsampled,
)
from relightgan.core.guidance_files import (
    DIRECTION_NOTE,
    PHOTOS_NOTE,
    GuidanceFiles,
    photos_digest,
    read_guidance,
    write_guidance,
)
from relightgan.core.look import load_look
from relightgan.core.session import LookSession

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "made_by_0.1.0.zip"
DEPTH = 8  # of that version's look
GUIDE_STOPS = (-6.0, 4.0)  # ends of its brightness axis, around the frame's mean
RASTER = (24, 32)


def look_with_detail(folder, detail):
    """A relight look that gives texture so much contrast of its own."""
    with zipfile.ZipFile(ARCHIVE) as packed:
        model = onnx.load_model_from_string(packed.read("look.onnx"))
    (stored,) = [tensor for tensor in model.graph.initializer if tensor.name == "apply/detail"]
    stored.CopyFrom(onnx.numpy_helper.from_array(np.float32(detail), stored.name))
    onnx.save(model, folder / "look.onnx")
    return LookSession(load_look(folder / "look.onnx"), "cpu")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return look_with_detail(tmp_path_factory.mktemp("plain"), 0.0)


@pytest.fixture(scope="module")
def crisp_session(tmp_path_factory):
    return look_with_detail(tmp_path_factory.mktemp("crisp"), 0.4)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def light_of(rng, block=4):
    """A plate of patches of many brightnesses, one to a pixel of the raster."""
    light = np.exp2(rng.uniform(-5, 2, (*RASTER, 1)) + rng.uniform(-0.3, 0.3, (*RASTER, 3))).astype(np.float32)
    return np.repeat(np.repeat(light, block, axis=0), block, axis=1)


def operator_of(rng, light, stops=1.0):
    """Of a frame whose pixels take their gains by their own brightness, by a look that is unsure of them."""
    anchor = np.float32(np.log2(light.mean(axis=-1)).mean())
    # Four steps of brightness at random, straight between them.
    knots, place = rng.uniform(-stops, stops, (3, 4, 3, 4)), np.linspace(0, 3, DEPTH)
    low = np.minimum(place.astype(int), 2)
    share = (place - low)[:, None, None]
    grid = (knots[:, low] * (1 - share) + knots[:, low + 1] * share).reshape(-1, 3, 4).astype(np.float32)
    operator = {
        "grid": grid,
        "anchor": anchor.reshape(1, 1, 1),
        "guide": guide_plane(1.0, 0.0),
        "white": np.full((1, 1, 1), 1.5, np.float32),  # below the brightest tenth of the frame
        "rolloff": rng.uniform(0, 1, (1, 3, 4)).astype(np.float32),
    }
    return doubting(operator, 2.0)


def doubting(operator, stops):
    """The same of a look that expects its gains to be off by so much everywhere."""
    return {**operator, "doubt": np.full((1, 5, 7), stops, np.float32)}


def guide_plane(slope, offset):
    """(2, 6, 8) a guide that mixes alike everywhere."""
    return np.broadcast_to(np.float32([slope, offset]).reshape(2, 1, 1), (2, 6, 8)).copy()


def on_raster(light):
    """Means of blocks, as the raster's pixels see the plate."""
    rows, columns = RASTER
    return light.reshape(rows, light.shape[0] // rows, columns, -1, 3).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def gains(session):
    return lambda operator, light: session.gain(light, operator)


def guidance_of(gain, confidence=1.0, least=False):
    shape = gain.shape[:2]
    return FrameGuidance(
        gain.astype(np.float32), np.full(gain.shape, least), np.broadcast_to(np.float32(confidence), shape)
    )


def test_a_finer_grid_gives_the_same_gains(gains, rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    assert finer(operator["grid"]).shape == (3 * DEPTH, 9, 12)
    again = gains({**operator, "grid": finer(operator["grid"])}, light)
    np.testing.assert_allclose(again, gains(operator, light), atol=1e-5)


def test_a_wrong_grid_moves_to_what_guidance_says(session, gains, rng):
    light = light_of(rng)
    operator, truth = operator_of(rng, light), operator_of(rng, light)
    wanted = gains(truth, on_raster(light))
    before = np.abs(gains(operator, light) - gains(truth, light)).mean()
    after = np.abs(gains(corrected(session, operator, light, guidance_of(wanted)), light) - gains(truth, light)).mean()
    assert after < 0.4 * before


def textured(rng, operator):
    """The same operator of a frame that is texture but for its right half, where each pixel stands for itself."""
    guide = np.zeros((2, 24, 32), np.float32)
    guide[0, :, 16:] = 1.0
    guide[1, :, :16] = rng.uniform(*GUIDE_STOPS, (24, 1))  # what is around them, in place of their own brightness
    return {**operator, "guide": guide}


def test_a_wrong_grid_moves_to_what_guidance_says_of_texture_too(session, gains, rng):
    light = light_of(rng)
    operator = {**textured(rng, operator_of(rng, light)), "white": np.full((1, 1, 1), 100.0, np.float32)}
    truth = {**operator, "grid": operator_of(rng, light)["grid"]}
    wanted = guidance_of(gains(truth, on_raster(light)))
    after = corrected(session, operator, light, wanted)
    assert after["guide"] is operator["guide"]
    for part in (np.s_[:, :56], np.s_[:, 72:]):
        before_off, after_off = (np.abs(gains(o, light) - gains(truth, light))[part].mean() for o in (operator, after))
        assert after_off < 0.6 * before_off
    # By its pixels' own brightness, texture would be corrected in the wrong cells.
    own = {**operator, "guide": guide_plane(1.0, 0.0)}
    misread = {**corrected(session, own, light, wanted), "guide": operator["guide"]}
    off = [np.abs(gains(o, light) - gains(truth, light))[:, :56].mean() for o in (after, misread)]
    assert off[0] < 0.75 * off[1]


def test_a_lamp_of_a_pixel_does_not_speak_for_what_lies_around_it(session, gains, rng):
    light = np.full((96, 128, 3), 0.2, np.float32)
    operator = {**operator_of(rng, light), "white": np.ones((1, 1, 1), np.float32)}
    wanted = guidance_of(gains(operator, on_raster(light)))
    light[2::8, 2::8] = 1000.0  # in every other pixel of the raster, either way
    same = corrected(session, operator, light, wanted)
    away = np.abs(gains(same, light) - gains(operator, light))
    assert away[light[..., 0] < 1].max() < 0.2


def test_a_right_grid_of_texture_stays_as_it_was(session, gains, rng):
    light = light_of(rng)
    operator = textured(rng, operator_of(rng, light))
    same = corrected(session, operator, light, guidance_of(gains(operator, on_raster(light))))
    np.testing.assert_allclose(gains(same, light), gains(operator, light), atol=2e-3)


def test_a_look_says_by_which_brightness_it_reads_each_pixel(session, crisp_session):
    low, high = GUIDE_STOPS
    per_step = (high - low) / (DEPTH - 1)
    light = np.exp2(np.float32([[-20, low, -1, 0, high, 9]]))[..., None] * np.ones((4, 1, 3), np.float32)
    operator = {
        **operator_of(np.random.default_rng(0), light),
        "anchor": np.full((1, 1, 1), 1.0, np.float32),
        "white": np.full((1, 1, 1), 100.0, np.float32),
    }

    def stops_of(guide, **others):
        found = [read_grid(each, {**operator, "guide": guide, **others}, light)[1] for each in (session, crisp_session)]
        np.testing.assert_allclose(found[0], found[1], atol=1e-5)
        assert found[0].min() >= 0
        assert found[0].max() <= DEPTH - 1
        return found[0][0] * per_step + low

    own = np.float32([-9, low, -1, 0, high, 9])  # black is clamped to 10 stops below the mean
    np.testing.assert_allclose(stops_of(guide_plane(1, 0)), np.clip(own - 1, low, high), atol=1e-5)
    np.testing.assert_allclose(stops_of(guide_plane(0, 2.25)), 1.25, atol=1e-5)
    np.testing.assert_allclose(stops_of(guide_plane(0.5, -1)), np.clip(0.5 * own - 2, low, high), atol=1e-5)
    white = np.full((1, 1, 1), 2.5, np.float32)
    np.testing.assert_allclose(stops_of(guide_plane(1, 0), white=white), np.clip(own - 1, low, 2.5), atol=1e-5)


def test_a_guide_finer_than_the_raster_is_averaged(session, rng):
    light = np.ones((6, 8, 3), np.float32)
    guide = np.stack([np.zeros((24, 32)), rng.uniform(-3, 2, (24, 32))]).astype(np.float32)
    operator = {**operator_of(rng, light), "guide": guide, "white": np.full((1, 1, 1), 100.0, np.float32)}
    mean = guide[1].reshape(6, 4, 8, 4).mean(axis=(1, 3)) - operator["anchor"].item()
    steps = read_grid(session, operator, light)[1]
    np.testing.assert_allclose(steps, (mean + 6) * (DEPTH - 1) / 10, atol=1e-4)


def test_the_gains_of_a_look_are_read_without_its_contrast_of_texture(session, crisp_session, rng):
    light = light_of(rng)
    operator = textured(rng, operator_of(rng, light))
    crisp = crisp_session.gain(light, operator)
    gain, steps = read_grid(crisp_session, operator, light)
    assert np.abs(crisp - session.gain(light, operator)).max() > 0.5
    np.testing.assert_allclose(gain, session.gain(light, operator), atol=1e-5)
    unrolled = {**operator, "rolloff": np.zeros_like(operator["rolloff"])}
    gain, again = read_grid(crisp_session, unrolled, light)
    np.testing.assert_allclose(gain, interpolated(operator["grid"], steps), atol=2e-5)
    np.testing.assert_array_equal(again, steps)
    wanted = guidance_of(session.gain(on_raster(light), operator) + rng.uniform(-1, 1, (*RASTER, 3)))
    plain, same = (corrected(each, operator, light, wanted)["grid"] for each in (session, crisp_session))
    assert np.abs(plain - finer(operator["grid"])).max() > 0.1
    np.testing.assert_allclose(same, plain, atol=1e-4)


def test_a_right_grid_stays_as_it_was(session, gains, rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    same = corrected(session, operator, light, guidance_of(gains(operator, on_raster(light))))
    np.testing.assert_allclose(gains(same, light), gains(operator, light), atol=2e-3)


def test_without_confidence_the_operator_itself_comes_back(session, rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    for confidence in (0.0, MIN_CONFIDENCE - 0.01):
        assert corrected(session, operator, light, guidance_of(np.ones((*RASTER, 3)), confidence)) is operator


def test_guidance_that_contradicts_the_look_throughout_changes_nothing(session, rng):
    light = light_of(rng)
    operator = operator_of(rng, light, stops=0.1)
    assert corrected(session, operator, light, guidance_of(np.full((*RASTER, 3), 2.5))) is operator
    assert corrected(session, operator, light, guidance_of(np.full((*RASTER, 3), 1.0))) is not operator


def test_a_few_pixels_far_off_change_little(session, gains, rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    gain = gains(operator, on_raster(light))
    gain[5, 7] += 100.0
    changed = corrected(session, operator, light, guidance_of(gain))
    assert np.abs(gains(changed, light) - gains(operator, light)).max() < MAX_STOPS
    assert np.abs(gains(changed, light) - gains(operator, light)).mean() < 0.05


def test_a_look_gives_way_to_guidance_by_how_unsure_it_is(session, gains, rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    wanted = guidance_of(gains(operator, on_raster(light)) + 1.0)

    def change(doubt):
        return float(
            (gains(corrected(session, doubting(operator, doubt), light, wanted), light) - gains(operator, light)).mean()
        )

    changes = [change(doubt) for doubt in (0.02, 0.1, 0.5, 2.0)]
    assert changes == sorted(changes)
    assert changes[0] < 0.3
    assert changes[-1] > 0.85


def test_only_the_unsure_half_of_a_frame_follows_guidance_that_is_far_off(session, gains, rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    operator["doubt"] = np.repeat(np.float32([[[0.03, 1.0]]]), 20, axis=2)
    wanted = guidance_of(gains(operator, on_raster(light)) + 1.2)
    change = np.abs(gains(corrected(session, operator, light, wanted), light) - gains(operator, light)).mean(
        axis=(0, 2)
    )
    assert change[:40].mean() < 0.5 * change[-40:].mean()


def test_a_band_of_wrong_guidance_before_the_sky_hardly_shows_where_the_look_is_sure(session, gains, rng):
    # Left a wall, right the sky, nearly as bright; guidance takes a band of the sky for wall.
    light = np.exp2(np.where(np.arange(32) < 16, -0.3, 0.3)).astype(np.float32)[None, :, None] * np.ones((24, 1, 3))
    light = np.repeat(np.repeat(light, 4, axis=0), 4, axis=1).astype(np.float32)
    operator = operator_of(rng, light, stops=0.0)
    gain = np.zeros((*RASTER, 3))
    gain[:, 16:18] = 2.0

    def halo(doubt):
        return np.abs(gains(corrected(session, doubting(operator, doubt), light, guidance_of(gain)), light)).max()

    assert halo(10.0) > 0.5
    assert halo(0.1) < 0.2 * halo(10.0)


def test_where_the_other_day_was_clipped_gains_only_rise(session, gains, rng):
    light = light_of(rng)
    operator = operator_of(rng, light, stops=0.2)
    own = gains(operator, on_raster(light))
    lower = corrected(session, operator, light, guidance_of(own - 1, least=True))
    np.testing.assert_allclose(gains(lower, light), gains(operator, light), atol=1e-4)
    higher = corrected(session, operator, light, guidance_of(own + 1, least=True))
    assert (gains(higher, light) - gains(operator, light)).mean() > 0.5


def test_the_far_side_of_a_frame_is_left_more_alone_than_what_guidance_saw(session, gains, rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    confidence = np.zeros(RASTER, np.float32)
    confidence[:, :6] = 1
    guidance = guidance_of(gains(operator, on_raster(light)) + 1, confidence)
    change = np.abs(gains(corrected(session, operator, light, guidance), light) - gains(operator, light)).mean(
        axis=(0, 2)
    )
    assert change[:10].mean() > 0.7
    assert change[-10:].mean() < 0.2


@pytest.mark.parametrize("guide", ["own", "textured"])
def test_a_plate_four_times_brighter_is_corrected_alike(session, gains, rng, guide):
    light = light_of(rng)
    operator = operator_of(rng, light)
    operator = textured(rng, operator) if guide == "textured" else operator
    guidance = guidance_of(gains(operator, on_raster(light)) + rng.uniform(-1, 1, (*RASTER, 3)))
    slope, offset = operator["guide"]
    brighter = {
        **operator,
        "anchor": operator["anchor"] + 2,
        "guide": np.stack([slope, offset + 2 * (1 - slope)]),
    }
    np.testing.assert_allclose(
        corrected(session, brighter, light * 4, guidance)["grid"],
        corrected(session, operator, light, guidance)["grid"],
        atol=1e-4,
    )


def test_the_shown_guidance_doesnt_mix_with_what_is_unknown():
    gain, confidence = np.zeros((4, 6, 3), np.float32), np.zeros((4, 6), np.float32)
    gain[:, :3], confidence[:, :3] = 1.5, 0.8
    shown = upsampled(guidance_of(gain, confidence), 40, 60)
    assert shown.shape == (40, 60, 3)
    np.testing.assert_allclose(shown[:, :30], 1.5, atol=1e-5)
    assert not shown[:, 40:].any()


def test_looks_without_such_a_grid_are_refused(identity_look, darken_grid_look):
    for path in (identity_look, darken_grid_look):
        with pytest.raises(LookError, match="relight"):
            check_grid(LookSession(load_look(path), "cpu"))


def test_looks_whose_gains_are_not_those_of_a_grid_are_refused(session, crisp_session, monkeypatch):
    for each in (session, crisp_session):
        check_grid(each)
    real = session.gain
    monkeypatch.setattr(session, "gain", lambda light, operator: np.tanh(real(light, operator)))
    with pytest.raises(LookError, match=r"in another way than this version, by [0-9.]+ stops"):
        check_grid(session)


# On disk


def written(path, rng, digest="abc", direction="ab"):
    gain = rng.normal(size=(*RASTER, 3)).astype(np.float16).astype(np.float32)
    least = rng.random((*RASTER, 3)) > 0.5
    confidence = rng.random(RASTER).astype(np.float16).astype(np.float32)
    write_guidance(path, FrameGuidance(gain, least, confidence), {PHOTOS_NOTE: digest, DIRECTION_NOTE: direction})
    return gain, least, confidence


def test_guidance_comes_back_as_it_was_written(tmp_path, rng):
    gain, least, confidence = written(tmp_path / "g.exr", rng)
    found, notes = read_guidance(tmp_path / "g.exr")
    np.testing.assert_array_equal(found.gain, gain)
    np.testing.assert_array_equal(found.clipped, least)
    np.testing.assert_array_equal(found.confidence, confidence)
    assert notes[PHOTOS_NOTE] == "abc"
    assert [path.name for path in tmp_path.iterdir()] == ["g.exr"]


def test_what_is_no_guidance_is_refused_by_name(
    tmp_path,
    rng,
):
    plate = tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(tiny_plates.texture(20, 30)), "half")
    with pytest.raises(PlateError, match=r"p\.exr isn't guidance.*relightgan locate"):
        read_guidance(plate)
    with pytest.raises(PlateError, match=r"missing\.exr doesn't exist"):
        read_guidance(tmp_path / "missing.exr")
    written(tmp_path / "g.exr", rng)
    whole = (tmp_path / "g.exr").read_bytes()
    (tmp_path / "g.exr").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PlateError, match=r"g\.exr"):
        read_guidance(tmp_path / "g.exr")


def test_nan_in_guidance_is_an_error(tmp_path):
    gain = np.zeros((*RASTER, 3), np.float32)
    gain[0, 0, 0] = np.nan
    write_guidance(tmp_path / "g.exr", guidance_of(gain), {})
    with pytest.raises(PlateError, match="NaN"):
        read_guidance(tmp_path / "g.exr")


def test_guidance_of_other_photos_or_the_other_direction_is_refused(tmp_path, rng, darken_grid_look):
    look = load_look(darken_grid_look)
    photos = {"source": {"training_photos": ["1"]}, "target": {"training_photos": ["2"]}}
    look = dataclasses.replace(look, facts=dataclasses.replace(look.facts, dataset=photos, direction="ab"))
    for number, (digest, direction) in enumerate(
        [(photos_digest(photos), "ab"), ("other", "ab"), (photos_digest(photos), "ba")]
    ):
        written(tmp_path / f"g.{number:04}.exr", rng, digest, direction)
    files = GuidanceFiles(str(tmp_path / "g.%04d.exr"), look)
    assert files.read(0).confidence.shape == RASTER
    with pytest.raises(PlateError, match=r"0001\.exr was located among other photos"):
        files.read(1)
    with pytest.raises(PlateError, match=r"0002\.exr is for the direction ba.*--direction ab"):
        files.read(2)


def test_a_folder_that_cant_be_made_is_an_error_that_names_the_file(tmp_path, rng):
    (tmp_path / "file").write_text("")
    with pytest.raises(PlateError, match=r"g\.exr can't be written"):
        written(tmp_path / "file" / "g.exr", rng)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--frames", "1-3"], r"lacks frame 3"),
        (["--frames", "1-2"], r"no grid|in another way"),
        (["--frames", "1", "--temporal-blend", "0.5"], r"lacks frame 3"),
    ],
)
def test_infer_names_missing_guidance_and_looks_that_cant_be_guided(
    tmp_path, rng, darken_grid_look, capsys, more, said
):
    clip = tiny_plates.write_clip(tmp_path / "clip", range(1, 4))
    for frame in (1, 2):
        written(tmp_path / f"g.{frame:04}.exr", rng)
    words = [str(darken_grid_look), clip, str(tmp_path / "out.%04d.exr"), "--guidance", str(tmp_path / "g.%04d.exr")]
    assert cli.main(["infer", *words, "--device", "cpu", *more]) == 1
    error = capsys.readouterr().err
    assert [line for line in error.splitlines() if "Error" in line]
    assert re.search(said, error)
    assert not list(tmp_path.glob("out*"))


def test_the_aov_guidance_needs_guidance(tmp_path, darken_grid_look, capsys):
    clip = tiny_plates.write_clip(tmp_path / "clip", range(1, 2))
    assert cli.main(["infer", str(darken_grid_look), clip, str(tmp_path / "o.%04d.exr"), "--aovs", "guidance"]) == 2
    assert "Give --guidance" in capsys.readouterr().err


def test_the_header_holds_no_date(tmp_path, rng):
    written(tmp_path / "g.exr", rng)
    spec = OpenImageIO.ImageBuf(str(tmp_path / "g.exr")).spec()
    assert not spec.getattribute("DateTime")
