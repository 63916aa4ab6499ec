"""The plug-in path and the files init.py and menu.py on it."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

from . import session
from .callbacks import _main


def add_path(paths: str | list | tuple, to_sys_path: bool, *, first: bool) -> None:
    """Puts folders on the plug-in path and runs their init.py; one with a dot first is beside the file that calls."""
    for one in [paths] if isinstance(paths, str) else paths:
        folder = Path(one)
        if one.startswith("."):
            folder = _calling_folder() / one
        _add(folder.resolve() if one.startswith(".") else folder, to_sys_path, first=first)


def _calling_folder() -> Path:
    frame = inspect.currentframe()
    here = {__file__, str(Path(__file__).parent.parent / "nuke" / "__init__.py")}
    while frame is not None and (frame.f_code.co_filename in here):
        frame = frame.f_back
    return Path(frame.f_code.co_filename).resolve().parent if frame is not None else Path.cwd()


def _add(folder: Path, to_sys_path: bool, *, first: bool) -> None:
    now = session.current()
    text = folder.as_posix()
    if text in now.plugin_paths:
        return
    now.plugin_paths.insert(0 if first else len(now.plugin_paths), text)
    if to_sys_path and text not in sys.path:
        sys.path.append(text)
    run_file(folder / "init.py")
    if now.gui and now.menu_started:
        run_file(folder / "menu.py")


def begin(folders: list[Path] | None = None) -> None:
    """As a start of Nuke: init.py of every folder of the path, later ones first added; then menu.py with a window."""
    now = session.current()
    if folders is None:
        named = [Path(text) for text in os.environ.get("NUKE_PATH", "").split(os.pathsep) if text]
        folders = [*named, Path(os.environ.get("HOME", "~")).expanduser() / ".nuke"]
    for folder in reversed(folders):
        if folder.is_dir():
            _add(folder, True, first=True)
    if now.gui:
        now.menu_started = True
        for text in reversed(list(now.plugin_paths)):
            run_file(Path(text) / "menu.py")


def run_file(path: Path) -> None:
    """Runs a start-up file, if it is there, with its __file__ and in a namespace of its own."""
    if path.is_file():
        _main()
        import nuke

        code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
        exec(code, {"__name__": path.stem, "__file__": str(path), "nuke": nuke})
