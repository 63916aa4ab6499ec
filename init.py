"""Read by Nuke at every start, with or without a window: makes the plug-in known.

Add this folder to NUKE_PATH, or run `relightgan nuke-install`.
"""

import sys
from pathlib import Path

import nuke

# Only gizmos are looked for there, so it has no business on Python's path.
nuke.pluginAddPath((Path(__file__).absolute().parent / "gizmos").as_posix(), addToSysPath=False)

# Nuke puts this folder on the path itself, unless a studio adds it with addToSysPath=False. At the end, because what
# others call `core` or `menu` comes first.
if str(Path(__file__).absolute().parent) not in sys.path:
    sys.path.append(str(Path(__file__).absolute().parent))

from relightgan.nuke_plugin import startup  # noqa: E402 - findable only now

startup.start()
