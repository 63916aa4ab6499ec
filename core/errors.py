"""The errors a user can meet, each with the problem and the fix. Standard library only.

Names of files and what others wrote may stand in them as they are: an error spells them out (see `text`).

RelightError
 ├─ UsageError        the command line or a setting makes no sense (exit code 2)
 ├─ ConfigError       a run configuration has a wrong key or value
 ├─ PhotoError        a photo folder can't be used for training
 ├─ TrainingError     a fit can't start, go on or resume
 ├─ LookError         a look (.onnx) can't be read, checked or written
 ├─ DeviceError       the device asked for can't run, or ran out of memory
 ├─ ColourError       a working space or profile is unknown
 ├─ SequenceError     frames are missing, or a pattern or range can't be read
 ├─ PlateError        a frame can't be read or written
 ├─ InstallError      the Nuke plug-in can't be put where Nuke looks, or taken away
 ├─ ProtocolError     Nuke and the worker don't understand each other
 ├─ WorkerError       the worker can't be started, died, or gave no sign of life
 └─ Cancelled         the user or the farm asked to stop (exit code 130)
"""

from relightgan.core.text import printable

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_CANCELLED = 130


class RelightError(Exception):
    """Any failure we can explain; `str()` is one line: the problem, then the fix.

    Args:
        problem: what is wrong, naming the file, key or device, with its full stop.
        fix: what the user can do about it, with its full stop; empty where the problem says it all.
    """

    exit_code = EXIT_ERROR

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem = printable(problem)
        self.fix = printable(fix)
        super().__init__(f"{self.problem} {self.fix}".strip())


class UsageError(RelightError):
    """The command line or a setting makes no sense."""

    exit_code = EXIT_USAGE


class ConfigError(RelightError):
    """A run configuration has a wrong key or value."""


class PhotoError(RelightError):
    """A photo folder can't be used for training."""


class TrainingError(RelightError):
    """A fit can't start, go on or resume."""


class LookError(RelightError):
    """A look (.onnx) can't be read, checked or written."""


class DeviceError(RelightError):
    """The device asked for can't run, or ran out of memory."""


class ColourError(RelightError):
    """A working space or colour profile is unknown."""


class SequenceError(RelightError):
    """Frames are missing, or a frame pattern or range can't be read."""


class PlateError(RelightError):
    """A frame can't be read or written."""


class ProtocolError(RelightError):
    """A message between Nuke and the worker isn't what it should be."""


class WorkerError(RelightError):
    """The worker can't be started, died, or gave no sign of life."""


class InstallError(RelightError):
    """The Nuke plug-in can't be put where Nuke looks, or taken away."""


class Cancelled(RelightError):
    """The user or the farm asked to stop; what was finished is whole."""

    exit_code = EXIT_CANCELLED
