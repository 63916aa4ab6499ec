"""Structure from motion: where photos were taken, and where the points lie that several of them show.

Incremental, by COLMAP (Schoenberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016) through pycolmap, from
matches that are made elsewhere. One thread and one seed, so that the same matches give the same cameras: COLMAP's sums
depend on their order, so with more threads two runs agree only to a few digits. Another build of pycolmap or another
kind of CPU may differ by as much.
"""

import signal
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap

from relightgan.core.progress import Cancellation

# pycolmap's logger takes SIGTERM over as it is loaded, to print a stack trace; it goes back to whom Python gave it.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is not None:
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

FRAME_DIAGONAL_MM = 43.2666  # diagonal of 35 mm film, to which EXIF's equivalent focal length refers (CIPA DCG-001)
USUAL_FOCAL = 1.2  # focal length where none is known, as a share of the long side; the solve refines it
MIN_PAIR_MATCHES = 15  # fewest matches by which two photos are linked
MIN_SOLVE_PHOTOS = 3  # fewest photos that make a solve
START_INLIERS = 60  # fewest matches between the two photos from which a solve grows
MAX_STARTS = 20  # solves that are begun where the first doesn't take in all photos; each costs a second or so
JOIN_INLIERS = 20  # fewest points by which a photo joins a solve
# Fewest points by which a photo stays in a finished solve. Of 511 photos of the statue set 4 have fewer, and 2 of those
# stand in a wrong place.
FIRM_OBSERVATIONS = 40
MAX_ADJUSTING_ROUNDS = 5  # iterations of a bundle adjustment of everything; the next adjustment continues it
MAX_LOCAL_ROUNDS = 3  # iterations of a bundle adjustment around a photo that has joined
LOCAL_PHOTOS = 4  # photos that are adjusted together when one joins
MIN_IMPROVEMENT = 1e-3  # an adjustment ends where an iteration takes away a smaller share of the error
MIN_COVERAGE_GAIN = 0.8  # a point that adds a smaller share to what its photos know is left out of an adjustment
GROWTH = 3.0  # factor of growth between two adjustments of everything, which take most of the time
MAX_ERROR_PX = 3.5  # an observation that lies farther from its point is dropped; px at the size of `Features`
MIN_ALIGNED = 12  # fewest common points by which two solves are put together
ALIGNED_SHARE = 0.02  # distance within which two places of one point agree, as a share of a solve's extent


@dataclass(frozen=True)
class Features:
    """Places in one photo that may be matched.

    Attributes:
        xy: (n, 2) float32, px, the middle of the first pixel at 0.5.
        size: width and height, px.
        camera: photos with one number share a lens, and so its focal length and distortion.
        focal_35mm: mm, 35 mm equivalent; None where unknown.
    """

    xy: np.ndarray
    size: tuple[int, int]
    camera: int
    focal_35mm: float | None = None


@dataclass(frozen=True)
class Solve:
    """Cameras and points in one world, whose unit and axes mean nothing.

    Attributes:
        photos: (n,) which photos joined, ascending.
        poses: (n, 3, 4) float64 from world to camera: x right, y down, z into the picture.
        lenses: (n, 4) float64 focal length, centre x, centre y in px, and the first radial distortion.
        points: (p, 3) float64.
        errors: (p,) mean reprojection error, px.
        seen_point: (o,) the point of each observation.
        seen_photo: (o,) the photo it is seen in.
        seen_feature: (o,) as which of the photo's features.
    """

    photos: np.ndarray
    poses: np.ndarray
    lenses: np.ndarray
    points: np.ndarray
    errors: np.ndarray
    seen_point: np.ndarray
    seen_photo: np.ndarray
    seen_feature: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        """(n, 3) where the cameras stood."""
        centres: np.ndarray = -np.einsum("nji,nj->ni", self.poses[:, :, :3], self.poses[:, :, 3])
        return centres


Matches = Mapping[tuple[int, int], np.ndarray]
"""For pairs of photos (first < second), (m, 2) numbers of features that are one point of the set."""


