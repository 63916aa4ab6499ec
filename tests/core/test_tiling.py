import numpy as np
import pytest

from relightgan.core.errors import UsageError
from relightgan.core.tiling import run_tiled, tiles

SHAPES = [
    # height, width, tile, overlap, multiple
    (100, 100, 64, 8, 1),
    (97, 301, 64, 5, 1),
    (64, 1000, 64, 31, 1),
    (128, 160, 64, 8, 16),
    (48, 32, 64, 8, 1),
    (65, 64, 64, 3, 1),
    (1, 300, 64, 8, 1),
]


def box_blur(radius):
    """A mean over (2r+1)^2 pixels with zeros around the picture, as a convolution pads; float64 makes sums exact."""

    def blur(image):
        padded = np.pad(image.astype(np.float64), ((0, 0), (radius, radius), (radius, radius)))
        views = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1), axis=(1, 2))
        return views.mean(axis=(-2, -1)).astype(np.float32)

    return blur


@pytest.mark.parametrize(("height", "width", "tile_px", "overlap_px", "multiple"), SHAPES)
def test_inner_parts_cover_each_pixel_once_with_their_context(height, width, tile_px, overlap_px, multiple):
    covered = np.zeros((height, width), int)
    for tile in tiles(height, width, tile_px, overlap_px, multiple):
        outer, inner = tile.outer, tile.inner
        covered[inner.slices] += 1
        assert max(outer.y1 - outer.y0, outer.x1 - outer.x0) <= tile_px
        for low, high, inner_low, inner_high, end in (
            (outer.y0, outer.y1, inner.y0, inner.y1, height),
            (outer.x0, outer.x1, inner.x0, inner.x1, width),
        ):
            assert low % multiple == high % multiple == 0
            assert low == 0 or inner_low - low >= overlap_px
            assert high == end or high - inner_high >= overlap_px
            assert high - low == min(tile_px // multiple * multiple, end)
    assert (covered == 1).all()


@pytest.mark.parametrize("tile_px", [24, 40, 64, 500])
def test_tiles_with_enough_overlap_equal_the_whole(tile_px):
    image = np.random.default_rng(1).random((3, 75, 110), dtype=np.float32)
    blur = box_blur(5)
    np.testing.assert_array_equal(run_tiled(blur, image, tile_px, 5), blur(image))


def test_too_little_overlap_is_seen_so_the_test_above_means_something():
    image = np.random.default_rng(1).random((3, 75, 110), dtype=np.float32)
    blur = box_blur(5)
    assert np.abs(run_tiled(blur, image, 40, 3) - blur(image)).max() > 0.05


@pytest.mark.parametrize("tile_px", [None, 32])
def test_odd_sizes_are_padded_by_reflection_and_cropped_again(tile_px):
    seen = []

    def note(image):
        seen.append(image)
        return image * 2

    image = np.random.default_rng(2).random((3, 37, 53), dtype=np.float32)
    result = run_tiled(note, image, tile_px, 4, 8)
    np.testing.assert_array_equal(result, image * 2)
    assert all(part.shape[1] % 8 == part.shape[2] % 8 == 0 for part in seen)
    if tile_px is None:
        np.testing.assert_array_equal(seen[0][:, 37:, :53], image[:, 35:32:-1])


def test_a_picture_of_one_pixel_can_be_padded():
    np.testing.assert_array_equal(run_tiled(lambda image: image, np.ones((3, 1, 1), np.float32), None, 0, 16), 1)


def test_a_tile_too_small_for_its_overlap_says_how_large_it_must_be():
    with pytest.raises(UsageError, match=r"needs 32 px of context on each side.*at least 80 px"):
        tiles(160, 160, 64, 30, 16)


def test_the_function_may_change_the_number_of_channels():
    image = np.random.default_rng(3).random((3, 40, 40), dtype=np.float32)
    result = run_tiled(lambda part: part.mean(axis=0, keepdims=True), image, 16, 2)
    np.testing.assert_array_equal(result, image.mean(axis=0, keepdims=True))
