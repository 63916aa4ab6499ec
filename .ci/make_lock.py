"""Writes requirements.lock and requirements.cuda.lock: every package pinned, with the hashes of all its files.

    .venv/bin/python .ci/make_lock.py             newest versions that setup.py allows
    .venv/bin/python .ci/make_lock.py --keep      those of the present locks, with what setup.py asks for besides

PyPI's torch for Linux needs CUDA's libraries, its CPU build doesn't. So these have a lock of their own, which `make
setup` takes where torch isn't a CPU build. A CPU build isn't on PyPI: the hash of the one that pip finds here is added.

uv does the work. It is fetched into a folder of its own.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAIN, CUDA = ROOT / "requirements.lock", ROOT / "requirements.cuda.lock"
UV = "uv==0.13.9"
OF_CUDA = re.compile(r"nvidia-|cuda-|triton==")
BUILD_TOOLS = "setuptools\nwheel\n"  # setup.py is built without isolation
HEADS = {
    MAIN: """# Every package of the CPU default, pinned, with the hashes of all its files: what 'make test' installs.
# Made by .ci/make_lock.py. On a GPU machine replace onnxruntime by onnxruntime-gpu.
# Install with: pip install --require-hashes --no-deps --requirement requirements.lock
""",
    CUDA: """# What PyPI's torch for Linux needs besides requirements.lock, for machines without a CPU build of torch.
# Made by .ci/make_lock.py.
""",
}


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the versions of the present locks")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as folder:
        blocks = resolved(Path(folder), keep)
        version = next(block for block in blocks if block.startswith("torch=="))
        pinned = version.split()[0]
        blocks[blocks.index(version)] = f"{version} \\\n    --hash=sha256:{hash_found_here(pinned, Path(folder))}"
    for path, head in HEADS.items():
        mine = [block for block in blocks if bool(OF_CUDA.match(block)) == (path == CUDA)]
        path.write_text(head + "".join(f"{block}\n" for block in mine), encoding="utf-8")
        print(f"{path.name}: {len(mine)} packages")


def resolved(folder: Path, keep: bool) -> list[str]:
    """One block of text for each package: its version, and its hashes."""
    run(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder / "uv"), UV)
    (folder / "tools.in").write_text(BUILD_TOOLS)
    words = ["--extra", "dev", "--generate-hashes", "--no-annotate", "--no-header", "--system-certs"]
    if keep:
        for path in (path for path in (MAIN, CUDA) if path.exists()):
            words += ["--constraint", str(path)]
    inputs = [str(ROOT / "setup.py"), str(folder / "tools.in")]
    command = [str(folder / "uv" / "bin" / "uv"), "pip", "compile", *inputs, *words, "--python", sys.executable]
    text = run(*command)
    return [block.rstrip(" \\\n") for block in re.split(r"\n(?=\S)", text) if "==" in block]


def hash_found_here(pinned: str, folder: Path) -> str:
    """The SHA-256 of the file that pip takes for a pinned package on this machine."""
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder / "found"), pinned)
    (found,) = (folder / "found").iterdir()
    with found.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(*command: str) -> str:
    """What a command prints; its errors go to the terminal."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
