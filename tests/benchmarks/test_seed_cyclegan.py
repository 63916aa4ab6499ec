import copy
import dataclasses
import math

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from benchmarks import seed_cyclegan
from benchmarks.seed_networks import SeedCritic, SeedTranslator, feature_loss
from benchmarks.seed_recipe import SeedPhotos, SeedRecipe, SeedSettings, seed_crop, warm_restarts
from relightgan.core.errors import ConfigError, PhotoError, UsageError
from relightgan.core.look import load_look
from relightgan.core.session import LookSession
from relightgan.training.fit import checkpoint
from relightgan.training.run.recipes import PRESETS

pytestmark = pytest.mark.fits

SMALL = SeedSettings(filters=16, blocks=1, critic_filters=16, batch_size=2, size_px=32, partners=3)


class Bank:
    """Photos that lie in memory; it notes which of them were read."""

    def __init__(self, photos):
        self.photos, self.read = photos, []

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        self.read.append(index)
        return self.photos[index]


def made_up(count, height, width, seed):
    """Soft blotches, a different picture each."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.random((count, 3, 6, 8), np.float32))
    soft = F.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)
    return list(soft.permute(0, 2, 3, 1).contiguous().numpy())


def photos_of(settings=SMALL, seed=0):
    rng = np.random.default_rng(3)
    features = rng.standard_normal((9, 12)), rng.standard_normal((7, 12))
    banks = [Bank(made_up(count, 40, 56, count)) for count in (9, 7)]
    return SeedPhotos(*banks, *features, settings, seed)


def recipe_of(settings=SMALL, seed=0):
    torch.manual_seed(seed)
    return SeedRecipe(settings, photos_of(settings), torch.device("cpu"))


def step(recipe, number, fraction=0.0):
    """One step as the loop makes it: dropout draws from torch's generator."""
    torch.manual_seed(number)
    return recipe.step(np.random.default_rng(number), fraction)


def weights(networks):
    return [value.clone() for network in networks.values() for value in network.state_dict().values()]


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def flat(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients])


# The networks


def test_full_size_is_the_published_one():
    count = [
        sum(parameter.numel() for parameter in network.parameters()) for network in (SeedTranslator(), SeedCritic())
    ]
    assert [round(number / 1e6, 2) for number in count] == [11.38, 2.64]
    assert SeedCritic(16)(torch.zeros(1, 3, 128, 128))[0].shape == (1, 1, 13, 13)


def test_the_norm_comes_after_the_activation_and_features_before_it():
    critic, picture = SeedCritic(16), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    _, (second, third) = critic(picture)
    first = F.instance_norm(F.leaky_relu(critic.hidden[0](picture), 0.2))
    assert torch.equal(second, F.leaky_relu(critic.hidden[1](first), 0.2))
    assert torch.equal(third, F.leaky_relu(critic.hidden[2](F.instance_norm(second)), 0.2))


def test_exposure_is_erased_behind_the_first_halving_as_published():
    # The first convolution's own bias aside, a plate and the same plate with half the contrast look alike inside.
    torch.manual_seed(0)
    network = SeedTranslator(16, blocks=1)
    with torch.no_grad():
        network.first.bias.zero_()
        network.first.weight.mul_(20.0)  # as after some training: above what the norm adds to its variance
        plate = torch.randn(1, 3, 32, 32)
        inside = [F.instance_norm(F.leaky_relu(network.down[0](network.first(x)), 0.2)) for x in (plate, 0.5 * plate)]
    torch.testing.assert_close(*inside, atol=1e-3, rtol=0)


def test_dropout_is_on_in_training_and_off_where_pictures_are_shown():
    recipe = recipe_of()
    network, plate = recipe.translators["ab"], torch.rand(1, 3, 32, 32)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.5]
    with torch.no_grad():
        network.train()
        torch.manual_seed(0)
        noisy = network(plate), network(plate)
        network.eval()
        calm = network(plate), network(plate)
    assert not torch.equal(*noisy)
    assert torch.equal(*calm)
    assert torch.equal(recipe.relight(plate, "ab"), recipe.relight(plate, "ab"))
    step(recipe, 0)
    assert all(translator.training for translator in recipe.translators.values())
    assert not recipe.export("ab").module.training


def test_features_are_compared_over_the_batch_alone():
    real, fake = torch.tensor([[0.0, 4.0], [2.0, 4.0]]), torch.tensor([[1.0, 4.0], [1.0, 8.0]])
    # Means 1, 4 and 1, 6; deviations of two are their distance over sqrt(2): 2, 0 and 0, 4, each over sqrt(2).
    expected = (0 + 4) / 2 + (2 + 8) / 2
    layers = [tensor.reshape(2, 1, 1, 2) for tensor in (real, fake)]
    assert feature_loss([layers[0]], [layers[1]]).item() == pytest.approx(expected)
    # Moving a picture's pixels about counts as a difference, which it wouldn't if space were averaged over too.
    assert feature_loss([layers[0]], [layers[0].flip(3)]).item() > 1.0


# The way it was trained


