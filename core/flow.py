"""Where each point of a plate is seen in another frame, and how far to trust that.

Flow is measured on the source plates, never on relit frames, so a look's flicker can't bend it. It is measured on small
pictures of the plates (*flow pictures*): the operators that are warped along it are smooth, and a small picture has
less grain.
"""

import cv2
import numpy as np

from relightgan.core.colour import luminance

FLOW_SIDE_PX = 960  # longest side of a flow picture
# Smaller pictures are padded to this side: DIS crashes the process on frames narrower than its coarsest patch.
MIN_SIDE_PX = 64
DARK = 2.0**-6  # linear; grain of darker pixels is no texture to follow
NOISE_STOPS = 0.25  # difference of one point between two frames, in stops, that lowers the trust to 1/e


def flow_picture(linear_rgb: np.ndarray, max_side_px: int = FLOW_SIDE_PX) -> np.ndarray:
    """The small picture of a plate that flow is measured on.

    Args:
        linear_rgb: (H, W, 3) float32, scene-linear, finite.
        max_side_px: the longer side of the picture is at most this; smaller plates keep their size.

    Returns:
        (h, w) float32, log2 luminance in stops. It is averaged down in linear light, as a smaller sensor would see it.
    """
    height, width = linear_rgb.shape[:2]
    scale = min(1.0, max_side_px / max(height, width))
    if scale < 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        linear_rgb = cv2.resize(linear_rgb, size, interpolation=cv2.INTER_AREA)
    picture: np.ndarray = np.log2(np.maximum(luminance(linear_rgb), 0.0) + np.float32(DARK))
    return picture.astype(np.float32, copy=False)


def measure_flow(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Where each point of one flow picture is seen in another, by dense inverse search (Kroeger 2016, OpenCV's MEDIUM).

    The result depends on these two pictures only, not on the number of threads. Equal pictures give zero.

    Args:
        here: (h, w) float32 from `flow_picture`.
        there: (h, w) float32, the same raster.

    Returns:
        (h, w, 2) float32, pixels of the raster: the point (x, y) of `here` is at (x+u, y+v) in `there`.
    """
    height, width = here.shape
    # One range for both, the pair's own: dark scenes and bright ones use all of the eight bits DIS takes.
    low, high = np.percentile(np.stack([here, there]), [0.5, 99.5])
    scale = 255.0 / max(float(high - low), 1.0)
    below, right = max(0, MIN_SIDE_PX - height), max(0, MIN_SIDE_PX - width)
    eight_bit = [
        cv2.copyMakeBorder(
            np.clip((picture - low) * scale + 0.5, 0, 255).astype(np.uint8), 0, below, 0, right, cv2.BORDER_REPLICATE
        )
        for picture in (here, there)
    ]
    # A fresh object each time: it keeps buffers between calls.
    search = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_MEDIUM)
    flow: np.ndarray = search.calc(eight_bit[0], eight_bit[1], None)
    return np.ascontiguousarray(flow[:height, :width])


def follow(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The image warped along a flow: the picture `there`, on the raster of `here`.

    Args:
        image: (h, w) or (h, w, C) float32 on the raster of `there`.
        flow: (h, w, 2) float32 from `here` to `there`, pixels of that raster.

    Returns:
        float32 of the same shape on the raster of `here`; beyond the border its nearest pixel goes on.
    """
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    fetched: np.ndarray = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return fetched


def flow_confidence(here: np.ndarray, there: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """How far the flow from `here` to `there` can be trusted at each point.

    Zero where the point is hidden or a motion edge runs (Ruder, Dosovitskiy, Brox 2016, eq. 5 and 6), where it leaves
    the frame, and falling to zero where the point differs in brightness.

    Args:
        here: (h, w) float32 flow picture, stops.
        there: (h, w) float32 flow picture, stops.
        forward: (h, w, 2) float32, `here` to `there`, pixels of the raster.
        backward: (h, w, 2) float32, `there` to `here`, pixels of the raster.

    Returns:
        (h, w) float32 from 0 to 1.
    """
    height, width = here.shape
    back = follow(backward, forward)
    length = squared_length(forward)
    seen = squared_length(forward + back) <= 0.01 * (length + squared_length(back)) + 0.5
    if min(height, width) > 1:
        slope = sum(np.square(np.gradient(forward[..., c], axis=axis)) for c in (0, 1) for axis in (0, 1))
        seen &= slope <= 0.01 * length + 0.002
    x = forward[..., 0] + np.arange(width, dtype=np.float32)
    y = forward[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    seen &= (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    difference = here - follow(there, forward)
    confidence: np.ndarray = np.exp(-np.square(difference / np.float32(NOISE_STOPS))) * seen
    return confidence.astype(np.float32, copy=False)


def squared_length(flow: np.ndarray) -> np.ndarray:
    """The squared length of each vector of a flow, (h, w) float32, squared pixels."""
    squared: np.ndarray = np.square(flow[..., 0]) + np.square(flow[..., 1])
    return squared
