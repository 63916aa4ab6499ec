"""The work of the worker on a request: checks its paths, keeps looks ready, relights, describes looks.

Between requests it keeps the last looks, and the operators of the frames around the last one, which the next request
for the same source may need for its temporal window. Both save time, and neither changes a value.
"""

import contextlib
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from relightgan.core import sequence
from relightgan.core.allowed_looks import allowed_only
from relightgan.core.colour import working_space
from relightgan.core.errors import LookError, PlateError, ProtocolError, UsageError
from relightgan.core.files import sweep_parts
from relightgan.core.frames import read_plate, write_plate
from relightgan.core.look import Look, load_look
from relightgan.core.output_folder import OutputFolder
from relightgan.core.pipeline import Relighting, Settings, WindowCache
from relightgan.core.plate import Plate, rgb_only
from relightgan.core.progress import Cancellation
from relightgan.core.protocol import Message, encode
from relightgan.core.runtime import OutOfMemoryError
from relightgan.core.session import LookSession
from relightgan.core.shot import relight_shot, window_union

LOOKS_KEPT = 2
# Measured on HD frames with grain, two cores: half as zip takes 40 % less room, and 0.12 s, in which the next frame is
# computed; for a lone frame somebody waits meanwhile. Float hardly gets smaller.
COMPRESSION = {"half": "zip", "float": "none"}
LONE = "none"

Stat = tuple[int, int, int]  # number, size and time of change of a file: a file of another content has others


