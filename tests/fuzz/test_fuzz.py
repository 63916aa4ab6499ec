"""Thousands of damaged files for every reader: each is read whole, or refused in one line that names it.

A few tries of each kind run with all other tests. All of them, with two seeds (some minutes on two cores):

    python -m pytest tests/fuzz -m slow

What went wrong is told with a command that runs that one try again, with its traceback:

    PYTHONPATH=$PWD:$PWD/tests/support python tests/support/fuzzing.py exr --seed 1 --try 123

A try damages one of the small files that `tests/support/fuzz_<kind>.py` makes (`tests/support/damage.py`) and gives it
to the real reader, in a process that may neither take more than some seconds for it nor grow by more than two
gigabytes. A crash in a decoder ends that process alone, and is told as the try that it was at.
"""

import pytest
from fuzzing import fuzz

# Kinds of files, and the number of tries with one seed.
TRIES = {"exr": 4_000, "photos": 3_200, "movies": 800, "masks": 800, "runs": 1_600}
SHORT = 60


@pytest.mark.process
@pytest.mark.parametrize("kind", TRIES)
def test_damaged_files_are_read_whole_or_refused_by_name(kind, tmp_path):
    check(kind, SHORT, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", TRIES)
def test_thousands_of_damaged_files_are_read_whole_or_refused_by_name(kind, seed, tmp_path):
    check(kind, TRIES[kind], seed, tmp_path)


@pytest.mark.process
def test_a_reader_that_crashes_hangs_or_raises_is_told_with_its_tries(tmp_path):
    tally = fuzz("worst", 6, 0, tmp_path)
    assert tally.ends == {"read": 2, "wrong": 4}
    told = "\n".join(tally.wrong)
    for number, why in enumerate(["KeyError", "ended with -6", "ended with 1", "doesn't name the file"], 1):
        assert f"fuzzing.py worst --seed 0 --try {number}" in told
        assert why in told


def check(kind, tries, seed, folder):
    tally = fuzz(kind, tries, seed, folder)
    print(f"{kind}, seed {seed}: {tally.told()}")
    assert not tally.wrong, f"{tally.told()}\n\n" + "\n\n".join(tally.wrong[:10])
    assert tally.ends.total() == tries
    assert tally.ends["refused"] > tries / 10  # else nothing was damaged
    assert tally.ends["read"] > tries / 20  # else nothing can be read
