"""Guidance: the gains that photos of the other day show at the place of a plate correct a look's gains for that frame.

A look guesses from the plate. Guidance, made beforehand by `relightgan locate`, knows for many pixels the change of
light at that very place. Its difference from the look's own gains is gathered in the cells of the look's grid (as in
the bilateral grid of Chen, Paris and Durand, SIGGRAPH 2007), smoothed a little, and divided by the trust in it plus
some trust in the look. A cell with much guidance follows it. A cell without follows the guidance of the same brightness
around it, less with distance. Far from all guidance it stays as it was.

Guidance can be wrong as well: at edges of depth it takes a thing for the one behind it. A look predicts the error of
its own gains. Guidance that differs by many times that error is believed less (the weight of a Cauchy distribution;
Holland and Welsch 1977). So where the light is plain to see it needs no correction.

A grid holds stops for cells across and down the frame and for steps of brightness. How a pixel finds its gain in it
is written down once, in `training/relight/gain_grid`, and exported into the look. So the look itself is asked, on the
small raster of the guidance, for its gains and for the steps of brightness; see `read_grid`. `check_grid` proves on
each look that its answers are those of a grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from relightgan.core.errors import LookError
from relightgan.core.look import GAIN, GRID, GUIDE, Operator, known_aovs
from relightgan.core.session import LookSession

# Operators that guidance reads, besides `look.GUIDE`; it changes the grid only.
ANCHOR, DOUBT, WHITE, ROLLOFF = "anchor", "doubt", "white", "rolloff"
READ = (GRID, ANCHOR, DOUBT, GUIDE, WHITE, ROLLOFF)
ROLLED_STOPS = 2.0  # stops above white that a roll-off takes from; suns and lamps stay above any sky by the rest

# Before a grid is corrected, each cell is divided into so many, across and down. The number is odd, so that the middles
# of the old cells are middles of new ones: linear interpolation between the new cells gives the gains of the old ones.
FINER = 3
MIN_CONFIDENCE = 0.4  # the least confidence of a pixel that is used: those below do more harm than good
MAX_STOPS = 3.0  # the largest correction: more is a mistake
MAX_DISAGREEMENT = 1.5  # the largest median difference from the look, in stops: beyond it one of them is mistaken
# Trust is counted in pixels of full confidence, as a share of the pixels over a cell.
LOOK_TRUST = 0.03  # trust in the look, or in the guidance around a cell, against the guidance within it
AROUND_TRUST = 0.05  # trust in the look against the guidance around a cell
DOUBTS = 4.0  # guidance that differs by so many times the look's expected error is half believed
NEAR = (0.3, 0.6)  # sigma of the smoothing, in steps of brightness and in cells of the finer grid
AROUND = (0.5, 8.0)  # sigma of the surroundings of a cell, in the same units
CHECKED_STOPS = 1e-3  # the largest difference between a look's gains and those of a grid


@dataclass(frozen=True, eq=False)
class FrameGuidance:
    """What photos say of a frame, on a raster that lies over its data window from edge to edge.

    Attributes:
        gain: (h, w, 3) float32 stops from the plate's day to the other, in the look's primaries.
        clipped: (h, w, 3) bool, where the other day's photos were clipped, so that `gain` is a minimum.
        confidence: (h, w) float32, 0..1; 0 where nothing is known.
    """

    gain: np.ndarray
    clipped: np.ndarray
    confidence: np.ndarray


def corrected(session: LookSession, operator: Operator, light: np.ndarray, guidance: FrameGuidance) -> Operator:
    """A frame's operator, corrected by guidance.

    Args:
        session: a look that passes `check_grid`.
        operator: all operators of the frame: a `grid` (3 * depth, gh, gw) of stops, an `anchor` (1, 1, 1) in stops, a
            `white` (1, 1, 1) in stops above it, a `doubt` (1, h, w) in stops, a `guide` (2, h, w) and a `rolloff`
            (1, gh, gw).
        light: (H, W, 3) float32 the frame, as the operator was predicted from it.
        guidance: of the frame.

    Returns:
        The same with a finer grid; `operator` itself where guidance is empty, or contradicts the look throughout.
    """
    trust = np.where(guidance.confidence >= MIN_CONFIDENCE, guidance.confidence, 0).astype(np.float64)
    if not trust.any():
        return operator
    grid = operator[GRID]
    depth = len(grid) // 3
    rows, columns = trust.shape
    # Clamped at the end of the roll-off: a lamp of a few pixels shouldn't speak for its surroundings.
    brightest = np.float32(2.0 ** (stops_of(operator, ANCHOR) + stops_of(operator, WHITE) + ROLLED_STOPS))
    small = cv2.resize(np.minimum(light, brightest), (columns, rows), interpolation=cv2.INTER_AREA)
    gain, steps = read_grid(session, operator, small)
    residual = guidance.gain - gain
    residual = np.where(guidance.clipped, np.maximum(residual, 0), residual)
    if weighted_median(np.abs(residual).mean(axis=-1), trust) > MAX_DISAGREEMENT:
        return operator
    residual = np.clip(residual, -MAX_STOPS, MAX_STOPS)
    doubt = cv2.resize(operator[DOUBT][0], (columns, rows), interpolation=cv2.INTER_LINEAR)
    trust /= 1 + (np.abs(residual).mean(axis=-1) / (DOUBTS * doubt)) ** 2
    fine = finer(grid)
    cells = (depth, *fine.shape[1:])
    sums = gathered(np.concatenate([residual * trust[..., None], trust[..., None]], axis=-1), steps, cells)
    per_cell = rows * columns / (cells[1] * cells[2])
    near, around = smoothed(sums, NEAR), smoothed(sums, AROUND)
    usual = around[..., :3] / (around[..., 3:] + AROUND_TRUST * per_cell)
    change = (near[..., :3] + LOOK_TRUST * per_cell * usual) / (near[..., 3:] + LOOK_TRUST * per_cell)
    return {**operator, GRID: (fine + change.transpose(3, 0, 1, 2).reshape(fine.shape)).astype(np.float32)}


def read_grid(session: LookSession, operator: Operator, small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gains of a small plate and the places of its pixels on the brightness axis of the grid, asked of the look.

    A look also gives texture its share of contrast, which is no light. It is the same in every channel, and what is
    left when grid and roll-off are empty; so it can be subtracted. A grid that holds the number of each step in red,
    and nothing in the other channels, shows the place of each pixel in red and the contrast of texture in green.

    Args:
        session: a look that passes `check_grid`.
        operator: all operators of the frame.
        small: (h, w, 3) float32 the frame, averaged down.

    Returns:
        (h, w, 3) stops without the contrast of texture; (h, w) places from 0 to depth - 1.
    """
    grid, (height, width) = operator[GRID], small.shape[:2]
    depth = len(grid) // 3
    guide = operator[GUIDE].transpose(1, 2, 0)
    if guide.shape[0] >= height and guide.shape[1] >= width:  # averaged, as the plate is
        guide = cv2.resize(guide, (width, height), interpolation=cv2.INTER_AREA)
    operator = {**operator, GUIDE: guide.transpose(2, 0, 1)}
    numbers = np.zeros_like(grid)
    numbers[:depth] = np.arange(depth)[:, None, None]
    counted = session.gain(small, {**operator, GRID: numbers, ROLLOFF: np.zeros_like(operator[ROLLOFF])})
    texture = counted[..., 1]
    steps = np.clip(counted[..., 0] - texture, 0, depth - 1)
    return session.gain(small, operator) - texture[..., None], steps


