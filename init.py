"""Read by Nuke at every start, with or without a window: tells it where the gizmos are.

Add this folder to NUKE_PATH, or call nuke.pluginAddPath on it in ~/.nuke/init.py.
"""

from pathlib import Path

import nuke

# Only gizmos are looked for there, so it has no business on Python's path.
nuke.pluginAddPath((Path(__file__).resolve().parent / "gizmos").as_posix(), addToSysPath=False)
