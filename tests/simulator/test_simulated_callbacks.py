"""Callbacks: who is called, in which order, in which context (Python Developer's Guide, "Callbacks")."""

import pytest

NOTED = "import nuke; nuke.noted.append(('{}', nuke.thisNode().fullName()))"


@pytest.fixture
def start(nuke_session):
    """Starts a Nuke whose callbacks can write into the list `nuke.noted`."""

    def start(**wanted):
        nuke = nuke_session(paths=[], **wanted)
        nuke.noted = []
        return nuke

    return start


@pytest.fixture
def note():
    """A function to register that notes its event and nuke.thisNode()."""

    def note(nuke, event):
        nuke.noted.append((event, nuke.thisNode().fullName()))

    return note


def test_functions_for_the_class_come_before_those_for_all_each_in_the_order_added(start):
    nuke = start()
    for name, cls in [("all 1", "*"), ("class 1", "NoOp"), ("all 2", "*"), ("class 2", "NoOp"), ("other", "Blur")]:
        nuke.addOnCreate(nuke.noted.append, name, nodeClass=cls)
    nuke.createNode("NoOp")
    assert nuke.noted == ["class 1", "class 2", "all 1", "all 2"]


def test_a_knobs_own_code_comes_before_the_added_functions(start, note):
    nuke = start()
    nuke.addOnCreate(note, (nuke, "added"))
    nuke.scriptReadText(f'NoOp {{\n inputs 0\n onCreate "{NOTED.format("knob")}"\n name A\n}}\n')
    assert nuke.noted == [("knob", "A"), ("added", "A")]


def test_the_same_function_added_twice_is_called_once_and_last(start):
    nuke = start()
    for name in ("first", "second", "first"):
        nuke.addOnCreate(nuke.noted.append, name)
    nuke.createNode("NoOp")
    assert nuke.noted == ["second", "first"]


def test_a_removed_function_is_not_called(start):
    nuke = start()
    nuke.addOnCreate(nuke.noted.append, "x")
    nuke.removeOnCreate(nuke.noted.append, "x")
    nuke.removeOnCreate(nuke.noted.append, "never added")
    nuke.createNode("NoOp")
    assert nuke.noted == []


def test_the_user_creating_a_node_runs_on_user_create_before_on_create(start):
    nuke = start()
    nuke.addOnCreate(nuke.noted.append, "created")
    nuke.addOnUserCreate(nuke.noted.append, "by the user")
    nuke.createNode("NoOp")
    nuke.nodes.NoOp()
    nuke.scriptReadText("NoOp {\n inputs 0\n}\n")
    assert nuke.noted == ["by the user", "created", "created", "created"]


def test_what_is_inside_a_group_is_created_before_the_group(start, note):
    nuke = start()
    nuke.addOnCreate(note, (nuke, "created"))
    nuke.scriptReadText("Group {\n inputs 0\n name G\n}\n Input {\n  inputs 0\n  name I\n }\nend_group\n")
    assert [name for _, name in nuke.noted] == ["G.I", "G"]


def test_a_script_loads_its_nodes_then_the_root_then_on_script_load(start, note, tmp_path):
    nuke = start()
    (tmp_path / "a.nk").write_text("Root {\n inputs 0\n}\nNoOp {\n inputs 0\n name A\n}\n")
    nuke.addOnCreate(note, (nuke, "created"))
    nuke.addOnScriptLoad(note, (nuke, "loaded"))
    nuke.scriptOpen(str(tmp_path / "a.nk"))
    assert nuke.noted == [("created", "A"), ("created", "root"), ("loaded", "root")]


def test_a_group_is_destroyed_before_what_is_inside(start, note):
    nuke = start()
    nuke.scriptReadText("Group {\n inputs 0\n name G\n}\n Input {\n  inputs 0\n  name I\n }\nend_group\n")
    nuke.addOnDestroy(note, (nuke, "destroyed"))
    nuke.delete(nuke.toNode("G"))
    assert [name for _, name in nuke.noted] == ["G", "G.I"]


def test_on_script_save_may_change_the_name(start, tmp_path):
    nuke = start()
    nuke.addOnScriptSave(lambda: nuke.root()["name"].setValue(str(tmp_path / "b.nk")))
    nuke.scriptSaveAs(str(tmp_path / "a.nk"))
    assert [path.name for path in tmp_path.iterdir()] == ["b.nk"]


def changes(nuke):
    """Notes the knobs that knobChanged is called for."""
    nuke.addKnobChanged(lambda: nuke.noted.append(nuke.thisKnob().name()), nodeClass="Grade")


def test_knob_changed_is_called_only_while_the_panel_is_open(start):
    nuke = start(gui=True)
    changes(nuke)
    node = nuke.createNode("Grade", inpanel=False)
    node["mix"].setValue(0.5)
    assert nuke.noted == []
    node.showControlPanel()
    node["mix"].setValue(0.25)
    node["mix"].setValue(0.25)
    node.setInput(0, nuke.nodes.NoOp())
    node.hideControlPanel()
    node["mix"].setValue(1)
    assert nuke.noted == ["showPanel", "mix", "inputChange"]


