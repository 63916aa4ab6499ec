"""One frame through the whole pipeline: real EXR files in, real looks through onnxruntime, real EXR files out."""

import dataclasses

import numpy as np
import pytest
import tiny_looks
import tiny_plates
from onnx import helper

from relightgan.core.errors import LookError, PlateError, SequenceError, UsageError
from relightgan.core.frames import read_plate, write_plate
from relightgan.core.look import load_look
from relightgan.core.pipeline import Relighting, Settings, WindowCache, relight_frame
from relightgan.core.session import LookSession

IDENTITIES = [("linear", "unbounded"), ("srgb_log", "unbounded"), ("srgb_log", "unit"), ("linear", "unit")]


@pytest.fixture(scope="module")
def session_of(tmp_path_factory):
    """Opens a look on the CPU, once for each."""
    opened = {}

    def open_look(kind, **facts):
        key = (kind, tuple(sorted(facts.items())))
        if key not in opened:
            path = tmp_path_factory.mktemp("look") / "look.onnx"
            opened[key] = LookSession(load_look(getattr(tiny_looks, kind)(path, **facts)), "cpu")
        return opened[key]

    return open_look


@pytest.fixture
def relit(tmp_path):
    """Reads one EXR, relights it, writes it, and gives the path written."""

    def run(source, session, mask=None, **settings):
        plate = read_plate(source)
        frame = relight_frame(1, lambda _: plate, [1], Relighting(session, Settings(**settings), lambda *_: mask))
        target = tmp_path / "relit.exr"
        write_plate(target, plate, frame.rgb)
        return target

    return run


def ramp() -> np.ndarray:
    """Grey from -0.1 to 100, finely through 0..1; below it the same values with others in each channel."""
    values = np.concatenate([np.linspace(-0.1, 0, 51), np.linspace(0, 1, 151)[1:], np.geomspace(1, 100, 101)[1:]])
    grey = np.stack([values] * 3, axis=1)
    coloured = np.stack([values, values[::-1], np.roll(values, 77)], axis=1)
    return np.stack([grey, coloured], axis=0).astype(np.float32)


@pytest.mark.parametrize(("encoding", "value_range"), IDENTITIES)
@pytest.mark.parametrize("space", ["lin_rec709", "ACEScg"])
def test_a_ramp_from_below_nought_to_a_hundred_comes_back(tmp_path, session_of, relit, encoding, value_range, space):
    rgb = ramp()
    source = tiny_plates.write_exr(tmp_path / "plate.exr", tiny_plates.rgb_channels(rgb), "float")
    session = session_of("identity_look", encoding=encoding, value_range=value_range)
    result = tiny_plates.read_rgb(relit(source, session, working_space=space, exposure=1.5))
    error, size = np.abs(result - rgb), np.abs(rgb)
    assert np.all(error[0] <= 1e-3 * size[0])
    # Through other primaries a channel is a sum over its pixel, and keeps a small share of the largest term.
    assert np.all(error[1] <= 1e-3 * (size[1] if space == "lin_rec709" else size[1].max(axis=1, keepdims=True)))


def test_highlights_stay_ordered_and_above_one(tmp_path, session_of, relit):
    rgb = np.geomspace(0.5, 100, 64, dtype=np.float32)[None, :, None].repeat(3, 2).repeat(8, 0)
    source = tiny_plates.write_exr(tmp_path / "plate.exr", tiny_plates.rgb_channels(rgb), "float")
    result = tiny_plates.read_rgb(relit(source, session_of("gain_look", gain=0.9)))
    assert np.all(np.diff(result, axis=1) > 0)
    assert result.max() > 30


@pytest.mark.parametrize("look", ["darken_grid_look", "conv_look"])
def test_alpha_and_other_channels_come_through_to_the_bit(tmp_path, session_of, relit, look):
    rng = np.random.default_rng(0)
    others = {"A": rng.random((24, 32)), "depth.Z": rng.normal(0, 1e4, (24, 32)), "ids": rng.random((24, 32))}
    others["depth.Z"][0, 0] = np.inf
    channels = tiny_plates.rgb_channels(tiny_plates.texture(24, 32), **others)
    source = tiny_plates.write_exr(tmp_path / "plate.exr", channels)
    before = tiny_plates.read_exr(source)
    after = tiny_plates.read_exr(relit(source, session_of(look)))
    assert set(after) == set(before)
    for name in others:
        assert after[name].tobytes() == before[name].tobytes()
    assert not np.array_equal(after["R"], before["R"])


