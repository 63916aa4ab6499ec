"""Gives damaged files to the real readers, in processes of their own: what a decoder does to its process is seen.

A try is a function of (kind, seed, number). `fuzz` runs many and counts; to see one of them again, with its traceback:

    PYTHONPATH=$PWD:$PWD/tests/support python tests/support/fuzzing.py exr --seed 1 --try 123
"""

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import traceback
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from damage import damaged

from relightgan.core.errors import RelightError

ROOT = Path(__file__).resolve().parents[2]
BATCH = 400  # tries of one process
MAX_SECONDS = 5  # of a try; its process is ended then, wherever it is
MAX_MORE_BYTES = 2 << 30  # that a process may map beyond what it has when it begins
OUT_OF_MEMORY = "more memory than there is"  # a refusal that only our limit brought about


@dataclass
class Tally:
    """What became of some tries."""

    ends: Counter = field(default_factory=Counter)  # "read", "refused", "wrong" -> number
    wrong: list[str] = field(default_factory=list)  # how to replay each, and what was wrong

    def told(self) -> str:
        read, refused = self.ends["read"], self.ends["refused"]
        return f"{self.ends.total():,} tries: {refused:,} refused, {read:,} read, {self.ends['wrong']:,} wrong"


def fuzz(kind: str, tries: int, seed: int, folder: Path) -> Tally:
    """Runs tries 0 to `tries` - 1 of a kind (a module `fuzz_<kind>`), some hundreds in a process."""
    tally, first = Tally(), 0
    while first < tries:
        log = folder / f"{kind}-{seed}-{first}.log"
        batch = [
            "--seed",
            str(seed),
            "--first",
            str(first),
            "--last",
            str(min(first + BATCH, tries)),
            "--log",
            str(log),
        ]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
        done = subprocess.run(
            [sys.executable, __file__, kind, *batch], env=os.environ | {"PYTHONPATH": path}, capture_output=True,
            text=True, errors="replace", check=False,
        )  # fmt: skip
        begun: dict | None = None
        for line in log.read_text().splitlines() if log.exists() else ():
            entry = json.loads(line)
            if "end" not in entry:
                begun = entry
                continue
            begun = None
            first = entry["try"] + 1
            tally.ends[entry["end"]] += 1
            if entry["end"] == "wrong":
                tally.wrong.append(replay(kind, seed, entry))
        if done.returncode != 0:
            assert begun, f"The tries of {kind} can't be run:\n{done.stderr[-4000:]}"
            end = f"its process ended with {done.returncode}, after {MAX_SECONDS} s or in a crash"
            tally.ends["wrong"] += 1
            tally.wrong.append(replay(kind, seed, begun | {"why": f"{end}:\n{done.stderr[-3000:]}"}))
            first = begun["try"] + 1
    return tally


def replay(kind: str, seed: int, entry: dict) -> str:
    """A try that went wrong, with the command that runs it again."""
    command = f"python tests/support/fuzzing.py {kind} --seed {seed} --try {entry['try']}"
    return f"{command}   # {entry['file']}: {entry['damage']}\n{entry['why']}"


def make_try(kind: str, seed: int, number: int, samples: list[Path], place: Path) -> tuple[Path, str, str]:
    """Writes the damaged file of a try; (path, sample's name, what was done)."""
    rng = random.Random(f"{kind} {seed} {number}")
    sample = samples[number % len(samples)]
    content, words = damaged(sample.read_bytes(), rng)
    # Under a name of its own, so that no message can name it by chance.
    path = place / f"try_{zlib.crc32(words.encode()):08x}_{sample.name}"
    path.write_bytes(content)
    return path, sample.name, words


def run_try(module, path: Path, sample: str) -> tuple[str, str]:
    """("read" | "refused" | "wrong", why)."""
    try:
        module.read(path, sample)
    except RelightError as error:
        said = str(error)
        if path.name not in said:
            return "wrong", f"the refusal doesn't name the file: {said}"
        if "\n" in said or OUT_OF_MEMORY in said:
            return "wrong", f"no refusal in one line, or only for want of memory: {said}"
        return "refused", said
    except Exception:
        return "wrong", traceback.format_exc()
    return "read", ""


def main() -> int:
    """Runs a batch with a log, or one try with all it says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--try", dest="one", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=0)
    parser.add_argument("--log", type=Path)
    words = parser.parse_args()
    warnings.simplefilter("ignore")
    module = importlib.import_module(f"fuzz_{words.kind}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz_")))
        (folder / "samples").mkdir()
        (folder / "tries").mkdir()
        samples = module.make_samples(folder / "samples")
        for sample in samples:  # each is read whole before it is damaged; libraries are loaded by it, too
            module.read(sample, sample.name)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MAX_MORE_BYTES,) * 2)
        numbers = range(words.first, words.last) if words.one is None else [words.one]
        log = stack.enter_context(words.log.open("w") if words.log else contextlib.nullcontext(sys.stdout))
        for number in numbers:
            path, name, told = make_try(words.kind, words.seed, number, samples, folder / "tries")
            entry = {"try": number, "file": name, "damage": told}
            print(json.dumps(entry), file=log, flush=True)
            faulthandler.dump_traceback_later(MAX_SECONDS, exit=True)
            end, why = run_try(module, path, name)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(entry | {"end": end, "why": why}), file=log, flush=True)
            if words.one is not None:
                print(why)
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
