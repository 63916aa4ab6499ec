"""Things of the second set that are painted onto surfaces: windows, doors, posters, signs, fruit, leaves, wheels."""

import cv2
import numpy as np

from benchmarks.market.textures import (
    LETTERS,
    Material,
    Rng,
    Sheet,
    brick,
    colour,
    grid,
    layers,
    mix,
    noise,
    planks,
    plaster,
    step,
    weather,
)

PAINTS = [
    colour(0.20, 0.36, 0.33), colour(0.45, 0.20, 0.17), colour(0.22, 0.32, 0.50), colour(0.55, 0.50, 0.40),
    colour(0.30, 0.40, 0.24), colour(0.36, 0.26, 0.19), colour(0.62, 0.60, 0.55), colour(0.50, 0.36, 0.16),
]  # fmt: skip
INKS = [
    colour(0.75, 0.16, 0.12), colour(0.14, 0.24, 0.48), colour(0.92, 0.76, 0.22), colour(0.13, 0.13, 0.14),
    colour(0.16, 0.42, 0.26), colour(0.90, 0.88, 0.80), colour(0.80, 0.45, 0.14), colour(0.48, 0.20, 0.42),
]  # fmt: skip
FRUIT = [
    colour(0.80, 0.18, 0.12), colour(0.92, 0.52, 0.10), colour(0.90, 0.78, 0.20), colour(0.40, 0.58, 0.18),
    colour(0.42, 0.16, 0.30), colour(0.72, 0.60, 0.38), colour(0.24, 0.40, 0.16),
]  # fmt: skip


def pick(rng: Rng, colours: list[np.ndarray]) -> np.ndarray:
    """One of them, a little off."""
    return colours[int(rng.integers(len(colours)))] * np.float32(rng.uniform(0.75, 1.2))


def frame(rng: Rng, sheet: Sheet, box: tuple[float, float, float, float], tone: np.ndarray, out: float) -> None:
    """A filled rectangle (left, top, right, bottom in metres) with uneven paint, `out` metres proud."""
    left, top, right, bottom = (max(round(each * sheet.density), 0) for each in box)
    part = slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))
    shape = sheet.height[part].shape
    if 0 not in shape:
        sheet.rgb[part] = tone * (1 + 0.12 * layers(rng, shape, 0.3 * sheet.density))[..., None]
        sheet.height[part] = out


def window(rng: Rng, high: float, wide: float, density: float) -> Sheet:
    """A casement: stone surround, painted frame, panes that show curtains, darkness and a little sky."""
    shape = grid(high, wide, density)
    sheet = Sheet(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32), density)
    stone = colour(0.66, 0.62, 0.55) * rng.uniform(0.75, 1.15)
    frame(rng, sheet, (0, 0, wide, high), stone, 0.03)
    weather(rng, sheet, 0.1, 0.3, 0.35)
    edge, paint = 0.1, pick(rng, PAINTS)
    frame(rng, sheet, (edge, edge, wide - edge, high), colour(0.06, 0.06, 0.06), -0.05)
    frame(rng, sheet, (edge + 0.02, edge + 0.05, wide - edge - 0.02, high), paint, -0.02)
    columns, rows = 2 if wide < 1.25 else 3, max(round((high - 0.2) / 0.42), 2)
    inner = (edge + 0.07, edge + 0.1, wide - edge - 0.07, high - 0.06)
    curtain = pick(rng, INKS) * 0.3 + 0.25 if rng.random() < 0.6 else None
    for column in range(columns):
        for row in range(rows):
            x = inner[0] + (inner[2] - inner[0]) * np.array([column, column + 1]) / columns
            y = inner[1] + (inner[3] - inner[1]) * np.array([row, row + 1]) / rows
            box = (x[0] + 0.018, y[0] + 0.018, x[1] - 0.018, y[1] - 0.018)
            shine = rng.uniform(0.4, 1.0) * (1 - 0.5 * row / rows)
            glass = colour(0.13, 0.15, 0.17) + shine * colour(0.24, 0.28, 0.33)
            if curtain is not None and (row < rows * 0.5 or column != columns // 2):
                glass = 0.5 * glass + 0.35 * curtain * rng.uniform(0.7, 1.1)
            frame(rng, sheet, box, glass, -0.03)
    return sheet


def door(rng: Rng, high: float, wide: float, density: float) -> Sheet:
    """A door of painted planks with a stone surround, a step of wear at its foot, a number and a letter flap."""
    shape = grid(high, wide, density)
    sheet = Sheet(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32), density)
    frame(rng, sheet, (0, 0, wide, high), colour(0.6, 0.57, 0.5) * rng.uniform(0.8, 1.1), 0.04)
    weather(rng, sheet, 0.5, 0.3, 0.4)
    frame(rng, sheet, (0.13, 0.13, wide - 0.13, high), colour(0.07, 0.06, 0.05), -0.08)
    tone = pick(rng, PAINTS)
    leaf = planks(tone, 0.15, upright=True, worn=0.3)(rng, high - 0.2, wide - 0.36, density)
    sheet.lay(leaf, 0.18, 0.18)
    for y in (0.45, high - 0.45):
        frame(rng, sheet, (0.2, y, wide - 0.22, y + 0.08), tone * 0.5, 0.0)
    frame(rng, sheet, (wide - 0.32, high * 0.52, wide - 0.27, high * 0.52 + 0.14), colour(0.7, 0.55, 0.25), 0.02)
    number = letters(rng, 0.14, 0.2, density, colour(0.2, 0.25, 0.5), colour(0.9, 0.9, 0.85), "0123456789", 2)
    sheet.lay(number, wide / 2 - 0.1, 0.24)
    return sheet


