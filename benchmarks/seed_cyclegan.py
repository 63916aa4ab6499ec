"""Trains NeuralVFX's lighting swap (2018) as it was published, defects included, to compare with.

A baseline and no preset: `relightgan train --preset lighting-swap` is the same idea with its defects mended. Networks
are in `seed_networks.py`, the way they are trained in `seed_recipe.py`; both say what is kept and why it is wrong.

Differences, so that all methods of the benchmark learn from the same photos and end in their time: this project's own
`photos` and `pairing` index, check, split and rank photos. Embeddings are EfficientNet-Lite0's, centred by folder; the
original has ResNet-34's as they come (--backbone resnet34 takes that network). Only training photos are used. The
learning rate's cycles are scaled to the length of the run. A stopped fit can be resumed.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by its path, this file's own folder is what Python searches first; the checkout is what it needs.
    sys.path[0] = str(ROOT)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; core/cli.py says why

import torch  # noqa: E402

from benchmarks.seed_recipe import SeedPhotos, SeedRecipe, SeedSettings  # noqa: E402
from relightgan.core.cli import run_command  # noqa: E402
from relightgan.core.errors import EXIT_DONE, UsageError  # noqa: E402
from relightgan.core.progress import STYLES, cancellation  # noqa: E402
from relightgan.training.commands.train import choose_device, make_job  # noqa: E402
from relightgan.training.fit.export import export_look  # noqa: E402
from relightgan.training.fit.loop import fit  # noqa: E402
from relightgan.training.fit.preview import look_preview  # noqa: E402
from relightgan.training.fit.recipe import Direction  # noqa: E402
from relightgan.training.pairs.backbones import BACKBONES  # noqa: E402
from relightgan.training.run.config import RunConfig, resolve, resolved  # noqa: E402
from relightgan.training.run.dataset import Dataset, make_dataset, manifest  # noqa: E402
from relightgan.training.run.run import Run  # noqa: E402
from relightgan.training.run.train import (  # noqa: E402
    Job,
    check_out,
    check_weights,
    describe_device,
    make_run_dir,
    only_run_in,
    seconds_for_fit,
)
from relightgan.training.run_log import RunLog, duration  # noqa: E402
from relightgan.training.stage_cache import read_notes, write_notes  # noqa: E402

PHOTO_PX = 480  # longest side that photos are kept at; the published frames were 270 px high
ENDLESS = 10**12  # images: the time limit alone ends the fit
EXAMPLES = """examples:
  python benchmarks/seed_cyclegan.py --source train/A_cloudy --target train/B_sunny --out seed.onnx --max-minutes 60
  python benchmarks/seed_cyclegan.py --source day1 --target day2 --out seed.onnx --cycles 8  # 255 epochs
  python benchmarks/seed_cyclegan.py --source day1 --target day2 --out seed.onnx --both-directions \\
      --filters 64 --blocks 4 --critic-filters 64 --max-minutes 5    # small enough to see it move on a CPU

