"""The batch command: bakes all RelightGAN nodes that some Writes depend on, then renders the Writes.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nuke

from relightgan.core.errors import EXIT_CANCELLED, EXIT_DONE, EXIT_ERROR, Cancelled, RelightError, SequenceError
from relightgan.nuke_plugin import bake, graph, guard
from relightgan.nuke_plugin.messages import STYLES, Shown, Stop, failed, say, shown, stopping
from relightgan.nuke_plugin.ranges import format_frames, parse_frames, runs
from relightgan.nuke_plugin.state import relink

__all__ = ["main"]

USAGE = "nuke -t batch.py --script=FILE [--write=NAMES] [--frames=RANGE] [options]"
EXAMPLES = """examples:
  nuke -t batch.py --script=shot.nk --write=Write1 --frames=1001-1100
  nuke -t batch.py --script=shot.nk --frames=1001-1100x10,1150 --bake-only
  nuke -t batch.py --script=shot.nk --write=Write1,Precomps.Write2 --views=left,right --frames=1-20 --continue-on-error
  nuke -t batch.py --script=shot.nk --frames=1001-1100 --chunk=1021:20 --progress=openjd

Write options as one word, --frames=1001-1100: Nuke takes a bare range at the end of a command line for itself.
An empty value counts as not given. Frames that are in the cache already are not relit again.
Exit codes: 0 done, 1 failed (one line that begins with ERROR:), 2 wrong options, 130 cancelled.
"""


def main(words: Sequence[str]) -> int:
    """Runs the batch command.

    Args:
        words: the words after `nuke -t batch.py`.

    Returns:
        0 done, 1 failed, 130 cancelled.

    Raises:
        SystemExit: wrong options (2), or --help (0).
    """
    options = parse(words)
    # An empty option keeps the host's own variable: a farm's template can't leave an option out.
    given = {"RELIGHTGAN_CACHE": options.cache, "RELIGHTGAN_PYTHON": options.python}
    os.environ.update({name: value for name, value in given.items() if value})
    try:
        with stopping() as stop:
            return do(options, stop)
    except (Cancelled, KeyboardInterrupt) as error:
        say(f"Cancelled. {error or 'Finished frames are kept.'}")
        return EXIT_CANCELLED
    except RelightError as error:
        failed(str(error), options.progress)
        return error.exit_code
    except RuntimeError as error:  # Nuke's own: a script that can't be read, a node that can't render
        failed(f"Nuke: {error}", options.progress)
        return EXIT_ERROR


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parses the command line.

    Raises:
        SystemExit: as `main`.
    """
    made = parser()
    options = made.parse_args(list(words))
    if options.rest:
        made.error(f"'{options.rest[0]}' stands alone; a frame range is written as --frames={options.rest[0]}")
    if not options.script:
        made.error("--script is missing")
    if options.bake_only and options.render_only:
        made.error("--bake-only and --render-only leave nothing to do")
    if options.chunk and not re.fullmatch(r"-?\d+:[1-9]\d*", options.chunk):
        made.error(f"--chunk={options.chunk} can't be read; write START:COUNT, such as 1021:20")
    return options


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="batch.py",
        usage=USAGE,
        description="Relights what some Write nodes depend on, then renders them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--script", default="", metavar="FILE", help="the .nk file")
    add("--write", default="", metavar="NAMES", help="Write nodes; default: all that are on, by their render order")
    add(
        "--frames", default="", metavar="RANGE", help="such as --frames=1001-1100,1150 or 1-20x2; default: the script's"
    )
    add("--chunk", default="", metavar="START:COUNT", help="of the frames only those from START on, COUNT numbers far")
    add("--views", default="", metavar="NAMES", help="such as left,right; default: those the Writes are set to")
    add("--proxy", action="store_true", help="render at the script's proxy size; relighting is always at full size")
    add("--device", default="", help="auto, cpu, cuda or cuda:N instead of the nodes' own")
    add("--bake-only", action="store_true", help="relight, but render nothing")
    add("--render-only", action="store_true", help="relight nothing; a frame that isn't ready fails")
    add("--continue-on-error", action="store_true", help="go on with the other frames; the exit code is still 1")
    add("--cache", default="", metavar="DIR", help="as RELIGHTGAN_CACHE; a node's own cache folder comes first")
    add("--python", default="", metavar="FILE", help="as RELIGHTGAN_PYTHON: the interpreter that relights")
    add("--plugin-path", default="", metavar="DIRS", help="folders with gizmos, with ; between them")
    add("--progress", choices=STYLES, default="auto", help="openjd prints Open Job Description lines; default auto")
    add("rest", nargs="*", help=argparse.SUPPRESS)
    return made