@pytest.mark.parametrize(("size", "origin"), [((40, 50), (-8, -6)), ((10, 14), (9, 4))], ids=["larger", "smaller"])
@pytest.mark.parametrize("look", ["darken_grid_look", "conv_look"])
def test_the_data_window_is_relit_wherever_it_lies(tmp_path, session_of, relit, size, origin, look):
    rgb = tiny_plates.texture(*size)
    window = {"data_origin": origin, "display": (0, 0, 32, 24)}
    placed = tiny_plates.write_exr(tmp_path / "placed.exr", tiny_plates.rgb_channels(rgb), **window)
    plain = tiny_plates.write_exr(tmp_path / "plain.exr", tiny_plates.rgb_channels(rgb))
    session = session_of(look)
    result = read_plate(relit(placed, session))
    assert result.data_window == (*origin, origin[0] + size[1], origin[1] + size[0])
    assert result.display_window == (0, 0, 32, 24)
    # What is relit is the picture in the data window, so where it lies in the display doesn't matter.
    np.testing.assert_array_equal(result.rgb, tiny_plates.read_rgb(relit(plain, session)))


@pytest.mark.parametrize("look", ["identity_look", "darken_grid_look", "conv_look"])
def test_nan_and_infinity_come_out_where_they_went_in_and_nowhere_else(tmp_path, session_of, look):
    rgb = tiny_plates.texture(24, 32)
    bad = rgb.copy()
    bad[3, 4, 0], bad[5, 6, 1], bad[7, 8] = np.nan, np.inf, (-np.inf, np.nan, np.inf)
    alpha = np.full((24, 32), 0.5, np.float32)
    source = tiny_plates.write_exr(tmp_path / "bad.exr", tiny_plates.rgb_channels(bad, A=alpha), "float")
    plate = read_plate(source)
    session = session_of(look)
    frame = relight_frame(1, lambda _: plate, [1], Relighting(session, Settings(working_space="ACEScg", strength=0.5)))
    assert frame.nonfinite == 5
    np.testing.assert_array_equal(np.isfinite(frame.rgb), np.isfinite(bad))
    np.testing.assert_array_equal(frame.rgb[~np.isfinite(bad)], bad[~np.isfinite(bad)])
    clean = dataclasses.replace(plate, rgb=np.nan_to_num(bad, nan=0, posinf=0, neginf=0))
    want = relight_frame(
        1, lambda _: clean, [1], Relighting(session, Settings(working_space="ACEScg", strength=0.5))
    ).rgb
    np.testing.assert_array_equal(frame.rgb[np.isfinite(bad)], want[np.isfinite(bad)])


def test_nan_in_alpha_or_mask_does_not_spread(tmp_path, session_of):
    alpha = np.ones((24, 32), np.float32)
    alpha[2, 3], alpha[4, 5] = np.nan, np.inf
    source = tiny_plates.write_exr(
        tmp_path / "a.exr", tiny_plates.rgb_channels(tiny_plates.texture(24, 32), A=alpha), "float"
    )
    plate = read_plate(source)
    mask = np.ones((24, 32), np.float32)
    mask[6, 7] = np.nan
    frame = relight_frame(
        1, lambda _: plate, [1], Relighting(session_of("darken_grid_look"), Settings(), lambda *_: mask)
    )
    assert np.isfinite(frame.rgb).all()
    np.testing.assert_array_equal(frame.rgb[6, 7], plate.rgb[6, 7])


@pytest.mark.parametrize("look", ["darken_grid_look", "conv_look"])
def test_strength_nought_gives_the_plates_own_bits(tmp_path, session_of, relit, look):
    rgb = tiny_plates.texture(24, 32)
    rgb[0, 0] = (-0.0, np.nan, np.inf)
    source = tiny_plates.write_exr(tmp_path / "plate.exr", tiny_plates.rgb_channels(rgb, A=rgb[..., 0]))
    result = relit(source, session_of(look), strength=0.0, working_space="ACEScg", exposure=2.0)
    assert tiny_plates.read_rgb(result).tobytes() == tiny_plates.read_rgb(source).tobytes()


