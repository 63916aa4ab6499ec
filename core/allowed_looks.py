"""A site's list of the looks that may run, where it has one: a file of SHA-256 sums that the environment names.

The list has a look's sum at the start of each line, as `sha256sum` and `relightgan look --sha256` print it. It is read
anew for each request, so that a look can be taken back while Nuke is open. A look that isn't on it isn't even parsed.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from relightgan.core.errors import LookError
from relightgan.core.regular import read_regular

__all__ = ["VARIABLE", "allowed_only"]

VARIABLE = "RELIGHTGAN_ALLOWED_LOOKS"
MAX_BYTES = 8 << 20  # a hundred thousand looks
LINE = re.compile(r"([0-9a-fA-F]{64})(?:\s.*)?")  # `sha256sum` has the name, or `*name`, behind


def allowed_only() -> Callable[[str, Path], None]:
    """What refuses a look by its SHA-256 and its path; refuses none where the site has no list.

    Raises:
        LookError: there is a list, but it can't be read: then nothing runs.
    """
    place = os.environ.get(VARIABLE)
    if not place:
        return lambda sha256, path: None
    sums = sums_in(Path(place))

    def check(sha256: str, path: Path) -> None:
        if sha256 not in sums:
            raise LookError(
                f"{path} isn't among the looks that this site allows (sha256 {sha256}).",
                f"Have it added to {place}: relightgan look --sha256 LOOK >> {place}.",
            )

    return check


def sums_in(path: Path) -> frozenset[str]:
    """The sums of a list, in small letters; empty lines and those that begin with `#` are passed over.

    Raises:
        LookError: it can't be read, or a line has no sum.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8", "replace")
    except OSError as error:
        problem = f"The list of allowed looks, {path}, can't be read: {error.strerror}."
        raise LookError(problem, f"Check {VARIABLE} and the rights of the file; no look runs without it.") from error
    sums: set[str] = set()
    # At line feeds alone: `sha256sum` spells out no others, and a look's name could bring a line of its own otherwise.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            found = LINE.fullmatch(line.rstrip("\r"))
            if found is None:
                problem = f"Line {number} of {path} has no SHA-256 at its start."
                raise LookError(problem, "Write lines as `relightgan look --sha256 LOOK` prints them.")
            sums.add(found[1].lower())
    return frozenset(sums)
