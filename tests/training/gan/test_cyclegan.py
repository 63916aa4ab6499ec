import dataclasses

import numpy as np
import pytest
import torch
from blotchy_photos import DUSK, mean_colour, paint, painted_data, same, weights

from relightgan.core.errors import ConfigError
from relightgan.core.look import LookFacts
from relightgan.training.fit import checkpoint
from relightgan.training.gan.cyclegan import CycleGanSettings, build, frozen, rate_share
from relightgan.training.settings import fields_of, from_dict, to_dict

pytestmark = pytest.mark.fits

SMALL = CycleGanSettings(
    base_filters=8, blocks=1, critic_filters=8, size_px=32, batch_size=2, learning_rate=1e-3, critic_learning_rate=1e-3
)


def recipe_of(settings=SMALL, seed=0):
    torch.manual_seed(seed)
    return build(settings, painted_data(), torch.device("cpu"))


def gradients(networks):
    return [parameter.grad for network in networks.values() for parameter in network.parameters()]


def test_the_generators_loss_leaves_the_critics_gradients_alone():
    # The published code updated its critics with the generators' gradient added to their own.
    recipe = recipe_of()
    for critic in recipe.critics.values():
        for parameter in critic.parameters():
            parameter.grad = torch.full_like(parameter, 0.25)
    pair = recipe.data.draw(np.random.default_rng(0), 2, 32)
    recipe.generator_losses(pair.a, pair.b)[0]["generators"].backward()
    assert all(bool((gradient == 0.25).all()) for gradient in gradients(recipe.critics))
    assert all(
        gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients(recipe.generators)
    )
    assert all(parameter.requires_grad for critic in recipe.critics.values() for parameter in critic.parameters())


def test_what_the_generators_want_does_not_move_the_critics():
    recipes = [
        recipe_of(dataclasses.replace(SMALL, adversarial_weight=weight, feature_weight=weight))
        for weight in (1.0, 50.0)
    ]
    for recipe in recipes:
        recipe.step(np.random.default_rng(0), 0.0)
    assert same(weights(recipes[0].critics), weights(recipes[1].critics))
    assert not same(weights(recipes[0].critics), weights(recipe_of().critics))


def test_the_critics_loss_leaves_the_generators_alone():
    recipe = recipe_of()
    pair = recipe.data.draw(np.random.default_rng(0), 2, 32)
    _, fake_a, fake_b = recipe.generator_losses(pair.a, pair.b)
    recipe.critic_losses(pair.a, pair.b, fake_a, fake_b)["critics"].backward()
    assert gradients(recipe.generators) == [None] * len(gradients(recipe.generators))
    assert all(gradient is not None for gradient in gradients(recipe.critics))


def test_frozen_lets_gradient_through_to_the_input_only():
    critic = recipe_of().critics["a"]
    picture = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    with frozen(critic):
        scores, _ = critic(picture)
    scores.sum().backward()
    assert picture.grad.abs().max() > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in critic.parameters())


def test_no_network_has_dropout():
    modules = [module for network in recipe_of(CycleGanSettings()).networks.values() for module in network.modules()]
    assert [module for module in modules if "dropout" in type(module).__name__.lower()] == []
    assert len(modules) > 50


@pytest.mark.parametrize("adversary", ["lsgan", "bce"])
def test_learns_the_colour_of_the_other_light_in_60_steps(adversary):
    settings = dataclasses.replace(SMALL, blocks=2, critic_filters=16, batch_size=4, adversary=adversary)
    recipe = recipe_of(settings)
    rng = np.random.default_rng(0)
    for step in range(60):
        recipe.step(rng, step / 60)
    unseen = paint(np.random.default_rng(99), 8, 32)
    truth = unseen * torch.from_numpy(DUSK)[:, None, None]
    with torch.no_grad():
        relit = recipe.generators["ab"](unseen)
        dawn = recipe.generators["ba"](truth)
    far, left, back = (
        mean_colour(pair[0] - pair[1]).abs().mean() for pair in ((unseen, truth), (relit, truth), (dawn, unseen))
    )
    assert left < 0.5 * far  # over five seeds 0.08 to 0.26
    assert back < 0.7 * far  # 0.08 to 0.43
    assert mean_colour(relit)[2] > mean_colour(relit)[0] + 0.1  # bluer; 0.15 to 0.30
    detail = [(pictures - mean_colour(pictures)[:, None, None]).flatten() for pictures in (relit, unseen)]
    assert np.corrcoef(*detail)[0, 1] > 0.85  # and still the same picture; 0.93 to 0.98


def test_a_step_is_a_function_of_weights_and_random_state():
    first, second = recipe_of(), recipe_of()
    assert first.step(np.random.default_rng(5), 0.0) == second.step(np.random.default_rng(5), 0.0)
    assert same(weights(first.networks), weights(second.networks))
    assert first.step(np.random.default_rng(6), 0.0) != second.step(np.random.default_rng(7), 0.0)


def test_goes_on_from_a_checkpoint_to_the_same_numbers(tmp_path):
    settings = dataclasses.replace(SMALL, pool_size=3)
    recipe = recipe_of(settings)
    for step in range(4):  # more pictures than the pool holds
        recipe.step(np.random.default_rng(step), 0.1)
    path = checkpoint.save_checkpoint(tmp_path, recipe, checkpoint.FitProgress(images=8), {}, "photos", 1)
    other = recipe_of(settings, seed=1)
    checkpoint.restore(checkpoint.read_checkpoint(path), path, other)
    for step in range(4, 7):
        assert recipe.step(np.random.default_rng(step), 0.2) == other.step(np.random.default_rng(step), 0.2)
    assert same(weights(recipe.networks), weights(other.networks))


