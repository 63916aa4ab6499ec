"""relightgan.json, and what follows from it for the interpreter."""

import json
import os
import sys
from pathlib import Path

import pytest

from relightgan.core.errors import ConfigError, RelightError
from relightgan.nuke_plugin.config import Config, load_config
from relightgan.nuke_plugin.interpreter import ROOT, clean_environment, find_interpreter


def write(folder: Path, **values) -> Path:
    (folder / "relightgan.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_without_a_file_nothing_is_chosen(tmp_path):
    assert load_config(tmp_path) == Config()


def test_every_entry_is_read(tmp_path):
    values = {"python": "/a/python", "pythonpath": "/a", "cache": "/ä b", "cache_limit_gb": 1.5, "looks": ["/l", "/m"]}
    assert load_config(write(tmp_path, **values)) == Config("/a/python", "/a", "/ä b", 1.5, ("/l", "/m"))


def test_null_is_as_if_left_out_and_a_mark_in_front_is_passed_over(tmp_path):
    write(tmp_path, python=None, looks=None)
    path = tmp_path / "relightgan.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_config(tmp_path) == Config()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "isn't JSON"),
        ("[]", "isn't a JSON object"),
        ("[" * 100_000, "isn't JSON"),
        ('{"pyhton": "/a"}', "unknown entry 'pyhton'"),
        ('{"python": 5}', "'python' is 5"),
        ('{"python": " "}', "'python' is ' '"),
        ('{"cache_limit_gb": 0}', "'cache_limit_gb' is 0"),
        ('{"cache_limit_gb": true}', "'cache_limit_gb' is True"),
        ('{"cache_limit_gb": NaN}', "'cache_limit_gb' is nan"),
        ('{"cache_limit_gb": "10"}', "'cache_limit_gb' is '10'"),
        ('{"looks": "/l"}', "'looks' is '/l'"),
        ('{"looks": ["/l", 5]}', "'looks' is"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it_and_the_entry(tmp_path, content, words):
    (tmp_path / "relightgan.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert words in caught.value.problem
    assert str(tmp_path / "relightgan.json") in caught.value.problem
    assert caught.value.fix


def test_a_folder_in_its_place_is_an_error_and_not_as_if_it_were_not_there(tmp_path):
    (tmp_path / "relightgan.json").mkdir()
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path)


def test_the_chosen_interpreter_comes_after_the_variable_and_before_a_venv(tmp_path):
    venv = tmp_path / ("venv/Scripts/python.exe" if sys.platform == "win32" else "venv/bin/python")
    venv.parent.mkdir(parents=True)
    venv.touch()
    chosen = tmp_path / "chosen"
    chosen.touch()
    write(tmp_path, python=str(chosen))
    assert find_interpreter({}, tmp_path) == chosen
    assert find_interpreter({"RELIGHTGAN_PYTHON": ""}, tmp_path) == chosen
    assert find_interpreter({"RELIGHTGAN_PYTHON": sys.executable}, tmp_path) == Path(sys.executable)
    write(tmp_path)
    assert find_interpreter({}, tmp_path) == venv


def test_a_chosen_interpreter_that_is_gone_is_an_error_and_not_passed_over(tmp_path):
    write(tmp_path, python="/no/python")
    with pytest.raises(RelightError, match=r"relightgan\.json is /no/python, which isn't there.*nuke-install"):
        find_interpreter({}, tmp_path)


def test_a_checkout_runs_its_own_worker(tmp_path):
    assert clean_environment({})["PYTHONPATH"] == str(ROOT)
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "worker.py").touch()
    (tmp_path / "relightgan.py").touch()
    assert clean_environment({}, write(tmp_path, pythonpath="/elsewhere"))["PYTHONPATH"] == str(tmp_path)


def test_a_wheel_runs_its_own_worker(tmp_path):
    root = tmp_path / "site-packages" / "relightgan"
    (root / "core").mkdir(parents=True)
    (root / "core" / "worker.py").touch()
    assert clean_environment({}, root)["PYTHONPATH"] == str(root.parent)


def test_a_copy_of_nukes_part_alone_runs_what_is_installed_or_what_the_file_names(tmp_path):
    """Its few modules of core must not stand in front of the real ones."""
    (tmp_path / "relightgan.py").touch()
    assert "PYTHONPATH" not in clean_environment({"PYTHONPATH": "/nuke"}, tmp_path)
    assert clean_environment({}, write(tmp_path, pythonpath="/full"))["PYTHONPATH"] == "/full"


def test_a_pipe_in_place_of_the_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "relightgan.json")
    with pytest.raises(ConfigError, match=r"relightgan\.json can't be read: it isn't a file\."):
        load_config(tmp_path)


def test_a_file_beyond_all_measure_is_refused(tmp_path):
    (tmp_path / "relightgan.json").write_text(" " * (2 << 20))
    with pytest.raises(ConfigError, match=r"relightgan\.json can't be read: it is larger than 1 MB\."):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"cache_limit_gb": ' + "9" * 5000 + "}", '{"cache_limit_gb": 1e999}'])
def test_numbers_and_levels_without_end_are_one_line(tmp_path, text):
    (tmp_path / "relightgan.json").write_text(text)
    with pytest.raises(ConfigError, match=r"relightgan\.json"):
        load_config(tmp_path)
