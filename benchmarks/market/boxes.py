"""The second set's geometry: painted surfaces, the boxes they are faces of, and rays among boxes.

Metres; x along the street, y to its left, z up. Rays meet boxes only; pictures show surfaces only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.market.textures import Material

# The axis and the sign of the outward normal of each face of a box.
FACE_AXES = {"-x": (0, -1), "+x": (0, 1), "-y": (1, -1), "+y": (1, 1), "-z": (2, -1), "+z": (2, 1)}
UPRIGHT = ("-x", "+x", "-y", "+y")  # the vertical faces
# The directions right and down of each face, as (axis of the box, sign); in the order of `FACE_AXES`, as `Scene.box`
# lays textures.
FACES = (
    ((1, -1), (2, -1)), ((1, 1), (2, -1)), ((0, 1), (2, -1)), ((0, -1), (2, -1)), ((0, 1), (1, 1)), ((0, 1), (1, -1)),
)  # fmt: skip
MIN_SOLID_ANGLE = 0.004  # steradians; smaller boxes don't shade the sky


@dataclass(frozen=True)
class Surface:
    """A painted rectangle; row 0 of its texture is at `corner`, as seen from the front."""

    corner: np.ndarray  # (3,) the upper left corner, metres
    right: np.ndarray  # (3,) the upper edge as a vector
    down: np.ndarray  # (3,) the left edge as a vector
    material: Material
    density: float  # texels per metre at full detail
    both: bool = False  # seen from behind as well

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in metres."""
        return float(np.linalg.norm(self.down)), float(np.linalg.norm(self.right))

    @property
    def normal(self) -> np.ndarray:
        """The unit normal on the visible side."""
        found = np.cross(self.down, self.right)
        return found / np.linalg.norm(found)


@dataclass(frozen=True)
class Box:
    """A box that blocks light."""

    centre: np.ndarray  # (3,) metres
    half: np.ndarray  # (3,) half of the size along each axis, metres
    axes: np.ndarray  # (3, 3), rows are the directions of its axes x, y and z
    faces: tuple[int, ...]  # surface index of the faces -x, +x, -y, +y, -z, +z; -1: not drawn


@dataclass
class Scene:
    """Boxes and surfaces; light and pictures refer to surfaces by index."""

    boxes: list[Box] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)

    def sheet(
        self, corner: Iterable[float], right: Iterable[float], down: Iterable[float], material: Material,
        density: float = 150, both: bool = False,
    ) -> int:  # fmt: skip
        """Adds a surface that blocks no light; its index."""
        a, b, c = (np.array(list(each), float) for each in (corner, right, down))
        self.surfaces.append(Surface(a, b, c, material, density, both))
        return len(self.surfaces) - 1

    def box(
        self, low: Iterable[float], high: Iterable[float], material: Material, faces: Iterable[str] = UPRIGHT,
        top: Material | None = None, density: float = 150, turn: float = 0.0, tilt: tuple[str, float] | None = None,
        others: dict[str, Material] | None = None,
    ) -> None:  # fmt: skip
        """Adds a box and its faces.

        Args:
            low: corner with the smallest coordinates in metres, before the rotation.
            high: the opposite corner.
            material: material of all faces without one of their own.
            faces: names of the visible faces; the top is added where it has a material.
            top: material of the upper face.
            density: texels per metre.
            turn: rotation around z, degrees.
            tilt: rotation around an axis, "x" or "y", in degrees: (axis, degrees).
            others: materials of single faces.
        """
        low, high = np.array(list(low), float), np.array(list(high), float)
        centre, half = (low + high) / 2, (high - low) / 2
        axes = rotation("z", turn)
        if tilt:
            axes = axes @ rotation(*tilt)
        own = {**dict.fromkeys(faces, material), **({"+z": top} if top else {}), **(others or {})}
        numbers = []
        for name, (axis, sign) in FACE_AXES.items():
            if name not in own:
                numbers.append(-1)
                continue
            out = sign * axes[:, axis]
            down = -axes[:, 2] if axis != 2 else -sign * axes[:, 1]
            right = np.cross(out, down)
            reach = np.abs(np.array([out, right, down]) @ axes) @ half
            corner = centre + reach[0] * out - reach[1] * right - reach[2] * down
            numbers.append(self.sheet(corner, 2 * reach[1] * right, 2 * reach[2] * down, own[name], density))
        self.boxes.append(Box(centre, half, axes.T.copy(), tuple(numbers)))


