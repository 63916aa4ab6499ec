"""What a training run reports: photos, pairs, previews, curves, settings and how to use the look.

Everything is read from the run folder, so a report can be made again later, with more sections around these.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relightgan.core.errors import TrainingError
from relightgan.core.look_verdict import VERDICT, stated_verdict
from relightgan.core.text import shown
from relightgan.training.fit.export import versions
from relightgan.training.fit.loop import read_metrics
from relightgan.training.guidance.sheet import GUIDANCE_CAPTION
from relightgan.training.photos.overview import reason_word, summary
from relightgan.training.report.curves import Curve
from relightgan.training.report.page import (
    Banner,
    Block,
    Code,
    Curves,
    Facts,
    Folded,
    Gallery,
    Picture,
    Section,
    Table,
    Text,
    write_report,
)
from relightgan.training.run.config import resolved
from relightgan.training.run.dataset import Dataset, camera_words
from relightgan.training.run.day_photos import DayPhotos
from relightgan.training.run.run import Run
from relightgan.training.run_log import duration
from relightgan.training.stage_cache import file_digest, read_notes, write_notes

NOTES = "run.json"
REPORT = "report.html"
LISTED_LEFT_OUT = 15
# The figures of a verdict, by their names in a look's facts, with their names for people.
FIGURES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("look_stops", "error of the look", "{:.2f} stops".format),
    ("sky_stops", "in skies", "{:.2f} stops".format),
    ("surface_stops", "on surfaces", "{:.2f} stops".format),
    ("untouched_stops", "of untouched photos", "{:.2f} stops".format),
    ("transfer_stops", "of the best simple colour transfer", "{:.2f} stops".format),
    ("white_stops", "of the predicted white", "{:.2f} stops".format),
    ("coverage", "seen on the other day", "{:.0%}".format),
    ("photos", "photos it was measured on", "{:,}".format),
    ("images", "images shown to the fit", "{:,}".format),
)
# What the notes of a finished run hold at least.
NOTED = {"looks": list, "fits": list, "sides": list, "pairs": dict, "config": dict, "device": str, "versions": dict}


def note_run(
    run: Run,
    dataset: Dataset,
    looks: Sequence[Path],
    fits: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Mapping[str, Any]],
    device: str,
    command: str,
) -> Path:
    """Keeps what the report says about a finished run, as JSON in its folder.

    Args:
        run: its folder keeps the notes.
        dataset: the photos of the fits.
        looks: the looks written.
        verdicts: on each look, as in its facts.
        fits: for each fit its `folder` in the run folder, and the fields of checkpoint.FitProgress.
        device: the device of the fit, in words.
        command: the command line.
    """
    content = {
        "looks": [{"path": str(look.resolve()), "sha256": file_digest(look)} for look in looks],
        "fits": [dict(fit) for fit in fits],
        "verdicts": [dict(verdict) for verdict in verdicts],
        "sides": [_day_notes(day, run.folder) for day in (dataset.source, dataset.target)],
        "pairs": {
            "count": len(dataset.pairs),
            "sheet": str(dataset.sheet.relative_to(run.folder)),
            "similarity": [float(value) for value in _spread(dataset.pairs.similarity)],
        },
        "gains": {direction: {"patches": len(gains)} for direction, gains in dataset.gains.items()},
        "registration": dataset.registration.summary() if dataset.registration else "",
        "cameras": _camera_notes(dataset),
        "guidance": _guidance_notes(dataset, run.folder),
        "config": resolved(run.config),
        "device": device,
        "command": command,
        "versions": versions(),
    }
    path = run.folder / NOTES
    write_notes(path, content)
    return path


def write_run_report(run_dir: Path) -> Path:
    """The report of a finished run: `report.html` in its folder, holding its own pictures.

    Raises:
        TrainingError: the run isn't finished, or the file can't be written.
    """
    notes = read_run(run_dir)
    name = Path(notes["looks"][0]["path"]).stem
    return write_report(run_dir / REPORT, f"The look '{name}'", run_lead(notes), run_sections(run_dir))


def run_sections(run_dir: Path, figures: Sequence[Block] = ()) -> list[Section]:
    """The sections of a run's report, to be put among others.

    Args:
        run_dir: of a finished run.
        figures: blocks with what was measured on held-out views, where somebody has measured it.

    Raises:
        TrainingError: the run isn't finished.
    """
    notes = read_run(run_dir)
    return [
        Section("Verdict", verdict_blocks(notes)),
        Section("How it looks", preview_blocks(run_dir, notes)),
        Section("Measured", figures),
        Section("How to use it", use_blocks(notes)),
        Section("Photos", photo_blocks(run_dir, notes)),
        Section("Pairs", pair_blocks(run_dir, notes)),
        Section("Guidance", guidance_blocks(run_dir, notes)),
        Section("Learning", curve_blocks(run_dir, notes)),
        Section("Settings", setting_blocks(run_dir, notes)),
    ]


def read_run(run_dir: Path) -> dict[str, Any]:
    """The notes of a finished run.

    Raises:
        TrainingError: there are none.
    """
    notes = read_notes(run_dir / NOTES)
    if any(not isinstance(notes.get(name), kind) for name, kind in NOTED.items()):
        raise TrainingError(f"{run_dir} holds no finished run.", "Run `relightgan train` to its end first.")
    return notes


def run_lead(notes: Mapping[str, Any]) -> str:
    """A run in one sentence."""
    source, target = notes["sides"]
    images = sum(fit["images"] for fit in notes["fits"])
    seconds = sum(fit["seconds"] for fit in notes["fits"])
    return (
        f"Makes plates of {_folders(source)} look like {_folders(target)}. Learned from {source['train']:,} and "
        f"{target['train']:,} photos in {duration(seconds)} ({images:,} images shown)."
    )


def verdict_blocks(notes: Mapping[str, Any]) -> list[Block]:
    """What each fit has come to, and what to do next; [] for runs of versions that didn't ask."""
    blocks: list[Block] = []
    verdicts = notes.get("verdicts") or []
    for look, stated in zip(notes["looks"], verdicts, strict=False):
        if verdict := stated_verdict({VERDICT: stated}):
            name = f"{Path(look['path']).stem}: " if len(notes["looks"]) > 1 else ""
            title = f"{name}{verdict.kind}"
            blocks.append(
                Banner(title[:1].upper() + title[1:], f"The look is {verdict.words}.", verdict.advice, verdict.colour)
            )
            rows = [(label, form(stated[key])) for key, label, form in FIGURES if stated.get(key) is not None]
            blocks.append(Facts(rows))
    return blocks


