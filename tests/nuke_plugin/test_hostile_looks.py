"""Looks made to do harm, sent through everything that opens a look: each gives one line or works, soon and in little
memory; nothing that its name or facts say is run, and nothing else is opened."""

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hostile_looks
import pytest

from relightgan.core import cli
from relightgan.core.errors import LookError
from relightgan.core.look import load_look
from relightgan.nuke_plugin import library, looks

CASES = hostile_looks.CASES
MAX_S, MAX_BYTES = 2.0, 200 << 20  # of the processor, and of memory
HANGS_S = 30.0  # on the clock, on a machine that others use too
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")
FARM_WORDS = re.compile(r"error[ \t]*:|openjd_\w*[ \t]*:", re.IGNORECASE)
OUTSIDE = ("/etc/", "/dev/")

_opened: list[str] | None = None  # what is opened while a test watches


def watch(event: str, arguments: tuple) -> None:
    """An audit hook; it stays for the life of the process, so it does next to nothing unless a test watches."""
    if _opened is not None and event == "open" and isinstance(arguments[0], (str, bytes)):
        _opened.append(os.fsdecode(arguments[0]))
    elif _opened is not None and event in ("os.system", "os.exec", "subprocess.Popen", "os.posix_spawn"):
        _opened.append(f"/dev/{event}")


sys.addaudithook(watch)


class Watched:
    """Checks time, memory and opened files of what is done inside."""

    def __enter__(self) -> None:
        global _opened
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew (Linux)
        self.memory, self.began, self.worked = memory("VmRSS"), time.perf_counter(), time.process_time()
        _opened = []

    def __exit__(self, kind, *_) -> None:
        global _opened
        worked, passed = time.process_time() - self.worked, time.perf_counter() - self.began
        opened, _opened = _opened, None
        if kind is None:
            assert worked < MAX_S
            assert passed < HANGS_S
            assert memory("VmHWM") - self.memory < MAX_BYTES
            assert not [path for path in opened if path.startswith(OUTSIDE) and path != "/dev/null"]


def memory(name: str) -> int:
    """Bytes of memory that this process has now (VmRSS) or had at its peak (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


@pytest.fixture(autouse=True)
def nothing_run(tmp_path, monkeypatch):
    """A working folder where the commands in names and facts would leave a file."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    yield
    assert list(place.iterdir()) == []
    assert not list(tmp_path.rglob("PWNED"))


@pytest.fixture
def path_of(tmp_path):
    """Writes the look of a case; its path."""

    def write(case: str) -> str:
        path = tmp_path / f"looks{list(CASES).index(case)}" / CASES[case].file
        path.parent.mkdir()
        CASES[case].write(path)
        return path.as_posix()

    return write


def is_one_line(text: str, max_length: int = 4500) -> bool:
    return not HIDDEN.search(text) and not FARM_WORDS.search(text) and 0 < len(text) <= max_length


def told(call: Callable[[str], str], path: str) -> tuple[str, bool]:
    """What a function says of a look, or the line of its error; True for an error."""
    try:
        return call(path), False
    except LookError as error:
        return str(error), True


def test_there_are_many_cases():
    assert len(CASES) > 150


@pytest.mark.parametrize("case", CASES)
def test_the_node_and_the_library_tell_what_it_is_or_why_it_cannot_be_used(case, path_of):
    path = path_of(case)
    with Watched():
        entry = library.describe(path)
        info = told(looks.look_info, path)[0].split("\n")
        digest, _ = told(looks.look_sha256, path)
    assert re.fullmatch("[0-9a-f]{64}", digest) or is_one_line(digest)
    assert (entry.problem == "") is CASES[case].works, entry.problem
    assert len(info) <= 4
    assert all(is_one_line(line) for line in info)
    rows = [text for row in entry.rows for text in row]
    for text in (entry.name, entry.direction, entry.line, *rows, entry.problem, entry.fix):
        assert text == "" or is_one_line(text)
    assert all(len(text) <= 200 for title, text in entry.rows if title != "File")
    assert len(entry.rows) <= 13
    assert len(entry.preview) <= 256 << 10
    assert looks.report_of(path) is None


@pytest.mark.parametrize("case", CASES)
def test_the_command_line_prints_what_is_inside_or_one_line(case, path_of, capsys):
    path = path_of(case)
    with Watched():
        code = cli.main(["look", path])
    out, err = capsys.readouterr()
    assert code in (0, 1)
    assert not FARM_WORDS.search(out)
    assert not HIDDEN.search(out.replace("\n", ""))
    if code:
        assert err.startswith("Error: ")
        assert is_one_line(err.removeprefix("Error: ").removesuffix("\n"))
    else:
        assert err == ""
        assert len(out) < 200_000


@pytest.mark.parametrize("case", CASES)
def test_the_worker_loads_it_or_refuses_it_in_one_line(case, path_of):
    path = path_of(case)
    with Watched():
        problem, refused = told(lambda path: str(load_look(path).path), path)
    assert is_one_line(problem) or not refused
    assert refused or CASES[case].works or CASES[case].file in FINE_ON_A_COMMAND_LINE


# What the library refuses and the worker takes: names that no line of a script can hold, and more parts than are read
# inside Nuke.
FINE_ON_A_COMMAND_LINE = {case.file for name, case in CASES.items() if name.startswith("name, ")} | {
    "keys.onnx",
    "a million tiny fields.onnx",
    "group.onnx",
    "overlong tag.onnx",
}
GROUPS = sorted({name.partition(",")[0].partition(" ")[0] for name in CASES})


def of_group(group: str) -> list[str]:
    return [name for name in CASES if name.startswith(group)]


