"""The session: undo, modified, selection, groups, threads, messages, menus, plug-in paths."""

import threading

import pytest


@pytest.fixture
def nuke(nuke_session):
    return nuke_session(paths=[])


@pytest.fixture
def gui(nuke_session):
    return nuke_session(gui=True, paths=[])


def test_changes_mark_the_script_and_frames_do_not(nuke, tmp_path):
    node = nuke.createNode("Grade")
    assert nuke.root().modified()
    nuke.scriptSaveAs(str(tmp_path / "a.nk"))
    assert not nuke.root().modified()
    node["mix"].setValue(1)
    nuke.frame(12)
    node.setSelected(True)
    assert not nuke.root().modified()
    node["mix"].setValue(0.5)
    assert nuke.root().modified()


def test_loading_a_script_leaves_it_unmodified(nuke, tmp_path):
    nuke.createNode("Grade")
    nuke.scriptSaveAs(str(tmp_path / "a.nk"))
    nuke.addOnScriptLoad(lambda: nuke.toNode("Grade1")["mix"].setValue(0.5))
    nuke.scriptOpen(str(tmp_path / "a.nk"))
    assert not nuke.root().modified()


def test_undo_takes_back_one_change_after_the_other(gui):
    node = gui.createNode("Grade")
    node["mix"].setValue(0.5)
    node["mix"].setValue(0.25)
    gui.undo()
    assert node["mix"].value() == 0.5
    gui.undo()
    assert node["mix"].value() == 1.0
    gui.undo()
    assert gui.allNodes() == []


def test_changes_while_undo_is_disabled_leave_no_step(gui):
    node = gui.createNode("Grade")
    steps = gui.Undo.undoSize()
    gui.Undo.disable()
    assert gui.Undo.disabled()
    node["mix"].setValue(0.5)
    gui.Undo.enable()
    assert gui.Undo.undoSize() == steps
    assert not gui.Undo.disabled()


def test_a_terminal_has_undo_off_from_the_start(nuke_session):
    nuke = nuke_session(paths=[])
    assert nuke.Undo.disabled()
    nuke.createNode("Grade")
    assert nuke.Undo.undoSize() == 0


@pytest.mark.parametrize("counts", [True, False])
def test_two_disables_need_two_enables_or_one(nuke_session, counts):
    nuke = nuke_session(gui=True, paths=[], quirks={"undo_disable_counts": counts})
    nuke.Undo.disable()
    nuke.Undo.disable()
    nuke.Undo.enable()
    assert nuke.Undo.disabled() is counts
    nuke.Undo.enable()
    assert not nuke.Undo.disabled()


def test_changes_within_an_undo_group_are_one_step(gui):
    node = gui.createNode("Grade")
    with gui.Undo():
        node["mix"].setValue(0.5)
        node["gamma"].setValue(2)
    gui.undo()
    assert (node["mix"].value(), node["gamma"].value()) == (1.0, 1.0)


def test_a_deleted_node_comes_back_with_its_connections(gui):
    plate, grade = gui.createNode("Constant"), gui.createNode("Grade")
    blur = gui.createNode("Blur")
    gui.delete(grade)
    assert blur.input(0) is plate
    gui.undo()
    assert (blur.input(0), grade.input(0), grade.name()) == (grade, plate, "Grade1")


def test_a_created_node_is_selected_and_hangs_on_what_was(nuke):
    plate = nuke.createNode("Constant")
    grade = nuke.createNode("Grade", "mix 0.5 label {two words}")
    assert grade.input(0) is plate
    assert (grade["mix"].value(), grade["label"].value()) == (0.5, "two words")
    assert nuke.selectedNodes() == [grade]


def test_connections_stay_within_a_group_and_never_go_round(nuke):
    grade, blur = nuke.createNode("Grade"), nuke.createNode("Blur")
    group = nuke.createNode("Group")
    assert not grade.setInput(0, blur)
    with group:
        inner = nuke.nodes.NoOp()
    assert not inner.setInput(0, grade)


def test_new_nodes_go_into_the_group_that_was_entered(nuke):
    group = nuke.createNode("Group")
    with group:
        assert nuke.thisGroup() is group
        nuke.createNode("NoOp")
    assert [node.fullName() for node in nuke.allNodes(recurseGroups=True)] == ["Group1", "Group1.NoOp1"]
    assert nuke.toNode("Group1.NoOp1").parent() is group
    assert nuke.allNodes("NoOp") == []


def test_end_without_begin_is_refused(nuke):
    with pytest.raises(RuntimeError, match=r"without its begin\(\)"):
        nuke.createNode("Group").end()


