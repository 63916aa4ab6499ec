"""What the simulated operators do to pixels, boxes, formats and time, rule by rule."""

import numpy as np
import pytest
import tiny_plates


@pytest.fixture
def pipe(sim, monkeypatch):
    """A node that gives a made-up picture; its frame and view can be part of the values."""

    def make(name="Made1", bbox=(0, 0, 4, 3), size=(4, 3), ring=False, error=False, **channels):
        node = sim.node("Made", name=name)
        node.pulled = []

        def picture(ctx):
            node.pulled.append((ctx.frame, ctx.view))
            if error:
                raise ctx.error("was pulled")
            shape = (bbox[3] - bbox[1], bbox[2] - bbox[0])
            values = {k: v(ctx.frame, ctx.view) if callable(v) else v for k, v in channels.items()}
            arrays = {sim_name(k): np.array(np.broadcast_to(v, shape), np.float32) for k, v in values.items()}
            return sim.images.Image(arrays, bbox, sim.images.Format(*size), ring)

        node.picture = picture
        return node

    def sim_name(short):
        return {"r": "rgba.red", "g": "rgba.green", "b": "rgba.blue", "a": "rgba.alpha", "z": "depth.Z"}[short]

    monkeypatch.setitem(sim.ops.OPS, "Made", lambda ctx: ctx.node.picture(ctx))
    return make


@pytest.fixture
def look_at(sim):
    """A node's picture at a frame."""

    def look(node, frame=1, view="main", **settings):
        return sim.ops.evaluate(node, frame, view, sim.session(**settings))

    return look


GRID = np.arange(12, dtype=np.float32).reshape(3, 4)
ODD = np.array([np.nan, np.inf, -0.0, 1e-42], np.float32)  # one row of values that arithmetic would change


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


# --- Copy, Keymix, Dissolve, mix


def test_copy_takes_as_bits_and_leaves_bs_other_channels(sim, pipe, look_at):
    b = pipe(r=1, g=2, b=3, a=GRID, z=-5)
    a = pipe("Made2", r=ODD, g=20, b=30)
    names = ("rgba.red", "rgba.green", "rgba.blue")
    copy = sim.node("Copy", b, a, **{f"{side}{i}": name for i, name in enumerate(names) for side in ("from", "to")})
    image = look_at(copy)
    assert np.array_equal(bits(image.channels["rgba.red"]), bits(np.broadcast_to(ODD, (3, 4))))
    assert (image.channels["rgba.green"] == 20).all()
    assert np.array_equal(image.channels["rgba.alpha"], GRID)
    assert (image.channels["depth.Z"] == -5).all()


def test_copy_moves_one_channel_into_another_and_whole_layers(sim, pipe, look_at):
    b, a = pipe(r=1, a=0), pipe("Made2", r=2, z=7)
    image = look_at(sim.node("Copy", b, a, from0="rgba.red", to0="rgba.alpha", channels="depth"))
    assert [image.channels[name][0, 0] for name in ("rgba.red", "rgba.alpha", "depth.Z")] == [1, 2, 7]


def test_copy_repeats_the_smaller_pictures_edges_in_the_union_of_the_boxes(sim, pipe, look_at):
    b, a = pipe(r=GRID), pipe("Made2", bbox=(1, 1, 3, 2), r=[[50, 60]])
    image = look_at(sim.node("Copy", b, a, from0="rgba.red", to0="rgba.red"))
    assert image.bbox == (0, 0, 4, 3)
    assert (image.channels["rgba.red"] == [50, 50, 60, 60]).all()
    assert look_at(sim.node("Copy", b, a, bbox="A")).bbox == (1, 1, 3, 2)


