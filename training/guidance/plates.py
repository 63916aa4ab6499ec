"""Guidance for a located plate: how its light would change, as the other day's photos of its place say.

The plate is put among the photos as one more view, gets its depth from photos of its own day, and is looked up in those
of the other day, all as photos are (`depth`, `lookups`). What its own day's photos predict for it tells its exposure,
and whether it stands where it was found: a plate that they contradict gets no guidance.
"""

import itertools
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from relightgan.core.guidance import FrameGuidance
from relightgan.training.guidance.observations import OWN_LOOKS, agreed, badly_placed, best_looks, guide, surface_looks
from relightgan.training.stops import CLIPPED_STOPS, to_stops
from relightgan.training.world.depth import TESTED_BY, DepthMaps, known_depths, sweep
from relightgan.training.world.locating import Camera, neighbours_of
from relightgan.training.world.registration import Registration
from relightgan.training.world.views import NEAR_SHARE, NEAREST_PERCENT, Views, rays

LEAST_TESTED = 200  # pixels of a raster by which a plate can be judged
# By how much a plate may differ from what its own day's photos predict, in the median: more, and it stands elsewhere.
# Of 48 held-out views of the statue set 46 lay below 0.15, and 2 that were put in a wrong place above 0.18.
MOST_OFF_STOPS = 0.17
MOST_OFF_TIMES = 2.5  # or so many times what photos of the set differ by from theirs, if that is more
EXPOSURE_STEPS = 4
SKY_REACH = 0.05  # of a raster's width, around a pixel that may be sky
SKY_STOPS = 0.3  # by which colours of one thing differ


@dataclass(frozen=True)
class Judged:
    """What photos say of a plate where it was found.

    Attributes:
        guidance: on a raster over it; says nothing where `agrees` is False.
        exposure: stops that the plate must be brightened by to be as bright as the photos.
        off: stops by which it then differs from what its own day's photos predict, in the median; None where they see
            too little of it.
        agrees: the photos of its own day confirm its place.
    """

    guidance: FrameGuidance
    exposure: float
    off: float | None
    agrees: bool


