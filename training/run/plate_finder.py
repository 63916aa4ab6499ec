"""Makes guidance for plates: finds where each was taken, and what the photos of the other day saw there."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from relightgan.core.colour import linear_to_srgb, working_space
from relightgan.core.errors import PlateError
from relightgan.core.guidance import FrameGuidance
from relightgan.core.image_file import ImageFile
from relightgan.core.pipeline import Settings, model_light
from relightgan.core.plate import Plate, window_size
from relightgan.training.days import Direction, from_day
from relightgan.training.guidance.observations import badly_placed
from relightgan.training.guidance.plates import PlateViews
from relightgan.training.relight.gain_grid import anchor_of
from relightgan.training.run.registered import RegisteredPhotos
from relightgan.training.world.locating import Locator

PLATE_PX = 1280  # long side that plates are looked at with, at most; points are found at half of it
COLOUR_SPACE = "lin_rec709"  # the space of photos, and so of guidance
EXPOSURE_STEPS = 16  # to a stop, in which plates are brought to the brightness of photos
MAX_FOCAL_MM = 100_000  # beyond any telescope's
FOCAL_NOTE = "Exif:FocalLengthIn35mmFilm"


@dataclass(frozen=True)
class Found:
    """What became of a plate: its guidance, whether it was located, and a line for people."""

    guidance: FrameGuidance
    located: bool
    words: str


class PlateFinder:
    """Makes guidance for plates, each by itself.

    Args:
        photos: of a run, registered.
        direction: "ab" for plates of the source's day, "ba" for those of the target's.
        settings: how plates are to be read.
        focal_35mm: mm, 35 mm equivalent, of all plates; None where their files or the photos shall tell.
    """

    def __init__(
        self, photos: RegisteredPhotos, direction: Direction, settings: Settings, focal_35mm: float | None
    ) -> None:
        day, config = from_day(direction), photos.run.config
        self.locator = Locator(
            photos.registration,
            photos.banks,
            photos.embeddings[day],
            photos.run.backbone,
            config.matching,
            config.registration.max_points,
            day,
            ~badly_placed(photos.errors),
        )
        guide = config.guidance
        self.views = PlateViews(
            photos.registration,
            photos.views,
            photos.depths,
            photos.errors,
            day,
            guide.planes,
            guide.neighbours,
            guide.looks,
        )
        own = torch.from_numpy(np.nonzero(photos.views.day == day)[0]).to(photos.views.device)
        self.usual_stops = float(anchor_of(photos.views.colour[own]).mean())
        self.settings, self.focal_35mm = settings, focal_35mm
        self.space = working_space(settings.working_space, COLOUR_SPACE)

    def find(self, plate: Plate) -> Found:
        """A plate's guidance; such that says nothing where the plate can't be located."""
        light = model_light(plate, self.settings, self.space)
        height, width = light.shape[:2]
        # Square pixels, and as bright as photos usually are, so that it doesn't matter how the plate was exposed.
        square = (max(1, round(width * plate.pixel_aspect)), height)
        scale = min(1.0, PLATE_PX / max(square))
        size = (max(1, round(square[0] * scale)), max(1, round(square[1] * scale)))
        small = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        # In whole steps, so that the same plate with another exposure gives the same bits.
        own_stops = float(anchor_of(torch.from_numpy(small).permute(2, 0, 1)[None]))
        brighter = round((self.usual_stops - own_stops) * EXPOSURE_STEPS) / EXPOSURE_STEPS
        small = small * np.float32(2.0**brighter)
        rows, columns = self.views.raster(size)
        nothing = FrameGuidance(
            np.zeros((rows, columns, 3), np.float32),
            np.zeros((rows, columns, 3), bool),
            np.zeros((rows, columns), np.float32),
        )
        centre, share = lens_axis(plate)
        focal = self.focal_35mm if self.focal_35mm is not None else focal_in_file(plate.path)
        picture = linear_to_srgb(np.clip(small, 0, 1)).astype(np.float32)
        # 35 mm equivalents are of the frame that the comp sees; the picture is what there are pixels for.
        raster = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_AREA)
        words = "not found among the photos of its day; no guidance."
        for camera in self.locator.locate(picture, centre, None if focal is None else focal * share):
            judged = self.views.plate_guidance(raster, camera)
            if judged.agrees:
                words = (
                    f"placed by {camera.inliers} points, {judged.error_stops:.2f} stops off its day's photos; "
                    f"{np.mean(judged.guidance.confidence > 0):.0%} of it was seen on the other day."
                )
                return Found(judged.guidance, True, words)
            words = "placed, but too little of it was photographed on its day; no guidance."
            if judged.error_stops is not None:
                words = f"placed, but {judged.error_stops:.2f} stops off what its day's photos predict; no guidance."
        return Found(nothing, False, words)


def lens_axis(plate: Plate) -> tuple[tuple[float, float], float]:
    """Where the middle of the display window lies in the data window, 0..1; and the diagonals' ratio, data to display.

    A lens looks along the middle of what it was to show, whatever part of it, or more, there are pixels for.
    """
    (x0, y0, x1, y1), (left, top, right, bottom) = plate.display_window, plate.data_window
    width, height = right - left, bottom - top
    centre = (((x0 + x1) / 2 - left) / width, ((y0 + y1) / 2 - top) / height)
    shown, aspect = window_size(plate.display_window), plate.pixel_aspect
    return centre, float(np.hypot(shown[0] * aspect, shown[1]) / np.hypot(width * aspect, height))


def focal_in_file(path: Path) -> float | None:
    """The 35 mm equivalent focal length in a file's metadata; None where it has none."""
    try:
        with ImageFile(path) as image:
            focal = float(image.specs[0].get_float_attribute(FOCAL_NOTE, 0.0))
    except PlateError:  # a movie; as a plate it was read before
        return None
    return focal if 0 < focal < MAX_FOCAL_MM else None
