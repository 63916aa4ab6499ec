"""The reference of `speed.py`: EXR in, an OpenColorIO 3D LUT, EXR out; without any code of ours.

    python benchmarks/ocio_lut_pass.py grade.cube in.%04d.exr out.%04d.exr FIRST LAST

OpenImageIO reads, applies the LUT on all cores and writes half floats, ZIP.
"""

import sys

import OpenImageIO


def main(cube: str, source: str, target: str, first: int, last: int) -> None:
    """Grades the frames from `first` to `last`."""
    for frame in range(first, last + 1):
        plate = OpenImageIO.ImageBuf(source % frame)
        plate.read(convert="float")
        graded = OpenImageIO.ImageBufAlgo.ociofiletransform(plate, cube)
        graded.set_write_format("half")
        graded.specmod()["compression"] = "zip"
        if not graded.write(target % frame):
            sys.exit(f"{target % frame} can't be written: {graded.geterror()}")


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:6]))
