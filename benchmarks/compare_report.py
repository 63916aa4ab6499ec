"""Writes the results of `compare.py`: tables with the spread over seeds, and sheets of pictures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare_scores import evenly, unpaired_views
from benchmarks.quality import facts_text
from relightgan.core.look import load_look
from relightgan.core.session import LookSession
from relightgan.training.measure.baselines import BASELINES, NEAREST, ORACLES
from relightgan.training.measure.clips import TRUTH
from relightgan.training.measure.evaluation import near_folders, pool_folder
from relightgan.training.measure.metrics import to_display
from relightgan.training.measure.paired_views import (
    DAY_FOLDERS,
    UNTOUCHED,
    Method,
    View,
    find_views,
    look_method,
    nearest_method,
    transfer_methods,
)
from relightgan.training.measure.tables import CLIP_COLUMNS, VIEW_COLUMNS, markdown_table, number_text
from relightgan.training.report.contact_sheet import contact_sheet
from relightgan.training.run_log import duration

# Figures in the tables.
SHOWN = (
    "psnr", "psnr_surfaces", "ssim", "log_psnr", "stops_error", "gain_correlation", "shadow_sign", "blur_index",
    "checkerboard_index", "exposure_error",
)  # fmt: skip
COLUMNS = [column for column in VIEW_COLUMNS if column[1] in SHOWN]
UNPAIRED_COLUMNS = (
    ("histogram, 8-bit", "histogram", 1),
    ("Lab mean", "lab_mean", 1),
    ("Lab deviation", "lab_deviation", 1),
    ("detail corr., plate", "detail_correlation_plate", 3),
)
SHEET_VIEWS, CELL_PX = 4, 320  # rows of a sheet, and long side of a picture in it
PEAK_UNIT = 2**30  # bytes per GiB
NOTE = (
    "± is half of what lies between the lowest and the highest seed. What each column means: benchmarks/README.md. "
    "Oracles are fitted to the truth of each view: upper bounds, not systems."
)


def page(record: Mapping[str, Any]) -> str:
    """Everything as Markdown; `compare.py` makes the record."""
    parts = [f"# Every system side by side\n\n`{record['command']}`\n\n{facts_text(dict(record))}\n"]
    parts.append(f"{length_text(record)}\n")
    for set_name, found in record["sets"].items():
        for direction, each in found["directions"].items():
            here, there = DAY_FOLDERS[direction]
            if set_name == "pairs":
                parts.append(f"## {here} to {there}, paired views\n\n{figures_table(each, COLUMNS)}\n{NOTE}\n")
                parts += [clip_section(each, clip, direction) for clip in clips_in(each)]
            else:
                text = (
                    "No truth: distances to the other folder's colours, less is nearer; a system that repaints can be "
                    "near too, so read them beside how much of the plate's detail is left."
                )
                table = figures_table(each, UNPAIRED_COLUMNS)
                parts.append(f"## {here} to {there}, film frames\n\n{table}\n{text}\n")
        parts.append(f"## What it took{'' if set_name == 'pairs' else ', film frames'}\n\n{cost_table(found['fits'])}")
    if record["failed"]:
        lines = [f"- {each['what']}: {' / '.join(each['error']) or 'nothing was said'}" for each in record["failed"]]
        parts.append("## Failed\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def length_text(record: Mapping[str, Any]) -> str:
    """The training times of the systems, in words."""
    each = duration(60 * record["minutes"])
    seeds = ", ".join(map(str, record["seeds"]))
    return (
        f"Every system was given {each} for each direction asked for, from photos to look, whether it learns both at "
        f"once or one after the other. Seeds: {seeds}."
    )


def figures_table(found: Mapping[str, Any], columns: Sequence[tuple[str, str, int]]) -> str:
    """Baselines and systems of one direction."""
    rows = []
    for name, each in found["baselines"].items():
        if each["figures"] and name not in ORACLES:
            rows.append([name, *(number_text(each["figures"].get(key), digits) for _, key, digits in columns)])
    for name, each in found["systems"].items():
        figures = each["spread"]
        label = f"**{name}**, {each['what']}"
        rows.append([label, *(spread_text(figures.get(key), digits) for _, key, digits in columns)])
    for name, each in found["baselines"].items():
        if name in ORACLES:
            rows.append([name, *(number_text(each["figures"].get(key), digits) for _, key, digits in columns)])
    return markdown_table(["system", *(heading for heading, _, _ in columns)], rows)


def clips_in(found: Mapping[str, Any]) -> list[str]:
    """The clips that were measured."""
    return list(found["baselines"].get(UNTOUCHED, {"clips": {}})["clips"])


def clip_section(found: Mapping[str, Any], clip: str, direction: str) -> str:
    """The table of a clip: flicker without and with the temporal blend."""
    rows = []
    for name in (UNTOUCHED, TRUTH):
        figures = found["baselines"].get(name, {"clips": {}})["clips"].get(clip, {}).get("")
        if figures is not None:
            rows.append([name, *(number_text(figures.get(key), digits) for _, key, digits in CLIP_COLUMNS)])
    for name, each in found["systems"].items():
        clips = [seed["clips"][clip] for seed in each["seeds"].values()]
        for blend in clips[0] if clips else ():
            figures = spread([found_there[blend] for found_there in clips])
            rows.append(
                [f"**{name}**, {blend}", *(spread_text(figures.get(key), digits) for _, key, digits in CLIP_COLUMNS)]
            )
    here, there = DAY_FOLDERS[direction]
    table = markdown_table(["clip", *(heading for heading, _, _ in CLIP_COLUMNS)], rows)
    return f"## {here} to {there}, {clip}\n\n{table}"


def cost_table(fits: Mapping[str, Mapping[str, Any]]) -> str:
    """Time, images and memory of each process that was trained."""
    rows = []
    for name, seeds in fits.items():
        for seed, record in seeds.items():
            seconds = [part["seconds"] for part in record["fits"] if "seconds" in part]
            images = [f"{part['images']:,}" for part in record["fits"] if "images" in part]
            photos = record["photos_s"]
            learned = "; ".join(f"{way}: {what}" for way, what in record["learned_from"].items())
            rows.append(
                [
                    f"{name}, seed {seed}" + ("" if record["state"] == "done" else f" ({record['state'].upper()})"),
                    "–" if photos is None else f"{photos:.0f}",
                    f"{sum(seconds):.0f}" if seconds else "–",
                    f"{record['wall_s']:.0f} of {record['allowed_s']:.0f}",
                    " + ".join(images) or "–",
                    f"{record['peak_bytes'] / PEAK_UNIT:.2f}",
                    learned or "–",
                    record["revision"] or "–",
                ]
            )
    headings = [
        "process",
        "before the fit, s",
        "fit, s",
        "all of allowed, s",
        "images",
        "peak, GiB",
        "learned from",
        "code",
    ]
    return markdown_table(headings, rows)


def spread(seeds: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    """Figures over seeds: figure -> mean, low, high; without figures that any seed lacks."""
    together = {}
    for name in seeds[0] if seeds else ():
        values = [seed[name] for seed in seeds if seed.get(name) is not None]
        if len(values) == len(seeds):
            numbers = np.array(values, dtype=np.float64)
            together[name] = {
                "mean": float(numbers.mean()), "low": float(numbers.min()), "high": float(numbers.max()),
                "seeds": len(numbers),
            }  # fmt: skip
    return together


def spread_text(figure: Mapping[str, float] | None, digits: int) -> str:
    """Mean and half the range over seeds; for one seed the mean alone."""
    text = number_text(None if figure is None else figure["mean"], digits)
    if figure is None or figure["seeds"] < 2 or math.isinf(figure["mean"]):
        return text
    return f"{text} ± {(figure['high'] - figure['low']) / 2:.{digits}f}"


def best_transfer(baselines: Mapping[str, Any]) -> str:
    """The transfer from photos with the best PSNR; where there is no truth, the one from the nearest photo."""
    names = [name for name in (*BASELINES, NEAREST) if "psnr" in baselines.get(name, {"figures": {}})["figures"]]
    return max(names, key=lambda name: float(baselines[name]["figures"]["psnr"]), default=NEAREST)


def transfer_named(name: str, source: Path, target: Path) -> Method:
    """One of the transfers from photos."""
    if name == NEAREST:
        return nearest_method(near_folders(source, target))
    return {each.name: each for each in transfer_methods(pool_folder(source), pool_folder(target))}[name]


def write_sheet(
    path: Path,
    direction: str,
    photos: tuple[Path, Path],
    pairs: Path | None,
    baselines: Mapping[str, Any],
    looks: Mapping[str, Path],
    device: str,
) -> Path:
    """Writes a sheet of a few views: plate | best transfer | systems | truth.

    Args:
        path: .jpg.
        direction: "ab" or "ba".
        photos: folders of the days A and B.
        pairs: paired views; None where there is no truth, and photos are shown.
        baselines: scores of what needs no training.
        looks: heading -> look.
        device: a device for the looks, as for `relightgan infer`.
    """
    source, target = photos if direction == "ab" else photos[::-1]
    views: list[View] = unpaired_views(source, SHEET_VIEWS)
    if pairs is not None:
        found = find_views(pairs, direction)
        views = list(type(found)(found.folder, tuple(evenly(found.files, SHEET_VIEWS))))
    transfer = transfer_named(best_transfer(baselines), source, target)
    methods = [transfer, *(look_method(name, LookSession(load_look(look), device)) for name, look in looks.items())]
    rows = []
    for view in views:
        cells = [(view.plate.rgb, "plate"), *((method.relight(view), method.name) for method in methods)]
        cells += [(view.truth, "truth")] if pairs is not None else []
        rows.append([(to_display(picture), caption) for picture, caption in cells])
    here, there = DAY_FOLDERS[direction]
    return contact_sheet(rows, path, title=f"{here} to {there}", cell_px=CELL_PX)
