"""Depth and guidance on a small solid set whose cameras, depths and change of light are known exactly."""

import dataclasses

import numpy as np
import painted_set
import posed_set
import pytest
import torch

from relightgan.core.errors import Cancelled, ConfigError
from relightgan.core.progress import Cancellation
from relightgan.training.days import TARGET
from relightgan.training.guidance import making as guiding
from relightgan.training.guidance.making import Guidance, joined_enough, make_guidance
from relightgan.training.guidance.maps import GuidanceMaps, GuidanceSettings
from relightgan.training.guidance.observations import (
    Observations,
    badly_placed,
    best_observers,
    consensus,
    own_day_errors,
    photo_guidance,
    weighted_median,
)
from relightgan.training.stage import Stage
from relightgan.training.stops import DARK_FLOOR
from relightgan.training.world import depth, views
from relightgan.training.world.depth import batches, box_mean, depth_maps, neighbours
from relightgan.training.world.semi_global import aggregate_costs, best_plane
from relightgan.training.world.views import load_views, undistort

pytestmark = pytest.mark.fits

CPU = torch.device("cpu")
SETTINGS = GuidanceSettings(raster_px=96, planes=48, neighbours=4, looks=6)


@pytest.fixture(scope="module")
def scene():
    return posed_set.posed_set(painted_set.texture)


@pytest.fixture(scope="module")
def found(scene, tmp_path_factory):
    """Views, depths and which views may observe."""
    seen = load_views(scene.registration, scene.banks, SETTINGS.raster_px, CPU)
    neighbour_rows = neighbours(scene.registration, SETTINGS.neighbours)
    depths = depth_maps(
        seen, neighbour_rows, SETTINGS.neighbours, SETTINGS.planes, tmp_path_factory.mktemp("depth"), "key"
    )
    return seen, depths, np.ones(len(seen), bool)


def made(scene, folder, **words):
    folder.mkdir(exist_ok=True)
    ids = [f"photo {n}" for n in range(len(scene.registration.solve.photos))]
    return make_guidance(scene.registration, scene.banks, ids, SETTINGS, ["ab", "ba"], Stage(folder, CPU, **words))


def truth_of(scene, row, seen):
    """The true depth, face and place of the pixels of a view's raster, each (h, w, ...)."""
    height, width = seen.sizes[row]
    return scene.truth(row, int(height), int(width))


def test_depths_of_what_is_known_are_within_two_percent(scene, found):
    seen, depths, _ = found
    off, share = [], []
    for row in range(len(seen)):
        truth = truth_of(scene, row, seen)
        height, width = seen.sizes[row]
        surface = truth.face >= 0
        known = depths.known[row, :height, :width].numpy() & surface
        off.append(np.abs(depths.inverse[row, :height, :width].numpy()[known] * truth.depth[known] - 1))
        share.append(known.sum() / surface.sum())
    off = np.concatenate(off)
    assert np.median(off) < 0.02
    assert (off < 0.05).mean() > 0.9
    assert np.mean(share) > 0.5


def test_neighbours_are_of_the_same_day_and_stand_near(scene):
    chosen = neighbours(scene.registration, 3)
    solve, first = scene.registration.solve, scene.registration.counts[0]
    for row, others in enumerate(chosen):
        assert 2 <= len(others) <= 3
        assert row not in others
        assert ((solve.photos[others] >= first) == (solve.photos[row] >= first)).all()
        far = np.linalg.norm(solve.centres[others] - solve.centres[row], axis=1)
        day = np.nonzero((solve.photos >= first) == (solve.photos[row] >= first))[0]
        everybody = np.linalg.norm(solve.centres[day] - solve.centres[row], axis=1)
        assert far.mean() < everybody[everybody > 0].mean()


