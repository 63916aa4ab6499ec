"""The command `relightgan locate`: finds where plates were taken, and writes what the other day's photos saw there."""

import argparse
import functools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from relightgan.core.clips import Source, open_source
from relightgan.core.colour import DEFAULT_WORKING_SPACE, working_space
from relightgan.core.errors import EXIT_DONE, SequenceError, UsageError
from relightgan.core.files import open_folder
from relightgan.core.guidance_files import DIRECTION_NOTE, FOUND_NOTE, PHOTOS_NOTE, not_written, write_guidance
from relightgan.core.options import Parser
from relightgan.core.pipeline import Settings
from relightgan.core.progress import STYLES, cancellation, progress
from relightgan.core.sequence import Sequence as FileSequence
from relightgan.core.sequence import format_frames, parse_frames
from relightgan.core.text import print_line
from relightgan.training.run.plate_finder import COLOUR_SPACE, PlateFinder
from relightgan.training.run.registered import load_run

EXAMPLES = """examples:
  relightgan locate plates.%04d.exr --run day_to_dusk_run --out guidance.%04d.exr --frames 1001-1100
  relightgan infer day_to_dusk.onnx plates.%04d.exr relit.%04d.exr --guidance guidance.%04d.exr

For plates taken where the photos were: each frame is placed among the photos of its day, and what the photos of the
other day saw there is written, for `infer --guidance` to correct the look by. A frame that can't be placed, or that its
own day's photos contradict, gets guidance that says nothing, and a line in the log. A frame depends on itself alone.
The exposure of plates doesn't matter. The focal length is that of --focal-35mm, else of the file's metadata, else that
of the day's photos, refined where enough points are recognised.
"""


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
        first = sink.path(frames[0])
        open_folder(first.parent, functools.partial(not_written, first))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        photos = load_run(options.run, device, options.progress, cancelled)
        finder = PlateFinder(photos, options.direction, settings, options.focal_35mm)
        missed = []
        with progress(len(frames), "frames", options.progress) as shown:
            for frame in frames:
                cancelled.check()
                found = finder.find(source.read(frame))
                if not found.located:
                    missed.append(frame)
                shown.say(f"Frame {frame}: {found.words}")
                notes = {PHOTOS_NOTE: photos.digest, DIRECTION_NOTE: options.direction, FOUND_NOTE: found.words}
                write_guidance(sink.path(frame), found.guidance, notes)
                shown.advance()
    nowhere = f" Without guidance: {format_frames(missed)}." if missed else ""
    log(f"Placed {len(frames) - len(missed)} of {len(frames)} frames.{nowhere}")
    return EXIT_DONE


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog="relightgan locate",
        description="Finds where plates were taken among a run's photos, and writes what the other day saw there.",
        epilog=EXAMPLES,
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


def log(text: str) -> None:
    """A line for people, on stderr."""
    print_line(text)
