"""nuke.addOnCreate, nuke.removeOnCreate and their like, one pair for each event."""

from __future__ import annotations

from typing import Any

from . import session
from .callbacks import EVENTS


def _pair(event: str, default_class: str) -> tuple[Any, Any]:
    def add(call, args=(), kwargs=None, nodeClass=default_class):
        session.current().callbacks.add(event, call, args, {} if kwargs is None else kwargs, nodeClass)

    def remove(call, args=(), kwargs=None, nodeClass=default_class):
        session.current().callbacks.remove(event, call, args, {} if kwargs is None else kwargs, nodeClass)

    return add, remove


for _event, _class in EVENTS.items():
    globals()[f"add{_event}"], globals()[f"remove{_event}"] = _pair(_event, _class)


def addKnobChanged(call, args=(), kwargs=None, nodeClass="*", node=None):
    session.current().callbacks.add("KnobChanged", call, args, {} if kwargs is None else kwargs, nodeClass, node)


def removeKnobChanged(call, args=(), kwargs=None, nodeClass="*", node=None):
    session.current().callbacks.remove("KnobChanged", call, args, {} if kwargs is None else kwargs, nodeClass, node)


__all__ = [f"{verb}{event}" for event in EVENTS for verb in ("add", "remove")]
