"""Lessons: the wanted colours of crops of source photos in the target light.

*Guided* lessons are dense: guidance from the target day's photos at each pixel of a crop (see `guidance.maps`).
*Measured* lessons are sparse: gains of patches that look alike on both days (see `pairs.patch_gains`), for sets that
can't be registered.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from relightgan.training.fit.batches import sample_affine, workers
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.pairs.patch_gains import GainSamples
from relightgan.training.relight.gain_grid import WHOLE, pixel_positions
from relightgan.training.stops import CLIPPED_STOPS, DARK_FLOOR, tensor_stops, to_stops
from relightgan.training.torch_colour import encode_srgb

# Wanted colours from here up were clipped in the photo: the true colour is at least this bright. A little below
# `CLIPPED_STOPS`, as storing maps as float16 and resampling them round.
WHITE_STOPS = CLIPPED_STOPS - 2.0**-10
LESSON_SHRINK = 2  # the proxy is reduced by this to the raster of a guided lesson; cells of the grid are larger still
MIN_WEIGHT = 0.05  # the minimum weight of guidance that is used; less occurs at the borders of known areas
HUBER_WIDTH = 0.1  # the error in sRGB code values up to which the loss is quadratic; above it is linear
PICTURE_SCALE = 20.0  # the weight of errors in sRGB code values, which are small numbers beside those in stops
STOPS_SHARE = 0.1  # the weight of errors in stops, which count in the dark as in the light
MAX_LINEAR = 4.0  # the clamp of relit colours in the picture error; above it only the error in stops has a gradient


@dataclass(frozen=True)
class Lesson:
    """Places of N crops, and their wanted colours in the target light.

    Attributes:
        position: (N, h, w, 2) x and y of the places in the crop, 0..1.
        plate: (N, 3, h, w) linear colours of the crop there.
        wanted: (N, 3, h, w) stops (`stops.to_stops`) in the target light; values from `WHITE_STOPS` up are minima.
        weight: (N, 1, h, w) trust in the wanted colour; 0 where nothing is known.
    """

    position: Tensor
    plate: Tensor
    wanted: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> "Lesson":
        """The same on another device."""
        return Lesson(*(part.to(device) for part in (self.position, self.plate, self.wanted, self.weight)))

    def rows(self, which: Tensor) -> "Lesson":
        """The lesson of some of the crops, by their indices."""
        return Lesson(*(part[which] for part in (self.position, self.plate, self.wanted, self.weight)))


def guided_lesson(maps: GuidanceMaps, rows: np.ndarray, matrices: np.ndarray, plate: Tensor) -> Lesson:
    """The guided lesson of crops.

    Args:
        maps: guidance of the source photos.
        rows: (N,) indices into the maps, one per crop.
        matrices: (N, 2, 3) affine maps from x, y in a crop to x, y in its photo, both 0..1.
        plate: (N, 3, h, w) the crops, linear; h and w are even.
    """
    small = F.avg_pool2d(plate, LESSON_SHRINK)
    height, width = small.shape[-2:]
    side = np.array([maps.weight.shape[2], maps.weight.shape[1]], float)

    def sampled(row: int, matrix: np.ndarray) -> np.ndarray:
        weight = maps.weight[row].astype(np.float32)[..., None]
        known = np.concatenate([maps.colour[row].astype(np.float32) * weight, weight], axis=2)
        return sample_affine(known, matrix[:, :2] * side[:, None], matrix[:, 2] * side, (height, width))

    wanted = np.stack(list(workers().map(sampled, rows.tolist(), matrices)))
    weight = np.where(wanted[..., 3:] > MIN_WEIGHT, wanted[..., 3:], 0)
    colour = wanted[..., :3] / np.maximum(wanted[..., 3:], MIN_WEIGHT)
    position = pixel_positions(height, width, WHOLE)
    return Lesson(
        position.expand(len(rows), height, width, 2), small, *(
            torch.from_numpy(part).permute(0, 3, 1, 2).contiguous() for part in (colour, weight.astype(np.float32))
        )
    )  # fmt: skip


def measured_lesson(
    samples: GainSamples, photos: np.ndarray, matrices: np.ndarray, rng: np.random.Generator, count: int
) -> Lesson:
    """The measured lesson of crops: `count` random measured gains from inside each crop.

    Args:
        samples: measured gains of the source photos.
        photos: (N,) photo index of each crop.
        matrices: (N, 2, 3) affine maps from x, y in a crop to x, y in its photo, both 0..1.
        rng: draws the gains.
        count: number of gains per crop; crops without gains get weight 0.
    """
    n = len(photos)
    position, plate = np.full((n, count, 2), 0.5, np.float32), np.full((n, count, 3), 0.5, np.float32)
    gain, weight = np.zeros((n, count, 3), np.float32), np.zeros((n, count), np.float32)
    for row, (photo, matrix) in enumerate(zip(photos, matrices, strict=True)):
        where = samples.of(int(photo))
        xy = (samples.xy[where] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        inside = np.nonzero(((xy > 0) & (xy < 1)).all(axis=1))[0]
        if len(inside) == 0:
            continue
        drawn = rng.choice(inside, count)
        position[row], plate[row] = xy[drawn], samples.plate[where][drawn]
        gain[row], weight[row] = samples.gain[where][drawn], samples.weight[where][drawn]
    wanted = to_stops(plate) + gain

    def place(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).transpose(1, 2)[:, :, None]

    return Lesson(torch.from_numpy(position)[:, None], place(plate), place(wanted), place(weight[..., None]))


def relit_stops(lesson: Lesson, gain: Tensor) -> Tensor:
    """The stops (`stops.to_stops`) of the places of a lesson with gains (N, 3, h, w) applied."""
    return tensor_stops(lesson.plate * torch.exp2(gain.float()))


def missed_stops(lesson: Lesson, relit: Tensor) -> Tensor:
    """Relit minus wanted colours, (N, 3, h, w) stops; 0 where the relit one is above a clipped wanted one."""
    missed = relit - lesson.wanted
    return torch.where((lesson.wanted >= WHITE_STOPS) & (missed > 0), torch.zeros_like(missed), missed)


def lesson_loss(lesson: Lesson, gain: Tensor) -> Tensor:
    """The error of gains in a lesson: a scalar, the weighted mean over its places; 0 where all weights are 0.

    The error in sRGB code values (quadratic up to `HUBER_WIDTH`, linear above: Huber's loss in the smooth form of
    Charbonnier et al., ICIP 1994), plus a small share of the error in stops, for dark places.

    Args:
        lesson: places and wanted colours.
        gain: (N, 3, h, w) stops.
    """
    relit = relit_stops(lesson, gain)
    missed = missed_stops(lesson, relit)
    shown, wanted = (
        encode_srgb((torch.exp2(stops) - DARK_FLOOR).clamp(0, MAX_LINEAR)) for stops in (relit, lesson.wanted)
    )
    off = torch.where(missed == 0, torch.zeros_like(shown), shown - wanted) / HUBER_WIDTH
    picture = 2 * HUBER_WIDTH**2 * (torch.sqrt(1 + off.square()) - 1)
    error = (PICTURE_SCALE * picture + STOPS_SHARE * missed.abs()).mean(dim=1, keepdim=True)
    return (error * lesson.weight).sum() / lesson.weight.sum().clamp(min=1e-6)


def brightened(lesson: Lesson, added: Tensor) -> Lesson:
    """The lesson for crops made brighter by (N, 1, h, w) stops; wanted colours stay."""
    return Lesson(lesson.position, lesson.plate * torch.exp2(added), lesson.wanted, lesson.weight)
