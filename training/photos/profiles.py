"""Converts the colours of a photo file to sRGB, by its embedded profile or by an assumption that is reported."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

from relightgan.core.coding import REC709_XY, Coding
from relightgan.core.colour import linear_to_srgb
from relightgan.core.text import shown

ADOBE_RGB = "Adobe RGB"
ADOBE_RGB_XY = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)  # Adobe RGB (1998) Color Image Encoding, 4.3.1
MAX_WEIGHT = 100.0  # in a matrix between primaries; those of real colours stay below 10
ADOBE_RGB_GAMMA = 563 / 256
SPACE_OF_CHANNELS = {1: ("L", "GRAY"), 3: ("RGB", "RGB "), 4: ("CMYK", "CMYK")}
# ICC.1:2022 annex E
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_srgb(pixels: np.ndarray, icc: bytes | None, space: str | None) -> tuple[np.ndarray, str]:
    """Integer pixels of any profile as sRGB, and a phrase that names the profile.

    Colours outside sRGB's gamut are clipped. A profile other than sRGB is applied at 8 bits.

    Args:
        pixels: (H, W, 1 grey | 3 RGB | 4 CMYK) uint8 or uint16.
        icc: the file's embedded profile.
        space: ADOBE_RGB where the file's EXIF says so without embedding the profile (DCF 2.0 option file), else None.

    Returns:
        (H, W, 3) sRGB-encoded, uint8, or float32 0..1 from 16 bits without a profile to apply; and the phrase, such as
        "sRGB (assumed)".
    """
    mode, signature = SPACE_OF_CHANNELS[pixels.shape[-1]]
    if icc:
        found = _transform(icc, mode, signature)
        if isinstance(found, str):
            rgb, assumed = _assume_srgb(pixels)
            return rgb, f"{assumed}: {found}"
        name, transform = found
        if transform is None:
            return _assume_srgb(pixels)[0], f"{name} (embedded)"
        image = Image.fromarray(_to_8_bits(pixels).squeeze(-1) if mode == "L" else _to_8_bits(pixels), mode=None)
        return np.asarray(
            ImageCms.applyTransform(image if mode != "CMYK" else _as_cmyk(pixels), transform)
        ), f"{name} (embedded)"
    if space == ADOBE_RGB and mode == "RGB":
        linear = (_to_8_bits(pixels).astype(np.float32) / np.float32(255)) ** np.float32(ADOBE_RGB_GAMMA)
        encoded = linear_to_srgb(np.clip(linear @ primaries_matrix(ADOBE_RGB_XY).T, 0, 1))
        return np.round(encoded * 255).astype(np.uint8), "Adobe RGB (EXIF)"
    return _assume_srgb(pixels)


def to_rec709(linear: np.ndarray, chromaticities: tuple[float, ...] | None) -> tuple[np.ndarray, str]:
    """Scene-linear pixels in Rec.709 primaries, and a phrase that names the original primaries.

    Args:
        linear: (H, W, 3) float32.
        chromaticities: x, y of red, green, blue and white, as OpenEXR's attribute of that name; None assumes Rec.709.

    Raises:
        ValueError: no light has such primaries.
    """
    if chromaticities is None or len(chromaticities) != 8:
        return linear, "linear Rec.709 (assumed)"
    if np.allclose(chromaticities, REC709_XY, atol=2e-3):
        return linear, "linear Rec.709 (embedded)"
    with np.errstate(all="ignore"):
        try:
            matrix = primaries_matrix(tuple(chromaticities))
        except (np.linalg.LinAlgError, ZeroDivisionError) as error:
            raise ValueError("its primaries are no colours") from error
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > MAX_WEIGHT:
        raise ValueError("its primaries are no colours")
    return (linear @ matrix.T).astype(np.float32), "linear, other primaries (embedded)"


@functools.cache
def primaries_matrix(xy: tuple[float, ...]) -> np.ndarray:
    """(3, 3) float32 matrix from linear RGB of these primaries to linear Rec.709; white stays white.

    RGB to XYZ by SMPTE RP 177; chromatic adaptation by Bradford (ICC.1:2022 annex E).

    Args:
        xy: CIE x, y of red, green, blue, white.
    """
    adapt = _white_adaptation(_xyz(xy[6:]), _xyz(REC709_XY[6:]))
    return (np.linalg.inv(rgb_to_xyz(REC709_XY)) @ adapt @ rgb_to_xyz(xy)).astype(np.float32)


def rgb_to_xyz(xy: tuple[float, ...]) -> np.ndarray:
    """(3, 3) matrix from linear RGB of these primaries to CIE XYZ, by SMPTE RP 177; white has Y = 1.

    Args:
        xy: CIE x, y of red, green, blue, white.
    """
    columns = np.stack([_xyz(xy[0:2]), _xyz(xy[2:4]), _xyz(xy[4:6])], axis=1)
    return np.asarray(columns * np.linalg.solve(columns, _xyz(xy[6:])))


def coded_to_srgb(pixels: np.ndarray, coding: Coding) -> tuple[np.ndarray, bool, str]:
    """Pixels of a video or HEIF coding in sRGB.

    HDR (PQ, HLG) is shown as on a reference display, with its reference white, 203 cd/m2, as 1 (ITU-R BT.2408).

    Args:
        pixels: (H, W, 3) uint8 or uint16, or float32 0..1, as stored.
        coding: as the file says.

    Returns:
        (H, W, 3) uint8 sRGB, or float32 srgb_log where there is more to keep; whether it goes on above 1; and a phrase
        such as "PQ, BT.2020".

    Raises:
        ValueError: it is a coding that can't be converted; the text says which.
    """
    if problem := coding.problem:
        raise ValueError(problem)
    if coding.is_srgb:
        rgb = pixels if pixels.dtype != np.uint16 else pixels.astype(np.float32) / np.float32(65535)
        return rgb, False, coding.name
    scale = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(pixels.dtype, 1)
    linear = coding.to_linear(pixels.astype(np.float32) / np.float32(scale))
    linear = linear @ primaries_matrix(coding.xy).T
    if coding.is_hdr:
        return linear_to_srgb(linear), True, coding.name
    encoded = linear_to_srgb(np.clip(linear, 0, 1))
    if pixels.dtype != np.uint8:
        return encoded, False, coding.name
    return np.round(encoded * 255).astype(np.uint8), False, coding.name


# Private implementation


# A folder holds a handful of profiles, and building a transform takes longer than applying it.
@functools.lru_cache(maxsize=64)
def _transform(icc: bytes, mode: str, signature: str) -> tuple[str, ImageCms.ImageCmsTransform | None] | str:
    """(name, transform to sRGB, or None for sRGB itself); or the reason why the profile can't be used."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = shown(" ".join(ImageCms.getProfileDescription(profile).split())) or "unnamed profile"
        if profile.profile.xcolor_space != signature:
            return f"the profile '{name}' is for {shown(profile.profile.xcolor_space.strip())}"
        if mode == "RGB" and name.startswith("sRGB") and "linear" not in name.lower():
            return name, None
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return name, transform
    except (OSError, ImageCms.PyCMSError, ValueError, TypeError):
        return "the embedded profile is damaged"


def _assume_srgb(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    channels = pixels.shape[-1]
    if channels == 4:
        return np.asarray(_as_cmyk(pixels).convert("RGB")), "CMYK (assumed plain inks)"
    rgb = np.repeat(pixels, 3, axis=-1) if channels == 1 else pixels
    if rgb.dtype == np.uint16:
        rgb = rgb.astype(np.float32) / np.float32(65535)
    return rgb, "grey sRGB (assumed)" if channels == 1 else "sRGB (assumed)"


def _as_cmyk(pixels: np.ndarray) -> Image.Image:
    height, width = pixels.shape[:2]
    return Image.frombytes("CMYK", (width, height), _to_8_bits(pixels).tobytes())


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else np.round(pixels / 257.0).astype(np.uint8)


def _xyz(xy: tuple[float, ...]) -> np.ndarray:
    x, y = xy
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _white_adaptation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    gain = np.diag((BRADFORD @ target) / (BRADFORD @ source))
    return np.asarray(np.linalg.inv(BRADFORD) @ gain @ BRADFORD)
