"""The overhead of the RelightGAN node over `relightgan infer` on the same frames, and the time for one frame.

    python benchmarks/node.py [--look look.onnx]

Nuke is the simulator in tests/nuke_sim, which writes and reads real EXR; the worker is the real one. So this measures
our side (bake, worker, cache) and OpenImageIO's EXR, not Nuke's own render of the nodes upstream.

    infer           `relightgan infer`, seconds per frame from the first finished frame to the last
    bake            the node's bake of the same frames, worker warm; seconds per frame of the whole bake
    round trip      writing a source frame as Nuke does (32 bit float, uncompressed) and reading it again
    overhead        (bake - round trip) / infer
    pure            one frame relit in this process: no file, no other process
    one frame       pressing Relight Frame until it returns, worker warm

Cases alternate, so that load of the machine affects all of them; figures are medians over the turns. A look that isn't
given is exported untrained at full size: the speed of a network doesn't depend on its weights.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIMULATOR = ROOT / "tests" / "nuke_sim"
if __name__ == "__main__":
    # Run by its path, this file's own folder is what Python searches first; the checkout is what it needs.
    sys.path[0] = str(ROOT)
    sys.path.insert(1, str(SIMULATOR))

from benchmarks.recording import command_text, machine  # noqa: E402
from benchmarks.speed import infer, run_turn, untrained_flagship, write_plates  # noqa: E402
from relightgan.core.cli import run_command  # noqa: E402
from relightgan.core.errors import EXIT_DONE, RelightError, UsageError  # noqa: E402
from relightgan.training.measure.tables import json_text, markdown_table, open_out, versions, write_text  # noqa: E402

SIZES = {"HD": (1920, 1080), "UHD": (3840, 2160)}
BAR_OVERHEAD = 1.15  # maximum ratio of a bake without its EXR round trip to infer
BAR_FACTOR, BAR_PLUS_S = 1.5, 0.3  # maximum for one warm HD frame: this factor times pure inference, plus these seconds


@dataclass(frozen=True)
class NodeRow:
    """The results at a frame size: seconds per frame, medians over the turns."""

    size: str
    infer: float
    bake: float
    round_trip: float
    pure: float
    one_frame: float

    @property
    def overhead(self) -> float:
        """The ratio of a bake without its round trip to infer."""
        return (self.bake - self.round_trip) / self.infer

    @property
    def allowed(self) -> float:
        """The maximum time for one warm frame, in seconds."""
        return BAR_FACTOR * self.pure + BAR_PLUS_S


def main(argv: Sequence[str]) -> int:
    """Runs the benchmark; the exit code."""
    words = build_parser().parse_args(argv)
    if words.frames < 3 or words.turns < 1:
        raise UsageError("This needs at least 3 frames and 1 turn.", "Raise --frames or --turns.")
    open_out(words.out)
    with tempfile.TemporaryDirectory(prefix="relightgan-node-", dir=words.scratch) as name:
        folder = Path(name)
        look = words.look or untrained_flagship(folder / "look.onnx")
        os.environ["RELIGHTGAN_PYTHON"] = sys.executable
        os.environ["RELIGHTGAN_LOG_DIR"] = str(folder / "logs")
        try:
            rows = [measure(size, look, folder / size, words) for size in words.sizes]
        finally:
            from relightgan.nuke_plugin import client

            client.stop_shared()
    record = {
        "command": command_text("node.py", argv),
        "machine": {**machine(), "load_average_after": os.getloadavg()},
        "versions": versions(),
        "device": words.device,
        "frames": words.frames,
        "turns": words.turns,
        "rows": [{**asdict(row), "overhead": row.overhead, "one_frame_allowed": row.allowed} for row in rows],
    }
    page = markdown(record, rows)
    write_text(words.out / "node.md", page)
    write_text(words.out / "node.json", json_text(record))
    print(page)
    return EXIT_DONE


def measure(size: str, look: Path, folder: Path, words: argparse.Namespace) -> NodeRow:
    """All cases at one size, in turns."""
    width, height = SIZES[size]
    folder.mkdir()
    plates = write_plates(folder / "plates", width, height, words.frames)
    nuke, node = comp(plates, look, width, height, words)
    cases: dict[str, Callable[[], float]] = {
        "infer": lambda: infer_once(look, plates, folder, words),
        "bake": lambda: bake_once(node, folder, words.frames),
        "round trip": lambda: round_trip(nuke, node, folder, words.frames),
        "pure": lambda: pure_once(look, plates, words.device),
        "one frame": lambda: one_frame(nuke, node, folder),
    }
    bake_once(node, folder, words.frames)  # starts the worker and loads the look
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(words.turns):
        for name, case in cases.items():
            print(f"{size} {width}x{height}, turn {turn + 1} of {words.turns}: {name}", file=sys.stderr, flush=True)
            seconds[name].append(case())
    shutil.rmtree(folder)
    return NodeRow(size, *(statistics.median(taken) for taken in seconds.values()))


def comp(plates: Path, look: Path, width: int, height: int, words: argparse.Namespace) -> tuple[Any, Any]:
    """A session with Read → RelightGAN; the module `nuke` and the node."""
    import nuke
    from nuke_simulator import session, startup
    from nuke_simulator.quirks import make_quirks

    session.start(gui=False, wanted=make_quirks())
    startup.begin([ROOT])
    root = nuke.root()
    root["first_frame"].setValue(1)
    root["last_frame"].setValue(words.frames)
    root["format"].setValue(nuke.addFormat(f"{width} {height} 1 plate"))
    read = nuke.createNode("Read", inpanel=False)
    for name, value in {"file": str(plates), "first": 1, "last": words.frames, "raw": True}.items():
        read[name].setValue(value)
    node = nuke.createNode("RelightGAN", inpanel=False)
    node.setInput(0, read)
    for name, value in {"look": str(look), "device": words.device}.items():
        node[name].setValue(value)
    return nuke, node


def infer_once(look: Path, plates: Path, folder: Path, words: argparse.Namespace) -> float:
    """Seconds per frame of `relightgan infer`."""
    with tempfile.TemporaryDirectory(dir=folder) as target:
        turn = run_turn(infer(look, plates, words), Path(target) / "frame.%04d.exr", words.frames)
    return turn.seconds_per_frame


def bake_once(node: Any, folder: Path, frames: int) -> float:
    """Seconds per frame of a bake into an empty cache."""
    from relightgan.nuke_plugin import bake

    empty_cache(node, folder)
    started = time.perf_counter()
    report = bake.bake(node, range(1, frames + 1))
    taken = time.perf_counter() - started
    if report.relit != frames:
        raise RelightError(f"The bake relit {report.relit} of {frames} frames.")
    return taken / frames


def one_frame(nuke: Any, node: Any, folder: Path) -> float:
    """Seconds from pressing Relight Frame until it returns, nothing of it being there before."""
    empty_cache(node, folder)
    nuke.frame(2)
    started = time.perf_counter()
    node["relight_frame"].execute()
    return time.perf_counter() - started


def round_trip(nuke: Any, node: Any, folder: Path, frames: int) -> float:
    """Seconds per frame to write sources as the node's own Write does, and to read them as the worker does."""
    from relightgan.core.frames import read_plate
    from relightgan.nuke_plugin.restore import source_writer

    place = folder / "round_trip"
    (place / "main").mkdir(parents=True)
    pattern = f"{place.as_posix()}/%V/source.%04d.exr"
    started = time.perf_counter()
    with source_writer(node, pattern) as write:
        for frame in range(1, frames + 1):
            nuke.execute(write, frame, frame, 1, ["main"])
    for frame in range(1, frames + 1):
        read_plate(Path(pattern.replace("%V", "main") % frame))
    taken = time.perf_counter() - started
    shutil.rmtree(place)
    return taken / frames


