"""One look at work on one device: runs of onnxruntime, strips of a frame, errors for want of memory.

What a run computes is the business of `operator_look` and `image_look`.
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

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
)
from relightgan.core.errors import DeviceError, LookError
from relightgan.core.look import Look
from relightgan.core.threads import EVEN_THREADS, thread_count, threads_text, with_even_logs, without_uneven

STRIP_ROWS = 64  # rows of a strip on the CPU: 3 MB at UHD, so every step stays in the processor's cache
GPU_STRIP_ROWS = 512  # rows of a strip on a GPU, which is faster with more at once
CHECK_EVERY_S = 0.2  # time between two calls of `check` while runs, which may take minutes, are under way

Answer = TypeVar("Answer")


class OutOfMemoryError(DeviceError):
    """The device ran out of memory."""


class Runtime:
    """The device of a look, and its runs.

    Args:
        look: what `load_look` returned.
        device: "auto", "cpu", "cuda" or "cuda:N"; see `choose_providers`.
        check: called all the time while the look is loaded or at work, on the thread that asked for it; may raise
            `Cancelled`, which ends what onnxruntime is at. A single operation isn't cut short: it is waited for.
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
        # On a GPU runs wait for each other anyway. The threads start with the first work.
        self.pool = ThreadPoolExecutor(self.threads if self.on_cpu else 1, "look")
        self.under_way: set[Callable[[], None]] = set()  # what ends the runs and loadings under way
        self.changing = threading.Lock()  # guards it

    @property
    def device_line(self) -> str:
        """One line for the log: the device in use, and the reason."""
        version = onnxruntime.__version__
        threads = f", {threads_text(self.threads)}" if self.on_cpu else ""
        return f"Running on {self.choice.name} (onnxruntime {version}{threads}): {self.choice.why}."

    def open_for_frames(self, model: onnx.ModelProto) -> Any:
        """An onnxruntime session for whole frames and large tiles, one at a time, each on several threads.

        On the CPU they are as many as the machine has only where their number can't show in the pixels; see `threads`.

        Raises:
            OutOfMemoryError: a DeviceError, for want of memory.
            LookError: onnxruntime can't load the model.
        """
        if not self.on_cpu:
            return self._opened(model, session_options(self.threads))
        evened = with_even_logs(model)
        if without_uneven(evened):
            return self._opened(evened, session_options(self.threads))
        return self._opened(model, session_options(EVEN_THREADS))

    def open_for_strips(self, model: onnx.ModelProto) -> Any:
        """An onnxruntime session for the strips of `in_strips`; raises as `open_for_frames`.

        On the CPU strips run side by side, each on one thread. This is fast, and the numbers can't depend on the way
        onnxruntime divides its work.
        """
        options = session_options(1, keep_memory=True) if self.on_cpu else session_options(self.threads)
        return self._opened(model, options)

    def run(self, session: Any, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """One run of onnxruntime; within `watched` or `in_strips` it can be cancelled.

        Args:
            session: of onnxruntime.
            names: the wanted outputs.
            feed: the inputs by name, among them the plate.

        Returns:
            the outputs, float32 arrays.

        Raises:
            OutOfMemoryError: a DeviceError, for want of memory.
            LookError: any other failure, or an output that is no float32 array.
        """
        height, width = feed[self.look.plate_name].shape[2:]
        try:
            options = onnxruntime.RunOptions()
            with self._cancellable(functools.partial(setattr, options, "terminate", True)):
                arrays: list[np.ndarray] = session.run(names, feed, options)
        except ORT_ERRORS as error:
            if is_out_of_memory(error):
                raise self.memory_error(f"{width}x{height} pixels") from error
            raise LookError(
                f"{self.look.path} failed on {width}x{height} pixels ({first_line(error)}).",
                "Export it again; if it isn't yours, check its size multiple.",
            ) from error
        for name, array in zip(names, arrays, strict=True):
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                found = getattr(array, "dtype", type(array).__name__)
                raise LookError(f"The output {name} of {self.look.path} is {found}, not float32.", "Export it again.")
        return arrays

    def watched(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns; `check` is called meanwhile, and ends it by raising."""
        return self._all_watched([work])[0]

    def in_strips(self, work: Callable[[int, int], None], height: int, rows: int | None = None) -> None:
        """Calls `work(y0, y1)` for the strips of a frame, side by side on the CPU; watched as in `watched`.

        Args:
            work: a function of the first row and of the row after the last.
            height: rows of the frame.
            rows: rows of a strip; None for as many as suit the device.
        """
        step = rows or (STRIP_ROWS if self.on_cpu else GPU_STRIP_ROWS)
        self._all_watched([functools.partial(work, y0, min(y0 + step, height)) for y0 in range(0, height, step)])

    def memory_error(self, what: str) -> OutOfMemoryError:
        """The error for running out of memory over `what`."""
        return OutOfMemoryError(
            f"{self.choice.name} ran out of memory over {what}.",
            "Close other programs, choose the device cpu, or take smaller tiles (relightgan infer --tile 512)."
            if not self.on_cpu
            else "Close other programs, or take smaller tiles (relightgan infer --tile 512).",
        )

    def _all_watched(
        self, pieces: Sequence[Callable[[], Answer]], pool: ThreadPoolExecutor | None = None
    ) -> list[Answer]:
        """The results of pieces of work, done side by side on the pool, or another; an error of one ends the others."""
        self.check()
        futures = [(pool or self.pool).submit(piece) for piece in pieces]
        try:
            left = True
            while left:
                left = bool(wait(futures, CHECK_EVERY_S, FIRST_EXCEPTION).not_done)
                if errors := errors_of(futures):
                    raise errors.pop(0)
                if left:
                    self.check()
            return [future.result() for future in futures]
        except BaseException:
            self._end_runs(futures)
            raise
        finally:
            # A future holds its error, and the error's traceback this call: a circle that would keep a frame's arrays.
            futures.clear()

    @contextlib.contextmanager
    def _cancellable(self, end: Callable[[], None]) -> Iterator[None]:
        """While the block runs, `_end_runs` calls what ends it."""
        with self.changing:
            self.under_way.add(end)
        try:
            yield
        finally:
            with self.changing:
                self.under_way.discard(end)

    def _end_runs(self, futures: Sequence[Future[Any]]) -> None:
        """Ends the runs under way and waits, through further Ctrl-C: Python must not close down beside them.

        A piece of work may begin another run after its first was ended, so all are told again until none is left.
        """
        for future in futures:
            future.cancel()
        while wait([future for future in futures if not future.cancelled()], timeout=0.0).not_done:
            with contextlib.suppress(KeyboardInterrupt):
                with self.changing:
                    for end in self.under_way:
                        end()
                wait([future for future in futures if not future.cancelled()], CHECK_EVERY_S)

    def _opened(self, model: onnx.ModelProto, options: Any) -> Any:
        """An onnxruntime session; watched, as loading computes what is constant, and that may take hours."""

        def load() -> Any:
            with self._cancellable(functools.partial(options.set_load_cancellation_flag, True)):
                return open_session(model, self.choice, options)

        try:
            with ThreadPoolExecutor(1, "load") as pool:
                return self._all_watched([load], pool)[0]
        except ORT_ERRORS as error:
            if is_out_of_memory(error):
                raise self.memory_error(f"loading {self.look.path}") from error
            raise LookError(
                f"onnxruntime {onnxruntime.__version__} can't load {self.look.path} ({first_line(error)}).",
                "Export it again, or update onnxruntime if the look is newer.",
            ) from error


def errors_of(futures: Sequence[Future[Any]]) -> list[BaseException]:
    """What those that are done raised."""
    done = [future for future in futures if future.done() and not future.cancelled()]
    return [error for future in done if (error := future.exception()) is not None]