def preview_blocks(run_dir: Path, notes: Mapping[str, Any]) -> list[Block]:
    """Previews over the course of each fit: the last one large, the earlier ones folded away."""
    blocks: list[Block] = []
    for fit in notes["fits"]:
        by_direction: dict[str, list[Path]] = {}
        for path in sorted((run_dir / fit["folder"] / "previews").glob("preview-*.jpg")):
            by_direction.setdefault(path.stem.split("-")[1], []).append(path)
        for direction, paths in by_direction.items():
            way = "From source to target" if direction == "ab" else "From target to source"
            last = f"{way}: photo | relit | photo of the other light with the nearest content."
            blocks.append(Picture(paths[-1], last))
            earlier = [Picture(path, f"after {_images_of(path):,} images") for path in paths[:-1]]
            if earlier:
                blocks.append(Folded("How it came about", [Gallery(earlier)]))
    return blocks


def use_blocks(notes: Mapping[str, Any]) -> list[Block]:
    """Commands that use the looks, ready to copy."""
    blocks: list[Block] = []
    for look in notes["looks"]:
        path = shlex.quote(look["path"])
        blocks.append(
            Code(
                f"relightgan infer {path} plates.%04d.exr relit.%04d.exr --frames 1001-1100\n"
                f"relightgan infer {path} plates.%04d.exr relit.%04d.exr --frames 1001-1100 \\\n"
                "    --strength 0.8 --mask matte.%04d.exr --temporal-blend 0.5 --working-space ACEScg",
                "Relight a scene-linear sequence; below, with a mask, less strongly and steadier in time",
            )
        )
    blocks.append(
        Text(
            "Plates stay scene-linear: highlights above 1, alpha and all other channels come through. If plates are "
            "brighter or darker than the photos, `--exposure` (in stops) moves them there and back. "
            f"`relightgan look {Path(notes['looks'][0]['path']).name}` prints what is inside the file."
        )
    )
    return blocks


def photo_blocks(run_dir: Path, notes: Mapping[str, Any]) -> list[Block]:
    """What was found in the folders, what was left out and why, and contact sheets."""
    sides = notes["sides"]
    headings = list(sides[0]["summary"])
    blocks: list[Block] = [Table(headings, [[side["summary"][name] for name in headings] for side in sides])]
    reasons = sorted({word for side in sides for word in side["reasons"]})
    if reasons:
        rows = [[word, *(f"{side['reasons'].get(word, 0):,}" for side in sides)] for word in reasons]
        blocks.append(Table(["left out because", *(side["name"] for side in sides)], rows))
    for side in sides:
        if side["left_out"]:
            rows = [[row["photo"], row["reason"]] for row in side["left_out"]]
            more = side["left_out_count"] - len(rows)
            note = f"and {more:,} more, in {side['listing']}" if more else ""
            blocks.append(Folded(f"Left out of the {side['name']} photos", [Table(["photo", "why"], rows, note)]))
        blocks.append(Folded(f"The {side['name']} photos", [Picture(run_dir / side["sheet"])]))
    return blocks


