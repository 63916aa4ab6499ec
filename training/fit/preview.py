"""Previews of a fit: the same few photos, relit at several times, beside their nearest target photos."""

import dataclasses
import io
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from relightgan.training.days import Direction
from relightgan.training.fit.recipe import Recipe
from relightgan.training.report.contact_sheet import contact_sheet

# Maximum size of the preview that every look contains, which the look library shows: long side of a half, file size.
LOOK_PREVIEW_PX, LOOK_PREVIEW_BYTES = 320, 40_000


@dataclasses.dataclass(frozen=True)
class PreviewPhotos:
    """The photos in the previews of one direction."""

    direction: Direction
    sources: tuple[torch.Tensor, ...]  # each (1, 3, H, W) float32, srgb_log, on the fit's device
    nearest: tuple[torch.Tensor, ...]  # for each source, the photo of the other day with the nearest embedding


def write_preview(recipe: Recipe, photos: PreviewPhotos, path: Path, images: int) -> Path:
    """Writes a contact sheet with a row per photo: source | relit | nearest target.

    Args:
        recipe: the recipe, which relights with its averaged weights.
        photos: the photos of the sheet.
        path: .jpg to write, in a folder that is there.
        images: images so far, for the caption.
    """
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


def look_preview(recipe: Recipe, photos: PreviewPhotos) -> bytes:
    """A JPEG of the first photo before and after, side by side, of equal size without a gap.

    Args:
        recipe: the recipe, which relights with its averaged weights.
        photos: at least one photo.

    Returns:
        The file, at most `LOOK_PREVIEW_BYTES`; each half is at most `LOOK_PREVIEW_PX` wide and high.
    """
    source = photos.sources[0]
    halves = [display_picture(photo) for photo in (source, recipe.relight(source, photos.direction))]
    height, width = halves[0].shape[:2]
    scale = min(1.0, LOOK_PREVIEW_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    both = np.concatenate([cv2.resize(half, size, interpolation=cv2.INTER_AREA) for half in halves], axis=1)
    picture = Image.fromarray(np.round(np.nan_to_num(both).clip(0, 1) * 255).astype(np.uint8))
    jpeg = b""
    for quality in (88, 75, 60, 40, 20):  # lowered until the file fits, as noisy photos need many bytes; at 20 all fit
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality, optimize=True)
        jpeg = stream.getvalue()
        if len(jpeg) <= LOOK_PREVIEW_BYTES:
            break
    return jpeg


def display_picture(photo: torch.Tensor) -> np.ndarray:
    """(H, W, 3) float32 for display, clamped to 0..1, from (1, 3, H, W) srgb_log."""
    picture: np.ndarray = photo[0].detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(picture)