def pure_once(look: Path, plates: Path, device: str) -> float:
    """Seconds to relight one frame that is in memory, the look being loaded and warm."""
    from relightgan.core.frames import read_plate
    from relightgan.core.look import load_look
    from relightgan.core.pipeline import Relighting, Settings, relight_frame
    from relightgan.core.session import LookSession

    session = LookSession(load_look(look), device)
    plate = read_plate(Path(str(plates) % 2))
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        relight_frame(2, lambda _: plate, [2], Relighting(session, Settings()))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])  # the first one warms up


def empty_cache(node: Any, folder: Path) -> None:
    """Gives the node a cache folder that isn't there yet."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    node["cache_folder"].setValue((folder / "cache").as_posix())
    from relightgan.nuke_plugin import state

    state.forget()


def markdown(record: dict[str, Any], rows: Sequence[NodeRow]) -> str:
    """The page of results."""
    costs = [
        [row.size, f"{row.infer:.3f}", f"{row.bake:.3f}", f"{row.round_trip:.3f}", f"{row.overhead:.2f}"]
        for row in rows
    ]
    answers = [[row.size, f"{row.pure:.3f}", f"{row.one_frame:.3f}", f"{row.allowed:.3f}"] for row in rows]
    load = record["machine"]["load_average_after"][0]
    found_versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"# The node's cost\n\n`{record['command']}`\n\n"
        f"{record['machine']['processor']}, {record['machine']['cores']} cores, device {record['device']}, "
        f"load average {load:.1f} after the run; {found_versions}.\n\n"
        "Seconds per frame of a bake, warm, in the simulated Nuke:\n\n"
        + markdown_table(["frame", "infer", "bake", "EXR round trip", "(bake - round trip) / infer"], costs)
        + f"\n{record['frames']} frames, medians of {record['turns']} turns. Bar: at most {BAR_OVERHEAD:g}.\n\n"
        "Seconds until one frame is there, worker warm:\n\n"
        + markdown_table(["frame", "pure inference", "Relight Frame", "bar"], answers)
        + f"\nBar, meant for HD: {BAR_FACTOR:g} times the pure inference and {BAR_PLUS_S:g} s.\n"
    )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/node.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--look", type=Path, metavar="LOOK.onnx", help="default: an untrained one of the flagship's full size")
    add("--sizes", nargs="+", choices=tuple(SIZES), default=list(SIZES), help="frame sizes")
    add("--frames", type=int, default=12, help="frames a turn (default: 12)")
    add("--turns", type=int, default=3, help="turns per case and size (default: 3)")
    add("--device", default="cpu", help="cpu, cuda or cuda:0 (default: cpu)")
    add("--scratch", type=Path, metavar="DIR", help="where frames are made for the time of the run")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR", help="for the results")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
