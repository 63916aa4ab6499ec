"""What a node's source is made from, found without rendering: the nodes as text, and the files they read.

The text changes with anything that may change a pixel: classes, connections, knobs, animation, expressions, what
expressions refer to outside the stream, and the project's format and colour settings. Names and positions aren't in it.
Where in doubt it changes too often: then frames are relit once more, and never wrongly shown.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nuke

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin import graph, knobs
from relightgan.nuke_plugin.cache import file_stamp, key_of
from relightgan.nuke_plugin.knobs import slashes

__all__ = ["FileKnob", "Stamps", "Survey", "source_range", "survey", "tcl_words"]

# Knobs that every node has and that no pixel depends on.
COSMETIC = frozenset((
    "autolabel", "bookmark", "cached", "dope_sheet", "gl_color", "help", "hide_input", "icon", "indicators",
    "knobChanged", "label", "lock_connections", "name", "note_font", "note_font_color", "note_font_size", "onCreate",
    "onDestroy", "panel", "postage_stamp", "postage_stamp_frame", "reload", "selected", "tile_color", "updateUI",
    "xpos", "ypos",
))  # fmt: skip
# By class: `version` counts renders and reloads, and the colour spaces are written out late; see Nukomfy's cache, which
# met both (github.com/francescolorussi/Nukomfy). The proxy files aren't read, because a bake is made at full size.
PASSING = {
    "Read": frozenset(
        ("cacheLocal", "localizationPolicy", "origfirst", "origlast", "origset", "proxy", "proxy_format", "version")
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
OF_OUTSIDE = re.compile(r"\[\s*(python|getenv|exec|source|knob)\b|\$env\b")  # what no text of ours can hold
MOST_FRAMES = 100_000  # a source that claims more, as some generators do, is taken to be as long as the project


@dataclass(frozen=True)
class FileKnob:
    """A file that a node upstream reads."""

    node: nuke.Node
    knob: Any  # nuke.File_Knob


@dataclass(frozen=True)
class Survey:
    """What is upstream of a node's input 0."""

    key: str  # of the text
    files: tuple[FileKnob, ...]
    relit: tuple[nuke.Node, ...]  # RelightGAN nodes, whose frame keys stand for their relit files
    keeps_time: bool  # only the frame itself is asked for
    keeps_view: bool


def survey(node: nuke.Node) -> Survey:
    """Looks at everything upstream of a node's input 0, and at the project's format and colour."""
    stream = graph.upstream(node, [0])
    writer = _Writer(node, stream)
    key = key_of(writer.text_of(stream), project_text())
    seen = [*stream, *writer.outside]
    files = [FileKnob(other, knob) for other in seen for knob in _file_knobs(other)]
    relit = [other for other in stream if knobs.is_relight_node(other)]
    return Survey(key, tuple(files), tuple(relit), graph.time_neutral(seen), graph.view_neutral(seen))


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


def project_folder() -> str:
    """The folder that relative paths are taken from: the project directory, else where Nuke was started."""
    knob: Any = nuke.root().knob("project_directory")
    return str((knob.evaluate() if knob is not None else "") or Path.cwd())


@dataclass
class Stamps:
    """The source files of a survey as they are on disk, each looked at once.

    Args:
        survey: which files.
        frames: what "every frame" means for files that aren't of a Read.
        views: of the project.
        known: stamps by path, shared between the nodes that are looked at together.
    """

    survey: Survey
    frames: tuple[int, ...]
    views: tuple[str, ...]
    known: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    folder: str = field(default_factory=project_folder)

    def of(self, frame: int, view: str) -> str:
        """What the source of a frame is read from; differs where a file was replaced, changed or lost."""
        if not self.survey.keeps_time:
            return self.of_everything(view)
        return key_of([self.stamp(path) for path in self.paths(frame, view)])

    def missing(self, frame: int, view: str) -> list[str]:
        """The files of a frame that aren't there."""
        return [path for path in self.paths(frame, view) if self.stamp(path)[1] < 0]

    def paths(self, frame: int, view: str) -> list[str]:
        """The files that the source of a frame is read from, where only its own frame counts; sorted."""
        views = self.views_of(view)
        return sorted({path for file in self.survey.files for v in views for path in consumed(file, frame, v)})

    def of_everything(self, view: str) -> str:
        """One key for all files that any frame could need."""
        if view not in self.whole:
            paths: set[str] = set()
            for file in self.survey.files:
                for other in self.views_of(view):
                    paths |= every_path(file, other, self.frames)
            self.whole[view] = key_of(sorted(self.stamp(path) for path in paths))
        return self.whole[view]

    def views_of(self, view: str) -> tuple[str, ...]:
        """The views whose files may be needed for a view."""
        return (view,) if self.survey.keeps_view else self.views

    def stamp(self, path: str) -> tuple[str, int, int]:
        """A file's stamp."""
        if path not in self.known:
            # Nuke takes a relative path from the project's folder; what the script says stays in the key.
            self.known[path] = (path, *file_stamp(knobs.absolute(path, self.folder))[1:])
        return self.known[path]


