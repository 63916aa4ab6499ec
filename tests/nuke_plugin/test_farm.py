"""The farm templates, checked and run by Open Job Description's own tools, with the simulator as Nuke's executable."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_comps
import tiny_plates
import yaml

ROOT = Path(__file__).resolve().parents[2]
FARM = ROOT / "nuke_plugin" / "farm"
TEMPLATES = {path.parent.name: path for path in sorted(FARM.glob("*/template.yaml"))}
OPENJD = Path(sys.executable).with_name("openjd")
NUKE = ROOT / "tests" / "nuke_sim" / "bin" / "nuke"
LIMIT_S = 300
FRAMES = list(range(1001, 1006))


def openjd(*words: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "NUKE_SIM_PYTHON": sys.executable, "RELIGHTGAN_PYTHON": sys.executable, **variables}
    return subprocess.run(
        [str(OPENJD), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def run_job(name: str, step: str, comp: Path, chunk: int = 2, cache: str = "", **variables: str):
    """A step of a job, or with "all" the whole job, as `openjd run` runs it."""
    first, last = FRAMES[0], FRAMES[-1]
    values = {
        "Script": comp,
        "Batch": ROOT / "nuke_plugin" / "batch.py",
        "Nuke": NUKE,
        "Device": "cpu",
        "BakeChunk": chunk,
        "RenderChunk": chunk,
        "CacheDir": cache,
        **({"Frames": f"{first}-{last}"} if name == "bake_and_render" else {"FirstFrame": first, "LastFrame": last}),
    }
    words = [word for key, value in values.items() for word in ("-p", f"{key}={value}")]
    which = ["Render", "--run-dependencies"] if step == "all" else [step, "--no-run-dependencies"]
    return openjd("run", str(TEMPLATES[name]), "--step", *which, *words, **variables)


@pytest.fixture
def comp(tmp_path, darken_grid_look) -> Path:
    """A script of Read, RelightGAN and Write, with five plates on disk."""
    plates = tiny_plates.write_clip(tmp_path / "the plates", FRAMES)
    return small_comps.saved_shot(tmp_path, plates, darken_grid_look, FRAMES)


def rendered(comp: Path) -> list[int]:
    return sorted(int(path.suffixes[0][1:]) for path in (comp.parent / "out").glob("shot.*.exr"))


def infer(look: Path, comp: Path) -> Path:
    """The same frames relit without Nuke."""
    out = comp.parent / "infer" / "relit.%04d.exr"
    words = ["infer", str(look), str(comp.parent / "the plates" / "plates.%04d.exr"), str(out), "--device", "cpu"]
    subprocess.run(
        [sys.executable, "-m", "relightgan.core.cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return out


def test_there_are_templates():
    assert set(TEMPLATES) == {"bake_and_render", "bake_and_render_plain"}


@pytest.mark.process
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_valid(name):
    done = openjd("check", str(TEMPLATES[name]))
    assert done.returncode == 0, done.stdout


@pytest.mark.process
def test_the_plain_template_uses_no_extension():
    done = openjd("check", str(TEMPLATES["bake_and_render_plain"]), "--extensions", "")
    assert done.returncode == 0, done.stdout
    assert openjd("check", str(TEMPLATES["bake_and_render"]), "--extensions", "").returncode != 0


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_parameter_is_explained_labelled_and_used(name):
    text = TEMPLATES[name].read_text(encoding="utf-8")
    for parameter in yaml.safe_load(text)["parameterDefinitions"]:
        assert parameter["description"].strip().endswith("."), parameter["name"]
        assert parameter["userInterface"]["label"], parameter["name"]
        assert f"{{{{Param.{parameter['name']}}}}}" in text, parameter["name"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_bake_wants_a_gpu_and_render_waits_for_it_and_does_not(name):
    bake, render = yaml.safe_load(TEMPLATES[name].read_text(encoding="utf-8"))["steps"]
    assert bake["hostRequirements"]["amounts"] == [{"name": "amount.worker.gpu", "min": 1}]
    assert "hostRequirements" not in render
    assert render["dependencies"] == [{"dependsOn": "Bake"}]


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_line_ends_with_a_word_that_nuke_would_take_for_itself(name):
    for step in yaml.safe_load(TEMPLATES[name].read_text(encoding="utf-8"))["steps"]:
        script, *words = step["script"]["actions"]["onRun"]["args"][1:]
        assert script == "{{Param.Batch}}"
        assert all(re.match(r"--[a-z-]+(=.*)?$", word) for word in words), words


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_baked_and_rendered_in_chunks_the_frames_are_those_of_infer(
    name,
    comp,
    darken_grid_look,
):
    done = run_job(name, "all", comp)
    assert done.returncode == 0, done.stdout
    assert "ERROR:" not in done.stdout
    assert "openjd_progress: 100.0" in done.stdout
    assert rendered(comp) == FRAMES
    wanted = infer(darken_grid_look, comp)
    for frame in FRAMES:
        ours = tiny_plates.read_rgb(comp.parent / "out" / f"shot.{frame}.exr")
        np.testing.assert_array_equal(ours, tiny_plates.read_rgb(Path(str(wanted) % frame)))


@pytest.mark.process
def test_a_chunk_that_fails_fails_the_job_and_names_the_reason(comp):
    (comp.parent / "the plates" / "plates.1004.exr").unlink()
    done = run_job("bake_and_render", "all", comp, chunk=3)
    assert done.returncode != 0
    assert "plates.1004.exr" in done.stdout
    assert "openjd_fail" in done.stdout or "Failed" in done.stdout
    assert rendered(comp) == []


@pytest.mark.process
def test_rendering_what_was_not_baked_fails_with_the_command_to_run(comp):
    done = run_job("bake_and_render_plain", "Render", comp, chunk=5)
    assert done.returncode != 0
    failure = next(line for line in done.stdout.splitlines() if "ERROR:" in line)
    assert "batch.py" in failure
    assert f"--script={comp}" in failure or str(comp) in failure
    assert rendered(comp) == []


@pytest.mark.slow
def test_a_baked_job_can_be_submitted_again_and_bakes_nothing(comp):
    assert run_job("bake_and_render_plain", "Bake", comp, chunk=5).returncode == 0
    store = sorted((path, path.stat().st_mtime_ns) for path in comp.parent.rglob("frames/*.exr"))
    assert len(store) == len(FRAMES)
    assert run_job("bake_and_render_plain", "Bake", comp, chunk=5).returncode == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in comp.parent.rglob("frames/*.exr")) == store


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False])
def test_the_cache_is_the_jobs_or_else_the_hosts_own(given, comp, tmp_path):
    job, host = tmp_path / "job cache", tmp_path / "host cache"
    done = run_job(
        "bake_and_render_plain", "Bake", comp, chunk=5, cache=str(job) if given else "", RELIGHTGAN_CACHE=str(host)
    )
    assert done.returncode == 0, done.stdout
    used, unused = (job, host) if given else (host, job)
    assert len(list(used.rglob("frames/*.exr"))) == len(FRAMES)
    assert not unused.exists()
