"""What the node calls, in a session with a window and in one without; buttons relight with the real worker."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_comps

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def opened(worker_env, nuke_session, darken_grid_look, tmp_path, monkeypatch):
    """What an artist's program was asked to open."""
    found = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: found.append(command))
    return found


def text(node, name):
    return node[name].value()


def label(comp):
    from nuke_simulator import control

    return control.idle()[comp.node.fullName()]


def bake_all(comp):
    comp.node["relight_range"].execute()


# Looking: onCreate, knobChanged, autolabel


def test_the_label_tells_the_name_what_the_artist_wrote_and_the_status(gui_comp):
    assert label(gui_comp).splitlines() == ["RelightGAN1", "missing 1001-1006"]
    gui_comp.node["label"].setValue("hero")
    gui_comp.node["bypass"].setValue(True)
    assert label(gui_comp).splitlines() == ["RelightGAN1", "hero", "bypassed", "missing 1001-1006"]


def test_choosing_a_look_shows_what_it_says_or_what_is_wrong_with_it(gui_comp, tmp_path):
    from nuke_simulator import control

    control.change(gui_comp.node["look"], str(gui_comp.look))
    assert text(gui_comp.node, "look_info").splitlines()[0] == "darken: day to dusk"
    sha256 = hashlib.sha256(gui_comp.look.read_bytes()).hexdigest()
    assert text(gui_comp.node, "info_sha256") == f"sha256 {sha256}"
    control.change(gui_comp.node["look"], str(tmp_path / "gone.onnx"))
    assert "gone.onnx can't be read" in text(gui_comp.node, "look_info")
    assert text(gui_comp.node, "info_sha256") == "It can't be read."
    assert "gone.onnx" in text(gui_comp.node, "status")
    control.change(gui_comp.node["look"], "")
    assert text(gui_comp.node, "look_info") == "No look chosen."
    assert text(gui_comp.node, "status") == "no look chosen"


@pytest.mark.process
def test_changing_a_setting_in_the_panel_shows_the_new_status_at_once(gui_comp):
    from nuke_simulator import control

    bake_all(gui_comp)
    assert text(gui_comp.node, "status") == "ready 1001-1006"
    control.change(gui_comp.node["exposure"], 0.5)
    assert text(gui_comp.node, "status") == "stale 1001-1006"
    control.change(gui_comp.node["exposure"], 0.0)
    assert text(gui_comp.node, "status") == "ready 1001-1006"


def test_the_window_can_be_set_only_where_there_is_a_blend(gui_comp):
    from nuke_simulator import control

    control.change(gui_comp.node["temporal_blend"], 0.0)
    gui_comp.node.hideControlPanel()
    gui_comp.node.showControlPanel()
    assert not gui_comp.node["temporal_window"].enabled()
    control.change(gui_comp.node["temporal_blend"], 0.4)
    assert gui_comp.node["temporal_window"].enabled()


def test_opening_the_panel_leaves_the_script_unmodified(gui_comp):
    gui_comp.nuke.root().setModified(False)
    gui_comp.node.showControlPanel()
    assert text(gui_comp.node, "look_info").startswith("darken")
    assert not gui_comp.nuke.modified()


def test_hooks_never_raise_whatever_is_wrong_and_say_it_once(gui_comp, monkeypatch, capsys):
    from relightgan.nuke_plugin import hooks, state

    def broken(*_):
        raise ValueError("Error: half-made node")

    monkeypatch.setattr(state, "badge", broken)
    monkeypatch.setattr(hooks, "show_look", broken)
    for _ in range(3):
        assert hooks.autolabel(gui_comp.node) == "RelightGAN1"
        hooks.on_create(gui_comp.node)
        hooks.knob_changed(gui_comp.node, gui_comp.node["look"])
    said = capsys.readouterr().err
    assert said.count("half-made") == 3  # one line for each of the three
    assert "Error:" not in said


def test_looking_never_renders_or_asks_the_worker(gui_comp, monkeypatch):
    from nuke_simulator import control

    from relightgan.nuke_plugin import client

    def never(*_, **__):
        raise AssertionError("looking must not work")

    monkeypatch.setattr(gui_comp.nuke, "execute", never)
    monkeypatch.setattr(client, "shared", never)
    control.change(gui_comp.node["exposure"], 1.0)
    assert "missing" in label(gui_comp)


