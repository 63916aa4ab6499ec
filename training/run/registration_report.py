"""`relightgan photos A/ B/ --register`: shows whether the photos of two days find their place in one world."""

from pathlib import Path

import torch

from relightgan.core.errors import PhotoError
from relightgan.core.progress import Cancellation
from relightgan.training.days import Direction
from relightgan.training.guidance.sheet import GUIDANCE_CAPTION
from relightgan.training.pairs.backbones import Backbone, load_backbone
from relightgan.training.photos.bank import prepare_photos
from relightgan.training.photos.index import PhotoIndex, PhotoSettings
from relightgan.training.report.page import Block, Picture, Section, Text
from relightgan.training.run.config import RunConfig
from relightgan.training.run.sides import Side
from relightgan.training.run.stages import guide_sides, register_sides, side_features
from relightgan.training.world.page import figures, write_view

FEWEST_PHOTOS = 3  # on each day


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
    config = RunConfig(photos=settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network: list[Backbone] = []

    def backbone() -> Backbone:
        if not network:
            network.append(load_backbone(config.pairing.backbone, config.pairing.weights).to(device))
        return network[0]

    sides, features = [], []
    for name, index, sheet in days:
        photos = tuple(index.kept("train"))
        if len(photos) < FEWEST_PHOTOS:
            raise PhotoError(
                f"Only {len(photos)} photos of {name} can be used, too few to register.",
                f"Give at least {FEWEST_PHOTOS}, better a hundred, that overlap.",
            )
        bank = prepare_photos(photos, out / "prepared", config.photo_px, style, stop.check)
        sides.append(Side(name, index, photos, len(photos), bank, sheet))
        features.append(side_features(sides[-1], out / "registration", config, backbone, device, style, stop))
    names = (sides[0].name, sides[1].name)
    registration = register_sides(
        (sides[0], sides[1]), (features[0], features[1]), out / "registration", config, style, stop
    )
    if registration is None:
        raise PhotoError(
            f"The photos of {names[0]} and {names[1]} couldn't be put into one world.",
            "It takes photos that overlap, taken from different places, of surfaces with texture, on both days. "
            "`relightgan train` works without, from weaker measurements.",
        )
    guidance = guide_sides(
        (sides[0], sides[1]), registration, ("ab", "ba"), out / "registration", config, device, style, stop
    )
    blocks: list[Block] = [Text(guidance.accuracy())]
    rows = figures(registration, names)
    directions: tuple[tuple[Direction, str, str], ...] = (("ab", *names), ("ba", names[1], names[0]))
    for direction, here, there in directions:
        share = f"{guidance.maps[direction].coverage:.0%}"
        rows.append((f"share of {here} that was seen in {there}", share))
        blocks.append(Text(f"Photos of {there} saw {share} of what photos of {here} show."))
        blocks.append(Picture(guidance.sheets[direction], GUIDANCE_CAPTION))
    more = [Section("What the other day's photos saw", blocks)]
    page = write_view(registration, (sides[0].bank, sides[1].bank), names, out / "registration.html", more)
    width = max(len(name) for name, _ in rows)
    told = [*(f"{name.ljust(width)}  {value}" for name, value in rows), guidance.accuracy(), f"\n{page}"]
    return "\n".join(told)
