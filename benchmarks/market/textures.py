"""What the second set's surfaces are covered with: procedural albedo, relief and cut-outs, irregular at every scale.

A material is called as `material(rng, high, wide, density)`: metres, and texels per metre. It gives a `Sheet` whose row
0 is its upper edge.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Rng = np.random.Generator
LETTERS = "ABDEFGHKLMNOPRSTUVWZ&"


@dataclass
class Sheet:
    """A painted rectangle."""

    rgb: np.ndarray  # (H, W, 3) float32, linear albedo
    height: np.ndarray  # (H, W) float32, metres out of the surface
    density: float  # texels per metre
    alpha: np.ndarray | None = None  # (H, W) float32, 0 where nothing is; None where all is covered

    def lay(self, other: "Sheet", left: float, top: float) -> None:
        """Puts a smaller sheet over this one, at metres from the upper left corner; parts beyond its edges are cut."""
        x, y = max(round(left * self.density), 0), max(round(top * self.density), 0)
        high, wide = (min(a, b - c) for a, b, c in zip(other.rgb.shape, self.rgb.shape, (y, x), strict=False))
        if high <= 0 or wide <= 0:
            return
        part = slice(y, y + high), slice(x, x + wide)
        cover = np.ones((high, wide), np.float32) if other.alpha is None else other.alpha[:high, :wide]
        self.rgb[part] += cover[..., None] * (other.rgb[:high, :wide] - self.rgb[part])
        self.height[part] += cover * (other.height[:high, :wide] - self.height[part])


Material = Callable[[Rng, float, float, float], Sheet]


def grid(high: float, wide: float, density: float) -> tuple[int, int]:
    """Rows and columns of a sheet of so many metres."""
    return max(round(high * density), 4), max(round(wide * density), 4)


def noise(rng: Rng, shape: tuple[int, int], cell: tuple[float, float] | float) -> np.ndarray:
    """Smooth noise, about -1..1, of one scale: `cell` texels down and across between its knots."""
    down, across = cell if isinstance(cell, tuple) else (cell, cell)
    knots = rng.uniform(-1, 1, (int(shape[0] / max(down, 1)) + 4, int(shape[1] / max(across, 1)) + 4))
    big = cv2.resize(knots.astype(np.float32), None, fx=max(across, 1), fy=max(down, 1), interpolation=cv2.INTER_CUBIC)
    y, x = (int(rng.integers(0, a - b + 1)) for a, b in zip(big.shape, shape, strict=True))
    return big[y : y + shape[0], x : x + shape[1]]


def layers(rng: Rng, shape: tuple[int, int], cell: float, octaves: int = 5, fall: float = 0.6) -> np.ndarray:
    """Noise at several scales, about -1..1, each half as wide as the one before."""
    found, weight, total = np.zeros(shape, np.float32), 1.0, 0.0
    for octave in range(octaves):
        found += weight * noise(rng, shape, cell / 2**octave)
        total += weight**2
        weight *= fall
    return found / np.float32(1.3 * total**0.5)


def step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours `b` over `a` by (H, W) shares."""
    return a + share[..., None] * (b - a)


def colour(*rgb: float) -> np.ndarray:
    """Linear albedo of an sRGB-like colour in 0..1."""
    return np.array(rgb, np.float32) ** np.float32(2.2)


def weather(rng: Rng, sheet: Sheet, foot: float = 0.5, streaks: float = 0.3, patches: float = 0.35) -> Sheet:
    """Dirt that rain and feet leave: a dark damp foot, streaks downwards, patches, grain."""
    shape, density = sheet.height.shape, sheet.density
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    up = (shape[0] - rows) / density
    damp = step(0.9, 0.0, up + 0.35 * layers(rng, shape, 0.6 * density)) * foot
    run = step(0.15, 0.9, noise(rng, shape, (2.5 * density, 0.07 * density)) + 0.4 * layers(rng, shape, 0.8 * density))
    blot = step(0.1, 0.8, layers(rng, shape, 1.3 * density, 6))
    dark = (1 - damp * 0.75) * (1 - streaks * run) * (1 - patches * blot)
    fine = 1 + 0.16 * layers(rng, shape, 0.06 * density, 3) + 0.12 * noise(rng, shape, 1)
    sheet.rgb *= np.maximum(dark * fine, 0.08)[..., None]
    moss = damp * step(0.2, 0.7, layers(rng, shape, 0.25 * density))
    sheet.rgb[...] = mix(sheet.rgb, colour(0.22, 0.27, 0.16), 0.6 * moss)
    return sheet


