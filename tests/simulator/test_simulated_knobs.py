"""Knobs: values, expressions, animation, and what Nuke does not do for you."""

import pytest


@pytest.fixture
def nuke(nuke_session):
    nuke = nuke_session(paths=[])
    nuke.scriptReadText("""
Constant {
 inputs 0
 format "40 20 0 0 40 20 1 small"
 name Plate
}
Group {
 name G
 addUserKnob {20 User}
 addUserKnob {7 strength R 0 1}
 addUserKnob {6 bypass}
 addUserKnob {2 folder}
 addUserKnob {1 text}
}
 Input {
  inputs 0
  name Input1
 }
 Write {
  name W
 }
 Output {
  name Output1
 }
end_group
""")
    return nuke


@pytest.fixture
def inner(nuke):
    return nuke.toNode("G.W")


def test_a_range_bounds_the_slider_and_not_the_value(nuke):
    nuke.toNode("G")["strength"].setValue(7.5)
    assert nuke.toNode("G")["strength"].value() == 7.5


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("parent.strength * 4", 2.0),
        ("!parent.bypass", 0.0),
        ("parent.bypass || parent.strength <= 0", 1.0),
        ("parent.bypass && parent.strength == 0.5 ? 3 : 4", 3.0),
        ("frame - 1", 9.0),
        ("[exists parent.input1] + 2", 2.0),
        ("[exists parent.input0] + 2", 3.0),
        ("[string length [value parent.text]] > 0", 0.0),
        ("root.last_frame", 100.0),
        ("G.strength + 1", None),
        ("-2 * (1 - max(1, 3)) % 3", 1.0),
        ("clamp(5) + int(2.7)", 3.0),
    ],
)
def test_expressions_on_an_inner_knob(nuke, inner, expression, value):
    nuke.frame(10)
    nuke.toNode("G")["strength"].setValue(0.5)
    nuke.toNode("G")["bypass"].setValue(True)
    inner["render_order"].setExpression(expression)
    if value is None:  # a group's own name means nothing inside it
        with pytest.raises(RuntimeError, match=r'Nothing is named "G\.strength"'):
            inner["render_order"].value()
    else:
        assert inner["render_order"].value() == value


def test_a_text_is_evaluated_at_a_frame_and_view(nuke, inner):
    nuke.addView("right")
    nuke.toNode("G")["folder"].setValue("/out/%V/%v/a.####.exr")
    inner["file"].setValue("[value parent.folder]")
    assert inner["file"].value() == "[value parent.folder]"
    assert inner["file"].evaluate(12, "right") == "/out/right/r/a.0012.exr"
    assert inner["file"].evaluate(-3, "main") == "/out/main/m/a.-003.exr"


def test_native_tcl_works_in_texts(nuke, inner):
    nuke.toNode("G")["folder"].setValue("/a/b/look.onnx")
    inner["file"].setValue("[file rootname [file tail [value parent.folder]]].[format %02d [frame]].exr")
    assert inner["file"].evaluate(7) == "look.07.exr"


def test_an_unknown_tcl_command_is_tcls_error(nuke, inner):
    inner["file"].setValue("[no_such_command]")
    with pytest.raises(Exception, match="invalid command name"):
        inner["file"].evaluate()


def test_knobs_that_refer_to_one_another_are_refused(nuke, inner):
    inner["render_order"].setExpression("this.first")
    inner["first"].setExpression("this.render_order")
    with pytest.raises(RuntimeError, match="refers to itself"):
        inner["first"].value()


def test_width_is_of_what_comes_in(nuke):
    nuke.toNode("Plate").selectOnly()
    crop = nuke.createNode("Crop")
    assert crop["box"].value() == [0, 0, 40, 20]


def test_an_animated_knob_is_read_at_a_frame_and_gets_a_key_when_set(nuke):
    knob = nuke.toNode("G")["strength"]
    knob.fromScript("{curve x1 0 x11 1}")
    assert knob.getValueAt(6) == 0.5
    nuke.frame(11)
    assert knob.value() == 1.0
    knob.setValue(3)
    assert (knob.getNumKeys(), knob.getValueAt(1), knob.getValueAt(20)) == (2, 0.0, 3.0)


def test_smooth_curves_of_more_keys_are_read_at_their_keys_only(nuke):
    knob = nuke.toNode("G")["strength"]
    knob.fromScript("{curve x1 0 x11 1 x21 0}")
    assert knob.getValueAt(11) == 1.0
    with pytest.raises(NotImplementedError, match="smooth"):
        knob.getValueAt(6)


def test_an_expression_with_spaces_needs_quotes(nuke):
    with pytest.raises(NotImplementedError, match="quotes"):
        nuke.toNode("G")["strength"].fromScript("{frame - 1}")


def test_a_knob_that_is_not_there_is_none_or_a_name_error(nuke):
    assert nuke.toNode("G").knob("nothing") is None
    with pytest.raises(NameError, match="knob nothing does not exist"):
        nuke.toNode("G")["nothing"]


def test_wrong_kinds_of_values_are_refused(nuke):
    group = nuke.toNode("G")
    with pytest.raises(TypeError):
        group["strength"].setValue("much")
    with pytest.raises(TypeError):
        group["text"].setValue(3)
    with pytest.raises(TypeError):
        nuke.toNode("G.W")["channels"].node()["frame_mode"].setValue("no such mode")


def test_from_user_text_takes_the_range_of_a_read(nuke):
    read = nuke.createNode("Read")
    read["file"].fromUserText("/plates/a.%04d.exr 1001-1010")
    assert (read["file"].value(), read["first"].value(), read["origlast"].value()) == (
        "/plates/a.%04d.exr",
        1001,
        1010,
    )


def test_setting_a_reads_file_leaves_its_range(nuke):
    read = nuke.createNode("Read")
    read["file"].setValue("/plates/a.%04d.exr")
    assert (read["first"].value(), read["last"].value()) == (1, 1)


def test_write_knobs_gives_lines_whose_order_means_nothing(nuke_session):
    def lines(**quirks):
        nuke = nuke_session(paths=[], quirks=quirks)
        node = nuke.createNode("Grade")
        node["multiply"].setValue(2)
        node["gamma"].setValue(3)
        return node.writeKnobs(nuke.TO_SCRIPT | nuke.WRITE_NON_DEFAULT_ONLY).split("\n")

    assert lines() == ["multiply {2 2 2 2}", "gamma {3 3 3 3}", "name Grade1"]
    shuffled = [lines(shuffled_write_knobs=True) for _ in range(20)]
    assert len({tuple(one) for one in shuffled}) > 1
    assert all(sorted(one) == sorted(lines()) for one in shuffled)


def test_dependencies_are_inputs_and_what_expressions_name(nuke, inner):
    nuke.toNode("Plate").selectOnly()
    grade = nuke.createNode("Grade")
    grade["multiply"].setExpression("G.strength")
    assert grade.dependencies(nuke.INPUTS) == [nuke.toNode("Plate")]
    assert grade.dependencies(nuke.EXPRESSIONS) == [nuke.toNode("G")]


def test_reload_makes_a_read_another_one(nuke):
    read = nuke.createNode("Read")
    read["reload"].execute()
    assert "version 1" in read.writeKnobs(nuke.TO_SCRIPT | nuke.WRITE_NON_DEFAULT_ONLY)


def test_a_deleted_node_can_no_longer_be_used(nuke):
    plate = nuke.toNode("Plate")
    nuke.delete(plate)
    with pytest.raises(ValueError, match="not attached to a node"):
        plate.name()
