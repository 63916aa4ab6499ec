"""The guard lets a render through where every relit frame it needs is ready, and says what to run where one isn't."""

import importlib
import shlex
from pathlib import Path

import pytest
import small_comps

pytestmark = pytest.mark.process

FRAMES = [1001, 1002, 1003]


@pytest.fixture
def guarded(
    comp,
):
    """Read → RelightGAN → Write in a saved script, with the guard registered."""
    yield from guard_of(
        comp,
    )


@pytest.fixture
def strict(
    read_and_relight,
    nuke_session,
):
    """As `guarded`, in a Nuke that lets nobody set knobs within a render."""
    nuke = nuke_session(quirks={"edits_in_render_callbacks": "raise"})
    yield from guard_of(
        read_and_relight(nuke),
    )


def guard_of(
    comp,
):
    from relightgan.nuke_plugin import guard

    comp.write = small_comps.writer(comp.nuke, comp.node, comp.folder / "out.%04d.exr")
    comp.script = comp.folder / "my shot.nk"
    comp.nuke.scriptSaveAs(str(comp.script), overwrite=1)
    guard.register()
    yield comp
    guard.unregister()


def render(comp, first=1001, last=1001):
    comp.nuke.execute(comp.write, first, last, 1, ["main"])


def forget_results(comp):
    """As in the script of a machine that hasn't baked."""
    for name in ("result_path", "result_first", "result_last"):
        comp.node[name].setValue(comp.node[name].defaultValue() if name != "result_path" else "")


def command_in(message):
    return shlex.split(message[message.index("Run: ") + len("Run: ") :].splitlines()[0])


def test_a_missing_frame_stops_the_render_with_one_line_that_gives_the_command(guarded):
    with pytest.raises(RuntimeError, match="RelightGAN1: relit frame 1001 is missing") as caught:
        render(guarded)
    line = next(line for line in str(caught.value).splitlines() if "RelightGAN:" in line)
    words = command_in(line)
    assert words[1:] == [
        "-t",
        str(Path(__file__).parents[2] / "nuke_plugin" / "batch.py"),
        f"--script={guarded.script}",
        "--write=Write1",
        "--frames=1001-1006",
    ]
    assert not (guarded.folder / "out.1001.exr").exists()


def test_ready_frames_are_rendered(
    guarded,
):
    from relightgan.nuke_plugin.bake import bake

    bake(guarded.node, FRAMES)
    render(guarded, 1001, 1003)
    relit = small_comps.relit(guarded.nuke, guarded.node, 1002)
    assert small_comps.same_bits(small_comps.rgb(guarded.folder / "out.1002.exr"), relit)


def test_a_frame_that_was_damaged_or_exchanged_stops_the_render_and_says_so(guarded):
    from relightgan.nuke_plugin import cache_frames, state
    from relightgan.nuke_plugin.bake import bake

    bake(guarded.node, FRAMES)
    stored = state.state_of(guarded.node).stored
    with stored(1002, "main").open("r+b") as file:  # the take has the same file
        file.seek(-3, 2)
        file.write(b"!!!")
    stored(1003, "main").write_bytes(b"")
    cache_frames.forget()  # as in a process of its own
    for frame, fault in ((1002, "damaged"), (1003, "an empty file")):
        with pytest.raises(RuntimeError, match=rf"relit frame {frame} is missing \({frame}: {fault}\)\. Run: "):
            render(guarded, frame, frame)
    assert bake(guarded.node, FRAMES).relit == 2
    render(guarded, 1001, 1003)


def test_each_frame_is_looked_at_on_its_own(guarded):
    from relightgan.nuke_plugin.bake import bake

    bake(guarded.node, [1002])
    render(guarded, 1002, 1002)
    with pytest.raises(RuntimeError, match="relit frame 1003 is missing") as caught:
        render(guarded, 1002, 1003)
    assert command_in(str(caught.value))[-1] == "--frames=1001,1003-1006"


def test_a_stale_frame_stops_the_render(guarded):
    from relightgan.nuke_plugin.bake import bake

    bake(guarded.node, FRAMES)
    guarded.node["exposure"].setValue(1.0)
    with pytest.raises(RuntimeError, match="relit frame 1001 is stale"):
        render(guarded)


def test_our_own_bake_passes_while_the_guard_is_registered(guarded):
    from relightgan.nuke_plugin.bake import bake

    assert bake(guarded.node, FRAMES).relit == 3
    second = guarded.node.makeGroup()
    second.setInput(0, guarded.read)
    second["exposure"].setValue(1.0)
    assert bake(second, [1001]).relit == 1


def test_our_own_bake_of_one_view_asks_for_no_other(
    guarded,
):
    from relightgan.nuke_plugin.bake import bake

    guarded.nuke.root().addView("right")
    second = small_comps.relighter(guarded.nuke, guarded.node, guarded.look)
    assert bake(second, [1001], ["main"]).relit == 2


def test_a_bake_downstream_of_a_missing_frame_bakes_that_first_and_passes(
    guarded,
):
    from relightgan.nuke_plugin.bake import bake

    second = small_comps.relighter(guarded.nuke, guarded.node, guarded.look)
    assert bake(second, [1001]).relit == 2


@pytest.mark.parametrize(("knob", "value"), [("bypass", True), ("disable", True), ("strength", 0.0)])
def test_a_node_that_is_switched_off_lets_the_render_pass(guarded, knob, value):
    guarded.node[knob].setValue(value)
    render(guarded)
    plate = small_comps.rgb(Path(guarded.plates % 1001))
    assert small_comps.same_bits(small_comps.rgb(guarded.folder / "out.1001.exr"), plate)


