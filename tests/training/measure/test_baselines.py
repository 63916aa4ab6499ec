import numpy as np
import pytest

from relightgan.core.colour import srgb_to_linear
from relightgan.core.errors import PhotoError
from relightgan.training.measure import baselines
from relightgan.training.measure.metrics import psnr, to_display
from relightgan.training.stops import to_stops


@pytest.fixture
def plate():
    """A textured, scene-linear picture, a little of it above 1."""
    random = np.random.default_rng(1)
    light = np.linspace(-4.0, 0.5, 96)[None, :, None] + np.linspace(-0.5, 0.5, 64)[:, None, None]
    return np.exp2(light + 0.3 * random.standard_normal((64, 96, 3))).astype(np.float32)


@pytest.fixture
def source_photos():
    random = np.random.default_rng(2)
    return [np.clip(0.35 + 0.1 * random.standard_normal((24, 32, 3)), 0, 1).astype(np.float32) for _ in range(4)]


@pytest.fixture
def target_photos():
    random = np.random.default_rng(3)
    centre = np.array([0.6, 0.5, 0.4])
    return [np.clip(centre + 0.05 * random.standard_normal((24, 32, 3)), 0, 1).astype(np.float32) for _ in range(4)]


def score(relit, truth):
    return psnr(to_display(relit), to_display(truth))


def test_pooled_statistics_are_those_of_all_pixels_together(source_photos):
    pool = baselines.pool_photos(iter(source_photos))
    together = np.concatenate(source_photos)
    stops = to_stops(srgb_to_linear(together)).reshape(-1, 3)
    assert pool.stops_mean == pytest.approx(stops.mean(axis=0), abs=1e-4)
    assert pool.stops_deviation == pytest.approx(stops.std(axis=0), abs=1e-4)
    assert pool.histogram.sum(axis=1) == pytest.approx([1.0, 1.0, 1.0])


def test_no_photos_is_an_error():
    with pytest.raises(PhotoError, match="no photo"):
        baselines.pool_photos([])


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_a_transfer_gives_source_photos_the_target_dumps_look(name, source_photos, target_photos):
    source, target = baselines.pool_photos(source_photos), baselines.pool_photos(target_photos)
    relit = [baselines.BASELINES[name](srgb_to_linear(photo), source, target) for photo in source_photos]
    reached = to_display(np.concatenate(relit)).reshape(-1, 3)
    wanted = np.concatenate(target_photos).reshape(-1, 3)
    assert reached.mean(axis=0) == pytest.approx(wanted.mean(axis=0), abs=0.02)
    assert reached.std(axis=0) == pytest.approx(wanted.std(axis=0), rel=0.3)


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_a_transfer_between_equal_dumps_changes_next_to_nothing(name, plate, source_photos):
    pool = baselines.pool_photos(source_photos)
    inner = np.clip(plate, srgb_to_linear(np.float32(0.15)), srgb_to_linear(np.float32(0.55)))
    assert baselines.BASELINES[name](inner, pool, pool) == pytest.approx(inner, abs=0.01)


def test_a_dump_of_one_flat_colour_carries_its_mean_only(plate):
    flat = baselines.pool_photos([np.full((4, 4, 3), 0.5, np.float32)])
    assert np.isfinite(baselines.transfer_lab(plate, flat, flat)).all()
    assert baselines.transfer_stops(plate, flat, flat) == pytest.approx(plate, rel=1e-3, abs=1e-4)


def test_display_transfers_clip_highlights_and_the_one_in_stops_keeps_their_order(source_photos, target_photos):
    ramp = np.repeat(np.float32([1.0, 2.0, 4.0])[None, :, None], 3, axis=2)
    source, target = baselines.pool_photos(source_photos), baselines.pool_photos(target_photos)
    assert (np.diff(baselines.transfer_stops(ramp, source, target), axis=1) > 0).all()
    for transfer in (baselines.transfer_lab, baselines.match_histogram):
        relit = transfer(ramp, source, target)
        assert relit.max() <= 1.0
        assert np.array_equal(relit[:, 0], relit[:, 2])


def mean_colour(pictures):
    """Features that need no network: four colours of a 2x2 raster, less their mean, so exposure hardly matters."""
    quarters = [[p[y::2, x::2].mean(axis=(0, 1)) for y in (0, 1) for x in (0, 1)] for p in halved(pictures)]
    return np.array(quarters, np.float32).reshape(len(pictures), -1)


