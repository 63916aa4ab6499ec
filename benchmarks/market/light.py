"""The second set's light: two skies, a sun, and light reflected by surfaces, stored in maps on every surface.

Radiance is on the pictures' scale: exposure is applied, 1.0 is white. Light maps hold irradiance over pi: albedo times
map is what a camera sees.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.market.boxes import Boxes, Scene, Surface, boxes_of, first_hits, texels_hit, within
from benchmarks.market.textures import Sheet, layers, step
from relightgan.training.photos.measuring import in_parallel

DAYS = "AB"
SUN_ELEVATION, SUN_AZIMUTH = 35.0, 217.0  # degrees; azimuth from x, the direction of the street, to the left
SUN_RADIUS = 0.006  # angular radius in radians; a little more than the real 0.0047
SUN = np.array([2.40, 1.95, 1.36], np.float32)  # irradiance / pi on a surface that faces the sun
OVERCAST = np.array([1.68, 1.78, 1.90], np.float32)  # radiance at the zenith
ZENITH, HORIZON = np.array([0.13, 0.24, 0.50], np.float32), np.array([0.52, 0.64, 0.82], np.float32)
GLOW = np.array([1.0, 0.85, 0.6], np.float32)
TEXELS_BETWEEN = 6.6  # texels of a texture per texel of the light map; half as many per texel of the sun map
PATTERN = 4  # the sets of directions repeat after this many texels
BLOCK = 512  # texels computed at a time
BOUNCES = 3  # number of reflections
HIDDEN = 0.01  # light on surfaces that no other light reaches


@dataclass(frozen=True)
class Detail:
    """The level of detail of the set; tests use a coarse one."""

    texture: float = 1.0  # factor on the texels per metre of textures
    light: float = 1.0  # factor on the texels per metre of light maps
    rays: int = 128  # rays from each texel to the sky
    sun_rays: int = 16  # rays from each texel to the disc of the sun


@dataclass(frozen=True)
class Painted:
    """A surface ready to be drawn."""

    levels: tuple[np.ndarray, ...]  # (H, W, 4) float32: albedo, sun on the relief over sun on a plane; then halves
    alphas: tuple[np.ndarray, ...]  # (H, W) float32 of the same sizes; empty where all is covered
    sky: dict[str, np.ndarray]  # by day (H, W, 3) float32: light of the sky and of other surfaces
    sun: np.ndarray  # (H, W) float32: share of SUN that a plane gets


def sun_direction() -> np.ndarray:
    """(3,) towards the sun."""
    up, around = np.radians(SUN_ELEVATION), np.radians(SUN_AZIMUTH)
    return np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])


class Sky:
    """Both skies, with the structure of clouds."""

    def __init__(self, seed: int) -> None:
        self.clouds = layers(np.random.default_rng([seed, 4]), (1024, 1024), 170, 7, 0.55)
        self.sun = sun_direction().astype(np.float32)

    def radiance(self, way: np.ndarray, day: str, clouds: bool = True) -> np.ndarray:
        """Radiance (..., 3) float32 along unit vectors (..., 3); below the horizon as at the horizon."""
        up = np.maximum(way[..., 2], 0)
        if day == "A":
            # CIE standard overcast sky: a third of the zenith's at the horizon; here a little more, as over towns.
            found = (0.42 + 0.58 * up)[..., None] * OVERCAST
            if clouds:
                depth = self.cloud(way)
                found *= (1 + 0.5 * depth)[..., None]
                found *= 1 + np.clip(-depth, 0, 1)[..., None] * np.array(
                    [-0.03, 0, 0.05], np.float32
                )  # dark ones are bluer
            return found
        near = np.clip(way @ self.sun, -1, 1)
        found = ZENITH + ((1 - up) ** 2.2)[..., None] * (HORIZON - ZENITH)
        found = found + (0.16 * np.exp(6 * (near - 1)) + 0.9 * np.exp(60 * (near - 1)))[..., None] * GLOW
        if clouds:
            found += (0.05 * step(0.15, 0.9, self.cloud(way * np.array([1, 0.35, 1], np.float32))))[..., None]
        return found

    def cloud(self, way: np.ndarray) -> np.ndarray:
        """Cloud structure, about -1..1, as on a flat layer far up."""
        place = way[..., :2] / (np.maximum(way[..., 2:], 0) + 0.22)
        maps = (place.reshape(-1, 2) * 190 + 512).astype(np.float32)
        return remap(self.clouds, maps[:, 0], maps[:, 1], cv2.BORDER_REFLECT).reshape(way.shape[:-1])


def remap(image: np.ndarray, x: np.ndarray, y: np.ndarray, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """Bilinear samples (N,) or (N, C) at pixel places (N,) float32."""
    # OpenCV takes pictures of up to 32767 columns.
    count = len(x)
    columns = min(count, 16384)
    rows = -(-count // columns)
    maps = [np.resize(each, rows * columns).reshape(rows, columns) for each in (x, y)]
    found = cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=border)
    return found.reshape(rows * columns, *image.shape[2:])[:count]


def in_threads(work: Callable, items: list, threads: int, on_done: Callable[[], None] = lambda: None) -> list:
    """The results of work on every item, in order; `on_done` is called after each."""
    found = []
    for _, result in in_parallel(work, items, threads):
        on_done()
        found.append(result)
    return found


def paint(
    scene: Scene, seed: int, detail: Detail, threads: int, on_done: Callable[[], None] = lambda: None
) -> list[Sheet]:  # fmt: skip
    """Every surface's sheet; each has its own random numbers, so that order doesn't matter."""

    def one(number: int) -> Sheet:
        surface = scene.surfaces[number]
        rng = np.random.default_rng([seed, 2, number])
        sheet = surface.material(rng, *surface.size, surface.density * detail.texture)
        # This lifts what materials and weather made too dark, and keeps the bright ones.
        sheet.rgb = np.clip(1.9 * sheet.rgb / (1 + 0.9 * sheet.rgb), 0.02, 0.9).astype(np.float32)
        return sheet

    return in_threads(one, list(range(len(scene.surfaces))), threads, on_done)


def light(
    scene: Scene, sheets: list[Sheet], sky: Sky, detail: Detail, threads: int,
    on_done: Callable[[], None] = lambda: None,
) -> list[Painted]:  # fmt: skip
    """Every surface with its maps of light; `on_done` is called twice for each."""
    numbers = list(range(len(scene.surfaces)))
    boxes = boxes_of(scene)
    shapes = [map_shape(surface, detail.light) for surface in scene.surfaces]
    starts = np.concatenate([[0], np.cumsum([rows * columns for rows, columns in shapes])])
    suns = in_threads(lambda n: sun_map(scene.surfaces[n], boxes, detail), numbers, threads, on_done)
    found = in_threads(
        lambda n: gather(scene.surfaces[n], boxes, shapes, shapes[n], starts, sky, detail), numbers, threads, on_done
    )
    albedo = at_texels([sheet.rgb for sheet in sheets], shapes)
    sunlit = at_texels([sun[..., None] for sun in suns], shapes)
    direct = np.concatenate([each[0] for each in found])
    # The albedo of each texel, both days in one row.
    sent = np.concatenate([albedo, albedo], axis=1)
    straight = direct + np.concatenate([np.zeros_like(albedo), sunlit * SUN], axis=1)
    total = straight
    for _ in range(BOUNCES):
        # A last row of zeros is for directions without a known texel, whose index is -1.
        shining = np.concatenate([sent * total, np.zeros((1, 6), np.float32)])
        bounced = np.concatenate(in_threads(lambda n, s=shining: thrown_back(found[n][1], s), numbers, threads))
        total = straight + bounced
    kept = direct + bounced

    def ready(n: int) -> Painted:
        rows, columns = shapes[n]
        part = kept[starts[n] : starts[n + 1]].reshape(rows, columns, 6)
        part = smooth(part, found[n][2].reshape(rows, columns), 1.1)
        skies = {"A": np.ascontiguousarray(part[..., :3]), "B": np.ascontiguousarray(part[..., 3:])}
        return Painted(*pyramids(sheets[n], scene.surfaces[n]), skies, suns[n])

    return in_threads(ready, numbers, threads)


# Private implementation


def at_texels(images: list[np.ndarray], shapes: list[tuple[int, int]]) -> np.ndarray:
    """(T, C) means of the surfaces' (H, W, C) images over all texels of their light maps."""
    found = []
    for image, shape in zip(images, shapes, strict=True):
        small = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
        found.append(small.reshape(-1, image.shape[2]))
    return np.concatenate(found)


