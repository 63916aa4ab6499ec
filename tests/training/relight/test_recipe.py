import copy
import dataclasses

import cv2
import numpy as np
import painted_set
import pytest
import torch

from relightgan.core.colour import srgb_to_linear
from relightgan.core.errors import ConfigError, TrainingError
from relightgan.core.look import LookFacts
from relightgan.training.fit.batches import TrainingData
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.pairs.pairing import Pairs
from relightgan.training.pairs.patch_gains import GainSamples
from relightgan.training.relight import recipe as recipe_relight
from relightgan.training.relight.detail import measured_detail
from relightgan.training.relight.gain_grid import plate_gain
from relightgan.training.relight.lessons import Lesson
from relightgan.training.relight.networks import GainGridSettings
from relightgan.training.relight.recipe import (
    ASPECTS,
    BIAS_RATE,
    RelightSettings,
    build,
    crop_size,
    doubt_loss,
    rate_share,
    roughness,
    unclip,
)
from relightgan.training.settings import fields_of, from_dict, to_dict
from relightgan.training.stops import DARK_FLOOR
from relightgan.training.torch_colour import decode_srgb, encode_srgb

pytestmark = pytest.mark.fits

SMALL = RelightSettings(
    net=GainGridSettings(proxy_px=64, depth=4, width=4), patches_per_photo=128, batch_size=3, learning_rate=0.03,
)  # fmt: skip
NO_GAINS = GainSamples(np.zeros(7, np.int64), *(np.zeros((0, *n), np.float32) for n in ((2,), (3,), (3,), ())))


@pytest.fixture(scope="module")
def data(measured_days):
    days = measured_days
    return TrainingData(days.first, days.second, days.pairs, days.gains)


@pytest.fixture(scope="module")
def guided_data(
    measured_days,
):
    """The same photos with guidance for all but the first: what the second day made of them, fading to the left."""
    days, maps = measured_days, []
    for photo, sky in list(zip(days.first.photos, days.skies, strict=True))[1:]:
        later = cv2.resize(painted_set.second_day(srgb_to_linear(photo), sky), (48, 36), interpolation=cv2.INTER_AREA)
        maps.append(np.log2(later.clip(0, 1) + DARK_FLOOR))
    weight = np.linspace(0, 1, 48).clip(0, 0.5) * 2 * np.ones((len(maps), 36, 1))
    guidance = GuidanceMaps(np.arange(1, 6), np.stack(maps).astype(np.float16), weight.astype(np.float16))
    return TrainingData(days.first, days.second, days.pairs, guidance=guidance)


@pytest.fixture(scope="module", params=["measured", "guided"])
def either(request, data, guided_data):
    """Data with measured gains, and data with guidance."""
    return {"measured": data, "guided": guided_data}[request.param]


def recipe_of(data, settings=SMALL, seed=0):
    torch.manual_seed(seed)
    return build(settings, data, torch.device("cpu"))


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def relit_stops(recipe, photo):
    """log2 of a photo relit over the photo, linear (H, W, 3)."""
    photos = torch.from_numpy(photo).permute(2, 0, 1)[None]
    relit = recipe.relight(photos, "ab")[0].permute(1, 2, 0).numpy()
    return np.log2((srgb_to_linear(relit) + 1e-4) / (srgb_to_linear(photo) + 1e-4))


def test_120_steps_move_sky_and_ground_each_its_own_way(
    either,
):
    recipe = recipe_of(either)
    rng = np.random.default_rng(0)
    losses = [recipe.step(rng, step / 120) for step in range(120)]
    name = "guided" if either.guidance else "measured"
    first, last = (np.mean([loss[name] for loss in part]) for part in (losses[:5], losses[-10:]))
    assert last < 0.5 * first
    recipe.averaged.load_state_dict(recipe.net.state_dict())  # the loop's business
    rng = np.random.default_rng(50)  # a view that nobody photographed
    linear, sky = painted_set.view(rng, horizon=0.45)
    unseen = painted_set.linear_to_srgb(linear)
    stops = relit_stops(recipe, unseen)
    np.testing.assert_allclose(stops[sky].mean(axis=0), painted_set.SKY_STOPS, atol=0.2)
    np.testing.assert_allclose(stops[~sky].mean(axis=0), painted_set.GROUND_STOPS, atol=0.2)
    truth = painted_set.second_day(linear, sky)
    away = np.abs(np.log2(truth / linear)).mean()
    assert np.abs(stops - np.log2(truth / linear)).mean() < 0.25 * away


