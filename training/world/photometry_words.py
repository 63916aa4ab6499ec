"""What photometry found, in words, figures and charts."""

from collections.abc import Sequence

import numpy as np

from relightgan.training.report.curves import Curve
from relightgan.training.world.photometry import GRID, Photometry, bends, falloff

# A photo's exposure stands out beyond both: so many standard deviations, and stops.
UNUSUAL, UNUSUAL_STOPS = 3.0, 0.5
NAMED = 5  # photos that are named in a summary
MEAN_STAYS = (
    "What differs between the photos of a day is taken away wherever they are learned from. The mean exposure and "
    "white balance of each day stay as they came, and so does the light of one day against the other's."
)


def summary(photometry: Photometry, whose: str, names: Sequence[str]) -> str:
    """What was found, in a few sentences.

    Args:
        photometry: of a day.
        whose: for people, such as "the source photos".
        names: of the photos, fit to be printed.
    """
    known = photometry.solved
    if not known.any():
        return f"Exposures of {whose} can't be compared: too few points are seen in several photos."
    rows = dict(figures(photometry))
    said = (
        f"Exposures of {whose} spread by {rows['exposure, spread']}, white balance by {rows['white balance, spread']}; "
        f"corners are at {rows['corners']}, and the curve departs from sRGB by {rows['curve, departure from sRGB']}."
    )
    if len(far := unusual(photometry)):
        listed = ", ".join(f"{names[photo]} {photometry.exposure[photo]:+.1f}" for photo in far[:NAMED])
        said += f" Far off the others, in stops: {listed}{_and_more(len(far))}."
    if not known.all():
        unknown = np.nonzero(~known)[0]
        listed = ", ".join(names[photo] for photo in unknown[:NAMED])
        said += (
            f" Too few points in common with others, so that their exposure stays: {listed}{_and_more(len(unknown))}."
        )
    return said


def figures(photometry: Photometry) -> list[tuple[str, str]]:
    """What was found, as (name, value) rows; spreads are standard deviations."""
    known = photometry.solved
    if not known.any():
        return [("photos that share enough points", "none")]
    corner = np.median(photometry.vignetting[photometry.lens[known]].sum(axis=1))
    white = 2 ** float(photometry.white[known].std(axis=0).max()) - 1
    return [
        ("exposure, spread", f"{photometry.exposure[known].std():.2f} stops"),
        ("white balance, spread", f"{white:.1%}"),
        ("corners", f"{corner:+.2f} stops"),
        ("curve, departure from sRGB", f"{departure(photometry):.1%} of the code values"),
        ("samples differ from this by", f"{float(photometry.error):.2f} stops (median)"),
    ]


def departure(photometry: Photometry) -> float:
    """The largest departure of a camera's curve from sRGB, 0..1."""
    return float(np.abs(photometry.curve @ bends(GRID).T).max(initial=0.0))


def unusual(photometry: Photometry) -> np.ndarray:
    """The numbers of the photos whose exposure stands out from their day's, the farthest first."""
    solved = np.nonzero(photometry.solved)[0]
    if len(solved) == 0:
        return solved
    away = np.abs(photometry.exposure[solved] - np.median(photometry.exposure[solved]))
    limit = max(UNUSUAL * 1.4826 * float(np.median(away)), UNUSUAL_STOPS)
    far: np.ndarray = solved[np.argsort(-away, kind="stable")][: int((away > limit).sum())]
    return far


def charts(photometry: Photometry) -> list[Curve]:
    """What was found, as charts: all exposures, the usual lens, the usual camera."""
    exposures = np.sort(photometry.exposure[photometry.solved])
    radius = np.linspace(0, 1, 33)
    lens, camera = (int(np.bincount(numbers).argmax()) for numbers in (photometry.lens, photometry.camera))
    falls, departs = falloff(radius) @ photometry.vignetting[lens], bends(GRID) @ photometry.curve[camera]
    return [
        Curve("Exposures, in stops", list(range(len(exposures))), exposures.tolist(), "photos, darkest first"),
        Curve("Vignetting, in stops", radius.tolist(), falls.tolist(), "distance from the middle, 1 at the corner"),
        Curve("Curve, departure from sRGB", GRID.tolist(), departs.tolist(), "code value"),
    ]


# Private implementation


def _and_more(count: int) -> str:
    return f" and {count - NAMED} more" if count > NAMED else ""
