"""Read by Nuke when it has a window: toolbar, menus and panels."""

from relightgan.nuke_plugin import startup

startup.start_gui()
