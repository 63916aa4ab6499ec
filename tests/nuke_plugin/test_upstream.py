"""What of the graph and the disk a relit frame is known by, node by node."""

import os

import pytest
import small_comps

FRAMES = list(range(1001, 1007))


@pytest.fixture
def stream(nuke_session, tmp_path):
    """A Read whose files exist; `make` adds nodes, `key` and `files` say what is seen upstream of the last."""
    nuke = nuke_session()
    small_comps.project(nuke, FRAMES[0], FRAMES[-1])
    for name in ("a", "b"):
        for frame in FRAMES:
            (tmp_path / f"{name}.{frame}.exr").write_bytes(b"x")

    class Stream:
        folder = tmp_path

        def __init__(self):
            self.nuke = nuke
            self.read = self.reader("a")

        def reader(self, name):
            return small_comps.reader(nuke, (tmp_path / f"{name}.%04d.exr").as_posix(), FRAMES)

        def make(self, kind, *inputs, **knobs):
            return small_comps.node(nuke, kind, inputs, **knobs)

        def survey(self, source):
            from relightgan.nuke_plugin import upstream

            self.probe = self.make("RelightGAN", source)
            return upstream.survey(self.probe)

        def key(self, source):
            return self.survey(source).key

        def stamps(self, source, views=("main",)):
            from relightgan.nuke_plugin.source_files import Stamps

            found = self.survey(source)
            return Stamps(found.files, found.outside, found.keeps_time, found.keeps_view, tuple(FRAMES), tuple(views))

        def names(self, source, frame):
            return [os.path.basename(path) for path in self.stamps(source).paths(frame, "main")]  # noqa: PTH119

        def hit_by(self, source, path):
            """The frames whose stamp changes when a file does."""
            before = self.stamps(source)
            old = {frame: before.of(frame, "main") for frame in FRAMES}
            (tmp_path / path).write_bytes(b"changed")
            after = self.stamps(source)
            return [frame for frame in FRAMES if after.of(frame, "main") != old[frame]]

    return Stream()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("file a.%04d.exr first 1001", ["file", "a.%04d.exr", "first", "1001"]),
        ("white {{parent.x + 1}} mix 0.5", ["white", "{parent.x + 1}", "mix", "0.5"]),
        ('label "two words" b "with \\"quotes\\" in"', ["label", "two words", "b", 'with \\"quotes\\" in']),
        ("curve {{curve x1 0 x10 1}}\nb {}", ["curve", "{curve x1 0 x10 1}", "b", ""]),
        ("a \\{ b {x \\} y}", ["a", "\\{", "b", "x \\} y"]),
        ('a ""  \n\t b', ["a", "", "b"]),
    ],
)
def test_tcl_lists_come_apart_as_tcl_takes_them_apart(nuke_session, text, words):
    import tkinter

    nuke_session()
    from relightgan.nuke_plugin.upstream import tcl_words

    assert tcl_words(text) == words
    assert len(tkinter.Tcl().splitlist(text)) == len(words)


def test_names_and_positions_are_not_in_the_key_but_connections_are(stream):
    grade = stream.make("Grade", stream.read, white=2)
    merge = stream.make("Merge2", grade, stream.reader("b"))
    first = stream.key(merge)
    for node in (grade, merge, stream.read):
        node.setName(f"Renamed{node.Class()}")
        node.setXYpos(3, 4)
    assert stream.key(merge) == first
    a, b = merge.input(0), merge.input(1)
    merge.setInput(0, b)
    merge.setInput(1, a)
    assert stream.key(merge) != first


def test_one_node_used_twice_is_not_the_same_as_two_alike(stream):
    grade = stream.make("Grade", stream.read)
    once = stream.key(stream.make("Merge2", grade, grade))
    assert stream.key(stream.make("Merge2", grade, stream.make("Grade", stream.read))) != once


def test_an_expression_counts_with_what_it_points_at_outside_the_stream(stream):
    control = stream.make("NoOp")
    far = stream.make("Grade", multiply=3)
    control.addKnob(stream.nuke.Double_Knob("amount"))
    control["amount"].setValue(1)
    grade = stream.make("Grade", stream.read)
    grade["white"].setExpression(f"{control.name()}.amount")
    first = stream.key(grade)
    far["multiply"].setValue(4)
    assert stream.key(grade) == first
    control["amount"].setValue(2)
    second = stream.key(grade)
    assert second != first
    control["amount"].setExpression(f"{far.name()}.multiply")
    third = stream.key(grade)
    assert third != second
    far["multiply"].setValue(5)
    assert stream.key(grade) != third


