"""`relightgan photos`: looks at photo folders as the trainer will, and shows what it keeps."""

import functools
import importlib.util
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from relightgan.core.errors import PhotoError
from relightgan.core.files import open_folder
from relightgan.core.options import Parser
from relightgan.core.progress import STYLES, cancellation
from relightgan.core.text import print_line, printable, shown
from relightgan.training.photos.camera_raw import PACKAGE_FIX
from relightgan.training.photos.index import KEPT, PhotoIndex, PhotoSettings, index_photos
from relightgan.training.photos.measuring import not_written, usual_workers, write_text
from relightgan.training.photos.overview import reason_word, summary, write_sheet
from relightgan.training.settings import add_options, from_dict, given_options

LISTED = 12  # photos left out that are named on stdout
EXAMPLES = """examples:
  relightgan photos cloudy/ sunny/
  relightgan photos dump/ --out /tmp/look --near-duplicates 0
  relightgan photos cloudy/ sunny/ --register
  relightgan photos dump/ --movie-frames 200 --blur-ratio 1.5
"""


def main(argv: Sequence[str]) -> int:
    """Runs `relightgan photos`; see its --help."""
    parser = Parser(
        prog="relightgan photos",
        description="Looks at photo folders as the trainer will: contact sheet, table, and what is left out and why.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="folder of photos and movies, searched with those in it"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/photos"), metavar="DIR", help="for sheets and lists [build/photos]"
    )
    parser.add_argument(
        "--register", action="store_true", help="also put the photos of two folders into one world, and show it"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="files decoded at once [cores, at most 8]")
    parser.add_argument("--progress", choices=STYLES, default="auto", help="how to show progress [auto]")
    add_options(parser, PhotoSettings, {})
    options = parser.parse_args(argv)
    if options.workers is not None and options.workers < 1:
        parser.error("--workers must be 1 or more")
    if options.register and len(options.folders) != 2:
        parser.error("--register needs two folders, one for each day")
    if options.register:
        check_register()
    settings = from_dict(PhotoSettings, given_options(options, PhotoSettings), "the command line")

    results: list[tuple[str, PhotoIndex, Path]] = []
    open_folder(options.out, functools.partial(not_written, options.out))
    with cancellation() as cancelled:
        for folder, name in zip(options.folders, folder_names(options.folders), strict=True):
            out = options.out / name
            open_folder(out, functools.partial(not_written, out), within=options.out)
            index = index_photos([folder], settings, out, options.progress, cancelled.check, options.workers)
            cancelled.check()
            lines = [printable(f"{photo.path}: {photo.reason}") for photo in index.left_out()]
            write_text(out / "left_out.txt", "".join(f"{line}\n" for line in lines))
            sheet = write_sheet(index, name, out / "contact_sheet.jpg", options.workers or usual_workers())
            results.append((name, index, sheet))
    print(table([summary(shown(name), index) for name, index, _ in results]))
    for name, index, sheet in results:
        print()
        print_line(f"{name}: {sheet}", sys.stdout)
        print(describe(index, sheet.with_name("left_out.txt")))
    warn_of_shared(results)
    empty = [name for name, index, _ in results if not index.kept()]
    if empty:
        raise PhotoError(f"No photo of {', '.join(empty)} can be used.", "See the reasons above.")
    if options.register:
        # Only here, as the rest of this command needs none of its libraries.
        from relightgan.training.run.registration_report import show_registration

        with cancellation() as cancelled:
            page = show_registration(results, settings, options.out, options.progress, cancelled)
        print()
        for line in page.splitlines():
            print_line(line, sys.stdout)
    return 0


def check_register() -> None:
    """Checks that what registers is installed: better found wanting now than after looking at every photo.

    Raises:
        PhotoError: it isn't.
    """
    for package in ("torch", "pycolmap"):
        if importlib.util.find_spec(package) is None:
            raise PhotoError(
                f"--register needs the package {package}, which isn't installed in {sys.executable}.",
                f"Run: {sys.executable} -m pip install 'relightgan[train]'.",
            )


def folder_names(folders: Sequence[Path]) -> list[str]:
    """A different short name for each folder: its own, with a number where two are the same."""
    names: list[str] = []
    for folder in folders:
        base = shown(folder.resolve().name) or "photos"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def table(lines: Sequence[dict[str, str]]) -> str:
    """Aligned columns with a head; words to the left, figures to the right."""
    columns = list(lines[0])
    widths = {column: max(len(column), *(len(line[column]) for line in lines)) for column in columns}
    everything = [{column: column for column in columns}, *lines]
    return "\n".join(
        "  ".join(
            line[column].ljust(widths[column]) if column == "folder" else line[column].rjust(widths[column])
            for column in columns
        )
        for line in everything
    )


def describe(index: PhotoIndex, listing: Path) -> str:
    """What else is worth knowing of a folder: its colours, and what was left out."""
    lines = [
        f"  colours: {shown(profile)}, {count:,}"
        for profile, count in Counter(photo.profile for photo in index.kept()).most_common()
    ]
    if index.others:
        others = ", ".join(f"{count} {shown(suffix) or 'without suffix'}" for suffix, count in index.others.items())
        lines.append(f"  not looked at: {others}")
    left_out = index.left_out()
    counts = Counter(reason_word(photo) for photo in left_out)
    if left_out:
        lines.append(f"  left out: {', '.join(f'{word} {count:,}' for word, count in counts.most_common())}")
        missing = Counter(photo.reason for photo in left_out if PACKAGE_FIX in photo.reason)
        lines += [f"    {count:,} of them: {printable(reason)}" for reason, count in missing.items()]
        rest = [photo for photo in left_out if PACKAGE_FIX not in photo.reason]
        lines += [f"    {shown(photo.name)}: {printable(photo.reason)}" for photo in rest[:LISTED]]
        if len(rest) > LISTED:
            lines.append(f"    and {len(rest) - LISTED:,} more in {listing}")
    return "\n".join(lines)


def warn_of_shared(results: Sequence[tuple[str, PhotoIndex, Path]]) -> None:
    """Says on stderr when a photo lies in two of the folders: a photo can't show both lightings."""
    for row, (name, index, _) in enumerate(results):
        ids = {photo.id for photo in index.photos if photo.status == KEPT}
        for other, theirs, _ in results[:row]:
            shared = [photo.name for photo in theirs.kept() if photo.id in ids]
            if shared:
                print_line(f"Warning: {len(shared)} photos are in both {other} and {name}, {shown(shared[0])} for one.")
