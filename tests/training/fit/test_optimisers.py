import copy

import pytest
import torch
from torch import nn

from relightgan.training.fit.optimisers import Muon, equalised, set_rate

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def layers(layout=torch.contiguous_format):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(6, 8, 3), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(4, 5))
    return net.to(memory_format=layout)


def matrices_of(net):
    return [parameter for parameter in net.parameters() if parameter.ndim > 1]


def with_gradients(net, seed):
    picture = torch.randn((2, 6, 3, 3), generator=torch.Generator().manual_seed(seed))
    net.zero_grad()
    net(picture).square().sum().backward()
    return net


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_layers_as_torch_steps_their_matrices(layout):
    net = layers(layout)
    flat = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in matrices_of(net)]
    before = [matrix.detach().clone() for matrix in flat]
    ours = Muon(matrices_of(net), 0.02, momentum=0.9)
    theirs = torch.optim.Muon(flat, lr=0.02, weight_decay=0.0, momentum=0.9)
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        for matrix, weight in zip(flat, matrices_of(net), strict=True):
            weight.grad = torch.randn(weight.shape, generator=rng)
            matrix.grad = weight.grad.flatten(1).clone()
        ours.step()
        theirs.step()
    for was, matrix, weight in zip(before, flat, matrices_of(net), strict=True):
        assert (weight.flatten(1) - matrix).norm() < 0.1 * (matrix - was).norm()  # torch's works in bfloat16


def test_an_even_matrix_has_its_directions_about_equally_long():
    matrix = torch.randn((8, 54), generator=torch.Generator().manual_seed(0))
    matrix[0] *= 20
    given = torch.linalg.svdvals(matrix)
    assert given.max() > 20 * given.min()
    for each in (matrix, matrix.T, matrix * 1e-3):
        lengths = torch.linalg.svdvals(equalised(each))
        assert lengths.max() < 1.3
        assert lengths.max() < 3 * lengths.min()
    torch.testing.assert_close(equalised(matrix.T), equalised(matrix).T)
    # They are the same directions.
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    aligned = left.T @ equalised(matrix) @ right.T
    assert (aligned - torch.diag(aligned.diagonal())).abs().max() < 1e-3


def test_nothing_becomes_of_nothing():
    assert not equalised(torch.zeros(3, 5)).any()


def test_matrices_are_multiplied_in_float32_unless_autocast_says_otherwise():
    matrix = torch.randn((8, 54), generator=torch.Generator().manual_seed(0))
    exact = equalised(matrix.double())
    assert (equalised(matrix) - exact).abs().max() < 1e-4
    with torch.autocast("cpu", torch.bfloat16):
        low = equalised(matrix)
    assert low.dtype == torch.float32
    assert 1e-4 < (low - exact).abs().max() < 0.1


def test_layouts_of_memory_make_no_difference():
    stepped = []
    for layout in LAYOUTS:
        net = layers(layout)
        optimiser = Muon(matrices_of(net), 0.05)
        for seed in range(2):
            with_gradients(net, seed)
            optimiser.step()
        assert net[0].weight.is_contiguous(memory_format=layout)
        stepped.append([weight.detach().contiguous() for weight in matrices_of(net)])
    for one, other in zip(*stepped, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_a_weight_without_a_gradient_stays():
    net = with_gradients(layers(), 0)
    net[1].weight.grad = None
    before = [weight.detach().clone() for weight in matrices_of(net)]
    Muon(matrices_of(net), 0.1).step()
    moved = [not torch.equal(was, now) for was, now in zip(before, matrices_of(net), strict=True)]
    assert moved == [True, False, True]


def test_a_closure_gives_the_gradients_and_its_loss_comes_back():
    net = layers()
    optimiser = Muon(matrices_of(net), 0.1)
    before = net[0].weight.detach().clone()

    def closure():
        with_gradients(net, 0)
        return 7.0

    assert optimiser.step(closure) == 7.0
    assert not torch.equal(before, net[0].weight)


def test_goes_on_from_its_saved_state_to_the_same_numbers():
    net, other = layers(torch.channels_last), layers(torch.channels_last)
    optimiser, again = (Muon(matrices_of(each), 0.05) for each in (net, other))
    with_gradients(net, 0)
    optimiser.step()
    other.load_state_dict(net.state_dict())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for each, its in ((net, optimiser), (other, again)):
        with_gradients(each, 1)
        its.step()
    for one, same in zip(matrices_of(net), matrices_of(other), strict=True):
        assert torch.equal(one, same)


def test_a_rate_is_how_far_a_step_goes():
    steps = []
    for rate in (0.01, 0.02):
        net = layers()
        before = net[0].weight.detach().clone()
        optimiser = Muon(matrices_of(net), 1.0)
        set_rate(optimiser, rate)
        with_gradients(net, 0)
        optimiser.step()
        steps.append(net[0].weight.detach() - before)
    torch.testing.assert_close(steps[1], 2 * steps[0], atol=1e-6, rtol=1e-4)
