"""Guidance for a located plate, from the other day's photos of the same place.

The plate is added to the registered photos as one more view. Its depth comes from photos of its own day and its
guidance from photos of the other day, as for photos (`depth`, `observations`). The colours that its own day's photos
predict give its exposure, and check its camera: a plate that differs too much from them gets no guidance.
"""

import itertools
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from relightgan.core.guidance import FrameGuidance
from relightgan.training.guidance.observations import (
    OWN_DAY_OBSERVERS,
    badly_placed,
    best_observers,
    consensus,
    photo_guidance,
    surface_observations,
)
from relightgan.training.stops import CLIPPED_STOPS, to_stops
from relightgan.training.world.depth import CHECKING_NEIGHBOURS, DepthMaps, known_depths, sweep
from relightgan.training.world.locating import Camera, plate_neighbours
from relightgan.training.world.registration import Registration
from relightgan.training.world.views import NEAR_MARGIN, NEAR_PERCENTILE, RegisteredViews, rays

MIN_CHECKED_PIXELS = 200  # smallest number of predicted pixels by which a plate can be checked
# A plate is taken to be in a wrong place if its median difference from its own day's prediction is larger than this. Of
# 48 held-out views of the statue set 46 lay below 0.15, and 2 with a wrong camera above 0.18.
MAX_ERROR_STOPS = 0.17
MAX_ERROR_FACTOR = 2.5  # the limit is at least this many times the median photo's error
EXPOSURE_STEPS = 4  # iterations of the search for a plate's exposure
SKY_REACH = 0.05  # radius around a pixel within which sky and surfaces are compared, as a share of a raster's width
SKY_STOPS = 0.3  # standard deviation of colour within one surface, or within the sky


@dataclass(frozen=True)
class CheckedGuidance:
    """Guidance for a plate, and the check of its camera.

    Attributes:
        guidance: on a raster over the plate; empty where `agrees` is False.
        exposure: stops to add to the plate to make it as bright as the photos.
        error_stops: median difference from its own day's prediction after that, in stops; None where too few of its
            pixels are predicted.
        agrees: True where the photos of its own day confirm its camera.
        surface: (h, w) bool, the pixels of known depth; all others that have guidance show sky.
    """

    guidance: FrameGuidance
    exposure: float
    error_stops: float | None
    agrees: bool
    surface: np.ndarray


