"""For `fuzzing`: guidance files and masks."""

import copy
import functools
from pathlib import Path

import fuzz_exr
import numpy as np
import OpenImageIO

from relightgan.core.frames import read_mask
from relightgan.core.guidance import FrameGuidance
from relightgan.core.guidance_files import DIRECTION_NOTE, PHOTOS_NOTE, read_guidance, write_guidance
from relightgan.core.plate import Plate

SIDE = fuzz_exr.SIDE
MASKS = {"mask.png": "uint8", "deep.png": "uint16", "mask.tif": "uint8", "float.tif": "float", "mask.jpg": "uint8"}


def make_samples(folder: Path) -> list[Path]:
    """Guidance, twice as often as each mask; masks of every kind of file."""
    rng = np.random.default_rng(0)
    guidance = FrameGuidance(
        rng.random((SIDE, SIDE, 3), np.float32), rng.random((SIDE, SIDE, 3)) > 0.5, rng.random((SIDE, SIDE), np.float32)
    )
    paths = []
    for name in ("guidance.exr", "other_guidance.exr"):
        paths.append(folder / name)
        write_guidance(paths[-1], guidance, {PHOTOS_NOTE: "0" * 32, DIRECTION_NOTE: "ab"})
    for name, kind in MASKS.items():
        spec = OpenImageIO.ImageSpec(SIDE, SIDE, 1, kind)
        spec.channelnames = ("Y",)
        output = OpenImageIO.ImageOutput.create(name)
        assert output.open(str(folder / name), spec), output.geterror()
        assert output.write_image(rng.random((SIDE, SIDE, 1), np.float32))
        assert output.close()
        paths.append(folder / name)
    makes = {"mask.exr": {"names": "A"}, "matte.exr": {"names": ("R", "Y"), "kind": "float", "compression": "piz"}}
    return paths + [fuzz_exr.write(folder / name, [make]) for name, make in makes.items()]


@functools.cache
def plate() -> Plate:
    window = (0, 0, SIDE, SIDE)
    return Plate(Path("plate.exr"), np.zeros((SIDE, SIDE, 3), np.float32), None, window, window)


def read(path: Path, sample: str) -> None:
    """Reads guidance or a mask; what it gives must be finite, and as large as it should be."""
    if "guidance" in sample:
        guidance, notes = read_guidance(path)
        height, width = guidance.confidence.shape
        assert guidance.gain.shape == guidance.clipped.shape == (height, width, 3)
        assert height * width < 1 << 22, "nothing of that size was in the file"
        assert np.isfinite(guidance.gain).all()
        assert 0 <= guidance.confidence.min() <= guidance.confidence.max() <= 1
        assert all(isinstance(text, str) for text in notes.values())
        return
    mask = read_mask(path, copy.copy(plate()))
    assert mask.shape == (SIDE, SIDE)
    assert not np.isnan(mask).any()