def test_guidance_is_what_the_other_day_shows_there(scene, found):
    seen, depths, usable = found
    for row, sign in ((2, 1), (len(seen) - 2, -1)):
        colour, weight = (part.numpy() for part in photo_guidance(seen, depths, row, usable, SETTINGS.looks))
        truth = truth_of(scene, row, seen)
        height, width = seen.sizes[row]
        own = seen.colour[row, :, :height, :width].permute(1, 2, 0).numpy()
        wanted = np.log2(own * np.exp2(sign * truth.stops) + DARK_FLOOR)
        sure = (weight > 0.5) & (truth.face >= 0)
        assert sure.mean() > 0.25
        assert np.median(np.abs(colour - wanted).mean(axis=2)[sure]) < 0.1
        assert (colour[weight == 0] == 0).all()
        assert 0 <= weight.min() <= weight.max() <= 1


def test_sky_is_observed_at_infinity(scene, found):
    seen, depths, usable = found
    off, share = [], []
    for row in range(len(seen)):
        colour, weight = (part.numpy() for part in photo_guidance(seen, depths, row, usable, SETTINGS.looks))
        truth = truth_of(scene, row, seen)
        sky = truth.face < 0
        if sky.mean() < 0.1:
            continue
        other = scene.sky_stops[0 if seen.day[row] else 1]
        off.append(np.abs(colour - other).mean(axis=2)[sky & (weight > 0)])
        share.append((weight > 0)[sky].mean())
    assert np.mean(share) > 0.4
    assert np.median(np.concatenate(off)) < 0.1


def test_places_hidden_from_the_other_day_get_no_guidance(scene, found):
    seen, depths, _ = found
    # Only one photo of the other day may observe: what it doesn't see has no weight.
    row, asked = 0, len(seen) - 1
    alone = np.where(seen.day == TARGET, np.arange(len(seen)) == asked, True)
    _, weight = photo_guidance(seen, depths, row, alone, SETTINGS.looks)
    visible = scene.sees(asked, truth_of(scene, row, seen))
    surface = truth_of(scene, row, seen).face >= 0
    hidden = surface & ~visible
    assert hidden.mean() > 0.02
    assert (weight.numpy()[hidden] > 0).mean() < 0.1
    assert (weight.numpy()[surface & visible] > 0).mean() > 0.4
    assert weight.max() < 0.3  # a single observation counts less


def test_a_badly_placed_photo_is_found_by_its_own_day(scene, found, tmp_path):
    wrong = 3
    solve = scene.registration.solve
    poses = solve.poses.copy()
    poses[wrong, :, 3] += [0.25, 0.15, 0.0]
    moved = dataclasses.replace(scene.registration, solve=dataclasses.replace(solve, poses=poses))
    bent = scene._replace(registration=moved)
    guidance = made(bent, tmp_path)
    assert guidance.dropped == (1, 0)
    assert wrong not in guidance.maps["ab"].photo
    assert "1 badly placed photo was left out." in guidance.accuracy()
    tested = np.delete(guidance.errors, wrong)
    assert guidance.errors[wrong] > 3 * np.nanmedian(tested)


def test_photos_of_one_day_predict_each_other(found):
    seen, depths, _ = found
    errors = own_day_errors(seen, depths)
    assert np.isfinite(errors).all()
    assert np.median(errors) < 0.1
    assert not badly_placed(errors).any()
    assert badly_placed(np.array([0.05, 0.06, np.nan, 0.3])).tolist() == [False, False, False, True]


def test_upright_photos_among_wide_ones_get_maps_of_the_common_shape(tmp_path):
    scene = posed_set.posed_set(painted_set.texture, upright=(1, 4))
    guidance = made(scene, tmp_path)
    maps = guidance.maps["ab"]
    assert maps.weight.shape[1:] == (72, 96)
    assert 1 in maps.photo
    row = int(np.nonzero(maps.photo == 1)[0][0])
    truth = scene.truth(1, 72, 96)
    own = scene.banks[0].raster(1, 72, 96)
    wanted = np.log2(own * np.exp2(truth.stops) + DARK_FLOOR)
    sure = (maps.weight[row] > 0.5) & (truth.face >= 0)
    assert sure.mean() > 0.15
    assert np.median(np.abs(maps.colour[row] - wanted).mean(axis=2)[sure]) < 0.15


