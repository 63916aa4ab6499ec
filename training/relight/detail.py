"""Detail: the change of texture contrast that makes relit photos as crisp as photos of the target light.

Hard sun shows the grain of stone that overcast light leaves flat. Photos of both days show by how much. A fit of gains
can't learn this: places are matched to about a pixel, and regression to targets that are a pixel off flattens texture.
So detail is one number, measured over content-paired photos by the energy of the finest band of log luminance.
(Matching statistics instead of places: Gatys, Ecker and Bethge 2016, arXiv:1508.06576.)
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

MAX_PHOTOS = 256  # the maximum number of photos measured per day; with 128 the detail varied by 0.05
MAX_DETAIL = 0.6  # the largest measured detail, either way; beyond it photos differ in lens or focus, not in light
# The share of the photos' detail that plates get. Plates are sharper than photos, and days differ less in finer bands:
# on a rendered set, the overcast day had 0.70 of the sunny day's energy in the finest band of photos, and 0.75 in that
# of plates twice as large.
PLATE_SHARE = 0.75
TRIAL_DETAIL = 0.2  # the detail that photos are relit with to measure its effect
MIN_ENERGY = 1e-8  # the minimum energy of a picture with texture, in stops squared
HALVINGS = 20  # steps of the bisection for the detail


@torch.no_grad()
def measured_detail(net: GainGridNet, a: Images, b: Images, pairs: Pairs) -> float:
    """The detail with which relit photos have as much energy in their finest band as photos of the target light.

    Args:
        net: the network that relights.
        a: source photos.
        b: target photos.
        pairs: content pairs.

    Returns:
        The detail, see `gain_grid.gain_at`: at most `PLATE_SHARE * MAX_DETAIL` either way, 0 where nothing has texture.
    """
    device = net.detail.device
    plain = []
    photos, often = photos_of(pairs.a, pairs.probability)
    for photo in photos:
        plate = decode_srgb(as_tensor(a, photo, device))
        operators, window = net(plate), WHOLE.to(device)
        without, with_detail = (
            finest_band(plate * torch.exp2(plate_gain(plate, window, operators, net.settings.depth, detail)))
            for detail in (torch.zeros_like(net.detail), torch.full_like(net.detail, TRIAL_DETAIL))
        )
        added = (with_detail - without) / TRIAL_DETAIL
        plain.append([float(e.mean()) for e in (without**2, without * added, added**2)])
    theirs = np.isin(pairs.a, photos)  # the same pairs on both sides, so that differences of content cancel
    wanted_photos, wanted_often = photos_of(pairs.b[theirs], pairs.probability[theirs])
    wanted = [float((finest_band(decode_srgb(as_tensor(b, photo, device))) ** 2).mean()) for photo in wanted_photos]
    return solve_detail(np.array(plain).reshape(-1, 3), often, np.array(wanted), wanted_often)


def photos_of(photos: np.ndarray, probability: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The photos that occur in pairs, with their weights; `MAX_PHOTOS` random ones where there are more.

    Args:
        photos: (n,) photo index of each pair.
        probability: (n,) probability of each pair.
    """
    often = np.bincount(photos, probability)
    drawn = np.nonzero(often)[0]
    if len(drawn) > MAX_PHOTOS:
        drawn = np.sort(np.random.default_rng(0).choice(drawn, MAX_PHOTOS, replace=False))
    return drawn.tolist(), often[drawn]


def solve_detail(energies: np.ndarray, often: np.ndarray, wanted: np.ndarray, wanted_often: np.ndarray) -> float:
    """The detail, clamped, at which relit pictures have the mean log energy of photos of the target light.

    Means of logarithms are compared, so that a few pictures full of leaves don't decide for all. Pictures without
    texture don't count.

    Args:
        energies: (n, 3) of each picture: the energy of its finest band, the product of that band with the change made
            by a detail of 1, and the energy of that change; in stops squared.
        often: (n,) weights of the pictures.
        wanted: (m,) energies of photos of the target light, in stops squared.
        wanted_often: (m,) weights of these photos.
    """
    textured, wanted_textured = energies[:, 2] > MIN_ENERGY, wanted > MIN_ENERGY
    if not textured.any() or not wanted_textured.any():
        return 0.0  # nothing has texture
    plain, both, added = energies[textured].T
    goal = np.average(np.log(wanted[wanted_textured]), weights=wanted_often[wanted_textured])
    low, high = -MAX_DETAIL, MAX_DETAIL
    for _ in range(HALVINGS):
        detail = (low + high) / 2
        reached = np.log(np.maximum(plain + 2 * detail * both + detail**2 * added, MIN_ENERGY))
        low, high = (detail, high) if np.average(reached, weights=often[textured]) < goal else (low, detail)
    return PLATE_SHARE * (low + high) / 2


def finest_band(linear: Tensor) -> Tensor:
    """(N, 1, H, W) stops: log2 luminance minus its local mean, of pictures (N, 3, H, W) linear, clamped to 0..1."""
    stops = tensor_stops(weigh_luminance(linear.clamp(0, 1)))
    return stops - box_mean(stops)


def as_tensor(bank: Images, index: int, device: torch.device) -> Tensor:
    """A photo as (1, 3, H, W) float32, sRGB-encoded 0..1."""
    return torch.from_numpy(np.array(bank[index])).permute(2, 0, 1)[None].contiguous().to(device)
