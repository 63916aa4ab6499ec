"""The verdict that a look states: read with bounds, shown by the command, in the node's line and in the library."""

import pytest
import tiny_looks

from relightgan.core import cli
from relightgan.core.look_verdict import COLOURS, Verdict, stated_verdict
from relightgan.nuke_plugin import library, looks

STARVED = {
    "kind": "under-fitted",
    "words": "off by 0.91 stops on 8 photos that it had not seen (untouched 0.94, a simple colour transfer 0.73)",
    "advice": "248 of about 10,000 images: go on with the same command and `--max-minutes 20`.",
    "look_stops": 0.91,
}


def test_a_verdict_is_read_as_it_was_written():
    found = stated_verdict({"detail": 0.2, "verdict": STARVED})
    assert found == Verdict(STARVED["kind"], STARVED["words"], STARVED["advice"])
    assert found.colour == "red"
    assert found.line.startswith("under-fitted: off by 0.91 stops")


@pytest.mark.parametrize(
    "stated",
    [
        None,
        "good",
        ["good"],
        {},
        {"kind": ""},
        {"kind": 3},
        {"kind": "good", "words": 7},
        {"kind": "good", "advice": []},
    ],
)
def test_what_is_no_verdict_is_none(stated):
    assert stated_verdict({"verdict": stated}) is None
    assert stated_verdict(stated) is None


def test_a_newer_kind_has_no_colour_and_foreign_texts_are_bounded_and_spelt_out():
    found = stated_verdict({"verdict": {"kind": "so-so\n" * 99, "words": "Error: \x1b[31m" + "x" * 10**6}})
    assert found.colour == ""
    assert len(found.line) < 460
    assert found.line.isprintable()
    assert "Error:" not in found.line


def test_every_colour_is_one_that_terminals_and_pages_know():
    assert {*COLOURS.values()} == {"green", "yellow", "red", ""}


def test_command_node_and_library_say_the_verdict_and_what_to_do(tmp_path, capsys):
    path = str(tiny_looks.identity_look(tmp_path / "look.onnx", evaluation={"psnr_db": 24.2, "verdict": STARVED}))
    assert cli.main(["look", path]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in (f"verdict under-fitted: {STARVED['words']}", STARVED["advice"], "verdict.look_stops 0.91"):
        assert words in told
    assert "verdict.words" not in told
    assert f"Verdict: under-fitted: {STARVED['words']}" in looks.look_info(path).splitlines()
    entry = library.describe(path)
    rows = dict(entry.rows)
    assert rows["Verdict"] == f"under-fitted: {STARVED['words']}"
    assert rows["What to do"] == STARVED["advice"]
    assert rows["Psnr db"] == "24.2"
    assert not any(title.startswith("Verdict ") for title in rows)
    assert "under-fitted" in entry.line


def test_a_look_that_states_none_says_nothing_of_it(tmp_path, capsys):
    path = str(tiny_looks.identity_look(tmp_path / "look.onnx", evaluation={"psnr_db": 24.2}))
    assert cli.main(["look", path]) == 0
    told = capsys.readouterr().out + looks.look_info(path) + str(library.describe(path))
    assert "verdict" not in told.lower()
