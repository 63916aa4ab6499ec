"""The simulated module `nuke`: a subset of the names that Nuke's has, over the running session of nuke_simulator.

A name that isn't here isn't simulated, and using it fails. tests/nuke_sim/test_api.py compares with types-nuke.
"""

# ruff: noqa: F401 - what is imported here is the module's face
import threading as _threading
import types as _types
from pathlib import Path as _Path

from nuke_simulator import constants as _constants
from nuke_simulator import execute as _execute
from nuke_simulator import saving as _saving
from nuke_simulator import script as _script
from nuke_simulator import session as _session
from nuke_simulator.api_callbacks import *  # noqa: F403
from nuke_simulator.api_window import (
    Menu,
    MenuItem,
    ProgressTask,
    ask,
    executeInMainThread,
    executeInMainThreadWithResult,
    getPaneFor,
    menu,
    message,
    toolbar,
    tprint,
)
from nuke_simulator.constants import *  # noqa: F403
from nuke_simulator.formats import Format, FrameRange, FrameRanges, Info
from nuke_simulator.knobs import (
    AColor_Knob,
    Array_Knob,
    BBox_Knob,
    BeginTabGroup_Knob,
    Boolean_Knob,
    Channel_Knob,
    ChannelMask_Knob,
    Color_Knob,
    ColorChip_Knob,
    Disable_Knob,
    Double_Knob,
    EditableEnumeration_Knob,
    EndTabGroup_Knob,
    Enumeration_Knob,
    EvalString_Knob,
    File_Knob,
    Format_Knob,
    Help_Knob,
    Int_Knob,
    Knob,
    Link_Knob,
    Multiline_Eval_String_Knob,
    Obsolete_Knob,
    OneView_Knob,
    OutputContext,
    Pulldown_Knob,
    PyCustom_Knob,
    PyScript_Knob,
    PythonKnob,
    Radio_Knob,
    Script_Knob,
    String_Knob,
    Tab_Knob,
    Text_Knob,
    Unsigned_Knob,
    UV_Knob,
    WH_Knob,
    XY_Knob,
    XYZ_Knob,
)
from nuke_simulator.nodes import BackdropNode, Gizmo, Group, Node, Root, Viewer
from nuke_simulator.tcl import split as _split
from nuke_simulator.undo import Undo

GUI = False
INTERACTIVE = False
rawArgs: list = []
env: dict = {}
untitled = "Untitled"
EXE_PATH = ""
NUM_CPUS = 2


def _begin_session(gui, arguments=("nuke",)):
    """Sets what a Nuke process knows of itself from its start."""
    global GUI, INTERACTIVE, rawArgs, EXE_PATH, env
    GUI = INTERACTIVE = gui
    rawArgs = list(arguments)
    EXE_PATH = arguments[0]
    env = _Environment(
        {
            "gui": gui, "interactive": gui, "ExecutablePath": EXE_PATH, "numCPUs": NUM_CPUS, "threads": NUM_CPUS,
            "NukeVersionMajor": _constants.NUKE_VERSION_MAJOR, "NukeVersionMinor": _constants.NUKE_VERSION_MINOR,
            "NukeVersionRelease": _constants.NUKE_VERSION_RELEASE, "NukeVersionString": _constants.NUKE_VERSION_STRING,
            "LINUX": True, "WIN32": False, "MACOS": False, "64bit": True, "nukex": False, "studio": False, "nc": False,
            "assist": False, "PluginExt": "so",
        }
    )  # fmt: skip


class _Environment:
    """nuke.env: no Mapping and not iterable, but with keys(), get() and []."""

    def __init__(self, values):
        self._values = values

    def __getitem__(self, key):
        return self._values[key]

    def __setitem__(self, key, value):
        self._values[key] = value

    def __contains__(self, key):
        return key in self._values

    def __len__(self):
        return len(self._values)

    __iter__ = None

    def get(self, key, default=None):
        return self._values.get(key, default)

    def keys(self):
        return list(self._values)

    def values(self):
        return list(self._values.values())

    def items(self):
        return list(self._values.items())


# --- nodes


def root():
    return _session.current().root


def thisRoot():
    return root()


def thisNode():
    return _session.current().callbacks.this_node()


def thisClass():
    return thisNode().Class()


def thisKnob():
    return _session.current().callbacks.this_knob()


def thisGroup():
    return _session.current().group


def thisParent():
    return thisNode().parent()


def thisView():
    return _session.current().view_now


def toNode(s):
    if s == "root":
        return root()
    if s.startswith("root."):
        return root().node(s[5:])
    return _session.current().group.node(s)  # names are those of the group that is entered


def exists(s):
    return _session.current().commands.find(s, None) is not None


def allNodes(filter=None, group=None, recurseGroups=False):
    from nuke_simulator.callbacks import inside

    group = group or _session.current().group
    nodes = inside(group) if recurseGroups else group.nodes()
    return [node for node in nodes if filter is None or node.Class() == filter]


