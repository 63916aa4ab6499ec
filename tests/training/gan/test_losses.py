import math

import pytest
import torch
import torch.nn.functional as F

from relightgan.training.gan import losses


def test_lsgan_has_its_published_values():
    real, fake = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.5])
    assert losses.lsgan_critic(real, fake).item() == pytest.approx(0.5 * (0.125 + 0.125))
    assert losses.lsgan_generator(fake).item() == pytest.approx((1.0 + 0.25) / 2)
    assert losses.lsgan_critic(torch.ones(3), torch.zeros(3)).item() == 0.0
    assert losses.lsgan_generator(torch.ones(3)).item() == 0.0


def test_bce_is_cross_entropy_on_logits():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])
    entropy = F.binary_cross_entropy_with_logits
    expected = 0.5 * (entropy(real, torch.ones(2)) + entropy(fake, torch.zeros(2)))
    torch.testing.assert_close(losses.bce_critic(real, fake), expected)
    torch.testing.assert_close(losses.bce_generator(fake), entropy(fake, torch.ones(2)))
    assert losses.bce_generator(torch.zeros(1)).item() == pytest.approx(math.log(2.0))
    assert torch.isfinite(losses.bce_critic(torch.tensor([-1e4]), torch.tensor([1e4])))


@pytest.mark.parametrize("name", ["lsgan", "bce"])
def test_the_two_sides_of_a_game_pull_a_fakes_score_apart(name):
    game = losses.ADVERSARIES[name]
    score = torch.tensor([0.5], requires_grad=True)
    (for_critic,) = torch.autograd.grad(game.critic(torch.ones(1), score), score)
    (for_generator,) = torch.autograd.grad(game.generator(score), score)
    assert for_critic > 0 > for_generator


@pytest.mark.parametrize("loss", [losses.cycle_l1, losses.identity_l1])
def test_l1_is_the_mean_absolute_difference(loss):
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[0, 0] = -0.6
    assert loss(a, b).item() == pytest.approx(0.6 / 6)
    assert loss(a, a).item() == 0.0


def test_feature_statistics_have_known_values():
    real = torch.tensor([0.0, 2.0]).reshape(1, 1, 1, 2)  # mean 1, deviation 1
    fake = torch.tensor([1.0, 7.0]).reshape(1, 1, 2, 1)  # mean 4, deviation 3
    assert losses.feature_statistics([real, real], [fake, fake]).item() == pytest.approx(2 * (9.0 + 4.0))


def test_feature_statistics_are_taken_over_batch_and_space():
    # Over the batch alone, moving pixels about would count as a difference.
    features = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    shuffled = features.permute(1, 0, 2, 3).flatten(1)[
        :, torch.randperm(256, generator=torch.Generator().manual_seed(2))
    ]
    moved = shuffled.reshape(3, 4, 8, 8).permute(1, 0, 2, 3)
    assert losses.feature_statistics([features], [moved]).item() < 1e-10
    assert losses.feature_statistics([features], [features.flip(1)]).item() > 1e-6
    assert losses.feature_statistics([features], [features * 2.0]).item() > 0.1


def test_feature_statistics_teach_the_fake_side_only():
    real, fake = torch.rand(2, 3, 4, 4, requires_grad=True), torch.zeros(1, 3, 6, 6, requires_grad=True)
    losses.feature_statistics([real], [fake]).backward()
    assert real.grad is None
    assert torch.isfinite(fake.grad).all()  # though a silent channel has no slope of its own deviation
    assert fake.grad.abs().max() > 0


def test_every_loss_works_in_float32_on_half_precision():
    half = torch.full((2, 3, 4, 4), 0.3, dtype=torch.bfloat16)
    values = [
        losses.lsgan_critic(half, half),
        losses.lsgan_generator(half),
        losses.bce_critic(half, half),
        losses.bce_generator(half),
        losses.cycle_l1(half, half),
        losses.identity_l1(half, half),
        losses.feature_statistics([half], [half]),
    ]
    assert {value.dtype for value in values} == {torch.float32}
