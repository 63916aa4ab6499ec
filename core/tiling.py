"""Work on a picture in overlapping tiles whose inner parts fit together without a seam."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relightgan.core.errors import UsageError


@dataclass(frozen=True)
class TileBox:
    """A rectangle of pixels; the end is the first row or column after it."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array with."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def within(self, other: "TileBox") -> "TileBox":
        """This box in the coordinates of one around it."""
        return TileBox(self.y0 - other.y0, self.x0 - other.x0, self.y1 - other.y0, self.x1 - other.x0)


@dataclass(frozen=True)
class Tile:
    """What is read (`outer`) for what is kept (`inner`), in pixels of the picture."""

    outer: TileBox
    inner: TileBox


def tiles(height: int, width: int, tile_px: int, overlap_px: int = 0, multiple: int = 1) -> list[Tile]:
    """Tiles whose inner parts cover the picture exactly once, row by row.

    Every inner part has `overlap_px` of picture around it within its outer part, except at the picture's own border.
    All outer parts have one size where the picture is large enough, and start on multiples of `multiple`, so that a
    network which halves its picture does so at the same pixels as in the whole.

    Args:
        height: of the picture, a multiple of `multiple`, px.
        width: likewise.
        tile_px: side of an outer part, px; rounded down to a multiple.
        overlap_px: context needed on each side, px; rounded up to a multiple.
        multiple: of positions and sizes, px.

    Raises:
        UsageError: the tile is too small for its overlap.
    """
    assert height % multiple == 0, (height, multiple)
    assert width % multiple == 0, (width, multiple)
    overlap = -(-overlap_px // multiple) * multiple
    side = tile_px // multiple * multiple
    if side - 2 * overlap < multiple and side < max(height, width):
        raise UsageError(
            f"Tiles of {tile_px} px are too small: this look needs {overlap} px of context on each side.",
            f"Use at least {2 * overlap + multiple} px.",
        )
    rows, columns = spans(height, side, overlap), spans(width, side, overlap)
    return [
        Tile(TileBox(oy0, ox0, oy1, ox1), TileBox(iy0, ix0, iy1, ix1))
        for oy0, oy1, iy0, iy1 in rows
        for ox0, ox1, ix0, ix1 in columns
    ]


def spans(length: int, side: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Outer start and end, inner start and end of the tiles along one axis."""
    if length <= side:
        return [(0, length, 0, length)]
    starts = [*range(0, length - side, side - 2 * overlap), length - side]
    cuts = [0, *(start + overlap for start in starts[1:]), length]
    return [(start, start + side, cuts[i], cuts[i + 1]) for i, start in enumerate(starts)]


def run_tiled(
    function: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    tile_px: int | None = None,
    overlap_px: int = 0,
    multiple: int = 1,
) -> np.ndarray:
    """What `function` makes of a picture, tile by tile.

    With `overlap_px` at least the function's receptive field (its radius), the result equals that of the whole picture
    up to rounding. Sizes that aren't multiples are padded by reflection at the right and bottom, and cropped again.

    Args:
        function: (C, h, w) float32 -> (C', h, w) float32; gets views that aren't contiguous.
        image: (C, H, W) float32.
        tile_px: side of a tile with its overlap, px; None for the whole picture at once.
        overlap_px: context on each side of a tile, px.
        multiple: of the sizes that the function takes, px.

    Returns:
        (C', H, W) float32.

    Raises:
        UsageError: the tile is too small for its overlap.
    """
    height, width = image.shape[1:]
    padded = pad_to_multiple(image, multiple)
    if tile_px is None:
        return np.ascontiguousarray(function(padded)[:, :height, :width])
    result: np.ndarray | None = None
    for tile in tiles(padded.shape[1], padded.shape[2], tile_px, overlap_px, multiple):
        part = function(padded[:, *tile.outer.slices])
        if result is None:
            result = np.empty((part.shape[0], *padded.shape[1:]), np.float32)
        result[:, *tile.inner.slices] = part[:, *tile.inner.within(tile.outer).slices]
    assert result is not None
    return np.ascontiguousarray(result[:, :height, :width])


def pad_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
    """The (C, H, W) picture, reflected at the right and bottom up to the next multiple; itself where it fits."""
    down, right = -image.shape[1] % multiple, -image.shape[2] % multiple
    return np.pad(image, ((0, 0), (0, down), (0, right)), mode="reflect") if down or right else image
