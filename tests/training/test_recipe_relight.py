import copy
import dataclasses

import cv2
import numpy as np
import pytest
import torch

from relightgan.core.colour import srgb_to_linear
from relightgan.core.errors import ConfigError, TrainingError
from relightgan.core.look import LookFacts
from relightgan.training import recipe_relight
from relightgan.training.batches import TrainingData
from relightgan.training.gain_grid import GainGridSettings
from relightgan.training.pairing import Pairs
from relightgan.training.recipe_relight import (
    ASPECTS,
    AskedGains,
    RelightRecipe,
    RelightSettings,
    ask,
    build,
    crop_size,
    rate_share,
    roughness,
    unclip,
)
from relightgan.training.settings import fields_of, from_dict, to_dict
from relightgan.training.targets import GainSamples
from relightgan.training.torch_colour import decode_srgb

SMALL = RelightSettings(
    net=GainGridSettings(proxy_px=64, depth=4, width=4), points_per_photo=64, patches_per_photo=64, critic_filters=4,
    batch_size=3, learning_rate=6e-3,
)  # fmt: skip
NO_GAINS = GainSamples(np.zeros(7, np.int64), *(np.zeros((0, *n), np.float32) for n in ((2,), (3,), (3,), ())))


@pytest.fixture(scope="module")
def data(measured_days):
    days = measured_days
    return TrainingData(days.first, days.second, days.pairs, (days.gains.points, days.gains.patches))


def recipe_of(data, settings=SMALL, seed=0):
    torch.manual_seed(seed)
    return build(settings, data, torch.device("cpu"))


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def backward_passes(network, act):
    """How often each parameter of a network gets a gradient while `act` runs; a set of counts."""
    counts = dict.fromkeys(range(len(list(network.parameters()))), 0)

    def counted(number):
        def count(gradient):
            counts[number] += 1

        return count

    handles = [parameter.register_hook(counted(number)) for number, parameter in enumerate(network.parameters())]
    act()
    for handle in handles:
        handle.remove()
    return set(counts.values())


def relit_stops(recipe, photo):
    """log2 of a photo relit over the photo, linear (H, W, 3)."""
    photos = torch.from_numpy(photo).permute(2, 0, 1)[None]
    relit = recipe.relight(photos, "ab")[0].permute(1, 2, 0).numpy()
    return np.log2((srgb_to_linear(relit) + 1e-4) / (srgb_to_linear(photo) + 1e-4))


def test_120_steps_move_sky_and_ground_each_its_own_way(data, measured_days, painted_set):
    recipe = recipe_of(data, dataclasses.replace(SMALL, adversarial_weight=0.0))
    rng = np.random.default_rng(0)
    losses = [recipe.step(rng, step / 120) for step in range(120)]
    for name in ("points", "patches"):
        first, last = (np.mean([loss[name] for loss in part]) for part in (losses[:5], losses[-10:]))
        assert last < 0.5 * first, name
    recipe.averaged.load_state_dict(recipe.net.state_dict())  # the loop's business
    rng = np.random.default_rng(50)  # a view that nobody photographed
    linear, sky = painted_set.view(rng, horizon=0.45)
    unseen = painted_set.linear_to_srgb(linear)
    stops = relit_stops(recipe, unseen)
    np.testing.assert_allclose(stops[sky].mean(axis=0), painted_set.SKY_STOPS, atol=0.2)  # over three seeds 0.12
    np.testing.assert_allclose(stops[~sky].mean(axis=0), painted_set.GROUND_STOPS, atol=0.2)  # 0.12
    truth = painted_set.second_day(linear, sky)
    away = np.abs(np.log2(truth / linear)).mean()
    assert np.abs(stops - np.log2(truth / linear)).mean() < 0.25 * away  # 0.12 to 0.13


