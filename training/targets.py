"""Gain targets: what the photos of both days say about how many stops brighter a place became.

Two kinds, both with a weight. *Points* are places of the set found in photos of both days: exact, but only on textured
surfaces. *Patches* are places that look alike to a pretrained backbone in content-paired photos: coarse, but they speak
for sky, plaster and everything else without corners.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from relightgan.core.colour import srgb_to_linear
from relightgan.training.backbones import Backbone, to_picture
from relightgan.training.batches import PhotoBank
from relightgan.training.matching import MatchingSettings, PointMatches, match_photos
from relightgan.training.pairing import Pairs
from relightgan.training.stops import CLIPPED, to_stops

POINT_BLUR = 0.004  # of the photo's width: the neighbourhood a point's colour is averaged over
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


def point_samples(a: PhotoBank, b: PhotoBank, matches: PointMatches) -> GainSamples:
    """Gains at points seen on both days; clipped ones and mismatches left out."""
    colour_a = colours_at(a, matches.a, matches.xy_a)
    colour_b = colours_at(b, matches.b, matches.xy_b)
    gain = log_ratio(colour_b, colour_a)
    good = (colour_a.max(axis=1) < CLIPPED) & (colour_b.max(axis=1) < CLIPPED) & (np.abs(gain).max(axis=1) < MOST_STOPS)
    weight = np.ones(int(good.sum()), np.float32)
    return sort_by_photo(matches.a[good], len(a), matches.xy_a[good], colour_a[good], gain[good], weight)


def colours_at(bank: PhotoBank, photos: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(n, 3) linear colour of places in photos, averaged over a small neighbourhood."""
    found = np.zeros((len(photos), 3), np.float32)
    for photo in np.unique(photos):
        image = srgb_to_linear(bank.image(int(photo)))
        height, width = image.shape[:2]
        image = cv2.GaussianBlur(image, (0, 0), max(0.5, POINT_BLUR * width))
        rows = np.nonzero(photos == photo)[0]
        places = (xy[rows] * np.array([width, height]) - 0.5).astype(np.float32)
        x, y = np.ascontiguousarray(places[None, :, 0]), np.ascontiguousarray(places[None, :, 1])
        # remap takes at most 32767 columns, far more than a photo has points
        found[rows] = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return found


def log_ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """log2 of one linear colour over another, in stops, with near-black held."""
    return to_stops(above) - to_stops(below)


def sort_by_photo(
    photos: np.ndarray, count: int, xy: np.ndarray, plate: np.ndarray, gain: np.ndarray, weight: np.ndarray
) -> GainSamples:
    """Samples in the order of their photos."""
    order = np.argsort(photos, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(photos, minlength=count))])
    return GainSamples(first, *(np.ascontiguousarray(part[order], np.float32) for part in (xy, plate, gain, weight)))


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
def patch_table(backbone: Backbone, bank: PhotoBank, device: str, advance: Callable[[int], None]) -> PatchTable:
    """Looks at every photo through the backbone, patch by patch; `advance(1)` after each photo."""
    features, colours, raster = [], [], []
    total, count = torch.zeros(1), 0
    for index in range(len(bank)):
        image = bank.image(index)
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


def patch_samples(
    a: PatchTable, b: PatchTable, partners: Sequence[np.ndarray], points: GainSamples, device: str
) -> GainSamples:
    """Gains of patches from those they resemble most in content-paired photos of the other day.

    A patch's weight grows with the similarity of its neighbours, and falls with their disagreement and with the number
    of exact points nearby.

    Args:
        a: patches of the photos that get the gains.
        b: patches of the other day's photos.
        partners: for each photo of `a`, indices of its content-paired photos, nearest first.
        points: exact gains of the same photos.
        device: where the features are compared.
    """
    parts: list[list[np.ndarray]] = [[], [], [], [], []]
    for photo, others in enumerate(partners):
        if len(others) == 0:
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
        nearby = points_per_cell(points.xy[points.of(photo)], rows, columns)
        weight = np.clip(trust, 0, 1) / (1 + disagreement) / (1 + nearby)
        x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        kept = weight > 0
        xy = np.stack([x, y], axis=-1).reshape(-1, 2)[kept]
        found = (
            np.full(int(kept.sum()), photo),
            xy,
            a.colours[photo][kept],
            np.clip(gain[kept], -MOST_STOPS, MOST_STOPS),
            weight[kept],
        )
        for part, value in zip(parts, found, strict=True):
            part.append(value)
    photos, xy, plate, gain, weight = (np.concatenate(p) if p else np.zeros(0) for p in parts)
    return sort_by_photo(
        photos.astype(np.int64), len(partners), xy.reshape(-1, 2), plate.reshape(-1, 3), gain.reshape(-1, 3), weight
    )


