"""Small comps in the simulated Nuke, and what `relightgan infer` makes of the same plates.

Loaded through the fixture `small_comps`. Nothing here is imported before `nuke_session` has started a Nuke.
"""

import sys
from pathlib import Path

import numpy as np
import OpenImageIO

from relightgan.core import infer

SIZE = (24, 32)  # height, width
LAYERS = ("R", "G", "B")
SHOT = """Root {{
 first_frame {first}
 last_frame {last}
 format "96 72 0 0 96 72 1 small"
}}
Read {{
 inputs 0
 file_type exr
 file "{plates}"
 first {first}
 last {last}
 origset true
 raw true
 name Plate
}}
RelightGAN {{
 inputs 1
 look "{look}"
 name RelightGAN1
}}
Write {{
 file "{out}"
 file_type exr
 channels rgba
 raw true
 datatype "16 bit half"
 create_directories true
 name Write1
}}
"""


def saved_shot(folder, plates, look, frames):
    """Saves a script of Read, RelightGAN and Write, which renders into `out`; its path."""
    script, out = folder / "shot.nk", folder / "out" / "shot.%04d.exr"
    script.write_text(SHOT.format(first=min(frames), last=max(frames), plates=plates, look=look, out=out))
    return script


def reader(nuke, pattern, frames, **knobs):
    """A Read of a sequence."""
    return node(nuke, "Read", [], file=str(pattern), first=min(frames), last=max(frames), raw=True, **knobs)


def relighter(nuke, source, look, **knobs):
    """A RelightGAN node."""
    return node(nuke, "RelightGAN", [source], look=str(look), device="cpu", **knobs)


def writer(nuke, source, pattern, **knobs):
    """A Write of float EXR."""
    settings = {"file_type": "exr", "datatype": "32 bit float", "channels": "all", "raw": True}
    settings.update(create_directories=True, **knobs)
    return node(nuke, "Write", [source], file=str(pattern), **settings)


def node(nuke, kind, inputs, **knobs):
    """A node of a class, connected, with knobs set."""
    made = nuke.createNode(kind, inpanel=False)
    for i in range(max(made.inputs(), len(inputs))):
        made.setInput(i, inputs[i] if i < len(inputs) else None)
    for name, value in knobs.items():
        made[name].setValue(value)
    return made


def project(nuke, first, last, height=SIZE[0], width=SIZE[1]):
    """Sets the project's range and format."""
    root = nuke.root()
    root["first_frame"].setValue(first)
    root["last_frame"].setValue(last)
    root["format"].setValue(nuke.addFormat(f"{width} {height} 1 tiny"))


def inferred(look, plates, out, frames, *words):
    """Relights plates with the command `relightgan infer`; {frame: (H, W, 3)}."""
    text = ",".join(map(str, frames))
    argv = [str(look), str(plates), str(out), f"--frames={text}", "--device=cpu", "--progress=none", "--overwrite"]
    assert infer.main([*argv, *words]) == 0
    return {frame: rgb(Path(str(out) % frame)) for frame in frames}


def rgb(path):
    """(H, W, 3) float32 of a file, over its data window."""
    image = OpenImageIO.ImageInput.open(str(path))
    assert image is not None, OpenImageIO.geterror()
    names = image.spec().channelnames
    pixels = image.read_image(0, 0, 0, image.spec().nchannels, "float")
    image.close()
    return np.stack([pixels[..., names.index(layer)] for layer in LAYERS], axis=2)


def windows(path):
    """Data window x, y, width, height, display window x, y, width, height, and pixel aspect of a file."""
    image = OpenImageIO.ImageInput.open(str(path))
    spec = image.spec()
    image.close()
    data = (spec.x, spec.y, spec.width, spec.height)
    display = (spec.full_x, spec.full_y, spec.full_width, spec.full_height)
    return data, display, spec.get_float_attribute("PixelAspectRatio", 1.0)


def relit(nuke, made, frame, view="main"):
    """(H, W, 3) of the file that RG_Read shows for a frame."""
    return rgb(Path(made.node("RG_Read")["file"].evaluate(frame, view=view)))


def same_bits(a, b):
    """True where two pictures are equal to the bit."""
    return a.shape == b.shape and np.array_equal(a.view(np.uint32), b.view(np.uint32))


def environment(tmp_path):
    """What a Nuke process is to be started with: our interpreter, one thread, logs out of the way."""
    return {
        "RELIGHTGAN_PYTHON": sys.executable,
        "RELIGHTGAN_THREADS": "1",
        "RELIGHTGAN_LOG_DIR": str(tmp_path / "logs"),
        "RELIGHTGAN_CACHE": str(tmp_path / "cache"),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
