"""The look library without its window: its folders, files, and the facts of each look.

Runs inside Nuke (Python 3.9 and later), also in a thread: standard library only, no `nuke`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from relightgan.core.errors import RelightError
from relightgan.core.look_verdict import VERDICT, stated_verdict
from relightgan.core.text import printable, shown
from relightgan.nuke_plugin.looks import direction_of, look_facts, look_preview, photos_by_day, trained_on

VARIABLE = "RELIGHTGAN_LOOKS"
MAX_DEPTH = 3  # levels of folders searched below a library's folder, in case somebody gives /
MAX_LOOKS = 5000  # the maximum number of looks shown, as each takes memory
MAX_ROWS = 4  # the maximum number of evaluation figures in the details
MAX_FIGURES = 1000  # the maximum number of entries searched for them


@dataclass(frozen=True)
class Entry:
    """One look as the library shows it; where `problem` isn't empty, the file is no usable look.

    Texts are one line each and of a limited length, and none of them is markup; only `path` is as it is.
    """

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
    """Up to MAX_LOOKS paths of .onnx files with forward slashes: first those in use, then those of the folders by name.

    A folder that isn't there, or can't be read, has none.

    Args:
        folders: searched `MAX_DEPTH` folders deep.
        used: looks that nodes of the script have, wherever they lie.
    """
    seen: set[str] = set()
    for path in (*used, *(path for folder in folders for path in files_below(folder, MAX_DEPTH))):
        if len(seen) >= MAX_LOOKS:
            return
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
        return Entry(path, shown(Path(path).name), problem=error.problem, fix=error.fix)
    texts = {key: facts.get(key, "") for key in ("name", "translator", "created", "primaries", "encoding", "licence")}
    created, name, file = texts["created"], texts["name"], Path(path).stem
    photos = " + ".join(str(kept) for kept, _ in photos_by_day(facts))
    # Versions of a look often have one name, and differ by their file.
    verdict = stated_verdict(facts.get("evaluation"))
    parts = (
        file if name and name != file else texts["translator"], verdict.kind if verdict else "",
        f"{photos} photos" if photos else "", created[:10],
    )  # fmt: skip
    rows = [
        ("Verdict", verdict.line if verdict else ""),
        ("What to do", verdict.advice if verdict else ""),
        ("Direction", direction_of(facts)),
        ("Made by", texts["translator"]),
        ("Trained on", trained_on(facts).removeprefix("Trained on ")),
        ("Date", created.replace("T", " ")[:16]),
        ("Colour", ", ".join(text for text in (texts["primaries"], texts["encoding"]) if text)),
        *islice(evaluation_rows(facts.get("evaluation", {})), MAX_ROWS),
        ("Licence", texts["licence"]),
    ]
    return Entry(
        path=path,
        name=shown(name or file),
        direction=shown(direction_of(facts)),
        line=shown(" · ".join(shown(part, 60) for part in parts if part)),
        rows=(*((shown(title, 60), shown(value)) for title, value in rows if value), ("File", printable(path))),
        preview=preview,
    )


def evaluation_rows(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The measured figures with their names; export's own proof isn't one of them, and the verdict has its own row."""
    told = ("export", VERDICT)
    waiting = [(key, value) for key, value in islice(evaluation.items(), MAX_FIGURES) if key not in told][::-1]
    for _ in range(MAX_FIGURES):
        if not waiting:
            return
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            below = [(f"{shown(name)} {shown(key)}", below) for key, below in islice(value.items(), MAX_FIGURES)]
            waiting += below[::-1]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            name = name.strip().replace("_", " ")
            yield name[:1].upper() + name[1:], f"{value:.4g}"