def test_gains_learn_the_same_with_and_without_doubt(data, monkeypatch):
    def gradients(fraction):
        recipe = recipe_of(data)
        kept = {}
        stepped = recipe.optimisers["net"].step
        gains = {name for name, _ in recipe.net.named_parameters() if not name.startswith("doubt.")}

        def step():
            kept.update({name: p.grad.clone() for name, p in recipe.net.named_parameters() if name in gains})
            stepped()

        monkeypatch.setattr(recipe.optimisers["net"], "step", step)
        recipe.step(np.random.default_rng(0), fraction)
        return kept, {name: value for name, value in weights(recipe.net).items() if name in gains}

    for fraction in (0.1, 0.9):
        with_doubt = gradients(fraction)
        with monkeypatch.context() as patch:
            patch.setattr(RelightRecipe, "doubt_loss", lambda self, doubt, *_: 0.0 * doubt.sum())
            without = gradients(fraction)
        assert all(same(*pair) for pair in zip(with_doubt, without, strict=True))
        assert any(bool(g.any()) for g in with_doubt[0].values())


def test_doubt_grows_where_the_measured_gains_contradict_each_other(data):
    # On the right half of every crop half of the gains are two stops off, either way: no network can foretell them.
    recipe = recipe_of(data, dataclasses.replace(SMALL, adversarial_weight=0.0))
    contrary = np.random.default_rng(9)
    real = recipe_relight.ask

    def ask_contrary(*arguments):
        asked = real(*arguments)
        right = asked.position[..., :1].permute(0, 3, 1, 2) > 0.5
        sign = torch.from_numpy(contrary.choice([-2.0, 2.0], asked.weight.shape).astype(np.float32))
        return dataclasses.replace(asked, gain=asked.gain + sign * right)

    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe_relight, "ask", ask_contrary)
        losses = [recipe.step(rng, step / 120)["doubt"] for step in range(120)]
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.2
    batch = data.draw(np.random.default_rng(5), 6, (48, 64))
    with torch.no_grad():
        doubt = recipe.net(decode_srgb(batch.a))[2]
    left, right = (part.mean().item() for part in doubt.split(doubt.shape[-1] // 2, dim=-1))
    assert right > left


def test_the_doubt_s_loss_is_least_at_the_mean_error(data):
    recipe = recipe_of(data)
    stops = torch.tensor([1.0, -0.5, 0.25])
    grid, anchor = stops.repeat_interleave(4).view(1, 12, 1, 1).expand(1, 12, 4, 6), torch.full((1, 1, 1, 1), -2.0)
    plate, position = torch.full((1, 3, 1, 4), 0.3), torch.full((1, 1, 4, 2), 0.5)
    gain = stops.view(1, 3, 1, 1) + torch.tensor([0.0, 0.4, -0.8, 9.0])
    asked = AskedGains(position, plate, gain, torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 4))
    levels = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]  # the mean error of those with a weight is 0.4
    losses = [
        recipe.doubt_loss(torch.full((1, 1, 4, 6), level), grid, anchor, [asked], torch.zeros(1)).item()
        for level in levels
    ]
    assert levels[int(np.argmin(losses))] == 0.4
    assert recipe.doubt_loss(torch.full((1, 1, 4, 6), 0.5), grid, anchor, [asked], torch.zeros(1)).item() == 0.0


def test_the_network_learns_from_its_own_loss_and_the_critic_from_its_own(data):
    # With the defect of the lighting swap the critic would get a second gradient, from the picture it judged.
    recipe = recipe_of(data)
    late = lambda: recipe.step(np.random.default_rng(0), 0.9)  # noqa: E731
    assert backward_passes(recipe.critic, late) == {1}
    assert backward_passes(recipe.net, late) == {1}
    assert all(parameter.requires_grad for parameter in recipe.critic.parameters())


