"""Blotchy photos in two lights for recipes that translate pictures, and what their tests ask of networks."""

import cv2
import numpy as np
import torch

from relightgan.training.fit.batches import TrainingData
from relightgan.training.pairs.pairing import Pairs

DUSK = np.float32([0.35, 0.5, 0.8])  # what the light of `b` does to a picture: darker and bluer


class PaintedBank:
    """Blotchy photos, made up instead of read from disk."""

    def __init__(self, rng, count, size_px, light=1.0):
        self.photos = [photo * light for photo in paint(rng, count, size_px).permute(0, 2, 3, 1).numpy()]

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return self.photos[index]


def painted_data(count=24, size_px=48, seed=0):
    """Photos in two lights, none of them in both, paired at random: the hardest case."""
    rng = np.random.default_rng(seed)
    numbers, even = np.arange(count), np.full(count, 1.0 / count)
    pairs = Pairs(a=numbers, b=rng.permutation(count), similarity=even, probability=even)
    return TrainingData(PaintedBank(rng, count, size_px), PaintedBank(rng, count, size_px, DUSK), pairs)


def paint(rng, count, size_px):
    pictures = np.zeros((count, size_px, size_px, 3), np.float32)
    for picture in pictures:
        for cells, strength in ((4, 0.5), (8, 0.3), (16, 0.2)):
            blotches = rng.random((cells, cells, 3), dtype=np.float32)
            picture += strength * cv2.resize(blotches, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(pictures.clip(0.02, 1.0)).permute(0, 3, 1, 2).contiguous()


def weights(networks):
    return {
        f"{name}.{key}": value.clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def mean_colour(pictures):
    return pictures.mean((0, 2, 3))
