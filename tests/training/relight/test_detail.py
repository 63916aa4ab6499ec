"""Detail: what it does to texture, and how much of it photos of the wanted light ask for."""

import cv2
import numpy as np
import pytest
import torch

from relightgan.core.colour import linear_to_srgb
from relightgan.training.pairs.pairing import Pairs
from relightgan.training.relight import networks as networks_relight
from relightgan.training.relight.detail import (
    MAX_DETAIL,
    PLATE_SHARE,
    finest_band,
    measured_detail,
    photos_of,
    solve_detail,
)
from relightgan.training.relight.gain_grid import (
    MAX_DETAIL_STOPS,
    anchored_stops,
    exp2,
    pixel_positions,
    plate_gain,
    sample_plane,
)
from relightgan.training.relight.networks import GainGridApply, GainGridNet, GainGridSettings
from relightgan.training.torch_colour import decode_srgb, encode_srgb

SMALL = GainGridSettings(proxy_px=64, depth=4, width=4)
PHOTO_PX = (96, 128)
WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0])


@pytest.fixture(autouse=True)
def small_guides(monkeypatch):
    """These frames are small, and so is the picture that their guide is made from."""
    monkeypatch.setattr(networks_relight, "GUIDE_PX", 64)


def fresh_net(gain_stops=0.0, relights=False):
    """A network with one gain for all, or with gains of all sorts."""
    torch.manual_seed(0)
    net = GainGridNet(SMALL).eval().requires_grad_(False)
    net.leave.bias.fill_(SMALL.max_stops * np.arctanh(gain_stops / SMALL.max_stops))
    if relights:
        torch.nn.init.normal_(net.leave.weight, std=8.0)
    return net


def wall(height=96, width=128, stops=0.25, level=-2.5, seed=0):
    """(1, 1, height, width) log2 luminance of an even wall with grain."""
    noise = torch.randn((1, 1, height, width), generator=torch.Generator().manual_seed(seed))
    return level + stops * noise.clamp(-3, 3)


def grey(stops):
    return torch.exp2(stops).expand(-1, 3, -1, -1).contiguous()


def standing_out(operators, plate):
    """(N, 1, H, W) stops by which a frame's pixels stand out from what is around them."""
    position = pixel_positions(*plate.shape[2:], WHOLE).expand(len(plate), *plate.shape[2:], 2)
    slope, offset = sample_plane(operators.guide, position).split(1, dim=1)
    own = anchored_stops(plate, operators.anchor)
    return own - (slope * own + offset)


class Bank:
    """Photos in memory, sRGB-encoded; remembers which were asked for."""

    def __init__(self, photos):
        self.photos, self.asked = [np.float32(photo) for photo in photos], []

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.photos[index]


def walls(contrast=1.0, darkest=-3.0, count=4, soften=0.0):
    """Photos of walls of many levels, from `darkest` stops on, whose grain has so many times its usual contrast."""
    photos = []
    for number in range(count):
        level = darkest + 0.4 * number
        stops = wall(*PHOTO_PX, seed=number, level=0.0) * contrast + level
        linear = grey(stops)[0].permute(1, 2, 0).numpy()
        photos.append(linear_to_srgb(cv2.GaussianBlur(linear, (0, 0), soften) if soften else linear))
    return Bank(photos)


def one_to_one(count):
    even = np.full(count, 1 / count)
    return Pairs(np.arange(count), np.arange(count), np.ones(count, np.float32), even)


# What detail does


@pytest.mark.parametrize("detail", [-0.3, 0.1, 0.3])
def test_detail_adds_its_share_of_what_stands_out(detail):
    net, plate = fresh_net(relights=True), grey(wall(stops=1.0))
    operators = net(plate)
    without, with_detail = (plate_gain(plate, WHOLE, operators, SMALL.depth, d) for d in (None, torch.tensor(detail)))
    out = standing_out(operators, plate).clamp(-MAX_DETAIL_STOPS, MAX_DETAIL_STOPS)
    torch.testing.assert_close(with_detail - without, (detail * out).expand_as(without), atol=1e-5, rtol=0)
    assert out.std() > 0.3
    # As much for all three colours: what stands out changes its brightness and not its colour.
    added = with_detail - without
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-5, rtol=0)
    # None and nought are the same.
    assert torch.equal(plate_gain(plate, WHOLE, operators, SMALL.depth, torch.zeros(())), without)


