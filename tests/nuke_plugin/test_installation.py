import sys
from pathlib import Path

import pytest

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin import installation
from relightgan.nuke_plugin.interpreter import ROOT, clean_environment, find_interpreter


def test_the_variable_names_the_interpreter_before_anything_else(tmp_path):
    assert find_interpreter({"RELIGHTGAN_PYTHON": sys.executable}, tmp_path) == Path(sys.executable)


def test_a_variable_that_names_nothing_is_an_error_and_not_passed_over(tmp_path):
    with pytest.raises(RelightError, match="RELIGHTGAN_PYTHON is /no/python, which isn't there"):
        find_interpreter({"RELIGHTGAN_PYTHON": "/no/python"}, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="folders are named otherwise on Windows")
def test_a_venv_beside_the_plug_in_is_found(tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert find_interpreter({}, tmp_path) == python


def test_where_there_is_none_the_error_names_the_places_and_the_fix(tmp_path):
    with pytest.raises(RelightError, match="make setup") as caught:
        find_interpreter({}, tmp_path)
    assert str(tmp_path / ".venv") in str(caught.value)


def test_what_steers_nukes_python_does_not_reach_ours():
    environment = clean_environment({"PYTHONHOME": "/nuke", "LD_PRELOAD": "x.so", "HOME": "/home/a"})
    assert environment == {"HOME": "/home/a", "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}


@pytest.mark.process
def test_the_check_runs_doctor_in_the_interpreter(monkeypatch):
    monkeypatch.setenv("RELIGHTGAN_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONHOME", "/would/break/any/interpreter")
    assert "onnxruntime" in installation.check_text()


def test_the_check_says_why_it_cannot_run(monkeypatch):
    monkeypatch.setenv("RELIGHTGAN_PYTHON", "/no/python")
    assert "isn't there" in installation.check_text()