def check_grid(session: LookSession) -> None:
    """Makes sure that a look has a grid, and that its gains are those of one: linear between cells and steps.

    Raises:
        LookError: it hasn't, or they aren't.
    """
    path, operators = session.look.path, session.look.facts.operators
    fix = "Guidance is for `relight` looks; fit one, or leave --guidance out."
    again = "Fit it again with this version, or leave --guidance out."
    if not {GRID, ANCHOR} <= set(operators):
        raise LookError(f"{path} has no grid of gains that guidance could correct.", fix)
    for name in (*READ, GAIN):
        if name not in (*operators, *known_aovs(session.look.facts)):
            raise LookError(f"{path} was fitted by an older version and tells no {name}.", again)
    rng = np.random.default_rng(0)
    light = np.exp2(rng.uniform(-7, 4, (32, 48, 3))).astype(np.float32)
    operator = session.predict(light)
    grid = operator[GRID]
    if len(grid) % 3 or operator[ANCHOR].size != 1:
        raise LookError(f"The grid of {path} isn't one of gains for red, green and blue.", fix)
    if operator[WHITE].size != 1 or len(operator[ROLLOFF]) != 1:
        raise LookError(f"The white of {path} isn't one number, or its roll-off not one plane.", fix)
    if len(operator[DOUBT]) != 1 or not operator[DOUBT].min() > 0:
        raise LookError(f"The doubt of {path} isn't one of stops above 0.", fix)
    made_up = {
        **operator,
        GRID: rng.uniform(-1, 1, grid.shape).astype(np.float32),
        WHITE: np.full((1, 1, 1), 2.0, np.float32),
        ROLLOFF: np.zeros_like(operator[ROLLOFF]),
    }
    gain, steps = read_grid(session, made_up, light)
    off = float(np.abs(gain - interpolated(made_up[GRID], steps)).max())
    if not off <= CHECKED_STOPS:
        raise LookError(f"{path} reads its grid in another way than this version, by {off:.2g} stops.", again)