def solve_cameras(
    features: Sequence[Features],
    matches: Matches,
    seed: int,
    stop: Cancellation,
    advance: Callable[[int], None] = lambda count: None,
) -> Solve | None:
    """Cameras and points from matches; None where nothing holds together.

    Args:
        features: of every photo.
        matches: that agree with a geometry of two views already.
        seed: of the random choices.
        stop: asked whenever a photo joins.
        advance: called with 1 whenever a photo joins.

    Raises:
        Cancelled: a stop was asked for.
    """
    # glog counts 0 info, 1 warning, 2 error, 3 fatal; what it says of single photos helps nobody here.
    pycolmap.logging.minloglevel = 3
    pycolmap.set_random_seed(seed)
    token = pycolmap.CancellationToken()

    def joined() -> None:
        advance(1)
        if stop.asked:
            token.cancel()

    with tempfile.TemporaryDirectory(prefix="relightgan-") as folder:
        database = Path(folder) / "matches.db"
        _write_database(database, features, matches, stop)
        stop.check()
        found = pycolmap.incremental_mapping(
            database, folder, folder, _mapping_options(seed), next_image_callback=joined, cancellation_token=token
        )
    stop.check()
    if not found:
        return None
    # A solve that grew from a bad pair stays small; COLMAP then starts another.
    solve = without_loose_photos(_solve_of(max(found.values(), key=lambda model: model.num_reg_images())))
    return solve if len(solve.photos) >= MIN_SOLVE_PHOTOS else None


def without_loose_photos(solve: Solve, min_points: int = FIRM_OBSERVATIONS) -> Solve:
    """The solve without photos that hold by fewer than `min_points` points: they often stand in a wrong place."""
    observations = np.bincount(solve.seen_photo, minlength=int(solve.photos.max(initial=0)) + 1)
    firm = observations[solve.photos] >= min_points
    seen = np.isin(solve.seen_photo, solve.photos[firm])
    return replace(
        solve,
        photos=solve.photos[firm],
        poses=solve.poses[firm],
        lenses=solve.lenses[firm],
        seen_point=solve.seen_point[seen],
        seen_photo=solve.seen_photo[seen],
        seen_feature=solve.seen_feature[seen],
    )


def put_together(base: Solve, other: Solve, matches: Matches, seed: int) -> Solve | None:
    """Two solves of different photos as one, through matches between their photos; None where too few agree.

    A similarity is fitted to points that match (Umeyama 1991 inside LO-RANSAC, Chum et al. 2003). Points that come to
    lie on one another become one.

    Args:
        base: keeps its place.
        other: is moved; shares no photo with `base`.
        matches: of photos of both.
        seed: of the random choices.
    """
    pairs = common_points(base, other, matches)
    if len(pairs) < MIN_ALIGNED:
        return None
    extent = float(np.linalg.norm(np.percentile(base.points, 90, axis=0) - np.percentile(base.points, 10, axis=0)))
    options = pycolmap.RANSACOptions(max_error=ALIGNED_SHARE * extent, random_seed=seed)
    similarity = pycolmap.estimate_sim3d_robust(other.points[pairs[:, 1]], base.points[pairs[:, 0]], options)
    if similarity is None:
        return None
    matrix = similarity["tgt_from_src"].matrix() if isinstance(similarity, dict) else similarity.matrix()
    moved = moved_by(other, np.asarray(matrix, np.float64))
    apart = np.linalg.norm(moved.points[pairs[:, 1]] - base.points[pairs[:, 0]], axis=1)
    agreeing = pairs[apart < ALIGNED_SHARE * extent]
    return _joined(base, moved, agreeing) if len(agreeing) >= MIN_ALIGNED else None


def common_points(base: Solve, other: Solve, matches: Matches) -> np.ndarray:
    """(n, 2) numbers of points of both solves whose features match, each point once, the most matched first."""
    in_base, in_other = _points_by_feature(base), _points_by_feature(other)
    votes: dict[tuple[int, int], int] = {}
    for (first, second), rows in matches.items():
        for i, j in rows:
            one, two = (first, int(i)), (second, int(j))
            if one in in_other:
                one, two = two, one
            if one in in_base and two in in_other:
                pair = in_base[one], in_other[two]
                votes[pair] = votes.get(pair, 0) + 1
    chosen: list[tuple[int, int]] = []
    taken_base: set[int] = set()
    taken_other: set[int] = set()
    for pair in sorted(votes, key=lambda pair: (-votes[pair], pair)):
        if pair[0] not in taken_base and pair[1] not in taken_other:
            chosen.append(pair)
            taken_base.add(pair[0])
            taken_other.add(pair[1])
    return np.array(chosen, np.int64).reshape(-1, 2)


