import numpy as np
import painted_set
import pytest
import torch

from relightgan.core.colour import srgb_to_linear
from relightgan.training.pairs.backbones import load_backbone
from relightgan.training.pairs.pairing import Pairs
from relightgan.training.pairs.patch_gains import MAX_GAIN_STOPS, PatchTable, partners_of, patch_samples, patch_table

pytestmark = pytest.mark.fits


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


def test_patches_measure_a_plain_sky_and_textured_ground(
    measured_days,
):
    patches = measured_days.gains
    sky, ground = in_sky(patches, measured_days.skies)
    for photo in range(6):
        of_photo = np.zeros(len(patches), bool)
        of_photo[patches.of(photo)] = True
        found = patches.gain[sky & of_photo]
        assert len(found) > 40
        np.testing.assert_allclose(np.median(found, axis=0), painted_set.SKY_STOPS, atol=0.06)
        assert np.percentile(np.abs(found - painted_set.SKY_STOPS), 90) < 0.15
    # Coarse patches on texture may be wrong by more.
    assert patches.weight[sky].mean() > patches.weight[ground].mean()
    np.testing.assert_allclose(np.median(patches.gain[ground], axis=0), painted_set.GROUND_STOPS, atol=0.25)
    assert 0.0 < patches.weight.min() <= patches.weight.max() <= 1.0


def test_samples_carry_their_own_photos_colour(measured_days):
    samples = measured_days.gains
    assert len(samples.first) == 7
    assert samples.first[-1] == len(samples.xy) == len(samples.plate) == len(samples.gain) == len(samples.weight)
    for photo in range(6):
        linear = srgb_to_linear(measured_days.first[photo])
        height, width = linear.shape[:2]
        where = samples.of(photo)
        x, y = (samples.xy[where] * [width, height]).astype(int).T
        near = linear[y, x]
        assert np.corrcoef(samples.plate[where].ravel(), near.ravel())[0, 1] > 0.8
        assert np.median(np.abs(samples.plate[where] - near)) < 0.03


def test_progress_counts_the_photos_of_both_days(measured_days):
    assert measured_days.steps == 6 + 6


def unit(*rows):
    embeddings = np.float32(rows)
    return torch.from_numpy(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).half()


def table(embeddings, colours, raster):
    return PatchTable([embeddings], [np.float32(colours)], [raster])


def gains_of(first, second, partners=(0,)):
    """Patch gains of one photo from one other."""
    return patch_samples(first, second, [np.array(partners, int)], "cpu")


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


def test_a_patch_weighs_less_where_its_like_disagree():
    first = table(unit([1, 0], [1, 0]), [[0.4] * 3, [0.4] * 3], (1, 2))
    agreeing = table(unit(*[[1, 0]] * 8), np.full((8, 3), 0.2), (2, 4))
    disagreeing = table(unit(*[[1, 0]] * 8), np.repeat(np.linspace(0.02, 0.8, 8)[:, None], 3, axis=1), (2, 4))
    assert gains_of(first, agreeing).weight.tolist() == [1.0, 1.0]
    assert gains_of(first, disagreeing).weight.max() < 0.6


def test_a_photo_without_partners_gets_no_patch_gains():
    first = table(unit([1, 0]), [[0.4] * 3], (1, 1))
    samples = gains_of(first, first, partners=())
    assert len(samples) == 0
    assert samples.first.tolist() == [0, 0]
    assert samples.gain.shape == (0, 3)


def test_an_impossible_patch_gain_is_held():
    bright, black = table(unit([1, 0]), [[1.0] * 3], (1, 1)), table(unit([1, 0]), [[0.0] * 3], (1, 1))
    assert gains_of(bright, black).gain.min() == -MAX_GAIN_STOPS
    assert gains_of(black, bright).gain.max() == MAX_GAIN_STOPS


def test_noise_in_the_dark_says_nothing_loud():
    dark, darker = (table(unit([1, 0]), [colour], (1, 1)) for colour in ([0.001, -0.001, 0.0], [0.0, 0.0, 0.002]))
    for samples in (gains_of(dark, darker), gains_of(darker, dark)):
        assert np.abs(samples.gain).max() < 0.4


def test_every_gain_belongs_to_its_own_photo():
    # Three photos of two patches; the middle one is paired with none, and in the last one patch is like nothing.
    alone, here = unit([1, 0, 0], [1, 0, 0]), unit([0, 1, 0], [1, 0, 0])
    first = PatchTable(
        [alone, alone, here], [np.full((2, 3), level, np.float32) for level in (0.1, 0.2, 0.4)], [(1, 2)] * 3
    )
    second = table(unit([1, 0, 0]), [[0.2] * 3], (1, 1))
    samples = patch_samples(first, second, [np.array([0]), np.zeros(0, int), np.array([0])], "cpu")
    assert samples.first.tolist() == [0, 2, 2, 3]
    np.testing.assert_allclose(samples.plate[:, 0], [0.1, 0.1, 0.4])
    np.testing.assert_allclose(samples.xy[samples.of(2)], [[0.75, 0.5]])
    assert (samples.gain[samples.of(0)] > 0.8).all()
    assert (samples.gain[samples.of(2)] < -0.8).all()


def test_patch_embeddings_are_centred_over_the_folder_and_lie_with_their_colours(measured_days):
    steps = []
    bank = measured_days.first
    found = patch_table(load_backbone(), bank, "cpu", steps.append)
    assert steps == [1] * 6
    embeddings = torch.cat(found.embeddings).float()
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)), rtol=0, atol=5e-3)
    assert embeddings.mean(dim=0).norm() < 0.3  # of patches that all show the same it would be 1; uncentred it is 0.7
    for photo in range(6):
        rows, columns = found.raster[photo]
        assert (rows, columns) == (14, 18)
        assert found.embeddings[photo].shape[0] == rows * columns == len(found.colours[photo])
        left_top = srgb_to_linear(bank[photo])[:12, :13].mean(axis=(0, 1))  # about one patch of 180 x 240
        np.testing.assert_allclose(found.colours[photo][0], left_top, rtol=0.05)


def test_partners_are_listed_for_every_source_photo():
    pairs = Pairs(np.array([0, 0, 2]), np.array([3, 1, 1]), np.float32([0.2, 0.7, 0.5]), np.full(3, 1 / 3))
    assert [found.tolist() for found in partners_of(pairs, 3, max_count=12)] == [[1, 3], [], [1]]
    assert [found.tolist() for found in partners_of(pairs, 3, max_count=1)] == [[1], [], [1]]


@pytest.mark.parametrize("days", ["first", "second"])
def test_measuring_leaves_the_photos_alone(measured_days, days):
    fresh = dict(zip(("first", "second"), painted_set.painted_days()[:2], strict=True))[days]
    for photo in range(6):
        np.testing.assert_array_equal(getattr(measured_days, days)[photo], fresh[photo])
