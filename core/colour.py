"""Colour: the encodings a look is trained in, and the way between a comp's working space and a look's primaries.

Photos are display-referred sRGB, plates are scene-linear and unbounded. `srgb_log` is the curve on which both meet: it
is sRGB where sRGB is defined, and goes on where sRGB ends.
"""

import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import PyOpenColorIO

from relightgan.core.errors import ColourError

ENCODINGS = ("linear", "srgb_log")
DEFAULT_WORKING_SPACE = "lin_rec709"
OCIO_CONFIG = "ocio://studio-config-latest"
# What Nuke's own default configuration calls spaces the studio config has under other names.
NUKE_NAMES = {"linear": "lin_rec709", "srgb": "srgb_tx"}

# IEC 61966-2-1. The standard rounds 12.92 * 0.0031308 to 0.04045; the unrounded product keeps the way back exact.
_LINEAR_END = 0.0031308
_LINEAR_SLOPE = 12.92
_ENCODED_END = _LINEAR_SLOPE * _LINEAR_END
_GAMMA = 2.4
_OFFSET = 0.055
_TOP_SLOPE = (1.0 + _OFFSET) / _GAMMA  # slope of the sRGB curve at 1, where the logarithm begins

# Values converted at a time. The intermediate steps stay in the CPU core's cache: six times faster than whole frames.
_BLOCK = 1 << 15

_REC709_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def linear_to_srgb(linear_rgb: np.ndarray) -> np.ndarray:
    """The srgb_log encoding of linear values: sRGB in 0..1, monotone and unclipped outside.

    On [0, 1] it equals the sRGB transfer function (IEC 61966-2-1). Above 1 it is `1 + s ln(x)` with s the curve's slope
    at 1, so value and slope match there; 100 becomes 3.02. Below 0 it goes straight on with the slope at 0 (12.92).

    Args:
        linear_rgb: any shape, float32, linear light with Rec.709 primaries or any other, unbounded.

    Returns:
        The same shape, float32, C-contiguous. NaN stays NaN, infinities stay infinite.
    """
    return _in_blocks(_encode, linear_rgb)


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """The linear values of srgb_log-encoded ones: the exact inverse of `linear_to_srgb`.

    Args:
        encoded: any shape, float32, display-encoded; unbounded.

    Returns:
        The same shape, float32, C-contiguous, linear light. What would be more than float32 can hold becomes infinite.
    """
    return _in_blocks(_decode, encoded)


def linear_to_model(linear_rgb: np.ndarray, encoding: str) -> np.ndarray:
    """Linear values in a look's encoding; `model_to_linear` is the exact inverse.

    Args:
        linear_rgb: any shape, float32, linear light in the look's primaries, unbounded.
        encoding: one of `ENCODINGS`; "linear" gives its input back, not a copy.

    Raises:
        ColourError: the encoding is unknown.
    """
    return linear_rgb if _checked(encoding) == "linear" else linear_to_srgb(linear_rgb)


def model_to_linear(encoded: np.ndarray, encoding: str) -> np.ndarray:
    """The linear values of what a look gave, from its encoding.

    Args:
        encoded: any shape, float32, in the look's encoding, unbounded.
        encoding: one of `ENCODINGS`; "linear" gives its input back, not a copy.

    Raises:
        ColourError: the encoding is unknown.
    """
    return encoded if _checked(encoding) == "linear" else srgb_to_linear(encoded)


def luminance(linear_rgb: np.ndarray) -> np.ndarray:
    """The Rec.709 relative luminance Y (ITU-R BT.709-6) of linear rgb.

    Args:
        linear_rgb: (..., 3) float32, linear light, Rec.709 primaries.

    Returns:
        (...) float32, on the scale of the input.
    """
    return np.asarray(np.asarray(linear_rgb, dtype=np.float32) @ _REC709_LUMA, dtype=np.float32)


