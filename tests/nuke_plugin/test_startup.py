"""What a start of Nuke does, in every mode and with a window, in the simulated Nuke."""

import ast
import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import small_comps

ROOT = Path(__file__).resolve().parents[2]
# Everything that Nuke's own Python reads; the oldest that we support is 3.9 (Nuke 14).
INSIDE_NUKE = [
    ROOT / "init.py",
    ROOT / "menu.py",
    ROOT / "relightgan.py",
    *sorted((ROOT / "nuke_plugin").rglob("*.py")),
    *(ROOT / "core" / f"{name}.py" for name in ("errors", "frame_seal", "protocol", "text", "version")),
]


def registered(event):
    from nuke_simulator import control

    return control.registered(event)


def python39():
    """An interpreter as old as Nuke's, where this machine has one."""
    found = [*map(str, Path.home().glob(".pyenv/versions/3.9.*/bin/python")), shutil.which("python3.9") or ""]
    ask = ["-c", "import sys; sys.exit(sys.version_info[:2] != (3, 9))"]
    return next((path for path in found if path and subprocess.run([path, *ask], check=False).returncode == 0), None)


@pytest.mark.parametrize("path", INSIDE_NUKE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_runs_inside_nuke_is_python_3_9(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.process
@pytest.mark.skipif(python39() is None, reason="there is no Python 3.9 here")
def test_a_real_python_3_9_compiles_it():
    program = "import sys; [compile(open(p, 'rb').read(), p, 'exec') for p in sys.argv[1:]]"
    command = [python39(), "-c", program, *map(str, INSIDE_NUKE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
@pytest.mark.skipif(python39() is None, reason="there is no Python 3.9 here")
def test_a_real_python_3_9_imports_what_needs_neither_nuke_nor_qt(tmp_path):
    modules = [
        path.stem
        for path in (ROOT / "nuke_plugin").glob("*.py")
        if not {"nuke", "nukescripts"} & imported(path) and not path.stem.startswith(("panel", "qt"))
    ]
    assert {"library", "looks", "cache", "client", "config"} <= set(modules)
    program = "import importlib, sys; [importlib.import_module('relightgan.nuke_plugin.' + m) for m in sys.argv[1:]]"
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [python39(), "-B", "-W", "error", "-c", program, *modules]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def imported(path):
    """Names of the modules that a file imports, here or through our modules."""
    names, todo, seen = set(), [path], set()
    while todo:
        here = todo.pop()
        seen.add(here)
        for node in ast.walk(ast.parse(here.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
                parts = node.module.split(".")
                if parts[:2] == ["relightgan", "nuke_plugin"]:
                    ours = parts[2:3] or [alias.name for alias in node.names]
                    files = [ROOT / "nuke_plugin" / f"{name}.py" for name in ours]
                    todo += [file for file in files if file.is_file() and file not in seen]
    return names


def test_a_session_without_window_has_gizmos_guard_and_no_qt(nuke_session):
    """Traps: menu.py and Qt in a headless Nuke; a guard that headless renders lack."""
    before = set(sys.modules)
    nuke = nuke_session()
    assert (ROOT / "gizmos").as_posix() in nuke.pluginPath()
    assert nuke.createNode("RelightGAN").Class() == "RelightGAN"
    assert [name for _, name in registered("BeforeRender")]
    assert len(registered("OnScriptLoad")) == 1
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not new & {"PySide6", "PySide2", "nukescripts"}
    assert not [name for name in sys.modules if name == "relightgan.nuke_plugin.panel"]
    assert nuke.menu("Nodes").findItem("RelightGAN") is None


def test_our_folders_come_last_on_pythons_path(nuke_session, monkeypatch):
    """So that a studio's own `core` or `menu` is found before ours; gizmos/ has no business there at all."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path or ".").resolve() != ROOT])
    nuke_session()
    assert sys.path[-1] == str(ROOT)
    assert str(ROOT / "gizmos") not in sys.path


def test_a_second_start_registers_nothing_twice(nuke_session):
    nuke_session()
    events = ("BeforeRender", "BeforeFrameRender", "OnScriptLoad")
    before = {event: len(registered(event)) for event in events}
    from nuke_simulator import startup as starting

    starting.run_file(ROOT / "init.py")
    assert {event: len(registered(event)) for event in events} == before
    module = sys.modules["relightgan.nuke_plugin.startup"]
    importlib.reload(sys.modules["relightgan.nuke_plugin.guard"])
    importlib.reload(module)
    starting.run_file(ROOT / "init.py")
    assert {event: len(registered(event)) for event in events} == before
    assert module.on_script_load in [call for _, call in registered("OnScriptLoad")]


@pytest.mark.process
def test_an_installed_copy_starts_as_the_checkout_does(nuke_session, tmp_path, monkeypatch):
    """`nuke-install`, then a start of Nuke that reads only the folder it made, with its own modules."""
    from relightgan.core import nuke_install

    monkeypatch.setattr(nuke_install, "cannot_relight", lambda path: "")
    into = tmp_path / "home of an artist" / ".nuke"
    nuke_install.install(into, nuke_install.InstallSettings(looks=(tmp_path,)))
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "relightgan"}
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path or ".").resolve() != ROOT])
    monkeypatch.setattr(
        sys, "meta_path", [one for one in sys.meta_path if "Editable" not in getattr(one, "__name__", "")]
    )
    try:
        nuke = nuke_session(gui=True, paths=[into])
        startup = sys.modules["relightgan.nuke_plugin.startup"]
        assert Path(startup.__file__).is_relative_to(into)
        assert (into / "RelightGAN" / "gizmos").as_posix() in nuke.pluginPath()
        assert nuke.menu("Nodes").findItem("RelightGAN/RelightGAN") is not None
        assert startup.load_config().looks == (tmp_path.as_posix(),)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "relightgan"]:
            del sys.modules[name]
        sys.modules.update(ours)


@pytest.mark.process
@pytest.mark.parametrize("link", [False, True])
def test_an_artists_installation_renders_in_a_process_of_its_own(comp, tmp_path, link):
    """`nuke-install` into a home folder, then `nuke -t .../batch.py` and a plain `nuke -x` that know nothing else."""
    from relightgan.core import nuke_install

    home = tmp_path / "Käthe's home"
    folder = nuke_install.install(home / ".nuke", nuke_install.InstallSettings(cache=tmp_path / "cache"), link=link)
    out = tmp_path / "out" / "relit.%04d.exr"
    small_comps.writer(comp.nuke, comp.node, out)
    script = tmp_path / "shot.nk"
    comp.nuke.scriptSaveAs(str(script), 1)
    left_out = ("RELIGHTGAN_PYTHON", "RELIGHTGAN_CACHE", "NUKE_PATH", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment.update(HOME=str(home), NUKE_SIM_PYTHON=sys.executable)
    nuke = str(ROOT / "tests" / "nuke_sim" / "bin" / "nuke")

    def run(*words):
        return subprocess.run(
            [nuke, *words], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
        )

    done = run("-x", str(script), "1001-1002")  # nothing is relit yet, and the guard of the installed copy says so
    assert done.returncode != 0
    assert shlex.quote(str(folder / "nuke_plugin" / "batch.py")) in done.stderr
    words = [f"--script={script}", "--write=Write1", "--frames=1001-1002"]
    done = run("-t", str(folder / "nuke_plugin" / "batch.py"), *words)
    assert done.returncode == 0, done.stderr
    first = small_comps.rgb(tmp_path / "out" / "relit.1001.exr")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["relit.1001.exr", "relit.1002.exr"]
    assert list((tmp_path / "cache").rglob("relit.1001.exr"))
    done = run("-x", str(script), "1001-1002")
    assert done.returncode == 0, done.stderr
    assert small_comps.same_bits(small_comps.rgb(tmp_path / "out" / "relit.1001.exr"), first)


def test_the_window_has_toolbar_icon_menu_and_panel(nuke_session):
    nuke = nuke_session(gui=True)
    from nuke_simulator import session

    entry = nuke.menu("Nodes").findItem("RelightGAN/RelightGAN")
    assert entry.icon() == "RelightGAN.png"
    assert (ROOT / "gizmos" / entry.icon()).is_file()
    entry.invoke()
    assert [node.Class() for node in nuke.allNodes()] == ["RelightGAN"]
    names = [item.name() for item in nuke.menu("Nuke").findItem("RelightGAN").items()]
    assert names == ["Look Library", "Relight Selected", "Check Installation"]
    assert session.current().panels["com.relightgan.looks"][1] == "RelightGAN Looks"
    assert not [name for name in sys.modules if name == "relightgan.nuke_plugin.panel"]  # only once it is shown


def test_a_second_menu_has_nothing_twice(nuke_session):
    nuke = nuke_session(gui=True)
    from nuke_simulator import session
    from nuke_simulator import startup as starting

    starting.run_file(ROOT / "menu.py")
    importlib.reload(sys.modules["relightgan.nuke_plugin.startup"])
    starting.run_file(ROOT / "menu.py")
    assert len(nuke.menu("Nodes").findItem("RelightGAN").items()) == 1
    assert len(nuke.menu("Nuke").findItem("RelightGAN").items()) == 3
    assert len(session.current().drop_callbacks) == 1


def test_a_look_dropped_into_the_node_graph_makes_a_node_with_it(nuke_session, identity_look, tmp_path):
    nuke = nuke_session(gui=True)
    import nukescripts

    path = tmp_path / "ümläut and space.onnx"
    path.write_bytes(identity_look.read_bytes())
    assert nukescripts.dropData("text/plain", str(path)) is True
    assert nukescripts.dropData("text/plain", path.as_uri()) is True
    assert [node["look"].value() for node in nuke.allNodes()] == [path.as_posix()] * 2


def test_anything_else_that_is_dropped_is_left_to_others(nuke_session, identity_look, tmp_path):
    nuke = nuke_session(gui=True)
    import nukescripts

    other = tmp_path / "other.onnx"
    other.write_bytes(b"not a look")
    gone = tmp_path / "gone.onnx"
    dropped = [str(other), str(gone), f"{identity_look}\n{identity_look}", "x" * 10_000 + ".onnx", "", "Blur {}"]
    for text in dropped:
        assert nukescripts.dropData("text/plain", text) is None
    assert nukescripts.dropData("application/x-something", str(identity_look)) is None
    assert nuke.allNodes() == []


def test_relight_selected_says_what_to_select(nuke_session):
    nuke = nuke_session(gui=True)
    from nuke_simulator import control

    nuke.createNode("NoOp")
    nuke.menu("Nuke").findItem("RelightGAN/Relight Selected").invoke()
    assert control.messages() == ["Select one or more RelightGAN nodes first."]


@pytest.mark.process
def test_a_script_that_is_opened_shows_what_is_relit_and_sweeps_in_the_window_only(comp, nuke_session, monkeypatch):
    from relightgan.nuke_plugin import bake, state

    bake.bake(comp.node, comp.frames[:2])
    pattern = comp.node["result_path"].value()
    root = state.state_of(comp.node).cache
    old = unused_base(root)
    script = comp.folder / "shot.nk"
    comp.node["result_path"].setValue("")  # as after a bake on another machine
    comp.nuke.scriptSaveAs(str(script), 1)
    for gui in (False, True):
        nuke = nuke_session(gui=gui)
        monkeypatch.setattr(sys.modules["relightgan.nuke_plugin.startup"], "DEFAULT_LIMIT_GB", 1e-9)
        nuke.scriptOpen(str(script))
        (node,) = [node for node in nuke.allNodes() if node.Class() == "RelightGAN"]
        assert node["result_path"].value() == pattern
        wait_for_sweep()
        assert old.exists() is not gui
    assert (Path(pattern.replace("%V", "main")).parent / f"relit.{comp.frames[0]:04d}.exr").is_file()


def unused_base(root):
    """A copy of the cache's only base that nobody has used for two days."""
    (base,) = [path for path in root.iterdir() if len(path.name) == 16]
    old = root / "0123456789abcdef"
    shutil.copytree(base, old)
    words = json.loads((old / "relightgan.json").read_text())
    words.update(base=old.name, last_used=words["last_used"] - 2 * 86400)
    (old / "relightgan.json").write_text(json.dumps(words))
    return old


def wait_for_sweep(timeout_s=10.0):
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends and any(t.name == "RelightGAN sweep" for t in threading.enumerate()):
        time.sleep(0.01)


def test_a_script_whose_look_is_gone_opens_and_the_log_says_so(comp, nuke_session, tmp_path, capsys):
    comp.node["look"].setValue(str(tmp_path / "gone.onnx"))
    script = comp.folder / "shot.nk"
    comp.nuke.scriptSaveAs(str(script), 1)
    nuke = nuke_session()
    nuke.scriptOpen(str(script))
    assert "RelightGAN" in [node.Class() for node in nuke.allNodes()]
    said = capsys.readouterr().err
    assert "gone.onnx" in said
    assert "Error:" not in said  # a farm manager would fail the task


def test_a_script_without_our_node_opens_as_ever(nuke_session, tmp_path, capsys):
    nuke = nuke_session(gui=True)
    nuke.createNode("NoOp")
    nuke.scriptSaveAs(str(tmp_path / "a.nk"), 1)
    nuke.scriptOpen(str(tmp_path / "a.nk"))
    assert capsys.readouterr().err == ""


def test_settings_that_make_no_sense_are_said_and_the_script_opens(comp, nuke_session, tmp_path, monkeypatch, capsys):
    script = comp.folder / "shot.nk"
    comp.nuke.scriptSaveAs(str(script), 1)
    nuke = nuke_session(gui=True)
    from relightgan.nuke_plugin import startup

    (tmp_path / "relightgan.json").write_text(json.dumps({"cache_limit_gb": -1}))
    load = startup.load_config
    monkeypatch.setattr(startup, "load_config", lambda: load(tmp_path))
    nuke.scriptOpen(str(script))
    assert "cache_limit_gb" in capsys.readouterr().err