@pytest.mark.parametrize(("m", "want"), [(0, "b"), (1, "a"), (-2, "b"), (7, "a")])
def test_keymix_gives_the_bits_of_one_side_at_the_ends_whatever_is_on_the_other(sim, pipe, look_at, m, want):
    sides = {"a": ODD, "b": ODD[::-1]}
    keymix = sim.node("Keymix", pipe(r=sides["b"]), pipe("Made2", r=sides["a"]), pipe("Made3", a=m))
    assert np.array_equal(bits(look_at(keymix).channels["rgba.red"][0]), bits(sides[want]))


def test_keymix_is_the_weighted_mean_and_mix_scales_the_mask(sim, pipe, look_at):
    mask = np.float32([0, 0.25, 0.5, 1])
    b, a, m = pipe(r=8), pipe("Made2", r=4), pipe("Made3", a=mask)
    assert look_at(sim.node("Keymix", b, a, m)).channels["rgba.red"][0].tolist() == [8, 7, 6, 4]
    assert look_at(sim.node("Keymix", b, a, m, mix=0.5)).channels["rgba.red"][0].tolist() == [8, 7.5, 7, 6]
    assert look_at(sim.node("Keymix", b, a, m, invertMask=True)).channels["rgba.red"][0].tolist() == [4, 5, 6, 8]


def test_keymix_without_a_mask_is_b(sim, pipe, look_at):
    image = look_at(sim.node("Keymix", pipe(r=8), pipe("Made2", r=4), None))
    assert (image.channels["rgba.red"] == 8).all()


def test_keymix_leaves_channels_that_a_has_not(sim, pipe, look_at):
    image = look_at(sim.node("Keymix", pipe(r=8, z=3), pipe("Made2", r=4), pipe("Made3", a=1)))
    assert (image.channels["depth.Z"] == 3).all()
    image = look_at(sim.node("Keymix", pipe(r=8, z=3), pipe("Made2", r=4, z=9), pipe("Made3", a=1), channels="rgb"))
    assert (image.channels["depth.Z"][0, 0], image.channels["rgba.red"][0, 0]) == (3, 4)


def test_keymix_box_takes_in_the_masks_unless_that_is_black_outside(sim, pipe, look_at):
    b, a = pipe(r=8), pipe("Made2", r=4)
    big = {"bbox": (-5, -5, 9, 9), "a": 1}
    assert look_at(sim.node("Keymix", b, a, pipe("M", **big))).bbox == (-5, -5, 9, 9)
    assert look_at(sim.node("Keymix", b, a, pipe("M", **big, ring=True))).bbox == (0, 0, 4, 3)
    assert look_at(sim.node("Keymix", b, a, pipe("M", **big), bbox="B")).bbox == (0, 0, 4, 3)


def test_dissolve_shows_one_input_exactly_or_the_mean_of_two_neighbours(sim, pipe, look_at):
    b, a = pipe(r=ODD), pipe("Made2", r=4)
    assert np.array_equal(bits(look_at(sim.node("Dissolve", b, a)).channels["rgba.red"][0]), bits(ODD))
    assert (look_at(sim.node("Dissolve", b, a, which=1)).channels["rgba.red"] == 4).all()
    mean = look_at(sim.node("Dissolve", pipe(r=8), a, which=0.25))
    assert (mean.channels["rgba.red"] == 7).all()


def test_dissolve_at_an_end_pulls_all_inputs_or_only_that_one(sim, pipe, look_at):
    good, bad = pipe(r=1), pipe("Made2", error=True)
    with pytest.raises(sim.ops.NodeError, match="Made2: was pulled"):
        look_at(sim.node("Dissolve", good, bad, which=0))
    lazy = sim.quirks.make_quirks(dissolve_pulls_all=False)
    assert look_at(sim.node("Dissolve", good, bad, which=0), quirks=lazy).channels
    with pytest.raises(sim.ops.NodeError, match="Made2: was pulled"):
        look_at(sim.node("Dissolve", good, bad, which=0.5))


