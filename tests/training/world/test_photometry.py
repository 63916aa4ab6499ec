"""Photometry on made-up samples whose cameras are known."""

import dataclasses

import numpy as np
import pytest

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.world import photometry
from relightgan.training.world.photometry import MIN_SAMPLES, Samples, falloff, solve_photometry, straightened, summary

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
    assert photometry.departure(found) < 0.005


def test_every_seventh_sample_may_show_something_else():
    samples, gains = made(odd=0.15)
    np.testing.assert_allclose(solve(samples).gains, gains, atol=0.05)


def test_clipped_and_dark_samples_dont_pull_at_exposures():
    """Many of them, as exposures are far apart: what is left out by the samples' own values leaves a bias."""
    samples, gains = made(exposures=0.8, noise=0.15)
    kept = usable(samples)
    assert len(kept.point) < 0.9 * len(samples.point)
    found = solve(samples)
    slope = np.polyfit(gains.mean(axis=1), found.exposure, 1)[0]
    assert abs(slope - 1) < 0.03
    assert np.median(np.abs(found.exposure - gains.mean(axis=1))) < 0.03
