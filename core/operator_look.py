"""Operator looks: the look predicts operators from the whole frame, and applies them to each pixel.

The graph is cut in two. The first half predicts all operators, as guidance needs the look's own doubt. The second half
applies those that the relit frame and the requested AOVs depend on, strip by strip: exact at any size, with little
memory.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.utils

from relightgan.core.colour import linear_to_model, model_to_linear
from relightgan.core.errors import LookError
from relightgan.core.look import AOV_CHANNELS, GAIN, GRID, WINDOW, Look, Operator, known_aovs
from relightgan.core.runtime import Runtime

ENOUGH_PX = 1024  # pixels that show enough of a scene to tell its light from its colours
TINY_STOPS = 2.0  # maximum gain of plates that show less
MAX_OPERATOR_VALUES = 1 << 28  # of one operator: 1 GB, more than any size of frame calls for
MAX_OPERATOR_CHANNELS = 1024  # each is blended over time on its own; ours have 24 at most


class OperatorLook:
    """An operator look, ready to run.

    Args:
        runtime: the device of the look.
        aovs: the look's own AOVs that `apply` is to give.

    Raises:
        DeviceError: out of memory.
        LookError: onnxruntime can't load the look, or it can't be cut in two.
    """

    def __init__(self, runtime: Runtime, aovs: Sequence[str]) -> None:
        self.runtime = runtime
        self.look = runtime.look
        self.aovs = tuple(aovs)
        predictor, applier, self.applied = cut(self.look, self.aovs)
        self.predictor = runtime.open_for_frames(predictor)
        self.applier = runtime.open_for_strips(applier)

    def predict(self, rgb_linear: np.ndarray) -> Operator:
        """The look's own outputs, such as {"grid": log2 gains}; see `LookSession.predict`.

        They are predicted from the light in the plate alone, without values below 0: where those outweigh the others, a
        pixel has no luminance, and its brightness in stops no bottom. Gains of a plate of fewer than `ENOUGH_PX` pixels
        are held within `TINY_STOPS`: a look that takes one red pixel for a red world changes it by five stops.
        """
        height, width = rgb_linear.shape[:2]
        plate = np.empty((1, 3, height, width), np.float32)

        def encode(y0: int, y1: int) -> None:
            light = np.maximum(rgb_linear[y0:y1], 0.0)
            plate[0, :, y0:y1] = linear_to_model(light, self.look.facts.encoding).transpose(2, 0, 1)

        self.runtime.in_strips(encode, height)
        names = self.look.facts.operators
        feed = {self.look.plate_name: plate}
        found = self.runtime.watched(lambda: self.runtime.run(self.predictor, list(names), feed))
        for name, array in zip(names, found, strict=True):
            if array.ndim != 4 or len(array) != 1 or not 0 < array.size <= MAX_OPERATOR_VALUES:
                raise LookError(
                    f"The operator {name} of {self.look.path} has the shape {list(array.shape)}; one is [1,C,h,w].",
                    "Export it so.",
                )
            if array.shape[1] > MAX_OPERATOR_CHANNELS:
                raise LookError(
                    f"The operator {name} of {self.look.path} has {array.shape[1]:,} channels.",
                    f"Export it with at most {MAX_OPERATOR_CHANNELS:,}.",
                )
        operator = {name: array[0] for name, array in zip(names, found, strict=True)}
        if GRID in operator and height * width < ENOUGH_PX:
            operator[GRID] = np.clip(operator[GRID], -TINY_STOPS, TINY_STOPS)
        return operator

    def apply(self, rgb_linear: np.ndarray, operator: Operator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The relit frame and its AOVs; see `LookSession.apply_with_aovs`."""
        result = np.empty(rgb_linear.shape, np.float32)
        aovs = {name: np.empty((*rgb_linear.shape[:2], AOV_CHANNELS[name]), np.float32) for name in self.aovs}
        outputs = [self.look.relit_name, *self.aovs]

        def fill(y0: int, y1: int) -> None:
            relit, *pictures = self._run_rows(self.applier, outputs, self.applied, rgb_linear, operator, (y0, y1))
            result[y0:y1] = model_to_linear(relit, self.look.facts.encoding)
            for name, picture in zip(aovs, pictures, strict=True):
                aovs[name][y0:y1] = picture

        self.runtime.in_strips(fill, len(result), self._strip_rows(len(result)))
        return result, aovs

    def gain(self, rgb_linear: np.ndarray, operator: Operator) -> np.ndarray:
        """The gains in stops; see `LookSession.gain`."""
        session, applied = self._gain_reader
        result = np.empty(rgb_linear.shape, np.float32)

        def fill(y0: int, y1: int) -> None:
            (result[y0:y1],) = self._run_rows(session, [GAIN], applied, rgb_linear, operator, (y0, y1))

        self.runtime.in_strips(fill, len(result), self._strip_rows(len(result)))
        return result

    @functools.cached_property
    def _gain_reader(self) -> tuple[Any, tuple[str, ...]]:
        """An onnxruntime session for the AOV gain alone, and the operators that it takes."""
        if GAIN not in known_aovs(self.look.facts):
            raise LookError(
                f"{self.look.path} doesn't give its gain: an older version made it, or it isn't a relight look.",
                "Fit it again with this version.",
            )
        reader, applied = second_half(self.look, [GAIN])
        return self.runtime.open_for_strips(reader), applied

    def _strip_rows(self, height: int) -> int | None:
        """Rows of a strip; all where the look has no `window`, the place of a strip in the frame."""
        return None if self.look.takes_window else height

    def _run_rows(
        self,
        session: Any,
        outputs: list[str],
        applied: Sequence[str],
        rgb_linear: np.ndarray,
        operator: Operator,
        rows: tuple[int, int],
    ) -> list[np.ndarray]:
        """Outputs of a second half, each (h, w, C), for some rows of a frame with an operator of the whole frame."""
        (y0, y1), height = rows, len(rgb_linear)
        encoded = linear_to_model(rgb_linear[y0:y1], self.look.facts.encoding).transpose(2, 0, 1)[None]
        feed = {name: np.ascontiguousarray(operator[name][None], np.float32) for name in applied}
        feed[self.look.plate_name] = np.ascontiguousarray(encoded)
        if self.look.takes_window:
            feed[WINDOW] = np.array([0.0, y0 / height, 1.0, y1 / height], np.float32)
        found = self.runtime.run(session, outputs, feed)
        for name, array in zip(outputs, found, strict=True):
            wanted = (1, AOV_CHANNELS.get(name, 3), *encoded.shape[2:])
            if array.shape != wanted:  # numpy would spread a single value over a whole strip
                raise LookError(
                    f"The output {name} of {self.look.path} has the shape {list(array.shape)} where it should have "
                    f"{list(wanted)}.",
                    "Export it again.",
                )
        return [array[0].transpose(1, 2, 0) for array in found]