def test_what_the_network_wants_does_not_move_the_critic_nor_the_other_way(data):
    recipes = [
        recipe_of(data, dataclasses.replace(SMALL, **changes))
        for changes in ({}, {"adversarial_weight": 5.0}, {"critic_learning_rate": 0.1})
    ]
    torch.manual_seed(3)
    for recipe in recipes:
        torch.nn.init.normal_(recipe.net.leave.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        recipe.step(np.random.default_rng(0), 0.9)
    plain, keen, restless = recipes
    assert same(weights(plain.critic), weights(keen.critic))
    assert not same(weights(plain.net), weights(keen.net))
    assert same(weights(plain.net), weights(restless.net))
    assert not same(weights(plain.critic), weights(restless.critic))


def test_the_critic_joins_when_it_should(data):
    recipe = recipe_of(data, dataclasses.replace(SMALL, adversarial_from=0.5))
    before = weights(recipe.critic)
    early = recipe.step(np.random.default_rng(0), 0.499)
    assert set(early) == {"points", "patches", "smooth", "doubt"}
    assert same(before, weights(recipe.critic))
    late = recipe.step(np.random.default_rng(0), 0.5)
    assert set(late) == {"points", "patches", "smooth", "doubt", "adversarial", "critic"}
    assert not same(before, weights(recipe.critic))
    never = recipe_of(data, dataclasses.replace(SMALL, adversarial_weight=0.0))
    assert set(never.step(np.random.default_rng(0), 1.0)) == {"points", "patches", "smooth", "doubt"}


def test_a_step_is_a_function_of_weights_and_random_state(data):
    first, second = recipe_of(data), recipe_of(data)
    for fraction in (0.1, 0.9):
        assert first.step(np.random.default_rng(5), fraction) == second.step(np.random.default_rng(5), fraction)
    assert same(weights(first.net), weights(second.net))
    assert same(weights(first.critic), weights(second.critic))
    assert first.step(np.random.default_rng(6), 0.9) != second.step(np.random.default_rng(7), 0.9)


def test_goes_on_from_its_saved_state_to_the_same_numbers(data):
    recipe, other = recipe_of(data), recipe_of(data, seed=1)
    recipe.step(np.random.default_rng(0), 0.9)
    for name, network in recipe.networks.items():
        other.networks[name].load_state_dict(weights(network))
    for name, optimiser in recipe.optimisers.items():
        other.optimisers[name].load_state_dict(copy.deepcopy(optimiser.state_dict()))
    other.recall(recipe.memory())
    for step in (1, 2):
        assert recipe.step(np.random.default_rng(step), 0.9) == other.step(np.random.default_rng(step), 0.9)


def test_the_average_is_a_copy_that_only_the_loop_moves(data):
    recipe = recipe_of(data)
    assert same(weights(recipe.ema["net"]), weights(recipe.networks["net"]))
    before = weights(recipe.ema["net"])
    recipe.step(np.random.default_rng(0), 0.5)
    assert same(before, weights(recipe.ema["net"]))
    assert not same(before, weights(recipe.networks["net"]))


def test_no_network_has_dropout_or_a_norm_that_would_erase_exposure(data):
    for network in recipe_of(data, RelightSettings()).networks.values():
        names = {type(module).__name__.lower() for module in network.modules()}
        assert len(names) >= 3
        bad = ("dropout", "batchnorm", "instancenorm", "groupnorm", "layernorm")
        assert not [name for name in names if any(word in name for word in bad)]


class Flat:
    """Photos of one colour each."""

    def __init__(self, levels):
        self.levels = levels

    def __len__(self):
        return len(self.levels)

    def image(self, index):
        return np.full((60, 80, 3), self.levels[index], np.float32)


def test_gains_are_asked_about_where_the_crop_shows_them(data):
    rng = np.random.default_rng(0)
    batch = data.draw(rng, 8, (120, 160))
    asked = ask(data.gains[0], batch, rng, 50)
    assert [tuple(part.shape) for part in (asked.position, asked.plate, asked.gain, asked.weight)] == [
        (8, 1, 50, 2), (8, 3, 1, 50), (8, 3, 1, 50), (8, 1, 1, 50),
    ]  # fmt: skip
    assert (asked.weight == 1).all()
    for row in range(8):
        crop = srgb_to_linear(batch.a[row].permute(1, 2, 0).numpy())
        x, y = (asked.position[row, 0].numpy() * [160, 120] - 0.5).astype(np.float32).T
        there = cv2.remap(crop, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        # The sample is a little blurred, so single pixels of a texture differ; a misplaced one doesn't resemble it.
        assert np.corrcoef(there.ravel(), asked.plate[row, :, 0].T.numpy().ravel())[0, 1] > 0.9


def test_asked_gains_belong_to_their_places_and_photos():
    # Three photos; the middle one has no sample, and the last only one, in a corner that crops may miss.
    xy = np.random.default_rng(0).random((41, 2)).astype(np.float32)
    xy[40] = 0.01
    gain = np.concatenate([xy, np.ones((41, 1), np.float32)], axis=1)  # says where it was measured
    weight = np.linspace(0.1, 0.9, 41, dtype=np.float32)
    samples = GainSamples(np.array([0, 40, 40, 41]), xy, np.full((41, 3), 0.25, np.float32), gain, weight)
    pairs = Pairs(np.arange(3), np.zeros(3, np.int64), np.ones(3, np.float32), np.full(3, 1 / 3))
    batch = TrainingData(Flat([0.2, 0.4, 0.6]), Flat([0.5]), pairs).draw(np.random.default_rng(1), 30, 16)
    asked = ask(samples, batch, np.random.default_rng(2), 20)
    for row, photo in enumerate(batch.index_a):
        position = asked.position[row, 0].numpy()
        if photo == 1:
            assert not asked.weight[row].any()
            continue
        if photo == 2 and not asked.weight[row].any():
            continue
        in_photo = position @ batch.matrix_a[row][:, :2].T + batch.matrix_a[row][:, 2]
        np.testing.assert_allclose(in_photo, asked.gain[row, :2, 0].T, atol=1e-5)
        assert ((position > 0) & (position < 1)).all()
        at = [int(np.argmin(((xy - place) ** 2).sum(axis=1))) for place in in_photo]
        assert {40} == set(at) if photo == 2 else 40 not in at
        np.testing.assert_allclose(asked.weight[row, 0, 0], weight[at])
    assert not asked.weight[[*batch.index_a].index(2)].any()


def test_a_grid_that_has_the_measured_gains_has_no_loss(data):
    recipe = recipe_of(data)
    stops = torch.tensor([1.0, -0.5, 0.25])
    grid = stops.repeat_interleave(4).view(1, 12, 1, 1).expand(2, 12, 4, 6)
    anchor, brighter = torch.full((2, 1, 1, 1), -2.0), torch.tensor([0.0, 0.8])
    plate = torch.rand((2, 3, 1, 9), generator=torch.Generator().manual_seed(0)) * 0.8 + 0.05
    position = torch.rand((2, 1, 9, 2), generator=torch.Generator().manual_seed(1))
    gain = stops.view(1, 3, 1, 1).expand(2, 3, 1, 9)
    asked = AskedGains(position, plate, gain, torch.ones(2, 1, 1, 9))
    assert recipe.gain_loss(grid, anchor, asked, brighter) < 1e-5
    off = recipe.gain_loss(grid + 1, anchor, asked, brighter)
    assert 0.1 < off < 2.0  # one stop, times 0.1 where the result is dark to 2 where it is bright
    # Places without weight have no say; a batch without any has no loss.
    wrong = dataclasses.replace(asked, gain=gain + 3.0, weight=torch.zeros(2, 1, 1, 9))
    assert recipe.gain_loss(grid, anchor, wrong, brighter) == 0.0
    # A clipped sky that is shown brighter needs so much less gain to reach what the other day's photo shows.
    clipped = dataclasses.replace(asked, plate=torch.ones(2, 3, 1, 9))
    assert recipe.gain_loss(grid, anchor, clipped, torch.zeros(2)) < 1e-5
    assert recipe.gain_loss(grid - 0.8, anchor, clipped, torch.full((2,), 0.8)) < 1e-5


def test_clipped_pixels_alone_are_shown_brighter():
    linear = torch.tensor([0.2, 0.9, 0.95, 1.0]).expand(2, 3, 1, 4)
    shown, added = unclip(linear, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(added[1, 0, 0], torch.tensor([0.0, 0.0, 0.5, 1.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(shown[1, 2, 0], torch.tensor([0.2, 0.9, 0.95 * 2**0.5, 2.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(shown[0], linear[0])


def test_roughness_is_the_mean_step_between_cells():
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(2, 3, 4, 5)
    assert roughness(ramp) == 1.0
    assert roughness(2.0 * ramp.transpose(2, 3)) == 2.0
    assert roughness(torch.full((1, 3, 2, 2), 7.0)) == 0.0


def test_crops_have_the_shapes_of_plates():
    rng = np.random.default_rng(0)
    sizes = [crop_size(rng, 256) for _ in range(400)]
    assert {*sizes} == {(192, 256), (144, 256), (112, 256), (256, 192)}
    assert np.mean([size == (192, 256) for size in sizes]) == pytest.approx(dict(ASPECTS)[4 / 3], abs=0.08)
    assert all(side % 16 == 0 for size in sizes for side in size)


def test_the_learning_rate_warms_up_and_falls_to_nothing(data):
    rates = [rate_share(done) for done in np.linspace(0, 1, 101)]
    assert 0 < rates[0] < 0.1
    assert max(rates) > 0.99
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert sorted(rates[3:], reverse=True) == rates[3:]
    recipe = recipe_of(data, dataclasses.replace(SMALL, adversarial_weight=0.0))
    before = weights(recipe.net)
    recipe.step(np.random.default_rng(0), 1.0)
    assert same(before, weights(recipe.net))


def test_relights_any_size_and_what_is_brighter_than_white(data):
    recipe = recipe_of(data)
    photos = torch.rand((2, 3, 37, 53), generator=torch.Generator().manual_seed(0))
    relit = recipe.relight(photos, "ab")
    torch.testing.assert_close(relit, photos, atol=1e-5, rtol=0)  # a fresh network changes nothing
    with torch.no_grad():
        recipe.averaged.leave.bias.fill_(-2.0)
    darker = recipe.relight(photos * 1.5, "ab")
    assert not darker.requires_grad
    assert 0.0 <= darker.min() <= darker.max() <= 1.0
    linear = srgb_to_linear((photos * 1.5).numpy())
    expected = linear * 2.0 ** (6 * np.tanh(-2 / 6))
    np.testing.assert_allclose(srgb_to_linear(darker.numpy()), expected.clip(0, 1), rtol=1e-3, atol=1e-5)


def test_exports_an_operator_look_that_later_steps_do_not_change(data):
    recipe = recipe_of(data)
    spec = recipe.export("ab")
    facts = LookFacts(name="test", **spec.facts)
    assert (facts.translator, facts.direction, facts.operators) == ("relight", "ab", ("grid", "anchor", "doubt"))
    assert (facts.encoding, facts.value_range, facts.primaries) == ("linear", "unbounded", "lin_rec709")
    assert facts.aovs == ("gain", "confidence")
    assert spec.output_names == ("relit", *facts.operators, *facts.aovs)
    before = spec.module(*spec.inputs)[0].clone()
    with torch.no_grad():
        recipe.averaged.leave.bias.fill_(1.0)
    assert torch.equal(spec.module(*spec.inputs)[0], before)


def test_photos_that_have_nothing_in_common_are_refused(data):
    with pytest.raises(TrainingError, match="No place of the set was recognised"):
        recipe_of(TrainingData(data.a, data.b, data.pairs, (NO_GAINS, NO_GAINS)))
    only_patches = recipe_of(TrainingData(data.a, data.b, data.pairs, (NO_GAINS, data.gains[1])))
    losses = only_patches.step(np.random.default_rng(0), 0.0)
    assert losses["points"] == 0.0
    assert losses["patches"] > 0.0


def test_learns_in_mixed_precision_as_the_loop_runs_it_on_a_gpu(data):
    recipe, exact = recipe_of(data), recipe_of(data)
    for step in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            losses = recipe.step(np.random.default_rng(step), 0.9)
        assert losses == pytest.approx(exact.step(np.random.default_rng(step), 0.9), rel=0.1, abs=0.02)
    for network in recipe.networks.values():
        assert {value.dtype for value in weights(network).values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_full_size_steps_on_a_gpu_in_mixed_precision(data):
    torch.manual_seed(0)
    recipe = build(RelightSettings(), data, torch.device("cuda"))
    for step in range(5):
        with torch.autocast("cuda", torch.bfloat16):
            losses = recipe.step(np.random.default_rng(step), 0.9)
    assert all(np.isfinite(list(losses.values())))
    assert recipe.relight(torch.rand(1, 3, 40, 60), "ab").device.type == "cuda"
    assert {p.device.type for p in recipe.export("ab").module.parameters()} == {"cpu"}


def test_settings_go_to_yaml_and_back_and_each_explains_itself():
    assert from_dict(RelightSettings, to_dict(SMALL), "test") == SMALL
    assert [field.key for field in fields_of(RelightSettings) if not field.help] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points_per_photo", 0), ("batch_size", 0), ("adversarial_from", 1.5), ("bright_weight", 1.2),
        ("bright_weight", -0.1), ("smooth_weight", -1.0), ("unclip_stops", -0.5),
    ],
)  # fmt: skip
def test_settings_without_sense_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        RelightSettings(**{name: value})


def test_a_learning_rate_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="learning rate"):
        RelightSettings(critic_learning_rate=0.0)
