import dataclasses

import cv2
import numpy as np
import pytest
import torch

from relightgan.core.colour import srgb_to_linear
from relightgan.training.fit.batches import TrainingData, draw_photos
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.pairs.pairing import Pairs
from relightgan.training.pairs.patch_gains import GainSamples
from relightgan.training.relight.gain_grid import Operators, gain_at, pixel_positions
from relightgan.training.relight.lessons import (
    HUBER_WIDTH,
    MAX_LINEAR,
    MIN_WEIGHT,
    PICTURE_SCALE,
    STOPS_SHARE,
    WHITE_STOPS,
    Lesson,
    brightened,
    guided_lesson,
    lesson_loss,
    measured_lesson,
    missed_stops,
    relit_stops,
)
from relightgan.training.stops import CLIPPED, DARK_FLOOR
from relightgan.training.torch_colour import decode_srgb, encode_srgb

RASTER = (24, 32)  # of maps: landscape, whatever shape the photos have
WHOLE = np.float64([[[1, 0, 0], [0, 1, 0]]])  # a crop of the whole photo


class Places:
    """Photos whose red and green are each pixel's own x and y, 0..1 from edge to edge."""

    def __init__(self, sizes):
        self.photos = [self.places(*size) for size in sizes]

    @staticmethod
    def places(height, width):
        x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
        return np.stack([x, y, np.full_like(x, 0.5)], axis=-1).astype(np.float32)

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return self.photos[index]


def maps_of(colour, weight=1.0, photo=None):
    """Maps of (n, h, w, 3) stops and weights that broadcast to them, as they are stored."""
    weight = np.broadcast_to(np.asarray(weight, np.float16), colour.shape[:3]).copy()
    photo = np.arange(len(colour)) if photo is None else np.asarray(photo)
    return GuidanceMaps(photo, colour.astype(np.float16), weight)


def stops_at(x, y, row=0):
    """A field that is straight in x and in y, so that sampling it makes no error; another one for each row."""
    return np.stack([-2 + 0.9 * x + 0 * y, -2 + 0.9 * y + 0 * x, -1.9 + 0.5 * x - 0.4 * y + 0.3 * row], axis=-1)


def field(rows):
    """(rows, h, w, 3) the field on the maps' raster."""
    places = Places.places(*RASTER).astype(float)
    return np.stack([stops_at(places[..., 0], places[..., 1], row) for row in range(rows)])


def lesson_of(plate, wanted, weight=1.0):
    """A lesson of one crop with places in a row: (P, 3) linear and (P, 3) linear wanted colours."""
    plate, wanted = (torch.as_tensor(values, dtype=torch.float32).T[None, :, None] for values in (plate, wanted))
    position = torch.full((1, 1, plate.shape[-1], 2), 0.5)
    weight = torch.as_tensor(weight, dtype=torch.float32).expand(plate.shape[-1]).view(1, 1, 1, -1)
    return Lesson(position, plate, torch.log2(wanted + DARK_FLOOR), weight)


def grey(*levels):
    return [[level] * 3 for level in levels]


