"""What nodes say about their pictures, asked of ops.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import formats

if TYPE_CHECKING:
    from .nodes import Node
    from .session import Session


class Pictures:
    """Each question renders the picture at the session's frame and view; simple and slow."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def image(self, node: Node, time: float | None = None, view: str | None = None) -> Any:
        from . import ops

        now = self._session
        return ops.evaluate(node, now.frame_now if time is None else time, view or now.view_now, now)

    def format(self, node: Node) -> formats.Format:
        width, height, aspect = self.image(node).format
        return formats.Format(width, height, 0, 0, width, height, aspect)

    def bbox(self, node: Node) -> formats.Info:
        x, y, r, t = self.image(node).bbox
        return formats.Info(x, y, r - x, t - y)

    def channels(self, node: Node) -> list[str]:
        return list(self.image(node).channels)

    def metadata(self, node: Node, key: str | None, time: float | None, view: str | None) -> Any:
        found = self.image(node, time, view).metadata
        return dict(found) if key is None else found.get(key)

    def sample(self, node: Node, channel: str, x: float, y: float, dx: float, dy: float, frame: float | None) -> float:
        if (dx, dy) != (1, 1):
            raise NotImplementedError("simulated sample reads single pixels")
        image = self.image(node, frame)
        left, bottom, right, top = image.bbox
        full = {"red": "rgba.red", "green": "rgba.green", "blue": "rgba.blue", "alpha": "rgba.alpha"}.get(
            channel, channel
        )
        if full not in image.channels or not (left <= x < right and bottom <= y < top):
            return 0.0
        return float(image.channels[full][int(y) - bottom, int(x) - left])

    def frame_range(self, node: Node) -> tuple[int, int]:
        from . import ops

        first, last = ops.frame_range(node, self._session)
        return int(first), int(last)

    def frame_range_object(self, node: Node) -> formats.FrameRange:
        return formats.FrameRange(*self.frame_range(node))

    def has_error(self, node: Node) -> bool:
        from . import ops

        try:
            self.image(node)
        except ops.NodeError:
            return True
        return False
