"""Trains and scores every system side by side: equal time, the same photos, both directions, several seeds.

    python benchmarks/compare.py --data DIR --work DIR --minutes 10 --seeds 0 1 2

DIR is laid out as train/A*/ train/B*/ (photos), test/pairs/{A,B,mask}/ and clips/*/{A,B,flow}/. Each system is trained
by a process of its own, one after the other. What was trained or scored is kept in --work: the same command again goes
on where it was stopped, and tries again what failed. Writes compare.md, compare.json and sheets of pictures into
benchmarks/results, also after each system.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by its path, this file's own folder is what Python searches first; the checkout is what it needs.
    sys.path[0] = str(ROOT)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; core/cli.py says why

from benchmarks.compare_fits import ALL, FULL, LOG, NOT_GUIDED, SMALL, Fit, System, train  # noqa: E402
from benchmarks.compare_report import page, spread, write_sheet  # noqa: E402
from benchmarks.compare_scores import (  # noqa: E402
    baseline_scores,
    look_scores,
    test_files,
    unpaired_baselines,
    unpaired_scores,
)
from benchmarks.quality import the_folder  # noqa: E402
from benchmarks.recording import command_text, machine  # noqa: E402
from relightgan.core.cli import run_command  # noqa: E402
from relightgan.core.errors import EXIT_DONE, EXIT_ERROR, Cancelled, RelightError, UsageError  # noqa: E402
from relightgan.core.progress import STYLES, Cancellation, cancellation  # noqa: E402
from relightgan.training.measure.tables import json_text, open_out, versions, write_text  # noqa: E402
from relightgan.training.run_log import duration  # noqa: E402

DIRECTIONS = ("ab", "ba")
EXAMPLES = """examples:
  python benchmarks/compare.py --data statue --work build/compare --minutes 10 --seeds 0 1 2
  python benchmarks/compare.py --data statue --work build/compare --minutes 2 --rows relight --directions ab
  python benchmarks/compare.py --data statue --work /runs --full --minutes 120 --device cuda --lab real/lab
