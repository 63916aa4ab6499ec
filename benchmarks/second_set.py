"""Renders a second set with ground truth: a market street under an overcast and under a sunny sky.

    python benchmarks/second_set.py --out build/second_set
    python benchmarks/quality.py --data build/second_set --ab look_ab.onnx --ba look_ba.onnx

Laid out as quality.py wants it: unpaired photos in train/A_overcast and train/B_sunny, 320x240 JPEG; in
test/pairs/{A,B,mask} and clips/clip1/{A,B,flow} 640x480 scene-linear half EXR. Flow goes from a frame back to the one
before: R = u, G = v in pixels, B = 1 where both are valid. Existing pictures aren't rendered again: the same command
goes on where it stopped, and a later one may ask for more photos or frames. The same seed gives the same pictures.
"""

import argparse
import functools
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by its path, this file's own folder is what Python searches first; the checkout is what it needs.
    sys.path[0] = str(ROOT)

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import OpenImageIO  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.market.boxes import Boxes, Scene, boxes_of  # noqa: E402
from benchmarks.market.draw import (  # noqa: E402
    FOV_X,
    Seen,
    camera_draw,
    flow_back,
    picture,
    see,
    solid_pixels,
    walk,
)
from benchmarks.market.light import DAYS, Detail, Painted, Sky, light, paint  # noqa: E402
from benchmarks.market.scene import market_street  # noqa: E402
from relightgan.core.cli import run_command  # noqa: E402
from relightgan.core.colour import linear_to_srgb  # noqa: E402
from relightgan.core.errors import EXIT_DONE, PlateError, UsageError  # noqa: E402
from relightgan.core.exr_write import write_plain_exr  # noqa: E402
from relightgan.core.files import open_folder, replacing, write_whole  # noqa: E402
from relightgan.core.progress import STYLES, cancellation, progress  # noqa: E402
from relightgan.training.measure.tables import write_text  # noqa: E402
from relightgan.training.photos.measuring import in_parallel, usual_workers  # noqa: E402

FINE = Detail()
FORMAT = 1  # version of the place and its light; raise it when pictures change
NOTES = "second_set.json"  # the file with the settings of a set
PHOTO_FOLDERS = {"A": "train/A_overcast", "B": "train/B_sunny"}
PAIRS, CLIP = "test/pairs", "clips/clip1"
JPEG_QUALITY = 92
STREAMS = {"A": 10, "B": 11, "views": 12}  # a number per kind of picture, for the seeds of its cameras


@dataclass(frozen=True)
class SecondSetSettings:
    """Sizes and counts of the set."""

    out: Path
    photos: int = 160  # photos of each day
    views: int = 12  # paired views
    frames: int = 12  # frames of the clip
    seed: int = 0  # seed of all cameras
    photo_px: tuple[int, int] = (320, 240)  # width and height
    plate_px: tuple[int, int] = (640, 480)
    detail: Detail = FINE


@dataclass(frozen=True)
class Place:
    """The set, ready to be photographed."""

    scene: Scene
    painted: list[Painted]
    sky: Sky

    def see(self, pose: np.ndarray, size: tuple[int, int]) -> Seen:
        """The surfaces that the rays of a camera meet."""
        return see(self.scene, self.painted, pose, size)

    def picture(self, seen: Seen, day: str) -> np.ndarray:
        """(H, W, 3) float32, scene-linear."""
        return picture(seen, self.scene, self.painted, self.sky, day)


@dataclass(frozen=True)
class Task:
    """A camera: its files, and the function that renders them."""

    files: tuple[Path, ...]
    make: Callable[[Place], None]

    @property
    def open(self) -> bool:
        """True where a file is missing."""
        return not all(path.is_file() for path in self.files)


def main(argv: Sequence[str]) -> int:
    """Runs the command; the exit code."""
    words = build_parser().parse_args(argv)
    settings = SecondSetSettings(words.out, words.photos, words.views, words.frames, words.seed)
    made = render(settings, words.progress)
    print(f"{made} cameras rendered; the set is in {words.out}.")
    return EXIT_DONE


