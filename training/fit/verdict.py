"""What a fit has come to, in plain words: good, usable, under-fitted, ..., from its errors on held-out photos.

Limits are shares of the error of the best simple colour transfer on the same photos: errors in stops depend on the set,
on how different its days are, and on how exact its guidance is.
"""

from dataclasses import dataclass

from relightgan.core.look_verdict import GOOD, NO_OVERLAP, NOT_MEASURED, UNDER_FITTED, USABLE, WEAK, Verdict
from relightgan.training.fit.held_out import Errors

# A fit to some hundred photos of a day has learned nearly all it can after so many images.
ENOUGH_IMAGES = 10_000
# The largest shares of the transfer's error that are good, and usable. Measured on 8 held-out photos of the courtyard
# in `examples/`, after as many images: 64: 1.31, 256: 1.29, 1,000: 0.92 (still grey), 3,000: 0.43, 6,000: 0.27.
GOOD_SHARE = 0.35
USABLE_SHARE = 0.6
# The same where patches say what is right. They are off by half a stop themselves there, so that even a good fit stays
# near the transfer, and can't be told to be good: 128 images: 1.03, 1,000: 0.85, 2,500: 0.69.
PATCH_USABLE_SHARE = 0.75
# Photos of one day predict each other to about 0.06 stops, and across days hardly better than twice that: a look that
# is off by less can't be told from a perfect one, even where a colour transfer does as well.
EXACT_STOPS = 0.12
FEW_PHOTOS = 4  # with fewer the verdict is less sure
MAX_WHITE_STOPS = 0.3  # the error of the predicted white above which bright skies go wrong


@dataclass(frozen=True)
class Findings:
    """What is known of a fit when it ends.

    Attributes:
        images: photos that it was shown.
        errors: on held-out photos; None where nothing is known that they could be compared with.
        photos: number of these photos.
        known_by: "guidance" or "patches", see `held_out.HeldOut`; empty without errors.
        unseen: True where the fit learned nothing from these photos.
        coverage: the share 0..1 of what the day's photos show that the other day's photos saw; None where unknown.
        placed: the share 0..1 of a day's photos that could be put into one world with the other day's, of the day with
            fewer; None where this was not tried, or failed for both.
        overlap: False where the photos of the two days show too little of the same.
        white: error of the predicted white in stops; None for looks that predict none.
    """

    images: int
    errors: Errors | None = None
    photos: int = 0
    known_by: str = ""
    unseen: bool = True
    coverage: float | None = None
    placed: float | None = None
    overlap: bool = True
    white: float | None = None


def judge(found: Findings, go_on: str) -> Verdict:
    """The verdict on a fit.

    Args:
        found: what is known of it.
        go_on: how the fit can go on to `ENOUGH_IMAGES`, to be put after "go on with".
    """
    if not found.overlap:
        return Verdict(
            NO_OVERLAP, no_overlap_words(found), "Photograph the same places on both days, from places near each other."
        )
    errors = found.errors
    if errors is None:
        return Verdict(NOT_MEASURED, "nothing says what these photos look like on the other day", COMPARE)
    words, early = error_words(found, errors), found.images < ENOUGH_IMAGES
    more = f"{found.images:,} of about {ENOUGH_IMAGES:,} images: go on with {go_on}."
    share = errors.look / max(errors.transfer, 1e-6)
    exact = errors.look <= EXACT_STOPS
    if share > (PATCH_USABLE_SHARE if found.known_by == "patches" else USABLE_SHARE) and not exact:
        return Verdict(UNDER_FITTED, words, more) if early else Verdict(WEAK, words, NO_MORE_TIME)
    if share > GOOD_SHARE and not exact:
        return Verdict(USABLE, words, more if early else MORE_PHOTOS)
    if found.white is not None and found.white > MAX_WHITE_STOPS:
        sky = f"{words}; bright skies may go wrong, as white is off by {found.white:.1f} stops"
        return Verdict(USABLE, sky, more if early else MORE_PHOTOS)
    # Only photos that the fit didn't see, and guidance for them, can show that it is good.
    return Verdict(GOOD, words) if found.unseen and found.known_by == "guidance" else Verdict(USABLE, words, COMPARE)


def learned(kind: str) -> bool:
    """False where a fit of this verdict hasn't learned the change of light; then nothing else may go with it."""
    return kind not in (UNDER_FITTED, WEAK)


COMPARE = "Look at the previews, or measure with `relightgan evaluate`."
NO_MORE_TIME = (
    "More time won't help. See in the report whether pairs and guidance show the same places, and give more photos of "
    "the same places on both days."
)
MORE_PHOTOS = "The previews show where. More photos of both days from the same places help most."


def error_words(found: Findings, errors: Errors) -> str:
    """The errors in a sentence, and how sure they are."""
    known = "had not seen" if found.unseen else "learned from"
    photos = f"{found.photos} photo{'s' if found.photos != 1 else ''} that it {known}"
    doubts = [
        *(["from look-alike patches"] if found.known_by == "patches" else []),
        *(["as there are no others"] if not found.unseen else []),
        *(["on few photos"] if found.unseen and found.photos < FEW_PHOTOS else []),
    ]
    sure = f"; less sure, {' and '.join(doubts)}" if doubts else ""
    return (
        f"off by {errors.look:.2f} stops on {photos} (untouched {errors.untouched:.2f}, "
        f"a simple colour transfer {errors.transfer:.2f}){sure}"
    )


def no_overlap_words(found: Findings) -> str:
    """What the photos of the two days have in common, in a sentence."""
    if found.coverage is not None:
        return f"the other day's photos saw {found.coverage:.0%} of what these photos show"
    return f"only {found.placed or 0:.0%} of one day's photos could be placed among those of the other"
