"""Content pairing: which source and target photos show the same view, whatever the light.

After the NeuralVFX lighting swap: pretrained features, cosine similarity, nearest photos both ways. Added here:
features are centred per folder, so that the light common to a whole day drops out; a similarity threshold beside the
rank; and sampling balanced in both folders, so that one popular view doesn't dominate the fit.
"""

from dataclasses import dataclass

import numpy as np

from relightgan.core.errors import ConfigError, TrainingError
from relightgan.training.pairs.backbones import BACKBONES

BLOCK_ROWS = 1024  # photos compared at a time, so that 12,000 against 12,000 never lie in memory at once
SINKHORN_ROUNDS = 50


@dataclass(frozen=True)
class PairingSettings:
    """How photos of the two folders are paired by content.

    Raises:
        ConfigError: a value makes no sense.
    """

    backbone: str = "efficientnet-lite0"  # features: efficientnet-lite0 (comes along) or resnet34
    weights: str = ""  # local file of backbone weights; empty for the backbone's own
    top_k: int = 12  # partners a photo may have on the other side, nearest first
    threshold: float = 0.15  # least cosine similarity of centred features; below it photos show different things
    same_view: float = 0.75  # photos of one folder more similar than this count as one view when balancing

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ConfigError(f"There is no backbone '{self.backbone}'.", f"Choose one of: {', '.join(BACKBONES)}.")
        if self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}.", "Give at least 1.")
        for name in ("threshold", "same_view"):
            if not -1.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "A cosine similarity lies from -1 to 1.")


@dataclass(frozen=True)
class Pairs:
    """The content pairs of two folders, with how often each is to be drawn.

    Attributes:
        a: (P,) index of the source photo.
        b: (P,) index of the target photo.
        similarity: (P,) cosine similarity, -1..1.
        probability: (P,) how often the pair is drawn; they add up to 1.
    """

    a: np.ndarray
    b: np.ndarray
    similarity: np.ndarray
    probability: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count,) numbers of pairs, drawn with replacement by probability."""
        return rng.choice(len(self.a), size=count, p=self.probability)

    def partners(self, photo: int, side: str) -> np.ndarray:
        """Numbers of the pairs a photo is in, most similar first; `side` is "a" or "b"."""
        own = self.a if side == "a" else self.b
        found = np.nonzero(own == photo)[0]
        return found[np.argsort(-self.similarity[found], kind="stable")]


def centred(features: np.ndarray) -> np.ndarray:
    """Features less their folder's mean, at unit length; (N, C) to (N, C) float32."""
    moved = features - features.mean(axis=0, keepdims=True)
    return (moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-8)).astype(np.float32)


def pair_photos(features_a: np.ndarray, features_b: np.ndarray, settings: PairingSettings) -> Pairs:
    """Pairs each source photo with its nearest target photos, and the other way.

    Args:
        features_a: (N, C) features of the source photos, as the backbone gives them.
        features_b: (M, C) of the target photos.
        settings: rank, threshold and balance.

    Raises:
        TrainingError: no two photos are similar enough.
    """
    a, b = centred(features_a), centred(features_b)
    forward = nearest(a, b, settings.top_k, settings.threshold)
    backward = nearest(b, a, settings.top_k, settings.threshold)
    both = {(i, j): s for i, j, s in forward} | {(i, j): s for j, i, s in backward}
    if not both:
        raise TrainingError(
            f"No source photo shows what a target photo shows (similarity above {settings.threshold}).",
            "Check that both folders are of one set, or lower --pairing.threshold.",
        )
    keys = sorted(both)
    index_a, index_b = np.array(keys, np.int64).T
    similarity = np.array([both[key] for key in keys], np.float32)
    views_a, views_b = view_weights(a, settings.same_view), view_weights(b, settings.same_view)
    probability = balance(index_a, index_b, np.maximum(similarity, 1e-3), views_a, views_b)
    return Pairs(index_a, index_b, similarity, probability)


def nearest(queries: np.ndarray, others: np.ndarray, top_k: int, threshold: float) -> list[tuple[int, int, float]]:
    """(query, other, similarity) of each query's `top_k` nearest others above the threshold."""
    found = []
    for first in range(0, len(queries), BLOCK_ROWS):
        similarity = queries[first : first + BLOCK_ROWS] @ others.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :top_k]
        for row, columns in enumerate(order):
            found += [
                (first + row, int(c), float(similarity[row, c])) for c in columns if similarity[row, c] >= threshold
            ]
    return found


def view_weights(features: np.ndarray, same_view: float) -> np.ndarray:
    """How much each photo of a folder counts: 1 over the number of photos that show the same view, itself included.

    Args:
        features: (N, C) centred, at unit length.
        same_view: similarity above which two photos show one view.
    """
    counts = np.concatenate(
        [
            (features[first : first + BLOCK_ROWS] @ features.T >= same_view).sum(axis=1)
            for first in range(0, len(features), BLOCK_ROWS)
        ]
    )
    return 1.0 / np.maximum(counts, 1)


def balance(
    index_a: np.ndarray, index_b: np.ndarray, affinity: np.ndarray, weights_a: np.ndarray, weights_b: np.ndarray
) -> np.ndarray:
    """Probabilities of pairs under which each photo of either folder is drawn in proportion to its weight.

    Sinkhorn and Knopp's alternating scaling (Pacific J. Math. 21, 1967) on the sparse list of pairs; where the pairs
    can't meet both sides exactly, it ends near them, with the source side exact.

    Args:
        index_a: (P,) source photo of each pair.
        index_b: (P,) target photo of each pair.
        affinity: (P,) positive; more similar pairs are preferred.
        weights_a: (N,) how much each source photo is to count.
        weights_b: (M,) the same for target photos.

    Returns:
        (P,) float64, sums to 1.
    """
    probability = affinity.astype(np.float64)
    sides = []
    for index, weights in ((index_b, weights_b), (index_a, weights_a)):
        wanted = np.where(np.bincount(index, minlength=len(weights)) > 0, weights, 0.0)
        sides.append((index, wanted / wanted.sum()))
    for _ in range(SINKHORN_ROUNDS):
        for index, wanted in sides:
            have = np.bincount(index, weights=probability, minlength=len(wanted))
            probability = probability * (wanted / np.maximum(have, 1e-300))[index]
    return probability / probability.sum()
