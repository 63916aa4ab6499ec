"""Quality on the statue set: looks, colour transfer without learning, and oracles, both directions.

    python benchmarks/quality.py --data DIR --ab look_ab.onnx --ba look_ba.onnx

DIR is laid out as train/A*/ train/B*/ (photos), test/pairs/{A,B,mask}/ and clips/*/{A,B,flow}/. Writes quality.md and
quality.json into benchmarks/results.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by its path, this file's own folder is what Python searches first; the checkout is what it needs.
    sys.path[0] = str(ROOT)

from benchmarks.recording import command_text, machine  # noqa: E402
from relightgan.core.cli import run_command  # noqa: E402
from relightgan.core.errors import EXIT_DONE, PlateError  # noqa: E402
from relightgan.training.measure.evaluation import Request, evaluate, markdown_of  # noqa: E402
from relightgan.training.measure.tables import json_text, open_out, versions, write_text  # noqa: E402

# Figures of each view in quality.json.
KEPT_PER_VIEW = ("psnr", "psnr_surfaces", "gain_correlation")


def main(argv: Sequence[str]) -> int:
    """Runs the benchmark; the exit code."""
    words = build_parser().parse_args(argv)
    photos = {day: the_folder(words.data, f"train/{day}*") for day in "AB"}
    open_out(words.out)
    record: dict[str, Any] = {
        "command": command_text("quality.py", argv),
        "machine": machine(),
        "versions": versions(),
        "directions": {},
    }
    pages = []
    guided = {"ab": words.ab_guidance, "ba": words.ba_guidance}
    for direction, looks in (("ab", words.ab), ("ba", words.ba)):
        source, target = (photos[day] for day in direction.upper())
        common = {"looks": tuple(looks), "direction": direction, "device": words.device, "window": words.window}
        clips = sorted(path for path in (words.data / "clips").glob("*") if path.is_dir())
        requests = {
            "pairs": Request(
                pairs=words.data / "test" / "pairs",
                source_photos=source,
                target_photos=target,
                oracles=not words.no_oracles,
                guidance=guided[direction],
                **common,
            ),
            **{path.name: Request(clip=path, blends=tuple(words.blend), **common) for path in clips},
        }
        for name, request in requests.items():
            print(f"{direction}: {name}", file=sys.stderr)
            result = evaluate(request, words.progress)
            pages.append(markdown_of(result).replace("## Clip,", f"## {name},"))
            record["directions"].setdefault(direction, {})[name] = without_places(result)
    head = f"# Quality\n\n`{record['command']}`\n\n{facts_text(record)}\n\n"
    write_text(words.out / "quality.md", head + "\n".join(pages))
    write_text(words.out / "quality.json", json_text(record))
    print("\n".join(pages))
    return EXIT_DONE


def the_folder(data: Path, pattern: str) -> Path:
    """The one folder of the data that a pattern names.

    Raises:
        PlateError: there is none, or more than one.
    """
    found = [path for path in data.glob(pattern) if path.is_dir()]
    if len(found) != 1:
        raise PlateError(f"{data} has {len(found)} folders {pattern}; one is needed.", "Check --data.")
    return found[0]


def without_places(result: dict[str, Any]) -> dict[str, Any]:
    """The result with names in place of folders, and `KEPT_PER_VIEW` alone of each view."""
    kept = {key: value for key, value in result.items() if key != "versions"}
    kept["looks"] = {
        name: {**look, "path": Path(look["path"]).name} for name, look in result["looks"].items()
    }  # fmt: skip
    if "clip" in kept:
        kept["clip"] = {**kept["clip"], "folder": Path(kept["clip"]["folder"]).name}
    if "pairs" in kept:
        methods = {
            name: {
                "mean": each["mean"],
                "views": {
                    view: {key: round(value, 4) for key, value in figures.items() if key in KEPT_PER_VIEW}
                    for view, figures in each["views"].items()
                },
            }
            for name, each in kept["pairs"]["methods"].items()
        }
        kept["pairs"] = {"views": kept["pairs"]["views"], "methods": methods}
    return kept


def facts_text(record: dict[str, Any]) -> str:
    """Machine and versions in a line."""
    found = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"{record['machine']['processor']}, {record['machine']['cores']} cores; {found}."


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/quality.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the statue set, or one laid out alike")
    parser.add_argument("--ab", nargs="*", type=Path, default=[], metavar="LOOK.onnx", help="looks that make A like B")
    parser.add_argument("--ba", nargs="*", type=Path, default=[], metavar="LOOK.onnx", help="looks that make B like A")
    for direction, plates in (("ab", "A"), ("ba", "B")):
        parser.add_argument(
            f"--{direction}-guidance", type=Path, metavar="DIR", help=f"<view>.exr from `relightgan locate` of {plates}"
        )
    parser.add_argument("--blend", nargs="+", type=float, default=[0.0, 1.0], help="temporal blends (default: 0 1)")
    parser.add_argument("--window", type=int, default=2, help="frames to either side (default: 2)")
    parser.add_argument("--no-oracles", action="store_true", help="leave out the fits to the truth (minutes)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR", help="for the results"
    )
    parser.add_argument("--progress", default="auto", help="auto, bar, openjd or none (default: auto)")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
