"""Where the camera of a plate stood, in the world of registered photos.

The photos of the plate's day that look most alike (the features of content pairing) are found first; points of the
plate are matched with theirs, and those that the solve knows in space give the camera (absolute pose by pycolmap,
Schoenberger and Frahm, CVPR 2016). A plate is located by itself alone, so that frames can be taken in any order.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from relightgan.training.pairs.backbones import Backbone, embed_photos
from relightgan.training.photos.bank import Images
from relightgan.training.world.depth import BEST_ANGLE, LEAST_COMMON, LEAST_SCORE, WIDE_ANGLE
from relightgan.training.world.matching import MatchingSettings, Points, find_points, match_points
from relightgan.training.world.registration import Registration
from relightgan.training.world.sfm import pixels_of, project

TRIED_PHOTOS = 12  # of the plate's day, most alike first, whose points are matched with the plate's
PLATE_POINTS = 2000  # SIFT points of a plate
LEAST_INLIERS = 24  # points of the solve that must agree about a camera,
LEAST_INLIER_SHARE = 0.15  # and the share of all that were matched
MOST_TRIES = 3  # cameras that are tried
FIRM_INLIERS = 60  # so many settle the focal length, too, where neither artist nor file gave it
POSE_ERROR_PX = 6.0  # at the size points are found at; wrong matches lie much farther off
MOST_FOCAL_CHANGE = 1.25  # by which a guess of the focal length may be refined either way
SAME_PLACE = 0.002  # of a photo: how far apart a point and its sighting in the solve may lie and be the same
POINT_CACHE = 400  # photos whose points are kept; 0.2 MB each


@dataclass(frozen=True)
class Camera:
    """A located camera.

    Attributes:
        pose: (3, 4) float64 from the solve's world to the camera.
        lens: (5,) focal length across and down, centre across and down, and bend, for `size`.
        size: width and height the lens is given for.
        inliers: points of the solve that agree.
        matched: points of the solve that were matched.
        points: (p,) points of the solve that the plate should show.
    """

    pose: np.ndarray
    lens: np.ndarray
    size: tuple[int, int]
    inliers: int
    matched: int
    points: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """(3,) where it stood."""
        where: np.ndarray = -self.pose[:, :3].T @ self.pose[:, 3]
        return where


class Locator:
    """Finds cameras of plates among the photos of one day.

    Args:
        registration: of both days.
        banks: source and target photos, as they were registered.
        features: (n, C) of the day's training photos, as the backbone gives them.
        backbone: that gave them.
        matching: as the photos were registered with.
        max_points: of a photo, likewise: points are told by their number.
        target: whether the plates are of the target's day.
        usable: (photos of the solve,) bool, which stand where they were found; None for all.
    """

    def __init__(
        self,
        registration: Registration,
        banks: Sequence[Images],
        features: np.ndarray,
        backbone: Backbone,
        matching: MatchingSettings,
        max_points: int,
        target: bool,
        usable: np.ndarray | None = None,
    ) -> None:
        self.registration, self.bank, self.backbone, self.target = registration, banks[int(target)], backbone, target
        self.first = registration.counts[0] if target else 0
        solve = registration.solve
        of_day = (solve.photos >= registration.counts[0]) == target
        if usable is not None:
            of_day &= usable
        self.rows = np.nonzero(of_day)[0]
        self.photos = solve.photos[of_day] - self.first
        self.mean = features.mean(axis=0)
        self.features = _unit(features[self.photos] - self.mean)
        self.matching, self.max_points = matching, max_points
        self.found: dict[int, Points] = {}
        order = np.argsort(solve.seen_photo, kind="stable")
        bounds = np.searchsorted(solve.seen_photo[order], np.arange(sum(registration.counts) + 1))
        self.sightings = [order[a:b] for a, b in itertools.pairwise(bounds)]

    def locate(self, picture: np.ndarray, centre: tuple[float, float], focal_35mm: float | None) -> Iterator[Camera]:
        """Cameras that a plate may have been taken by, the most agreed on first.

        A wrong one can gather points, too, where a set repeats itself or photos stand wrong; another must then be
        looked for among the points that don't agree with it. What tells them apart is what photos show there.

        Args:
            picture: (H, W, 3) float32 sRGB-encoded, square pixels, about as bright as the photos.
            centre: x and y of the lens's axis in it, 0..1 (outside where the picture is a part of the frame).
            focal_35mm: mm, 35 mm equivalent, for the picture's diagonal; None where unknown.
        """
        alike = self.features @ _unit(embed_photos(self.backbone, [picture])[0] - self.mean)
        points = find_points(picture, PLATE_POINTS)
        places, targets, photos = self._known_points(points, np.argsort(-alike, kind="stable")[:TRIED_PHOTOS])
        size, given = points.size, focal_35mm is not None
        guess = pixels_of(focal_35mm, size) if given else self._usual_focal() * max(size)
        matched = len(places)
        for _ in range(MOST_TRIES):
            if len(places) < LEAST_INLIERS:
                return
            found = _pose(places, self.registration.solve.points[targets], guess, centre, size, given)
            if found is None or found[2].sum() < max(LEAST_INLIERS, LEAST_INLIER_SHARE * matched):
                return
            pose, focal, inliers = found
            lens = np.array([focal, focal, centre[0] * size[0], centre[1] * size[1], 0.0])
            shown = self._shown(pose, lens, size, photos, targets[inliers])
            yield Camera(pose, lens, size, int(inliers.sum()), matched, shown)
            places, targets = places[~inliers], targets[~inliers]

    # Private implementation

    def _known_points(self, points: Points, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Places (m, 2) px in the plate, their points (m,) of the solve, and the photos that told them."""
        solve, registration = self.registration.solve, self.registration
        places, targets, photos = [np.zeros((0, 2))], [np.zeros(0, np.int64)], []
        for row in chosen:
            photo = int(self.photos[row])
            theirs = self._points_of(photo)
            in_plate, in_photo = match_points(points, theirs, self.matching)
            seen = self.sightings[photo + self.first]
            point_of = np.full(len(theirs.xy), -1)
            near = seen[solve.seen_feature[seen] < len(theirs.xy)]
            apart = np.abs(theirs.xy[solve.seen_feature[near]] - registration.places[near]).max(axis=1, initial=0)
            near = near[apart < SAME_PLACE]  # another version of OpenCV may number points otherwise
            point_of[solve.seen_feature[near]] = solve.seen_point[near]
            known = point_of[in_photo] >= 0
            if known.any():
                places.append(points.xy[in_plate[known]] * points.size)
                targets.append(point_of[in_photo[known]])
                photos.append(photo)
        where, which = np.concatenate(places), np.concatenate(targets)
        # Several photos tell of one point: once is enough, and counts once.
        _, first = np.unique(np.column_stack([where.round(2), which]), axis=0, return_index=True)
        return where[np.sort(first)].astype(np.float64), which[np.sort(first)], photos

    def _points_of(self, photo: int) -> Points:
        if photo not in self.found:
            if len(self.found) >= POINT_CACHE:
                self.found.pop(next(iter(self.found)))
            self.found[photo] = find_points(self.bank[photo], self.max_points)
        return self.found[photo]

    def _usual_focal(self) -> float:
        """Focal length over the long side, of most of the day's photos."""
        lens = self.registration.solve.lenses[self.rows, 0]
        return float(np.median(lens / self.registration.sizes[self.rows].max(axis=1)))

    def _shown(
        self, pose: np.ndarray, lens: np.ndarray, size: tuple[int, int], photos: list[int], matched: np.ndarray
    ) -> np.ndarray:
        """The points that photos of the same view see and that lie in the plate."""
        solve = self.registration.solve
        seen = [solve.seen_point[self.sightings[photo + self.first]] for photo in photos]
        points = np.unique(np.concatenate([matched, *seen]))
        xy, depth = project(pose, lens[[0, 2, 3, 4]], solve.points[points])
        inside = (depth > 0) & (xy > 0).all(axis=1) & (xy < size).all(axis=1)
        return points[inside]


