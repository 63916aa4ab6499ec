"""Guidance to look at: photos, what the other day's photos saw there, how sure that is, and how far away it is."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from relightgan.core.colour import linear_to_srgb
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.photos.bank import Images
from relightgan.training.report.contact_sheet import Cell, contact_sheet
from relightgan.training.stops import from_stops
from relightgan.training.world.depth import DepthMaps
from relightgan.training.world.views import Views

GUIDANCE_CAPTION = "photo | what the other day's photos saw there | confidence | depth, red near and blue far"
SHOWN_PHOTOS = 8
CELL_PX = 240
UNKNOWN_SHADE = 0.3  # of the colours of depth where neighbours don't agree about it


def write_guidance_sheet(
    views: Views,
    depths: DepthMaps,
    maps: GuidanceMaps,
    of_target: bool,
    first: int,
    banks: Sequence[Images],
    path: Path,
) -> Path:
    """Writes a sheet of some maps, two photos to a row; of photos without maps where there are none.

    Args:
        views: registered photos.
        depths: of all of them.
        maps: of one day's photos.
        of_target: whose: the target's or the source's.
        first: what the target's photos are counted from in `views.photos`.
        banks: source and target photos.
        path: .jpg to write.

    Raises:
        PhotoError: it can't be written.
    """
    rows = np.nonzero(views.of_target == of_target)[0]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(SHOWN_PHOTOS, len(rows))).round().astype(int))]
    cells: list[list[Cell]] = []
    for row in rows:
        photo = int(views.photos[row]) - (first if of_target else 0)
        height, width = views.sizes[row]
        seen, weight = _of_photo(maps, photo, int(height), int(width))
        cells.append(
            [
                (_fitted(banks[int(of_target)][photo]), f"photo {photo + 1}"),
                (_fitted(seen), f"seen on the other day, {(weight > 0).mean():.0%}"),
                (_fitted(np.repeat(weight[..., None], 3, axis=2)), f"confidence, {weight.mean():.2f} on average"),
                (_fitted(_depth_colours(depths, int(row), int(height), int(width))), "depth, dim where unknown"),
            ]
        )
    pairs = [[cell for part in cells[n : n + 2] for cell in part] for n in range(0, len(cells), 2)]
    title = f"{len(maps):,} photos with guidance, {maps.coverage:.0%} of their pixels"
    subtitle = "photo | what the other day's photos saw there | confidence | depth, red near and blue far"
    return contact_sheet(pairs, path, title=title, subtitle=subtitle, cell_px=CELL_PX)


# Private implementation


def _of_photo(maps: GuidanceMaps, photo: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo's map as a picture (h, w, 3), black where nothing is known, and its weight (h, w)."""
    at = np.nonzero(maps.photo == photo)[0]
    if len(at) == 0:
        return np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    weight = maps.weight[at[0]].astype(np.float32)
    linear = from_stops(maps.colour[at[0]])
    seen = linear_to_srgb(np.clip(linear, 0, 1)) * (weight > 0)[..., None]
    # Maps of photos of another shape are stretched; back to the photo's own.
    size = (width, height)
    return cv2.resize(seen, size, interpolation=cv2.INTER_NEAREST), cv2.resize(weight, size)


def _depth_colours(depths: DepthMaps, row: int, height: int, width: int) -> np.ndarray:
    inverse = depths.inverse[row, :height, :width].cpu().numpy()
    known = depths.known[row, :height, :width].cpu().numpy()
    codes = (255 * np.clip(inverse / max(float(inverse.max()), 1e-9), 0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(codes, cv2.COLORMAP_TURBO)[..., ::-1] / np.float32(255)
    return (colours * np.where(known, 1, UNKNOWN_SHADE)[..., None]).astype(np.float32)


def _fitted(picture: np.ndarray) -> np.ndarray:
    """A picture as wide as a cell; contact sheets enlarge nothing."""
    scale = CELL_PX / max(picture.shape[:2])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return cv2.resize(
        np.asarray(picture, np.float32), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    )
