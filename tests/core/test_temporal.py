"""The temporal blend of corrections: what it averages, what it leaves alone."""

import numpy as np
import pytest

from relightgan.core.temporal import (
    Motion,
    Neighbour,
    blend_operators,
    distance_weight,
    resample,
    union,
    window_frames,
)

BOX = (0, 0, 320, 240)


def grid(seed: int, channels: int = 3, rows: int = 12, columns: int = 16) -> dict[str, np.ndarray]:
    return {"grid": np.random.default_rng(seed).normal(0, 1, (channels, rows, columns)).astype(np.float32)}


def motion(x: float = 0.0, y: float = 0.0, confidence: float = 1.0, box=BOX) -> Motion:
    """One motion everywhere, in frame pixels, on a raster of half the frame's size."""
    rows, columns = (box[3] - box[1]) // 2, (box[2] - box[0]) // 2
    flow = np.full((rows, columns, 2), (x / 2, y / 2), np.float32)
    return Motion(flow, np.full((rows, columns), confidence, np.float32), box)


def test_blend_nought_is_the_centre_itself():
    centre = grid(0)
    assert blend_operators(centre, BOX, [Neighbour(grid(1), BOX, 1, motion())], 0.0, 2) is centre


def test_no_neighbours_is_the_centre_itself():
    centre = grid(0)
    assert blend_operators(centre, BOX, [], 1.0, 2) is centre


def test_equal_corrections_of_a_still_plate_stay_as_they_are_to_the_bit():
    centre = grid(0)
    neighbours = [Neighbour(grid(0), BOX, d, motion()) for d in (1, 1, 2, 2)]
    np.testing.assert_array_equal(blend_operators(centre, BOX, neighbours, 1.0, 2)["grid"], centre["grid"])


def test_a_still_plate_gets_the_weighted_mean():
    centre, before, after = grid(0), grid(1), grid(2)
    blend, radius = 0.7, 2
    got = blend_operators(
        centre,
        BOX,
        [Neighbour(before, BOX, 1, motion()), Neighbour(after, BOX, 2, motion(confidence=0.5))],
        blend,
        radius,
    )
    w1, w2 = blend * distance_weight(1, radius), blend * distance_weight(2, radius) * 0.5
    want = (centre["grid"] + w1 * before["grid"] + w2 * after["grid"]) / (1 + w1 + w2)
    np.testing.assert_allclose(got["grid"], want, atol=1e-5)


def test_an_untrusted_neighbour_changes_nothing():
    centre = grid(0)
    got = blend_operators(centre, BOX, [Neighbour(grid(1), BOX, 1, motion(confidence=0.0))], 1.0, 1)
    np.testing.assert_array_equal(got["grid"], centre["grid"])


def test_corrections_are_carried_along_the_motion():
    centre = {"grid": np.zeros((1, 12, 16), np.float32)}
    other = {"grid": np.zeros((1, 12, 16), np.float32)}
    other["grid"][0, 5, 9] = 1.0  # a cell is 20 px; what is at cell 7 here is seen two cells to the right there
    got = blend_operators(centre, BOX, [Neighbour(other, BOX, 1, motion(x=40))], 1.0, 1)["grid"][0]
    peak = np.unravel_index(np.argmax(got), got.shape)
    assert peak == (5, 7)
    weight = distance_weight(1, 1)
    np.testing.assert_allclose(got[5, 7], weight / (1 + weight), rtol=1e-5)


def test_what_comes_from_outside_the_neighbour_is_left_out():
    centre, other = grid(0), grid(1)
    got = blend_operators(centre, BOX, [Neighbour(other, BOX, 1, motion(x=60))], 1.0, 1)["grid"]
    np.testing.assert_array_equal(got[:, :, -3:], centre["grid"][:, :, -3:])  # 60 px are three cells
    assert np.all(got[:, :, :-3] != centre["grid"][:, :, :-3])