def test_renaming_what_an_expression_points_at_changes_nothing(stream):
    control = stream.make("NoOp")
    control.addKnob(stream.nuke.Double_Knob("amount"))
    grade = stream.make("Grade", stream.read)
    grade["white"].setExpression(f"{control.name()}.amount")
    first = stream.key(grade)
    control.setName("Master")
    grade["white"].setExpression("Master.amount")
    assert stream.key(grade) == first


def test_tcl_in_a_text_knob_counts_with_the_node_it_names(stream):
    control = stream.make("NoOp")
    control.addKnob(stream.nuke.String_Knob("take"))
    control["take"].setValue("a")
    stream.read["file"].setValue(f"{stream.folder.as_posix()}/[value {control.name()}.take].%04d.exr")
    assert stream.names(stream.read, 1002) == ["a.1002.exr"]
    first = stream.key(stream.read)
    control["take"].setValue("b")
    assert stream.key(stream.read) != first
    assert stream.names(stream.read, 1002) == ["b.1002.exr"]


def test_what_an_expression_asks_of_another_picture_counts_with_that_nodes_stream(stream):
    other = stream.reader("b")
    blur = stream.make("Grade", other)
    crop = stream.make("Crop", stream.read)
    crop["box"].setExpression(f"{blur.name()}.width / 2", 2)
    first = stream.key(crop)
    blur["white"].setValue(9)
    assert stream.key(crop) != first
    assert stream.hit_by(crop, "b.1004.exr") == [1004]


def test_an_expression_that_leads_back_to_the_node_itself_ends(stream):
    grade = stream.make("Grade", stream.read)
    node = stream.make("RelightGAN", grade)
    grade["white"].setExpression(f"{node.name()}.strength")
    from relightgan.nuke_plugin import upstream

    first = upstream.survey(node).key
    node["strength"].setValue(0.5)
    second = upstream.survey(node).key
    assert second != first
    node["frames"].setValue("1001")
    node["result_path"].setValue("/x")
    assert upstream.survey(node).key == second


def test_of_the_project_only_what_an_expression_names_counts(stream):
    grade = stream.make("Grade", stream.read)
    grade["white"].setExpression("root.first_frame / 1000")
    first = stream.key(grade)
    stream.nuke.root()["last_frame"].setValue(2000)
    stream.nuke.frame(1003)
    assert stream.key(grade) == first
    stream.nuke.root()["first_frame"].setValue(990)
    assert stream.key(grade) != first


def test_of_the_project_what_tcl_names_counts_also_where_the_script_lies(stream):
    text = stream.make("Text2", stream.read, message="[file tail [value root.name]]")
    first = stream.key(text)
    stream.nuke.root()["name"].setValue((stream.folder / "x.nk").as_posix())
    assert stream.key(text) != first


def test_where_the_script_lies_is_nothing_to_a_plate_that_is_found_from_there(stream):
    root = stream.nuke.root()
    root["name"].setValue((stream.folder / "v001.nk").as_posix())
    stream.read["file"].setValue("[file dirname [value root.name]]/a.%04d.exr")
    first, files = stream.key(stream.read), stream.stamps(stream.read).of(1002, "main")
    root["name"].setValue((stream.folder / "v002.nk").as_posix())
    assert (stream.key(stream.read), stream.stamps(stream.read).of(1002, "main")) == (first, files)
    root["name"].setValue("/elsewhere/v002.nk")
    assert stream.stamps(stream.read).of(1002, "main") != files


def test_two_nodes_of_one_name_in_two_groups_are_told_apart(stream):
    nuke = stream.nuke
    group = stream.make("Group")
    with group:
        inside = nuke.nodes.Blur(name="Control", size=1)
    control = stream.make("Blur", None, name="Control", size=2)
    grade = stream.make("Grade", stream.read)
    grade["white"].setExpression(f"{group.name()}.Control.size - Control.size")
    found = {stream.key(grade)}
    inside["size"].setValue(3)
    found.add(stream.key(grade))
    control["size"].setValue(4)
    found.add(stream.key(grade))
    grade["white"].setExpression(f"Control.size - {group.name()}.Control.size")
    found.add(stream.key(grade))
    assert len(found) == 4