def brick(body: np.ndarray, mortar: np.ndarray = colour(0.62, 0.58, 0.52)) -> Material:  # noqa: B008
    """Brickwork in stretcher bond, no brick like another."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        shape = grid(high, wide, density)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / np.float32(density)
        y += 0.006 * noise(rng, shape, 0.4 * density)
        x += 0.006 * noise(rng, shape, 0.3 * density)
        rows, columns = int(high / 0.078) + 3, int(wide / 0.235) + 4
        row = np.floor(y / 0.078).astype(np.int32).clip(0, rows - 1)
        x += (0.1175 * (np.arange(rows) % 2) + rng.normal(0, 0.012, rows)).astype(np.float32)[row] + 0.03
        column = np.floor(x / 0.235).astype(np.int32).clip(0, columns - 1)
        dy, dx = y - row * np.float32(0.078), x - column * np.float32(0.235)
        edge = np.minimum(np.minimum(dx, 0.235 - dx), np.minimum(dy, 0.078 - dy))
        edge += 0.0025 * layers(rng, shape, 0.05 * density, 3)
        stone = step(0.003, 0.009, edge)
        tones = body * np.exp(rng.normal(0, 0.26, (rows, columns, 1)) + rng.normal(0, 0.09, (rows, columns, 3)))
        odd = rng.random((rows, columns))
        tones[odd < 0.07] *= 0.42
        tones[odd > 0.93] = tones[odd > 0.93] * 0.5 + 0.22
        rgb = mix(mortar * np.ones(3, np.float32), tones.astype(np.float32)[row, column], stone)
        lost = step(0.55, 0.75, layers(rng, shape, 0.5 * density))  # spalled faces
        rgb *= (1 - 0.35 * lost)[..., None]
        relief = 0.007 * stone + 0.003 * layers(rng, shape, 0.05 * density, 3) - 0.004 * lost
        relief += rng.normal(0, 0.0025, (rows, columns)).astype(np.float32)[row, column] * stone
        return weather(rng, Sheet(rgb.astype(np.float32), relief.astype(np.float32), density))

    return make


def plaster(tone: np.ndarray, under: np.ndarray = colour(0.60, 0.36, 0.27), worn: float = 0.62) -> Material:  # noqa: B008
    """Painted plaster with cracks and fallen patches that show bricks."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        shape = grid(high, wide, density)
        fade = layers(rng, shape, 1.7 * density, 6)
        rgb = tone * (1 + 0.13 * fade)[..., None] * np.ones(3, np.float32)
        second = step(0.25, 0.5, layers(rng, shape, 0.9 * density, 6))  # an older coat shines through
        rgb = mix(rgb, 0.55 * tone + 0.16, 0.45 * second)
        crack = np.abs(layers(rng, shape, 0.9 * density, 5, 0.5))
        crack = step(0.012, 0.004, crack) * step(-0.1, 0.4, noise(rng, shape, 1.2 * density))
        rgb *= (1 - 0.6 * crack)[..., None]
        relief = 0.004 * layers(rng, shape, 0.12 * density, 4) - 0.004 * crack
        low = np.linspace(-0.25, 0.22, shape[0], dtype=np.float32)[:, None] ** 3 * 14
        fallen = step(worn, worn + 0.03, layers(rng, shape, 0.9 * density, 6) + low)
        bricks = brick(under)(rng, high, wide, density)
        rim = fallen * (1 - step(worn + 0.03, worn + 0.09, layers(rng, shape, 0.9 * density, 6) + low))
        rgb = mix(rgb, bricks.rgb, fallen) * (1 - 0.15 * rim)[..., None]
        relief = relief + fallen * (bricks.height - 0.018)
        return weather(rng, Sheet(rgb.astype(np.float32), relief.astype(np.float32), density), 0.45, 0.17)

    return make


