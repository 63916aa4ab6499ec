"""The command and the machine of a benchmark, which are written beside its figures."""

import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def command_text(script: str, argv: Sequence[str]) -> str:
    """The command line, with file names in place of absolute paths, which belong to one machine."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in argv]
    return shlex.join(["python", f"benchmarks/{script}", *words])


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, and operating system."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": cores,
        "system": platform.system(),
    }
