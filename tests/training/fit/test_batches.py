import numpy as np
import pytest
import torch

from relightgan.training.fit.batches import (
    MAX_ROLL_DEGREES,
    MIN_CROP_SHARE,
    TrainingData,
    draw_crop,
    sample_affine,
)
from relightgan.training.pairs.pairing import Pairs


def coordinates(height, width):
    """A photo whose red is each pixel's own x and green its y, in pixels with edges at whole numbers; blue is 1."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)


class Coordinates:
    """Photos of coordinates, of different sizes, with the photo's own number in blue."""

    def __init__(self, sizes, offset=0):
        self.photos = [
            coordinates(*size) * np.float32([1, 1, 0]) + np.float32([0, 0, i + offset]) for i, size in enumerate(sizes)
        ]

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return self.photos[index]


def expected(matrix, crop_size, photo_size):
    """Where the matrix says the crop's pixels lie, in photo pixels (h, w, 2), and which of them are well inside."""
    (h, w), (height, width) = crop_size, photo_size
    x, y = np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    xy = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T * [width, height]
    reach = 4.0  # a reduced pixel reads a little around its middle; at the photo's edge that is reflected
    inside = ((xy > reach) & (xy < np.array([width, height]) - reach)).all(axis=-1)
    return xy, inside


@pytest.mark.parametrize(
    ("photo_size", "crop_size"),
    [
        ((180, 240), (64, 96)),  # reduces by 1.5 to 2.5
        ((180, 240), (200, 150)),  # enlarges
        ((427, 283), (112, 64)),  # odd and upright; 2.3 to 3.8
        ((600, 800), (96, 128)),  # 3.75 to 6.25
        ((97, 97), (97, 97)),
        ((64, 300), (48, 48)),  # far wider than the crop
    ],
)
def test_the_matrix_says_where_every_pixel_of_a_crop_comes_from(photo_size, crop_size):
    rng = np.random.default_rng(0)
    photo, seen = coordinates(*photo_size), 0
    for _ in range(6):
        crop, matrix = draw_crop(rng, photo, crop_size)
        assert crop.shape == (*crop_size, 3)
        assert crop.dtype == np.float32
        xy, inside = expected(matrix, crop_size, photo_size)
        assert np.abs(crop[..., :2] - xy)[inside].max() < 0.02  # of a photo's pixel
        seen += inside.mean() / 6
    assert seen > 0.8


def test_crops_stay_upright_and_unmirrored_and_are_never_stretched():
    rng = np.random.default_rng(1)
    photo = coordinates(90, 160)
    zooms, rolls, middles = [], [], []
    for _ in range(300):
        _, matrix = draw_crop(rng, photo, (40, 60))
        pixels = np.diag([160, 90]) @ matrix[:, :2] @ np.diag([1 / 60, 1 / 40])  # crop pixels to photo pixels
        scale = np.sqrt(np.linalg.det(pixels))  # a mirrored crop has a negative determinant, and so no scale
        np.testing.assert_allclose(pixels.T @ pixels, scale**2 * np.eye(2), atol=1e-9)
        rolls.append(np.degrees(np.arctan2(pixels[1, 0], pixels[0, 0])))
        zooms.append(scale / (90 / 40))
        middles.append(matrix @ [0.5, 0.5, 1.0])
    assert np.abs(rolls).max() <= MAX_ROLL_DEGREES
    assert min(rolls) < -0.8 * MAX_ROLL_DEGREES
    assert max(rolls) > 0.8 * MAX_ROLL_DEGREES
    assert MIN_CROP_SHARE <= min(zooms) < 0.65
    assert 0.95 < max(zooms) <= 1.0
    middles = np.array(middles)
    assert middles.min() > 0.2
    assert middles.max() < 0.8
    assert middles[:, 0].std() > 0.08


def test_a_crop_that_reduces_averages_what_it_covers():
    # Every third column is bright: a point sampled per crop pixel would catch all of it or none.
    photo = np.zeros((300, 300, 3), np.float32)
    photo[:, ::3] = 0.9
    crop = sample_affine(photo, np.diag([300.0, 300.0]), np.zeros(2), (100, 100))
    np.testing.assert_allclose(crop, 0.3, atol=1e-5)
    reduced, _ = draw_crop(np.random.default_rng(0), photo, (64, 64))
    assert reduced.std() < 0.1 < photo.std()


def test_values_outside_0_to_1_survive_a_crop():
    crop, _ = draw_crop(np.random.default_rng(0), np.full((50, 70, 3), 7.5, np.float32) * [1, -0.1, 1e-3], (32, 32))
    np.testing.assert_allclose(crop, np.broadcast_to([7.5, -0.75, 0.0075], (32, 32, 3)), rtol=1e-5)


def data_of(sizes_a=((60, 80), (80, 60), (50, 90)), sizes_b=((70, 70), (44, 80))):
    pairs = Pairs(np.array([0, 1, 2]), np.array([1, 0, 1]), np.ones(3, np.float32), np.array([0.5, 0.3, 0.2]))
    return TrainingData(Coordinates(sizes_a), Coordinates(sizes_b, offset=10), pairs)


def test_a_batch_holds_the_paired_photos_row_by_row():
    data = data_of()
    batch = data.draw(np.random.default_rng(0), 40, (32, 48))
    assert batch.a.shape == batch.b.shape == (40, 3, 32, 48)
    assert batch.a.dtype == batch.b.dtype == torch.float32
    assert batch.a.is_contiguous()
    assert {*zip(batch.index_a.tolist(), batch.index_b.tolist(), strict=True)} == {(0, 1), (1, 0), (2, 1)}
    # Blue is the photo's number.
    torch.testing.assert_close(batch.a[:, 2].amax((1, 2)), torch.from_numpy(batch.index_a).float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        batch.b[:, 2].amin((1, 2)), torch.from_numpy(batch.index_b).float() + 10, atol=1e-4, rtol=0
    )
    for row in range(40):
        height, width = data.a[int(batch.index_a[row])].shape[:2]
        xy, inside = expected(batch.matrix_a[row], (32, 48), (height, width))
        found = batch.a[row, :2].permute(1, 2, 0).numpy()
        assert np.abs(found - xy)[inside].max() < 0.02


def test_the_same_random_state_gives_the_same_batch():
    first, again, other = (data_of().draw(np.random.default_rng(seed), 6, 32) for seed in (3, 3, 4))
    assert torch.equal(first.a, again.a)
    assert torch.equal(first.b, again.b)
    assert np.array_equal(first.matrix_a, again.matrix_a)
    assert np.array_equal(first.index_b, again.index_b)
    assert not torch.equal(first.a, other.a)


def test_pairs_are_drawn_as_often_as_they_should_be():
    numbers = data_of().pairs.draw(np.random.default_rng(0), 5000)
    np.testing.assert_allclose(np.bincount(numbers) / 5000, [0.5, 0.3, 0.2], atol=0.02)
