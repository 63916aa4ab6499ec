"""The simulated Nuke as a program: start-up files, command line, what is rendered, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_plates

pytestmark = pytest.mark.process

NUKE = Path(__file__).parents[1] / "nuke_sim" / "bin" / "nuke"
REPORT = "import json, os, sys, nuke\nprint('REPORT ' + json.dumps(%s))\n"
SCRIPT = """
Root {
 inputs 0
 first_frame 1
 last_frame 3
 format "4 2 0 0 4 2 1 tiny"
 proxy_type scale
 proxy_scale 0.5
 %(root)s
}
Read {
 inputs 0
 file "%(folder)s/plate.%%04d.exr"
 first 1
 last 3
 raw true
 name Read1
}
set N0 [stack 0]
%(nodes)s
"""


def write_node(name, more=""):
    return f"""
push $N0
Write {{
 file "%(folder)s/{name}.%%04d.exr"
 file_type exr
 raw true
 {more}
 name {name}
}}
"""


@pytest.fixture
def desk(
    tmp_path,
):
    """A machine with a home folder, a plate of three frames, and ways to run our nuke on it."""

    class Desk:
        folder = tmp_path / "shot"
        home = tmp_path / "home"
        paths = ()

        def run(self, *words, quirks="", **environment):
            kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
            environment = {
                **kept,
                "HOME": str(self.home),
                "NUKE_PATH": os.pathsep.join(map(str, self.paths)),
                "NUKE_SIM_PYTHON": sys.executable,
                "NUKE_SIM_QUIRKS": quirks,
                **environment,
            }
            command = [str(NUKE), *map(str, words)]
            return subprocess.run(
                command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
            )

        def python(self, code, *words, before=(), **options):
            """Runs code with -t; returns the finished process."""
            (self.folder / "job.py").write_text(code)
            return self.run(*before, "-t", "job.py", *words, **options)

        def report(self, what, *words, **options):
            """What a Python expression is in `nuke -t job.py ...`."""
            done = self.python(REPORT % what, *words, **options)
            assert done.returncode == 0, done.stderr
            line = next(line for line in done.stdout.splitlines() if line.startswith("REPORT "))
            return json.loads(line.removeprefix("REPORT "))

        def script(self, nodes, root=""):
            path = self.folder / "comp.nk"
            values = {"folder": self.folder.as_posix(), "root": root}
            path.write_text(SCRIPT % {**values, "nodes": nodes % values})
            return path

        def written(self):
            """Names of frames that exist beside the plates."""
            return sorted(p.name for p in self.folder.glob("*.exr") if not p.name.startswith("plate."))

        def put(self, path, text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return path

    one = Desk()
    one.home.mkdir()
    for frame in (1, 2, 3):
        rgb = np.full((2, 4, 3), frame, np.float32)
        tiny_plates.write_exr(one.folder / f"plate.{frame:04d}.exr", tiny_plates.rgb_channels(rgb), "float")
    return one


# --- start-up files


def test_init_runs_in_a_terminal_and_menu_does_not(desk):
    for name in ("first", "second"):
        folder = desk.folder / name
        desk.put(folder / "init.py", f"import os\nos.environ['STARTED'] = os.environ.get('STARTED', '') + '{name} '\n")
        desk.put(folder / "menu.py", "import no_such_module_because_there_is_no_window\n")
    desk.put(
        desk.home / ".nuke" / "init.py", "import os\nos.environ['STARTED'] = os.environ.get('STARTED', '') + 'home '\n"
    )
    desk.paths = (desk.folder / "first", desk.folder / "second")
    started = desk.report("os.environ['STARTED'].split()")
    assert sorted(started) == ["first", "home", "second"]
    assert desk.report("nuke.GUI") is False


def test_an_init_can_add_a_folder_beside_itself_whose_init_runs_too(desk):
    desk.put(desk.home / ".nuke" / "init.py", "nuke.pluginAddPath('./tools')\n")
    desk.put(desk.home / ".nuke" / "tools" / "init.py", "import os\nos.environ['TOOLS'] = 'yes'\n")
    desk.put(desk.home / ".nuke" / "tools" / "helper_of_ours.py", "answer = 42\n")
    assert desk.report("[os.environ['TOOLS'], __import__('helper_of_ours').answer]") == ["yes", 42]


def test_a_broken_init_stops_nuke(desk):
    desk.put(desk.home / ".nuke" / "init.py", "raise RuntimeError('broken start')\n")
    done = desk.python("print('not reached')")
    assert done.returncode == 1
    assert "broken start" in done.stderr
    assert "not reached" not in done.stdout


# --- -t and its arguments


def test_arguments_reach_the_script_but_a_range_at_the_end_is_eaten_with_a_warning(desk):
    (desk.folder / "job.py").write_text(REPORT % "[sys.argv, nuke.rawArgs[1:], nuke.tcl('frames all')]")

    def ask(*words, **options):
        done = desk.run("-t", "job.py", *words, **options)
        line = next(line for line in done.stdout.splitlines() if line.startswith("REPORT "))
        return json.loads(line.removeprefix("REPORT ")), done.stderr

    (argv, raw, frames), said = ask("--write", "Write1", "5", "--frames=1-10")
    assert argv == ["job.py", "--write", "Write1", "5", "--frames=1-10"]
    assert (frames, said) == ("", "")
    (argv, raw, frames), said = ask("--frames", "1-10")
    assert argv == ["job.py", "--frames"]
    assert raw == ["-t", "job.py", "--frames", "1-10"]
    assert frames == "1-10"
    assert said.startswith("WARNING: The command line argument '1-10' will be used as a Frame Range argument")
    assert ask("1-10", quirks="frames_all_in_execute=false")[0][2] == ""


@pytest.mark.parametrize("word", ["7", "1-10", "1,10", "1-10x2", "-5", "1,10,2"])
def test_what_looks_like_a_range_is_eaten_only_at_the_end(sim, word):
    from nuke_simulator import process

    assert process.parse(["-t", "job.py", "a", word]).arguments == ["a"]
    assert process.parse(["-t", "job.py", "a", word]).eaten == word
    assert process.parse(["-t", "job.py", word, "a"]).arguments == [word, "a"]
    assert process.parse(["-t", "job.py", f"--frames={word}"]).eaten == ""


def test_frames_of_the_option_are_in_frames_all_too(desk):
    assert desk.report("nuke.tcl('frames all')", before=("-F", "2-3")) == "2-3"


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("import sys\nsys.exit(3)", 3, ""),
        ("import sys\nsys.exit()", 0, ""),
        ("import sys\nsys.exit('no frames')", 1, "no frames"),
        ("raise ValueError('bad look')", 1, "ValueError: bad look"),
        ("import nuke\nnuke.execute('Write9', 1, 1)", 1, "Error"),
        ("print(__name__)", 0, ""),
    ],
)
def test_a_scripts_end_is_the_exit_code(desk, code, exit_code, said):
    done = desk.python(code)
    assert done.returncode == exit_code
    assert said in done.stderr


def test_file_is_defined_in_the_main_script_unless_the_quirk_says_no(desk):
    assert desk.report("__file__") == "job.py"
    assert desk.report("'__file__' in globals()", quirks="main_file_defined=false") is False
    assert desk.report("__name__") == "__main__"


def test_the_installed_package_is_hidden_so_that_a_plugin_must_find_itself(desk):
    done = desk.python("import relightgan")
    assert done.returncode == 1
    assert "No module named 'relightgan'" in done.stderr


def test_an_unknown_option_quirk_or_no_mode_is_refused(desk):
    assert "unknown option --turbo" in desk.run("--turbo", "-t", "job.py").stderr
    assert "a window" in desk.run().stderr
    assert "There is no quirk 'gravity'" in desk.python("", quirks="gravity=false").stderr


# --- -x


def test_x_renders_the_scripts_range_and_prints_each_frame(desk):
    done = desk.run("-x", desk.script(write_node("out")))
    assert (done.returncode, done.stderr) == (0, "")
    assert desk.written() == ["out.0001.exr", "out.0002.exr", "out.0003.exr"]
    assert "Frame 2 (2 of 3)" in done.stdout
    assert f"Writing {desk.folder.as_posix()}/out.0003.exr took" in done.stdout


@pytest.mark.parametrize(
    ("words", "frames"),
    [
        (["-F", "2", "-x", "comp.nk"], [2]),
        (["-F", "1-3x2", "-x", "comp.nk"], [1, 3]),
        (["-F", "-2--1", "-x", "comp.nk"], [-2, -1]),
        (["-F", "1", "-F", "3", "-x", "comp.nk"], [1, 3]),
        (["-x", "comp.nk", "2,3"], [2, 3]),
        (["-x", "comp.nk", "1,3,2"], [1, 3]),
        (["-V", "2", "-m", "4", "--gpu", "-i", "-x", "comp.nk", "2"], [2]),
    ],
)
def test_frames_are_read_from_the_command_line(sim, words, frames):
    from nuke_simulator import process

    line = process.parse(words)
    assert (line.mode, line.file) == ("x", "comp.nk")
    assert process.frame_ranges([*line.ranges, *[line.eaten] * bool(line.eaten)]).toFrameList() == frames


def test_only_the_frames_of_the_command_line_are_rendered(desk):
    desk.script(write_node("out"))
    assert desk.run("-F", "1", "-x", "comp.nk", "3").returncode == 0
    assert desk.written() == ["out.0001.exr", "out.0003.exr"]


def test_capital_x_renders_only_the_nodes_it_names(desk):
    desk.script(write_node("a") + write_node("b") + write_node("c"))
    assert desk.run("-F", "1", "-X", "a,c", "comp.nk").returncode == 0
    assert desk.written() == ["a.0001.exr", "c.0001.exr"]
    done = desk.run("-F", "1", "-X", "d", "comp.nk")
    assert (done.returncode, done.stderr) == (1, 'ERROR: Nothing is named "d"\n')


def test_disabled_and_reading_writes_are_left_out(desk):
    desk.script(write_node("a", "disable true") + write_node("b") + write_node("c", "reading true"))
    assert desk.run("-F", "1", "-x", "comp.nk").returncode == 0
    assert desk.written() == ["b.0001.exr"]
    desk.script(write_node("a", "disable true"))
    done = desk.run("-F", "1", "-x", "comp.nk")
    assert (done.returncode, done.stderr) == (1, "ERROR: no active Write operators in this script\n")


def test_writes_in_groups_and_gizmos_are_rendered_or_not(desk):
    def inside(name):
        saver = write_node(name).replace("push $N0\n", "")
        return f"Input {{\n inputs 0\n name I\n}}\n{saver}Output {{\n name O\n}}\nend_group\n"

    gizmo = "Gizmo {\n}\n" + inside("gizmo") % {"folder": desk.folder.as_posix()}
    desk.put(desk.folder / "tools" / "Saver.gizmo", gizmo)
    desk.paths = (desk.folder / "tools",)
    group = "push $N0\nGroup {\n name Group1\n}\n" + inside("group")
    desk.script(write_node("top") + group + "push $N0\nSaver {\n name Saver1\n}\n")
    assert desk.run("-F", "1", "-x", "comp.nk", quirks="execute_enters_gizmos=false").returncode == 0
    assert desk.written() == ["top.0001.exr"]
    assert desk.run("-F", "2", "-x", "comp.nk").returncode == 0
    assert desk.written() == ["gizmo.0002.exr", "group.0002.exr", "top.0001.exr", "top.0002.exr"]


def test_sorted_by_render_order_only_with_sro(desk):
    desk.script(write_node("late", "render_order 2") + write_node("early", "render_order 1"))

    def order(*words):
        lines = desk.run(*words, "-F", "1", "-x", "comp.nk").stdout.splitlines()
        return [Path(line.split()[1]).name.partition(".")[0] for line in lines if line.startswith("Writing")]

    assert order() == ["late", "early"]
    assert order("--sro") == ["early", "late"]


def test_a_missing_plate_fails_the_render_with_one_line_and_exit_code_1(desk):
    desk.script(write_node("out"))
    (desk.folder / "plate.0002.exr").unlink()
    done = desk.run("-x", "comp.nk")
    assert done.returncode == 1
    missing = f"{desk.folder.as_posix()}/plate.0002.exr"
    assert done.stderr == f"ERROR: Read1: {missing}: Read error: No such file or directory\n"
    assert desk.written() == ["out.0001.exr"]


def test_cont_goes_on_after_a_failed_frame(desk):
    desk.script(write_node("out"))
    (desk.folder / "plate.0002.exr").unlink()
    done = desk.run("--cont", "-x", "comp.nk")
    assert desk.written() == ["out.0001.exr", "out.0003.exr"]
    assert "ERROR: Read1" in done.stderr
    assert desk.run("--cont", "-x", "comp.nk", quirks="continue_on_error_raises=true").returncode == 1


def test_views_of_the_command_line_are_rendered(desk):
    views = 'views "left \\"\\"\nright \\"\\""'
    desk.script(write_node("out_%%V"), root=views)
    assert desk.run("--view", "right", "-F", "1", "-x", "comp.nk").returncode == 0
    assert desk.written() == ["out_right.0001.exr"]
    assert desk.run("-F", "1", "-x", "comp.nk").returncode == 0
    assert desk.written() == ["out_left.0001.exr", "out_right.0001.exr"]


def test_p_and_f_turn_the_scripts_proxy_on_and_off(
    desk,
):
    desk.script(write_node("out"), root="proxy true")
    for word, shape in ((None, (1, 2)), ("-p", (1, 2)), ("-f", (2, 4))):
        assert desk.run(*[word] * (word is not None), "-F", "1", "-x", "comp.nk").returncode == 0
        assert tiny_plates.read_exr(desk.folder / "out.0001.exr")["R"].shape == shape, word


def test_a_script_with_a_gizmo_that_is_not_there_fails(desk):
    desk.script("push $N0\nNoSuchTool {\n name Tool1\n}\n" + write_node("out"))
    done = desk.run("-F", "1", "-x", "comp.nk")
    assert done.returncode == 1
    assert "NoSuchTool" in done.stderr
    assert "Unknown command" in done.stderr


def test_a_guard_of_init_stops_the_render_before_anything_is_written(desk):
    desk.put(
        desk.home / ".nuke" / "init.py",
        "import nuke\ndef guard():\n    raise RuntimeError('bake first: ' + nuke.thisNode().name())\n"
        "nuke.addBeforeRender(guard)\n",
    )
    desk.script(write_node("out"))
    done = desk.run("-x", "comp.nk")
    assert done.returncode == 1
    assert "bake first: out" in done.stderr
    assert desk.written() == []


@pytest.mark.parametrize("loads", [True, False])
def test_on_script_load_runs_before_the_render_or_not(desk, loads):
    desk.put(
        desk.home / ".nuke" / "init.py",
        "import nuke\nnuke.addOnScriptLoad(lambda: nuke.toNode('out')['disable'].setValue(True))\n",
    )
    desk.script(write_node("out") + write_node("other"))
    assert (
        desk.run("-F", "1", "-x", "comp.nk", quirks=f"on_script_load_in_execute={str(loads).lower()}").returncode == 0
    )
    assert desk.written() == (["other.0001.exr"] if loads else ["other.0001.exr", "out.0001.exr"])


def test_processes_know_nothing_of_one_another(
    desk,
):
    desk.script(write_node("out"))
    for value in (1, 9):  # an overwritten plate is read anew by the next process
        rgb = np.full((2, 4, 3), value, np.float32)
        tiny_plates.write_exr(desk.folder / "plate.0001.exr", tiny_plates.rgb_channels(rgb), "float")
        assert desk.run("-F", "1", "-x", "comp.nk").returncode == 0
        assert tiny_plates.read_exr(desk.folder / "out.0001.exr")["R"][0, 0] == value