def do(options: argparse.Namespace, stop: Stop) -> int:
    """Relights and renders."""
    open_script(options.script, [place for place in options.plugin_path.split(";") if place.strip()])
    frames = chosen_frames(options.frames, options.chunk)
    if not frames:
        say("No frames are in this chunk; nothing to do.")
        return EXIT_DONE
    writes = find_writes(options.write)
    rendered = {view for write in writes for view in guard.views_of(write)}
    views = names_in(options.views) or [view for view in nuke.views() if view in rendered]
    targets = [
        (node, bake.needed_of(node, write, frames))
        for write in writes
        for node in graph.relight_nodes_upstream(write)
        if not graph.inert(node)
    ]
    works = [] if options.render_only else bake.plan(targets, views)
    if options.render_only:
        for node, _ in targets:
            relink(node)  # includes frames that another machine has baked
    nodes = dict.fromkeys(node.fullName() for node, _ in targets)
    say(f"{options.script}: {names(writes)}, frames {format_frames(frames)}; relit: {', '.join(nodes) or 'nothing'}.")
    to_relight = sum(work.count for work in works)
    to_render = 0 if options.bake_only else len(writes) * len(frames)
    lost: list[str] = []
    with shown(to_relight + to_render, "RelightGAN", options.progress, stop) as progress:
        report = bake.run(works, progress, None, options.device or None)
        lost += report.failures
        if lost and not options.continue_on_error:
            raise SequenceError(" ".join(lost), "Mend that and run this again; finished frames are kept.")
        if not options.bake_only:
            guard.register()
            with final_size(options.proxy), guard.views_only(names_in(options.views)):
                for write in writes:
                    own = names_in(options.views) or guard.views_of(write)
                    lost += render(write, frames, own, progress, options.continue_on_error)
    if lost:
        failed(" ".join(lost), options.progress)
        return EXIT_ERROR
    say("Done.")
    return EXIT_DONE


def open_script(path: str, plugin_paths: Sequence[str]) -> None:
    """Opens a script.

    Raises:
        RelightError: it is missing, or Nuke can't read it.
    """
    if not Path(path).is_file():
        raise RelightError(f"The script {path} isn't there.", "Check --script.")
    for place in plugin_paths:
        if not Path(place).is_dir():
            raise RelightError(f"The folder {place} isn't there.", "Check --plugin-path.")
        nuke.pluginAddPath(place.replace("\\", "/"))
    try:
        nuke.scriptOpen(path.replace("\\", "/"))
    except RuntimeError as error:
        raise RelightError(
            f"Nuke can't open {path}: {error}.", "Open it in Nuke's window to see why; a plug-in may be missing."
        ) from error


def chosen_frames(text: str, chunk: str) -> list[int]:
    """The frames to bake and render: those of the text, else of the script, limited to the chunk.

    Raises:
        SequenceError: the text can't be read.
    """
    root = nuke.root()
    frames = parse_frames(text) if text.strip() else list(range(root.firstFrame(), root.lastFrame() + 1))
    if not chunk:
        return frames
    start, count = map(int, chunk.split(":"))
    return [frame for frame in frames if start <= frame < start + count]


def find_writes(text: str) -> list[nuke.Node]:
    """The Writes named in a text, else all top-level ones that are on, by their render order.

    Raises:
        RelightError: there is no such node, it is disabled, or the script has no Write that is on.
    """
    if not names_in(text):
        found = [node for node in nuke.allNodes() if node.Class() in guard.WRITE_CLASSES and is_on(node)]
        if not found:
            raise RelightError("No Write node of this script is on.", "Name one: --write=Write1.")
        return sorted(found, key=render_order)
    writes = []
    for name in names_in(text):
        node = nuke.toNode(name)
        if node is None:
            known = names([other for other in nuke.allNodes() if other.Class() in guard.WRITE_CLASSES])
            raise RelightError(f"There is no node {name}.", f"This script has {known}.")
        if node.Class() not in guard.WRITE_CLASSES:
            raise RelightError(f"{name} is a {node.Class()}, not a Write.", "Name the Write nodes to render.")
        if not is_on(node):
            raise RelightError(f"{name} is disabled, or set to read its file.", "Turn it on, or name another.")
        writes.append(node)
    return sorted(writes, key=render_order)