def consumed(file: FileKnob, frame: int, view: str) -> set[str]:
    """The files that a node reads for a frame."""
    if file.node.Class() != "Read":
        return _paths(file, [frame], view)
    first, last = _number(file.node, "first"), _number(file.node, "last")
    if _text(file.node, "frame"):
        return _paths(file, range(first, last + 1), view)  # frames are renumbered; any file may be meant
    if first <= frame <= last:
        return _paths(file, [frame], view)
    outside = _text(file.node, "before" if frame < first else "after")
    if outside == "black":
        return set()
    if outside == "hold":
        return _paths(file, [first if frame < first else last], view)
    return _paths(file, range(first, last + 1), view)  # loop and bounce


def every_path(file: FileKnob, view: str, frames: Iterable[int]) -> set[str]:
    """All files that a node may read."""
    if file.node.Class() == "Read":
        return _paths(file, range(_number(file.node, "first"), _number(file.node, "last") + 1), view)
    return _paths(file, frames, view)


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
        self.outside: list[nuke.Node] = []  # what expressions refer to
        self.keys: dict[str, str] = {}
        self.busy: set[str] = set()

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
        named = [*node.dependencies(nuke.EXPRESSIONS), *named_in_text(node, pairs)]
        linked = {other.name(): self.key_of(other, str(pairs)) for other in named}
        if linked:
            # A node may be renamed, or moved into a group, and its expressions follow it.
            names = re.compile(rf"(?:\b\w+\.)*\b({'|'.join(map(re.escape, linked))})\b")
            pairs = [(name, names.sub(lambda match: linked[match[1]], value)) for name, value in pairs]
        outside = [value_now(node, name) for name, value in pairs if OF_OUTSIDE.search(value)]
        return [pairs, sorted(linked.values()), outside]

    def key_of(self, node: nuke.Node, asking: str) -> str:
        """A key of a node that an expression refers to; of what is upstream too where it asks for the picture."""
        name = node.fullName()
        if name in self.busy:
            return "loop"
        deep = bool(ASKS_FOR_PICTURE.search(asking)) and name != self.own_name
        known = f"{name} {deep} {asking if node.Class() == 'Root' else ''}"
        if known not in self.keys:
            self.busy.add(name)
            above = [other for other in graph.upstream(node) if other.fullName() != self.own_name] if deep else []
            self.outside += above if node.Class() == "Root" else [node, *above]
            own = self.knobs_of(node)
            if node.Class() == "Root":  # of the project only what is asked for, so that its range isn't everything's
                own = [pair for pair in own[0] if re.search(rf"\b{re.escape(pair[0])}\b", asking)]
            self.keys[known] = key_of(node.Class(), own, self.text_of(above))
            self.busy.discard(name)
        return self.keys[known]


def named_in_text(node: nuke.Node, pairs: list[tuple[str, str]]) -> list[nuke.Node]:
    """The nodes beside a node, or at the top, that its knobs name.

    `Node.dependencies` isn't known to list those that Tcl names, or that are asked for their picture only.
    """
    words: set[str] = set()
    for _, value in pairs:
        words.update(re.findall(r"[A-Za-z_]\w*" if "[" in value else r"([A-Za-z_]\w*)\s*\.", value))
    if not words:
        return []
    beside = graph.insides(graph.parent_of(node) or nuke.root())
    near = {other.name(): other for other in [*graph.insides(nuke.root()), *beside]}
    return [near[word] for word in sorted(words & set(near)) if near[word].fullName() != node.fullName()]


def value_now(node: nuke.Node, name: str) -> str:
    """The value of a knob that looks at something outside the script."""
    knob: Any = node[name]
    return str(knob.evaluate() if isinstance(knob, nuke.EvalString_Knob) else knob.value())


def counts(node: nuke.Node, name: str, in_stream: bool) -> bool:
    """True for a knob that pixels may depend on."""
    if name in COSMETIC or name in PASSING.get(node.Class(), ()):
        return False
    if knobs.is_relight_node(node):
        # In the stream its settings are in its frame keys already.
        return name in knobs.LIVE if in_stream else name not in OWN
    if node.Class() == "Write" and not _reads(node):
        return name in OF_A_WRITE
    return True


def _file_knobs(node: nuke.Node) -> list[Any]:
    parent = graph.parent_of(node)
    if knobs.is_relight_node(node) or (parent is not None and knobs.is_relight_node(parent)):
        return []  # relit files are named by their keys
    if node.Class() == "Write" and not _reads(node):
        return []
    passing = PASSING.get(node.Class(), frozenset())
    return [
        knob
        for name, knob in sorted(node.knobs().items())
        if knob.Class() == "File_Knob" and name not in passing and str(knob.value() or "")
    ]


def _reads(write: nuke.Node) -> bool:
    knob = write.knob("reading")
    return knob is not None and bool(knob.value())


def _paths(file: FileKnob, frames: Iterable[int], view: str) -> set[str]:
    raw = str(file.knob.value() or "")
    if not any(letter in raw for letter in "%#[$"):
        return {slashes(raw)} if raw else set()  # one file for every frame, such as a movie
    return {slashes(str(path)) for frame in frames if (path := file.knob.evaluate(frame, view=view))}


def _number(node: nuke.Node, name: str) -> int:
    return int(node[name].value())


def _text(node: nuke.Node, name: str) -> str:
    knob = node.knob(name)
    return "" if knob is None else str(knob.value() or "")