@pytest.mark.parametrize("where", ["{group}.Control.size", "parent.{group}.Control.size", "root.{group}.Control.size"])
def test_tcl_that_names_a_node_in_another_group_counts_with_it(stream, where):
    group = stream.make("Group")
    with group:
        inside = stream.nuke.nodes.Blur(name="Control", size=1)
    text = stream.make("Text2", stream.read, message=f"[value {where.format(group=group.name())}]")
    text.dependencies = lambda what: []  # nothing says that Nuke lists what Tcl names
    first = stream.key(text)
    inside["size"].setValue(2)
    assert stream.key(text) != first


def test_a_control_on_the_group_counts_for_what_is_inside(stream):
    nuke = stream.nuke
    group = stream.make("Group", stream.read)
    group.addKnob(nuke.Double_Knob("amount"))
    with group:
        grade = nuke.nodes.Grade(inputs=[nuke.nodes.Input()], white=2)
        nuke.nodes.Output(inputs=[grade])
    grade["white"].setExpression("[value parent.amount] + 1")
    first = stream.key(group)
    group["amount"].setValue(3)
    assert stream.key(group) != first


def test_a_path_with_the_name_of_a_node_in_it_refers_to_no_node(stream):
    other = stream.make("Grade", None, name="a", white=1)
    first = stream.key(stream.read)
    other["white"].setValue(2)
    assert stream.key(stream.read) == first


def test_environment_that_an_expression_reads_counts(stream, monkeypatch):
    monkeypatch.setenv("TAKE", "1")
    text = stream.make("Text2", stream.read, message="take [getenv TAKE]")
    first = stream.key(text)
    monkeypatch.setenv("TAKE", "2")
    assert stream.key(text) != first


def test_environment_in_a_path_counts_by_the_files_it_leads_to_and_not_by_the_frame_one_looks_at(stream, monkeypatch):
    monkeypatch.setenv("PLATE", "a")
    stream.read["file"].setValue(f"{stream.folder.as_posix()}/[getenv PLATE].%04d.exr")
    first, files = stream.key(stream.read), stream.stamps(stream.read).of(1002, "main")
    stream.nuke.frame(1004)
    assert (stream.key(stream.read), stream.stamps(stream.read).of(1002, "main")) == (first, files)
    monkeypatch.setenv("PLATE", "b")
    assert stream.stamps(stream.read).of(1002, "main") != files


def test_what_is_on_in_the_window_only_is_another_state_for_the_farm(stream, monkeypatch):
    blur = stream.make("Blur", stream.read, size=3)
    blur["disable"].setExpression("$gui")
    monkeypatch.setattr(stream.nuke, "GUI", True)
    in_window = stream.key(blur)
    monkeypatch.setattr(stream.nuke, "GUI", False)
    assert stream.key(blur) != in_window


@pytest.mark.parametrize("moved", [False, True])
def test_an_expression_that_looks_for_a_file_counts_frame_by_frame(stream, moved):
    blur = stream.make("Blur", stream.read, size=3)
    blur["disable"].setExpression(f"[file exists {stream.folder.as_posix()}/matte.[frame]]")
    top = stream.make("TimeOffset", blur) if moved else blur
    assert stream.hit_by(top, "matte.1003") == (FRAMES if moved else [1003])


def test_what_only_gives_a_number_to_an_expression_does_not_move_time(stream):
    stabilise = stream.make("Retime")
    stabilise.addKnob(stream.nuke.Double_Knob("amount"))
    grade = stream.make("Grade", stream.read)
    grade["white"].setExpression(f"{stabilise.name()}.amount")
    assert stream.hit_by(grade, "a.1002.exr") == [1002]


def test_where_a_read_shows_the_nearest_frame_for_a_missing_one_any_file_counts_for_that(stream):
    stream.read["on_error"].setValue("nearest frame")
    (stream.folder / "a.1003.exr").unlink()
    assert stream.hit_by(stream.read, "a.1002.exr") == [1002, 1003]


