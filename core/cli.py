"""The `relightgan` command: finds the module behind a sub-command and turns errors into one line and an exit code.

Sub-commands are loaded by name and only when asked for, so `relightgan infer` never waits for torch and `core` never
imports `training`. Each module offers `main(argv) -> int`.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from relightgan.core.errors import EXIT_CANCELLED, EXIT_ERROR, EXIT_USAGE, RelightError
from relightgan.core.files import in_plain_words
from relightgan.core.text import printable, shown
from relightgan.core.version import VERSION

# OpenMP's threads spin while they wait, and on a machine that others use too everything then takes ten times longer
# (measured: 36). Asleep they cost nothing. This must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS = {
    "train": ("relightgan.training.commands.train", "fit a look to two folders of set photos"),
    "photos": ("relightgan.training.commands.photos", "look at a photo dump before training"),
    "infer": ("relightgan.core.infer", "relight frames or a movie with a look"),
    "locate": ("relightgan.training.commands.locate", "find where plates were taken, to guide infer"),
    "look": ("relightgan.core.look_command", "show what is inside a look"),
    "evaluate": ("relightgan.training.commands.evaluate", "measure a look on paired views and clips"),
    "nuke-install": ("relightgan.core.nuke_install", "put the plug-in where Nuke looks, or take it away"),
    "doctor": ("relightgan.core.doctor", "check this installation and say how to mend it"),
}
FIX_OS = "Check the path, its rights and the disk."
EXTRA_OF_LAYER = {"relightgan.training": "train"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one sub-command.

    Args:
        argv: the words after `relightgan`; those of this process when None.

    Returns:
        0 done, 1 our error, 2 usage, 130 cancelled.
    """
    open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: run_words(words))


def run_words(words: Sequence[str]) -> int:
    """Does what the words after `relightgan` say; the exit code."""
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else EXIT_USAGE
    if words[0] == "--version":
        print(f"relightgan {VERSION}")
        return 0
    if words[0] not in COMMANDS:
        print(f"relightgan: there is no command '{shown(words[0])}'.\n\n{usage()}", file=sys.stderr)
        return EXIT_USAGE
    return load_command(words[0])(words[1:])


def usage() -> str:
    """The overview that `relightgan --help` prints."""
    rows = "\n".join(f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items())
    return (
        f"relightgan {VERSION}: makes shots of one scene match in light.\n\n"
        f"usage: relightgan COMMAND ...\n\n{rows}\n\n`relightgan COMMAND --help` shows options and examples."
    )


def load_command(name: str) -> Callable[[Sequence[str]], int]:
    """Imports the module behind a sub-command; a missing optional package is an error that names the extra.

    Raises:
        RelightError: the module needs a package that isn't installed.
    """
    module_name, _ = COMMANDS[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("relightgan"):
            raise
        extra = EXTRA_OF_LAYER.get(".".join(module_name.split(".")[:2]))
        package = f"relightgan[{extra}]" if extra else "relightgan"
        raise RelightError(
            f"'relightgan {name}' needs the package {error.name}, which isn't installed in {sys.executable}.",
            f"Run: {sys.executable} -m pip install '{package}'.",
        ) from error
    command: Callable[[Sequence[str]], int] = module.main
    return command


def run_command(command: Callable[[], int]) -> int:
    """Calls a command and turns what it raises into one line on stderr and an exit code.

    The word `Error:` is written only where the task has failed, because farm managers fail a task on it. What files,
    streams and memory raise outside the places that know them by name is caught here, so that nobody sees a traceback.
    """
    try:
        return run_to_the_end(command)
    except KeyboardInterrupt:
        complain("Cancelled; finished files are whole.")
        return EXIT_CANCELLED
    except RelightError as error:
        word = "Cancelled" if error.exit_code == EXIT_CANCELLED else "Error"
        complain(f"{word}: {error}")
        return error.exit_code
    except BrokenPipeError:  # whoever read our output (`| head`) has gone
        return EXIT_ERROR
    except OSError as error:
        complain(f"Error: {error.filename or 'The output'}: {in_plain_words(error, None).strerror}. {FIX_OS}")
        return EXIT_ERROR
    except MemoryError as error:
        complain(f"Error: memory ran out ({error or 'no details'}). Close other programs.")
        return EXIT_ERROR
    finally:
        drop_what_nobody_takes()


def run_to_the_end(command: Callable[[], int]) -> int:
    """Calls a command and brings its output to where it goes, so that a full disk is found while it can be told.

    Raises:
        OSError: not all of the output could be written.
    """
    try:
        code = command()
    except SystemExit:  # argparse, after `--help`
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


def complain(line: str) -> None:
    """A line on stderr, which may be full or gone as well."""
    with contextlib.suppress(OSError):
        print(
            "Error: " * line.startswith("Error: ") + printable(line.removeprefix("Error: ")),
            file=sys.stderr,
            flush=True,
        )


def open_closed_streams() -> None:
    """Puts /dev/null where stdout or stderr is closed, so that no file we open gets its number and the lines in it."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            # The lowest free number is taken, which is this one, as those below are open by now.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def drop_what_nobody_takes() -> None:
    """Sends output that can't be written nowhere: Python would try once more at its end, with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