def test_mask_nought_gives_the_plates_own_bits_and_mask_one_the_full_result(tmp_path, session_of):
    rgb = tiny_plates.texture(24, 32)
    rgb[0, 0] = -0.0
    plate = read_plate(tiny_plates.write_exr(tmp_path / "plate.exr", tiny_plates.rgb_channels(rgb)))
    session = session_of("darken_grid_look")
    full = relight_frame(1, lambda _: plate, [1], Relighting(session, Settings())).rgb
    mask = np.zeros((24, 32), np.float32)
    mask[:, 16:] = 1.0
    mask[:, 30:] = 0.25
    rgb = relight_frame(1, lambda _: plate, [1], Relighting(session, Settings(), lambda *_: mask)).rgb
    assert rgb[:, :16].tobytes() == plate.rgb[:, :16].tobytes()
    assert rgb[:, 16:30].tobytes() == full[:, 16:30].tobytes()
    np.testing.assert_allclose(rgb[:, 30:], plate.rgb[:, 30:] * 0.75 + full[:, 30:] * 0.25, rtol=1e-6)


def test_strength_mixes_in_linear_light(tmp_path, session_of):
    plate = read_plate(tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(tiny_plates.texture(24, 32))))
    session = session_of("darken_grid_look")
    full = relight_frame(1, lambda _: plate, [1], Relighting(session, Settings())).rgb
    half = relight_frame(1, lambda _: plate, [1], Relighting(session, Settings(strength=0.5))).rgb
    np.testing.assert_allclose(half, (plate.rgb + full) / 2, rtol=1e-5)


def test_the_exposure_offset_is_taken_back(tmp_path, session_of):
    rgb = tiny_plates.texture(24, 32)
    session = session_of("darken_grid_look")
    bright = read_plate(tiny_plates.write_exr(tmp_path / "a.exr", tiny_plates.rgb_channels(rgb), "float"))
    dim = read_plate(tiny_plates.write_exr(tmp_path / "b.exr", tiny_plates.rgb_channels(rgb / 8), "float"))
    want = relight_frame(1, lambda _: bright, [1], Relighting(session, Settings())).rgb
    got = relight_frame(1, lambda _: dim, [1], Relighting(session, Settings(exposure=3.0))).rgb
    np.testing.assert_array_equal(got * 8, want)  # three stops are exact in binary
    without = relight_frame(1, lambda _: dim, [1], Relighting(session, Settings())).rgb
    assert np.abs(without - got).max() > 1e-3  # the look does see the offset


def test_premultiplied_edges_are_relit_as_the_colour_beneath(tmp_path, session_of):
    rgb = tiny_plates.texture(24, 32)
    alpha = np.tile(np.linspace(0.25, 1, 32, dtype=np.float32), (24, 1))
    solid = read_plate(tiny_plates.write_exr(tmp_path / "a.exr", tiny_plates.rgb_channels(rgb), "float"))
    over = tiny_plates.rgb_channels(rgb * alpha[..., None], A=alpha)
    covered = read_plate(tiny_plates.write_exr(tmp_path / "b.exr", over, "float"))
    session = session_of("darken_grid_look")
    want = relight_frame(1, lambda _: solid, [1], Relighting(session, Settings())).rgb * alpha[..., None]
    got = relight_frame(1, lambda _: covered, [1], Relighting(session, Settings())).rgb
    np.testing.assert_allclose(got, want, rtol=1e-4)
    straight = relight_frame(1, lambda _: covered, [1], Relighting(session, Settings(premultiplied=False))).rgb
    assert np.abs(straight - want).max() > 1e-3


def test_light_without_alpha_is_relit_not_lost(tmp_path, session_of):
    channels = tiny_plates.rgb_channels(np.ones((24, 32, 3), np.float32), A=np.zeros((24, 32)))
    plate = read_plate(tiny_plates.write_exr(tmp_path / "glow.exr", channels))
    rgb = relight_frame(1, lambda _: plate, [1], Relighting(session_of("darken_grid_look"), Settings())).rgb
    assert np.all((rgb > 0.1) & (rgb < 0.9))


# Temporal blend


@pytest.fixture
def clip(
    tmp_path,
):
    """A moving, flickering clip of frames 1 to 9: a reader of its plates, and their numbers."""
    pattern = tiny_plates.write_clip(tmp_path / "clip", range(1, 10), flicker=0.4)
    asked = []

    def plates(frame):
        asked.append(frame)
        return read_plate(pattern % frame)

    plates.asked = asked
    return plates


