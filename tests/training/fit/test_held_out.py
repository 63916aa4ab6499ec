"""What held-out photos measure: errors against a truth that is known, and the simple transfer that looks must beat."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from relightgan.core.colour import linear_to_srgb
from relightgan.training.fit.held_out import (
    MAX_SIDE_PX,
    HeldOut,
    HeldOutPhoto,
    Transfer,
    fit_transfer,
    measure,
    on_raster,
    reduced,
    transfer_of,
)
from relightgan.training.stops import CLIPPED_STOPS, to_stops
from relightgan.training.torch_colour import decode_srgb, encode_srgb

GAIN = np.float32([1.0, 0.4, -0.5])
CPU = torch.device("cpu")


def photo_of(rng, gains=GAIN, size=(48, 64), raster=(12, 16)):
    """A photo of flat patches, one for each pixel of its raster, whose light changes by `gains` in stops."""
    cells = rng.uniform(0.03, 0.3, (*raster, 3)).astype(np.float32)
    linear = np.kron(cells, np.ones((size[0] // raster[0], size[1] // raster[1], 1), np.float32))
    sky = np.zeros(raster, bool)
    sky[:4] = True
    wanted = to_stops(cells * np.exp2(np.broadcast_to(gains, cells.shape)).astype(np.float32))
    return HeldOutPhoto(linear_to_srgb(linear).astype(np.float32), wanted, np.ones(raster, np.float32), sky)


def relighting(gain):
    """A recipe that multiplies photos by gains in stops."""
    factor = torch.exp2(torch.tensor(gain, dtype=torch.float32)).view(1, 3, 1, 1)
    return SimpleNamespace(relight=lambda photos, _: encode_srgb((decode_srgb(photos) * factor).clamp(0, 1)))


def held_out(photos):
    return HeldOut("ab", photos, "guidance", True, Transfer(np.ones(3), np.zeros(3)))


def test_a_perfect_look_is_off_by_nothing_and_untouched_photos_by_the_change_of_light():
    photos = [photo_of(np.random.default_rng(n)) for n in range(2)]
    errors = measure(relighting(GAIN.tolist()), held_out(photos), CPU)
    assert errors.look < 0.01
    assert errors.sky < 0.01
    assert errors.surface < 0.01
    assert errors.untouched == pytest.approx(np.abs(GAIN).mean(), rel=0.1)
    assert errors.transfer == pytest.approx(errors.untouched, abs=1e-5)  # one that changes nothing


def test_errors_are_weighed_by_confidence_and_skies_stand_apart():
    photo = photo_of(np.random.default_rng(0))
    wrong = photo.wanted.copy()
    wrong[photo.sky] += 1.0
    surfaces = HeldOutPhoto(photo.picture, wrong, (~photo.sky).astype(np.float32), photo.sky)
    everything = HeldOutPhoto(photo.picture, wrong, photo.weight, photo.sky)
    recipe = relighting(GAIN.tolist())
    assert measure(recipe, held_out([surfaces]), CPU).look < 0.01
    assert measure(recipe, held_out([surfaces]), CPU).sky is None
    errors = measure(recipe, held_out([everything]), CPU)
    assert errors.sky == pytest.approx(1.0, abs=0.02)
    assert errors.surface < 0.01
    assert errors.look == pytest.approx(1 / 3, abs=0.02)


def test_brighter_than_a_clipped_photo_is_no_error():
    photo = photo_of(np.random.default_rng(0), gains=np.float32([0, 0, 0]))
    clipped = HeldOutPhoto(np.ones_like(photo.picture), np.full_like(photo.wanted, CLIPPED_STOPS), photo.weight)
    assert measure(relighting([0.0, 0.0, 0.0]), held_out([clipped]), CPU).look == 0
    assert measure(relighting([-1.0, -1.0, -1.0]), held_out([clipped]), CPU).look > 0.9


def test_measuring_neither_draws_random_numbers_nor_keeps_the_number_of_cores():
    cores, state = torch.get_num_threads(), torch.get_rng_state()
    measure(relighting([0.0, 0.0, 0.0]), held_out([photo_of(np.random.default_rng(0))]), CPU)
    assert torch.get_num_threads() == cores
    assert torch.equal(torch.get_rng_state(), state)


def test_the_transfer_finds_gain_and_contrast_and_passes_over_what_is_odd_or_clipped():
    rng = np.random.default_rng(0)
    own = rng.uniform(-5, -1, (4000, 3))
    wanted = own * [0.8, 1.0, 1.2] + [0.5, -0.2, 0.3] + rng.normal(0, 0.05, own.shape)
    wanted[:600] += 3  # matched wrongly
    wanted[600:900] = CLIPPED_STOPS
    found = fit_transfer(own, wanted, np.ones(len(own)))
    np.testing.assert_allclose(found.contrast, [0.8, 1.0, 1.2], atol=0.02)
    np.testing.assert_allclose(found.gain, [0.5, -0.2, 0.3], atol=0.06)
    assert np.isfinite(fit_transfer(own[:0], wanted[:0], np.ones(0)).gain).all()
    one = fit_transfer(np.full((9, 3), -3.0), np.full((9, 3), -2.0), np.ones(9))
    np.testing.assert_allclose(one(np.full((1, 3), -4.0)), -3.0, atol=1e-6)


def test_a_transfer_of_photos_undoes_a_change_that_is_the_same_everywhere():
    photos = [photo_of(np.random.default_rng(n)) for n in range(3)]
    transfer = transfer_of(photos)
    own = on_raster(photos[0].picture, photos[0].weight.shape)
    assert np.abs(transfer(own) - photos[0].wanted).mean() < 0.05


def test_large_photos_are_made_small_and_small_ones_stay():
    assert reduced(np.zeros((200, 2000, 3), np.float32)).shape == (32, MAX_SIDE_PX, 3)
    assert reduced(np.zeros((30, 40, 3), np.float32)).shape == (30, 40, 3)
