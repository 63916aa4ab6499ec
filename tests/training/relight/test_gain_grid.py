import numpy as np
import pytest
import torch

from relightgan.core.errors import ConfigError
from relightgan.core.guidance import ROLLED_STOPS
from relightgan.training.relight import networks as networks_relight
from relightgan.training.relight.gain_grid import (
    GUIDE_STOPS,
    MIN_ANCHORED_STOPS,
    Operators,
    anchor_of,
    anchored_stops,
    confidence_of,
    exp2,
    gain_at,
    log_luminance,
    pixel_positions,
    plate_gain,
    sample_plane,
    slice_grid,
)
from relightgan.training.relight.networks import (
    GainGridApply,
    GainGridLook,
    GainGridNet,
    GainGridSettings,
    guide_size,
    proxy_size,
)

SMALL = GainGridSettings(proxy_px=64, depth=4, width=4)
WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def look():
    """A look whose gains vary over the frame and with brightness by several stops."""
    torch.manual_seed(0)
    net = GainGridNet(SMALL)
    torch.nn.init.normal_(net.leave.weight, std=8.0)
    return GainGridLook(net).eval().requires_grad_(False)


def plates(height, width, count=1, seed=0):
    """Scene-linear plates of about ten stops, well above black."""
    small = torch.rand((count, 3, 6, 8), generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)
    grain = torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(seed + 1))
    return torch.exp2(10.0 * (0.8 * smooth + 0.2 * grain) - 6.0)


def by_own_brightness(grid, anchor):
    """Operators of a frame whose pixels take their gains by their own brightness."""
    guide = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    nought = torch.zeros(1, 1, 1, 1)
    return Operators(grid, anchor, nought, guide, white=nought + 100.0, rolloff=nought)


def sliced_by_hand(grid, x, y, brightness, depth):
    """Plain trilinear lookup of one pixel's gain: cells have their centres at (i + 0.5) / n, ends are held."""
    planes = grid.reshape(3, depth, *grid.shape[1:])
    rows, columns = grid.shape[1:]
    found = np.zeros(3)
    for place_z in corners(brightness, depth):
        for place_y in corners(y * rows - 0.5, rows):
            for place_x in corners(x * columns - 0.5, columns):
                weight = place_z[1] * place_y[1] * place_x[1]
                found += weight * planes[:, place_z[0], place_y[0], place_x[0]]
    return found


def corners(place, count):
    place = min(max(place, 0.0), count - 1.0)
    low = min(int(np.floor(place)), count - 1)
    return [(low, 1 - (place - low)), (min(low + 1, count - 1), place - low)]


@pytest.mark.parametrize(("depth", "rows", "columns"), [(8, 6, 10), (4, 9, 5), (2, 1, 1), (3, 2, 32)])
def test_slicing_is_plain_trilinear_lookup(depth, rows, columns):
    rng = np.random.default_rng(0)
    grid = rng.normal(0, 2, (2, 3 * depth, rows, columns)).astype(np.float32)
    position = rng.random((2, 5, 7, 2)).astype(np.float32)
    position[0, 0, :4] = [[0, 0], [1, 1], [0, 1], [1, 0]]  # the frame's corners
    brightness = rng.uniform(-0.5, depth - 0.5, (2, 1, 5, 7)).astype(np.float32)
    brightness[1, 0, 0, :4] = [0, depth - 1, depth - 2, 1]
    found = slice_grid(*(torch.from_numpy(x) for x in (grid, position, brightness)), depth).numpy()
    for n, row, column in np.ndindex(2, 5, 7):
        x, y = position[n, row, column].astype(np.float64)
        expected = sliced_by_hand(grid[n].astype(np.float64), x, y, float(brightness[n, 0, row, column]), depth)
        np.testing.assert_allclose(found[n, :, row, column], expected, atol=2e-4)