def test_other_threads_may_not_use_nuke(nuke):
    caught = []

    def run():
        try:
            nuke.allNodes()
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread" in caught[0]


def in_thread(function):
    """Runs a function in a thread while the main thread is idle; what it returned."""
    from nuke_simulator import control

    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    while thread.is_alive():
        control.idle()
        thread.join(0.01)
    return result[0] if result else None


def test_a_call_from_a_thread_runs_on_the_main_thread_and_gives_its_result(gui):
    assert in_thread(lambda: gui.executeInMainThreadWithResult(lambda: threading.current_thread().name)) == "MainThread"


def test_an_exception_in_such_a_call_is_printed_and_gives_none(gui, capsys):
    assert in_thread(lambda: gui.executeInMainThreadWithResult(lambda: 1 / 0)) is None
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_waiting_for_the_main_thread_on_the_main_thread_is_refused(gui, nuke_session):
    with pytest.raises(RuntimeError, match="main thread"):
        gui.executeInMainThreadWithResult(print)
    older = nuke_session(gui=True, paths=[], quirks={"execute_in_main_thread_from_main": "hang"})
    with pytest.raises(TimeoutError):
        older.executeInMainThreadWithResult(print)


def test_without_a_window_nothing_runs_such_calls(nuke):
    with pytest.raises(RuntimeError, match="without a window"):
        nuke.executeInMainThread(print)


def test_messages_need_a_window(nuke, nuke_session):
    with pytest.raises(RuntimeError, match="without a window"):
        nuke.message("hello")
    gui = nuke_session(gui=True, paths=[])
    from nuke_simulator import control

    gui.message("hello")
    control.answer(True)
    assert gui.ask("sure?") is True
    assert control.messages() == ["hello", "sure?"]


def test_the_user_can_cancel_a_progress_task(gui):
    from nuke_simulator import control

    task = gui.ProgressTask("Baking")
    control.cancel_after(2)
    task.setProgress(50)
    assert [task.isCancelled() for _ in range(3)] == [False, False, True]


def test_menus_are_made_once_and_run_their_commands(gui):
    done = []
    gui.menu("Nuke").addMenu("Tools/Ours").addCommand("Do it", lambda: done.append(1))
    gui.menu("Nuke").addCommand("Tools/Ours/Do that", "import nuke; nuke.createNode('NoOp')")
    gui.menu("Nuke").findItem("Tools/Ours/Do it").invoke()
    gui.menu("Nuke").findItem("Tools/Ours/Do that").invoke()
    assert [item.name() for item in gui.menu("Nuke").menu("Tools/Ours").items()] == ["Do it", "Do that"]
    assert (done, [node.name() for node in gui.allNodes()]) == ([1], ["NoOp1"])


def test_a_path_added_from_a_start_up_file_is_taken_from_that_file(nuke_session, tmp_path):
    (tmp_path / "tools" / "gizmos").mkdir(parents=True)
    (tmp_path / "tools" / "init.py").write_text("import nuke\nnuke.pluginAddPath('./gizmos')\n")
    (tmp_path / "tools" / "gizmos" / "init.py").write_text("import nuke\nnuke.seen = __file__\n")
    nuke = nuke_session(paths=[tmp_path / "tools"])
    gizmos = tmp_path / "tools" / "gizmos"
    assert nuke.pluginPath() == [gizmos.as_posix(), (tmp_path / "tools").as_posix()]
    assert nuke.seen == str(gizmos / "init.py")


def test_menu_py_runs_with_a_window_only(nuke_session, tmp_path):
    (tmp_path / "menu.py").write_text("import nuke\nnuke.with_window = True\n")
    assert not hasattr(nuke_session(paths=[tmp_path]), "with_window")
    assert nuke_session(gui=True, paths=[tmp_path]).with_window


def test_env_is_no_mapping_but_answers(nuke):
    assert nuke.env["gui"] is False
    assert nuke.env.get("nothing", 3) == 3
    with pytest.raises(TypeError):
        iter(nuke.env)


def test_a_session_ends_with_the_next(nuke_session):
    first = nuke_session(paths=[])
    first.createNode("NoOp")
    second = nuke_session(paths=[])
    assert second is not first
    assert second.allNodes() == []


@pytest.mark.parametrize("quirks", [{"no_such": True}, {"shuffled_write_knobs": "yes"}])
def test_a_misspelt_quirk_is_refused(nuke_session, quirks):
    with pytest.raises(ValueError, match="quirk"):
        nuke_session(paths=[], quirks=quirks)