def halved(pictures):
    for picture in pictures:
        rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
        yield picture[: 2 * rows, : 2 * columns].reshape(2, rows, 2, columns, 3).mean(axis=(1, 3))


def corner_photo(corner, light, seed=0):
    """A photo whose one bright corner says which view it is."""
    photo = 0.2 + 0.02 * np.random.default_rng(seed).standard_normal((24, 32, 3))
    photo[12 * (corner // 2) : 12 * (corner // 2) + 12, 16 * (corner % 2) : 16 * (corner % 2) + 16] += 0.3
    return np.clip(photo * light, 0, 1).astype(np.float32)


def test_the_nearest_photo_is_the_one_of_the_same_view_in_the_other_light():
    near = baselines.near_photos(
        [corner_photo(corner, 1.0) for corner in range(4)],
        [corner_photo(corner, [1.6, 1.2, 0.6], seed=1) for corner in (2, 0, 3, 1)],
        mean_colour,
    )
    plates = [srgb_to_linear(corner_photo(corner, 1.0, seed=2)) for corner in range(4)]
    assert [near.nearest(plate) for plate in plates] == [1, 3, 0, 2]
    relit = to_display(baselines.match_nearest(plates[0], near))
    wanted = corner_photo(0, [1.6, 1.2, 0.6], seed=1)
    assert relit.mean(axis=(0, 1)) == pytest.approx(wanted.mean(axis=(0, 1)), abs=0.01)
    assert np.abs(np.sort(relit[..., 0].ravel()) - np.sort(wanted[..., 0].ravel())).mean() < 0.005


def test_photos_are_embedded_a_few_at_a_time():
    sizes = []

    def embed(pictures):
        sizes.append(len(pictures))
        return mean_colour(pictures)

    near = baselines.near_photos(
        (corner_photo(n % 4, 1.0) for n in range(20)), (corner_photo(n % 4, 0.9) for n in range(17)), embed
    )
    assert sizes == [16, 4, 16, 1]
    assert near.histograms.shape == (17, 3, 256)
    assert near.histograms.sum() == 17 * 3 * 24 * 32


def test_the_nearest_of_no_photos_is_an_error():
    with pytest.raises(PhotoError, match="nearest"):
        baselines.near_photos([corner_photo(0, 1.0)], [], mean_colour)


def test_each_oracle_reaches_a_change_that_it_can_express(plate):
    inner = np.clip(plate, 0.02, 0.9)
    matrix = np.array([[0.7, 0.2, 0.0], [0.1, 0.6, 0.0], [0.0, 0.1, 0.6]], np.float32)
    graded = srgb_to_linear((to_display(inner) @ matrix + np.float32(0.03)).astype(np.float32))
    assert score(baselines.oracle_affine(inner, graded), graded) > 60
    assert score(baselines.oracle_lut(inner, graded), graded) > 45
    brighter = plate * np.float32([1.7, 1.2, 0.6])
    assert score(baselines.oracle_gain_grid(plate, brighter), brighter) > 45


def test_oracles_on_a_gain_that_varies_over_the_picture_are_ordered_matrix_lut_grid(plate):
    y, x = np.mgrid[:64, :96]
    gain = np.stack([np.sin(x / 20), np.cos(y / 15), np.sin((x + y) / 30)], axis=-1)
    truth = (plate * np.exp2(gain)).astype(np.float32)
    scores = [score(oracle(plate, truth), truth) for oracle in baselines.ORACLES.values()]
    assert score(plate, truth) < scores[0] < scores[1] < scores[2] - 5


def test_a_gain_grid_keeps_zero_negative_and_large_values(plate):
    odd = plate.copy()
    odd[0, :3] = [[0, 0, 0], [-0.1, -0.2, 0], [50, 60, 70]]
    relit = baselines.oracle_gain_grid(odd, 2 * odd)
    assert relit[0, 0].tolist() == [0, 0, 0]
    assert relit[0, 1, 0] < 0
    assert relit[0, 2] == pytest.approx(2 * odd[0, 2], rel=0.2)


def test_a_finer_table_is_never_worse(plate):
    truth = np.sqrt(np.abs(np.sin(6 * plate))).astype(np.float32)
    assert score(baselines.oracle_lut(plate, truth, 33), truth) > score(baselines.oracle_lut(plate, truth, 9), truth)
