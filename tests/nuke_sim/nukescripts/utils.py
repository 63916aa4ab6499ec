"""executeDeferred."""

import nuke


def executeDeferred(call, args=(), kwargs=None):
    """Runs the call once Nuke is idle."""
    nuke.executeInMainThread(call, args, kwargs or {})
