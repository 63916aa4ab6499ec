"""Panels made from a Qt widget."""

from nuke_simulator import session


def registerWidgetAsPanel(widget, name, id, create=False):
    """Remembers the panel. `widget` is the text of an expression that gives the widget's class, evaluated when shown."""
    if not isinstance(widget, str):
        raise TypeError("registerWidgetAsPanel takes the widget's class as text")
    if create:
        raise NotImplementedError("the simulator shows no panels")
    session.current().panels[id] = (widget, name)
