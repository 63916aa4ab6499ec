import base64
import dataclasses
import hashlib
import io
import json

import onnx
import pytest
import tiny_looks
from onnx import TensorProto, helper
from PIL import Image

from relightgan.core import cli
from relightgan.core.errors import LookError
from relightgan.core.look import LookFacts, facts_from_metadata, facts_to_metadata, load_look, preview_jpeg
from relightgan.core.look_metadata import FACTS_KEY, FORMAT_KEY, LOOK_FORMAT, PREVIEW_KEY

FACTS = LookFacts(
    name="Statue, dämmerung",
    direction="day to dusk",
    translator="cyclegan",
    encoding="srgb_log",
    primaries="lin_rec709",
    value_range="unit",
    size_multiple=4,
    overlap_px=96,
    config={"net": {"blocks": 6}},
    evaluation={"psnr": 31.25},
)
FOREIGN = {"encoding": "srgb_log", "value_range": "signed", "primaries": "lin_rec709", "size_multiple": "4"}


def rewritten(source, target, change):
    """A copy of a look with `change(model)` made to it."""
    model = onnx.load(source)
    change(model)
    onnx.save(model, target)
    return target


def set_metadata(model, **entries):
    kept = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    helper.set_model_props(model, {**kept, **entries})


def test_facts_come_back_from_metadata_as_they_went_in():
    assert facts_from_metadata(facts_to_metadata(FACTS), "a.onnx") == FACTS


def test_a_look_is_loaded_with_its_facts_and_the_hash_of_its_file(darken_grid_look):
    look = load_look(darken_grid_look)
    assert look.facts.operators == ("grid",)
    assert look.takes_window
    assert look.sha256 == hashlib.sha256(darken_grid_look.read_bytes()).hexdigest()
    assert look.model == darken_grid_look.read_bytes()


@pytest.mark.parametrize(("found", "fix"), [("2", "Update RelightGAN"), ("0", "Export it again"), ("x", "Export it")])
def test_an_unknown_format_is_refused_with_both_numbers(identity_look, tmp_path, found, fix):
    path = rewritten(identity_look, tmp_path / "other.onnx", lambda m: set_metadata(m, **{FORMAT_KEY: found}))
    with pytest.raises(LookError, match=f"is look format {found}; this version reads format {LOOK_FORMAT}.*{fix}"):
        load_look(path)


def test_a_fact_added_by_a_newer_version_of_the_same_format_is_passed_over():
    metadata = facts_to_metadata(FACTS)
    stated = {**json.loads(metadata[FACTS_KEY]), "mood": "sombre"}
    assert facts_from_metadata({**metadata, FACTS_KEY: json.dumps(stated)}, "a.onnx") == FACTS


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("encoding", "gamma", "one of: linear, srgb_log"),
        ("size_multiple", 0, "whole number from 1"),
        ("size_multiple", True, "whole number from 1"),
        ("overlap_px", -1, "whole number from 0"),
        ("operators", "grid", "list of output names"),
        ("config", [], "table"),
        ("name", None, "text"),
        ("value_range", "unbound", "one of: unbounded, unit, signed"),
    ],
)
def test_a_fact_that_makes_no_sense_is_named(key, value, says):
    stated = {**dataclasses.asdict(FACTS), key: value}
    with pytest.raises(LookError, match=f"fact {key} = .* of a.onnx .*{says}"):
        facts_from_metadata({FORMAT_KEY: "1", FACTS_KEY: json.dumps(stated)}, "a.onnx")


def test_facts_that_are_missing_or_unreadable_are_refused():
    stated = dataclasses.asdict(FACTS)
    del stated["encoding"]
    with pytest.raises(LookError, match="doesn't state the fact 'encoding'"):
        facts_from_metadata({FORMAT_KEY: "1", FACTS_KEY: json.dumps(stated)}, "a.onnx")
    for text in ("", "{", "[1]"):
        with pytest.raises(LookError, match=r"relightgan\.facts"):
            facts_from_metadata({FORMAT_KEY: "1", FACTS_KEY: text}, "a.onnx")