def test_a_step_tells_its_losses_by_the_kind_of_lesson(data, guided_data):
    for fraction in (0.1, 0.9):
        measured, guided = (recipe_of(d).step(np.random.default_rng(0), fraction) for d in (data, guided_data))
        assert list(measured) == ["measured", "smooth", "doubt", "white", "rolloff", "steady"]
        assert list(guided) == ["guided", "smooth", "doubt", "white", "rolloff", "steady"]


@pytest.mark.parametrize("number", [2, 3, 8])
@pytest.mark.parametrize("moved", [0.0, 1.0])
def test_the_losses_of_parts_add_up_to_those_of_the_batch(either, number, moved, monkeypatch):
    monkeypatch.setattr(recipe_relight, "STEADY_SHARE", moved)
    recipe = recipe_of(either, dataclasses.replace(SMALL, batch_size=8))
    recipe.step(np.random.default_rng(0), 0.5)  # a fresh grid has no roughness yet
    batch = recipe.draw(np.random.default_rng(1))
    assert (batch.motion is not None) == bool(moved)
    batch.lesson.weight[0] = 0  # a picture that nothing is known of
    parameters, found = list(recipe.net.parameters()), []
    for parts in (1, number):
        shares = recipe_relight.batch_parts(batch, parts)
        losses = recipe_relight.descend(shares, recipe.losses, parameters)
        found.append((losses, torch.cat([parameter.grad.flatten() for parameter in parameters])))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-4)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-3, atol=1e-5)


def test_each_loss_counts_by_its_weight(data, monkeypatch):
    monkeypatch.setattr(recipe_relight, "STEADY_SHARE", 1.0)

    def after(**changes):
        recipe, rng = recipe_of(data, dataclasses.replace(SMALL, **changes)), np.random.default_rng(0)
        found = [recipe.step(rng, 0.5) for _ in range(2)]  # a fresh grid has no roughness yet
        assert any(losses["steady"] for losses in found) == bool(recipe.settings.steady_weight)
        return weights(recipe.net)

    plain = after()
    assert same(plain, after())
    for name in ("smooth_weight", "steady_weight", "rolloff_weight"):
        assert not same(plain, after(**{name: 5.0})), name
    assert not same(plain, after(steady_weight=0.0))


def test_guided_photos_alone_are_drawn_and_show_what_is_wanted(
    guided_data,
):
    recipe = recipe_of(guided_data)
    drawn, rng = set(), np.random.default_rng(0)
    real = recipe_relight.draw_photos
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            recipe_relight,
            "draw_photos",
            lambda r, bank, photos, size: (drawn.update(photos), real(r, bank, photos, size))[1],
        )
        parts = [recipe.draw(rng) for _ in range(20)]
    assert drawn == {1, 2, 3, 4, 5}
    for part in parts:
        torch.testing.assert_close(part.lesson.plate, torch.nn.functional.avg_pool2d(part.plate, 2))
    gains = torch.cat([
        (lesson.wanted - torch.log2(lesson.plate + DARK_FLOOR)).permute(0, 2, 3, 1)[lesson.weight[:, 0] > 0.9]
        for lesson in (part.lesson for part in parts)
    ]).numpy()  # fmt: skip
    # Away from the horizon every place is sky or ground, as painted, less a little for the floor of the dark.
    off = [np.abs(gains - stops).mean(axis=1) for stops in (painted_set.SKY_STOPS, painted_set.GROUND_STOPS)]
    assert np.mean(np.min(off, axis=0) < 0.15) > 0.8
    assert min(np.mean(part < 0.15) for part in off) > 0.2


