"""Checks RelightGAN in a licensed Nuke, in about a minute, and writes one JSON report:

    nuke -t tests/nuke_smoke.py --out report.json
    nuke -t tests/nuke_smoke.py --out report.json --look sunny.onnx      # relights with a look, too

Each check says what it proves and which question about Nuke it settles; the design was made so that no answer matters,
except for checks that can *fail*. Findings are answers that are good to know and can't fail. Nothing is written but the
report and a temporary folder. Please send the report along with a problem, or with a "works here".

One file, so that it can be sent to whoever has a licence. Standard library and `nuke` only (Python 3.9 and later).
Exit codes: 0 nothing failed, 1 something did.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nuke

NAME = "nuke_smoke.py"
CHILD_LIMIT_S = 120
SIZE = (64, 48)
PLATE = (100.0, -0.1, 0.18, 0.5)  # a highlight, a negative, grey, and a matte
RELIT = (0.25, 2.0, 8.0, 1.0)


class Check(NamedTuple):
    """One question to Nuke."""

    run: Callable[[Path], str]  # gets a folder of its own; the detail; AssertionError where it fails
    proves: str
    settles: str
    finding: bool  # an answer that can't fail


CHECKS: dict[str, Check] = {}
LOOKS: list[str] = []  # from the command line; empty or one


class Skipped(Exception):
    """The check needs something that isn't there."""


def check(proves: str, settles: str, finding: bool = False) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Registers a function as a check under its own name."""

    def add(run: Callable[[Path], str]) -> Callable[[Path], str]:
        CHECKS[run.__name__] = Check(run, proves, settles, finding)
        return run

    return add


# Where things are


def own_file() -> Path:
    """This file; `__file__` isn't promised for a script given to -t."""
    words = [globals().get("__file__"), *getattr(nuke, "rawArgs", []), *sys.argv[:1]]
    return Path(next(word for word in words if word and Path(word).name == NAME)).absolute()


def root_folder() -> Path:
    """The checkout that this file lies in."""
    return own_file().parents[1]


def find_plugin() -> None:
    """Makes the plug-in known where NUKE_PATH doesn't name it."""
    root = root_folder()
    if str(root) not in sys.path:
        sys.path.append(str(root))
    if not any(Path(place, "RelightGAN.gizmo").is_file() for place in nuke.pluginPath()):
        nuke.pluginAddPath((root / "gizmos").as_posix(), addToSysPath=False)


# Small helpers


def fresh_script(first: int = 1, last: int = 3) -> None:
    """An empty script of a small format."""
    nuke.scriptClear()
    nuke.addFormat(f"{SIZE[0]} {SIZE[1]} 0 0 {SIZE[0]} {SIZE[1]} 1 smoke")
    nuke.root()["format"].setValue("smoke")
    nuke.root()["first_frame"].setValue(first)
    nuke.root()["last_frame"].setValue(last)


def constant(rgba: tuple[float, ...]) -> Any:
    """A Constant of one colour, with alpha."""
    node = nuke.nodes.Constant()
    node["channels"].setValue("rgba")
    for i, value in enumerate(rgba):
        node["color"].setValue(value, i)
    return node


def exr_write(source: Any, pattern: Path) -> Any:
    """A Write as RG_Write is: raw float EXR, all four channels."""
    node = nuke.nodes.Write()
    node.setInput(0, source)
    node["file"].setValue(pattern.as_posix())
    node["file_type"].setValue("exr")
    node["channels"].setValue("rgba")
    node["raw"].setValue(True)
    node["datatype"].setValue("32 bit float")
    node["create_directories"].setValue(True)
    return node


def exr_read(pattern: Path, first: int = 1, last: int = 3) -> Any:
    """A Read as RG_Read is."""
    node = nuke.nodes.Read()
    node["file"].setValue(pattern.as_posix())
    node["first"].setValue(first)
    node["last"].setValue(last)
    node["raw"].setValue(True)
    node["on_error"].setValue("error")
    return node


