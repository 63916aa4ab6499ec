"""Whole scripts through the simulator: read as Tcl, pulled, written as EXR."""

import ast
from pathlib import Path

import numpy as np
import pytest
import tiny_plates

PLATE = """
Root {
 inputs 0
 first_frame 1001
 last_frame 1003
 format "8 6 0 0 8 6 1 tiny"
}
Read {
 inputs 0
 file "%(folder)s/plate.%%04d.exr"
 first 1001
 last 1003
 raw true
 name Plate
}
"""
WRITE = """
Write {
 file "%(folder)s/out/%%V.%%04d.exr"
 file_type exr
 channels all
 datatype "32 bit float"
 create_directories true
 raw true
 name Write1
}
"""


@pytest.fixture
def comp(sim, tmp_path):
    """Runs the nodes given between a plate of three frames, whose red is the frame, and a Write."""
    from nuke_simulator import script, session

    folder = tmp_path / "shot é 1"
    for frame in (1001, 1002, 1003):
        rgb = np.full((6, 8, 3), frame, np.float32)
        tiny_plates.write_exr(folder / f"plate.{frame}.exr", tiny_plates.rgb_channels(rgb), "float")

    class Comp:
        def load(self, nodes="", plate=PLATE):
            path = folder / "comp.nk"
            path.write_text((plate + nodes + WRITE).replace("%(folder)s", folder.as_posix()).replace("%%", "%"))
            self.session = session.start()
            script.open_script(self.session, path)
            return self

        def node(self, name):
            return self.session.root.node(name)

        def write(self, frame=1001, view="main"):
            return sim.ops.write_frame(self.node("Write1"), frame, view, self.session)

        def red(self, frame=1001, view="main"):
            return float(tiny_plates.read_exr(self.write(frame, view))["R"][0, 0])

    one = Comp()
    one.folder = folder
    yield one
    session.stop()


def test_a_plate_goes_through_a_comp_into_the_writes_file(comp):
    loaded = comp.load("Grade {\n multiply 2\n name Grade1\n}\n")
    assert loaded.write(1002) == f"{comp.folder.as_posix()}/out/main.1002.exr"
    assert loaded.red(1002) == 2004


def test_expressions_and_animation_are_asked_at_the_frame_that_is_pulled(comp):
    loaded = comp.load(
        "Add {\n value {{curve L x1001 0 x1003 10}}\n name Add1\n}\n"
        "TimeOffset {\n time_offset -1\n name TimeOffset1\n}\n"
        "Add {\n value {{frame}}\n name Add2\n}\n"
    )
    # At 1001 the offset asks for 1002: plate 1002, the first Add 5; the second Add is at 1001.
    assert loaded.red(1001) == 1002 + 5 + 1001


def test_frames_outside_the_reads_range_hold_and_the_range_is_known(comp):
    loaded = comp.load()
    assert loaded.red(900) == 1001
    assert (loaded.node("Write1").firstFrame(), loaded.node("Write1").lastFrame()) == (1001, 1003)


def test_a_missing_frame_stops_only_who_pulls_it(sim, comp):
    loaded = comp.load('Switch {\n which {{"frame == 1002"}}\n name Switch1\n}\n')
    (comp.folder / "plate.1002.exr").unlink()
    assert loaded.red(1001) == 1001
    switch = loaded.node("Switch1")
    assert switch.setInput(1, loaded.node("Plate"))
    with pytest.raises(sim.ops.NodeError, match=r"^Plate: .*/plate\.1002\.exr: Read error: No such file or directory$"):
        loaded.write(1002)


def test_an_assert_in_a_group_names_the_group_and_pulls_nothing_behind_it(sim, comp):
    group = (
        "Group {\n name Checked\n addUserKnob {20 User}\n addUserKnob {1 path}\n}\n"
        " Input {\n  inputs 0\n  name Source\n }\n"
        ' Assert {\n  expression {{"\\[string length \\[value parent.path]] > 0"}}\n'
        '  message "No path yet."\n  name Check\n }\n'
        " Output {\n  name Output1\n }\nend_group\n"
    )
    loaded = comp.load(group)
    with pytest.raises(sim.ops.NodeError, match=r"^Checked\.Check: No path yet\.$"):
        loaded.write()
    loaded.node("Checked")["path"].setValue("/somewhere")
    assert loaded.red() == 1001
    loaded.node("Checked")["path"].setValue("")
    loaded.node("Checked")["disable"].setValue(True)
    assert loaded.red() == 1001


def test_the_reload_button_shows_an_overwritten_plate(
    comp,
):
    loaded = comp.load()
    assert loaded.red() == 1001
    tiny_plates.write_exr(
        comp.folder / "plate.1001.exr", tiny_plates.rgb_channels(np.full((6, 8, 3), 7, np.float32)), "float"
    )
    assert loaded.red() == 1001
    loaded.node("Plate")["reload"].execute()
    assert loaded.red() == 7


def test_proxy_mode_writes_small_pictures_and_off_writes_full_ones(
    comp,
):
    loaded = comp.load("Crop {\n box {0 0 8 6}\n crop false\n name Crop1\n}\n")
    root = loaded.session.root
    root["proxy_type"].setValue("scale")
    root["proxy_scale"].setValue(0.5)
    root.setProxy(True)
    assert tiny_plates.read_exr(loaded.write())["R"].shape == (3, 4)
    root.setProxy(False)
    assert tiny_plates.read_exr(loaded.write())["R"].shape == (6, 8)


def test_rendering_two_views_into_one_file_is_refused_and_into_two_is_not(comp):
    loaded = comp.load()
    session = loaded.session
    session.add_view("right")
    write = loaded.node("Write1")
    session.render.execute(write, (1001, 1001, 1), None, False)
    assert sorted(path.name for path in (comp.folder / "out").iterdir()) == ["main.1001.exr", "right.1001.exr"]
    write["file"].setValue((comp.folder / "one.%04d.exr").as_posix())
    with pytest.raises(NotImplementedError, match="several views in one file"):
        session.render.execute(write, (1001, 1001, 1), None, False)


def test_every_operator_is_of_a_known_class_and_asks_for_knobs_that_exist(sim):
    from nuke_simulator import classes

    assert set(sim.ops.OPS) <= set(classes.CLASSES)
    folder = Path(sim.ops.__file__).parent
    asked = set()
    for path in sorted(folder.glob("op*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("value", "number", "numbers", "whole", "flag")
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                asked.add(node.args[0].value)
    known = {name for kind in classes.CLASSES for name in classes.make_knobs(kind)}
    assert {"crop", "which", "mix"} <= asked
    assert asked <= known
