"""Read by Nuke at every start, with or without a window: tells it where the gizmos are.

Add this folder to NUKE_PATH, or call nuke.pluginAddPath on it in ~/.nuke/init.py.
"""

import os

import nuke

# Only gizmos are looked for there, so it has no business on Python's path.
nuke.pluginAddPath(
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "gizmos").replace("\\", "/"), addToSysPath=False
)