def test_mix_and_mask_of_a_grade_limit_it(sim, pipe, look_at):
    source, mask = pipe(r=2, a=5), pipe("Made2", a=np.float32([0, 0.5, 1, 1]))
    grade = sim.node("Grade", source, mask, multiply=3)
    assert look_at(grade).channels["rgba.red"][0].tolist() == [2, 4, 6, 6]
    assert (look_at(grade).channels["rgba.alpha"] == 5).all()
    half = sim.node("Grade", source, multiply=3, mix=0.5)
    assert (look_at(half).channels["rgba.red"] == 4).all()


# --- Switch, Assert, disable, groups


def test_switch_pulls_only_the_input_it_shows(sim, pipe, look_at):
    good, bad = pipe(r=1), pipe("Made2", error=True)
    assert look_at(sim.node("Switch", good, bad, which=0)).channels
    assert bad.pulled == []
    with pytest.raises(sim.ops.NodeError, match=r"^Made2: was pulled$"):
        look_at(sim.node("Switch", good, bad, which=1))


def test_assert_fails_with_its_message_and_its_name(sim, pipe, look_at):
    source = pipe(r=1)
    assert look_at(sim.node("Assert", source, expression=1)).channels
    bad = sim.node("Assert", source, name="RelightGAN1.RG_Check", expression=0, message="Not relit yet.")
    with pytest.raises(sim.ops.NodeError, match=r"^RelightGAN1\.RG_Check: Not relit yet\.$"):
        look_at(bad)


def test_a_disabled_node_gives_its_first_input(sim, pipe, look_at):
    b, a = pipe(r=1), pipe("Made2", r=2)
    for node in (
        sim.node("Copy", b, a, from0="rgba.red", to0="rgba.red", disable=True),
        sim.node("Grade", b, multiply=4, disable=True),
        sim.node("Write", b, disable=True),
        sim.node("Assert", b, expression=0, disable=True),
    ):
        assert (look_at(node).channels["rgba.red"] == 1).all(), node.kind


def test_a_group_shows_its_output_and_its_inputs_come_from_outside(sim, pipe, look_at):
    b, a = pipe(r=1), pipe("Made2", r=2)
    first, second = sim.node("Input", number=0), sim.node("Input", number=1)
    copy = sim.node("Copy", first, second, from0="rgba.red", to0="rgba.alpha")
    group = sim.group("MyGizmo", b, a, children=[second, first, copy, sim.node("Output", copy)])
    image = look_at(group)
    assert [image.channels[name][0, 0] for name in ("rgba.red", "rgba.alpha")] == [1, 2]
    group._inputs = [b]  # nothing on the second input: no channels
    assert look_at(group).channels["rgba.alpha"].tolist() == np.zeros((3, 4)).tolist()
    off = sim.group("MyGizmo", b, a, children=group._children, disable=True)
    assert "rgba.alpha" not in look_at(off).channels


def test_a_class_that_is_not_simulated_says_so(sim, pipe, look_at):
    with pytest.raises(NotImplementedError, match="Blur1: Blur: this class isn't simulated"):
        look_at(sim.node("Blur", pipe(r=1)))


def test_an_unconnected_input_is_black_in_the_roots_format(sim, look_at):
    image = look_at(sim.node("Grade", None))
    assert (image.channels, image.format) == ({}, (8, 6, 1.0))


def test_one_picture_serves_all_who_ask_in_a_pull(sim, pipe, look_at):
    source = pipe(r=1)
    node = source
    for _ in range(20):  # 2 ** 20 pulls if nothing were shared
        node = sim.node("Merge2", node, node, operation="copy")
    look_at(node)
    assert source.pulled == [(1, "main")]


# --- Merge, Premult, channels