def test_each_pixel_is_looked_up_at_its_own_place_and_brightness():
    depth = 4
    low, high = GUIDE_STOPS
    planes = torch.arange(12.0).reshape(1, 12, 1, 1) / 10  # red 0..0.3, green 0.4..0.7, blue 0.8..1.1
    anchor = torch.full((1, 1, 1, 1), -3.0)
    stops = torch.tensor([low - 2, low, low + (high - low) / 3, high, high + 5]) - 3.0  # around the anchor
    grey = torch.exp2(stops).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    gain = gain_at(by_own_brightness(planes, anchor), grey, torch.full((1, 1, 5, 2), 0.5), depth)
    step = torch.tensor([0.0, 0.0, 0.1, 0.3, 0.3])
    torch.testing.assert_close(gain[0, :, 0], torch.tensor([[0.0], [0.4], [0.8]]) + step, atol=1e-5, rtol=0)
    lit = torch.zeros(1, 12, 2, 2)
    lit[:, :4, 0, 1] = 1.0  # red planes, top right
    lit[:, 8:, 1, 0] = -1.0  # blue planes, bottom left
    gain = plate_gain(torch.full((1, 3, 8, 8), 0.5), WHOLE, by_own_brightness(lit, anchor), depth)
    assert gain[0, :, 0, 7].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-5)
    assert gain[0, :, 7, 0].tolist() == pytest.approx([0.0, 0.0, -1.0], abs=1e-5)
    assert gain[0, :, 0, 0].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-5)


def test_a_fresh_network_changes_no_bit_below_white_and_hardly_anything_above():
    torch.manual_seed(0)
    look = GainGridLook(GainGridNet(SMALL)).eval()
    plate = plates(45, 61)
    plate[0, :, 0, :6] = torch.tensor([0.0, -0.0, -3.5, 1e-30, 65504.0, 3.3333e-5])
    relit, grid, *_ = look(plate, WHOLE)
    operators = look.net(plate)
    white = operators.anchor + operators.white
    below = (plate.amax(dim=1, keepdim=True) <= torch.exp2(white - 1)).expand_as(plate)
    assert below.float().mean() > 0.7
    assert relit[below].detach().numpy().tobytes() == plate[below].numpy().tobytes()
    assert not grid.any()
    kept = torch.log2(relit[~below] / plate[~below])  # of highlights, nearly all
    assert kept.max() <= 0
    assert kept.min() > -0.1


def test_a_frame_four_times_brighter_gets_the_same_gains(look):
    plate = plates(90, 160)
    relit, grid, anchor, *_ = look(plate, WHOLE)
    brighter, same_grid, higher, *_ = look(4 * plate, WHOLE)
    assert grid.std() > 0.5
    torch.testing.assert_close(same_grid, grid, rtol=0, atol=1e-4)
    torch.testing.assert_close(higher, anchor + 2.0, rtol=0, atol=1e-4)
    torch.testing.assert_close(brighter, 4 * relit, rtol=1e-3, atol=0)


def test_highlights_negatives_and_zero_keep_what_they_are(look):
    plate = plates(64, 96)
    plate[0, :, 10, 10] = 300.0
    plate[0, :, 20, 20] = torch.tensor([-0.02, 0.4, 0.0])
    plate[0, :, 30, 30] = -1.0
    relit, *_ = look(plate, WHOLE)
    gain = torch.log2(relit / plate)
    assert relit[0, :, 10, 10].min() > 300.0 / 2**SMALL.max_stops
    assert relit[0, :, 20, 20].sign().tolist() == [-1, 1, 0]
    assert (relit[0, :, 30, 30] < 0).all()
    assert gain[plate != 0].abs().max() <= SMALL.max_stops + ROLLED_STOPS + 1e-4
    # Far above white all get the same gain: nothing is clipped.
    operators = look.net(plate)
    once, twice = (look.apply_operators(plate * times, WHOLE, *operators)[0][0, :, 10, 10] for times in (1, 2))
    torch.testing.assert_close(twice, 2 * once)


