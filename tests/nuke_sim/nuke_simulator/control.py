"""The hands of the user, for tests: idle time, cancelling, answers, and what the window showed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import session
from .callbacks import inside


def idle() -> dict[str, str]:
    """Lets Nuke be idle: calls from other threads, updateUI, then autolabel; the text on each node by its full name."""
    now = session.current()
    while now.main_thread_calls:
        now.main_thread_calls.popleft()()
    labels = {}
    for node in list(inside(now.root)):
        now.callbacks.run("UpdateUI", node)
        labels[node.fullName()] = now.callbacks.autolabel(node)
    return labels


def cancel_after(count: int | None) -> None:
    """The user presses Cancel once Nuke has looked `count` times, at the frames of a render or in isCancelled().

    Cancel stays pressed until None takes the finger off.
    """
    session.current().cancel_in = count


def answer(yes: bool) -> None:
    """The answer to the next nuke.ask."""
    session.current().answers.append(yes)


def messages() -> list[str]:
    """What nuke.message and nuke.ask have shown."""
    return list(session.current().messages)


def warnings() -> list[str]:
    return list(session.current().warnings)


def tasks() -> list[Any]:
    """The ProgressTasks made, each with ._title, ._progress and ._messages."""
    return list(session.current().tasks)


def registered(event: str) -> list[tuple[str, Callable]]:
    """(class, function) for what nuke.add<event> holds, e.g. registered("BeforeRender")."""
    return session.current().callbacks.registered(event)


def change(knob: Any, value: Any) -> None:
    """The user opens the node's panel and changes a knob there."""
    knob.node().showControlPanel()
    knob.setValue(value)
