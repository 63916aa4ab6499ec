"""Locating: the camera of a plate in the world of registered photos.

The photos of the plate's day with the most similar embeddings are chosen. Points of the plate are matched with theirs;
the matches with points of the solve give the camera (absolute pose by pycolmap, Schoenberger and Frahm, CVPR 2016).
Each plate is located on its own, so frames can be done in any order.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from relightgan.training.pairs.backbones import Backbone, embed_photos
from relightgan.training.photos.bank import Images
from relightgan.training.world.depth import best_neighbours, point_worth
from relightgan.training.world.matching import MatchingSettings, Points, find_points, match_points
from relightgan.training.world.registration import Registration
from relightgan.training.world.sfm import pixels_of, project
from relightgan.training.world.views import rows_of_photos

TRIED_PHOTOS = 12  # photos of the plate's day whose points are matched with the plate's, most similar first
PLATE_POINTS = 2000  # SIFT points detected in a plate
MIN_INLIERS = 24  # smallest number of inliers of a camera: matched points of the solve that agree with it
MIN_INLIER_SHARE = 0.15  # smallest share of inliers among all matched points
MAX_CAMERAS = 3  # largest number of candidate cameras per plate
FOCAL_INLIERS = 60  # inliers from which on a guessed focal length is refined
POSE_ERROR_PX = 6.0  # largest reprojection error of an inlier, at the size at which points are detected
MAX_FOCAL_CHANGE = 1.25  # factor by which refinement may change a guessed focal length, either way
SAME_POINT = 0.002  # distance, 0..1 of a photo, up to which a detected point is the one that the solve used
CACHED_PHOTOS = 400  # photos whose points are kept in memory, 0.2 MB each


@dataclass(frozen=True)
class Camera:
    """A located camera.

    Attributes:
        pose: (3, 4) float64, from the solve's world to the camera.
        lens: (5,) focal length in x and y, principal point in x and y (px of `size`), radial distortion.
        size: width and height, px.
        inliers: number of matched points of the solve that agree with the camera.
        matched: number of matched points of the solve.
        points: (p,) numbers of the solve's points that lie in the plate.
    """

    pose: np.ndarray
    lens: np.ndarray
    size: tuple[int, int]
    inliers: int
    matched: int
    points: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """(3,) position of the camera in the solve's world."""
        where: np.ndarray = -self.pose[:, :3].T @ self.pose[:, 3]
        return where


