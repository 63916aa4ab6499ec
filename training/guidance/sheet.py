"""A contact sheet of guidance: photo, the other day's colours, confidence and depth."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from relightgan.core.colour import linear_to_srgb
from relightgan.training.days import Numbering
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.photos.bank import Images
from relightgan.training.report.contact_sheet import Cell, contact_sheet
from relightgan.training.stops import from_stops
from relightgan.training.world.depth import DepthMaps
from relightgan.training.world.views import RegisteredViews

GUIDANCE_CAPTION = "photo | what the other day's photos saw there | confidence | depth, red near and blue far"
MAX_SHOWN_PHOTOS = 8  # photos on the sheet, evenly spread over the day
CELL_PX = 240  # width of a cell, px
UNKNOWN_SHADE = 0.3  # factor on the colours of depth where it isn't known


def write_guidance_sheet(
    views: RegisteredViews,
    depths: DepthMaps,
    maps: GuidanceMaps,
    day: int,
    numbering: Numbering,
    banks: Sequence[Images],
    path: Path,
) -> Path:
    """Writes a sheet of some photos of one day with their maps, two photos to a row; returns its path.

    Args:
        views: registered photos.
        depths: of all views.
        maps: of the day's photos; a photo without a map is shown with an empty one.
        day: `days.SOURCE` or `days.TARGET`.
        numbering: of `views.photos`.
        banks: (source photos, target photos).
        path: .jpg file to write.

    Raises:
        PhotoError: it can't be written.
    """
    rows = np.nonzero(views.day == day)[0]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(MAX_SHOWN_PHOTOS, len(rows))).round().astype(int))]
    cells: list[list[Cell]] = []
    for row in rows:
        photo = int(views.photos[row]) - numbering.start(day)
        height, width = views.sizes[row]
        seen, weight = _map_of_photo(maps, photo, int(height), int(width))
        cells.append(
            [
                (_fitted(banks[day][photo]), f"photo {photo + 1}"),
                (_fitted(seen), f"seen on the other day, {(weight > 0).mean():.0%}"),
                (_fitted(np.repeat(weight[..., None], 3, axis=2)), f"confidence, {weight.mean():.2f} on average"),
                (_fitted(_depth_colours(depths, int(row), int(height), int(width))), "depth, dim where unknown"),
            ]
        )
    pairs = [[cell for part in cells[n : n + 2] for cell in part] for n in range(0, len(cells), 2)]
    title = f"{len(maps):,} photos with guidance, {maps.coverage:.0%} of their pixels"
    return contact_sheet(pairs, path, title=title, subtitle=GUIDANCE_CAPTION, cell_px=CELL_PX)


# Private implementation


def _map_of_photo(maps: GuidanceMaps, photo: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo's map as a picture (h, w, 3), sRGB-encoded, black where the weight is 0; and its weight (h, w)."""
    at = np.nonzero(maps.photo == photo)[0]
    if len(at) == 0:
        return np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    weight = maps.weight[at[0]].astype(np.float32)
    linear = from_stops(maps.colour[at[0]])
    seen = linear_to_srgb(np.clip(linear, 0, 1)) * (weight > 0)[..., None]
    # All maps have one shape; the picture gets back the photo's own.
    size = (width, height)
    return cv2.resize(seen, size, interpolation=cv2.INTER_NEAREST), cv2.resize(weight, size)


def _depth_colours(depths: DepthMaps, row: int, height: int, width: int) -> np.ndarray:
    inverse = depths.inverse[row, :height, :width].cpu().numpy()
    known = depths.known[row, :height, :width].cpu().numpy()
    codes = (255 * np.clip(inverse / max(float(inverse.max()), 1e-9), 0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(codes, cv2.COLORMAP_TURBO)[..., ::-1] / np.float32(255)
    return (colours * np.where(known, 1, UNKNOWN_SHADE)[..., None]).astype(np.float32)


def _fitted(picture: np.ndarray) -> np.ndarray:
    """A picture resized to a cell; contact sheets themselves don't enlarge."""
    scale = CELL_PX / max(picture.shape[:2])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return cv2.resize(
        np.asarray(picture, np.float32), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    )
