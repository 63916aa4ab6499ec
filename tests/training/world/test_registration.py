"""Registration on a small solid set whose cameras are known."""

import dataclasses

import numpy as np
import painted_set
import pytest
import solid_set
import torch

from relightgan.core.errors import Cancelled, ConfigError
from relightgan.core.progress import Cancellation
from relightgan.training.stage import Stage
from relightgan.training.world import registration as register
from relightgan.training.world.matching import MatchingSettings
from relightgan.training.world.point_colours import group_median, point_observations, robust_colours
from relightgan.training.world.registration import Day, register_days
from relightgan.training.world.settings import RegisterSettings
from relightgan.training.world.sfm import (
    Features,
    moved_by,
    pixels_of,
    project,
    put_together,
    solve_cameras,
    without_loose_photos,
)

pytestmark = pytest.mark.fits

SETTINGS = RegisterSettings(max_points=800, partners=3, partners_across=3)


def day(photos, name, focal=None):
    """A day whose retrieval features are where its photos were taken from, left to right."""
    across = np.linspace(0, np.pi, len(photos))
    features = np.stack([np.cos(across), np.sin(across), np.ones_like(across)], axis=1).astype(np.float32)
    return Day(photos, features, [f"{name}{n}" for n in range(len(photos))], [focal] * len(photos))


def registered(days, folder, seed=0, stop=None, settings=SETTINGS):
    pair = [day(photos, name) for name, (photos, _) in zip("ab", days, strict=True)]
    folder.mkdir(exist_ok=True)
    stage = Stage(folder, torch.device("cpu"), stop=stop or Cancellation())
    return register_days(*pair, settings, MatchingSettings(), seed, stage)


def similarity(places, others):
    """(3, 4) the similarity that brings `places` onto `others`; Umeyama 1991."""
    middle, other = places.mean(axis=0), others.mean(axis=0)
    u, d, vt = np.linalg.svd((others - other).T @ (places - middle) / len(places))
    sign = np.diag([1, 1, np.linalg.det(u) * np.linalg.det(vt)])
    rotation = u @ sign @ vt
    scale = (d * sign.diagonal()).sum() / ((places - middle) ** 2).sum(axis=1).mean()
    return np.concatenate([scale * rotation, (other - scale * rotation @ middle)[:, None]], axis=1)


def true_centres(days):
    poses = np.concatenate([poses for _, poses in days])
    return -np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])


@pytest.fixture(scope="module")
def days():
    return solid_set.solid_days(painted_set.texture)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("registration")


@pytest.fixture(scope="module")
def found(days, folder):
    return registered(days, folder)


def test_cameras_of_both_days_are_found_where_they_stood(
    found,
    days,
):
    assert found.joined == found.counts == (7, 7)
    assert not found.apart
    truth = true_centres(days)
    moved = moved_by(found.solve, similarity(found.solve.centres, truth))
    apart = np.linalg.norm(moved.centres - truth, axis=1)
    assert apart.max() < 0.03 * np.linalg.norm(np.ptp(truth, axis=0))
    assert found.solve.lenses[:, 0] / found.sizes[:, 0] == pytest.approx(solid_set.FOCAL, rel=0.03)
    assert found.solve.errors.mean() < 1.0
    assert found.on_both_days.sum() > 100


def test_the_summary_counts_photos_and_points(found):
    assert found.summary().startswith("Registered 7 of 7 source and 7 of 7 target photos: ")
    assert found.summary().endswith(" px.")


def test_points_appear_where_they_were_seen(found):
    solve = found.solve
    for row, photo in enumerate(solve.photos):
        mine = solve.seen_photo == photo
        xy, depth = project(solve.poses[row], solve.lenses[row], solve.points[solve.seen_point[mine]])
        assert (depth > 0).all()
        off = np.linalg.norm(xy / found.sizes[row] - found.places[mine], axis=1) * found.sizes[row, 0]
        assert np.median(off) < 1.5


def test_colours_of_points_differ_by_what_the_second_day_did(
    found,
    days,
):
    colours, counts = [], []
    for day, (photos, _) in enumerate(days):
        observations = point_observations(found, day)
        colour, _, count = robust_colours(painted_set.PaintedBank(photos), observations, len(found.solve.points))
        colours.append(colour)
        counts.append(count)
    both = (counts[0] > 0) & (counts[1] > 0)
    gain = (colours[1] - colours[0])[both]
    # The faces' own change is one of two; most points lie near one of them.
    off = np.abs(gain[:, None] - solid_set.STOPS).mean(axis=2).min(axis=1)
    assert both.sum() > 100
    assert (off < 0.25).mean() > 0.8


def test_what_is_known_is_not_worked_out_again(found, days, folder, monkeypatch):
    def fail(*words):
        raise AssertionError("worked out again")

    for name in ("find_points", "match_points", "solve_cameras"):
        monkeypatch.setattr(register, name, fail)
    again = registered(days, folder)
    for name in ("poses", "lenses", "points", "seen_feature"):
        np.testing.assert_array_equal(getattr(again.solve, name), getattr(found.solve, name))
    with pytest.raises(AssertionError, match="worked out again"):
        registered(days, folder, settings=dataclasses.replace(SETTINGS, partners=2))


