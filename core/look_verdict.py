"""The verdict on a look: did its fit learn the change of light? In plain words, with a colour.

Training writes it into the look's facts, as `evaluation.verdict`. A look may come from anybody, so whoever reads a
verdict gets texts of a limited length, or none. Standard library only; also runs inside Nuke (Python 3.9 and later).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relightgan.core.text import shown

__all__ = ["COLOURS", "VERDICT", "Verdict", "stated_verdict"]

VERDICT = "verdict"  # its name in the fact `evaluation`
GOOD, USABLE, UNDER_FITTED, WEAK = "good", "usable", "under-fitted", "weak"
NO_OVERLAP, NOT_MEASURED = "no overlap", "not measured"
# The kinds of verdict, each with its colour.
COLOURS = {
    GOOD: "green",  # near what the photos themselves allow
    USABLE: "yellow",  # it learned the change of light, and would be better with more
    UNDER_FITTED: "red",  # the fit ended too early
    WEAK: "red",  # the fit had its time, and yet a colour transfer does as well
    NO_OVERLAP: "red",  # the photos of the two days show different places
    NOT_MEASURED: "",  # nothing is known that it could be measured on
}
MAX_KIND, MAX_WORDS = 40, 400  # characters


@dataclass(frozen=True)
class Verdict:
    """A verdict in words.

    Attributes:
        kind: one of `COLOURS`; a newer version may have others.
        words: the figures that it stands on, in a sentence.
        advice: what to do next, in a sentence; empty where nothing needs to be done.
    """

    kind: str
    words: str
    advice: str = ""

    @property
    def colour(self) -> str:
        """One of "green", "yellow" and "red"; empty for none."""
        return COLOURS.get(self.kind, "")

    @property
    def line(self) -> str:
        """Kind and words in one line."""
        return f"{self.kind}: {self.words}" if self.words else self.kind


def stated_verdict(evaluation: Any) -> Verdict | None:
    """The verdict that a look states, its texts spelt out and cut; None where it states none that can be read.

    Args:
        evaluation: the fact of this name, of any look.
    """
    stated = evaluation.get(VERDICT) if isinstance(evaluation, Mapping) else None
    if not isinstance(stated, Mapping):
        return None
    texts = [stated.get(name, "") for name in ("kind", "words", "advice")]
    if not texts[0] or not all(isinstance(text, str) for text in texts):
        return None
    kind, words, advice = texts
    return Verdict(shown(kind, MAX_KIND), shown(words, MAX_WORDS), shown(advice, MAX_WORDS))