def is_on(write: nuke.Node) -> bool:
    """False for a Write that is disabled, or reads what it has written."""
    return not any(knob.value() for knob in map(write.knob, ("disable", "reading")) if knob is not None)


def render_order(write: nuke.Node) -> float:
    """The render order of a Write; lower ones are rendered first."""
    knob = write.knob("render_order")
    return float(knob.value()) if knob is not None else 0.0


@contextmanager
def final_size(proxy: bool) -> Iterator[None]:
    """A context in which Nuke renders at full size, or at the script's proxy size."""
    root = nuke.root()
    before = root.proxy()
    root.setProxy(proxy)
    try:
        yield
    finally:
        root.setProxy(before)


def render(
    write: nuke.Node, frames: Sequence[int], views: Sequence[str], progress: Shown, continue_on_error: bool
) -> list[str]:
    """Renders a Write.

    All frames are checked before the first is rendered. With `continue_on_error` the ready ones are rendered one by
    one, to know which one fails; a movie is rendered in one go.

    Returns:
        The lost frames, a line for each reason; always empty without `continue_on_error`.

    Raises:
        Cancelled: the farm has cancelled; the frame under way is lost.
        RelightError: a frame can't be rendered.
    """
    progress.begin(write.fullName())
    lost: dict[str, list[int]] = {}
    good = []
    for frame in frames:
        try:
            guard.check(write, frame)
            good.append(frame)
        except RelightError as error:
            if not continue_on_error:
                raise
            lost.setdefault(str(error), []).append(frame)
            progress.advance()
    one_by_one = continue_on_error and has_file_per_frame(write, good)
    for piece in [[frame] for frame in good] if one_by_one else [good] if good else []:
        try:
            execute(write, piece, views, progress)
        except RelightError as error:
            if not continue_on_error or isinstance(error, Cancelled):
                raise
            lost.setdefault(str(error), []).extend(piece)
            progress.advance(len(piece))
    bad = sum(map(len, lost.values()))
    say(f"{write.fullName()}: {len(frames) - bad} of {len(frames)} frames rendered.")
    return [f"{write.fullName()}: {format_frames(found)}: {reason}" for reason, found in lost.items()]


def has_file_per_frame(write: nuke.Node, frames: Sequence[int]) -> bool:
    """False for a movie."""
    knob = write.knob("file")
    paths = {knob.evaluate(frame) for frame in frames} if isinstance(knob, nuke.File_Knob) else set()
    return len(paths) == len(frames)


def execute(write: nuke.Node, frames: Sequence[int], views: Sequence[str], progress: Shown) -> None:
    """Renders frames of a Write in one go.

    Raises:
        Cancelled: the farm has cancelled.
        RelightError: Nuke can't render, with its message.
    """
    name = write.fullName()
    ranges = nuke.FrameRanges()
    for first, last in runs(frames):
        ranges.add(nuke.FrameRange(first, last, 1))

    def before() -> None:
        if progress.cancelled:
            raise RuntimeError("Cancelled")  # aborts the render

    def after() -> None:
        if nuke.thisNode().fullName() == name:
            progress.advance()

    nuke.addBeforeFrameRender(before, nodeClass=write.Class())
    nuke.addAfterFrameRender(after, nodeClass=write.Class())
    try:
        nuke.execute(write, ranges, list(views))
    except RuntimeError as error:
        if progress.cancelled or str(error).lower().startswith("cancelled"):
            raise Cancelled("Stopped as asked; finished frames are kept.") from error
        raise RelightError(f"{name}: {' '.join(str(error).split())}") from error
    finally:
        nuke.removeBeforeFrameRender(before, nodeClass=write.Class())
        nuke.removeAfterFrameRender(after, nodeClass=write.Class())
    progress.check()


def names_in(text: str) -> list[str]:
    """The names in a comma-separated text."""
    return [name.strip() for name in text.split(",") if name.strip()]


def names(nodes: Sequence[nuke.Node]) -> str:
    """Full names, comma-separated."""
    return ", ".join(node.fullName() for node in nodes) or "none"