def test_knob_changed_may_run_with_the_panel_closed_in_newer_nukes(start):
    nuke = start(gui=True, quirks={"knob_changed_when_closed": True})
    node = nuke.createNode("Grade", inpanel=False)
    changes(nuke)
    node["mix"].setValue(0.5)
    assert nuke.noted == ["mix"]


def test_there_is_no_knob_changed_without_a_window(start):
    nuke = start()
    changes(nuke)
    node = nuke.createNode("Grade")
    node.showControlPanel()
    node["mix"].setValue(0.5)
    assert nuke.noted == []


def test_knob_changed_is_not_called_within_knob_changed(start):
    nuke = start(gui=True)
    node = nuke.createNode("Grade")

    def follow():
        nuke.noted.append(nuke.thisKnob().name())
        node["gamma"].setValue(2)

    nuke.addKnobChanged(follow, nodeClass="Grade")
    node["mix"].setValue(0.5)
    assert nuke.noted == ["mix"]


def test_a_button_has_its_node_as_context(start):
    nuke = start()
    node = nuke.createNode("NoOp")
    button = nuke.PyScript_Knob("go", "Go", NOTED.format("pressed"))
    node.addKnob(button)
    button.execute()
    assert nuke.noted == [("pressed", "NoOp1")]
    assert nuke.thisNode() is nuke.root()


def test_an_inner_node_has_its_group_as_context(start):
    nuke = start()
    nuke.addOnCreate(lambda: nuke.noted.append((nuke.thisNode().name(), nuke.thisGroup().name())), nodeClass="Input")
    nuke.scriptReadText("Group {\n inputs 0\n name G\n}\n Input {\n  inputs 0\n  name I\n }\nend_group\n")
    assert nuke.noted == [("I", "G")]


def test_a_begin_without_end_in_a_callback_is_found(start):
    nuke = start()
    nuke.scriptReadText("Group {\n inputs 0\n name G\n}\nend_group\n")
    nuke.addOnCreate(lambda: nuke.toNode("G").begin(), nodeClass="NoOp")
    with pytest.raises(RuntimeError, match=r"begin\(\) without its end\(\)"):
        nuke.createNode("NoOp")
    assert nuke.thisGroup() is nuke.root()


def test_entering_a_group_in_on_create_while_a_script_loads_is_refused(start, tmp_path):
    nuke = start()
    (tmp_path / "a.nk").write_text("Group {\n inputs 0\n name G\n}\nend_group\n")

    def enter():
        with nuke.thisNode():
            pass

    nuke.addOnCreate(enter, nodeClass="Group")
    with pytest.raises(RuntimeError, match="onCreate"):
        nuke.scriptOpen(str(tmp_path / "a.nk"))


def test_the_label_is_the_knobs_own_else_the_last_functions_else_the_name(start):
    from_idle = start(gui=True)
    from nuke_simulator import control

    from_idle.scriptReadText(
        "NoOp {\n inputs 0\n autolabel \"nuke.thisNode().name() + '!'\"\n name A\n}\nNoOp {\n inputs 0\n name B\n}\n"
        "NoOp {\n inputs 0\n autolabel None\n name C\n}\nDot {\n inputs 0\n name D\n}\n"
    )
    from_idle.addAutolabel(lambda: "first added", nodeClass="NoOp")
    from_idle.addAutolabel(lambda: "last added", nodeClass="NoOp")
    from_idle.addAutolabel(lambda: None, nodeClass="NoOp")
    assert control.idle() == {"A": "A!", "B": "last added", "C": "last added", "D": "D"}


def test_update_ui_runs_before_the_label(start, note):
    nuke = start(gui=True)
    from nuke_simulator import control

    nuke.createNode("NoOp")
    nuke.addUpdateUI(note, (nuke, "update"), nodeClass="NoOp")
    nuke.addAutolabel(note, (nuke, "label"), nodeClass="NoOp")
    control.idle()
    assert [event for event, _ in nuke.noted] == ["update", "label"]


def test_file_names_pass_through_the_filters_the_last_added_first(start):
    nuke = start()
    read = nuke.createNode("Read")
    read["file"].setValue("/plates/a.%04d.exr")
    nuke.addFilenameFilter(lambda name: name + ".first")
    nuke.addFilenameFilter(lambda name: name + ".last")
    nuke.addFilenameFilter(lambda name: None)
    nuke.frame(7)
    assert nuke.filename(read) == "/plates/a.%04d.exr"
    assert nuke.filename(read, nuke.REPLACE) == "/plates/a.0007.exr.last.first"


def test_hidden_knobs_saved_in_a_script_override_the_gizmos(start, tmp_path):
    (tmp_path / "Tool.gizmo").write_text(f'Gizmo {{\n onCreate "{NOTED.format("gizmo")}"\n}}\nend_group\n')
    nuke = start()
    nuke.pluginAddPath(tmp_path.as_posix())
    nuke.scriptReadText(f'Tool {{\n inputs 0\n onCreate "{NOTED.format("script")}"\n}}\nTool {{\n inputs 0\n}}\n')
    assert [event for event, _ in nuke.noted] == ["script", "gizmo"]
