"""Speed and memory of `relightgan infer`, beside a plain OpenColorIO 3D LUT with the same EXR in and out.

    python benchmarks/speed.py [--flagship look.onnx] [--cyclegan look.onnx]

Looks that aren't given are exported untrained, at full size: the speed of a network doesn't depend on its weights.

Each case runs the real command in its own process over a few frames. Seconds per frame are the time from the first
finished frame to the last, by the times of the files, divided by the frames between: reading and writing count,
starting does not. Cases alternate, so that load of the machine affects all of them; figures are medians over the turns.
Peak memory is the process's largest resident size (see `peak_memory.py`). `cyclegan` runs on a smaller frame in the
same turns and is extrapolated by pixel count, which is fair to it: a convolution's work is proportional to pixels, and
tiles only add to it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by its path, this file's own folder is what Python searches first; the checkout is what it needs.
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import OpenImageIO  # noqa: E402

from benchmarks.recording import command_text, machine  # noqa: E402
from relightgan.core.cli import run_command  # noqa: E402
from relightgan.core.errors import EXIT_DONE, RelightError, UsageError  # noqa: E402
from relightgan.training.measure.tables import json_text, markdown_table, open_out, versions, write_text  # noqa: E402

SIZES = {"HD": (1920, 1080), "2K": (2048, 1556), "UHD": (3840, 2160)}
FLAGSHIP, CYCLEGAN, LUT = "relight (flagship)", "cyclegan", "OpenColorIO 3D LUT"
LUT_SIZE = 33
Command = Callable[[Path], list[str]]  # output pattern -> command line

BAR_CYCLEGAN = 50.0  # minimum ratio of the times of cyclegan and the flagship
BAR_LUT = 6.0  # maximum ratio of the times of the flagship and the LUT pass


@dataclass(frozen=True)
class Turn:
    """The measurements of one process over a few frames."""

    seconds_per_frame: float
    start_s: float  # from the start of the process to the first finished frame, minus one frame
    peak_mib: float


@dataclass(frozen=True)
class SpeedRow:
    """The results of a case at a frame size."""

    case: str
    size: str
    width: int  # px
    height: int  # px
    seconds_per_frame: float
    start_s: float
    peak_mib: float | None  # None where extrapolated
    extrapolated_from: str  # the measured size; empty: this size was measured
    turns: tuple[float, ...]  # measured seconds per frame of each turn


def main(argv: Sequence[str]) -> int:
    """Runs the benchmark; the exit code."""
    words = build_parser().parse_args(argv)
    if words.frames < 2 or words.turns < 1:
        raise UsageError("Speed needs at least 2 frames and 1 turn.", "Raise --frames or --turns.")
    open_out(words.out)
    with tempfile.TemporaryDirectory(prefix="relightgan-speed-", dir=words.scratch) as folder:
        rows, untrained = measure_all(words, Path(folder))
    record = {
        "command": command_text("speed.py", argv),
        "machine": {**machine(), "load_average_after": os.getloadavg()},
        "versions": versions(),
        "device": words.device,
        "frames": words.frames,
        "turns": words.turns,
        "untrained_looks": untrained,
        "rows": [asdict(row) for row in rows],
        "ratios": ratios(rows),
    }
    page = markdown(record, rows)
    write_text(words.out / "speed.md", page)
    write_text(words.out / "speed.json", json_text(record))
    print(page)
    return EXIT_DONE


def measure_all(words: argparse.Namespace, folder: Path) -> tuple[list[SpeedRow], list[str]]:
    """All rows, and the cases with untrained looks.

    Raises:
        RelightError: a process failed; its last line is in the message.
    """
    cube = write_cube(folder / "grade.cube")
    makers = {FLAGSHIP: (words.flagship, untrained_flagship), CYCLEGAN: (words.cyclegan, untrained_cyclegan)}
    looks = {}
    for number, (case, (given, make)) in enumerate(makers.items()):
        looks[case] = given or make(folder / f"look{number}.onnx")
    untrained = [case for case, (given, _) in makers.items() if given is None]
    small = (words.cyclegan_width, round(words.cyclegan_width * 9 / 16 / 4) * 4)
    small_source = write_plates(folder / "small", *small, words.frames)
    rows, small_turns = [], []
    for name in words.sizes:
        width, height = SIZES[name]
        source = write_plates(folder / name, width, height, words.frames)
        commands = {
            FLAGSHIP: infer(looks[FLAGSHIP], source, words),
            LUT: lut_pass(cube, source, words),
            CYCLEGAN: infer(looks[CYCLEGAN], small_source, words),
        }
        turns: dict[str, list[Turn]] = {case: [] for case in commands}
        for turn in range(words.turns):
            for case, command in commands.items():
                print(f"{name} {width}x{height}, turn {turn + 1} of {words.turns}: {case}", file=sys.stderr, flush=True)
                with tempfile.TemporaryDirectory(dir=folder) as target:
                    turns[case].append(run_turn(command, Path(target) / "frame.%04d.exr", words.frames))
        rows += [summary(case, name, width, height, turns[case]) for case in (FLAGSHIP, LUT)]
        rows.append(stretched(summary(CYCLEGAN, "small", *small, turns[CYCLEGAN]), name))
        small_turns += turns[CYCLEGAN]
        for path in source.parent.iterdir():
            path.unlink()
    return [*rows, summary(CYCLEGAN, "small", *small, small_turns)], untrained


def infer(look: Path, source: Path, words: argparse.Namespace) -> Command:
    """The command line of `relightgan infer`, by output pattern."""
    options = ["--frames", f"1-{words.frames}", "--device", words.device, "--progress", "none"]
    start = [sys.executable, "-m", "relightgan.core.cli", "infer", str(look), str(source)]
    return lambda target: [*start, str(target), *options]


def lut_pass(cube: Path, source: Path, words: argparse.Namespace) -> Command:
    """The command line of `ocio_lut_pass.py`, by output pattern."""
    start = [sys.executable, str(ROOT / "benchmarks" / "ocio_lut_pass.py"), str(cube), str(source)]
    return lambda target: [*start, str(target), "1", str(words.frames)]


def run_turn(command_to: Command, target: Path, frames: int) -> Turn:
    """Runs a process and measures it by the times of its frames.

    Args:
        command_to: makes the command line from the output pattern.
        target: the output pattern.
        frames: number of frames, from 1.

    Raises:
        RelightError: the process failed, or didn't write all frames.
    """
    command = command_to(target)
    measured = target.parent / "measured.json"
    launcher = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "peak_memory.py"), str(measured)]
    started = time.time()
    process = subprocess.run(
        [*launcher, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    said = process.stdout.strip().splitlines() or ["it said nothing"]
    if process.returncode != 0:
        raise RelightError(f"{' '.join(launcher)} failed: {said[-1]}.")
    result = json.loads(measured.read_text(encoding="utf-8"))
    if result["code"] != 0:
        raise RelightError(f"{' '.join(command)} failed: {said[-1]}.")
    done = [Path(str(target) % frame).stat().st_mtime for frame in range(1, frames + 1)]
    per_frame = (max(done) - min(done)) / (frames - 1)
    return Turn(per_frame, max(0.0, min(done) - started - per_frame), result["peak_bytes"] / 2**20)


def summary(case: str, name: str, width: int, height: int, turns: Sequence[Turn]) -> SpeedRow:
    """The row of a case at a size: medians over its turns, and the maximum peak."""
    return SpeedRow(
        case,
        name,
        width,
        height,
        statistics.median(turn.seconds_per_frame for turn in turns),
        statistics.median(turn.start_s for turn in turns),
        max(turn.peak_mib for turn in turns),
        "",
        tuple(turn.seconds_per_frame for turn in turns),
    )


def stretched(row: SpeedRow, name: str) -> SpeedRow:
    """A row extrapolated to another size, by pixel count."""
    width, height = SIZES[name]
    seconds = row.seconds_per_frame * width * height / (row.width * row.height)
    return SpeedRow(row.case, name, width, height, seconds, row.start_s, None, f"{row.width}x{row.height}", ())


def ratios(rows: Sequence[SpeedRow]) -> dict[str, dict[str, float]]:
    """By size: cyclegan over the flagship, and the flagship over the LUT pass."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row.size for row in rows if row.case == FLAGSHIP):
        seconds = {row.case: row.seconds_per_frame for row in rows if row.size == name}
        found[name] = {
            "cyclegan / flagship": seconds[CYCLEGAN] / seconds[FLAGSHIP],
            "flagship / LUT": seconds[FLAGSHIP] / seconds[LUT],
        }
    return found


