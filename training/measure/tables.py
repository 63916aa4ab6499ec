"""Writes the results of `evaluation`: Markdown tables, JSON and a picture per view."""

import functools
import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relightgan.core import text
from relightgan.core.errors import RelightError
from relightgan.core.files import open_folder, write_whole
from relightgan.core.version import VERSION
from relightgan.training.measure.metrics import to_display
from relightgan.training.measure.paired_views import View
from relightgan.training.report.contact_sheet import contact_sheet

# Heading, figure, digits. Columns of figures that no method has are left out.
VIEW_COLUMNS = (
    ("PSNR dB", "psnr", 2),
    ("PSNR surfaces", "psnr_surfaces", 2),
    ("SSIM", "ssim", 3),
    ("SSIM surfaces", "ssim_surfaces", 3),
    ("log PSNR dB", "log_psnr", 2),
    ("error, stops", "stops_error", 3),
    ("gain corr.", "gain_correlation", 3),
    ("shadow sign", "shadow_sign", 3),
    ("blur index", "blur_index", 3),
    ("detail corr., truth", "detail_correlation_truth", 3),
    ("detail corr., plate", "detail_correlation_plate", 3),
    ("checkerboard %", "checkerboard_index", 2),
    ("exposure error", "exposure_error", 4),
)
CLIP_COLUMNS = (
    ("warp error", "warp_error", 5),
    ("warp error, square", "warp_error_square", 6),
    ("gain flicker, stops", "gain_flicker", 4),
    ("PSNR dB", "psnr", 2),
)
VIEW_NOTE = (
    "Means over {count} views; ± is half the 95 % bootstrap interval. PSNR and SSIM: sRGB-encoded, clipped to 0..1; "
    "log PSNR and error: log2(x + 2^-7). Gain correlation: 1 the true change of light, 0 untouched. Shadow sign: "
    "share of surface pixels clearly lighter or darker than the truth's median gain that are so here too. Blur index: "
    "fine detail's energy over the truth's. Checkerboard: patterns of 2, 4, 8 px beyond the truth's. Exposure error: "
    "worst relative error of a view when the plate is shown 4 times brighter. Oracles are fitted to the truth of each "
    "view: upper bounds, not methods."
)
CLIP_NOTE = (
    "Means over {count} frames, on points visible in both frames, along the given flow. Warp error: mean absolute and "
    "mean square difference of sRGB-encoded values; the input and the truth are its floors (resampling, highlights). "
    "Gain flicker: change of relit over input at one point from frame to frame."
)
PACKAGES = ("numpy", "scikit-image", "onnxruntime", "onnxruntime-gpu", "OpenImageIO", "torch")


def views_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of `paired_views.measure_views`, with a note that explains the figures."""
    means = {name: each["mean"] for name, each in measured.items()}
    columns = [column for column in VIEW_COLUMNS if any(column[1] in mean for mean in means.values())]
    rows = [
        [name, *(_interval_text(mean.get(key), digits, key) for _, key, digits in columns)]
        for name, mean in means.items()
    ]
    count = max(len(each["views"]) for each in measured.values())
    return (
        markdown_table(["method", *(heading for heading, _, _ in columns)], rows) + "\n" + VIEW_NOTE.format(count=count)
    )


def clip_table(measured: Mapping[str, Mapping[str, float]], frames: int) -> str:
    """A Markdown table of `clips.measure_clip`, with a note that explains the figures."""
    columns = [column for column in CLIP_COLUMNS if any(column[1] in row for row in measured.values())]
    rows = [
        [name, *(number_text(row.get(key), digits) for _, key, digits in columns)] for name, row in measured.items()
    ]
    return (
        markdown_table(["clip", *(heading for heading, _, _ in columns)], rows) + "\n" + CLIP_NOTE.format(count=frames)
    )


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns, readable as plain text, and an empty line after it."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [headings, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines) + "\n"


def number_text(value: float | None, digits: int) -> str:
    """A number for a table; – for None."""
    if value is None:
        return "–"
    return "inf" if math.isinf(value) else f"{value:.{digits}f}"


def write_view_picture(folder: Path, view: View, looks: Mapping[str, np.ndarray]) -> Path:
    """A contact picture of one view: before | each look | truth, display-encoded.

    Args:
        folder: folder of the file <view>.jpg, which is there.
        view: the view, scene-linear.
        looks: relit pictures by caption, scene-linear.
    """
    cells = [(view.plate.rgb, "before"), *((relit, name) for name, relit in looks.items()), (view.truth, "truth")]
    return contact_sheet([[(to_display(rgb), caption) for rgb, caption in cells]], folder / f"{view.name}.jpg")


def versions() -> dict[str, str]:
    """Versions of the software that the figures depend on, by package."""
    found = {"relightgan": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def json_text(result: Mapping[str, Any]) -> str:
    """The result as JSON. Infinite figures, of equal pictures, become null, as JSON has no infinity."""
    return text.json_text(_finite(result), indent=1) + "\n"


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all, in a folder that is there.

    Raises:
        RelightError: the file can't be written.
    """
    write_whole(path, text, functools.partial(not_written, path))


def open_out(folder: Path) -> Path:
    """Makes the folder that results go to, before anything is measured.

    Raises:
        RelightError: it can't be made.
    """
    return open_folder(folder, functools.partial(not_written, folder))


def not_written(path: Path, error: OSError) -> RelightError:
    """The error for a file or folder of results that can't be written, see `core.files.replacing`."""
    return RelightError(f"{path} can't be written: {error.strerror}.", "Choose another --out, or free some space.")


def _interval_text(figure: Mapping[str, float] | None, digits: int, key: str) -> str:
    if figure is None:
        return "–"
    text = number_text(figure["mean"], digits)
    if not key.startswith("psnr") or math.isinf(figure["mean"]):
        return text
    return f"{text} ± {(figure['high'] - figure['low']) / 2:.{digits}f}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