def loss_and_slope(lesson, stops):
    """The loss of one gain for all, and its gradient to each place's gain."""
    gain = torch.zeros_like(lesson.plate).add(stops).requires_grad_()
    loss = lesson_loss(lesson, gain)
    loss.backward()
    return loss.item(), gain.grad


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (32, 80)])
def test_a_guided_lesson_lies_where_the_crop_shows_it(size):
    # A photo per shape, upright ones too; what a crop shows says where it lies, and so what is wanted there.
    bank = Places([(180, 240), (240, 135), (97, 97), (427, 283)])
    maps = maps_of(field(3), photo=[0, 1, 3])
    rows = np.array([0, 1, 2] * 6)
    rng = np.random.default_rng(0)
    crops, matrices = draw_photos(rng, bank, maps.photo[rows], size)
    lesson = guided_lesson(maps, rows, matrices, crops)
    assert lesson.wanted.shape == lesson.plate.shape == (18, 3, size[0] // 2, size[1] // 2)
    assert lesson.weight.shape == (18, 1, *lesson.plate.shape[2:])
    assert {part.dtype for part in vars(lesson).values()} == {torch.float32}
    assert (lesson.weight == 1).all()
    x, y = lesson.plate[:, 0].double().numpy(), lesson.plate[:, 1].double().numpy()
    inside = (np.minimum(x, 1 - x) > 0.04) & (np.minimum(y, 1 - y) > 0.05)  # the outermost half pixel is held
    assert inside.mean() > 0.85
    for row, wanted in enumerate(lesson.wanted.permute(0, 2, 3, 1).numpy()):
        expected = stops_at(x[row], y[row], rows[row])
        # Half a map's pixel off would be 0.014, half a lesson's place up to 0.014; float16 rounds by 0.0005.
        assert np.abs(wanted - expected)[inside[row]].max() < 0.004
        in_photo = lesson.position[row].double().numpy() @ matrices[row][:, :2].T + matrices[row][:, 2]
        assert np.abs(in_photo - np.stack([x[row], y[row]], axis=-1))[inside[row]].max() < 0.002


def test_crops_that_reach_over_the_edge_are_guided_by_what_they_show_there():
    # Where a rolled crop leaves its photo it shows the photo's mirror image, and so do the maps.
    bank = Places([(180, 240)])
    roll = np.radians(6.0)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    pixels = turn @ np.diag([240.0, 180.0])
    linear = pixels / np.array([[240.0], [180.0]])
    matrix = np.concatenate([linear, (0.5 - linear @ [0.5, 0.5])[:, None]], axis=1)
    start = matrix[:, 2] * [240, 180]
    coordinates = np.concatenate([pixels / [64, 48], (start + pixels @ [0.5 / 64, 0.5 / 48] - 0.5)[:, None]], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(bank[0], coordinates, (64, 48), flags=flags, borderMode=cv2.BORDER_REFLECT)
    lesson = guided_lesson(maps_of(field(1)), np.zeros(1, int), matrix[None], torch.tensor(crop).permute(2, 0, 1)[None])
    over = (lesson.position[0].numpy() @ matrix[:, :2].T + matrix[:, 2] < -0.01).any(axis=-1)
    assert over.sum() > 5
    expected = stops_at(*lesson.plate[0, :2].double().numpy())
    assert np.abs(lesson.wanted[0].permute(1, 2, 0).numpy() - expected)[over].max() < 0.03


def test_weights_fade_as_the_maps_do_and_what_is_unknown_stays_so():
    x, y = Places.places(*RASTER)[..., 0], Places.places(*RASTER)[..., 1]
    weight = np.where(y < 0.5, 0.0, x)[None]
    crops = torch.full((1, 3, 48, 64), 0.3)
    lesson = guided_lesson(maps_of(field(1), weight), np.zeros(1, int), WHOLE, crops)
    shown = lesson.weight[0, 0].numpy()
    places = lesson.position[0].numpy()
    assert not shown[places[..., 1] < 0.47].any()
    below = places[..., 1] > 0.53
    known = below & (places[..., 0] > 0.1)
    np.testing.assert_allclose(shown[known], places[..., 0][known], atol=0.01)
    faint = below & (places[..., 0] < MIN_WEIGHT - 0.02)
    assert faint.any()
    assert not shown[faint].any()
    assert torch.isfinite(lesson.wanted).all()
    nothing = guided_lesson(maps_of(field(1), 0.0), np.zeros(1, int), WHOLE, crops)
    assert not nothing.weight.any()
    loss, slope = loss_and_slope(nothing, 2.0)
    assert loss == 0.0
    assert not slope.any()


@pytest.mark.parametrize("stored", [0.0, -60.0, 60.0])
def test_a_hole_never_leaks_colour(stored):
    # Maps hold 0 in holes, which is white; whatever they hold, the places around a hole know only their own colours.
    colour, weight = np.full((1, *RASTER, 3), -3.0), np.ones((1, *RASTER))
    colour[:, 8:15, 10:21], weight[:, 8:15, 10:21] = stored, 0.0
    rng = np.random.default_rng(3)
    rows = np.zeros(12, int)
    crops, matrices = draw_photos(rng, Places([(180, 240)]), rows, (96, 128))
    lesson = guided_lesson(maps_of(colour, weight), rows, matrices, crops)
    known = lesson.weight > 0
    torch.testing.assert_close(lesson.wanted[known.expand_as(lesson.wanted)].mean(), torch.tensor(-3.0))
    assert (lesson.wanted[known.expand_as(lesson.wanted)] + 3).abs().max() < 1e-4
    assert 0 < (lesson.weight == 0).float().mean() < 0.5
    fading = known & (lesson.weight < 0.99)
    assert fading.float().mean() > 0.005  # there are places at the hole's edge


def test_the_stored_edge_of_what_was_clipped_still_means_at_least():
    # Through float16 and resampling, a map of exactly the first clipped value must not become a known one.
    colour = np.full((1, *RASTER, 3), np.log2(CLIPPED + DARK_FLOOR))
    rows = np.zeros(6, int)
    crops, matrices = draw_photos(np.random.default_rng(0), Places([(180, 240)]), rows, (48, 64))
    lesson = guided_lesson(maps_of(colour, 0.7), rows, matrices, crops)
    assert (lesson.wanted >= WHITE_STOPS).all()


def test_measured_gains_lie_where_the_crop_shows_them(measured_days):
    days = measured_days
    data = TrainingData(days.first, days.second, days.pairs)
    rng = np.random.default_rng(0)
    batch = data.draw(rng, 8, (120, 160))
    lesson = measured_lesson(days.gains, batch.index_a, batch.matrix_a, rng, 50)
    assert [tuple(part.shape) for part in vars(lesson).values()] == [
        (8, 1, 50, 2), (8, 3, 1, 50), (8, 3, 1, 50), (8, 1, 1, 50),
    ]  # fmt: skip
    assert (lesson.weight > 0).all()
    for row in range(8):
        # A sample is the mean of a patch of the photo, about 11 pixels wide here.
        crop = cv2.blur(srgb_to_linear(batch.a[row].permute(1, 2, 0).numpy()), (11, 11))
        x, y = (lesson.position[row, 0].numpy() * [160, 120] - 0.5).astype(np.float32).T
        there = cv2.remap(crop, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        assert np.corrcoef(there.ravel(), lesson.plate[row, :, 0].T.numpy().ravel())[0, 1] > 0.9


class Flat:
    """Photos of one colour each."""

    def __init__(self, levels):
        self.levels = levels

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, index):
        return np.full((60, 80, 3), self.levels[index], np.float32)


def test_measured_gains_belong_to_their_places_and_photos():
    # Three photos; the middle one has no sample, and the last only one, in a corner that crops may miss.
    xy = np.random.default_rng(0).random((41, 2)).astype(np.float32)
    xy[40] = 0.01
    gain = np.concatenate([xy, np.ones((41, 1), np.float32)], axis=1)  # says where it was measured
    weight = np.linspace(0.1, 0.9, 41, dtype=np.float32)
    samples = GainSamples(np.array([0, 40, 40, 41]), xy, np.full((41, 3), 0.25, np.float32), gain, weight)
    pairs = Pairs(np.arange(3), np.zeros(3, np.int64), np.ones(3, np.float32), np.full(3, 1 / 3))
    batch = TrainingData(Flat([0.2, 0.4, 0.6]), Flat([0.5]), pairs).draw(np.random.default_rng(1), 30, 16)
    lesson = measured_lesson(samples, batch.index_a, batch.matrix_a, np.random.default_rng(2), 20)
    for row, photo in enumerate(batch.index_a):
        position = lesson.position[row, 0].numpy()
        if photo == 1:
            assert not lesson.weight[row].any()
            continue
        if photo == 2 and not lesson.weight[row].any():
            continue
        in_photo = position @ batch.matrix_a[row][:, :2].T + batch.matrix_a[row][:, 2]
        brighter = (lesson.wanted - torch.log2(lesson.plate + DARK_FLOOR))[row, :2, 0].T
        np.testing.assert_allclose(in_photo, brighter, atol=1e-5)
        assert ((position > 0) & (position < 1)).all()
        at = [int(np.argmin(((xy - place) ** 2).sum(axis=1))) for place in in_photo]
        assert {40} == set(at) if photo == 2 else 40 not in at
        np.testing.assert_allclose(lesson.weight[row, 0, 0], weight[at])
    assert not lesson.weight[[*batch.index_a].index(2)].any()
    loss, slope = loss_and_slope(
        Lesson(*(part[[*batch.index_a].index(1)][None] for part in vars(lesson).values())), 1.0
    )
    assert loss == 0.0
    assert not slope.any()


def test_a_grid_that_has_the_wanted_gains_has_no_loss():
    stops = torch.tensor([1.0, -0.5, 0.25])
    grid = stops.repeat_interleave(4).view(1, 12, 1, 1).expand(2, 12, 4, 6)
    guide = torch.tensor([0.5, -0.25]).view(1, 2, 1, 1).expand(2, 2, 8, 12)
    operators = Operators(
        grid,
        torch.full((2, 1, 1, 1), -2.0),
        doubt=torch.zeros(2, 1, 2, 3),
        guide=guide,
        white=torch.zeros(2, 1, 1, 1),
        rolloff=torch.zeros(2, 1, 4, 6),
    )
    plate = torch.rand((2, 3, 5, 7), generator=torch.Generator().manual_seed(0)) * 0.4
    position = pixel_positions(5, 7, torch.tensor([0.0, 0.0, 1.0, 1.0])).expand(2, 5, 7, 2)
    wanted = torch.log2(plate * torch.exp2(stops.view(1, 3, 1, 1)) + DARK_FLOOR)
    lesson = Lesson(position, plate, wanted, torch.ones(2, 1, 5, 7))
    assert lesson_loss(lesson, gain_at(operators, plate, position, 4)) < 1e-5
    off = [lesson_loss(lesson, gain_at(operators._replace(grid=grid + by), plate, position, 4)) for by in (-1.0, 1.0)]
    assert 0.1 < min(off) < max(off) < 2.0
    # Places without weight have no say.
    wrong = dataclasses.replace(lesson, wanted=lesson.wanted.clone(), weight=lesson.weight.clone())
    wrong.wanted[:, :, 2:], wrong.weight[:, :, 2:] = -1.0, 0.0
    assert lesson_loss(wrong, gain_at(operators, plate, position, 4)) < 1e-5


def test_places_count_by_their_weight():
    good, bad = grey(0.2), grey(0.4)
    alone = [lesson_loss(lesson_of(grey(0.2), wanted), torch.zeros(1, 3, 1, 1)) for wanted in (good, bad)]
    both = lesson_loss(lesson_of(grey(0.2, 0.2), good + bad, torch.tensor([0.6, 0.2])), torch.zeros(1, 3, 1, 2))
    torch.testing.assert_close(both, 0.75 * alone[0] + 0.25 * alone[1])


def test_what_was_clipped_may_be_any_brighter_but_no_darker():
    lesson = lesson_of(grey(0.5), grey(1.0))
    for stops in (1.0, 1.5, 6.0):
        loss, slope = loss_and_slope(lesson, stops)
        assert loss == pytest.approx(0.0, abs=1e-6)
        assert not slope.any() or stops == 1.0
        assert missed_stops(lesson, relit_stops(lesson, torch.full((1, 3, 1, 1), stops))).abs().max() < 1e-6
    for stops in (0.9, 0.0, -6.0):
        loss, slope = loss_and_slope(lesson, stops)
        assert loss > 0.001
        assert (slope < 0).all()  # more gain is wanted
    # Each colour for itself: a clipped red says nothing against more red, and nothing in favour of more blue.
    loss, slope = loss_and_slope(lesson_of(grey(0.5), [[1.0, 0.5, 0.5]]), 1.5)
    assert slope[0, 0, 0, 0] == 0
    assert (slope[0, 1:] > 0).all()
    # Just below it was seen, and is to be met.
    assert (loss_and_slope(lesson_of(grey(0.5), grey(CLIPPED - 0.01)), 1.5)[1] > 0).all()


def test_a_clipped_plate_that_is_shown_brighter_keeps_what_is_wanted():
    lesson = lesson_of(grey(1.0, 0.3), grey(0.5, 0.15))
    added = torch.tensor([0.8, 0.0]).view(1, 1, 1, 2)
    shown = brightened(lesson, added)
    assert torch.equal(shown.wanted, lesson.wanted)
    torch.testing.assert_close(shown.plate[0, 0, 0], torch.tensor([2**0.8, 0.3]))
    assert lesson_loss(lesson, torch.full((1, 3, 1, 2), -1.0)) < 1e-5
    assert lesson_loss(shown, torch.full((1, 3, 1, 2), -1.0)) > 0.1
    assert lesson_loss(shown, -1.0 - added.expand(1, 3, 1, 2)) < 1e-5


def test_the_picture_s_error_grows_with_its_square_and_then_straight():
    wanted = torch.tensor(0.01)

    def picture_loss(error):
        """Of a relit grey whose sRGB code value is off by so much, without the share of stops."""
        shown = decode_srgb(encode_srgb(wanted) + error)
        lesson = lesson_of(grey(0.2), grey(wanted.item()))
        gain = torch.log2(shown / 0.2).expand(1, 3, 1, 1)
        missed = missed_stops(lesson, relit_stops(lesson, gain)).abs().mean()
        return (lesson_loss(lesson, gain) - STOPS_SHARE * missed).item()

    small, twice = picture_loss(0.02), picture_loss(0.04)
    assert small == pytest.approx(PICTURE_SCALE * 0.02**2, rel=0.03)
    assert twice == pytest.approx(4 * small, rel=0.05)
    large, larger, largest = (picture_loss(error) for error in (0.5, 0.6, 0.7))
    assert largest - larger == pytest.approx(larger - large, rel=0.02)
    assert larger - large == pytest.approx(2 * PICTURE_SCALE * HUBER_WIDTH * 0.1, rel=0.03)


def test_errors_in_the_dark_and_far_above_white_still_tell_the_way():
    deep = lesson_of(grey(0.001), grey(0.004))  # code values 0.013 and 0.045
    loss, slope = loss_and_slope(deep, 0.0)
    assert loss > 0.02
    assert (slope < 0).all()
    glaring = lesson_of(grey(1.0), grey(0.5))
    assert MAX_LINEAR < 2.0**3
    assert (loss_and_slope(glaring, 3.0)[1] > 0).all()
    assert loss_and_slope(glaring, 4.0)[0] > loss_and_slope(glaring, 3.0)[0]


def test_the_way_down_always_leads_towards_what_is_wanted():
    rng = np.random.default_rng(0)
    plate, wanted = (2.0 ** rng.uniform(-9, top, (400, 3)) for top in (1, -0.1))
    lesson = lesson_of(plate, wanted)
    for stops in (-6.0, -1.0, 0.0, 1.0, 6.0):
        gain = torch.full((1, 3, 1, 400), stops)
        missed = missed_stops(lesson, relit_stops(lesson, gain))
        _, slope = loss_and_slope(lesson, stops)
        assert torch.equal(slope.sign(), missed.sign())


def test_gradients_are_finite_at_black_at_white_and_at_the_largest_gains():
    levels = [-0.1, 0.0, 1e-7, DARK_FLOOR, 0.5, CLIPPED, 1.0, 2.0, 60.0]
    plate, wanted = (values.ravel() for values in np.meshgrid(levels, np.maximum(levels, 0)))
    lesson = lesson_of(*(np.repeat(values[:, None], 3, axis=1) for values in (plate, wanted)))
    for stops in (-6.0, 0.0, 6.0):
        loss, slope = loss_and_slope(lesson, stops)
        assert np.isfinite(loss)
        assert torch.isfinite(slope).all()
        black = lesson.plate <= 0
        assert not slope[black].any()  # no gain lights what has no light
        assert slope[~black].any()