def test_a_neighbour_with_another_data_window_is_read_at_the_same_points():
    # A correction that is linear over the frame is the same function whatever raster or window it is stored on.
    def ramp(box, rows, columns):
        x = box[0] + (np.arange(columns) + 0.5) * (box[2] - box[0]) / columns
        y = box[1] + (np.arange(rows) + 0.5) * (box[3] - box[1]) / rows
        return {"grid": (0.01 * x[None, :] - 0.02 * y[:, None])[None].astype(np.float32)}

    other_box = (-40, 20, 280, 260)
    centre = ramp(BOX, 12, 16)
    neighbour = Neighbour(ramp(other_box, 24, 16), other_box, 1, motion(box=union(BOX, other_box)))
    got = blend_operators(centre, BOX, [neighbour], 1.0, 1)["grid"]
    assert np.array_equal(got[:, 0, :], centre["grid"][:, 0, :])  # rows above y 20 aren't in the neighbour
    np.testing.assert_allclose(got[:, 2:-2, 2:-2], centre["grid"][:, 2:-2, 2:-2], atol=0.02)


def test_every_array_and_channel_count_is_blended():
    centre = {"grid": grid(0, 96, 4, 6)["grid"], "gain": grid(1, 3, 240, 320)["grid"]}
    other = {name: array + np.float32(1) for name, array in centre.items()}
    got = blend_operators(centre, BOX, [Neighbour(other, BOX, 1, motion())], 1.0, 1)
    weight = distance_weight(1, 1)
    for name, array in centre.items():
        np.testing.assert_allclose(got[name] - array, weight / (1 + weight), atol=1e-5)


def test_the_guide_stays_the_frames_own_to_the_bit_while_all_else_is_blended():
    # It says where the edges of this very frame are; between two frames it would draw those of neither.
    centre = {"grid": grid(0)["grid"], "guide": grid(1, 2, 24, 32)["grid"], "doubt": grid(2, 1)["grid"]}
    other = {"grid": grid(3)["grid"], "guide": grid(4, 2, 48, 16)["grid"], "doubt": grid(5, 1)["grid"]}
    before = centre["guide"].tobytes()
    neighbours = [Neighbour(other, BOX, distance, motion(x=x)) for distance, x in ((1, 0.0), (2, 40.0))]
    got = blend_operators(centre, BOX, neighbours, 1.0, 2)
    assert list(got) == ["grid", "guide", "doubt"]
    assert got["guide"].tobytes() == before == centre["guide"].tobytes()
    for name in ("grid", "doubt"):
        assert got[name].shape == centre[name].shape
        assert np.abs(got[name] - centre[name]).mean() > 0.1, name


@pytest.mark.parametrize(
    ("frame", "radius", "expected"),
    [(5, 2, [3, 4, 5, 6, 7]), (1, 2, [1, 2, 3]), (10, 3, [7, 8, 9, 10]), (5, 0, [5]), (1, 40, list(range(1, 11)))],
)
def test_the_window_is_symmetric_and_shrinks_at_the_ends(frame, radius, expected):
    assert window_frames(frame, 1, 10, radius) == expected


def test_nearer_frames_count_more_and_none_more_than_the_centre():
    weights = [distance_weight(d, 3) for d in range(5)]
    assert weights[0] == 1.0
    assert weights == sorted(weights, reverse=True)
    assert weights[4] == pytest.approx(np.exp(-1))


def test_resampling_to_the_same_place_and_size_changes_nothing():
    field = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    np.testing.assert_array_equal(resample(field, (0, 0, 8, 6), (0, 0, 8, 6), (6, 8)), field)


def test_resampling_a_part_reads_that_part():
    field = np.arange(48, dtype=np.float32).reshape(6, 8)
    np.testing.assert_allclose(resample(field, (0, 0, 8, 6), (2, 1, 6, 5), (4, 4)), field[1:5, 2:6], atol=1e-5)
    averages = field[2:6, 2:6].reshape(2, 2, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(resample(field, (0, 0, 8, 6), (2, 2, 6, 6), (2, 2)), averages, atol=1e-4)
