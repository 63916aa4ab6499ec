"""nuke.execute: what is rendered, in which order callbacks run, and what stops a render."""

import pytest

COMP = """
Constant {{
 inputs 0
 channels rgba
 color {{0.5 0.25 2 1}}
 format "16 9 0 0 16 9 1 tiny"
 name Plate
}}
Write {{
 file {folder}/%V/a.%04d.exr
 file_type exr
 datatype "32 bit float"
 channels rgba
 raw true
 create_directories true
 name Write1
}}
"""


@pytest.fixture
def comp(nuke_session, tmp_path):
    nuke = nuke_session(paths=[])
    nuke.scriptReadText(COMP.format(folder=tmp_path.as_posix()))
    return nuke


def test_a_write_is_executed_frame_by_frame(comp, tmp_path, tiny_plates):
    comp.execute("Write1", 3, 5)
    assert [path.name for path in sorted((tmp_path / "main").iterdir())] == ["a.0003.exr", "a.0004.exr", "a.0005.exr"]