def shop(rng: Rng, high: float, wide: float, density: float) -> Sheet:
    """A shop front: a lettered board above, goods behind glass, panelled wood below."""
    shape = grid(high, wide, density)
    sheet = Sheet(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32), density)
    paint = pick(rng, PAINTS)
    frame(rng, sheet, (0, 0, wide, high), paint, 0.03)
    sheet.lay(letters(rng, 0.45, wide - 0.2, density, paint * 0.6, colour(0.92, 0.82, 0.5)), 0.1, 0.06)
    frame(rng, sheet, (0.15, 0.62, wide - 0.15, high - 0.75), colour(0.14, 0.13, 0.12), -0.04)
    for _ in range(round(42 * wide)):
        x, y = rng.uniform(0.2, wide - 0.3), 0.7 + 0.36 * rng.integers(0, 4) + rng.uniform(0.1, 0.2)
        tall = rng.uniform(0.06, 0.2)
        if y + tall < high - 0.8:
            box = (x, y + 0.2 - tall, min(x + rng.uniform(0.03, 0.16), wide - 0.17), y + 0.16)
            frame(rng, sheet, box, 0.22 * pick(rng, INKS) + 0.06, -0.04)
    # The glass before them shows a little of the street.
    edge = round(0.15 * density)
    pane = slice(round(0.62 * density), round((high - 0.75) * density)), slice(edge, -edge)
    shine = step(-0.6, 0.8, layers(rng, sheet.height[pane].shape, 0.9 * density, 4))
    sheet.rgb[pane] = mix(0.6 * sheet.rgb[pane], colour(0.34, 0.37, 0.40), 0.15 + 0.3 * shine)
    for x in np.linspace(0.15, wide - 0.2, max(round(wide / 0.8), 1) + 1):
        frame(rng, sheet, (x, 0.62, x + 0.05, high - 0.75), paint, 0.0)
    for x in np.arange(0.15, wide - 0.5, 0.62):
        frame(rng, sheet, (x, high - 0.62, x + 0.5, high - 0.14), paint * 0.6, 0.0)
        frame(rng, sheet, (x + 0.04, high - 0.58, x + 0.46, high - 0.18), paint * 1.1, 0.02)
    return weather(rng, sheet, 0.4, 0.15, 0.25)


def letters(
    rng: Rng, high: float, wide: float, density: float, ground: np.ndarray, ink: np.ndarray,
    alphabet: str = LETTERS, count: int | None = None,
) -> Sheet:  # fmt: skip
    """A painted board with marks like lettering."""
    shape = grid(high, wide, density)
    rgb = ground * (1 + 0.15 * layers(rng, shape, 0.3 * density))[..., None] * np.ones(3, np.float32)
    marks = np.zeros(shape, np.uint8)
    text = "".join(rng.choice(list(alphabet), count or max(round(wide / high * 1.1), 2)))
    face = int(rng.choice([cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX]))
    (across, up), _ = cv2.getTextSize(text, face, 1, 2)
    size = min(shape[1] * 0.9 / across, shape[0] * 0.62 / up)
    spot = int((shape[1] - across * size) / 2), int((shape[0] + up * size) / 2)
    cv2.putText(marks, text, spot, face, size, 255, max(round(size * 2.4), 1), cv2.LINE_AA)
    worn = step(0.75, 0.35, layers(rng, shape, 0.1 * density))
    rgb = mix(rgb, ink, marks.astype(np.float32) / 255 * worn)
    return weather(rng, Sheet(rgb.astype(np.float32), np.zeros(shape, np.float32), density), 0.1, 0.2, 0.2)


