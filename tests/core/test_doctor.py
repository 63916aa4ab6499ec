import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relightgan.core import cli, doctor_checks
from relightgan.core.doctor_checks import NOTE, OK, PROBLEM

ROOT = Path(__file__).resolve().parents[2]


def install(folder, name, version):
    """A distribution as pip leaves it, without the code."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def gpu_driver(folder, script):
    """An nvidia-smi that runs a few lines of shell; machines without a GPU have no real one to run."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def no_gpu(monkeypatch, tmp_path):
    """A PATH without nvidia-smi."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))


def levels(findings):
    return [finding.level for finding in findings]


@pytest.mark.process
def test_this_installation_is_whole_and_the_report_is_json(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["python"] == sys.executable
    found = {finding["topic"]: finding for finding in report["findings"]}
    assert found["provider CPU"]["text"] == "starts and computes"
    assert {"python", "onnxruntime", "torch", "pictures", "movies", "Nuke plug-in", "disk", "memory"} <= set(found)
    for finding in report["findings"]:
        assert finding["level"] in (OK, NOTE)
        if finding["level"] == OK:
            assert finding["fix"] == ""


def test_both_onnxruntimes_are_a_problem_and_end_with_code_1(tmp_path, monkeypatch, capsys):
    install(tmp_path, "onnxruntime", "1.22.0")
    install(tmp_path, "onnxruntime-gpu", "1.22.0")
    install(tmp_path, "onnxruntime-extensions", "0.14.0")  # another module that shares the prefix
    monkeypatch.syspath_prepend(tmp_path)
    finding = next(doctor_checks.check_onnxruntime())
    assert finding.level == PROBLEM
    assert finding.text == "onnxruntime and onnxruntime-gpu are both installed and overwrite each other"
    assert "uninstall -y onnxruntime onnxruntime-gpu" in finding.fix
    monkeypatch.setattr("relightgan.core.doctor.CHECKS", (doctor_checks.check_onnxruntime,))
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "overwrite each other" in shown
    assert shown.endswith("1 problem to mend; 0 notes.\n")


def test_no_onnxruntime_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    findings = list(doctor_checks.check_onnxruntime())
    assert levels(findings) == [PROBLEM]
    assert "relightgan[cpu]" in findings[0].fix


def test_a_missing_or_old_package_is_a_problem_with_the_command_that_mends_it(tmp_path, monkeypatch):
    missing = doctor_checks.check_package("no-such-package", "no_such_package", "1.0")
    assert (missing.level, missing.text) == (PROBLEM, "isn't installed")
    assert missing.fix == f"{sys.executable} -m pip install 'no-such-package>=1.0'"
    install(tmp_path, "fileseq", "2.0.9")
    monkeypatch.syspath_prepend(tmp_path)
    old = doctor_checks.check_package("fileseq", "fileseq", "2.1")
    assert (old.level, old.text) == (PROBLEM, "2.0.9 is too old; needs 2.1")


def test_a_package_from_another_distribution_counts():
    assert doctor_checks.check_package("opencv-of-a-studio", "cv2", "4.10").level == OK


def test_versions_compare_by_number():
    assert doctor_checks.numbers("2.13.0+cpu") > doctor_checks.numbers("2.9")
    assert doctor_checks.numbers("3.2rc1") == (3, 2)


def test_the_packages_are_those_of_the_installation():
    """setup.py says it once for pip; the doctor must ask for the same."""
    wanted = {f"{name}>={least}" for name, _, least in doctor_checks.PACKAGES}
    block = (ROOT / "setup.py").read_text().split("install_requires=[")[1].split("]")[0]
    assert wanted == {line.strip(' ",') for line in block.splitlines() if line.strip()}


def test_no_gpu_is_a_note(no_gpu):
    findings = list(doctor_checks.check_gpu())
    assert levels(findings) == [NOTE]


@pytest.mark.process
def test_a_gpu_is_named_with_its_memory(tmp_path, monkeypatch):
    gpu_driver(tmp_path / "bin", 'echo "NVIDIA RTX A5000, 24564 MiB, 23000 MiB, 570.86"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (finding,) = doctor_checks.check_gpu()
    assert (finding.topic, finding.level) == ("GPU 0", OK)
    assert finding.text == "NVIDIA RTX A5000, 24564 MiB (23000 MiB free), driver 570.86"


@pytest.mark.process
def test_a_driver_that_does_not_answer_is_a_problem(tmp_path, monkeypatch):
    gpu_driver(tmp_path / "bin", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (finding,) = doctor_checks.check_gpu()
    assert finding.level == PROBLEM
    assert "Driver/library version mismatch" in finding.text
    assert "reboot" in finding.fix


@pytest.mark.process
@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="needs a machine without a GPU")
def test_a_cpu_build_beside_a_gpu_is_a_note_that_says_what_to_install(tmp_path, monkeypatch):
    gpu_driver(tmp_path / "bin", 'echo "NVIDIA RTX A5000"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    findings = {finding.topic: finding for finding in doctor_checks.check_providers()}
    assert findings["provider CPU"].level == OK
    assert findings["provider CUDA"].level == NOTE
    assert "relightgan[gpu]" in findings["provider CUDA"].fix


def test_the_library_that_a_provider_lacks_is_picked_from_what_onnxruntime_says():
    """As onnxruntime-gpu 1.31 writes on a machine without CUDA."""
    said = (
        "\x1b[1;31m2026-11-21 04:32:06.154 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
        "/onnxruntime_src/provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() "
        "[ONNXRuntimeError] : 1 : FAIL : Failed to load library libonnxruntime_providers_cuda.so with error: "
        "libcublasLt.so.13: cannot open shared object file: No such file or directory\n\x1b[m\n"
    )
    expected = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
    assert doctor_checks.missing_library(said) == expected
    assert doctor_checks.missing_library("nothing of the kind") == ""


@pytest.mark.process
def test_a_probe_that_fails_gives_its_last_line():
    answer, said = doctor_checks.ask_python("raise SystemExit('no such luck')")
    assert answer is None
    assert doctor_checks.last_line(said) == "no such luck"
    assert doctor_checks.ask_python("import json; print(json.dumps({'a': 1}))")[0] == {"a": 1}


@pytest.mark.process
def test_a_broken_onnxruntime_is_a_problem_and_not_a_crash(tmp_path, monkeypatch, no_gpu):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libonnxruntime.so: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor_checks, "ROOT", tmp_path)  # so that the broken one is found first
    (finding,) = doctor_checks.check_providers()
    assert finding.level == PROBLEM
    assert "libonnxruntime.so: cannot open shared object file" in finding.text


def test_the_plug_in_is_found_through_nuke_path_and_home(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_checks, "ROOT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NUKE_PATH", raising=False)
    assert levels(doctor_checks.check_plugin()) == [NOTE]
    (tmp_path / "nuke_plugin").mkdir()
    (told,) = doctor_checks.check_plugin()
    assert told.level == NOTE
    assert f"put {tmp_path} in NUKE_PATH" in told.fix
    assert "relightgan nuke-install" in told.fix
    nuke_home = tmp_path / "home" / ".nuke"
    nuke_home.mkdir(parents=True)
    (nuke_home / "init.py").write_text(f"nuke.pluginAddPath('{tmp_path}')\n")
    assert levels(doctor_checks.check_plugin()) == [OK]
    (nuke_home / "init.py").unlink()
    monkeypatch.setenv("NUKE_PATH", f"/elsewhere:{tmp_path}")
    assert levels(doctor_checks.check_plugin()) == [OK]


@pytest.mark.process
def test_the_doctor_never_loads_torch_itself():
    program = "import sys; from relightgan.core import cli; cli.main(['doctor']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
