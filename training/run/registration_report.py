"""`relightgan photos A/ B/ --register`: shows whether the photos of two days find their place in one world."""

from pathlib import Path

import torch

from relightgan.core.errors import PhotoError
from relightgan.core.progress import Cancellation
from relightgan.training.days import DIRECTIONS, along
from relightgan.training.guidance.sheet import GUIDANCE_CAPTION
from relightgan.training.photos.index import PhotoIndex, PhotoSettings
from relightgan.training.report.page import Block, Curves, Facts, Picture, Section, Text
from relightgan.training.run.config import RunConfig
from relightgan.training.run.day_photos import prepare_day
from relightgan.training.run.run import Run
from relightgan.training.run.stages import embed_day, guide, photometry_of, register
from relightgan.training.run_log import RunLog
from relightgan.training.world.corrected_photos import corrected_banks
from relightgan.training.world.page import figures, write_view
from relightgan.training.world.photometry_words import MEAN_STAYS, charts, summary
from relightgan.training.world.photometry_words import figures as photometry_figures
from relightgan.training.world.sfm import MIN_SOLVE_PHOTOS


def show_registration(
    days: list[tuple[str, PhotoIndex, Path]], settings: PhotoSettings, out: Path, style: str, stop: Cancellation
) -> str:
    """Registers the training photos of two folders, looks up what each saw of the other, and writes a page about it.

    Args:
        days: name, index and contact sheet of two folders.
        settings: by which they were indexed.
        out: for the page, registration.html; also keeps what is worked out on the way.
        style: of progress, see `core.progress`.
        stop: asked between steps.

    Returns:
        The figures and where the page lies, to print.

    Raises:
        PhotoError: too few photos, or the days couldn't be put into one world.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(out, RunConfig(photos=settings), device, RunLog(None, style), stop, style)
    stage = run.stage("registration")
    found, embeddings = [], []
    for name, index, sheet in days:
        count = len(index.kept("train"))
        if count < MIN_SOLVE_PHOTOS:
            raise PhotoError(
                f"Only {count} photos of {name} can be used, too few to register.",
                f"Give at least {MIN_SOLVE_PHOTOS}, better a hundred, that overlap.",
            )
        found.append(prepare_day(name, index, sheet, run))
        embeddings.append(embed_day(found[-1], run, stage)[: found[-1].train])
    source, target = found
    names = (source.name, target.name)
    registration = register((source, target), (embeddings[0], embeddings[1]), run, stage)
    if registration is None:
        raise PhotoError(
            f"The photos of {names[0]} and {names[1]} couldn't be put into one world.",
            "It takes photos that overlap, taken from different places, of surfaces with texture, on both days. "
            "`relightgan train` works without, from weaker measurements.",
        )
    photometry = photometry_of((source, target), registration, run, stage)
    guidance = guide((source, target), registration, photometry, DIRECTIONS, run, stage)
    blocks: list[Block] = [Text(guidance.accuracy())]
    rows = figures(registration, names)
    for direction in DIRECTIONS:
        here, there = along(direction, names)
        share = f"{guidance.maps[direction].coverage:.0%}"
        rows.append((f"share of {here} that was seen in {there}", share))
        blocks.append(Text(f"Photos of {there} saw {share} of what photos of {here} show."))
        blocks.append(Picture(guidance.sheets[direction], GUIDANCE_CAPTION))
    cameras: list[Block] = []
    said = []
    for day, own in zip((source, target), photometry, strict=True):
        said.append(summary(own, day.name, [photo.name for photo in day.training_photos]))
        cameras += [Text(said[-1]), Facts(photometry_figures(own)), Curves(charts(own))]
    said.append(MEAN_STAYS)
    more = [
        Section("What the cameras did", [*cameras, Text(MEAN_STAYS)]),
        Section("What the other day's photos saw", blocks),
    ]
    banks = corrected_banks((source.training_bank, target.training_bank), photometry)
    page = write_view(registration, banks, names, out / "registration.html", more)
    width = max(len(name) for name, _ in rows)
    told = [*(f"{name.ljust(width)}  {value}" for name, value in rows), *said, guidance.accuracy(), f"\n{page}"]
    return "\n".join(told)