@pytest.mark.parametrize("detail", [-0.3, 0.2, 0.3])
def test_texture_of_one_light_gets_so_many_times_its_contrast(detail):
    stops = wall(192, 256)
    plate = grey(stops)
    relit, *_ = GainGridApply(SMALL.depth, torch.tensor(detail))(plate, WHOLE, *fresh_net(gain_stops=-1.0)(plate))
    made = torch.log2(relit)
    assert (made.std() / stops.std()).item() == pytest.approx(1 + detail, abs=0.02)
    assert (made.mean() - stops.mean()).item() == pytest.approx(-1.0, abs=0.02)


def test_what_stands_out_too_far_for_texture_gets_no_more_than_that_does():
    stops = wall(192, 256, stops=0.0)
    stops[..., 20, 30], stops[..., 60, 90], stops[..., 70, 20] = 3.0, -8.5, -1.5  # a lamp, a hole, and a grain
    plate = grey(stops)
    operators, detail = fresh_net()(plate), torch.tensor(0.3)
    operators = operators._replace(white=operators.white + 5.0)  # texture ends at white
    out = standing_out(operators, plate)
    gain = plate_gain(plate, WHOLE, operators, SMALL.depth, detail)
    most = 0.3 * MAX_DETAIL_STOPS
    assert out[..., 20, 30] > 1.2 * MAX_DETAIL_STOPS
    assert gain[..., 20, 30].flatten().tolist() == pytest.approx([most] * 3)
    assert out[..., 60, 90] < -1.2 * MAX_DETAIL_STOPS
    assert gain[..., 60, 90].flatten().tolist() == pytest.approx([-most] * 3)
    assert 0.5 < out[..., 70, 20].item() < 1.0
    assert gain[..., 70, 20].flatten().tolist() == pytest.approx([0.3 * out[..., 70, 20].item()] * 3)


def test_detail_leaves_an_even_area_as_it_is():
    # The grain lies on the right; far enough from it nothing stands out.
    stops = wall(stops=0.5)
    stops[..., :64] = -2.5
    plate = grey(stops)
    operators = fresh_net(gain_stops=1.0)(plate)
    without, with_detail = (
        plate_gain(plate, WHOLE, operators, SMALL.depth, torch.tensor(d)) for d in (0.0, 0.3)
    )  # fmt: skip
    torch.testing.assert_close(with_detail[..., :56], without[..., :56], atol=1e-5, rtol=0)
    assert (with_detail - without)[..., 64:].std() > 0.1


def test_zero_stays_zero_and_negatives_stay_negative_with_detail():
    plate = grey(wall())
    plate[0, :, 10, 10] = torch.tensor([0.0, -0.0, 0.0])
    plate[0, :, 20, 20] = torch.tensor([-0.02, 0.4, 0.0])
    plate[0, :, 30, 30] = torch.tensor([-1.0, -5.0, -1e-6])
    plate[0, :, 40, 40] = torch.tensor([65504.0, 1e6, 300.0])
    for detail in (-0.3, 0.3):
        half = GainGridApply(SMALL.depth, torch.tensor(detail))
        relit, gain, _ = half(plate, WHOLE, *fresh_net(relights=True)(plate))
        assert torch.equal(relit.sign(), plate.sign())
        assert torch.isfinite(relit).all()
        assert gain.abs().max() <= SMALL.max_stops + abs(detail) * MAX_DETAIL_STOPS + 1e-4
        assert torch.equal(plate * exp2(gain), relit)


@pytest.mark.parametrize("level", [0.0, -0.25])
def test_a_frame_without_light_has_no_detail(level):
    plate = torch.full((1, 3, 32, 48), level)
    relit, gain, _ = GainGridApply(SMALL.depth, torch.tensor(0.3))(plate, WHOLE, *fresh_net()(plate))
    torch.testing.assert_close(gain, torch.zeros_like(gain), atol=1e-5, rtol=0)
    torch.testing.assert_close(relit, plate)


def test_a_frame_four_times_brighter_has_the_same_detail():
    net, plate, detail = fresh_net(relights=True), grey(wall(stops=0.5)), torch.tensor(0.3)
    usual, brighter = (plate_gain(p, WHOLE, net(p), SMALL.depth, detail) for p in (plate, 4 * plate))
    torch.testing.assert_close(brighter, usual, atol=1e-3, rtol=0)


# How much photos ask for


