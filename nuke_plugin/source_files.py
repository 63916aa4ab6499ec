"""The files that a source reads, and knobs whose values depend on the machine; frame by frame.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nuke

from relightgan.nuke_plugin import knobs
from relightgan.nuke_plugin.cache import file_stamp, key_of
from relightgan.nuke_plugin.knobs import slashes

__all__ = ["FileKnob", "OutsideKnob", "Stamps", "value_at"]

NUMBERED = re.compile(r"[%#\[$]")  # characters that make a path depend on frame or view


@dataclass(frozen=True)
class FileKnob:
    """A file knob of a node upstream, with one file or one per frame.

    Args:
        node: the node.
        knob: its nuke.File_Knob.
        raw: the text of the knob.
        is_one_file: all frames are read from one file, such as a movie or a still.
        first: first frame of a Read's files; None for other nodes, which have a file for every frame.
        last: last frame of a Read's files; None likewise.
        before: what a Read shows before its first frame: hold, loop, bounce or black.
        after: what it shows after its last frame, likewise.
        any_frame: True for a Read that renumbers its frames, so that any of its files may be needed.
        nearest: True for a Read that shows the nearest frame where one is missing.
    """

    node: nuke.Node
    knob: Any
    raw: str
    is_one_file: bool
    first: int | None = None
    last: int | None = None
    before: str = ""
    after: str = ""
    any_frame: bool = False
    nearest: bool = False

    @classmethod
    def of(cls, node: nuke.Node, knob: Any) -> FileKnob:
        """The properties of a file knob, read from Nuke once instead of for every frame."""
        raw = str(knob.value() or "")
        one = not NUMBERED.search(raw)
        if node.Class() != "Read":
            return cls(node, knob, raw, one)
        return cls(
            node,
            knob,
            raw,
            one,
            int(node["first"].value()),
            int(node["last"].value()),
            _text(node, "before"),
            _text(node, "after"),
            bool(_text(node, "frame")),
            _text(node, "on_error").startswith("nearest"),
        )

    def numbers(self, frame: int) -> Iterable[int]:
        """The frames whose files the node reads for a frame."""
        if self.first is None or self.last is None:
            return (frame,)
        if self.any_frame:
            return range(self.first, self.last + 1)
        if self.first <= frame <= self.last:
            return (frame,)
        outside = self.before if frame < self.first else self.after
        if outside == "black":
            return ()
        if outside == "hold":
            return (self.first if frame < self.first else self.last,)
        return range(self.first, self.last + 1)  # loop and bounce

    def all_numbers(self, frames: Iterable[int]) -> Iterable[int]:
        """The frames whose files the node may read for any frame."""
        return frames if self.first is None or self.last is None else range(self.first, self.last + 1)

    def path(self, frame: int, view: str) -> str:
        """The file of a frame, with forward slashes; empty where there is none."""
        # Tcl takes the backslashes of a Windows path for escapes and drops them.
        plain = self.is_one_file and "\\" in self.raw
        return slashes(self.raw if plain else str(self.knob.evaluate(frame, view=view) or ""))


@dataclass(frozen=True)
class OutsideKnob:
    """A knob whose value depends on more than the script, such as on the existence of a file."""

    node: nuke.Node
    name: str


@dataclass
class Stamps:
    """The present stamps (size and time) of a source's files; each file is read once.

    Args:
        files: file knobs upstream.
        outside: knobs whose values count.
        keeps_time: True where a frame needs only its own files; else all files count for each frame.
        keeps_view: True where a view needs only its own files.
        frames: the frames of files of nodes other than Reads.
        views: views of the project.
        known: stamps by path, shared by nodes that are examined together.
    """

    files: tuple[FileKnob, ...]
    outside: tuple[OutsideKnob, ...]
    keeps_time: bool
    keeps_view: bool
    frames: tuple[int, ...]
    views: tuple[str, ...]
    known: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    answers: dict[tuple[int | None, str], str] = field(default_factory=dict)  # frame (None: any) and view → key
    single: dict[tuple[int, str], str] = field(default_factory=dict)  # index in `files`, view → the only file
    folder: str = field(default_factory=lambda: project_folder())

    def of(self, frame: int, view: str) -> str:
        """A key of the files and values behind a frame's source; it changes with the size or time of any file."""
        place = (frame if self.keeps_time else None, view)
        if place not in self.answers:
            views = self.views_of(view)
            frames = (frame,) if self.keeps_time else self.frames
            paths = self.paths(frame, view) if self.keeps_time else self.every_path(view)
            values = [value_at(knob, other, v) for knob in self.outside for v in views for other in frames]
            self.answers[place] = key_of([self.stamp(path) for path in paths], values)
        return self.answers[place]

    def missing(self, frame: int, view: str) -> list[str]:
        """The missing files of a frame."""
        return [path for path in self.paths(frame, view) if self.stamp(path)[1] < 0]

    def paths(self, frame: int, view: str) -> list[str]:
        """The files that the source of a frame is read from, where only its own frame counts; sorted."""
        found: set[str] = set()
        for place, file in enumerate(self.files):
            for other in self.views_of(view):
                own = set(self.each(place, file.numbers(frame), other))
                if file.nearest and any(self.stamp(path)[1] < 0 for path in own):
                    own.update(self.each(place, file.all_numbers(self.frames), other))
                found |= own
        return sorted(found)

    def every_path(self, view: str) -> list[str]:
        """All files that any frame could need; sorted."""
        found: set[str] = set()
        for place, file in enumerate(self.files):
            for other in self.views_of(view):
                found.update(self.each(place, file.all_numbers(self.frames), other))
        return sorted(found)

    def each(self, place: int, numbers: Iterable[int], view: str) -> Iterator[str]:
        """The paths of some frames of a file knob."""
        file = self.files[place]
        for number in numbers:
            path = self.single.get((place, view)) or file.path(number, view)
            if path:
                yield path
            if file.is_one_file:
                self.single[place, view] = path
                return

    def views_of(self, view: str) -> tuple[str, ...]:
        """The views whose files may be needed for a view."""
        return (view,) if self.keeps_view else self.views

    def stamp(self, path: str) -> tuple[str, int, int]:
        """A file's stamp."""
        if path not in self.known:
            # Nuke resolves a relative path against the project's folder; the key has the path as in the script.
            whole = path if os.path.isabs(path) else knobs.absolute(path, self.folder)  # noqa: PTH117 - the hot path
            self.known[path] = (path, *file_stamp(whole)[1:])
        return self.known[path]


def value_at(outside: OutsideKnob, frame: int, view: str) -> str:
    """The value of a knob on a frame; the message of the error where its expression fails."""
    knob: Any = outside.node[outside.name]
    try:
        if isinstance(knob, nuke.EvalString_Knob):
            return str(knob.evaluate(frame, view=view))
        return str(knob.getValueAt(frame) if hasattr(knob, "getValueAt") else knob.value())
    except RuntimeError as error:
        return str(error)


def project_folder() -> str:
    """The folder of relative paths: the project directory, else the working directory of Nuke."""
    knob: Any = nuke.root().knob("project_directory")
    return str((knob.evaluate() if knob is not None else "") or Path.cwd())


def _text(node: nuke.Node, name: str) -> str:
    knob = node.knob(name)
    return "" if knob is None else str(knob.value() or "")