def markdown(record: dict[str, Any], rows: Sequence[SpeedRow]) -> str:
    """The page of results."""
    table = [
        [
            row.case,
            f"{row.size} {row.width}x{row.height}",
            f"{row.seconds_per_frame:.3f}" + (" *" if row.extrapolated_from else ""),
            f"{1 / row.seconds_per_frame:.3g}",
            "–" if row.peak_mib is None else f"{row.peak_mib:.0f}",
            f"{row.start_s:.1f}",
        ]
        for row in rows
    ]
    bars = [
        [name, f"{found['cyclegan / flagship']:.0f}", f"{found['flagship / LUT']:.2f}"]
        for name, found in record["ratios"].items()
    ]
    untrained = f" Untrained, full size: {', '.join(record['untrained_looks'])}." if record["untrained_looks"] else ""
    load = record["machine"]["load_average_after"][0]
    found_versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    small = next(row for row in rows if row.size == "small")
    return (
        f"# Speed\n\n`{record['command']}`\n\n"
        f"{record['machine']['processor']}, {record['machine']['cores']} cores, device {record['device']}, "
        f"load average {load:.1f} after the run; {found_versions}.{untrained}\n\n"
        + markdown_table(["case", "frame", "s / frame", "frames / s", "peak MiB", "start s"], table)
        + f"\nHalf-float EXR, ZIP, in and out; {record['frames']} frames a turn, medians of {record['turns']} turns. "
        f"\\* extrapolated by pixel count from {small.width}x{small.height}.\n\n"
        + markdown_table(["frame", "cyclegan / flagship", "flagship / LUT"], bars)
        + f"\nBars at UHD: cyclegan / flagship at least {BAR_CYCLEGAN:g}, flagship / LUT at most {BAR_LUT:g}.\n"
    )