@pytest.mark.parametrize("kind", ["measured", "guided"])
def test_clipped_places_are_shown_brighter_and_what_is_wanted_stays(kind, measured_days):
    class White:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return np.ones((60, 80, 3), np.float32)

    pairs = Pairs(np.zeros(1, int), np.zeros(1, int), np.ones(1, np.float32), np.ones(1))
    stops, count = np.log2(0.5 + DARK_FLOOR), 30
    if kind == "guided":
        maps = GuidanceMaps(np.zeros(1, int), np.full((1, 6, 8, 3), stops, np.float16), np.ones((1, 6, 8), np.float16))
        data = TrainingData(White(), White(), pairs, guidance=maps)
    else:
        xy = np.random.default_rng(0).random((count, 2)).astype(np.float32)
        gain = np.full((count, 3), stops - np.log2(1 + DARK_FLOOR), np.float32)
        samples = GainSamples(np.array([0, count]), xy, np.ones_like(gain), gain, np.ones(count, np.float32))
        data = TrainingData(White(), White(), pairs, samples)
    settings = dataclasses.replace(SMALL, unclip_stops=2.0, batch_size=8)
    batch = recipe_of(data, settings).draw(np.random.default_rng(0))
    plate, lesson = batch.plate, batch.lesson
    assert 1.0 <= plate.min() < 2.0 < plate.max() <= 4.0
    assert (plate.amax(dim=(1, 2, 3)) / plate.amin(dim=(1, 2, 3))).max() > 1.3  # skies have clouds
    at = torch.nn.functional.grid_sample(plate, lesson.position * 2 - 1, padding_mode="border", align_corners=False)
    torch.testing.assert_close(lesson.plate, at, rtol=0.02, atol=0)
    torch.testing.assert_close(lesson.wanted, torch.full_like(lesson.wanted, stops), atol=1e-3, rtol=0)


def test_gains_learn_the_same_with_and_without_doubt(either, monkeypatch):
    def gradients(fraction):
        recipe = recipe_of(either)
        kept = {}
        stepped = recipe.optimisers["kernels"].step
        gains = {name for name, _ in recipe.net.named_parameters() if not name.startswith(("doubt.", "white."))}

        def step():
            kept.update({name: p.grad.clone() for name, p in recipe.net.named_parameters() if name in gains})
            stepped()

        monkeypatch.setattr(recipe.optimisers["kernels"], "step", step)
        recipe.step(np.random.default_rng(0), fraction)
        return kept, {name: value for name, value in weights(recipe.net).items() if name in gains}

    for fraction in (0.1, 0.9):
        with_doubt = gradients(fraction)
        with monkeypatch.context() as patch:
            patch.setattr(recipe_relight, "doubt_loss", lambda doubt, *answer: 0.0 * doubt.sum())
            without = gradients(fraction)
            patch.setattr(recipe_relight, "doubt_loss", lambda doubt, *answer: 1e4 * doubt_loss(doubt, *answer))
            loud = gradients(fraction)  # steep: nothing of it may reach the gains
        for other in (without, loud):
            assert all(same(*pair) for pair in zip(with_doubt, other, strict=True))
        assert any(bool(g.any()) for g in with_doubt[0].values())