def upsampled(guidance: FrameGuidance, height: int, width: int) -> np.ndarray:
    """(height, width, 3) the gains of guidance, smoothly; 0 where nothing is known."""
    known = (guidance.confidence > 0).astype(np.float32)
    layers = np.dstack([guidance.gain * known[..., None], known]).astype(np.float32)
    large = cv2.resize(layers, (width, height), interpolation=cv2.INTER_LINEAR)
    share = large[..., 3:]
    found: np.ndarray = np.where(share > 0, large[..., :3] / np.maximum(share, 1e-6), 0)
    return found


def interpolated(grid: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(H, W, 3) gains of pixels that lie evenly over a grid (3 * depth, gh, gw); the inverse way of `gathered`.

    Args:
        grid: stops, red's steps of brightness first.
        steps: (H, W) places on the brightness axis, from `read_grid`.
    """
    cells = (len(grid) // 3, *grid.shape[1:])
    table = grid.reshape(3, -1).T.astype(np.float64)
    found = np.zeros((*steps.shape, 3))
    for place, weight in corners(steps, cells):
        found += table[place] * weight[..., None]
    return found


def gathered(values: np.ndarray, steps: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """(depth, gh, gw, C) sums of pixels' values (H, W, C) in the cells that they take their gains from."""
    count = int(np.prod(cells))
    total = np.zeros((count, values.shape[-1]))
    for place, weight in corners(steps, cells):
        for channel in range(values.shape[-1]):
            total[:, channel] += np.bincount(place.ravel(), (values[..., channel] * weight).ravel(), count)
    return total.reshape(*cells, -1)


def finer(grid: np.ndarray) -> np.ndarray:
    """(C, FINER * gh, FINER * gw) a grid that gives the same gains everywhere."""
    for axis in (1, 2):
        number = grid.shape[axis]
        place = np.clip((np.arange(FINER * number) + 0.5) / FINER - 0.5, 0, number - 1)
        low = np.floor(place).astype(np.int64)
        share = (place - low).reshape([-1 if a == axis else 1 for a in range(3)])
        following = np.take(grid, np.minimum(low + 1, number - 1), axis)
        grid = np.take(grid, low, axis) * (1 - share) + following * share
    return grid


def weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    """The value that half the weight lies below."""
    order = np.argsort(values, axis=None, kind="stable")
    below = np.cumsum(weight.ravel()[order])
    return float(values.ravel()[order][np.searchsorted(below, below[-1] / 2)])


# Private implementation


def stops_of(operator: Operator, name: str) -> float:
    """An operator that is one number."""
    return float(operator[name].item())


def corners(steps: np.ndarray, cells: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The eight cells around each pixel: their numbers (H, W) and the pixel's shares (H, W) in them."""
    shape = steps.shape
    down, across = (
        np.clip((np.arange(pixels) + 0.5) * (number / pixels) - 0.5, 0, number - 1)
        for pixels, number in zip(shape, cells[1:], strict=True)
    )
    places = [steps, np.broadcast_to(down[:, None], shape), np.broadcast_to(across, shape)]
    lows = [np.floor(place).astype(np.int64) for place in places]
    shares = [place - low for place, low in zip(places, lows, strict=True)]
    for step in np.ndindex(2, 2, 2):
        number, weight = np.zeros(shape, np.int64), np.ones(shape)
        for low, share, one, count in zip(lows, shares, step, cells, strict=True):
            number = number * count + np.minimum(low + one, count - 1)
            weight = weight * (share if one else 1 - share)
        yield number, weight


def smoothed(sums: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """Sums of cells (depth, gh, gw, C) blurred along brightness and over the frame, with nothing beyond the edges."""
    depth, rows, columns, channels = sums.shape
    reach = np.arange(depth)
    along = np.exp(-0.5 * ((reach[:, None] - reach) / sigma[0]) ** 2) / (sigma[0] * np.sqrt(2 * np.pi))
    along /= max(1.0, float(along.sum(axis=1).max()))
    # Written out: a product of matrices may sum in another order on more threads.
    mixed = sum(along[:, k, None, None, None] * sums[k] for k in range(depth))
    planes = np.ascontiguousarray(np.transpose(mixed, (1, 2, 0, 3)).reshape(rows, columns, depth * channels))
    blurred = cv2.GaussianBlur(planes, (0, 0), sigma[1], borderType=cv2.BORDER_CONSTANT)
    return blurred.reshape(rows, columns, depth, channels).transpose(2, 0, 1, 3)
