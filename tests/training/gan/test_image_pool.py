import numpy as np
import torch

from relightgan.training.gan.image_pool import ImagePool


def numbered(first, count, side=2):
    """Pictures whose pixels are their own number."""
    return torch.arange(first, first + count).float().reshape(-1, 1, 1, 1).expand(-1, 3, side, side).clone()


def numbers(pictures):
    return [int(picture[0, 0, 0]) for picture in pictures]


def test_shows_new_pictures_until_it_is_full():
    pool, rng = ImagePool(50), np.random.default_rng(0)
    assert numbers(pool.exchange(numbered(0, 50), rng)) == list(range(50))
    assert len(pool.pictures) == 50


def test_a_full_pool_shows_an_older_picture_half_of_the_time_and_keeps_the_new_one_instead():
    pool, rng = ImagePool(50), np.random.default_rng(0)
    pool.exchange(numbered(0, 50), rng)
    older = 0
    for step in range(50, 450, 4):
        kept = set(numbers(pool.pictures))
        fresh = set(range(step, step + 4))
        shown = numbers(pool.exchange(numbered(step, 4), rng))
        older += len(set(shown) - fresh)
        assert set(shown) <= kept | fresh
        assert set(numbers(pool.pictures)) == (kept | fresh) - set(shown)
    assert 160 < older < 240
    assert len(pool.pictures) == 50


def test_what_is_shown_carries_no_gradient_and_is_not_changed_later():
    pool, rng = ImagePool(2), np.random.default_rng(0)
    fakes = numbered(0, 2).requires_grad_()
    shown = pool.exchange(fakes * 1.0, rng)
    assert not shown.requires_grad
    shown.fill_(9.0)
    assert numbers(pool.pictures) == [0, 1]


def test_the_same_random_state_gives_the_same_pictures_also_after_a_restore():
    pool, rng = ImagePool(4), np.random.default_rng(1)
    for step in range(0, 40, 2):
        pool.exchange(numbered(step, 2), rng)
    copy = ImagePool(4)
    copy.restore(pool.state(), torch.device("cpu"))
    for step in range(40, 60, 2):
        ours = pool.exchange(numbered(step, 2), np.random.default_rng(step))
        theirs = copy.exchange(numbered(step, 2), np.random.default_rng(step))
        assert torch.equal(ours, theirs)


def test_an_empty_pool_can_be_kept_and_put_back():
    pool = ImagePool(4)
    pool.restore(ImagePool(4).state(), torch.device("cpu"))
    assert numbers(pool.exchange(numbered(0, 2), np.random.default_rng(0))) == [0, 1]


def test_a_pool_of_none_shows_new_pictures_only():
    pool, rng = ImagePool(0), np.random.default_rng(0)
    for step in range(0, 20, 2):
        assert numbers(pool.exchange(numbered(step, 2), rng)) == [step, step + 1]


def test_another_picture_size_starts_the_pool_afresh():
    pool, rng = ImagePool(2), np.random.default_rng(0)
    pool.exchange(numbered(0, 2, side=2), rng)
    assert numbers(pool.exchange(numbered(10, 2, side=4), rng)) == [10, 11]
    assert numbers(pool.pictures) == [10, 11]
