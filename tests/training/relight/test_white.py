"""White: how bright the photos' white would be in a plate, and what the network sees above it."""

import numpy as np
import pytest
import torch

from relightgan.training.relight.gain_grid import MIN_LINEAR, anchor_of, log_luminance
from relightgan.training.relight.networks import WHITE_SCALE, GainGridNet, GainGridSettings, WhiteNet
from relightgan.training.relight.recipe import CLOUDS, drawn_clouds, rate_share, unclip, white_loss

SMALL = GainGridSettings(proxy_px=64, depth=4, width=4)


def stone_under_sky(number, seed=0, share=None):
    """(N, 3, 32, 64) photos of one set: stone of about 0.2 with joints, below a sky that is clipped at 1."""
    rng = np.random.default_rng(seed)
    photos = 0.2 * np.exp2(rng.normal(0, 0.3, (number, 1, 32, 64)))
    photos[..., ::8] *= 0.4
    for photo in photos:
        photo[:, : int(32 * (rng.uniform(0.1, 0.9) if share is None else share))] = 1.0
    return torch.from_numpy(photos.astype(np.float32)).expand(-1, 3, -1, -1).contiguous()


class At(torch.nn.Module):
    """White at a level, whatever is shown."""

    def __init__(self, stops):
        super().__init__()
        self.stops = stops

    def forward(self, proxy):
        return torch.full((len(proxy), 1, 1, 1), self.stops)


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = GainGridNet(SMALL).eval().requires_grad_(False)
    for layer in (net.leave, net.leave_fine):
        torch.nn.init.normal_(layer.weight, std=1.0)  # a fresh network has one gain for all
    return net


@pytest.fixture(scope="module")
def taught():
    """A network that has seen the set for some seconds, under skies of all sorts."""
    torch.manual_seed(0)
    white, rng = WhiteNet(4), np.random.default_rng(0)
    optimiser = torch.optim.Adam(white.parameters(), 5e-3)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 5e-3 * rate_share(step / 200)
        clouds = torch.nn.functional.interpolate(drawn_clouds(rng, 8, 1.5), size=(32, 64), mode="bilinear")
        loss = white_loss(white, unclip(stone_under_sky(8, seed=step), clouds)[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return white.requires_grad_(False)


def test_a_fresh_network_looks_for_white_far_above_the_mean():
    photos = stone_under_sky(3)
    mean = anchor_of(photos)
    torch.testing.assert_close(WhiteNet(4)(photos), mean + WHITE_SCALE)


def test_trust_is_shared_out_among_the_cells(taught):
    estimates, trust = taught.estimates(stone_under_sky(3))
    assert estimates.shape == trust.shape == (3, 1, 2, 4)
    assert (trust > 0).all()
    torch.testing.assert_close(trust.sum(dim=(2, 3)), torch.ones(3, 1))
    torch.testing.assert_close(taught(stone_under_sky(3)), (estimates * trust).sum(dim=(2, 3), keepdim=True))


@pytest.mark.parametrize("brighter", [0.0, 0.5, 1.3])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_white_is_found_under_skies_of_any_size_and_brightness(taught, share, brighter):
    photos = stone_under_sky(6, seed=1000, share=share)
    gradient = torch.linspace(1.0, 0.5, 64).expand(6, 1, 32, 64)
    plates = unclip(photos, brighter * gradient)[0]
    assert taught(plates).abs().mean() < 0.25 + 0.2 * brighter
    # To take the brightest pixel for white would be off by how much brighter the sky is.
    assert log_luminance(plates, torch.tensor(MIN_LINEAR)).amax() == pytest.approx(brighter, abs=0.03)


def test_the_exposure_of_a_plate_is_that_of_its_white(taught):
    plates = stone_under_sky(3, seed=7)
    for stops in (-2.0, 2.0, 5.0):
        torch.testing.assert_close(taught(plates * 2**stops), taught(plates) + stops, rtol=0, atol=1e-3)


def test_what_lies_above_white_changes_nothing_but_the_guide(net):
    net.white = At(0.0)
    photo = stone_under_sky(1, share=0.4)
    plate = unclip(photo, torch.rand(1, 1, 32, 64, generator=torch.Generator().manual_seed(0)) * 3)[0]
    seen, wanted = net(plate), net(photo)
    for name in ("grid", "anchor", "doubt", "white", "rolloff"):
        torch.testing.assert_close(getattr(seen, name), getattr(wanted, name), rtol=0, atol=1e-5)
    assert (seen.guide - wanted.guide).abs().max() > 0.1
    # And what lies below it does.
    assert (net(photo.clamp(max=0.5)).grid - wanted.grid).abs().max() > 1e-3


def test_white_is_taught_by_its_own_error_alone():
    white = WhiteNet(4)
    photos = stone_under_sky(4)
    off = white(photos).abs().mean()
    assert white_loss(white, photos).item() == pytest.approx(1.2 * off.item(), rel=1e-4)  # all cells say the same yet


def test_every_weight_of_white_learns():
    white, photos = WhiteNet(4), stone_under_sky(4)
    optimiser = torch.optim.Adam(white.parameters(), 1e-3)
    for _ in range(2):  # the last layer starts at zero and lets nothing through yet
        optimiser.zero_grad()
        white_loss(white, photos).backward()
        optimiser.step()
    assert [name for name, p in white.named_parameters() if not p.grad.abs().max() > 0] == []


def test_drawn_skies_are_smooth_differ_and_keep_their_bounds():
    clouds = drawn_clouds(np.random.default_rng(0), 200, 1.5)
    assert clouds.shape == (200, 1, *CLOUDS)
    assert 0 <= clouds.min() < 0.05
    assert 1.2 < clouds.max() <= 1.5
    assert clouds.std(dim=(2, 3)).max() > 0.15
    assert not drawn_clouds(np.random.default_rng(0), 5, 0.0).any()
    assert torch.equal(clouds, drawn_clouds(np.random.default_rng(0), 200, 1.5))
