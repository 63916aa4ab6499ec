"""Losses of `cyclegan` and `cut`, one function per formula, with its source.

All compute in float32, whatever the precision of the networks, and return a scalar. Gradients flow to all arguments,
except where a docstring excludes one. Pictures are (N, 3, H, W); scores have any shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def lsgan_critic(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Least squares: real to 1, fake to 0 (Mao et al. 2017, equation 2 with a=0, b=1)."""
    return 0.5 * ((real_scores.float() - 1.0).square().mean() + fake_scores.float().square().mean())


def lsgan_generator(fake_scores: Tensor) -> Tensor:
    """Least squares: fake to 1 (Mao et al. 2017, equation 2 with c=1, without its factor of a half, as in CycleGAN)."""
    return (fake_scores.float() - 1.0).square().mean()


def bce_critic(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Cross-entropy on logits, halved: real to 1, fake to 0 (Goodfellow et al. 2014, equation 1)."""
    return 0.5 * (F.softplus(-real_scores.float()).mean() + F.softplus(fake_scores.float()).mean())


def bce_generator(fake_scores: Tensor) -> Tensor:
    """Cross-entropy on logits: fake to 1, the non-saturating form (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake_scores.float()).mean()


@dataclass(frozen=True)
class Adversary:
    """The adversarial losses of a critic and a generator."""

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


ADVERSARIES = {"lsgan": Adversary(lsgan_critic, lsgan_generator), "bce": Adversary(bce_critic, bce_generator)}


def cycle_l1(pictures: Tensor, there_and_back: Tensor) -> Tensor:
    """Mean absolute difference after both translations (Zhu et al. 2017, equation 2)."""
    return (pictures.float() - there_and_back.float()).abs().mean()


def identity_l1(pictures: Tensor, kept: Tensor) -> Tensor:
    """Mean absolute change of pictures that already have the target light (Taigman 2017; Zhu et al. 2017, 5.2)."""
    return (pictures.float() - kept.float()).abs().mean()


def feature_statistics(real_features: Sequence[Tensor], fake_features: Sequence[Tensor]) -> Tensor:
    """The differences of the channels' means and deviations, summed over layers.

    The mean and the standard deviation of each channel are taken over batch *and* space, so this compares styles; over
    the batch alone, as the lighting swap of NeuralVFX did, it compares blurred pictures. (Matching such statistics: Li
    et al. 2017, "Demystifying neural style transfer"; of a critic's features: Salimans et al. 2016, section 3.1.)

    Args:
        real_features: layers of (N, C, H, W); no gradient goes here.
        fake_features: as many layers with the same channels; N, H, W may differ.
    """
    total = torch.zeros((), device=fake_features[0].device)
    for real, fake in zip(real_features, fake_features, strict=True):
        (real_mean, real_deviation), (fake_mean, fake_deviation) = _statistics(real.detach()), _statistics(fake)
        total = total + F.mse_loss(fake_mean, real_mean) + F.mse_loss(fake_deviation, real_deviation)
    return total


def patch_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """The contrastive loss between places of pictures and of their translations.

    Cross-entropy of finding the right one among S places of the same picture by cosine similarity (Park et al. 2020,
    equations 2 and 3): negatives are the other places of the same picture.

    Args:
        queries: (N, S, C) features at S places of each translation.
        keys: (N, S, C) features at the same places of the source pictures; they get no gradient.
        temperature: divides the similarities; lower is stricter.
    """
    with torch.autocast(queries.device.type, enabled=False):  # bfloat16 is too coarse for similarities divided by 0.07
        q, k = F.normalize(queries.float(), dim=-1), F.normalize(keys.detach().float(), dim=-1)
        similarity = q @ k.transpose(1, 2) / temperature  # (N, S queries, S keys)
        right = torch.arange(similarity.shape[1], device=similarity.device).expand(similarity.shape[:2])
        return F.cross_entropy(similarity.flatten(0, 1), right.flatten())


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(features.float(), dim=(0, 2, 3), correction=0)
    return mean, torch.sqrt(variance + 1e-8)  # the slope of the root would be infinite for a constant channel
