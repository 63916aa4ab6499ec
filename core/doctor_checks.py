"""The checks behind `relightgan doctor`; each returns its findings and raises nothing.

Whatever might be missing is looked for by name or tried in a process of its own, so that one broken package can't hide
the report about the others.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relightgan.core.errors import RelightError
from relightgan.core.init_block import FOLDER
from relightgan.core.nuke_install import installed_in
from relightgan.core.version import VERSION

OK, NOTE, PROBLEM = "ok", "note", "problem"
ROOT = Path(__file__).resolve().parents[1]
# Distribution, module, minimum version; as in setup.py.
PACKAGES = (
    ("numpy", "numpy", "1.26"),
    ("onnx", "onnx", "1.17"),
    ("OpenImageIO", "OpenImageIO", "3.0"),
    ("opencolorio", "PyOpenColorIO", "2.4"),
    ("opencv-python-headless", "cv2", "4.10"),
    ("av", "av", "13"),
    ("fileseq", "fileseq", "2.1"),
    ("pillow", "PIL", "11"),
    ("pyyaml", "yaml", "6"),
    ("rich", "rich", "13.9"),
)
PIP = f"{sys.executable} -m pip"
GB = 1e9
PROBE_TIMEOUT_S = 120
MIN_FREE_DISK_GB = 5.0  # less free disk is worth a note: a UHD half-float EXR takes 30 to 50 MB
MIN_FREE_MEMORY_GB = 3.0  # the peak of a UHD frame on the CPU; less free memory is worth a note


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    topic: str  # "onnxruntime", "GPU", ...
    level: str  # OK, NOTE or PROBLEM
    text: str  # what was found
    fix: str = ""  # what to do about it


def check_python() -> Iterator[Finding]:
    """The interpreter, the machine and our own version."""
    text = f"{platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    good = sys.version_info >= (3, 11) and sys.maxsize > 2**32
    yield Finding("python", OK if good else PROBLEM, text, "" if good else "Use a 64-bit Python 3.11 or newer.")
    yield Finding("relightgan", OK, f"{VERSION} at {ROOT}")


def check_packages() -> Iterator[Finding]:
    """The packages that core needs, each present and new enough."""
    for name, module, minimum in PACKAGES:
        yield check_package(name, module, minimum)


def check_package(name: str, module: str, minimum: str) -> Finding:
    """One package; it may come from another distribution (conda, a studio's own build), which we then can't date."""
    install = f"{PIP} install '{name}>={minimum}'"
    if importlib.util.find_spec(module) is None:
        return Finding(name, PROBLEM, "isn't installed", install)
    version = version_of(name)
    if version is None:
        return Finding(name, OK, f"of unknown version ({module} is there, under another package name)")
    if numbers(version) < numbers(minimum):
        return Finding(name, PROBLEM, f"{version} is too old; needs {minimum}", install)
    return Finding(name, OK, version)


def check_onnxruntime() -> Iterator[Finding]:
    """Exactly one of onnxruntime's distributions is installed: they are one module and overwrite each other."""
    found = sorted({name for name in onnxruntime_packages() if version_of(name)})
    either = f"{PIP} install 'relightgan[cpu]', or with an NVIDIA GPU 'relightgan[gpu]'."
    if not found:
        yield Finding("onnxruntime", PROBLEM, "isn't installed, so no look can run", either)
    elif len(found) > 1:
        fix = f"{PIP} uninstall -y {' '.join(found)}; then {either}"
        yield Finding("onnxruntime", PROBLEM, f"{' and '.join(found)} are both installed and overwrite each other", fix)
    else:
        yield Finding("onnxruntime", OK, f"{version_of(found[0])} ({found[0]})")


def onnxruntime_packages() -> list[str]:
    """Names of the installed distributions that are the module onnxruntime."""
    names = (dist.metadata["Name"].lower().replace("_", "-") for dist in importlib.metadata.distributions())
    # onnxruntime-extensions and -genai are other modules that only share the prefix.
    other = ("onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools")
    return [name for name in names if name.split("-")[0] == "onnxruntime" and not name.startswith(other)]


AVAILABLE_PROBE = """
import json, onnxruntime
print(json.dumps({"providers": onnxruntime.get_available_providers(), "cuda": onnxruntime.cuda_version}))
"""
START_PROBE = """
import json
from relightgan.core.devices import start_trouble
print(json.dumps({{"trouble": start_trouble("{provider}", 0, quiet=False)}}))
"""
PROVIDERS = {"TensorRT": "TensorrtExecutionProvider", "CUDA": "CUDAExecutionProvider", "CPU": "CPUExecutionProvider"}


def check_providers() -> Iterator[Finding]:
    """The providers that really start, seen by running a one-node model on each."""
    offered, said = ask_python(AVAILABLE_PROBE)
    again = f"{PIP} install --force-reinstall onnxruntime (or onnxruntime-gpu)"
    if offered is None:
        yield Finding("providers", PROBLEM, f"onnxruntime doesn't work: {last_line(said)}", again)
        return
    gpu = gpu_names()
    for name, provider in PROVIDERS.items():
        topic = f"provider {name}"
        if provider not in offered["providers"]:
            if name == "CUDA" and gpu:
                fix = f"{PIP} uninstall -y onnxruntime; then {PIP} install 'relightgan[gpu]'."
                yield Finding(topic, NOTE, "this onnxruntime is the CPU build, and there is an NVIDIA GPU", fix)
            continue
        answer, said = ask_python(START_PROBE.format(provider=provider))
        trouble = last_line(said) if answer is None else answer["trouble"]
        if trouble is None:
            yield Finding(topic, OK, "starts and computes")
            continue
        text = missing_library(said) or trouble
        if name == "CPU":
            yield Finding(topic, PROBLEM, text, again)
        elif name == "TensorRT":
            fix = "Only RELIGHTGAN_TENSORRT=1 needs it: install the TensorRT that this onnxruntime was built for."
            yield Finding(topic, NOTE, text, fix)
        elif gpu:
            fix = f"{PIP} install 'onnxruntime-gpu[cuda,cudnn]', and a driver for CUDA {offered['cuda']} or newer."
            yield Finding(topic, PROBLEM, text, fix)
        else:
            yield Finding(topic, NOTE, f"doesn't start, as there is no NVIDIA GPU here ({text})")


def missing_library(said: str) -> str:
    """The library that onnxruntime couldn't load, from what it wrote to stderr; empty where it names none."""
    found = re.search(r"with error: ([^\n\x1b]+)", said)
    return found[1].strip() if found else ""


def check_gpu() -> Iterator[Finding]:
    """The NVIDIA GPUs, as their driver reports them."""
    fields = "name,memory.total,memory.free,driver_version"
    answer, trouble = nvidia_smi(fields)
    if answer is None and trouble is None:
        yield Finding("GPU", NOTE, "none found (no nvidia-smi): looks run on the CPU")
    elif answer is None:
        fix = "Reinstall the NVIDIA driver, or reboot if it was just updated."
        yield Finding("GPU", PROBLEM, f"the NVIDIA driver doesn't answer: {trouble}", fix)
    elif not answer:
        yield Finding("GPU", NOTE, "the NVIDIA driver is there, but no GPU")
    for number, row in enumerate(answer or []):
        name, total, free, driver = row
        yield Finding(f"GPU {number}", OK, f"{name}, {total} ({free} free), driver {driver}")


TORCH_PROBE = """
import json, torch
print(json.dumps({"cuda": torch.cuda.is_available(), "built": torch.version.cuda, "gpus": torch.cuda.device_count()}))
"""


def check_torch() -> Iterator[Finding]:
    """Whether training is possible, and on what."""
    version = version_of("torch")
    if version is None:
        yield Finding(
            "torch", NOTE, "isn't installed: relighting works, training doesn't", f"{PIP} install 'relightgan[train]'"
        )
        return
    answer, said = ask_python(TORCH_PROBE)
    if answer is None:
        yield Finding(
            "torch",
            PROBLEM,
            f"{version} can't be imported: {last_line(said)}",
            f"{PIP} install --force-reinstall torch",
        )
    elif answer["cuda"]:
        yield Finding("torch", OK, f"{version}, CUDA {answer['built']}, {answer['gpus']} GPU(s)")
    elif gpu_names():
        fix = "Install the CUDA build: https://pytorch.org/get-started/locally."
        why = f"built for CUDA {answer['built']}, which doesn't start" if answer["built"] else "the CPU build"
        yield Finding("torch", NOTE, f"{version} is {why}: training would use the CPU beside an NVIDIA GPU", fix)
    else:
        yield Finding("torch", NOTE, f"{version}; training uses the CPU")


PICTURE_PROBE = """
import json, os, tempfile
import numpy, OpenImageIO as oiio, PyOpenColorIO as ocio
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "probe.exr")
    given = numpy.linspace(-0.1, 100, 4 * 4 * 3, dtype=numpy.float32).reshape(4, 4, 3)
    buffer = oiio.ImageBuf(given)
    wrote = buffer.write(path, oiio.FLOAT)
    same = wrote and numpy.array_equal(oiio.ImageBuf(path).get_pixels(oiio.FLOAT), given)
config = ocio.Config.CreateFromBuiltinConfig("studio-config-latest")
formats = oiio.get_string_attribute("format_list").split(",")
print(json.dumps({"exr": bool(same), "formats": formats, "acescg": config.getColorSpace("ACEScg") is not None}))
"""


def check_pictures() -> Iterator[Finding]:
    """OpenImageIO writes and reads back an EXR, and OpenColorIO has its built-in config."""
    answer, said = ask_python(PICTURE_PROBE)
    again = f"{PIP} install --force-reinstall OpenImageIO opencolorio"
    if answer is None:
        yield Finding("pictures", PROBLEM, f"OpenImageIO or OpenColorIO doesn't work: {last_line(said)}", again)
        return
    if answer["exr"]:
        yield Finding("pictures", OK, "an EXR written by OpenImageIO comes back the same")
    else:
        yield Finding("pictures", PROBLEM, "an EXR written by OpenImageIO comes back different", again)
    if not answer["acescg"]:
        yield Finding("colour", PROBLEM, "OpenColorIO's built-in config lacks ACEScg", again)
    if "raw" not in answer["formats"]:
        fix = "Develop camera raw files to JPEG, TIFF or EXR before training."
        yield Finding("pictures", NOTE, "this OpenImageIO reads no camera raw (DNG, CR3, ARW...)", fix)


CODEC_PROBE = """
import json, av
def has(name, mode):
    try:
        av.codec.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True
wanted = [("h264", "r"), ("hevc", "r"), ("prores", "r"), ("libx264", "w"), ("prores_ks", "w")]
print(json.dumps({f"{name} {mode}": has(name, mode) for name, mode in wanted}))
"""


def check_codecs() -> Iterator[Finding]:
    """The movie codecs that PyAV's FFmpeg reads and writes."""
    answer, said = ask_python(CODEC_PROBE)
    if answer is None:
        yield Finding("movies", PROBLEM, f"PyAV doesn't work: {last_line(said)}", f"{PIP} install --force-reinstall av")
        return
    verbs = {"r": "reads", "w": "writes"}
    have = [f"{verbs[key[-1]]} {key[:-2]}" for key, there in answer.items() if there]
    lack = [f"{verbs[key[-1]].rstrip('s')} {key[:-2]}" for key, there in answer.items() if not there]
    yield Finding("movies", OK, ", ".join(have))
    if lack:
        fix = f"{PIP} install --force-reinstall av, for the wheel with all codecs; or use EXR frames."
        yield Finding("movies", NOTE, f"this build of PyAV can't {', '.join(lack)}", fix)


def check_plugin() -> Iterator[Finding]:
    """Where the Nuke plug-in lies, and whether Nuke is told about it and can start an interpreter with it."""
    if not (ROOT / "nuke_plugin").is_dir():
        yield Finding("Nuke plug-in", NOTE, f"isn't in {ROOT}: this installation relights without Nuke only")
        return
    places = [Path(path) for path in os.environ.get("NUKE_PATH", "").split(os.pathsep) if path]
    found = [finding for into in (Path.home() / ".nuke", *places) for finding in installation(into)]
    found += [Finding("Nuke plug-in", OK, f"{ROOT} (in NUKE_PATH)") for path in places if path.resolve() == ROOT]
    if (start := Path.home() / ".nuke" / "init.py").is_file() and os.fsencode(ROOT) in start.read_bytes():
        found.append(Finding("Nuke plug-in", OK, f"{ROOT} (in {start})"))
    fix = f"Where Nuke runs: relightgan nuke-install; or, with a checkout, put {ROOT} in NUKE_PATH."
    yield from found or [Finding("Nuke plug-in", NOTE, f"{ROOT}; this user's Nuke isn't told about it", fix)]


def installation(into: Path) -> Iterator[Finding]:
    """What `relightgan nuke-install` put into a folder that Nuke reads, if anything."""
    again = f"{sys.executable} -m relightgan.core.cli nuke-install --into '{into}'"
    try:
        known = installed_in(into)
    except RelightError as error:
        yield Finding("Nuke plug-in", PROBLEM, error.problem, error.fix)
        return
    if known is None:
        return
    level, fix, text = OK, "", f"{known.get('version')} in {into / FOLDER}, relights in {known.get('python')}"
    if not Path(str(known.get("python"))).is_file():
        level, text, fix = PROBLEM, f"{text}, which isn't there", f"Run {again}."
    elif not known["told"]:
        level, text, fix = PROBLEM, f"{text}, but {into / 'init.py'} doesn't add it", f"Run {again}."
    elif known.get("version") != VERSION:
        level, fix = NOTE, f"This is version {VERSION}; to update the plug-in: {again}."
    yield Finding("Nuke plug-in", level, text, fix)


def check_disk() -> Iterator[Finding]:
    """Free space where frames (this folder) and temporary files go, and whether they can be written."""
    for topic, folder in (("disk", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / GB
        low = free < MIN_FREE_DISK_GB
        fix = "Make room, or write frames to another disk." if low else ""
        yield Finding(topic, NOTE if low else OK, f"{free:.0f} GB free in {folder}", fix)


def check_memory() -> Iterator[Finding]:
    """Memory that programs can still get."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(rows[name].split()[0]) * 1024 / GB for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        yield Finding("memory", NOTE, "unknown: this system has no /proc/meminfo")
        return
    low = free < MIN_FREE_MEMORY_GB
    fix = f"A UHD frame needs up to {MIN_FREE_MEMORY_GB:.0f} GB on the CPU: close other programs." if low else ""
    yield Finding("memory", NOTE if low else OK, f"{free:.1f} of {total:.1f} GB free, {os.cpu_count()} CPUs", fix)


def ask_python(program: str) -> tuple[dict | None, str]:
    """What a small program prints as JSON, run in a process of its own with this interpreter and its module path.

    Returns:
        The object, or None where it failed; and what it wrote to stderr.
    """
    checkout = [str(ROOT)] if (ROOT / "relightgan.py").is_file() else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in [*checkout, *sys.path] if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            env=environment, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode != 0 or not done.stdout.strip():
        return None, done.stderr.strip() or f"it ended with code {done.returncode}"
    answer: dict = json.loads(done.stdout.strip().splitlines()[-1])
    return answer, done.stderr


def nvidia_smi(fields: str) -> tuple[list[list[str]] | None, str | None]:
    """Rows of `nvidia-smi --query-gpu`; None and None without the program, None and the reason where it fails."""
    if (program := shutil.which("nvidia-smi")) is None:
        return None, None
    command = [program, f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode != 0:
        return None, ((done.stdout + done.stderr).strip().splitlines() or ["no reason"])[0]
    return [[cell.strip() for cell in row.split(",")] for row in done.stdout.splitlines() if row.strip()], None


def gpu_names() -> list[str]:
    """Names of the NVIDIA GPUs; empty without any."""
    return [row[0] for row in nvidia_smi("name")[0] or []]


def version_of(package: str) -> str | None:
    """The installed version of a distribution, None where it isn't installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare: 2.13.0+cpu gives (2, 13, 0)."""
    found = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)


def last_line(text: str) -> str:
    """The last line that says something; of a traceback, the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


# In the order of the report.
CHECKS = (
    check_python,
    check_packages,
    check_onnxruntime,
    check_providers,
    check_gpu,
    check_torch,
    check_pictures,
    check_codecs,
    check_plugin,
    check_disk,
    check_memory,
)