def points_per_cell(xy: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(rows * columns,) how many points fall into each cell of a raster over the photo."""
    x = np.clip((xy[:, 0] * columns).astype(int), 0, columns - 1)
    y = np.clip((xy[:, 1] * rows).astype(int), 0, rows - 1)
    return np.bincount(y * columns + x, minlength=rows * columns)


def partners_of(pairs: Pairs, count: int, side: str, most: int) -> list[np.ndarray]:
    """For each photo of a side, the photos of the other side it is paired with, most similar first."""
    other = pairs.b if side == "a" else pairs.a
    return [other[pairs.partners(photo, side)[:most]] for photo in range(count)]


@dataclass(frozen=True)
class MeasuredGains:
    """What the photos of both days say, for fits from the source light to the target light.

    Attributes:
        points: exact gains.
        patches: coarse gains.
        verified_pairs: pairs of photos that agreed on a geometry.
    """

    points: GainSamples
    patches: GainSamples
    verified_pairs: int


def measure_gains(
    a: PhotoBank,
    b: PhotoBank,
    pairs: Pairs,
    matching: MatchingSettings,
    backbone: Backbone,
    device: str,
    threads: int,
    advance: Callable[[int], None],
) -> MeasuredGains:
    """Measures gains on the source photos of two folders.

    Args:
        a: source photos.
        b: target photos.
        pairs: their content pairs.
        matching: how points are matched; off leaves `points` empty.
        backbone: for the patches.
        device: where the backbone runs.
        threads: photos matched at a time; the result doesn't depend on it.
        advance: told of work done, out of `measuring_work(...)`.
    """
    candidates = pairs_to_match(pairs, matching)
    images: list[Sequence[np.ndarray]] = [LazyImages(a), LazyImages(b)] if matching.enabled else [(), ()]
    matches = match_photos(images[0], images[1], candidates, matching, threads, advance)
    points = point_samples(a, b, matches)
    table_a = patch_table(backbone, a, device, advance)
    table_b = patch_table(backbone, b, device, advance)
    partners = partners_of(pairs, len(a), "a", most=PATCH_PARTNERS)
    return MeasuredGains(points, patch_samples(table_a, table_b, partners, points, device), matches.verified_pairs)


def measuring_work(count_a: int, count_b: int, pairs: Pairs, matching: MatchingSettings) -> int:
    """The steps `measure_gains` counts in its `advance`."""
    matched = count_a + count_b + len(pairs_to_match(pairs, matching)) if matching.enabled else 0
    return matched + count_a + count_b


def pairs_to_match(pairs: Pairs, matching: MatchingSettings) -> np.ndarray:
    """(P, 2) source and target photos to look for common points in: first every photo's nearest, then the next."""
    if not matching.enabled:
        return np.zeros((0, 2), np.int64)
    rank = np.minimum(rank_within(pairs.a, pairs.similarity), rank_within(pairs.b, pairs.similarity))
    order = np.lexsort((-pairs.similarity, rank))
    chosen = order[rank[order] < matching.partners][: matching.max_pairs]
    return np.stack([pairs.a[chosen], pairs.b[chosen]], axis=1)


def rank_within(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(n,) each member's place in its group by descending value, from 0."""
    order = np.lexsort((-value, group))
    starts = np.searchsorted(group[order], group[order])
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - starts
    return rank


class LazyImages(Sequence[np.ndarray]):
    """A photo bank as a sequence of images, each read when it is asked for.

    Args:
        bank: to read from.
        advance: called with 1 for each image read.
    """

    def __init__(self, bank: PhotoBank, advance: Callable[[int], None] = lambda count: None) -> None:
        self.bank = bank
        self.advance = advance

    def __len__(self) -> int:
        return len(self.bank)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        if index >= len(self.bank):
            raise IndexError(index)
        self.advance(1)
        return self.bank.image(index)
