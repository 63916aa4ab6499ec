"""Stages that look at the photos of both sides: features, the sheet of pairs, registration and guidance.

Each keeps what it made in the run folder and does nothing where that still holds.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from relightgan.core.progress import Cancellation, progress
from relightgan.training.days import Direction
from relightgan.training.guidance.making import Guidance, make_guidance
from relightgan.training.pairs.backbones import Backbone, embed_photos
from relightgan.training.pairs.pairing import Pairs
from relightgan.training.report.contact_sheet import contact_sheet
from relightgan.training.run.config import RunConfig
from relightgan.training.run.sides import Side, content_ids, training_bank
from relightgan.training.stage_cache import digest, read_arrays, read_notes, write_arrays, write_notes
from relightgan.training.world.registration import Day, Registration, register_days

SHOWN_PAIRS = 10


def side_features(
    side: Side,
    folder: Path,
    config: RunConfig,
    network: Callable[[], Backbone],
    device: torch.device,
    style: str,
    stop: Cancellation,
) -> np.ndarray:
    """(N, C) float32 features of a side's photos, from the run folder where they are known."""
    key = digest(
        [config.pairing.backbone, config.pairing.weights, config.photo_px, [photo.id for photo in side.photos]]
    )
    path = folder / f"features-{side.name}.npz"
    if (known := read_arrays(path, key)) is not None:
        return known["features"]
    with progress(len(side.photos), f"{side.name} photos looked at", style) as shown:

        def looked_at(count: int) -> None:
            shown.advance(count)
            stop.check()

        features = embed_photos(network(), side.bank, str(device), advance=looked_at)
    write_arrays(path, key, {"features": features})
    return features


def pairs_sheet(pairs: Pairs, source: Side, target: Side, path: Path) -> Path:
    """Writes a contact sheet of pairs from the most to the least similar, two to a row, no source photo twice."""
    order = np.argsort(-pairs.similarity, kind="stable")
    best = order[np.sort(np.unique(pairs.a[order], return_index=True)[1])]
    shown = best[np.unique(np.linspace(0, len(best) - 1, min(SHOWN_PAIRS, len(best))).round().astype(int))]
    key = digest([source.photos[int(pairs.a[n])].id + target.photos[int(pairs.b[n])].id for n in shown])
    if path.exists() and read_notes(path.with_suffix(".json")).get("key") == key:
        return path
    cells = []
    for number in shown:
        a, b = int(pairs.a[number]), int(pairs.b[number])
        cells.append(
            [
                (source.bank[a], source.photos[a].name),
                (target.bank[b], f"{target.photos[b].name} · similarity {pairs.similarity[number]:.2f}"),
            ]
        )
    rows = [[cell for pair in cells[n : n + 2] for cell in pair] for n in range(0, len(cells), 2)]
    title = f"{len(pairs):,} content pairs"
    subtitle = "source | nearest target, from the most to the least similar"
    contact_sheet(rows, path, title=title, subtitle=subtitle, cell_px=300)
    write_notes(path.with_suffix(".json"), {"key": key})
    return path


def register_sides(
    sides: tuple[Side, Side],
    features: tuple[np.ndarray, np.ndarray],
    folder: Path,
    config: RunConfig,
    style: str,
    stop: Cancellation,
) -> Registration | None:
    """The training photos of both sides in one world, from the run folder where known; None where they don't allow it.

    Args:
        sides: source and target.
        features: (N, C) of each side's training photos.
        folder: keeps what was found.
        config: of the run.
        style: of progress, see `core.progress`.
        stop: asked between steps.
    """
    banks = [training_bank(side) for side in sides]
    a, b = (
        Day(
            bank,
            values,
            content_ids(bank, config),
            [photo.focal_35mm for photo in bank.photos],
        )
        for bank, values in zip(banks, features, strict=True)
    )
    return register_days(a, b, config.registration, config.matching, config.seed, folder, style, stop)


def guide_sides(
    sides: tuple[Side, Side],
    registration: Registration,
    directions: Sequence[Direction],
    folder: Path,
    config: RunConfig,
    device: torch.device,
    style: str,
    stop: Cancellation,
) -> Guidance:
    """What the registered photos of both sides saw of each other, from the run folder where known."""
    banks = [training_bank(side) for side in sides]
    ids = [name for bank in banks for name in content_ids(bank, config)]
    return make_guidance(registration, banks, ids, config.guidance, directions, folder, device, style, stop)