class PlateViews:
    """The registered photos of both days, with room for one plate among them.

    Args:
        registration: of both days.
        views: the registered photos.
        depths: of all views.
        errors: (n,) each photo's difference from its own day's prediction, see `observations.own_day_errors`.
        day: `days.SOURCE` or `days.TARGET`: the day whose light the plates have.
        planes: number of depths tried for each pixel.
        neighbours: photos of the plate's day from which its depths are computed.
        observers: photos of the other day that observe what it shows, at most.
    """

    def __init__(
        self,
        registration: Registration,
        views: RegisteredViews,
        depths: DepthMaps,
        errors: np.ndarray,
        day: int,
        planes: int,
        neighbours: int,
        observers: int,
    ) -> None:
        self.registration, self.day = registration, day
        self.planes, self.neighbours, self.observers = planes, neighbours, observers
        # The plate is the last row, overwritten in place: copying all pictures takes longer than everything else.
        self.slot = len(views)
        self.views = replace(
            views,
            photos=np.append(views.photos, -1),
            day=np.append(views.day, day),
            sizes=np.concatenate([views.sizes, views.sizes[:1]]),
            lenses=np.concatenate([views.lenses, views.lenses[:1]]),
            poses=np.concatenate([views.poses, views.poses[:1]]),
            min_depth=np.append(views.min_depth, 1.0),
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
        self.max_error = max(MAX_ERROR_STOPS, MAX_ERROR_FACTOR * usual)

    def raster(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the raster for a plate of this width and height: the largest that the canvas holds."""
        height, width = self.views.colour.shape[2:]
        scale = min(width / size[0], height / size[1])
        return max(1, round(size[1] * scale)), max(1, round(size[0] * scale))

    @torch.no_grad()
    def plate_guidance(self, linear: np.ndarray, camera: Camera) -> CheckedGuidance:
        """Guidance for a plate, where the photos of its own day confirm its camera.

        Args:
            linear: (h, w, 3) float32, the plate on its `raster`.
            camera: as located.
        """
        slot, views, depths = self.slot, self.views, self.depths
        self._place(linear, camera)
        others = plate_neighbours(self.registration, camera, self.day, max(self.neighbours, CHECKING_NEIGHBOURS))
        others = others[self.usable[others]]
        h, w = linear.shape[:2]
        depths.inverse[slot, :h, :w] = sweep(
            views, self.grey, np.array([slot]), [others[: self.neighbours]], self.planes
        )[0]
        depths.step[slot] = 1 / ((self.planes - 1) * views.min_depth[slot])
        depths.known[slot] = False
        depths.known[slot, :h, :w] = known_depths(views, depths.inverse, depths.step, slot, others)
        predicted, pixels = self._own_day_prediction(h, w)
        exposure, error = exposure_of(linear.reshape(-1, 3)[pixels], predicted)
        if error is None or error > self.max_error:
            empty = np.zeros((h, w, 3), np.float32)
            nothing = FrameGuidance(empty, empty > 0, empty[..., 0])
            return CheckedGuidance(nothing, exposure, error, False, empty[..., 0] > 0)
        exposed = linear * np.float32(2.0**exposure)
        self._paint(exposed)
        colour, weight = self._guidance()
        known = depths.known[slot, :h, :w]
        mistaken = sky_taken_for_surface(to_stops(exposed), known.cpu().numpy(), weight)
        if mistaken.any():
            known &= torch.from_numpy(~mistaken).to(known.device)
            colour, weight = self._guidance()
        has = weight[..., None] > 0
        # Gains start from the plate's own colours, not the predicted ones: photos are clipped where a plate may not be.
        gain = np.where(has, colour - to_stops(exposed), 0).astype(np.float32)
        clipped = (colour >= CLIPPED_STOPS) & has
        return CheckedGuidance(FrameGuidance(gain, clipped, weight), exposure, error, True, known.cpu().numpy())

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
        views.min_depth[slot] = NEAR_MARGIN * max(np.percentile(depth, NEAR_PERCENTILE), 1e-3 * np.median(depth))
        self._paint(linear)

    def _paint(self, linear: np.ndarray) -> None:
        views, slot = self.views, self.slot
        rows, columns = linear.shape[:2]
        height, width = views.colour.shape[2:]
        below, right = height - rows, width - columns
        canvas = cv2.copyMakeBorder(np.clip(linear, 0, 1), 0, below, 0, right, cv2.BORDER_REPLICATE)
        views.colour[slot] = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1))).to(views.device)
        self.grey[slot] = views.colour[slot].mean(dim=0).clamp(min=0).sqrt()

    def _guidance(self) -> tuple[np.ndarray, np.ndarray]:
        """The other day's colour (h, w, 3) in stops, and its weight (h, w)."""
        colour, weight = photo_guidance(self.views, self.depths, self.slot, self.usable, self.observers)
        return colour.cpu().numpy(), weight.cpu().numpy()

    def _own_day_prediction(self, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Its own day's prediction (p, 3) in stops for pixels of the plate, and the numbers (p,) of these pixels."""
        slot, views, depths = self.slot, self.views, self.depths
        pixels = torch.nonzero(depths.known[slot, :rows, :columns].reshape(-1))[:, 0]
        if len(pixels) == 0:
            return np.zeros((0, 3)), np.zeros(0, int)
        directions = rays(views, slot)[:, pixels]
        inverse = depths.inverse[slot, :rows, :columns].reshape(-1)[pixels]
        others = best_observers(views, depths, slot, self.day, self.usable, OWN_DAY_OBSERVERS)
        colour, _, count = consensus(surface_observations(views, depths, slot, directions, inverse, others))
        seen = count >= 2
        return colour[:, seen].T.cpu().numpy(), pixels[seen].cpu().numpy()


def sky_taken_for_surface(stops: np.ndarray, known: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(h, w) bool: pixels of known depth whose colour is closer to the sky around them than to the surfaces.

    A sky without texture matches at any depth, so that objects in front of it get a rim of sky at their own depth.

    Args:
        stops: (h, w, 3) of the plate, as `stops.to_stops`.
        known: (h, w) bool, pixels of known depth.
        weight: (h, w) of guidance; without a known depth, it is above 0 only where photos agree on the sky.
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
    """Stops by which a plate is darker than photos, and its median error in stops once that is made up for.

    The error is None, and the exposure 0, with fewer than `MIN_CHECKED_PIXELS` unclipped predictions.

    Args:
        linear: (p, 3) pixels of the plate.
        predicted: (p, 3) the photos' prediction for them, as `stops.to_stops`.
    """
    unclipped = (predicted < CLIPPED_STOPS).all(axis=1)
    if unclipped.sum() < MIN_CHECKED_PIXELS:
        return 0.0, None
    linear, predicted = np.maximum(linear[unclipped], 0), predicted[unclipped]
    # `to_stops` is not quite logarithmic, because of its floor for dark values; so the exposure is found by iteration.
    exposure = 0.0
    for _ in range(EXPOSURE_STEPS):
        exposure += float(np.median(predicted - to_stops(linear * 2.0**exposure)))
    error = np.abs(predicted - to_stops(linear * 2.0**exposure)).mean(axis=1)
    return exposure, float(np.median(error))