"""


def main(argv: Sequence[str], systems: Sequence[System] = ALL) -> int:
    """Runs the comparison; the exit code, 1 where a system failed."""
    words = build_parser().parse_args(argv)
    chosen = chosen_systems(words, systems)
    record: dict[str, Any] = {
        "command": command_text("compare.py", argv),
        "machine": machine(),
        "versions": versions(),
        "minutes": words.minutes,
        "seeds": words.seeds,
        "sets": {},
        "failed": [],
    }
    test_files(words.data)  # before hours of training, as it refuses a set without paired views
    sets = {"pairs": words.data} | ({"lab": words.lab} if words.lab else {})
    photos = {name: (the_folder(data, "train/A*"), the_folder(data, "train/B*")) for name, data in sets.items()}
    for folder in (words.out, *(words.work / name for name in sets)):
        open_out(folder)
    fits = len(sets) * len(chosen) * len(words.seeds)
    each = duration(60 * words.minutes * len(words.directions))
    longest = duration(60 * words.minutes * len(words.directions) * fits)
    say(f"{fits} processes of {each} each: about {longest}, and scoring.")
    with cancellation() as stop:
        for name, data in sets.items():
            compare(words, name, data, photos[name], chosen, record, stop)
    print(page(record))
    return EXIT_ERROR if record["failed"] else EXIT_DONE


def compare(
    words: argparse.Namespace,
    set_name: str,
    data: Path,
    photos: tuple[Path, Path],
    systems: Sequence[System],
    record: dict[str, Any],
    stop: Cancellation,
) -> None:
    """Trains and scores on one set, and writes what there is after each system.

    Args:
        words: the command line.
        set_name: "pairs", or "lab" where there is no truth.
        data: the set.
        photos: folders of the days A and B.
        systems: the systems to train.
        record: all results so far, to which these are added.
        stop: checked between steps.

    Raises:
        PlateError, PhotoError: the set can't be used.
        Cancelled: a stop was asked for; what is done is kept.
    """
    work = words.work / set_name
    found: dict[str, Any] = {"directions": {}, "fits": {}}
    record["sets"][set_name] = found
    for direction in words.directions:
        say(f"{set_name}, {direction}: scoring what needs no training")
        baselines = (
            baseline_scores(data, photos, direction, not words.no_oracles, work, stop, words.progress)
            if set_name == "pairs"
            else unpaired_baselines(photos, direction, work)
        )
        found["directions"][direction] = {"baselines": baselines, "systems": {}}
    shown: dict[str, dict[str, Path]] = {direction: {} for direction in words.directions}
    queue = [(seed, system) for seed in words.seeds for system in systems]
    for number, (seed, system) in enumerate(queue, 1):
        title = f"{set_name}, {system.name}, seed {seed}"
        fit = Fit(system, seed, words.minutes, tuple(words.directions), photos, words.device, work)
        say(f"[{number}/{len(queue)}] {title}: {fit.folder}")
        fitted = train(fit, stop, say)
        found["fits"].setdefault(system.name, {})[str(seed)] = fitted
        if fitted["state"] != "done":
            record["failed"].append({"what": title, "log": f"{fit.folder.name}/{LOG}", "error": fitted["error"]})
        else:
            for direction, look in fit.looks.items():
                scores = tried(
                    lambda look=look, direction=direction: (  # type: ignore[misc]
                        look_scores(look, data, direction, words.device, stop, words.progress)
                        if set_name == "pairs"
                        else unpaired_scores(look, photos, direction, words.device)
                    ),
                    f"{title}, scoring {direction}",
                    record,
                )
                if scores is None:
                    continue
                rows = found["directions"][direction]["systems"]
                row = rows.setdefault(system.name, {"what": system.what, "seeds": {}})
                row["seeds"][str(seed)] = scores
                if fitted["learned_from"].get(direction, "").startswith(NOT_GUIDED):
                    row["what"] = f"{system.what} ({NOT_GUIDED} here)"
                row["spread"] = spread([each["figures"] for each in row["seeds"].values()])
                say(f"{title}, {direction}: {summary(scores['figures'])}")
                if system.column:
                    shown[direction].setdefault(system.column, look)
        write_results(words.out, record)
    for direction in words.directions:
        stop.check()
        sheet = words.out / f"compare-{'' if set_name == 'pairs' else set_name + '-'}{direction}.jpg"
        pairs = data / "test" / "pairs" if set_name == "pairs" else None
        baselines = found["directions"][direction]["baselines"]
        write_sheet(sheet, direction, photos, pairs, baselines, shown[direction], words.device)
        say(f"wrote {sheet}")
    write_results(words.out, record)


def tried(work: Callable[[], dict[str, Any]], what: str, record: dict[str, Any]) -> dict[str, Any] | None:
    """What `work` gives; where it fails, None, with the failure in the record.

    Raises:
        Cancelled: a stop was asked for.
    """
    try:
        return work()
    except Cancelled:
        raise
    except RelightError as error:
        say(f"{what}: FAILED: {error}")
        record["failed"].append({"what": what, "log": "", "error": [str(error)]})
        return None


def write_results(out: Path, record: dict[str, Any]) -> None:
    """Writes the tables and everything they are made from.

    Raises:
        RelightError: a file can't be written.
    """
    write_text(out / "compare.md", page(record))
    write_text(out / "compare.json", json_text(record))


def summary(figures: dict[str, float]) -> str:
    """A line on how good a system is."""
    names = [name for name in ("psnr", "shadow_sign", "histogram", "detail_correlation_plate") if name in figures]
    return ", ".join(f"{name} {figures[name]:.3f}" for name in names)


def chosen_systems(words: argparse.Namespace, systems: Sequence[System]) -> list[System]:
    """The systems to train: those named, else the small ones, or with --full the full-size ones.

    Raises:
        UsageError: an unknown name, or a number that makes no sense.
    """
    if words.minutes <= 0:
        raise UsageError(f"--minutes is {words.minutes:g}.", "Give a value above 0.")
    for name in ("seeds", "directions"):
        if len(set(getattr(words, name))) < len(getattr(words, name)):
            raise UsageError(f"--{name} names one twice.", "Give each once.")
    words.directions = sorted(words.directions)  # a run makes "ab" first
    if words.rows is None:
        return list(FULL if words.full else SMALL)
    named = {system.name: system for system in systems}
    if unknown := [name for name in words.rows if name not in named]:
        raise UsageError(f"There is no system '{unknown[0]}'.", f"Choose of: {', '.join(named)}.")
    return [named[name] for name in words.rows]


def say(text: str) -> None:
    """A line about what happens, on stderr."""
    print(text, file=sys.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/compare.py",
        description=__doc__,
        epilog=f"{EXAMPLES}\nsystems: {', '.join(system.name for system in ALL)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the statue set, or one laid out alike")
    parser.add_argument("--lab", type=Path, metavar="DIR", help="also a set without truth: train/A*/ train/B*/")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="keeps what was trained and scored")
    parser.add_argument(
        "--minutes", type=float, default=10.0, metavar="N", help="for each direction of each system, photos too [10]"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="[0]")
    parser.add_argument("--directions", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS), help="[ab ba]")
    parser.add_argument("--rows", nargs="*", metavar="NAME", help="systems to train [all of one size]; none: baselines")
    parser.add_argument("--full", action="store_true", help="full-size systems, for a GPU")
    parser.add_argument("--no-oracles", action="store_true", help="leave out the fits to the truth (minutes)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N [auto]")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR", help="[benchmarks/results]"
    )
    parser.add_argument("--progress", choices=STYLES, default="none", help="of scoring [none]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