def write_frames(rgba: tuple[float, ...], pattern: Path, first: int = 1, last: int = 3) -> None:
    """Frames of one colour on disk, written by Nuke."""
    source = constant(rgba)
    write = exr_write(source, pattern)
    nuke.execute(write, first, last, 1)
    nuke.delete(write)
    nuke.delete(source)


def sampled(node: Any, channels: str = "rgba") -> list[float]:
    """The middle pixel at the current frame."""
    names = {"r": "rgba.red", "g": "rgba.green", "b": "rgba.blue", "a": "rgba.alpha"}
    return [float(node.sample(names[letter], SIZE[0] / 2, SIZE[1] / 2)) for letter in channels]


def near(found: list[float], wanted: tuple[float, ...] | list[float]) -> bool:
    """The same to float precision."""
    return all(abs(a - b) <= 1e-6 * max(1.0, abs(b)) for a, b in zip(found, wanted))  # noqa: B905, 3.9 has no strict


def relight_node(source: Any) -> Any:
    """A RelightGAN node on a source."""
    node = nuke.createNode("RelightGAN", inpanel=False)
    for i in range(node.inputs()):
        node.setInput(i, None)
    node.setInput(0, source)
    return node


def relit_node(folder: Path) -> Any:
    """A RelightGAN node with made-up relit frames 1-3, so that no worker is needed."""
    pattern = folder / "relit.%04d.exr"
    write_frames(RELIT, pattern)
    node = relight_node(constant(PLATE))
    node["result_path"].setValue(pattern.as_posix())
    node["result_first"].setValue(1)
    node["result_last"].setValue(3)
    return node


