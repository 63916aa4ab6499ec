import numpy as np
import torch

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.torch_colour import decode_srgb, encode_srgb

LINEAR = np.concatenate(
    [
        np.linspace(-0.5, 2.0, 2001),
        [0.0031308, 0.0031307, 0.0031309, 1.0, 100.0, 65504.0],
        2.0 ** np.arange(-20, 16, 0.5),
    ]
).astype(np.float32)


def test_the_tensor_curve_is_that_of_core_colour_from_below_0_to_the_largest_half():
    encoded = linear_to_srgb(LINEAR)
    np.testing.assert_allclose(encode_srgb(torch.from_numpy(LINEAR)).numpy(), encoded, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(
        decode_srgb(torch.from_numpy(encoded)).numpy(), srgb_to_linear(encoded), rtol=1e-5, atol=1e-7
    )


def test_its_slope_is_finite_everywhere_and_right_where_the_logarithm_takes_over():
    linear = torch.tensor([-1.0, 0.0, 1e-6, 0.004, 0.5, 1.0, 1.001, 1e4], requires_grad=True)
    (slope,) = torch.autograd.grad(encode_srgb(linear).sum(), linear)
    assert slope[:3].tolist() == [np.float32(12.92)] * 3
    torch.testing.assert_close(slope[5:7], torch.tensor([1.055 / 2.4, 1.055 / 2.4 / 1.001]), rtol=1e-4, atol=0)
    (back,) = torch.autograd.grad(decode_srgb(encode_srgb(linear)).sum(), linear)
    torch.testing.assert_close(back, torch.ones(8), rtol=3e-4, atol=0)