def poster(rng: Rng, high: float, wide: float, density: float) -> Sheet:
    """A pasted bill with a picture, headline and small print, torn at its edges."""
    shape = grid(high, wide, density)
    paper = 0.5 * pick(rng, INKS) + 0.35 if rng.random() < 0.7 else pick(rng, INKS)
    rgb = np.tile(paper.astype(np.float32), (*shape, 1))
    for _ in range(int(rng.integers(3, 8))):
        spot = int(rng.uniform(0.1, 0.9) * shape[1]), int(rng.uniform(0.2, 0.65) * shape[0])
        axes = [max(int(rng.uniform(0.05, 0.3) * shape[1]), 1) for _ in range(2)]
        cv2.ellipse(rgb, spot, axes, rng.uniform(0, 180), 0, rng.uniform(120, 360), pick(rng, INKS).tolist(), -1)
    sheet = Sheet(rgb, np.full(shape, 0.002, np.float32), density)
    sheet.lay(letters(rng, 0.17 * high, wide * 0.94, density, paper, pick(rng, INKS)), wide * 0.03, high * 0.03)
    for y in np.arange(0.72, 0.95, 0.045):
        x = 0.08
        while x < 0.85:
            long = rng.uniform(0.03, 0.12)
            box = (x * wide, y * high, min(x + long, 0.92) * wide, (y + 0.022) * high)
            frame(rng, sheet, box, 0.3 * paper, 0.002)
            x += long + 0.025
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    edge = np.minimum(np.minimum(rows, shape[0] - rows), np.minimum(columns, shape[1] - columns)) / density
    sheet.alpha = step(0.0, 0.004, edge + 0.02 * layers(rng, shape, 0.12 * density) - 0.008).astype(np.float32)
    torn = step(0.55, 0.58, layers(rng, shape, 0.3 * density))
    sheet.alpha *= 1 - torn
    fold = noise(rng, shape, (0.05 * density, 0.6 * density))
    sheet.rgb *= (1 - 0.12 * step(0.4, 0.9, fold))[..., None]
    return weather(rng, sheet, 0.1, 0.3, 0.2)


def fruit(rng: Rng, high: float, wide: float, density: float) -> Sheet:
    """Goods heaped in a box, seen from above: each with its own colour, a light side and a shadow below."""
    shape = grid(high, wide, density)
    sheet = Sheet(np.full((*shape, 3), 0.02, np.float32), np.zeros(shape, np.float32), density)
    tone, size = pick(rng, FRUIT), rng.uniform(0.03, 0.055)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    for _ in range(round(2.6 * high * wide / size**2 / 3.14)):
        cx, cy, r = rng.uniform(0, shape[1]), rng.uniform(0, shape[0]), size * density * rng.uniform(0.8, 1.15)
        part = (
            slice(max(int(cy - r), 0), min(int(cy + r) + 2, shape[0])),
            slice(max(int(cx - r), 0), min(int(cx + r) + 2, shape[1])),
        )
        away = ((x[part] - cx) ** 2 + (y[part] - cy) ** 2) / r**2
        inside = away < 1
        dome = np.sqrt(np.clip(1 - away, 0, 1))
        each = tone * np.exp(rng.normal(0, 0.15, 3)) * rng.uniform(0.7, 1.25)
        sheet.rgb[part][inside] = (each * (0.35 + 0.65 * dome)[..., None])[inside]
        sheet.height[part][inside] = (0.25 * size * dome)[inside]
    return sheet


