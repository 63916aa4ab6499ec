"""The nodes upstream of a node as text, and the files they read; found without rendering.

The text changes with anything that may change a pixel: classes, connections, knobs, animation, expressions, nodes
outside the stream that expressions refer to, and the project's format and colour settings. It has no names or
positions. In doubt it changes: then frames are relit once more, and no wrong frame is shown.

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

# Knobs of every node that no pixel depends on.
COSMETIC_KNOBS = frozenset((
    "autolabel", "bookmark", "cached", "dope_sheet", "gl_color", "help", "hide_input", "icon", "indicators",
    "knobChanged", "label", "lock_connections", "name", "note_font", "note_font_color", "note_font_size", "onCreate",
    "onDestroy", "panel", "postage_stamp", "postage_stamp_frame", "reload", "selected", "tile_color", "updateUI",
    "xpos", "ypos",
))  # fmt: skip
# Further knobs that no pixel of a bake depends on, by class. A Write's `version` counts renders, and Nuke sets its
# colour spaces late; both were found by Nukomfy's cache (github.com/francescolorussi/Nukomfy). Proxy files aren't read,
# as a bake is made at full size.
UNCOUNTED_KNOBS = {
    "Read": frozenset(
        ("cacheLocal", "localizationPolicy", "origfirst", "origlast", "origset", "proxy", "proxy_format")
    ),
    "Write": frozenset(("in_colorspace", "out_colorspace", "version")),
    "Root": frozenset(("frame", "project_directory", "proxy", "proxySetting", "proxy_scale", "proxy_type")),
}
# The only knobs that count of a Write that doesn't read its file: it passes its input on.
WRITE_KNOBS = frozenset(("disable", "reading"))
# Knobs of a RelightGAN node that no pixel depends on: those that our code sets, and those for where and when frames are
# relit. They don't count where an expression refers to a RelightGAN node outside the stream.
KNOBS_WITHOUT_PIXELS = frozenset((
    knobs.CACHE_FOLDER, knobs.DEVICE, knobs.FRAMES, knobs.LOOK_INFO, knobs.RESULT_FIRST, knobs.RESULT_LAST,
    knobs.RESULT_PATH, knobs.SOURCE_PATH, knobs.STATUS, "info_version", "info_sha256", "info_help",
))  # fmt: skip
# Knobs of the project's colour management, which always count.
ROOT_KNOBS = (
    "colorManagement", "OCIO_config", "customOCIOConfigPath", "workingSpaceLUT", "int8Lut", "int16Lut", "logLut",
    "floatLut", "luts",
)  # fmt: skip
# An expression with one of these words may ask a node for its picture, not only for its knobs.
ASKS_FOR_PICTURE = re.compile(
    r"\b(actual_format|bbox|first_frame|format|height|input\d*|last_frame|metadata|pixel_aspect|python|sample|topnode"
    r"|width)\b"
)
# Knobs of the project that `project_text` or `project_knobs` handles itself; `name` is the path of the script.
PROJECT_KNOBS_COUNTED_ELSEWHERE = frozenset(("format", "name", *ROOT_KNOBS))
TCL_COMMAND = re.compile(r"\[\s*([A-Za-z_:][\w:]*)")
# Tcl commands whose result depends on script and frame alone. Commands for the time of day are among them, as otherwise
# a slate with today's date would never be ready.
SCRIPT_COMMANDS = frozenset((
    "bbox", "break", "catch", "class", "clock", "concat", "date", "exists", "expr", "expression", "for", "foreach",
    "format", "frame", "full_name", "global", "if", "incr", "input", "join", "knob", "lappend", "lindex", "list",
    "llength", "lrange", "lreplace", "lsearch", "lsort", "metadata", "range", "regexp", "regsub", "return", "sample",
    "set", "split", "string", "stack", "switch", "topnode", "value", "while",
))  # fmt: skip
STEADY_COMMANDS = frozenset(("env", "getenv", "info", "plugins", "pwd"))  # Tcl commands with one result per session
ANY_FRAME = 1  # the frame at which such commands are evaluated
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
DOTTED_TWICE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
GUI_VARIABLE = re.compile(r"\$\{?gui\b")
MAX_FRAMES = 100_000  # a source of more frames, as of some generators, counts as long as the project


@dataclass(frozen=True)
class Survey:
    """What is upstream of a node's input 0."""

    key: str  # hash of the text
    files: tuple[FileKnob, ...]
    outside: tuple[OutsideKnob, ...]  # knobs whose values count beside their text
    relit: tuple[nuke.Node, ...]  # RelightGAN nodes that are on; their frame keys stand for their relit files
    keeps_time: bool  # a frame needs only that frame of all nodes upstream
    keeps_view: bool  # a view needs only that view of all nodes upstream


def survey(node: nuke.Node) -> Survey:
    """Surveys everything upstream of a node's input 0, and the project's format and colour."""
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
    """First and last frame of the source at input 0.

    Raises:
        RelightError: nothing is connected.
    """
    source = node.input(0)
    if source is None:
        raise RelightError(f"{node.fullName()} has no source.", "Connect a plate to its Source input.")
    found = source.frameRange()
    first, last = int(found.first()), int(found.last())
    if last < first or last - first >= MAX_FRAMES:
        root = nuke.root()
        return int(root.firstFrame()), int(root.lastFrame())
    return first, last