def moved_by(solve: Solve, similarity: np.ndarray) -> Solve:
    """The solve in another world.

    Args:
        solve: to move.
        similarity: (3, 4) scaled rotation and translation, from its world to the other.
    """
    scale = float(np.cbrt(np.linalg.det(similarity[:, :3])))
    rotation = similarity[:, :3] / scale
    turned = solve.poses[:, :, :3] @ rotation.T
    shift = scale * solve.poses[:, :, 3] - turned @ similarity[:, 3]
    poses = np.concatenate([turned, shift[:, :, None]], axis=2)
    return replace(solve, poses=poses, points=solve.points @ similarity[:, :3].T + similarity[:, 3])


def project(pose: np.ndarray, lens: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points appear in a photo: (n, 2) px, and their depth (n,), negative behind the camera.

    Args:
        pose: (3, 4), as in `Solve.poses`.
        lens: (4,), as in `Solve.lenses`; COLMAP's SIMPLE_RADIAL.
        points: (n, 3).
    """
    local = points @ pose[:, :3].T + pose[:, 3]
    depth = local[:, 2]
    flat = local[:, :2] / np.where(np.abs(depth) > 1e-9, depth, 1e-9)[:, None]
    bent = flat * (1 + lens[3] * (flat**2).sum(axis=1, keepdims=True))
    return lens[0] * bent + lens[1:3], depth


def pixels_of(focal_35mm: float | None, size: tuple[int, int]) -> float:
    """Focal length in px of a photo of this width and height; a usual one where EXIF says nothing."""
    if focal_35mm is None:
        return USUAL_FOCAL * max(size)
    return float(focal_35mm / FRAME_DIAGONAL_MM * np.hypot(*size))


# Private implementation


def _mapping_options(seed: int) -> pycolmap.IncrementalPipelineOptions:
    options = pycolmap.IncrementalPipelineOptions()
    options.min_num_matches = MIN_PAIR_MATCHES
    options.multiple_models = True
    options.max_num_models = MAX_STARTS
    options.min_model_size = MIN_SOLVE_PHOTOS
    options.extract_colors = False
    # It places photos that share too few points with the solve to join it; few of them stay, see FIRM_OBSERVATIONS.
    options.structure_less_registration_fallback = False
    options.ba_global_frames_ratio = options.ba_global_points_ratio = GROWTH
    options.ba_global_max_refinements = options.ba_local_max_refinements = 1
    options.ba_global_max_num_iterations, options.ba_local_max_num_iterations = MAX_ADJUSTING_ROUNDS, MAX_LOCAL_ROUNDS
    options.ba_global_function_tolerance = options.ba_local_function_tolerance = MIN_IMPROVEMENT
    options.mapper.ba_local_num_images = LOCAL_PHOTOS
    options.num_threads = 1
    options.random_seed = seed
    options.mapper.init_min_num_inliers = START_INLIERS
    options.mapper.abs_pose_min_num_inliers = JOIN_INLIERS
    # Points that add little are adjusted afterwards, by cameras that stay.
    options.mapper.ba_global_ignore_redundant_points3D = True
    options.mapper.ba_global_prune_points_min_coverage_gain = MIN_COVERAGE_GAIN
    options.mapper.filter_max_reproj_error = MAX_ERROR_PX
    options.mapper.num_threads = 1
    options.mapper.random_seed = seed
    options.triangulation.random_seed = seed
    return options


def _write_database(path: Path, features: Sequence[Features], matches: Matches, stop: Cancellation) -> None:
    database = pycolmap.Database.open(str(path))
    cameras: dict[int, pycolmap.Camera] = {}
    try:
        for number, one in enumerate(features, 1):
            if len(one.xy) == 0:
                continue
            identity = one.camera + 1  # COLMAP counts everything from 1
            if identity not in cameras:
                focal = pixels_of(one.focal_35mm, one.size)
                model = pycolmap.CameraModelId.SIMPLE_RADIAL
                camera = pycolmap.Camera.create_from_model_id(identity, model, focal, *one.size)
                camera.has_prior_focal_length = one.focal_35mm is not None
                cameras[identity] = camera
                database.write_camera(camera, use_camera_id=True)
                rig = pycolmap.Rig(rig_id=identity)
                rig.add_ref_sensor(camera.sensor_id)
                database.write_rig(rig, use_rig_id=True)
            image = pycolmap.Image(name=str(number), camera_id=identity, image_id=number)
            database.write_image(image, use_image_id=True)
            frame = pycolmap.Frame(rig_id=identity, frame_id=number)
            frame.add_data_id(image.data_id)
            database.write_frame(frame, use_frame_id=True)
            database.write_keypoints(number, one.xy.astype(np.float32).reshape(-1, 2))
        with pycolmap.DatabaseTransaction(database):
            for first, second in sorted(matches):
                stop.check()
                rows = matches[first, second].astype(np.uint32)
                if len(rows) >= MIN_PAIR_MATCHES:
                    database.write_matches(first + 1, second + 1, rows)
                    database.write_two_view_geometry(first + 1, second + 1, _agreed(rows))
    finally:
        database.close()


def _agreed(rows: np.ndarray) -> pycolmap.TwoViewGeometry:
    """Matches as COLMAP takes them once they agree with one geometry, which was seen to where they were made.

    Its own search for that geometry would find the same matches again. What kind of geometry it is, the solve doesn't
    ask: the two photos it starts from are looked at anew.
    """
    geometry = pycolmap.TwoViewGeometry()
    geometry.config = pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
    geometry.inlier_matches = rows
    return geometry


def _solve_of(reconstruction: pycolmap.Reconstruction) -> Solve:
    images = sorted(reconstruction.reg_image_ids())
    poses = [reconstruction.image(number).cam_from_world().matrix() for number in images]
    lenses = [reconstruction.camera(reconstruction.image(number).camera_id).params for number in images]
    points = [reconstruction.point3D(number) for number in sorted(reconstruction.point3D_ids())]
    observations = sorted(
        (row, element.image_id - 1, element.point2D_idx)
        for row, point in enumerate(points)
        for element in point.track.elements
    )
    seen = np.array(observations, np.int64).reshape(-1, 3)
    return Solve(
        np.array(images, np.int64) - 1,
        np.array(poses, np.float64).reshape(-1, 3, 4),
        np.array(lenses, np.float64).reshape(-1, 4),
        np.array([point.xyz for point in points], np.float64).reshape(-1, 3),
        np.array([point.error for point in points], np.float64),
        *(np.ascontiguousarray(column) for column in seen.T),
    )


def _points_by_feature(solve: Solve) -> dict[tuple[int, int], int]:
    return {
        (int(photo), int(feature)): int(point)
        for point, photo, feature in zip(solve.seen_point, solve.seen_photo, solve.seen_feature, strict=True)
    }


def _joined(base: Solve, other: Solve, same: np.ndarray) -> Solve:
    """One solve of both, `same` (n, 2) being points of both that are one; they keep their place in `base`."""
    number = np.full(len(other.points), -1)
    number[same[:, 1]] = same[:, 0]
    own = np.nonzero(number < 0)[0]
    number[own] = len(base.points) + np.arange(len(own))
    photos = np.concatenate([base.photos, other.photos])
    order = np.argsort(photos)
    return Solve(
        photos[order],
        np.concatenate([base.poses, other.poses])[order],
        np.concatenate([base.lenses, other.lenses])[order],
        np.concatenate([base.points, other.points[own]]),
        np.concatenate([base.errors, other.errors[own]]),
        np.concatenate([base.seen_point, number[other.seen_point]]),
        np.concatenate([base.seen_photo, other.seen_photo]),
        np.concatenate([base.seen_feature, other.seen_feature]),
    )
