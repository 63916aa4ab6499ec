"""The order of the steps from a plate to a relit frame; each step's mathematics lives in its own module.

    unpremultiply → model primaries → exposure → predict (this frame and its neighbours) → guidance → blend → apply
    → exposure back → working space → premultiply → AOVs → strength and mask → NaN and infinity as they came in

A result depends on the look, the settings and the plates of the temporal window, and on nothing else.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from relightgan.core.aovs import working_gain
from relightgan.core.colour import DEFAULT_WORKING_SPACE, WorkingSpace, working_space
from relightgan.core.errors import LookError, PlateError, UsageError
from relightgan.core.flow import flow_picture
from relightgan.core.guidance import FrameGuidance, corrected, upsampled
from relightgan.core.look import GAIN, GUIDANCE, Operator
from relightgan.core.plate import Plate, window_size
from relightgan.core.session import LookSession
from relightgan.core.window import FrameOperator, WindowCache, blend_window

__all__ = ["Relighting", "RelitFrame", "Settings", "WindowCache", "relight_frame"]

# The smallest alpha that rgb is divided by. It is below half's smallest step: pixels of less alpha are light without
# cover, such as glows, and stay as they are.
MIN_ALPHA = 1e-8
MAX_VALUE = float(np.finfo(np.float32).max)
MAX_BLENDED_SIDE = 32766  # of an operator: OpenCV's `remap` takes no more


@dataclass(frozen=True)
class Settings:
    """What the user chose; the same for every frame.

    Raises:
        UsageError: a value out of its range.
    """

    strength: float = 1.0  # 0 the plate, 1 relit; a mix in linear light
    exposure: float = 0.0  # stops; brings the plate to the photos' brightness and is taken back after
    temporal_blend: float = 0.0  # 0 each frame alone, 1 neighbours count fully
    temporal_window: int = 2  # frames to either side
    working_space: str = DEFAULT_WORKING_SPACE  # of the plates, in and out
    premultiplied: bool = True  # rgb was multiplied by alpha, and is again in the result
    aovs: tuple[str, ...] = ()  # requested AOVs, see `aovs`; they are of full strength without a mask

    def __post_init__(self) -> None:
        checks = {
            "strength": (self.strength, 0.0, 1.0),
            "exposure": (self.exposure, -30.0, 30.0),
            "temporal blend": (self.temporal_blend, 0.0, 1.0),
            "temporal window": (self.temporal_window, 0, 32),
        }
        for name, (value, low, high) in checks.items():
            if not low <= value <= high:
                raise UsageError(f"The {name} {value:g} is out of range.", f"Give {low:g} to {high:g}.")

    @property
    def radius(self) -> int:
        """Frames to either side that a result depends on."""
        seen = self.strength > 0.0 or self.aovs
        return self.temporal_window if self.temporal_blend > 0.0 and seen else 0


@dataclass(frozen=True)
class Relighting:
    """A look and everything chosen for a clip, the same for all of its frames.

    Attributes:
        session: the look, ready to run, opened for the AOVs of the settings.
        settings: the user's choices.
        mask_of: gives the mask of a frame and its plate: (H, W) float32 over the plate's data window, 0 keeps the
            plate; None relights everywhere.
        guidance: gives the guidance of a frame, also of those of its temporal window; the look must pass `check_grid`.
        cache: saves time on neighbouring frames and changes no bit of them; belongs to one clip.
    """

    session: LookSession
    settings: Settings = Settings()
    mask_of: Callable[[int, Plate], np.ndarray] | None = None
    guidance: Callable[[int], FrameGuidance] | None = None
    cache: WindowCache = field(default_factory=WindowCache)

    @property
    def space(self) -> WorkingSpace:
        """The way from the working space to the look's primaries and back.

        Raises:
            UsageError: OpenColorIO knows no such working space.
        """
        return working_space(self.settings.working_space, self.session.look.facts.primaries)


@dataclass(frozen=True)
class RelitFrame:
    """One relit frame.

    Args:
        rgb: (H, W, 3) float32 over the plate's data window, in the working space, premultiplied as the plate was.
        nonfinite: values of the plate that are NaN or infinite and were passed through.
        clamped: values that would have overflowed float32 and are clamped to its range.
        aovs: (H, W, C) float32 by name, as the settings request; as at strength 1 without a mask, finite.
    """

    rgb: np.ndarray
    nonfinite: int
    clamped: int
    aovs: Mapping[str, np.ndarray] = field(default_factory=dict)


def relight_frame(
    frame: int,
    plates: Callable[[int], Plate],
    frames_available: Collection[int],
    relighting: Relighting,
) -> RelitFrame:
    """One frame of a clip, relit.

    Args:
        frame: its number.
        plates: gives the plate of a frame number; called for frames of the temporal window only.
        frames_available: the frames of the clip; its first and last shrink the temporal window.
        relighting: the look and all choices for this clip.

    Returns:
        the relit frame; where strength or mask is 0, it has the plate's own bits.

    Raises:
        SequenceError: the clip has a gap inside the temporal window.
        PlateError: frames of the temporal window, or the mask, differ in size.
        LookError: the look gives NaN, in its operator or its result.
        DeviceError: the device ran out of memory.
    """
    settings = relighting.settings
    plate = plates(frame)
    mask = relighting.mask_of(frame, plate) if relighting.mask_of else None
    amount = mix_amount(plate, settings.strength, mask)
    finite = np.isfinite(plate.rgb)
    nonfinite = int(finite.size - np.count_nonzero(finite))
    if not np.any(amount) and not settings.aovs:
        return RelitFrame(plate.rgb, nonfinite, 0)
    space = relighting.space
    light = model_light(plate, settings, space)
    operator = window_operator(frame, plate, light, plates, frames_available, relighting)
    relit, seen = relighting.session.apply_with_aovs(light, operator)
    if relighting.guidance and GUIDANCE in settings.aovs:
        seen[GUIDANCE] = upsampled(relighting.guidance(frame), *light.shape[:2])
    del light
    if settings.exposure != 0.0:
        relit *= np.float32(2.0**-settings.exposure)
    relit = space.from_model_primaries(relit)
    if settings.premultiplied and (cover := cover_of(plate.alpha)) is not None:
        relit *= cover[..., None]
    clamped = clamp_overflow(relit, finite, relighting.session, frame)
    aovs = frame_aovs(plate, relit, operator, seen, relighting) if settings.aovs else {}
    with np.errstate(invalid="ignore"):  # where the plate isn't finite the mix is of no use, and is replaced below
        rgb = mix(plate.rgb, relit, amount)
    if nonfinite:
        rgb[~finite] = plate.rgb[~finite]
    return RelitFrame(rgb, nonfinite, clamped, aovs)


def frame_aovs(
    plate: Plate,
    relit: np.ndarray,
    operator: Operator,
    seen: Mapping[str, np.ndarray],
    relighting: Relighting,
) -> dict[str, np.ndarray]:
    """The AOVs of a frame that the settings request.

    A look multiplies in its own primaries. Where the comp works in others no gain of the look's would take the comp's
    plate to the comp's relit frame, so the gain is then measured from the two.

    Args:
        plate: the frame.
        relit: (H, W, 3) float32, relit at full strength, in the working space and premultiplied as the plate is.
        operator: what was applied.
        seen: the look's own AOVs, and guidance.
        relighting: the look and its settings.

    Returns:
        (H, W, C) float32 by name.
    """
    found, aovs = dict(seen), relighting.settings.aovs
    if GAIN in aovs and not (GAIN in seen and relighting.space.is_identity):
        image_gain = operator.get(GAIN) if not relighting.session.look.facts.operators else None
        own = seen.get(GAIN) if image_gain is None else image_gain.transpose(1, 2, 0)
        found[GAIN] = working_gain(plate.rgb, relit, own)
    return {name: found[name] for name in aovs}


def mix_amount(plate: Plate, strength: float, mask: np.ndarray | None) -> np.ndarray:
    """How much of the relit frame counts at each pixel: strength times mask, clamped to 0..1; NaN in a mask is 0.

    Raises:
        PlateError: the mask isn't the size of the plate's data window.
    """
    if mask is None:
        return np.full((1, 1), strength, np.float32)
    if mask.shape != plate.rgb.shape[:2]:
        raise PlateError(
            f"The mask is {mask.shape[1]}x{mask.shape[0]}, the data window of {plate.path} is "
            f"{plate.rgb.shape[1]}x{plate.rgb.shape[0]}.",
            "Give a mask made for this plate.",
        )
    amount: np.ndarray = np.clip(np.nan_to_num(mask, nan=0.0), 0.0, 1.0) * np.float32(strength)
    return amount


def mix(plate_rgb: np.ndarray, relit: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """plate * (1 - amount) + relit * amount: exactly the plate at 0 and exactly the relit frame at 1.

    Args:
        plate_rgb: (H, W, 3) float32.
        relit: (H, W, 3) float32; overwritten.
        amount: (H, W) or (1, 1) float32 from 0 to 1.
    """
    if np.all(amount == 1.0):
        return relit
    relit *= amount[..., None]
    relit += plate_rgb * (np.float32(1.0) - amount)[..., None]
    # By assignment, because -0 + 0 is +0 and a plate's bits are its own.
    return np.where((amount == 0.0)[..., None], plate_rgb, relit)


def cover_of(alpha: np.ndarray | None) -> np.ndarray | None:
    """The factor in premultiplied rgb: alpha, but 1 where alpha is next to nothing, so that glows survive.

    Args:
        alpha: (H, W) float32 or None.

    Returns:
        (H, W) float32, finite and above 0; None where nothing need be divided.
    """
    if alpha is None or bool(np.all(alpha == 1.0)):
        return None
    return np.where(np.isfinite(alpha) & (alpha > MIN_ALPHA), alpha, np.float32(1.0))


def model_light(plate: Plate, settings: Settings, space: WorkingSpace) -> np.ndarray:
    """The plate as the look sees it.

    Returns:
        (H, W, 3) float32, scene-linear in the model's primaries, unpremultiplied, finite (NaN and infinity are 0); the
        plate's own array where there is nothing to do, so not to be written to.

    Raises:
        PlateError: the settings turn values of the plate into more than 32-bit floats hold.
    """
    rgb = plate.rgb
    if not np.isfinite(rgb).all():
        rgb = np.nan_to_num(rgb, nan=0.0, posinf=0.0, neginf=0.0)
    with np.errstate(over="ignore"):
        if settings.premultiplied and (cover := cover_of(plate.alpha)) is not None:
            rgb = rgb / cover[..., None]
        rgb = space.to_model_primaries(rgb)
        if settings.exposure != 0.0:
            rgb = rgb * np.float32(2.0**settings.exposure)
    if rgb is not plate.rgb and not np.isfinite(rgb).all():
        largest = np.abs(plate.rgb[np.isfinite(plate.rgb)]).max()
        raise PlateError(
            f"{plate.path} has values up to {largest:g}, too large for {space.name} with an "
            f"exposure of {settings.exposure:g}.",
            "Check the working space, the exposure, and whether rgb is premultiplied.",
        )
    return np.ascontiguousarray(rgb)


def window_operator(
    frame: int,
    plate: Plate,
    light: np.ndarray,
    plates: Callable[[int], Plate],
    frames_available: Collection[int],
    relighting: Relighting,
) -> Operator:
    """The operator of a frame, blended over its temporal window where the settings request it."""
    settings, space, cache = relighting.settings, relighting.space, relighting.cache
    if settings.radius == 0:
        return predict(light, frame, relighting)

    def frame_operator(other: int) -> FrameOperator:
        its_plate = plate if other == frame else plates(other)
        its_light = light if other == frame else model_light(its_plate, settings, space)
        operator = predict(its_light, other, relighting)
        require_blendable(operator, [seen.operator for seen in cache.frame_operators.values()], relighting.session)
        size = window_size(its_plate.display_window)
        return FrameOperator(operator, flow_picture(its_light), its_plate.data_window, size)

    owner = (relighting.session, settings.exposure, space, settings.premultiplied, relighting.guidance)
    cache.move_to(frame, settings.radius, owner)
    return blend_window(frame, frame_operator, frames_available, settings.temporal_blend, settings.radius, cache)


def require_blendable(operator: Operator, others: Sequence[Operator], session: LookSession) -> None:
    """Checks that an operator can be blended with those of other frames; their sizes may differ, as frames do.

    Raises:
        LookError: it is too large, or has another number of channels.
    """
    for name, array in operator.items():
        if max(array.shape[1:]) > MAX_BLENDED_SIDE:
            size = f"{array.shape[2]}x{array.shape[1]}"
            raise LookError(
                f"The operator {name} of {session.look.path} has {size} values, too many for a temporal blend.",
                "Set the temporal blend to 0.",
            )
        if any(len(array) != len(other[name]) for other in others):
            raise LookError(
                f"The operator {name} of {session.look.path} has {len(array)} channels for one frame and others for "
                "another.",
                "Set the temporal blend to 0, or export it with a fixed number of channels.",
            )


def predict(light: np.ndarray, frame: int, relighting: Relighting) -> Operator:
    """A frame's own operator, guided where there is guidance; of an operator look, the operators that are applied.

    Raises:
        LookError: there is NaN or infinity in it.
    """
    session = relighting.session
    operator = session.predict(light)
    if not all(bool(np.isfinite(array).all()) for array in operator.values()):
        raise LookError(f"{session.look.path} gives NaN or infinity for frame {frame}.", "Train or export it again.")
    if relighting.guidance:
        operator = corrected(session, operator, light, relighting.guidance(frame))
    # The others needn't be blended over time.
    return {name: operator[name] for name in session.applied} if session.applied else operator


def clamp_overflow(relit: np.ndarray, finite: np.ndarray, session: LookSession, frame: int) -> int:
    """Clamps values that overflowed to the range of float32, in place; values that weren't finite before are ignored.

    Returns:
        the number of clamped values.

    Raises:
        LookError: a value became NaN.
    """
    bad = ~np.isfinite(relit) & finite
    if not bad.any():
        return 0
    if np.isnan(relit[bad]).any():
        raise LookError(f"{session.look.path} gives NaN for frame {frame}.", "Train or export it again.")
    relit[bad] = np.copysign(np.float32(MAX_VALUE), relit[bad])
    return int(np.count_nonzero(bad))
