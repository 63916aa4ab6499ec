"""Detail: how much contrast texture needs for relit photos to look as crisp as photos of the wanted light.

A hard sun draws the grain of stone that clouds leave flat, and photos of both days show by how much. A fit of gains
can't learn it: places are found again to a pixel or so, and what lies a pixel off is best guessed flat. So it isn't
learned place by place but measured over content-paired photos, as one number. (Matching statistics of features instead
of features: Gatys, Ecker and Bethge 2016, arXiv:1508.06576; here of the finest band of log luminance.)
"""

import numpy as np
import torch
from torch import Tensor

from relightgan.training.pairs.pairing import Pairs
from relightgan.training.photos.bank import Images
from relightgan.training.relight.gain_grid import WHOLE, box_mean, plate_gain, weigh_luminance
from relightgan.training.relight.networks import GainGridNet
from relightgan.training.stops import tensor_stops
from relightgan.training.torch_colour import decode_srgb

PHOTOS = 256  # of each day that are looked at, at most; of 128, looks came out with 0.05 more or less detail
MOST_DETAIL = 0.6  # either way; photos that ask for more differ in lens or focus, not in light
# Of what photos ask for. Plates are sharper than photos, and the finer the band, the less the days differ: on a set
# that was rendered, clouds left 0.70 of the sun's energy in the finest band of photos, and 0.75 in that of plates twice
# as large.
SHARE = 0.75
STEP = 0.2  # of the detail that is tried, to see what it does
FAINTEST = 1e-8  # stops squared; less is none
HALVINGS = 20


@torch.no_grad()
def measured_detail(net: GainGridNet, a: Images, b: Images, pairs: Pairs) -> float:
    """The detail with which relit photos have as much energy in their finest band as photos of the wanted light.

    Args:
        net: that relights.
        a: source photos.
        b: target photos.
        pairs: of photos that show the same.

    Returns:
        See `gain_grid.gain_at`; at most `SHARE * MOST_DETAIL` either way, and 0 where nothing has texture.
    """
    device = net.detail.device
    plain = []
    photos, often = photos_of(pairs.a, pairs.probability)
    for photo in photos:
        plate = decode_srgb(as_tensor(a, photo, device))
        operators, window = net(plate), WHOLE.to(device)
        without, with_detail = (
            finest(plate * torch.exp2(plate_gain(plate, window, operators, net.settings.depth, detail)))
            for detail in (torch.zeros_like(net.detail), torch.full_like(net.detail, STEP))
        )
        added = (with_detail - without) / STEP
        plain.append([float(e.mean()) for e in (without**2, without * added, added**2)])
    theirs = np.isin(pairs.a, photos)  # so that what photos show cancels
    wanted_photos, wanted_often = photos_of(pairs.b[theirs], pairs.probability[theirs])
    wanted = [float((finest(decode_srgb(as_tensor(b, photo, device))) ** 2).mean()) for photo in wanted_photos]
    return solved(np.array(plain).reshape(-1, 3), often, np.array(wanted), wanted_often)


def photos_of(photos: np.ndarray, probability: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The photos that are in pairs, and how often each is drawn; of very many, `PHOTOS` by chance.

    Args:
        photos: (n,) of each pair.
        probability: (n,) of each pair.
    """
    often = np.bincount(photos, probability)
    drawn = np.nonzero(often)[0]
    if len(drawn) > PHOTOS:
        drawn = np.sort(np.random.default_rng(0).choice(drawn, PHOTOS, replace=False))
    return drawn.tolist(), often[drawn]


def solved(energies: np.ndarray, often: np.ndarray, wanted: np.ndarray, wanted_often: np.ndarray) -> float:
    """The detail d, held in bounds, with which a usual picture is as crisp as a usual photo of the wanted light.

    Logarithms of energies are compared: a few pictures full of leaves shouldn't speak for all. Pictures without texture
    don't count.

    Args:
        energies: (n, 3) of the finest band of pictures as they are, of what a detail of 1 adds to it, and in the middle
            column of both with each other.
        often: (n,) how much each counts.
        wanted: (m,) energies of photos of the wanted light.
        wanted_often: (m,) how much each counts.
    """
    textured, wanted_textured = energies[:, 2] > FAINTEST, wanted > FAINTEST
    if not textured.any() or not wanted_textured.any():
        return 0.0  # nothing has texture
    plain, both, added = energies[textured].T
    goal = np.average(np.log(wanted[wanted_textured]), weights=wanted_often[wanted_textured])
    low, high = -MOST_DETAIL, MOST_DETAIL
    for _ in range(HALVINGS):
        detail = (low + high) / 2
        reached = np.log(np.maximum(plain + 2 * detail * both + detail**2 * added, FAINTEST))
        low, high = (detail, high) if np.average(reached, weights=often[textured]) < goal else (low, detail)
    return SHARE * (low + high) / 2


def finest(linear: Tensor) -> Tensor:
    """(N, 1, H, W) stops: what of a picture's log2 luminance differs from the mean around; seen as a photo, 0..1."""
    stops = tensor_stops(weigh_luminance(linear.clamp(0, 1)))
    return stops - box_mean(stops)


def as_tensor(bank: Images, index: int, device: torch.device) -> Tensor:
    """(1, 3, H, W) a photo, sRGB-encoded."""
    return torch.from_numpy(np.array(bank[index])).permute(2, 0, 1)[None].contiguous().to(device)
