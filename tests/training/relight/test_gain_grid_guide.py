"""The guide: what tells the gain grid's reader an edge of light from texture."""

import numpy as np
import pytest
import torch

from relightgan.training.relight import networks as networks_relight
from relightgan.training.relight.gain_grid import (
    GUIDE_STOPS,
    anchored_stops,
    gain_at,
    guide_of,
    pixel_positions,
    plate_gain,
    sample_plane,
)
from relightgan.training.relight.networks import GainGridNet, GainGridSettings, guide_size

SMALL = GainGridSettings(proxy_px=64, depth=8, width=4)
SIZE = (192, 256)  # of frames: four pixels to one of the proxy
WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0])
LEFT, RIGHT = slice(16, 112), slice(144, 240)  # columns well inside either half of a frame
STEEP = -0.8  # stops of gain for each stop of brightness


@pytest.fixture(autouse=True)
def small_guides(monkeypatch):
    """These frames are small, and so is the picture that their guide is made from."""
    monkeypatch.setattr(networks_relight, "GUIDE_PX", 64)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = GainGridNet(SMALL).eval().requires_grad_(False)
    torch.nn.init.normal_(net.leave.weight, std=8.0)
    return net


def grain(height, width, stops, seed=0):
    """(1, 1, height, width) texture of a pixel's size, in stops around 0."""
    return torch.randn((1, 1, height, width), generator=torch.Generator().manual_seed(seed)) * stops


def grey(stops):
    """A grey plate (N, 3, H, W) of so many stops (N, 1, H, W)."""
    return torch.exp2(stops).expand(-1, 3, -1, -1).contiguous()


def two_walls(texture=0.3):
    """Log2 luminance (1, 1, H, W) of a wall in the shade and one in the sun, four stops apart, with grain on both."""
    stops = torch.full((1, 1, *SIZE), -4.0)
    stops[..., SIZE[1] // 2 :] = 0.0
    return stops + grain(*SIZE, texture)


def steep(operators):
    """The same operators with a grid whose gain falls with brightness alone, and steeply."""
    low, high = GUIDE_STOPS
    planes = STEEP * torch.linspace(low, high, SMALL.depth)
    return operators._replace(grid=planes.repeat(3).view(1, -1, 1, 1).expand_as(operators.grid).contiguous())


def own_guide(operators):
    """The same operators, by which pixels are looked up by their own brightness."""
    slope_and_offset = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    return operators._replace(guide=slope_and_offset.expand_as(operators.guide).contiguous())


def guide_in_frame(operators, plate):
    """(N, 1, H, W) the guide of a whole frame's pixels, in stops."""
    position = pixel_positions(*plate.shape[2:], WHOLE).expand(len(plate), *plate.shape[2:], 2)
    mixed = sample_plane(operators.guide, position)
    return mixed[:, 0:1] * anchored_stops(plate, operators.anchor) + mixed[:, 1:2]


def contrast(stops):
    """How far pixels stand out on a wall: the standard deviation, in stops."""
    return stops.std().item()


@pytest.mark.parametrize("height", [3.0, 5.0, 9.0])
def test_at_a_strong_edge_the_guide_is_each_sides_own_brightness(height):
    stops = torch.full((1, 1, 16, 32), -1.0)
    stops[..., 16:] += height
    slope, offset = guide_of(stops).split(1, dim=1)
    assert slope[..., 15:17].min() > 0.5
    assert 0 <= slope.min() <= slope.max() < 1
    assert (slope * stops + offset - stops).abs().max() < 0.1 * height
    # Two pixels on nothing of it is left.
    assert not slope[..., :14].any()
    assert not slope[..., 18:].any()


def test_where_brightness_varies_much_and_finely_the_slope_is_nearly_1():
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(32), indexing="ij")
    checks = 6.0 * ((rows + columns) % 2).float()[None, None]
    slope, offset = guide_of(checks).split(1, dim=1)
    assert slope.min() > 0.93
    assert (slope * checks + offset - checks).abs().max() < 0.3


def test_where_all_is_even_the_guide_is_what_lies_around_and_hardly_moved_by_texture():
    even = guide_of(torch.full((2, 1, 16, 32), -2.75))
    torch.testing.assert_close(even, torch.tensor([0.0, -2.75]).view(1, 2, 1, 1).expand_as(even), atol=1e-5, rtol=0)
    faint = grain(48, 64, 0.15)
    slope, offset = guide_of(faint - 2.75).split(1, dim=1)
    assert slope.max() < 0.15
    assert contrast(slope * faint + offset) < 0.45 * 0.15
    # A slow change of light isn't texture: it stays.
    ramp = torch.linspace(-2, 2, 64).view(1, 1, 1, 64).expand(1, 1, 48, 64)
    slope, offset = guide_of(ramp).split(1, dim=1)
    assert (slope * ramp + offset - ramp)[..., 2:-2].abs().max() < 0.01


def test_at_the_frames_border_the_guide_looks_at_what_lies_inside():
    stops = grain(16, 32, 1.0)
    whole, corner = guide_of(stops), guide_of(stops[..., :6, :6])
    torch.testing.assert_close(corner[..., :4, :4], whole[..., :4, :4])
    even = guide_of(torch.full((1, 1, 16, 16), 3.0))
    assert even[0, 1, 0, 0].item() == pytest.approx(3.0, abs=1e-5)