def test_bent_lenses_are_taken_into_account(tmp_path):
    bent = posed_set.posed_set(painted_set.texture, bend=-0.15)
    seen = load_views(bent.registration, bent.banks, SETTINGS.raster_px, CPU)
    depths = depth_maps(seen, neighbours(bent.registration, 4), 4, 48, tmp_path, "bent")
    off = []
    for row in range(len(seen)):
        truth = truth_of(bent, row, seen)
        known = depths.known[row].numpy() & (truth.face >= 0)
        off.append(np.abs(depths.inverse[row].numpy()[known] * truth.depth[known] - 1))
    assert np.median(np.concatenate(off)) < 0.02


def test_undistorting_undoes_distortion():
    rng = np.random.default_rng(0)
    flat = rng.uniform(-0.6, 0.6, (2, 50))
    for bend in (-0.2, 0.0, 0.3):
        bent = flat * (1 + bend * (flat**2).sum(axis=0))
        np.testing.assert_allclose(undistort(bent, bend), flat, atol=1e-6)
    assert np.isfinite(undistort(np.array([[5.0], [5.0]]), -0.3)).all()


def test_threads_and_batches_change_nothing(scene, found, tmp_path, monkeypatch):
    seen, depths, usable = found
    before = torch.get_num_threads()
    monkeypatch.setitem(depth.PIXELS_AT_ONCE, "cpu", 1)
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        neighbour_rows = neighbours(scene.registration, SETTINGS.neighbours)
        again = depth_maps(seen, neighbour_rows, SETTINGS.neighbours, SETTINGS.planes, tmp_path, "key")
        maps = photo_guidance(seen, again, 1, usable, SETTINGS.looks)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(again.inverse, depths.inverse)
    for one, two in zip(maps, photo_guidance(seen, depths, 1, usable, SETTINGS.looks), strict=True):
        assert torch.equal(one, two)


def test_what_is_known_is_not_made_again(scene, tmp_path, monkeypatch):
    first = made(scene, tmp_path)
    assert all(path.exists() for path in first.sheets.values())

    def fail(*words):
        raise AssertionError("made again")

    monkeypatch.setattr(guiding, "load_views", fail)
    again = made(scene, tmp_path)
    for direction in ("ab", "ba"):
        for name in ("photo", "colour", "weight"):
            np.testing.assert_array_equal(getattr(again.maps[direction], name), getattr(first.maps[direction], name))
    assert again.accuracy() == first.accuracy()
    assert again.coverage("ab").startswith("target photos saw ")
    moved = dataclasses.replace(scene.registration.solve, poses=scene.registration.solve.poses + 1e-3)
    other = scene._replace(registration=dataclasses.replace(scene.registration, solve=moved))
    with pytest.raises(AssertionError, match="made again"):
        made(other, tmp_path)


def test_stopped_while_looking_for_depth_it_goes_on_with_the_same_result(scene, tmp_path, monkeypatch):
    whole = made(scene, tmp_path / "whole")
    monkeypatch.setattr(depth, "PART_PHOTOS", 4)
    stop, sweep, swept = Cancellation(), depth.sweep, []

    def sweep_some(seen, grey, rows, *words):
        swept.extend(rows)
        if len(swept) >= 6:
            stop.ask()
        return sweep(seen, grey, rows, *words)

    monkeypatch.setattr(depth, "sweep", sweep_some)
    monkeypatch.setitem(depth.PIXELS_AT_ONCE, "cpu", 1)
    with pytest.raises(Cancelled):
        made(scene, tmp_path / "parts", stop=stop)
    assert len(list((tmp_path / "parts").glob("depth-*.npz"))) == 1
    count = len(swept)
    again = made(scene, tmp_path / "parts")
    assert len(swept) - count == len(scene.registration.solve.photos) - 4
    np.testing.assert_array_equal(again.maps["ab"].colour, whole.maps["ab"].colour)
    np.testing.assert_array_equal(again.maps["ab"].weight, whole.maps["ab"].weight)