def test_operators_only_go_with_unbounded_plates_of_any_size():
    for change, says in (({"value_range": "unit"}, "unbounded"), ({"size_multiple": 8}, "multiples of 8 px")):
        facts = dataclasses.replace(FACTS, **{"operators": ("grid",), "size_multiple": 1, "value_range": "unbounded"})
        facts = dataclasses.replace(facts, **change)
        with pytest.raises(LookError, match=says):
            facts_from_metadata(facts_to_metadata(facts), "a.onnx")


def test_a_foreign_model_says_which_facts_it_needs_and_then_loads(identity_look, tmp_path):
    def strip(model):
        del model.metadata_props[:]
        model.graph.input[0].name = model.graph.node[0].input[0] = "image"
        model.graph.output[0].name = model.graph.node[0].output[0] = "styled"

    path = rewritten(identity_look, tmp_path / "paint.onnx", strip)
    with pytest.raises(LookError, match=r"wasn't exported by RelightGAN.*encoding \(linear or srgb_log\)") as caught:
        load_look(path)
    assert "overlap_px" in str(caught.value)
    with pytest.raises(LookError, match="overlap_px") as caught:
        load_look(path, FOREIGN)
    assert "encoding" not in str(caught.value)
    look = load_look(path, {**FOREIGN, "overlap_px": 16})
    assert (look.plate_name, look.relit_name) == ("image", "styled")
    assert (look.facts.name, look.facts.translator, look.facts.size_multiple) == ("paint", "foreign", 4)


def test_what_a_look_states_cannot_be_overridden(identity_look):
    assert load_look(identity_look, {"encoding": "linear", "name": None}).facts.encoding == "linear"
    with pytest.raises(LookError, match="itself says encoding = linear, not srgb_log"):
        load_look(identity_look, {"encoding": "srgb_log"})
    with pytest.raises(LookError, match="no fact 'gamma'"):
        load_look(identity_look, {"gamma": 2.2})


