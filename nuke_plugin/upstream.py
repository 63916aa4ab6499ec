"""What a node's source is made from, found without rendering: the nodes as text, and the files they read.

The text changes with anything that may change a pixel: classes, connections, knobs, animation, expressions, what
expressions refer to outside the stream, and the project's format and colour settings. Names and positions aren't in it.
Where in doubt it changes too often: then frames are relit once more, and never wrongly shown.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

import nuke

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin import graph, knobs
from relightgan.nuke_plugin.cache import file_stamp, key_of
from relightgan.nuke_plugin.cache_root import script_path
from relightgan.nuke_plugin.source_files import FileKnob, OutsideKnob, value_at

__all__ = ["Survey", "source_range", "survey", "tcl_words"]

# Knobs that every node has and that no pixel depends on.
COSMETIC = frozenset((
    "autolabel", "bookmark", "cached", "dope_sheet", "gl_color", "help", "hide_input", "icon", "indicators",
    "knobChanged", "label", "lock_connections", "name", "note_font", "note_font_color", "note_font_size", "onCreate",
    "onDestroy", "panel", "postage_stamp", "postage_stamp_frame", "reload", "selected", "tile_color", "updateUI",
    "xpos", "ypos",
))  # fmt: skip
# By class: a Write's `version` counts renders, and its colour spaces are written out late; see Nukomfy's cache, which
# met both (github.com/francescolorussi/Nukomfy). The proxy files aren't read, because a bake is made at full size.
PASSING = {
    "Read": frozenset(
        ("cacheLocal", "localizationPolicy", "origfirst", "origlast", "origset", "proxy", "proxy_format")
    ),
    "Write": frozenset(("in_colorspace", "out_colorspace", "version")),
    "Root": frozenset(("frame", "project_directory", "proxy", "proxySetting", "proxy_scale", "proxy_type")),
}
# A Write that doesn't read hands its input on.
OF_A_WRITE = frozenset(("disable", "reading"))
# Of a RelightGAN node: what our own code sets, and what decides where and when a frame is made but not how it looks.
OWN = frozenset((
    knobs.CACHE_FOLDER, knobs.DEVICE, knobs.FRAMES, knobs.LOOK_INFO, knobs.RESULT_FIRST, knobs.RESULT_LAST,
    knobs.RESULT_PATH, knobs.SOURCE_PATH, knobs.STATUS, "info_version", "info_help",
))  # fmt: skip
ROOT_KNOBS = (
    "colorManagement", "OCIO_config", "customOCIOConfigPath", "workingSpaceLUT", "int8Lut", "int16Lut", "logLut",
    "floatLut", "luts",
)  # fmt: skip
# An expression with one of these words may ask a node for its picture, not only for its knobs.
ASKS_FOR_PICTURE = re.compile(
    r"\b(actual_format|bbox|first_frame|format|height|input\d*|last_frame|metadata|pixel_aspect|python|sample|topnode"
    r"|width)\b"
)
# Of the project, what its own text or the source files stand for; `name` is where the script lies.
NOT_OF_THE_PROJECT = frozenset(("format", "name", *ROOT_KNOBS))
TCL_COMMAND = re.compile(r"\[\s*([A-Za-z_:][\w:]*)")
# Tcl commands whose answer follows from the script and the frame. Those that tell the time are among them: a slate with
# the date of today would never be ready.
INSIDE = frozenset((
    "bbox", "break", "catch", "class", "clock", "concat", "date", "exists", "expr", "expression", "for", "foreach",
    "format", "frame", "full_name", "global", "if", "incr", "input", "join", "knob", "lappend", "lindex", "list",
    "llength", "lrange", "lreplace", "lsearch", "lsort", "metadata", "range", "regexp", "regsub", "return", "sample",
    "set", "split", "string", "stack", "switch", "topnode", "value", "while",
))  # fmt: skip
STEADY = frozenset(("env", "getenv", "info", "plugins", "pwd"))  # what is the same on every frame of a session
ANY_FRAME = 1
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
DOTTED_TWICE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
IN_WINDOW = re.compile(r"\$\{?gui\b")
MOST_FRAMES = 100_000  # a source that claims more, as some generators do, is taken to be as long as the project


@dataclass(frozen=True)
class Survey:
    """What is upstream of a node's input 0."""

    key: str  # of the text
    files: tuple[FileKnob, ...]
    outside: tuple[OutsideKnob, ...]  # knobs whose values count besides their text
    relit: tuple[nuke.Node, ...]  # RelightGAN nodes that are on; their frame keys stand for their relit files
    keeps_time: bool  # only the frame itself is asked for
    keeps_view: bool


