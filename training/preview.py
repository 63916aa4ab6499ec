"""Previews: the same few photos relit again and again while a fit goes on, beside the photos they should resemble."""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from relightgan.training.contact_sheet import contact_sheet
from relightgan.training.recipe import Direction, Recipe


@dataclasses.dataclass(frozen=True)
class PreviewPhotos:
    """What one direction's previews show."""

    direction: Direction
    sources: tuple[torch.Tensor, ...]  # each (1, 3, H, W) float32, srgb_log, on the fit's device
    nearest: tuple[torch.Tensor, ...]  # for each source, the photo of the other side with the nearest content


def write_preview(recipe: Recipe, photos: PreviewPhotos, path: Path, images: int) -> Path:
    """Writes a contact sheet with a row per photo: source | relit | nearest target.

    Args:
        recipe: relights with its averaged weights.
        photos: what to show.
        path: .jpg to write; its folder is made.
        images: seen by the networks so far, for the caption.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for source, nearest in zip(photos.sources, photos.nearest, strict=True):
        relit = recipe.relight(source, photos.direction)
        rows.append(
            [
                (display_picture(source), "source"),
                (display_picture(relit), f"relit after {images:,} images"),
                (display_picture(nearest), "nearest target"),
            ]
        )
    return contact_sheet(rows, path)


def display_picture(photo: torch.Tensor) -> np.ndarray:
    """(H, W, 3) float32 in 0..1 for showing, from (1, 3, H, W) srgb_log; values above 1 are cut."""
    picture: np.ndarray = photo[0].detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(picture)
