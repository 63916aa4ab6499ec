"""A bake in the simulated Nuke: the pixels are those of `relightgan infer`, and Nuke is left as it was.

Real worker, real EXR, tiny looks and plates.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import small_comps
import tiny_looks
import tiny_plates

from relightgan.core.errors import Cancelled, PlateError, RelightError, SequenceError, WorkerError

pytestmark = pytest.mark.process

BLENDED = {"temporal_blend": 0.7, "temporal_window": 2}
BLENDED_WORDS = ("--temporal-blend=0.7", "--temporal-window=2")


def settings_now(nuke, node):
    """Everything a bake touches; but not `version`, by which Nuke itself counts what a Write or Read did."""
    root = nuke.root()
    inner = {
        f"{child.name()}.{name}": knob.toScript() for child in node.nodes() for name, knob in child.knobs().items()
    }
    inner = {name: value for name, value in inner.items() if not name.endswith(".version")}
    own = {name: knob.toScript() for name, knob in node.knobs().items() if not name.startswith("result_")}
    return {
        **inner,
        **own,
        "proxy": root.proxy(),
        "frame": nuke.frame(),
        "selected": sorted(other.fullName() for other in nuke.selectedNodes()),
        "undo off": nuke.Undo.disabled(),
    }


def sources_written(nuke):
    """Collects (frame, view) of every source that a bake has Nuke write from now on."""
    written = []

    def after():
        if nuke.thisNode().name() == "RG_Write":
            written.append((nuke.frame(), nuke.thisView()))

    nuke.addAfterFrameRender(after)
    return written


def left_overs(comp):
    bakes = comp.folder / "cache" / "bakes"
    return sorted(bakes.iterdir()) if bakes.exists() else []


# The same pixels as without Nuke


@pytest.mark.parametrize("kind", ["half", "float"])
@pytest.mark.parametrize(("knobs", "words"), [({}, ()), (BLENDED, BLENDED_WORDS)], ids=["alone", "blended"])
def test_pixels_are_those_of_infer_to_the_bit(comp, kind, knobs, words):
    from relightgan.nuke_plugin.bake import bake

    for frame in comp.frames:  # the result of infer is of the plates' kind
        path = Path(comp.plates % frame)
        tiny_plates.write_exr(path, tiny_plates.read_exr(path), kind=kind)
    for name, value in {**knobs, "precision": kind, "exposure": 0.5}.items():
        comp.node[name].setValue(value)
    report = bake(comp.node, comp.frames)
    expected = small_comps.inferred(
        comp.look, comp.plates, comp.folder / "expected.%04d.exr", comp.frames, "--exposure=0.5", *words
    )
    assert report.relit == len(comp.frames)
    for frame in comp.frames:
        assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, frame), expected[frame]), frame


def test_an_image_look_gives_the_pixels_of_infer_too(comp, conv_look):
    from relightgan.nuke_plugin.bake import bake

    comp.node["look"].setValue(str(conv_look))
    bake(comp.node, comp.frames[:2])
    expected = small_comps.inferred(conv_look, comp.plates, comp.folder / "expected.%04d.exr", comp.frames[:2])
    for frame in comp.frames[:2]:
        assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, frame), expected[frame])


def test_working_space_and_unpremultiplied_reach_the_worker(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    path = Path(comp.plates % 1001)
    alpha = np.linspace(0.1, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    tiny_plates.write_exr(path, {**tiny_plates.read_exr(path), "A": alpha})
    comp.node["working_space"].setValue("ACEScg")
    comp.node["premultiplied"].setValue(False)
    bake(comp.node, [1001])
    words = ("--working-space=ACEScg", "--unpremultiplied")
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1001], *words)
    assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, 1001), expected[1001])


# Which sources are written


def test_neighbours_of_the_window_are_written_too_and_the_clips_ends_respected(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    for name, value in BLENDED.items():
        comp.node[name].setValue(value)
    written = sources_written(comp.nuke)
    bake(comp.node, [1001])
    assert written == [(1001, "main"), (1002, "main"), (1003, "main")]
    del written[:]
    bake(comp.node, [1005])
    assert written == [(1003, "main"), (1004, "main"), (1005, "main"), (1006, "main")]
    out = comp.folder / "expected.%04d.exr"
    whole = small_comps.inferred(comp.look, comp.plates, out, comp.frames, *BLENDED_WORDS)
    for frame in (1001, 1005):  # alone they are what they are in the shot
        assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, frame), whole[frame])


def test_long_ranges_are_baked_in_chunks_whose_sources_are_written_once_and_soon_removed(
    comp,
):
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.bake_frames import CHUNK

    frames = list(range(1, 41))
    comp.read["file"].setValue(tiny_plates.write_clip(comp.folder / "long", frames, size=small_comps.SIZE, step=(0, 0)))
    comp.read["first"].setValue(1)
    comp.read["last"].setValue(40)
    small_comps.project(comp.nuke, 1, 40)
    for name, value in BLENDED.items():
        comp.node[name].setValue(value)
    written = sources_written(comp.nuke)
    most = []
    comp.nuke.addAfterFrameRender(lambda: most.append(len(list(comp.folder.glob("cache/bakes/*/*/source.*.exr")))))
    report = bake(comp.node, frames)
    assert sorted(written) == [(frame, "main") for frame in frames]
    assert max(most) <= 3 * CHUNK + 2 * BLENDED["temporal_window"]
    assert report.relit == 40
    assert left_overs(comp) == []


def test_the_first_chunks_are_small_and_none_is_lost(comp):
    from relightgan.nuke_plugin.bake_frames import CHUNK, in_chunks

    frames = list(range(1001, 1041))
    chunks = in_chunks(frames)
    assert [frame for chunk in chunks for frame in chunk] == frames
    assert [len(chunk) for chunk in chunks[:5]] == [2, 2, 4, CHUNK, CHUNK]
    assert in_chunks([]) == []


def test_ranges_with_gaps_bake_those_frames_only(comp):
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.state import status_of

    written = sources_written(comp.nuke)
    bake(comp.node, [1001, 1003, 1006])
    assert written == [(1001, "main"), (1003, "main"), (1006, "main")]
    status = status_of(comp.node, comp.frames)
    assert status.ready == (1001, 1003, 1006)
    assert status.missing == (1002, 1004, 1005)


@pytest.mark.parametrize("frames", [[-3, -2, -1, 0, 1], [1000000, 1000001, 1000002]], ids=["negative", "large"])
def test_negative_and_very_large_frame_numbers(comp, frames):
    from relightgan.nuke_plugin.bake import bake

    plates = tiny_plates.write_clip(comp.folder / "odd", frames, size=small_comps.SIZE)
    comp.read["file"].setValue(plates)
    comp.read["first"].setValue(frames[0])
    comp.read["last"].setValue(frames[-1])
    small_comps.project(comp.nuke, frames[0], frames[-1])
    for name, value in BLENDED.items():
        comp.node[name].setValue(value)
    bake(comp.node, frames)
    # One word per frame would begin with a dash.
    words = [f"--frames={frames[0]}-{frames[-1]}", *BLENDED_WORDS]
    expected = small_comps.inferred(comp.look, plates, comp.folder / "expected.%04d.exr", frames, *words)
    for frame in frames:
        assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, frame), expected[frame])


def test_a_time_warped_source_is_relit_as_it_arrives(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    offset = small_comps.node(comp.nuke, "TimeOffset", [comp.read], time_offset=2)
    comp.node.setInput(0, offset)
    bake(comp.node, [1004, 1005])
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1002, 1003])
    assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, 1004), expected[1002])
    assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, 1005), expected[1003])


def test_a_frame_that_the_node_has_no_place_for_is_refused(comp):
    from relightgan.nuke_plugin.bake import bake

    with pytest.raises(SequenceError, match=r"RelightGAN1 is asked for 2000, and has 1001-1006"):
        bake(comp.node, [1001, 2000])


# Pictures of all shapes


@pytest.mark.parametrize(
    ("origin", "display"),
    [((-4, -3), (0, 0, 24, 18)), ((5, 6), (0, 0, 64, 48)), ((-8, 4), (-8, 4, 32, 24))],
    ids=["overscan", "small data window", "display window off the origin"],
)
def test_data_windows_keep_their_place_and_pixels(comp, origin, display):
    from relightgan.nuke_plugin.bake import bake

    path = Path(comp.plates % 1001)
    tiny_plates.write_exr(path, tiny_plates.read_exr(path), data_origin=origin, display=display)
    bake(comp.node, [1001])
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1001])
    shown = Path(comp.node["result_path"].value().replace("%V", "main") % 1001)
    assert small_comps.same_bits(small_comps.rgb(shown), expected[1001])
    if display[:2] == (0, 0):  # Nuke's formats begin at 0, 0
        assert small_comps.windows(shown) == small_comps.windows(comp.folder / "expected.1001.exr")


def test_pixel_aspect_stays_with_the_source(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    path = Path(comp.plates % 1001)
    tiny_plates.write_exr(path, tiny_plates.read_exr(path), PixelAspectRatio=2.0)
    bake(comp.node, [1001])
    comp.nuke.frame(1001)
    assert comp.node.format().pixelAspect() == 2.0
    assert comp.node.width() == 32


def test_other_channels_pass_untouched_and_no_alpha_is_made(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    path = Path(comp.plates % 1001)
    depth = np.linspace(1, 1e6, 24 * 32, dtype=np.float32).reshape(24, 32)
    plain = tiny_plates.read_exr(path)
    tiny_plates.write_exr(path, {**plain, "depth.Z": depth}, kind="float")
    out = small_comps.writer(comp.nuke, comp.node, comp.folder / "out.%04d.exr")
    bake(comp.node, [1001])
    comp.nuke.execute(out, 1001, 1001, 1, ["main"])
    made = tiny_plates.read_exr(comp.folder / "out.1001.exr")
    assert "A" not in made
    assert np.array_equal(made["depth.Z"], depth)
    assert small_comps.same_bits(
        small_comps.rgb(comp.folder / "out.1001.exr"), small_comps.relit(comp.nuke, comp.node, 1001)
    )


def test_alpha_passes_untouched(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    path = Path(comp.plates % 1001)
    alpha = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    tiny_plates.write_exr(path, {**tiny_plates.read_exr(path), "A": alpha}, kind="float")
    out = small_comps.writer(comp.nuke, comp.node, comp.folder / "out.%04d.exr")
    bake(comp.node, [1001])
    comp.nuke.execute(out, 1001, 1001, 1, ["main"])
    assert np.array_equal(tiny_plates.read_exr(comp.folder / "out.1001.exr")["A"], alpha)


def test_values_beyond_half_survive_on_their_way_to_the_worker(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    path = Path(comp.plates % 1001)
    bright = {name: pixels * 1e6 for name, pixels in tiny_plates.read_exr(path).items()}
    tiny_plates.write_exr(path, bright, kind="float")
    comp.node["precision"].setValue("float")
    bake(comp.node, [1001])
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1001])
    relit = small_comps.relit(comp.nuke, comp.node, 1001)
    assert relit.max() > 65504
    assert small_comps.same_bits(relit, expected[1001])


def test_proxy_mode_bakes_at_full_size(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    comp.nuke.root()["proxy_scale"].setValue(0.5)
    comp.nuke.root().setProxy(True)
    bake(comp.node, [1001])
    assert comp.nuke.root().proxy()
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1001])
    assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, 1001), expected[1001])


def test_each_view_is_relit_from_its_own_source(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    comp.nuke.root().addView("left")
    comp.nuke.root().addView("right")
    comp.nuke.root().deleteView("main")
    for seed, view in enumerate(("left", "right")):
        tiny_plates.write_clip(comp.folder / view, comp.frames, size=small_comps.SIZE, seed=seed)
    comp.read["file"].setValue(f"{comp.folder.as_posix()}/%V/plates.%04d.exr")
    report = bake(comp.node, [1001, 1002])
    assert report.relit == 4
    for view in ("left", "right"):
        plates = comp.folder / view / "plates.%04d.exr"
        expected = small_comps.inferred(comp.look, plates, comp.folder / f"{view}.%04d.exr", [1001, 1002])
        for frame in (1001, 1002):
            assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, frame, view), expected[frame])


def test_one_view_alone_can_be_baked_and_an_unknown_one_is_refused(comp):
    from relightgan.nuke_plugin.bake import bake

    comp.nuke.root().addView("left")
    assert bake(comp.node, [1001], ["left"]).relit == 1
    with pytest.raises(SequenceError, match=r"There is no view right\. This script has main, left\."):
        bake(comp.node, [1001], ["right"])


def test_blanks_and_letters_of_all_kinds_in_paths(comp, monkeypatch):
    from relightgan.nuke_plugin.bake import bake

    place = comp.folder / "Ätna (take 2) – 夜"
    place.mkdir()
    look = tiny_looks.darken_grid_look(place / "dämmerung 1.onnx")
    plates = tiny_plates.write_clip(place / "plates é", comp.frames, size=small_comps.SIZE)
    monkeypatch.setenv("RELIGHTGAN_CACHE", str(place / "cache ü"))
    comp.read["file"].setValue(plates)
    comp.node["look"].setValue(str(look))
    bake(comp.node, [1001])
    expected = small_comps.inferred(look, plates, comp.folder / "expected.%04d.exr", [1001])
    assert "cache ü" in comp.node["result_path"].value()
    assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, 1001), expected[1001])


@pytest.mark.parametrize("everything", [False, True])
def test_letters_that_tcl_acts_on_in_paths(read_and_relight, nuke_session, monkeypatch, everything):
    """Of a look, of a shot with the cache beside it, and of a cache elsewhere; as commands they would leave a file."""
    comp = read_and_relight(nuke_session(quirks={"texts_substitute_all": everything}))
    from relightgan.nuke_plugin import knobs, startup
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.state import status_of

    monkeypatch.chdir(comp.folder)
    place = comp.folder / "shot[exec touch PWNED]$env(HOME)"
    place.mkdir()
    look = tiny_looks.darken_grid_look(place / "sun[exec touch PWNED]ny.onnx")
    node = startup.create_node(look.as_posix())
    node.setInput(0, comp.read)
    comp.nuke.scriptSaveAs(str(place / "shot.nk"), 1)
    expected = small_comps.inferred(look, comp.plates, comp.folder / "expected.%04d.exr", [1001])
    for given in ("", f"{place.as_posix()}/cache[exec touch PWNED]"):
        monkeypatch.setenv("RELIGHTGAN_CACHE", given)
        assert bake(node, [1001]).relit == 1
        assert 1001 in status_of(node).ready
        folder = given or f"{place.as_posix()}/relightgan_cache"
        assert knobs.pattern_of(node, knobs.RESULT_PATH).startswith(f"{folder}/")
        assert small_comps.same_bits(small_comps.relit(comp.nuke, node, 1001), expected[1001])
    assert not list(comp.folder.rglob("PWNED"))


# Several nodes


def test_one_relightgan_feeding_another_is_baked_first(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    second = small_comps.relighter(comp.nuke, comp.node, comp.look, exposure=1.0, **BLENDED)
    report = bake(second, [1003])
    assert [(found.node, found.relit) for found in report.nodes] == [("RelightGAN1", 5), ("RelightGAN2", 1)]
    once = comp.folder / "once.%04d.exr"
    small_comps.inferred(comp.look, comp.plates, once, comp.frames)
    words = ("--exposure=1", *BLENDED_WORDS)
    twice = small_comps.inferred(comp.look, once, comp.folder / "twice.%04d.exr", [1003], *words)
    assert small_comps.same_bits(small_comps.relit(comp.nuke, second, 1003), twice[1003])


def test_a_node_that_is_switched_off_is_passed_over(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    second = small_comps.relighter(comp.nuke, comp.node, comp.look)
    comp.node["bypass"].setValue(True)
    report = bake(second, [1001])
    assert [found.node for found in report.nodes] == ["RelightGAN2"]
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1001])
    assert small_comps.same_bits(small_comps.relit(comp.nuke, second, 1001), expected[1001])


def test_a_time_offset_between_two_nodes_asks_the_upper_one_for_the_shifted_frames(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    offset = small_comps.node(comp.nuke, "TimeOffset", [comp.node], time_offset=2)
    second = small_comps.relighter(comp.nuke, offset, comp.look)
    report = bake(second, [1005])
    assert report.nodes[0].node == "RelightGAN1"
    once = comp.folder / "once.%04d.exr"
    small_comps.inferred(comp.look, comp.plates, once, [1003])
    twice = small_comps.inferred(comp.look, once, comp.folder / "twice.%04d.exr", [1003])
    assert small_comps.same_bits(small_comps.relit(comp.nuke, second, 1005), twice[1003])


def test_a_node_inside_a_group_and_a_node_made_a_group_are_baked(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    group = small_comps.node(comp.nuke, "Group", [])
    with group:
        inlet = comp.nuke.createNode("Input", inpanel=False)
        inner = small_comps.relighter(comp.nuke, inlet, comp.look, exposure=0.5)
        outlet = comp.nuke.createNode("Output", inpanel=False)
        outlet.setInput(0, inner)
    group.setInput(0, comp.read)
    made = comp.node.makeGroup()
    made.setInput(0, comp.read)
    expected = comp.folder / "expected.%04d.exr"
    bake([inner, made], [1002])
    plain = small_comps.inferred(comp.look, comp.plates, expected, [1002])
    exposed = small_comps.inferred(comp.look, comp.plates, expected, [1002], "--exposure=0.5")
    assert small_comps.same_bits(small_comps.relit(comp.nuke, made, 1002), plain[1002])
    assert small_comps.same_bits(small_comps.relit(comp.nuke, inner, 1002), exposed[1002])


# What is there isn't made again


def test_frames_in_the_store_are_not_relit_again_and_no_worker_is_started(
    comp,
):
    from relightgan.nuke_plugin import client
    from relightgan.nuke_plugin.bake import bake

    bake(comp.node, comp.frames[:3])
    client.stop_shared()
    twin = small_comps.relighter(comp.nuke, comp.read, comp.look)
    written = sources_written(comp.nuke)
    report = bake([comp.node, twin], comp.frames[:3])
    assert report.relit == 0
    assert written == []
    assert client._shared is None
    assert small_comps.relit(comp.nuke, twin, 1003).shape == (24, 32, 3)
    assert "3 frames in the cache already" in report.nodes[1].line()


def test_a_file_replaced_in_place_is_relit_anew_though_nuke_knows_it_by_its_path(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    bake(comp.node, [1001])
    before = comp.node["result_path"].value()
    path = Path(comp.plates % 1001)
    tiny_plates.write_exr(path, {name: pixels * 3 for name, pixels in tiny_plates.read_exr(path).items()}, kind="float")
    bake(comp.node, [1001])
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1001])
    assert comp.node["result_path"].value() != before
    relit = small_comps.relit(comp.nuke, comp.node, 1001)
    assert np.array_equal(relit, expected[1001].astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("by", ["itself", "a twin"])
def test_a_frame_that_was_looked_at_too_early_shows_once_it_is_relit(comp, by):
    from relightgan.nuke_plugin import guard
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.state import relink

    twin = small_comps.relighter(comp.nuke, comp.read, comp.look)
    guard.unregister()  # looking is what a Viewer does, which no guard stops
    write = small_comps.writer(comp.nuke, comp.node, comp.folder / "out.%04d.exr")
    bake(comp.node, [1002])
    path = comp.node["result_path"].value()
    with pytest.raises(RuntimeError, match="1001"):
        comp.nuke.execute(write, 1001, 1001, 1, ["main"])
    bake(comp.node if by == "itself" else twin, [1001])  # a twin has the same state, as on another machine
    relink(comp.node)
    assert comp.node["result_path"].value() == path  # so nothing but `reload` makes Nuke look again
    comp.nuke.execute(write, 1001, 1001, 1, ["main"])
    relit = small_comps.relit(comp.nuke, comp.node, 1001)
    assert small_comps.same_bits(small_comps.rgb(comp.folder / "out.1001.exr"), relit)


def test_defaults_that_a_studio_sets_for_all_nodes_of_a_class_change_no_pixel(read_and_relight, nuke_session):
    nuke = nuke_session()
    from relightgan.nuke_plugin.bake import bake

    defaults = {  # as in public init.py files, or of their kind
        "Write.exr.autocrop": "1",
        "Write.exr.write_ACES_compliant_EXR": "1",
        "Write.exr.interleave": "channels and layers",
        "Write.exr.datatype": "16 bit half",
        "Write.exr.compression": "DWAA",
        "Write.channels": "rgb",
        "Write.use_limit": "1",
        "Write.afterRender": "import a_studios_module_that_is_not_here",
        "Read.on_error": "black",
        "Crop.reformat": "1",
        "Crop.crop": "1",
    }
    for knob, value in defaults.items():
        nuke.knobDefault(knob, value)
    comp = read_and_relight(nuke)
    for frame in comp.frames:  # with a black border that autocrop would take away
        layers = tiny_plates.read_exr(Path(comp.plates % frame))
        for pixels in layers.values():
            pixels[:4] = pixels[:, -5:] = 0
        tiny_plates.write_exr(Path(comp.plates % frame), layers, kind="half")
    bake(comp.node, [1002])
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1002])
    assert small_comps.same_bits(small_comps.relit(nuke, comp.node, 1002), expected[1002])


def test_a_frame_that_was_cleared_and_looked_at_shows_once_it_is_relit_again(
    comp,
):
    from relightgan.nuke_plugin import guard, hooks
    from relightgan.nuke_plugin.bake import bake

    guard.unregister()
    write = small_comps.writer(comp.nuke, comp.node, comp.folder / "out.%04d.exr")
    bake(comp.node, [1001])
    hooks.clear(comp.node)
    with pytest.raises(RuntimeError, match="1001"):
        comp.nuke.execute(write, 1001, 1001, 1, ["main"])
    bake(comp.node, [1001])
    comp.nuke.execute(write, 1001, 1001, 1, ["main"])


# Everything as it was


def test_everything_is_restored_after_a_bake(comp):
    from relightgan.nuke_plugin.bake import bake

    comp.nuke.root().setProxy(True)
    comp.nuke.frame(1004)
    comp.nuke.selectAll()
    before = settings_now(comp.nuke, comp.node)
    bake(comp.node, comp.frames[:2])
    assert settings_now(comp.nuke, comp.node) == before
    assert comp.nuke.modified()  # it points to results now, which should be saved
    comp.nuke.root().setModified(False)
    bake(comp.node, comp.frames[:2])
    assert not comp.nuke.modified()


def test_the_frame_is_as_it_was_where_a_render_moves_it(read_and_relight, nuke_session):
    nuke = nuke_session(quirks={"execute_moves_the_frame": True})
    from relightgan.nuke_plugin.bake import bake

    comp = read_and_relight(nuke)
    nuke.frame(1004)
    bake(comp.node, comp.frames[:2])
    assert nuke.frame() == 1004


def test_the_selection_is_as_it_was_though_a_studios_callback_changes_it(comp):
    from relightgan.nuke_plugin.bake import bake

    comp.nuke.addBeforeRender(lambda: (comp.node.setSelected(False), comp.read.setSelected(True)))
    comp.node.setSelected(True)
    comp.read.setSelected(False)
    bake(comp.node, comp.frames[:2])
    assert comp.nuke.selectedNodes() == [comp.node]


def test_everything_is_restored_after_an_error(comp):
    from relightgan.nuke_plugin.bake import bake

    comp.nuke.root().setProxy(True)
    comp.nuke.frame(1004)
    Path(comp.plates % 1002).unlink()
    before = settings_now(comp.nuke, comp.node)
    with pytest.raises(SequenceError):
        bake(comp.node, comp.frames[:2])
    assert settings_now(comp.nuke, comp.node) == before
    assert left_overs(comp) == []


@pytest.mark.parametrize("counts", [True, False])
def test_undo_is_on_or_off_as_it_was_whether_or_not_nuke_counts(read_and_relight, nuke_session, counts):
    nuke = nuke_session(gui=True, quirks={"undo_disable_counts": counts})
    from relightgan.nuke_plugin.bake import bake

    node = read_and_relight(nuke).node
    steps = nuke.Undo.undoSize()
    bake(node, [1001])
    assert not nuke.Undo.disabled()
    assert nuke.Undo.undoSize() == steps
    nuke.Undo.disable()
    bake(node, [1001])
    assert nuke.Undo.disabled()
    nuke.Undo.enable()
    assert not nuke.Undo.disabled()


# Cancel


def test_cancel_keeps_the_finished_frames_and_restores_everything(gui_comp, monkeypatch):
    from nuke_simulator import control

    from relightgan.nuke_plugin import bake_frames
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.state import status_of

    # So that after the first frame others have yet to be written, however fast the worker is.
    monkeypatch.setattr(bake_frames, "CHUNK", 1)
    before = settings_now(gui_comp.nuke, gui_comp.node)
    finished = []

    def first_frame(report):
        finished.append(report.relit)
        control.cancel_after(1)

    with pytest.raises(Cancelled):
        bake(gui_comp.node, gui_comp.frames, on_progress=first_frame)
    assert settings_now(gui_comp.nuke, gui_comp.node) == before
    status = status_of(gui_comp.node, gui_comp.frames)
    assert 1 <= len(status.ready) < len(gui_comp.frames)
    assert left_overs(gui_comp) == []
    control.cancel_after(None)
    report = bake(gui_comp.node, gui_comp.frames)
    assert report.relit == len(gui_comp.frames) - len(status.ready)


def test_cancel_acts_within_a_second_also_while_the_worker_is_busy(
    comp,
):
    from relightgan.nuke_plugin import bake as module
    from relightgan.nuke_plugin.messages import Shown, Stop

    big = tiny_plates.write_clip(comp.folder / "big", comp.frames, size=(540, 960))
    comp.read["file"].setValue(big)
    for name, value in {"temporal_blend": 0.7, "temporal_window": 2}.items():
        comp.node[name].setValue(value)
    took = []
    for exposure in range(5):  # where others use the machine too, one try may be slow for no fault of ours
        comp.node["exposure"].setValue(exposure)
        stop = Stop()
        asked = []

        def ask(stop=stop, asked=asked):
            stop.asked = True
            asked.append(time.monotonic())

        def soon(report, ask=ask):
            if report.relit == 1:
                threading.Timer(0.05, ask).start()

        works = module.plan([(comp.node, comp.frames)])
        with pytest.raises(Cancelled):
            module.run(works, Shown(6, "test", "none", stop), soon)
        took.append(time.monotonic() - asked[0])
        if took[-1] < 1.0:
            break
    assert min(took) < 1.0


# What goes wrong


def test_a_missing_source_frame_is_named_and_the_others_are_kept(
    comp,
):
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.state import status_of

    gone = Path(comp.plates % 1003)
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(SequenceError, match=r"RelightGAN1: frame 1003: .*plates\.1003\.exr") as caught:
        bake(comp.node, comp.frames)
    assert "5 frames relit" in str(caught.value)
    assert status_of(comp.node, comp.frames).missing == (1003,)
    gone.write_bytes(content)
    assert bake(comp.node, comp.frames).relit == 1


def test_frames_whose_neighbour_is_missing_say_so(comp):
    from relightgan.nuke_plugin.bake import bake

    Path(comp.plates % 1006).unlink()
    for name, value in BLENDED.items():
        comp.node[name].setValue(value)
    with pytest.raises(SequenceError) as caught:
        bake(comp.node, comp.frames)
    assert "frames 1004-1005: its neighbour 1006 is missing" in str(caught.value)
    assert "3 frames relit" in str(caught.value)


def test_a_source_that_changes_during_the_bake_is_told_and_leaves_no_frame(
    comp,
):
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.state import status_of

    path = Path(comp.plates % 1003)
    changed = {name: pixels * 2 for name, pixels in tiny_plates.read_exr(path).items()}

    def replace_one():
        if comp.nuke.thisNode().name() == "RG_Write" and comp.nuke.frame() == 1004:
            tiny_plates.write_exr(path, changed, kind="float")

    comp.nuke.addAfterFrameRender(replace_one)
    with pytest.raises(SequenceError, match="frame 1003: its source changed while it was baked"):
        bake(comp.node, comp.frames)
    comp.nuke.removeAfterFrameRender(replace_one)
    status = status_of(comp.node, comp.frames, fresh=True)
    assert status.ready == (1001, 1002, 1004, 1005, 1006)
    assert len(list(comp.folder.glob("cache/*/frames/*.exr"))) == 5
    bake(comp.node, comp.frames)
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", [1003])
    relit = small_comps.relit(comp.nuke, comp.node, 1003)
    assert np.array_equal(relit, expected[1003].astype(np.float16).astype(np.float32))


def test_a_worker_that_dies_gives_its_reason(comp, monkeypatch):
    from relightgan.nuke_plugin.bake import bake

    fake = comp.folder / "python"
    fake.write_text("#!/bin/sh\necho 'no such library: libfoo' >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("RELIGHTGAN_PYTHON", str(fake))
    before = settings_now(comp.nuke, comp.node)
    with pytest.raises(WorkerError, match=r"exit code 3.*libfoo"):
        bake(comp.node, [1001])
    assert settings_now(comp.nuke, comp.node) == before
    assert left_overs(comp) == []


def test_a_worker_that_hangs_is_stopped_and_said_to_hang(comp, monkeypatch):
    from relightgan.nuke_plugin import client
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.worker_process import Limits

    hello = '{"type":"hello","protocol":2}'
    code = f"import sys, time; sys.stdout.write('{hello}\\n'); sys.stdout.flush(); time.sleep(60)"
    worker = client.Worker([comp.folder], [sys.executable, "-c", code], Limits(silence_s=1.0))
    monkeypatch.setattr(client, "shared", lambda folders: worker)
    with pytest.raises(WorkerError, match="hung"):
        bake(comp.node, [1001])
    worker.stop()


def test_a_killed_worker_is_started_again_and_the_bake_ends_well(
    comp,
):
    from relightgan.nuke_plugin import client
    from relightgan.nuke_plugin.bake import bake

    def kill_once(report):
        if report.relit == 1:
            os.kill(client._shared.pid, signal.SIGKILL)

    report = bake(comp.node, comp.frames, on_progress=kill_once)
    assert report.relit == len(comp.frames)
    expected = small_comps.inferred(comp.look, comp.plates, comp.folder / "expected.%04d.exr", comp.frames)
    for frame in comp.frames:
        assert small_comps.same_bits(small_comps.relit(comp.nuke, comp.node, frame), expected[frame])


@pytest.mark.parametrize("size", ["60k", "24k"], ids=["worker's results", "Nuke's sources"])
def test_a_full_disk_is_said_to_be_full(comp, monkeypatch, size):
    from relightgan.nuke_plugin.bake import bake

    small = comp.folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        monkeypatch.setenv("RELIGHTGAN_CACHE", str(small / "cache"))
        with pytest.raises(PlateError, match=r"full|No space left"):
            bake(comp.node, comp.frames)
        assert not list(small.glob("cache/bakes/*"))
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_a_look_that_is_not_there_is_named_with_the_node(comp):
    from relightgan.nuke_plugin.bake import bake

    comp.node["look"].setValue(str(comp.folder / "gone.onnx"))
    with pytest.raises(RelightError, match=r"gone\.onnx"):
        bake(comp.node, [1001])


def test_a_bake_within_a_render_is_refused(
    comp,
):
    from relightgan.nuke_plugin.bake import bake

    out = small_comps.writer(comp.nuke, comp.read, comp.folder / "out.%04d.exr")
    caught = []

    def nested():
        try:
            bake(comp.node, [1001])
        except RelightError as error:
            caught.append(str(error))

    comp.nuke.addBeforeFrameRender(nested)
    comp.nuke.execute(out, 1001, 1001, 1, ["main"])
    assert len(caught) == 1
    assert "Nuke is rendering" in caught[0]


# What is said


def test_the_log_names_device_and_seconds_per_frame_and_holds_no_word_that_fails_a_farm_task(comp, capfd):
    from relightgan.nuke_plugin.bake import bake

    bake(comp.node, comp.frames[:2])
    out = "".join(capfd.readouterr())
    assert re.search(r"RelightGAN1: 2 frames relit, \d+\.\d\d s per frame\. Running on CPU", out)
    assert not re.search(r"ERROR:|Error ?:", out)


def test_the_window_shows_time_left_and_no_dialog(gui_comp):
    from nuke_simulator import control

    from relightgan.nuke_plugin.bake import bake

    bake(gui_comp.node, gui_comp.frames)
    shown = [message for task in control.tasks() for message in task._messages]
    assert any(re.search(r"RelightGAN1: \d/6 frames, 0:00:\d\d left", message) for message in shown)
    assert control.messages() == []


def test_what_a_killed_process_left_is_removed_by_the_next_bake(comp):
    from relightgan.nuke_plugin import cache
    from relightgan.nuke_plugin.bake import bake

    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    ours = cache.bake_folder(comp.folder / "cache")
    theirs = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    ours.rename(theirs)
    sentinel = theirs / "relightgan.json"
    sentinel.write_text(sentinel.read_text().replace(ours.name, theirs.name))
    (theirs / "main").mkdir()
    (theirs / "main" / "source.1001.exr.tmp").write_bytes(b"half")
    bake(comp.node, [1001])
    assert left_overs(comp) == []


def test_nothing_remains_but_the_cache(comp):
    from relightgan.nuke_plugin.bake import bake

    bake(comp.node, comp.frames[:2])
    assert left_overs(comp) == []
    shutil.rmtree(comp.folder / "cache")


# A cache that others write into


def test_what_somebody_put_in_place_of_frames_is_told_and_baked_again(comp, capfd):
    from relightgan.core.frame_seal import is_whole, read_seal
    from relightgan.nuke_plugin.bake import bake, plan
    from relightgan.nuke_plugin.state import badge, relink, state_of

    assert bake(comp.node, comp.frames).relit == 6
    found = state_of(comp.node)
    stored = {frame: found.stored(frame, "main") for frame in comp.frames}
    elsewhere = comp.folder / "mine.exr"
    elsewhere.write_bytes(stored[1001].read_bytes())
    before = elsewhere.read_bytes()
    whole = stored[1003].read_bytes()
    for frame in comp.frames[:5]:
        stored[frame].unlink()
    stored[1001].symlink_to(elsewhere)
    stored[1002].touch()
    stored[1003].write_bytes(whole[: len(whole) // 2])
    stored[1004].write_bytes(Path(comp.plates % 1004).read_bytes())
    stored[1005].write_bytes(stored[1006].read_bytes())
    for frame in comp.frames:
        Path(str(found.pattern).replace("%V", "main") % frame).unlink()

    assert [work.todo for work in plan([(comp.node, comp.frames)])] == [{"main": comp.frames[:5]}]
    relink(comp.node)
    assert badge(comp.node) == (
        "ready 1006, missing 1001-1005 "
        "(1001: a link; 1002: an empty file; 1005: another frame; 1003: cut short; 1004: no relit frame)"
    )
    capfd.readouterr()
    assert bake(comp.node, comp.frames).relit == 5
    assert badge(comp.node) == "ready 1001-1006"
    told = [line for line in capfd.readouterr().err.splitlines() if "no whole frame" in line]
    assert told == [
        "RelightGAN: RelightGAN1: no whole frame in the cache, so it is made again: 1001-1005 "
        "(a link, an empty file, another frame, cut short, no relit frame)."
    ]
    assert elsewhere.read_bytes() == before
    for frame, path in stored.items():
        assert not path.is_symlink()
        with path.open("rb") as file:
            seal = read_seal(file)
            assert (seal.key, is_whole(file, seal)) == (found.frame_key(frame, "main"), True)
    assert bake(comp.node, comp.frames).relit == 0


def test_a_store_that_is_a_link_is_refused_in_a_line_that_names_it(comp):
    from relightgan.nuke_plugin.bake import bake
    from relightgan.nuke_plugin.state import state_of

    found = state_of(comp.node)
    (comp.folder / "theirs").mkdir()
    found.places.folder.mkdir(parents=True)
    found.places.store.symlink_to(comp.folder / "theirs")
    with pytest.raises(RelightError, match="frames is a link, not a folder"):
        bake(comp.node, comp.frames)
    assert list((comp.folder / "theirs").iterdir()) == []