class Locator:
    """Locates plates among the registered photos of one day.

    Args:
        registration: of both days.
        banks: (source photos, target photos), the same as were registered.
        embeddings: (photos of the day, C) of the day's training photos, not normalised.
        backbone: the network that made them.
        matching: the settings that the photos were registered with.
        max_points: SIFT points per photo; the same as at registration, as the solve refers to points by number.
        day: `days.SOURCE` or `days.TARGET`: the day whose light the plates have.
        usable: (n,) bool for the registered photos, False for badly placed ones; None uses all.
    """

    def __init__(
        self,
        registration: Registration,
        banks: Sequence[Images],
        embeddings: np.ndarray,
        backbone: Backbone,
        matching: MatchingSettings,
        max_points: int,
        day: int,
        usable: np.ndarray | None = None,
    ) -> None:
        self.registration, self.bank, self.backbone = registration, banks[day], backbone
        solve, numbering = registration.solve, registration.numbering
        self.first = numbering.start(day)
        of_day = numbering.day(solve.photos) == day
        if usable is not None:
            of_day &= usable
        self.rows = np.nonzero(of_day)[0]
        self.photos = solve.photos[of_day] - self.first
        self.mean = embeddings.mean(axis=0)
        self.embeddings = _unit(embeddings[self.photos] - self.mean)
        self.matching, self.max_points = matching, max_points
        self.found: dict[int, Points] = {}
        order = np.argsort(solve.seen_photo, kind="stable")
        bounds = np.searchsorted(solve.seen_photo[order], np.arange(numbering.total + 1))
        self.observations = [order[a:b] for a, b in itertools.pairwise(bounds)]

    def locate(self, picture: np.ndarray, centre: tuple[float, float], focal_35mm: float | None) -> Iterator[Camera]:
        """Candidate cameras of a plate, the one with the most inliers first.

        A wrong camera can have many inliers where a set repeats itself or photos are badly placed. So each further
        candidate is found among the matches that are no inliers of those before it. Comparing the plate with the photos
        then tells which is right.

        Args:
            picture: (H, W, 3) float32 sRGB-encoded, square pixels, about as bright as the photos.
            centre: (x, y) of the lens's axis in the picture, 0..1; may lie outside where the picture is a crop.
            focal_35mm: mm, 35 mm equivalent, for the picture's diagonal; None where unknown.
        """
        similarity = self.embeddings @ _unit(embed_photos(self.backbone, [picture])[0] - self.mean)
        points = find_points(picture, PLATE_POINTS)
        places, matched, photos = self._matched_points(points, np.argsort(-similarity, kind="stable")[:TRIED_PHOTOS])
        size, given = points.size, focal_35mm is not None
        guess = pixels_of(focal_35mm, size) if given else self._usual_focal() * max(size)
        number = len(places)
        for _ in range(MAX_CAMERAS):
            if len(places) < MIN_INLIERS:
                return
            found = _pose(places, self.registration.solve.points[matched], guess, centre, size, given)
            if found is None or found[2].sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * number):
                return
            pose, focal, inliers = found
            lens = np.array([focal, focal, centre[0] * size[0], centre[1] * size[1], 0.0])
            visible = self._visible_points(pose, lens, size, photos, matched[inliers])
            yield Camera(pose, lens, size, int(inliers.sum()), number, visible)
            places, matched = places[~inliers], matched[~inliers]

    # Private implementation

    def _matched_points(self, points: Points, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Positions (m, 2) px in the plate, matched points (m,) of the solve, and the photos they were matched in."""
        solve, registration = self.registration.solve, self.registration
        places, numbers, photos = [np.zeros((0, 2))], [np.zeros(0, np.int64)], []
        for row in chosen:
            photo = int(self.photos[row])
            theirs = self._points_of(photo)
            in_plate, in_photo = match_points(points, theirs, self.matching)
            seen = self.observations[photo + self.first]
            point_of = np.full(len(theirs.xy), -1)
            near = seen[solve.seen_feature[seen] < len(theirs.xy)]
            apart = np.abs(theirs.xy[solve.seen_feature[near]] - registration.places[near]).max(axis=1, initial=0)
            near = near[apart < SAME_POINT]  # another version of OpenCV may number points differently
            point_of[solve.seen_feature[near]] = solve.seen_point[near]
            known = point_of[in_photo] >= 0
            if known.any():
                places.append(points.xy[in_plate[known]] * points.size)
                numbers.append(point_of[in_photo[known]])
                photos.append(photo)
        where, which = np.concatenate(places), np.concatenate(numbers)
        # A point matched in several photos counts once.
        _, first = np.unique(np.column_stack([where.round(2), which]), axis=0, return_index=True)
        return where[np.sort(first)].astype(np.float64), which[np.sort(first)], photos

    def _points_of(self, photo: int) -> Points:
        if photo not in self.found:
            if len(self.found) >= CACHED_PHOTOS:
                self.found.pop(next(iter(self.found)))
            self.found[photo] = find_points(self.bank[photo], self.max_points)
        return self.found[photo]

    def _usual_focal(self) -> float:
        """Median focal length of the day's photos, as a multiple of the long side."""
        lens = self.registration.solve.lenses[self.rows, 0]
        return float(np.median(lens / self.registration.sizes[self.rows].max(axis=1)))

    def _visible_points(
        self, pose: np.ndarray, lens: np.ndarray, size: tuple[int, int], photos: list[int], matched: np.ndarray
    ) -> np.ndarray:
        """The matched points and those observed in these photos, as far as they project into the plate."""
        solve = self.registration.solve
        seen = [solve.seen_point[self.observations[photo + self.first]] for photo in photos]
        points = np.unique(np.concatenate([matched, *seen]))
        xy, depth = project(pose, lens[[0, 2, 3, 4]], solve.points[points])
        inside = (depth > 0) & (xy > 0).all(axis=1) & (xy < size).all(axis=1)
        return points[inside]


def plate_neighbours(registration: Registration, camera: Camera, day: int, max_count: int) -> np.ndarray:
    """Rows of the photos of a day best suited to find a located plate's depth, best first; see `depth.neighbours`."""
    solve = registration.solve
    shown = np.isin(solve.seen_point, camera.points) & (registration.numbering.day(solve.seen_photo) == day)
    row, point = rows_of_photos(registration, solve.seen_photo[shown]), solve.points[solve.seen_point[shown]]
    ours, theirs = camera.centre - point, solve.centres[row] - point
    here, there = (np.maximum(np.linalg.norm(way, axis=1), 1e-12) for way in (ours, theirs))
    worth = point_worth((ours * theirs).sum(axis=1) / (here * there), here, there)
    number = len(solve.photos)
    return best_neighbours(np.bincount(row, minlength=number), np.bincount(row, worth, minlength=number), max_count)


# Private implementation


def _pose(
    places: np.ndarray,
    points: np.ndarray,
    focal: float,
    centre: tuple[float, float],
    size: tuple[int, int],
    given: bool,
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """A camera's pose (3, 4), its focal length in px, and its inliers (m,) bool; None where no pose is found.

    Args:
        places: (m, 2) px in the picture.
        points: (m, 3) in the world.
        focal: initial focal length, px.
        centre: (x, y) of the lens's axis, 0..1 of the picture.
        size: width and height of the picture, px.
        given: True where the focal length is known and not to be refined.
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
    if not given and found["num_inliers"] >= FOCAL_INLIERS:
        refinement.refine_focal_length = True
        mask = np.asarray(found["inlier_mask"], bool)
        finer = pycolmap.refine_absolute_pose(found["cam_from_world"], places, points, mask, camera, refinement)
        refined = float(camera.params[0])
        if finer is not None and 1 / MAX_FOCAL_CHANGE < refined / focal < MAX_FOCAL_CHANGE:
            return finer["cam_from_world"].matrix(), refined, mask
    return found["cam_from_world"].matrix(), focal, np.asarray(found["inlier_mask"], bool)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-8)
