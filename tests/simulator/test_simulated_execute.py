"""nuke.execute: what is rendered, in which order callbacks run, and what stops a render."""

import pytest

COMP = """
Constant {{
 inputs 0
 channels rgba
 color {{0.5 0.25 2 1}}
 format "16 9 0 0 16 9 1 tiny"
 name Plate
}}
Write {{
 file {folder}/%V/a.%04d.exr
 file_type exr
 datatype "32 bit float"
 channels rgba
 raw true
 create_directories true
 name Write1
}}
"""
BROKEN = """
Read {{
 inputs 0
 file {folder}/missing.%04d.exr
 last 10
 raw true
}}
Write {{
 file {folder}/out.%04d.exr
 file_type exr
 raw true
 name Broken
}}
"""
GROUP = """
Group {{
 inputs 0
 name G
}}
 Constant {{
  inputs 0
  format "16 9 0 0 16 9 1 tiny"
 }}
 Write {{
  file {folder}/inner.%04d.exr
  file_type exr
  raw true
  name Inner
 }}
 Output {{
  name Output1
 }}
end_group
"""
EVENTS = ("BeforeRender", "BeforeFrameRender", "AfterFrameRender", "AfterRender")


@pytest.fixture
def comp(nuke_session, tmp_path):
    """A Nuke with one Write in it; comp(text, **wanted) adds nodes."""

    def comp(more="", **wanted):
        nuke = nuke_session(paths=[], **wanted)
        nuke.scriptReadText((COMP + more).format(folder=tmp_path.as_posix()))
        return nuke

    return comp


@pytest.fixture
def written(tmp_path):
    """The files there are, below the test's folder."""
    return lambda: sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.exr"))


def noted(nuke):
    """The events of a render as (event, frame, node, group), in order."""
    events = []
    for event in EVENTS:

        def note(event=event):
            events.append((event, nuke.frame(), nuke.thisNode().name(), nuke.thisGroup().name()))

        getattr(nuke, f"add{event}")(note)
    return events


def test_a_write_is_executed_frame_by_frame(comp, written):
    comp().execute("Write1", 3, 5)
    assert written() == ["main/a.0003.exr", "main/a.0004.exr", "main/a.0005.exr"]


def test_a_step_and_several_ranges_are_followed(comp, written):
    nuke = comp()
    nuke.execute("Write1", 1, 5, 2)
    nuke.execute(nuke.toNode("Write1"), nuke.FrameRanges([nuke.FrameRange("10-11"), nuke.FrameRange(20, 24, 4)]))
    nuke.executeMultiple([nuke.toNode("Write1")], ((30, 31, 1),))
    assert [int(name[-8:-4]) for name in written()] == [1, 3, 5, 10, 11, 20, 24, 30, 31]


def test_every_view_is_executed_or_those_asked_for(comp, written):
    nuke = comp()
    nuke.addView("right")
    nuke.execute("Write1", 1, 1)
    nuke.execute("Write1", 2, 2, 1, ["right"])
    assert written() == ["main/a.0001.exr", "right/a.0001.exr", "right/a.0002.exr"]
    with pytest.raises(RuntimeError, match="no view 'middle'"):
        nuke.execute("Write1", 2, 2, views=["middle"])


def test_callbacks_run_in_order_at_the_frame_with_the_write_as_context(comp):
    nuke = comp()
    events = noted(nuke)
    nuke.frame(50)
    nuke.execute("Write1", 1, 2)
    assert [(event, frame) for event, frame, *_ in events] == [
        ("BeforeRender", 1),
        ("BeforeFrameRender", 1),
        ("AfterFrameRender", 1),
        ("BeforeFrameRender", 2),
        ("AfterFrameRender", 2),
        ("AfterRender", 2),
    ]
    assert {event[2:] for event in events} == {("Write1", "Root")}
    assert nuke.frame() == 50


def test_an_inner_write_calls_them_with_its_group(comp):
    nuke = comp(GROUP)
    events = noted(nuke)
    nuke.execute("G.Inner", 1, 1)
    assert {event[2:] for event in events} == {("Inner", "G")}


@pytest.mark.parametrize("event", ["BeforeRender", "BeforeFrameRender"])
def test_an_exception_before_a_frame_aborts_the_render(comp, written, event):
    nuke = comp()
    events = noted(nuke)

    def refuse():
        raise RuntimeError("not baked")

    getattr(nuke, f"add{event}")(refuse)
    with pytest.raises(RuntimeError, match="not baked"):
        nuke.execute("Write1", 1, 2)
    assert written() == []
    assert "AfterFrameRender" not in [event for event, *_ in events]
    assert not nuke.executing()


