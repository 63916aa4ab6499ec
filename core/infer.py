"""The command `relightgan infer`: relights frames or a movie with a look."""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from relightgan.core.allowed_looks import allowed_only
from relightgan.core.aovs import CHANNELS, aovs_of, channel_names, lacks_aovs, wanted_aovs
from relightgan.core.clips import DEFAULT_FPS, Sink, Source, open_sink, open_source
from relightgan.core.colour import DEFAULT_WORKING_SPACE, working_space
from relightgan.core.devices import DEVICES
from relightgan.core.errors import EXIT_DONE, SequenceError, UsageError
from relightgan.core.frames import read_mask
from relightgan.core.guidance import check_grid
from relightgan.core.guidance_files import GuidanceFiles
from relightgan.core.look import AOV_CHANNELS, Look, load_look
from relightgan.core.options import Parser
from relightgan.core.pipeline import Relighting, Settings
from relightgan.core.plate import Plate
from relightgan.core.progress import STYLES, cancellation, clock_text, progress
from relightgan.core.sequence import Sequence as FileSequence
from relightgan.core.sequence import format_frames, parse_frames
from relightgan.core.session import LookSession
from relightgan.core.shot import relight_shot, window_union
from relightgan.core.text import print_line

EXAMPLES = """examples:
  relightgan infer day_to_dusk.onnx plates.%04d.exr relit.%04d.exr --frames 1001-1100,1150
  relightgan infer day_to_dusk.onnx plates.####.exr relit.####.exr --temporal-blend 0.7 --working-space ACEScg
  relightgan infer day_to_dusk.onnx take3.mov take3_dusk.mov
  relightgan infer day_to_dusk.onnx still.exr relit.exr --strength 0.8 --exposure -1 --mask set.%04d.exr
  relightgan infer day_to_dusk.onnx plates.%04d.exr relit.%04d.exr --aovs gain confidence
  relightgan infer day_to_dusk.onnx plates.%04d.exr relit.%04d.exr --guidance guidance.%04d.exr

A frame depends on the look, these settings, and the input frames of its temporal window: never on what else is
rendered, in which order or in which chunks. Window frames outside --frames are read where they exist.
--aovs adds layers to the EXR: gain (gain.R, gain.G, gain.B), in stops, so that in the working space plate * 2^gain is
the frame relit at full strength without a mask, after the temporal blend; and confidence (confidence.R), 0..1, where
0.5 is an expected error of half a stop. Where the plate is 0 or changes its sign, gain is the look's own.
--guidance corrects the look by what photos of the other day saw where each plate was taken, see `relightgan locate`;
the window's frames need it, too. The AOV guidance (guidance.R, .G, .B) shows what it asks for.
EXR and float TIFF are scene-linear and unbounded. Movies, PNG, JPEG and integer TIFF are taken as sRGB; movie frames
count from 1. Ctrl-C finishes the frame being written and leaves no partial file.
"""


