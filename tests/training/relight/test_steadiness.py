"""Gains that move as the camera does."""

import numpy as np
import pytest
import torch

from relightgan.training.relight.networks import GainGridNet, GainGridSettings
from relightgan.training.relight.steadiness import MAX_SHIFT, drawn_motions, unsteadiness

SMALL = GainGridSettings(proxy_px=64, depth=4, width=4)
STILL = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
WHITE = torch.zeros(1, 1, 1, 1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = GainGridNet(SMALL)
    torch.nn.init.normal_(net.leave_fine.weight, std=40.0)
    return net


@pytest.fixture
def plate():
    small = torch.rand((1, 3, 6, 8), generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(small, size=(48, 64), mode="bicubic").clamp(0.02, 1)


@pytest.mark.parametrize("coarsely", [False, True])
def test_a_camera_that_stands_still_has_steady_gains(net, plate, coarsely):
    with torch.autocast("cpu", torch.bfloat16, enabled=coarsely):  # as fits multiply on some CPUs, and on GPUs
        operators = net.from_reduced(plate, WHITE)
        assert unsteadiness(net, plate, operators, STILL).item() == pytest.approx(0, abs=1e-4)


def test_gains_that_stay_in_the_frame_while_things_move_are_told_by_how_many_stops_they_are_off(
    net, plate, monkeypatch
):
    """Gains that rise by 4 stops across the frame, whatever is shown: moved by a tenth they are 0.4 stops off."""
    rise = 4 * (torch.arange(64) + 0.5) / 64
    operators = net.from_reduced(plate, WHITE)
    pinned = operators._replace(grid=rise.expand(1, 12, 48, 64))
    monkeypatch.setattr(net, "from_reduced", lambda plate, white: pinned)
    motion = torch.tensor([[[1.0, 0.0, 0.2], [0.0, 1.0, 0.0]]])  # a tenth of the frame, which is 2 wide there
    assert unsteadiness(net, plate, pinned, motion).item() == pytest.approx(0.4, abs=0.02)


def test_each_frame_is_measured_alone(net, plate):
    plates = torch.cat([plate, plate.flip(-1)])
    motions = drawn_motions(np.random.default_rng(0), 2, 4 / 3)
    white = WHITE.expand(2, 1, 1, 1)
    both = unsteadiness(net, plates, net.from_reduced(plates, white), motions)
    assert both.shape == (2,)
    for row in range(2):
        one = plates[row : row + 1]
        alone = unsteadiness(net, one, net.from_reduced(one, WHITE), motions[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-3, atol=1e-4)
    assert both.min() > 1e-3


def test_a_network_learns_to_be_steady(net, plate):
    rng = np.random.default_rng(0)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    found = []
    for _ in range(60):
        operators = net.from_reduced(plate, WHITE)
        gains = operators.grid.std()  # gains that are all the same would be steady, too
        off = unsteadiness(net, plate, operators, drawn_motions(rng, 1, 4 / 3)).mean() / gains
        optimiser.zero_grad()
        off.backward()
        optimiser.step()
        found.append(off.item())
    assert np.mean(found[-10:]) < 0.7 * np.mean(found[:10])


@pytest.mark.parametrize("aspect", [0.75, 4 / 3, 2.39])
def test_cameras_turn_zoom_and_shift_without_bending_the_picture(aspect):
    motions = drawn_motions(np.random.default_rng(0), 500, aspect).double()
    shape = torch.tensor([aspect, 1.0], dtype=torch.float64)
    in_pixels = motions[..., :2] * shape[:, None] / shape[None, :]
    square = in_pixels @ in_pixels.transpose(1, 2)  # a turn times a zoom, so a multiple of the unit matrix
    zoom = square[:, 0, 0].sqrt()
    torch.testing.assert_close(square, zoom[:, None, None] ** 2 * torch.eye(2).double(), rtol=0, atol=1e-6)
    assert 1 / 1.13 < zoom.min() < 0.92
    assert 1.08 < zoom.max() < 1.13
    turn = torch.rad2deg(torch.atan2(in_pixels[:, 1, 0], in_pixels[:, 0, 0]))
    assert -4.01 < turn.min() < -3.5
    assert 3.5 < turn.max() < 4.01
    assert 1.8 * MAX_SHIFT < motions[..., 2].abs().max() <= 2 * MAX_SHIFT
    torch.testing.assert_close(motions.float(), drawn_motions(np.random.default_rng(0), 500, aspect))