class PlateViews:
    """Photos of both days with a place for a plate among them.

    Args:
        registration: of both days.
        views: its photos.
        depths: of them.
        errors: (n,) by how many stops each differs from what its own day's predict, see `lookups.own_day_errors`.
        target: whether plates are of the target's day.
        planes: of depth that are tried.
        neighbours: photos that depths are found from.
        looks: photos of the other day that are asked.
    """

    def __init__(
        self,
        registration: Registration,
        views: Views,
        depths: DepthMaps,
        errors: np.ndarray,
        target: bool,
        planes: int,
        neighbours: int,
        looks: int,
    ) -> None:
        self.registration, self.target = registration, target
        self.planes, self.neighbours, self.looks = planes, neighbours, looks
        # The plate is the last row, and written over in place: copying all pictures would take longer than the rest.
        self.slot = len(views)
        self.views = replace(
            views,
            photos=np.append(views.photos, -1),
            of_target=np.append(views.of_target, target),
            sizes=np.concatenate([views.sizes, views.sizes[:1]]),
            lenses=np.concatenate([views.lenses, views.lenses[:1]]),
            poses=np.concatenate([views.poses, views.poses[:1]]),
            nearest=np.append(views.nearest, 1.0),
            colour=torch.cat([views.colour, torch.zeros_like(views.colour[:1])]),
        )
        self.grey = self.views.grey()
        self.depths = DepthMaps(
            torch.cat([depths.inverse, torch.zeros_like(depths.inverse[:1])]),
            torch.cat([depths.known, torch.zeros_like(depths.known[:1])]),
            torch.cat([depths.step, torch.zeros_like(depths.step[:1])]),
        )
        self.usable = np.append(~badly_placed(errors), False)
        usual = float(np.median(errors[np.isfinite(errors)])) if np.isfinite(errors).any() else 0.0
        self.most_off = max(MOST_OFF_STOPS, MOST_OFF_TIMES * usual)

    def raster(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns for a plate of this width and height: as many as photos have."""
        height, width = self.views.colour.shape[2:]
        scale = min(width / size[0], height / size[1])
        return max(1, round(size[1] * scale)), max(1, round(size[0] * scale))

    @torch.no_grad()
    def guide(self, linear: np.ndarray, camera: Camera) -> Judged:
        """Guidance for a plate, if the photos of its own day confirm its place.

        Args:
            linear: (h, w, 3) float32, the plate on its `raster`.
            camera: where it was taken.
        """
        slot, views, depths = self.slot, self.views, self.depths
        self._place(linear, camera)
        near_by = neighbours_of(self.registration, camera, self.target, max(self.neighbours, TESTED_BY))
        near_by = near_by[self.usable[near_by]]
        h, w = linear.shape[:2]
        depths.inverse[slot, :h, :w] = sweep(
            views, self.grey, np.array([slot]), [near_by[: self.neighbours]], self.planes
        )[0]
        depths.step[slot] = 1 / ((self.planes - 1) * views.nearest[slot])
        depths.known[slot] = False
        depths.known[slot, :h, :w] = known_depths(views, depths.inverse, depths.step, slot, near_by)
        predicted, tested = self._own_day(h, w)
        exposure, off = exposure_of(linear.reshape(-1, 3)[tested], predicted)
        if off is None or off > self.most_off:
            empty = np.zeros((h, w, 3), np.float32)
            return Judged(FrameGuidance(empty, empty > 0, empty[..., 0]), exposure, off, False)
        exposed = linear * np.float32(2.0**exposure)
        self._paint(exposed)
        colour, weight = self._ask()
        known = depths.known[slot, :h, :w]
        taken = sky_taken_for_surface(to_stops(exposed), known.cpu().numpy(), weight)
        if taken.any():
            known &= torch.from_numpy(~taken).to(known.device)
            colour, weight = self._ask()
        says = weight[..., None] > 0
        # The plate's own colours, not what photos predict for them: theirs were clipped where the plate's may not be.
        gain = np.where(says, colour - to_stops(exposed), 0).astype(np.float32)
        least = (colour >= CLIPPED_STOPS) & says
        return Judged(FrameGuidance(gain, least, weight), exposure, off, True)

    # Private implementation

    def _place(self, linear: np.ndarray, camera: Camera) -> None:
        views, slot = self.views, self.slot
        rows, columns = linear.shape[:2]
        scale = np.array([columns / camera.size[0], rows / camera.size[1]])
        views.sizes[slot] = rows, columns
        views.lenses[slot] = *(camera.lens[:2] * scale), *(camera.lens[2:4] * scale), camera.lens[4]
        views.poses[slot] = camera.pose
        points = self.registration.solve.points[camera.points]
        depth = points @ camera.pose[2, :3] + camera.pose[2, 3]
        views.nearest[slot] = NEAR_SHARE * max(np.percentile(depth, NEAREST_PERCENT), 1e-3 * np.median(depth))
        self._paint(linear)

    def _paint(self, linear: np.ndarray) -> None:
        views, slot = self.views, self.slot
        rows, columns = linear.shape[:2]
        height, width = views.colour.shape[2:]
        below, right = height - rows, width - columns
        canvas = cv2.copyMakeBorder(np.clip(linear, 0, 1), 0, below, 0, right, cv2.BORDER_REPLICATE)
        views.colour[slot] = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1))).to(views.device)
        self.grey[slot] = views.colour[slot].mean(dim=0).clamp(min=0).sqrt()

    def _ask(self) -> tuple[np.ndarray, np.ndarray]:
        """What the other day's photos saw there: stops (h, w, 3), and weight (h, w)."""
        colour, weight = guide(self.views, self.depths, self.slot, self.usable, self.looks)
        return colour.cpu().numpy(), weight.cpu().numpy()

    def _own_day(self, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """What its own day's photos predict (p, 3) in stops for those pixels (p,) of the plate that they see."""
        slot, views, depths = self.slot, self.views, self.depths
        pixels = torch.nonzero(depths.known[slot, :rows, :columns].reshape(-1))[:, 0]
        if len(pixels) == 0:
            return np.zeros((0, 3)), np.zeros(0, int)
        directions = rays(views, slot)[:, pixels]
        inverse = depths.inverse[slot, :rows, :columns].reshape(-1)[pixels]
        others = best_looks(views, depths, slot, self.target, self.usable, OWN_LOOKS)
        colour, _, count = agreed(surface_looks(views, depths, slot, directions, inverse, others))
        seen = count >= 2
        return colour[:, seen].T.cpu().numpy(), pixels[seen].cpu().numpy()


def sky_taken_for_surface(stops: np.ndarray, known: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(h, w) bool, pixels whose depth was found although they look more like sky near by than like surfaces there.

    An even sky agrees with any depth, so that what stands before it gets a rim of sky with its own depth.

    Args:
        stops: (h, w, 3) of the plate.
        known: (h, w) bool, pixels with a depth.
        weight: (h, w) of guidance; what has no depth has some only where photos agree about the sky.
    """
    sky = ~known & (weight > 0)
    if not sky.any():
        return np.zeros_like(known)
    kinds = np.dstack([known, sky]).astype(np.float32)
    reach = max(1, round(SKY_REACH * known.shape[1]))
    padded_stops = cv2.copyMakeBorder(stops.astype(np.float32), reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    padded_kinds = cv2.copyMakeBorder(kinds, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=(0, 0))
    alike = np.zeros_like(kinds)
    for y, x in itertools.product(range(2 * reach + 1), repeat=2):
        window = np.s_[y : y + known.shape[0], x : x + known.shape[1]]
        off = ((padded_stops[window] - stops) / SKY_STOPS) ** 2
        alike += np.exp(-0.5 * off.sum(axis=-1, keepdims=True)) * padded_kinds[window]
    found: np.ndarray = known & (alike[..., 1] > alike[..., 0])
    return found


def exposure_of(linear: np.ndarray, predicted: np.ndarray) -> tuple[float, float | None]:
    """By how many stops a plate is darker than photos, and how far off it is after that; None if too little is known.

    Args:
        linear: (p, 3) of its pixels.
        predicted: (p, 3) stops (`stops.to_stops`) that photos predict for them.
    """
    of_use = (predicted < CLIPPED_STOPS).all(axis=1)
    if of_use.sum() < LEAST_TESTED:
        return 0.0, None
    linear, predicted = np.maximum(linear[of_use], 0), predicted[of_use]
    # The floor keeps the darkest from counting, but bends the scale; so step by step.
    exposure = 0.0
    for _ in range(EXPOSURE_STEPS):
        exposure += float(np.median(predicted - to_stops(linear * 2.0**exposure)))
    off = np.abs(predicted - to_stops(linear * 2.0**exposure)).mean(axis=1)
    return exposure, float(np.median(off))