@pytest.mark.parametrize("kind", ["measured", "guided"])
def test_doubt_grows_where_the_lessons_contradict_each_other(kind, data, guided_data, monkeypatch):
    # On the right half of every crop half of the places want four stops less: no network can foretell which. (None
    # wants more, since above white nothing is too bright.)
    chosen = guided_data if kind == "guided" else data
    recipe = recipe_of(chosen)
    contrary = np.random.default_rng(9)
    real = getattr(recipe_relight, f"{kind}_lesson")

    def contradict(*arguments):
        lesson = real(*arguments)
        right = lesson.position[..., :1].permute(0, 3, 1, 2) > 0.5
        less = torch.from_numpy(contrary.choice([-4.0, 0.0], lesson.weight.shape).astype(np.float32))
        return dataclasses.replace(lesson, wanted=lesson.wanted + less * right)

    rng = np.random.default_rng(0)
    monkeypatch.setattr(recipe_relight, f"{kind}_lesson", contradict)
    losses = [recipe.step(rng, step / 120)["doubt"] for step in range(120)]
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.2
    batch = chosen.draw(np.random.default_rng(5), 6, (48, 64))
    with torch.no_grad():
        doubt = recipe.net(decode_srgb(batch.a)).doubt
    left, right = (part.mean().item() for part in doubt.split(doubt.shape[-1] // 2, dim=-1))
    assert right > left


def test_the_doubt_s_loss_is_least_at_the_mean_error():
    plate, position = torch.full((1, 3, 1, 5), 0.3), torch.full((1, 1, 5, 2), 0.5)
    gain = torch.tensor([0.2, -0.5, 0.25]).view(1, 3, 1, 1).expand(1, 3, 1, 5)
    relit = torch.log2(plate * torch.exp2(gain) + DARK_FLOOR)
    # The last but one has no weight; the last is above what was clipped, which is no error.
    wanted = relit + torch.tensor([0.0, 0.4, -0.8, 9.0, 0.0])
    wanted[..., 4], gain = 0.0, gain + torch.tensor([0.0, 0.0, 0.0, 0.0, 4.0])
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0]).view(1, 1, 1, 5)
    lesson = Lesson(position, plate, wanted, weight)
    levels = [0.075, 0.15, 0.3, 0.6, 1.2]  # the mean error of those with a weight is 0.3
    losses = [doubt_loss(torch.full((1, 1, 4, 6), level), lesson, gain).item() for level in levels]
    assert levels[int(np.argmin(losses))] == 0.3
    assert doubt_loss(torch.full((1, 1, 4, 6), 0.5), lesson, gain).item() == pytest.approx(0.0, abs=1e-6)
    unknown = dataclasses.replace(lesson, weight=torch.zeros_like(weight))
    assert doubt_loss(torch.full((1, 1, 4, 6), 0.3), unknown, gain).item() == 0.0


def test_a_step_is_a_function_of_weights_and_random_state(either):
    first, second = recipe_of(either), recipe_of(either)
    for fraction in (0.1, 0.9):
        assert first.step(np.random.default_rng(5), fraction) == second.step(np.random.default_rng(5), fraction)
    assert same(weights(first.net), weights(second.net))
    assert first.step(np.random.default_rng(6), 0.9) != second.step(np.random.default_rng(7), 0.9)


def test_goes_on_from_its_saved_state_to_the_same_numbers(either):
    recipe, other = recipe_of(either), recipe_of(either, seed=1)
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


def test_clipped_pixels_alone_are_shown_brighter():
    linear = torch.tensor([0.2, 0.9, 0.95, 1.0]).expand(2, 3, 1, 4)
    shown, added = unclip(linear, torch.tensor([0.0, 1.0])[:, None, None, None])
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
    recipe = recipe_of(data)
    before = weights(recipe.net)
    recipe.step(np.random.default_rng(0), 1.0)
    assert same(before, weights(recipe.net))
    recipe.step(np.random.default_rng(0), 0.5)
    rates = {name: [group["lr"] for group in each.param_groups] for name, each in recipe.optimisers.items()}
    assert rates["kernels"] == [SMALL.learning_rate * rate_share(0.5)]
    assert rates["biases"] == [rates["kernels"][0] * BIAS_RATE]


def test_every_weight_is_stepped_by_one_optimiser(data):
    recipe = recipe_of(data)
    stepped = [id(p) for each in recipe.optimisers.values() for group in each.param_groups for p in group["params"]]
    assert sorted(stepped) == sorted(id(parameter) for parameter in recipe.net.parameters())
    before = weights(recipe.net)
    for step in range(2):  # layers that begin at 0 hide those before them from the first gradient
        recipe.step(np.random.default_rng(step), 0.5)
    moved = {name: not torch.equal(value, before[name]) for name, value in weights(recipe.net).items()}
    assert [name for name, yes in moved.items() if not yes] == ["detail"]


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
    assert (facts.translator, facts.direction) == ("relight", "ab")
    assert facts.operators == ("grid", "anchor", "doubt", "guide", "white", "rolloff")
    assert (facts.encoding, facts.value_range, facts.primaries) == ("linear", "unbounded", "lin_rec709")
    assert facts.aovs == ("gain", "confidence")
    assert spec.output_names == ("relit", *facts.operators, *facts.aovs)
    before = spec.module(*spec.inputs)[0].clone()
    with torch.no_grad():
        recipe.averaged.leave.bias.fill_(1.0)
    assert torch.equal(spec.module(*spec.inputs)[0], before)


