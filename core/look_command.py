"""The command `relightgan look`: what is inside a look."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from relightgan.core.aovs import aovs_of
from relightgan.core.errors import EXIT_DONE, LookError, UsageError
from relightgan.core.files import open_folder, write_whole
from relightgan.core.look import Look, load_look, preview_jpeg
from relightgan.core.look_metadata import LOOK_FORMAT
from relightgan.core.look_verdict import VERDICT, stated_verdict
from relightgan.core.options import Parser
from relightgan.core.progress import console
from relightgan.core.text import json_text, print_line, printable, shown

EXAMPLES = """examples:
  relightgan look day_to_dusk.onnx
  relightgan look day_to_dusk.onnx --json | python -m json.tool
  relightgan look day_to_dusk.onnx --preview before_after.jpg
  relightgan look --sha256 library/*.onnx > looks.sha256
"""
PLAIN_FACTS = ("name", "direction", "translator", "encoding", "primaries", "value_range")
TABLES = ("evaluation", "dataset", "config", "versions")
TOLD = tuple(f"{VERDICT}.{part}" for part in ("kind", "words", "advice"))  # has a row of its own
MAX_ROWS = 200  # of one table; a recipe of ours has about a hundred


def main(argv: Sequence[str]) -> int:
    """Prints what a look says about itself.

    Args:
        argv: the words after `relightgan look`.

    Raises:
        LookError: the file isn't a look of ours.
    """
    parser = Parser(
        prog="relightgan look",
        description="Shows what is inside a look: its facts, evaluation, dataset and full recipe.",
        epilog=EXAMPLES,
    )
    parser.add_argument("look", nargs="+", help="the .onnx file; several with --sha256")
    parser.add_argument("--sha256", action="store_true", help="print lines for a list of allowed looks, and stop")
    parser.add_argument("--json", action="store_true", help="print one JSON object for a program to read")
    parser.add_argument("--preview", type=Path, metavar="JPG", help="write the photo before and after, and stop")
    options = parser.parse_args(argv)
    if options.sha256:
        for path in options.look:
            print_line(f"{load_look(path).sha256}  {path}", sys.stdout)
        return EXIT_DONE
    if len(options.look) > 1:
        parser.error("one look, please; several go with --sha256 alone")
    look = load_look(options.look[0])
    if options.preview:
        write_preview(look, options.preview)
    elif options.json:
        print(json_text(summary(look), indent=2))
    else:
        console().print(table_of(look))
    return EXIT_DONE


def write_preview(look: Look, path: Path) -> None:
    """Writes the look's preview to a .jpg file.

    Raises:
        LookError: the look carries none, or the file can't be written.
        UsageError: the file has another extension.
    """
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        raise UsageError(
            f"--preview is {path}, but a preview is a JPEG.", f"Give --preview {path.with_suffix('.jpg')}."
        )
    jpeg = preview_jpeg(look)

    def explain(error: OSError) -> LookError:
        return LookError(f"The preview {path} can't be written: {error.strerror}.", "Check the folder and its space.")

    open_folder(path.parent, explain)
    write_whole(path, jpeg, explain)


def summary(look: Look) -> dict[str, Any]:
    """The look as one JSON object: format, path, size in bytes, hash and facts."""
    return {
        "format": LOOK_FORMAT,
        "path": str(look.path),
        "bytes": len(look.model),
        "sha256": look.sha256,
        "facts": dataclasses.asdict(look.facts),
    }


def table_of(look: Look) -> Table:
    """The look as a table of two columns for people."""
    facts = look.facts
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")

    def row(name: str, value: Any) -> None:
        table.add_row(Text(shown(name)), Text(shown(value)))

    size = f"{len(look.model) / 1e6:.1f} MB, format {LOOK_FORMAT}"
    table.add_row(Text("file"), Text(f"{printable(str(look.path))} ({size})"))  # a path is shown whole
    row("sha256", look.sha256)
    for name in PLAIN_FACTS:
        row(name.replace("_", " "), getattr(facts, name))
    if verdict := stated_verdict(facts.evaluation):
        table.add_row(Text("verdict"), Text(verdict.line, style=f"bold {verdict.colour}".strip()))
        if verdict.advice:
            table.add_row(Text(""), Text(verdict.advice))
    row("operators", ", ".join(facts.operators) or "none: an image look")
    row("AOVs", ", ".join(aovs_of(look)))
    row("sizes", "any" if facts.size_multiple == 1 else f"multiples of {facts.size_multiple} px (padded for you)")
    row("tiles", f"{facts.overlap_px} px of context" if facts.overlap_px else "need no context")
    row("created", facts.created or "not stated")
    row("licence", facts.licence or "not stated")
    row("preview", "--preview writes it" if look.preview else "none")
    for name in TABLES:
        table.add_row("", "")
        entries = [(key, value) for key, value in flat(getattr(facts, name)) if key not in TOLD]
        row(name, "" if entries else "not stated")
        for key, value in entries[:MAX_ROWS]:
            row(f"  {key}", value)
        if len(entries) > MAX_ROWS:
            row("  ...", f"{len(entries) - MAX_ROWS:,} more; --json prints all")
    return table


def flat(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested tables as rows with dotted names; long lists by their length and first entries."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and value:
            rows += flat(value, f"{name}.")
        elif isinstance(value, list) and len(value) > 6:
            rows.append((name, f"{len(value)} entries: {', '.join(str(item) for item in value[:3])}, ..."))
        elif isinstance(value, float):
            rows.append((name, f"{value:.6g}"))
        else:
            rows.append((name, str(value)))
    return rows