def project_text() -> list[Any]:
    """The project's format and colour management, which change pixels."""
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
    """Writes nodes as text without their names."""

    def __init__(self, node: nuke.Node, stream: list[nuke.Node]) -> None:
        self.own_name = node.fullName()
        self.stream = {other.fullName() for other in stream}
        self.beside: list[nuke.Node] = []  # nodes that expressions refer to, in the stream or not
        self.pictures: list[nuke.Node] = []  # nodes of `beside` whose picture the expressions may use
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
        """The knobs not at their default, the keys of nodes that their expressions refer to, and values of Tcl."""
        in_stream = node.fullName() in self.stream
        words = tcl_words(node.writeKnobs(nuke.TO_SCRIPT | nuke.WRITE_NON_DEFAULT_ONLY))
        pairs = sorted(pair for pair in zip(words[::2], words[1::2]) if counts(node, pair[0], in_stream))
        files = _file_knobs(node)
        values = [value for name, text in pairs if name not in files for value in self.values_of(node, name, text)]
        # Paths of files are evaluated frame by frame elsewhere, so knobs of the project in them don't count here.
        asking = str([pair for pair in pairs if pair[0] not in files])
        naming = [text for name, text in pairs if name not in files or "[" in text]
        others = [*node.dependencies(nuke.EXPRESSIONS), *self.named_by(node, naming)]
        named = {other.fullName(): other for other in others}
        keys = {
            name: self.key_of(other, asking if other.Class() == "Root" else str(pairs)) for name, other in named.items()
        }
        # A name is replaced by the node's key, as renaming a node changes no pixel; not where two nodes share the name.
        short = [other.name() for other in named.values()]
        single = {other.name(): keys[name] for name, other in named.items() if short.count(other.name()) == 1}
        if single:
            names = re.compile(rf"(?:\b\w+\.)*\b({'|'.join(map(re.escape, single))})\b")
            pairs = [(name, names.sub(lambda match: single[match[1]], value)) for name, value in pairs]
        return [pairs, sorted(keys.values()), values]

    def values_of(self, node: nuke.Node, name: str, text: str) -> list[str]:
        """The value of a knob with Tcl in its text; a value that may differ among frames is left to `Stamps`."""
        knob = node.knob(name)
        commands = set(TCL_COMMAND.findall(text)) - SCRIPT_COMMANDS
        if knob is None or not (commands or "$" in text):
            return []
        if commands - STEADY_COMMANDS:
            self.outside.append(OutsideKnob(node, name))
            return []
        # `$gui` differs between the artist's session and the farm.
        session = [f"gui {bool(nuke.GUI)}"] if GUI_VARIABLE.search(text) else []
        return [*session, value_at(OutsideKnob(node, name), ANY_FRAME, nuke.views()[0])]

    def key_of(self, node: nuke.Node, asking: str) -> str:
        """The key of a node in an expression; with all upstream of it where the expression may use its picture."""
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
        """The nodes named in a node's knobs, such as `Grade1.white`, `parent.Group2.Blur1.size` or `[value root.name]`.

        `Node.dependencies` may not list nodes in Tcl, or nodes of which only the picture is used.
        """
        chains: set[str] = set()
        for text in texts:
            if "[" in text or "." in text:
                chains.update((DOTTED if "[" in text else DOTTED_TWICE).findall(text))
        found = {other.fullName(): other for chain in sorted(chains) if (other := self.named(node, chain)) is not None}
        found.pop(node.fullName(), None)
        return list(found.values())

    def named(self, node: nuke.Node, chain: str) -> nuke.Node | None:
        """The node of a dotted name, resolved from a node; None where there is none."""
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
    """The knobs of the project that a text names; not all, as a change of the range mustn't change every key."""
    root = nuke.root()
    names = set(re.findall(r"\w+", asking)) & set(root.knobs())
    values = {name: root[name].toScript() for name in names - UNCOUNTED_KNOBS["Root"] - PROJECT_KNOBS_COUNTED_ELSEWHERE}
    if "name" in names:
        values["name"] = script_path()
    return [[name, str(value)] for name, value in sorted(values.items())]


def counts(node: nuke.Node, name: str, in_stream: bool) -> bool:
    """True for a knob that pixels may depend on; `in_stream`: the node is upstream, not only referred to."""
    if name in COSMETIC_KNOBS or name in UNCOUNTED_KNOBS.get(node.Class(), ()):
        return False
    if name == "version" and node.knob("reload") is not None and not isinstance(node, nuke.Group):
        return False  # counts how often `reload` was pressed, on every class of Nuke's that reads files
    if knobs.is_relight_node(node):
        # In the stream, its frame keys have its settings.
        return name in knobs.LIVE if in_stream else name not in KNOBS_WITHOUT_PIXELS
    if node.Class() == "Write" and not _reads(node):
        return name in WRITE_KNOBS
    return True


def _file_knobs(node: nuke.Node) -> list[str]:
    """Names of the knobs whose files a node reads."""
    parent = graph.parent_of(node)
    if knobs.is_relight_node(node) or (parent is not None and knobs.is_relight_node(parent)):
        return []  # relit files are named by their keys
    if node.Class() == "Write" and not _reads(node):
        return []
    passing = UNCOUNTED_KNOBS.get(node.Class(), frozenset())
    return [
        name
        for name, knob in sorted(node.knobs().items())
        if knob.Class() == "File_Knob" and name not in passing and str(knob.value() or "")
    ]


def _reads(write: nuke.Node) -> bool:
    knob = write.knob("reading")
    return knob is not None and bool(knob.value())
