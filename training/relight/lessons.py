"""Lessons: what crops of source photos should look like in the other light, place by place.

*Guided* lessons are dense: what the other day's photos saw wherever a crop looks (see `guidance`). *Measured* ones are
sparse: gains of patches that look alike on both days (see `targets`), for sets that can't be registered.
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

# A wanted colour from here on was clipped, and may be any above; a little less than told, for what storing maps as
# float16 and resampling them rounds off.
WHITE_STOPS = CLIPPED_STOPS - 2.0**-10
LESSON_SHRINK = 2  # proxy pixels to a place of a guided lesson, either way; cells of the grid are wider still
FAINTEST = 0.05  # guidance of less weight than this, at the edge of what is known, isn't asked about
BEARABLE = 0.1  # an error of sRGB code values up to which errors count by their square, and above straight
PICTURE_SCALE = 20.0  # of the errors of the picture, which are small numbers, against those in stops
STOPS_SHARE = 0.1  # of errors in stops, which count in the dark as in the light
BRIGHTEST = 4.0  # linear; where a result is brighter still, only its error in stops tells the way


@dataclass(frozen=True)
class Lesson:
    """Places of N crops, and their colours in the other light.

    Attributes:
        position: (N, h, w, 2) places in the crop, 0..1.
        plate: (N, 3, h, w) linear colour of the crop there.
        wanted: (N, 3, h, w) stops (`stops.to_stops`) in the other light; from `WHITE_STOPS` on "at least".
        weight: (N, 1, h, w) how much to trust it, 0 where nothing is known.
    """

    position: Tensor
    plate: Tensor
    wanted: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> "Lesson":
        """The same on another device."""
        return Lesson(*(part.to(device) for part in (self.position, self.plate, self.wanted, self.weight)))

    def rows(self, which: Tensor) -> "Lesson":
        """That of some of the crops, by their numbers."""
        return Lesson(*(part[which] for part in (self.position, self.plate, self.wanted, self.weight)))


def guided_lesson(maps: GuidanceMaps, rows: np.ndarray, matrices: np.ndarray, plate: Tensor) -> Lesson:
    """What the other day's photos saw where crops look.

    Args:
        maps: of the source photos.
        rows: (N,) the crops' rows in the maps.
        matrices: (N, 2, 3) from a crop's x, y in 0..1 to its photo's.
        plate: (N, 3, h, w) the crops, linear, sides even.
    """
    small = F.avg_pool2d(plate, LESSON_SHRINK)
    height, width = small.shape[-2:]
    side = np.array([maps.weight.shape[2], maps.weight.shape[1]], float)

    def look_up(row: int, matrix: np.ndarray) -> np.ndarray:
        weight = maps.weight[row].astype(np.float32)[..., None]
        known = np.concatenate([maps.colour[row].astype(np.float32) * weight, weight], axis=2)
        return sample_affine(known, matrix[:, :2] * side[:, None], matrix[:, 2] * side, (height, width))

    wanted = np.stack(list(workers().map(look_up, rows.tolist(), matrices)))
    weight = np.where(wanted[..., 3:] > FAINTEST, wanted[..., 3:], 0)
    colour = wanted[..., :3] / np.maximum(wanted[..., 3:], FAINTEST)
    position = pixel_positions(height, width, WHOLE)
    return Lesson(
        position.expand(len(rows), height, width, 2), small, *(
            torch.from_numpy(part).permute(0, 3, 1, 2).contiguous() for part in (colour, weight.astype(np.float32))
        )
    )  # fmt: skip


def measured_lesson(
    samples: GainSamples, photos: np.ndarray, matrices: np.ndarray, rng: np.random.Generator, count: int
) -> Lesson:
    """Draws `count` measured gains for each crop, of those that lie inside it.

    Args:
        samples: of the source photos.
        photos: (N,) the crops' photos.
        matrices: (N, 2, 3) from a crop's x, y in 0..1 to its photo's.
        rng: decides which are drawn.
        count: per crop; crops with none get weight zero.
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
    """By how many stops relit colours (N, 3, h, w) miss the wanted ones; 0 above what was clipped."""
    missed = relit - lesson.wanted
    return torch.where((lesson.wanted >= WHITE_STOPS) & (missed > 0), torch.zeros_like(missed), missed)


def lesson_loss(lesson: Lesson, gain: Tensor) -> Tensor:
    """How badly gains do in a lesson, weighted mean over its places; a scalar, 0 where all weights are 0.

    Errors of the picture as it is looked at (sRGB code values, squared up to `BEARABLE` and straight above it: Huber's
    loss in the smooth form of Charbonnier et al., ICIP 1994), and a little of those in stops, for the dark.

    Args:
        lesson: what is wanted.
        gain: (N, 3, h, w) stops.
    """
    relit = relit_stops(lesson, gain)
    missed = missed_stops(lesson, relit)
    shown, wanted = (
        encode_srgb((torch.exp2(stops) - DARK_FLOOR).clamp(0, BRIGHTEST)) for stops in (relit, lesson.wanted)
    )
    off = torch.where(missed == 0, torch.zeros_like(shown), shown - wanted) / BEARABLE
    picture = 2 * BEARABLE**2 * (torch.sqrt(1 + off.square()) - 1)
    error = (PICTURE_SCALE * picture + STOPS_SHARE * missed.abs()).mean(dim=1, keepdim=True)
    return (error * lesson.weight).sum() / lesson.weight.sum().clamp(min=1e-6)


def brightened(lesson: Lesson, added: Tensor) -> Lesson:
    """The lesson for crops that are shown brighter by (N, 1, h, w) stops; what is wanted stays."""
    return Lesson(lesson.position, lesson.plate * torch.exp2(added), lesson.wanted, lesson.weight)
