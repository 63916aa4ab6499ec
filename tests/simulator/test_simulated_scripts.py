"""Scripts and gizmos: Tcl in, the same graph out again."""

import re

import pytest

SHOT = r"""
version 16.0 v4
Root {
 inputs 0
 first_frame 1001
 last_frame 1010
 format "64 32 0 0 64 32 1 small"
 views "left #ff0000
right #00ff00"
}
Read {
 inputs 0
 file /plates/a.%04d.exr
 first 1001
 last 1010
 name Plate
}
set N1 [stack 0]
Constant {
 inputs 0
 name Mask
}
push $N1
Group {
 inputs 2
 name Look
 addUserKnob {20 User l "The Look"}
 addUserKnob {7 strength l Strength t "from \[0] to \$1" R 0 2}
 strength 0.5
 addUserKnob {4 device l Device M {auto cpu "cuda 0"}}
 device "cuda 0"
 addUserKnob {1 note +INVISIBLE +DO_NOT_WRITE}
 addUserKnob {41 blend l Blend T Mixer.mix}
}
 Input {
  inputs 0
  name Source
 }
set N2 [stack 0]
 Input {
  inputs 0
  name Mask
  number 1
 }
push $N2
 Merge2 {
  inputs 2
  operation copy
  mix {{"parent.strength * 2"}}
  name Mixer
 }
 Output {
  name Output1
 }
end_group
Grade {
 multiply {{curve x1001 0 x1011 1} 1 {Look.strength} 1}
 name Grade1
}
Viewer {
 name Viewer1
}
"""
GIZMO = r"""
Gizmo {
 addUserKnob {20 User}
 addUserKnob {7 strength R 0 2}
 strength 0.25
 addUserKnob {41 inner_mix T Inside.mix}
}
 Input {
  inputs 0
  name Input1
 }
 Keymix {
  inputs 3
  mix 0.75
  name Inside
 }
 Output {
  name Output1
 }
end_group
"""


@pytest.fixture
def shot(nuke_session, tmp_path):
    nuke = nuke_session(paths=[])
    (tmp_path / "shot.nk").write_text(SHOT)
    nuke.scriptOpen(str(tmp_path / "shot.nk"))
    return nuke


@pytest.fixture
def gizmo(nuke_session, tmp_path):
    """A Nuke that knows the class Gain; its file is <tmp>/gizmos/Gain.gizmo."""
    folder = tmp_path / "gizmos"
    folder.mkdir()
    (folder / "Gain.gizmo").write_text(GIZMO)
    return nuke_session(paths=[folder])


def reopened(nuke, path):
    nuke.scriptSaveAs(str(path), 1)
    nuke.scriptOpen(str(path))
    return path.read_text()


def test_the_stack_connects_nodes(shot):
    assert shot.toNode("Look").input(0) is shot.toNode("Plate")
    assert shot.toNode("Look").input(1) is shot.toNode("Mask")
    assert shot.toNode("Look.Mixer").input(0) is shot.toNode("Look").node("Source")
    assert shot.toNode("Look.Mixer").input(1) is shot.toNode("Look").node("Mask")
    assert shot.toNode("Grade1").input(0) is shot.toNode("Look")


def test_the_root_takes_its_settings(shot):
    root = shot.root()
    assert (root.firstFrame(), root.lastFrame(), root.format().width(), shot.views()) == (
        1001,
        1010,
        64,
        ["left", "right"],
    )


def test_user_knobs_have_labels_tooltips_items_ranges_and_flags(shot):
    look = shot.toNode("Look")
    assert look["User"].label() == "The Look"
    assert look["strength"].tooltip() == "from [0] to $1"
    assert (look["strength"].value(), look["strength"].max()) == (0.5, 2.0)
    assert (look["device"].value(), look["device"].getValue()) == ("cuda 0", 2.0)
    assert look["note"].getFlag(shot.INVISIBLE)


def test_a_link_knob_is_the_knob_it_points_at(shot):
    look = shot.toNode("Look")
    look["blend"].getLinkedKnob().clearAnimated()
    look["blend"].setValue(0.125)
    assert look.node("Mixer")["mix"].value() == 0.125


def test_a_saved_script_loads_as_the_same_graph(shot, tmp_path):
    shot.toNode("Look")["strength"].setValue(0.75)
    first = reopened(shot, tmp_path / "again.nk")
    second = reopened(shot, tmp_path / "again.nk")
    unnamed = [re.sub(r"N[0-9a-f]{6,}", "N", text) for text in (first, second)]
    assert unnamed[0] == unnamed[1]
    assert shot.toNode("Look.Mixer")["mix"].value() == 1.5
    assert shot.toNode("Grade1").input(0).input(0).name() == "Plate"


def test_defaults_and_do_not_write_knobs_are_not_saved(shot, tmp_path):
    shot.toNode("Look")["note"].setValue("only now")
    text = reopened(shot, tmp_path / "again.nk")
    assert "only now" not in text
    assert "invert_mask" not in text


def test_a_group_saves_what_is_inside(shot, tmp_path):
    shot.toNode("Look.Mixer")["operation"].setValue("plus")
    reopened(shot, tmp_path / "again.nk")
    assert shot.toNode("Look.Mixer")["operation"].value() == "plus"