def survey(node: nuke.Node) -> Survey:
    """Looks at everything upstream of a node's input 0, and at the project's format and colour."""
    stream = graph.upstream(node, [0])
    writer = _Writer(node, stream)
    key = key_of(writer.text_of(stream), project_text())
    files = [FileKnob.of(other, other[name]) for other in [*stream, *writer.beside] for name in _file_knobs(other)]
    relit = [other for other in stream if knobs.is_relight_node(other) and not graph.inert(other)]
    pictures = [*stream, *writer.pictures]
    return Survey(
        key,
        tuple(files),
        tuple(writer.outside),
        tuple(relit),
        graph.time_neutral(pictures),
        graph.view_neutral(pictures),
    )


def source_range(node: nuke.Node) -> tuple[int, int]:
    """First and last frame of what comes into input 0.

    Raises:
        RelightError: nothing is connected.
    """
    source = node.input(0)
    if source is None:
        raise RelightError(f"{node.fullName()} has no source.", "Connect a plate to its Source input.")
    found = source.frameRange()
    first, last = int(found.first()), int(found.last())
    if last < first or last - first >= MOST_FRAMES:
        root = nuke.root()
        return int(root.firstFrame()), int(root.lastFrame())
    return first, last


def project_text() -> list[Any]:
    """What of the project changes pixels: its format and its colour management."""
    root = nuke.root()
    form = root.format()
    words: list[Any] = [form.width(), form.height(), form.pixelAspect(), os.environ.get("OCIO", "")]
    for name in ROOT_KNOBS:
        knob = root.knob(name)
        words.append(None if knob is None else knob.toScript())
    config = root.knob("customOCIOConfigPath")
    path = str(config.value() or "") if config is not None else ""
    words.append(file_stamp(path)[1:] if path else None)
    return words


def tcl_words(text: str) -> list[str]:
    """The elements of a Tcl list, without their quotes or braces; backslashes stay as they are."""
    words, place = [], 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        start, depth = place, 0
        opened = text[place] if text[place] in '{"' else ""
        while place < len(text):
            letter = text[place]
            if letter == "\\":
                place += 2
                continue
            if opened == "{":
                depth += (letter == "{") - (letter == "}")
            elif opened == '"':
                depth = 0 if letter == '"' and place > start else 1
            elif letter.isspace():
                break
            place += 1
            if opened and depth == 0:
                break
        words.append(text[start + 1 : place - 1] if opened else text[start:place])
    return words


# Private implementation


