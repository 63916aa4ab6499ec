"""How exactly the cameras of a dump are found: exposure, white balance, vignetting and curve of each day's photos.

    python benchmarks/photometry.py drift/A_cloudy drift/B_sunny --truth drift/truth.json --cache build/drift

Photos are indexed, prepared, embedded and registered first, which `--cache` keeps: a folder as `relightgan photos
--register --out` leaves it will do. `truth.json` holds under `days`, folder name, `photos` and file name the `exposure`
of each photo in stops and its `white_balance`, factors of red, green and blue; without it all photos were taken alike.
Means over the solved photos are taken out of both. `--predicted` also measures what photos predict for others of their
day, with and without the corrections, which takes minutes for some hundred photos.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by its path, this file's own folder is what Python searches first; the checkout is what it needs.
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.recording import command_text  # noqa: E402
from relightgan.core.cli import run_command  # noqa: E402
from relightgan.core.errors import EXIT_DONE, RelightError  # noqa: E402
from relightgan.core.progress import Cancellation  # noqa: E402
from relightgan.training.guidance.making import load_observers  # noqa: E402
from relightgan.training.measure.tables import markdown_table, open_out, write_text  # noqa: E402
from relightgan.training.photos.index import index_photos  # noqa: E402
from relightgan.training.run.config import RunConfig  # noqa: E402
from relightgan.training.run.day_photos import DayPhotos, prepare_day  # noqa: E402
from relightgan.training.run.run import Run  # noqa: E402
from relightgan.training.run.stages import corrected_ids, embed_day, lenses_and_cameras, register  # noqa: E402
from relightgan.training.run_log import RunLog  # noqa: E402
from relightgan.training.stage_cache import open_stage  # noqa: E402
from relightgan.training.world.corrected_photos import corrected_banks  # noqa: E402
from relightgan.training.world.photometry import Photometry, point_samples, solve_photometry  # noqa: E402
from relightgan.training.world.photometry_words import departure, summary  # noqa: E402
from relightgan.training.world.point_colours import point_observations  # noqa: E402

HEADINGS = (
    "day", "solved", "exposures given", "off by", "95 % within", "slope", "white balance given", "off by",
    "corners", "curve", "samples", "s",
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Runs the benchmark; the exit code."""
    words = build_parser().parse_args(argv)
    truth = json.loads(words.truth.read_text(encoding="utf-8"))["days"] if words.truth else {}
    with tempfile.TemporaryDirectory(prefix="relightgan-photometry-") as scratch:
        folder = open_out(words.cache) if words.cache else Path(scratch)
        run = Run(folder, RunConfig(), torch.device("cpu"), RunLog(None, "none"), Cancellation(), "none")
        source, target = (read_day(day, run) for day in (words.source, words.target))
        stage = run.stage("registration")
        a, b = (embed_day(day, run, stage)[: day.train] for day in (source, target))
        registration = register((source, target), (a, b), run, stage)
        if registration is None:
            raise RelightError("The days couldn't be put into one world.", "Give photos that overlap.")
        rows, found, said = [], [], []
        for number, day in enumerate((source, target)):
            began = time.process_time()
            samples = point_samples(day.training_bank, point_observations(registration, number))
            found.append(solve_photometry(samples, day.train, *lenses_and_cameras(day.training_photos)))
            spent = time.process_time() - began
            rows.append([day.name, *compared(found[-1], given(day, truth)), f"{len(samples.point):,}", f"{spent:.1f}"])
            said.append(summary(found[-1], day.name, [photo.name for photo in day.training_photos]))
        lines = ["# Photometry", "", f"`{command_text('photometry.py', argv)}`", "", markdown_table(HEADINGS, rows)]
        lines += [*said, ""]
        if words.predicted:
            banks, figures = (source.training_bank, target.training_bank), []
            for name, photometry in (("as they came", None), ("corrected", (found[0], found[1]))):
                ids = corrected_ids((source, target), photometry, run.config.photo_px)
                place = run.stage("observers-" + name.replace(" ", "-"))
                read = corrected_banks(banks, photometry)
                views, _, errors = load_observers(registration, read, ids, run.config.guidance, place)
                known = np.isfinite(errors)
                off = [f"{np.median(errors[known & (views.day == day)]):.3f}" for day in (0, 1)]
                figures.append([name, f"{np.median(errors[known]):.3f}", *off])
            lines.append(
                markdown_table(
                    ("photos predict others of their day to, stops", "both", *(row[0] for row in rows)), figures
                )
            )
    text = "\n".join(lines)
    print(text)
    if words.out is not None:
        write_text(words.out, text)
    return EXIT_DONE


def read_day(folder: Path, run: Run) -> DayPhotos:
    """The photos of a folder, indexed and prepared in the run folder under the folder's name."""
    place = open_stage(run.folder / folder.name, within=run.folder)
    index = index_photos([folder], run.config.photos, place, "none")
    return prepare_day(folder.name, index, place / "contact_sheet.jpg", run)


def given(day: DayPhotos, truth: dict[str, dict[str, dict[str, dict[str, object]]]]) -> np.ndarray:
    """(n, 3) stops that the training photos were made brighter by; 0 without a truth."""
    if day.name not in truth:
        return np.zeros((day.train, 3))
    rows = [truth[day.name]["photos"][photo.path.name] for photo in day.training_photos]
    exposure = np.array([row["exposure"] for row in rows], float)
    return exposure[:, None] + np.log2(np.array([row["white_balance"] for row in rows], float))


def compared(found: Photometry, truth: np.ndarray) -> list[str]:
    """Photometry against the truth, as cells of the table; exposures in stops, white balance in percent."""
    known = found.solved
    wanted = truth[known] - truth[known].mean(axis=0)
    exposure, white = wanted.mean(axis=1), wanted - wanted.mean(axis=1, keepdims=True)
    off = np.abs(found.exposure[known] - exposure)
    white_off = np.median(np.abs(found.white[known] - white))
    slope = f"{np.polyfit(exposure, found.exposure[known], 1)[0]:.2f}" if exposure.std() > 0 else ""
    corner = found.vignetting[found.lens[known]].sum(axis=1).mean()
    return [
        f"{int(known.sum())} of {len(known)}",
        f"{exposure.std():.2f}",
        f"{np.median(off):.3f}",
        f"{np.percentile(off, 95):.3f}",
        slope,
        f"{2 ** white.std() - 1:.1%}",
        f"{2**white_off - 1:.2%}",
        f"{corner:+.2f}",
        f"{departure(found):.3f}",
    ]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/photometry.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="SOURCE/", help="photos of one day")
    parser.add_argument("target", type=Path, metavar="TARGET/", help="photos of the other day")
    parser.add_argument("--truth", type=Path, metavar="FILE.json", help="what was done to the photos")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps all that comes before photometry")
    parser.add_argument("--predicted", action="store_true", help="also measure what photos predict for each other")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="writes the figures as Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