@pytest.mark.parametrize(
    ("operation", "red"),
    [("over", 2 + 8 * 0.75), ("plus", 10), ("multiply", 16), ("copy", 2), ("max", 8), ("min", 2), ("from", 6),
     ("minus", -6), ("mask", 2), ("stencil", 6), ("in", 1), ("out", 1), ("under", 9), ("average", 5), ("difference", 6),
     ("atop", 1 + 6), ("matte", 0.5 + 6), ("screen", 8)],
)  # fmt: skip
def test_merge_follows_the_documented_formulas(sim, pipe, look_at, operation, red):
    b, a = pipe(r=8, a=0.5, z=3), pipe("Made2", r=2, a=0.25)
    image = look_at(sim.node("Merge2", b, a, operation=operation))
    assert image.channels["rgba.red"][0, 0] == red
    assert image.channels["depth.Z"][0, 0] == 3


def test_merge_keeps_bs_bits_where_the_mask_is_black(sim, pipe, look_at):
    mask = pipe("Made3", a=0)
    merge = sim.node("Merge2", pipe(r=ODD, a=1), pipe("Made2", r=2, a=1), mask)
    assert np.array_equal(bits(look_at(merge).channels["rgba.red"][0]), bits(ODD))


def test_merge_takes_several_as_after_the_mask(sim, pipe, look_at):
    merge = sim.node("Merge2", pipe(r=1), pipe("Made2", r=2), None, pipe("Made3", r=4), operation="plus")
    assert (look_at(merge).channels["rgba.red"] == 7).all()


def test_premult_and_unpremult_undo_each_other(sim, pipe, look_at):
    source = pipe(r=GRID + 1, a=0.5)
    premult = sim.node("Premult", source)
    assert np.array_equal(look_at(premult).channels["rgba.red"], (GRID + 1) / 2)
    assert np.array_equal(look_at(sim.node("Unpremult", premult)).channels["rgba.red"], GRID + 1)


def test_grade_follows_the_documented_formula_and_clamps_black_by_default(sim, pipe, look_at):
    source = pipe(r=[-1, 0, 0.5, 20], a=-3)
    assert look_at(sim.node("Grade", source)).channels["rgba.red"][0].tolist() == [0, 0, 0.5, 20]
    plain = sim.node("Grade", source, multiply=2, add=0.25, black_clamp=False)
    assert look_at(plain).channels["rgba.red"][0].tolist() == [-1.75, 0.25, 1.25, 40.25]
    assert (look_at(plain).channels["rgba.alpha"] == -3).all()
    points = sim.node("Grade", source, blackpoint=0.5, whitepoint=1.5, white=4, black=2, black_clamp=False)
    assert look_at(points).channels["rgba.red"][0].tolist() == [-1, 1, 2, 41]


def test_remove_and_add_channels(sim, pipe, look_at):
    source = pipe(r=1, g=2, b=3, a=4, z=5)
    assert set(look_at(sim.node("Remove", source, channels="depth")).channels) == set(sim.images.RGBA)
    assert set(look_at(sim.node("Remove", source, operation="keep", channels="rgb")).channels) == set(sim.images.RGB)
    added = look_at(sim.node("AddChannels", pipe(r=1), channels="alpha", color=0.5))
    assert (added.channels["rgba.alpha"] == 0.5).all()
    assert (added.channels["rgba.red"] == 1).all()


def test_shuffle_puts_channels_white_and_black_where_its_mappings_say(sim, pipe, look_at):
    steps = (
        "4 rgba.blue 0 2 rgba.red 0 0 rgba.red 1 0 rgba.green 0 1 white -1 -1 rgba.alpha 0 3 black -1 -1 depth.Z 0 0"
    )
    shuffle = sim.node("Shuffle2", pipe(r=1, b=3), pipe("Made2", r=5), mappings=steps, fromInput2="{1} A")
    channels = look_at(shuffle).channels
    assert {name: pixels[0, 0] for name, pixels in channels.items()} == {
        "rgba.red": 3, "rgba.green": 5, "rgba.blue": 3, "rgba.alpha": 1, "depth.Z": 0
    }  # fmt: skip


# --- Boxes and formats


