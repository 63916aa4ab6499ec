import numpy as np
import pytest
import torch

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.backbones import load_backbone
from relightgan.training.matching import MatchingSettings, PointMatches
from relightgan.training.pairing import Pairs
from relightgan.training.targets import (
    MOST_STOPS,
    GainSamples,
    LazyImages,
    PatchTable,
    colours_at,
    log_ratio,
    measuring_work,
    pairs_to_match,
    partners_of,
    patch_samples,
    patch_table,
    point_samples,
    points_per_cell,
)


def in_sky(samples, skies):
    """Which samples lie in the sky of their photo, and which on its ground, a little away from the horizon."""
    sky, ground = np.zeros(len(samples), bool), np.zeros(len(samples), bool)
    for photo, mask in enumerate(skies):
        height, width = mask.shape
        x, y = (samples.xy[samples.of(photo)] * [width, height]).astype(int).T
        near = 20
        sky[samples.of(photo)] = mask[np.minimum(y + near, height - 1), x]
        ground[samples.of(photo)] = ~mask[np.maximum(y - near, 0), x]
    return sky, ground


def test_points_measure_the_ground_exactly(measured_days, painted_set):
    points = measured_days.gains.points
    assert measured_days.gains.verified_pairs == 6
    _, ground = in_sky(points, measured_days.skies)
    assert ground.sum() > 1000
    np.testing.assert_allclose(np.median(points.gain[ground], axis=0), painted_set.GROUND_STOPS, atol=0.05)
    assert np.percentile(np.abs(points.gain[ground] - painted_set.GROUND_STOPS), 95) < 0.1
    assert set(points.weight.tolist()) == {1.0}


def test_patches_measure_a_plain_sky_that_has_no_points(measured_days, painted_set):
    sky, _ = in_sky(measured_days.gains.points, measured_days.skies)
    assert sky.sum() < 10
    patches = measured_days.gains.patches
    sky, ground = in_sky(patches, measured_days.skies)
    for photo in range(6):
        of_photo = np.zeros(len(patches), bool)
        of_photo[patches.of(photo)] = True
        found = patches.gain[sky & of_photo]
        assert len(found) > 40
        np.testing.assert_allclose(np.median(found, axis=0), painted_set.SKY_STOPS, atol=0.06)
        assert np.percentile(np.abs(found - painted_set.SKY_STOPS), 90) < 0.15
    # Where there are exact points patches have less to say, and coarse ones on texture may be wrong by more.
    assert patches.weight[sky].mean() > 3 * patches.weight[ground].mean()
    np.testing.assert_allclose(np.median(patches.gain[ground], axis=0), painted_set.GROUND_STOPS, atol=0.25)
    assert 0.0 < patches.weight.min() <= patches.weight.max() <= 1.0


def test_samples_carry_their_own_photos_colour(measured_days):
    for samples in (measured_days.gains.points, measured_days.gains.patches):
        assert len(samples.first) == 7
        assert samples.first[-1] == len(samples.xy) == len(samples.plate) == len(samples.gain) == len(samples.weight)
        for photo in range(6):
            linear = srgb_to_linear(measured_days.first.image(photo))
            height, width = linear.shape[:2]
            where = samples.of(photo)
            x, y = (samples.xy[where] * [width, height]).astype(int).T
            near = linear[y, x]
            assert np.corrcoef(samples.plate[where].ravel(), near.ravel())[0, 1] > 0.8
            assert np.median(np.abs(samples.plate[where] - near)) < 0.03


def test_progress_counts_what_was_announced(measured_days):
    assert measured_days.steps == measuring_work(6, 6, measured_days.pairs, MatchingSettings())
    assert measuring_work(6, 6, measured_days.pairs, MatchingSettings(enabled=False)) == 12
    assert measuring_work(6, 6, measured_days.pairs, MatchingSettings(max_pairs=2)) == 6 + 6 + 2 + 12


def test_every_photos_nearest_partner_is_matched_before_anybodys_second():
    similarity = np.float32([0.9, 0.8, 0.7, 0.3, 0.2])
    pairs = Pairs(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1]), similarity, np.full(5, 0.2))
    assert pairs_to_match(pairs, MatchingSettings(partners=1)).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]
    assert pairs_to_match(pairs, MatchingSettings(max_pairs=2)).tolist() == [[0, 0], [0, 1]]
    assert len(pairs_to_match(pairs, MatchingSettings())) == 5
    assert len(pairs_to_match(pairs, MatchingSettings(enabled=False))) == 0


def flat(painted_set, *colours):
    """A bank of plain photos of these linear colours."""
    return painted_set.PaintedBank(
        [linear_to_srgb(np.full((40, 60, 3), 1, np.float32) * np.float32(c)) for c in colours]
    )


