import warnings

import numpy as np
import pytest

from relightgan.core.colour import (
    DEFAULT_WORKING_SPACE,
    ENCODINGS,
    linear_to_model,
    linear_to_srgb,
    luminance,
    model_to_linear,
    srgb_to_linear,
    working_space,
)
from relightgan.core.errors import ColourError

RAMP = np.unique(np.concatenate([np.linspace(-0.1, 1.1, 240001), np.geomspace(1e-5, 65504, 100001)]).astype(np.float32))


def standard_srgb(x):
    """IEC 61966-2-1, in double precision."""
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


def test_srgb_log_is_the_srgb_standard_between_0_and_1():
    x = RAMP[(RAMP >= 0) & (RAMP <= 1)]
    assert np.abs(linear_to_srgb(x) - standard_srgb(x.astype(np.float64))).max() < 5e-7
    assert linear_to_srgb(np.float32([0, 1])).tolist() == [0, 1]
    assert srgb_to_linear(np.float32([0, 1])).tolist() == [0, 1]


def test_srgb_log_goes_on_logarithmically_above_1_with_the_same_value_and_slope():
    above = linear_to_srgb(np.float32([1, 10, 100, 1000]))
    assert np.diff(above) == pytest.approx([1.055 / 2.4 * np.log(10)] * 3, rel=1e-5)
    step = 1e-3
    below_1, at_1, above_1 = linear_to_srgb(np.float32([1 - step, 1, 1 + step]))
    assert (above_1 - at_1) / step == pytest.approx((at_1 - below_1) / step, rel=2e-3)


def test_srgb_log_goes_straight_on_below_0_with_the_slope_at_0():
    assert linear_to_srgb(np.float32([-0.1, -5])) == pytest.approx([-1.292, -64.6])


def test_srgb_log_never_falls():
    assert (np.diff(linear_to_srgb(RAMP)) >= 0).all()
    assert (np.diff(linear_to_srgb(RAMP[::5])) > 0).all()
    encoded = np.linspace(-2, 6, 500001, dtype=np.float32)
    assert (np.diff(srgb_to_linear(encoded)) >= 0).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_comes_back_from_below_0_to_the_largest_half(encoding):
    back = model_to_linear(linear_to_model(RAMP, encoding), encoding)
    assert np.abs(back - RAMP).max() <= 5e-6 * 65504
    assert (np.abs(back - RAMP) <= np.maximum(np.abs(RAMP) * 5e-6, 1e-8)).all()


@pytest.mark.parametrize("function", [linear_to_srgb, srgb_to_linear])
def test_encoding_keeps_shape_type_and_its_input_and_lets_nan_and_infinity_through(function):
    values = np.float32([[np.nan, np.inf, -np.inf], [1e38, 0, 0.5]])[:, :, None]
    before = values.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = function(values)
    assert result.shape == values.shape
    assert result.dtype == np.float32
    assert np.isnan(result[0, 0, 0])
    assert result[0, 1, 0] == np.inf
    assert result[0, 2, 0] == -np.inf
    assert np.array_equal(values, before, equal_nan=True)
    assert function(np.float32(0.5)).shape == ()


def test_blocks_don_t_show_however_long_or_strided_the_array_is():
    long = np.linspace(-1, 5, 3 * 40_000, dtype=np.float32).reshape(400, 100, 3)
    one_by_one = np.stack([linear_to_srgb(row) for row in long])
    assert np.array_equal(linear_to_srgb(long), one_by_one)
    assert np.array_equal(linear_to_srgb(long[:, ::2, :2]), one_by_one[:, ::2, :2])


def test_linear_encoding_gives_its_input_and_an_unknown_one_is_refused():
    assert linear_to_model(RAMP, "linear") is RAMP
    assert model_to_linear(RAMP, "linear") is RAMP
    with pytest.raises(ColourError, match=r"'log3' is unknown.*linear, srgb_log"):
        linear_to_model(RAMP, "log3")


def test_luminance_weighs_by_rec709():
    picture = np.zeros((2, 3, 3), np.float32)
    picture[0, 0] = [1, 0, 0]
    picture[0, 1] = [0, 10, 0]
    picture[1, 2] = [1, 1, 1]
    assert luminance(picture).shape == (2, 3)
    assert luminance(picture)[[0, 0, 1, 1], [0, 1, 2, 0]] == pytest.approx([0.2126, 7.152, 1, 0])


