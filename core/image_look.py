"""Image looks: the look turns one picture into another, and its answer becomes an operator of full resolution.

    pictures in 0..1 or -1..1    `GainLook`     log2 gains in linear light, found on the plate clipped to 0..1
    unbounded pictures           `OffsetLook`   differences in the look's own encoding

Both operators act on the unbounded plate: highlights above 1 and negatives survive.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import onnx

from relightgan.core.colour import linear_to_model, model_to_linear
from relightgan.core.errors import LookError
from relightgan.core.look import GAIN, Operator
from relightgan.core.runtime import OutOfMemoryError, Runtime
from relightgan.core.tiling import run_tiled

# The largest whole frame, DCI 2K; larger frames are divided into tiles. It is fixed: two machines that chose by free
# memory could make (slightly) different pictures.
WHOLE_FRAME_PX = 2048 * 1152
AUTO_TILE_PX = 1024  # side of the tiles of larger frames
MIN_TILE_PX = 128  # side of the smallest tiles
# Smaller frames are reflected up to this side: convolutions reflect at the border, and fail on fewer pixels.
MIN_SIDE_PX = 16
GAIN_FLOOR = 2.0**-8  # linear; below it a gain means little and becomes an offset
LN_2 = float(np.log(2.0))


class ImageLook(ABC):
    """An image look, ready to run tile by tile. Its operator is one array (3, H, W).

    Args:
        runtime: the device of the look.
        tile_px: side of the tiles; None for whole frames up to 2K and tiles of 1024 px above.

    Raises:
        DeviceError: out of memory.
        LookError: onnxruntime can't load the look.
    """

    name: str  # name of the operator
    applied: tuple[str, ...] = ()  # an image look has no operators of its own
    aovs: tuple[str, ...] = ()

    def __init__(self, runtime: Runtime, tile_px: int | None) -> None:
        self.runtime = runtime
        self.look = runtime.look
        self.encoding = runtime.look.facts.encoding
        self.tile_px = tile_px
        self.network = runtime.open_for_frames(onnx.load_model_from_string(self.look.model))

    @abstractmethod
    def change_of(self, plate: np.ndarray) -> np.ndarray:
        """The operator (3, h, w) of a linear (3, h, w) plate or tile."""

    @abstractmethod
    def changed(self, plate: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Rows of a linear plate (h, w, 3) with their rows of the operator, (h, w, 3), applied."""

    def predict(self, rgb_linear: np.ndarray) -> Operator:
        """The operator by its name; see `LookSession.predict`."""
        return {self.name: self.in_tiles(self.change_of, rgb_linear)}

    def apply(self, rgb_linear: np.ndarray, operator: Operator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The relit frame, and no AOVs; see `LookSession.apply_with_aovs`."""
        result = np.empty(rgb_linear.shape, np.float32)

        def fill(y0: int, y1: int) -> None:
            result[y0:y1] = self.changed(rgb_linear[y0:y1], operator[self.name][:, y0:y1].transpose(1, 2, 0))

        self.runtime.in_strips(fill, len(result))
        return result, {}

    def gain(self, rgb_linear: np.ndarray, operator: Operator) -> np.ndarray:
        """Refuses: an image look has no gains to be read; see `LookSession.gain`."""
        raise LookError(f"{self.look.path} is an image look; it gives no gain of its own.", "Use a relight look.")

    def run_image(self, encoded: np.ndarray) -> np.ndarray:
        """The network's output (3, h, w) for its input, with nothing around it."""
        plate = np.ascontiguousarray(encoded[None], np.float32)
        feed = {self.look.plate_name: plate}
        (relit,) = self.runtime.watched(lambda: self.runtime.run(self.network, [self.look.relit_name], feed))
        if relit.shape != plate.shape:
            before, after = ("x".join(map(str, array.shape[:1:-1])) or "one value" for array in (plate, relit))
            raise LookError(
                f"{self.look.path} turned {before} pixels into {after}.",
                f"Its size multiple is more than {self.look.facts.size_multiple}, or it isn't an image look.",
            )
        picture: np.ndarray = relit[0]
        return picture

    def in_tiles(self, function: Callable[[np.ndarray], np.ndarray], rgb_linear: np.ndarray) -> np.ndarray:
        """(3, H, W): the results of `function` for (3, h, w) tiles; smaller tiles when memory runs out.

        Raises:
            DeviceError: out of memory with the smallest tiles of this look.
        """
        facts = self.look.facts
        height, width = rgb_linear.shape[:2]
        smallest = max(MIN_TILE_PX, 4 * facts.overlap_px)
        tile_px = self.tile_px
        if tile_px is None and height * width > WHOLE_FRAME_PX:
            tile_px = max(AUTO_TILE_PX, smallest)
        image = rgb_linear.transpose(2, 0, 1)
        below, right = (max(0, MIN_SIDE_PX - side) for side in (height, width))
        if below or right:
            image = np.pad(image, ((0, 0), (0, below), (0, right)), mode="reflect")
        while True:
            try:
                whole = run_tiled(function, image, tile_px, facts.overlap_px, facts.size_multiple)
                return np.ascontiguousarray(whole[:, :height, :width])
            except (OutOfMemoryError, MemoryError) as error:
                smaller = (tile_px or max(height, width)) // 2
                if smaller < smallest:
                    what = f"a frame of {width}x{height} in the smallest tiles"
                    raise self.runtime.memory_error(what) from error
            self.runtime.report(f"Memory ran out on {self.runtime.choice.name}; going on with tiles of {smaller} px.")
            tile_px = smaller


class GainLook(ImageLook):
    """An image look of pictures in 0..1, or in -1..1 (value range `signed`). Its operator is log2 gains."""

    name = GAIN

    def change_of(self, plate: np.ndarray) -> np.ndarray:
        """log2 gains in linear light."""
        clipped = np.clip(plate, 0.0, 1.0)
        relit = np.maximum(self.relight(clipped), 0.0)
        gain: np.ndarray = np.log2((relit + np.float32(GAIN_FLOOR)) / (clipped + np.float32(GAIN_FLOOR)))
        return gain

    def changed(self, plate: np.ndarray, change: np.ndarray) -> np.ndarray:
        """The plate with gains; see `apply_gain`."""
        return apply_gain(plate, change)

    def relight(self, plate: np.ndarray) -> np.ndarray:
        """The look's own picture, linear (3, h, w), of a linear plate in 0..1."""
        encoded = linear_to_model(plate, self.encoding)
        if self.look.facts.value_range == "signed":
            return model_to_linear((self.run_image(encoded * 2 - 1) + 1) / 2, self.encoding)
        return model_to_linear(self.run_image(encoded), self.encoding)


class OffsetLook(ImageLook):
    """An image look of unbounded pictures. Its operator is differences in its encoding."""

    name = "offset"

    def change_of(self, plate: np.ndarray) -> np.ndarray:
        """The difference that the look makes, in its encoding."""
        encoded = linear_to_model(plate, self.encoding)
        return self.run_image(encoded) - encoded

    def changed(self, plate: np.ndarray, change: np.ndarray) -> np.ndarray:
        """The plate with differences added in the look's encoding."""
        return model_to_linear(linear_to_model(plate, self.encoding) + change, self.encoding)


def apply_gain(plate: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """A linear plate with log2 gains applied: highlights above 1 scale with it, negative values keep their distance.

    With e = GAIN_FLOOR and c = plate clipped to 0..1 this is (c+e) 2^g - e, plus the part below 0 unchanged and the
    part above 1 times 2^g. It is written as a change, so that a gain of exactly 0 gives the plate's own bits.
    """
    changed: np.ndarray = plate + (np.maximum(plate, 0) + np.float32(GAIN_FLOOR)) * np.expm1(gain * np.float32(LN_2))
    return changed
