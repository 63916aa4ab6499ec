"""The systems that `compare.py` trains, and how each is trained: as a process of its own, once.

A fit that was finished is kept and never made again; one that was stopped goes on, as `relightgan train` does.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relightgan.core.errors import Cancelled
from relightgan.core.progress import Cancellation
from relightgan.training.stage_cache import digest, file_digest, open_stage, read_notes, write_notes

ROOT = Path(__file__).resolve().parents[1]
RECORD, LOG = "fit.json", "train.log"  # files in the folder of a fit
LAST_WORDS = 5  # last lines of a failed process that are reported
POLL_S = 0.2  # interval of checks for a stop
NOT_GUIDED = "NOT guided"  # mark of a `relight` row whose photos couldn't be registered


@dataclass(frozen=True)
class System:
    """A method with its options: a row of the comparison.

    Attributes:
        name: its name on the command line and in the tables.
        what: its description.
        words: options of `relightgan train`, or of `seed_cyclegan.py`, separated by spaces.
        seed_script: True for `seed_cyclegan.py`.
        column: its heading in the pictures; empty: not in the pictures.
    """

    name: str
    what: str
    words: str
    seed_script: bool = False
    column: str = ""


OURS = (
    System("relight", "ours, guided by registered photos", "--preset relight", column="ours"),
    System("relight-patches", "ours, without registration", "--preset relight --registration.enabled false"),
)
# The flagship and methods of about its size, for minutes on a CPU.
SMALL = (
    System("seed-small", "NeuralVFX 2018 as published", "--filters 64 --blocks 4 --critic-filters 64", True),
    System("cyclegan-small", "CycleGAN (Zhu 2017)", "--preset cyclegan-small", column="CycleGAN"),
    System("cut-small", "CUT (Park 2020)", "--preset cut-small", column="CUT"),
    *OURS,
)
# Methods at their published or production size; they need a GPU.
FULL = (
    System("seed", "NeuralVFX 2018 as published", "", True),
    System("lighting-swap", "the same, mended", "--preset lighting-swap --pairing.backbone efficientnet-lite0"),
    System("cyclegan", "CycleGAN (Zhu 2017)", "--preset cyclegan", column="CycleGAN"),
    System("cut", "CUT (Park 2020)", "--preset cut", column="CUT"),
    *OURS,
)
ALL = tuple(dict.fromkeys((*SMALL, *FULL)))


@dataclass(frozen=True)
class Fit:
    """One process to train: a system with a seed on a set.

    Attributes:
        system: the method.
        seed: seed of the first weights and all random numbers.
        minutes: time limit per direction, photos included; the process gets the sum for its directions.
        directions: "ab", "ba" or both, in this order.
        photos: folders of the days A and B.
        device: a device, as for `relightgan train`.
        work: the folder of all fits.
    """

    system: System
    seed: int
    minutes: float
    directions: tuple[str, ...]
    photos: tuple[Path, Path]
    device: str
    work: Path

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of this fit; another time limit, seed, option or photo gives another folder."""
        names = [sorted((path.name, path.stat().st_size) for path in folder.glob("*")) for folder in self.photos]
        system = [self.system.words, self.system.seed_script]
        key = digest([system, self.seed, self.minutes, self.directions, self.device, names])
        return self.work / f"{self.system.name}-seed{self.seed}-{key[:8]}"

    @property
    def looks(self) -> dict[str, Path]:
        """The look of each direction."""
        names = ("look.onnx", "look_back.onnx")
        return {direction: self.folder / name for direction, name in zip(self.directions, names, strict=False)}

    def command(self) -> list[str]:
        """The command line that trains it."""
        start = ["-m", "relightgan.core.cli", "train"]
        if self.system.seed_script:
            start = [str(ROOT / "benchmarks" / "seed_cyclegan.py")]
        source, target = self.photos if self.directions[0] == "ab" else self.photos[::-1]
        # --both-directions for all methods, so that photos are prepared and registered once, as in production.
        both = ["--both-directions"] if len(self.directions) > 1 else []
        return [
            sys.executable, *start, "--source", str(source.resolve()), "--target", str(target.resolve()),
            "--out", str(self.looks[self.directions[0]].resolve()), "--run-dir", str((self.folder / "run").resolve()),
            "--max-minutes", f"{self.minutes * len(self.directions):g}", "--seed", str(self.seed),
            "--device", self.device, "--progress", "none", *both, *self.system.words.split(),
        ]  # fmt: skip


