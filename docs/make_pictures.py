"""Makes the pictures of README.md, compositing.md and relighting.md, from what `make demo` left.

    python docs/make_pictures.py --demo build/demo

The controls are drawn from the gizmo's own knobs, read by Tcl; that is no screenshot of Nuke. The library is the panel
itself, opened without a screen. The plate is baked and rendered by `batch.py` in the simulator of tests/nuke_sim. The
terminal shows what the commands really print. Needs the development packages (`make setup`).
"""

import argparse
import functools
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tkinter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PySide6 import QtCore, QtGui, QtWidgets

from relightgan.core.errors import RelightError
from relightgan.core.files import write_whole
from relightgan.core.frames import read_plate
from relightgan.core.plate import Part
from relightgan.nuke_plugin.looks import look_info
from relightgan.training.measure.metrics import to_display
from relightgan.training.measure.tables import not_written, open_out
from relightgan.training.report.contact_sheet import contact_sheet

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
GIZMO = ROOT / "gizmos" / "RelightGAN.gizmo"
CLIP = ROOT / "examples" / "courtyard" / "clip" / "A"
FIRST, LAST = 1, 8
SHOWN_FRAMES = (1, 8)
GREY_CARD = 0.18  # scene-linear; what the picture of the gain shows relit
WIDTH_PX = 760
TERMINAL_PX = 820
SAME_LINE = (6, 22)  # kinds of knobs that Nuke puts beside the one before, unless told otherwise
FIELDS = (1, 2, 3, 4, 6, 7, 22, 26, 41)
SCRIPT = """Root {{
 first_frame {first}
 last_frame {last}
 format "320 240 0 0 320 240 1 plate"
}}
Read {{
 inputs 0
 file_type exr
 file {{{plates}}}
 first {first}
 last {last}
 origset true
 raw true
 name Plate
}}
RelightGAN {{
 look {{{look}}}
 temporal_blend 0.7
 name RelightGAN1
}}
Write {{
 file {{{out}}}
 file_type exr
 channels rgba
 raw true
 create_directories true
 name Write1
}}
"""


class Control(NamedTuple):
    """A knob of the gizmo, as far as it is drawn."""

    kind: int
    name: str
    label: str
    new_line: bool
    items: list[str]
    text: str
    tab: str


