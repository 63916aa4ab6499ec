"""A pool of translations from earlier steps, given to the critic again so that the training doesn't oscillate."""

import numpy as np
import torch
from torch import Tensor


class ImagePool:
    """Up to `size` earlier fakes, half of the critic's input (Shrivastava et al. 2017, section 2.3).

    Args:
        size: maximum number of pictures; 0 turns the pool off.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.pictures: list[Tensor] = []

    def exchange(self, pictures: Tensor, rng: np.random.Generator) -> Tensor:
        """Pictures for the critic: each new one, or with probability 0.5 an older one, which it replaces.

        Args:
            pictures: (N, 3, H, W), this step's fakes.
            rng: draws the pictures; the same state gives the same pictures.

        Returns:
            (N, 3, H, W) without gradient. The pool is emptied when the size of the pictures changes.
        """
        pictures = pictures.detach()
        if self.size == 0:
            return pictures
        if self.pictures and self.pictures[0].shape != pictures.shape[1:]:
            self.pictures = []
        shown = []
        for picture in pictures:
            if len(self.pictures) < self.size:
                self.pictures.append(picture.clone())
                shown.append(picture)
            elif rng.random() < 0.5:
                place = int(rng.integers(self.size))
                shown.append(self.pictures[place])
                self.pictures[place] = picture.clone()
            else:
                shown.append(picture)
        return torch.stack(shown)

    def state(self) -> Tensor:
        """The pictures of the pool, (n, 3, H, W), for a checkpoint; n is 0 when empty."""
        return torch.stack(self.pictures).cpu() if self.pictures else torch.zeros(0, 3, 0, 0)

    def restore(self, state: Tensor, device: torch.device) -> None:
        """Restores the pool from `state`."""
        self.pictures = [picture.to(device) for picture in state]