def test_an_animated_strength_counts_frame_by_frame(guarded):
    guarded.node["strength"].setAnimated()
    guarded.node["strength"].setValueAt(0.0, 1001)
    guarded.node["strength"].setValueAt(1.0, 1002)
    render(guarded, 1001, 1001)
    with pytest.raises(RuntimeError, match="relit frame 1002 is missing"):
        render(guarded, 1002, 1002)


def test_writes_that_depend_on_no_relightgan_pass(
    guarded,
):
    plain = small_comps.writer(guarded.nuke, guarded.read, guarded.folder / "plain.%04d.exr")
    guarded.nuke.execute(plain, 1001, 1001, 1, ["main"])
    assert (guarded.folder / "plain.1001.exr").exists()


def test_frames_baked_elsewhere_from_the_same_script_are_found_before_the_render(guarded):
    from relightgan.nuke_plugin.bake import bake

    bake(guarded.node, FRAMES)
    forget_results(guarded)
    render(guarded, 1001, 1003)
    assert (guarded.folder / "out.1003.exr").exists()


def test_ready_frames_are_rendered_where_no_knob_can_be_set_within_a_render(strict):
    from relightgan.nuke_plugin.bake import bake

    bake(strict.node, FRAMES)
    render(strict, 1001, 1003)
    assert (strict.folder / "out.1003.exr").exists()


def test_where_no_knob_can_be_set_within_a_render_frames_baked_elsewhere_are_named_with_the_command(strict):
    from relightgan.nuke_plugin.bake import bake

    bake(strict.node, strict.frames)
    forget_results(strict)
    with pytest.raises(RuntimeError, match="RelightGAN1: relit frame 1001 is missing") as caught:
        render(strict)
    assert command_in(str(caught.value))[-1] == "--frames=1001-1006"


def test_a_time_offset_below_the_node_asks_for_the_shifted_frame(
    guarded,
):
    from relightgan.nuke_plugin.bake import bake

    offset = small_comps.node(guarded.nuke, "TimeOffset", [guarded.node], time_offset=2)
    guarded.write.setInput(0, offset)
    bake(guarded.node, [1001])
    render(guarded, 1003, 1003)
    relit = small_comps.relit(guarded.nuke, guarded.node, 1001)
    assert small_comps.same_bits(small_comps.rgb(guarded.folder / "out.1003.exr"), relit)
    with pytest.raises(RuntimeError):
        render(guarded, 1005, 1005)


def test_views_that_are_not_rendered_need_not_be_ready(guarded):
    from relightgan.nuke_plugin import guard
    from relightgan.nuke_plugin.bake import bake

    guarded.nuke.root().addView("right")
    guarded.write["views"].setValue("main right")
    guarded.write["file"].setValue(f"{guarded.folder.as_posix()}/out.%V.%04d.exr")
    bake(guarded.node, [1001], ["main"])
    with guard.views_only(["main"]):
        render(guarded)
    with pytest.raises(RuntimeError, match="relit frame 1001 is missing"):
        guarded.nuke.execute(guarded.write, 1001, 1001, 1, ["main", "right"])


def test_views_that_the_write_leaves_out_need_not_be_ready(guarded):
    from relightgan.nuke_plugin.bake import bake

    guarded.nuke.root().addView("right")
    guarded.write["views"].setValue("main")
    bake(guarded.node, [1001], ["main"])
    render(guarded)
    assert (guarded.folder / "out.1001.exr").exists()


def test_callbacks_are_registered_once_after_a_reload(guarded):
    from nuke_simulator import session

    from relightgan.nuke_plugin import guard

    def ours():
        callbacks = session.current().callbacks
        return sorted(
            (event, node_class)
            for event in ("BeforeRender", "BeforeFrameRender")
            for node_class, call in callbacks.registered(event)
            if call.__module__ == guard.__name__
        )

    once = ours()
    guard.register()
    importlib.reload(guard)
    guard.register()
    assert ours() == once
    assert len(once) == 2 * len(guard.WRITE_CLASSES)
    guard.unregister()
    assert ours() == []


def test_a_look_that_is_gone_stops_the_render_with_its_name(guarded):
    guarded.node["look"].setValue(str(guarded.folder / "gone.onnx"))
    with pytest.raises(RuntimeError, match=r"gone\.onnx"):
        render(guarded)


@pytest.mark.parametrize("animated", [False, True])
def test_a_node_behind_a_switch_counts_where_the_switch_looks_at_it(guarded, animated):
    nuke = guarded.nuke
    switch = small_comps.node(nuke, "Switch", [guarded.read, guarded.node])
    guarded.write.setInput(0, switch)
    if animated:
        switch["which"].setExpression("frame >= 1003")
    render(guarded, 1001, 1002)
    if not animated:
        switch["which"].setValue(1)
    with pytest.raises(RuntimeError, match="relit frame 1003 is missing"):
        render(guarded, 1003, 1003)


def test_a_node_without_a_look_behind_a_merge_that_is_off_stops_nothing(
    guarded,
):
    merge = small_comps.node(guarded.nuke, "Merge2", [guarded.read, guarded.node], disable=True)
    guarded.node["look"].setValue("")
    guarded.write.setInput(0, merge)
    render(guarded)


def test_below_a_time_offset_the_nodes_own_frame_says_whether_it_is_on(
    guarded,
):
    from relightgan.nuke_plugin.bake import bake

    bake(guarded.node, guarded.frames)
    guarded.read["raw"].setValue(False)  # another state: what is shown is stale
    guarded.node["bypass"].setExpression("frame < 1003")
    moved = small_comps.node(guarded.nuke, "TimeOffset", [guarded.node], time_offset=-2)
    guarded.write.setInput(0, moved)
    with pytest.raises(RuntimeError, match="relit frame 1003 is stale"):
        render(guarded, 1001, 1001)
