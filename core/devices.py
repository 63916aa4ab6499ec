"""Where a look runs: which onnxruntime provider is used, proved by starting it, and why.

onnxruntime lists the providers it was *built* with, and when one can't start it goes on with the CPU and a line in the
log. So a provider counts here only after a one-node model has run on it.

TensorRT is used only where RELIGHTGAN_TENSORRT=1 asks for it: it builds an engine for each new frame size, which takes
minutes, and picks kernels by timing them, so two machines (or two builds) may differ in the last bits of a picture.
"""

import functools
import io
import os
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from relightgan.core.errors import DeviceError, UsageError

DEVICES = "auto, cpu, cuda or cuda:N"
TENSORRT_VARIABLE = "RELIGHTGAN_TENSORRT"

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
PROVIDER_NAMES = {CPU: "CPU", CUDA: "CUDA", TENSORRT: "TensorRT"}

# Every exception of onnxruntime comes straight from Exception, so this tuple stands for their missing base class.
# RuntimeError, ValueError and MemoryError are what its Python and C++ sides raise beside them.
ORT_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(ort_state).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError,
    ValueError,
    MemoryError,
)
# Severities of onnxruntime's log.
LOG_ERRORS, LOG_FATAL = 3, 4


@dataclass(frozen=True)
class Choice:
    """The providers of a session, best first."""

    providers: tuple[tuple[str, Mapping[str, str]], ...]  # onnxruntime's names, each with its options
    name: str  # "CPU", "CUDA 0", "TensorRT 0"
    why: str  # one clause for the log

    @property
    def wanted(self) -> str:
        """onnxruntime's name of the provider that must really run."""
        return self.providers[0][0]


def choose_providers(device: str = "auto") -> Choice:
    """The providers to use for what the user asked, each proved to start.

    Args:
        device: "auto" (the GPU where it starts, else the CPU, with the reason), "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: the device isn't one of these.
        DeviceError: CUDA (or TensorRT, through RELIGHTGAN_TENSORRT=1) was asked for and doesn't start.
    """
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", device)
    if match is None or (match[2] is not None and match[1] != "cuda"):
        raise UsageError(f"There is no device '{device}'.", f"Use {DEVICES}.")
    kind, ordinal = match[1], int(match[2] or 0)
    if kind == "cpu":
        return Choice(((CPU, {}),), "CPU", "as asked")
    trouble = start_trouble(CUDA, ordinal)
    if trouble is None:
        why = "as asked" if kind == "cuda" else "it starts on this machine"
        gpu = [(CUDA, provider_options(CUDA, ordinal)), (CPU, {})]
        if os.environ.get(TENSORRT_VARIABLE) != "1":
            return Choice(tuple(gpu), f"CUDA {ordinal}", why)
        trouble = start_trouble(TENSORRT, ordinal)
        if trouble is None:
            first = (TENSORRT, provider_options(TENSORRT, ordinal))
            return Choice((first, *gpu), f"TensorRT {ordinal}", f"{TENSORRT_VARIABLE}=1 asks for it")
        raise DeviceError(
            f"{TENSORRT_VARIABLE}=1 asks for TensorRT, but {trouble}.",
            "Run 'relightgan doctor' to see why, or unset the variable to use CUDA.",
        )
    if kind == "cuda":
        fix = "Run 'relightgan doctor' to see what is missing, or choose the device cpu."
        if CUDA not in onnxruntime.get_available_providers():
            pip = f"{sys.executable} -m pip"
            fix = f"With an NVIDIA GPU: {pip} uninstall -y onnxruntime && {pip} install 'relightgan[gpu]'. {fix}"
        raise DeviceError(f"The device {device} was asked for, but {trouble}.", fix)
    return Choice(((CPU, {}),), "CPU", trouble)


def provider_options(provider: str, ordinal: int) -> dict[str, str]:
    """The options a provider is started with; GPU `ordinal` counts as CUDA counts.

    Source: onnxruntime's CUDA and TensorRT execution provider pages. HEURISTIC, because the default EXHAUSTIVE times
    the convolution algorithms and may take another one each run (microsoft/onnxruntime issue 19822); no TF32, because
    its 10-bit mantissa would band smooth skies and differ from the CPU.
    """
    if provider == CUDA:
        return {
            "device_id": str(ordinal),
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
            "arena_extend_strategy": "kSameAsRequested",
        }
    if provider == TENSORRT:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relightgan" / "tensorrt"
        return {
            "device_id": str(ordinal),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
        }
    return {}