def test_a_missing_or_damaged_file_is_one_clear_line(conv_look, tmp_path):
    with pytest.raises(LookError, match=r"gone\.onnx can't be read: No such file"):
        load_look(tmp_path / "gone.onnx")
    with pytest.raises(LookError, match="can't be read: it isn't a file"):
        load_look(tmp_path)
    whole = conv_look.read_bytes()
    for name, content in (
        ("empty", b""),
        ("cut", whole[: len(whole) // 2]),
        ("text", b"hello, this is no model\n" * 9),
    ):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(LookError, match=f"{name}.onnx isn't a valid ONNX model") as caught:
            load_look(path)
        assert "\n" not in str(caught.value)


def test_weights_in_another_file_are_refused_wherever_we_stand(conv_look, tmp_path, monkeypatch):
    path = tmp_path / "split.onnx"
    onnx.save(onnx.load(conv_look), path, save_as_external_data=True, location="split.data", size_threshold=0)
    for folder in (tmp_path, tmp_path.parent):
        monkeypatch.chdir(folder)
        with pytest.raises(LookError, match="keeps its weights in another file"):
            load_look(path)


def test_ports_that_break_the_contract_are_named(identity_look, tmp_path):
    def fix_size(model):
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 256

    def rename_input(model):
        model.graph.input[0].name = model.graph.node[0].input[0] = "x"

    def grey(model):
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1

    def half(model):
        for port in (model.graph.input[0], model.graph.output[0]):
            port.type.tensor_type.elem_type = TensorProto.FLOAT16

    cases = (
        (fix_size, "'plate' .* fixed size"),
        (rename_input, "needs the inputs .*'x'"),
        (grey, r"\[N,3,H,W\]"),
        (half, "FLOAT16"),
    )
    for change, says in cases:
        path = rewritten(identity_look, tmp_path / f"{change.__name__}.onnx", change)
        with pytest.raises(LookError, match=says):
            load_look(path)
    with pytest.raises(LookError, match="no output 'grid'"):
        load_look(tiny_looks.identity_look(tmp_path / "no_grid.onnx", operators=("grid",)))


def test_the_command_prints_facts_for_people_and_programs(tmp_path, capsys):
    facts = {"evaluation": {"statue": {"psnr": 31.25}}, "dataset": {"hashes": list(range(40))}}
    path = tiny_looks.conv_look(tmp_path / "conv.onnx", **facts)
    assert cli.main(["look", str(path)]) == 0
    shown = capsys.readouterr().out
    for words in ("day to dusk", "statue.psnr", "31.25", "40 entries", "3 px of context", load_look(path).sha256):
        assert words in shown
    assert cli.main(["look", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["format"] == LOOK_FORMAT
    assert told["facts"]["evaluation"] == facts["evaluation"]


def jpeg_of(size=(64, 24)):
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 120, 40)).save(stream, "JPEG")
    return stream.getvalue()


def previewing(text):
    return lambda model: set_metadata(model, **{PREVIEW_KEY: text})


def test_the_command_writes_the_preview_that_a_look_carries(identity_look, tmp_path, capsys):
    jpeg = jpeg_of()
    path = rewritten(identity_look, tmp_path / "shown.onnx", previewing(base64.b64encode(jpeg).decode()))
    assert preview_jpeg(load_look(path)) == jpeg
    assert load_look(path).facts == load_look(identity_look).facts
    assert cli.main(["look", str(path), "--preview", str(tmp_path / "new" / "shown.jpg")]) == 0
    assert (tmp_path / "new" / "shown.jpg").read_bytes() == jpeg
    assert capsys.readouterr().out == ""
    assert cli.main(["look", str(path)]) == 0
    assert "--preview writes it" in capsys.readouterr().out


def test_a_look_without_preview_or_with_a_damaged_one_says_so_and_still_loads(identity_look, tmp_path, capsys):
    cases = {
        "": "carries no preview",
        "%%%": "it isn't base64",
        base64.b64encode(b"GIF89a").decode(): "it isn't a JPEG",
    }
    for number, (text, says) in enumerate(cases.items()):
        path = rewritten(identity_look, tmp_path / f"{number}.onnx", previewing(text))
        with pytest.raises(LookError, match=f"{number}.onnx {says}" if not text else f"{number}.onnx.* {says}"):
            preview_jpeg(load_look(path))
        assert cli.main(["look", str(path), "--preview", str(tmp_path / "out.jpg")]) == 1
        assert not (tmp_path / "out.jpg").exists()
    assert cli.main(["look", str(identity_look), "--preview", str(tmp_path / "out.png")]) == 2
    assert "Give --preview" in capsys.readouterr().err


def test_the_command_ends_with_one_error_line_for_what_is_no_look(tmp_path, capsys):
    assert cli.main(["look", str(tmp_path / "gone.onnx")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1


def test_a_look_that_draws_random_numbers_is_refused(tmp_path):
    """Also in a branch; a seed is of no help, as onnxruntime goes on with its numbers from run to run."""
    node = helper.make_node
    drawn = [node("RandomNormalLike", ["plate"], ["r"], seed=1.0), node("ReduceMean", ["r", "axes"], ["grid"])]
    path = tiny_looks.odd_operator_look(tmp_path / "random.onnx", predict=drawn)
    with pytest.raises(LookError, match=r"random\.onnx draws random numbers \(RandomNormalLike\)"):
        load_look(path)
    port = helper.make_empty_tensor_value_info("b")
    branch = helper.make_graph([node("Bernoulli", ["plate"], ["b"])], "branch", [], [port])
    chosen = [node("If", ["yes"], ["r"], then_branch=branch, else_branch=branch)]
    stored = [tiny_looks.const("yes", True, bool)]
    nodes = [*chosen, node("ReduceMean", ["r", "axes"], ["grid"])]
    path = tiny_looks.odd_operator_look(tmp_path / "branch.onnx", predict=nodes, stored=stored)
    with pytest.raises(LookError, match="Bernoulli"):
        load_look(path)