def pair_blocks(run_dir: Path, notes: Mapping[str, Any]) -> list[Block]:
    """How photos were paired, with examples."""
    pairs = notes["pairs"]
    low, middle, high = pairs["similarity"]
    text = (
        f"{pairs['count']:,} pairs of photos that show the same, found by pretrained features; similarity from "
        f"{low:.2f} to {high:.2f}, {middle:.2f} in the middle."
    )
    for direction, gains in notes["gains"].items():
        way = "" if direction == "ab" else ", in the other direction"
        text += f"\n\nThe fit learned from the gains of {gains['patches']:,} look-alike patches{way}."
    return [Text(text), Picture(run_dir / pairs["sheet"])]


def guidance_blocks(run_dir: Path, notes: Mapping[str, Any]) -> list[Block]:
    """How photos of both days were registered and differ, and what they saw of each other; [] where they weren't."""
    blocks: list[Block] = [Text(text) for text in (notes.get("registration"), notes.get("cameras")) if text]
    guidance = notes.get("guidance")
    if guidance:
        blocks.append(Text(guidance["accuracy"]))
        for sheet in guidance["sheets"]:
            use = "" if sheet["used"] else " That was too little to fit to."
            blocks.append(Text(f"The {sheet['coverage']}.{use}"))
            blocks.append(Picture(run_dir / sheet["path"], GUIDANCE_CAPTION))
    return blocks


def curve_blocks(run_dir: Path, notes: Mapping[str, Any]) -> list[Block]:
    """The course of every loss, over images."""
    blocks: list[Block] = []
    for fit in notes["fits"]:
        lines = read_metrics(run_dir / fit["folder"] / "metrics.jsonl")
        names = list(dict.fromkeys(name for line in lines for name in line["losses"]))
        curves = []
        for name in names:
            points = [(line["images"], line["losses"][name]) for line in lines if name in line["losses"]]
            curves.append(Curve(name, [x for x, _ in points], [y for _, y in points], "images", smooth=True))
        if curves:
            blocks.append(Curves(curves))
    return blocks


def setting_blocks(run_dir: Path, notes: Mapping[str, Any]) -> list[Block]:
    """What it would take to make this look again."""
    seconds = sum(fit["seconds"] for fit in notes["fits"])
    images = sum(fit["images"] for fit in notes["fits"])
    rows = [
        ("translator", f"`{notes['config']['translator']}` (preset `{notes['config']['preset']}`)"),
        ("fitted", f"{images:,} images in {duration(seconds)}, {images / max(seconds, 1e-9):.3g} images/s"),
        ("device", notes["device"]),
        *(
            (f"look {index}" if index > 1 else "look", f"`{look['path']}`")
            for index, look in enumerate(notes["looks"], 1)
        ),
        ("SHA-256", notes["looks"][0]["sha256"]),
        ("run folder", f"`{run_dir.resolve()}`"),
        ("versions", ", ".join(f"{name} {version}" for name, version in notes["versions"].items())),
    ]
    blocks: list[Block] = [Facts(rows)]
    if notes["command"]:
        blocks.append(Code(notes["command"], "Made by this command; given again, it goes on or says that all is done"))
    config = run_dir / "config.yaml"
    if config.exists():
        text = config.read_text(encoding="utf-8", errors="replace")
        blocks.append(Folded("All settings", [Code(text, "For --config")]))
    return blocks


# Private implementation


def _day_notes(day: DayPhotos, run_dir: Path) -> dict[str, Any]:
    left_out = day.index.left_out()
    return {
        "name": day.name,
        "folders": [shown(folder.name) for folder in day.index.folders],
        "train": day.train,
        "summary": summary(" + ".join(shown(folder.name) for folder in day.index.folders), day.index),
        "reasons": dict(Counter(reason_word(photo) for photo in left_out)),
        "left_out": [{"photo": photo.name, "reason": photo.reason} for photo in left_out[:LISTED_LEFT_OUT]],
        "left_out_count": len(left_out),
        "listing": f"photos/{day.name}/index.json",
        "sheet": str(day.sheet.relative_to(run_dir)),
    }


def _camera_notes(dataset: Dataset) -> str:
    if dataset.photometry is None:
        return ""
    return "\n\n".join(camera_words((dataset.source, dataset.target), dataset.photometry))


def _guidance_notes(dataset: Dataset, run_dir: Path) -> dict[str, Any]:
    guidance = dataset.guidance
    if guidance is None:
        return {}
    sheets = [
        {
            "path": str(sheet.relative_to(run_dir)),
            "coverage": guidance.coverage(direction),
            "used": dataset.guides(direction),
        }
        for direction, sheet in guidance.sheets.items()
    ]
    return {"accuracy": guidance.accuracy(), "sheets": sheets}


def _spread(values: Any) -> list[float]:
    ordered = sorted(float(value) for value in values)
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


def _folders(side: Mapping[str, Any]) -> str:
    return " and ".join(f"`{name}`" for name in side["folders"])


def _images_of(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