def child(folder: Path, words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Another Nuke, with this checkout on its NUKE_PATH."""
    paths = [str(root_folder()), *filter(None, [os.environ.get("NUKE_PATH")])]
    environment = {**os.environ, "NUKE_PATH": os.pathsep.join(paths), **variables}
    return subprocess.run(
        [nuke.EXE_PATH, *words],
        cwd=str(folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=CHILD_LIMIT_S,
        check=False,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def asked(folder: Path, task: str, *words: str) -> Any:
    """What another Nuke answers to one of `TASKS`."""
    answer = folder / f"{task}.json"
    done = child(folder, ["-t", str(own_file()), f"--task={task}", f"--out={answer}", *words])
    assert answer.is_file(), f"the other Nuke ended with {done.returncode} and said: {done.stdout[-1500:]}"
    return json.loads(answer.read_text(encoding="utf-8"))


# What another Nuke may be asked


def task_words(options: argparse.Namespace) -> Any:
    return {"argv": sys.argv, "raw": list(nuke.rawArgs), "file": globals().get("__file__")}


def task_describe(options: argparse.Namespace) -> Any:
    nuke.scriptOpen(Path(options.script).as_posix())
    return described(nuke.toNode("RelightGAN1"))


def task_nested(options: argparse.Namespace) -> Any:
    fresh_script()
    source = constant(PLATE)
    outer, inner = (exr_write(source, Path(options.script) / f"{name}.%04d.exr") for name in ("outer", "inner"))
    said: list[str] = []

    def again() -> None:
        if nuke.thisNode().name() == outer.name():
            try:
                nuke.execute(inner, 1, 1, 1)
                said.append("worked")
            except Exception as error:
                said.append(f"raised {type(error).__name__}: {error}")

    nuke.addBeforeRender(again)
    nuke.execute(outer, 1, 1, 1)
    return said


TASKS = {"words": task_words, "describe": task_describe, "nested": task_nested}


def described(node: Any) -> Any:
    """Everything of a node that has to be the same in every process."""
    values = {name: str(knob.toScript()) for name, knob in sorted(node.knobs().items()) if name in saved_knobs()}
    about: dict[str, Any] = {
        "knobs": values,
        "hidden": not node["result_path"].visible(),
        "read_file": node.node("RG_Read")["file"].evaluate(),
        "read_range": [int(node.node("RG_Read")[name].value()) for name in ("first", "last")],
        "write_disabled": bool(node.node("RG_Write")["disable"].value()),
    }
    if node["look"].value():
        from relightgan.nuke_plugin.state import state_of

        state = state_of(node, fresh=True)
        about["keys"] = [state.base, state.take, *(state.frame_key(f, state.views[0]) for f in state.frames)]
    return about


def saved_knobs() -> list[str]:
    """Knobs whose values live in the script."""
    return [
        "look", "strength", "exposure", "working_space", "premultiplied", "temporal_blend", "temporal_window", "bypass",
        "frames", "device", "precision", "crop_to_format", "cache_folder", "relightgan_version", "result_path",
        "result_first", "result_last",
    ]  # fmt: skip


# The checks


@check("the script given to -t learns where it lies", "is __file__ defined in a script run by -t?", finding=True)
def file_of_a_script(folder: Path) -> str:
    return f"__file__ is {globals().get('__file__')!r}, sys.argv[0] is {sys.argv[0]!r}"


@check("batch.py gets all its words", "does Nuke take a bare frame range at the end of the line for itself?")
def words_reach_a_script(folder: Path) -> str:
    answer = asked(folder, "words", "--frames=1001-1010", "1-3")
    assert "--frames=1001-1010" in answer["argv"], f"sys.argv is {answer['argv']}"
    assert "1-3" in answer["raw"], f"nuke.rawArgs lacks the range: {answer['raw']}"
    return f"sys.argv {'keeps' if '1-3' in answer['argv'] else 'lacks'} a bare range at the end; rawArgs has it"


@check("the gizmo loads, with all its knobs and nodes", "does Nuke read the gizmo file as Tcl does?")
def gizmo_loads(folder: Path) -> str:
    node = relight_node(None)
    lacking = [name for name in saved_knobs() if node.knob(name) is None]
    assert not lacking, f"knobs lacking: {lacking}"
    inner = [name for name in ("RG_Write", "RG_Read", "RG_Copy", "RG_Check") if node.node(name) is None]
    assert not inner, f"inner nodes lacking: {inner}"
    assert node.node("RG_Write")["disable"].value(), "RG_Write is on"
    assert bool(node.node("RG_Write")["raw"].value()), "RG_Write isn't raw"
    return f"class {node.Class()}, {len(node.knobs())} knobs"


@check("inner nodes follow the gizmo's knobs", "do [value parent.knob] and {{parent.knob}} evaluate inside a gizmo?")
def inner_nodes_follow(folder: Path) -> str:
    node = relight_node(None)
    node["result_path"].setValue("/tmp/ünï with spaces/relit.%04d.exr")
    node["result_first"].setValue(7)
    node["source_path"].setValue("/tmp/source.%04d.exr")
    read, write = node.node("RG_Read"), node.node("RG_Write")
    assert "ünï with spaces" in read["file"].evaluate(), read["file"].evaluate()
    assert int(read["first"].value()) == 7, read["first"].value()
    assert "source" in write["file"].evaluate(), write["file"].evaluate()
    return f"RG_Read.file evaluates to {read['file'].evaluate()}"


@check(
    "a path of ours is never evaluated", "does [value parent.knob] evaluate the knob, as the escapes of paths rely on?"
)
def escaped_paths_are_read(folder: Path) -> str:
    from relightgan.nuke_plugin import knobs

    node = relight_node(None)
    wanted = "/tmp/sun[expr 1+1]ny $env(HOME) \\n/relit.exr"
    for name, inner in (("result_path", "RG_Read"), ("source_path", "RG_Write")):
        knobs.set_path(node, name, wanted)
        found = node.node(inner)["file"].evaluate()
        assert found == wanted, f"{inner}: {found}"
    knobs.set_path(node, "look", wanted)
    assert node["look"].evaluate() == wanted, node["look"].evaluate()
    node["look"].setValue("a$x\\tb[expr 1+1]")
    return f"with an expression, a$x\\tb is {node['look'].evaluate()!r}"


@check("relit frames show; strength, bypass and alpha do what they say", "are the inner nodes wired as meant?")
def picture_is_right(folder: Path) -> str:
    node = relit_node(folder)
    assert near(sampled(node), [*RELIT[:3], PLATE[3]]), f"relit is {sampled(node)}"
    node["strength"].setValue(0.5)
    half = [(a + b) / 2 for a, b in zip(PLATE[:3], RELIT[:3])]  # noqa: B905
    assert near(sampled(node, "rgb"), half), f"at strength 0.5 it is {sampled(node)}"
    node["strength"].setValue(1)
    node["bypass"].setValue(True)
    assert near(sampled(node), PLATE), f"bypassed it is {sampled(node)}"
    return "relit, half, bypassed and alpha are right"


@check("a mask relights where it is white", "does the Keymix inside see input 1, and only when it is connected?")
def mask_is_right(folder: Path) -> str:
    node = relit_node(folder)
    node.setInput(1, constant((1.0, 1.0, 1.0, 0.0)))
    assert near(sampled(node, "rgb"), PLATE[:3]), f"under a black mask it is {sampled(node)}"
    node.setInput(1, constant((0.0, 0.0, 0.0, 1.0)))
    assert near(sampled(node, "rgb"), RELIT[:3]), f"under a white mask it is {sampled(node)}"
    return "black keeps the plate, white relights"


@check("an unmade frame is an error, never a picture", "does the Assert inside fail with our message?")
def unmade_frame_is_an_error(folder: Path) -> str:
    node = relight_node(constant(PLATE))
    write = exr_write(node, folder / "out.%04d.exr")
    try:
        nuke.execute(write, 1, 1, 1)
    except RuntimeError as error:
        assert not (folder / "out.0001.exr").exists(), "a file was written"
        return str(error)
    raise AssertionError("it rendered")


@check("with strength 0 no relit frame is needed", "does an unselected Switch input in error do no harm?")
def unused_error_does_no_harm(folder: Path) -> str:
    node = relight_node(constant(PLATE))
    node["bypass"].setValue(True)
    nuke.execute(exr_write(node, folder / "out.%04d.exr"), 1, 1, 1)
    assert (folder / "out.0001.exr").is_file(), "nothing was written"
    return "rendered"


@check("a bake can write the source", "does nuke.execute take the address of a node inside a gizmo?")
def inner_write_executes(folder: Path) -> str:
    node = relight_node(constant(PLATE))
    node["source_path"].setValue((folder / "inner" / "source.%04d.exr").as_posix())
    write = node.node("RG_Write")
    write["disable"].setValue(False)
    try:
        nuke.execute(write, 2, 2, 1)
    finally:
        write["disable"].setValue(True)
    assert (folder / "inner" / "source.0002.exr").is_file(), f"nothing at {folder / 'inner'}"
    found = sampled_at(exr_read(folder / "inner" / "source.%04d.exr", 2, 2), 2)
    assert near(found, PLATE), f"written {PLATE}, read {found}"
    return f"{write.fullName()} wrote, create_directories made its folder, and {PLATE} came back to the bit"


def sampled_at(node: Any, frame: int) -> list[float]:
    """The middle pixel at a frame; the session's frame is put back."""
    before = nuke.frame()
    nuke.frame(frame)
    try:
        return sampled(node)
    finally:
        nuke.frame(before)


@check("reload shows a file that was overwritten", "what does a Read show of a file that was overwritten in place?")
def reload_shows_new_pixels(folder: Path) -> str:
    pattern = folder / "f.%04d.exr"
    write_frames(PLATE, pattern, 1, 1)
    read = exr_read(pattern, 1, 1)
    assert near(sampled(read), PLATE), f"at first it is {sampled(read)}"
    write_frames(RELIT, pattern, 1, 1)
    stale = near(sampled(read), PLATE)
    read["reload"].execute()
    assert near(sampled(read), RELIT), f"after reload it is {sampled(read)}"
    return f"before reload the pixels are {'the old ones' if stale else 'the new ones'}"


@check("reload mends a Read whose file came late", "does a Read that failed open the file once it is there?")
def late_file_is_found(folder: Path) -> str:
    pattern = folder / "late.%04d.exr"
    read = exr_read(pattern, 1, 1)
    assert read.hasError(), "a Read of a missing file has no error"
    write_frames(RELIT, pattern, 1, 1)
    alone = not read.hasError()
    read["reload"].execute()
    assert not read.hasError(), "after reload it still has an error"
    assert near(sampled(read), RELIT), f"after reload it is {sampled(read)}"
    return f"without reload it {'recovers' if alone else 'stays failed'}"


@check("the guard sees each frame before it is rendered", "in which order are render callbacks called?")
def callbacks_come_in_order(folder: Path) -> str:
    said: list[str] = []
    kinds = ["BeforeRender", "BeforeFrameRender", "AfterFrameRender", "AfterRender"]
    calls = {kind: lambda kind=kind: said.append(f"{kind} {nuke.thisNode().name()} {nuke.frame()}") for kind in kinds}
    write = exr_write(constant(PLATE), folder / "out.%04d.exr")
    for kind, call in calls.items():
        getattr(nuke, f"add{kind}")(call)
    try:
        nuke.execute(write, 2, 3, 1)
    finally:
        for kind, call in calls.items():
            getattr(nuke, f"remove{kind}")(call)
    order = [line.split()[0] for line in said]
    frames = [line for line in said if line.startswith("BeforeFrameRender")]
    assert order[0] == "BeforeRender", said
    assert [line.split()[2] for line in frames] == ["2", "3"], said
    assert order[-1] == "AfterRender", said
    assert all(line.split()[1] == write.name() for line in said), said
    return ", ".join(said)


@check("an exception in beforeRender stops the render", "does the guard keep a wrong frame from being written?")
def guard_stops_a_render(folder: Path) -> str:
    write = exr_write(constant(PLATE), folder / "out.%04d.exr")
    ended: list[str] = []

    def refuse() -> None:
        raise RuntimeError("refused by the smoke test")

    def after() -> None:
        ended.append("afterRender")

    nuke.addBeforeRender(refuse)
    nuke.addAfterRender(after)
    try:
        nuke.execute(write, 1, 1, 1)
        raise AssertionError("the render went on")
    except RuntimeError as error:
        assert not (folder / "out.0001.exr").exists(), "a file was written"
        return f"execute raised: {error}; afterRender was {'called' if ended else 'not called'}"
    finally:
        nuke.removeBeforeRender(refuse)
        nuke.removeAfterRender(after)


@check("nothing of ours depends on it", "does nuke.execute work inside beforeRender?", finding=True)
def execute_inside_before_render(folder: Path) -> str:
    try:
        return "; ".join(asked(folder, "nested", f"--script={folder}")) or "beforeRender wasn't called"
    except subprocess.TimeoutExpired:
        return f"it hangs (ended after {CHILD_LIMIT_S} s)"


@check("a saved script means the same in another process", "do knobs, flags and cache keys survive save and reload?")
def script_survives_reload(folder: Path) -> str:
    node = relit_node(folder)
    for name, value in {"strength": 0.75, "exposure": -1.5, "temporal_blend": 0.7, "frames": "1-3"}.items():
        node[name].setValue(value)
    node["working_space"].setValue("ACEScg")
    if LOOKS:
        node["look"].setValue(Path(LOOKS[0]).as_posix())
    script = folder / "saved.nk"
    nuke.scriptSaveAs(script.as_posix(), 1)
    here, there = described(node), asked(folder, "describe", f"--script={script}")
    differing = [name for name in here if here[name] != there[name]]
    assert not differing, f"differing: {[(name, here[name], there[name]) for name in differing]}"
    return f"the same: {', '.join(here)}"


@check("a copied node keeps its settings and its frames", "what do copy and paste keep of a gizmo?")
def copies_are_the_same(folder: Path) -> str:
    node = relit_node(folder)
    for other in nuke.allNodes():
        other.setSelected(other is node)
    nuke.nodeCopy((folder / "copied.nk").as_posix())
    nuke.nodePaste((folder / "copied.nk").as_posix())
    copy = next(n for n in nuke.allNodes() if n.knob("relightgan_version") and n.name() != node.name())
    assert copy["result_path"].value() == node["result_path"].value(), copy["result_path"].value()
    return f"{node.name()} and {copy.name()} show the same frames"


@check("Convert to Group keeps the node working", "does makeGroup keep user knobs, their values and the wiring?")
def group_works(folder: Path) -> str:
    node = relit_node(folder)
    group = node.makeGroup()
    group.setInput(0, node.input(0))
    assert group.knob("relightgan_version") is not None, "the Group has no relightgan_version"
    assert group["result_path"].value() == node["result_path"].value(), group["result_path"].value()
    assert near(sampled(group), [*RELIT[:3], PLATE[3]]), f"the Group shows {sampled(group)}"
    return f"class {group.Class()}"


@check(
    "a farm's nuke -x renders ready frames, and only what is asked for", "does -x leave the disabled RG_Write alone?"
)
def execute_mode_renders(folder: Path) -> str:
    node = relit_node(folder)
    node["source_path"].setValue((folder / "never" / "source.%04d.exr").as_posix())
    exr_write(node, folder / "out" / "shot.%04d.exr")
    script = folder / "farm.nk"
    nuke.scriptSaveAs(script.as_posix(), 1)
    # Made-up frames are nobody's key, so the plug-in's guard would refuse them: this run has the gizmo alone.
    done = child(folder, ["-F", "2", "-x", str(script)], NUKE_PATH=str(root_folder() / "gizmos"))
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout[-1500:]}"
    assert (folder / "out" / "shot.0002.exr").is_file(), "nothing was written"
    assert not (folder / "never").exists(), "RG_Write ran, too"
    return "exit code 0, one frame"