def test_without_a_window_creating_and_loading_reads_no_look(comp, monkeypatch):
    from relightgan.nuke_plugin import looks

    monkeypatch.setattr(looks, "look_info", lambda path: pytest.fail("nobody sees it"))
    other = comp.nuke.createNode("RelightGAN")
    assert other["look_info"].value() == "No look chosen."


@pytest.mark.process
def test_what_only_shows_is_not_saved(gui_comp, tmp_path):
    bake_all(gui_comp)
    path = tmp_path / "saved.nk"
    gui_comp.nuke.scriptSaveAs(str(path), 1)
    saved = path.read_text()
    assert "result_path" in saved
    for name in ("status", "look_info", "info_version", "source_path"):
        assert f" {name} " not in saved


# Buttons


@pytest.mark.process
def test_relight_frame_makes_the_frame_that_is_looked_at(gui_comp):
    gui_comp.nuke.frame(1003)
    gui_comp.node["relight_frame"].execute()
    assert text(gui_comp.node, "status") == "ready 1003, missing 1001-1002,1004-1006"


@pytest.mark.process
def test_relight_range_makes_what_is_missing_or_stale_and_then_says_all_is_ready(
    gui_comp,
):
    from nuke_simulator import control

    gui_comp.node["frames"].setValue("1001-1004")
    bake_all(gui_comp)
    assert text(gui_comp.node, "status") == "ready 1001-1004"
    store = next((gui_comp.folder / "cache").glob("*/frames"))
    made = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    gui_comp.node["frames"].setValue("")
    bake_all(gui_comp)
    assert text(gui_comp.node, "status") == "ready 1001-1006"
    assert len(list(store.iterdir())) == 6
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    assert control.messages() == []
    bake_all(gui_comp)
    assert control.messages() == ["RelightGAN1: all 6 frames are ready."]


@pytest.mark.process
def test_relight_range_takes_what_somebody_else_has_made(gui_comp, monkeypatch):
    from relightgan.nuke_plugin import bake

    bake_all(gui_comp)
    gui_comp.node["result_path"].setValue("")
    monkeypatch.setattr(bake, "bake", lambda *_: pytest.fail("nothing is left to relight"))
    bake_all(gui_comp)
    assert text(gui_comp.node, "status") == "ready 1001-1006"


def test_an_error_is_a_message_with_a_window_and_fails_the_task_without_one(gui_comp):
    from nuke_simulator import control

    gui_comp.node["look"].setValue("/no/look.onnx")
    gui_comp.node["relight_frame"].execute()
    (message,) = control.messages()
    assert "/no/look.onnx can't be read" in message


@pytest.mark.parametrize("name", ["relight_frame", "relight_range", "clear", "open_report"])
def test_without_a_window_a_button_that_cannot_do_its_work_raises(comp, name):
    comp.node["look"].setValue("/no/look.onnx")
    with pytest.raises(RuntimeError, match=r"/no/look\.onnx can't be read"):
        comp.node[name].execute()


def test_cancelling_shows_no_message_and_keeps_what_is_finished(gui_comp):
    from nuke_simulator import control

    control.cancel_after(3)
    bake_all(gui_comp)
    assert control.messages() == []
    assert "missing" in text(gui_comp.node, "status")


@pytest.mark.process
def test_clear_asks_and_deletes_only_the_present_state(gui_comp):
    from nuke_simulator import control

    bake_all(gui_comp)
    gui_comp.node["exposure"].setValue(1)
    bake_all(gui_comp)
    stored = lambda: len(list((gui_comp.folder / "cache").glob("*/frames/*.exr")))  # noqa: E731
    assert stored() == 12
    control.answer(False)
    gui_comp.node["clear"].execute()
    assert stored() == 12
    control.answer(True)
    gui_comp.node["clear"].execute()
    assert stored() == 6
    assert text(gui_comp.node, "status") == "missing 1001-1006"
    assert "Delete 6 relit frames of RelightGAN1" in control.messages()[-1]
    gui_comp.node["exposure"].setValue(0)
    gui_comp.node["relight_range"].execute()
    assert text(gui_comp.node, "status") == "ready 1001-1006"
    assert stored() == 6


