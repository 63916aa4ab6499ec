"""The command `relightgan nuke-install`: puts the plug-in where Nuke looks, and takes it away again.

<into>/init.py                 one marked block that adds the folder; every other line stays as it is
<into>/RelightGAN/             the plug-in, laid out like a checkout
    init.py menu.py relightgan.py gizmos/ nuke_plugin/ core/
    relightgan.json            which interpreter relights, and where cache and looks are
    installed.json             says that this command made the folder
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relightgan.core.errors import EXIT_DONE, InstallError
from relightgan.core.init_block import (
    BEGIN,
    FOLDER,
    cannot_write,
    read_start,
    with_block,
    without_block,
    write_start,
)
from relightgan.core.options import Parser
from relightgan.core.text import print_line
from relightgan.core.version import VERSION

ROOT = Path(__file__).absolute().parents[1]  # a checkout, or site-packages/relightgan
CONFIG, SENTINEL = "relightgan.json", "installed.json"
# What Nuke needs of a checkout. Of core/ it may import a few modules only, so that a copy can consist of those.
FILES, FOLDERS = ("init.py", "menu.py"), ("gizmos", "nuke_plugin")
SHARED = (
    "errors.py", "frame_seal.py", "look_metadata.py", "look_verdict.py", "onnx_scan.py",
    "protocol.py", "regular.py", "text.py", "version.py",
)  # fmt: skip
MAPPING = '''"""Maps `relightgan.*` onto this folder."""

from pathlib import Path

__path__ = [str(Path(__file__).absolute().parent)]
'''
OURS = (*FILES, *FOLDERS, "core", "relightgan.py", CONFIG, SENTINEL, "__pycache__")
CHECK_TIMEOUT_S = 120
EXAMPLES = """examples:
  relightgan nuke-install
  relightgan nuke-install --looks /show/looks --cache /scratch/relightgan
  relightgan nuke-install --into /studio/nuke --link      (a shared folder in NUKE_PATH; follows this installation)
  relightgan nuke-install --uninstall

