"""Guidance: what photos of the other day saw where a plate was taken corrects a look's gains for that frame.

A look guesses from what it sees; guidance, made beforehand by `relightgan locate`, knows for many pixels what the light
did at that very place. Its difference from the look's own gains is gathered in the cells of the look's grid (as in the
bilateral grid of Chen, Paris and Durand, SIGGRAPH 2007), smoothed a little, and divided by the trust in it plus some
trust in the look. So a cell that guidance says much about follows it. One that it says nothing about follows what is
said of the same brightness around it, the less the farther that is; far from everything it stays as it was.

Guidance can be wrong as well: at edges of depth it takes a thing for what lies behind it. A look tells by how much its
own gains are likely to be off, and guidance that differs by many times that is believed the less the more it does (the
weight of a Cauchy distribution; Holland and Welsch 1977). So where the light is plain to see it needs no correction.

A grid holds stops for cells across and down the frame and for steps of brightness around the frame's own mean, which
the frame's guide tells of each pixel. It ends at white, as photos do; what a plate has above, its cells' roll-off takes
away or leaves. This is the reading of both, in numpy, that `training.gain_grid` writes down for networks (but for the
contrast of texture, which is none of light); `check_grid` proves it on each look.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from relightgan.core.colour import luminance
from relightgan.core.errors import LookError
from relightgan.core.look import GUIDE, Operator
from relightgan.core.session import LookSession

# Operators that are read, and `look.GUIDE`; only the grid is changed.
GRID, ANCHOR, DOUBT, WHITE, ROLLOFF = "grid", "anchor", "doubt", "white", "rolloff"
READ = (GRID, ANCHOR, DOUBT, GUIDE, WHITE, ROLLOFF)
FAINTEST = 2.0**-100  # linear; no logarithm sees less
DARKEST_STOPS = -10.0  # around the frame's mean; what is darker counts as so dark
GUIDE_STOPS = (-6.0, 4.0)  # ends of the brightness axis, around the frame's mean
ROLLED_STOPS = 2.0  # above white; what a plate has beyond them stays on top: suns and lamps stand out of any sky

# A grid is made finer before it is corrected. Odd, as the old cells' middles are then among the new ones': linear
# interpolation between the new cells gives just what it gave between the old ones.
FINER = 3
LEAST_CONFIDENCE = 0.4  # of pixels that are listened to: those below do more harm than good
MOST_STOPS = 3.0  # of a correction: more is a mistake
MOST_DISAGREEMENT = 1.5  # stops between guidance and look in the median; more, and they speak of different things
# Trust is counted in pixels of full confidence, as a share of those that lie over a cell.
LOOK_TRUST = 0.03  # in the look, or in what is said around a cell
AROUND_TRUST = 0.05  # in the look against what is said around a cell
DOUBTS = 4.0  # times the error that a look expects of itself: guidance that differs so much is half believed
NEAR = (0.3, 0.6)  # sigma of the smoothing, in steps of brightness and in cells of the finer grid
AROUND = (0.5, 8.0)  # sigma of what counts as around
CHECKED_STOPS = 1e-3  # by which our reading of a look's grid may differ from the look's own


@dataclass(frozen=True, eq=False)
class Guidance:
    """What photos say of a frame, on a raster that lies over its data window from edge to edge.

    Attributes:
        gain: (h, w, 3) float32 stops from the plate's day to the other, in the look's primaries.
        least: (h, w, 3) bool, where the gain is at least so much: the other day's photos were clipped there.
        confidence: (h, w) float32, 0..1; 0 where nothing is known.
    """

    gain: np.ndarray
    least: np.ndarray
    confidence: np.ndarray


def corrected(operator: Operator, light: np.ndarray, guidance: Guidance) -> Operator:
    """A frame's operator, corrected by guidance.

    Args:
        operator: with a `grid` (3 * depth, gh, gw) of stops, an `anchor` (1, 1, 1) in stops and a `white` (1, 1, 1) in
            stops above it, a `doubt` (1, h, w) in stops, a `guide` (2, h, w) and a `rolloff` (1, gh, gw).
        light: (H, W, 3) float32 the frame, as it was predicted from.
        guidance: of the frame.

    Returns:
        The same with a finer grid; `operator` itself where guidance says nothing, or contradicts the look throughout.
    """
    trust = np.where(guidance.confidence >= LEAST_CONFIDENCE, guidance.confidence, 0).astype(np.float64)
    if not trust.any():
        return operator
    grid = operator[GRID]
    depth = len(grid) // 3
    rows, columns = trust.shape
    # Held where the roll-off ends: a lamp of a few pixels shouldn't speak for all around it.
    brightest = np.float32(2.0 ** (stops_of(operator, ANCHOR) + stops_of(operator, WHITE) + ROLLED_STOPS))
    small = cv2.resize(np.minimum(light, brightest), (columns, rows), interpolation=cv2.INTER_AREA)
    steps = brightness_steps(small, operator)
    residual = guidance.gain - sliced(grid, steps) + rolled_off(small, operator)
    residual = np.where(guidance.least, np.maximum(residual, 0), residual)
    if weighted_median(np.abs(residual).mean(axis=-1), trust) > MOST_DISAGREEMENT:
        return operator
    residual = np.clip(residual, -MOST_STOPS, MOST_STOPS)
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


def check_grid(session: LookSession) -> None:
    """Makes sure that a look has a grid and reads it as this module does, by comparing both on made-up values.

    Raises:
        LookError: it doesn't.
    """
    path, operators = session.look.path, session.look.facts.operators
    fix = "Guidance is for `relight` looks; fit one, or leave --guidance out."
    again = "Fit it again with this version, or leave --guidance out."
    if not {GRID, ANCHOR} <= set(operators):
        raise LookError(f"{path} has no grid of gains that guidance could correct.", fix)
    for name in READ:
        if name not in operators:
            problem = f"{path} was fitted by an older version and tells no {name}."
            raise LookError(problem, again)
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
        # Each pixel's own brightness leaves no texture to be given more contrast than the grid says.
        GUIDE: np.stack([np.ones_like(operator[GUIDE][0]), np.zeros_like(operator[GUIDE][0])]),
        WHITE: np.full((1, 1, 1), 2.0, np.float32),
        ROLLOFF: rng.uniform(0, 1, operator[ROLLOFF].shape).astype(np.float32),
    }
    own = np.log2(session.apply(light, made_up) / light)
    read = sliced(made_up[GRID], brightness_steps(light, made_up)) - rolled_off(light, made_up)
    off = float(np.abs(own - read).max())
    if not off <= CHECKED_STOPS:
        raise LookError(f"{path} reads its grid in another way than this version, by {off:.2g} stops.", again)


def upsampled(guidance: Guidance, height: int, width: int) -> np.ndarray:
    """(height, width, 3) the gains that guidance asks for, smoothly; 0 where it says nothing."""
    known = (guidance.confidence > 0).astype(np.float32)
    layers = np.dstack([guidance.gain * known[..., None], known]).astype(np.float32)
    large = cv2.resize(layers, (width, height), interpolation=cv2.INTER_LINEAR)
    share = large[..., 3:]
    found: np.ndarray = np.where(share > 0, large[..., :3] / np.maximum(share, 1e-6), 0)
    return found


def brightness_steps(light: np.ndarray, operator: Operator) -> np.ndarray:
    """(H, W) place of pixels (H, W, 3) on the brightness axis of their frame's grid, 0..depth - 1."""
    depth, (low, high) = len(operator[GRID]) // 3, GUIDE_STOPS
    above = np.minimum(guide_stops(light, operator), stops_of(operator, WHITE))
    steps: np.ndarray = np.clip((above - low) * ((depth - 1) / (high - low)), 0, depth - 1)
    return steps