@pytest.mark.process
def test_clear_says_what_it_left_alone(gui_comp, base):
    from nuke_simulator import control

    from relightgan.nuke_plugin import state

    bake_all(gui_comp)
    theirs = base(gui_comp.folder / "theirs", frames=6)
    store = state.state_of(gui_comp.node).places.store
    store.rename(store.with_name("moved"))
    store.symlink_to(theirs.store)
    gui_comp.node["clear"].execute()
    assert f"not cleared: {store} is a link, not a folder." in control.messages()[-1]
    assert len(list(theirs.store.iterdir())) == 6


@pytest.mark.process
def test_clear_without_a_window_asks_nobody(comp):
    from relightgan.nuke_plugin import state

    bake_all(comp)
    comp.node["clear"].execute()
    assert state.status_of(comp.node, fresh=True).missing == tuple(comp.frames)


def test_open_log_opens_the_workers_log_once_there_is_one(gui_comp, opened):
    from nuke_simulator import control

    from relightgan.nuke_plugin import client

    gui_comp.node["open_log"].execute()
    assert "There is no log yet" in control.messages()[-1]
    path = client.log_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    gui_comp.node["open_log"].execute()
    assert opened == [["xdg-open" if sys.platform != "darwin" else "open", str(path)]]


def test_open_report_opens_it_or_says_where_to_look(gui_comp, opened, tmp_path):
    from nuke_simulator import control

    look = tmp_path / "looks" / "sunset.onnx"
    look.parent.mkdir()
    look.write_bytes(gui_comp.look.read_bytes())
    gui_comp.node["look"].setValue(str(look))
    gui_comp.node["open_report"].execute()
    assert str(look.parent / "sunset_run" / "report.html") in control.messages()[-1]
    report = look.parent / "sunset_run" / "report.html"
    report.parent.mkdir()
    report.touch()
    gui_comp.node["open_report"].execute()
    assert opened[-1][-1] == str(report)


def test_without_a_window_a_report_is_named_and_not_opened(comp, opened, tmp_path, capsys):
    look = tmp_path / "sunset.onnx"
    look.write_bytes(comp.look.read_bytes())
    report = tmp_path / "sunset_run" / "report.html"
    report.parent.mkdir()
    report.touch()
    comp.node["look"].setValue(str(look))
    comp.node["open_report"].execute()
    assert str(report) in capsys.readouterr().out
    assert opened == []


# Machines without us


@pytest.mark.process
def test_a_script_opens_without_our_package_and_shows_the_frames_that_are_relit(
    comp,
    tmp_path,
):
    """In a process of its own, with only gizmos/ on the path and relightgan not importable."""
    bake_all(comp)
    out = tmp_path / "out.%04d.exr"
    small_comps.writer(comp.nuke, comp.node, out.as_posix())
    script = tmp_path / "shot.nk"
    comp.nuke.scriptSaveAs(str(script), 1)
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import sys, json, nuke\n"
        "nuke.scriptOpen(sys.argv[1])\n"
        "node = nuke.toNode('RelightGAN1')\n"
        "nuke.frame(1001)\n"
        "nuke.execute('Write1', 1001, 1006)\n"
        "try:\n"
        "    import relightgan\n"
        "except ImportError:\n"
        "    relightgan = None\n"
        "pressed = []\n"
        "for name in ('relight_frame', 'relight_range', 'clear', 'open_log', 'open_report'):\n"
        "    try:\n"
        "        node[name].execute()\n"
        "    except RuntimeError as error:\n"
        "        pressed.append('not installed' in str(error))\n"
        "print('FOUND', json.dumps([relightgan is None, node.hasError(), pressed]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.update(NUKE_PATH=str(ROOT / "gizmos"), NUKE_SIM_PYTHON=sys.executable, HOME=str(tmp_path))
    done = subprocess.run(
        [str(ROOT / "tests" / "nuke_sim" / "bin" / "nuke"), "-t", str(driver), str(script)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.partition("FOUND ")[2].splitlines()[0])
    assert found == [True, False, [True] * 5]
    for frame in comp.frames:
        relit = small_comps.relit(comp.nuke, comp.node, frame)
        assert small_comps.same_bits(small_comps.rgb(Path(str(out) % frame)), relit)


@pytest.mark.process
def test_a_group_made_from_the_node_relights_too(gui_comp):
    group = gui_comp.node.makeGroup()
    group.setInput(0, gui_comp.read)
    group["relight_range"].execute()
    assert text(group, "status") == "ready 1001-1006"
    assert text(group, "result_path")