@pytest.mark.parametrize("look", ["darken_grid_look", "conv_look"])
def test_a_frame_is_a_function_of_its_window(clip, session_of, look):
    session, settings = session_of(look), Settings(temporal_blend=0.8, temporal_window=2)
    cache = WindowCache()
    alone = {f: relight_frame(f, clip, range(1, 10), Relighting(session, settings)).rgb for f in (1, 2, 5, 9)}
    for order in (range(1, 10), [9, 5, 2, 1, 5]):
        for frame in order:
            rgb = relight_frame(frame, clip, range(1, 10), Relighting(session, settings, cache=cache)).rgb
            if frame in alone:
                assert rgb.tobytes() == alone[frame].tobytes()


def test_only_the_window_is_read_and_each_frame_once(clip, session_of):
    cache, settings = WindowCache(), Settings(temporal_blend=1.0, temporal_window=2)
    relight_frame(5, clip, range(1, 10), Relighting(session_of("darken_grid_look"), settings, cache=cache))
    assert sorted(clip.asked) == [3, 4, 5, 6, 7]
    clip.asked.clear()
    relight_frame(6, clip, range(1, 10), Relighting(session_of("darken_grid_look"), settings, cache=cache))
    assert clip.asked == [6, 8]


def test_a_cache_does_not_outlive_the_settings_it_was_filled_with(clip, session_of):
    cache, session = WindowCache(), session_of("darken_grid_look")
    relight_frame(5, clip, range(1, 10), Relighting(session, Settings(temporal_blend=1.0), cache=cache))
    changed = Settings(temporal_blend=1.0, exposure=2.0)
    with_cache = relight_frame(5, clip, range(1, 10), Relighting(session, changed, cache=cache)).rgb
    assert with_cache.tobytes() == relight_frame(5, clip, range(1, 10), Relighting(session, changed)).rgb.tobytes()


@pytest.mark.parametrize("look", ["darken_grid_look", "conv_look"])
def test_blend_nought_is_the_single_frame_to_the_bit_and_reads_no_other(clip, session_of, look):
    session = session_of(look)
    blended = relight_frame(
        5, clip, range(1, 10), Relighting(session, Settings(temporal_blend=0.0, temporal_window=3))
    ).rgb
    assert set(clip.asked) == {5}
    assert blended.tobytes() == relight_frame(5, clip, [5], Relighting(session, Settings())).rgb.tobytes()


@pytest.mark.parametrize("look", ["darken_grid_look", "conv_look"])
def test_a_still_plate_stays_put_under_full_blend(tmp_path, session_of, look):
    plate = read_plate(tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(tiny_plates.texture(48, 64))))
    session = session_of(look)
    alone = relight_frame(5, lambda _: plate, [5], Relighting(session, Settings())).rgb
    blended = relight_frame(5, lambda _: plate, range(1, 10), Relighting(session, Settings(temporal_blend=1.0))).rgb
    np.testing.assert_array_equal(blended, alone)


def test_blend_takes_most_of_a_flicker_away(tmp_path, session_of):
    # The look answers to brightness, so grain-like changes of the plate make its corrections flicker.
    folder = tmp_path / "still"
    pattern = tiny_plates.write_clip(folder, range(1, 10), step=(0, 0), flicker=0.1)
    plates, session = (lambda f: read_plate(pattern % f)), session_of("darken_grid_look")

    def gains(settings):
        frames = [relight_frame(f, plates, range(1, 10), Relighting(session, settings)).rgb for f in range(3, 8)]
        return np.stack([np.log2(rgb / plates(f).rgb) for f, rgb in zip(range(3, 8), frames, strict=True)])

    flicker = [np.abs(np.diff(gains(Settings(temporal_blend=b)), axis=0)).mean() for b in (0.0, 1.0)]
    assert flicker[1] < 0.5 * flicker[0]


def test_a_moving_data_window_can_be_blended(tmp_path, session_of):
    rgb = tiny_plates.texture(60, 80)
    boxes = {1: (0, 0, 80, 60), 2: (6, 4, 74, 60), 3: (10, 0, 80, 52)}
    for frame, (x0, y0, x1, y1) in boxes.items():
        piece = tiny_plates.rgb_channels(rgb[y0:y1, x0:x1])
        tiny_plates.write_exr(tmp_path / f"{frame}.exr", piece, data_origin=(x0, y0), display=(0, 0, 80, 60))
    plates = lambda f: read_plate(tmp_path / f"{f}.exr")  # noqa: E731
    session = session_of("gain_look", gain=0.8)
    alone = relight_frame(2, plates, [1, 2, 3], Relighting(session, Settings())).rgb
    blended = relight_frame(2, plates, [1, 2, 3], Relighting(session, Settings(temporal_blend=1.0))).rgb
    # This look's correction belongs to the point, not to the frame, so blending matching points changes nothing.
    np.testing.assert_allclose(blended, alone, rtol=0.01, atol=1e-4)
    assert not np.array_equal(blended, alone)