@check("nothing of ours depends on it", "is onScriptLoad called in nuke -x, and before it renders?", finding=True)
def script_load_in_execute_mode(folder: Path) -> str:
    exr_write(constant(PLATE), folder / "out" / "shot.%04d.exr")
    script, spy, said = folder / "load.nk", folder / "spy", folder / "said.txt"
    nuke.scriptSaveAs(script.as_posix(), 1)
    spy.mkdir()
    (spy / "init.py").write_text(
        "import nuke\n"
        f"def say(text):\n    with open({str(said)!r}, 'a') as out:\n        out.write(text + '\\n')\n"
        "nuke.addOnScriptLoad(lambda: say('onScriptLoad'))\n"
        "nuke.addBeforeRender(lambda: say('beforeRender'))\n",
        encoding="utf-8",
    )
    child(folder, ["-F", "1", "-x", str(script)], NUKE_PATH=str(spy))
    return ", ".join(said.read_text().split()) if said.is_file() else "neither was called"


@check("a render of unready frames stops with the command to run", "does our guard work in this Nuke?")
def guard_names_the_command(folder: Path) -> str:
    from relightgan.nuke_plugin import guard

    node = relight_node(exr_plate(folder))
    if LOOKS:
        node["look"].setValue(Path(LOOKS[0]).as_posix())
    write = exr_write(node, folder / "out.%04d.exr")
    nuke.scriptSaveAs((folder / "guarded.nk").as_posix(), 1)
    guard.register()
    try:
        nuke.execute(write, 1, 1, 1)
    except RuntimeError as error:
        assert not (folder / "out.0001.exr").exists(), "a file was written"
        return str(error)
    raise AssertionError("it rendered")