def main(argv: Sequence[str]) -> int:
    """Relights frames as the command line says.

    Args:
        argv: the words after `relightgan infer`.

    Returns:
        the exit code for done.

    Raises:
        RelightError: anything that can't be done; frames finished before are whole.
        Cancelled: Ctrl-C, or the farm's cancel.
    """
    options = parser().parse_args(argv)
    look = load_look(options.look, facts_of(options.fact), allowed_only())
    settings = Settings(
        strength=options.strength,
        exposure=options.exposure,
        temporal_blend=options.temporal_blend,
        temporal_window=options.temporal_window,
        working_space=options.working_space,
        premultiplied=not options.unpremultiplied,
        aovs=aovs_asked_for(options, look),
    )
    working_space(settings.working_space, look.facts.primaries)
    with closing(open_source(options.input, settings.working_space)) as source:
        sink = open_sink(options.output, settings.working_space, options.fps or source.fps or DEFAULT_FPS)
        frames = frames_to_do(options, source, sink, settings.aovs)
        source.require(window_union(frames, source.frames, settings.radius))
        mask_of = mask_reader(options, frames)
        guidance = GuidanceFiles(options.guidance, look) if options.guidance else None
        if guidance:
            guidance.require(window_union(frames, source.frames, settings.radius))
        log_plan(look, source, sink, frames, settings)
        if not frames:
            log("Every frame is there already; nothing to do.")
            return EXIT_DONE
        with cancellation() as cancelled:
            session = LookSession(look, options.device, options.tile, cancelled.check, aovs=settings.aovs)
            log(session.device_line)
            if guidance:
                check_grid(session)
                log(f"Guidance: {options.guidance}.")
            started = time.monotonic()
            relighting = Relighting(session, settings, mask_of, guidance.read if guidance else None)
            aov_type = "float" if options.aov_float else "half"
            with progress(len(frames), "frames", options.progress) as shown, sink:
                relight_shot(frames, source, sink, relighting, shown, cancelled, aov_type=aov_type)
        seconds = time.monotonic() - started
    count = "1 frame" if len(frames) == 1 else f"{len(frames)} frames"
    log(f"Relit {count} in {clock_text(seconds)} ({len(frames) / seconds:.2f} frames/s).")
    return EXIT_DONE


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog="relightgan infer",
        description="Relights an image sequence, a still or a movie with a look.",
        epilog=EXAMPLES,
    )
    add = made.add_argument
    add("look", help="the .onnx file")
    add("input", help="plates.%%04d.exr, plates.####.exr, one still, or a movie")
    add("output", help="likewise; the suffix decides the kind of file, and folders are made")
    add("--frames", metavar="RANGE", help="such as 1001-1100,1150 or 1-20x2; below 0 --frames=-5-10; default: all")
    add("--strength", type=float, default=1.0, metavar="0..1", help="mix with the plate, in linear light; default 1")
    add(
        "--exposure",
        type=float,
        default=0.0,
        metavar="STOPS",
        help="brings the plate to the photos' brightness; taken back after",
    )
    add("--mask", metavar="FILES", help="where to relight: a sequence, or one still for all frames")
    add("--mask-channel", metavar="NAME", help="default: A, else Y, else the only one, else R")
    add("--guidance", metavar="FILES", help="what `relightgan locate` found for these plates: guidance.%%04d.exr")
    add("--temporal-blend", type=float, default=0.0, metavar="0..1", help="calms flicker along the motion; default 0")
    add("--temporal-window", type=int, default=2, metavar="FRAMES", help="to either side; default 2")
    add(
        "--working-space",
        default=DEFAULT_WORKING_SPACE,
        metavar="NAME",
        help="of linear files, as OpenColorIO names it; default %(default)s",
    )
    add("--unpremultiplied", action="store_true", help="rgb was not multiplied by alpha")
    add(
        "--aovs",
        nargs="*",
        metavar="NAME",
        help=f"layers to add to EXR, of {', '.join(CHANNELS)}; without names all that there are",
    )
    add("--aov-float", action="store_true", help="store AOVs as 32-bit floats; default 16-bit")
    add("--device", default="auto", help=f"{DEVICES}; default auto: the GPU where it starts, else the CPU")
    add(
        "--tile",
        type=pixels,
        metavar="PX",
        help="tile size for looks that work on whole pictures; default by frame size",
    )
    add("--fps", type=positive, help="of a movie made from frames; default 24")
    add(
        "--fact",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a fact about a model that RelightGAN didn't export",
    )
    existing = made.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace frames that are there")
    existing.add_argument("--skip-existing", action="store_true", help="leave frames that are there; they are whole")
    add("--progress", choices=STYLES, default="auto", help="default auto: a bar on a terminal, else lines")
    return made