def cobbles(rng: Rng, high: float, wide: float, density: float) -> Sheet:
    """Setts in wavy rows, a worn gutter along the middle, puddle stains, straw and litter."""
    shape = grid(high, wide, density)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / np.float32(density)
    y, x = y + 0.05 * noise(rng, shape, 1.6 * density), x + 0.05 * noise(rng, shape, 1.3 * density)
    y, x = y / np.float32(0.115) + 2, x / np.float32(0.145) + 2
    x += (0.5 * (np.floor(y) % 2)).astype(np.float32)
    size = int(y.max()) + 3, int(x.max()) + 3
    jitter = rng.uniform(-0.27, 0.27, (*size, 2)).astype(np.float32)
    row, column = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    nearest = np.full(shape, 9, np.float32)
    second = nearest.copy()
    mine = np.zeros(shape, np.int32)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            r, c = (row + dr).clip(0, size[0] - 1), (column + dc).clip(0, size[1] - 1)
            spot = r * size[1] + c
            offset = jitter.reshape(-1, 2)[spot]
            ry = np.abs(y - r - 0.5 - offset[..., 0])
            # Neighbouring rows lie half a stone apart, which shifts their knots as well.
            rx = np.abs(x - c - 0.5 - offset[..., 1] + 0.5 * ((r - row) % 2))
            away = (ry**3 + rx**3) ** np.float32(1 / 3)
            closer = away < nearest
            second = np.where(closer, nearest, np.minimum(second, away))
            mine = np.where(closer, spot, mine)
            nearest = np.minimum(nearest, away)
    gap = second - nearest + 0.05 * layers(rng, shape, 0.06 * density, 3)
    stone = step(0.03, 0.16, gap)
    tones = colour(0.50, 0.48, 0.46) * np.exp(
        rng.normal(0, 0.30, (size[0] * size[1], 1)) + rng.normal(0, 0.07, (size[0] * size[1], 3))
    )
    rgb = mix(colour(0.25, 0.22, 0.18) * np.ones(3, np.float32), tones.astype(np.float32)[mine], stone)
    sheet = Sheet(rgb.astype(np.float32), np.zeros(shape, np.float32), density)
    sheet.height = (0.016 * np.sqrt(np.clip(gap, 0, 0.7)) + 0.004 * layers(rng, shape, 0.05 * density, 3)).astype(
        np.float32
    )
    stain = step(0.0, 0.7, layers(rng, shape, 1.9 * density, 7))
    wet = step(0.35, 0.5, layers(rng, shape, 1.1 * density, 6))
    sheet.rgb *= ((1 - 0.4 * stain) * (1 - 0.45 * wet) * (1 + 0.2 * noise(rng, shape, 1)))[..., None]
    grass = step(0.3, 0.8, layers(rng, shape, 0.7 * density)) * (1 - stone)
    sheet.rgb = mix(sheet.rgb, colour(0.30, 0.36, 0.16), 0.8 * grass).astype(np.float32)
    scatter(rng, sheet, round(9 * high * wide))
    return sheet


def scatter(rng: Rng, sheet: Sheet, count: int) -> None:
    """Small litter: straw, leaves, paper."""
    rows, columns = sheet.height.shape
    kinds = (colour(0.78, 0.66, 0.38), colour(0.55, 0.34, 0.16), colour(0.85, 0.83, 0.78), colour(0.35, 0.42, 0.18))
    for _ in range(count):
        x, y = rng.uniform(0, columns), rng.uniform(0, rows)
        tone = kinds[int(rng.choice(4, p=[0.5, 0.27, 0.08, 0.15]))] * rng.uniform(0.5, 1.1)
        long, thin, turn = rng.uniform(0.02, 0.07), rng.uniform(0.006, 0.02), rng.uniform(0, 180)
        axes = max(round(long * sheet.density), 1), max(round(thin * sheet.density), 0)
        cv2.ellipse(sheet.rgb, (int(x), int(y)), axes, turn, 0, 360, tone.tolist(), -1, cv2.LINE_AA)


def planks(tone: np.ndarray, board: float = 0.14, upright: bool = False, worn: float = 0.4) -> Material:
    """Boards with grain, gaps and nails; `upright` ones stand."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        shape = grid(*((wide, high) if upright else (high, wide)), density)
        y = np.arange(shape[0], dtype=np.float32)[:, None] / np.float32(density)
        count = int(y[-1, 0] / board) + 2
        which = np.minimum((y / np.float32(board)).astype(np.int32), count - 1)
        edge = np.minimum(y - which * np.float32(board), (which + 1) * np.float32(board) - y)
        open_ = step(0.008, 0.002, edge + 0.003 * noise(rng, shape, (4, 0.3 * density)))
        warp = 2.0 * noise(rng, shape, (0.2 * density, 0.8 * density))
        grain = noise(rng, shape, (0.012 * density, 0.5 * density)) + 0.6 * noise(rng, shape, (1, 0.15 * density))
        rings = np.sin(y * np.float32(220) + 9 * warp + 40 * rng.random(count)[which].astype(np.float32))
        tones = tone * np.exp(rng.normal(0, 0.24, (count, 1)) + rng.normal(0, 0.05, (count, 3)))
        rgb = tones.astype(np.float32)[which] * (1 + 0.22 * grain + 0.10 * rings)[..., None]
        faded = step(1 - 2 * worn, 1.0, layers(rng, shape, 0.5 * density))
        rgb = mix(rgb, rgb.mean(axis=-1, keepdims=True) * 1.25 + 0.03, 0.6 * faded)
        rgb *= (1 - 0.8 * open_)[..., None]
        relief = (0.0015 * grain - 0.008 * open_ + rng.normal(0, 0.001, count)[which]).astype(np.float32)
        if upright:
            rgb, relief = np.rot90(rgb), np.rot90(relief)
        shape = relief.shape
        sheet = Sheet(
            np.ascontiguousarray(rgb, np.float32), np.ascontiguousarray(relief * np.ones(shape, np.float32)), density
        )
        return weather(rng, sheet, 0.25, 0.12, 0.25)

    return make


def stripes(first: np.ndarray, second: np.ndarray, width: float = 0.22, scallop: bool = False) -> Material:
    """Awning cloth: bleached stripes that run down it, folds and stains; a scalloped lower edge where asked."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        shape = grid(high, wide, density)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / np.float32(density)
        x += 0.012 * noise(rng, shape, 0.5 * density)
        band = step(-0.06, 0.06, np.sin(np.pi * x / np.float32(width)))
        rgb = mix(first * np.ones(3, np.float32), second, band)
        bleach = step(-0.2, 0.9, layers(rng, shape, 0.8 * density))
        rgb = mix(rgb, rgb * 0.6 + 0.25, 0.4 * bleach)
        weave = 1 + 0.07 * noise(rng, shape, 1) + 0.05 * np.sin(x * 400)
        fold = noise(rng, shape, (1.5 * density, 0.16 * density))
        rgb *= (weave * (1 - 0.1 * step(0.2, 1, fold)))[..., None]
        sheet = Sheet(rgb.astype(np.float32), (0.012 * fold).astype(np.float32), density)
        if scallop:
            reach = high * (0.62 + 0.36 * np.abs(np.sin(np.pi * x / np.float32(width))))
            sheet.alpha = (y < reach).astype(np.float32)
        return weather(rng, sheet, 0.1, 0.2, 0.25)

    return make


