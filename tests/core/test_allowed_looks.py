"""A site's list of the looks that may run."""

import hashlib

import pytest
import tiny_looks
import tiny_plates

from relightgan.core import allowed_looks, cli, look
from relightgan.core.allowed_looks import VARIABLE, allowed_only
from relightgan.core.errors import LookError
from relightgan.core.progress import Cancellation
from relightgan.core.worker_tasks import Tasks


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a look, a plate, and an empty list that is in force."""
    tiny_looks.identity_look(tmp_path / "look.onnx")
    tiny_plates.write_exr(tmp_path / "p.0001.exr", tiny_plates.rgb_channels(tiny_plates.texture(20, 30)), "half")
    (tmp_path / "looks.sha256").write_text("# nobody yet\n\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "looks.sha256"))
    return tmp_path


def infer(place) -> int:
    words = [place / "look.onnx", place / "p.0001.exr", place / "out.0001.exr", "--device", "cpu", "--progress", "none"]
    return cli.main(["infer", *map(str, words)])


def test_a_look_runs_once_its_line_is_on_the_list(place, capsys):
    assert infer(place) == 1
    error = capsys.readouterr().err
    assert f"{place}/look.onnx isn't among the looks that this site allows" in error
    assert not (place / "out.0001.exr").exists()
    assert cli.main(["look", "--sha256", str(place / "look.onnx")]) == 0
    line = capsys.readouterr().out
    assert line == f"{hashlib.sha256((place / 'look.onnx').read_bytes()).hexdigest()}  {place}/look.onnx\n"
    (place / "looks.sha256").write_text(line)
    assert infer(place) == 0
    assert (place / "out.0001.exr").is_file()


@pytest.mark.parametrize("form", ["{}", "{}  look.onnx", "{} *look.onnx", "# x\n\n{}\tlook"])
def test_lists_of_sha256sum_are_read(place, form):
    sha256 = hashlib.sha256(b"x").hexdigest()
    for spelt in (sha256, sha256.upper()):
        (place / "looks.sha256").write_text(form.format(spelt) + "\n")
        allowed_only()(sha256, place)
        with pytest.raises(LookError, match="isn't among"):
            allowed_only()(hashlib.sha256(b"y").hexdigest(), place)


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"])
def test_the_name_of_an_allowed_look_brings_no_line_of_its_own(place, end):
    sha256, other = (hashlib.sha256(content).hexdigest() for content in (b"x", b"y"))
    line = f"{sha256}  sun{end}{other}  .onnx\n"  # as `sha256sum` prints such a name
    (place / "looks.sha256").write_bytes(line.encode())
    allowed_only()(sha256, place)
    with pytest.raises(LookError, match="isn't among"):
        allowed_only()(other, place)


def test_a_list_with_the_line_ends_of_windows_is_read(place):
    sha256 = hashlib.sha256(b"x").hexdigest()
    (place / "looks.sha256").write_bytes(f"# x\r\n\r\n{sha256}\r\n".encode())
    allowed_only()(sha256, place)


def test_the_worker_refuses_what_is_not_on_the_list_before_it_is_parsed(place, monkeypatch):
    sha256 = hashlib.sha256((place / "look.onnx").read_bytes()).hexdigest()
    tasks = Tasks([place], lambda event: None, lambda: None)
    settings = {"exposure": 0.0, "temporal_blend": 0.0, "temporal_window": 0, "working_space": "lin_rec709"}
    request = {
        "type": "relight", "id": "r", "look": str(place / "look.onnx"), "look_sha256": sha256, "device": "cpu",
        "settings": {**settings, "premultiplied": True}, "source": str(place / "p.%04d.exr"), "clip": [1, 1],
        "outputs": {"1": str(place / "store" / "key.exr")}, "precision": "half", "notes": {},
    }  # fmt: skip
    with monkeypatch.context() as never:
        never.setattr(look, "parse_model", lambda *words: pytest.fail("it was parsed"))
        for wrong in (sha256, "0" * 64):  # a list that has the sum which was asked for, but not that of the file
            (place / "looks.sha256").write_text("0" * 64 + "\n")
            with pytest.raises(LookError, match="isn't among the looks"):
                tasks.relight({**request, "look_sha256": wrong}, Cancellation(), lambda frame: None)
        with pytest.raises(LookError, match="isn't among the looks"):
            tasks.look({"type": "look", "id": "l", "path": str(place / "look.onnx")})
    (place / "looks.sha256").write_text(sha256)
    tasks.relight(request, Cancellation(), lambda frame: None)
    (place / "looks.sha256").write_text("")  # it was taken back, while the worker has it in memory
    with pytest.raises(LookError, match="isn't among the looks"):
        tasks.relight(request, Cancellation(), lambda frame: None)


@pytest.mark.parametrize("content", ["abc look.onnx", "0" * 63, "0" * 65, "g" * 64, "\xff\n"])
def test_a_list_with_a_wrong_line_allows_nothing(place, content):
    (place / "looks.sha256").write_text(f"{'0' * 64}\n{content}\n")
    with pytest.raises(LookError, match=r"Line 2 of .*looks\.sha256 has no SHA-256"):
        allowed_only()


def test_a_list_that_can_not_be_read_allows_nothing(place, monkeypatch):
    (place / "looks.sha256").unlink()
    with pytest.raises(LookError, match="can't be read: No such file"):
        allowed_only()
    monkeypatch.setenv(VARIABLE, str(place))
    with pytest.raises(LookError, match="isn't a file"):
        allowed_only()
    monkeypatch.setenv(VARIABLE, "/dev/zero")
    with pytest.raises(LookError, match="isn't a file"):
        allowed_only()
    assert infer(place) == 1


def test_without_a_list_every_look_may_run(place, monkeypatch):
    for value in (None, ""):
        monkeypatch.delenv(VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(VARIABLE, value)
        allowed_looks.allowed_only()("0" * 64, place)
