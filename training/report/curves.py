"""Line charts as inline SVG, small enough to stand side by side in a report."""

import dataclasses
import html
import math
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT = 360, 190  # px, of a chart
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 28, 26  # px, margins of the plotted area
MAX_POINTS = 240  # points of one line; more are averaged, as a chart has no room for them


@dataclasses.dataclass(frozen=True)
class Curve:
    """A quantity y over a quantity x."""

    title: str
    x: Sequence[float]  # rising
    y: Sequence[float]  # same length; values that aren't finite are left out
    x_label: str = ""
    smooth: bool = False  # True also draws a moving average, over pale values


def curve_svg(curve: Curve) -> str:
    """One chart as an `<svg>` element with axes from the data, in the colours of the report.

    The vertical axis spans the middle 98 % of the values, so that a single spike doesn't flatten the rest.
    """
    x, y = _thinned(np.asarray(curve.x, float), np.asarray(curve.y, float))
    head = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="11">'
        f'<text x="{LEFT}" y="16" font-size="13" font-weight="600" fill="#22262b">{html.escape(curve.title)}</text>'
    )
    if len(x) < 2:
        return f'{head}<text x="{LEFT}" y="{HEIGHT / 2}" fill="#69727d">too few values to draw</text></svg>'
    trend = _trend(y) if curve.smooth else None
    low, high = _span(y)
    x_low, x_high = float(x[0]), float(x[-1])

    def place(values: np.ndarray) -> str:
        px = LEFT + (x - x_low) / (x_high - x_low or 1) * (WIDTH - LEFT - RIGHT)
        py = HEIGHT - BOTTOM - (np.clip(values, low, high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True))

    grid = []
    for tick in _ticks(low, high):
        at = HEIGHT - BOTTOM - (tick - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        grid.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e2e5e9"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#69727d">{tick:.4g}</text>'
        )
    pen = 'fill="none" stroke="#b4581c"'
    pale = ' opacity="0.3"' if curve.smooth else ""
    lines = f'<polyline points="{place(y)}" {pen} stroke-width="1.5"{pale}/>'
    if trend is not None:
        lines += f'<polyline points="{place(trend)}" {pen} stroke-width="2"/>'
    below = "".join(
        f'<text x="{at:.0f}" y="{HEIGHT - 8}" text-anchor="{anchor}" fill="#69727d">{html.escape(words)}</text>'
        for at, anchor, words in (
            (LEFT, "start", _count(x_low)),
            ((LEFT + WIDTH - RIGHT) / 2, "middle", curve.x_label),
            (WIDTH - RIGHT, "end", _count(x_high)),
        )
    )
    return head + "".join(grid) + lines + below + "</svg>"


# Private implementation


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if len(x) <= MAX_POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), MAX_POINTS)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def _trend(y: np.ndarray) -> np.ndarray:
    # A centred moving average over a tenth of the width; its window shrinks at the ends, so it spans all values.
    half = max(1, len(y) // 20)
    total = np.concatenate([[0.0], np.cumsum(y)])
    low = np.maximum(np.arange(len(y)) - half, 0)
    high = np.minimum(np.arange(len(y)) + half + 1, len(y))
    trend: np.ndarray = (total[high] - total[low]) / (high - low)
    return trend


def _span(y: np.ndarray) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(y, [1, 99]))
    spare = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - spare, high + spare


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [round(index * step, 12) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.4g}"
