"""Every knob of the gizmo is part of the frame key, or can't change a relit pixel in the store.

The store never changes a file: a frame relit with other settings has another key. A knob that changes pixels and isn't
part of the key would show wrong frames as ready. A knob that changes no pixel and is part of the key would have whole
shots relit for nothing.
"""

import re
from pathlib import Path

import pytest
import small_comps
import tiny_looks

from relightgan.core.protocol import SETTINGS

GIZMO = Path(__file__).resolve().parents[2] / "gizmos" / "RelightGAN.gizmo"
TAB = "20"
FRAMES = range(1001, 1004)
FRAME = 1002

# Knobs in the frame key: a value that isn't the default, and the knobs that must be set for it to count.
# The value of `look` is made by the test, as it is a file.
IN_THE_KEY = {
    "look": (None, {}),
    "exposure": (0.5, {}),
    "working_space": ("ACEScg", {}),
    "premultiplied": (False, {}),
    "temporal_blend": (0.5, {}),
    "temporal_window": (5, {"temporal_blend": 0.5}),
    "precision": ("float", {}),
    "crop_to_format": (True, {}),
}

TEXT_ONLY = "A line of text in the panel. Nothing reads it."
BUTTON = "A button. It has no value."

# Knobs that can't change a relit pixel in the store: a value that isn't the default (None: the knob has no value),
# and the reason.
NOT_IN_THE_KEY = {
    "look_info": ("another text", TEXT_ONLY),
    "status": ("another text", TEXT_ONLY),
    "info_version": ("another text", TEXT_ONLY),
    "info_sha256": ("another text", TEXT_ONLY),
    "info_help": ("another text", TEXT_ONLY),
    "strength": (0.25, "RG_Strength mixes plate and relit frame after RG_Read. The store has frames at strength 1."),
    "mask_channel": ("rgba.green", "RG_Mask mixes after RG_Read. The store has frames without a mask."),
    "mask_invert": (True, "RG_Mask mixes after RG_Read. The store has frames without a mask."),
    "bypass": (True, "RG_BypassSwitch switches after RG_Read."),
    "frames": ("1001", "It selects which frames are relit. The frame's number itself is in the key."),
    "device": (
        "cuda",
        "Frames of all devices count as the same. Devices may differ by rounding, and a shot that was begun on a "
        "workstation's GPU must go on on a farm's CPUs.",
    ),
    "cache_folder": ("elsewhere", "It says where the store is. A key means the same frame in every store."),
    "relight_frame": (None, BUTTON),
    "relight_range": (None, BUTTON),
    "clear": (None, BUTTON),
    "open_log": (None, BUTTON),
    "open_report": (None, BUTTON),
    "relightgan_version": (
        "2",
        "The number of the gizmo that made the node. What relights is the installed version; `core/protocol.PIXELS` "
        "is its part of the key.",
    ),
    "result_path": ("/elsewhere/%V/relit.%04d.exr", "It follows from the keys, and says what RG_Read shows."),
    "result_first": (7, "It follows from the source and the project, and says what RG_Read shows."),
    "result_last": (8, "It follows from the source and the project, and says what RG_Read shows."),
    "source_path": ("/elsewhere/source.%04d.exr", "It says where a bake writes its source frames. Never saved."),
}

WHAT_TO_DO = """\
The knob '{knob}' of gizmos/RelightGAN.gizmo is neither in the frame key nor known to change no relit pixel.

Does another value of it change pixels of a relit frame in the store?
  yes  Add it to `NodeSettings` and `read_settings` in nuke_plugin/knobs.py and to `settings_key` in
       nuke_plugin/node_state.py, then to IN_THE_KEY in this file. All frames relit so far become stale.
  no   Add it to NOT_IN_THE_KEY in this file, with the reason.
"""


def gizmo_knobs() -> list[str]:
    """Names of all user knobs of the gizmo, without tabs and dividers."""
    found = re.findall(r"^\s*addUserKnob \{(\d+) (\w+)", GIZMO.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for kind, name in found if kind != TAB]


@pytest.fixture
def node(nuke_session, tmp_path):
    """Read → RelightGAN on three files that only look like frames."""
    nuke = nuke_session()
    small_comps.project(nuke, FRAMES[0], FRAMES[-1])
    for frame in FRAMES:
        (tmp_path / f"plate.{frame}.exr").write_bytes(b"plate")
    read = small_comps.reader(nuke, (tmp_path / "plate.%04d.exr").as_posix(), FRAMES)
    look = tmp_path / "look.onnx"
    tiny_looks.identity_look(look)
    return small_comps.relighter(nuke, read, look, cache_folder=(tmp_path / "cache").as_posix())


def frame_key(node):
    from relightgan.nuke_plugin import state

    return state.frame_keys(node, [FRAME], "main")[FRAME]


@pytest.mark.parametrize("knob", gizmo_knobs())
def test_every_knob_is_in_the_frame_key_or_is_known_to_change_no_relit_pixel(knob):
    assert (knob in IN_THE_KEY) != (knob in NOT_IN_THE_KEY), WHAT_TO_DO.format(knob=knob)


def test_the_knobs_of_the_text_are_those_of_the_node(node):
    """So no knob is missed because its line is written in another way."""
    import nuke

    plain = nuke.createNode("Group", inpanel=False)
    theirs = {name for name in node.knobs() if name not in plain.knobs()}
    tabs_and_dividers = {name for name in theirs if node[name].Class() == "Tab_Knob" or name.startswith("_unnamed")}
    assert set(gizmo_knobs()) == theirs - tabs_and_dividers


@pytest.mark.parametrize("knob", SETTINGS)
def test_every_setting_that_the_worker_gets_is_in_the_key(knob):
    """The worker relights by `SETTINGS`, so no reason in NOT_IN_THE_KEY can be true of one of them."""
    assert knob in IN_THE_KEY, WHAT_TO_DO.format(knob=knob)


def test_no_list_names_a_knob_that_is_gone():
    assert {*IN_THE_KEY, *NOT_IN_THE_KEY} <= set(gizmo_knobs())


def test_every_exception_has_its_reason():
    assert [knob for knob, (_, reason) in NOT_IN_THE_KEY.items() if not reason.endswith(".")] == []


@pytest.mark.parametrize("knob", IN_THE_KEY)
def test_another_value_of_a_knob_in_the_key_gives_another_key(node, tmp_path, knob):
    value, needed = IN_THE_KEY[knob]
    if knob == "look":
        value = (tmp_path / "other.onnx").as_posix()
        tiny_looks.identity_look(tmp_path / "other.onnx", name="other")
    for name, needed_value in needed.items():
        node[name].setValue(needed_value)
    before, value_before = frame_key(node), node[knob].value()
    node[knob].setValue(value)
    assert node[knob].value() != value_before
    assert frame_key(node) != before, f"{knob} isn't in `settings_key` of nuke_plugin/node_state.py"
    node[knob].setValue(value_before)
    assert frame_key(node) == before


@pytest.mark.parametrize("knob", [knob for knob, (value, _) in NOT_IN_THE_KEY.items() if value is not None])
def test_another_value_of_any_other_knob_gives_the_same_key(node, knob):
    before, value_before = frame_key(node), node[knob].value()
    node[knob].setValue(NOT_IN_THE_KEY[knob][0])
    assert node[knob].value() != value_before
    assert frame_key(node) == before