def test_crop_with_black_outside_off_keeps_pixels_and_alpha_as_they_are(sim, pipe, look_at):
    source = pipe(bbox=(-1, -1, 3, 2), r=GRID)
    crop = sim.node("Crop", source, box=[0, 0, 4, 3], crop=False, reformat=False)
    image = look_at(crop)
    assert (image.bbox, image.black_outside, set(image.channels)) == ((0, 0, 4, 3), False, {"rgba.red"})
    # What the source has not, its edge pixels fill.
    assert image.channels["rgba.red"].tolist() == [[5, 6, 7, 7], [9, 10, 11, 11], [9, 10, 11, 11]]


def test_crop_with_black_outside_puts_black_around_and_makes_an_alpha(sim, pipe, look_at):
    image = look_at(sim.node("Crop", pipe(r=GRID + 1), box=[1, 1, 3, 2]))
    assert (image.bbox, image.black_outside) == ((0, 0, 4, 3), True)
    assert image.channels["rgba.red"].tolist() == [[0, 0, 0, 0], [0, 6, 7, 0], [0, 0, 0, 0]]
    assert image.channels["rgba.alpha"].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_crop_can_reformat_and_intersect(sim, pipe, look_at):
    image = look_at(sim.node("Crop", pipe(r=GRID), box=[1, 1, 4, 3], crop=False, reformat=True))
    assert (image.bbox, image.format[:2]) == ((0, 0, 3, 2), (3, 2))
    assert image.channels["rgba.red"].tolist() == [[5, 6, 7], [9, 10, 11]]
    image = look_at(sim.node("Crop", pipe(r=GRID), box=[-9, 1, 90, 90], crop=False, intersect=True))
    assert image.bbox == (0, 1, 4, 3)


def test_the_pixel_around_a_black_outside_pipe_is_not_written(sim, pipe, tmp_path):
    crop = sim.node("Crop", pipe(r=GRID + 1, a=1), box=[1, 0, 3, 2])
    write = sim.node("Write", crop, file=str(tmp_path / "a.exr"), raw=True, datatype="32 bit float")
    sim.ops.write_frame(write, 1, "main", sim.session())
    assert tiny_plates.read_exr(tmp_path / "a.exr")["R"].tolist() == [[6, 7], [2, 3]]


def test_transform_moves_by_whole_pixels_and_refuses_the_rest(sim, pipe, look_at):
    image = look_at(sim.node("Transform", pipe(r=GRID), translate=[2, -1]))
    assert (image.bbox, image.format[:2]) == ((2, -1, 6, 2), (4, 3))
    assert np.array_equal(image.channels["rgba.red"], GRID)
    for knobs in ({"translate": [0.5, 0]}, {"rotate": 3}, {"scale": 2}):
        with pytest.raises(NotImplementedError, match="Transform1"):
            look_at(sim.node("Transform", pipe(r=GRID), **knobs))


def test_reformat_changes_the_format_and_cuts_what_lies_outside(sim, pipe, look_at):
    node = sim.node("Reformat", pipe(r=GRID), format=(2, 3, 1.0), resize="none")
    image = look_at(node)
    assert (image.bbox, image.format[:2]) == ((0, 0, 2, 3), (2, 3))
    assert image.channels["rgba.red"][0].tolist() == [1, 2]
    assert look_at(sim.node("Reformat", pipe(r=GRID), format=(2, 3, 1.0), resize="none", pbb=True)).bbox == (
        -1,
        0,
        3,
        3,
    )
    double = look_at(sim.node("Reformat", pipe(r=GRID), format=(8, 6, 1.0)))
    assert double.channels["rgba.red"][:2, :4].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]


def test_bbox_nodes_change_only_the_box(sim, pipe, look_at):
    source = pipe(r=GRID)
    grown = look_at(sim.node("AdjBBox", source, numpixels=1))
    assert (grown.bbox, grown.channels["rgba.red"][0].tolist()) == ((-1, -1, 5, 4), [0, 0, 1, 2, 3, 3])
    ringed = look_at(sim.node("BlackOutside", source))
    assert (ringed.bbox, ringed.channels["rgba.red"][0].any()) == ((-1, -1, 5, 4), False)
    assert look_at(sim.node("CopyBBox", source, pipe("Made2", bbox=(1, 1, 2, 2), r=0))).bbox == (1, 1, 2, 2)