def test_a_frame_without_light_stays_without(look):
    for level in (0.0, -0.25):
        plate = torch.full((1, 3, 32, 48), level)
        relit, grid, anchor, *_ = look(plate, WHOLE)
        assert torch.isfinite(grid).all()
        assert anchor.item() == pytest.approx(-100.0)
        assert (relit.sign() == plate.sign()).all()


@pytest.mark.parametrize("detail", [0.0, 0.3])
@pytest.mark.parametrize("rows", [64, 7, 1])
def test_strips_put_together_are_the_whole(look, rows, detail):
    plate = plates(131, 97)
    operators = look.net(plate)
    half = GainGridApply(SMALL.depth, torch.tensor(detail))
    found = half(plate, WHOLE, *operators)
    strips = []
    for top in range(0, 131, rows):
        bottom = min(top + rows, 131)
        window = torch.tensor([0.0, top / 131, 1.0, bottom / 131])
        strips.append(half(plate[:, :, top:bottom], window, *operators))
    sides = [
        half(plate[..., x0:x1], torch.tensor([x0 / 97, 0.0, x1 / 97, 1.0]), *operators)
        for x0, x1 in ((0, 40), (40, 97))
    ]
    for pieces, axis in ((strips, 2), (sides, 3)):
        for whole, parts in zip(found, zip(*pieces, strict=True), strict=True):
            torch.testing.assert_close(torch.cat(parts, dim=axis), whole, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize(
    ("height", "width"), [(20, 33), (33, 20), (1, 1), (3, 500), (211, 157), (108, 258), (360, 203), (64, 64)]
)
def test_any_size_will_do(look, height, width):
    plate = plates(height, width)
    relit, *operators, gain, confidence = look(plate, WHOLE)
    grid, anchor, doubt, guide, white, rolloff = operators
    assert relit.shape == gain.shape == plate.shape
    assert torch.isfinite(relit).all()
    proxy_height, proxy_width = proxy_size(height, width, 64)
    assert (doubt.shape, confidence.shape) == ((1, 1, proxy_height // 8, proxy_width // 8), (1, 1, height, width))
    assert grid.shape == (1, 12, proxy_height // 4, proxy_width // 4)
    assert guide.shape == (1, 2, *guide_size(height, width))
    assert anchor.shape == white.shape == (1, 1, 1, 1)
    assert rolloff.shape == (1, 1, *grid.shape[2:])


def test_the_proxy_has_the_frames_aspect_and_average():
    assert proxy_size(2160, 3840, 256) == (144, 256)
    assert proxy_size(1716, 4096, 256) == (112, 256)  # 2.39:1
    assert proxy_size(3840, 2160, 256) == (256, 144)
    assert proxy_size(1, 5000, 256) == (16, 256)
    assert proxy_size(100, 100, 100) == (96, 96)
    plate = plates(300, 500)
    proxy = GainGridNet(SMALL).proxy(plate)
    assert proxy.shape == (1, 3, 32, 64)
    torch.testing.assert_close(proxy.mean(dim=(2, 3)), plate.mean(dim=(2, 3)), rtol=0.02, atol=0)
    # Stripes of two pixels, of which every eighth pixel and its neighbour would only ever meet the black ones.
    stripes = ((torch.arange(512) + 1) // 2 % 2).float().expand(1, 3, 256, 512)
    torch.testing.assert_close(GainGridNet(SMALL).proxy(stripes), torch.full((1, 3, 32, 64), 0.5), rtol=0, atol=0.03)


def test_a_frame_gets_the_same_gains_at_any_resolution(look, monkeypatch):
    monkeypatch.setattr(networks_relight, "GUIDE_PX", 100)  # these frames are small
    plate = torch.nn.functional.interpolate(plates(60, 100), scale_factor=4, mode="bilinear")
    half = torch.nn.functional.avg_pool2d(plate, 2)
    operators, of_half = look.net(plate), look.net(half)
    torch.testing.assert_close(of_half.anchor, operators.anchor, rtol=0, atol=0.02)
    assert operators.guide.shape == (1, 2, 60, 100)
    for ours, theirs in ((of_half.grid, operators.grid), (of_half.guide, operators.guide)):
        assert (ours - theirs).abs().mean() < 0.05 * theirs.std()


def test_frames_of_a_batch_do_not_see_each_other(look):
    both = torch.cat([plates(50, 70), 0.1 * plates(50, 70, seed=5)])
    together = look(both, WHOLE)
    for n in range(2):
        for whole, alone in zip(together, look(both[n : n + 1], WHOLE), strict=True):
            torch.testing.assert_close(whole[n : n + 1], alone, rtol=1e-4, atol=1e-4)
    assert (together[1][0] - together[1][1]).abs().max() > 0.1


def test_the_two_halves_are_the_whole(look):
    plate, window = plates(40, 60), torch.tensor([0.1, 0.2, 0.7, 0.9])
    whole = look(plate, window)
    operators = look.net(plate)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(operators, whole[1:-2], strict=True))
    made = look.apply_operators(plate, window, *operators)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(made, (whole[0], *whole[-2:]), strict=True))


def test_the_plate_times_two_to_the_gain_is_the_relit_plate_to_the_bit(look):
    plate = plates(64, 96)
    plate[0, :, :2, 0] = torch.tensor([[300.0, -0.02], [0.0, 7e4], [-5.0, 1e-7]])
    relit, *_, gain, _ = look(plate, WHOLE)
    assert gain.std() > 0.3
    assert torch.isfinite(gain).all()
    assert torch.equal(plate * exp2(gain), relit)
    *_, brighter, _ = look(4 * plate, WHOLE)
    away = (plate > 2**-9).all(dim=1, keepdim=True).expand_as(gain)  # in the deepest dark the guide holds
    torch.testing.assert_close(brighter[away], gain[away], rtol=0, atol=2e-3)


def test_half_a_stop_of_doubt_is_a_confidence_of_one_half():
    stops = torch.tensor([0.0, 0.125, 0.5, 1.5, 1e4])
    torch.testing.assert_close(confidence_of(stops), torch.tensor([1.0, 0.8, 0.5, 0.25, 0.0]), atol=1e-4, rtol=0)


def test_what_lies_over_the_frame_is_found_at_its_place():
    doubt = torch.tensor([[[[0.0, 2.0], [0.0, 2.0]]]])
    position = torch.tensor([[[[0.0, 0.5], [0.25, 0.1], [0.5, 0.9], [0.75, 0.5], [1.0, 1.0]]]])
    assert sample_plane(doubt, position).flatten().tolist() == [0.0, 0.0, 1.0, 2.0, 2.0]


def test_confidence_stays_within_0_and_1_whatever_the_plate_and_the_weights():
    torch.manual_seed(1)
    net = GainGridNet(SMALL)
    for scale in (1.0, 1e3):
        torch.nn.init.normal_(net.doubt[-1].weight, std=scale)
        for plate in (plates(20, 30), torch.zeros(1, 3, 20, 30), plates(20, 30) * 1e6, -plates(20, 30)):
            confidence = GainGridLook(net)(plate, WHOLE)[-1]
            assert 0 <= confidence.min() <= confidence.max() <= 1


def test_doubt_sends_nothing_into_the_gains_nor_changes_how_they_start(monkeypatch):
    states, real = [], torch.random.fork_rng

    def watched(**options):
        states.append(torch.get_rng_state())
        return real(**options)

    monkeypatch.setattr(torch.random, "fork_rng", watched)
    net = GainGridNet(SMALL)
    # Whatever is drawn after the network, such as the critic's weights, is what it would be without doubt.
    assert [torch.equal(state, torch.get_rng_state()) for state in states] == [True]
    # Doubt and white come last, so what is before them is drawn before them.
    later = [name.startswith(("doubt.", "white.")) for name, _ in net.named_parameters()]
    assert later == sorted(later)
    net(plates(48, 64)).doubt.sum().backward()
    touched = {name for name, p in net.named_parameters() if p.grad is not None}
    assert touched == {name for name, _ in net.named_parameters() if name.startswith("doubt.")}


def test_pixel_positions_are_centres():
    position = pixel_positions(2, 4, torch.tensor([0.5, 0.0, 1.0, 0.5]))
    assert position.shape == (1, 2, 4, 2)
    assert position[0, 0, :, 0].tolist() == [0.5625, 0.6875, 0.8125, 0.9375]
    assert position[0, :, 0, 1].tolist() == [0.125, 0.375]


def test_luminance_is_held_where_there_is_no_light():
    colours = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [-5.0, 0.1, 0.1]]).T[None, :, None]
    expected = torch.tensor([0.0, np.log2(0.7152), -12.0, -12.0])
    found = log_luminance(colours, torch.tensor(2.0**-12))
    torch.testing.assert_close(found[0, 0, 0], expected.float(), atol=1e-6, rtol=0)


def test_a_frame_of_four_times_the_exposure_gets_two_stops_more_whatever_is_black_in_it():
    rng = torch.Generator().manual_seed(3)
    plate = torch.exp2(-5 + 6 * torch.rand((2, 3, 48, 64), generator=rng))
    plate[:, :, 10:20, 12:30] = 0.0
    plate[:, :, 30:34, 12:40] *= 2.0**-12
    plate[:, :, 40:42, 2:20] *= -1.0
    assert anchor_of(plate).shape == (2, 1, 1, 1)
    torch.testing.assert_close(anchor_of(4 * plate), anchor_of(plate) + 2, atol=1e-5, rtol=0)
    anchor = anchor_of(plate)
    torch.testing.assert_close(anchored_stops(4 * plate, anchor + 2), anchored_stops(plate, anchor) + 2)
    assert anchored_stops(plate, anchor).amin() >= anchor.amin() + MIN_ANCHORED_STOPS - 1e-4
    assert torch.isfinite(anchor_of(torch.zeros(1, 3, 16, 16))).all()


def test_exposure_passes_through_a_look_whatever_is_black_in_the_plate(look):
    plate = plates(48, 64)
    plate[:, :, 10:20, 12:30] = 0.0
    plate[:, :, 30:34, 12:40] *= 2.0**-12
    relit, brighter = look(plate, WHOLE)[0], look(4 * plate, WHOLE)[0]
    torch.testing.assert_close(brighter, 4 * relit, rtol=1e-3, atol=1e-6)


def test_gains_stay_within_their_limit():
    net = GainGridNet(GainGridSettings(proxy_px=32, depth=2, width=2, max_stops=1.5))
    torch.nn.init.constant_(net.leave.bias, 1e4)
    grid, *_ = net(plates(20, 30))
    assert grid.min() == grid.max() == 1.5


def test_every_weight_learns():
    torch.manual_seed(0)
    net = GainGridNet(SMALL)
    for last in (net.leave, net.leave_fine):
        torch.nn.init.normal_(last.weight, std=0.5)
    plate = plates(48, 64)
    operators = net(plate)
    relit = plate * exp2(plate_gain(plate, WHOLE, operators, SMALL.depth))
    (relit.square().mean() + operators.doubt.mean()).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert [name for name in still if not name.startswith("white.")] == []  # it has a loss of its own, see test_white


@pytest.mark.parametrize(("name", "value"), [("depth", 1), ("proxy_px", 8), ("width", 0), ("max_stops", 0.0)])
def test_settings_without_sense_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        GainGridSettings(**{name: value})


def test_a_grid_looked_at_half_a_cell_on_lies_where_the_frame_does():
    """Of a brightness that rises evenly, cells that are means of their squares stay what they were."""
    rise = torch.arange(64.0).view(1, 1, 1, 64) + 2 * torch.arange(48.0).view(1, 1, 48, 1)
    cells = torch.nn.functional.avg_pool2d
    back = networks_relight.half_a_cell_up(cells(networks_relight.half_a_cell_down(rise), networks_relight.UNSHUFFLE))
    inside = np.s_[..., 1:-1, 1:-1]  # at the border the frame goes on as it ends
    torch.testing.assert_close(back[inside], cells(rise, networks_relight.UNSHUFFLE)[inside])


def test_what_lies_above_white_is_rolled_off_where_the_network_says_so_and_keeps_its_order():
    plate = torch.exp2(torch.linspace(-3, 8, 56)).view(1, 1, 7, 8).expand(1, 3, 7, 8)
    share = torch.tensor([0.0, 0.9]).view(1, 1, 1, 2)
    operators = by_own_brightness(torch.ones(1, 12, 1, 1), torch.zeros(1, 1, 1, 1))
    operators = operators._replace(white=torch.ones(1, 1, 1, 1), rolloff=share)
    gain = plate_gain(plate, WHOLE, operators, 4)
    above = (torch.log2(plate) - 1).clamp(0, ROLLED_STOPS)
    torch.testing.assert_close(gain[..., 0], torch.ones_like(gain[..., 0]))  # kept
    torch.testing.assert_close(gain[..., -1], (1 - 0.9 * above)[..., -1])
    right = (plate * torch.exp2(gain))[0, 0, :, -1]
    assert (right.diff() > 0).all()


def test_a_glow_that_is_coloured_above_white_becomes_as_photos_show_it():
    plate = torch.tensor([4.0, 2.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    operators = by_own_brightness(torch.zeros(1, 12, 1, 1), torch.zeros(1, 1, 1, 1))
    operators = operators._replace(white=torch.zeros(1, 1, 1, 1), rolloff=torch.ones(1, 1, 1, 1))
    relit = plate * torch.exp2(plate_gain(plate, WHOLE, operators, 4))
    torch.testing.assert_close(relit, torch.ones_like(relit))


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("detail", [-0.45, 0.45])
def test_above_white_what_is_brighter_stays_brighter_whatever_the_guide(slope, detail):
    plate = torch.exp2(torch.linspace(1, 6, 64)).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    operators = by_own_brightness(torch.linspace(2, -2, 12).view(1, 12, 1, 1), torch.zeros(1, 1, 1, 1))
    guide = torch.tensor([slope, 3.5 * (1 - slope)]).view(1, 2, 1, 1)
    rolloff = torch.full((1, 1, 1, 1), networks_relight.MAX_ROLLOFF)
    operators = operators._replace(white=torch.ones(1, 1, 1, 1), rolloff=rolloff, guide=guide)
    relit = plate * torch.exp2(plate_gain(plate, WHOLE, operators, 4, torch.tensor(detail)))
    assert (relit.flatten(2).diff() > 0).all()


def test_gains_hardly_depend_on_where_cells_fall_on_things():
    """A camera that pans slowly: gains travel with the plate, more steadily than if frames were looked at once."""
    torch.manual_seed(0)
    net = GainGridNet(SMALL).eval().requires_grad_(False)
    torch.nn.init.normal_(net.leave_fine.weight, std=8.0)
    wide = plates(48, 96)
    unsteady = {"once": 0.0, "as frames are": 0.0}
    for step in range(1, 8):
        frames = [wide[..., at : at + 64] for at in (0, step)]
        for how, predict in (("once", lambda plate: net.from_reduced(plate, net.white(plate))), ("as frames are", net)):
            here, there = (plate_gain(plate, WHOLE, predict(plate), SMALL.depth) for plate in frames)
            unsteady[how] += float((here[..., step + 8 : -8] - there[..., 8 : -8 - step]).abs().mean())
    assert unsteady["as frames are"] < 0.8 * unsteady["once"]