def test_the_critics_move_by_the_translators_gradient_as_well():
    recipe, lonely = recipe_of(), recipe_of()
    step(recipe, 0)
    moved = {
        name: flat([parameter.grad for parameter in critic.parameters()]) for name, critic in recipe.critics.items()
    }
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    a, b = (2 * photos - 1 for photos in lonely.data.draw(rng, 0))
    losses, fakes, real_scores = lonely.translator_losses(a, b)
    for name, critic in lonely.critics.items():
        own_parameters = list(critic.parameters())
        scores, _ = critic(fakes[name].detach())  # the pool is empty yet
        entropies = [
            F.binary_cross_entropy(given, wanted)
            for given, wanted in (
                (real_scores[name], torch.ones_like(scores)),
                (scores, torch.zeros_like(scores)),
            )
        ]
        own = flat(torch.autograd.grad(0.5 * sum(entropies), own_parameters, retain_graph=True))
        leaked = flat(torch.autograd.grad(losses["translators"], own_parameters, retain_graph=True))
        assert leaked.norm() > 0.1 * own.norm()
        torch.testing.assert_close(moved[name], own + leaked, atol=1e-5, rtol=1e-3)
        # And so what Adam makes of it isn't the update a critic alone would have made.
        alone = copy.deepcopy(critic)
        optimiser = torch.optim.Adam(alone.parameters(), lr=1e-4, betas=(0.5, 0.999), weight_decay=1e-5)
        start = 0
        for parameter in alone.parameters():
            parameter.grad = own[start : start + parameter.numel()].reshape(parameter.shape).clone()
            start += parameter.numel()
        optimiser.step()
        assert not same(weights({name: alone}), weights({name: recipe.critics[name]}))


def test_losses_are_weighed_as_published():
    losses = step(recipe_of(), 0)
    expected = 0.5 * losses["adversarial"] + 0.5 * losses["features"] + 10 * losses["cycle"]
    assert losses["translators"] == pytest.approx(expected, rel=1e-5)
    assert set(losses) == {"adversarial", "cycle", "features", "translators", "critic_a", "critic_b"}


def test_a_few_steps_lower_what_the_translators_minimise():
    recipe = recipe_of(dataclasses.replace(SMALL, learning_rate=2e-3))
    losses = [step(recipe, number)["cycle"] for number in range(30)]
    assert np.mean(losses[-5:]) < 0.92 * np.mean(losses[:5])  # 0.83


def test_adam_is_the_published_one():
    for optimiser in recipe_of().optimisers.values():
        (group,) = optimiser.param_groups
        assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 1e-5)
    assert [pool.size for pool in recipe_of().pools.values()] == [50, 50]


def test_warm_restarts_are_half_cosines_of_1_2_4_parts():
    assert [round(warm_restarts(part / 7, 3), 6) for part in (0, 0.5, 1, 2, 3, 5, 7)] == [1, 0.5, 1, 0.5, 1, 0.5, 0]
    assert warm_restarts(0.99999 / 7, 3) == pytest.approx(0, abs=1e-6)
    recipe = recipe_of(dataclasses.replace(SMALL, cycles=1))
    step(recipe, 0, 0.5)
    assert [group["lr"] for o in recipe.optimisers.values() for group in o.param_groups] == pytest.approx([5e-5] * 3)


def test_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path):
    recipe = recipe_of()
    for number in range(4):
        step(recipe, number)
    path = checkpoint.save_checkpoint(tmp_path, recipe, checkpoint.FitProgress(images=8), {}, "photos", 1)
    other = recipe_of(seed=1)
    checkpoint.restore(checkpoint.read_checkpoint(path), path, other)
    assert other.position == 8
    for number in range(4, 7):
        assert step(recipe, number, 0.2) == step(other, number, 0.2)
    assert same(weights(recipe.networks), weights(other.networks))


# The photos


def test_an_epoch_shows_every_photo_of_both_lights_with_one_of_its_nearest():
    photos, rng = photos_of(), np.random.default_rng(0)
    assert len(photos) == 16
    assert photos.partners_a.shape == (9, 3)
    for position in range(0, 16, 2):
        a, b = photos.draw(rng, position)
    assert a.shape == b.shape == (2, 3, 32, 32)
    assert set(photos.a.read) == set(range(9))
    assert set(photos.b.read) == set(range(7))
    for i, j in zip(photos.a.read, photos.b.read, strict=True):
        assert j in photos.partners_a[i] or i in photos.partners_b[j]


@pytest.mark.parametrize("zoom", [1.0, 1.7, 2.5])
def test_a_crop_stays_in_the_middle_square_however_it_is_rolled(zoom):
    wide = np.zeros((60, 100, 3), np.float32)
    wide[:, 19:81] = 1.0  # the middle square, and a hair
    crops = [
        seed_crop(np.random.default_rng(seed), wide, zoom, math.radians(roll * zoom), 32)
        for roll in (-6.0, 6.0)
        for seed in range(5)
    ]
    assert min(crop.min() for crop in crops) > 0.99
    assert crops[0].shape == (32, 32, 3)


