"""The look library without its window: its folders, files, and the facts of each look.

Runs inside Nuke (Python 3.9 and later), also in a thread: standard library only, no `nuke`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin.looks import direction_of, look_facts, look_preview, photos_by_day, trained_on

VARIABLE = "RELIGHTGAN_LOOKS"
MAX_DEPTH = 3  # levels of folders searched below a library's folder, in case somebody gives /
MAX_ROWS = 4  # the maximum number of evaluation figures in the details


@dataclass(frozen=True)
class Entry:
    """One look as the library shows it; where `problem` isn't empty, the file is no usable look."""

    path: str  # with forward slashes, as Nuke wants it
    name: str
    direction: str = ""  # "day to dusk"
    line: str = ""  # the most important facts in one line
    rows: tuple[tuple[str, str], ...] = ()  # facts with their titles
    preview: bytes = b""  # JPEG, before | after; empty for none
    problem: str = ""
    fix: str = ""


def look_folders(configured: Iterable[str], environment: Mapping[str, str] = os.environ) -> list[Path]:
    """The library's folders: those of RELIGHTGAN_LOOKS, then those chosen at installation; each once.

    Args:
        configured: folders from relightgan.json.
        environment: has the variable, folders separated as in PATH.
    """
    named = [text for text in environment.get(VARIABLE, "").split(os.pathsep) if text.strip()]
    return list(dict.fromkeys(Path(text).expanduser() for text in (*named, *configured)))


def find_looks(folders: Iterable[Path], used: Iterable[str] = ()) -> Iterator[str]:
    """Paths of .onnx files with forward slashes, each once: first those in use, then those of the folders by name.

    A folder that isn't there, or can't be read, has none.

    Args:
        folders: searched `MAX_DEPTH` folders deep.
        used: looks that nodes of the script have, wherever they lie.
    """
    seen: set[str] = set()
    for path in (*used, *(path for folder in folders for path in files_below(folder, MAX_DEPTH))):
        place = Path(path).as_posix()
        if place not in seen:
            seen.add(place)
            yield place


def files_below(folder: Path, deep: int) -> Iterator[str]:
    """The .onnx files in a folder and, after them, in folders below it, by name."""
    try:
        with os.scandir(folder) as scan:
            found = sorted(scan, key=lambda entry: entry.name.lower())
    except OSError:
        return
    below = []
    for entry in found:
        if entry.name.startswith("."):
            continue  # hidden, or a temporary file
        if entry.is_dir(follow_symlinks=False):
            below.append(entry.path)
        elif entry.name.lower().endswith(".onnx"):
            yield entry.path
    for path in below if deep > 0 else []:
        yield from files_below(Path(path), deep - 1)


def describe(path: str) -> Entry:
    """The entry of a file; for a file that can't be used, with the problem and the fix."""
    try:
        facts = look_facts(path)
        preview = look_preview(path) or b""
    except RelightError as error:
        return Entry(path, Path(path).name, problem=error.problem, fix=error.fix)
    translator, created = (str(facts.get(key) or "") for key in ("translator", "created"))
    photos = " + ".join(str(kept) for kept, _ in photos_by_day(facts))
    name, file = str(facts.get("name") or ""), Path(path).stem
    # Versions of a look often have one name, and differ by their file.
    parts = (file if name and name != file else translator, f"{photos} photos" if photos else "", created[:10])
    rows = [
        ("Direction", direction_of(facts)),
        ("Made by", translator),
        ("Trained on", trained_on(facts).removeprefix("Trained on ")),
        ("Date", created.replace("T", " ")[:16]),
        ("Colour", ", ".join(str(facts[key]) for key in ("primaries", "encoding") if facts.get(key))),
        *evaluation_rows(facts.get("evaluation")),
        ("Licence", str(facts.get("licence") or "")),
        ("File", path),
    ]
    return Entry(
        path=path,
        name=name or file,
        direction=direction_of(facts),
        line=" · ".join(part for part in parts if part),
        rows=tuple((title, value) for title, value in rows if value),
        preview=preview,
    )


def evaluation_rows(evaluation: Any, above: str = "") -> list[tuple[str, str]]:
    """The first few measured figures with their names; export's own proof isn't one of them."""
    rows: list[tuple[str, str]] = []
    for key, value in evaluation.items() if isinstance(evaluation, Mapping) else ():
        if not above and key == "export":
            continue
        name = f"{above} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            rows += evaluation_rows(value, name)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            rows.append((name[:1].upper() + name[1:], f"{value:.4g}"))
    return rows[:MAX_ROWS]