def exr_plate(folder: Path) -> Any:
    """A Read of three plates on disk."""
    write_frames((0.5, 0.25, 0.125, 1.0), folder / "plate.%04d.exr")
    return exr_read(folder / "plate.%04d.exr")


@check("a real bake: source out, worker, relit frames in, render", "does the whole path work in this Nuke?")
def bake_works(folder: Path) -> str:
    if not LOOKS:
        raise Skipped("give --look FILE to relight with a look")
    from relightgan.nuke_plugin import bake, state

    node = relight_node(exr_plate(folder))
    node["look"].setValue(Path(LOOKS[0]).as_posix())
    node["cache_folder"].setValue((folder / "cache").as_posix())
    nuke.scriptSaveAs((folder / "baked.nk").as_posix(), 1)
    began = time.monotonic()
    bake.bake([node], [1, 2, 3])
    took = time.monotonic() - began
    status = state.status_of(node, [1, 2, 3], fresh=True)
    assert status.is_ready, f"after the bake: {status}"
    write = exr_write(node, folder / "out.%04d.exr")
    nuke.execute(write, 1, 3, 1)
    assert (folder / "out.0003.exr").is_file(), "nothing was rendered"
    again = asked(folder, "describe", f"--script={saved(folder / 'baked.nk')}")
    assert again["keys"] == described(node)["keys"], "another process has other keys"
    return f"3 frames in {took:.1f} s, ready, rendered; another process finds them under the same keys"


