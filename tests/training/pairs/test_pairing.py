import numpy as np
import pytest

from relightgan.core.errors import ConfigError, TrainingError
from relightgan.training.pairs.pairing import (
    BLOCK_ROWS,
    PairingSettings,
    Pairs,
    balance,
    centred,
    nearest,
    pair_photos,
    view_weights,
)


def views(count, seed=0):
    """(count, 32) features of different views, positive as a backbone's are."""
    return np.random.default_rng(seed).gamma(0.5, size=(count, 32)).astype(np.float32)


def near_copies(view, count, seed=1):
    """Features of `count` photos of one view from nearly one place."""
    return (view + 0.02 * np.random.default_rng(seed).normal(size=(count, len(view)))).astype(np.float32)


def marginals(pairs, count_a, count_b):
    return (
        np.bincount(pairs.a, weights=pairs.probability, minlength=count_a),
        np.bincount(pairs.b, weights=pairs.probability, minlength=count_b),
    )


def test_photos_of_one_view_find_each_other_in_a_light_that_moves_all_features():
    a = views(12)
    order = np.random.default_rng(3).permutation(12)
    b = a[order] * 0.7 + 5.0 * views(1, seed=9)  # the day's light: the same shift for every photo
    pairs = pair_photos(a, b, PairingSettings(top_k=1, threshold=0.5))
    assert sorted(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == sorted(
        (int(view), place) for place, view in enumerate(order)
    )
    np.testing.assert_allclose(pairs.similarity, 1.0, atol=1e-4)


def test_every_pair_keeps_both_the_rank_and_the_threshold_and_none_that_keeps_both_is_left_out():
    settings = PairingSettings(top_k=2, threshold=0.2)
    a, b = views(30, seed=1), views(25, seed=2)
    pairs = pair_photos(a, b, settings)
    similarity = centred(a) @ centred(b).T
    rank_of_b = np.argsort(np.argsort(-similarity, axis=1), axis=1)
    rank_of_a = np.argsort(np.argsort(-similarity, axis=0), axis=0)
    wanted = ((rank_of_b < 2) | (rank_of_a < 2)) & (similarity >= 0.2)
    assert 0 < wanted.sum() < min(((rank_of_b < 2) | (rank_of_a < 2)).sum(), (similarity >= 0.2).sum())
    assert {*zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)} == {
        *zip(*(i.tolist() for i in np.nonzero(wanted)), strict=True)
    }
    np.testing.assert_allclose(pairs.similarity, similarity[pairs.a, pairs.b], atol=1e-6)


def test_comparing_in_blocks_changes_nothing():
    queries, others = centred(views(BLOCK_ROWS + 7, seed=4)), centred(views(9, seed=5))
    found = nearest(queries, others, top_k=2, threshold=-1.0)
    best = np.argsort(-(queries @ others.T), axis=1, kind="stable")[:, :2]
    assert [(i, j) for i, j, _ in found] == [(i, int(j)) for i, row in enumerate(best) for j in row]


@pytest.mark.parametrize("popular", ["a", "b"])
def test_a_view_photographed_20_times_is_drawn_no_more_often_than_the_others(popular):
    single = views(10)
    crowded = np.concatenate([near_copies(single[0], 20), single[1:]])
    a, b = (crowded, single) if popular == "a" else (single, crowded)
    pairs = pair_photos(a, b, PairingSettings(threshold=0.5))
    drawn = pairs.draw(np.random.default_rng(0), 20_000)
    of_crowded = (pairs.a if popular == "a" else pairs.b)[drawn]
    share = np.bincount(of_crowded, minlength=29) / 20_000
    assert share[:20].sum() == pytest.approx(0.1, abs=0.01)  # one view of ten, and 0.69 of the photos
    np.testing.assert_allclose(share[20:], 0.1, atol=0.01)
    assert share[:20].min() > 0.0  # each copy still has its turn


def test_balancing_meets_the_wanted_shares_of_both_folders():
    rng = np.random.default_rng(0)
    index_a, index_b = (part.ravel() for part in np.indices((6, 9)))
    weights_a, weights_b = rng.uniform(0.05, 1.0, 6), rng.uniform(0.05, 1.0, 9)
    affinity = rng.uniform(0.001, 1.0, 54)
    pairs = Pairs(index_a, index_b, affinity, balance(index_a, index_b, affinity, weights_a, weights_b))
    have_a, have_b = marginals(pairs, 6, 9)
    np.testing.assert_allclose(have_a, weights_a / weights_a.sum(), rtol=1e-6)
    np.testing.assert_allclose(have_b, weights_b / weights_b.sum(), rtol=1e-3)
    # Among one photo's partners the more similar ones keep their lead.
    ratio = pairs.probability.reshape(6, 9) / affinity.reshape(6, 9)
    np.testing.assert_allclose(ratio / ratio[:1] * ratio[0, 0], ratio[:, :1] * np.ones(9), rtol=1e-6)


def test_where_both_folders_cannot_be_met_the_source_is_and_nothing_is_nan():
    index_a, index_b = np.array([0, 1, 1, 3]), np.array([0, 0, 2, 2])  # photos a2 and b1 have no partner
    probability = balance(index_a, index_b, np.ones(4), np.array([1.0, 1.0, 1.0, 2.0]), np.array([8.0, 1.0, 1.0]))
    have_a = np.bincount(index_a, weights=probability)
    np.testing.assert_allclose(have_a, [0.25, 0.25, 0.0, 0.5], rtol=1e-9)
    assert probability.sum() == pytest.approx(1.0, abs=1e-12)
    assert (probability >= 0).all()


def test_photos_of_one_view_share_its_weight():
    features = np.eye(4, dtype=np.float32)[[0, 1, 1, 1, 2]]
    assert view_weights(features, 0.75).tolist() == [1.0, 1 / 3, 1 / 3, 1 / 3, 1.0]


def test_partners_come_nearest_first_from_either_side():
    pairs = Pairs(np.array([0, 0, 1, 0]), np.array([5, 6, 6, 7]), np.float32([0.2, 0.9, 0.5, 0.4]), np.full(4, 0.25))
    assert pairs.partners(0, "a").tolist() == [1, 3, 0]
    assert pairs.partners(6, "b").tolist() == [1, 2]
    assert pairs.partners(9, "b").tolist() == []
    assert (len(np.unique(pairs.a)), len(np.unique(pairs.b))) == (2, 3)


def test_folders_of_different_sets_are_refused():
    with pytest.raises(TrainingError, match=r"above 0\.99.*threshold"):
        pair_photos(views(8, seed=1), views(8, seed=2), PairingSettings(threshold=0.99))


@pytest.mark.parametrize(("name", "value"), [("top_k", 0), ("threshold", 1.5), ("same_view", -2.0)])
def test_settings_without_sense_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        PairingSettings(**{name: value})
