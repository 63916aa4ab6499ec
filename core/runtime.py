"""One look at work on one device: runs of onnxruntime, strips of a frame, errors for want of memory.

What a run computes is the business of `operator_look` and `image_look`.
"""

import contextlib
import functools
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import onnx
import onnxruntime

from relightgan.core.devices import (
    CPU,
    ORT_ERRORS,
    choose_providers,
    first_line,
    is_out_of_memory,
    open_session,
    session_options,
    thread_count,
)
from relightgan.core.errors import DeviceError, LookError
from relightgan.core.look import Look

STRIP_ROWS = 64  # rows of a strip on the CPU: 3 MB at UHD, so every step stays in the processor's cache
GPU_STRIP_ROWS = 512  # rows of a strip on a GPU, which is faster with more at once
CHECK_EVERY_S = 0.2  # time between two calls of `check` while a long run, which may take minutes, is under way


class OutOfMemoryError(DeviceError):
    """The device ran out of memory."""


class Runtime:
    """The device of a look, and its runs.

    Args:
        look: what `load_look` returned.
        device: "auto", "cpu", "cuda" or "cuda:N"; see `choose_providers`.
        check: called between strips and during long runs; may raise `Cancelled`.
        report: gets a line when memory runs short; stderr when None.

    Raises:
        UsageError: an unknown device, or a senseless number of threads.
        DeviceError: the requested device doesn't start.
    """

    def __init__(
        self, look: Look, device: str, check: Callable[[], None] | None, report: Callable[[str], None] | None
    ) -> None:
        self.look = look
        self.choice = choose_providers(device)
        self.threads = thread_count()
        self.check = check or (lambda: None)
        self.report = report or functools.partial(print, file=sys.stderr)
        self.on_cpu = self.choice.wanted == CPU
        self.watched = ThreadPoolExecutor(1, "run")  # for `run_watched`; its thread starts with the first run

    @property
    def device_line(self) -> str:
        """One line for the log: the device in use, and the reason."""
        version = onnxruntime.__version__
        threads = f", {self.threads} threads" if self.on_cpu else ""
        return f"Running on {self.choice.name} (onnxruntime {version}{threads}): {self.choice.why}."

    def open_for_frames(self, model: onnx.ModelProto | bytes) -> Any:
        """An onnxruntime session for whole frames and large tiles, one at a time, each on all threads.

        Raises:
            OutOfMemoryError: a DeviceError, for want of memory.
            LookError: onnxruntime can't load the model.
        """
        return self._opened(model, session_options(self.threads))

    def open_for_strips(self, model: onnx.ModelProto) -> Any:
        """An onnxruntime session for the strips of `in_strips`; raises as `open_for_frames`.

        On the CPU strips run side by side, each on one thread. This is fast, and the numbers can't depend on the way
        onnxruntime divides its work.
        """
        options = session_options(1, keep_memory=True) if self.on_cpu else session_options(self.threads)
        return self._opened(model, options)

    def run(self, session: Any, names: list[str], feed: dict[str, np.ndarray], options: Any = None) -> list[np.ndarray]:
        """One run of onnxruntime.

        Args:
            session: of onnxruntime.
            names: the wanted outputs.
            feed: the inputs by name, among them the plate.
            options: onnxruntime's own for this run.

        Raises:
            OutOfMemoryError: a DeviceError, for want of memory.
            LookError: any other failure.
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

    def run_watched(self, session: Any, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """As `run`, for a long run: `check` is called meanwhile, and ends it by raising."""
        options = onnxruntime.RunOptions()
        running = self.watched.submit(self.run, session, names, feed, options)
        try:
            while not wait([running], CHECK_EVERY_S).done:
                self.check()
        except BaseException:
            options.terminate = True
            wait_patiently(running)
            raise
        return running.result()

    def in_strips(self, work: Callable[[int, int], None], height: int, rows: int | None = None) -> None:
        """Calls `work(y0, y1)` for the strips of a frame, side by side on the CPU.

        Args:
            work: a function of the first row and of the row after the last.
            height: rows of the frame.
            rows: rows of a strip; None for as many as suit the device.
        """
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

    def memory_error(self, what: str) -> OutOfMemoryError:
        """The error for running out of memory over `what`."""
        return OutOfMemoryError(
            f"{self.choice.name} ran out of memory over {what}.",
            "Close other programs, choose the device cpu, or take smaller tiles (relightgan infer --tile 512)."
            if not self.on_cpu
            else "Close other programs, or take smaller tiles (relightgan infer --tile 512).",
        )

    def _opened(self, model: onnx.ModelProto | bytes, options: Any) -> Any:
        try:
            return open_session(model, self.choice, options)
        except ORT_ERRORS as error:
            if is_out_of_memory(error):
                raise self.memory_error(f"loading {self.look.path}") from error
            raise LookError(
                f"onnxruntime {onnxruntime.__version__} can't load {self.look.path} ({first_line(error)}).",
                "Export it again, or update onnxruntime if the look is newer.",
            ) from error


def wait_patiently(running: Future[Any]) -> None:
    """Waits for the end of a terminated run, through further Ctrl-C: Python must not close down beside it."""
    while not running.done():
        with contextlib.suppress(KeyboardInterrupt):
            wait([running])