@functools.cache
def start_trouble(provider: str, ordinal: int = 0, quiet: bool = True) -> str | None:
    """None where a one-node model really ran on the provider, else why not, as a clause without a full stop.

    Args:
        provider: onnxruntime's name.
        ordinal: which GPU.
        quiet: keep onnxruntime's own lines off stderr: they say "error" in the log of a task that goes on, as stated,
            on the CPU.
    """
    name = PROVIDER_NAMES.get(provider, provider)
    if provider not in onnxruntime.get_available_providers():
        return f"the installed onnxruntime {onnxruntime.__version__} is built without {name}"
    if provider != CPU:
        preload_gpu_libraries()
    onnxruntime.set_default_logger_severity(LOG_FATAL if quiet else LOG_ERRORS)
    try:
        options = session_options(threads=1)
        options.log_severity_level = LOG_FATAL if quiet else LOG_ERRORS
        chain = [(provider, provider_options(provider, ordinal))]
        session = onnxruntime.InferenceSession(probe_model(), options, providers=chain, enable_fallback=0)
        if provider not in session.get_providers():
            return f"{name} doesn't start (its libraries or a GPU driver are missing)"
        given = np.arange(4, dtype=np.float32)
        if not np.array_equal(session.run(None, {"x": given})[0], given + given):
            return f"{name} starts but computes wrong numbers"
    except ORT_ERRORS as error:
        return f"{name} doesn't start ({first_line(error)})"
    finally:
        onnxruntime.set_default_logger_severity(LOG_ERRORS)
    return None


def preload_gpu_libraries() -> None:
    """Loads CUDA and cuDNN from the NVIDIA wheels, where onnxruntime's own search wouldn't look for them."""
    # It prints what it can't find; stdout belongs to results.
    with redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


@functools.cache
def probe_model() -> bytes:
    """A model of one node, y = x + x, to see whether a provider starts."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def session_options(threads: int, keep_memory: bool = False) -> Any:
    """onnxruntime options for equal results each run and little memory between runs.

    Args:
        threads: of one run; it never depends on the machine's load.
        keep_memory: hold on to buffers between runs (fast for small tiles, wasteful for frames).
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_FATAL  # what fails is raised, and reported once, by us
    options.use_deterministic_compute = True
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = keep_memory
    options.enable_mem_pattern = False  # plans memory for one size; ours change
    # Waiting threads would otherwise keep the CPU busy between frames, beside a compositor who needs it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def open_session(model: onnx.ModelProto | bytes, choice: Choice, options: Any) -> Any:
    """An onnxruntime session that really has the wanted provider.

    Raises:
        DeviceError: it came up without it.
        Exception of ORT_ERRORS: the model itself can't be loaded.
    """
    data = model if isinstance(model, bytes) else model.SerializeToString()
    chain = [(name, dict(settings)) for name, settings in choice.providers]
    session = onnxruntime.InferenceSession(data, options, providers=chain, enable_fallback=0)
    session.disable_fallback()
    if choice.wanted not in session.get_providers():
        running = ", ".join(PROVIDER_NAMES.get(name, name) for name in session.get_providers())
        raise DeviceError(
            f"{choice.name} was chosen, but onnxruntime started the look on {running}.",
            "Run 'relightgan doctor' to see why, or choose the device cpu.",
        )
    return session


OUT_OF_MEMORY = ("allocate memory", "out of memory", "bad_alloc", "alloc_failed", "cudaerrormemoryallocation")


def is_out_of_memory(error: Exception) -> bool:
    """Whether onnxruntime failed for want of memory; it has no exception of its own for that."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def first_line(error: Exception) -> str:
    """What onnxruntime says as one short clause, without its source positions and its stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    # "/onnxruntime_src/.../file.cc:729 void onnxruntime::function(args) What is wrong"
    text = re.sub(r"\S+\.(?:cc|h):\d+ .*?\)(?: const)? (?=[A-Z])", "", text)
    return text[:200].rstrip(" .")
