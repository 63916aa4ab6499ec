import numpy as np
import pytest

from relightgan.training.measure import metrics


@pytest.fixture
def plate():
    """A textured, unbounded, scene-linear picture."""
    random = np.random.default_rng(1)
    light = np.linspace(-3.0, 1.5, 96)[None, :, None] + np.linspace(0.0, 1.0, 64)[:, None, None]
    return np.exp2(light + 0.4 * random.standard_normal((64, 96, 3))).astype(np.float32)


@pytest.fixture
def gain():
    """Stops that differ over the picture and between channels."""
    y, x = np.mgrid[:64, :96]
    return np.stack([np.sin(x / 15), np.cos(y / 9) - 0.5, np.sin((x + y) / 20) - 1], axis=-1).astype(np.float32)


def blurred(picture, radius=1):
    shifts = range(-radius, radius + 1)
    return np.mean([np.roll(picture, (dy, dx), (0, 1)) for dy in shifts for dx in shifts], axis=0, dtype=np.float32)


def test_psnr_of_a_tenth_off_everywhere_is_20_db(plate):
    flat = np.full_like(plate, 0.5)
    assert metrics.psnr(flat, flat + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert metrics.psnr(flat, flat) == float("inf")


def test_psnr_under_a_mask_counts_only_its_pixels(plate):
    other = plate.copy()
    other[:32] += 0.1
    mask = np.zeros((64, 96), bool)
    mask[:32] = True
    assert metrics.psnr(other, plate, mask) == pytest.approx(20.0, abs=1e-3)
    assert metrics.psnr(other, plate) == pytest.approx(20.0 + 10 * np.log10(2), abs=1e-3)
    assert metrics.psnr(other, plate, ~mask) == float("inf")


def test_the_mean_of_the_ssim_picture_is_scikit_images(plate):
    from skimage.metrics import structural_similarity

    one, other = metrics.to_display(plate), metrics.to_display(blurred(plate))
    expected = structural_similarity(one, other, channel_axis=-1, data_range=1.0)
    assert metrics.ssim_picture(one, other).mean() == pytest.approx(expected, abs=1e-6)
    assert metrics.ssim_picture(one, one).min() == pytest.approx(1.0)


def test_display_is_clipped_and_srgb_encoded():
    shown = metrics.to_display(np.array([[[-1.0, 0.5, 7.0]]], np.float32))
    assert shown[0, 0] == pytest.approx([0.0, 0.735357, 1.0], abs=1e-5)


def test_one_stop_brighter_is_an_error_of_one_stop_where_the_offset_does_not_matter():
    bright = np.full((16, 16, 3), 8.0, np.float32)
    assert metrics.stops_error(2 * bright, bright) == pytest.approx(1.0, abs=2e-3)
    assert metrics.log_psnr(2 * bright, bright) == pytest.approx(20 * np.log10(7.0), abs=0.02)


def test_errors_in_the_shadows_stand_in_the_first_decile():
    truth = np.repeat(np.geomspace(0.01, 10, 100, dtype=np.float32)[:, None, None], 3, axis=2)
    relit = truth.copy()
    relit[:10] *= 2
    deciles = metrics.stops_error_by_decile(relit, truth)
    assert deciles[0] > 0.5
    assert deciles[1:] == [0.0] * 9


def test_gain_correlation_is_1_for_the_truth_and_0_for_the_plate(plate, gain):
    truth = plate * np.exp2(gain)
    assert metrics.gain_correlation(plate, truth, truth) == pytest.approx(1.0)
    assert metrics.gain_correlation(plate, plate, truth) == 0.0
    assert metrics.gain_correlation(plate, plate * np.exp2(gain / 2), truth) > 0.98
    assert metrics.gain_correlation(plate, plate * np.exp2(-gain), truth) < -0.9


def test_shadow_sign_is_1_for_the_truth_and_its_opposite_and_no_change_are_0(plate):
    mask, side = np.ones((64, 96), bool), np.where(np.arange(96) < 60, 0.5, -1.0)[None, :, None].astype(np.float32)
    bright = plate + 0.5  # nothing at the floor
    truth = bright * np.exp2(side)
    assert metrics.shadow_sign(bright, truth, truth, mask) == 1.0
    assert metrics.shadow_sign(bright, bright * np.exp2(0.1 * side + 3), truth, mask) == 1.0
    assert metrics.shadow_sign(bright, bright, truth, mask) == 0.0
    assert metrics.shadow_sign(bright, 2 * bright, truth, mask) == 0.0
    # The median is the lit side's gain, so the shaded third alone is counted; it is here lighter instead.
    assert metrics.shadow_sign(bright, bright * np.exp2(-side), truth, mask) == 0.0


def test_shadow_sign_counts_surface_pixels_beyond_three_tenths_of_a_stop_alone(plate):
    bright = plate + 0.5
    gain = np.zeros((64, 96, 1), np.float32)
    gain[:, :10], gain[:, 10:20], gain[:, 20:30] = 1.0, -1.0, 0.2
    truth, relit = bright * np.exp2(gain), bright * np.exp2(np.where(gain == -1.0, 0.5, gain))
    everywhere = np.ones((64, 96), bool)
    assert metrics.shadow_sign(bright, relit, truth, everywhere) == pytest.approx(0.5)
    lit = everywhere.copy()
    lit[:, 10:20] = False
    assert metrics.shadow_sign(bright, relit, truth, lit) == 1.0
    none = everywhere.copy()
    none[:, :20] = False
    assert metrics.shadow_sign(bright, relit, truth, none) is None


def test_exposure_error_is_the_worst_relative_one_of_values_that_are_not_dark():
    relit = np.array([[[0.5, 0.25, 0.001], [1.0, 2.0, 4.0]]], np.float32)
    assert metrics.exposure_error(relit, 4 * relit) == 0.0
    assert metrics.exposure_error(relit, relit) == pytest.approx(0.75)
    off = 4 * relit
    off[0, 0] *= [1.0, 1.1, 9.0]
    assert metrics.exposure_error(relit, off) == pytest.approx(0.1)
    assert metrics.exposure_error(0.001 * relit, relit) == 0.0


def test_blur_index_falls_with_blur_and_rises_with_noise_and_ignores_exposure(plate):
    noisy = plate * np.exp2(0.5 * np.random.default_rng(2).standard_normal(plate.shape)).astype(np.float32)
    assert metrics.blur_index(plate, plate) == 1.0
    assert metrics.blur_index(blurred(plate), plate) < 0.3
    assert metrics.blur_index(noisy, plate) > 1.5
    assert metrics.blur_index(8 * plate + 8 * 2**-7 - 2**-7, plate) == pytest.approx(1.0, abs=0.02)


def test_detail_correlation_is_kept_by_a_gain_and_lost_by_other_detail(plate, gain):
    other = plate * np.exp2(np.random.default_rng(3).standard_normal(plate.shape)).astype(np.float32)
    assert metrics.detail_correlation(plate * np.exp2(gain), plate) > 0.95
    assert metrics.detail_correlation(other, plate) < 0.7


@pytest.mark.parametrize("period", [2, 4, 8])
def test_checkerboard_index_finds_a_pattern_of_each_period(plate, period):
    y, x = np.mgrid[:64, :96]
    board = np.where((x // (period // 2) + y // (period // 2)) % 2, 1.1, 0.9)[..., None].astype(np.float32)
    assert metrics.checkerboard_index(plate * board, plate) > 5.0
    assert metrics.checkerboard_index(plate, plate) == 0.0


def test_checkerboard_index_of_blur_or_exposure_is_near_0(plate):
    assert abs(metrics.checkerboard_index(plate * 2, plate)) < 0.5
    assert abs(metrics.checkerboard_index(blurred(plate), plate)) < 2.0


def test_a_picture_moved_by_its_flow_has_no_warp_error(plate):
    shown = metrics.to_display(plate)
    moved = np.roll(shown, (2, -3), (0, 1))
    flow = np.broadcast_to(np.float32([3, -2]), (64, 96, 2))
    valid = np.zeros((64, 96), bool)
    valid[4:-4, 4:-4] = True
    figures = metrics.warp_error(moved, shown, flow, valid)
    assert figures["warp_error"] == pytest.approx(0.0, abs=1e-6)
    assert metrics.warp_error(moved, shown, -flow, valid)["warp_error"] > 0.05
    off = metrics.warp_error(np.full_like(shown, 0.6), np.full_like(shown, 0.5), flow, valid)
    assert off == pytest.approx({"warp_error": 0.1, "warp_error_square": 0.01}, abs=1e-6)


def test_gain_flicker_is_the_change_of_gain_in_stops(gain):
    still, valid = np.zeros((64, 96, 2), np.float32), np.ones((64, 96), bool)
    assert metrics.gain_flicker(gain, gain, still, valid) == 0.0
    assert metrics.gain_flicker(gain + 0.25, gain, still, valid) == pytest.approx(0.25, abs=1e-6)


def test_figures_over_surfaces_are_there_only_with_a_mask(plate, gain):
    truth = plate * np.exp2(gain)
    mask = np.zeros((64, 96), bool)
    mask[20:] = True
    without, masked = metrics.measure_picture(plate, plate, truth), metrics.measure_picture(plate, plate, truth, mask)
    extra = {"psnr_surfaces", "ssim_surfaces", "stops_error_surfaces", "shadow_sign"}
    assert set(masked) - set(without) == extra
    assert all(masked[name] == without[name] for name in without)
    assert set(metrics.measure_picture(plate, plate, truth, mask & False)) == set(without)


def test_means_come_with_an_interval_around_them():
    figures = metrics.mean_figures([{"psnr": 10.0 + view, "deciles": [view, 2.0 * view]} for view in range(11)])
    assert figures["psnr"]["mean"] == 15.0
    assert 12.5 < figures["psnr"]["low"] < 14.0 < 16.0 < figures["psnr"]["high"] < 17.5
    assert figures["deciles"] == [5.0, 10.0]


def test_an_equal_picture_makes_the_mean_infinite_instead_of_failing():
    assert metrics.mean_and_interval([float("inf"), 20.0]) == {"mean": float("inf"), "low": 20.0, "high": float("inf")}
