"""Measures a relit picture or clip against the truth; each docstring defines its figure.

Pictures come in as (H, W, 3) float32, scene-linear, Rec.709 primaries, unbounded, without NaN. "Display" means clipped
to [0, 1] and sRGB-encoded (IEC 61966-2-1): what papers compute PSNR and SSIM on. "Stops" means log2(x + 2^-7) with x
clamped to at least 0: shadows and highlights count alike, and the offset keeps black finite.
"""

from collections.abc import Mapping

import numpy as np
from skimage.metrics import structural_similarity

from relightgan.core.colour import linear_to_srgb, luminance
from relightgan.core.flow import follow
from relightgan.training.stops import DARK_FLOOR, to_stops

# The range of the stops encoding over linear 0..1: the peak in `log_psnr`, which so doesn't depend on the pictures.
LOG_RANGE_STOPS = 7.0
# The minimum frequency of fine detail, half of Nyquist: blurs and enlarged small rasters lose these frequencies first.
HIGH_BAND_CYCLES_PER_PX = 0.25
CHECKERBOARD_PERIOD_PX = 8  # the largest period of a regular pattern
DECILES = 10  # parts of the pixels in `stops_error_by_decile`
# Gains with a smaller standard deviation, in stops, count as constant: their correlation is 0 instead of noise.
FLAT_STOPS = 1e-5
SHADOW_STOPS = 0.3  # pixels whose true gain is further from its median count in `shadow_sign`
BRIGHTER = 4.0  # the factor on a plate in `exposure_error`


def to_display(linear: np.ndarray) -> np.ndarray:
    """A picture for display: clipped to [0, 1] and sRGB-encoded, float32."""
    return np.asarray(linear_to_srgb(np.clip(linear, 0.0, 1.0).astype(np.float32, copy=False)), dtype=np.float32)


def measure_picture(
    plate: np.ndarray, relit: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None
) -> dict[str, float | list[float]]:
    """All paired figures of one view, by name.

    Args:
        plate: (H, W, 3) float32, scene-linear: the source.
        relit: the same shape: the result to measure.
        truth: the same shape: the same view under the target light.
        mask: (H, W) bool, true on surfaces; None: no `_surfaces` figures.

    Returns:
        psnr, ssim, log_psnr, stops_error, stops_error_deciles (darkest first), gain_correlation, blur_index,
        detail_correlation_truth, detail_correlation_plate, checkerboard_index, and psnr_surfaces, ssim_surfaces,
        stops_error_surfaces where the mask isn't empty, and shadow_sign where it is defined.
    """
    shown, shown_truth = to_display(relit), to_display(truth)
    ssim_map = ssim_picture(shown, shown_truth)
    figures: dict[str, float | list[float]] = {
        "psnr": psnr(shown, shown_truth),
        "ssim": float(ssim_map.mean()),
        "log_psnr": log_psnr(relit, truth),
        "stops_error": stops_error(relit, truth),
        "stops_error_deciles": stops_error_by_decile(relit, truth),
        "gain_correlation": gain_correlation(plate, relit, truth),
        "blur_index": blur_index(relit, truth),
        "detail_correlation_truth": detail_correlation(relit, truth),
        "detail_correlation_plate": detail_correlation(relit, plate),
        "checkerboard_index": checkerboard_index(relit, truth),
    }
    if mask is not None and mask.any():
        figures["psnr_surfaces"] = psnr(shown, shown_truth, mask)
        figures["ssim_surfaces"] = float(ssim_map[inside(mask)].mean())
        figures["stops_error_surfaces"] = stops_error(relit, truth, mask)
        sign = shadow_sign(plate, relit, truth, mask)
        if sign is not None:
            figures["shadow_sign"] = sign
    return figures


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal to noise in dB with peak 1, over all channels (of the masked pixels); infinite when equal.

    Args:
        image: (H, W, 3), display-encoded 0..1.
        truth: the same.
        mask: (H, W) bool, the pixels that count; None: all.
    """
    error = mean_square(image, truth, mask)
    return float(-10.0 * np.log10(error)) if error > 0 else float("inf")


def ssim_picture(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity per pixel, mean of the three channels (Wang 2004; scikit-image's 7x7 uniform window).

    Returns:
        (H - 6, W - 6) float64, about -1..1: without the border of 3 pixels whose window exceeds the picture, so that
        its mean is what `skimage.metrics.structural_similarity` returns.
    """
    _, full = structural_similarity(image, truth, channel_axis=-1, data_range=1.0, full=True)
    mean: np.ndarray = np.asarray(full[3:-3, 3:-3], dtype=np.float64).mean(axis=-1)
    return mean


def inside(mask: np.ndarray) -> np.ndarray:
    """A mask without the border of 3 pixels that `ssim_picture` leaves out."""
    return mask[3:-3, 3:-3]


