"""Foreign text in our lines: it is read, and never obeyed."""

import json
import subprocess
import sys

import pytest
import tiny_looks
import tiny_plates

from relightgan.core import cli
from relightgan.core.errors import RelightError
from relightgan.core.options import Parser
from relightgan.core.text import MAX_SHOWN, json_text, printable, shown

HOSTILE = "a\nopenjd_fail: b\r\x1b[31mError: c\u202egpj.\x9b\u2028"
SPELT = r"a\nopenjd_fail\x3a b\r\x1b[31mError\x3a c\u202egpj.\x9b\u2028"


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        (HOSTILE, SPELT),
        ("sun\tset\0", r"sun\tset\x00"),
        ("caf\udce9.jpg", r"caf\xe9.jpg"),
        ("half \ud800", r"half \ud800"),
        ("ERROR : x, Error:y, Openjd_Env: z", r"ERROR \x3a x, Error\x3ay, Openjd_Env\x3a z"),
        ("an error: small", "an error: small"),
        ("Grüße, 日本語, 100 % \U0001f305", "Grüße, 日本語, 100 % \U0001f305"),
        ("/shots/a:b/terror.exr", "/shots/a:b/terror.exr"),
        ("", ""),
    ],
)
def test_what_can_not_be_seen_or_would_be_obeyed_is_spelt_out(text, spelt):
    assert printable(text) == spelt
    assert shown(text) == spelt
    assert RelightError(f"{text} is wrong.", text).problem == f"{spelt} is wrong."
    assert printable(spelt) == spelt  # once is enough


def test_long_text_is_cut_in_the_middle_and_keeps_its_end():
    for text in ("x" * 10_000_000 + ".onnx", "\n" * 500 + ".onnx", "é" * 201):
        found = shown(text)
        assert len(found) <= MAX_SHOWN
        assert " … " in found
        assert found.endswith(text[-5:])
    assert shown("x" * MAX_SHOWN) == "x" * MAX_SHOWN
    assert len(str(RelightError("x" * 1_000_000, "y" * 1_000_000))) < 10_000


def test_json_reads_back_the_same_and_has_no_line_that_is_obeyed():
    value = {HOSTILE: [HOSTILE, 1.5, None, True], "error": {"x": "y"}}
    for indent in (None, 2):
        text = json_text(value, indent)
        assert json.loads(text) == value
        assert all(line.isprintable() for line in text.split("\n"))
        assert "Error:" not in text
        assert "openjd_fail:" not in text


def test_what_argparse_repeats_is_spelt_out(capsys):
    with pytest.raises(SystemExit):
        Parser(prog="relightgan x").parse_args([HOSTILE])
    assert SPELT in capsys.readouterr().err


def obeyed(text: str) -> list[str]:
    """The lines by which a name would speak to a terminal or a farm manager."""
    lines = text.replace("\r", "\n").split("\n")
    return [line for line in lines if "openjd_fail:" in line or "\x1b" in line or "Error: c" in line]


@pytest.fixture
def hostile_folder(tmp_path):
    """A folder whose name, and those of the frames and the look in it, would speak to a farm manager."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    tiny_looks.identity_look(folder / f"{HOSTILE}.onnx", name=HOSTILE, licence=HOSTILE, direction=HOSTILE)
    tiny_plates.write_exr(folder / f"{HOSTILE}.0001.exr", tiny_plates.rgb_channels(tiny_plates.texture(20, 30)), "half")
    return folder


def test_no_command_lets_a_name_speak(hostile_folder, capfd):
    look, plate = hostile_folder / f"{HOSTILE}.onnx", hostile_folder / f"{HOSTILE}.0001.exr"
    out = hostile_folder / "out.0001.exr"
    commands = [
        ["infer", look, plate, out, "--device", "cpu", "--frames", "1"],
        ["infer", look, plate, out, "--device", "cpu"],  # they are there already
        ["infer", look, hostile_folder / "no.%04d.exr", out],
        ["infer", plate, plate, out],
        ["infer", hostile_folder, plate, out],
        ["look", look],
        ["look", look, "--json"],
        ["look", hostile_folder / "none.onnx"],
        ["look", look, "--preview", hostile_folder / "p.jpg"],
        ["evaluate", look, "--pairs", hostile_folder],
        [HOSTILE],
    ]
    for words in commands:
        cli.main([str(word) for word in words])
        found = capfd.readouterr()
        assert found.out or found.err
        assert obeyed(found.out) == []
        assert obeyed(found.err) == []
    assert out.is_file()


def test_a_dump_of_photos_with_such_names_is_looked_at_and_can_not_speak(tmp_path, capfd):
    folder = tmp_path / HOSTILE
    folder.mkdir()
    for number in range(3):
        tiny_plates.write_exr(
            folder / f"{number}.exr", tiny_plates.rgb_channels(tiny_plates.texture(64, 96, number)), "half"
        )
        (folder / f"{HOSTILE}{number}.jpg").write_bytes(b"\xff\xd8\xff no photo")
    cli.main(["photos", str(folder), "--out", str(tmp_path / "out"), "--progress", "none"])
    found = capfd.readouterr()
    assert "left out" in found.out
    assert obeyed(found.out) == []
    assert obeyed(found.err) == []
    lists = list((tmp_path / "out").rglob("left_out.txt"))
    assert [len(path.read_text(encoding="utf-8").splitlines()) for path in lists] == [3]


@pytest.mark.process
def test_names_that_are_no_utf_8_are_printed_on_a_stream_of_ascii(tmp_path):
    command = [sys.executable, "-m", "relightgan.core.cli", "look", b"/no/caf\xe9.onnx"]
    done = subprocess.run(command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}, check=False)
    assert done.returncode == 1
    assert rb"caf\xe9.onnx" in done.stderr
    assert b"Traceback" not in done.stderr
