"""Measures looks, baselines and oracles on paired views and on clips."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relightgan.core.errors import PhotoError, UsageError
from relightgan.core.guidance import READ
from relightgan.core.look import load_look
from relightgan.core.progress import progress
from relightgan.core.session import LookSession
from relightgan.core.text import print_line
from relightgan.training.measure.baselines import NearPhotos, Pool, near_photos, pool_photos
from relightgan.training.measure.clips import find_clip, measure_clip, rows_of
from relightgan.training.measure.paired_views import (
    DAY_FOLDERS,
    GUIDED,
    View,
    find_views,
    guided_method,
    look_method,
    measure_views,
    nearest_method,
    oracle_methods,
    transfer_methods,
    untouched_method,
)
from relightgan.training.measure.tables import (
    clip_table,
    open_out,
    versions,
    views_table,
    write_view_picture,
)
from relightgan.training.photos.files import decode_photo, find_photo_files, is_movie_file, to_float

POOL_SIDE_PX = 512  # long side of photos for colour statistics and embeddings


@dataclass(frozen=True)
class Request:
    """A request for measurements."""

    looks: tuple[Path, ...] = ()  # looks to measure; without any, baselines alone
    pairs: Path | None = None  # folder with A/ B/ [mask/]
    clip: Path | None = None  # folder with A/ [B/] flow/
    direction: str = ""  # "ab" relights A to B, "ba" back; empty: as the looks state
    source_photos: Path | None = None  # photo dump of the source day, for colour transfers
    target_photos: Path | None = None  # photo dump of the target day
    oracles: bool = False  # also fits to the truth: about ten seconds per view of 640x480
    blends: tuple[float, ...] = (0.0, 1.0)  # temporal blends to measure on the clip
    window: int = 2  # temporal window, in frames to either side
    device: str = "auto"  # a device, as for `relightgan infer`
    pictures: Path | None = None  # folder for a picture per view; None: no pictures
    guidance: Path | None = None  # folder with <view>.exr from `relightgan locate`: adds guided results


def evaluate(request: Request, style: str = "none", check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Measures everything in a request.

    Args:
        request: the request.
        style: style of the progress display; see `core.progress`.
        check: called after each view and frame; may raise `Cancelled`.

    Returns:
        direction, versions, looks (name -> path, sha256, translator, device), and as requested
        pairs: {"folder", "views", "methods": as `paired_views.measure_views`} and
        clip: {"folder", "frames", "window", "rows": as `clips.measure_clip`}. Plain JSON types.

    Raises:
        UsageError: nothing to measure, or looks of both directions at once.
        PlateError, LookError, PhotoError, DeviceError: a file or device can't be used.
    """
    if request.pairs is None and request.clip is None:
        raise UsageError("There is nothing to measure on.", "Give --pairs, --clip or both.")
    looks = {name: load_look(path) for name, path in look_names(request.looks).items()}
    direction = request.direction or stated_direction([look.facts.direction for look in looks.values()])
    sessions = {name: LookSession(look, request.device, check=check) for name, look in looks.items()}
    views = find_views(request.pairs, direction) if request.pairs else None
    if views and request.pictures is not None:
        open_out(request.pictures)
    clip = find_clip(request.clip, direction) if request.clip else None
    result: dict[str, Any] = {
        "direction": direction,
        "versions": versions(),
        "looks": {
            name: {
                "path": str(look.path),
                "sha256": look.sha256,
                "translator": look.facts.translator,
                "device": sessions[name].device_line,
            }
            for name, look in looks.items()
        },
    }
    if views is not None:
        methods = [untouched_method()]
        if request.source_photos and request.target_photos:
            pools = (pool_folder(request.source_photos, check), pool_folder(request.target_photos, check))
            methods += transfer_methods(*pools)
            methods.append(nearest_method(near_folders(request.source_photos, request.target_photos, check)))
        methods += [look_method(name, session) for name, session in sessions.items()]
        if request.guidance is not None:
            methods += [
                guided_method(name, session, request.guidance)
                for name, session in sessions.items()
                if {*READ} <= {*session.look.facts.operators}
            ]
        shown_names = [method.name for method in methods if method.name.removesuffix(GUIDED) in looks]
        methods += oracle_methods() if request.oracles else []
        with progress(len(views), "views", style) as shown:

            def on_view(view: View, relit: dict[str, np.ndarray]) -> None:
                if request.pictures is not None and looks:
                    write_view_picture(request.pictures, view, {name: relit[name] for name in shown_names})
                shown.advance()
                check()

            measured = measure_views(views, methods, on_view)
        result["pairs"] = {"folder": str(views.folder), "views": len(views), "methods": measured}
    if clip is not None:
        rows = rows_of(clip, len(sessions), len(request.blends))
        with progress(len(clip.steps()) * rows, "frames", style) as shown:

            def on_frame() -> None:
                shown.advance()
                check()

            figures = measure_clip(clip, sessions, request.blends, request.window, on_frame)
        result["clip"] = {
            "folder": str(clip.folder),
            "frames": len(clip.steps()),
            "window": request.window,
            "rows": figures,
        }
    return result


