"""Photos of a posed set with drifting cameras: what the cameras did is found and taken away."""

import numpy as np
import painted_set
import posed_set
import pytest

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.days import SOURCE
from relightgan.training.world.corrected_photos import CorrectedImages, corrected, corrected_banks
from relightgan.training.world.photometry import Photometry, falloff, point_samples, radii, solve_photometry
from relightgan.training.world.point_colours import point_observations

COUNT = 9  # photos of each day
VIGNETTING = np.array([-0.2, -0.2])
NONE = np.zeros(2)


def drifted(photo, gain, vignetting=VIGNETTING):
    """A photo (H, W, 3) as a camera with these gains (3,) and this lens delivers it, in 8 bits."""
    height, width = photo.shape[:2]
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    shade = falloff(radii(np.stack(np.meshgrid(x, y), axis=-1), np.array([width, height]))) @ vignetting
    linear = np.clip(srgb_to_linear(photo) * np.exp2(shade[..., None] + gain), 0, 1)
    return np.round(linear_to_srgb(linear.astype(np.float32)) * 255).astype(np.float32) / 255


def photometry(gains, vignetting=NONE, curve=NONE):
    number = len(gains)
    none = np.zeros(number, int)
    return Photometry(
        np.array(gains), np.ones(number, bool), none, vignetting[None], none, np.array(curve)[None], np.array(0.0)
    )


@pytest.fixture(scope="module")
def set_and_gains():
    scene = posed_set.posed_set(painted_set.texture, count=COUNT)
    rng = np.random.default_rng(5)
    gains = rng.normal(0, 0.35, (COUNT, 1)) + rng.normal(0, 0.07, (COUNT, 3))
    return scene, gains - gains.mean(axis=0)


def solved(scene, photos):
    samples = point_samples(photos, point_observations(scene.registration, SOURCE))
    none = np.zeros(COUNT, int)
    return solve_photometry(samples, COUNT, none, none)


def test_a_drifting_day_becomes_as_if_taken_alike(set_and_gains):
    scene, gains = set_and_gains
    bank = [drifted(photo, gain) for photo, gain in zip(scene.banks[SOURCE].photos, gains, strict=True)]
    found = solved(scene, bank)
    np.testing.assert_allclose(found.gains, gains, atol=0.05)
    np.testing.assert_allclose(found.vignetting[0].sum(), VIGNETTING.sum(), atol=0.06)
    before, after = [], []
    for own, came, now in zip(scene.banks[SOURCE].photos, bank, CorrectedImages(bank, found), strict=True):
        known = (came.max(axis=2) < 0.95) & (own.min(axis=2) > 0.1)
        before.append(np.abs(came - own)[known].mean())
        after.append(np.abs(now - own)[known].mean())
    assert np.mean(after) < 0.012
    assert np.mean(after) < 0.2 * np.mean(before)


def test_a_steady_day_stays(set_and_gains):
    scene, _ = set_and_gains
    found = solved(scene, scene.banks[SOURCE])
    assert np.median(np.abs(found.exposure)) < 0.02
    now = CorrectedImages(scene.banks[SOURCE], found)
    assert max(np.abs(now[n] - scene.banks[SOURCE][n]).mean() for n in range(COUNT)) < 0.01


def test_what_is_clipped_stays_clipped_and_what_a_dark_photo_knows_is_kept():
    code = np.full((4, 6, 3), 0.9, np.float32)
    code[0], code[1] = 1.0, [1.0, 0.5, 0.4]
    bright, dark = corrected(code, np.full(3, 0.5), NONE, NONE), corrected(code, np.full(3, -0.5), NONE, NONE)
    assert (bright[0] == 1).all()
    assert bright[1, 0, 0] == 1
    assert (bright[2:] < 0.9).all()
    np.testing.assert_allclose(srgb_to_linear(dark), srgb_to_linear(code) * 2**0.5, rtol=1e-5)
    assert (dark[2:] > 1).all()


def test_a_photo_without_a_white_of_its_own_only_gets_darker():
    code = linear_to_srgb(np.array([[[0.98, 4.0, 0.2]]], np.float32))
    found = srgb_to_linear(corrected(code, np.full(3, 1.0), NONE, NONE))
    np.testing.assert_allclose(found, [[[0.49, 2.0, 0.1]]], rtol=1e-4)


def test_nothing_to_correct_leaves_every_bit():
    photo = np.random.default_rng(0).random((5, 7, 3)).astype(np.float32)
    assert corrected(photo, np.zeros(3), NONE, NONE) is photo


def test_a_bank_is_corrected_photo_by_photo_and_those_beyond_stay():
    photos = [np.full((3, 4, 3), 0.5, np.float32) for _ in range(3)]
    now = CorrectedImages(photos, photometry([[0.0, 0, 0], [1.0, 0, -1]]))
    assert len(now) == 3
    np.testing.assert_allclose(srgb_to_linear(now[1])[0, 0] / srgb_to_linear(photos[1])[0, 0], [0.5, 1, 2], rtol=1e-5)
    np.testing.assert_array_equal(now[2], photos[2])
    np.testing.assert_array_equal(now[-1], photos[2])
    with pytest.raises(IndexError):
        now[3]


def test_without_photometry_banks_are_what_they_were():
    banks = ([1], [2])
    assert corrected_banks(banks, None) == banks