def cut(look: Look, aovs: Sequence[str] = ()) -> tuple[onnx.ModelProto, onnx.ModelProto, tuple[str, ...]]:
    """An operator look in two: plate -> operators, and (plate, window, operators) -> relit and AOVs.

    Args:
        look: an operator look.
        aovs: its AOVs that the second half is to give; nothing is computed for the others.

    Returns:
        both halves, the first with all operators, and the names of those that the second one takes.

    Raises:
        LookError: the look can't be cut so.
    """
    applier, applied = second_half(look, [look.relit_name, *aovs])
    predictor = extracted(look, [look.plate_name], look.facts.operators)
    if any(WINDOW in node.input for node in predictor.graph.node):
        raise LookError(
            f"The operators of {look.path} depend on '{WINDOW}', but they stand for the whole frame.",
            "Export it again.",
        )
    return predictor, applier, applied


def second_half(look: Look, outputs: Sequence[str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """An operator look from its operators on, and the names of those that these outputs depend on.

    Raises:
        LookError: the look can't be cut so.
    """
    window = [WINDOW] if look.takes_window else []
    half = extracted(look, [look.plate_name, *window, *look.facts.operators], outputs)
    used = {name for node in half.graph.node for name in node.input} | set(outputs)
    applied = tuple(name for name in look.facts.operators if name in used)
    for port in [port for port in half.graph.input if port.name in {*look.facts.operators} - {*applied}]:
        half.graph.input.remove(port)
    return half, applied


def extracted(look: Look, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The part of a look between some inputs and outputs.

    Raises:
        LookError: there is no such part.
    """
    try:
        extractor = onnx.utils.Extractor(onnx.load_model_from_string(look.model))
        part: onnx.ModelProto = extractor.extract_model(list(inputs), list(outputs))
    except ValueError as error:
        problem = f"{look.path} doesn't come apart into its operators and their use ({error})."
        raise LookError(problem, "Export it again.") from error
    return part