The same command again updates the plug-in and keeps its settings. Relighting runs in the interpreter that ran this
command, so run it with the one that has RelightGAN: .venv/bin/relightgan in a checkout.
"""


@dataclass(frozen=True)
class InstallSettings:
    """What goes into relightgan.json; None keeps what an earlier installation says."""

    cache: Path | None = None  # folder for relit frames
    looks: tuple[Path, ...] | None = None  # folders that the look library shows


def main(argv: Sequence[str]) -> int:
    """Installs or removes the plug-in.

    Args:
        argv: the words after `relightgan nuke-install`.

    Raises:
        InstallError: a folder can't be written, isn't ours, or this interpreter can't relight.
    """
    parser = Parser(
        prog="relightgan nuke-install",
        description="Puts the plug-in where Nuke looks, with this interpreter to relight; --uninstall takes it away.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--into", type=Path, metavar="DIR", help="folder that Nuke reads init.py from [~/.nuke]")
    parser.add_argument("--link", action="store_true", help="link to this installation instead of copying it")
    parser.add_argument("--uninstall", action="store_true", help="remove what this command made, and nothing else")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where relit frames go [beside each script]")
    parser.add_argument("--looks", type=Path, nargs="+", metavar="DIR", help="folders that the look library shows")
    options = parser.parse_args(argv)
    into = absolute(options.into) if options.into else Path.home() / ".nuke"
    if options.uninstall:
        if options.link or options.cache or options.looks:
            parser.error("--uninstall takes no option but --into")
        for line in uninstall(into):
            print_line(line, sys.stdout)
        return EXIT_DONE
    looks = tuple(absolute(folder) for folder in options.looks) if options.looks else None
    settings = InstallSettings(absolute(options.cache) if options.cache else None, looks)
    folder = install(into, settings, link=options.link)
    print(f"{'Linked' if options.link else 'Copied'} RelightGAN {VERSION} to {folder}; {into / 'init.py'} adds it.")
    print(f"Relighting runs in {sys.executable}. Restart Nuke: Tab, RelightGAN.")
    return EXIT_DONE


def install(into: Path, settings: InstallSettings, *, link: bool = False, root: Path = ROOT) -> Path:
    """Puts the plug-in into a folder that Nuke reads, in place of an earlier one.

    Args:
        into: absolute; made where it isn't there. Its init.py gets one block, once.
        settings: for relightgan.json.
        link: link to `root` instead of copying, so that updates of it need no new installation.
        root: where the plug-in lies: a checkout, or `relightgan` in site-packages.

    Returns:
        The plug-in's folder.

    Raises:
        InstallError: something can't be written, a folder of that name isn't ours, or this interpreter can't relight.
    """
    folder = into / FOLDER
    check_root(root)
    clear_up(into)
    check_ours(folder)
    for looks in settings.looks or ():
        if not looks.is_dir():
            raise InstallError(f"{looks} isn't a folder.", "Give --looks folders with .onnx files.")
    before, made_init = read_json(folder / CONFIG), read_json(folder / SENTINEL).get("made_init")
    start = into / "init.py"
    with explained(into):
        into.mkdir(parents=True, exist_ok=True)
        text = read_start(start)
        if made_init is None:
            made_init = text is None
        added = with_block(text or b"", start)
        temporary = into / f".{FOLDER}.{uuid.uuid4().hex[:8]}.part"
        temporary.mkdir()  # found wanting before anything is asked of the interpreter, which takes a second
        try:
            config = {**before, **config_of(settings, root)}
            fill(temporary, root, link=link)
            write_json(temporary / CONFIG, config)
            write_json(temporary / SENTINEL, {"version": VERSION, "from": str(root), "made_init": made_init})
            swap(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        write_start(start, added)
    return folder


def uninstall(into: Path) -> list[str]:
    """Takes the plug-in out of a folder.

    Returns:
        What was done, line by line.

    Raises:
        InstallError: something can't be removed, or a folder of that name isn't ours.
    """
    folder, start = into / FOLDER, into / "init.py"
    clear_up(into)
    check_ours(folder)
    done = []
    with explained(into):
        text = read_start(start)
        left = without_block(text or b"", start)
        if text is not None and left != text:
            if not left and read_json(folder / SENTINEL).get("made_init"):
                start.unlink()
                done.append(f"Removed {start}.")
            else:
                write_start(start, left)
                done.append(f"Removed the lines of RelightGAN from {start}.")
        if folder.is_dir():
            for name in OURS:
                remove(folder / name)
            others = sorted(path.name for path in folder.iterdir())
            if others:
                done.append(f"Left {folder}, which also holds {', '.join(others)}.")
            else:
                folder.rmdir()
                done.append(f"Removed {folder}.")
    return done or [f"There is no RelightGAN in {into}."]


def installed_in(into: Path) -> dict[str, Any] | None:
    """What stands in the two JSON files of an installation: version, from, python, ...; None where there is none.

    Raises:
        InstallError: one of them can't be read.
    """
    folder = into / FOLDER
    if not (folder / SENTINEL).is_file():
        return None
    start = read_start(into / "init.py")
    return {**read_json(folder / SENTINEL), **read_json(folder / CONFIG), "told": BEGIN in (start or b"")}


# Private implementation


def absolute(path: Path) -> Path:
    """The path from the root, with ~ for the home folder; links stay links."""
    return path.expanduser().absolute()


def check_root(root: Path) -> None:
    """Checks that the plug-in lies there.

    Raises:
        InstallError: it doesn't.
    """
    needed = [*FILES, *FOLDERS, *(f"core/{name}" for name in SHARED)]
    missing = [name for name in needed if not (root / name).exists()]
    if missing:
        raise InstallError(f"{root} has no {', '.join(missing)}.", "Install RelightGAN again.")


def check_ours(folder: Path) -> None:
    """Checks that a folder isn't there, or was made by this command.

    Raises:
        InstallError: it is somebody else's.
    """
    if folder.is_symlink() or (folder.exists() and not (folder / SENTINEL).is_file()):
        raise InstallError(
            f"{folder} is there, but wasn't made by `relightgan nuke-install`.", "Move it away, or give another --into."
        )


def config_of(settings: InstallSettings, root: Path) -> dict[str, Any]:
    """The entries of relightgan.json that this installation sets.

    Raises:
        InstallError: this interpreter can't relight.
    """
    config: dict[str, Any] = {"python": sys.executable}
    # Where RelightGAN isn't installed but run from a checkout, Nuke must say where it lies.
    where = str(root if (root / "relightgan.py").is_file() else root.parent)
    problem = cannot_relight(None)
    if problem:
        problem = cannot_relight(where)
        config["pythonpath"] = where
    if problem:
        fix = f"Run `relightgan doctor`, or {sys.executable} -m pip install 'relightgan[cpu]'."
        raise InstallError(f"{sys.executable} can't relight: {problem}.", fix)
    if settings.cache is not None:
        config["cache"] = settings.cache.as_posix()
    if settings.looks is not None:
        config["looks"] = [folder.as_posix() for folder in settings.looks]
    return config


def cannot_relight(pythonpath: str | None) -> str:
    """Why this interpreter can't start the worker as Nuke will start it; empty where it can."""
    led_astray = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
    environment = {name: value for name, value in os.environ.items() if name not in led_astray}
    if pythonpath:
        environment["PYTHONPATH"] = pythonpath
    command = [sys.executable, "-s", "-P", "-c", "import relightgan.core.worker"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines[-1] if lines else f"it ended with code {done.returncode}")