def test_spatial_knobs_are_scaled_in_proxy_mode(sim, pipe, look_at):
    image = look_at(sim.node("Crop", pipe(r=GRID), box=[0, 0, 4, 2], crop=False), proxy_scale=0.5)
    assert image.bbox == (0, 0, 2, 1)
    constant = sim.node("Constant", color=[1, 2, 3, 4], channels="rgba", format=(8, 6, 1.0))
    assert look_at(constant, proxy_scale=0.5).bbox == (0, 0, 4, 3)


# --- Time and views


def test_time_nodes_pull_other_frames(sim, pipe, look_at):
    source = pipe(r=lambda frame, view: frame)

    def shown(node, frame):
        return look_at(node, frame).channels["rgba.red"][0, 0]

    assert shown(sim.node("TimeOffset", source, time_offset=10), 15) == 5
    assert shown(sim.node("FrameHold", source, first_frame=7), 15) == 7
    assert [shown(sim.node("FrameHold", source, first_frame=1, increment=5), f) for f in (1, 5, 6, 0)] == [1, 1, 6, -4]
    warp = sim.node("TimeWarp", source, lookup=lambda frame, view: frame * 2)
    assert shown(warp, 4) == 8
    assert shown(sim.node("Retime", source, speed=2.0, filter="none", **{"input.first": 1, "output.first": 1}), 3) == 5


def test_frames_between_frames_are_refused_where_nuke_would_mix_them(sim, pipe, look_at):
    warp = sim.node("TimeWarp", pipe(r=1), lookup=2.5, filter="linear")
    with pytest.raises(NotImplementedError, match="mixing frames"):
        look_at(warp)


def test_one_view_and_join_views_choose_the_eye(sim, pipe, look_at):
    source = pipe(r=lambda frame, view: {"left": 1, "right": 2}[view])
    views = ("left", "right")
    one = sim.node("OneView", source, view="right")
    assert look_at(one, view="left", views=views).channels["rgba.red"][0, 0] == 2
    join = sim.node("JoinViews", pipe(r=5), pipe("Made2", r=6))
    assert [look_at(join, view=v, views=views).channels["rgba.red"][0, 0] for v in views] == [5, 6]


def test_frame_ranges_come_from_reads_and_pass_through_time_nodes(sim):
    session = sim.session(root_range=(1, 100))
    read = sim.node("Read", first=1001, last=1010)
    late = sim.node("TimeOffset", read, time_offset=5)
    assert sim.ops.frame_range(sim.node("Grade", read), session) == (1001, 1010)
    assert sim.ops.frame_range(late, session) == (1006, 1015)
    assert sim.ops.frame_range(sim.node("Merge2", read, late), session) == (1001, 1015)
    assert sim.ops.frame_range(sim.node("Constant"), session) == (1, 100)
    assert sim.ops.frame_range(sim.node("NoOp", None), session) == (1, 100)
    nothing = sim.node("Input", number=0)
    lone = sim.group("Group", children=[nothing, sim.node("Output", nothing)])
    assert sim.ops.frame_range(sim.node("Merge2", read, lone), session) == (1001, 1010)
    deep = read
    for _ in range(30):
        deep = sim.node("Merge2", deep, deep)
    assert sim.ops.frame_range(deep, session) == (1001, 1010)
    shifted = sim.node("Read", first=1, last=10, frame_mode="start at", frame="1001")
    assert sim.ops.frame_range(shifted, session) == (1001, 1010)
    inside = sim.node("Input", number=0)
    group = sim.group("Group", read, children=[inside, sim.node("Output", inside)])
    assert sim.ops.frame_range(group, session) == (1001, 1010)
