"""The panel with a real Qt, without a screen: what it shows is rendered to a picture, and the picture is looked at."""

import base64
import ctypes
import io
import os
import re
import sys
import time
from pathlib import Path

import hostile_looks
import numpy as np
import onnx
import pytest
import tiny_looks
from PIL import Image

os.environ["QT_QPA_PLATFORM"] = "offscreen"
QtWidgets = pytest.importorskip("PySide6.QtWidgets")
import shiboken6  # noqa: E402 - after the platform was chosen
from PySide6 import QtCore, QtGui, QtTest  # noqa: E402

from relightgan.nuke_plugin.worker_log import log_path  # noqa: E402

# PySide 6.12 on Python 3.11 gives back a reference to None that it never took, at each call of a setter; when none is
# left, Python ends. A list that is never freed has enough of them.
SPARE_NONES = [None] * 2_000_000
ctypes.pythonapi.Py_IncRef(ctypes.py_object(SPARE_NONES))

ROOT = Path(__file__).resolve().parents[2]
BEFORE, AFTER = (90, 100, 120), (230, 170, 60)
LONG = "courtyard_dusk_moody_graded_approved_by_everybody_really_final_version_that_was_never_meant_to_be_kept_v012"
PHOTOS = {side: {"folders": [f"{side}_day"], "found": 9, "kept": kept} for side, kept in (("source", 8), ("target", 7))}


@pytest.fixture(scope="session")
def app():
    made = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    made.setStyle("Fusion")
    made.setPalette(nukes_palette())
    return made


def nukes_palette():
    """Dark grey with an orange selection, as Nuke's."""
    palette, role, group = QtGui.QPalette(), QtGui.QPalette.ColorRole, QtGui.QPalette.ColorGroup
    greys = {role.Window: 50, role.Base: 42, role.AlternateBase: 60, role.Button: 72}
    for name in (role.WindowText, role.Text, role.ButtonText):
        greys[name] = 200
    for name, grey in greys.items():
        palette.setColor(name, QtGui.QColor(grey, grey, grey))
    for name in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(group.Disabled, name, QtGui.QColor(130, 130, 130))
    palette.setColor(role.PlaceholderText, QtGui.QColor(120, 120, 120))
    palette.setColor(role.Highlight, QtGui.QColor(247, 147, 30))
    palette.setColor(role.HighlightedText, QtGui.QColor(20, 20, 20))
    return palette


