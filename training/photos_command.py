"""`relightgan photos`: looks at photo folders as the trainer will, and shows what it keeps."""

import argparse
import contextlib
import importlib.util
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from relightgan.core.errors import PhotoError, PlateError
from relightgan.core.progress import STYLES, cancellation
from relightgan.training.contact_sheet import Cell, contact_sheet, in_rows
from relightgan.training.photo_files import to_float
from relightgan.training.photo_measuring import in_parallel, usual_workers, write_text
from relightgan.training.photos import KEPT, Photo, PhotoIndex, PhotoSettings, by_file, index_photos, load_pixels
from relightgan.training.settings import add_options, from_dict, given_options

THUMBNAIL_PX, COLUMNS = 176, 10
SHOWN_KEPT, SHOWN_LEFT_OUT = 150, 50  # pictures on a sheet at most, evenly spread over the folder
LISTED = 12  # photos left out that are named on stdout
EXAMPLES = """examples:
  relightgan photos cloudy/ sunny/
  relightgan photos dump/ --out /tmp/look --near-duplicates 0
  relightgan photos cloudy/ sunny/ --register
  relightgan photos dump/ --movie-frames 200 --blur-ratio 1.5
"""


def main(argv: Sequence[str]) -> int:
    """Runs `relightgan photos`; see its --help."""
    parser = argparse.ArgumentParser(
        prog="relightgan photos",
        description="Looks at photo folders as the trainer will: contact sheet, table, and what is left out and why.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    with cancellation() as cancelled:
        for folder, name in zip(options.folders, folder_names(options.folders), strict=True):
            out = options.out / name
            index = index_photos([folder], settings, out, options.progress, cancelled.check, options.workers)
            cancelled.check()
            write_text(out / "left_out.txt", "".join(f"{photo.path}: {photo.reason}\n" for photo in index.left_out()))
            sheet = write_sheet(index, name, out / "contact_sheet.jpg", options.workers or usual_workers())
            results.append((name, index, sheet))
    print(table([summary(name, index) for name, index, _ in results]))
    for name, index, sheet in results:
        print(f"\n{name}: {sheet}")
        print(describe(index, sheet.with_name("left_out.txt")))
    warn_of_shared(results)
    empty = [name for name, index, _ in results if not index.kept()]
    if empty:
        raise PhotoError(f"No photo of {', '.join(empty)} can be used.", "See the reasons above.")
    if options.register:
        # Only here, as the rest of this command needs none of its libraries.
        from relightgan.training.register_command import show_registration

        with cancellation() as cancelled:
            shown = show_registration(results, settings, options.out, options.progress, cancelled)
        print(f"\n{shown}")
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
        base = folder.resolve().name or "photos"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def write_sheet(index: PhotoIndex, name: str, path: Path, workers: int) -> Path:
    """Writes the contact sheet of an index: kept photos, then those left out with their reasons.

    Of large folders it shows some, evenly spread. Files that can't be decoded are grey.
    """
    kept, left_out = index.kept(), index.left_out()
    shown, shown_out = evenly(kept, SHOWN_KEPT), evenly(left_out, SHOWN_LEFT_OUT)
    thumbnails = _thumbnails([*shown, *shown_out], workers)
    rows = in_rows([(next(thumbnails), photo.name) for photo in shown], COLUMNS)
    headings = {0: f"Kept: {_counted(shown, kept)}"} if shown else {}
    if shown_out:
        headings[len(rows)] = f"Left out: {_counted(shown_out, left_out)}"
    cells: list[Cell] = [(next(thumbnails), f"{reason_word(photo)} · {photo.name}") for photo in shown_out]
    split = ", ".join(f"{side} {len(index.kept(side))}" for side in ("train", "val", "test"))
    subtitle = f"{len(kept):,} of {len(index.photos):,} photos kept · {split}"
    return contact_sheet(
        [*rows, *in_rows(cells, COLUMNS)], path, title=name, subtitle=subtitle, headings=headings, cell_px=THUMBNAIL_PX
    )


def evenly(photos: Sequence[Photo], most: int) -> list[Photo]:
    """All photos, or `most` of them from first to last at even steps."""
    if len(photos) <= most:
        return list(photos)
    return [photos[row] for row in np.linspace(0, len(photos) - 1, most).round().astype(int)]


def summary(name: str, index: PhotoIndex) -> dict[str, str]:
    """One folder's line of the table, by column."""
    kept = index.kept()
    sizes = Counter((photo.width, photo.height) for photo in kept)
    brightness = sorted(photo.brightness for photo in kept)
    sharpness = [photo.sharpness for photo in kept if photo.sharpness is not None]
    return {
        "folder": name,
        "photos": f"{len(index.photos):,}",
        "kept": f"{len(kept):,}",
        "left out": f"{len(index.left_out()):,}",
        "bursts": f"{len({photo.burst for photo in kept}):,}",
        "train/val/test": "/".join(str(len(index.kept(side))) for side in ("train", "val", "test")),
        "size": "-"
        if not sizes
        else "{}x{}".format(*sizes.most_common(1)[0][0]) + (f" +{len(sizes) - 1}" if len(sizes) > 1 else ""),
        "brightness": f"{statistics.median(brightness):.2f}" if brightness else "-",
        "sharpness": f"{statistics.median(sharpness):.2f}" if sharpness else "-",
    }


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
        f"  colours: {profile}, {count:,}"
        for profile, count in Counter(photo.profile for photo in index.kept()).most_common()
    ]
    if index.others:
        others = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in index.others.items())
        lines.append(f"  not looked at: {others}")
    left_out = index.left_out()
    counts = Counter(reason_word(photo) for photo in left_out)
    if left_out:
        lines.append(f"  left out: {', '.join(f'{word} {count:,}' for word, count in counts.most_common())}")
        lines += [f"    {photo.name}: {photo.reason}" for photo in left_out[:LISTED]]
    if len(left_out) > LISTED:
        lines.append(f"    and {len(left_out) - LISTED:,} more in {listing}")
    return "\n".join(lines)