def test_frames_of_a_batch_have_guides_of_their_own(net):
    both = torch.cat([grey(two_walls()), grey(grain(*SIZE, 1.5, seed=3))])
    together = net(both).guide
    for n in range(2):
        torch.testing.assert_close(together[n : n + 1], net(both[n : n + 1]).guide, rtol=1e-4, atol=1e-4)


def test_a_frame_four_times_brighter_is_guided_alike(net):
    plate = grey(two_walls())
    usual, brighter = net(plate), net(4 * plate)
    torch.testing.assert_close(brighter.guide[:, :1], usual.guide[:, :1], rtol=0, atol=1e-4)
    torch.testing.assert_close(guide_in_frame(brighter, 4 * plate), guide_in_frame(usual, plate) + 2, rtol=0, atol=1e-4)
    assert usual.guide.std() > 0.1


def test_where_the_mean_is_blended_with_other_frames_all_pixels_of_one_guide_shift_alike(net):
    plate = grey(two_walls(0.2))
    operators = steep(net(plate))
    blended = operators._replace(anchor=operators.anchor + 0.5)
    gains = [plate_gain(plate, WHOLE, o, SMALL.depth, torch.tensor(0.2)) for o in (operators, blended)]
    torch.testing.assert_close(gains[1], gains[0] - 0.5 * STEEP, rtol=0, atol=1e-3)


@pytest.mark.parametrize("texture", [0.1, 0.3])
def test_a_steep_grid_keeps_the_texture_of_walls_and_still_treats_sun_and_shade_apart(net, texture):
    stops = two_walls(texture)
    plate = grey(stops)
    operators = steep(net(plate))
    kept = plate_gain(plate, WHOLE, operators, SMALL.depth)[:, :1]
    flattened = plate_gain(plate, WHOLE, own_guide(operators), SMALL.depth)[:, :1]
    for wall in (LEFT, RIGHT):
        before = contrast(stops[..., wall])
        assert contrast((stops + kept)[..., wall]) == pytest.approx(before, rel=0.05)
        assert contrast((stops + flattened)[..., wall]) == pytest.approx((1 + STEEP) * before, rel=0.05)
        # As a whole, a wall gets what its brightness asks for.
        assert kept[..., wall].mean().item() == pytest.approx(flattened[..., wall].mean().item(), abs=0.05)
    apart = kept[..., LEFT].mean() - kept[..., RIGHT].mean()
    assert apart.item() == pytest.approx(-4 * STEEP, abs=0.05)


@pytest.mark.parametrize("past", [0, 1, 2, 3])
def test_a_shadows_edge_has_no_halo_wherever_it_falls_on_the_proxy(net, past):
    middle, proxy_px = SIZE[1] // 2 + past, SIZE[1] // SMALL.proxy_px
    stops = torch.full((1, 1, *SIZE), -4.0)
    stops[..., middle:] = 0.0
    kept = plate_gain(grey(stops), WHOLE, steep(net(grey(stops))), SMALL.depth)[0, 0, 100]
    lit, shaded = kept[RIGHT].mean(), kept[LEFT].mean()
    assert (kept[: middle - 4 * proxy_px] - shaded).abs().max() < 0.01
    assert (kept[middle + 4 * proxy_px :] - lit).abs().max() < 0.01
    # Up to the last pixel either side is its own: nearer to its wall's gain than to the other's by far.
    assert (kept[:middle] - shaded).abs().max() < 0.3 * (shaded - lit)
    assert (kept[middle:] - lit).abs().max() < 0.3 * (shaded - lit)


def test_the_guide_is_of_a_finer_picture_than_the_proxy_and_reaches_pixels_at_their_places(net, monkeypatch):
    monkeypatch.setattr(networks_relight, "GUIDE_PX", 128)
    plate = grey(two_walls())
    operators = net(plate)
    assert operators.guide.shape == (1, 2, 96, 128)
    halves = torch.nn.functional.interpolate(plate, size=(96, 128), mode="bilinear", antialias=True)
    torch.testing.assert_close(operators.guide, guide_of(anchored_stops(halves, operators.anchor)))
    # Any pixel alone, with only its place and colour, gets what it gets in its frame.
    whole = plate_gain(plate, WHOLE, operators, SMALL.depth)
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, SIZE[0], 50), rng.integers(0, SIZE[1], 50)
    places = pixel_positions(*SIZE, WHOLE)[:, rows, columns][:, None]
    alone = gain_at(operators, plate[:, :, rows, columns][:, :, None], places, SMALL.depth)
    torch.testing.assert_close(alone[:, :, 0], whole[:, :, rows, columns], atol=1e-5, rtol=1e-5)
    assert whole.std() > 0.3


def test_the_picture_a_guide_is_made_from_is_never_larger_than_the_frame(monkeypatch):
    monkeypatch.undo()
    assert [guide_size(*size) for size in ((480, 640), (2160, 3840), (3840, 2160), (90, 160), (1, 5000))] == [
        (480, 640), (360, 640), (640, 360), (90, 160), (1, 640),
    ]  # fmt: skip


def test_the_guide_is_exact_where_the_network_multiplies_coarsely(net):
    plate = grey(two_walls())
    usual = net(plate)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = net(plate)
    assert {part.dtype for part in coarse} == {torch.float32}
    assert torch.equal(coarse.guide, usual.guide)
    assert torch.equal(coarse.anchor, usual.anchor)
    assert not torch.equal(coarse.grid, usual.grid)
