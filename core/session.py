"""Runs a look: predicts what to change from a plate, and applies it.

An operator is a dict of (C, h, w) float32 arrays that lie over the frame and can be averaged between frames:
    operator look            its own outputs, such as {"grid": log2 gains}
    image look, 0..1 or -1..1    {"gain": (3, H, W)}, log2 gains in linear light, found on the plate clipped to 0..1
    image look, unbounded        {"offset": (3, H, W)}, what it adds in the look's encoding

All of a look's operators are predicted, as guidance asks how sure a look is; applying needs those that the relit frame
and the AOVs asked for depend on.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import onnx
import onnx.utils
import onnxruntime

from relightgan.core.colour import linear_to_model, model_to_linear
from relightgan.core.devices import (
    CPU,
    DEVICES,
    ORT_ERRORS,
    Choice,
    choose_providers,
    first_line,
    is_out_of_memory,
    open_session,
    session_options,
    thread_count,
)
from relightgan.core.errors import DeviceError, LookError
from relightgan.core.look import AOV_CHANNELS, WINDOW, Look, known_aovs
from relightgan.core.tiling import run_tiled

__all__ = ["DEVICES", "Choice", "LookSession", "Operator", "choose_providers"]

Operator = dict[str, np.ndarray]

STRIP_ROWS = 64  # of a frame at a time on the CPU: 3 MB at UHD, so every step stays near the processor
GPU_STRIP_ROWS = 512  # a GPU wants more at once
# An image look keeps whole frames up to DCI 2K and takes tiles above. Fixed, because a choice by free memory would let
# two machines make (slightly) different pictures.
WHOLE_FRAME_PX = 2048 * 1152
AUTO_TILE_PX = 1024
SMALLEST_TILE_PX = 128
# Convolutions reflect at the border and fail on pictures smaller than that; these are reflected up to this side.
SMALLEST_SIDE_PX = 16
CHECK_EVERY_S = 0.2  # how long an image look, whose runs may take minutes, goes on after somebody asked to stop
GAIN_FLOOR = 2.0**-8  # linear; below it a gain means little and becomes an offset
LN_2 = float(np.log(2.0))


class LookSession:
    """A look, ready to run on one device.

    Args:
        look: what `load_look` returned.
        device: "auto", "cpu", "cuda" or "cuda:N"; see `choose_providers`.
        tile_px: side of the tiles of an image look; None for whole frames up to 2K and tiles of 1024 px above.
        check: called between tiles and strips; may raise `Cancelled`.
        report: gets a line when memory runs short and tiles get smaller; stderr when None.
        aovs: names of the look's own AOVs that `apply_with_aovs` is to give; those it lacks aren't given.

    Raises:
        UsageError: an unknown device.
        DeviceError: the device asked for doesn't start.
        LookError: onnxruntime can't load the look, or it doesn't come apart as an operator look must.
    """

    def __init__(
        self,
        look: Look,
        device: str = "auto",
        tile_px: int | None = None,
        check: Callable[[], None] | None = None,
        report: Callable[[str], None] | None = None,
        aovs: Collection[str] = (),
    ) -> None:
        self.look = look
        self.aovs = tuple(name for name in known_aovs(look.facts) if name in aovs)
        self.applied: tuple[str, ...] = ()  # operators that relit and the AOVs depend on
        self.choice = choose_providers(device)
        self.tile_px = tile_px
        self.threads = thread_count()
        self.check = check or (lambda: None)
        self.report = report or functools.partial(print, file=sys.stderr)
        self.on_cpu = self.choice.wanted == CPU
        self.runner = ThreadPoolExecutor(1, "run")  # for `run_watched`; its thread starts with the first run
        frame_options = session_options(self.threads)
        try:
            if look.facts.operators:
                predictor, applier, self.applied = cut(look, self.aovs)
                self.predictor = open_session(predictor, self.choice, frame_options)
                # On the CPU strips run side by side, each on one thread: fast, and the numbers can't depend on how
                # onnxruntime shares out its work.
                strip_options = session_options(1, keep_memory=True) if self.on_cpu else frame_options
                self.applier = open_session(applier, self.choice, strip_options)
            else:
                self.predictor = open_session(look.model, self.choice, frame_options)
                self.applier = None
        except ORT_ERRORS as error:
            if is_out_of_memory(error):
                raise self.memory_error(f"loading {look.path}") from error
            raise LookError(
                f"onnxruntime {onnxruntime.__version__} can't load {look.path} ({first_line(error)}).",
                "Export it again, or update onnxruntime if the look is newer.",
            ) from error

    @property
    def device_line(self) -> str:
        """One line for the log: what runs, and why."""
        version = onnxruntime.__version__
        threads = f", {self.threads} threads" if self.on_cpu else ""
        return f"Running on {self.choice.name} (onnxruntime {version}{threads}): {self.choice.why}."

    def predict(self, rgb_linear: np.ndarray) -> Operator:
        """What the look would change about a frame.

        Args:
            rgb_linear: (H, W, 3) float32, scene-linear, unbounded and finite, in the look's primaries.

        Returns:
            Arrays by name, each (C, h, w) float32; see the top of this module.

        Raises:
            DeviceError: out of memory, even in small tiles.
            LookError: the look fails on this frame.
        """
        height, width = rgb_linear.shape[:2]
        if self.applier is not None:
            plate = np.empty((1, 3, height, width), np.float32)

            def encode(y0: int, y1: int) -> None:
                strip = linear_to_model(rgb_linear[y0:y1], self.look.facts.encoding)
                plate[0, :, y0:y1] = strip.transpose(2, 0, 1)

            self.in_strips(encode, height)
            names = self.look.facts.operators
            found = self.run(self.predictor, list(names), {self.look.plate_name: plate})
            return {name: array[0] for name, array in zip(names, found, strict=True)}
        if self.look.facts.value_range == "unbounded":
            return {"offset": self.in_tiles(self.offset_of, rgb_linear)}
        return {"gain": self.in_tiles(self.gain_of, rgb_linear)}

    def apply(self, rgb_linear: np.ndarray, operator: Operator) -> np.ndarray:
        """The frame with an operator applied, strip by strip, exactly as if in one piece.

        Args:
            rgb_linear: (H, W, 3) float32, scene-linear, in the look's primaries.
            operator: from `predict`, or a blend of several.

        Returns:
            (H, W, 3) float32, scene-linear, in the look's primaries; a new array.

        Raises:
            DeviceError: out of memory.
            LookError: the look fails on this frame.
        """
        return self.apply_with_aovs(rgb_linear, operator)[0]

    def apply_with_aovs(self, rgb_linear: np.ndarray, operator: Operator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """As `apply`, with the AOVs the session was opened for.

        Returns:
            the relit frame; (H, W, C) float32 by name: the look's own AOVs, see `look`.
        """
        height, width = rgb_linear.shape[:2]
        result = np.empty(rgb_linear.shape, np.float32)
        aovs = {name: np.empty((height, width, AOV_CHANNELS[name]), np.float32) for name in self.aovs}

        def fill(y0: int, y1: int) -> None:
            plate, relit = rgb_linear[y0:y1], result[y0:y1]
            if self.applier is not None:
                relit[:], *pictures = self.apply_strip(plate, operator, y0 / height, y1 / height)
                for name, picture in zip(aovs, pictures, strict=True):
                    aovs[name][y0:y1] = picture
            elif "gain" in operator:
                relit[:] = apply_gain(plate, operator["gain"][:, y0:y1].transpose(1, 2, 0))
            else:
                encoding = self.look.facts.encoding
                offset = operator["offset"][:, y0:y1].transpose(1, 2, 0)
                relit[:] = model_to_linear(linear_to_model(plate, encoding) + offset, encoding)

        whole = self.applier is not None and not self.look.takes_window
        self.in_strips(fill, height, height if whole else None)
        return result, aovs

    def apply_strip(self, plate: np.ndarray, operator: Operator, top: float, bottom: float) -> list[np.ndarray]:
        """Rows of a frame with the look's own operators applied, then its AOVs of them, each (h, w, C).

        Args:
            plate: (h, w, 3) float32, the rows.
            operator: of the whole frame; may hold more than is needed.
            top: where the rows begin in the frame, 0..1.
            bottom: where they end.
        """
        encoding = self.look.facts.encoding
        encoded = linear_to_model(plate, encoding).transpose(2, 0, 1)[None]
        feed = {name: np.ascontiguousarray(operator[name][None], np.float32) for name in self.applied}
        feed[self.look.plate_name] = np.ascontiguousarray(encoded)
        if self.look.takes_window:
            feed[WINDOW] = np.array([0.0, top, 1.0, bottom], np.float32)
        relit, *aovs = self.run(self.applier, [self.look.relit_name, *self.aovs], feed)
        return [model_to_linear(relit[0].transpose(1, 2, 0), encoding), *(aov[0].transpose(1, 2, 0) for aov in aovs)]

    def in_strips(self, work: Callable[[int, int], None], height: int, rows: int | None = None) -> None:
        """Calls `work(y0, y1)` for strips of a frame, side by side on the CPU."""
        step = rows or (STRIP_ROWS if self.on_cpu else GPU_STRIP_ROWS)
        bounds = [(y0, min(y0 + step, height)) for y0 in range(0, height, step)]

        def checked(bound: tuple[int, int]) -> None:
            self.check()
            work(*bound)

        if self.threads == 1 or not self.on_cpu or len(bounds) == 1:
            for bound in bounds:
                checked(bound)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for _ in pool.map(checked, bounds):
                    pass
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def in_tiles(self, function: Callable[[np.ndarray], np.ndarray], rgb_linear: np.ndarray) -> np.ndarray:
        """(3, H, W): what `function` makes of (3, h, w) tiles; smaller tiles when memory runs out.

        Raises:
            DeviceError: out of memory with the smallest tiles that this look allows.
        """
        facts = self.look.facts
        height, width = rgb_linear.shape[:2]
        least = max(SMALLEST_TILE_PX, 4 * facts.overlap_px)
        tile_px = self.tile_px
        if tile_px is None and height * width > WHOLE_FRAME_PX:
            tile_px = max(AUTO_TILE_PX, least)
        image = rgb_linear.transpose(2, 0, 1)
        below, right = (max(0, SMALLEST_SIDE_PX - side) for side in (height, width))
        if below or right:
            image = np.pad(image, ((0, 0), (0, below), (0, right)), mode="reflect")
        while True:
            try:
                whole = run_tiled(function, image, tile_px, facts.overlap_px, facts.size_multiple)
                return np.ascontiguousarray(whole[:, :height, :width])
            except (OutOfMemoryError, MemoryError) as error:
                smaller = (tile_px or max(height, width)) // 2
                if smaller < least:
                    raise self.memory_error(f"a frame of {width}x{height} in the smallest tiles") from error
            self.report(f"Memory ran out on {self.choice.name}; going on with tiles of {smaller} px.")
            tile_px = smaller

    def gain_of(self, plate: np.ndarray) -> np.ndarray:
        """log2 gains (3, h, w) in linear light that a 0..1 or -1..1 image look gives a linear (3, h, w) plate."""
        clipped = np.clip(plate, 0.0, 1.0)
        relit = np.maximum(self.relight(clipped), 0.0)
        gain: np.ndarray = np.log2((relit + np.float32(GAIN_FLOOR)) / (clipped + np.float32(GAIN_FLOOR)))
        return gain

    def offset_of(self, plate: np.ndarray) -> np.ndarray:
        """What an unbounded image look adds to a linear (3, h, w) plate, in the look's encoding."""
        encoded = linear_to_model(plate, self.look.facts.encoding)
        return self.run_image(encoded) - encoded

    def relight(self, plate: np.ndarray) -> np.ndarray:
        """The look's own picture, linear (3, h, w), of a linear plate in 0..1."""
        encoded = linear_to_model(plate, self.look.facts.encoding)
        if self.look.facts.value_range == "signed":
            return model_to_linear((self.run_image(encoded * 2 - 1) + 1) / 2, self.look.facts.encoding)
        return model_to_linear(self.run_image(encoded), self.look.facts.encoding)

    def run_image(self, encoded: np.ndarray) -> np.ndarray:
        """The network's output (3, h, w) for its input, with nothing around it."""
        self.check()
        plate = np.ascontiguousarray(encoded[None], np.float32)
        relit: np.ndarray = self.run_watched([self.look.relit_name], {self.look.plate_name: plate})[0][0]
        if relit.shape != encoded.shape:
            before, after = (f"{array.shape[2]}x{array.shape[1]}" for array in (encoded, relit))
            raise LookError(
                f"{self.look.path} turned {before} pixels into {after}.",
                f"Its size multiple is more than {self.look.facts.size_multiple}, or it isn't an image look.",
            )
        return relit

    def run_watched(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """One long run of the predictor, ended early when somebody asks to stop; else as `run`."""
        options = onnxruntime.RunOptions()
        running = self.runner.submit(self.run, self.predictor, names, feed, options)
        try:
            while not wait([running], CHECK_EVERY_S).done:
                self.check()
        except BaseException:
            options.terminate = True
            wait_patiently(running)
            raise
        return running.result()

    def run(self, session: Any, names: list[str], feed: dict[str, np.ndarray], options: Any = None) -> list[np.ndarray]:
        """One run of onnxruntime.

        Args:
            session: of onnxruntime.
            names: the outputs wanted.
            feed: the inputs.
            options: onnxruntime's for this run, through which it can be ended from outside.

        Raises:
            OutOfMemoryError: a DeviceError, for want of memory.
            LookError: it fails otherwise.
        """
        try:
            arrays: list[np.ndarray] = session.run(names, feed, options)
        except ORT_ERRORS as error:
            height, width = feed[self.look.plate_name].shape[2:]
            if is_out_of_memory(error):
                raise self.memory_error(f"{width}x{height} pixels") from error
            raise LookError(
                f"{self.look.path} failed on {width}x{height} pixels ({first_line(error)}).",
                "Export it again; if it isn't yours, check its size multiple.",
            ) from error
        return arrays

    def memory_error(self, what: str) -> "OutOfMemoryError":
        """The error for running out of memory over `what`."""
        return OutOfMemoryError(
            f"{self.choice.name} ran out of memory over {what}.",
            "Close other programs, choose the device cpu, or take smaller tiles (relightgan infer --tile 512)."
            if not self.on_cpu
            else "Close other programs, or take smaller tiles (relightgan infer --tile 512).",
        )


def wait_patiently(running: Future[Any]) -> None:
    """Waits for a run that was told to end, whatever else is pressed: Python must not close down beside it."""
    while not running.done():
        with contextlib.suppress(KeyboardInterrupt):
            wait([running])


class OutOfMemoryError(DeviceError):
    """The device ran out of memory."""


def apply_gain(plate: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """A linear plate with log2 gains applied: highlights above 1 scale with it, negative values keep their distance.

    With e = GAIN_FLOOR and c = plate clipped to 0..1 this is (c+e) 2^g - e, plus what lies below 0 unchanged and what
    lies above 1 times 2^g; written as a change, so that a gain of exactly 0 gives the plate's own bits.
    """
    changed: np.ndarray = plate + (np.maximum(plate, 0) + np.float32(GAIN_FLOOR)) * np.expm1(gain * np.float32(LN_2))
    return changed


def cut(look: Look, aovs: Sequence[str] = ()) -> tuple[onnx.ModelProto, onnx.ModelProto, tuple[str, ...]]:
    """An operator look in two: plate -> operators, and (plate, window, operators) -> relit and AOVs.

    Args:
        look: an operator look.
        aovs: which of its AOVs the second half is to give; nothing is computed for the others.

    Returns:
        both halves, the first with all operators, and those that the second one takes.

    Raises:
        LookError: it doesn't come apart.
    """
    model = onnx.load_model_from_string(look.model)
    window = [WINDOW] if look.takes_window else []
    pictures = [look.relit_name, *aovs]
    try:
        extractor = onnx.utils.Extractor(model)
        applier = extractor.extract_model([look.plate_name, *window, *look.facts.operators], pictures)
        used = {name for node in applier.graph.node for name in node.input} | set(pictures)
        applied = tuple(name for name in look.facts.operators if name in used)
        for port in [port for port in applier.graph.input if port.name in {*look.facts.operators} - {*applied}]:
            applier.graph.input.remove(port)
        predictor = extractor.extract_model([look.plate_name], list(look.facts.operators))
    except ValueError as error:
        problem = f"{look.path} doesn't come apart into its operators and their use ({error})."
        raise LookError(problem, "Export it again.") from error
    if any(WINDOW in node.input for node in predictor.graph.node):
        raise LookError(
            f"The operators of {look.path} depend on '{WINDOW}', but they stand for the whole frame.",
            "Export it again.",
        )
    return predictor, applier, applied