def log_psnr(relit: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal to noise in dB in stops, peak 7 stops; clips nothing above 1, so highlights count."""
    error = mean_square(to_stops(relit), to_stops(truth))
    return float(20.0 * np.log10(LOG_RANGE_STOPS) - 10.0 * np.log10(error)) if error > 0 else float("inf")


def stops_error(relit: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean absolute error in stops over pixels (of the mask) and channels."""
    error = np.abs(to_stops(relit) - to_stops(truth))
    return float((error if mask is None else error[mask]).mean(dtype=np.float64))


def stops_error_by_decile(relit: np.ndarray, truth: np.ndarray) -> list[float]:
    """Mean absolute error in stops per tenth of the pixels, ordered by the truth's luminance, darkest tenth first."""
    error = np.abs(to_stops(relit) - to_stops(truth)).mean(axis=-1).ravel()
    order = np.argsort(luminance(truth).ravel(), kind="stable")
    return [float(error[part].mean(dtype=np.float64)) for part in np.array_split(order, DECILES)]


def gain_correlation(plate: np.ndarray, relit: np.ndarray, truth: np.ndarray) -> float:
    """Pearson correlation of the gains made with the true gains, in stops.

    The gains are stops(relit) - stops(plate) and stops(truth) - stops(plate), over all pixels and channels. 1 is the
    true change up to a common offset and scale; 0 is no change, a change of exposure alone, or an unrelated change.
    """
    before = to_stops(plate)
    return correlation(to_stops(relit) - before, to_stops(truth) - before)


def shadow_sign(plate: np.ndarray, relit: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float | None:
    """The share of pixels whose gain lies on the same side of its median as the true gain: light and shade in place.

    A gain is log2(max(Y, 2^-7)) of the result minus that of the plate; Y is Rec.709 luminance. The median over the
    picture is subtracted, from the gains made and from the true ones. Pixels of the mask count where the true gain is
    then more than 0.3 stops from 0; they are right where both have the same sign. A gain within 1e-5 stops of its
    median has no sign and is wrong, so no change, or a change of exposure alone, scores 0. Chance is about 0.5, the
    truth 1.

    Returns:
        0..1; None where no pixel is counted.
    """
    before = np.log2(np.maximum(luminance(plate), DARK_FLOOR))
    made, true = (np.log2(np.maximum(luminance(linear), DARK_FLOOR)) - before for linear in (relit, truth))
    made, true = made - np.median(made), true - np.median(true)
    counted = mask & (np.abs(true) > SHADOW_STOPS)
    if not counted.any():
        return None
    right = (np.sign(made) == np.sign(true)) & (np.abs(made) > FLAT_STOPS)
    return float(right[counted].mean())


def exposure_error(relit: np.ndarray, relit_brighter: np.ndarray) -> float:
    """The largest relative error of relit(4 x plate) against 4 x relit(plate): does exposure pass through?

    Args:
        relit: (H, W, 3) scene-linear, the relit plate.
        relit_brighter: the relit plate times `BRIGHTER` (4).

    Returns:
        max |brighter - 4 relit| / (4 relit) over values (pixels and channels) of `relit` above 2^-7; 0 where exposure
        passes through, 0.75 where the result doesn't change at all; 0 where no value is above 2^-7.
    """
    bright = relit > DARK_FLOOR
    expected = BRIGHTER * relit[bright].astype(np.float64)
    return float((np.abs(relit_brighter[bright] - expected) / expected).max(initial=0.0))


def blur_index(relit: np.ndarray, truth: np.ndarray) -> float:
    """Energy of fine detail divided by that of the truth: 1 as sharp, below 1 blurred, above 1 noisy or ringing.

    Detail is the power of log2 luminance (so a brighter picture isn't a sharper one) at 0.25 cycles per pixel and more.
    """
    return high_band_energy(relit) / max(high_band_energy(truth), 1e-20)


def detail_correlation(relit: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation of the Laplacians of log2 luminance of two pictures: are the same edges in the same places?

    Against the plate it measures how much detail was kept. Hard sun moves edges, so the truth itself is below 1 there.
    """
    return correlation(laplacian(log_luma(relit)), laplacian(log_luma(other)))


def checkerboard_index(relit: np.ndarray, truth: np.ndarray) -> float:
    """Energy of regular patterns of period 2, 4 and 8 pixels minus the truth's, in per cent of the truth's fine energy.

    Strided and transposed convolutions leave such patterns; they are isolated peaks of the spectrum (Odena 2016). 0 is
    as clean as the truth; fine energy is that of log2 luminance from 1/8 cycle per pixel on.
    """
    pattern, _ = pattern_energy(relit)
    true_pattern, fine_energy = pattern_energy(truth)
    return 100.0 * (pattern - true_pattern) / max(fine_energy, 1e-20)


def pattern_energy(linear: np.ndarray) -> tuple[float, float]:
    """Energy of the peaks at the frequencies k/8 (of both axes, without 0), and all energy from 1/8 cycle per pixel up.

    A peak is 3x3 bins minus the level expected from the ring around them, so that ordinary detail doesn't count.
    The picture is cropped to a multiple of 8 pixels first: the frequencies then fall on one bin each.
    """
    height, width = (size // CHECKERBOARD_PERIOD_PX * CHECKERBOARD_PERIOD_PX for size in linear.shape[:2])
    power, radius = spectrum(log_luma(linear[:height, :width]))
    offsets = np.arange(-4, 5)
    ring = (np.maximum(np.abs(offsets)[:, None], np.abs(offsets)[None, :]) >= 2).ravel()
    beyond = 0.0
    for row, column in np.ndindex(CHECKERBOARD_PERIOD_PX, CHECKERBOARD_PERIOD_PX):
        if row == column == 0:
            continue
        rows = (row * height // CHECKERBOARD_PERIOD_PX + offsets) % height
        columns = (column * width // CHECKERBOARD_PERIOD_PX + offsets) % width
        around = power[np.ix_(rows, columns)].ravel()
        # Bins of noise are exponentially distributed: their mean is their median over ln 2, and the median isn't moved
        # by the few bins of a long edge.
        beyond += float(around[~ring].sum() - (~ring).sum() * np.median(around[ring]) / np.log(2.0))
    return beyond, float(power[radius >= 1.0 / CHECKERBOARD_PERIOD_PX].sum())


def high_band_energy(linear: np.ndarray) -> float:
    """Power of log2 luminance at 0.25 cycles per pixel and more, per pixel."""
    power, radius = spectrum(log_luma(linear))
    return float(power[radius >= HIGH_BAND_CYCLES_PER_PX].sum()) / power.size**2


def spectrum(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power spectrum of a plane minus its mean under a Hann window, and the frequency of each bin.

    Returns:
        two (H, W) arrays: power, and frequency in cycles per pixel (0..0.707).
    """
    height, width = plane.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    power = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    return power, radius


def warp_error(here: np.ndarray, previous: np.ndarray, flow: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """The difference between a frame and the one before it, warped onto it, on visible pixels: flicker plus resampling.

    Blurred and black frames score well. Compare it with that of the input and of the truth, and with `gain_flicker`.

    Args:
        here: (H, W, 3), display-encoded 0..1.
        previous: the frame before, the same.
        flow: (H, W, 2) float32 in pixels: the point (x, y) of `here` is at (x + u, y + v) in `previous`.
        valid: (H, W) bool: the same point is visible in both.

    Returns:
        warp_error: mean absolute difference; warp_error_square: mean square difference (as in Lai 2018, there by an
        estimated flow).
    """
    difference = (here - follow(previous, flow))[valid]
    return {
        "warp_error": float(np.abs(difference).mean(dtype=np.float64)),
        "warp_error_square": float(np.square(difference).mean(dtype=np.float64)),
    }


def gain_flicker(gain: np.ndarray, previous: np.ndarray, flow: np.ndarray, valid: np.ndarray) -> float:
    """Mean absolute change, in stops, of the gain at the same point from one frame to the next, on visible pixels.

    Args:
        gain: (H, W, 3): stops(relit) - stops(plate) of this frame.
        previous: the same of the frame before.
        flow: (H, W, 2) from this frame to the one before, in pixels.
        valid: (H, W) bool.
    """
    return float(np.abs(gain - follow(previous, flow))[valid].mean(dtype=np.float64))


def mean_and_interval(values: list[float], rounds: int = 2000) -> dict[str, float]:
    """Mean of a figure over views, with the 95 % bootstrap interval of that mean (percentile method, Efron 1979).

    Args:
        values: one per view; infinite ones (equal pictures) make the mean infinite.
        rounds: number of resamplings; seeded, so the same values give the same interval.

    Returns:
        mean, low, high.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        return {"mean": float(array.mean()), "low": float(array.min()), "high": float(array.max())}
    means = array[np.random.default_rng(0).integers(0, len(array), (rounds, len(array)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(array.mean()), "low": float(low), "high": float(high)}


def mean_figures(views: list[Mapping[str, float | list[float]]]) -> dict[str, dict[str, float] | list[float]]:
    """The mean of each figure over views: `mean_and_interval` of numbers, means element by element of lists.

    A figure that only some views have (such as those of surfaces) is averaged over these.
    """
    together: dict[str, dict[str, float] | list[float]] = {}
    for name in dict.fromkeys(name for view in views for name in view):
        values = [view[name] for view in views if name in view]
        if isinstance(values[0], list):
            together[name] = [float(value) for value in np.mean(np.asarray(values, dtype=np.float64), axis=0)]
        else:
            together[name] = mean_and_interval([float(value) for value in values if not isinstance(value, list)])
    return together


def mean_square(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean square difference over pixels (of the mask) and channels."""
    difference = image - truth
    return float(np.square(difference if mask is None else difference[mask]).mean(dtype=np.float64))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation of two arrays of one shape; 0 where either is constant within 1e-5."""
    first = one.ravel().astype(np.float64)
    second = other.ravel().astype(np.float64)
    first -= first.mean()
    second -= second.mean()
    if min(first.std(), second.std()) < FLAT_STOPS:
        return 0.0
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def log_luma(linear: np.ndarray) -> np.ndarray:
    """(H, W) Rec.709 luminance in stops."""
    return to_stops(luminance(linear))


def laplacian(plane: np.ndarray) -> np.ndarray:
    """The 5-point Laplacian of a plane, without its border: (H - 2, W - 2)."""
    around: np.ndarray = plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:]
    return around - 4.0 * plane[1:-1, 1:-1]