def selectedNodes(filter=None):
    return [node for node in allNodes(filter) if node.isSelected()]


def selectedNode():
    chosen = selectedNodes()
    if not chosen:
        raise ValueError("no node selected")
    return chosen[-1]


def nodesSelected():
    return bool(selectedNodes())


def selectAll():
    for node in allNodes():
        node.setSelected(True)


def createNode(typ, knobs="", inpanel=True):
    """As the user does: after the selected nodes, itself selected, its panel open where there is a window."""
    session = _session.current()
    chosen = selectedNodes()
    made = session.new_node(typ, session.group)
    _script.apply_knobs(session, made, _pairs(knobs), name_too=True)
    for i, one in enumerate(chosen[: max(1, made.minInputs())] if made.maxInputs() else []):
        made._inputs.insert(i, one)
    made.selectOnly()
    session.changed(lambda: _forget(made))
    session.callbacks.created(made, by_user=True)
    if inpanel:
        made.showControlPanel()
    return made


def _pairs(knobs):
    """`knob value knob value`, as createNode takes it."""
    if "{" in knobs and knobs.lstrip().startswith("{"):
        raise NotImplementedError("simulated createNode takes `knob value knob value`")
    words = _split(knobs)
    return [(name, [value]) for name, value in zip(words[::2], words[1::2], strict=True)]


def knobDefault(classknob, value=None):
    """`Class.knob`, or for the knobs of a file type `Write.exr.knob`; for nodes made from now on, inside gizmos too."""
    if value is None:
        raise NotImplementedError("simulated knobDefault only sets")
    words = classknob.split(".")
    if len(words) == 3 and words[1] != "exr":
        raise NotImplementedError(f"simulated knobDefault knows no file type {words[1]}")
    _session.current().knob_defaults[words[0], words[-1]] = str(value)


class _Constructor:
    def __init__(self, name):
        self._name = name

    def __call__(self, inputs=(), **knobs):
        """Not connected to what is selected, no panel, no onUserCreate."""
        session = _session.current()
        made = session.new_node(self._name, session.group)
        for i, one in enumerate(inputs):
            made.setInput(i, one)
        for name, value in knobs.items():
            made[name].setValue(value)
        session.changed(lambda: _forget(made))
        session.callbacks.created(made, by_user=False)
        return made


class Nodes:
    def __getattr__(self, item):
        if item.startswith("__"):
            raise AttributeError(item)
        return _Constructor(item)


nodes = Nodes()


def _forget(node):
    node._deleted = True
    node.parent()._children.remove(node)


def delete(n):
    if n is not None:
        _session.current().delete(n)


def nodeCopy(s):
    """The selected nodes as a script, into a file."""
    if s == "%clipboard%":
        raise NotImplementedError("the simulator has no clipboard: copy to a file")
    _Path(s).write_text("set cut_paste_input [stack 0]\n" + _saving.nodes_text(selectedNodes()), encoding="utf-8")


def nodePaste(s):
    """The nodes of a file into the current group, connected to what is selected; the last of them."""
    if s == "%clipboard%":
        raise NotImplementedError("the simulator has no clipboard: paste from a file")
    text = _Path(s).read_text(encoding="utf-8")
    if "push $cut_paste_input" in text:
        raise NotImplementedError("simulated pasting doesn't connect to what is selected")
    made = _script.read_text(_session.current(), text, s)
    return made[-1] if made else None


def endGroup():
    session = _session.current()
    session.leave(session.group)


# --- the script


def scriptOpen(filename=None):
    if filename is None:
        raise NotImplementedError("the simulator has no file browser")
    path = _Path(filename)
    if not path.is_file():
        raise RuntimeError(f"Can't open {filename}: No such file or directory")
    session = _session.current()
    _close(session)
    _script.open_script(session, path)


def scriptSource(filename):
    scriptReadFile(filename)


def scriptReadFile(s):
    """Adds a script's nodes to the current group."""
    _script.read_text(_session.current(), _Path(s).read_text(encoding="utf-8"), s)


def scriptReadText(s):
    _script.read_text(_session.current(), s)


def scriptSave(filename=None):
    name = filename or root().knob("name").value()
    if not name:
        raise RuntimeError("The script has no name: use scriptSaveAs")
    scriptSaveAs(name, 1)
    return True


def scriptSaveAs(filename=None, overwrite=-1):
    if filename is None:
        raise NotImplementedError("the simulator has no file browser")
    if _Path(filename).exists() and overwrite != 1:
        raise RuntimeError(f"{filename} exists")
    session = _session.current()
    root().knob("name")._from_script(_Path(filename).as_posix())
    session.callbacks.run("OnScriptSave", root())
    name = root().knob("name").value()
    _Path(name).write_text(_saving.script_text(session), encoding="utf-8")
    session.modified = False


def scriptClear(*_):
    session = _session.current()
    _close(session)
    session.clear()


def scriptClose(*_):
    scriptClear()


def _close(session):
    session.callbacks.run("OnScriptClose", session.root)
    session.callbacks.destroyed(session.root)