def two_colours(width=640, height=240):
    """A preview whose halves are plain colours."""
    picture = Image.new("RGB", (width, height), BEFORE)
    picture.paste(AFTER, (width // 2, 0, width, height))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def add_preview(path, jpeg):
    model = onnx.load(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = "relightgan.preview", base64.b64encode(jpeg).decode()
    onnx.save(model, path)


@pytest.fixture
def shelf(tmp_path):
    """A folder with a good look, one without preview, one of a long name in a folder below, and a broken file."""
    folder = tmp_path / "looks"
    (folder / "below").mkdir(parents=True)
    facts = {"translator": "relight", "created": "2026-11-03T14:30:11+00:00", "dataset": PHOTOS}
    figures = {"evaluation": {"held_out": {"psnr_db": 24.21}}}
    add_preview(
        tiny_looks.identity_look(folder / "a.onnx", name="courtyard", direction="cloudy to sunny", **facts, **figures),
        two_colours(),
    )
    tiny_looks.identity_look(folder / "b.onnx", name="stage")
    tiny_looks.identity_look(folder / "below" / f"{LONG}.onnx", name=LONG, direction=f"{LONG} to dusk", **facts)
    whole = (folder / "a.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def open_panel(app, nuke_session, monkeypatch, tmp_path):
    """Opens the panel as Nuke's menu does, with a folder of looks; `open_panel.nuke` is the session."""
    monkeypatch.setenv("RELIGHTGAN_LOG_DIR", str(tmp_path / "logs"))
    nuke = nuke_session(gui=True)
    opened = []

    def open_it(*folders, width=430):
        from nuke_simulator import session

        monkeypatch.setenv("RELIGHTGAN_LOOKS", os.pathsep.join(map(str, folders)))
        nuke.menu("Nuke").findItem("RelightGAN/Look Library").invoke()
        panel = session.current().panels_shown[-1]
        opened.append(panel)
        panel.resize(width, 820)
        panel.show()
        wait_for(lambda: not panel.busy)
        return panel

    open_it.nuke = nuke
    yield open_it
    for panel in filter(shiboken6.isValid, opened):
        panel.close()
        panel.deleteLater()
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


def wait_for(true, timeout_s=20.0):
    ends = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < ends, "the panel never got there"
        QtCore.QCoreApplication.processEvents()
        time.sleep(0.005)
    for _ in range(3):
        QtCore.QCoreApplication.processEvents()


def pixels(widget):
    """(H, W, 3) float of what a widget looks like."""
    image = widget.grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : image.width() * 3].reshape(image.height(), image.width(), 3).astype(float)


def share_near(picture, colour, within=12):
    """How much of a picture has about this colour."""
    return float((np.abs(picture - np.array(colour)).max(axis=2) < within).mean())


def names(panel):
    return [entry.name for entry in panel.looks.entries()]


def choose(panel, name):
    panel.looks.setCurrentRow(names(panel).index(name))
    wait_for(lambda: True)


def row_rect(panel, name):
    item = panel.looks.item(names(panel).index(name))
    panel.looks.scrollToItem(item)
    return panel.looks.visualItemRect(item)


def facts_shown(panel):
    grid = panel.details.facts.layout()
    texts = [grid.itemAt(i).widget().text() for i in range(grid.count())]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def test_looks_are_listed_with_before_and_after_and_their_facts(open_panel, shelf):
    panel = open_panel(shelf)
    assert names(panel) == ["courtyard", "stage", "cut.onnx", LONG]
    choose(panel, "courtyard")
    assert facts_shown(panel) == {
        "Direction": "cloudy to sunny",
        "Made by": "relight",
        "Trained on": "8 photos (source_day) and 7 photos (target_day)",
        "Date": "2026-11-03 14:30",
        "Colour": "lin_rec709, linear",
        "Held out psnr db": "24.21",
        "Licence": "Apache-2.0",
        "File": (shelf / "a.onnx").as_posix(),
    }
    wipe = pixels(panel.details.wipe)
    left, right = np.split(wipe[:, : wipe.shape[1] // 2 * 2], 2, axis=1)
    assert share_near(left, BEFORE) > 0.8
    assert share_near(left, AFTER) < 0.01
    assert share_near(right, AFTER) > 0.8
    rect = row_rect(panel, "courtyard")
    row = pixels(panel.looks.viewport())[rect.top() : rect.bottom()]
    thumb = row[:, : rect.width() // 3]
    assert share_near(thumb, BEFORE) > 0.15
    assert share_near(thumb, AFTER) > 0.15
    assert panel.count.text() == "4 looks, 1 can't be used"
    assert panel.create_button.isEnabled()


def test_versions_of_one_name_are_told_by_their_files(open_panel, tmp_path):
    for version in ("v001", "v002"):
        tiny_looks.identity_look(tmp_path / f"dusk_{version}.onnx", name="dusk", translator="relight")
    tiny_looks.identity_look(tmp_path / "dusk.onnx", name="dusk", translator="relight")
    entries = open_panel(tmp_path).looks.entries()
    assert [entry.name for entry in entries] == ["dusk"] * 3
    assert [entry.line.split(" · ")[0] for entry in entries] == ["relight", "dusk_v001", "dusk_v002"]


def test_the_wipe_follows_the_pointer(open_panel, shelf):
    panel = open_panel(shelf)
    choose(panel, "courtyard")
    wipe = panel.details.wipe
    before = share_near(pixels(wipe), BEFORE)
    QtTest.QTest.mouseMove(wipe, QtCore.QPoint(wipe.width() - 20, wipe.height() // 2))
    wait_for(lambda: share_near(pixels(wipe), BEFORE) > before + 0.3)
    QtCore.QCoreApplication.sendEvent(wipe, QtCore.QEvent(QtCore.QEvent.Type.Leave))
    wait_for(lambda: abs(share_near(pixels(wipe), BEFORE) - before) < 0.02)


def test_text_can_be_read_in_a_selected_row_and_in_the_others(open_panel, shelf):
    """Somewhere in each row, text stands out from its ground."""
    panel = open_panel(shelf)
    choose(panel, "courtyard")
    for name in names(panel):
        rect = row_rect(panel, name)
        row = pixels(panel.looks.viewport())[rect.top() : rect.bottom(), rect.width() // 2 : rect.right() - 4]
        ground = np.median(row.reshape(-1, 3), axis=0)
        strongest = np.abs(row - ground).max(axis=2)
        assert np.percentile(strongest, 99.5) > 90, name


def test_a_broken_file_says_what_is_wrong_and_makes_no_node(open_panel, shelf):
    from nuke_simulator import control

    panel = open_panel(shelf)
    choose(panel, "cut.onnx")
    text = panel.details.problem.text().replace("\u200b", "")
    assert text.startswith("cut.onnx can't be used.")
    assert str(shelf / "cut.onnx") in text
    assert "cut short" in text
    assert panel.details.problem.isVisible()
    assert not panel.details.wipe.isVisible()
    assert not panel.details.facts.isVisible()
    assert not panel.create_button.isEnabled()
    assert not panel.use_button.isEnabled()
    item = panel.looks.currentItem()
    assert not item.flags() & QtCore.Qt.ItemFlag.ItemIsDragEnabled
    panel.looks.itemDoubleClicked.emit(item)
    assert open_panel.nuke.allNodes() == []
    assert "cut.onnx" in control.messages()[-1]


def test_long_names_are_elided_and_never_widen_the_panel(open_panel, shelf):
    panel = open_panel(shelf, width=280)
    for name in (LONG, "cut.onnx"):
        choose(panel, name)
        assert panel.width() == 280
        assert panel.minimumSizeHint().width() <= 280
    choose(panel, LONG)
    assert facts_shown(panel)["File"].endswith(f"{LONG}.onnx")  # all of it, in the tooltip too
    rect = row_rect(panel, LONG)
    edge = pixels(panel.looks.viewport())[rect.top() : rect.bottom(), rect.right() - 5 : rect.right()]
    assert np.ptp(edge.reshape(-1, 3), axis=0).max() < 40  # no text runs into the edge
    for button in (panel.create_button, panel.use_button):
        assert button.width() >= button.sizeHint().width()


def test_without_looks_it_says_where_they_are_searched_for(open_panel, tmp_path):
    panel = open_panel(tmp_path / "not there", tmp_path)
    text = panel.empty.text().replace("\u200b", "")
    assert panel.empty.isVisible()
    assert "No looks yet." in text
    assert f"{tmp_path / 'not there'} (not there)" in text
    assert f"{tmp_path}\n" in text + "\n"
    assert not panel.create_button.isEnabled()
    assert share_near(pixels(panel.empty), (200, 200, 200), within=60) > 0.002


def test_without_a_folder_it_says_how_to_name_one(open_panel):
    panel = open_panel()
    assert "RELIGHTGAN_LOOKS" in panel.empty.text().replace("\u200b", "")
    assert "relightgan nuke-install --looks" in panel.empty.text().replace("\u200b", "")


def test_the_filter_finds_by_light_and_file_and_says_where_nothing_fits(open_panel, shelf):
    panel = open_panel(shelf)
    panel.filter.setText("SUNNY clou")
    assert panel.count.text().startswith("4 looks, 1 shown")
    assert panel.looks.currentItem().data(QtCore.Qt.ItemDataRole.UserRole).name == "courtyard"
    panel.filter.setText("below")
    assert panel.looks.currentItem().data(QtCore.Qt.ItemDataRole.UserRole).name == LONG
    panel.filter.setText("nothing like this")
    assert "nothing like this" in panel.empty.text()
    assert panel.empty.isVisible()
    assert not panel.create_button.isEnabled()
    panel.filter.setText("")
    assert panel.looks.isVisible()


def test_a_double_click_and_the_button_make_a_node_with_the_look(open_panel, shelf):
    panel = open_panel(shelf)
    rect = row_rect(panel, "courtyard")
    # Qt takes a double click only after a click.
    for click in (QtTest.QTest.mouseClick, QtTest.QTest.mouseDClick):
        click(panel.looks.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=rect.center())
    choose(panel, "stage")
    panel.create_button.click()
    looks = sorted(node["look"].value() for node in open_panel.nuke.allNodes() if node.Class() == "RelightGAN")
    assert looks == [(shelf / "a.onnx").as_posix(), (shelf / "b.onnx").as_posix()]


def test_a_row_dragged_into_the_node_graph_makes_a_node(open_panel, shelf):
    import nukescripts

    panel = open_panel(shelf)
    item = panel.looks.item(names(panel).index("courtyard"))
    data = panel.looks.mimeData([item])
    assert data.hasFormat("text/plain")
    assert item.flags() & QtCore.Qt.ItemFlag.ItemIsDragEnabled
    assert nukescripts.dropData("text/plain", data.text()) is True
    (node,) = open_panel.nuke.allNodes()
    assert node["look"].value() == (shelf / "a.onnx").as_posix()


def test_the_look_is_set_in_the_selected_nodes_alone(open_panel, shelf):
    from nuke_simulator import control

    nuke = open_panel.nuke
    panel = open_panel(shelf)
    choose(panel, "stage")
    panel.use_button.click()
    assert "Select the RelightGAN nodes" in control.messages()[-1]
    first, second, other = (nuke.createNode(name) for name in ("RelightGAN", "RelightGAN", "NoOp"))
    for node, chosen in ((first, True), (second, False), (other, True)):
        node.setSelected(chosen)
    panel.use_button.click()
    assert first["look"].value() == (shelf / "b.onnx").as_posix()
    assert second["look"].value() == ""


def test_looks_of_the_script_are_listed_wherever_they_lie(open_panel, identity_look):
    node = open_panel.nuke.createNode("RelightGAN")
    node["look"].setValue(identity_look.as_posix())
    panel = open_panel()
    assert [entry.path for entry in panel.looks.entries()] == [identity_look.as_posix()]


def test_a_large_folder_does_not_hold_up_the_window(open_panel, shelf):
    """Rows come in while the window goes on; nothing waits for the disk."""
    whole = (shelf / "a.onnx").read_bytes()
    for number in range(400):
        (shelf / f"copy{number:03d}.onnx").write_bytes(whole)
    panel = open_panel(shelf)
    longest, counts = 0.0, set()
    panel.refresh()
    assert panel.looks.count() == 0  # it came back at once
    opened = time.monotonic()
    while panel.busy:
        began = time.monotonic()
        QtCore.QCoreApplication.processEvents()
        longest = max(longest, time.monotonic() - began)
        counts.add(panel.looks.count())
        time.sleep(0.002)
    assert panel.looks.count() == 404
    assert len(counts) > 5
    assert longest < max(1.0, (time.monotonic() - opened) / 4)  # measured: 0.05 s on an idle machine


def test_a_panel_that_nuke_deletes_stops_reading(open_panel, shelf, app):
    whole = (shelf / "a.onnx").read_bytes()
    panel = open_panel(shelf)
    for number in range(300):
        (shelf / f"copy{number:03d}.onnx").write_bytes(whole)
    panel.refresh()
    reading = panel._reading
    shiboken6.delete(panel)
    assert reading._stop.is_set()


def test_refresh_finds_what_is_new(
    open_panel,
    shelf,
):
    panel = open_panel(shelf)
    tiny_looks.identity_look(shelf / "new.onnx", name="new")
    (shelf / "b.onnx").unlink()
    panel.refresh_button.click()
    wait_for(lambda: not panel.busy)
    assert "new" in names(panel)
    assert "stage" not in names(panel)


def test_the_log_is_followed_while_it_is_seen(open_panel, tmp_path):
    panel = open_panel()
    panel.tabs.setCurrentIndex(1)
    wait_for(lambda: panel.log.isVisible())
    assert panel.log.text.toPlainText() == ""
    assert "said nothing yet" in panel.log.text.placeholderText()
    path = log_path()
    path.parent.mkdir(exist_ok=True)
    lines = "".join(f"line {i}\n" for i in range(200))
    path.write_bytes((lines + "ümläut").encode()[:-1])  # cut within a letter
    panel.log.follow()
    with path.open("ab") as file:
        file.write(b"t ende\n")
    panel.log.follow()
    assert panel.log.text.toPlainText().endswith("line 199\nümläut ende\n")
    assert panel.log.where.text() == str(path)
    bar = panel.log.text.verticalScrollBar()
    assert bar.value() == bar.maximum()  # at the end
    bar.setValue(0)  # the user reads something further up
    with path.open("a") as file:
        file.write("more\n")
    panel.log.follow()
    assert bar.value() == 0
    path.write_text("begun anew\n")
    panel.log.follow()
    assert panel.log.text.toPlainText() == "begun anew\n"
    with path.open("a") as file:
        file.write("by the timer\n")
    wait_for(lambda: "by the timer" in panel.log.text.toPlainText())


def test_a_long_log_is_shown_from_near_its_end(open_panel, tmp_path):
    path = log_path()
    path.parent.mkdir()
    path.write_text("".join(f"line {i:09d}\n" for i in range(100_000)))
    panel = open_panel()
    panel.tabs.setCurrentIndex(1)
    wait_for(lambda: panel.log.isVisible())
    assert panel.log.text.toPlainText().endswith("line 000099999\n")
    assert panel.log.text.blockCount() <= 5001


def test_settings_that_make_no_sense_are_told_and_the_panel_opens(open_panel, shelf, tmp_path, monkeypatch):
    from nuke_simulator import control

    panel = open_panel(shelf)
    module = sys.modules[type(panel).__module__]
    (tmp_path / "relightgan.json").write_text("{")
    load = module.load_config
    monkeypatch.setattr(module, "load_config", lambda: load(tmp_path))
    panel.refresh()
    wait_for(lambda: not panel.busy)
    assert "relightgan.json isn't JSON" in control.messages()[-1]
    assert "courtyard" in names(panel)


def test_only_names_that_both_bindings_have_are_used():
    """Nuke 14 and 15 have PySide2; what moved or went with Qt 6 would fail only there."""
    gone = re.compile(
        r"exec_\(|\.exec\(|QAction\b|QRegExp|QDesktopWidget|QStringListModel|setTabStop|event\.pos\(|\.position\(\)"
        r"|\.globalPosition"
    )
    for path in sorted((ROOT / "nuke_plugin").glob("panel*.py")):
        text = path.read_text(encoding="utf-8")
        assert gone.findall(text) == [], path.name
        assert "PySide" not in text, path.name  # through qt.py only


def test_the_picture_of_the_panel_is_worth_looking_at(open_panel, shelf, tmp_path):
    """Renders the three states; the files stay with pytest's for whoever wants to look at them."""
    panel = open_panel(shelf)
    choose(panel, "courtyard")
    assert panel.grab().save(str(tmp_path / "panel.png"))
    whole = pixels(panel)
    assert whole.shape == (820, 430, 3)
    assert share_near(whole, BEFORE) > 0.05
    assert share_near(whole, AFTER) > 0.05
    assert whole.std() > 25


def test_a_library_full_of_hostile_looks_shows_every_one_of_them(open_panel, tmp_path):
    """What they say is shown as it stands, none of it as HTML; pictures stay small, and nothing else is opened."""
    from relightgan.nuke_plugin.panel_list import PICTURE

    folder = tmp_path / "looks"
    for number, (name, case) in enumerate(hostile_looks.CASES.items()):
        if not name.startswith(("bytes", "format")):
            (folder / f"{number:03d}").mkdir(parents=True)
            case.write(folder / f"{number:03d}" / case.file)
    panel = open_panel(folder)
    assert panel.looks.count() == len(list(folder.iterdir())) - 1  # all but the folder that is called .onnx
    for row in range(panel.looks.count()):
        item = panel.looks.item(row)
        panel.looks.setCurrentItem(item)
        picture = item.data(PICTURE)
        assert picture.width() <= 264
        assert picture.height() <= 100
        assert panel.grab().width() == 430
        entry = item.data(QtCore.Qt.ItemDataRole.UserRole)
        assert panel.create_button.isEnabled() == (entry.problem == "")
        for label in panel.details.findChildren(QtWidgets.QLabel):
            assert label.textFormat() == QtCore.Qt.TextFormat.PlainText
        for tip in [item.toolTip(), *(label.toolTip() for label in panel.details.findChildren(QtWidgets.QLabel))]:
            assert re.fullmatch(r"(<p style='white-space: pre'>[^<>]*</p>)?", tip)
    for widget in panel.findChildren(QtWidgets.QLabel):
        assert widget.textFormat() == QtCore.Qt.TextFormat.PlainText
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize("case", [name for name in hostile_looks.CASES if name.startswith("preview")])
def test_a_preview_that_is_a_trap_is_decoded_small_or_not_at_all(case, tmp_path):
    from relightgan.nuke_plugin.library import describe
    from relightgan.nuke_plugin.panel_picture import picture_of

    path = tmp_path / hostile_looks.CASES[case].file
    hostile_looks.CASES[case].write(path)
    began = time.process_time()
    picture = picture_of(describe(str(path)).preview, QtCore.QSize(300, 100))
    assert time.process_time() - began < 2.0
    assert picture.isNull() or (picture.width() <= 300 and picture.height() <= 100)
    assert not picture.isNull() or case not in ("preview, JPEG of 1x1",)


def test_qt_is_never_left_to_guess_the_format_of_a_preview():
    from relightgan.nuke_plugin.panel_picture import picture_of

    box = QtCore.QSize(300, 100)
    assert picture_of(two_colours(), box).size() == QtCore.QSize(266, 100)
    assert picture_of(two_colours(64, 32), box).size() == QtCore.QSize(64, 32)
    for other in (hostile_looks.png(64, 32), b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", b""):
        assert picture_of(other, box).isNull()


def test_the_look_used_in_selected_nodes_is_a_path_and_never_an_expression(open_panel, tmp_path):
    from relightgan.nuke_plugin import knobs

    folder = tmp_path / "shot[exec touch PWNED]"
    folder.mkdir()
    tiny_looks.identity_look(folder / "sun[exec touch PWNED]ny.onnx", name="trap")
    nuke = open_panel.nuke
    node = nuke.createNode("RelightGAN")
    panel = open_panel(folder)
    choose(panel, "trap")
    node.setSelected(True)
    panel.use_button.click()
    panel.create_button.click()
    for made in nuke.allNodes():
        assert knobs.path_of(made, "look") == (folder / "sun[exec touch PWNED]ny.onnx").as_posix()
        assert made["look"].evaluate() == (folder / "sun[exec touch PWNED]ny.onnx").as_posix()
    panel.refresh()  # reads the looks of the script
    wait_for(lambda: not panel.busy)
    assert names(panel) == ["trap"]
    assert not list(Path.cwd().glob("PWNED"))