@pytest.mark.parametrize("contrast", [0.75, 0.95, 1.0, 1.1, 1.3])
def test_the_contrast_of_photos_of_the_wanted_light_is_found_again(contrast):
    found = measured_detail(fresh_net(), walls(), walls(contrast), one_to_one(4))
    assert found == pytest.approx(PLATE_SHARE * (contrast - 1), abs=0.01)


@pytest.mark.parametrize(("contrast", "most"), [(2.5, MAX_DETAIL), (0.2, -MAX_DETAIL)])
def test_no_more_is_given_than_light_explains(contrast, most):
    found = measured_detail(fresh_net(), walls(), walls(contrast), one_to_one(4))
    assert found == pytest.approx(PLATE_SHARE * most, abs=1e-5)
    assert abs(found) <= MAX_DETAIL


def test_the_same_photos_ask_for_no_detail():
    assert measured_detail(fresh_net(), walls(), walls(), one_to_one(4)) == pytest.approx(0.0, abs=1e-5)


def test_softer_photos_ask_for_softer_texture():
    slightly, more, blurred = (
        measured_detail(fresh_net(), walls(), walls(soften=sigma), one_to_one(4)) for sigma in (0.32, 0.4, 3.0)
    )
    assert PLATE_SHARE * -0.1 < slightly < PLATE_SHARE * -0.01
    assert PLATE_SHARE * -0.25 < more < PLATE_SHARE * -0.1
    assert blurred == pytest.approx(PLATE_SHARE * -MAX_DETAIL, abs=1e-5)


def test_relit_photos_are_compared_and_not_the_source_s_own():
    # Photos of a light two stops brighter: a photo shows less of the same grain in the dark.
    source, target = walls(darkest=-5.0), walls(contrast=1.1, darkest=-3.0)
    dark, lit = (measured_detail(fresh_net(gain), source, target, one_to_one(4)) for gain in (0.0, 2.0))
    assert lit == pytest.approx(PLATE_SHARE * 0.1, abs=0.01)
    assert dark > lit + 0.05


@pytest.mark.parametrize("detail", [-0.2, 0.15])
def test_photos_that_were_relit_with_some_detail_ask_for_it(detail):
    net, source = fresh_net(relights=True), walls()
    relit = []
    for photo in source.photos:
        plate = decode_srgb(torch.from_numpy(photo).permute(2, 0, 1)[None])
        made = plate * exp2(plate_gain(plate, WHOLE, net(plate), SMALL.depth, torch.tensor(detail)))
        relit.append(encode_srgb(made.clamp(0, 1))[0].permute(1, 2, 0).numpy())
    assert measured_detail(net, source, Bank(relit), one_to_one(4)) == pytest.approx(PLATE_SHARE * detail, abs=0.01)


def test_only_pairs_are_looked_at_each_photo_once():
    # The second target photo is in no pair, and the third in one that is never drawn.
    target = Bank([*walls(1.1, count=1).photos, *walls(5.0, count=2).photos])
    source = Bank([*walls(9.0, count=1).photos, *walls(count=1).photos])
    pairs = Pairs(np.array([1, 0, 1]), np.array([0, 2, 0]), np.ones(3, np.float32), np.array([0.5, 0.0, 0.5]))
    found = measured_detail(fresh_net(), source, target, pairs)
    assert found == pytest.approx(PLATE_SHARE * 0.1, abs=0.01)
    assert (source.asked, target.asked) == ([1], [0])


def test_without_pairs_there_is_no_detail():
    none = np.zeros(0)
    pairs = Pairs(none.astype(int), none.astype(int), none.astype(np.float32), none)
    assert measured_detail(fresh_net(), walls(), walls(1.1), pairs) == 0


def test_photos_count_as_often_as_they_are_drawn():
    photos, often = photos_of(np.array([2, 0, 2, 5]), np.array([0.1, 0.3, 0.6, 0.0]))
    assert photos == [0, 2]
    np.testing.assert_allclose(often, [0.3, 0.7])


def test_of_very_many_photos_some_from_all_over_are_looked_at(monkeypatch):
    monkeypatch.setattr("relightgan.training.relight.detail.MAX_PHOTOS", 50)
    photos, often = photos_of(np.arange(1000), np.arange(1000) / 499500)
    assert len(set(photos)) == len(often) == 50
    assert photos == sorted(photos)
    assert min(photos) < 100
    assert max(photos) > 900
    np.testing.assert_allclose(often, np.array(photos) / 499500)


