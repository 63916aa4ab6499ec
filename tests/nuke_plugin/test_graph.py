"""The walk over the node graph."""

import pytest
import small_comps


@pytest.fixture
def comp(
    nuke_session,
):
    nuke = nuke_session()

    class Comp:
        def __init__(self):
            self.nuke = nuke

        def make(self, kind, *inputs, **knobs):
            return small_comps.node(nuke, kind, inputs, **knobs)

        def group(self, *inputs, build):
            """A Group whose inside is what `build` makes of its Input nodes."""
            made = self.make("Group")
            with made:
                into = [nuke.createNode("Input", inpanel=False) for _ in inputs]
                for number, node in enumerate(into):
                    node["number"].setValue(number)
                self.make("Output", build(*into))
            for number, node in enumerate(inputs):
                assert made.setInput(number, node)
            return made

    return Comp()


def names(nodes):
    return [node.fullName() for node in nodes]


def test_upstream_goes_through_every_connection_once(comp):
    from relightgan.nuke_plugin import graph

    plate = comp.make("CheckerBoard2")
    a, b = comp.make("Grade", plate), comp.make("Invert", plate)
    merge = comp.make("Merge2", a, b)
    write = comp.make("Write", merge)
    found = names(graph.upstream(write))
    assert sorted(found) == sorted(names([plate, a, b, merge]))
    assert names(graph.upstream(merge, [1])) == names([b, plate])
    assert graph.upstream(plate) == []


def test_upstream_goes_into_groups_and_out_again(comp):
    from relightgan.nuke_plugin import graph

    plate, matte = comp.make("CheckerBoard2"), comp.make("Constant")
    group = comp.group(plate, matte, build=lambda first, second: comp.make("Merge2", first, second))
    found = names(graph.upstream(comp.make("Write", group)))
    assert f"{group.name()}.Merge1" in found
    assert found[0] == group.name()
    assert {plate.name(), matte.name()} <= set(found)


def test_from_inside_a_group_upstream_goes_out_to_its_own_input(comp):
    from relightgan.nuke_plugin import graph

    plate, matte = comp.make("CheckerBoard2"), comp.make("Constant")
    inside = []

    def build(first, second):
        inside.append(comp.make("Grade", second))
        return comp.make("Merge2", first, inside[0])

    comp.group(plate, matte, build=build)
    assert matte.name() in names(graph.upstream(inside[0]))
    assert plate.name() not in names(graph.upstream(inside[0]))


def test_every_relight_node_is_found_also_in_groups_in_groups(comp):
    from relightgan.nuke_plugin import graph

    plate = comp.make("CheckerBoard2")
    first = comp.make("RelightGAN", plate)
    comp.group(first, build=lambda into: comp.group(into, build=lambda deeper: comp.make("RelightGAN", deeper)))
    second = comp.make("RelightGAN", plate)
    found = names(graph.relight_nodes())
    assert len(found) == 3
    assert set(names([first, second])) < set(found)
    assert [name for name in found if "." in name] == ["Group1.Group1.RelightGAN1"]


def test_a_group_made_from_the_gizmo_is_a_relight_node_and_what_is_inside_is_not(comp):
    from relightgan.nuke_plugin import graph, knobs

    gizmo = comp.make("RelightGAN", comp.make("CheckerBoard2"))
    group = gizmo.makeGroup()
    assert knobs.is_relight_node(group)
    assert sorted(names(graph.relight_nodes())) == sorted(names([gizmo, group]))
    assert graph.inner(group, knobs.WRITE_NODE).Class() == "Write"


def test_nodes_come_after_those_they_depend_on_however_they_are_named(comp):
    from relightgan.nuke_plugin import graph

    plate = comp.make("CheckerBoard2")
    first = comp.make("RelightGAN", plate)
    second = comp.make("RelightGAN", comp.make("Grade", first))
    third = comp.make("RelightGAN", comp.make("Merge2", second, first))
    for node, name in ((first, "Z"), (second, "M"), (third, "A")):
        node.setName(name)
    assert names(graph.relight_nodes()) == ["Z", "M", "A"]
    assert names(graph.relight_nodes_upstream(comp.make("Write", third))) == ["Z", "M", "A"]
    assert names(graph.relight_nodes_upstream(third)) == ["Z", "M"]
    assert graph.relight_nodes_upstream(first) == []


def test_a_node_on_the_mask_input_is_upstream_too(comp):
    from relightgan.nuke_plugin import graph

    plate = comp.make("CheckerBoard2")
    mask = comp.make("RelightGAN", plate)
    node = comp.make("RelightGAN", plate, mask)
    assert names(graph.relight_nodes_upstream(node)) == [mask.name()]