def test_the_default_working_space_is_the_identity_and_hands_its_input_on():
    space = working_space(DEFAULT_WORKING_SPACE)
    assert space.is_identity
    assert space.to_model_primaries(RAMP) is RAMP
    assert space.from_model_primaries(RAMP) is RAMP
    assert working_space("Linear Rec.709 (sRGB)").is_identity
    assert working_space("acescg", "ACEScg").is_identity


def test_acescg_goes_to_rec709_by_the_published_matrix():
    # AP1 to linear Rec.709 with Bradford adaptation, ACES TB-2014-004 and colour-science, four places.
    published = np.array([[1.7051, -0.6218, -0.0833], [-0.1303, 1.1408, -0.0105], [-0.0240, -0.1290, 1.1530]])
    primaries = working_space("ACEScg").to_model_primaries(np.eye(3, dtype=np.float32))
    assert np.abs(primaries.T - published).max() < 1e-4
    assert working_space("ACEScg").to_model_primaries(np.float32([[1, 1, 1]])) == pytest.approx(
        np.ones((1, 3)), abs=1e-5
    )


@pytest.mark.parametrize(
    "name", ["ACEScg", "ACES2065-1", "lin_p3d65", "lin_rec2020", "Linear ARRI Wide Gamut 4", "scene_linear"]
)
def test_linear_working_spaces_come_back_unclipped_over_the_whole_range(name):
    rng = np.random.default_rng(0)
    rgb = (rng.uniform(-0.1, 1, (40, 50, 3)) * np.exp2(rng.uniform(-8, 15, (40, 50, 1)))).astype(np.float32)
    space = working_space(name)
    there = space.to_model_primaries(rgb)
    back = space.from_model_primaries(there)
    assert there.min() < 0
    assert there.dtype == back.dtype == np.float32
    assert (np.abs(back - rgb).max(-1) <= 5e-6 * np.abs(rgb).max(-1)).all()
    assert np.array_equal(space.to_model_primaries(rgb.reshape(-1, 3)), there.reshape(-1, 3))


@pytest.mark.parametrize("name", ["sRGB - Texture", "sRGB", "ACEScct", "ARRI LogC4"])
def test_encoded_working_spaces_are_linearised_unclipped(name):
    linear = np.float32([[0.18, 0.18, 0.18], [0.01, 0.5, 0.9], [2, 4, 8], [-0.02, 0.1, 0.2]])
    space = working_space(name)
    encoded = space.from_model_primaries(linear)
    assert encoded[0, 0] != pytest.approx(0.18, abs=0.05)
    assert space.to_model_primaries(encoded) == pytest.approx(linear, rel=1e-4, abs=1e-5)


def test_srgb_texture_and_our_curve_are_one_in_0_to_1():
    x = np.linspace(0, 1, 3000, dtype=np.float32).reshape(-1, 3)
    assert working_space("sRGB - Texture").from_model_primaries(x) == pytest.approx(linear_to_srgb(x), abs=2e-5)


def test_converting_leaves_the_array_it_was_given_alone():
    for name in ("ACEScg", "ACEScct"):
        rgb = np.full((4, 5, 3), 0.5, np.float32)
        working_space(name).to_model_primaries(rgb)
        assert (rgb == 0.5).all()


def test_an_unknown_space_is_refused_with_the_near_names():
    with pytest.raises(ColourError, match=r"'ACES cg' is unknown.*ACEScg"):
        working_space("ACES cg")
    with pytest.raises(ColourError, match=r"'logc4' is unknown.*ARRI LogC4"):
        working_space("logc4")
    with pytest.raises(ColourError, match=r"'xyzzy' is unknown.*ACEScg, lin_rec709"):
        working_space("xyzzy")


def test_raw_is_no_colour_space_and_primaries_must_be_linear():
    with pytest.raises(ColourError, match="'Raw' stands for data"):
        working_space("Raw")
    with pytest.raises(ColourError, match="ACEScct, which is not scene-linear"):
        working_space("ACEScg", "ACEScct")
