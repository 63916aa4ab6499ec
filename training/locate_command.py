"""The command `relightgan locate`: finds where plates were taken, and writes what the other day's photos saw there."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import OpenImageIO
import torch

from relightgan.core.clips import Source, open_source
from relightgan.core.colour import DEFAULT_WORKING_SPACE, linear_to_srgb, working_space
from relightgan.core.errors import EXIT_DONE, SequenceError, UsageError
from relightgan.core.guidance import Guidance
from relightgan.core.guidance_files import DIRECTION_NOTE, FOUND_NOTE, PHOTOS_NOTE, write_guidance
from relightgan.core.pipeline import Settings, model_light
from relightgan.core.plate import Plate, window_size
from relightgan.core.progress import STYLES, cancellation, progress
from relightgan.core.sequence import Sequence as FileSequence
from relightgan.core.sequence import format_frames, parse_frames
from relightgan.training.gain_grid import anchor_of
from relightgan.training.locate import Locator
from relightgan.training.lookups import badly_placed
from relightgan.training.plate_guidance import PlateViews
from relightgan.training.run_photos import RunPhotos, load_run

EXAMPLES = """examples:
  relightgan locate plates.%04d.exr --run day_to_dusk_run --out guidance.%04d.exr --frames 1001-1100
  relightgan infer day_to_dusk.onnx plates.%04d.exr relit.%04d.exr --guidance guidance.%04d.exr

