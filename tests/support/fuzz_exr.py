"""For `fuzzing`: plates in OpenEXR of every make, read whole or refused, and written again."""

from pathlib import Path

import numpy as np
import OpenImageIO

from relightgan.core.frames import read_plate, write_plate
from relightgan.core.plate import window_size

SIDE = 16
MAKES = {
    "zip": {"names": "RGBA", "attributes": {"note": "näher", "owner": "", "framesPerSecond": 24.0}},
    "zips": {"names": "RGB", "kind": "float", "compression": "zips"},
    "none": {"names": "RGBA", "kind": "float", "compression": "none"},
    "rle": {"names": "RGB", "compression": "rle"},
    "piz": {"names": "RGBA", "compression": "piz"},
    "pxr24": {"names": "RGB", "kind": "float", "compression": "pxr24"},
    "b44": {"names": "RGB", "compression": "b44"},
    "b44a": {"names": "RGB", "compression": "b44a"},
    "dwaa": {"names": "RGBA", "compression": "dwaa:45"},
    "dwab": {"names": "RGB", "compression": "dwab:45"},
    "tiles": {"names": "RGBA", "tile": 8},
    "window": {"names": ("R", "G", "B", "A", "Z", "matte.R"), "origin": (-3, 5), "display": (0, 0, 20, 24)},
    "wide": {"names": tuple(sorted(["R", "G", "B", *(f"layer{n}.X" for n in range(30))]))},
}


def make_samples(folder: Path) -> list[Path]:
    """One small file of every make, the last one of two parts."""
    paths = [write(folder / f"{name}.exr", [make]) for name, make in MAKES.items()]
    return [*paths, write(folder / "parts.exr", [MAKES["zip"], MAKES["none"], MAKES["piz"]])]


def write(path: Path, makes: list[dict]) -> Path:
    """A file of one part for each make, by OpenImageIO alone."""
    specs = [spec_of(make, f"part{n}" if len(makes) > 1 else "") for n, make in enumerate(makes)]
    output = OpenImageIO.ImageOutput.create("openexr")
    assert output.open(str(path), specs[0]) if len(specs) == 1 else output.open(str(path), tuple(specs))
    for number, spec in enumerate(specs):
        assert number == 0 or output.open(str(path), spec, "AppendSubimage")
        rng = np.random.default_rng(number)
        pixels = np.round(rng.random((SIDE, SIDE, spec.nchannels), np.float32) * 8) / 8  # small, and yet packed
        assert output.write_image(pixels), output.geterror()
    assert output.close()
    return path


def spec_of(make: dict, name: str) -> OpenImageIO.ImageSpec:
    spec = OpenImageIO.ImageSpec(SIDE, SIDE, len(make["names"]), make.get("kind", "half"))
    spec.channelnames = tuple(make["names"])
    spec.attribute("compression", make.get("compression", "zip"))
    spec.x, spec.y = make.get("origin", (0, 0))
    spec.full_x, spec.full_y, spec.full_width, spec.full_height = make.get("display", (0, 0, SIDE, SIDE))
    if "tile" in make:
        spec.tile_width = spec.tile_height = make["tile"]
    if name:
        spec.attribute("oiio:subimagename", name)
    if "primaries" in make:
        spec.attribute("chromaticities", "float[8]", (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329))
    for key, value in make.get("attributes", {}).items():
        spec.attribute(key, value)
    return spec


def read(path: Path, sample: str) -> None:
    """Reads a plate and writes it again; its arrays must be as large as its windows say."""
    plate = read_plate(path)
    width, height = window_size(plate.data_window)
    assert plate.rgb.shape == (height, width, 3), plate.rgb.shape
    assert width * height < 1 << 22, "nothing of that size was in the file"
    assert plate.alpha is None or plate.alpha.shape == (height, width)
    for part in plate.parts:
        width, height = window_size(part.data_window)
        assert part.rest.shape == (height, width, len(part.rest_names)), part.rest.shape
    write_plate(path.with_name(f"again_{path.name}"), plate, plate.rgb)