def render(settings: SecondSetSettings, style: str = "auto", place: Place | None = None) -> int:
    """Renders the missing pictures of a set; the number of cameras rendered.

    Args:
        settings: sizes, counts, seed and folder.
        style: style of the progress display; see `relightgan.core.progress`.
        place: from `prepare` with the same seed and detail; made where it is needed when None.

    Raises:
        UsageError: the numbers make no sense.
        PlateError: the folder has something else in it, or can't be written.
        Cancelled: somebody asked to stop; what was finished is whole.
    """
    check(settings)
    boxes = boxes_of(market_street(settings.seed))
    tasks = [task for task in all_tasks(settings, boxes) if task.open]
    for folder in (settings.out, *sorted({path.parent for task in all_tasks(settings, boxes) for path in task.files})):
        open_folder(folder, functools.partial(not_written, folder))
    write_text(settings.out / NOTES, json.dumps(notes(settings), indent=1) + "\n")
    write_cameras(settings, boxes)
    if not tasks:
        return 0
    with cancellation() as cancelled:
        ready = place or prepare(settings, style, cancelled.check)
        with progress(len(tasks), "cameras", style) as shown:
            for _ in in_parallel(lambda task: task.make(ready), tasks, usual_workers()):
                cancelled.check()
                shown.advance()
    return len(tasks)


def prepare(settings: SecondSetSettings, style: str = "auto", check_stop: Callable[[], None] = lambda: None) -> Place:
    """Paints and lights the place, which takes a minute or two at full detail.

    Args:
        settings: settings with the seed and the level of detail.
        style: style of the progress display.
        check_stop: called now and then; what it raises ends the work.
    """
    scene, sky, threads = market_street(settings.seed), Sky(settings.seed), usual_workers()
    with progress(3 * len(scene.surfaces), "surfaces", style) as shown:

        def done() -> None:
            check_stop()
            shown.advance()

        sheets = paint(scene, settings.seed, settings.detail, threads, done)
        return Place(scene, light(scene, sheets, sky, settings.detail, threads, done), sky)


def check(settings: SecondSetSettings) -> None:
    """Makes sure that the numbers make sense and that the folder is ours.

    Raises:
        UsageError: a number makes no sense.
        PlateError: the folder has something else in it.
    """
    if settings.photos < 1 or settings.views < 1:
        raise UsageError("A set needs at least one photo a day and one view.", "Raise --photos or --views.")
    if settings.frames < 2:
        raise UsageError("A clip needs at least two frames.", "Raise --frames.")
    if settings.seed < 0:
        raise UsageError("A seed can't be negative.", "Give --seed 0 or more.")
    path = settings.out / NOTES
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != notes(settings):
            raise PlateError(
                f"{settings.out} has a set made with another seed, size or version.",
                "Delete it, or give another --out.",
            )
    elif settings.out.exists() and (not settings.out.is_dir() or any(settings.out.iterdir())):
        raise PlateError(f"{settings.out} is there and isn't a second set.", "Give a new or empty --out.")


def notes(settings: SecondSetSettings) -> dict[str, object]:
    """The settings that must be equal for a set to be continued."""
    detail = settings.detail
    return {
        "made by": "benchmarks/second_set.py",
        "format": FORMAT,
        "seed": settings.seed,
        "photo": list(settings.photo_px),
        "plate": list(settings.plate_px),
        "detail": [detail.texture, detail.light, detail.rays, detail.sun_rays],
    }


def all_tasks(settings: SecondSetSettings, boxes: Boxes) -> Iterator[Task]:
    """Every picture of the set."""
    out = settings.out
    for number in range(settings.photos):
        for day, folder in PHOTO_FOLDERS.items():
            path = out / folder / f"{number + 1:04}.jpg"
            pose = drawn(settings.seed, day, number, boxes)
            yield Task((path,), functools.partial(make_photo, path=path, pose=pose, size=settings.photo_px, day=day))
    for number in range(settings.views):
        files = {day: out / PAIRS / day / f"{number + 1:04}.exr" for day in DAYS}
        mask = out / PAIRS / "mask" / f"{number + 1:04}.png"
        pose = drawn(settings.seed, "views", number, boxes)
        make = functools.partial(make_view, files=files, mask=mask, pose=pose, size=settings.plate_px)
        yield Task((*files.values(), mask), make)
    for number in range(settings.frames):
        files = {day: out / CLIP / day / f"{number + 1:04}.exr" for day in DAYS}
        flow = out / CLIP / "flow" / f"{number + 1:04}.exr" if number > 0 else None
        poses = tuple(walk(settings.seed, each) for each in (number, max(number - 1, 0)))
        make = functools.partial(make_frame, files=files, flow=flow, poses=poses, size=settings.plate_px)
        yield Task((*files.values(), *((flow,) if flow else ())), make)


