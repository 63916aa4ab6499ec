"""For `fuzzing`: photos as cameras, phones and programs write them."""

import io
from pathlib import Path

import fuzz_exr
import numpy as np
import OpenImageIO
import pillow_heif
import tiny_raw
from PIL import Image, ImageCms

from relightgan.training.photos.files import decode_photo
from relightgan.training.photos.measuring import measure_file

SIDE = 24


def make_samples(folder: Path) -> list[Path]:
    """JPEGs with EXIF, profiles and several pictures, and every other kind of file that photos come in."""
    rng = np.random.default_rng(0)
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (8, 8, 3), np.uint8), 3, 0), 3, 1)
    image, other = Image.fromarray(rgb), Image.fromarray(255 - rgb)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2024:05:01 10:20:30"
    exif.get_ifd(0x8769).update({0x9003: "2024:05:01 10:20:30", 0x9291: "25", 0xA405: 35})
    exif.get_ifd(0xA005).update({1: "R03"})
    saved = {
        "exif.jpg": (image, {"exif": exif}),
        "profile.jpg": (image, {"icc_profile": srgb}),
        "odd_profile.jpg": (image, {"icc_profile": profile}),
        "progressive.jpg": (image, {"progressive": True}),
        "inks.jpg": (image.convert("CMYK"), {}),
        "grey.jpg": (image.convert("L"), {}),
        "two.mpo": (image, {"format": "MPO", "save_all": True, "append_images": [other]}),
        "rgb.png": (image, {"icc_profile": srgb, "exif": exif}),
        "colours.png": (image.convert("P"), {}),
        "clear.png": (image.convert("RGBA"), {}),
        "rgb.tif": (image, {"exif": exif}),
        "lzw.tif": (image, {"compression": "tiff_lzw", "icc_profile": srgb}),
        "rgb.webp": (image, {"lossless": True}),
        "rgb.bmp": (image, {}),
        "rgb.jp2": (image, {}),
    }
    paths = []
    for name, (picture, options) in saved.items():
        buffer = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(name[-3:], name.rpartition(".")[2].upper())
        picture.save(buffer, **({"format": kind} | options))
        paths.append(folder / name)
        paths[-1].write_bytes(buffer.getvalue())
    for name in ("deep.png", "light.hdr"):
        spec = OpenImageIO.ImageSpec(SIDE, SIDE, 3, "float" if name == "light.hdr" else "uint16")
        output = OpenImageIO.ImageOutput.create(name)
        assert output.open(str(folder / name), spec), output.geterror()
        assert output.write_image(rgb.astype(np.float32) / 255)
        assert output.close()
        paths.append(folder / name)
    heic = pillow_heif.from_bytes("RGB", rgb.shape[1::-1], rgb.tobytes())
    heic.info["exif"] = exif.tobytes()
    heic.save(folder / "turned.heic", quality=80)
    image.save(folder / "turned.avif", exif=exif)
    paths += [folder / "turned.heic", folder / "turned.avif"]
    paths.append(tiny_raw.write_dng(folder / "turned.dng", rgb / 255, orientation=6))
    return [*paths, fuzz_exr.write(folder / "light.exr", [{"names": "RGB", "primaries": True}])]


def read(path: Path, sample: str) -> None:
    """Decodes a photo, and measures it as a dump's are; a damaged one is a photo left out, with a reason."""
    (measured,) = measure_file(path, 4, 0)
    assert (measured.measures is None) == bool(measured.problem)
    assert "\n" not in measured.problem
    found = decode_photo(path, 16)
    assert not measured.problem, measured.problem
    height, width = found.rgb.shape[:2]
    assert found.rgb.shape == (height, width, 3)
    assert max(height, width) <= 16 <= 500 * max(found.width, found.height)
    assert found.rgb.dtype in (np.uint8, np.float32)
    assert np.isfinite(found.rgb).all()
    assert found.focal_35mm is None or found.focal_35mm > 0
