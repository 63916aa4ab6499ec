"""Correction of gain grids by guidance, and guidance on disk; looks that read a grid so are in tests/training."""

import dataclasses
import re

import numpy as np
import OpenImageIO
import pytest
import tiny_plates

from relightgan.core import cli
from relightgan.core.errors import LookError, PlateError
from relightgan.core.guidance import (
    GUIDE_STOPS,
    LEAST_CONFIDENCE,
    MOST_STOPS,
    Guidance,
    brightness_steps,
    check_grid,
    corrected,
    finer,
    rolled_off,
    sliced,
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

DEPTH = 4
RASTER = (24, 32)


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
    grid = rng.uniform(-stops, stops, (3 * DEPTH, 3, 4)).astype(np.float32)
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


def gains(operator, light):
    return sliced(operator["grid"], brightness_steps(light, operator)) - rolled_off(light, operator)


def guidance_of(gain, confidence=1.0, least=False):
    shape = gain.shape[:2]
    return Guidance(gain.astype(np.float32), np.full(gain.shape, least), np.broadcast_to(np.float32(confidence), shape))


def test_a_finer_grid_gives_the_same_gains(rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    assert finer(operator["grid"]).shape == (3 * DEPTH, 9, 12)
    again = gains({**operator, "grid": finer(operator["grid"])}, light)
    np.testing.assert_allclose(again, gains(operator, light), atol=1e-6)


def test_a_wrong_grid_moves_to_what_guidance_says(rng):
    light = light_of(rng)
    operator, truth = operator_of(rng, light), operator_of(rng, light)
    wanted = gains(truth, on_raster(light))
    before = np.abs(gains(operator, light) - gains(truth, light)).mean()
    after = np.abs(gains(corrected(operator, light, guidance_of(wanted)), light) - gains(truth, light)).mean()
    assert after < 0.4 * before


def textured(rng, operator):
    """The same operator of a frame that is texture but for its right half, where each pixel stands for itself."""
    guide = np.zeros((2, 24, 32), np.float32)
    guide[0, :, 16:] = 1.0
    guide[1, :, :16] = rng.uniform(*GUIDE_STOPS, (24, 1))  # what is around them, in place of their own brightness
    return {**operator, "guide": guide}


def test_a_wrong_grid_moves_to_what_guidance_says_of_texture_too(rng):
    light = light_of(rng)
    operator = {**textured(rng, operator_of(rng, light)), "white": np.full((1, 1, 1), 100.0, np.float32)}
    truth = {**operator, "grid": operator_of(rng, light)["grid"]}
    wanted = guidance_of(gains(truth, on_raster(light)))
    after = corrected(operator, light, wanted)
    assert after["guide"] is operator["guide"]
    for part in (np.s_[:, :56], np.s_[:, 72:]):
        before_off, after_off = (np.abs(gains(o, light) - gains(truth, light))[part].mean() for o in (operator, after))
        assert after_off < 0.6 * before_off
    # By its pixels' own brightness, texture would be corrected in the wrong cells.
    own = {**operator, "guide": guide_plane(1.0, 0.0)}
    misread = {**corrected(own, light, wanted), "guide": operator["guide"]}
    off = [np.abs(gains(o, light) - gains(truth, light))[:, :56].mean() for o in (after, misread)]
    assert off[0] < 0.75 * off[1]


def test_a_lamp_of_a_pixel_does_not_speak_for_what_lies_around_it(rng):
    light = np.full((96, 128, 3), 0.2, np.float32)
    operator = {**operator_of(rng, light), "white": np.ones((1, 1, 1), np.float32)}
    wanted = guidance_of(gains(operator, on_raster(light)))
    light[2::8, 2::8] = 1000.0  # in every other pixel of the raster, either way
    same = corrected(operator, light, wanted)
    away = np.abs(gains(same, light) - gains(operator, light))
    assert away[light[..., 0] < 1].max() < 0.2


def test_a_right_grid_of_texture_stays_as_it_was(rng):
    light = light_of(rng)
    operator = textured(rng, operator_of(rng, light))
    same = corrected(operator, light, guidance_of(gains(operator, on_raster(light))))
    np.testing.assert_allclose(gains(same, light), gains(operator, light), atol=2e-3)


def test_pixels_are_read_by_the_guides_mix_of_their_own_brightness_and_what_is_around():
    low, high = GUIDE_STOPS
    per_step = (high - low) / (DEPTH - 1)
    light = np.exp2(np.float32([[-20, low, -1, 0, high, 9]]))[..., None] * np.ones((4, 1, 3), np.float32)
    operator = {
        "grid": np.zeros((3 * DEPTH, 2, 2), np.float32),
        "anchor": np.full((1, 1, 1), 1.0, np.float32),
        "white": np.full((1, 1, 1), 100.0, np.float32),
    }

    def stops_of(guide, white=100.0):
        held = {**operator, "white": np.full((1, 1, 1), white, np.float32)}
        return brightness_steps(light, {**held, "guide": guide})[0] * per_step + low

    own = np.float32([-12, low, -1, 0, high, 9])  # black is held at -12
    np.testing.assert_allclose(stops_of(guide_plane(1, 0)), np.clip(own - 1, low, high), atol=1e-5)
    np.testing.assert_allclose(stops_of(guide_plane(0, 2.25)), 1.25, atol=1e-5)
    np.testing.assert_allclose(stops_of(guide_plane(0.5, -1)), np.clip(0.5 * own - 2, low, high), atol=1e-5)
    np.testing.assert_allclose(stops_of(guide_plane(1, 0), 2.5), np.clip(own - 1, low, 2.5), atol=1e-5)
    assert brightness_steps(light * 1e6, {**operator, "guide": guide_plane(0, 100)}).max() == DEPTH - 1
    assert brightness_steps(light, {**operator, "guide": guide_plane(0, -100)}).min() == 0


@pytest.mark.parametrize("size", [(96, 128), (6, 8), (12, 20), (2, 3)])
def test_a_guide_lies_over_the_frame_from_edge_to_edge_whatever_its_raster(size):
    # It rises straight from left to right and falls downwards; its ends are held.
    height, width = size
    x, y = (np.arange(24) + 0.5) / 24, (np.arange(16) + 0.5) / 16
    guide = np.stack([np.zeros((16, 24)), 3 * x[None] - 5 * y[:, None]]).astype(np.float32)
    nought = np.zeros((1, 1, 1), np.float32)
    operator = {"grid": np.zeros((3 * DEPTH, 2, 2), np.float32), "anchor": nought, "white": nought + 100}
    steps = brightness_steps(np.ones((height, width, 3), np.float32), {**operator, "guide": guide})
    low, high = GUIDE_STOPS
    across = np.clip((np.arange(width) + 0.5) / width, x[0], x[-1])
    down = np.clip((np.arange(height) + 0.5) / height, y[0], y[-1])
    expected = (3 * across[None] - 5 * down[:, None] - low) * (DEPTH - 1) / (high - low)
    # Made smaller it is averaged, by weights that OpenCV rounds.
    np.testing.assert_allclose(steps, expected, atol=1e-3 if height > 16 else 0.015)


def test_what_lies_above_white_is_rolled_off_by_the_share_of_its_place_and_no_more_than_two_stops_of_it():
    light = np.exp2(np.float32([[-3, 0.9, 1.0, 2.0, 3.0, 9.0]]))[..., None] * np.ones((4, 1, 3), np.float32)
    anchor, white = np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)
    rolloff = np.float32([[[1.0] * 3, [0.5] * 3]])  # all above, half below
    own = {"anchor": anchor, "white": white, "rolloff": rolloff, "guide": guide_plane(1, 0)}
    taken = rolled_off(light, own)
    np.testing.assert_allclose(taken[0, :, 0], [0, 0, 0, 1, 2, 2], atol=1e-5)
    np.testing.assert_allclose(taken[3], taken[0] / 2, atol=1e-5)
    red = light * np.float32([2, 1, 1])  # its luminance is a little higher than that of the others
    np.testing.assert_allclose(np.diff(rolled_off(red, own)[0, 3], axis=-1), [-1, 0], atol=1e-5)
    assert not rolled_off(light, {**own, "guide": guide_plane(0, 0.5)}).any()  # glints among darker things are kept


def test_channels_stand_above_white_by_the_guide_and_by_their_colour():
    # Luminance 2; the guide makes 3 stops of its 1, so red (4 times luminance) stands 5 stops over black, green 2.5.
    colour = np.float32([8.0, np.sqrt(2), 0.0])
    colour[2] = (2 - 0.2126 * colour[0] - 0.7152 * colour[1]) / 0.0722
    assert colour[2] < 0  # out of gamut: the darkest there is, and never above white
    own = {
        "anchor": np.zeros((1, 1, 1), np.float32), "white": np.full((1, 1, 1), 2.0, np.float32),
        "rolloff": np.ones((1, 1, 1), np.float32), "guide": guide_plane(0.5, 2.5),
    }  # fmt: skip
    taken = rolled_off(np.broadcast_to(colour, (2, 2, 3)).copy(), own)
    np.testing.assert_allclose(taken, np.broadcast_to([2.0, 0.5, 0.0], (2, 2, 3)), atol=1e-5)
    own["white"] += 2
    np.testing.assert_allclose(rolled_off(np.broadcast_to(colour, (2, 2, 3)).copy(), own)[0, 0], [1, 0, 0], atol=1e-5)


def test_a_right_grid_stays_as_it_was(rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    same = corrected(operator, light, guidance_of(gains(operator, on_raster(light))))
    np.testing.assert_allclose(gains(same, light), gains(operator, light), atol=2e-3)


def test_without_confidence_the_operator_itself_comes_back(rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    for confidence in (0.0, LEAST_CONFIDENCE - 0.01):
        assert corrected(operator, light, guidance_of(np.ones((*RASTER, 3)), confidence)) is operator


def test_guidance_that_contradicts_the_look_throughout_changes_nothing(rng):
    light = light_of(rng)
    operator = operator_of(rng, light, stops=0.1)
    assert corrected(operator, light, guidance_of(np.full((*RASTER, 3), 2.5))) is operator
    assert corrected(operator, light, guidance_of(np.full((*RASTER, 3), 1.0))) is not operator


def test_a_few_pixels_far_off_change_little(rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    gain = gains(operator, on_raster(light))
    gain[5, 7] += 100.0
    changed = corrected(operator, light, guidance_of(gain))
    assert np.abs(gains(changed, light) - gains(operator, light)).max() < MOST_STOPS
    assert np.abs(gains(changed, light) - gains(operator, light)).mean() < 0.05


def test_a_look_gives_way_to_guidance_by_how_unsure_it_is(rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    wanted = guidance_of(gains(operator, on_raster(light)) + 1.0)

    def change(doubt):
        return float(
            (gains(corrected(doubting(operator, doubt), light, wanted), light) - gains(operator, light)).mean()
        )

    changes = [change(doubt) for doubt in (0.02, 0.1, 0.5, 2.0)]
    assert changes == sorted(changes)
    assert changes[0] < 0.3
    assert changes[-1] > 0.85


def test_only_the_unsure_half_of_a_frame_follows_guidance_that_is_far_off(rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    operator["doubt"] = np.repeat(np.float32([[[0.03, 1.0]]]), 20, axis=2)
    wanted = guidance_of(gains(operator, on_raster(light)) + 1.2)
    change = np.abs(gains(corrected(operator, light, wanted), light) - gains(operator, light)).mean(axis=(0, 2))
    assert change[:40].mean() < 0.5 * change[-40:].mean()


def test_a_band_of_wrong_guidance_before_the_sky_hardly_shows_where_the_look_is_sure(rng):
    # Left a wall, right the sky, nearly as bright; guidance takes a band of the sky for wall.
    light = np.exp2(np.where(np.arange(32) < 16, -0.3, 0.3)).astype(np.float32)[None, :, None] * np.ones((24, 1, 3))
    light = np.repeat(np.repeat(light, 4, axis=0), 4, axis=1).astype(np.float32)
    operator = operator_of(rng, light, stops=0.0)
    gain = np.zeros((*RASTER, 3))
    gain[:, 16:18] = 2.0

    def halo(doubt):
        return np.abs(gains(corrected(doubting(operator, doubt), light, guidance_of(gain)), light)).max()

    assert halo(10.0) > 0.5
    assert halo(0.1) < 0.2 * halo(10.0)


def test_where_the_other_day_was_clipped_gains_only_rise(rng):
    light = light_of(rng)
    operator = operator_of(rng, light, stops=0.2)
    own = gains(operator, on_raster(light))
    lower = corrected(operator, light, guidance_of(own - 1, least=True))
    np.testing.assert_allclose(gains(lower, light), gains(operator, light), atol=1e-4)
    higher = corrected(operator, light, guidance_of(own + 1, least=True))
    assert (gains(higher, light) - gains(operator, light)).mean() > 0.5


def test_the_far_side_of_a_frame_is_left_more_alone_than_what_guidance_saw(rng):
    light = light_of(rng)
    operator = operator_of(rng, light)
    confidence = np.zeros(RASTER, np.float32)
    confidence[:, :6] = 1
    guidance = guidance_of(gains(operator, on_raster(light)) + 1, confidence)
    change = np.abs(gains(corrected(operator, light, guidance), light) - gains(operator, light)).mean(axis=(0, 2))
    assert change[:10].mean() > 0.7
    assert change[-10:].mean() < 0.2


@pytest.mark.parametrize("guide", ["own", "textured"])
def test_a_plate_four_times_brighter_is_corrected_alike(rng, guide):
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
        corrected(brighter, light * 4, guidance)["grid"], corrected(operator, light, guidance)["grid"], atol=1e-4
    )


def test_the_shown_guidance_doesnt_mix_with_what_is_unknown():
    gain, confidence = np.zeros((4, 6, 3), np.float32), np.zeros((4, 6), np.float32)
    gain[:, :3], confidence[:, :3] = 1.5, 0.8
    shown = upsampled(guidance_of(gain, confidence), 40, 60)
    assert shown.shape == (40, 60, 3)
    np.testing.assert_allclose(shown[:, :30], 1.5, atol=1e-5)
    assert not shown[:, 40:].any()


def test_looks_that_read_no_such_grid_are_refused(identity_look, darken_grid_look):
    for path in (identity_look, darken_grid_look):
        with pytest.raises(LookError, match="relight"):
            check_grid(LookSession(load_look(path), "cpu"))


# On disk


def written(path, rng, digest="abc", direction="ab"):
    gain = rng.normal(size=(*RASTER, 3)).astype(np.float16).astype(np.float32)
    least = rng.random((*RASTER, 3)) > 0.5
    confidence = rng.random(RASTER).astype(np.float16).astype(np.float32)
    write_guidance(path, Guidance(gain, least, confidence), {PHOTOS_NOTE: digest, DIRECTION_NOTE: direction})
    return gain, least, confidence


def test_guidance_comes_back_as_it_was_written(tmp_path, rng):
    gain, least, confidence = written(tmp_path / "new" / "g.exr", rng)
    found, notes = read_guidance(tmp_path / "new" / "g.exr")
    np.testing.assert_array_equal(found.gain, gain)
    np.testing.assert_array_equal(found.least, least)
    np.testing.assert_array_equal(found.confidence, confidence)
    assert notes[PHOTOS_NOTE] == "abc"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["g.exr"]


def test_what_is_no_guidance_is_refused_by_name(
    tmp_path,
    rng,
):
    plate = tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(tiny_plates.texture(20, 30)), "half")
    with pytest.raises(PlateError, match=r"p\.exr isn't guidance.*relightgan locate"):
        read_guidance(plate)
    with pytest.raises(PlateError, match=r"missing\.exr can't be read"):
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
