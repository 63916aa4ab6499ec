"""Flow on moving pictures whose motion is known."""

import cv2
import numpy as np
import pytest

from relightgan.core.flow import flow_confidence, flow_picture, follow, measure_flow


def textured_plate(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A linear plate with texture at every scale, 0.02 to 4."""
    rng = np.random.default_rng(seed)
    stops = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = rng.normal(0, 1, (max(2, cells * height // width), cells, 3)).astype(np.float32)
        stops += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.exp2(np.clip(stops - 2, -6, 2)).astype(np.float32)


def moved(plate: np.ndarray, x: int, y: int) -> np.ndarray:
    """The plate with its content moved right by x and down by y pixels."""
    return np.roll(plate, (y, x), axis=(0, 1))


def test_a_known_shift_is_found_with_its_direction():
    here = textured_plate(240, 320)
    flow = measure_flow(flow_picture(here), flow_picture(moved(here, 5, -3)))
    inner = flow[40:-40, 40:-40]
    error = np.hypot(inner[..., 0] - 5, inner[..., 1] + 3)
    assert error.mean() < 0.1


def test_a_dim_plate_gives_the_same_flow_as_a_bright_one_within_a_fraction_of_a_pixel():
    here = textured_plate(240, 320)
    there = moved(here, 4, 2)
    for stops in (-3, 3):
        gain = np.float32(2.0**stops)
        flow = measure_flow(flow_picture(here * gain), flow_picture(there * gain))[40:-40, 40:-40]
        assert np.hypot(flow[..., 0] - 4, flow[..., 1] - 2).mean() < 0.2


def test_equal_pictures_give_exactly_no_flow_and_full_confidence():
    picture = flow_picture(textured_plate(120, 200))
    flow = measure_flow(picture, picture)
    assert not flow.any()
    assert np.all(flow_confidence(picture, picture, flow, flow) == 1.0)


def test_flow_does_not_depend_on_the_number_of_threads():
    here = textured_plate(360, 640)
    pictures = flow_picture(here), flow_picture(moved(here, 7, 3))
    before = cv2.getNumThreads()
    flows = []
    try:
        for threads in (1, 2, 5):
            cv2.setNumThreads(threads)
            flows.append(measure_flow(*pictures))
    finally:
        cv2.setNumThreads(before)
    assert all(np.array_equal(flow, flows[0]) for flow in flows)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (9, 9), (12, 200), (40, 13), (64, 960)])
def test_tiny_and_narrow_pictures_are_measured(size):
    # Without padding, OpenCV's DIS crashes the whole process at some of these sizes.
    picture = flow_picture(textured_plate(*size))
    flow = measure_flow(picture, picture)
    assert flow.shape == (*size, 2)
    assert not flow.any()
    assert np.all(flow_confidence(picture, picture, flow, flow) == 1.0)


def test_the_picture_of_a_large_plate_is_small_and_keeps_its_shape():
    assert flow_picture(np.ones((1080, 1920, 3), np.float32)).shape == (540, 960)
    assert flow_picture(np.ones((300, 200, 3), np.float32), max_side_px=100).shape == (100, 67)


def test_the_picture_is_luminance_in_stops_averaged_in_linear_light():
    plate = np.zeros((2, 4, 3), np.float32)
    plate[:, ::2] = 2.0
    picture = flow_picture(plate, max_side_px=2)
    np.testing.assert_allclose(picture, np.log2(1.0 + 2.0**-6), rtol=1e-5)


def test_following_a_flow_fetches_what_lies_there():
    image = np.arange(30, dtype=np.float32).reshape(5, 6)
    flow = np.zeros((5, 6, 2), np.float32)
    flow[..., 0] = 2
    np.testing.assert_array_equal(follow(image, flow)[:, :4], image[:, 2:])


def test_points_that_get_hidden_or_leave_the_frame_are_not_trusted():
    background = textured_plate(240, 320, seed=1)
    front = textured_plate(80, 80, seed=2)
    here, there = background.copy(), background.copy()
    here[80:160, 60:140] = front
    there[80:160, 84:164] = front  # the square moves right by 24 and hides the strip x 140..164
    a, b = flow_picture(here), flow_picture(there)
    confidence = flow_confidence(a, b, measure_flow(a, b), measure_flow(b, a))
    assert confidence[90:150, 144:160].mean() < 0.15
    assert confidence[90:150, 70:130].mean() > 0.8
    assert confidence[180:, :].mean() > 0.95

    leaving = np.zeros((240, 320, 2), np.float32)
    leaving[..., 0] = 30
    trusted = flow_confidence(a, a, leaving, -leaving)
    assert not trusted[:, 291:].any()


def test_a_point_that_changes_brightness_is_trusted_less():
    picture = flow_picture(textured_plate(120, 160))
    still = np.zeros((120, 160, 2), np.float32)
    confidences = [flow_confidence(picture, picture + np.float32(d), still, still).mean() for d in (0.0, 0.1, 0.5, 1.0)]
    assert confidences[0] == 1.0
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[1] > 0.8
    assert confidences[3] < 1e-6