For plates taken where the photos were: each frame is placed among the photos of its day, and what the photos of the
other day saw there is written, for `infer --guidance` to correct the look by. A frame that can't be placed, or that its
own day's photos contradict, gets guidance that says nothing, and a line in the log. A frame depends on itself alone.
The exposure of plates doesn't matter. The focal length is that of --focal-35mm, else of the file's metadata, else that
of the day's photos, refined where enough points are recognised.
"""
PLATE_PX = 1280  # long side that plates are looked at with, at most; points are found at half of it
COLOUR_SPACE = "lin_rec709"  # of photos, and so of guidance
EXPOSURE_STEPS = 16  # to a stop, in which plates are brought to the brightness of photos
FOCAL_NOTE = "Exif:FocalLengthIn35mmFilm"


def main(argv: Sequence[str]) -> int:
    """Runs `relightgan locate`; see its --help.

    Raises:
        RelightError: anything that can't be done; frames finished before are whole.
        Cancelled: Ctrl-C, or the farm's cancel.
    """
    options = parser().parse_args(argv)
    if options.focal_35mm is not None and not options.focal_35mm > 0:
        raise UsageError(f"--focal-35mm is {options.focal_35mm:g}.", "Give mm above 0.")
    if Path(options.out).suffix.lower() != ".exr":
        raise UsageError(f"--out is {options.out}, but guidance is an .exr file.", "Write guidance.%04d.exr.")
    settings = Settings(working_space=options.working_space, premultiplied=not options.unpremultiplied)
    working_space(settings.working_space, COLOUR_SPACE)
    with (
        closing(open_source(options.plates, settings.working_space)) as source,
        cancellation() as cancelled,
        torch.no_grad(),
    ):
        sink = FileSequence(options.out)
        frames = frames_to_do(options, source, sink)
        if not frames:
            log("Every frame is there already; nothing to do.")
            return EXIT_DONE
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        run = load_run(options.run, device, options.progress, cancelled)
        finder = PlateFinder(run, options.direction, settings, options.focal_35mm)
        missed = []
        with progress(len(frames), "frames", options.progress) as shown:
            for frame in frames:
                cancelled.check()
                found = finder.find(source.read(frame))
                if not found.located:
                    missed.append(frame)
                shown.say(f"Frame {frame}: {found.words}")
                notes = {PHOTOS_NOTE: run.digest, DIRECTION_NOTE: options.direction, FOUND_NOTE: found.words}
                write_guidance(sink.path(frame), found.guidance, notes)
                shown.advance()
    nowhere = f" Without guidance: {format_frames(missed)}." if missed else ""
    log(f"Placed {len(frames) - len(missed)} of {len(frames)} frames.{nowhere}")
    return EXIT_DONE


@dataclass(frozen=True)
class Found:
    """What became of a plate: its guidance, whether it was located, and a line for people."""

    guidance: Guidance
    located: bool
    words: str


class PlateFinder:
    """Makes guidance for plates, each by itself.

    Args:
        run: the registered photos.
        direction: "ab" for plates of the source's day, "ba" for those of the target's.
        settings: how plates are to be read.
        focal_35mm: mm, 35 mm equivalent, of all plates; None where their files or the photos shall tell.
    """

    def __init__(self, run: RunPhotos, direction: str, settings: Settings, focal_35mm: float | None) -> None:
        target, config = direction == "ba", run.config
        self.locator = Locator(
            run.registration,
            run.banks,
            run.features[int(target)],
            run.backbone,
            config.matching,
            config.registration.max_points,
            target,
            ~badly_placed(run.errors),
        )
        guide = config.guidance
        self.views = PlateViews(
            run.registration, run.views, run.depths, run.errors, target, guide.planes, guide.neighbours, guide.looks
        )
        own = torch.from_numpy(np.nonzero(run.views.of_target == target)[0]).to(run.views.device)
        self.usual_stops = float(anchor_of(run.views.colour[own]).mean())
        self.settings, self.focal_35mm = settings, focal_35mm
        self.space = working_space(settings.working_space, COLOUR_SPACE)

    def find(self, plate: Plate) -> Found:
        """A plate's guidance; such that says nothing where the plate can't be located."""
        light = model_light(plate, self.settings, self.space)
        height, width = light.shape[:2]
        # Square pixels, and as bright as photos usually are, so that it doesn't matter how the plate was exposed.
        square = (max(1, round(width * plate.pixel_aspect)), height)
        scale = min(1.0, PLATE_PX / max(square))
        size = (max(1, round(square[0] * scale)), max(1, round(square[1] * scale)))
        small = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        # In whole steps, so that the same plate with another exposure gives the same bits.
        own_stops = float(anchor_of(torch.from_numpy(small).permute(2, 0, 1)[None]))
        brighter = round((self.usual_stops - own_stops) * EXPOSURE_STEPS) / EXPOSURE_STEPS
        small = small * np.float32(2.0**brighter)
        rows, columns = self.views.raster(size)
        nothing = Guidance(
            np.zeros((rows, columns, 3), np.float32),
            np.zeros((rows, columns, 3), bool),
            np.zeros((rows, columns), np.float32),
        )
        centre, share = lens_axis(plate)
        focal = self.focal_35mm if self.focal_35mm is not None else focal_in_file(plate.path)
        picture = linear_to_srgb(np.clip(small, 0, 1)).astype(np.float32)
        # 35 mm equivalents are of the frame that the comp sees; the picture is what there are pixels for.
        raster = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_AREA)
        words = "not found among the photos of its day; no guidance."
        for camera in self.locator.locate(picture, centre, None if focal is None else focal * share):
            judged = self.views.guide(raster, camera)
            if judged.agrees:
                words = (
                    f"placed by {camera.inliers} points, {judged.off:.2f} stops off its day's photos; "
                    f"{np.mean(judged.guidance.confidence > 0):.0%} of it was seen on the other day."
                )
                return Found(judged.guidance, True, words)
            words = "placed, but too little of it was photographed on its day; no guidance."
            if judged.off is not None:
                words = f"placed, but {judged.off:.2f} stops off what its day's photos predict; no guidance."
        return Found(nothing, False, words)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="relightgan locate",
        description="Finds where plates were taken among a run's photos, and writes what the other day saw there.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("plates", help="plates.%%04d.exr, plates.####.exr, one still, or a movie")
    add("--run", type=Path, required=True, metavar="DIR", help="run folder of the look")
    add("--out", required=True, metavar="FILES", help="guidance.%%04d.exr; folders are made")
    add("--frames", metavar="RANGE", help="such as 1001-1100,1150 or 1-20x2; default: all")
    add("--direction", choices=("ab", "ba"), default="ab", help="ba for the look from target to source [ab]")
    add("--focal-35mm", type=float, metavar="MM", help="focal length of the plates, 35 mm equivalent")
    add("--working-space", default=DEFAULT_WORKING_SPACE, metavar="NAME", help="as for infer [%(default)s]")
    add("--unpremultiplied", action="store_true", help="rgb was not multiplied by alpha")
    existing = made.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace guidance that is there")
    existing.add_argument("--skip-existing", action="store_true", help="leave guidance that is there; it is whole")
    add("--progress", choices=STYLES, default="auto", help="default auto: a bar on a terminal, else lines")
    return made


def frames_to_do(options: argparse.Namespace, source: Source, sink: FileSequence) -> list[int]:
    """The frames to locate, after looking at what is there on either side.

    Raises:
        SequenceError: plates are missing, or guidance is there and neither --overwrite nor --skip-existing is given.
        UsageError: a plate would be overwritten.
    """
    frames = parse_frames(options.frames) if options.frames is not None else source.frames
    source.require(frames)
    sink.check_apart(frames)
    paths = {frame: sink.path(frame) for frame in frames}
    if spoiled := source.files() & {path.resolve() for path in paths.values()}:
        raise UsageError(f"{min(spoiled)} would be overwritten by its own guidance.", "Choose another --out.")
    there = [frame for frame, path in paths.items() if path.exists()]
    if there and not (options.overwrite or options.skip_existing):
        raise SequenceError(
            f"Frames {format_frames(there)} of {options.out} are there already.", "Use --overwrite or --skip-existing."
        )
    return [frame for frame in frames if not (options.skip_existing and frame in there)]


def lens_axis(plate: Plate) -> tuple[tuple[float, float], float]:
    """Where the middle of the display window lies in the data window, 0..1; and the diagonals' ratio, data to display.

    A lens looks along the middle of what it was to show, whatever part of it, or more, there are pixels for.
    """
    (x0, y0, x1, y1), (left, top, right, bottom) = plate.display_window, plate.data_window
    width, height = right - left, bottom - top
    centre = (((x0 + x1) / 2 - left) / width, ((y0 + y1) / 2 - top) / height)
    shown, aspect = window_size(plate.display_window), plate.pixel_aspect
    return centre, float(np.hypot(shown[0] * aspect, shown[1]) / np.hypot(width * aspect, height))


def focal_in_file(path: Path) -> float | None:
    """The 35 mm equivalent focal length in a file's metadata; None where it has none."""
    image = OpenImageIO.ImageInput.open(str(path))
    if image is None:
        OpenImageIO.geterror()  # taken note of: it would be printed in the end
        return None
    with closing(image):
        focal = float(image.spec().get_float_attribute(FOCAL_NOTE, 0.0))
    return focal if focal > 0 else None


def log(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)