def reason_word(photo: Photo) -> str:
    """The kind of a reason, such as "blurred"; "unreadable" where the file is at fault."""
    return photo.reason.partition(":")[0] if photo.width else "unreadable"


def warn_of_shared(results: Sequence[tuple[str, PhotoIndex, Path]]) -> None:
    """Says on stderr when a photo lies in two of the folders: a photo can't show both lightings."""
    for row, (name, index, _) in enumerate(results):
        ids = {photo.id for photo in index.photos if photo.status == KEPT}
        for other, theirs, _ in results[:row]:
            shared = [photo.name for photo in theirs.kept() if photo.id in ids]
            if shared:
                print(
                    f"Warning: {len(shared)} photos are in both {other} and {name}, {shared[0]} for one.",
                    file=sys.stderr,
                )


# Private implementation


def _thumbnails(photos: Sequence[Photo], workers: int) -> Iterator[np.ndarray]:
    for _, pictures in in_parallel(_thumbnails_of_file, by_file(photos), workers):
        yield from pictures


def _thumbnails_of_file(photos: Sequence[Photo]) -> list[np.ndarray]:
    pictures: list[np.ndarray] = []
    # What can't be decoded was said in words; on the sheet it is grey.
    with contextlib.suppress(PhotoError, PlateError):
        for pixels in load_pixels(photos, THUMBNAIL_PX):
            pictures.append(np.round(np.clip(to_float(pixels), 0, 1) * 255).astype(np.uint8))
    grey = np.full((THUMBNAIL_PX * 3 // 4, THUMBNAIL_PX, 3), 60, np.uint8)
    return pictures + [grey] * (len(photos) - len(pictures))


def _counted(shown: Sequence[Photo], everything: Sequence[Photo]) -> str:
    return f"{len(everything):,}" if len(shown) == len(everything) else f"{len(shown)} of {len(everything):,} shown"
