"""Gradients of parts of a batch, side by side."""

import threading

import pytest
import torch
from torch import nn

from relightgan.training.fit.side_by_side import crew, descend, parts_for


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1))


def squares(net, total):
    """What a part of a batch of `total` pictures adds to their mean square."""

    def losses_of(part):
        loss = net(part).square().mean() * (len(part) / total)
        return loss, {"square": loss, "threads": torch.tensor(float(torch.get_num_threads()))}

    return losses_of


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_parts_have_the_gradients_of_the_whole(net, number):
    pictures = torch.randn(5, 3, 12, 16)
    parameters = list(net.parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 7.0)  # of a step before
    shown = descend(pictures.chunk(number), squares(net, 5), parameters)
    loss = net(pictures).square().mean()
    for parameter, wanted in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-6)
    assert shown["square"] == pytest.approx(loss.item(), rel=1e-5)


def test_the_same_parts_give_the_same_gradients_to_the_bit(net):
    pictures, found = torch.randn(6, 3, 24, 32), []
    for _ in range(3):
        descend(pictures.chunk(3), squares(net, 6), list(net.parameters()))
        found.append([parameter.grad.clone() for parameter in net.parameters()])
    for again in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], again, strict=True))


def test_each_part_has_one_core_and_the_number_of_threads_stays():
    net = nn.Conv2d(3, 4, 3)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        shown = descend(torch.randn(2, 3, 32, 32).chunk(2), squares(net, 2), list(net.parameters()))
        assert shown["threads"] == 2  # one each
        assert torch.get_num_threads() == 2
        torch.set_num_threads(5)  # more cores than pictures
        assert descend(torch.randn(2, 3, 32, 32).chunk(2), squares(net, 2), list(net.parameters()))["threads"] == 4
        torch.set_num_threads(2)
        fresh = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [2]
    finally:
        torch.set_num_threads(before)


def test_parts_multiply_as_coarsely_as_their_caller(net):
    seen = []

    def losses_of(part):
        seen.append(net(part).dtype)
        loss = net(part).float().square().sum()
        return loss, {"square": loss}

    for coarse in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
            descend(torch.randn(4, 3, 8, 8).chunk(2), losses_of, list(net.parameters()))
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 2


def test_an_error_in_a_part_is_the_callers(net):
    def losses_of(part):
        raise ValueError("no such place")

    with pytest.raises(ValueError, match="no such place"):
        descend(torch.randn(2, 3, 8, 8).chunk(2), losses_of, list(net.parameters()))


def test_a_batch_is_taken_in_as_many_parts_as_there_are_cores():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert [parts_for(torch.device("cpu"), pictures) for pictures in (8, 3, 2, 1)] == [3, 3, 2, 1]
        assert parts_for(torch.device("cuda"), 8) == 1
        assert crew(3, 3) is crew(3, 3)
    finally:
        torch.set_num_threads(before)