def rolled_off(light: np.ndarray, operator: Operator) -> np.ndarray:
    """(H, W, 3) stops by which channels of pixels (H, W, 3) above white get less than their grid says."""
    colour = np.log2(np.maximum(light, np.float32(FAINTEST))) - own_stops(light, operator)[..., None]
    above = guide_stops(light, operator)[..., None] + colour - stops_of(operator, WHITE)
    share = cv2.resize(operator[ROLLOFF][0], (light.shape[1], light.shape[0]), interpolation=cv2.INTER_LINEAR)
    taken: np.ndarray = np.clip(above, 0, ROLLED_STOPS) * share[..., None]
    return taken


def sliced(grid: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(H, W, 3) gains of pixels that lie evenly over a grid (3 * depth, gh, gw); `steps` from `brightness_steps`."""
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


def guide_stops(light: np.ndarray, operator: Operator) -> np.ndarray:
    """(H, W) the guide of pixels (H, W, 3), in stops above the frame's mean."""
    size = (light.shape[1], light.shape[0])
    finer = operator[GUIDE].shape[1] >= size[1] and operator[GUIDE].shape[2] >= size[0]
    how = cv2.INTER_AREA if finer else cv2.INTER_LINEAR
    slope, offset = (cv2.resize(plane, size, interpolation=how) for plane in operator[GUIDE])
    above: np.ndarray = slope * own_stops(light, operator) + offset - stops_of(operator, ANCHOR)
    return above


def own_stops(light: np.ndarray, operator: Operator) -> np.ndarray:
    """(H, W) log2 luminance of pixels (H, W, 3), held at `DARKEST_STOPS` around the frame's mean."""
    darkest = np.float32(2.0 ** (stops_of(operator, ANCHOR) + DARKEST_STOPS))
    stops: np.ndarray = np.log2(np.maximum(luminance(light), darkest))
    return stops


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