def tiles(tone: np.ndarray) -> Material:
    """Pantiles: rows of curved tiles, each with its own colour, some slipped, lichen on them."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        shape = grid(high, wide, density)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / np.float32(density)
        columns, rows = int(wide / 0.2) + 3, int(high / 0.26) + 3
        x += 0.008 * noise(rng, shape, 0.5 * density)
        column = (x / np.float32(0.2)).astype(np.int32).clip(0, columns - 1)
        y += rng.normal(0, 0.02, columns).astype(np.float32)[column] + 0.01 * noise(rng, shape, 0.4 * density)
        row = (y.clip(0) / np.float32(0.26)).astype(np.int32).clip(0, rows - 1)
        fx, fy = x / np.float32(0.2) - column, y / np.float32(0.26) - row
        curve = np.sin(np.pi * fx.clip(0, 1))
        tones = tone * np.exp(rng.normal(0, 0.25, (rows, columns, 1)) + rng.normal(0, 0.08, (rows, columns, 3)))
        rgb = tones.astype(np.float32)[row, column] * (0.55 + 0.45 * curve)[..., None]
        rgb *= (1 - 0.65 * step(0.90, 0.99, fy) - 0.2 * step(0.12, 0.0, fy))[..., None]
        lichen = step(0.3, 0.6, layers(rng, shape, 0.3 * density))
        rgb = mix(rgb, colour(0.55, 0.56, 0.42), 0.4 * lichen)
        return weather(
            rng, Sheet(rgb.astype(np.float32), (0.03 * curve + 0.02 * fy).astype(np.float32), density), 0.1, 0.2, 0.4
        )

    return make


def cloth(tone: np.ndarray) -> Material:
    """Hung or laid cloth with folds."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        shape = grid(high, wide, density)
        fold = noise(rng, shape, (0.9 * density, 0.11 * density)) + 0.5 * noise(rng, shape, 0.25 * density)
        rgb = tone * (1 + 0.12 * fold + 0.1 * layers(rng, shape, 0.4 * density))[..., None] * np.ones(3, np.float32)
        rgb *= (1 + 0.08 * noise(rng, shape, 1))[..., None]
        return Sheet(rgb.astype(np.float32), (0.018 * fold).astype(np.float32), density)

    return make


def stone(tone: np.ndarray = colour(0.66, 0.63, 0.57)) -> Material:  # noqa: B008
    """Dressed stone: sills, steps, cornices."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        shape = grid(high, wide, density)
        rough = layers(rng, shape, 0.2 * density, 5)
        rgb = tone * (1 + 0.2 * rough)[..., None] * np.ones(3, np.float32)
        pits = step(0.55, 0.8, layers(rng, shape, 0.04 * density, 2))
        rgb *= (1 - 0.5 * pits)[..., None]
        sheet = Sheet(rgb.astype(np.float32), (0.004 * rough - 0.004 * pits).astype(np.float32), density)
        return weather(rng, sheet, 0.1, 0.35, 0.4)

    return make