class _Writer:
    """Writes nodes as text that their names aren't in."""

    def __init__(self, node: nuke.Node, stream: list[nuke.Node]) -> None:
        self.own_name = node.fullName()
        self.stream = {other.fullName() for other in stream}
        self.beside: list[nuke.Node] = []  # what expressions refer to, in the stream or not
        self.pictures: list[nuke.Node] = []  # those of them that they may ask for a picture
        self.outside: list[OutsideKnob] = []
        self.keys: dict[str, str] = {}
        self.busy: set[str] = set()
        self.near: dict[str, dict[str, nuke.Node]] = {}  # by a group's full name: the nodes in it

    def text_of(self, nodes: list[nuke.Node]) -> list[Any]:
        """Class, knobs and inputs of each node; inputs as places in the list."""
        places = {node.fullName(): place for place, node in enumerate(nodes)}
        return [
            [
                node.Class(),
                self.knobs_of(node),
                [-1 if other is None else places.get(other.fullName(), -1) for other in graph.inputs_of(node)],
            ]
            for node in nodes
        ]

    def knobs_of(self, node: nuke.Node) -> list[Any]:
        """The knobs that aren't at their default, in order of their names, then what their expressions refer to."""
        in_stream = node.fullName() in self.stream
        words = tcl_words(node.writeKnobs(nuke.TO_SCRIPT | nuke.WRITE_NON_DEFAULT_ONLY))
        pairs = sorted(pair for pair in zip(words[::2], words[1::2]) if counts(node, pair[0], in_stream))
        files = _file_knobs(node)
        values = [value for name, text in pairs if name not in files for value in self.values_of(node, name, text)]
        # A file's path is looked at frame by frame: of the project it needs no more, such as where the script lies.
        asking = str([pair for pair in pairs if pair[0] not in files])
        naming = [text for name, text in pairs if name not in files or "[" in text]
        others = [*node.dependencies(nuke.EXPRESSIONS), *self.named_by(node, naming)]
        named = {other.fullName(): other for other in others}
        keys = {
            name: self.key_of(other, asking if other.Class() == "Root" else str(pairs)) for name, other in named.items()
        }
        # A node may be renamed, or moved into a group, and its expressions follow it; not where two share a name.
        short = [other.name() for other in named.values()]
        single = {other.name(): keys[name] for name, other in named.items() if short.count(other.name()) == 1}
        if single:
            names = re.compile(rf"(?:\b\w+\.)*\b({'|'.join(map(re.escape, single))})\b")
            pairs = [(name, names.sub(lambda match: single[match[1]], value)) for name, value in pairs]
        return [pairs, sorted(keys.values()), values]

    def values_of(self, node: nuke.Node, name: str, text: str) -> list[str]:
        """What the text of a knob doesn't say of its value; where that may be another on each frame, it is noted."""
        knob = node.knob(name)
        commands = set(TCL_COMMAND.findall(text)) - INSIDE
        if knob is None or not (commands or "$" in text):
            return []
        if commands - STEADY:
            self.outside.append(OutsideKnob(node, name))
            return []
        # Whether there is a window is another matter for the artist than for the farm.
        window = [f"gui {bool(nuke.GUI)}"] if IN_WINDOW.search(text) else []
        return [*window, value_at(OutsideKnob(node, name), ANY_FRAME, nuke.views()[0])]

    def key_of(self, node: nuke.Node, asking: str) -> str:
        """A key of a node that an expression refers to; of what is upstream too where it asks for the picture."""
        name = node.fullName()
        if name in self.busy:
            return "loop"
        deep = bool(ASKS_FOR_PICTURE.search(asking)) and name != self.own_name
        is_root = node.Class() == "Root"
        known = f"{name} {deep} {asking if is_root else ''}"
        if known not in self.keys:
            self.busy.add(name)
            above = [other for other in graph.upstream(node) if other.fullName() != self.own_name] if deep else []
            self.beside += above if is_root else [node, *above]
            self.pictures += above if is_root or not deep else [node, *above]
            own = project_knobs(asking) if is_root else self.knobs_of(node)
            self.keys[known] = key_of(node.Class(), own, self.text_of(above))
            self.busy.discard(name)
        return self.keys[known]

    def named_by(self, node: nuke.Node, texts: list[str]) -> list[nuke.Node]:
        """The nodes that a node's knobs name, as `Grade1.white`, `parent.Group2.Blur1.size` or `[value root.name]`.

        `Node.dependencies` isn't known to list those that Tcl names, or that are asked for their picture only.
        """
        chains: set[str] = set()
        for text in texts:
            if "[" in text or "." in text:
                chains.update((DOTTED if "[" in text else DOTTED_TWICE).findall(text))
        found = {other.fullName(): other for chain in sorted(chains) if (other := self.named(node, chain)) is not None}
        found.pop(node.fullName(), None)
        return list(found.values())

    def named(self, node: nuke.Node, chain: str) -> nuke.Node | None:
        """The node that a dotted name leads to, seen from a node; None where it leads nowhere."""
        here: nuke.Node | None = None
        for i, word in enumerate(chain.split(".")):
            found: nuke.Node | None
            if word == "root":
                found = nuke.root()
            elif word == "parent":
                found = (here or node).parent()
            elif word == "this":
                found = node
            elif i:
                found = self.nodes_in(here).get(word) if here is not None else None
            else:
                found = self.nodes_in(node.parent() or nuke.root()).get(word) or self.nodes_in(nuke.root()).get(word)
            if found is None:
                break
            here = found
        return here

    def nodes_in(self, group: nuke.Node) -> dict[str, nuke.Node]:
        """The nodes in a group, or at the top, by their names."""
        name = group.fullName()
        if name not in self.near:
            self.near[name] = {other.name(): other for other in graph.insides(group)}
        return self.near[name]


def project_knobs(asking: str) -> list[list[str]]:
    """Of the project only the knobs that are asked for, so that its range isn't everything's."""
    root = nuke.root()
    names = set(re.findall(r"\w+", asking)) & set(root.knobs())
    values = {name: root[name].toScript() for name in names - PASSING["Root"] - NOT_OF_THE_PROJECT}
    if "name" in names:
        values["name"] = script_path()
    return [[name, str(value)] for name, value in sorted(values.items())]


def counts(node: nuke.Node, name: str, in_stream: bool) -> bool:
    """True for a knob that pixels may depend on."""
    if name in COSMETIC or name in PASSING.get(node.Class(), ()):
        return False
    if name == "version" and node.knob("reload") is not None and not isinstance(node, nuke.Group):
        return False  # counts how often `reload` was pressed, on every class of Nuke's that reads files
    if knobs.is_relight_node(node):
        # In the stream its settings are in its frame keys already.
        return name in knobs.LIVE if in_stream else name not in OWN
    if node.Class() == "Write" and not _reads(node):
        return name in OF_A_WRITE
    return True


def _file_knobs(node: nuke.Node) -> list[str]:
    """Names of the knobs whose files a node reads."""
    parent = graph.parent_of(node)
    if knobs.is_relight_node(node) or (parent is not None and knobs.is_relight_node(parent)):
        return []  # relit files are named by their keys
    if node.Class() == "Write" and not _reads(node):
        return []
    passing = PASSING.get(node.Class(), frozenset())
    return [
        name
        for name, knob in sorted(node.knobs().items())
        if knob.Class() == "File_Knob" and name not in passing and str(knob.value() or "")
    ]


def _reads(write: nuke.Node) -> bool:
    knob = write.knob("reading")
    return knob is not None and bool(knob.value())