def drawn(seed: int, stream: str, number: int, boxes: Boxes) -> np.ndarray:
    """A random camera, which depends on its name alone."""
    return camera_draw(np.random.default_rng([seed, STREAMS[stream], number]), boxes)


def make_photo(place: Place, path: Path, pose: np.ndarray, size: tuple[int, int], day: str) -> None:
    """Renders an 8-bit sRGB photo."""
    rgb = place.picture(place.see(pose, size), day)
    coded = np.round(255 * linear_to_srgb(np.clip(rgb, 0, 1))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(coded).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    write_whole(path, file.getbuffer(), functools.partial(not_written, path))


def make_view(place: Place, files: dict[str, Path], mask: Path, pose: np.ndarray, size: tuple[int, int]) -> None:
    """Renders a camera under both lights, and the mask of its surfaces."""
    seen = place.see(pose, size)
    for day, path in files.items():
        write_exr(path, place.picture(seen, day))
    coded = cv2.imencode(".png", np.where(solid_pixels(seen), 255, 0).astype(np.uint8))[1]
    write_whole(mask, coded.tobytes(), functools.partial(not_written, mask))


def make_frame(
    place: Place, files: dict[str, Path], flow: Path | None, poses: tuple[np.ndarray, ...], size: tuple[int, int]
) -> None:  # fmt: skip
    """Renders a clip's frame under both lights, and the flow to the frame before."""
    now = place.see(poses[0], size)
    for day, path in files.items():
        write_exr(path, place.picture(now, day))
    if flow is not None:
        write_exr(flow, flow_back(now, place.see(poses[1], size)))


def write_exr(path: Path, rgb: np.ndarray) -> None:
    """Writes (H, W, 3) float32 as half EXR, whole or not at all.

    Raises:
        PlateError: it can't be written.
    """
    spec = OpenImageIO.ImageSpec(rgb.shape[1], rgb.shape[0], 3, "half")
    spec.channelnames = ("R", "G", "B")
    spec.attribute("compression", "zip")
    spec.attribute("DateTime", "")  # else OpenImageIO adds the time: the same seed gives the same file
    with replacing(path, functools.partial(not_written, path)) as temporary:
        write_plain_exr(temporary, spec, rgb)


def write_cameras(settings: SecondSetSettings, boxes: Boxes) -> None:
    """Writes cameras.json beside the views and the clip: camera to world, metres, z up, looking along -z."""
    views = [drawn(settings.seed, "views", number, boxes) for number in range(settings.views)]
    frames = [walk(settings.seed, number) for number in range(settings.frames)]
    for folder, poses in ((PAIRS, views), (CLIP, frames)):
        known = {"fov_x_deg": FOV_X, "size": settings.plate_px, "cam_to_world": [pose.tolist() for pose in poses]}
        write_text(settings.out / folder / "cameras.json", json.dumps(known) + "\n")


def not_written(path: Path, error: OSError) -> PlateError:
    """The error for a file that can't be written."""
    return PlateError(f"{path} can't be written: {error.strerror or error}.", "Check the folder, its rights and space.")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/second_set.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for the set; new, empty or to go on with"
    )
    parser.add_argument("--photos", type=int, default=160, metavar="N", help="of each day (default: 160)")
    parser.add_argument("--views", type=int, default=12, metavar="N", help="paired test views (default: 12)")
    parser.add_argument("--frames", type=int, default=12, metavar="N", help="of the clip (default: 12)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of colours, textures and cameras (default: 0)"
    )
    parser.add_argument("--progress", default="auto", choices=STYLES, help="how to show progress (default: auto)")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
