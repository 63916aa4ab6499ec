"""The smoke test for a licensed Nuke, run in the simulator: so that whoever has a licence meets no mistake of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
NUKE = ROOT / "tests" / "nuke_sim" / "bin" / "nuke"
SMOKE = ROOT / "tests" / "nuke_smoke.py"


def smoke(tmp_path: Path, *words: str, **variables: str) -> tuple[subprocess.CompletedProcess, dict]:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [str(NUKE), "-t", str(SMOKE), "--out", str(report), *words],
        env={
            **os.environ,
            "NUKE_SIM_PYTHON": sys.executable,
            "RELIGHTGAN_PYTHON": sys.executable,
            "RELIGHTGAN_LOG_DIR": str(tmp_path / "logs"),
            "HOME": str(tmp_path),
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert report.is_file(), done.stdout
    return done, json.loads(report.read_text(encoding="utf-8"))


def failures(report: dict) -> dict[str, str]:
    return {name: one["detail"] for name, one in report["checks"].items() if one["result"] == "fail"}


def test_with_a_look_every_check_passes_and_none_is_left_out(tmp_path, darken_grid_look):
    done, report = smoke(tmp_path, "--look", str(darken_grid_look))
    assert failures(report) == {}
    assert done.returncode == 0
    assert report["counts"]["skip"] == 0
    assert report["counts"]["pass"] >= 18


def test_without_one_it_reports_and_writes_nothing_but_the_report(tmp_path):
    before = sorted(path.name for path in ROOT.iterdir())
    _, report = smoke(tmp_path)
    assert {"relightgan", "nuke", "python", "system", "counts", "checks"} <= set(report)
    for name, one in report["checks"].items():
        assert one["proves"], name
        assert one["settles"].endswith("?"), name
    assert report["checks"]["bake_works"]["result"] == "skip"
    assert sorted(path.name for path in ROOT.iterdir()) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"report.json", "logs", ".nuke", ".relightgan"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quirks", "finding", "words"),
    [
        ("nested_execute_in_before_render=allow", "execute_inside_before_render", "worked"),
        ("on_script_load_in_execute=false", "script_load_in_execute_mode", "beforeRender"),
        ("main_file_defined=false", "file_of_a_script", "None"),
        ("read_reopens_after_failure=true", "late_file_is_found", "recovers"),
        ("shuffled_write_knobs=true", "script_survives_reload", "the same"),
    ],
)
def test_another_answer_of_nuke_is_found_and_breaks_nothing(tmp_path, darken_grid_look, quirks, finding, words):
    _, report = smoke(tmp_path, "--look", str(darken_grid_look), NUKE_SIM_QUIRKS=quirks)
    assert failures(report) == {}
    assert words in report["checks"][finding]["detail"]


@pytest.mark.slow
def test_what_fails_is_said_and_the_exit_code_is_1(tmp_path):
    """A Nuke in which the guard can't stop a render must not pass."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "init.py").write_text("import nuke\nnuke.addBeforeRender = lambda call, **_: None\n")
    done, report = smoke(tmp_path, NUKE_PATH=str(broken))
    assert done.returncode == 1
    assert "guard_stops_a_render" in failures(report)