The same command again goes on where it was stopped. The look works with `relightgan evaluate` and `relightgan infer`.
"""


def main(argv: Sequence[str]) -> int:
    """Trains the baseline; the exit code."""
    parser = build_parser()
    words = parser.parse_args(argv)
    for name in ("steps", "max_minutes"):
        if getattr(words, name) is not None and getattr(words, name) <= 0:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(words, name)}.", "Give a value above 0.")
    settings = SeedSettings(
        words.filters, words.blocks, words.critic_filters, words.batch, words.size_px, cycles=words.cycles
    )
    pairing = {"backbone": words.backbone, "weights": words.weights, "top_k": settings.partners, "threshold": -1.0}
    config = resolve(
        {"preset": "cyclegan", "seed": words.seed, "photo_px": PHOTO_PX, "pairing": pairing}
    )  # cyclegan: no gains are measured
    for path in train(make_job(words, choose_device(words.device)), config, settings, words.steps, words.max_minutes):
        print(path)
    return EXIT_DONE


def train(
    job: Job, config: RunConfig, settings: SeedSettings, steps: int | None, max_minutes: float | None
) -> list[Path]:
    """Photos, pairs, fit and looks; goes on where an earlier run in the same folder was stopped.

    Args:
        job: photos, run folder and look.
        config: settings of photos and pairing.
        settings: settings of the networks and their schedule.
        steps: length of the fit in steps; None: the published number of epochs, or with `max_minutes` no such limit.
        max_minutes: time limit from photos to looks; None: no limit.

    Returns:
        The looks written.

    Raises:
        RelightError: see the stages.
        Cancelled: SIGINT or SIGTERM came; the same command goes on.
    """
    began = time.monotonic()
    make_run_dir(job.run_dir)
    check_out(job.out)
    check_weights(config)
    directions: tuple[Direction, ...] = ("ab", "ba") if job.both_directions else ("ab",)
    with only_run_in(job.run_dir), RunLog(job.run_dir / "log.txt", job.progress) as log:
        log.say(f"Fitting on {describe_device(job.device)}. Everything but the look goes to {job.run_dir}.")
        with cancellation() as stop:
            run = Run(job.run_dir, config, job.device, log, stop)
            dataset = make_dataset(job.sources, job.targets, run, directions)
            stop.check()
        # The time of the photos counts as measured at the first start, also where a later start finds them prepared.
        notes = job.run_dir / "timing.json"
        spent_s = float(read_notes(notes).get("before_fit_s", time.monotonic() - began))
        write_notes(notes, {"before_fit_s": round(spent_s, 1)})

        recipe = build(settings, dataset, config.seed, job.device)
        epoch = len(recipe.data) // settings.batch_size  # steps
        wanted = steps_wanted(epoch, settings.cycles, steps, max_minutes)
        images = wanted * settings.batch_size if wanted else ENDLESS
        limit = f"{wanted:,} steps" if wanted else ""
        limit += f"{' or ' if limit else ''}{duration(max_minutes * 60)} for everything" if max_minutes else ""
        log.say(f"An epoch is {epoch:,} steps; the fit has {limit}, {settings.cycles} cycles of the learning rate.")
        how = {name: value for name, value in resolved(config).items() if name not in ("cyclegan", "train")}
        how["seed_cyclegan"] = dataclasses.asdict(settings)
        fit(
            recipe,
            job.run_dir,
            # float32 throughout: a sigmoid under a logarithm can't be had in bfloat16, and the original had neither.
            dataclasses.replace(config.train, images=images, bf16=False),
            seed=config.seed,
            device=job.device,
            log=log,
            config=how,
            data_key=dataset.key,
            previews=tuple(dataset.previews(each, config.train.preview_photos, job.device) for each in directions),
            seconds_allowed=seconds_for_fit(max_minutes, spent_s, 1),
        )
        looks = []
        for direction in directions:
            path = job.out if direction == "ab" else job.out.with_name(f"{job.out.stem}_back.onnx")
            facts = {"name": path.stem, "config": how, "dataset": manifest(dataset, job.sources, job.targets)}
            preview = look_preview(recipe, dataset.previews(direction, 1, job.device))
            proof = export_look(recipe.export(direction), path, facts, preview)
            log.say(f"Wrote the look {path}; onnxruntime and torch differ by {max(proof.differences):.1e} at most.")
            looks.append(path)
    return looks


def steps_wanted(epoch: int, cycles: int, steps: int | None, max_minutes: float | None) -> int | None:
    """Steps of a fit: those asked for, else cycles of 1, 2, 4, ... epochs as published; None: time alone ends it."""
    return steps or (None if max_minutes else max(1, epoch) * (2**cycles - 1))


def build(settings: SeedSettings, dataset: Dataset, seed: int, device: torch.device) -> SeedRecipe:
    """The recipe on a dataset's training photos, with first weights that depend on the seed alone."""
    data = dataset.training_data("ab")
    embeddings_a, embeddings_b = (
        embeddings[: day.train]
        for embeddings, day in zip(dataset.embeddings, (dataset.source, dataset.target), strict=True)
    )
    torch.manual_seed(seed)
    return SeedRecipe(settings, SeedPhotos(data.a, data.b, embeddings_a, embeddings_b, settings, seed), device)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    default = SeedSettings()
    parser = argparse.ArgumentParser(
        prog="benchmarks/seed_cyclegan.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, light in (("--source", "the light that plates have"), ("--target", "the light that they shall get")):
        parser.add_argument(
            name, nargs="+", type=Path, required=True, metavar="DIR", help=f"folders with photos of {light}"
        )
    parser.add_argument("--out", type=Path, required=True, metavar="LOOK", help="the look to write, .onnx")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="for all other files [LOOK without .onnx, + _run]")
    parser.add_argument("--both-directions", action="store_true", help="also write LOOK_back.onnx, target to source")
    parser.add_argument("--max-minutes", type=float, metavar="N", help="for everything [no limit]")
    parser.add_argument("--steps", type=int, metavar="N", help="of the fit [2^CYCLES - 1 epochs, or until MAX_MINUTES]")
    for name, value, text in (
        ("cycles", default.cycles, "warm restarts, each twice as long as the one before"),
        ("filters", default.filters, "channels of a translator's residual blocks"),
        ("blocks", default.blocks, "residual blocks of a translator"),
        ("critic-filters", default.critic_filters, "channels of a critic's last hidden layer"),
        ("batch", default.batch_size, "photos of each day per step"),
        ("size-px", default.size_px, "side of the crops"),
        ("seed", 0, "seed of first weights and all random numbers"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{text} [{value}]")
    parser.add_argument(
        "--backbone", choices=BACKBONES, default=BACKBONES[0], help=f"embeddings to pair by [{BACKBONES[0]}]"
    )
    parser.add_argument("--weights", default="", metavar="FILE", help="of the backbone [its own]")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1, ... or auto [auto]")
    parser.add_argument("--progress", choices=STYLES, default="auto", help="how to show progress [auto]")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
