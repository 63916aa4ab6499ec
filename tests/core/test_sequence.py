import pytest

from relightgan.core.errors import SequenceError
from relightgan.core.sequence import Sequence, format_frames, is_movie, parse_frames


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")


def test_a_range_text_gives_every_frame_once_in_rising_order():
    assert parse_frames("1150,1001-1003,1002") == [1001, 1002, 1003, 1150]
    assert parse_frames("1-9x4") == [1, 5, 9]
    assert parse_frames(" 7 , 10-8 ") == [7, 8, 9, 10]


def test_frames_may_be_negative():
    assert parse_frames("-3--1,0") == [-3, -2, -1, 0]
    assert parse_frames("-2-1") == [-2, -1, 0, 1]


@pytest.mark.parametrize("text", ["", "a", "1-", "1,,2", "1-5x", "1-10x0", "1.5", "1-3,#", "1 2", "1-99999999999"])
def test_nonsense_is_refused_with_an_example(text):
    with pytest.raises(SequenceError, match=r"can't be read.*1001-1100,1150"):
        parse_frames(text)


@pytest.mark.parametrize("frames", [[1], [1, 2, 3], [-5, -4, 0, 2, 4, 6, 100], [1001, 1003], []])
def test_format_frames_is_short_and_reads_back(frames):
    text = format_frames(frames[::-1])
    assert len(text) < 25
    assert text == "none" if not frames else parse_frames(text) == frames


def test_format_frames_makes_ranges():
    assert format_frames([*range(1001, 1101), 1150]) == "1001-1100,1150"


@pytest.mark.parametrize("pattern", ["plates.%04d.exr", "plates.####.exr"])
def test_printf_and_hash_patterns_name_the_same_files(pattern, tmp_path):
    sequence = Sequence(tmp_path / pattern)
    assert sequence.path(7) == tmp_path / "plates.0007.exr"
    assert sequence.path(12345) == tmp_path / "plates.12345.exr"
    assert sequence.path(-7) == tmp_path / "plates.-007.exr"


def test_a_number_without_width_is_not_padded(tmp_path):
    assert Sequence("a/b.%d.exr").path(7).name == "b.7.exr"
    assert Sequence("a/b_#.exr").path(12).name == "b_12.exr"


def test_existing_lists_only_files_of_exactly_this_pattern(tmp_path):
    touch(tmp_path, "p.0001.exr", "p.0003.exr", "p.10000.exr", "p.-002.exr")
    touch(
        tmp_path,
        "p.7.exr",
        "p.00008.exr",
        "pp.0004.exr",
        "p.0005.exr.tmp",
        ".p.0006.exr.ab.part",
        "pX0009.exr",
        "p..exr",
    )
    assert Sequence(tmp_path / "p.%04d.exr").existing() == [-2, 1, 3, 10000]
    assert Sequence(tmp_path / "p.%d.exr").existing() == [7, 10000]


def test_a_folder_that_is_not_there_holds_no_frames(tmp_path):
    assert Sequence(tmp_path / "none" / "p.%04d.exr").existing() == []


def test_signs_with_a_meaning_elsewhere_are_plain_letters_here(tmp_path):
    touch(tmp_path, "a+(b)[1] 50% .0004.exr")
    assert Sequence(tmp_path / "a+(b)[1] 50% .%04d.exr").existing() == [4]


def test_missing_frames_are_named_with_the_pattern_and_what_is_there(tmp_path):
    touch(tmp_path, *(f"p.{n:04d}.exr" for n in (*range(1001, 1011), 1015)))
    sequence = Sequence(tmp_path / "p.%04d.exr")
    sequence.require([1001, 1010, 1015])
    with pytest.raises(SequenceError, match=r"p\.%04d\.exr lacks 4 frames: 1011-1014.*On disk: 1001-1010,1015"):
        sequence.require(range(1001, 1016))
    with pytest.raises(SequenceError, match="lacks frame 1020"):
        sequence.require([1020])


def test_a_still_is_one_frame_and_never_more(tmp_path):
    touch(tmp_path, "still.exr")
    still = Sequence(tmp_path / "still.exr")
    assert still.is_still
    assert still.existing() == [1]
    assert still.path(1) == tmp_path / "still.exr"
    still.require([1])
    with pytest.raises(SequenceError, match="one file, but frames 1-3"):
        still.require([1, 2, 3])
    with pytest.raises(SequenceError, match="one file"):
        Sequence("out.exr").check_apart([1, 2])


def test_a_still_that_is_not_there_is_an_error(tmp_path):
    still = Sequence(tmp_path / "still.exr")
    assert still.existing() == []
    with pytest.raises(SequenceError, match="doesn't exist"):
        still.require([1])


@pytest.mark.parametrize("pattern", ["a.%04d.%04d.exr", "shot_%03d/a.%04d.exr", "a.##.#.exr", "v#/a.exr"])
def test_two_places_for_the_number_are_refused(pattern):
    with pytest.raises(SequenceError, match="more than one"):
        Sequence(pattern)


def test_movies_are_known_by_their_suffix():
    assert is_movie("a/b.MOV")
    assert is_movie("b.mp4")
    assert not is_movie("b.%04d.exr")