def markdown_of(result: dict[str, Any]) -> str:
    """The result of `evaluate` as Markdown."""
    here, there = DAY_FOLDERS[result["direction"]]
    text = ""
    if "pairs" in result:
        text += f"## Paired views, {here} to {there}\n\n{views_table(result['pairs']['methods'])}\n"
    if "clip" in result:
        clip = result["clip"]
        text += ("\n" if text else "") + f"## Clip, {here} to {there}\n\n{clip_table(clip['rows'], clip['frames'])}\n"
    return text


def pool_folder(folder: Path, check: Callable[[], None] = lambda: None) -> Pool:
    """Colour statistics of the still photos in a folder; unreadable ones are named on stderr and left out.

    Raises:
        PhotoError: the folder isn't there, or no photo in it can be read.
    """
    return pool_photos(still_photos(folder, check))


def near_folders(source: Path, target: Path, check: Callable[[], None] = lambda: None) -> NearPhotos:
    """Embeddings and histograms of the still photos in two folders; unreadable ones are named on stderr and left out.

    Raises:
        PhotoError: a folder isn't there, or no photo in it can be read.
    """
    # Imported here, as torch takes seconds to load and no other measurement needs it.
    from relightgan.training.pairs.backbones import embed_photos, load_backbone

    embed = functools.partial(embed_photos, load_backbone())
    return near_photos(still_photos(source, check), still_photos(target, check), embed)


def still_photos(folder: Path, check: Callable[[], None] = lambda: None) -> Iterator[np.ndarray]:
    """The still photos of a folder, reduced, (H, W, 3) float32, display-encoded; names unreadable ones on stderr."""
    for path in find_photo_files(folder).photos:
        check()
        if is_movie_file(path):
            continue
        try:
            yield to_float(decode_photo(path, POOL_SIDE_PX).rgb)
        except PhotoError as error:
            print_line(f"Left out of the colour statistics: {error}")


def look_names(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each look: its file name, or its whole path where two files share a name."""
    stems = [path.stem for path in paths]
    named = {path.stem if stems.count(path.stem) == 1 else str(path): path for path in paths}
    if len(named) < len(paths):
        raise UsageError("One look is given twice.", "Give each look once.")
    return named


def stated_direction(directions: Sequence[str]) -> str:
    """The direction that looks state; "ab" where they state none.

    Raises:
        UsageError: they state different directions.
    """
    stated = {direction for direction in directions if direction in DAY_FOLDERS}
    if len(stated) > 1:
        raise UsageError("These looks go opposite ways.", "Measure each way alone, or say which with --direction.")
    return stated.pop() if stated else "ab"