class Tasks:
    """Does requests one after the other.

    Args:
        folders: the only ones whose files may be read or written, links resolved.
        emit: sends an event.
        check: called often while work is going on; raises `Cancelled` to end it.
    """

    def __init__(self, folders: Sequence[Path], emit: Callable[[Message], None], check: Callable[[], None]) -> None:
        self.folders = folders
        self.emit = emit
        self.check = check
        self.sessions: OrderedDict[tuple[str, str], LookSession] = OrderedDict()  # keys: hash and device
        self.hashes: dict[Path, tuple[Stat, str]] = {}  # hashes of the loaded looks
        self.source: BakeSource | None = None  # the source of the last request
        self.cache = WindowCache()  # belongs to it

    def look(self, request: Message) -> Message:
        """The event that describes a look."""
        look = load_look(self.allowed(request["path"], ".onnx"), allow=allowed_only())
        facts = dataclasses.asdict(look.facts)
        event = {"type": "look", "id": request["id"], "facts": facts, "sha256": look.sha256}
        try:
            encode(event)
        except ProtocolError as error:
            problem = f"What {look.path} says about itself can't be passed on. {error.problem}"
            raise LookError(problem, "Run 'relightgan look' on it.") from error
        return event

    def relight(self, request: Message, cancelled: Cancellation, finished: Callable[[int], None]) -> Message:
        """Relights the frames of a request, in rising order.

        Args:
            request: of type `relight`.
            cancelled: ends it early.
            finished: gets the number of each frame once its file is there; called on another thread.

        Returns:
            the event that says it is done.

        Raises:
            RelightError: something is wrong with the request, a file or the device; frames finished before are whole.
            Cancelled: it was asked to end.
        """
        started = time.monotonic()
        settings = Settings(**request["settings"])
        look_path = self.allowed(request["look"], ".onnx")
        source = BakeSource(self.allowed(request["source"], ".exr"))
        outputs = {int(frame): self.allowed(path, ".exr") for frame, path in request["outputs"].items()}
        frames = sorted(outputs)
        ends = (request["clip"][0], request["clip"][1])
        needed = window_union(frames, ends, settings.radius)
        source.require(needed)
        for frame in needed:  # each may be a link
            self.allowed(str(source.path(frame)), ".exr")
        check_outputs(outputs, source)
        session = self.session(look_path, request["look_sha256"], request["device"])
        working_space(settings.working_space, session.look.facts.primaries)
        self.emit({"type": "started", "id": request["id"], "device": session.device_line})
        shown = EventLines(request["id"], self.emit)
        relighting = Relighting(session, settings, cache=self.cache_for(source))
        with StoreSink(self.folders, outputs, request["precision"], request["notes"], finished) as sink:
            relight_shot(frames, source, sink, relighting, shown, cancelled, ends)
        seconds = time.monotonic() - started
        return {
            "type": "done", "id": request["id"], "frames": frames, "seconds": seconds, "device": session.device_line
        }  # fmt: skip

    def allowed(self, text: str, suffix: str) -> Path:
        """A path of a request, with `..` and links resolved, if it lies in one of the agreed folders.

        Raises:
            UsageError: it doesn't, isn't absolute, or is of another kind of file.
        """
        path = Path(text)
        if not path.is_absolute() or path.suffix.lower() != suffix:
            raise UsageError(f"The worker was asked for {text!a}.", f"It takes whole paths of {suffix} files only.")
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # links that go round in circles
            raise UsageError(f"{text!a} can't be followed ({error}).", "Check the path.") from error
        if real.suffix.lower() != suffix or not any(real.is_relative_to(folder) for folder in self.folders):
            shown = ", ".join(map(str, self.folders)) or "none"
            led = f" (it leads to {real})" if real != path else ""
            raise UsageError(f"{path}{led} is outside the folders the worker may touch: {shown}.", "Name its folder.")
        return real

    def session(self, path: Path, sha256: str, device: str) -> LookSession:
        """The look at a path, ready to run on a device; kept for the next request.

        Raises:
            LookError: it can't be read, or isn't the one that was asked for.
            DeviceError: the device doesn't start, or has too little memory.
        """
        allow = allowed_only()
        allow(sha256, path)
        key = (sha256, device)
        stat = stat_of(path)
        if key in self.sessions and stat is not None and self.hashes.get(path) == (stat, sha256):
            self.sessions.move_to_end(key)
            return self.sessions[key]
        look = load_look(path, allow=allow)
        if look.sha256 != sha256:
            raise LookError(
                f"{path} isn't the look that was asked for: its sha256 is {look.sha256[:12]}…, not {sha256[:12]}….",
                "It was replaced meanwhile; relight again.",
            )
        if stat is not None:
            self.hashes[path] = (stat, sha256)
        if key not in self.sessions:
            # Observations by another look are of no use to this one, and would keep that look's memory.
            self.source, self.cache = None, WindowCache()
            while len(self.sessions) >= LOOKS_KEPT:
                self.sessions.popitem(last=False)
            self.sessions[key] = self.loaded(look, device)
        self.sessions.move_to_end(key)
        return self.sessions[key]

    def loaded(self, look: Look, device: str) -> LookSession:
        """A look made ready to run; alone where there is no memory for it beside others."""
        if self.sessions:
            with contextlib.suppress(OutOfMemoryError):
                return LookSession(look, device, check=self.check, report=self.report)
            self.sessions.clear()
        return LookSession(look, device, check=self.check, report=self.report)

    def report(self, text: str) -> None:
        """Takes a look's line about memory."""
        self.emit({"type": "log", "text": text})

    def forget(self) -> None:
        """Lets go of everything kept, when memory ran out."""
        self.sessions.clear()
        self.source, self.cache = None, WindowCache()

    def cache_for(self, source: "BakeSource") -> WindowCache:
        """The operators of the frames around the last one, where they still hold for this source."""
        before = self.source
        if before is None or before.pattern != source.pattern:
            self.cache = WindowCache()
        else:
            known = self.cache.frame_operators
            # A source isn't meant to change; a cache that relied on it would be wrong where it does.
            if any(before.stats.get(frame) != stat_of(source.path(frame)) for frame in known):
                self.cache = WindowCache()
            source.stats |= {frame: before.stats[frame] for frame in self.cache.frame_operators}
        self.source = source
        return self.cache


