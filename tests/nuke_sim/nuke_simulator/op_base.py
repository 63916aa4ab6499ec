"""What every operator gets: the node at one frame, in one view, at one scale."""

from dataclasses import dataclass, field
from typing import Any

from nuke_simulator import nodes
from nuke_simulator.images import Format, Image, black, scaled_format


class NodeError(RuntimeError):
    """A node can't make its picture; the text begins with the node's full name, as Nuke prints it.

    The form "Node: /path/file.exr: Read error: No such file or directory" is that of farm logs in public repositories
    (REP); other texts are ours (unverified).
    """

    def __init__(self, node_name: str, message: str) -> None:
        super().__init__(f"{node_name}: {message}")
        self.node_name = node_name
        self.message = message


@dataclass(frozen=True)
class OpContext:
    """One node at one frame in one view. A pull's contexts share the frames already made in it."""

    node: Any
    frame: float
    view: str
    session: Any
    proxy_scale: float = 1.0
    made: dict[tuple, Any] = field(default_factory=dict)  # pictures by node, frame and view; ranges by node

    def value(self, name: str, default: Any = None) -> Any:
        """A knob's value here; `default` where the node has no such knob or it holds None."""
        try:
            value = nodes.knob_value(self.node, name, self.frame, self.view)
        except KeyError:
            return default
        return default if value is None else value

    def number(self, name: str, default: float) -> float:
        value = self.value(name, default)
        return float(value[0] if isinstance(value, (list, tuple)) else value)

    def numbers(self, name: str, default: float | list[float], count: int) -> list[float]:
        """A knob of several numbers; one number stands for all."""
        value = self.value(name, default)
        if not isinstance(value, (list, tuple)):
            return [float(value)] * count
        values = [float(v) for v in value]
        return values * count if len(values) == 1 else values[:count] + [0.0] * (count - len(values))

    def whole(self, name: str, default: int) -> int:
        """A number knob as Nuke's integer knobs read it, towards zero (unverified)."""
        return int(self.number(name, default))

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.value(name, default))

    @property
    def inputs(self) -> list[Any]:
        """What is connected, by index; 0 is B."""
        return nodes.input_nodes(self.node)

    def connected(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def image(self, index: int, frame: float | None = None, view: str | None = None) -> Image | None:
        """An input's picture, at another frame or view if given; None where nothing is connected."""
        from nuke_simulator.ops import pull  # the operators' table needs this module first

        if not self.connected(index):
            return None
        at = self.frame if frame is None else frame
        return pull(self, self.inputs[index], at, self.view if view is None else view)

    def pipe(self, index: int, frame: float | None = None, view: str | None = None) -> Image:
        """As `image`, but black in the root's format where nothing is connected (DOC: NDK)."""
        image = self.image(index, frame, view)
        return black(self.root_format()) if image is None else image

    def root_format(self) -> Format:
        return scaled_format(Format(*self.session.root_format), self.proxy_scale)

    def error(self, message: str) -> NodeError:
        return NodeError(self.node.fullName(), message)

    def not_simulated(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{self.node.fullName()}: {self.node.Class()}: {what} isn't simulated")
