"""A look, ready to run: predicts the change of a plate, and applies it.

The kinds of look differ in what they predict and how it is applied; see `operator_look` and `image_look`. All of a
look's operators are predicted; applying needs those that the relit frame and the requested AOVs depend on.
"""

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np

from relightgan.core.image_look import GainLook, OffsetLook
from relightgan.core.look import Look, Operator, known_aovs
from relightgan.core.operator_look import OperatorLook
from relightgan.core.runtime import Runtime


class LookKind(Protocol):
    """What every kind of look does; the methods are those of `LookSession`."""

    applied: tuple[str, ...]
    aovs: tuple[str, ...]

    def predict(self, rgb_linear: np.ndarray) -> Operator:
        """The operator of a frame."""

    def apply(self, rgb_linear: np.ndarray, operator: Operator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The frame with an operator applied, and its AOVs."""

    def gain(self, rgb_linear: np.ndarray, operator: Operator) -> np.ndarray:
        """The gains of a frame with an operator."""


class LookSession:
    """A look, ready to run on one device.

    Args:
        look: what `load_look` returned.
        device: "auto", "cpu", "cuda" or "cuda:N"; see `choose_providers`.
        tile_px: side of the tiles of an image look; None for whole frames up to 2K and tiles of 1024 px above.
        check: called between tiles and strips; may raise `Cancelled`.
        report: gets a line when memory runs short and tiles get smaller; stderr when None.
        aovs: names of the look's own AOVs that `apply_with_aovs` is to give; names of others are passed over.

    Raises:
        UsageError: an unknown device.
        DeviceError: the requested device doesn't start, or has too little memory.
        LookError: onnxruntime can't load the look, or an operator look can't be cut in two.
    """

    def __init__(
        self,
        look: Look,
        device: str = "auto",
        tile_px: int | None = None,
        check: Callable[[], None] | None = None,
        report: Callable[[str], None] | None = None,
        aovs: Collection[str] = (),
    ) -> None:
        self.look = look
        self.runtime = Runtime(look, device, check, report)
        self.kind: LookKind
        if look.facts.operators:
            self.kind = OperatorLook(self.runtime, [name for name in known_aovs(look.facts) if name in aovs])
        elif look.facts.value_range == "unbounded":
            self.kind = OffsetLook(self.runtime, tile_px)
        else:
            self.kind = GainLook(self.runtime, tile_px)

    @property
    def aovs(self) -> tuple[str, ...]:
        """The look's own AOVs that `apply_with_aovs` gives."""
        return self.kind.aovs

    @property
    def applied(self) -> tuple[str, ...]:
        """The operators that applying needs; empty for an image look."""
        return self.kind.applied

    @property
    def device_line(self) -> str:
        """One line for the log: the device in use, and the reason."""
        return self.runtime.device_line

    def predict(self, rgb_linear: np.ndarray) -> Operator:
        """The change that the look would make to a frame.

        Args:
            rgb_linear: (H, W, 3) float32, scene-linear, unbounded and finite, in the look's primaries.

        Returns:
            Arrays by name, each (C, h, w) float32; see `operator_look` and `image_look`.

        Raises:
            DeviceError: out of memory, even in small tiles.
            LookError: the look fails on this frame.
        """
        return self.kind.predict(rgb_linear)

    def apply(self, rgb_linear: np.ndarray, operator: Operator) -> np.ndarray:
        """The frame with an operator applied, strip by strip, exactly as if in one piece.

        Args:
            rgb_linear: (H, W, 3) float32, scene-linear, in the look's primaries.
            operator: from `predict`, or a blend of several.

        Returns:
            (H, W, 3) float32, scene-linear, in the look's primaries; a new array.

        Raises:
            DeviceError: out of memory.
            LookError: the look fails on this frame.
        """
        return self.apply_with_aovs(rgb_linear, operator)[0]

    def apply_with_aovs(self, rgb_linear: np.ndarray, operator: Operator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """As `apply`, with the AOVs of the session.

        Returns:
            the relit frame; (H, W, C) float32 by name: the look's own AOVs, see `look`.
        """
        return self.kind.apply(rgb_linear, operator)

    def gain(self, rgb_linear: np.ndarray, operator: Operator) -> np.ndarray:
        """The gains by which an operator look would multiply a frame, whatever AOVs the session is opened for.

        Args:
            rgb_linear: (H, W, 3) float32, scene-linear, in the look's primaries.
            operator: all operators of a frame.

        Returns:
            (H, W, 3) float32 stops.

        Raises:
            DeviceError: out of memory.
            LookError: the look has no AOV `gain`.
        """
        return self.kind.gain(rgb_linear, operator)