def test_what_is_inside_a_group_counts_and_what_does_not_reach_its_output_does_not(stream):
    group = stream.make("Group")
    with group:
        into = stream.nuke.createNode("Input", inpanel=False)
        grade = stream.make("Grade", into)
        loose = stream.make("Grade", into)
        stream.make("Output", grade)
    assert group.setInput(0, stream.read)
    first = stream.key(group)
    loose["white"].setValue(2)
    assert stream.key(group) == first
    grade["white"].setValue(2)
    assert stream.key(group) != first
    assert stream.names(group, 1003) == ["a.1003.exr"]


def test_a_write_in_the_stream_counts_only_when_it_reads_its_file(stream):
    write = stream.make("Write", stream.read, file=(stream.folder / "b.%04d.exr").as_posix())
    first = stream.key(write)
    write["file"].setValue("/elsewhere.%04d.exr")
    assert stream.key(write) == first
    assert stream.names(write, 1001) == ["a.1001.exr"]
    write["file"].setValue((stream.folder / "b.%04d.exr").as_posix())
    write["reading"].setValue(True)
    assert stream.key(write) != first
    assert "b.1001.exr" in stream.names(write, 1001)


def test_reloading_a_read_changes_nothing_by_itself(stream):
    first = stream.key(stream.read)
    stream.read["reload"].execute()
    assert stream.key(stream.read) == first


# Which files a frame is made from


@pytest.mark.parametrize("kind", ["Grade", "Crop", "Dot", "Invert", "Premult"])
def test_nodes_that_keep_time_need_one_file_a_frame(stream, kind):
    assert stream.hit_by(stream.make(kind, stream.read), "a.1004.exr") == [1004]


@pytest.mark.parametrize("kind", ["TimeOffset", "FrameHold", "Retime", "TimeWarp"])
def test_where_time_is_moved_every_file_counts_for_every_frame(stream, kind):
    assert stream.hit_by(stream.make(kind, stream.read), "a.1004.exr") == FRAMES


def test_a_time_node_anywhere_upstream_is_enough(stream):
    moved = stream.make("TimeOffset", stream.reader("b"))
    merged = stream.make("Merge2", stream.read, moved)
    assert stream.hit_by(merged, "a.1002.exr") == FRAMES


def test_a_class_nobody_knows_counts_as_one_that_moves_time(stream):
    from relightgan.nuke_plugin import graph

    class Unknown:
        def Class(self):  # noqa: N802
            return "StudioRetimer"

    assert not graph.keeps_time(Unknown())
    assert graph.keeps_time(stream.read)


def test_both_files_of_a_merge_count(stream):
    merged = stream.make("Merge2", stream.read, stream.reader("b"))
    assert stream.names(merged, 1002) == ["a.1002.exr", "b.1002.exr"]
    assert stream.hit_by(merged, "b.1003.exr") == [1003]


@pytest.mark.parametrize(
    ("outside", "expected"),
    [("hold", ["a.1001.exr"]), ("black", []), ("loop", [f"a.{f}.exr" for f in FRAMES])],
)
def test_before_its_first_frame_a_read_shows_what_its_knob_says(stream, outside, expected):
    stream.read["before"].setValue(outside)
    assert stream.names(stream.read, 990) == expected


def test_a_read_that_renumbers_its_frames_counts_as_a_whole(stream):
    stream.read["frame_mode"].setValue("offset")
    stream.read["frame"].setValue("2")
    assert stream.hit_by(stream.read, "a.1005.exr") == FRAMES


def test_a_still_counts_for_every_frame(stream):
    (stream.folder / "still.exr").write_bytes(b"x")
    still = stream.make("Read", file=(stream.folder / "still.exr").as_posix(), first=1, last=1)
    assert stream.hit_by(stream.make("Merge2", stream.read, still), "still.exr") == FRAMES


def test_a_relative_path_is_taken_from_the_projects_folder(stream):
    stream.read["file"].setValue("a.%04d.exr")
    assert stream.stamps(stream.read).missing(1003, "main") == ["a.1003.exr"]
    stream.nuke.root()["project_directory"].setValue(stream.folder.as_posix())
    assert stream.stamps(stream.read).missing(1003, "main") == []
    assert stream.hit_by(stream.read, "a.1003.exr") == [1003]


def test_a_missing_file_is_another_state_than_an_empty_one(stream):
    before = stream.stamps(stream.read).of(1003, "main")
    (stream.folder / "a.1003.exr").unlink()
    gone = stream.stamps(stream.read)
    assert gone.of(1003, "main") != before
    assert gone.missing(1003, "main") == [(stream.folder / "a.1003.exr").as_posix()]
    (stream.folder / "a.1003.exr").touch()
    assert stream.stamps(stream.read).of(1003, "main") not in (before, gone.of(1003, "main"))


