"""Measured gains: stops by which places became brighter, for days that can't be registered.

Patches are compared by their embeddings in content-paired photos: patches that look alike are taken to show the same
kind of surface under both lights. Such gains are coarse, so each has a weight. Unlike matched points, they also cover
sky, plaster and other surfaces without corners.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from relightgan.core.colour import srgb_to_linear
from relightgan.training.pairs.backbones import Backbone, to_picture
from relightgan.training.pairs.pairing import Pairs
from relightgan.training.photos.bank import Images
from relightgan.training.stops import to_stops

MAX_GAIN_STOPS = 5.0  # gains are clamped to this, either way; larger ones are mismatches
PATCH_SHORT_SIDE = 224  # short side of the pictures that patches are made from, px
PATCH_NEIGHBOURS = 8  # most similar patches of the other day whose median colour gives a gain
PATCH_PARTNERS = 12  # content-paired photos that are searched for them, at most
ZERO_WEIGHT_SIMILARITY = 0.3  # mean cosine similarity of the neighbours up to which a gain has no weight
FULL_WEIGHT_SIMILARITY = 0.8  # mean cosine similarity of the neighbours from which on a gain has full weight


@dataclass(frozen=True)
class GainSamples:
    """Measured gains, sorted by photo.

    Attributes:
        first: (photos + 1,) index of each photo's first sample, and the number of samples.
        xy: (n, 2) float32 position in the photo, 0..1.
        plate: (n, 3) float32 the photo's own colour there, linear.
        gain: (n, 3) float32 the other day's colour over the photo's own, in stops.
        weight: (n,) float32 confidence, 0..1.
    """

    first: np.ndarray
    xy: np.ndarray
    plate: np.ndarray
    gain: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.xy)

    def of(self, photo: int) -> slice:
        """The slice of a photo's samples."""
        return slice(int(self.first[photo]), int(self.first[photo + 1]))


@dataclass(frozen=True)
class PatchTable:
    """Embeddings and mean colours of the patches of one day's photos.

    Attributes:
        embeddings: for each photo (patches, C) float16, centred over the day, unit length.
        colours: for each photo (patches, 3) float32 linear.
        raster: for each photo (rows, columns) of its patches.
    """

    embeddings: list[torch.Tensor]
    colours: list[np.ndarray]
    raster: list[tuple[int, int]]


@torch.no_grad()
def patch_table(backbone: Backbone, bank: Images, device: str, advance: Callable[[int], None]) -> PatchTable:
    """The patches of a day's photos.

    Args:
        backbone: makes the embeddings.
        bank: the photos.
        device: where the backbone runs.
        advance: called with 1 after each photo.
    """
    embeddings, colours, raster = [], [], []
    total, count = torch.zeros(1), 0
    for index in range(len(bank)):
        image = bank[index]
        found = backbone.embed_patches(to_picture(image, PATCH_SHORT_SIDE).to(device))[0].float().cpu()
        _, rows, columns = found.shape
        flat = found.flatten(1).T.contiguous()
        total, count = total + flat.sum(dim=0), count + len(flat)
        embeddings.append(flat.half())
        linear = srgb_to_linear(image)
        colours.append(cv2.resize(linear, (columns, rows), interpolation=cv2.INTER_AREA).reshape(-1, 3))
        raster.append((rows, columns))
        advance(1)
    mean = total / max(count, 1)
    return PatchTable([F.normalize(f.float() - mean, dim=1).half() for f in embeddings], colours, raster)


def patch_samples(a: PatchTable, b: PatchTable, partners: Sequence[np.ndarray], device: str) -> GainSamples:
    """The gain of each patch, from the most similar patches in content-paired photos of the other day.

    A gain's weight rises with their mean similarity, and falls with the spread of their colours.

    Args:
        a: patches of the photos whose gains are measured.
        b: patches of the other day's photos.
        partners: for each photo of `a`, numbers of its content-paired photos, most similar first.
        device: where embeddings are compared.
    """
    nothing = np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0)
    found = []  # for each photo: xy, plate, gain, weight
    for photo, others in enumerate(partners):
        if len(others) == 0:
            found.append(nothing)
            continue
        similarity = (
            a.embeddings[photo].to(device).float() @ torch.cat([b.embeddings[j] for j in others]).to(device).float().T
        )
        top = similarity.topk(min(PATCH_NEIGHBOURS, similarity.shape[1]), dim=1)
        seen = to_stops(np.concatenate([b.colours[j] for j in others])[top.indices.cpu().numpy()])
        gain = np.median(seen, axis=1) - to_stops(a.colours[photo])
        disagreement = seen.std(axis=1).mean(axis=1)
        trust = (top.values.mean(dim=1).cpu().numpy() - ZERO_WEIGHT_SIMILARITY) / (
            FULL_WEIGHT_SIMILARITY - ZERO_WEIGHT_SIMILARITY
        )
        rows, columns = a.raster[photo]
        weight = np.clip(trust, 0, 1) / (1 + disagreement)
        x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        kept = weight > 0
        xy = np.stack([x, y], axis=-1).reshape(-1, 2)
        gain = np.clip(gain, -MAX_GAIN_STOPS, MAX_GAIN_STOPS)
        found.append((xy[kept], a.colours[photo][kept], gain[kept], weight[kept]))
    first = np.cumsum([0] + [len(xy) for xy, *_ in found])
    return GainSamples(first, *(np.concatenate(part).astype(np.float32) for part in zip(nothing, *found, strict=True)))


def partners_of(pairs: Pairs, count: int, max_count: int) -> list[np.ndarray]:
    """For each of `count` source photos, the numbers of its paired target photos, most similar first."""
    return [pairs.b[pairs.partners(photo, "a")[:max_count]] for photo in range(count)]


def measure_gains(
    a: Images, b: Images, pairs: Pairs, backbone: Backbone, device: str, advance: Callable[[int], None]
) -> GainSamples:
    """The gains of the source photos towards the target photos.

    Args:
        a: source photos.
        b: target photos.
        pairs: their content pairs.
        backbone: makes the patch embeddings.
        device: where the backbone runs.
        advance: called with 1 after each photo of both folders.
    """
    table_a = patch_table(backbone, a, device, advance)
    table_b = patch_table(backbone, b, device, advance)
    return patch_samples(table_a, table_b, partners_of(pairs, len(a), max_count=PATCH_PARTNERS), device)