def saved(path: Path) -> Path:
    """The script, saved again."""
    nuke.scriptSaveAs(path.as_posix(), 1)
    return path


# The report


def main() -> int:
    """Runs all checks, or one task for another Nuke's check."""
    parser = argparse.ArgumentParser(prog=NAME, description="Checks RelightGAN in this Nuke.")
    parser.add_argument("--out", type=Path, required=True, help="the report, a JSON file")
    parser.add_argument("--look", default="", help="a look (.onnx) to relight with")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    parser.add_argument("--task", choices=sorted(TASKS), help=argparse.SUPPRESS)
    parser.add_argument("--script", default="", help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args(sys.argv[1:])
    out = options.out.absolute()
    find_plugin()
    if options.task:
        write_json(out, TASKS[options.task](options))
        return 0
    LOOKS.extend([str(Path(options.look).absolute())] if options.look else [])
    scratch = Path(tempfile.mkdtemp(prefix="relightgan_smoke_"))
    began = time.monotonic()
    results = {name: judged(name, one, scratch) for name, one in CHECKS.items()}
    if not options.keep:
        nuke.scriptClear()
        shutil.rmtree(scratch, ignore_errors=True)
    counts = {kind: sum(r["result"] == kind for r in results.values()) for kind in ("pass", "fail", "finding", "skip")}
    write_json(out, {**machine(), "seconds": round(time.monotonic() - began, 1), "counts": counts, "checks": results})
    print(f"RelightGAN smoke test: {counts}; report: {out}", flush=True)
    return 1 if counts["fail"] else 0


def judged(name: str, one: Check, scratch: Path) -> dict[str, Any]:
    """One check, run in an empty script and folder of its own."""
    folder = scratch / name
    folder.mkdir()
    began = time.monotonic()
    try:
        fresh_script()
        result, detail = ("finding" if one.finding else "pass"), one.run(folder)
    except Skipped as reason:
        result, detail = "skip", str(reason)
    except AssertionError as reason:
        result, detail = "fail", str(reason)
    except Exception:  # whatever it is, the other checks are worth running
        result, detail = "fail", traceback.format_exc(limit=4)
    print(f"{result:<8}{name}", flush=True)
    seconds = round(time.monotonic() - began, 2)
    about = {"proves": one.proves, "settles": one.settles}
    return {"result": result, **about, "detail": detail.replace(str(scratch), "..."), "seconds": seconds}


def machine() -> dict[str, Any]:
    """Which Nuke, Python, system and RelightGAN this is."""
    from relightgan.core.version import VERSION

    return {
        "relightgan": VERSION,
        "nuke": nuke.NUKE_VERSION_STRING,
        "python": platform.python_version(),
        "system": platform.platform(),
        "gui": bool(nuke.GUI),
    }


def write_json(path: Path, content: Any) -> None:
    """Writes a file, whole."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105, as everywhere inside Nuke


if __name__ == "__main__":
    sys.exit(main())