class BakeSource:
    """The frames Nuke wrote for a bake, which may be a part of a clip.

    Args:
        path: with one place for the frame number.
    """

    fps: Fraction | float | None = None

    def __init__(self, path: Path) -> None:
        self.pattern = str(path)
        self.sequence = sequence.Sequence(self.pattern)
        self.about = self.pattern
        self.frames = self.sequence.existing()
        self.stats: dict[int, Stat | None] = {}  # stats of the files at the time they were read

    def path(self, frame: int) -> Path:
        """The file of a frame."""
        return self.sequence.path(frame)

    def read(self, frame: int) -> Plate:
        """A frame, as it lies in its file."""
        self.stats[frame] = stat_of(self.path(frame))
        return read_plate(self.path(frame))

    def files(self) -> set[Path]:
        """Every file frames are read from."""
        return {self.path(frame) for frame in self.frames}

    def require(self, frames: Iterable[int]) -> None:
        """Checks that frames were written.

        Raises:
            SequenceError: names those that weren't.
        """
        self.sequence.require(frames)

    def close(self) -> None:
        """Does nothing: every file is closed once it is read."""


class StoreSink:
    """Writes each frame to a file of its own name: rgb only, with the plate's windows and metadata.

    A file is named by its frame key, under which it is sealed. As a context the sink opens the folders of all files
    first; see `output_folder`.

    Args:
        folders: those that may be written to, links resolved.
        outputs: the file of each frame; a lone one is stored as fast as can be, several in little room.
        precision: "half" or "float".
        notes: metadata to add.
        finished: gets a frame's number once its file is there.
    """

    holds_many = True

    def __init__(
        self,
        folders: Sequence[Path],
        outputs: Mapping[int, Path],
        precision: str,
        notes: Mapping[str, str],
        finished: Callable[[int], None],
    ) -> None:
        self.folders = folders
        self.outputs = outputs
        self.opened: dict[Path, OutputFolder] = {}
        self.closing = ExitStack()  # closes them; filled once all are open
        self.precision = precision
        self.compression = COMPRESSION[precision] if len(outputs) > 1 else LONE
        self.notes = notes
        self.finished = finished
        self.about = "the store"

    def write(self, frame: int, plate: Plate, rgb: np.ndarray, notes: Mapping[str, str]) -> int:
        """Writes a frame; returns the number of values clamped to the range of the file."""
        bare = rgb_only(plate, self.precision, self.compression)
        target = self.outputs[frame]
        folder = self.opened[target.parent]
        through = folder.path(target.name)
        try:
            clamped = write_plate(through, bare, rgb, notes={**notes, **self.notes}, key=target.stem)
        except PlateError as error:
            folder.require()  # where that is the reason, it says more
            raise PlateError(error.problem.replace(str(through), str(target)), error.fix) from error
        folder.require()
        self.finished(frame)
        return clamped

    def files(self, frames: Iterable[int]) -> dict[int, Path]:
        """The file of each frame."""
        return {frame: self.outputs[frame] for frame in frames}

    def __enter__(self) -> "StoreSink":
        with ExitStack() as stack:
            for folder in {path.parent for path in self.outputs.values()}:
                self.opened[folder] = stack.enter_context(closing(OutputFolder(self.folders, folder)))
                sweep_parts(self.opened[folder].path("."))
            self.closing = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.close()


class EventLines:
    """Sends the messages of a shot as events; finished frames are reported by the sink, at once."""

    def __init__(self, task: str, emit: Callable[[Message], None]) -> None:
        self.task = task
        self.emit = emit

    def say(self, text: str) -> None:
        """Sends a line for people."""
        self.emit({"type": "log", "id": self.task, "text": text})

    def advance(self) -> None:
        """Does nothing."""


def check_outputs(outputs: Mapping[int, Path], source: BakeSource) -> None:
    """Makes sure that every result has a file of its own.

    Raises:
        UsageError: two share one, or one is a source frame.
    """
    targets = list(outputs.values())
    if len(set(targets)) < len(targets):
        double = next(path for path in targets if targets.count(path) > 1)
        raise UsageError(f"Two frames would be written to {double}.", "Give each frame its own file.")
    if spoiled := source.files() & set(targets):
        raise UsageError(f"{min(spoiled)} would be overwritten by its own result.", "Choose another output.")


def stat_of(path: Path) -> Stat | None:
    """Number, size and time of change of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