@pytest.mark.parametrize("everything", [False, True])
def test_a_dropped_look_is_a_path_and_never_an_expression(everything, path_of, nuke_session, tmp_path):
    nuke = nuke_session(gui=True, quirks={"texts_substitute_all": everything})
    import nukescripts

    from relightgan.nuke_plugin import hooks, knobs, state

    script = tmp_path / "saved.nk"
    for case in [name for name in of_group("name") if CASES[name].works]:
        nuke.scriptClear()
        path = path_of(case)
        with Watched():
            assert nukescripts.dropData("text/plain", path) is True
            (node,) = nuke.allNodes()
            hooks.knob_changed(node, node["look"])
            assert knobs.path_of(node, knobs.LOOK) == path
            assert knobs.read_settings(node).look == path
            assert node["look_info"].value().startswith("tiny")
            assert state.badge(node)
        # What Nuke itself makes of the knob, apart from frames and views, which it puts into any path.
        if not re.search(r"%0?\d*d|#|%[vV]", path):
            assert node["look"].evaluate() == path
        nuke.scriptSaveAs(str(script), 1)
        nuke.scriptClear()
        nuke.scriptOpen(str(script))
        assert [knobs.path_of(made, knobs.LOOK) for made in nuke.allNodes()] == [path]


@pytest.mark.parametrize("group", [name for name in GROUPS if name != "name"])
def test_a_look_chosen_in_a_node_is_told_of_in_texts_that_nothing_evaluates(group, path_of, nuke_session):
    nuke = nuke_session(gui=True)
    import nukescripts

    from relightgan.nuke_plugin import hooks, knobs

    node = nuke.createNode("RelightGAN")
    for case in of_group(group):
        path = path_of(case)
        with Watched():
            nukescripts.dropData("text/plain", path)
            dropped = [other for other in nuke.allNodes() if other is not node]
            knobs.set_path(node, knobs.LOOK, path)
            hooks.knob_changed(node, node["look"])
            texts = [node["look_info"].value(), node["status"].value(), hooks.autolabel(node)]
        for text in texts:
            assert not re.search(r"[<>&\[$\\]", text), case
            assert all(is_one_line(line) for line in text.split("\n")), case
        assert len(dropped) == CASES[case].works, case
        for other in dropped:
            nuke.delete(other)


@pytest.mark.parametrize("everything", [False, True])
def test_folders_of_the_shot_may_have_any_name(everything, nuke_session, tmp_path):
    """What the bake sets in the knobs of the Write and of the Read inside, which evaluate them."""
    nuke = nuke_session(quirks={"texts_substitute_all": everything})
    from relightgan.nuke_plugin import graph, knobs
    from relightgan.nuke_plugin.cache import Places
    from relightgan.nuke_plugin.restore import source_writer

    node = nuke.createNode("RelightGAN")
    for name in (f"[{hostile_looks.RUN}]", "a$env(HOME)", "b\\[c]", "d]e}{f\\n", '"g" `h`', "[format %c 91]"):
        folder = tmp_path / name
        pattern = f"{folder.as_posix()}/%V/source.%04d.exr"
        with source_writer(node, pattern) as write:
            assert write["file"].evaluate(7, view="main") == f"{folder.as_posix()}/main/source.0007.exr"
            assert knobs.pattern_of(node, knobs.SOURCE_PATH) == pattern
        taken = Places(folder, "0" * 16).pattern("1" * 16)
        knobs.set_path(node, knobs.RESULT_PATH, taken)
        read = graph.inner(node, knobs.READ_NODE)
        assert read["file"].evaluate(7, view="main") == taken.replace("%V", "main").replace("%04d", "0007")
        assert knobs.pattern_of(node, knobs.RESULT_PATH) == taken


def test_what_an_artist_types_stays_an_expression(nuke_session, tmp_path):
    nuke = nuke_session()
    from relightgan.nuke_plugin import knobs

    node = nuke.createNode("RelightGAN")
    node["look"].setValue("/looks/[python {'a' + 'b'}].onnx")
    assert knobs.path_of(node, knobs.LOOK) == "/looks/ab.onnx"
    node["look"].setValue("C:\\looks\\a.onnx")
    assert knobs.path_of(node, knobs.LOOK) == "C:/looks/a.onnx"


@pytest.mark.parametrize("text", ["", "a/b.onnx", "[x]", "$x\\", "[format %c 91]", "[[format %c 36]]", "\\[", "ü [ $"])
def test_escapes_are_taken_back(text, nuke_session):
    nuke_session()
    from relightgan.nuke_plugin import knobs

    assert knobs.unescaped(knobs.escaped(text)) == text
    assert not knobs.has_expression(knobs.escaped(text))
    assert not re.search(r"[<>&\[$\\]", knobs.harmless(f"{text} <b>&amp; {text}"))


def test_memory_for_metadata_is_bounded_over_all_looks(tmp_path):
    paths = [str(tmp_path / f"{number}.onnx") for number in range(60)]
    whole = hostile_looks.look(hostile_looks.stated(config={"x": "y" * (3 << 20)}))
    before = memory("VmRSS")
    for path in paths:
        Path(path).write_bytes(whole)
        assert looks.look_facts(path)["name"] == "tiny"
    assert memory("VmRSS") - before < MAX_BYTES / 2
    assert looks.look_facts(paths[0])["name"] == "tiny"


def test_a_library_shows_a_limited_number_of_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "MAX_LOOKS", 20)
    for number in range(30):
        (tmp_path / f"{number}.onnx").touch()
    assert len(list(library.find_looks([tmp_path]))) == 20


@pytest.mark.slow
def test_a_hundred_megabytes_of_tiny_fields_are_refused_at_once(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"\x08\x01" * (50 << 20) + hostile_looks.look())
    with Watched():
        assert "100 parts" in library.describe(str(path)).problem
