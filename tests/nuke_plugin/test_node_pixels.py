"""What the RelightGAN node does to pixels with only its .gizmo on the path: no Python of ours, relit files given."""

from pathlib import Path

import numpy as np
import pytest
import tiny_plates

GIZMOS = Path(__file__).parents[2] / "gizmos"
FRAME = 1001
OVERSCAN = {"data_origin": (-3, -2), "display": (0, 0, 12, 8)}
ODD = np.array([np.nan, np.inf, -np.inf, -0.0, 70000, -3, 1e-30, 0.25], np.float32)


@pytest.fixture
def small(nuke_session, tmp_path):
    """A comp of plate → RelightGAN → Write, where the relit frame is a file that the node is pointed at."""
    nuke = nuke_session(paths=[GIZMOS])
    rng = np.random.default_rng(3)

    class Small:
        plate_values = rng.normal(1, 2, (10, 14, 3)).astype(np.float32)
        relit_values = rng.normal(5, 2, (10, 14, 3)).astype(np.float32)

        def build(self, relit=True, others=None, **windows):
            self.write_exr("plate", self.plate_values, others or {}, **windows)
            read = self.read("plate")
            self.relight = nuke.nodes.RelightGAN(inputs=[read])
            if relit:
                self.write_exr("relit", self.relit_values, {}, **windows)
                self.relight["result_path"].setValue((tmp_path / "relit.%04d.exr").as_posix())
                self.relight["result_first"].setValue(FRAME)
                self.relight["result_last"].setValue(FRAME)
            return self

        def write_exr(self, name, rgb, others, **windows):
            tiny_plates.write_exr(
                tmp_path / f"{name}.{FRAME}.exr", tiny_plates.rgb_channels(rgb, **others), "float", **windows
            )

        def read(self, name):
            pattern = (tmp_path / f"{name}.%04d.exr").as_posix()
            return nuke.nodes.Read(file=pattern, first=FRAME, last=FRAME, raw=True)

        def render(self, channels="all"):
            """The file a Write below the node makes: channels by name, and its header."""
            write = nuke.nodes.Write(inputs=[self.relight], file=(tmp_path / "out.%04d.exr").as_posix(), raw=True)
            write["datatype"].setValue("32 bit float")
            write["channels"].setValue(channels)
            nuke.execute(write, FRAME, FRAME)
            return tiny_plates.read_exr(tmp_path / f"out.{FRAME}.exr")

    one = Small()
    one.nuke, one.folder = nuke, tmp_path
    return one


def rgb_of(channels):
    return np.stack([channels[name] for name in "RGB"], axis=2)


def same_bits(a, b):
    return np.array_equal(np.ascontiguousarray(a).view(np.uint32), np.ascontiguousarray(b).view(np.uint32))


def data_window(path):
    import OpenImageIO

    file = OpenImageIO.ImageInput.open(str(path))
    spec = file.spec()
    file.close()
    return (spec.x, spec.y, spec.width, spec.height, spec.full_width, spec.full_height)


@pytest.mark.parametrize("windows", [{}, OVERSCAN, {"data_origin": (2, 1), "display": (0, 0, 30, 20)}])
def test_rgb_is_the_relit_files_and_everything_else_the_sources_bit_for_bit(small, windows):
    others = {"A": small.plate_values[..., 0], "depth.Z": small.plate_values[..., 1] * 1e6}
    out = small.build(others=others, **windows).render()
    assert same_bits(rgb_of(out), small.relit_values)
    assert same_bits(out["A"], others["A"])
    assert same_bits(out["depth.Z"], others["depth.Z"])
    assert data_window(small.folder / f"out.{FRAME}.exr") == data_window(small.folder / f"plate.{FRAME}.exr")


def test_odd_values_of_a_relit_file_come_through(small):
    small.relit_values[3, :8, 1] = ODD
    assert same_bits(rgb_of(small.build().render()), small.relit_values)


def test_a_plate_without_alpha_gets_none(small):
    assert set(small.build().render()) == {"R", "G", "B"}
    small.relight["crop_to_format"].setValue(True)
    assert set(small.render()) == {"R", "G", "B"}


def test_strength_is_a_mix_and_at_zero_the_plate_bit_for_bit_without_any_relit_frame(small):
    small.plate_values[0, :8, 0] = ODD
    small.build().relight["strength"].setValue(0.25)
    mean = small.plate_values * np.float32(0.75) + small.relit_values * np.float32(0.25)
    np.testing.assert_allclose(rgb_of(small.render()), mean, rtol=1e-6, atol=1e-6)
    small.relight["strength"].setValue(0)
    small.relight["result_path"].setValue("")
    assert same_bits(rgb_of(small.render()), small.plate_values)


