import numpy as np
import pytest

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.guidance.back_translation import (
    PAIR_WEIGHT,
    TRUSTED_WEIGHT,
    back_translated,
    with_back_translation,
)
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.stops import DARK_FLOOR, to_stops

H, W = 24, 32


class Photos:
    """Photos of given linear pictures."""

    def __init__(self, linear):
        self.linear = linear

    def __len__(self):
        return len(self.linear)

    def __getitem__(self, index):
        return linear_to_srgb(self.linear[index]).astype(np.float32)


def texture(seed, height=H, width=W):
    return np.random.default_rng(seed).uniform(0.05, 0.3, (height, width, 3)).astype(np.float32)


def maps(photo, linear, weight):
    colour = to_stops(linear) * (weight > 0)[..., None]
    return GuidanceMaps(np.array(photo), colour.astype(np.float16), weight.astype(np.float16))


def test_what_is_trusted_stands_as_the_other_day_saw_it():
    own, theirs = to_stops(texture(0)), to_stops(texture(1))
    picture = back_translated(own, theirs, np.full((H, W), TRUSTED_WEIGHT, np.float32))
    np.testing.assert_allclose(srgb_to_linear(picture), texture(1), atol=2e-3)


def test_holes_keep_their_own_detail_under_the_gains_around_them():
    linear = texture(0)
    gain = np.array([-1.0, -0.5, 0.5], np.float32)
    own = to_stops(linear)
    weight = np.ones((H, W), np.float32)
    weight[8:16, 10:20] = 0
    colour = np.where(weight[..., None] > 0, own + gain, 0)
    picture = back_translated(own, colour, weight)
    expected = np.exp2(own + gain) - DARK_FLOOR
    np.testing.assert_allclose(srgb_to_linear(picture), expected.clip(0, 1), atol=0.01)


def test_a_photo_that_nobody_saw_stays_as_it_is():
    own = to_stops(texture(0))
    picture = back_translated(own, np.zeros_like(own), np.zeros((H, W), np.float32))
    np.testing.assert_allclose(srgb_to_linear(picture), texture(0), atol=2e-3)


def test_target_photos_follow_the_source_photos_and_are_guided_by_themselves():
    a, b = Photos([texture(n) for n in range(3)]), Photos([texture(n) for n in range(10, 14)])
    guidance = maps([0, 2], np.stack([texture(20), texture(21)]), np.ones((2, H, W), np.float32))
    back = maps([1, 3], np.stack([texture(30), texture(31)]), np.ones((2, H, W), np.float32))
    bank, joined = with_back_translation(a, b, guidance, back)
    assert (len(bank), len(joined)) == (5, 4)
    assert joined.photo.tolist() == [0, 2, 3, 4]
    for index in range(3):
        assert np.array_equal(bank[index], a[index])
    assert np.array_equal(joined.colour[:2], guidance.colour)
    for index, (seen, photo) in enumerate([(30, 1), (31, 3)]):
        np.testing.assert_allclose(srgb_to_linear(bank[3 + index]), texture(seen), atol=3e-3)
        np.testing.assert_allclose(joined.colour[2 + index], to_stops(b.linear[photo]), atol=5e-3)
    assert np.all(joined.weight[2:] == np.float16(PAIR_WEIGHT))


def test_a_portrait_photo_stays_one():
    tall = texture(0, 64, 48)
    back = maps([0], texture(1)[None], np.ones((1, H, W), np.float32))
    nothing = maps([], np.zeros((0, H, W, 3)), np.zeros((0, H, W)))
    bank, joined = with_back_translation(Photos([]), Photos([tall]), nothing, back)
    assert bank[0].shape == (32, 24, 3)
    assert joined.colour.shape == (1, H, W, 3)


def test_without_anything_to_back_translate_all_stays():
    guidance = maps([0], texture(0)[None], np.ones((1, H, W), np.float32))
    nothing = maps([], np.zeros((0, H, W, 3)), np.zeros((0, H, W)))
    bank, joined = with_back_translation(Photos([texture(0)]), Photos([texture(1)]), guidance, nothing)
    assert len(bank) == 1
    assert joined is guidance


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_make_no_numbers_that_are_none(value):
    flat = np.full((H, W, 3), value, np.float32)
    picture = back_translated(
        to_stops(flat), to_stops(1 - flat), np.linspace(0, 1, H * W, dtype=np.float32).reshape(H, W)
    )
    assert np.isfinite(picture).all()
    assert 0 <= picture.min() <= picture.max() <= 1