def test_a_photo_without_neighbours_has_no_depth(scene, tmp_path):
    seen = load_views(scene.registration, scene.banks, 48, CPU)
    neighbour_rows = neighbours(scene.registration, 4)
    neighbour_rows[2] = neighbour_rows[2][:0]
    depths = depth_maps(seen, neighbour_rows, 4, 16, tmp_path, "key")
    assert not depths.known[2].any()
    assert (depths.inverse[2] == 0).all()
    assert depths.known[1].any()
    # A photo without observers has no guidance.
    nobody = np.arange(len(seen)) == 2
    assert len(best_observers(seen, depths, 2, TARGET, nobody, 4)) == 0
    assert photo_guidance(seen, depths, 2, nobody, 4)[1].max() == 0


def test_small_photos_keep_their_size(scene):
    assert views.load_views(scene.registration, scene.banks, 4000, CPU).sizes.max() == scene.banks[0][0].shape[1]


def test_smoothing_lets_a_clear_neighbour_decide_for_a_flat_pixel():
    cost = torch.full((1, 5, 5, 9), 0.5)
    cost[..., 4] = 0.1
    cost[0, 2, 2] = 0.5
    cost[0, 2, 2, 7] = 0.49
    assert cost[0, 2, 2].argmin() == 7
    assert best_plane(aggregate_costs(cost, torch.full((1, 5, 5), 0.5))) == pytest.approx(4, abs=0.01)


def test_between_planes_the_parabola_decides():
    planes = torch.arange(9.0)
    cost = (planes - 3.3).square().view(1, 1, 1, 9)
    assert best_plane(cost).item() == pytest.approx(3.3, abs=1e-5)
    assert best_plane(planes.view(1, 1, 1, 9)).item() == 0


def test_window_means_are_those_of_plain_sums():
    values = torch.rand((1, 7, 9, 2), generator=torch.Generator().manual_seed(0))
    half = depth.WINDOW // 2
    for y, x in ((0, 0), (3, 4), (6, 8), (1, 7)):
        part = values[0, max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
        torch.testing.assert_close(box_mean(values)[0, y, x], part.mean(dim=(0, 1)))


def test_a_weighted_median_is_where_half_the_weight_lies():
    values = torch.tensor([[1.0], [2.0], [9.0]])
    assert weighted_median(values, torch.ones(3, 1)).item() == pytest.approx(2, abs=0.02)
    assert weighted_median(values, torch.tensor([[1.0], [1.0], [5.0]])).item() == pytest.approx(9, abs=0.02)


def test_one_odd_observation_is_outvoted():
    stops = torch.tensor([-2.0, -2.1, -1.9, 0.0]).view(4, 1, 1).expand(4, 3, 1)
    colour, spread, count = consensus(Observations(stops, torch.ones(4, 1)))
    assert colour.flatten().tolist() == pytest.approx([-2.0] * 3, abs=0.05)
    assert spread.item() < 0.2
    assert count.item() == 4
    assert consensus(Observations(stops[:0], torch.ones(0, 1)))[2].item() == 0


def test_batches_hold_photos_of_one_size():
    sizes = np.array([[3, 4], [4, 3], [3, 4], [3, 4], [4, 3]])
    assert sorted(batch.tolist() for batch in batches(sizes, 24)) == [[0, 2], [1, 4], [3]]


def test_half_of_the_photos_must_be_registered_and_a_quarter_seen(scene):
    assert joined_enough(scene.registration)
    first, second = scene.registration.counts
    assert not joined_enough(dataclasses.replace(scene.registration, counts=(2 * first + 1, second)))
    weight = np.zeros((1, 2, 10), np.float16)
    for seen, enough in ((4, False), (5, True)):
        weight[0, 0, :seen] = 1
        maps = GuidanceMaps(np.array([0]), np.zeros((1, 2, 10, 3), np.float16), weight)
        assert Guidance({"ab": maps}, {}, np.zeros(0), (0, 0)).good_enough("ab") == enough
    assert GuidanceMaps(np.zeros(0), np.zeros((0, 2, 2, 3)), np.zeros((0, 2, 2))).coverage == 0


def test_settings_that_make_no_sense_are_refused():
    for name, value in (("raster_px", 8), ("planes", 1), ("neighbours", 1), ("looks", 0)):
        with pytest.raises(ConfigError, match=f"{name} is {value}"):
            GuidanceSettings(**{name: value})