def matches_of(a, b, xy=(0.5, 0.5)):
    places = np.tile(np.float32(xy), (len(a), 1))
    return PointMatches(np.array(a), np.array(b), places, places, 1)


def test_clipped_places_and_mismatches_are_left_out(painted_set):
    first = flat(painted_set, [0.4] * 3, [0.99, 0.4, 0.4], [0.9] * 3)
    second = flat(painted_set, [0.2] * 3, [0.4, 0.4, 1.0], [0.0] * 3)
    samples = point_samples(first, second, matches_of([0, 1, 0, 2], [0, 0, 1, 2]))
    assert len(samples) == 1  # clipped on the first day; clipped on the second; from 0.9 to black
    assert samples.first.tolist() == [0, 1, 1, 1]
    np.testing.assert_allclose(samples.gain[0], np.log2((0.2 + 2**-7) / (0.4 + 2**-7)), atol=1e-4)
    assert np.abs(log_ratio(np.float32(0.0), np.float32(0.9))) > MOST_STOPS


def test_noise_in_the_dark_says_nothing_loud(painted_set):
    assert np.abs(log_ratio(np.float32([0.001, -0.001, 0.0]), np.float32([0.0, 0.0, 0.002]))).max() < 0.4


def test_the_way_back_has_the_opposite_gain(painted_set):
    first, second = flat(painted_set, [0.4, 0.2, 0.1]), flat(painted_set, [0.2, 0.2, 0.3], [0.3, 0.1, 0.1])
    matches = matches_of([0, 0], [1, 0])
    turned = PointMatches(matches.b, matches.a, matches.xy_b, matches.xy_a, matches.verified_pairs)
    there, back = point_samples(first, second, matches), point_samples(second, first, turned)
    assert back.first.tolist() == [0, 1, 2]
    np.testing.assert_allclose(back.gain, -there.gain[::-1], atol=1e-5)
    np.testing.assert_allclose(back.plate[1], [0.3, 0.1, 0.1], atol=1e-5)


def test_colours_are_read_at_pixel_centres_to_a_fraction_of_a_pixel(painted_set):
    ramp = np.zeros((50, 100, 3), np.float32)
    ramp[..., 0] = (np.arange(100) + 0.5) / 100  # linear red is x, green is y
    ramp[..., 1] = (np.arange(50)[:, None] + 0.5) / 50
    places = np.float32([[0.3, 0.4], [0.505, 0.5], [0.81, 0.66]])
    bank = painted_set.PaintedBank([np.zeros((5, 5, 3), np.float32), linear_to_srgb(ramp)])
    found = colours_at(bank, np.array([1, 1, 1]), places)
    np.testing.assert_allclose(found[:, :2], places, atol=1e-4)


def test_a_place_at_the_very_edge_is_read_without_harm(painted_set):
    found = colours_at(flat(painted_set, [0.3, 0.2, 0.1]), np.array([0, 0]), np.float32([[0, 0], [1, 1]]))
    np.testing.assert_allclose(found, [[0.3, 0.2, 0.1]] * 2, atol=1e-5)


def unit(*rows):
    features = np.float32(rows)
    return torch.from_numpy(features / np.linalg.norm(features, axis=1, keepdims=True)).half()


def table(features, colours, raster):
    return PatchTable([features], [np.float32(colours)], [raster])


def gains_of(first, second, points=None, partners=(0,)):
    """Patch gains of one photo from one other."""
    return patch_samples(first, second, [np.array(partners, int)], points or no_points(), "cpu")


def no_points(xy=()):
    xy = np.float32(xy).reshape(-1, 2)
    ones = np.ones((len(xy), 3), np.float32)
    return GainSamples(np.array([0, len(xy)]), xy, ones, ones, ones[:, 0])


def test_a_patch_takes_the_median_of_those_that_resemble_it():
    first = table(unit([1, 0, 0], [0, 1, 0], [0, 0, 1]), [[0.4] * 3, [0.2] * 3, [0.2] * 3], (1, 3))
    # Nine like the first patch, of which the nearest has an odd colour; nine much like the second; none like the third.
    alike = np.full((9, 3), 0.1, np.float32)
    alike[0] = 0.9
    second = table(
        unit([1, 0, 0], *[[1, 0.1, 0]] * 8, *[[0.1, 0.5, -0.3]] * 9),
        [*alike, *np.full((9, 3), 0.35, np.float32)],
        (3, 6),
    )
    samples = gains_of(first, second)
    floor = 2.0**-7
    assert len(samples) == 2  # the third patch has nothing to say
    np.testing.assert_allclose(samples.xy, [[1 / 6, 0.5], [0.5, 0.5]], atol=1e-6)
    expected = np.log2([(0.1 + floor) / (0.4 + floor), (0.35 + floor) / (0.2 + floor)])
    np.testing.assert_allclose(samples.gain, np.repeat(expected[:, None], 3, axis=1), atol=1e-3)
    np.testing.assert_allclose(samples.plate, [[0.4] * 3, [0.2] * 3])