def foliage(tone: np.ndarray, fill: float = 0.55, leaf: float = 0.06, blossom: np.ndarray | None = None) -> Material:
    """Leaves on nothing: dense in the middle, ragged outside."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        shape = grid(high, wide, density)
        sheet = Sheet(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32), density)
        alpha = np.zeros(shape, np.uint8)
        sheet.rgb[:] = tone * 0.2
        y, x = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]
        bulk = 1 - np.sqrt(x**2 + y**2) + 0.75 * layers(rng, shape, 0.35 * max(high, wide) * density, 4)
        for pass_ in range(3):
            for _ in range(round(high * wide / leaf**2 * 1.6)):
                cx, cy = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
                if bulk[cy, cx] < 1 - fill - 0.08 * (2 - pass_):
                    continue
                light = (0.35 + 0.3 * pass_) * rng.uniform(0.6, 1.3)
                each = tone * light * np.exp(rng.normal(0, 0.12, 3))
                if blossom is not None and pass_ == 2 and rng.random() < 0.25:
                    each = blossom * rng.uniform(0.6, 1.1)
                long = leaf * density * rng.uniform(0.4, 0.75)
                axes, turn = (max(int(long), 1), max(int(long * 0.5), 1)), rng.uniform(0, 180)
                cv2.ellipse(sheet.rgb, (cx, cy), axes, turn, 0, 360, each.tolist(), -1)
                cv2.ellipse(alpha, (cx, cy), axes, turn, 0, 360, 255, -1)
                cv2.ellipse(sheet.height, (cx, cy), axes, turn, 0, 360, 0.02 * rng.random(), -1)
        sheet.alpha = alpha.astype(np.float32) / 255
        return sheet

    return make


def wheel(rng: Rng, high: float, wide: float, density: float) -> Sheet:
    """A cart wheel with spokes, cut out."""
    sheet = planks(colour(0.42, 0.30, 0.2), 0.05)(rng, high, wide, density)
    shape = sheet.height.shape
    alpha, middle, radius = np.zeros(shape, np.uint8), (shape[1] // 2, shape[0] // 2), shape[0] / 2
    cv2.circle(alpha, middle, int(radius * 0.92), 255, max(int(radius * 0.14), 1))
    cv2.circle(alpha, middle, max(int(radius * 0.2), 1), 255, -1)
    for turn in np.arange(10) * np.pi / 5 + 0.2:
        end = int(middle[0] + radius * 0.9 * np.cos(turn)), int(middle[1] + radius * 0.9 * np.sin(turn))
        cv2.line(alpha, middle, end, 255, max(int(radius * 0.08), 1))
    sheet.alpha = alpha.astype(np.float32) / 255
    return sheet


def gable(base: Material) -> Material:
    """A triangular wall of another material, its point up."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        sheet = base(rng, high, wide, density)
        rows, columns = sheet.height.shape
        y, x = np.linspace(0, 1, rows)[:, None], np.abs(np.linspace(-1, 1, columns))[None]
        sheet.alpha = (x < y).astype(np.float32)
        return sheet

    return make


def house(base: Material, openings: list[tuple[Material, float, float, float, float]], bills: int = 0) -> Material:
    """A front with things let in: (material, left, bottom above ground, width, height), and pasted bills.

    Walls darken below sills, where water runs off.
    """

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        sheet = base(rng, high, wide, density)
        for _ in range(bills):
            tall = rng.uniform(0.5, 0.95)
            bill = poster(rng, tall, tall * rng.uniform(0.65, 0.8), density)
            sheet.lay(bill, rng.uniform(0.1, wide - 0.8), high - rng.uniform(1.5, 2.3))
        for material, left, bottom, across, tall in openings:
            if bottom > 0.5:
                y, x = round((high - bottom) * density), round((left - 0.1) * density)
                part = slice(y, y + round(0.9 * density)), slice(max(x, 0), x + round((across + 0.2) * density))
                shape = sheet.height[part].shape
                if 0 not in shape:
                    run = step(-0.3, 0.7, noise(rng, shape, (1.2 * density, 0.06 * density)))
                    run = run * np.linspace(0.45, 0, shape[0], dtype=np.float32)[:, None]
                    sheet.rgb[part] *= (1 - run)[..., None]
            sheet.lay(material(rng, tall, across, density), left, high - bottom - tall)
        return sheet

    return make


RED_BRICK = brick(colour(0.56, 0.35, 0.28))
DARK_BRICK = brick(colour(0.46, 0.33, 0.28))
YELLOW_BRICK = brick(colour(0.70, 0.58, 0.40))
OCHRE = plaster(colour(0.80, 0.65, 0.42))
ROSE = plaster(colour(0.77, 0.55, 0.46))
LIME = plaster(colour(0.82, 0.80, 0.74), worn=0.55)
BLUE = plaster(colour(0.55, 0.64, 0.70))