def test_where_a_bake_writes_is_never_saved_with_the_script(small):
    small.build().relight["source_path"].setValue("/scratch/source.%04d.exr")
    small.relight["exposure"].setValue(2)
    path = small.folder / "saved.nk"
    small.nuke.scriptSaveAs(str(path))
    assert "exposure 2" in path.read_text()
    assert "/scratch" not in path.read_text()


def test_a_mask_limits_the_relight_and_leaves_both_sides_exact(small):
    small.plate_values[0, :8, 0] = ODD
    mask = np.zeros((10, 14), np.float32)
    mask[:, 7:] = 1
    small.build(others={"A": small.plate_values[..., 2]})
    small.write_exr("mask", np.zeros((10, 14, 3), np.float32), {"A": mask})
    assert small.relight.setInput(1, small.read("mask"))
    out = small.render()
    assert same_bits(rgb_of(out), np.where(mask[..., None] == 1, small.relit_values, small.plate_values))
    assert same_bits(out["A"], small.plate_values[..., 2])
    small.relight["mask_invert"].setValue(True)
    assert same_bits(rgb_of(small.render()), np.where(mask[..., None] == 0, small.relit_values, small.plate_values))


def test_bypass_and_disable_show_the_plate_and_need_no_relit_frame(small):
    small.build(relit=False)
    for knob in ("bypass", "disable"):
        small.relight[knob].setValue(True)
        assert same_bits(rgb_of(small.render()), small.plate_values)
        small.relight[knob].setValue(False)


def test_an_animated_strength_needs_relit_frames_only_where_it_is_above_zero(small):
    small.build(relit=False).relight["strength"].setExpression(f"frame > {FRAME}")
    assert same_bits(rgb_of(small.render()), small.plate_values)


def test_a_frame_that_was_never_relit_stops_the_render_and_says_what_to_do(small):
    small.build(relit=False)
    with pytest.raises(RuntimeError, match=r"RelightGAN1\.RG_Check: RelightGAN has no relit picture for this frame\."):
        small.render()
    assert not (small.folder / f"out.{FRAME}.exr").exists()


def test_a_relit_file_that_was_deleted_stops_the_render_and_names_the_file(small):
    small.build()
    (small.folder / f"relit.{FRAME}.exr").unlink()
    with pytest.raises(RuntimeError, match=rf"RelightGAN1\.RG_Read: .*/relit\.{FRAME}\.exr: Read error"):
        small.render()


def test_crop_to_format_cuts_the_overscan(small):
    small.build(**OVERSCAN).relight["crop_to_format"].setValue(True)
    small.write_exr("relit", small.relit_values[2:10, 3:15], {})  # what a bake of the cropped source gives
    small.render()
    assert data_window(small.folder / f"out.{FRAME}.exr") == (0, 0, 12, 8, 12, 8)


@pytest.mark.parametrize("windows", [{}, OVERSCAN])
@pytest.mark.parametrize("alpha", [True, False])
def test_the_source_is_written_for_the_bake_bit_for_bit(small, windows, alpha):
    small.plate_values[0, :8, 0] = ODD
    others = {"A": small.plate_values[..., 1]} if alpha else {}
    small.build(relit=False, others={**others, "depth.Z": small.plate_values[..., 0]}, **windows)
    source = small.folder / "bake" / f"source.{FRAME}.exr"
    small.relight["source_path"].setValue((source.parent / "source.%04d.exr").as_posix())
    inner = small.relight.node("RG_Write")
    inner["disable"].setValue(False)
    small.nuke.execute(inner, FRAME, FRAME)
    written = tiny_plates.read_exr(source)
    assert set(written) == {"R", "G", "B", *others}
    assert same_bits(rgb_of(written), small.plate_values)
    assert data_window(source) == data_window(small.folder / f"plate.{FRAME}.exr")


def test_in_proxy_mode_the_relit_frame_is_scaled_with_the_plate(small):
    small.build()
    root = small.nuke.root()
    root["proxy_type"].setValue("scale")
    root["proxy_scale"].setValue(0.5)
    root.setProxy(True)
    assert rgb_of(small.render()).shape == (5, 7, 3)


def test_a_group_made_from_the_node_shows_the_same(small):
    before = small.build(others={"A": small.plate_values[..., 0]}).render()
    group = small.relight.makeGroup()
    group.setInput(0, small.relight.input(0))
    small.relight = group
    after = small.render()
    assert set(before) == set(after)
    assert all(same_bits(before[name], after[name]) for name in before)