@dataclass(frozen=True)
class WorkingSpace:
    """The way from a comp's working space to linear light in a look's primaries, and back."""

    name: str  # as OpenColorIO's config spells it
    primaries: str  # the look's primaries, as OpenColorIO's config spells them
    is_identity: bool  # both are the same space; the methods give their input back
    _to_model: Callable[[np.ndarray], np.ndarray]
    _from_model: Callable[[np.ndarray], np.ndarray]

    def to_model_primaries(self, rgb: np.ndarray) -> np.ndarray:
        """Linear rgb in the look's primaries, unclipped.

        Args:
            rgb: (..., 3) float32 in the working space.

        Returns:
            The same shape, float32; the input itself where the spaces are the same. Negative values are ordinary here:
            saturated colours of a wider gamut. A NaN or infinity reaches all three channels of its pixel.
        """
        return rgb if self.is_identity else self._to_model(rgb)

    def from_model_primaries(self, rgb: np.ndarray) -> np.ndarray:
        """Rgb in the working space, from linear rgb in the look's primaries.

        Args:
            rgb: (..., 3) float32, linear light in the look's primaries.

        Returns:
            The same shape, float32; the input itself where the spaces are the same.
        """
        return rgb if self.is_identity else self._from_model(rgb)


@functools.lru_cache(maxsize=16)
def working_space(name: str, primaries: str = "lin_rec709") -> WorkingSpace:
    """The way between a working space and a look's primaries, through OpenColorIO's built-in studio config.

    Scene-linear spaces differ by a 3x3 matrix; its inverse is computed, not taken from a table, so there and back
    loses nothing but float32 rounding. Encoded spaces (camera logs, sRGB textures) run through OpenColorIO's own
    processor without its fast approximations; nothing is clipped beyond the space's own definition (ACEScc ends at
    65504).

    Args:
        name: a colour space, alias or role of the config, in any case: "ACEScg", "lin_rec709", "sRGB - Texture"; or
            Nuke's "linear" and "sRGB".
        primaries: the same, for the look; a scene-linear space.

    Raises:
        ColourError: a name is unknown (the near ones are listed) or stands for data, or the primaries aren't linear.
    """
    theirs, ours = _colour_space(name), _colour_space(primaries)
    if not _is_linear(ours):
        raise ColourError(
            f"The look's primaries are given as {primaries}, which is not scene-linear.",
            "Give a linear space such as lin_rec709 or ACEScg.",
        )
    there = _processor(theirs, ours)
    if there.isNoOp():
        return WorkingSpace(theirs.getName(), ours.getName(), True, _same, _same)
    if _is_linear(theirs):
        matrix = _matrix(there)
        ways = (functools.partial(_transform, matrix=m) for m in (matrix, np.linalg.inv(matrix)))
    else:
        ways = (functools.partial(_run_processor, processor=p) for p in (there, _processor(ours, theirs)))
    return WorkingSpace(theirs.getName(), ours.getName(), False, *ways)


# Private implementation


def _checked(encoding: str) -> str:
    if encoding not in ENCODINGS:
        raise ColourError(f"The encoding {encoding!r} is unknown.", f"It is one of {', '.join(ENCODINGS)}.")
    return encoding


def _in_blocks(function: Callable[[np.ndarray, np.ndarray], None], values: np.ndarray) -> np.ndarray:
    source = np.ascontiguousarray(values, dtype=np.float32)
    result = np.empty_like(source)
    flat_source, flat_result = source.reshape(-1), result.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, flat_source.size, _BLOCK):
            function(flat_source[start : start + _BLOCK], flat_result[start : start + _BLOCK])
    return result.reshape(np.shape(values))