def fill(folder: Path, root: Path, *, link: bool) -> None:
    """Copies or links the plug-in's files into an empty folder.

    Raises:
        InstallError: links can't be made here.
    """
    (folder / "relightgan.py").write_text(MAPPING, encoding="utf-8")
    if link:
        for name in (*FILES, *FOLDERS, "core"):
            try:
                (folder / name).symlink_to(root / name, target_is_directory=(root / name).is_dir())
            except (OSError, NotImplementedError) as error:
                raise InstallError(f"{folder.parent} takes no links ({error}).", "Leave out --link.") from error
        return
    for name in FILES:
        shutil.copyfile(root / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "ruff.toml"))
    (folder / "core").mkdir()
    for name in SHARED:
        shutil.copyfile(root / "core" / name, folder / "core" / name)


def swap(new: Path, folder: Path) -> None:
    """Puts a finished folder in place of the one that lies there, whose files that aren't ours move over."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_suffix(".old")
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    take_over(old, folder)


def take_over(old: Path, folder: Path) -> None:
    """Moves files that aren't ours from an old folder into the new one, and removes the old."""
    for path in old.iterdir():
        if path.name not in OURS:
            path.rename(folder / path.name)
    shutil.rmtree(old)


def clear_up(into: Path) -> None:
    """Takes up what an installation left that was killed: puts the old folder back, removes the unfinished one."""
    with explained(into):
        for old in into.glob(f".{FOLDER}.????????.old"):
            if not (into / FOLDER).exists():
                old.rename(into / FOLDER)
            else:
                take_over(old, into / FOLDER)
        for unfinished in into.glob(f".{FOLDER}.????????.part"):
            shutil.rmtree(unfinished)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder that may be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file.

    Raises:
        InstallError: it can't be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InstallError(f"{path} can't be read ({error}).", "Mend it or remove it.") from error
    if not isinstance(found, dict):
        raise InstallError(f"{path} isn't a JSON object.", "Mend it or remove it.")
    return found


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON file for people to read and edit."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def explained(into: Path) -> Iterator[None]:
    """Turns what the file system raises in its block into an error that names the folder."""
    try:
        yield
    except OSError as error:
        raise cannot_write(Path(error.filename or into), error) from error
