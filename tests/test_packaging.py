"""`relightgan.*` can be imported in every way the documentation promises, and hides nobody else's packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[1]
# -S leaves the installed copy out, so that only the checkout can be found.
LIBRARIES = [path for path in sys.path if path.endswith("site-packages")]


def run(*words, cwd, path=()):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_a_checkout_is_enough_in_its_own_folder():
    done = run("-S", "-m", "relightgan.core.cli", "--version", cwd=ROOT)
    assert done.stdout.startswith("relightgan 0."), done.stderr


def test_a_checkout_on_the_path_is_enough_anywhere(tmp_path):
    done = run("-S", "-m", "relightgan.core.cli", "--help", cwd=tmp_path, path=[ROOT])
    assert "relight frames or a movie" in done.stdout, done.stderr


def test_the_trainer_runs_by_its_path_from_anywhere(tmp_path):
    script = ROOT / "training" / "train_from_set_photos.py"
    done = run("-S", script, "--dry-run", cwd=tmp_path, path=LIBRARIES)
    assert done.returncode == 0, done.stderr
    assert "preset: relight" in done.stdout


def test_a_studios_own_core_wins_over_ours_even_when_it_comes_last(tmp_path):
    studio = tmp_path / "core"
    studio.mkdir()
    (studio / "__init__.py").write_text("OWNER = 'studio'\n")
    code = "import core, relightgan.core.version as ours; print(core.OWNER, ours.VERSION)"
    done = run("-S", "-c", code, cwd=tmp_path, path=[ROOT, tmp_path])
    assert done.stdout.startswith("studio 0."), done.stderr


def test_a_missing_extra_is_named_with_the_command_that_mends_it(tmp_path):
    done = run("-S", "-m", "relightgan.core.cli", "train", "--help", cwd=tmp_path, path=[ROOT])
    assert done.returncode == 1
    assert done.stderr.startswith("Error: 'relightgan train' needs the package ")
    assert "pip install 'relightgan[train]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_wheel_carries_what_nuke_reads_beside_the_layers(wheel_site):
    """So that `relightgan nuke-install` works wherever pip put RelightGAN."""
    package = wheel_site / "relightgan"
    assert {path.name for path in package.iterdir() if path.is_dir()} == {"core", "training", "nuke_plugin", "gizmos"}
    for name in ("init.py", "menu.py"):
        assert (package / name).read_bytes() == (ROOT / name).read_bytes()
    for kind, folder in (("*.gizmo", "gizmos"), ("*.png", "gizmos"), ("*.yaml", "nuke_plugin/farm")):
        ours = {path.relative_to(ROOT) for path in (ROOT / folder).rglob(kind)}
        assert ours
        assert {path.relative_to(package) for path in (package / folder).rglob(kind)} == ours


def test_the_wheel_puts_no_bare_names_on_the_path(wheel_site, tmp_path):
    names = ("core", "training", "gizmos", "init", "menu")
    code = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    done = run("-S", "-c", code, cwd=tmp_path, path=[wheel_site])
    assert done.stdout.strip() == "[]", done.stderr
    assert run("-S", "-m", "relightgan.core.cli", "--version", cwd=tmp_path, path=[wheel_site]).returncode == 0
