"""Which frames of a RelightGAN node a node further down may ask for; never too few."""

import pytest
import small_comps


@pytest.fixture
def line(
    comp,
):
    """Adds a node below the last one; gives frames_asked for what is at the end."""
    from relightgan.nuke_plugin.timing import frames_asked

    class Line:
        last = comp.node

        def add(self, kind, **knobs):
            self.last = small_comps.node(comp.nuke, kind, [self.last], **knobs)

        def asked(self, *frames):
            return frames_asked(self.last, comp.node, frames)

    made = Line()
    made.comp = comp
    return made


def test_the_same_frames_where_time_runs_the_same(line):
    line.add("Grade")
    assert line.asked(1001, 1005) == {1001, 1005}


def test_a_time_offset_shifts_and_several_add_up(line):
    line.add("TimeOffset", time_offset=2)
    line.add("Grade")
    assert line.asked(1005) == {1003, 1005}
    line.add("TimeOffset", time_offset=-10)
    line.add("Grade")
    assert line.asked(1005) == {1003, 1005, 1013, 1015}


def test_a_held_frame_is_asked_for_whatever_the_frame(line):
    line.add("FrameHold", first_frame=1002)
    line.add("Grade")
    assert 1002 in line.asked(1005)


def test_what_only_rendering_would_tell_is_not_guessed(line):
    line.add("TimeWarp")
    line.add("Grade")
    assert line.asked(1005) is None


def test_an_animated_offset_is_not_guessed(line):
    line.add("TimeOffset")
    line.last["time_offset"].setAnimated()
    line.last["time_offset"].setValueAt(1, 1001)
    line.last["time_offset"].setValueAt(5, 1006)
    line.add("Grade")
    assert line.asked(1005) is None


def test_a_time_warp_beside_or_above_does_not_count(
    line,
):
    comp = line.comp
    comp.node.setInput(0, small_comps.node(comp.nuke, "TimeWarp", [comp.read]))
    beside = small_comps.node(comp.nuke, "TimeOffset", [comp.read], time_offset=3)
    line.last = small_comps.node(comp.nuke, "Merge2", [comp.node, beside])
    line.add("Grade")
    assert line.asked(1005) == {1005}
