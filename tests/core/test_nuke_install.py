"""`relightgan nuke-install` into temporary folders, from the checkout and from an unpacked wheel, by real processes."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from relightgan.core import cli, doctor_checks, nuke_install
from relightgan.core.errors import InstallError
from relightgan.core.init_block import BEGIN, END
from relightgan.core.nuke_install import InstallSettings
from relightgan.core.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
# Paths as people have them.
HOMES = ["plain", "with spaces and ümläuts 絵"]
USERS_FILES = [
    b"",
    b"import nuke\nnuke.tprint('hello')\n",
    b"import nuke\nnuke.tprint('no line end')",
    b"import nuke\r\nnuke.tprint('Windows')\r\n",
    b"import nuke\r\nnuke.tprint('Windows, no line end')",
    b"# -*- coding: latin-1 -*-\nname = '\xfc'\n\n\n",
    b"\xef\xbb\xbfimport nuke\n",
]


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / ".nuke"
    folder.mkdir()
    return folder


@pytest.fixture
def can_relight(monkeypatch):
    """Skips asking the interpreter, which takes seconds; other tests do ask."""
    monkeypatch.setattr(nuke_install, "cannot_relight", lambda path: "")


def nuke_install_process(*words, path, cwd):
    """The command in a process of its own that finds only the RelightGAN in `path`."""
    libraries = [entry for entry in sys.path if entry.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *libraries])}
    command = [sys.executable, "-S", "-m", "relightgan.core.cli", "nuke-install", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def config_in(into):
    return json.loads((into / "RelightGAN" / "relightgan.json").read_text(encoding="utf-8"))


@pytest.mark.process
@pytest.mark.parametrize("name", HOMES)
def test_a_copy_holds_what_nuke_needs_and_the_interpreter_that_relights(tmp_path, name, capsys):
    into, cache, looks = (tmp_path / name / part for part in (".nuke", "cache", "looks"))
    looks.mkdir(parents=True)
    words = ["nuke-install", "--into", str(into), "--cache", str(cache), "--looks", str(looks)]
    assert cli.main(words) == 0
    assert f"Copied RelightGAN {VERSION}" in capsys.readouterr().out
    folder = into / "RelightGAN"
    found = files_of(folder)
    assert {"init.py", "menu.py", "relightgan.py", "gizmos/RelightGAN.png", "nuke_plugin/interpreter.py"} <= set(found)
    shared = [f"core/{name}" for name in nuke_install.SHARED]
    assert [name for name in found if name.startswith("core/")] == shared
    assert not [name for name in found if "__pycache__" in name or name.endswith("ruff.toml")]
    assert config_in(into) == {
        "python": sys.executable,
        "cache": cache.as_posix(),
        "looks": [looks.as_posix()],
    }
    text = (into / "init.py").read_text()
    assert text.count('nuke.pluginAddPath("./RelightGAN")') == 1


@pytest.mark.process
def test_a_copy_is_enough_for_an_old_python_without_our_packages(home, can_relight):
    """What Nuke's own Python must be able to import, in a Python that has nothing else."""
    nuke_install.install(home, InstallSettings())
    modules = ["core.errors", "core.frame_seal", "core.protocol", "core.version", "nuke_plugin.interpreter"]
    code = f"import relightgan, importlib; [importlib.import_module('relightgan.' + m) for m in {modules}]"
    code += "; print(importlib.import_module('relightgan.core').__path__)"
    environment = {"PYTHONPATH": str(home / "RelightGAN"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(home) in done.stdout


@pytest.mark.process
@pytest.mark.parametrize("link", [False, True])
def test_the_worker_of_an_installation_runs_in_the_interpreter_that_installed_it(tmp_path, identity_look, link):
    """As Nuke would: a Python that has only what was installed asks the worker, which has everything."""
    into = tmp_path / "Käthe's home" / ".nuke"
    nuke_install.install(into, InstallSettings(), link=link)
    program = (
        "import sys, pathlib; from relightgan.nuke_plugin import client; "
        f"assert pathlib.Path(client.__file__).is_relative_to({str(into)!r}), client.__file__; "
        "print(client.look_facts(sys.argv[1])['name']); client.stop_shared()"
    )
    # What Nuke sets for its own Python must not reach the worker's.
    environment = {name: value for name, value in os.environ.items() if name != "RELIGHTGAN_PYTHON"}
    environment.update(PYTHONPATH=str(into / "RelightGAN"), RELIGHTGAN_LOG_DIR=str(tmp_path / "logs"))
    command = [sys.executable, "-S", "-c", program, str(identity_look)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "tiny"


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_follows_this_installation_and_has_its_own_settings(home, can_relight, capsys):
    assert cli.main(["nuke-install", "--into", str(home), "--link", "--cache", str(home / "c")]) == 0
    assert "Linked RelightGAN" in capsys.readouterr().out
    folder = home / "RelightGAN"
    for name in ("init.py", "menu.py", "gizmos", "nuke_plugin", "core"):
        assert (folder / name).is_symlink()
        assert (folder / name).resolve() == ROOT / name
    assert not (ROOT / "relightgan.json").exists()
    code = "from relightgan.nuke_plugin import interpreter; print(interpreter.ROOT)"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(folder)  # where relightgan.json lies
    nuke_install.uninstall(home)
    assert (ROOT / "core" / "cli.py").is_file()
    assert not folder.exists()


@pytest.mark.process
@pytest.mark.parametrize("link", [False, True])
def test_a_wheel_installs_the_plug_in_as_a_checkout_does(wheel_site, tmp_path, home, link):
    done = nuke_install_process("--into", home, *(["--link"] if link else []), path=wheel_site, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = home / "RelightGAN"
    for name in ("init.py", "menu.py"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    shipped = [name for name in files_of(ROOT / "gizmos") if name.endswith((".gizmo", ".png"))]
    assert set(shipped) <= set(files_of(folder / "gizmos"))
    if (ROOT / "nuke_plugin" / "farm").is_dir():
        assert files_of(folder / "nuke_plugin" / "farm") == files_of(ROOT / "nuke_plugin" / "farm")
    assert json.loads((folder / "installed.json").read_text())["from"] == str(wheel_site / "relightgan")
    assert nuke_install_process("--into", home, "--uninstall", path=wheel_site, cwd=tmp_path).returncode == 0
    assert list(home.iterdir()) == []


@pytest.mark.process
def test_the_interpreter_is_asked_as_nuke_will_ask_it(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONHOME", "/would/break/any/interpreter")
    assert nuke_install.cannot_relight(str(ROOT)) == ""


@pytest.mark.process
def test_an_interpreter_without_our_packages_is_refused_and_nothing_is_left(home, monkeypatch, capsys):
    monkeypatch.setattr(nuke_install.sys, "executable", "/no/such/python")
    assert cli.main(["nuke-install", "--into", str(home)]) == 1
    shown = capsys.readouterr().err
    assert "/no/such/python can't relight" in shown
    assert shown.count("\n") == 1
    assert list(home.iterdir()) == []


def test_a_checkout_that_is_not_installed_is_named_in_the_settings(home, monkeypatch):
    monkeypatch.setattr(nuke_install, "cannot_relight", lambda path: "" if path else "No module named 'relightgan'")
    nuke_install.install(home, InstallSettings())
    assert config_in(home)["pythonpath"] == str(ROOT)


@pytest.mark.parametrize("text", USERS_FILES)
def test_the_path_is_added_once_and_every_other_byte_comes_back(home, can_relight, text):
    start = home / "init.py"
    start.write_bytes(text)
    nuke_install.install(home, InstallSettings())
    once = start.read_bytes()
    assert once.startswith(text)
    assert once.count(BEGIN) == once.count(END) == 1
    if b"\r\n" in text:
        assert once.count(b"\n") == once.count(b"\r\n")
    compile(once, "init.py", "exec")
    nuke_install.install(home, InstallSettings())
    assert start.read_bytes() == once
    nuke_install.uninstall(home)
    assert start.read_bytes() == text
    assert list(home.iterdir()) == [start]


def test_lines_that_the_user_adds_later_stay_where_they_are(home, can_relight):
    start = home / "init.py"
    start.write_bytes(b"first = 1\n")
    nuke_install.install(home, InstallSettings())
    start.write_bytes(start.read_bytes() + b"last = 2\n")
    before = start.read_bytes()
    nuke_install.install(home, InstallSettings())
    assert sorted(start.read_bytes().splitlines()) == sorted(before.splitlines())
    nuke_install.uninstall(home)
    assert start.read_bytes() == b"first = 1\nlast = 2\n"


def test_an_init_that_was_not_there_goes_again(home, can_relight):
    nuke_install.install(home, InstallSettings())
    nuke_install.install(home, InstallSettings())
    nuke_install.uninstall(home)
    assert list(home.iterdir()) == []


def test_an_update_keeps_settings_and_the_users_own_files_and_drops_old_modules(home, can_relight):
    nuke_install.install(home, InstallSettings(cache=Path("/scratch")))
    folder = home / "RelightGAN"
    (folder / "nuke_plugin" / "gone_since.py").touch()
    (folder / "mine.gizmo").write_text("mine")
    config = {**config_in(home), "cache_limit_gb": 50}
    (folder / "relightgan.json").write_text(json.dumps(config))
    nuke_install.install(home, InstallSettings(looks=(home,)))
    assert config_in(home) == {**config, "looks": [home.as_posix()]}
    assert not (folder / "nuke_plugin" / "gone_since.py").exists()
    assert (folder / "mine.gizmo").read_text() == "mine"
    said = nuke_install.uninstall(home)
    assert files_of(home) == ["RelightGAN/mine.gizmo"]
    assert any("also holds mine.gizmo" in line for line in said)


def test_an_update_that_was_killed_half_way_loses_nothing(home, can_relight):
    nuke_install.install(home, InstallSettings(cache=Path("/scratch")))
    folder = home / "RelightGAN"
    (folder / "mine.gizmo").write_text("mine")
    folder.rename(home / ".RelightGAN.0123abcd.old")  # killed between the two renames
    (home / ".RelightGAN.0123abcd.part").mkdir()
    nuke_install.install(home, InstallSettings())
    assert config_in(home)["cache"] == "/scratch"
    assert (folder / "mine.gizmo").read_text() == "mine"
    assert sorted(path.name for path in home.iterdir()) == ["RelightGAN", "init.py"]
    left = home / ".RelightGAN.4567cdef.old"  # killed after them, before the user's file had moved over
    left.mkdir()
    (left / "init.py").touch()
    (left / "yours.gizmo").touch()
    nuke_install.uninstall(home)
    assert files_of(home) == ["RelightGAN/mine.gizmo", "RelightGAN/yours.gizmo"]


def test_a_linked_init_is_changed_where_it_lies(tmp_path, home, can_relight):
    shared = tmp_path / "dotfiles" / "init.py"
    shared.parent.mkdir()
    shared.write_text("shared = True\n")
    shared.chmod(0o640)
    (home / "init.py").symlink_to(shared)
    nuke_install.install(home, InstallSettings())
    assert (home / "init.py").is_symlink()
    assert BEGIN in shared.read_bytes()
    assert shared.stat().st_mode & 0o777 == 0o640


def test_a_folder_that_is_not_ours_is_left_alone(home, can_relight, capsys):
    other = home / "RelightGAN"
    other.mkdir()
    (other / "init.py").write_text("somebody else's")
    for words in ([], ["--uninstall"]):
        assert cli.main(["nuke-install", "--into", str(home), *words]) == 1
        assert "wasn't made by `relightgan nuke-install`" in capsys.readouterr().err
    assert files_of(home) == ["RelightGAN/init.py"]


def test_half_a_block_is_refused_with_what_to_remove(home, can_relight):
    (home / "init.py").write_bytes(b"a = 1\n" + BEGIN + b"\nimport nuke\n")
    with pytest.raises(InstallError, match=r"init\.py has only a part of RelightGAN's lines"):
        nuke_install.install(home, InstallSettings())
    assert not (home / "RelightGAN").exists()


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["nuke-install", "--into", str(tmp_path / "file" / ".nuke")]) == 1
    shown = capsys.readouterr().err
    assert "can't be written" in shown
    assert "give another --into" in shown
    assert shown.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="rights work otherwise on Windows")
def test_a_read_only_folder_is_one_clear_line(can_relight):
    """Without root's rights, because nothing is read-only for root; so not in pytest's folders, which are root's."""
    was = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / ".nuke"
        home.mkdir()
        (home / "init.py").write_text("mine = 1\n")
        home.chmod(0o555)
        Path(folder).chmod(0o755)
        try:
            if was == 0:
                os.seteuid(65534)
            with pytest.raises(InstallError, match=r"\.nuke.* can't be written: Permission denied"):
                nuke_install.install(home, InstallSettings())
        finally:
            os.seteuid(was)
            home.chmod(0o755)
        assert files_of(home) == ["init.py"]
        assert (home / "init.py").read_text() == "mine = 1\n"


def test_nothing_to_remove_is_no_failure(home, capsys):
    assert cli.main(["nuke-install", "--into", str(home), "--uninstall"]) == 0
    assert "There is no RelightGAN in" in capsys.readouterr().out


def test_looks_must_be_folders_and_uninstall_stands_alone(home, capsys):
    assert cli.main(["nuke-install", "--into", str(home), "--looks", str(home / "gone")]) == 1
    assert "gone isn't a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli.main(["nuke-install", "--into", str(home), "--uninstall", "--link"])
    assert caught.value.code == 2


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        cli.main(["nuke-install", "--help"])
    assert "relightgan nuke-install --uninstall" in capsys.readouterr().out


def test_the_doctor_tells_of_the_installation_and_of_an_older_one(tmp_path, monkeypatch, can_relight):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NUKE_PATH", raising=False)
    into = tmp_path / ".nuke"
    nuke_install.install(into, InstallSettings())
    (finding,) = doctor_checks.check_plugin()
    assert (finding.level, finding.fix) == (doctor_checks.OK, "")
    assert str(into / "RelightGAN") in finding.text
    sentinel = into / "RelightGAN" / "installed.json"
    sentinel.write_text(json.dumps({**json.loads(sentinel.read_text()), "version": "0.0.1"}))
    (finding,) = doctor_checks.check_plugin()
    assert finding.level == doctor_checks.NOTE
    assert "0.0.1" in finding.text
    assert "nuke-install" in finding.fix
    config = into / "RelightGAN" / "relightgan.json"
    config.write_text(json.dumps({"python": str(tmp_path / "gone" / "python")}))
    levels = {finding.level: finding for finding in doctor_checks.check_plugin()}
    assert "gone" in levels[doctor_checks.PROBLEM].text
    config.write_text(json.dumps({"python": sys.executable}))
    (into / "init.py").write_text("")
    (finding,) = doctor_checks.check_plugin()
    assert finding.level == doctor_checks.PROBLEM
    assert "init.py doesn't add it" in finding.text
