"""Gain targets: how many stops brighter a place became, where it isn't known which places of both days are the same.

*Patches* tell: places that look alike to a pretrained backbone in content-paired photos. They are coarse, so each has a
weight, but they speak for sky, plaster and everything else without corners, too.
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

MOST_STOPS = 5.0  # larger gains are mismatches
PATCH_SHORT_SIDE = 224
PATCH_NEIGHBOURS = 8
PATCH_PARTNERS = 12  # content-paired photos a patch looks for its like in
LEAST_PATCH_SIMILARITY = 0.3
FULL_PATCH_SIMILARITY = 0.8


@dataclass(frozen=True)
class GainSamples:
    """Measured gains, sorted by photo.

    Attributes:
        first: (photos + 1,) where each photo's samples begin.
        xy: (n, 2) float32 place in the photo, 0..1.
        plate: (n, 3) float32 the photo's own colour there, linear.
        gain: (n, 3) float32 log2 of the other day's colour over this day's, stops.
        weight: (n,) float32 how far to trust it, 0..1.
    """

    first: np.ndarray
    xy: np.ndarray
    plate: np.ndarray
    gain: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.xy)

    def of(self, photo: int) -> slice:
        """Where a photo's samples lie."""
        return slice(int(self.first[photo]), int(self.first[photo + 1]))


@dataclass(frozen=True)
class PatchTable:
    """Patch features and mean colours of a folder's photos.

    Attributes:
        features: for each photo (patches, C) float16, centred over the folder, unit length.
        colours: for each photo (patches, 3) float32 linear.
        raster: for each photo (rows, columns) of its patches.
    """

    features: list[torch.Tensor]
    colours: list[np.ndarray]
    raster: list[tuple[int, int]]


@torch.no_grad()
def patch_table(backbone: Backbone, bank: Images, device: str, advance: Callable[[int], None]) -> PatchTable:
    """Looks at every photo through the backbone, patch by patch; `advance(1)` after each photo."""
    features, colours, raster = [], [], []
    total, count = torch.zeros(1), 0
    for index in range(len(bank)):
        image = bank[index]
        found = backbone.patches(to_picture(image, PATCH_SHORT_SIDE).to(device))[0].float().cpu()
        _, rows, columns = found.shape
        flat = found.flatten(1).T.contiguous()
        total, count = total + flat.sum(dim=0), count + len(flat)
        features.append(flat.half())
        linear = srgb_to_linear(image)
        colours.append(cv2.resize(linear, (columns, rows), interpolation=cv2.INTER_AREA).reshape(-1, 3))
        raster.append((rows, columns))
        advance(1)
    mean = total / max(count, 1)
    return PatchTable([F.normalize(f.float() - mean, dim=1).half() for f in features], colours, raster)


def patch_samples(a: PatchTable, b: PatchTable, partners: Sequence[np.ndarray], device: str) -> GainSamples:
    """Gains of patches from those they resemble most in content-paired photos of the other day.

    A patch's weight grows with the similarity of its neighbours, and falls with their disagreement.

    Args:
        a: patches of the photos that get the gains.
        b: patches of the other day's photos.
        partners: for each photo of `a`, indices of its content-paired photos, nearest first.
        device: where the features are compared.
    """
    nothing = np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0)
    found = []  # of each photo: xy, plate, gain, weight
    for photo, others in enumerate(partners):
        if len(others) == 0:
            found.append(nothing)
            continue
        similarity = (
            a.features[photo].to(device).float() @ torch.cat([b.features[j] for j in others]).to(device).float().T
        )
        top = similarity.topk(min(PATCH_NEIGHBOURS, similarity.shape[1]), dim=1)
        seen = to_stops(np.concatenate([b.colours[j] for j in others])[top.indices.cpu().numpy()])
        gain = np.median(seen, axis=1) - to_stops(a.colours[photo])
        disagreement = seen.std(axis=1).mean(axis=1)
        trust = (top.values.mean(dim=1).cpu().numpy() - LEAST_PATCH_SIMILARITY) / (
            FULL_PATCH_SIMILARITY - LEAST_PATCH_SIMILARITY
        )
        rows, columns = a.raster[photo]
        weight = np.clip(trust, 0, 1) / (1 + disagreement)
        x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        kept = weight > 0
        xy = np.stack([x, y], axis=-1).reshape(-1, 2)
        gain = np.clip(gain, -MOST_STOPS, MOST_STOPS)
        found.append((xy[kept], a.colours[photo][kept], gain[kept], weight[kept]))
    first = np.cumsum([0] + [len(xy) for xy, *_ in found])
    return GainSamples(first, *(np.concatenate(part).astype(np.float32) for part in zip(nothing, *found, strict=True)))


def partners_of(pairs: Pairs, count: int, most: int) -> list[np.ndarray]:
    """For each source photo, the target photos it is paired with, most similar first."""
    return [pairs.b[pairs.partners(photo, "a")[:most]] for photo in range(count)]


def measure_gains(
    a: Images, b: Images, pairs: Pairs, backbone: Backbone, device: str, advance: Callable[[int], None]
) -> GainSamples:
    """Measures gains on the source photos of two folders.

    Args:
        a: source photos.
        b: target photos.
        pairs: their content pairs.
        backbone: tells which patches look alike.
        device: where the backbone runs.
        advance: called with 1 after each photo of both folders.
    """
    table_a = patch_table(backbone, a, device, advance)
    table_b = patch_table(backbone, b, device, advance)
    return patch_samples(table_a, table_b, partners_of(pairs, len(a), most=PATCH_PARTNERS), device)
