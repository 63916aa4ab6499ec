"""Measures methods on paired views, by the formulas of `metrics`.

Paired views are a folder with A/ and B/ (the same file name for the same camera under both lights) and optionally mask/
(white on surfaces). Files are read as by `relightgan infer`: EXR and float TIFF are scene-linear, others sRGB.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relightgan.core.clips import PLATE_SUFFIXES, display_to_working, is_display_referred
from relightgan.core.colour import DEFAULT_WORKING_SPACE
from relightgan.core.errors import LookError, PlateError
from relightgan.core.frames import read_mask, read_plate
from relightgan.core.guidance import check_grid
from relightgan.core.guidance_files import GuidanceFiles
from relightgan.core.pipeline import Relighting, Settings, relight_frame
from relightgan.core.plate import Plate
from relightgan.core.session import LookSession
from relightgan.training.measure.baselines import BASELINES, NEAREST, ORACLES, NearPhotos, Pool, identity, match_nearest
from relightgan.training.measure.metrics import BRIGHTER, exposure_error, mean_figures, measure_picture

DAY_FOLDERS = {"ab": ("A", "B"), "ba": ("B", "A")}  # by direction: the folder of plates, that of truths
UNTOUCHED = "input unchanged"  # name of the method without any change
GUIDED = ", guided"  # suffix of a look's name for its guided results


@dataclass(frozen=True)
class View:
    """One camera under both lights; scene-linear, (H, W, 3) float32 each."""

    name: str
    plate: Plate
    truth: np.ndarray
    mask: np.ndarray | None  # (H, W) bool, true on surfaces


@dataclass(frozen=True)
class Method:
    """A method that relights a view; only oracles use the truth of the view."""

    name: str
    relight: Callable[[View], np.ndarray]
    knows_truth: bool = False


@dataclass(frozen=True)
class PairedViews:
    """The paired views of a folder, read one at a time: iterate over it."""

    folder: Path
    files: tuple[tuple[Path, Path, Path | None], ...]  # plate, truth, mask

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[View]:
        for plate_path, truth_path, mask_path in self.files:
            plate, truth = read_picture(plate_path), read_picture(truth_path).rgb
            if truth.shape != plate.rgb.shape:
                raise PlateError(
                    f"{plate_path} is {size_text(plate.rgb)} and {truth_path} is {size_text(truth)}.",
                    "A pair must have one size and data window.",
                )
            mask = None if mask_path is None else read_mask(mask_path, plate) > 0.5
            yield View(plate_path.stem, plate, truth, mask)


def find_views(folder: Path, direction: str = "ab") -> PairedViews:
    """The paired views of a folder.

    Args:
        folder: folder with A/, B/ and optionally mask/.
        direction: "ab": A are the plates and B the truths; "ba": the other way.

    Raises:
        PlateError: a folder isn't there or is empty, or a view has no partner.
    """
    here, there = (pictures_of(folder / name) for name in DAY_FOLDERS[direction])
    if lonely := sorted(here.keys() ^ there.keys()):
        raise PlateError(
            f"{len(lonely)} views of {folder} are in one of A and B only: {', '.join(lonely[:5])}.",
            "Give both pictures of a view the same name.",
        )
    masks = pictures_of(folder / "mask") if (folder / "mask").is_dir() else {}
    return PairedViews(folder, tuple((path, there[name], masks.get(name)) for name, path in here.items()))


def look_method(name: str, session: LookSession, settings: Settings | None = None) -> Method:
    """A look as a method for single views."""
    chosen = settings or Settings()

    def relight(view: View) -> np.ndarray:
        return relight_frame(1, lambda _: view.plate, (1,), Relighting(session, chosen)).rgb

    return Method(name, relight)


def guided_method(name: str, session: LookSession, folder: Path) -> Method:
    """A look with guidance from `<view>.exr` in a folder that `relightgan locate` wrote.

    Raises:
        LookError: the look has no grid for guidance to correct.
    """
    check_grid(session)

    def relight(view: View) -> np.ndarray:
        path = folder / f"{view.name}.exr"
        files = GuidanceFiles(str(path), session.look)
        if not path.is_file():
            raise PlateError(f"There is no guidance {path}.", "Locate the views with `relightgan locate`.")
        return relight_frame(1, lambda _: view.plate, (1,), Relighting(session, Settings(), guidance=files.read)).rgb

    return Method(name + GUIDED, relight)


def untouched_method() -> Method:
    """The method that returns the plate unchanged."""
    return Method(UNTOUCHED, lambda view: identity(view.plate.rgb))


def transfer_methods(source: Pool, target: Pool) -> list[Method]:
    """Colour transfer between the pooled photos of both days."""
    return [
        Method(name, lambda view, transfer=transfer: transfer(view.plate.rgb, source, target))  # type: ignore[misc]
        for name, transfer in BASELINES.items()
    ]


def nearest_method(near: NearPhotos) -> Method:
    """Colour transfer from the target photo nearest in content."""
    return Method(NEAREST, lambda view: match_nearest(view.plate.rgb, near))


def oracle_methods() -> list[Method]:
    """Fits of a colour matrix, a lookup table and a gain grid to the truth: upper bounds for such methods."""
    return [
        Method(name, lambda view, oracle=oracle: oracle(view.plate.rgb, view.truth), knows_truth=True)  # type: ignore[misc]
        for name, oracle in ORACLES.items()
    ]


def measure_views(
    views: PairedViews,
    methods: Sequence[Method],
    on_view: Callable[[View, dict[str, np.ndarray]], None] = lambda view, relit: None,
) -> dict[str, dict[str, Any]]:
    """Every method's figures on every view.

    Args:
        views: paired views, read one at a time.
        methods: methods with distinct names.
        on_view: called after each view with the relit pictures by method name.

    Returns:
        method -> {"mean": figure -> {"mean", "low", "high"} with the 95 % bootstrap interval over views,
        "views": view -> figure -> value}: the figures of `metrics.measure_picture`, and but for oracles exposure_error.

    Raises:
        PlateError: a file can't be read or doesn't fit its partner.
        LookError: a method made NaN or infinity.
    """
    figures: dict[str, dict[str, dict[str, float | list[float]]]] = {method.name: {} for method in methods}
    for view in views:
        relit = {method.name: method.relight(view) for method in methods}
        brighter = replace(view, plate=replace(view.plate, rgb=np.float32(BRIGHTER) * view.plate.rgb))
        for method in methods:
            name, picture = method.name, relit[method.name]
            check_finite(picture, name, view.name)
            found = measure_picture(view.plate.rgb, picture, view.truth, view.mask)
            if not method.knows_truth:
                again = method.relight(brighter)
                check_finite(again, name, f"{view.name}, shown brighter,")
                found["exposure_error"] = exposure_error(picture, again)
            figures[name][view.name] = found
        on_view(view, relit)
    return {name: {"mean": mean_figures(list(each.values())), "views": each} for name, each in figures.items()}


def read_picture(path: Path) -> Plate:
    """A plate, scene-linear; display-referred files are read as sRGB and linearised.

    Raises:
        PlateError: the file can't be read, or has NaN or infinity, which no figure is defined for.
    """
    plate = read_plate(path)
    if is_display_referred(path, plate):
        plate = display_to_working(plate, DEFAULT_WORKING_SPACE)
    if not np.isfinite(plate.rgb).all():
        raise PlateError(f"{path} has NaN or infinity in it.", "Render it again, or leave this view out.")
    return plate


def pictures_of(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by name without suffix, in order.

    Raises:
        PlateError: there is no such folder, no picture in it, or a name with two suffixes.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PLATE_SUFFIXES)
    if not paths:
        raise PlateError(f"{folder} has no pictures.", f"It needs {', '.join(PLATE_SUFFIXES)} files.")
    named = {path.stem: path for path in paths}
    if len(named) < len(paths):
        raise PlateError(f"{folder} has one name with two suffixes.", "Keep one file per view.")
    return named


def check_finite(picture: np.ndarray, method: str, where: str) -> None:
    """Checks that a relit picture is finite.

    Raises:
        LookError: it has NaN or infinity.
    """
    if bad := int(np.count_nonzero(~np.isfinite(picture))):
        raise LookError(f"{method} makes {bad} values of {where} NaN or infinite.", "No figure has a meaning then.")


def size_text(picture: np.ndarray) -> str:
    """The size of a picture as text, such as `1920x1080`."""
    return f"{picture.shape[1]}x{picture.shape[0]}"
