"""`relightgan train`: two folders of set photos in, a look out."""

import argparse
import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from relightgan.core.errors import DeviceError, PhotoError, UsageError
from relightgan.core.options import Parser
from relightgan.core.progress import STYLES
from relightgan.training.run.config import RunConfig, resolve, resolved_yaml
from relightgan.training.run.recipes import PRESETS
from relightgan.training.run.train import Job, train
from relightgan.training.settings import add_options, given_options

SHORT_OPTIONS = {"train.max_minutes": "--max-minutes"}
EXAMPLES = f"""examples:
  relightgan train --source cloudy_day --target sunny_day --out sunny.onnx --max-minutes 30
  relightgan train --source day1 day1_extra --target day2 --out look.onnx --preset cyclegan --both-directions
  relightgan train --source day1 --target day2 --out look.onnx --config run.yaml --relight.batch-size 16
  relightgan train --preset cyclegan --dry-run > run.yaml

The same command again goes on where it was stopped. Presets: {", ".join(PRESETS)}.
"""


def main(argv: Sequence[str]) -> int:
    """Runs `relightgan train`; see its --help."""
    parser = make_parser()
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        names = [name for action in parser._actions for name in action.option_strings]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], names, n=1, cutoff=0.5)
        parser.error(f"there is no option {unknown[0]}" + (f"; did you mean {near[0]}?" if near else ""))
    device = choose_device(options.device)
    config = resolve(given_options(options, RunConfig), options.config)
    if options.dry_run:
        print(resolved_yaml(config), end="")
        return 0
    for name in ("source", "target", "out"):
        if getattr(options, name) is None:
            parser.error(f"--{name} is needed")
    job = make_job(options, device)
    command = shlex.join(["relightgan", "train", *argv])
    looks, report = train(job, config, command)
    for path in (*looks, report):
        print(path)
    return 0


def make_parser() -> Parser:
    """The options of the command: its own, and one for each setting."""
    parser = Parser(
        prog="relightgan train",
        usage="relightgan train --source DIR... --target DIR... --out LOOK [options]",
        description="Fits a look to two folders of set photos, taken under two lights.",
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    for name, light in (("--source", "the light that your plates have"), ("--target", "the light that they shall get")):
        parser.add_argument(name, nargs="+", type=Path, metavar="DIR", help=f"folders with photos of {light}")
    parser.add_argument("--out", type=Path, metavar="LOOK", help="the look to write, .onnx")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="for all other files [LOOK without .onnx, + _run]")
    parser.add_argument("--config", type=Path, metavar="YAML", help="settings; --dry-run prints them all")
    parser.add_argument("--both-directions", action="store_true", help="also write LOOK_back.onnx, target to source")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1, ... or auto [auto]")
    parser.add_argument("--progress", choices=STYLES, default="auto", help="how to show progress [auto]")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved settings as YAML, and stop")
    add_options(parser, RunConfig, SHORT_OPTIONS)
    return parser


def make_job(options: argparse.Namespace, device: torch.device) -> Job:
    """What the options ask for.

    Raises:
        UsageError: they contradict each other.
        PhotoError: a folder isn't there; found now, and not when the other side's photos have been looked at.
    """
    out: Path = options.out
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out is {out}, but a look is an .onnx file.", f"Give --out {out.with_suffix('.onnx')}.")
    sources, targets = tuple(options.source), tuple(options.target)
    shared = {folder.resolve() for folder in sources} & {folder.resolve() for folder in targets}
    if shared:
        raise UsageError(f"{shared.pop()} is both --source and --target.", "Give folders of two different lights.")
    for folder in (*sources, *targets):
        if not folder.is_dir():
            raise PhotoError(f"{folder} is not a folder.", "Give a folder with photos in it.")
    run_dir = options.run_dir or out.with_name(f"{out.stem}_run")
    return Job(sources, targets, out, run_dir, options.both_directions, device, options.progress)


def choose_device(name: str) -> torch.device:
    """The device to fit on: "auto" is the first GPU where torch has one, else the CPU.

    Raises:
        DeviceError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"There is no device '{name}'.", "Give cpu, cuda, cuda:1, ... or auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA devices.",
            "See `relightgan doctor`, install torch with CUDA, or give --device cpu.",
        )
    return device