def neighbours_of(registration: Registration, camera: Camera, target: bool, most: int) -> np.ndarray:
    """Rows of the solve's photos of a day that tell a located plate's depth best; see `depth.neighbours`."""
    solve = registration.solve
    row_of = np.full(sum(registration.counts), -1)
    row_of[solve.photos] = np.arange(len(solve.photos))
    of_day = (solve.seen_photo >= registration.counts[0]) == target
    shown = np.isin(solve.seen_point, camera.points) & of_day
    row, point = row_of[solve.seen_photo[shown]], solve.points[solve.seen_point[shown]]
    ours, theirs = camera.centre - point, solve.centres[row] - point
    here, there = (np.maximum(np.linalg.norm(way, axis=1), 1e-12) for way in (ours, theirs))
    angle = np.degrees(np.arccos(np.clip((ours * theirs).sum(axis=1) / (here * there), -1, 1)))
    worth = np.where(angle < BEST_ANGLE, (angle / BEST_ANGLE) ** 2, np.exp(-(((angle - BEST_ANGLE) / WIDE_ANGLE) ** 2)))
    worth = worth * np.minimum(here, there) / np.maximum(here, there)
    common = np.bincount(row, minlength=len(solve.photos))
    score = np.bincount(row, worth, minlength=len(solve.photos))
    score = np.where((common >= LEAST_COMMON) & (score > LEAST_SCORE), score, 0)
    chosen = np.argsort(-score, kind="stable")[:most]
    return chosen[score[chosen] > 0]


# Private implementation


def _pose(
    places: np.ndarray,
    points: np.ndarray,
    focal: float,
    centre: tuple[float, float],
    size: tuple[int, int],
    given: bool,
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """A camera's pose (3, 4), focal length in px, and which matches (m,) agree; None where there is none.

    Args:
        places: (m, 2) px in the picture.
        points: (m, 3) in the world.
        focal: length in px to begin with.
        centre: of the lens, 0..1.
        size: of the picture.
        given: the focal length is known, and not refined.
    """
    model = pycolmap.CameraModelId.SIMPLE_PINHOLE
    camera = pycolmap.Camera.create_from_model_id(1, model, focal, *size)
    camera.params = [focal, centre[0] * size[0], centre[1] * size[1]]
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac.max_error, estimation.ransac.random_seed = POSE_ERROR_PX, 0
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    found = pycolmap.estimate_and_refine_absolute_pose(places, points, camera, estimation, refinement)
    if found is None:
        return None
    if not given and found["num_inliers"] >= FIRM_INLIERS:
        refinement.refine_focal_length = True
        mask = np.asarray(found["inlier_mask"], bool)
        finer = pycolmap.refine_absolute_pose(found["cam_from_world"], places, points, mask, camera, refinement)
        refined = float(camera.params[0])
        if finer is not None and 1 / MOST_FOCAL_CHANGE < refined / focal < MOST_FOCAL_CHANGE:
            return finer["cam_from_world"].matrix(), refined, mask
    return found["cam_from_world"].matrix(), focal, np.asarray(found["inlier_mask"], bool)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-8)