def test_losses_that_weigh_nothing_are_left_out():
    names = set(recipe_of().step(np.random.default_rng(0), 0.0))
    assert names == {"adversarial", "cycle", "identity", "features", "generators", "critic_a", "critic_b", "critics"}
    plain = recipe_of(dataclasses.replace(SMALL, identity_weight=0.0, feature_weight=0.0))
    losses = plain.step(np.random.default_rng(0), 0.0)
    assert set(losses) == names - {"identity", "features"}
    assert losses["generators"] == pytest.approx(losses["adversarial"] + 10.0 * losses["cycle"], rel=1e-5)


def test_the_learning_rate_is_constant_and_then_falls_straight_to_nothing():
    assert [rate_share(done, 0.5) for done in (0.0, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.5, 0.0]
    assert [rate_share(1.0, 1.0), rate_share(0.5, 0.0)] == [1.0, 0.5]
    recipe = recipe_of(dataclasses.replace(SMALL, critic_learning_rate=4e-3))
    recipe.step(np.random.default_rng(0), 0.75)
    rates = {name: [group["lr"] for group in optimiser.param_groups] for name, optimiser in recipe.optimisers.items()}
    assert rates == {"generators": [0.5e-3], "critics": [2e-3]}
    before = {name: parameter.clone() for name, parameter in recipe.generators["ab"].named_parameters()}
    recipe.step(np.random.default_rng(0), 1.0)
    assert same(before, dict(recipe.generators["ab"].named_parameters()))


def test_averages_are_copies_of_the_generators_that_only_the_loop_moves():
    recipe = recipe_of()
    assert list(recipe.ema) == ["generator_ab", "generator_ba"]
    assert same(weights(recipe.ema), weights({name: recipe.networks[name] for name in recipe.ema}))
    before = weights(recipe.ema)
    recipe.step(np.random.default_rng(0), 0.0)
    assert same(before, weights(recipe.ema))
    assert not same(before, weights({name: recipe.networks[name] for name in recipe.ema}))


def test_relights_any_size_with_the_average():
    recipe = recipe_of()
    with torch.no_grad():
        recipe.ema["generator_ba"].head.bias.fill_(1.0)
    photos = paint(np.random.default_rng(3), 2, 32)[..., :29, :22]
    relit = recipe.relight(photos * 2.0, "ba")  # an HDR photo goes above 1
    assert relit.shape == photos.shape
    assert not relit.requires_grad
    assert 0.0 <= relit.min() <= relit.max() <= 1.0
    assert recipe.relight(photos, "ba").mean() > recipe.relight(photos, "ab").mean() + 0.1


def test_exports_an_image_look_that_later_steps_do_not_change():
    recipe = recipe_of()
    spec = recipe.export("ab")
    facts = LookFacts(name="test", **spec.facts)
    assert (facts.translator, facts.direction, facts.operators) == ("cyclegan", "ab", ())
    assert (facts.encoding, facts.value_range, facts.primaries) == ("srgb_log", "unit", "lin_rec709")
    assert facts.size_multiple == 4
    assert facts.overlap_px % 4 == 0
    assert facts.overlap_px >= recipe.generators["ab"].reach_px
    assert spec.output_names == ("relit",)
    photos = paint(np.random.default_rng(3), 1, 32)
    with torch.no_grad():
        exported = spec.module(photos)
        torch.testing.assert_close(exported, recipe.relight(photos, "ab"), atol=1e-6, rtol=0)
        recipe.ema["generator_ab"].head.bias.fill_(1.0)
        assert torch.equal(exported, spec.module(photos))
        assert spec.module(*spec.inputs).shape == spec.inputs[0].shape


def test_learns_in_mixed_precision_as_the_loop_runs_it_on_a_gpu():
    recipe, exact = recipe_of(), recipe_of()
    for step in range(2):
        before = weights(recipe.critics)
        with torch.autocast("cpu", torch.bfloat16):
            losses = recipe.step(np.random.default_rng(step), 0.0)
        expected = exact.step(np.random.default_rng(step), 0.0)
        assert losses == pytest.approx(expected, rel=0.1, abs=0.02)
        assert not same(before, weights(recipe.critics))
    assert all(gradient is not None for gradient in gradients(recipe.networks))
    assert {value.dtype for value in weights(recipe.networks).values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_full_size_steps_on_a_gpu_in_mixed_precision():
    torch.manual_seed(0)
    recipe = build(CycleGanSettings(), painted_data(8, 256), torch.device("cuda"))
    for step in range(3):
        with torch.autocast("cuda", torch.bfloat16):
            losses = recipe.step(np.random.default_rng(step), 0.0)
    assert all(np.isfinite(list(losses.values())))
    assert recipe.relight(paint(np.random.default_rng(1), 1, 256), "ab").device.type == "cuda"


def test_settings_go_to_yaml_and_back_and_each_explains_itself():
    settings = dataclasses.replace(SMALL, upsampling="resize")
    assert from_dict(CycleGanSettings, to_dict(settings), "test") == settings
    assert [field.key for field in fields_of(CycleGanSettings) if not field.help] == []


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("blocks", 0, "blocks"),
        ("size_px", 16, "size_px"),
        ("size_px", 66, "multiple of 4"),
        ("cycle_weight", -1.0, "cycle_weight"),
        ("learning_rate", 0.0, "learning rate"),
        ("constant_fraction", 1.5, "constant_fraction"),
    ],
)
def test_settings_without_sense_are_refused(name, value, named):
    with pytest.raises(ConfigError, match=named):
        CycleGanSettings(**{name: value})


def test_the_smallest_size_that_is_allowed_works():
    recipe = build(dataclasses.replace(SMALL, size_px=24), painted_data(4, 24), torch.device("cpu"))
    assert all(np.isfinite(list(recipe.step(np.random.default_rng(0), 0.0).values())))
