"""`relightgan evaluate`: measures looks on paired views and on clips, beside what needs no learning."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from relightgan.core.errors import EXIT_DONE, UsageError
from relightgan.core.options import Parser
from relightgan.core.progress import STYLES, cancellation
from relightgan.core.text import printable
from relightgan.training.measure.evaluation import Request, evaluate, markdown_of
from relightgan.training.measure.paired_views import DAY_FOLDERS
from relightgan.training.measure.tables import json_text, open_out, write_text

PROG = "relightgan evaluate"
EXAMPLES = """
examples:
  one look against leaving the plates alone
    relightgan evaluate look.onnx --pairs test/pairs
  and against colour transfer, what could be reached at best, and a clip; with pictures
    relightgan evaluate look.onnx --pairs test/pairs --source-photos day1 --target-photos day2 --oracles \\
        --clip clips/clip1 --blend 0 0.5 1 --out report
  also corrected by what photos saw where the views were taken
    relightgan locate test/pairs/A/%04d.exr --run look_run --out located/%04d.exr
    relightgan evaluate look.onnx --pairs test/pairs --guidance located
  only the clip, as JSON on stdout
    relightgan evaluate look.onnx --clip clips/clip1 --json

--pairs needs A/ and B/ with the same file name for the same camera, and may have mask/ (white on surfaces).
--clip needs A/ and flow/, and may have B/. Flow NNNN goes to frame NNNN-1: channels R = u, G = v in pixels, B = valid.
EXR and float TIFF are taken for scene-linear Rec.709; PNG, JPEG and other TIFF for sRGB.
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command; the exit code."""
    words = build_parser().parse_args(argv)
    request = request_of(words)
    if words.out is not None:
        open_out(words.out)
    with cancellation() as stop:
        result = evaluate(request, words.progress, stop.check)
    result["command"] = shlex.join([*PROG.split(), *argv])
    markdown = markdown_of(result)
    if words.out is not None:
        write_text(words.out / "evaluation.json", json_text(result))
        write_text(words.out / "evaluation.md", markdown)
        print(f"Wrote {words.out / 'evaluation.json'} and what belongs to it.", file=sys.stderr)
    print(
        json_text(result) if words.json else "".join(f"{printable(line)}\n" for line in markdown.splitlines()), end=""
    )
    return EXIT_DONE


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog=PROG,
        description="Measures looks on paired views and on clips, beside what needs no learning.",
        epilog=EXAMPLES,
    )
    parser.add_argument("look", nargs="+", type=Path, metavar="LOOK.onnx", help="one or more looks of one direction")
    parser.add_argument("--pairs", type=Path, metavar="DIR", help="paired views: A/ B/ and perhaps mask/")
    parser.add_argument("--clip", type=Path, metavar="DIR", help="a clip with known flow: A/ flow/ and perhaps B/")
    parser.add_argument("--source-photos", type=Path, metavar="DIR", help="photos of the light that is relit")
    parser.add_argument("--target-photos", type=Path, metavar="DIR", help="photos of the light that is wanted")
    parser.add_argument(
        "--direction",
        choices=tuple(DAY_FOLDERS),
        default="",
        help="ab: A is relit, B is the truth (default: the look's own)",
    )
    parser.add_argument(
        "--guidance", type=Path, metavar="DIR", help="<view>.exr from `relightgan locate`: measures guided looks too"
    )
    parser.add_argument("--oracles", action="store_true", help="also fit a matrix, a LUT and a gain grid to the truth")
    parser.add_argument(
        "--blend", nargs="+", type=float, default=[0.0, 1.0], metavar="B", help="temporal blends, 0..1 (default: 0 1)"
    )
    parser.add_argument("--window", type=int, default=2, metavar="K", help="frames to either side (default: 2)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for evaluation.json, .md and views/*.jpg")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of Markdown")
    parser.add_argument("--progress", choices=STYLES, default="auto", help="how to show progress (default: auto)")
    return parser


def request_of(words: argparse.Namespace) -> Request:
    """The request a command line stands for.

    Raises:
        UsageError: options that don't go together.
    """
    if words.guidance is not None and words.pairs is None:
        raise UsageError("--guidance is measured on paired views, and there are none.", "Give --pairs.")
    if (words.source_photos is None) != (words.target_photos is None):
        raise UsageError("Pooled colour transfer needs both dumps.", "Give --source-photos and --target-photos.")
    return Request(
        looks=tuple(words.look),
        pairs=words.pairs,
        clip=words.clip,
        direction=words.direction,
        source_photos=words.source_photos,
        target_photos=words.target_photos,
        oracles=words.oracles,
        blends=tuple(words.blend),
        window=words.window,
        device=words.device,
        pictures=None if words.out is None else words.out / "views",
        guidance=words.guidance,
    )