def test_a_patch_weighs_less_where_its_like_disagree_or_points_know_better():
    first = table(unit([1, 0], [1, 0]), [[0.4] * 3, [0.4] * 3], (1, 2))
    agreeing = table(unit(*[[1, 0]] * 8), np.full((8, 3), 0.2), (2, 4))
    disagreeing = table(unit(*[[1, 0]] * 8), np.repeat(np.linspace(0.02, 0.8, 8)[:, None], 3, axis=1), (2, 4))
    assert gains_of(first, agreeing).weight.tolist() == [1.0, 1.0]
    assert gains_of(first, disagreeing).weight.max() < 0.6
    known = no_points([[0.1, 0.5], [0.2, 0.5], [0.3, 0.1]])
    np.testing.assert_allclose(gains_of(first, agreeing, known).weight, [0.25, 1.0])


def test_a_photo_without_partners_gets_no_patch_gains():
    first = table(unit([1, 0]), [[0.4] * 3], (1, 1))
    samples = gains_of(first, first, partners=())
    assert len(samples) == 0
    assert samples.first.tolist() == [0, 0]
    assert samples.gain.shape == (0, 3)


def test_an_impossible_patch_gain_is_held():
    bright, black = table(unit([1, 0]), [[1.0] * 3], (1, 1)), table(unit([1, 0]), [[0.0] * 3], (1, 1))
    assert gains_of(bright, black).gain.min() == -MOST_STOPS
    assert gains_of(black, bright).gain.max() == MOST_STOPS


def test_patch_features_are_centred_over_the_folder_and_lie_with_their_colours(measured_days):
    steps = []
    bank = measured_days.first
    found = patch_table(load_backbone(), bank, "cpu", steps.append)
    assert steps == [1] * 6
    features = torch.cat(found.features).float()
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)), rtol=0, atol=5e-3)
    assert features.mean(dim=0).norm() < 0.3  # of patches that all show the same it would be 1; uncentred it is 0.7
    for photo in range(6):
        rows, columns = found.raster[photo]
        assert (rows, columns) == (14, 18)
        assert found.features[photo].shape[0] == rows * columns == len(found.colours[photo])
        left_top = srgb_to_linear(bank.image(photo))[:12, :13].mean(axis=(0, 1))  # about one patch of 180 x 240
        np.testing.assert_allclose(found.colours[photo][0], left_top, rtol=0.05)


def test_points_are_counted_in_the_cell_they_lie_in():
    xy = np.float32([[0.1, 0.1], [0.9, 0.1], [0.95, 0.2], [1.0, 1.0], [0.0, 0.0], [0.5, 0.99]])
    assert points_per_cell(xy, rows=2, columns=3).tolist() == [2, 0, 2, 0, 1, 1]
    assert points_per_cell(np.zeros((0, 2), np.float32), 2, 3).tolist() == [0] * 6


def test_partners_are_listed_for_every_photo_of_a_side():
    pairs = Pairs(np.array([0, 0, 2]), np.array([3, 1, 1]), np.float32([0.2, 0.7, 0.5]), np.full(3, 1 / 3))
    assert [found.tolist() for found in partners_of(pairs, 3, "a", most=12)] == [[1, 3], [], [1]]
    assert [found.tolist() for found in partners_of(pairs, 4, "b", most=1)] == [[], [0], [], [0]]


def test_photos_are_read_one_by_one_as_they_are_asked_for():
    class Counting:
        def __init__(self):
            self.asked = []

        def __len__(self):
            return 3

        def image(self, index):
            self.asked.append(index)
            return np.full((2, 2, 3), index, np.float32)

    bank = Counting()
    images = LazyImages(bank)
    assert len(images) == 3
    assert bank.asked == []
    assert [float(image.max()) for image in images] == [0.0, 1.0, 2.0]
    assert bank.asked == [0, 1, 2]


@pytest.mark.parametrize("days", ["first", "second"])
def test_measuring_leaves_the_photos_alone(measured_days, painted_set, days):
    fresh = dict(zip(("first", "second"), painted_set.painted_days()[:2], strict=True))[days]
    for photo in range(6):
        np.testing.assert_array_equal(getattr(measured_days, days).image(photo), fresh.image(photo))