def train(fit: Fit, stop: Cancellation, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains a system, or finds it trained; goes on where it was stopped before, and tries again where it failed.

    Args:
        fit: what to train.
        stop: when asked, the process ends after writing where it was.
        say: takes lines about what happens.

    Returns:
        The record: state ("done" or "failed"), error (its last lines), allowed_s, wall_s and peak_bytes (of all
        attempts; the largest of its processes), photos_s (before the fit: photos, pairs, registration), fits
        (directions, images and seconds of each), learned_from (by direction, in words; of the `relight` translator),
        looks (direction -> sha256), revision.

    Raises:
        Cancelled: a stop was asked for.
        TrainingError: the folder can't be written.
    """
    path = fit.folder / RECORD
    before = read_notes(path)
    if before.get("state") == "done" and all(
        file_digest(look) == before["looks"].get(direction) for direction, look in fit.looks.items()
    ):
        say(f"trained before{at_revision(before)}")
        return before
    open_stage(fit.folder)
    code_now = revision()
    code, peak, wall_s = run_process(fit.command(), fit.folder, stop)
    record = {
        "state": "done" if code == 0 else "stopped" if stop.asked else "failed",
        "allowed_s": round(60 * fit.minutes * len(fit.directions), 1),
        "wall_s": round(wall_s + before.get("wall_s", 0.0), 1),
        "peak_bytes": max(peak, before.get("peak_bytes", 0)),
        "error": last_words(fit.folder / LOG) if code else [],
        "revision": code_now,
        **what_was_done(fit),
    }
    write_notes(path, record)
    if record["state"] == "stopped":
        raise Cancelled(f"Stopped while {fit.system.name} was trained.", "The same command goes on.")
    if code:
        said = record["error"][-1] if record["error"] else "nothing was said"
        say(f"FAILED with exit code {code}: {said} ({fit.folder / LOG})")
    return record


def run_process(command: list[str], folder: Path, stop: Cancellation) -> tuple[int, int, float]:
    """Runs a command with its output in the folder's log.

    Returns:
        exit code, peak memory in bytes (of the largest process; 0 where it isn't known), seconds.
    """
    measured = folder / "peak.json"
    measured.unlink(missing_ok=True)
    launcher = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "peak_memory.py"), str(measured)]
    began = time.monotonic()
    with (folder / LOG).open("w", encoding="utf-8") as log:
        # A session of its own: Ctrl-C reaches us alone, and we pass it on once.
        process = subprocess.Popen(
            [*launcher, *command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        passed_on = False
        try:
            while process.poll() is None:
                if stop.asked and not passed_on:
                    os.killpg(process.pid, signal.SIGINT)
                    passed_on = True
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:  # somebody asked twice
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    found = read_notes(measured)
    code = int(found["code"]) if "code" in found else process.returncode or 1
    return code, int(found.get("peak_bytes", 0)), time.monotonic() - began


def what_was_done(fit: Fit) -> dict[str, Any]:
    """Facts of a fit from its run folder; see `train`."""
    run = fit.folder / "run"
    back = (run / "back" / "metrics.jsonl").exists()
    parts = [([fit.directions[0]], run), (["ba"], run / "back")] if back else [(list(fit.directions), run)]
    fits = [{"directions": directions, **last_metrics(folder)} for directions, folder in parts]
    return {
        "photos_s": read_notes(run / "timing.json").get("before_fit_s"),
        "fits": fits,
        "learned_from": learned_from(read_notes(run / "run.json"), fit.directions),
        "looks": {direction: file_digest(look) for direction, look in fit.looks.items() if look.exists()},
    }


def last_metrics(folder: Path) -> dict[str, Any]:
    """Images and seconds of a fit, from its last line of metrics; empty where there is none."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return {name: last[name] for name in ("images", "seconds") if name in last}


def learned_from(notes: Mapping[str, Any], directions: tuple[str, ...]) -> dict[str, str]:
    """What a `relight` fit learned from, by direction: registration may have failed, and then it says so here."""
    config = notes.get("config", {})
    if config.get("translator") != "relight":
        return {}
    found = {}
    for run_direction, direction in zip(("ab", "ba"), directions, strict=False):
        gains = notes.get("gains", {}).get(run_direction)
        if gains is None:
            found[direction] = "guidance"
            continue
        fell_back = f"{NOT_GUIDED}: " if config["registration"]["enabled"] else ""
        found[direction] = f"{fell_back}{gains['patches']:,} patches"
    return found


def last_words(log: Path) -> list[str]:
    """The last lines of a log that aren't empty."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()][-LAST_WORDS:]


def revision() -> str:
    """The checkout's commit, with + where files have changed since; empty where git doesn't know."""
    try:
        result = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return result.stdout.strip()


def at_revision(record: Mapping[str, Any]) -> str:
    """The commit of a kept fit, as the end of a sentence; empty where it is that of the code now."""
    made = record.get("revision", "")
    return f" at {made}; the code is now {revision()}" if made and made != revision() else ""