def test_measuring_gives_the_same_number_again_and_disturbs_nothing():
    net, before = fresh_net(relights=True), torch.get_rng_state()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    one, two = (measured_detail(net, walls(), walls(1.1), one_to_one(4)) for _ in range(2))
    assert one == two
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_what_the_network_holds_already_is_not_counted_in():
    net = fresh_net()
    net.detail.fill_(0.25)
    assert measured_detail(net, walls(), walls(1.1), one_to_one(4)) == pytest.approx(PLATE_SHARE * 0.1, abs=0.01)


def test_photos_of_other_sizes_can_be_compared():
    larger = Bank([np.concatenate([photo] * 2, axis=1) for photo in walls(1.1).photos])
    assert measured_detail(fresh_net(), walls(), larger, one_to_one(4)) == pytest.approx(PLATE_SHARE * 0.1, abs=0.02)


@pytest.mark.parametrize(
    ("plain", "both", "added", "wanted", "expected"),
    [
        (1.0, 1.0, 1.0, 1.44, 0.2),  # (1 + d)^2
        (1.0, 1.0, 1.0, 0.64, -0.2),
        (1.0, 1.0, 1.0, 1.0, 0.0),
        (4.0, 1.0, 0.5, 4.205, 0.1),  # 4 + 2 d + d^2 / 2
        (1e-4, 5e-5, 1e-4, 1.12e-4, 0.10828),  # hardly any texture
        (1.0, 1.0, 1.0, 100.0, MAX_DETAIL),
        (1.0, 1.0, 1.0, 1e-6, -MAX_DETAIL),
        (1.0, 0.1, 1.0, 100.0, MAX_DETAIL),
    ],
)
def test_the_detail_at_which_the_energy_is_as_wanted(plain, both, added, wanted, expected):
    energies = [[plain, both, added]]
    assert answer(energies, [wanted]) == pytest.approx(PLATE_SHARE * expected, abs=2e-5)
    assert answer(energies * 5, [wanted] * 3) == pytest.approx(answer(energies, [wanted]))


def answer(energies, wanted, often=None):
    """The detail solved from rows that count alike, or of as many on both sides that count `often`."""
    ours, theirs = (np.ones(len(rows)) if often is None else np.array(often) for rows in (energies, wanted))
    return solve_detail(np.array(energies), ours, np.array(wanted), theirs)


def test_pictures_without_texture_say_nothing():
    flat, textured = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    assert answer([flat], [1.44]) == answer([textured], [0.0]) == 0
    assert answer([flat, textured], [0.0, 1.44]) == pytest.approx(PLATE_SHARE * 0.2, abs=2e-5)


def test_a_picture_full_of_leaves_does_not_speak_for_all():
    # Five pictures of walls and one with a thousand times their energy; the photos of leaves have a tenth less of it.
    wall_energies, leaves = [1.0, 1.0, 1.0], [1000.0, 1000.0, 1000.0]
    expected = (1.2**5 * 0.9) ** (1 / 6) - 1  # pictures count alike, by how many times crisper they should be
    found = answer([wall_energies] * 5 + [leaves], [1.44] * 5 + [810.0])
    assert found == pytest.approx(PLATE_SHARE * expected, abs=2e-5)
    # As often as they are drawn, that is.
    found = answer([wall_energies, leaves], [1.44, 810.0], [5, 1])
    assert found == pytest.approx(PLATE_SHARE * expected, abs=2e-5)


def test_the_finest_band_is_what_a_photo_shows_of_grain():
    stops = wall()
    fine = finest_band(grey(stops))
    assert fine.shape == (1, 1, 96, 128)
    # Slow changes of light aren't of it.
    ramp = torch.linspace(-1, 1, 128).expand_as(stops)
    torch.testing.assert_close(
        finest_band(grey(ramp.clamp(max=0)))[..., 2:60], torch.zeros(1, 1, 96, 58), atol=1e-3, rtol=0
    )
    # A photo shows nothing beyond white, hardly anything in the dark, and all in between.
    assert finest_band(grey(stops + 6)).abs().max() < 1e-5
    assert finest_band(grey(stops - 10)).std() < 0.1 * fine.std()
    torch.testing.assert_close(finest_band(grey(stops) * 1.25).std(), fine.std(), rtol=0.03, atol=0)
    assert finest_band(-grey(stops)).abs().max() < 1e-5