def test_a_look_has_the_detail_that_its_photos_ask_for(either):
    recipe = recipe_of(either)
    recipe.step(np.random.default_rng(0), 0.5)
    recipe.averaged.load_state_dict(recipe.net.state_dict())
    photo = torch.from_numpy(either.a[0]).permute(2, 0, 1)[None].contiguous()
    before = recipe.relight(photo, "ab")
    spec = recipe.export("ab")
    after = recipe.relight(photo, "ab")
    recipe.settings = dataclasses.replace(SMALL, match_detail=False)
    off = recipe.export("ab")
    wanted = measured_detail(recipe.averaged, either.a, either.b, either.pairs)
    assert wanted != 0
    recipe.settings = SMALL
    assert recipe.export("ab", learned=False).facts["evaluation"]["detail"] == 0  # it would be nothing but contrast
    plate, window = torch.rand((1, 3, 48, 64), generator=torch.Generator().manual_seed(0)), spec.inputs[1]
    for found, detail in ((spec, wanted), (off, 0.0)):
        with torch.no_grad():
            operators = recipe.averaged(plate)
            gain = plate_gain(plate, window, operators, SMALL.net.depth, torch.tensor(detail))
            whole, second = found.module(plate, window), found.halves[1](plate, window, *operators)
        torch.testing.assert_close(whole[-2], gain)
        torch.testing.assert_close(second[1], gain)
        assert found.module.net.detail.item() == pytest.approx(detail)
    # Pictures of the look, made after it, are what it makes; without the detail they are as they were.
    relit, *_ = spec.module(decode_srgb(photo), window)
    torch.testing.assert_close(after, encode_srgb(relit.clamp(0, 1)))
    assert not torch.equal(after, before)
    assert torch.equal(recipe.relight(photo, "ab"), before)


def test_photos_that_have_nothing_in_common_are_refused(data):
    for gains in (NO_GAINS, None):
        with pytest.raises(TrainingError, match="Nothing in the photos of one day looks like anything of the other"):
            recipe_of(TrainingData(data.a, data.b, data.pairs, gains))
    no_maps = GuidanceMaps(np.zeros(0, int), np.zeros((0, 6, 8, 3), np.float16), np.zeros((0, 6, 8), np.float16))
    with pytest.raises(TrainingError, match="nothing to learn from"):
        recipe_of(TrainingData(data.a, data.b, data.pairs, guidance=no_maps))


def test_learns_in_mixed_precision_as_the_loop_runs_it_on_a_gpu(either):
    recipe, exact = recipe_of(either), recipe_of(either)
    for step in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            losses = recipe.step(np.random.default_rng(step), 0.9)
        assert losses == pytest.approx(exact.step(np.random.default_rng(step), 0.9), rel=0.1, abs=0.02)
    for network in recipe.networks.values():
        assert {value.dtype for value in weights(network).values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_full_size_steps_on_a_gpu_in_mixed_precision(either):
    torch.manual_seed(0)
    recipe = build(RelightSettings(), either, torch.device("cuda"))
    before = weights(recipe.net)
    for step in range(5):
        with torch.autocast("cuda", torch.bfloat16):
            losses = recipe.step(np.random.default_rng(step), 0.9)
    assert all(np.isfinite(list(losses.values())))
    moved = {name: not torch.equal(value, before[name]) for name, value in weights(recipe.net).items()}
    assert [name for name, yes in moved.items() if not yes] == ["detail"]
    assert recipe.relight(torch.rand(1, 3, 40, 60), "ab").device.type == "cuda"
    assert {p.device.type for p in recipe.export("ab").module.parameters()} == {"cpu"}


def test_settings_go_to_yaml_and_back_and_each_explains_itself():
    assert from_dict(RelightSettings, to_dict(SMALL), "test") == SMALL
    assert [field.key for field in fields_of(RelightSettings) if not field.help] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patches_per_photo", 0),
        ("batch_size", 0),
        ("smooth_weight", -1.0),
        ("unclip_stops", -0.5),
        ("steady_weight", -0.1),
        ("rolloff_weight", -0.1),
    ],
)
def test_settings_without_sense_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        RelightSettings(**{name: value})


def test_a_learning_rate_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="learning rate"):
        RelightSettings(learning_rate=0.0)