def write_plates(folder: Path, width: int, height: int, frames: int) -> Path:
    """Half-float ZIP plates of smooth light, texture and grain, up to about 20; the pattern of their paths."""
    folder.mkdir()
    pattern = folder / "plate.%04d.exr"
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    stops = np.stack([3 * np.sin(5 * x + k) * np.cos(4 * y) - 2 + np.sin(80 * x * y + k) for k in range(3)], axis=-1)
    light = np.exp2(stops + 0.03 * random.standard_normal(stops.shape, np.float32)).astype(np.float32)
    spec = OpenImageIO.ImageSpec(width, height, 3, "half")
    spec["compression"] = "zip"
    for frame in range(1, frames + 1):
        path = str(pattern) % frame
        output = OpenImageIO.ImageOutput.create(path)
        if not (output and output.open(path, spec) and output.write_image(np.roll(light, 4 * frame, 1))):
            raise RelightError(f"{path} can't be written.", "Choose another --scratch.")
        output.close()
    return pattern


def write_cube(path: Path) -> Path:
    """A 3D LUT of a warm grade, red fastest."""
    axis = np.linspace(0.0, 1.0, LUT_SIZE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    rows = np.stack([red**0.9, 0.95 * green, blue**1.1], axis=-1).reshape(-1, 3)
    lines = [f"LUT_3D_SIZE {LUT_SIZE}", *(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def untrained_flagship(path: Path, net: Mapping[str, int] | None = None) -> Path:
    """A look of the `relight` recipe before training; `net` changes sizes of its network from the defaults."""
    from relightgan.training.relight.networks import GainGridSettings
    from relightgan.training.relight.recipe import RelightSettings, build

    settings = RelightSettings(match_detail=False, net=GainGridSettings(**net or {}))
    return export_untrained(path, lambda device: build(settings, NO_PHOTOS, device))


def untrained_cyclegan(path: Path, sizes: Mapping[str, int] | None = None) -> Path:
    """A look of the `cyclegan` recipe before training, the published ResNet-9 unless `sizes` changes its settings."""
    from relightgan.training.gan.cyclegan import CycleGanSettings, build

    return export_untrained(path, lambda device: build(CycleGanSettings(**sizes or {}), NO_PHOTOS, device))


# Data for recipes, which use it in `step`, never called here. `relight` checks that there are gains.
NO_PHOTOS: Any = SimpleNamespace(gains=(0,), guidance=None)


def export_untrained(path: Path, build: Callable[[Any], Any]) -> Path:
    """Exports a recipe with untrained weights."""
    import torch

    from relightgan.training.fit.export import export_look

    torch.manual_seed(0)
    export_look(build(torch.device("cpu")).export("ab"), path, {"name": "untrained", "licence": "Apache-2.0"})
    return path


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/speed.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flagship", type=Path, metavar="LOOK.onnx", help="a relight look (default: untrained)")
    parser.add_argument("--cyclegan", type=Path, metavar="LOOK.onnx", help="a cyclegan look (default: untrained)")
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=list(SIZES), help="frame sizes")
    parser.add_argument("--frames", type=int, default=5, help="frames a turn (default: 5)")
    parser.add_argument("--turns", type=int, default=3, help="processes per case and size (default: 3)")
    parser.add_argument(
        "--cyclegan-width", type=int, default=480, help="px; what cyclegan is measured at (default: 480)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where frames are made for the time of the run")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR", help="for the results"
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
