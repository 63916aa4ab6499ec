"""Photometry on made-up samples whose cameras are known."""

import dataclasses

import numpy as np
import pytest

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.world import photometry
from relightgan.training.world.photometry import MIN_SAMPLES, Samples, falloff, solve_photometry, straightened
from relightgan.training.world.photometry_words import departure, summary

PHOTOS, POINTS, SEEN = 40, 2500, 6
VIGNETTING = np.array([-0.1, -0.3])


def s_curve(code):
    """A camera's usual picture style: slope 1.35 in the middle, ends held."""
    return 0.7 * code + 0.3 * (3 * code**2 - 2 * code**3)


def made(
    seed=0, exposures=0.4, vignetting=VIGNETTING, noise=0.08, curve=lambda code: code, photos=PHOTOS, odd=0.0, seen=SEEN
):
    """Samples (all of them), and the gains (photos, 3) that are in them; clipped, dark and rounded as in a file."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(-2.2, 1.0, (POINTS, 1)) + rng.normal(0, 0.3, (POINTS, 3))
    gains = rng.normal(0, exposures, (photos, 1)) + rng.normal(0, exposures / 6, (photos, 3))
    gains -= gains.mean(axis=0)
    point = np.repeat(np.arange(POINTS), seen)
    photo = np.concatenate([rng.choice(photos, seen, replace=False) for _ in range(POINTS)])
    radius = rng.uniform(0, 1, len(point)).astype(np.float32)
    stops = colours[point] + gains[photo] + (falloff(radius) @ vignetting)[:, None]
    stops += rng.normal(0, noise, stops.shape)
    stops[rng.random(len(point)) < odd] += rng.normal(1.5, 0.5)
    code = np.round(curve(linear_to_srgb(np.clip(2**stops, 0, 1).astype(np.float32))) * 255) / 255
    return Samples(point, photo, radius, srgb_to_linear(code.astype(np.float32))), gains


def usable(samples):
    linear = samples.linear
    return samples.rows((linear.min(axis=1) > photometry.DARKEST) & (linear.max(axis=1) < photometry.BRIGHTEST))


def solve(samples, photos=PHOTOS, lens=None, camera=None):
    none = np.zeros(photos, int)
    return solve_photometry(usable(samples), photos, none if lens is None else lens, none if camera is None else camera)


def test_exposure_white_balance_and_vignetting_are_found():
    samples, gains = made()
    found = solve(samples)
    np.testing.assert_allclose(found.gains, gains, atol=0.03)
    np.testing.assert_allclose(found.gains.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(found.vignetting[0], VIGNETTING, atol=0.02)
    np.testing.assert_allclose(found.exposure[:, None] + found.white, found.gains)
    assert found.solved.all()


def test_photos_taken_alike_stay_as_they_came():
    found = solve(made(exposures=0, vignetting=np.zeros(2))[0])
    assert np.abs(found.gains).max() < 0.025
    assert np.abs(found.vignetting).max() < 0.02
    assert departure(found) < 0.005


def test_a_little_that_every_photo_seems_to_differ_by_is_not_believed():
    """Highlights move with the camera, also where all photos were taken alike: 0.05 stops on a rendered set."""
    samples, gains = made(exposures=0.04, vignetting=np.zeros(2))
    found = solve(samples)
    assert np.median(np.abs(found.exposure)) < 0.5 * np.median(np.abs(gains.mean(axis=1)))
    assert departure(found) < 0.005


def test_one_photo_that_differs_among_others_taken_alike_is_believed():
    samples, _ = made(exposures=0)
    brighter = np.where(samples.photo == 3, 2.0, 1.0)[:, None].astype(np.float32)
    found = solve(dataclasses.replace(samples, linear=samples.linear * brighter))
    assert abs(found.exposure[3] - (1 - 1 / PHOTOS)) < 0.05
    assert np.median(np.abs(found.exposure)) < 0.03


def test_every_seventh_sample_may_show_something_else():
    samples, gains = made(odd=0.15)
    np.testing.assert_allclose(solve(samples).gains, gains, atol=0.05)


def test_clipped_and_dark_samples_dont_pull_at_exposures():
    """Where samples are chosen by their own values alone, the slope here is 0.96."""
    samples, gains = made(exposures=0.8, noise=0.2)
    assert len(usable(samples).point) < 0.95 * len(samples.point)
    found = solve(samples)
    assert abs(np.polyfit(gains.mean(axis=1), found.exposure, 1)[0] - 1) < 0.02
    assert np.median(np.abs(found.exposure - gains.mean(axis=1))) < 0.03


def test_lenses_have_vignetting_of_their_own_and_rare_ones_none():
    lens = np.repeat([0, 1, 2], [20, 16, 4])
    samples, gains = made(vignetting=np.zeros(2))
    falls = np.array([[-0.2, -0.2], [0.0, -0.6], [0.0, 0.0]])
    shade = (falloff(samples.radius) * falls[lens[samples.photo]]).sum(axis=1)
    darker = dataclasses.replace(samples, linear=samples.linear * np.exp2(shade)[:, None].astype(np.float32))
    found = solve(darker, lens=lens)
    np.testing.assert_allclose(found.vignetting, falls, atol=0.03)
    np.testing.assert_allclose(found.gains, gains, atol=0.04)


def test_vignetting_never_brightens_corners():
    found = solve(made(vignetting=np.array([0.2, 0.1]))[0])
    assert (found.vignetting == 0).all()


def test_the_curve_of_a_camera_is_found_where_exposures_differ():
    samples, gains = made(curve=s_curve, noise=0.05)
    found = solve(samples)
    assert np.median(np.abs(found.exposure - gains.mean(axis=1))) < 0.02
    codes = np.linspace(0.15, 0.9, 20)
    plain = np.abs(s_curve(codes) - codes).max()
    assert np.abs(straightened(s_curve(codes), found.curve[0]) - codes).max() < 0.3 * plain


def test_photos_that_share_few_points_are_found_less_exactly_and_one_with_none_stays():
    samples, gains = made(photos=PHOTOS + 1)
    linked = np.nonzero(samples.photo == 7)[0][: 2 * MIN_SAMPLES]
    keep = samples.photo != 7
    keep[linked] = True
    lonely = samples.photo == PHOTOS
    point = np.where(lonely, POINTS + np.arange(len(lonely)), samples.point)  # nobody else sees these
    found = solve(dataclasses.replace(samples, point=point).rows(keep), PHOTOS + 1)
    others = np.arange(PHOTOS + 1) < PHOTOS
    assert found.solved.tolist() == others.tolist()
    assert (found.gains[PHOTOS] == 0).all()
    wanted = gains[:PHOTOS] - gains[:PHOTOS].mean(axis=0)
    np.testing.assert_allclose(found.gains[:PHOTOS], wanted, atol=0.08)
    np.testing.assert_allclose(np.delete(found.gains[:PHOTOS] - wanted, 7, axis=0), 0, atol=0.03)
    names = [f"{n}.jpg" for n in range(PHOTOS + 1)]
    assert f"so that their exposure stays: {PHOTOS}.jpg." in summary(found, "the source photos", names)


def test_two_parts_of_a_day_without_a_common_point_each_keep_their_mean():
    samples, gains = made()
    half = samples.photo < PHOTOS // 2
    apart = dataclasses.replace(samples, point=samples.point + POINTS * half)
    found = solve(apart)
    for part in (np.arange(PHOTOS // 2), np.arange(PHOTOS // 2, PHOTOS)):
        np.testing.assert_allclose(found.gains[part].mean(axis=0), 0, atol=0.02)
        np.testing.assert_allclose(found.gains[part], gains[part] - gains[part].mean(axis=0), atol=0.05)


def test_nothing_is_known_of_photos_without_samples():
    empty = Samples(np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32), np.zeros((0, 3), np.float32))
    found = solve(empty, 3)
    assert not found.gains.any()
    assert not found.solved.any()
    assert "can't be compared" in summary(found, "the source photos", ["a", "b", "c"])


def test_the_same_samples_give_the_same_numbers():
    one, two = (solve(made()[0]) for _ in range(2))
    assert one.digest == two.digest


def test_a_far_off_photo_is_named():
    samples, _ = made(exposures=0.1)
    brighter = np.where(samples.photo == 3, 2.0, 1.0)[:, None].astype(np.float32)
    found = solve(dataclasses.replace(samples, linear=samples.linear * brighter))
    said = summary(found, "the source photos", [f"{n}.jpg" for n in range(PHOTOS)])
    assert "Far off the others, in stops: 3.jpg +" in said


@pytest.mark.parametrize("curve", [(0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8)])
def test_every_curve_rises_and_holds_its_ends(curve):
    codes = np.linspace(0, 1, 1001)
    straight = straightened(codes, np.array(curve))
    assert (np.diff(straight) > 0).all()
    np.testing.assert_allclose(straight[[0, 500, -1]], [0, 0.5, 1], atol=1e-12)
    np.testing.assert_allclose(straightened(np.array([-0.1, 1.5]), np.array(curve)), [-0.1, 1.5])


def test_vignetting_forms_are_those_that_only_fall():
    radius = np.linspace(0, 1, 101)
    forms = falloff(radius)
    assert (np.diff(forms, axis=0) >= 0).all()
    np.testing.assert_allclose(forms[[0, -1]], [[0, 0], [1, 1]])
