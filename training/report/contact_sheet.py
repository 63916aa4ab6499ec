"""Contact sheets: rows of captioned pictures in one image file, for photos, pairs, previews and the report."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from relightgan.core.errors import PhotoError
from relightgan.core.files import write_whole

Cell = tuple[np.ndarray, str]
"""A picture (H, W, 3), display-encoded, float 0..1 or uint8; and its caption."""

BACKGROUND, CAPTION, HEADING, TITLE = (36, 36, 36), (168, 168, 168), (224, 224, 224), (240, 240, 240)
MARGIN_PX, GAP_PX = 20, 8
CAPTION_SIZE, HEADING_SIZE, TITLE_SIZE = 12, 15, 21
MIN_CELL_PX, MAX_CELL_PX = 120, 480
JPEG_LIMIT_PX = 65_500  # longest side that a JPEG can have, less a little


def contact_sheet(
    rows: Sequence[Sequence[Cell]],
    path: Path,
    *,
    title: str = "",
    subtitle: str = "",
    headings: Mapping[int, str] | None = None,
    cell_px: int | None = None,
) -> Path:
    """Writes a contact sheet, whole or not at all.

    Pictures are reduced to fit their cell, never enlarged or cropped, and centred in it. Captions that are too long end
    in an ellipsis.

    Args:
        rows: rows of pictures with captions; rows may differ in length. An empty caption takes as much room as any.
        path: .jpg or .png, in a folder that is there.
        title: large line at the top.
        subtitle: smaller line below the title.
        headings: row number -> text above that row.
        cell_px: width of a cell; None takes the widest picture's, between 120 and 480.

    Returns:
        `path`.

    Raises:
        PhotoError: there is nothing to show, or the file can't be written.
    """
    if not any(rows):
        raise PhotoError(f"There are no pictures for {path.name}.", "Check that photos were kept.")
    widest = max(picture.shape[1] for row in rows for picture, _ in row)
    cell = cell_px or min(max(widest, MIN_CELL_PX), MAX_CELL_PX)
    tiles = [[(_to_fit(picture, cell), caption) for picture, caption in row] for row in rows]
    heights = [max((tile.shape[0] for tile, _ in row), default=0) for row in tiles]
    columns = max(len(row) for row in tiles)
    width = 2 * MARGIN_PX + columns * cell + (columns - 1) * GAP_PX

    fonts = {size: ImageFont.load_default(size) for size in (CAPTION_SIZE, HEADING_SIZE, TITLE_SIZE)}
    top = MARGIN_PX + (TITLE_SIZE + 10 if title else 0) + (HEADING_SIZE + 12 if subtitle else 0)
    caption_height = CAPTION_SIZE + 8
    tops = []
    for number, height in enumerate(heights):
        top += HEADING_SIZE + 16 if headings and number in headings else 0
        tops.append(top)
        top += height + caption_height + GAP_PX
    total = top + MARGIN_PX - GAP_PX
    if total > JPEG_LIMIT_PX or width > JPEG_LIMIT_PX:
        raise PhotoError(f"{path.name} would be {width}x{total} px, more than a JPEG can hold.", "Show fewer pictures.")

    sheet = Image.new("RGB", (width, total), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN_PX
    for text, size, colour, space in ((title, TITLE_SIZE, TITLE, 10), (subtitle, HEADING_SIZE, CAPTION, 12)):
        if text:
            draw.text((MARGIN_PX, y), _shortened(text, fonts[size], width - 2 * MARGIN_PX), colour, fonts[size])
            y += size + space
    for number, (row, row_top, height) in enumerate(zip(tiles, tops, heights, strict=True)):
        if headings and number in headings:
            place = (MARGIN_PX, row_top - HEADING_SIZE - 8)
            draw.text(
                place,
                _shortened(headings[number], fonts[HEADING_SIZE], width - 2 * MARGIN_PX),
                HEADING,
                fonts[HEADING_SIZE],
            )
        for column, (tile, caption) in enumerate(row):
            x = MARGIN_PX + column * (cell + GAP_PX)
            sheet.paste(
                Image.fromarray(tile), (x + (cell - tile.shape[1]) // 2, row_top + (height - tile.shape[0]) // 2)
            )
            words = _shortened(caption, fonts[CAPTION_SIZE], cell)
            draw.text((x + cell / 2, row_top + height + 4), words, CAPTION, fonts[CAPTION_SIZE], anchor="ma")
    return _save(sheet, path)


def in_rows(cells: Sequence[Cell], columns: int) -> list[list[Cell]]:
    """A list of pictures, split into rows of `columns` pictures."""
    return [list(cells[start : start + columns]) for start in range(0, len(cells), columns)]


# Private implementation


def _to_fit(picture: np.ndarray, cell: int) -> np.ndarray:
    pixels = (
        picture if picture.dtype == np.uint8 else np.round(np.clip(np.nan_to_num(picture), 0, 1) * 255).astype(np.uint8)
    )
    height, width = pixels.shape[:2]
    # Upright pictures are limited to the cell's width in height, so that one of them doesn't stretch its whole row.
    scale = min(1.0, cell / max(width, height))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return np.ascontiguousarray(pixels)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def _save(sheet: Image.Image, path: Path) -> Path:
    def explain(error: OSError) -> PhotoError:
        return PhotoError(f"{path} can't be written: {error.strerror}.", "Free some space, or choose another folder.")

    # Into memory first: Pillow doesn't notice where a full disk takes only a part of its last bytes.
    file = io.BytesIO()
    if path.suffix.lower() in (".jpg", ".jpeg"):
        sheet.save(file, "JPEG", quality=90, subsampling=0, optimize=True)
    elif path.suffix.lower() == ".png":
        sheet.save(file, "PNG")
    else:
        raise PhotoError(f"{path} can't be written: it is no .jpg or .png.", "Give it one of these suffixes.")
    write_whole(path, file.getbuffer(), explain)
    return path
