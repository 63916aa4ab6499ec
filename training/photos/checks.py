"""Measures of one picture, and checks of a folder's measures for pictures that are no use for training.

Blur is judged relative to the rest of the folder, and only where it would show at training sizes, so that the photos of
a soft lens are kept. The limits were set on handheld renders, film frames, and re-saved, shifted and blurred copies of
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from relightgan.training.photos.files import fit_inside, to_float

MEASURE_SIDE = 640
"""Longest side, px, of the copy that is measured: blur that doesn't show in it doesn't show in training either."""
SIGNATURE_SIDE = 24
"""Cells each way of a luma signature: coarse enough to be the same for any JPEG quality and size, fine enough to show a
shift by 1/300 of the frame."""
CHROMA_SIDE = 8  # cells each way of a chroma signature
LUMA_CELLS = SIGNATURE_SIDE**2
SIGNATURE_BYTES = LUMA_CELLS + 2 * CHROMA_SIDE**2
CLIPPED_LEVEL = 250 / 255  # a pixel with all three channels at or above this is blown out
DARK_LEVEL = 8 / 255  # a pixel with all three channels at or below this is black
EDGE_GRADIENTS = (0.02, 0.008)
"""Gradients of encoded luma per px, after a Gaussian of 2 px, above which a pixel is an edge. The first is well above
sensor noise; where it finds too few edges, as in strong blur, the second is tried. Clouds stay below both."""
SHARPEST_PERCENTILE = 95  # percentile of the sharpness of edges that is taken for the sharpness of a picture
EDGE_SHARE = 0.002  # share of all pixels that must be edges in one direction to measure the blur across it
SIGMA_FINE, SIGMA_COARSE = 1.0, 2.0  # px, standard deviations of the two Gaussians of the re-blur ratio
DIFFERENCE_VARIANCE = 1 / 3  # px^2, blur that a central difference adds by averaging over two pixels
FULL_CONTRAST = 40.0
"""Standard deviation of a signature, 8-bit levels, above which copies may differ by the full tolerance."""
SAME_MEAN, SAME_PEAK, SAME_CHROMA = 0.7, 4.0, 2.5  # 8-bit levels: mean and 99th percentile of luma, mean of chroma


@dataclass(frozen=True)
class Measures:
    """The measures of one picture."""

    blur_px: float | None  # standard deviation of the blur, px of the measured copy; None with too few edges
    brightness: float  # mean luma, sRGB-encoded
    clipped: float  # share of blown-out pixels, 0..1; 0 for scene-linear files
    dark: float  # share of black pixels, 0..1
    spread: float  # difference of the 99th and the 1st percentile of encoded luma
    signature: bytes  # SIGNATURE_BYTES bytes: 24x24 luma, then 8x8 of two colour differences


def measure_photo(rgb: np.ndarray, is_hdr: bool) -> Measures:
    """The measures of a picture, in under 1 kB.

    Args:
        rgb: (H, W, 3) uint8 sRGB or float32 srgb_log, upright.
        is_hdr: True for a scene-linear file, whose values above 1 are not clipped.
    """
    small = to_float(fit_inside(rgb, MEASURE_SIDE))
    luma = encoded_luma(small)
    low, high = np.percentile(luma, (1, 99))
    red, green, blue = np.moveaxis(small, -1, 0)
    return Measures(
        blur_px=blur_of(luma),
        brightness=round(float(luma.mean()), 4),
        clipped=0.0 if is_hdr else round(float((np.minimum(np.minimum(red, green), blue) >= CLIPPED_LEVEL).mean()), 4),
        dark=round(float((np.maximum(np.maximum(red, green), blue) <= DARK_LEVEL).mean()), 4),
        spread=round(float(high - low), 4),
        signature=signature_of(small),
    )


def encoded_luma(rgb: np.ndarray) -> np.ndarray:
    """(H, W) float32: Rec.709 weights on encoded values (luma, ITU-R BT.709 3.2), not luminance."""
    return np.asarray(rgb @ np.array([0.2126, 0.7152, 0.0722], np.float32))


def blur_of(luma: np.ndarray) -> float | None:
    """The blur of a picture's edges: standard deviation of a Gaussian in px, 0 pixel-sharp, imprecise above 4.

    At an edge of blur b, the gradient falls with 1/sqrt(b^2 + s^2) when blurred once more by s. The ratio of two such
    gradients gives b, whatever the contrast and content (re-blur ratio: Zhuo and Sim, "Defocus map estimation from a
    single image", Pattern Recognition 44, 2011). The sharpest twentieth of the edges is taken, so that shallow focus is
    no fault. Of four edge directions the most blurred one is taken, so that motion blur is found.

    Args:
        luma: (H, W) float32, encoded.

    Returns:
        None where no direction has enough edges, as in a clear sky.
    """
    fine_x, fine_y = _gradient(luma, SIGMA_FINE)
    coarse_x, coarse_y = _gradient(luma, SIGMA_COARSE)
    strength = np.hypot(coarse_x, coarse_y)
    sharpest: list[float] = []
    for threshold in EDGE_GRADIENTS:
        edges = strength > threshold
        ratio = np.hypot(fine_x[edges], fine_y[edges]) / strength[edges]
        angle = np.arctan2(coarse_y[edges], coarse_x[edges])
        direction = np.floor((angle + np.pi / 8) / (np.pi / 4)).astype(int) % 4
        groups = [ratio[direction == turn] for turn in range(4)]
        sharpest = [
            float(np.percentile(group, SHARPEST_PERCENTILE)) for group in groups if len(group) >= EDGE_SHARE * luma.size
        ]
        if sharpest:
            break
    else:
        return None
    squared = max(min(sharpest) ** 2, 1.0 + 1e-3)
    fine, coarse = SIGMA_FINE**2 + DIFFERENCE_VARIANCE, SIGMA_COARSE**2 + DIFFERENCE_VARIANCE
    blur = (coarse - squared * fine) / (squared - 1.0)
    return round(float(np.sqrt(max(blur, 0.0))), 3)


def signature_of(rgb: np.ndarray) -> bytes:
    """A tiny, smooth copy of a picture, nearly the same for every size and quality that it was saved in.

    Args:
        rgb: (H, W, 3) float32, encoded.
    """
    eight_bit = np.clip(rgb * 255, 0, 255).astype(np.float32)
    luma = encoded_luma(eight_bit)
    chroma = np.stack([eight_bit[..., 0] - luma, eight_bit[..., 2] - luma], -1) / 2 + 128
    parts = [_smooth_cells(luma, SIGNATURE_SIDE), _smooth_cells(np.ascontiguousarray(chroma), CHROMA_SIDE)]
    return b"".join(np.round(np.clip(part, 0, 255)).astype(np.uint8).tobytes() for part in parts)


def faults(measures: Measures, width: int, height: int, min_side_px: int, wasted_share: float) -> str:
    """Why a picture is left out on its own account; empty where it passes.

    Args:
        measures: of the picture.
        width: px, of the file.
        height: px.
        min_side_px: shortest side that passes.
        wasted_share: share of black or of blown-out pixels, 0..1, from which a picture is left out.
    """
    if min(width, height) < min_side_px:
        return f"too small: {width}x{height}, at least {min_side_px} px are needed each way"
    if measures.dark >= wasted_share:
        return f"black: {measures.dark:.0%} of the pixels"
    if measures.clipped >= wasted_share:
        return f"blown out: {measures.clipped:.0%} of the pixels are white"
    if measures.spread < 3 / 255:
        return "empty: one flat colour"
    return ""


def blur_limit(blurs_px: Sequence[float | None], blur_px: float, blur_ratio: float) -> float:
    """The limit of blur for a folder's pictures, px of the measured copy.

    Args:
        blurs_px: blur of every picture in the folder.
        blur_px: blur that passes in any folder.
        blur_ratio: limit as a multiple of the blur of the folder's sharper quarter.
    """
    known = [blur for blur in blurs_px if blur is not None]
    usual = float(np.percentile(known, 25)) if known else 0.0
    return max(blur_px, blur_ratio * usual)


def find_copies(signatures: np.ndarray, order: Sequence[int], tolerance: float) -> dict[int, int]:
    """The near-duplicates among pictures.

    Args:
        signatures: (N, SIGNATURE_BYTES) uint8.
        order: rows by preference: of two similar pictures, the earlier one in `order` is kept.
        tolerance: 1 finds re-saved pictures and bursts on a tripod; higher values find more; 0 finds none.

    Returns:
        Row of the copy -> row of the picture kept instead.
    """
    if tolerance <= 0 or len(order) < 2:
        return {}
    luma = signatures[:, :LUMA_CELLS].astype(np.int16)
    chroma = signatures[:, LUMA_CELLS:].astype(np.int16)
    # A difference of a few levels matters more in a picture of low contrast.
    allowed = tolerance * np.clip(luma.std(1) / FULL_CONTRAST, 0.5, 1.0)
    mean = luma.mean(1)
    by_mean = np.argsort(mean, kind="stable")
    sorted_mean = mean[by_mean]
    kept = np.zeros(len(signatures), bool)
    copies: dict[int, int] = {}
    for row in order:
        # Similar pictures have similar means (|mean a - mean b| <= mean |a - b|), so only these need to be compared.
        reach = SAME_MEAN * allowed[row]
        near = by_mean[slice(*np.searchsorted(sorted_mean, (mean[row] - reach, mean[row] + reach + 1e-9)))]
        found = _first_alike(luma, chroma, row, near[kept[near]], float(allowed[row]))
        if found is None:
            kept[row] = True
        else:
            copies[row] = found
    return copies


# Private implementation


def _gradient(luma: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    smooth = cv2.GaussianBlur(luma, (0, 0), sigma)
    return (
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)),
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)),
    )


def _smooth_cells(picture: np.ndarray, side: int) -> np.ndarray:
    # By way of a copy four times as fine: at full size the Gaussian would take most of the time of measuring.
    fine = 4 * side
    how = cv2.INTER_AREA if min(picture.shape[:2]) >= fine else cv2.INTER_LINEAR
    finer = cv2.resize(picture, (fine, fine), interpolation=how)
    return np.asarray(cv2.resize(cv2.GaussianBlur(finer, (0, 0), 2.0), (side, side), interpolation=cv2.INTER_AREA))


def _first_alike(luma: np.ndarray, chroma: np.ndarray, row: int, others: np.ndarray, allowed: float) -> int | None:
    for start in range(0, len(others), 512):
        some = others[start : start + 512]
        difference = np.abs(luma[some] - luma[row])
        some, difference = some[mild := difference.mean(1) <= SAME_MEAN * allowed], difference[mild]
        if len(some) == 0:
            continue
        same = np.percentile(difference, 99, axis=1) <= SAME_PEAK * allowed
        same &= np.abs(chroma[some] - chroma[row]).mean(1) <= SAME_CHROMA * allowed
        if same.any():
            return int(some[np.argmax(same)])
    return None