def facts_of(words: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` words as a table.

    Raises:
        UsageError: a word without `=`.
    """
    for word in words:
        if "=" not in word:
            raise UsageError(f"'--fact {word}' has no value.", "Write --fact NAME=VALUE.")
    return dict(word.split("=", 1) for word in words)


def aovs_asked_for(options: argparse.Namespace, look: Look) -> tuple[str, ...]:
    """The AOVs to write; none where none are asked for.

    Raises:
        UsageError: there is no such AOV, or the output can't hold any.
        LookError: the look doesn't give it.
    """
    if options.aovs is None:
        return ()
    aovs = wanted_aovs(look, options.aovs, bool(options.guidance))
    if Path(options.output).suffix.lower() != ".exr":
        raise UsageError(f"{options.output} can't hold the layers {', '.join(aovs)}.", "Write .exr, or no --aovs.")
    return aovs


def frames_to_do(options: argparse.Namespace, source: Source, sink: Sink, aovs: Sequence[str] = ()) -> list[int]:
    """The frames to relight, in view of the files that exist on either side.

    Raises:
        SequenceError: frames are missing, or are there already and neither --overwrite nor --skip-existing is given, or
            those to be skipped lack the AOVs.
        UsageError: a plate would be overwritten, or several frames would go into one file.
    """
    frames = parse_frames(options.frames) if options.frames is not None else source.frames
    source.require(frames)
    targets = sink.files(frames)
    if len(frames) > 1 and not sink.holds_many:
        raise UsageError(f"{len(frames)} frames can't go into the one file {options.output}.", "Write out.%04d.exr.")
    if spoiled := source.files() & {path.resolve() for path in targets.values()}:
        raise UsageError(f"{min(spoiled)} would be overwritten by its own result.", "Choose another output.")
    there = [frame for frame, path in targets.items() if path.exists()]
    if there and not (options.overwrite or options.skip_existing):
        raise SequenceError(
            f"Frames {format_frames(there)} of {options.output} are there already.",
            "Use --overwrite or --skip-existing.",
        )
    if not options.skip_existing:
        return frames
    if bare := [frame for frame in there if aovs and lacks_aovs(targets[frame], aovs)]:
        raise SequenceError(
            f"Frames {format_frames(bare)} of {options.output} are there without {', '.join(aovs)}.",
            "Use --overwrite for them, or choose another output.",
        )
    return [frame for frame in frames if frame not in there]


def mask_reader(options: argparse.Namespace, frames: Sequence[int]) -> Callable[[int, Plate], np.ndarray] | None:
    """What reads the mask of a frame; None where none is asked for.

    Raises:
        SequenceError: masks are missing.
    """
    if options.mask is None:
        return None
    sequence = FileSequence(options.mask)
    sequence.require([1] if sequence.is_still else frames)
    return lambda frame, plate: read_mask(sequence.path(frame), plate, options.mask_channel)


def log_plan(look: Look, source: Source, sink: Sink, frames: Sequence[int], settings: Settings) -> None:
    """Says what is going to be done, and on which assumptions."""
    facts = look.facts
    direction = f" ({facts.direction})" if facts.direction else ""
    log(f"Look: {facts.name}{direction}, {look.path}, sha256 {look.sha256[:12]}.")
    log(f"From: {source.about}.")
    log(f"To:   {sink.about}.")
    blend = f"temporal blend {settings.temporal_blend:g} over {settings.radius} frames to either side"
    if settings.aovs:
        channels = ", ".join(channel for name in settings.aovs for channel in channel_names(name))
        missing = [name for name in AOV_CHANNELS if name not in aovs_of(look)]
        log(f"AOVs: {channels}" + (f"; this look gives no {', '.join(missing)}." if missing else "."))
    log(f"Frames {format_frames(frames) or 'none'}; {blend if settings.radius else 'each frame alone'}.")


def log(text: str) -> None:
    """A line for people, on stderr."""
    print_line(text)


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} isn't above 0")
    return value


def pixels(text: str) -> int:
    """A whole number above 0, for argparse."""
    return int(positive(str(int(text))))