def test_relit_files_and_looks_are_not_source_files(stream):
    node = stream.make("RelightGAN", stream.read, look="/looks/dusk.onnx")
    node["result_path"].setValue("/cache/%V/relit.%04d.exr")
    assert stream.names(node, 1001) == ["a.1001.exr"]


def test_where_views_are_changed_the_files_of_all_views_count(stream):
    stream.nuke.root().addView("left")
    stream.read["file"].setValue((stream.folder / "%V.%04d.exr").as_posix())
    plain = stream.make("Grade", stream.read)
    views = stream.nuke.views()
    assert len(stream.stamps(plain, views).paths(1001, "left")) == 1
    one = stream.make("OneView", plain)
    assert len(stream.stamps(one, views).paths(1001, "left")) == 2


def test_a_file_is_looked_at_once_for_all_frames_that_need_it(stream, monkeypatch):
    from relightgan.nuke_plugin import source_files

    looked = []
    real = source_files.file_stamp
    monkeypatch.setattr(source_files, "file_stamp", lambda path: looked.append(path) or real(path))
    stamps = stream.stamps(stream.make("TimeOffset", stream.read))
    for frame in FRAMES:
        stamps.of(frame, "main")
    assert len(looked) == len(FRAMES)


# What is switched off


@pytest.mark.parametrize(("kind", "counts"), [("NoOp", False), ("Group", True)])
def test_a_version_counts_reloads_on_nodes_of_nuke_and_may_be_anything_on_a_gizmo(stream, kind, counts):
    nuke = stream.nuke
    node = stream.make(kind, stream.read)  # a NoOp stands for DeepRead and its like
    if kind == "Group":
        with node:
            nuke.nodes.Output(inputs=[nuke.nodes.Input()])
    for knob in (nuke.Int_Knob("version"), nuke.PyScript_Knob("reload")):
        node.addKnob(knob)
    first = stream.key(node)
    node["version"].setValue(3)
    assert (stream.key(node) != first) is counts


@pytest.mark.parametrize("kind", ["Switch", "Merge2"])
def test_what_lies_behind_a_node_that_is_switched_off_counts_only_when_that_is_switched_on(stream, kind):
    behind = stream.make("Grade", stream.reader("b"), white=1)
    node = stream.make(kind, stream.read, behind)
    off, on = (("which", 0), ("which", 1)) if kind == "Switch" else (("disable", True), ("disable", False))
    node[off[0]].setValue(off[1])
    first = stream.key(node)
    behind["white"].setValue(2)
    assert stream.key(node) == first
    assert stream.hit_by(node, "b.1002.exr") == []
    node[on[0]].setValue(on[1])
    second = stream.key(node)
    assert second != first
    behind["white"].setValue(3)
    assert stream.key(node) != second
    assert stream.hit_by(node, "b.1003.exr") == [1003]


@pytest.mark.parametrize("how", ["animated", "expression"])
def test_what_lies_behind_a_switch_that_may_change_counts(stream, how):
    behind = stream.make("Grade", stream.reader("b"), white=1)
    switch = stream.make("Switch", stream.read, behind)
    if how == "animated":
        switch["which"].setAnimated()
        switch["which"].setValueAt(0, 1001)
        switch["which"].setValueAt(1, 1002)
    else:
        switch["which"].setExpression("frame > 1003")
    first = stream.key(switch)
    behind["white"].setValue(2)
    assert stream.key(switch) != first


# The source's range


def test_the_range_is_that_of_what_comes_in(stream):
    from relightgan.nuke_plugin import upstream

    node = stream.make("RelightGAN", stream.make("Grade", stream.read))
    assert upstream.source_range(node) == (1001, 1006)
    assert upstream.source_range(stream.make("RelightGAN", stream.make("TimeOffset", stream.read, time_offset=10))) == (
        1011, 1016,
    )  # fmt: skip


def test_a_source_that_claims_to_go_on_for_ever_is_as_long_as_the_project(stream):
    from relightgan.nuke_plugin import upstream

    stream.read["last"].setValue(2_000_000_000)
    assert upstream.source_range(stream.make("RelightGAN", stream.read)) == (1001, 1006)
