"""Frame numbers and the files they stand for."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import fileseq

from relightgan.core.errors import SequenceError
from relightgan.core.text import shown

MOVIE_SUFFIXES = (".mov", ".mp4", ".mkv", ".m4v", ".webm", ".avi")
MAX_DIGITS = 20  # of a frame number in a file's name
STILL_FRAME = 1  # the one frame of a path without a place for a number

# printf (%d, %4d, %04d) and hashes, one for each digit, as Nuke has them.
_PLACE = re.compile(r"%(?P<printf>\d*)d|(?P<hashes>#+)")
# Frame numbers of no more digits than any host has.
_RANGE = re.compile(r"-?\d{1,18}(-(-?\d{1,18})([x:y]-?\d{1,18})?)?", re.ASCII)
_RANGE_EXAMPLE = "Write ranges like 1001-1100,1150 or 1-20x2."


def parse_frames(text: str) -> list[int]:
    """The frame numbers a range text means, each once, in rising order.

    Args:
        text: numbers and ranges with commas between them, as `fileseq` reads them: "1001-1100,1150", "1-20x2" for every
            second one; negative numbers work ("-10--5").

    Raises:
        SequenceError: the text can't be read, or means no frame or too many.
    """
    pieces = [piece.strip() for piece in text.split(",")]
    # fileseq passes over what it doesn't know in some places, and a slip there would render other frames than meant.
    for piece in pieces:
        if not _RANGE.fullmatch(piece):
            problem = f"The frames {shown(text)!r} can't be read: {shown(piece)!r} is no number or range."
            raise SequenceError(problem, _RANGE_EXAMPLE)
    try:
        return sorted({int(frame) for frame in fileseq.FrameSet(",".join(pieces))})
    except (fileseq.FileSeqException, fileseq.MaxSizeException) as error:
        problem = f"The frames {shown(text)!r} can't be read: {_one_line(error)}."
        raise SequenceError(problem, _RANGE_EXAMPLE) from error


def format_frames(frames: Iterable[int]) -> str:
    """Frame numbers as a short text that `parse_frames` reads back: "1001-1100,1150"; "none" where there are none."""
    unique = sorted(set(frames))
    return str(fileseq.framesToFrameRange(unique, sort=True, compress=True)) if unique else "none"


def is_movie(path: str | Path) -> bool:
    """True where the suffix is that of a movie file."""
    return Path(path).suffix.lower() in MOVIE_SUFFIXES


@dataclass(frozen=True)
class Sequence:
    """Numbered files, or one still.

    Args:
        pattern: a path whose file name has one place for the frame number: `plates.%04d.exr` or `plates.####.exr`, four
            digits at least in both. Without such a place it is a still, whose only frame is number 1.

    Raises:
        SequenceError: there are two places for a number, or one in a folder's name.
    """

    pattern: str

    def __post_init__(self) -> None:
        # Given as a Path in most calls; kept as text, so that two sequences of one pattern are equal.
        object.__setattr__(self, "pattern", str(self.pattern))
        path = Path(self.pattern)
        place = _PLACE.search(path.name)
        digits = (len(place["hashes"] or "") or int(place["printf"][:9] or 0)) if place else 0
        if "\0" in self.pattern or digits > MAX_DIGITS:
            raise SequenceError(f"{self.pattern} can be no file's name.", f"Use %04d; {MAX_DIGITS} digits at most.")
        if _PLACE.search(str(path.parent)) or len(_PLACE.findall(path.name)) > 1:
            raise SequenceError(
                f"{self.pattern} has a place for the frame number in a folder's name, or more than one.",
                "Give it one, in the file name, such as plates.%04d.exr.",
            )

    @property
    def is_still(self) -> bool:
        """True where the pattern has no place for a frame number."""
        return not _PLACE.search(Path(self.pattern).name)

    def path(self, frame: int) -> Path:
        """The file of a frame; a still has one file whatever the frame, so check with `require` or `check_apart`."""
        path = Path(self.pattern)
        place = _PLACE.search(path.name)
        return (
            path.with_name(path.name[: place.start()] + _digits(place, frame) + path.name[place.end() :])
            if place
            else path
        )

    def existing(self) -> list[int]:
        """The frames that are on disk now, in rising order; [] where the folder isn't there."""
        path = Path(self.pattern)
        place = _PLACE.search(path.name)
        if not place:
            return [STILL_FRAME] if path.is_file() else []
        before, after = re.escape(path.name[: place.start()]), re.escape(path.name[place.end() :])
        named = re.compile(f"{before}(-?\\d+){after}", re.DOTALL)
        try:
            found = [match for entry in path.parent.iterdir() if (match := named.fullmatch(entry.name))]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SequenceError(f"{path.parent} can't be listed: {error.strerror}.", "Check its rights.") from error
        # plates.7.exr is no frame of plates.%04d.exr: it would be looked for under another name.
        return sorted(int(match[1]) for match in found if _digits(place, int(match[1])) == match[1])

    def require(self, frames: Iterable[int]) -> None:
        """Makes sure that every one of these frames is on disk.

        Raises:
            SequenceError: some are missing; the message gives their numbers, the pattern and what is there.
        """
        wanted = sorted(set(frames))
        self.check_apart(wanted)
        there = self.existing()
        if self.is_still and not there:
            raise SequenceError(f"{self.pattern} doesn't exist.", "Check the path.")
        missing = [] if self.is_still else sorted(set(wanted) - set(there))
        if missing:
            raise SequenceError(
                f"{self.pattern} lacks {_count(len(missing))} {format_frames(missing)}.",
                f"On disk: {format_frames(there)}.",
            )

    def check_apart(self, frames: Iterable[int]) -> None:
        """Makes sure that these frames have a file each.

        Raises:
            SequenceError: it is a still and there is more than one frame, which would all be the same file.
        """
        wanted = sorted(set(frames))
        if self.is_still and len(wanted) > 1:
            raise SequenceError(
                f"{self.pattern} is one file, but frames {format_frames(wanted)} are asked for.",
                "Put a place for the frame number into it, such as %04d.",
            )


# Private implementation


def _digits(place: re.Match[str], frame: int) -> str:
    width = len(place["hashes"]) if place["hashes"] else int(place["printf"] or 0)
    # %4d would pad with blanks; file names are padded with zeros, as Nuke does.
    return f"{frame:0{width}d}" if width else str(frame)


def _count(number: int) -> str:
    return "frame" if number == 1 else f"{number} frames:"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
