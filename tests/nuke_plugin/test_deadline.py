"""Our node and our logs in the hands of AWS Deadline Cloud's own code, as installed from PyPI."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import small_comps
import tiny_plates

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
NUKE = ROOT / "tests" / "nuke_sim" / "bin" / "nuke"
ADAPTOR = Path(sys.executable).with_name("NukeAdaptor")
LIMIT_S = 300
FRAMES = [1001, 1002, 1003]


@pytest.fixture
def comp(tmp_path, darken_grid_look) -> Path:
    """A script of Read, RelightGAN and Write, with three plates on disk."""
    plates = tiny_plates.write_clip(tmp_path / "plates", FRAMES)
    return small_comps.saved_shot(tmp_path, plates, darken_grid_look, FRAMES)


@pytest.fixture
def deadline_module(monkeypatch):
    """Imports a module of the package afresh, so that it sees the simulated nuke of this test."""

    def load(name: str):
        for known in [each for each in sys.modules if each.startswith("deadline.nuke")]:
            monkeypatch.delitem(sys.modules, known)
        package = name.rpartition(".")[0]
        if package == "deadline.nuke_submitter":  # its __init__ starts Qt and watches folders, of no use to a test
            bare = ModuleType(package)
            bare.__path__ = [
                str(Path(importlib.import_module("deadline.client").__file__).parents[1] / "nuke_submitter")
            ]
            sys.modules[package] = bare
        return importlib.import_module(name)

    yield load
    for known in [each for each in sys.modules if each.startswith("deadline.nuke")]:
        sys.modules.pop(known)


def simulated(*words: str, **variables: str) -> subprocess.CompletedProcess:
    """Nuke's executable, with the plug-in on its NUKE_PATH."""
    environment = {
        **os.environ,
        "NUKE_SIM_PYTHON": sys.executable,
        "RELIGHTGAN_PYTHON": sys.executable,
        "NUKE_PATH": str(ROOT),
        **variables,
    }
    return subprocess.run(
        [str(NUKE), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def bake(comp: Path, *words: str) -> subprocess.CompletedProcess:
    return simulated("-t", str(ROOT / "nuke_plugin" / "batch.py"), f"--script={comp}", "--device=cpu", *words)


@pytest.fixture(scope="module")
def fatal_patterns() -> list[re.Pattern]:
    """What the adaptor fails a task on."""
    adaptor = importlib.import_module("deadline.nuke_adaptor.NukeAdaptor.adaptor").NukeAdaptor
    made = adaptor.__new__(adaptor)  # the patterns need nothing of what starting it would set up
    fatal = [made._handle_error, made._handle_license_error]
    return [regex for callback in made.regex_callbacks if callback.callback in fatal for regex in callback.regex_list]


def fatal_lines(text: str, patterns: list[re.Pattern]) -> list[str]:
    return [line for line in text.splitlines() if any(pattern.search(line) for pattern in patterns)]


def test_the_patterns_are_those_we_think_of(fatal_patterns):
    assert fatal_lines("ERROR: a\nError: b\nError : c\nRelightGAN: 1 error\n", fatal_patterns) == [
        "ERROR: a",
        "Error: b",
        "Error : c",
    ]


def test_a_bake_that_works_says_nothing_the_adaptor_takes_for_a_failure(comp, fatal_patterns, tmp_path, monkeypatch):
    monkeypatch.setenv("RELIGHTGAN_LOG_DIR", str(tmp_path / "logs"))
    done = bake(comp, "--bake-only", "--progress=openjd")
    assert done.returncode == 0, done.stdout
    assert "RelightGAN1" in done.stdout
    (log,) = (tmp_path / "logs").glob("*.log")
    assert fatal_lines(done.stdout + log.read_text(), fatal_patterns) == []


def test_a_bake_that_fails_prints_one_line_the_adaptor_takes_for_a_failure(comp, fatal_patterns):
    (comp.parent / "plates" / "plates.1002.exr").unlink()
    done = bake(comp, "--bake-only")
    assert done.returncode == 1
    lines = fatal_lines(done.stdout, fatal_patterns)
    assert len(lines) == 1, done.stdout
    assert "plates.1002.exr" in lines[0]


def test_the_handler_finds_the_write_of_the_script_and_not_the_one_inside_the_node(nuke_session, comp, deadline_module):
    nuke = nuke_session()
    nuke.scriptOpen(str(comp))
    handler = deadline_module("deadline.nuke_adaptor.NukeClient.nuke_handler").NukeHandler()
    handler.set_write_nodes({"write_nodes": ["All Write Nodes"]})
    assert [node.name() for node in handler.write_nodes] == ["Write1"]
    assert nuke.toNode("RelightGAN1").node("RG_Write") is not None


def test_the_handler_finds_no_write_inside_a_group_made_from_the_node(nuke_session, comp, deadline_module):
    nuke = nuke_session()
    nuke.scriptOpen(str(comp))
    nuke.toNode("RelightGAN1").makeGroup()
    handler = deadline_module("deadline.nuke_adaptor.NukeClient.nuke_handler").NukeHandler()
    handler.set_write_nodes({"write_nodes": ["All Write Nodes"]})
    assert [node.name() for node in handler.write_nodes] == ["Write1"]


def test_the_handler_renders_a_baked_script(nuke_session, comp, deadline_module, capfd, fatal_patterns):
    assert bake(comp, "--bake-only").returncode == 0
    nuke_session()
    handler = deadline_module("deadline.nuke_adaptor.NukeClient.nuke_handler").NukeHandler()
    handler.set_script_file({"script_file": str(comp)})
    handler.set_continue_on_error({"continue_on_error": False})
    handler.set_write_nodes({"write_nodes": ["Write1"]})
    handler.start_render({"frameRange": "1001-1003"})
    assert len(list((comp.parent / "out").glob("*.exr"))) == len(FRAMES)
    said = capfd.readouterr()
    assert "NukeClient: Finished Rendering Frames 1001-1003" in said.out
    assert fatal_lines(said.out + said.err, fatal_patterns) == []


def test_the_handler_stops_at_an_unbaked_script_with_the_command_to_run(nuke_session, comp, deadline_module, capfd):
    nuke_session()
    handler = deadline_module("deadline.nuke_adaptor.NukeClient.nuke_handler").NukeHandler()
    handler.set_script_file({"script_file": str(comp)})
    handler.set_continue_on_error({"continue_on_error": False})
    handler.set_write_nodes({"write_nodes": ["Write1"]})
    with pytest.raises(RuntimeError, match=r"batch\.py"):
        handler.start_render({"frameRange": "1001-1003"})
    assert not list(comp.parent.glob("out/*.exr"))


def scanned(deadline_module) -> set[str]:
    outcome = deadline_module("deadline.nuke_submitter.assets").get_scene_asset_references()
    assert not outcome.encountered_exception(), (outcome.failed_to_parse_nodes, outcome.high_level_exception)
    return outcome.asset_references.input_filenames


def test_the_asset_scan_of_a_baked_script_takes_along_look_and_relit_frames(
    nuke_session, comp, deadline_module, darken_grid_look
):
    assert bake(comp, "--bake-only").returncode == 0
    nuke = nuke_session()
    nuke.scriptOpen(str(comp))
    from relightgan.nuke_plugin.state import relink

    relink(nuke.toNode("RelightGAN1"))
    found = scanned(deadline_module)
    assert str(comp) in found
    assert str(darken_grid_look) in found
    relit = [path for path in found if "relit." in path]
    assert len(relit) == len(FRAMES)
    assert all(Path(path).is_file() for path in relit)


def test_the_asset_scan_of_an_unbaked_script_names_files_only(nuke_session, comp, deadline_module):
    """A folder among its inputs would make the submission fail (job_attachments/upload.py)."""
    nuke = nuke_session()
    nuke.scriptOpen(str(comp))
    nuke.toNode("RelightGAN1")["cache_folder"].setValue(str(comp.parent))
    assert [path for path in scanned(deadline_module) if Path(path).is_dir()] == []


@pytest.mark.slow
def test_the_adaptor_itself_renders_a_baked_script_in_a_process_of_nuke(comp, tmp_path):
    """The whole chain: adaptor, its socket, `nuke -V 2 -t nuke_client.py`, our init.py and guard."""
    assert bake(comp, "--bake-only").returncode == 0
    done = adaptor(comp, tmp_path)
    assert done.returncode == 0, done.stdout
    assert len(list((comp.parent / "out").glob("*.exr"))) == len(FRAMES)


@pytest.mark.slow
def test_the_adaptor_itself_fails_on_an_unbaked_script_with_our_line(comp, tmp_path):
    done = adaptor(comp, tmp_path)
    assert done.returncode != 0
    assert "batch.py" in done.stdout
    assert not list(comp.parent.glob("out/*.exr"))


def adaptor(comp: Path, tmp_path: Path) -> subprocess.CompletedProcess:
    start, task = tmp_path / "init.yaml", tmp_path / "run.yaml"
    start.write_text(
        f"continue_on_error: false\nproxy: false\nscript_file: {comp}\nwrite_nodes: [Write1]\nviews: [All Views]\n"
    )
    task.write_text('frameRange: "1001-1003"\n')
    environment = {
        **os.environ,
        "NUKE_EXECUTABLE": str(NUKE),
        "NUKE_SIM_PYTHON": sys.executable,
        "NUKE_PATH": str(ROOT),
        "DEADLINE_CLOUD_TELEMETRY_OPT_OUT": "true",
        "HOME": str(tmp_path),
    }
    return subprocess.run(
        [str(ADAPTOR), "run", "--init-data", f"file://{start}", "--run-data", f"file://{task}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