def _encode(x: np.ndarray, y: np.ndarray) -> None:
    # x ** (1 / 2.4) as exp(log(x) / 2.4): numpy has both vectorised, not the power; and above 1 the log is needed.
    log_x = np.log(np.maximum(x, np.float32(_LINEAR_END)))
    np.exp(np.minimum(log_x, 0) * np.float32(1 / _GAMMA), out=y)
    y -= 1  # 1 + 1.055 (e - 1) rather than 1.055 e - 0.055: exactly 1 at 1
    y *= np.float32(1 + _OFFSET)
    y += 1
    y += np.maximum(log_x, 0) * np.float32(_TOP_SLOPE)
    np.multiply(x, np.float32(_LINEAR_SLOPE), out=y, where=x < np.float32(_LINEAR_END))


def _decode(y: np.ndarray, x: np.ndarray) -> None:
    log_x = np.maximum(y, np.float32(_ENCODED_END))
    above = np.maximum(log_x - 1, 0)
    np.minimum(log_x, 1, out=log_x)
    log_x -= 1
    log_x *= np.float32(1 / (1 + _OFFSET))
    np.log1p(log_x, out=log_x)
    log_x *= np.float32(_GAMMA)
    above *= np.float32(1 / _TOP_SLOPE)
    log_x += above
    np.exp(log_x, out=x)
    np.divide(y, np.float32(_LINEAR_SLOPE), out=x, where=y < np.float32(_ENCODED_END))


@functools.lru_cache(maxsize=1)
def _config() -> PyOpenColorIO.Config:
    return PyOpenColorIO.Config.CreateFromFile(OCIO_CONFIG)


def _colour_space(name: str) -> PyOpenColorIO.ColorSpace:
    space = _config().getColorSpace(NUKE_NAMES.get(name.lower(), name))
    if space is None:
        near = ", ".join(_near(name))
        raise ColourError(
            f"The colour space {name!r} is unknown.",
            f"Did you mean: {near}?" if near else "ACEScg, lin_rec709 and sRGB - Texture are some of the names.",
        )
    if space.isData():
        raise ColourError(f"{name!r} stands for data, not for a colour space.", "Name the space the plates are in.")
    return space


def _near(name: str) -> list[str]:
    spaces = _config().getColorSpaces(PyOpenColorIO.SEARCH_REFERENCE_SPACE_SCENE, PyOpenColorIO.COLORSPACE_ALL)
    known = {alias.lower(): s.getName() for s in spaces for alias in (s.getName(), *s.getAliases()) if not s.isData()}
    wanted = name.lower().strip()
    found = difflib.get_close_matches(wanted, known, n=5, cutoff=0.5)
    found += [alias for alias in known if wanted and wanted in alias]
    return list(dict.fromkeys(known[alias] for alias in found))[:5]


def _is_linear(space: PyOpenColorIO.ColorSpace) -> bool:
    return bool(space.getEncoding() == "scene-linear")


def _processor(source: PyOpenColorIO.ColorSpace, target: PyOpenColorIO.ColorSpace) -> PyOpenColorIO.CPUProcessor:
    # Lossless: the default's fast powers are wrong by 2e-5, which would show as a shift of white.
    return _config().getProcessor(source, target).getOptimizedCPUProcessor(PyOpenColorIO.OPTIMIZATION_LOSSLESS)


def _matrix(processor: PyOpenColorIO.CPUProcessor) -> np.ndarray:
    rows = np.eye(3, dtype=np.float32).reshape(-1)
    processor.applyRGB(rows)
    return rows.reshape(3, 3).T.astype(np.float64)


def _transform(rgb: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    # OpenCV's vector code is fifteen times faster than OpenColorIO's one thread, for the same sum of three products.
    source = np.ascontiguousarray(rgb, dtype=np.float32)
    image = source if source.ndim == 3 else source.reshape(1, -1, 3)
    return cv2.transform(image, matrix).reshape(source.shape)


def _run_processor(rgb: np.ndarray, processor: PyOpenColorIO.CPUProcessor) -> np.ndarray:
    result = np.array(rgb, dtype=np.float32, order="C")  # a copy: OpenColorIO works in place
    processor.applyRGB(result)
    return result


def _same(rgb: np.ndarray) -> np.ndarray:
    return rgb