def test_stopped_while_matching_it_goes_on_with_the_same_result(found, days, tmp_path, monkeypatch):
    monkeypatch.setattr(register, "PART_PAIRS", 10)
    stop = Cancellation()
    match, asked = register.match_points, []

    def match_some(*words):
        asked.append(words)
        if len(asked) == 25:
            stop.ask()
        return match(*words)

    monkeypatch.setattr(register, "match_points", match_some)
    with pytest.raises(Cancelled):
        registered(days, tmp_path, stop=stop)
    kept = len(list(tmp_path.glob("matches-*.npz")))
    assert kept >= 1
    before = len(asked)
    again = registered(days, tmp_path)
    assert len(asked) - before == len(found.pairs) - 10 * kept
    # The same to the last bit, though stopped and begun again: one seed, one thread.
    np.testing.assert_array_equal(again.solve.poses, found.solve.poses)
    np.testing.assert_array_equal(again.solve.points, found.solve.points)


def test_days_that_share_nothing_are_not_put_into_one_world(tmp_path, monkeypatch):
    strangers = solid_set.solid_days(painted_set.texture, count=4, shared=False)
    assert registered(strangers, tmp_path) is None
    # That it doesn't work is remembered, too.
    monkeypatch.setattr(register, "solve_cameras", None)
    assert registered(strangers, tmp_path) is None


def test_two_photos_of_a_day_are_too_few(days, tmp_path):
    (first, poses), second = days
    assert registered([(first[:2], poses[:2]), second], tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_days_solved_alone_are_put_together_by_common_points(found, days, folder):
    features, matches = features_and_matches(found, folder)
    alone, counts = [], []
    for in_day in (lambda photo: photo < 7, lambda photo: photo >= 7):
        own = {pair: rows for pair, rows in matches.items() if all(map(in_day, pair))}
        alone.append(solve_cameras(features, own, 0, Cancellation(), counts.append))
    assert len(counts) >= 8
    across = {pair: rows for pair, rows in matches.items() if pair[0] < 7 <= pair[1]}
    both = put_together(*alone, across, 0)
    assert both.photos.tolist() == list(range(14))
    truth = true_centres(days)
    moved = moved_by(both, similarity(both.centres, truth))
    assert np.linalg.norm(moved.centres - truth, axis=1).max() < 0.1 * np.linalg.norm(np.ptp(truth, axis=0))
    assert len(both.points) < len(alone[0].points) + len(alone[1].points) - 50
    assert put_together(*alone, {}, 0) is None


def test_a_few_wrong_matches_of_each_pair_do_no_harm(found, days, folder):
    # Matches reach COLMAP as they are: whether they agree with a geometry was seen to before.
    features, matches = features_and_matches(found, folder)
    rng = np.random.default_rng(0)
    for (_, second), rows in matches.items():
        wrong = rng.choice(len(rows), len(rows) // 20, replace=False)
        rows[wrong, 1] = rng.integers(0, len(features[second].xy), len(wrong))
    solve = solve_cameras(features, matches, 0, Cancellation())
    assert solve.photos.tolist() == list(range(14))
    truth = true_centres(days)
    moved = moved_by(solve, similarity(solve.centres, truth))
    assert np.linalg.norm(moved.centres - truth, axis=1).max() < 0.03 * np.linalg.norm(np.ptp(truth, axis=0))
    assert solve.errors.mean() < 1.0


def test_the_same_photos_give_the_same_bits(found, days, tmp_path):
    again = registered(days, tmp_path)
    for field in dataclasses.fields(found.solve):
        np.testing.assert_array_equal(getattr(again.solve, field.name), getattr(found.solve, field.name))


def features_and_matches(found, folder):
    """What the solve was made from, out of the folder that keeps it."""
    with np.load(folder / "points.npz") as kept:
        xy = np.split(kept["xy"], np.cumsum(kept["lengths"])[:-1])
        sizes = kept["sizes"]
    with np.load(folder / "matches-000.npz") as kept:
        rows = np.split(kept["rows"], np.cumsum(kept["lengths"])[:-1])
    features = [Features(xy[n], tuple(map(int, sizes[n])), n // 7) for n in range(14)]
    return features, {
        pair: part for pair, part in zip(map(tuple, found.pairs.tolist()), rows, strict=True) if len(part)
    }


def test_a_moved_solve_shows_the_same_pictures(found):
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = moved_by(found.solve, np.concatenate([2.5 * turn, [[1.0], [2.0], [-3.0]]], axis=1))
    for row in (0, 13):
        before = project(found.solve.poses[row], found.solve.lenses[row], found.solve.points)[0]
        np.testing.assert_allclose(project(moved.poses[row], moved.lenses[row], moved.points)[0], before, atol=1e-6)


def test_a_photo_that_hangs_by_few_points_is_left_out(found):
    sightings = np.bincount(found.solve.seen_photo)
    least = int(sightings.min()) + 1
    firm = without_loose_photos(found.solve, least)
    assert firm.photos.tolist() == [photo for photo in range(14) if sightings[photo] >= least]
    assert len(firm.poses) == len(firm.lenses) == len(firm.photos) < 14
    assert set(firm.seen_photo.tolist()) == set(firm.photos.tolist())
    assert len(firm.seen_point) == len(firm.seen_photo) == len(firm.seen_feature)


def test_the_focal_length_comes_from_exif_where_it_is_there():
    assert pixels_of(None, (400, 300)) == 480
    assert pixels_of(43.2666, (400, 300)) == pytest.approx(500)


def test_medians_are_those_of_numpy():
    rng = np.random.default_rng(0)
    group, values = rng.integers(0, 9, 200), rng.random((200, 3))
    group[group == 4] = 5
    found = group_median(group, values, 9)
    for number in range(9):
        if number != 4:
            np.testing.assert_allclose(found[number], np.median(values[group == number], axis=0))
    assert (found[4] == 0).all()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="max_photos is 2"):
        RegisterSettings(max_photos=2)
