import numpy as np
import torch

from relightgan.training.stops import CLIPPED, CLIPPED_STOPS, from_stops, tensor_stops, to_stops

LEVELS = np.float32([0.0, 1e-5, 2.0**-7, 0.18, 0.5, 1.0, 16.0])


def test_black_and_below_become_minus_seven_and_white_about_zero():
    assert to_stops(np.float32([0.0, -5.0])).tolist() == [-7.0, -7.0]
    assert 0 < to_stops(np.float32([1.0]))[0] < 0.012
    assert np.isclose(to_stops(np.array([CLIPPED]))[0], CLIPPED_STOPS)


def test_linear_comes_back_from_stops_and_never_below_zero():
    np.testing.assert_allclose(from_stops(to_stops(LEVELS)), LEVELS, rtol=1e-4, atol=1e-8)
    assert from_stops(np.float16([-7.01]))[0] == 0
    assert from_stops(np.float16([0])).dtype == to_stops(np.zeros(1)).dtype == np.float32


def test_tensors_have_the_same_stops_and_a_gradient():
    levels = torch.tensor(np.append(LEVELS, -1.0).astype(np.float32), requires_grad=True)
    stops = tensor_stops(levels)
    np.testing.assert_allclose(stops.detach().numpy(), to_stops(levels.detach().numpy()), atol=1e-5)
    stops.sum().backward()
    assert (levels.grad[1:-1] > 0).all()
    assert levels.grad[-1] == 0
