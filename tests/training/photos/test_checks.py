"""What one picture tells, and what only the whole folder tells."""

import cv2
import numpy as np
import pytest

from relightgan.training.photos.checks import (
    SIGNATURE_BYTES,
    blur_limit,
    blur_of,
    encoded_luma,
    faults,
    find_copies,
    measure_photo,
)


def scene(seed=0, width=640, height=480):
    """(H, W, 3) uint8: overlapping flat shapes with sharp, anti-aliased edges in all directions."""
    rng = np.random.default_rng(seed)
    large = np.full((2 * height, 2 * width, 3), rng.integers(40, 200, 3), np.uint8)
    for _ in range(60):
        points = rng.integers((0, 0), (2 * width, 2 * height), (3, 2)).astype(np.int32)
        cv2.fillConvexPoly(large, points, [int(value) for value in rng.integers(10, 245, 3)])
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)


def as_luma(rgb):
    return encoded_luma(rgb.astype(np.float32) / 255)


def blurred(rgb, sigma):
    return cv2.GaussianBlur(rgb, (0, 0), sigma)


def smeared(rgb, length):
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    return cv2.filter2D(rgb, -1, kernel)


def resaved(rgb, scale=1.0, quality=80):
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def shifted(rgb, px):
    matrix = np.array([[1, 0, px], [0, 1, 0]], np.float32)
    return cv2.warpAffine(rgb, matrix, rgb.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def signatures(*pictures):
    return np.stack([np.frombuffer(measure_photo(picture, False).signature, np.uint8) for picture in pictures])


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_blur_is_measured_in_pixels(sigma):
    assert blur_of(as_luma(blurred(scene(), sigma))) == pytest.approx(sigma, rel=0.25)


def test_a_sharp_picture_has_hardly_any_blur():
    assert blur_of(as_luma(scene())) < 0.6


def test_blur_does_not_depend_on_contrast_or_brightness():
    soft = as_luma(blurred(scene(), 2))
    assert blur_of(soft * 0.3 + 0.05) == pytest.approx(blur_of(soft), rel=0.1)


def test_noise_does_not_hide_blur():
    noisy = as_luma(blurred(scene(), 2)) + np.random.default_rng(0).normal(0, 0.01, (480, 640)).astype(np.float32)
    assert blur_of(noisy) > 1.3


def test_a_smear_along_one_direction_is_blur():
    assert blur_of(as_luma(smeared(scene(), 11))) > 1.5


def test_a_soft_background_is_no_fault():
    half = scene()
    half[:, 320:] = blurred(half, 6)[:, 320:]
    assert blur_of(as_luma(half)) < 1


def test_a_clear_sky_has_no_edges_to_judge():
    sky = np.repeat(np.linspace(0.4, 0.9, 480, dtype=np.float32)[:, None], 640, 1)
    assert blur_of(sky) is None


def test_thick_blur_is_not_taken_for_a_sky():
    assert blur_of(as_luma(blurred(scene(), 12))) > 2


def test_the_limit_follows_the_folder_but_never_below_what_is_harmless():
    assert blur_limit([0.2, 0.3, 0.2, 5.0], 1.1, 2.0) == 1.1
    assert blur_limit([1.9, 2.0, 2.1, 6.0], 1.1, 2.0) == pytest.approx(2 * 1.975)
    assert blur_limit([None, None], 1.1, 2.0) == 1.1


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.full((100, 100, 3), 3, np.uint8), "black: 100% of the pixels"),
        (np.full((100, 100, 3), 253, np.uint8), "blown out: 100% of the pixels are white"),
        (np.full((100, 100, 3), 128, np.uint8), "empty: one flat colour"),
        (scene(0, 60, 200), "too small: 60x200, at least 64 px are needed each way"),
        (scene(0, 200, 200), ""),
    ],
)
def test_pictures_that_carry_nothing_are_named(picture, reason):
    assert faults(measure_photo(picture, False), picture.shape[1], picture.shape[0], 64, 0.97) == reason


def test_a_white_sky_with_a_roof_in_its_corner_stays():
    sky = np.full((480, 640, 3), 255, np.uint8)
    sky[380:, :200] = scene()[380:, :200]
    assert faults(measure_photo(sky, False), 640, 480, 64, 0.97) == ""


def test_light_above_white_is_not_blown_out():
    bright = np.random.default_rng(0).uniform(1.0, 1.5, (100, 100, 3)).astype(np.float32)
    assert measure_photo(bright, True).clipped == 0
    assert measure_photo(bright, False).clipped == 1


def test_a_signature_has_the_size_it_says():
    assert len(measure_photo(scene(), False).signature) == SIGNATURE_BYTES


@pytest.mark.parametrize(("scale", "quality"), [(1.0, 95), (1.0, 60), (0.5, 80), (0.6, 70), (0.77, 90)])
def test_a_picture_saved_again_is_found(scale, quality):
    rows = signatures(scene(0), scene(1), resaved(scene(0), scale, quality))
    assert find_copies(rows, [0, 1, 2], 1.0) == {2: 0}


def test_the_one_earlier_in_the_order_is_kept():
    rows = signatures(resaved(scene(0)), scene(0))
    assert find_copies(rows, [1, 0], 1.0) == {0: 1}


def test_a_step_to_the_side_is_another_picture():
    assert find_copies(signatures(scene(), shifted(scene(), 6)), [0, 1], 1.0) == {}


def test_other_light_on_the_same_view_is_another_picture():
    darker = (scene() * 0.85).astype(np.uint8)
    warmer = np.clip(scene() * np.array([1.08, 1.0, 0.8]), 0, 255).astype(np.uint8)
    assert find_copies(signatures(scene(), darker, warmer), [0, 1, 2], 1.0) == {}


def test_a_slow_pan_is_not_eaten_up_from_one_frame_to_the_next():
    rows = signatures(*(shifted(scene(), 0.5 * step) for step in range(20)))
    left = len(rows) - len(find_copies(rows, range(20), 1.0))
    assert left >= 4


def test_look_alikes_stay_when_asked_to():
    assert find_copies(signatures(scene(), scene()), [0, 1], 0.0) == {}


def test_dim_pictures_are_compared_by_their_own_contrast():
    dim = [(picture * 0.1).astype(np.uint8) for picture in (scene(), shifted(scene(), 16))]
    assert find_copies(signatures(*dim), [0, 1], 1.0) == {}
