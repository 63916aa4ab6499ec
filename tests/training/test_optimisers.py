import copy

import pytest
import torch
from torch import nn

from relightgan.training.optimisers import ConvolutionMuon, as_matrix

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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_layers_as_torch_steps_their_matrices(layout):
    net = layers(layout)
    flat = [nn.Parameter(as_matrix(weight.detach()).clone()) for weight in matrices_of(net)]
    ours = ConvolutionMuon(matrices_of(net), 0.02, momentum=0.9)
    theirs = torch.optim.Muon(flat, lr=0.02, weight_decay=0.0, momentum=0.9)
    for seed in range(3):
        with_gradients(net, seed)
        for matrix, weight in zip(flat, matrices_of(net), strict=True):
            matrix.grad = as_matrix(weight.grad.to(memory_format=layout) if weight.ndim == 4 else weight.grad).clone()
        ours.step()
        theirs.step()
    for matrix, weight in zip(flat, matrices_of(net), strict=True):
        torch.testing.assert_close(as_matrix(weight), matrix, rtol=0, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_goes_about_equally_far_in_every_direction(layout):
    weight = layers(layout)[0].weight
    before = weight.detach().clone()
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    weight.grad[0] *= 20  # one output hears much more than the others
    ConvolutionMuon([weight], 0.1).step()
    lengths = torch.linalg.svdvals((weight.detach() - before).flatten(1)) / 0.1
    given = torch.linalg.svdvals(weight.grad.flatten(1))
    assert given.max() > 20 * given.min()
    assert lengths.max() < 1.3
    assert lengths.max() < 3 * lengths.min()


def test_layouts_of_memory_make_no_difference():
    stepped = []
    for layout in LAYOUTS:
        net = layers(layout)
        optimiser = ConvolutionMuon(matrices_of(net), 0.05)
        for seed in range(2):
            with_gradients(net, seed)
            optimiser.step()
        stepped.append([weight.detach().contiguous() for weight in matrices_of(net)])
    for one, other in zip(*stepped, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)  # torch orthogonalises in bfloat16


def test_a_weight_without_a_gradient_stays():
    net = with_gradients(layers(), 0)
    net[1].weight.grad = None
    before = [weight.detach().clone() for weight in matrices_of(net)]
    ConvolutionMuon(matrices_of(net), 0.1).step()
    moved = [not torch.equal(was, now) for was, now in zip(before, matrices_of(net), strict=True)]
    assert moved == [True, False, True]


def test_a_closure_gives_the_gradients_and_its_loss_comes_back():
    net = layers()
    optimiser = ConvolutionMuon(matrices_of(net), 0.1)
    before = net[0].weight.detach().clone()

    def closure():
        with torch.enable_grad():
            with_gradients(net, 0)
        return 7.0

    assert optimiser.step(closure) == 7.0
    assert not torch.equal(before, net[0].weight)


def test_goes_on_from_its_saved_state_to_the_same_numbers():
    net, other = layers(torch.channels_last), layers(torch.channels_last)
    optimiser, again = (ConvolutionMuon(matrices_of(each), 0.05) for each in (net, other))
    with_gradients(net, 0)
    optimiser.step()
    other.load_state_dict(net.state_dict())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for each, its in ((net, optimiser), (other, again)):
        with_gradients(each, 1)
        its.step()
    for one, same in zip(matrices_of(net), matrices_of(other), strict=True):
        assert torch.equal(one, same)


def test_a_weight_that_is_no_matrix_in_memory_is_refused():
    weight = nn.Parameter(torch.zeros(4, 6, 3, 5).permute(0, 3, 2, 1)[:, :, ::2])
    with pytest.raises(RuntimeError, match="view"):
        ConvolutionMuon([weight], 0.1)