def map_shape(surface: Surface, fineness: float) -> tuple[int, int]:
    """Rows and columns of a light map."""
    rows, columns = (max(round(each * fineness * surface.density / TEXELS_BETWEEN), 2) for each in surface.size)
    return rows, columns


def places(surface: Surface, shape: tuple[int, int]) -> np.ndarray:
    """(rows * columns, 3) middles of a map's texels, a little before the surface."""
    down, right = ((np.arange(count) + 0.5) / count for count in shape)
    found = surface.corner + right[None, :, None] * surface.right + down[:, None, None] * surface.down
    return (found + 0.004 * surface.normal).reshape(-1, 3).astype(np.float32)


def directions(count: int, pattern: int) -> np.ndarray:
    """(count, 3) local unit directions with cosine-weighted density; z is the normal."""
    # The squared radius is stratified, the angle is an additive recurrence; both are shifted for each pattern.
    number = np.arange(count)
    across = (number + (0.37 + 0.618034 * pattern) % 1) / count
    angle = 2 * np.pi * (0.5 + 0.5698402909980532 * number + 0.2360679 * pattern)
    radius = np.sqrt(across)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - across)], axis=1)


def patterns(shape: tuple[int, int]) -> np.ndarray:
    """(rows * columns,) the index of each texel's set of directions."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (PATTERN * (rows % PATTERN) + columns % PATTERN).reshape(-1)


def in_blocks(valid: np.ndarray, shape: tuple[int, int], size: int) -> Iterator[np.ndarray]:
    """The numbers of a map's valid texels, `size` neighbours at a time."""
    rows, columns = np.divmod(np.flatnonzero(valid), shape[1])
    side = max(int(size**0.5), 1)
    order = np.argsort((rows // side) * 10000 + columns // side, kind="stable")
    indices = (rows * shape[1] + columns)[order]
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def gather(
    surface: Surface, boxes: Boxes, shapes: list[tuple[int, int]], shape: tuple[int, int], starts: np.ndarray, sky: Sky,
    detail: Detail,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Surroundings of texels: (T, 6) light of both skies, (T, rays) texels or -1, (T,) whether they are free."""
    points = places(surface, shape)
    valid = ~within(points, boxes)
    ahead = boxes.ahead_of(surface)
    frame = np.stack([surface.right / surface.size[1], surface.down / surface.size[0], surface.normal])
    tables = np.stack([directions(detail.rays, k) @ frame for k in range(PATTERN**2)]).astype(np.float32)
    skies = np.concatenate([sky.radiance(tables, day, clouds=False) for day in DAYS], axis=-1)
    which_table = patterns(shape)
    direct = np.zeros((len(points), 6), np.float32)
    seen = np.full((len(points), detail.rays), -1, np.int32)
    for block in in_blocks(valid, shape, BLOCK):
        ways = tables[which_table[block]].reshape(-1, 3)
        origins = np.repeat(points[block], detail.rays, axis=0)
        near = ahead.looming(points[block])
        which, away = first_hits(origins, ways, near)
        free = (which < 0).reshape(len(block), -1)
        direct[block] = (skies[which_table[block]] * free[..., None]).mean(axis=1)
        hit = np.flatnonzero(which >= 0)
        target = np.full(len(which), -1, np.int32)
        target[hit] = texels_hit(origins[hit] + away[hit, None] * ways[hit], which[hit], near, shapes, starts)
        seen[block] = target.reshape(len(block), -1)
    return direct, seen, valid


def thrown_back(seen: np.ndarray, shining: np.ndarray) -> np.ndarray:
    """(T, 6) mean light from the texels that the rays of each texel meet, for both days."""
    found = np.zeros((len(seen), 6), np.float32)
    for start in range(0, len(seen), BLOCK):
        found[start : start + BLOCK] = shining[seen[start : start + BLOCK]].mean(axis=1)
    return found


def sun_map(surface: Surface, boxes: Boxes, detail: Detail) -> np.ndarray:
    """(rows, columns) float32: the share of SUN on a surface, shadows of boxes included."""
    towards = sun_direction()
    facing = float(surface.normal @ towards)
    shape = map_shape(surface, 2 * detail.light)
    if facing <= 0 and surface.both:
        facing = -0.7 * facing  # the light shines through
    if facing <= 0:
        return np.zeros((2, 2), np.float32)
    points = places(surface, shape)
    valid = ~within(points, boxes)
    ahead = boxes if surface.both else boxes.ahead_of(surface)
    side = np.cross(towards, [0, 0, 1])
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(side, towards), towards])
    disc = np.stack([directions(detail.sun_rays, k) for k in range(PATTERN**2)])
    disc[..., :2] *= SUN_RADIUS
    disc[..., 2] = 1
    tables = (disc @ frame).astype(np.float32)
    which_table = patterns(shape)
    share = np.zeros(len(points), np.float32)
    for block in in_blocks(valid, shape, 8 * BLOCK):
        ways = tables[which_table[block]].reshape(-1, 3)
        near = ahead.shading(points[block], towards)
        which, _ = first_hits(np.repeat(points[block], detail.sun_rays, axis=0), ways, near, any_hit=True)
        share[block] = (which < 0).reshape(len(block), -1).mean(axis=1)
    return facing * smooth(share.reshape(*shape, 1), valid.reshape(shape), 0.8)[..., 0]


def smooth(values: np.ndarray, valid: np.ndarray, deviation: float) -> np.ndarray:
    """(H, W, C) values blurred among the valid ones, which also spread to the others."""
    weight = valid.astype(np.float32)
    found = cv2.GaussianBlur(values * weight[..., None], (0, 0), deviation).reshape(values.shape)
    total = cv2.GaussianBlur(weight, (0, 0), deviation)
    known = total > 0.02
    result = np.where(known[..., None], found / np.maximum(total, 1e-6)[..., None], 0).astype(np.float32)
    for _ in range(3):
        if known.all():
            return result
        near = cv2.blur(known.astype(np.float32), (5, 5))
        spread = cv2.blur(result * known[..., None].astype(np.float32), (5, 5)).reshape(values.shape)
        new = ~known & (near > 0)
        result[new] = spread[new] / near[new][:, None]
        known |= new
    # Deep inside boxes. Not black, as nothing in a picture is.
    result[~known] = values[valid].mean(axis=0) if valid.any() else HIDDEN
    return result


def pyramids(sheet: Sheet, surface: Surface) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """A sheet with what the sun makes of its relief, and its cut-out, at all sizes down to a few texels."""
    towards = sun_direction()
    frame = np.stack([surface.right / surface.size[1], surface.down / surface.size[0], surface.normal])
    across, along, out = (frame @ towards).astype(np.float32)
    slope = cv2.GaussianBlur(sheet.height, (0, 0), 0.7) * np.float32(sheet.density)
    down, right = np.gradient(slope)
    lit = (out - across * right - along * down) / np.sqrt(1 + right**2 + down**2)
    relief = np.clip(lit / max(out, 0.12), 0, 2.5) if out > 0 else np.ones_like(slope)
    image = np.dstack([sheet.rgb, relief.astype(np.float32)])
    levels = [np.ascontiguousarray(image, np.float32)]
    alphas = [] if sheet.alpha is None else [np.ascontiguousarray(sheet.alpha, np.float32)]
    while min(levels[-1].shape[:2]) > 4:
        size = tuple(max(-(-each // 2), 1) for each in levels[-1].shape[1::-1])
        levels.append(cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA))
        if alphas:
            alphas.append(cv2.resize(alphas[-1], size, interpolation=cv2.INTER_AREA))
    return tuple(levels), tuple(alphas)