def test_a_gizmo_saves_its_knobs_and_loses_changes_inside(gizmo, tmp_path):
    node = gizmo.createNode("Gain")
    node["strength"].setValue(1.5)
    node.node("Inside")["bbox"].setValue("A")
    text = reopened(gizmo, tmp_path / "shot.nk")
    assert "addUserKnob" not in text
    assert gizmo.toNode("Gain1")["strength"].value() == 1.5
    assert gizmo.toNode("Gain1.Inside")["bbox"].value() == "union"


def test_a_value_set_through_a_gizmos_link_knob_is_saved(gizmo, tmp_path):
    gizmo.createNode("Gain")["inner_mix"].setValue(0.5)
    reopened(gizmo, tmp_path / "shot.nk")
    assert gizmo.toNode("Gain1.Inside")["mix"].value() == 0.5


def test_a_gizmos_own_values_are_its_defaults(gizmo, tmp_path):
    gizmo.createNode("Gain")["strength"].setValue(0.25)
    assert "strength" not in reopened(gizmo, tmp_path / "shot.nk")


def test_a_gizmo_made_a_group_needs_no_gizmo_file(gizmo, tmp_path):
    node = gizmo.createNode("Gain")
    node["strength"].setValue(1.5)
    group = node.makeGroup()
    gizmo.delete(node)
    (tmp_path / "gizmos" / "Gain.gizmo").unlink()
    reopened(gizmo, tmp_path / "shot.nk")
    again = gizmo.toNode(group.name())
    assert (again.Class(), again["strength"].value()) == ("Group", 1.5)
    assert again.node("Inside")["mix"].value() == 0.75


def test_a_missing_gizmo_fails_the_script_and_names_the_class(gizmo, tmp_path):
    gizmo.createNode("Gain")
    gizmo.scriptSaveAs(str(tmp_path / "shot.nk"), 1)
    (tmp_path / "gizmos" / "Gain.gizmo").unlink()
    with pytest.raises(RuntimeError, match=r"shot\.nk:\d+: Gain: Unknown command"):
        gizmo.scriptOpen(str(tmp_path / "shot.nk"))


def test_creating_an_unknown_class_fails(gizmo):
    with pytest.raises(RuntimeError, match="NoSuchNode: Unknown command"):
        gizmo.createNode("NoSuchNode")


def test_a_knob_a_newer_gizmo_lacks_is_a_warning(gizmo):
    from nuke_simulator import control

    gizmo.scriptReadText("Gain {\n inputs 0\n gone 3\n strength 1\n}\n")
    assert control.warnings() == ["Gain1.gone: no such knob"]
    assert gizmo.toNode("Gain1")["strength"].value() == 1.0


def test_a_misspelt_knob_of_a_native_node_is_refused(gizmo):
    with pytest.raises(RuntimeError, match=r"Grade1\.multiplly: no such knob"):
        gizmo.scriptReadText("Grade {\n multiplly 3\n}\n")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('label "see [docs]"', "docs"),
        ('label "costs $5"', "5"),
        ("label {open", "missing close-brace"),
    ],
)
def test_what_tcl_would_run_or_miss_in_a_node_is_an_error(gizmo, body, why):
    with pytest.raises(RuntimeError, match=re.escape(why)):
        gizmo.scriptReadText(f"NoOp {{\n {body}\n}}\n")


def test_a_group_without_end_group_is_refused(gizmo):
    with pytest.raises(RuntimeError, match="end_group"):
        gizmo.scriptReadText("Group {\n name G\n}\nNoOp {\n}\n")


def test_knobs_only_exr_has_are_there_once_the_write_is_an_exr(gizmo):
    write = gizmo.createNode("Write")
    assert write.knob("compression") is None
    write["file_type"].setValue("exr")
    write["compression"].setValue("none")
    with pytest.raises(RuntimeError, match=r"Write2\.datatype: no such knob"):
        gizmo.scriptReadText('Write {\n inputs 0\n datatype "32 bit float"\n file_type exr\n}\n')


def test_copied_nodes_are_pasted_with_new_names_and_their_connections(shot, tmp_path):
    shot.selectAll()
    shot.nodeCopy(str(tmp_path / "copy.nk"))
    shot.nodePaste(str(tmp_path / "copy.nk"))
    names = [node.name() for node in shot.allNodes("Grade")]
    assert names == ["Grade1", "Grade2"]
    assert shot.toNode("Grade2").input(0).name() == "Look1"
    assert shot.toNode("Look1").input(0).name() == "Plate1"


def test_pasted_nodes_are_the_selected_ones(shot, tmp_path):
    shot.toNode("Mask").selectOnly()
    shot.nodeCopy(str(tmp_path / "copy.nk"))
    shot.nodePaste(str(tmp_path / "copy.nk"))
    assert [node.name() for node in shot.selectedNodes()] == ["Mask1"]


def test_clones_and_unknown_user_knobs_are_said_not_to_be_simulated(gizmo):
    with pytest.raises(NotImplementedError, match="clones"):
        gizmo.scriptReadText("clone $N1 {\n}\n".replace("$N1", "N1"))
    with pytest.raises(NotImplementedError, match="type 24"):
        gizmo.scriptReadText("NoOp {\n inputs 0\n addUserKnob {24 move}\n}\n")