def test_a_gap_in_the_window_is_an_error_that_names_it(clip, session_of):
    with pytest.raises(SequenceError, match="frame 5 needs 4,6, which"):
        relight_frame(
            5, clip, [1, 2, 3, 5, 7, 8], Relighting(session_of("identity_look"), Settings(temporal_blend=0.5))
        )


def test_frames_of_another_size_in_the_window_are_an_error(tmp_path, session_of):
    for frame, size in {1: (24, 32), 2: (24, 32), 3: (20, 32)}.items():
        tiny_plates.write_exr(tmp_path / f"{frame}.exr", tiny_plates.rgb_channels(tiny_plates.texture(*size)))
    with pytest.raises(PlateError, match="Frame 3 is 32x20 and frame 2 is 32x24"):
        relight_frame(
            2,
            lambda f: read_plate(tmp_path / f"{f}.exr"),
            [1, 2, 3],
            Relighting(session_of("conv_look"), Settings(temporal_blend=0.5)),
        )


# What can't be done


def blended(tmp_path, predict, stored) -> None:
    """Relights the second of three frames, of growing width, with a look and a temporal blend."""
    paths = {frame: tmp_path / f"p.{frame}.exr" for frame in (1, 2, 3)}
    display = (0, 0, 40, 20)
    for frame, path in paths.items():
        channels = tiny_plates.rgb_channels(tiny_plates.texture(20, 20 + frame))
        tiny_plates.write_exr(path, channels, "float", display=display)
    nodes = [*predict, helper.make_node("Expand", ["one", "size"], ["grid"])]
    apply = [
        helper.make_node("ReduceMean", ["grid"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["plate", "mean"], ["relit"]),
    ]
    given = [tiny_looks.const("one", [[[[1.0]]]]), *stored]
    look = tiny_looks.odd_operator_look(tmp_path / "odd.onnx", predict=nodes, apply=apply, stored=given)
    relighting = Relighting(LookSession(load_look(look), "cpu"), Settings(temporal_blend=0.7))
    relight_frame(2, lambda frame: read_plate(paths[frame]), sorted(paths), relighting)


def test_operators_whose_channels_change_from_frame_to_frame_cannot_be_blended(tmp_path):
    one = tiny_looks.const("one_i", [1], np.int64)
    width = [
        helper.make_node("Shape", ["plate"], ["width"], start=3),
        helper.make_node("Concat", ["one_i", "width", "one_i", "one_i"], ["size"], axis=0),
    ]
    with pytest.raises(LookError, match=r"operator grid of .*odd\.onnx has 21 channels for one frame"):
        blended(tmp_path, width, [one])


def test_an_operator_larger_than_opencv_takes_cannot_be_blended(tmp_path):
    with pytest.raises(LookError, match=r"operator grid of .*odd\.onnx has 32767x1 values"):
        blended(tmp_path, [], [tiny_looks.const("size", [1, 3, 1, 32767], np.int64)])


def test_a_mask_of_another_size_is_an_error(tmp_path, session_of):
    plate = read_plate(tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(tiny_plates.texture(24, 32))))
    with pytest.raises(PlateError, match=r"mask is 30x24, the data window of .* is 32x24"):
        relight_frame(
            1,
            lambda _: plate,
            [1],
            Relighting(session_of("conv_look"), Settings(), lambda *_: np.ones((24, 30), np.float32)),
        )


def test_a_look_that_gives_nan_is_an_error(tmp_path, session_of):
    plate = read_plate(tiny_plates.write_exr(tmp_path / "p.exr", tiny_plates.rgb_channels(tiny_plates.texture(24, 32))))
    with pytest.raises(LookError, match=r"look\.onnx gives NaN or infinity for frame 7"):
        relight_frame(7, lambda _: plate, [7], Relighting(session_of("gain_look", gain=float("nan")), Settings()))


@pytest.mark.parametrize(
    "wrong", [{"strength": 1.1}, {"temporal_blend": -0.1}, {"temporal_window": 99}, {"exposure": float("nan")}]
)
def test_settings_out_of_range_are_usage_errors(wrong):
    with pytest.raises(UsageError, match="out of range"):
        Settings(**wrong)
