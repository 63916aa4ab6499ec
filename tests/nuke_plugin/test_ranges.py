"""Frame ranges inside Nuke mean what they mean on the command line."""

import random

import pytest

from relightgan.core import sequence
from relightgan.core.errors import SequenceError
from relightgan.nuke_plugin.ranges import format_frames, parse_frames, runs

TEXTS = [
    "1001-1100", "7", "1-3,5", "1-20x2", "1-20y3", "1-20:4", "10-1", "10-1x3", "10-1y3", "-5--1", "-3-3", "01-03",
    " 5 ,6", "1-1", "99999999-100000001", "3-1x5", "1,1,1",
]  # fmt: skip
BAD_TEXTS = ["", "a", "1-", "1--", "1-10x", "1-10x0", "1-10y-2", "1 - 3", "+1", "1,,2", "1.5", "1-10z2", "1-90000000"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_means_the_same_as_on_the_command_line(text):
    assert parse_frames(text) == sequence.parse_frames(text)


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_what_the_command_line_refuses_is_refused_with_the_text_in_the_message(text):
    with pytest.raises(SequenceError):
        sequence.parse_frames(text)
    with pytest.raises(SequenceError, match="Write ranges like") as caught:
        parse_frames(text)
    assert repr(text) in str(caught.value)


def test_frames_are_written_as_on_the_command_line_and_read_back():
    chance = random.Random(3)
    for _ in range(500):
        frames = sorted(chance.sample(range(-12, 40), chance.randint(1, 25)))
        assert format_frames(frames) == sequence.format_frames(frames)
        assert parse_frames(format_frames(frames)) == frames


def test_no_frames_are_called_none():
    assert format_frames([]) == sequence.format_frames([]) == "none"


def test_runs_are_the_unbroken_stretches():
    assert runs([5, 1, 2, 3, 7, 8, -1]) == [(-1, -1), (1, 3), (5, 5), (7, 8)]
    assert runs([]) == []