def test_on_a_frame_a_switch_has_one_input_and_a_disabled_node_its_first(comp):
    from relightgan.nuke_plugin import graph

    plate = comp.make("CheckerBoard2")
    a, b = comp.make("RelightGAN", plate), comp.make("RelightGAN", plate)
    switch = comp.make("Switch", a, b)
    switch["which"].setExpression("frame > 10")
    assert len(graph.relight_nodes_upstream(switch)) == 2
    assert names(graph.relight_nodes_upstream(switch, frame=5)) == [a.name()]
    assert names(graph.relight_nodes_upstream(switch, frame=11)) == [b.name()]
    merge = comp.make("Merge2", a, b)
    assert len(graph.relight_nodes_upstream(merge)) == 2
    merge["disable"].setValue(True)
    assert names(graph.relight_nodes_upstream(merge, frame=1)) == [a.name()]
    assert names(graph.relight_nodes_upstream(merge)) == [a.name()]
    merge["disable"].setExpression("frame > 10")
    assert len(graph.relight_nodes_upstream(merge)) == 2


@pytest.mark.parametrize(("knob", "value"), [("disable", True), ("bypass", True), ("strength", 0)])
def test_a_node_that_gives_its_source_untouched_is_inert(comp, knob, value):
    from relightgan.nuke_plugin import graph

    node = comp.make("RelightGAN", comp.make("CheckerBoard2"))
    assert not graph.inert(node)
    assert not graph.inert(node, 1)
    node[knob].setValue(value)
    assert graph.inert(node)
    assert graph.inert(node, 1)


def test_an_animated_strength_is_inert_on_its_zeros_only(comp):
    from relightgan.nuke_plugin import graph

    node = comp.make("RelightGAN", comp.make("CheckerBoard2"))
    node["strength"].setExpression("frame >= 10")
    assert not graph.inert(node)
    assert graph.inert(node, 9)
    assert not graph.inert(node, 10)


def test_a_node_taken_apart_is_named(comp):
    from relightgan.core.errors import RelightError
    from relightgan.nuke_plugin import graph, knobs

    group = comp.make("RelightGAN").makeGroup()
    stranger = comp.make("Grade")
    with pytest.raises(RelightError, match="has no node 'RG_Write' inside"):
        graph.inner(stranger, knobs.WRITE_NODE)
    with pytest.raises(RelightError, match="Grade1 has no knob 'precision'"):
        knobs.read_settings(stranger)
    assert graph.inner(group, knobs.READ_NODE).name() == knobs.READ_NODE


def test_above_a_node_that_moves_time_another_frame_decides_about_a_switch(comp):
    from relightgan.nuke_plugin import graph

    nuke = comp.nuke
    off, on = nuke.nodes.Constant(), nuke.nodes.Constant()
    switch = nuke.nodes.Switch(inputs=[off, on])
    switch["which"].setExpression("frame >= 1010")
    assert on not in graph.upstream(nuke.nodes.Write(inputs=[switch]), frame=1005)
    moved = nuke.nodes.TimeOffset(inputs=[switch], time_offset=-10)
    assert {off, on} <= set(graph.upstream(nuke.nodes.Write(inputs=[moved]), frame=1005))
    both = nuke.nodes.Merge2(inputs=[switch, moved])  # reached at its own frame and at another one
    assert {off, on} <= set(graph.upstream(nuke.nodes.Write(inputs=[both]), frame=1005))


def test_of_an_unknown_class_with_several_inputs_all_count_though_it_is_disabled(comp, monkeypatch):
    from relightgan.nuke_plugin import graph

    a, b = comp.make("RelightGAN", comp.make("CheckerBoard2")), comp.make("RelightGAN", comp.make("CheckerBoard2"))
    merge = comp.make("Merge2", a, b, disable=True)
    monkeypatch.setattr(graph, "KEEP_TIME", graph.KEEP_TIME - {"Merge2"})  # as a plug-in of the studio
    assert names(graph.relight_nodes_upstream(merge)) == [a.name(), b.name()]


def test_with_several_views_an_expression_may_mean_another_thing_in_each(comp):
    from relightgan.nuke_plugin import graph

    node = comp.make("RelightGAN", comp.make("CheckerBoard2"))
    node["bypass"].setExpression("frame > 0")
    assert graph.inert(node, 1001)
    comp.nuke.root().addView("right")
    assert not graph.inert(node, 1001)