def scriptExit(*_):
    raise SystemExit(0)


def scriptName():
    name = root().knob("name").value()
    if not name:
        raise RuntimeError("no current script")
    return name


def modified(state=None):
    if state is not None:
        root().setModified(state)
    return root().modified()


def undo():
    _session.current().undo()


# --- frame, views, formats, values


def frame(f=None):
    session = _session.current()
    if f is not None:
        root().setFrame(f)
    return int(session.frame_now)


def views():
    return list(_session.current().views)


def addView(s):
    _session.current().add_view(s)


def deleteView(s):
    _session.current().delete_view(s)


def addFormat(s):
    made = _session.current().find_format(s)
    _session.current().formats.append(made)
    return made


def formats():
    return list(_session.current().formats)


def value(knob, default=None):
    commands = _session.current().commands
    return commands.call("value", knob) if default is None else commands.call("value", knob, default)


def numvalue(knob, default=None):
    return float(value(knob, None if default is None else str(default)))


def expression(s):
    session = _session.current()
    return session.expression(s, None, session.frame_now, session.view_now)


expr = expression


def tcl(cmd, *args):
    commands = _session.current().commands
    return commands.call(cmd, *args) if args else commands.eval(cmd)


def filename(node, i=None):
    """The path of a Read or Write, as written, or with REPLACE as opened: evaluated and filtered."""
    if isinstance(node, Group):
        found = [one for inner in node.nodes() for one in [filename(inner, i)] if one]
        return found[0] if found else None
    knob = node.knob("file")
    if knob is None or not knob.value():
        return None
    if i is None:
        return knob.value()
    if i != _constants.REPLACE:
        raise NotImplementedError("simulated nuke.filename knows no argument but REPLACE")
    return _session.current().callbacks.filter_filename(node, knob.evaluate())


def sample(node, channel, x, y, dx=1, dy=1):
    return node.sample(channel, x, y, dx, dy)


def channels(node=None):
    if node is None:
        raise NotImplementedError("simulated nuke.channels needs a node")
    return node.channels()


def layers(node=None):
    return list(dict.fromkeys(name.rpartition(".")[0] for name in channels(node)))


# --- rendering


def execute(nameOrNode, *arguments, **named):
    """(nameOrNode, start, end, incr, views, continueOnError) or (nameOrNode, frameRangeSet, views, continueOnError)."""
    if "frameRangeSet" in named or (arguments and isinstance(arguments[0], FrameRanges)):
        _execute_ranges(nameOrNode, *arguments, **named)
    else:
        _execute_frames(nameOrNode, *arguments, **named)


def _execute_frames(nameOrNode, start=None, end=None, incr=1, views=None, continueOnError=False):
    first = root().firstFrame() if start is None else start
    last = root().lastFrame() if end is None else end
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in (first, last, incr)):
        raise TypeError("execute takes whole frame numbers")
    _execute_ranges(nameOrNode, FrameRange(first, last, incr), views, continueOnError)


def _execute_ranges(nameOrNode, frameRangeSet, views=None, continueOnError=False):
    node = toNode(nameOrNode) if isinstance(nameOrNode, str) else nameOrNode
    if node is None:
        raise ValueError(f"there is no node {nameOrNode!r}")
    render = _session.current().render
    if node is root():
        render.execute_all(frameRangeSet, views, continueOnError)
    else:
        render.execute(node, frameRangeSet, views, continueOnError)


render = execute


def executeMultiple(nodes, ranges, views=None, continueOnError=False):
    session = _session.current()
    if not nodes:
        session.render.execute_all(ranges, views, continueOnError)
        return
    writes = [one for node in nodes for one in _execute.executable(node)]
    session.render.run(writes, ranges, views, continueOnError)


def executing(f=None):
    return _session.current().render.running


def cancel():
    _session.current().cancel_in = 0


# --- plug-ins


def pluginPath():
    return list(_session.current().plugin_paths)


def pluginAddPath(args, addToSysPath=True):
    from nuke_simulator import startup

    startup.add_path(args, addToSysPath, first=True)


def pluginAppendPath(args, addToSysPath=True):
    from nuke_simulator import startup

    startup.add_path(args, addToSysPath, first=False)


def pluginExists(name):
    from nuke_simulator.classes import CLASSES

    session = _session.current()
    return name in CLASSES or any(session.plugin_file(f"{name}{end}") for end in ("", ".gizmo"))


def plugins(switches=0, *pattern):
    import fnmatch

    session = _session.current()
    found = [path for folder in session.plugin_paths for path in sorted(_Path(folder).glob("*")) if path.is_file()]
    return [path.as_posix() for path in found if not pattern or any(fnmatch.fnmatch(path.name, p) for p in pattern)]


def script_directory():
    return _Path(scriptName()).parent.as_posix()


def show(n, forceFloat=False):
    n.showControlPanel(forceFloat)


def clearRAMCache():
    _session.current().read_cache.clear()
