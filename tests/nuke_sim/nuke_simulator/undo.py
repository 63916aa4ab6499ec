"""nuke.Undo: whether changes can be taken back, and how many there are."""

from __future__ import annotations

from . import session


class Undo:
    """Its methods are called on the class or on an object; an object is a context whose changes are one step."""

    @classmethod
    def disable(cls) -> None:
        now = session.current()
        now.undo_disabled = now.undo_disabled + 1 if now.quirks.undo_disable_counts else 1

    @classmethod
    def enable(cls) -> None:
        now = session.current()
        now.undo_disabled = max(0, now.undo_disabled - 1)

    @classmethod
    def disabled(cls) -> bool:
        return session.current().undo_disabled > 0

    @classmethod
    def undo(cls) -> None:
        session.current().undo()

    @classmethod
    def undoSize(cls) -> int:
        return len(session.current().undo_steps)

    @classmethod
    def begin(cls, name: str = "") -> None:
        session.current().undo_open.append(len(session.current().undo_steps))

    @classmethod
    def end(cls) -> None:
        now = session.current()
        steps = now.undo_steps
        start = now.undo_open.pop()
        together = steps[start:]
        if together:
            steps[start:] = [lambda: [inverse() for inverse in reversed(together)]]

    @classmethod
    def cancel(cls) -> None:
        now = session.current()
        start = now.undo_open.pop()
        while len(now.undo_steps) > start:
            now.undo()

    @classmethod
    def name(cls, name: str = "") -> None:
        """Steps have no names here."""

    def __enter__(self) -> Undo:
        self.begin()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