def main() -> int:
    """Makes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, metavar="DIR", help="the folder that `make demo` made")
    demo = parser.parse_args().demo.resolve()
    look = demo / "look.onnx"
    open_out(PICTURES)
    save(Image.open(demo / "before_after.png"), PICTURES / "demo.jpg", quality=88)
    draw_guidance(PICTURES / "guidance.jpg", demo / "run" / "guidance" / "guidance-ab.jpg")
    draw_terminal(PICTURES / "terminal.png", look)
    draw_controls(PICTURES / "node_panel.png", look)
    with tempfile.TemporaryDirectory() as scratch:
        draw_library(PICTURES / "look_library.jpg", look, Path(scratch))
        draw_relit(PICTURES / "relit.jpg", look, Path(scratch))
        draw_aovs(PICTURES / "aovs.jpg", look, Path(scratch))
    return 0


def save(picture: Image.Image, path: Path, quality: int) -> None:
    """Writes a JPEG, whole or not at all."""
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=quality)
    write_whole(path, file.getbuffer(), functools.partial(not_written, path))


def draw_guidance(path: Path, sheet: Path) -> None:
    """The upper rows of a guidance sheet: photos, what the other day's photos say, confidence, depth."""
    picture = Image.open(sheet).convert("RGB")
    shown = picture.crop((0, 0, picture.width, min(picture.height, picture.width // 2)))
    shown.thumbnail((1000, 1000))
    save(shown, path, quality=85)


def draw_terminal(path: Path, look: Path) -> None:
    """A terminal in which the look is shown and a clip is relit by it; the text is what the commands print."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copy(look, folder / "look.onnx")
        (folder / "plates").symlink_to(CLIP)
        lines = []
        for words in (
            "infer look.onnx plates/%04d.exr relit.%04d.exr --frames 1-4 --device cpu",
            "infer look.onnx plates/%04d.exr relit.%04d.exr --frames 1-4 --device cpu",
            "infer look.onnx plates/%04d.exr new.%04d.exr --frames 1-12 --device cpu",
            "infer look.onnx plates/%04d.exr new.%04d.exr --frames 1-8 --device cuda",
        ):
            command = [sys.executable, "-m", "relightgan.core.cli", *words.split()]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            lines += [f"$ relightgan {words}", *(done.stdout + done.stderr).splitlines()]
            lines += [f"[exit {done.returncode}]", ""]
    app = application()
    label = QtWidgets.QLabel("\n".join(lines).strip())
    label.setTextFormat(QtCore.Qt.TextFormat.PlainText)
    label.setFont(QtGui.QFontDatabase.systemFont(QtGui.QFontDatabase.SystemFont.FixedFont))
    label.setStyleSheet("background: #16181c; color: #d6d6d6; padding: 14px; font-size: 13px;")
    label.setWordWrap(True)
    label.setFixedWidth(TERMINAL_PX)
    label.adjustSize()
    label.show()
    app.processEvents()
    if not label.grab().save(str(path)):
        raise RelightError(f"{path} can't be written.")


def read_controls(gizmo: Path) -> tuple[list[Control], dict[str, str]]:
    """The gizmo's visible knobs in their order, and the values it sets."""
    tcl = tkinter.Tcl().tk
    controls, values, tab = [], {}, ""
    for line in gizmo.read_text(encoding="utf-8").split("\n}\n")[0].splitlines():
        words = tcl.splitlist(line) if line.startswith(" ") else ()
        if len(words) == 2 and words[0] != "addUserKnob":
            values[words[0]] = words[1]
        if not words or words[0] != "addUserKnob":
            continue
        kind, name, *rest = tcl.splitlist(words[1])
        options = {key: rest[i + 1] for i, key in enumerate(rest[:-1]) if key in ("l", "T", "M")}
        if int(kind) == 20:
            tab = options.get("l", name)
        elif "+INVISIBLE" not in rest:
            new_line = "+STARTLINE" in rest or ("-STARTLINE" not in rest and int(kind) not in SAME_LINE)
            items = list(tcl.splitlist(options.get("M", "")))
            label = options.get("l", name)
            controls.append(Control(int(kind), name, label, new_line, items, options.get("T", ""), tab))
    return controls, values


def draw_controls(path: Path, look: Path) -> None:
    """The first tab of the node's panel, drawn with Qt."""
    controls, values = read_controls(GIZMO)
    values |= {"look": "/shots/looks/courtyard_sunny.onnx", "look_info": look_info(str(look))}
    values |= {"status": f"ready {FIRST}-{LAST}", "temporal_blend": "0.7"}
    app = application()
    tabs = QtWidgets.QTabWidget()
    for name in dict.fromkeys(control.tab for control in controls):
        page = QtWidgets.QWidget()
        form = QtWidgets.QFormLayout(page)
        form.setLabelAlignment(QtCore.Qt.AlignmentFlag.AlignRight)
        form.setFieldGrowthPolicy(QtWidgets.QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        row = QtWidgets.QHBoxLayout()
        for control in (each for each in controls if each.tab == name):
            if is_divider(control):
                form.addRow(divider())
                continue
            if control.new_line:
                row.addStretch(0)
                row = QtWidgets.QHBoxLayout()
                beside = control.label if control.kind not in (6, 22) else ""
                form.addRow(beside, row)
            for widget in widgets(control, values.get(control.name, control.text)):
                row.addWidget(widget, 1 if isinstance(widget, (QtWidgets.QLineEdit, QtWidgets.QSlider)) else 0)
        row.addStretch(0)
        tabs.addTab(page, name)
    tabs.setFixedWidth(WIDTH_PX)
    tabs.resize(WIDTH_PX, tabs.widget(0).sizeHint().height() + tabs.tabBar().sizeHint().height() + 8)
    tabs.show()
    app.processEvents()
    if not tabs.grab().save(str(path)):
        raise RelightError(f"{path} can't be written.")


def draw_library(path: Path, look: Path, folder: Path) -> None:
    """The look library with the look and a copy of it, as it opens in Nuke."""
    app = application()
    for name in ("courtyard_sunny", "courtyard_sunny_v002"):
        shutil.copy(look, folder / f"{name}.onnx")
    os.environ["RELIGHTGAN_LOOKS"] = str(folder)
    sys.path.insert(0, str(ROOT / "tests" / "nuke_sim"))
    import nuke
    from nuke_simulator import session, startup
    from nuke_simulator.quirks import make_quirks

    session.start(gui=True, wanted=make_quirks())
    nuke.GUI = True
    startup.begin([ROOT])
    from relightgan.nuke_plugin.panel import LookPanel

    panel = LookPanel()
    panel.resize(430, 780)
    panel.show()
    until = time.monotonic() + 20
    while panel.busy and time.monotonic() < until:
        app.processEvents()
    panel.looks.setCurrentRow(0)
    for _ in range(5):
        app.processEvents()
    if not panel.grab().save(str(path), quality=92):
        raise RelightError(f"{path} can't be written.")
    panel.close()
    panel.deleteLater()
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


@functools.cache  # Qt ends with the object, and there may be one only
def application() -> QtWidgets.QApplication:
    """Qt without a screen, dark."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QtWidgets.QApplication([])
    app.setStyle("Fusion")
    app.setPalette(dark())
    font = app.font()
    font.setPixelSize(14)
    app.setFont(font)
    return app


def is_divider(control: Control) -> bool:
    """A text without words is a line."""
    return control.kind == 26 and not control.name


def divider() -> QtWidgets.QFrame:
    """A line across the panel."""
    line = QtWidgets.QFrame()
    line.setFixedHeight(1)
    line.setStyleSheet("background: #2a2a2a;")
    return line


def widgets(control: Control, value: str) -> list[QtWidgets.QWidget]:
    """What stands for a knob: one widget, or a number and its slider."""
    if control.kind not in FIELDS:
        raise RelightError(
            f"{GIZMO.name} has a knob of kind {control.kind}, which isn't drawn.", "Add it to widgets()."
        )
    if control.kind == 6:
        box = QtWidgets.QCheckBox(control.label)
        box.setChecked(value == "true")
        return [box]
    if control.kind == 22:
        return [QtWidgets.QPushButton(control.label)]
    if control.kind == 26:
        return [QtWidgets.QLabel(value)]
    if control.kind in (4, 41):
        if control.label == "invert":
            return [QtWidgets.QCheckBox(control.label)]
        pulldown = QtWidgets.QComboBox()
        pulldown.addItems(control.items or ["rgba.alpha"])
        return [pulldown]
    edit = QtWidgets.QLineEdit(value if value or control.kind in (1, 2) else "0")
    if control.kind == 2:
        return [edit, QtWidgets.QPushButton("…")]
    if control.kind in (3, 7):
        edit.setFixedWidth(64)
    if control.kind == 7:
        slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        slider.setValue({"strength": 99, "temporal_blend": 70}.get(control.name, 50))
        return [edit, slider]
    return [edit]


def dark() -> QtGui.QPalette:
    """Greys like those of compositing programs."""
    palette = QtGui.QPalette()
    role = QtGui.QPalette.ColorRole
    for name, grey in ((role.Window, 50), (role.Base, 34), (role.Button, 66), (role.AlternateBase, 44)):
        palette.setColor(name, QtGui.QColor(grey, grey, grey))
    for name in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(name, QtGui.QColor(208, 208, 208))
    palette.setColor(role.PlaceholderText, QtGui.QColor(120, 120, 120))
    palette.setColor(role.Highlight, QtGui.QColor(176, 122, 48))
    return palette


def draw_relit(path: Path, look: Path, scratch: Path) -> None:
    """Two frames of the courtyard's clip, before and after, rendered by the batch command in the simulator."""
    out, script = scratch / "relit.%04d.exr", scratch / "shot.nk"
    text = SCRIPT.format(first=FIRST, last=LAST, plates=CLIP / "%04d.exr", look=look, out=out)
    script.write_text(text, encoding="utf-8")
    nuke = [str(ROOT / "tests" / "nuke_sim" / "bin" / "nuke"), "-t", str(ROOT / "nuke_plugin" / "batch.py")]
    environment = {**os.environ, "NUKE_SIM_PYTHON": sys.executable, "RELIGHTGAN_PYTHON": sys.executable}
    subprocess.run([*nuke, f"--script={script}", "--device=cpu"], env=environment, check=True)
    rows = [
        [
            (to_display(read_plate(CLIP / f"{frame:04d}.exr").rgb), f"plate, frame {frame}"),
            (to_display(read_plate(Path(str(out) % frame)).rgb), f"relit, frame {frame}"),
        ]
        for frame in SHOWN_FRAMES
    ]
    sheet = contact_sheet(rows, scratch / "sheet.png", cell_px=320)
    save(Image.open(sheet), path, quality=90)


def draw_aovs(path: Path, look: Path, scratch: Path) -> None:
    """Plate, relit frame, gain on a grey card, and confidence, of two frames written by `relightgan infer --aovs`."""
    out = scratch / "aovs.%04d.exr"
    frames = ",".join(map(str, SHOWN_FRAMES))
    words = [str(look), str(CLIP / "%04d.exr"), str(out), "--frames", frames, "--temporal-blend", "0.7", "--aovs"]
    subprocess.run(
        [sys.executable, "-m", "relightgan.core.cli", "infer", *words, "--device", "cpu"], cwd=ROOT, check=True
    )
    rows = []
    for frame in SHOWN_FRAMES:
        relit = read_plate(Path(str(out) % frame))
        part = relit.parts[relit.rgb_part]

        def layer(*names: str, part: Part = part) -> np.ndarray:
            return part.rest[..., [part.rest_names.index(name) for name in names]]

        gain, confidence = layer("gain.R", "gain.G", "gain.B"), layer("confidence.R")
        rows.append(
            [
                (to_display(read_plate(CLIP / f"{frame:04d}.exr").rgb), f"plate, frame {frame}"),
                (to_display(relit.rgb), "relit"),
                (to_display(GREY_CARD * np.exp2(gain)), "gain, on a grey card"),
                (np.repeat(confidence, 3, axis=-1), f"confidence, {confidence.min():.2f} to {confidence.max():.2f}"),
            ]
        )
    sheet = contact_sheet(rows, scratch / "aovs.png", cell_px=300)
    save(Image.open(sheet), path, quality=88)


if __name__ == "__main__":
    sys.exit(main())