def rotation(axis: str, degrees: float) -> np.ndarray:
    """The (3, 3) matrix that rotates columns around x, y or z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    found = np.eye(3)
    found[[first, first, second, second], [first, second, first, second]] = c, -s, s, c
    return found


@dataclass(frozen=True)
class Boxes:
    """Some boxes with their properties as arrays; made by `boxes_of`."""

    each: tuple[Box, ...]
    centre: np.ndarray  # (M, 3)
    reach: np.ndarray  # (M,) from the centre to a corner
    area: np.ndarray  # (M,) of the largest face
    half: np.ndarray  # (M, 3)
    axes: np.ndarray  # (M, 3, 3)

    def only(self, wanted: np.ndarray) -> "Boxes":
        """The boxes selected by an (M,) bool array."""
        each = tuple(self.each[number] for number in np.flatnonzero(wanted))
        arrays = (self.centre, self.reach, self.area, self.half, self.axes)
        return Boxes(each, *(array[wanted] for array in arrays))

    def ahead_of(self, surface: Surface) -> "Boxes":
        """The boxes that reach in front of a surface's plane."""
        normal = surface.normal
        away = (self.centre - surface.corner) @ normal
        return self.only(away + (np.abs(self.axes @ normal) * self.half).sum(axis=1) > 0.006)

    def away(self, points: np.ndarray) -> np.ndarray:
        """(N,) distance of points to the nearest box; 0 inside."""
        local = np.abs(np.einsum("mij,nmj->nmi", self.axes, points[:, None] - self.centre)) - self.half
        return np.linalg.norm(np.maximum(local, 0), axis=-1).min(axis=1)

    def near(self, points: np.ndarray) -> "Boxes":
        """The boxes that may contain some of the points."""
        middle, reach = around(points)
        return self.only(np.linalg.norm(self.centre - middle, axis=1) < self.reach + reach)

    def looming(self, points: np.ndarray) -> "Boxes":
        """The boxes that may cover a solid angle of `MIN_SOLID_ANGLE` or more, as seen from the points."""
        middle, reach = around(points)
        away = np.maximum(np.linalg.norm(self.centre - middle, axis=1) - self.reach - reach, 0)
        return self.only(self.area > MIN_SOLID_ANGLE * away**2)

    def shading(self, points: np.ndarray, towards: np.ndarray) -> "Boxes":
        """The boxes that may be between points and the sun, in the direction of the unit vector `towards`."""
        middle, reach = around(points)
        offset = self.centre - middle
        along = offset @ towards
        beside = np.linalg.norm(offset - along[:, None] * towards, axis=1)
        return self.only((beside < reach + self.reach + 0.3) & (along > -reach - self.reach))


def boxes_of(scene: Scene) -> Boxes:
    """All boxes of a scene."""
    centre, half, axes = (np.stack([getattr(box, name) for box in scene.boxes]) for name in ("centre", "half", "axes"))
    large = np.sort(half, axis=1)[:, 1:]
    return Boxes(tuple(scene.boxes), centre, np.linalg.norm(half, axis=1), 4 * large.prod(axis=1), half, axes)


def around(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of points."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return middle, float(np.linalg.norm(points - middle, axis=1).max())


def within(points: np.ndarray, boxes: Boxes) -> np.ndarray:
    """(N,) bool, true for points inside a box."""
    found = np.zeros(len(points), bool)
    for box in boxes.near(points).each:
        local = np.abs((points - box.centre.astype(np.float32)) @ box.axes.T.astype(np.float32))
        found |= (local < box.half.astype(np.float32)).all(axis=1)
    return found


def first_hits(
    origins: np.ndarray, ways: np.ndarray, boxes: Boxes, any_hit: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest box of each ray: (N,) its index or -1, and (N,) its distance.

    With `any_hit` any box that the ray meets, nearest or not.
    """
    nearest = np.full(len(origins), np.inf, np.float32)
    which = np.full(len(origins), -1, np.int32)
    with np.errstate(divide="ignore", invalid="ignore"):
        ox, oy, oz = (np.ascontiguousarray(origins[:, k]) for k in range(3))
        dx, dy, dz = (np.ascontiguousarray(ways[:, k]) for k in range(3))
        plain = [1 / d for d in (dx, dy, dz)]
        for number, box in enumerate(boxes.each):
            centre, half, axes = box.centre.astype(np.float32), box.half.astype(np.float32), box.axes.astype(np.float32)
            aligned = abs(axes[0, 0]) > 0.9999 and abs(axes[2, 2]) > 0.9999
            enter, leave = np.full(len(ox), -np.inf, np.float32), np.full(len(ox), np.inf, np.float32)
            for k in range(3):
                if aligned:
                    place, turn = (ox, oy, oz)[k] - centre[k], plain[k]
                else:
                    a = axes[k]
                    place = (ox - centre[0]) * a[0] + (oy - centre[1]) * a[1] + (oz - centre[2]) * a[2]
                    turn = 1 / (dx * a[0] + dy * a[1] + dz * a[2])
                middle = -place * turn
                reach = np.abs(turn) * half[k]
                low, high = middle - reach, middle + reach
                np.maximum(enter, low, out=enter)
                np.minimum(leave, high, out=leave)
            hit = (enter < leave) & (enter > 0.001)
            if not any_hit:
                hit &= enter < nearest
            which[hit] = number
            nearest[hit] = enter[hit]
    return which, nearest


def texels_hit(points: np.ndarray, which: np.ndarray, boxes: Boxes, shapes: list, starts: np.ndarray) -> np.ndarray:
    """The light-map texels, counted over all surfaces, at points on boxes; -1 where no surface is known."""
    found = np.full(len(points), -1, np.int32)
    order = np.argsort(which, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        if not len(part):
            continue
        box = boxes.each[which[part[0]]]
        local = (points[part] - box.centre.astype(np.float32)) @ box.axes.T.astype(np.float32)
        local /= box.half.astype(np.float32)
        axis = np.abs(local).argmax(axis=1)
        face = 2 * axis + (local[np.arange(len(part)), axis] > 0)
        for number_of_face, (across, along) in enumerate(FACES):
            mine = np.flatnonzero(face == number_of_face)
            number = box.faces[number_of_face]
            if number < 0 or not len(mine):
                continue
            rows, columns = shapes[number]
            u = (0.5 + 0.5 * across[1] * local[mine, across[0]]).clip(0, 0.9999)
            v = (0.5 + 0.5 * along[1] * local[mine, along[0]]).clip(0, 0.9999)
            found[part[mine]] = starts[number] + (v * rows).astype(np.int32) * columns + (u * columns).astype(np.int32)
    return found