# The look and the command


def test_onnxruntime_gives_torchs_numbers_and_a_session_runs_it_as_a_signed_picture(tmp_path):
    recipe = recipe_of()
    spec = recipe.export("ab")
    seed_cyclegan.export_look(spec, tmp_path / "seed.onnx", {"name": "seed"})
    look = load_look(tmp_path / "seed.onnx")
    assert (look.facts.translator, look.facts.value_range, look.facts.size_multiple) == ("seed-cyclegan", "signed", 4)
    photo = torch.from_numpy(np.stack(made_up(1, 48, 64, 5))).permute(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(look.model, providers=["CPUExecutionProvider"])
    (found,) = session.run(["relit"], {"plate": (2 * photo - 1).numpy()})
    np.testing.assert_allclose(found, 2 * recipe.relight(photo, "ab").numpy() - 1, atol=1e-4)
    plate = np.random.default_rng(0).random((45, 61, 3), np.float32) * 3
    assert LookSession(look, "cpu").predict(plate)["gain"].shape == (3, 45, 61)


def test_overlap_is_as_far_as_a_convolution_looks():
    network = SeedTranslator(16, blocks=2)
    assert SeedTranslator().reach_px == 87
    # With the norms out of the way, a pixel looks no further than that.
    norm, F.instance_norm = F.instance_norm, lambda x: x
    try:
        plate = torch.rand(1, 3, 96, 96, requires_grad=True)
        network.eval()(plate)[0, :, 48, 48].sum().backward()
    finally:
        F.instance_norm = norm
    rows = plate.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert max(48 - int(rows[0]), int(rows[-1]) - 48) <= network.reach_px


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dumps")
    for name, light in (("day1", 1.0), ("day2", 0.6)):
        (folder / name).mkdir()
        for number, photo in enumerate(made_up(10, 96, 128, len(name) + int(light * 10))):
            grain = np.random.default_rng(number).random((96, 128, 1)) * 0.2
            pixels = np.round((photo * 0.8 + grain).clip(0, 1) * light * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def words(folders, out, *more):
    return [
        "--source", str(folders / "day1"), "--target", str(folders / "day2"), "--out", str(out), "--filters", "16",
        "--blocks", "1", "--critic-filters", "16", "--batch", "2", "--size-px", "32", "--device", "cpu",
        "--progress", "none", *more,
    ]  # fmt: skip


def test_two_folders_go_in_and_looks_of_both_directions_come_out(folders, tmp_path, capsys):
    out = tmp_path / "seed.onnx"
    command = words(folders, out, "--steps", "3", "--both-directions")
    assert seed_cyclegan.main(command) == 0
    assert capsys.readouterr().out.split() == [str(out), str(tmp_path / "seed_back.onnx")]
    ways = [load_look(path).facts for path in (out, tmp_path / "seed_back.onnx")]
    assert [facts.direction for facts in ways] == ["ab", "ba"]
    assert ways[0].config["seed_cyclegan"]["filters"] == 16
    assert "cyclegan" not in ways[0].config
    assert [path.name for path in (tmp_path / "seed_run" / "checkpoints").iterdir()] == ["checkpoint-000000006.pt"]
    # The same command again finds it finished.
    first = load_look(out).model
    assert seed_cyclegan.main(command) == 0
    assert onnx_weights(load_look(out).model) == onnx_weights(first)
    assert "finished before" in (tmp_path / "seed_run" / "log.txt").read_text()


def onnx_weights(model):
    import onnx

    return [tensor.raw_data for tensor in onnx.load_model_from_string(model).graph.initializer]


def test_without_a_limit_the_fit_is_as_long_as_published():
    assert seed_cyclegan.steps_wanted(1714, 8, None, None) == 437_070  # 12,000 frames in batches of 7, 255 epochs
    assert seed_cyclegan.steps_wanted(1714, 8, 10, None) == seed_cyclegan.steps_wanted(1714, 8, 10, 5.0) == 10
    assert seed_cyclegan.steps_wanted(1714, 8, None, 5.0) is None


@pytest.mark.parametrize(
    ("more", "error", "named"),
    [
        (["--steps", "0"], UsageError, "--steps is 0"),
        (["--max-minutes", "-1"], UsageError, "--max-minutes is -1"),
        (["--batch", "1"], ConfigError, "batch_size is 1"),
        (["--size-px", "16"], ConfigError, "size_px is 16"),
        (["--filters", "30"], ConfigError, "multiple of 4"),
        (["--out", "look.txt"], UsageError, r"an \.onnx file"),
        (["--source", "nowhere"], PhotoError, "nowhere is not a folder"),
    ],
)
def test_what_makes_no_sense_is_named_before_anything_is_done(folders, tmp_path, more, error, named):
    with pytest.raises(error, match=named):
        seed_cyclegan.main(words(folders, tmp_path / "seed.onnx", *more))
    assert list(tmp_path.iterdir()) == []


def test_it_is_no_preset_of_the_product():
    assert not [name for name in PRESETS if "seed" in name]
