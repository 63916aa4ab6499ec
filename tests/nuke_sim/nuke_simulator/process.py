"""Nuke as a program: `nuke -t script.py`, `nuke -x script.nk`, with its start-up files, arguments and exit codes."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from . import execute, formats, quirks, script, session, startup

_RANGE = re.compile(r"-?\d+([,-]-?\d+)?([,x]\d+)?")
_WITH_VALUE = {"-c", "-m", "-s", "--view", "--remap", "--priority", "--ocioConfig"}
_PLAIN = {
    "-i",
    "-n",
    "-q",
    "--nukex",
    "--studio",
    "--nc",
    "--gpu",
    "--multigpu",
    "--safe",
    "-b",
    "--disable-nuke-frameserver",
}


@dataclasses.dataclass
class Line:
    """What the command line asks for."""

    mode: str = ""  # t: run Python, x: render
    file: str = ""
    arguments: list[str] = dataclasses.field(default_factory=list)
    ranges: list[str] = dataclasses.field(default_factory=list)
    nodes: list[str] = dataclasses.field(default_factory=list)
    views: list[str] = dataclasses.field(default_factory=list)
    proxy: bool | None = None
    go_on: bool = False
    by_order: bool = False
    eaten: str = ""  # the trailing range


def main(argv: list[str]) -> int:
    """Runs one Nuke; its exit code: 0, or 1 when the script or the render failed."""
    line = parse(argv[1:])
    _leave_out_the_checkout()
    import nuke

    nuke._begin_session(False, argv)
    now = session.start(wanted=quirks.parse_quirks(os.environ.get("NUKE_SIM_QUIRKS", "")))
    if line.eaten:
        print(
            f"WARNING: The command line argument '{line.eaten}' will be used as a Frame Range argument and will not be"
            " forward to the python sys.argv.",
            file=sys.stderr,
        )
    now.frames_all = " ".join([*line.ranges, line.eaten]).strip() if now.quirks.frames_all_in_execute else ""
    sys.argv = [line.file, *line.arguments]
    print(f"Nuke {nuke.NUKE_VERSION_STRING}, simulated. No code of Nuke's is in it.", flush=True)
    try:
        startup.begin()
        return _run_python(line.file) if line.mode == "t" else _render(line)
    except (RuntimeError, ValueError, OSError) as error:
        if line.mode == "t":
            raise
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return 1


def parse(words: list[str]) -> Line:
    """Reads the command line; what isn't known here is refused."""
    line = Line()
    words = list(words)
    while words and words[0].startswith("-"):
        _option(line, words.pop(0), words)
    if not words:
        raise SystemExit(
            "nuke (simulated): neither a window nor an interactive terminal is simulated; give -t or -x and a file"
        )
    line.file, line.arguments = words[0], words[1:]
    if line.arguments and _RANGE.fullmatch(line.arguments[-1]):
        line.eaten = line.arguments.pop()
    if line.mode not in ("t", "x"):
        raise SystemExit("nuke (simulated): give -t or -x")
    return line


def _option(line: Line, word: str, rest: list[str]) -> None:
    if word in ("-t", "-x"):
        line.mode = word[1:]
    elif word == "-xi":
        line.mode = "x"
    elif word == "-F":
        line.ranges.append(rest.pop(0))
    elif word == "-X":
        line.mode = "x"
        line.nodes = rest.pop(0).split(",")
    elif word in ("-f", "-p"):
        line.proxy = word == "-p"
    elif word == "--view":
        line.views = rest.pop(0).split(",")
    elif word == "--cont":
        line.go_on = True
    elif word == "--sro":
        line.by_order = True
    elif word == "-V":
        if rest and rest[0].isdigit():
            rest.pop(0)
    elif word in _WITH_VALUE:
        rest.pop(0)
    elif word not in _PLAIN:
        raise SystemExit(f"nuke (simulated): unknown option {word}")


def frame_ranges(texts: list[str]) -> formats.FrameRanges:
    """-F and trailing ranges: 3, 1-10, 1-10x2, 1,10 and 1,10,2."""
    found = []
    for text in texts:
        match = re.fullmatch(r"(-?\d+)(?:[,-](-?\d+))?(?:[,x](\d+))?", text)
        if match is None:
            raise ValueError(f"not a frame range: {text}")
        found.append(formats.FrameRange(int(match[1]), int(match[2] or match[1]), int(match[3] or 1)))
    return formats.FrameRanges(found)


def _run_python(file: str) -> int:
    """A script given to -t; an exception that nobody caught is printed and gives exit code 1."""
    main_module = ModuleType("__main__")
    main_module.__dict__["__builtins__"] = __builtins__
    if session.current().quirks.main_file_defined:
        main_module.__file__ = file
    sys.modules["__main__"] = main_module
    try:
        exec(compile(Path(file).read_text(encoding="utf-8"), file, "exec"), main_module.__dict__)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _render(line: Line) -> int:
    now = session.current()
    script.open_script(now, Path(line.file), load_callbacks=now.quirks.on_script_load_in_execute)
    if line.proxy is not None:
        now.root.setProxy(line.proxy)
    texts = [*line.ranges, *([line.eaten] if line.eaten else [])]
    ranges = frame_ranges(texts) if texts else formats.FrameRange(now.first, now.last)
    if line.nodes:
        writes = [one for name in line.nodes for one in execute.executable(_named(name))]
    else:
        writes = list(now.render.everything())
    if not writes:
        raise RuntimeError("no active Write operators in this script")
    now.render.run(execute.by_render_order(writes) if line.by_order else writes, ranges, line.views or None, line.go_on)
    return 0


def _named(name: str) -> object:
    node = session.current().root.node(name)
    if node is None:
        raise RuntimeError(f'Nothing is named "{name}"')
    return node


def _leave_out_the_checkout() -> None:
    """The environment that runs the simulator has RelightGAN installed for tests; Nuke's Python hasn't."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
    sys.path[:] = [folder for folder in sys.path if "__editable__" not in folder]
    sys.path_importer_cache.clear()