def test_an_exception_after_a_frame_aborts_the_render(comp, written):
    nuke = comp()
    nuke.addAfterFrameRender(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        nuke.execute("Write1", 1, 2)
    assert written() == ["main/a.0001.exr"]


def test_a_frame_that_fails_aborts_and_names_the_node(comp):
    nuke = comp(BROKEN)
    events = noted(nuke)
    with pytest.raises(RuntimeError, match="Read1"):
        nuke.execute("Broken", 1, 2)
    assert [event for event, *_ in events] == ["BeforeRender", "BeforeFrameRender"]


def test_after_render_may_run_after_an_abort(comp):
    nuke = comp(BROKEN, quirks={"after_render_after_abort": True})
    events = noted(nuke)
    with pytest.raises(RuntimeError, match="Read1"):
        nuke.execute("Broken", 1, 2)
    assert [event for event, *_ in events][-1] == "AfterRender"


def test_continue_on_error_goes_on_and_prints_what_failed(comp, capsys):
    nuke = comp(BROKEN)
    events = noted(nuke)
    nuke.execute("Broken", 1, 2, continueOnError=True)
    assert [event for event, *_ in events].count("BeforeFrameRender") == 2
    assert capsys.readouterr().err.count("ERROR: ") == 2


def test_continue_on_error_may_raise_at_the_end(comp):
    nuke = comp(BROKEN, quirks={"continue_on_error_raises": True})
    events = noted(nuke)
    with pytest.raises(RuntimeError, match="Read1"):
        nuke.execute("Broken", 1, 2, continueOnError=True)
    assert [event for event, *_ in events].count("BeforeFrameRender") == 2


def test_a_nested_execute_is_refused_in_before_render(comp):
    nuke = comp(GROUP)
    nuke.addBeforeRender(lambda: nuke.execute("G.Inner", 1, 1))
    with pytest.raises(RuntimeError, match="I'm already executing something else"):
        nuke.execute("Write1", 1, 1)


def test_some_say_a_nested_execute_in_before_render_works(comp, written):
    nuke = comp(GROUP, quirks={"nested_execute_in_before_render": "allow"})

    def bake():
        if nuke.thisNode().name() == "Write1":
            nuke.execute("G.Inner", 1, 1)

    nuke.addBeforeRender(bake)
    nuke.execute("Write1", 1, 1)
    assert written() == ["inner.0001.exr", "main/a.0001.exr"]


def test_some_say_knobs_can_not_be_set_in_before_render(comp, written):
    nuke = comp(quirks={"edits_in_render_callbacks": "raise"})
    write = nuke.toNode("Write1")
    first = write["first"].value()
    nuke.addBeforeRender(lambda: write["first"].setValue(first + 7))
    with pytest.raises(RuntimeError, match="I'm already executing something else"):
        nuke.execute("Write1", 1, 1)
    assert write["first"].value() == first
    assert written() == []
    write["first"].setValue(first + 7)
    assert write["first"].value() == first + 7


def test_execute_in_knob_changed_is_refused(comp):
    nuke = comp(gui=True)
    node = nuke.createNode("NoOp")
    nuke.addKnobChanged(lambda: nuke.execute("Write1", 1, 1), nodeClass="NoOp")
    with pytest.raises(RuntimeError, match="I'm already executing something else"):
        node["label"].setValue("x")


def test_execute_from_a_button_works(comp, written):
    nuke = comp(gui=True)
    button = nuke.PyScript_Knob("go", "Go", "nuke.execute('Write1', 1, 1)")
    nuke.createNode("NoOp").addKnob(button)
    button.execute()
    assert written() == ["main/a.0001.exr"]


def test_executing_a_group_executes_the_enabled_writes_inside(comp, written):
    nuke = comp(GROUP)
    nuke.execute("G", 1, 1)
    assert written() == ["inner.0001.exr"]
    nuke.toNode("G.Inner")["disable"].setValue(True)
    with pytest.raises(RuntimeError, match="no active Write"):
        nuke.execute("G", 2, 2)


def test_executing_everything_enters_groups_or_not(comp, written):
    comp(GROUP).executeMultiple([], ((1, 1, 1),))
    assert written() == ["inner.0001.exr", "main/a.0001.exr"]
    comp(GROUP, quirks={"execute_enters_gizmos": False}).executeMultiple([], ((2, 2, 1),))
    assert written() == ["inner.0001.exr", "main/a.0001.exr", "main/a.0002.exr"]


def test_disabled_writes_are_skipped(comp, written):
    nuke = comp(GROUP)
    nuke.toNode("Write1")["disable"].setValue(True)
    nuke.executeMultiple([], ((1, 1, 1),))
    assert written() == ["inner.0001.exr"]


def test_only_what_can_be_executed_is(comp):
    with pytest.raises(RuntimeError, match="isn't a Write"):
        comp().execute("Plate", 1, 1)


def test_a_cancelled_render_raises_a_text_that_starts_with_cancelled(comp, written):
    nuke = comp(gui=True)
    from nuke_simulator import control

    control.cancel_after(1)
    with pytest.raises(RuntimeError, match=r"^Cancelled"):
        nuke.execute("Write1", 1, 5)
    assert written() == ["main/a.0001.exr"]
    assert not nuke.executing()


def test_the_limit_of_a_write_is_kept(comp, written):
    nuke = comp()
    write = nuke.toNode("Write1")
    write["use_limit"].setValue(True)
    write["first"].setValue(2)
    write["last"].setValue(3)
    nuke.execute(write, 1, 10)
    assert written() == ["main/a.0002.exr", "main/a.0003.exr"]


def test_a_render_raises_the_writes_version_and_leaves_the_script_unmodified(comp):
    nuke = comp()
    nuke.root().setModified(False)
    nuke.execute("Write1", 1, 1)
    assert nuke.toNode("Write1")["version"].value() == 1
    assert not nuke.root().modified()


def test_frames_are_whole_numbers(comp):
    with pytest.raises(TypeError):
        comp().execute("Write1", "1", 2)
