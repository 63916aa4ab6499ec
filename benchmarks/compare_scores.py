"""Scores of trained systems and of baselines for `compare.py`; kept until their inputs change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from relightgan.core.errors import PlateError
from relightgan.core.look import load_look
from relightgan.core.progress import Cancellation
from relightgan.core.session import LookSession
from relightgan.training.measure.baselines import HISTOGRAM_BINS, Pool, pool_photos
from relightgan.training.measure.evaluation import Request, evaluate, near_folders, pool_folder
from relightgan.training.measure.metrics import detail_correlation, to_display
from relightgan.training.measure.paired_views import (
    Method,
    View,
    look_method,
    nearest_method,
    read_picture,
    transfer_methods,
    untouched_method,
)
from relightgan.training.stage_cache import digest, file_digest, read_notes, write_notes

ROOT = Path(__file__).resolve().parents[1]
# Scores are computed again after a change of these modules.
MEASURES = ("metrics.py", "evaluation.py", "paired_views.py", "clips.py", "baselines.py")
BLENDS = (0.0, 1.0)  # temporal blends measured on clips
UNPAIRED_PICTURES = 12  # photos measured per folder of a set without truth

Scores = dict[str, dict[str, Any]]
"""Name -> {"figures": figure -> mean, "clips": clip -> "blend 0" | "blend 1" | "" -> figure -> mean}."""


def test_files(data: Path) -> list[Path]:
    """The files of paired views and clips.

    Raises:
        PlateError: there are no paired views.
    """
    files = sorted(path for path in (*data.glob("test/pairs/*/*"), *data.glob("clips/*/*/*")) if path.is_file())
    if not any("pairs" in path.parts for path in files):
        raise PlateError(f"{data} has no test/pairs/A and B.", "Check --data.")
    return files


def clips_of(data: Path) -> list[Path]:
    """The clips of a set."""
    return sorted(path for path in (data / "clips").glob("*") if path.is_dir())


def baseline_scores(
    data: Path,
    photos: tuple[Path, Path],
    direction: str,
    oracles: bool,
    work: Path,
    stop: Cancellation,
    style: str = "none",
) -> Scores:
    """Scores of the unchanged plate, of colour transfers and of oracles, in this order.

    Args:
        data: the set.
        photos: folders of the days A and B.
        direction: "ab" or "ba".
        oracles: True: score the fits to the truth too.
        work: the folder that keeps the scores.
        stop: checked after each view and frame.
        style: style of the progress display; see `core.progress`.

    Raises:
        PlateError, PhotoError: a file can't be used.
        Cancelled: a stop was asked for.
    """

    def measure() -> Scores:
        source, target = photos if direction == "ab" else photos[::-1]
        alone = Request(direction=direction)
        pairs = data / "test" / "pairs"
        request = replace(alone, pairs=pairs, source_photos=source, target_photos=target, oracles=oracles)
        methods = evaluate(request, style, stop.check)["pairs"]["methods"]
        scores: Scores = {name: {"figures": means(each["mean"]), "clips": {}} for name, each in methods.items()}
        for clip in clips_of(data):
            rows = evaluate(replace(alone, clip=clip), style, stop.check)["clip"]["rows"]
            for name, figures in rows.items():
                scores.setdefault(name, {"figures": {}, "clips": {}})["clips"][clip.name] = {"": figures}
        return scores

    files = [*test_files(data), *(path for folder in photos for path in sorted(folder.glob("*")))]
    return kept(work / f"baselines-{direction}.json", [direction, oracles, stamps(files)], measure)


def look_scores(
    look: Path, data: Path, direction: str, device: str, stop: Cancellation, style: str = "none"
) -> dict[str, Any]:
    """Scores of a look: {"figures", "clips"}, kept beside it; see `Scores`.

    Raises:
        PlateError, LookError, DeviceError: a file or device can't be used, or the look makes NaN.
        Cancelled: a stop was asked for.
    """

    def measure() -> Scores:
        request = Request(looks=(look,), direction=direction, device=device, blends=BLENDS)
        paired = evaluate(replace(request, pairs=data / "test" / "pairs"), style, stop.check)["pairs"]["methods"]
        clips: dict[str, dict[str, dict[str, float]]] = {}
        for clip in clips_of(data):
            rows = evaluate(replace(request, clip=clip), style, stop.check)["clip"]["rows"]
            clips[clip.name] = {f"blend {blend:g}": rows[f"{look.stem}, blend {blend:g}"] for blend in BLENDS}
        return {"look": {"figures": means(paired[look.stem]["mean"]), "clips": clips}}

    key = [direction, file_digest(look), stamps(test_files(data))]
    return kept(look.with_name(f"scores-{direction}.json"), key, measure)["look"]


def unpaired_scores(look: Path, photos: tuple[Path, Path], direction: str, device: str) -> dict[str, Any]:
    """Scores of a look without truth: how near it brings photos of one day to those of the other; see `nearness`.

    Raises:
        PlateError, LookError, DeviceError, PhotoError: a file or device can't be used.
    """

    def measure() -> Scores:
        source, target = photos if direction == "ab" else photos[::-1]
        method = look_method(look.stem, LookSession(load_look(look), device))
        return {"look": {"figures": nearness(method, unpaired_views(source), pool_folder(target))}}

    files = [path for folder in photos for path in sorted(folder.glob("*"))]
    key = [direction, file_digest(look), stamps(files)]
    return kept(look.with_name(f"scores-{direction}.json"), key, measure)["look"]


def unpaired_baselines(photos: tuple[Path, Path], direction: str, work: Path) -> Scores:
    """Scores without truth of unchanged photos and of colour transfers."""

    def measure() -> Scores:
        source, target = photos if direction == "ab" else photos[::-1]
        here, there = pool_folder(source), pool_folder(target)
        nearest = nearest_method(near_folders(source, target))
        methods = [untouched_method(), *transfer_methods(here, there), nearest]
        views = unpaired_views(source)
        return {method.name: {"figures": nearness(method, views, there)} for method in methods}

    files = [path for folder in photos for path in sorted(folder.glob("*"))]
    return kept(work / f"baselines-{direction}.json", [direction, stamps(files)], measure)


def nearness(method: Method, views: Sequence[View], target: Pool) -> dict[str, float]:
    """How near a method brings pictures to a folder, over all their pixels, and how much of their detail it keeps.

    Returns:
        histogram: distance of the two histograms, mean of the channels, in 8-bit display values: how far values have to
        be shifted (Wasserstein-1); lab_mean and lab_deviation: distance of mean and deviation of L*a*b*;
        detail_correlation_plate: see `metrics`, mean over the pictures.
    """
    relit = [method.relight(view) for view in views]
    pool = pool_photos(to_display(picture) for picture in relit)
    below = np.cumsum(pool.histogram, axis=1) - np.cumsum(target.histogram, axis=1)
    detail = [detail_correlation(picture, view.plate.rgb) for picture, view in zip(relit, views, strict=True)]
    return {
        "histogram": float(np.abs(below).sum(axis=1).mean() * 255 / (HISTOGRAM_BINS - 1)),
        "lab_mean": float(np.linalg.norm(pool.lab_mean - target.lab_mean)),
        "lab_deviation": float(np.linalg.norm(pool.lab_deviation - target.lab_deviation)),
        "detail_correlation_plate": float(np.mean(detail)),
    }


def unpaired_views(folder: Path, count: int = UNPAIRED_PICTURES) -> list[View]:
    """Some photos of a folder, evenly spread, as views without a truth."""
    paths = sorted(path for path in folder.glob("*") if path.is_file())
    chosen = evenly(paths, count)
    plates = [read_picture(path) for path in chosen]
    return [View(path.stem, plate, plate.rgb, None) for path, plate in zip(chosen, plates, strict=True)]


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """Some of a list, evenly spread, first and last among them."""
    return [items[n] for n in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


def means(mean: Mapping[str, Any]) -> dict[str, float]:
    """Figures of `metrics.mean_figures` as numbers, without those by decile."""
    return {name: value["mean"] for name, value in mean.items() if isinstance(value, dict)}


def kept(path: Path, key: Any, measure: Callable[[], Scores]) -> Scores:
    """Scores from a file if its inputs are unchanged, else measured now and written to it."""
    measures = [file_digest(ROOT / "training" / "measure" / name) for name in MEASURES]
    whole = digest([key, measures, file_digest(Path(__file__))])
    notes = read_notes(path)
    if notes.get("key") != whole:
        notes = {"key": whole, "scores": measure()}
        write_notes(path, notes)
    scores: Scores = notes["scores"]
    return scores


def stamps(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, size in bytes and time of change in ns of files: a changed file has another stamp."""
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
