"""What registration costs, stage by stage, and what it finds.

    python benchmarks/registration.py train/A_cloudy train/B_sunny --cache build/registration --out registration.md

Photos are indexed, prepared and embedded by the backbone first; that isn't measured, and `--cache` keeps it. Costs are
seconds of processor time, user and system, over all threads: on a shared machine they mean more than wall time does.
`--folder` keeps matches and the solve, as a run folder does; without it everything is worked out anew.

A digest of cameras and points is printed last: the same photos and the same code must give the same digest.
"""

import argparse
import hashlib
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by its path, this file's own folder is what Python searches first; the checkout is what it needs.
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import pycolmap  # noqa: E402
import torch  # noqa: E402

from benchmarks.recording import command_text, machine  # noqa: E402
from relightgan.core.cli import run_command  # noqa: E402
from relightgan.core.errors import EXIT_DONE, RelightError  # noqa: E402
from relightgan.training.measure.tables import markdown_table, open_out, versions, write_text  # noqa: E402
from relightgan.training.pairs.backbones import embed_photos, load_backbone  # noqa: E402
from relightgan.training.photos.bank import prepare_photos  # noqa: E402
from relightgan.training.photos.index import index_photos  # noqa: E402
from relightgan.training.run.config import RunConfig  # noqa: E402
from relightgan.training.stage import Stage  # noqa: E402
from relightgan.training.stage_cache import digest, open_stage, read_arrays, write_arrays  # noqa: E402
from relightgan.training.world import matching, sfm  # noqa: E402
from relightgan.training.world import registration as register  # noqa: E402
from relightgan.training.world.registration import Day, Registration, register_days  # noqa: E402

# Each is a step in one thread, so that the processor time of the whole process is its own.
STAGES = (
    ("points (SIFT)", register, "_points"),
    ("matching", register, "_match_part"),
    ("geometries of pairs", sfm, "_write_database"),
    ("mapping", pycolmap, "incremental_mapping"),
)
VERIFICATION = "verification"  # a part of matching, in its threads


class Stopwatch:
    """Processor seconds of stages while it wraps their functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {name: 0.0 for name, _, _ in STAGES} | {VERIFICATION: 0.0}
        self.lock = threading.Lock()
        self.verifications = 0

    def wrap(self) -> None:
        """Puts a clock around every stage; for the rest of the process."""
        for name, module, function in STAGES:
            setattr(module, function, self._timed(name, getattr(module, function), process_s))
        name = "of_one_geometry"
        setattr(matching, name, self._timed(VERIFICATION, getattr(matching, name), time.thread_time))

    def _timed(self, name: str, function: Callable[..., Any], clock: Callable[[], float]) -> Callable[..., Any]:
        def timed(*words: Any, **more: Any) -> Any:
            began = clock()
            try:
                return function(*words, **more)
            finally:
                with self.lock:
                    self.seconds[name] += clock() - began
                    self.verifications += name == VERIFICATION

        return timed


def process_s() -> float:
    """Processor seconds of this process, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(argv: Sequence[str]) -> int:
    """Runs the benchmark; the exit code."""
    words = build_parser().parse_args(argv)
    config = RunConfig()
    if words.out is not None:
        open_out(words.out.parent)
    if words.cache is not None:
        open_out(words.cache)
    with tempfile.TemporaryDirectory(prefix="relightgan-registration-") as scratch:
        days = [
            read_day(folder, (words.cache or Path(scratch)) / name, config)
            for name, folder in (("source", words.source), ("target", words.target))
        ]
        watch = Stopwatch()
        watch.wrap()
        began = process_s()
        found = register_days(
            days[0],
            days[1],
            config.registration,
            config.matching,
            words.seed,
            Stage(open_stage(words.folder or Path(scratch) / "registration"), torch.device("cpu"), "auto"),
        )
        total = process_s() - began
    if found is None:
        raise RelightError(
            f"{words.source} and {words.target} couldn't be put into one world.", "Give photos that overlap."
        )
    text = markdown_of(found, watch, total, command_text("registration.py", argv))
    print(text)
    if words.out is not None:
        write_text(words.out, text)
    return EXIT_DONE


def read_day(folder: Path, cache: Path, config: RunConfig) -> Day:
    """The training photos of a folder with their embeddings, which the cache keeps."""
    photos = index_photos([folder], config.photos, cache, "auto").kept("train")
    bank = prepare_photos(photos, cache, config.photo_px, "auto")
    images = bank
    key = digest([config.pairing.backbone, config.photo_px, [photo.id for photo in photos]])
    known = read_arrays(cache / "features.npz", key)
    if known is None:
        backbone = load_backbone(config.pairing.backbone, config.pairing.weights)
        known = {"features": embed_photos(backbone, images)}
        write_arrays(cache / "features.npz", key, known)
    return Day(images, known["features"], [photo.id for photo in photos], [photo.focal_35mm for photo in photos])


def markdown_of(found: Registration, watch: Stopwatch, total: float, command: str) -> str:
    """The figures as Markdown."""
    seconds = dict(watch.seconds)
    seconds["matching"] -= seconds[VERIFICATION]
    seconds["rest"] = total - sum(seconds.values())
    costs = [(name, f"{spent:.1f}", f"{spent / total:.0%}") for name, spent in [*seconds.items(), ("all", total)]]
    solve, (source, target) = found.solve, found.joined
    parts = hashlib.sha256()
    for values in (solve.photos, solve.poses, solve.lenses, solve.points, solve.seen_photo, solve.seen_feature):
        parts.update(np.ascontiguousarray(values).tobytes())
    figures = (
        ("pairs of photos tried", f"{len(found.pairs):,}"),
        ("pairs tested for a common geometry", f"{watch.verifications:,}"),
        ("pairs verified (source, target, across)", ", ".join(f"{count:,}" for count in found.verified)),
        ("source photos joined", f"{source:,} of {found.counts[0]:,}"),
        ("target photos joined", f"{target:,} of {found.counts[1]:,}"),
        ("points", f"{len(solve.points):,}"),
        ("points on both days", f"{int(found.on_both_days.sum()):,}"),
        ("observations", f"{len(solve.seen_point):,}"),
        ("reprojection error, px", f"{solve.errors.mean():.3f}"),
        ("days solved apart", "yes" if found.apart else "no"),
        ("digest of cameras and points", parts.hexdigest()[:16]),
    )
    of = machine()
    with_versions = ", ".join(f"{name} {number}" for name, number in versions().items())
    lines = [
        "# Registration",
        "",
        f"`{command}`",
        "",
        f"{of['processor']}, {of['cores']} cores; {with_versions}, pycolmap {pycolmap.__version__}.",
        "",
        markdown_table(("stage", "processor s", "share"), costs),
        markdown_table(("found", ""), figures),
    ]
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/registration.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="SOURCE/", help="photos of one day")
    parser.add_argument("target", type=Path, metavar="TARGET/", help="photos of the other day")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps prepared photos and their embeddings")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keeps matches and the solve (default: nothing)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="writes the figures as Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
