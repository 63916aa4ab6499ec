import base64
import dataclasses
import json

import hostile_looks
import onnx
import pytest
import tiny_looks

from relightgan.core.errors import LookError
from relightgan.core.look import LookFacts, load_look
from relightgan.core.look_metadata import FACTS_KEY, FORMAT_KEY
from relightgan.core.onnx_scan import scan_model
from relightgan.nuke_plugin import looks

DATASET = {
    "source": {"kept": 110, "found": 120, "folders": ["cloudy"]},
    "target": {"kept": 98, "found": 98, "folders": ["sunny", "sunny_evening"]},
    "pairs": 300,
}


def rewritten(source, path, **metadata):
    """The look with other metadata, written by the onnx package."""
    model = onnx.load(source)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    wanted = {key: value for key, value in {**kept, **metadata}.items() if value is not None}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, wanted)
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize("name", ["identity_look", "darken_grid_look", "conv_look", "strided_conv_look"])
def test_metadata_is_what_the_onnx_package_reads(name, request):
    path = request.getfixturevalue(name)
    expected = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert looks.read_metadata(str(path)) == expected
    assert looks.look_facts(str(path))["name"] == load_look(path).facts.name


def test_the_hash_is_the_one_the_worker_checks(conv_look):
    assert looks.look_sha256(str(conv_look)) == load_look(conv_look).sha256


def test_every_fact_of_the_contract_is_checked_before_it_is_shown():
    assert set(looks.CHECKED) == {fact.name for fact in dataclasses.fields(LookFacts)}


def test_a_look_whose_weights_are_large_is_read_without_them(
    tmp_path,
):
    path = tiny_looks.identity_look(tmp_path / "look.onnx")
    model = onnx.load(path)
    model.doc_string = "x" * 5_000_000
    model.graph.initializer.append(tiny_looks.const("unused", [0.5] * 2_000_000))
    onnx.save(model, path)
    read = []

    class Counting:
        def __init__(self, file):
            self.file = file

        def read(self, count):
            read.append(count)
            return self.file.read(count)

        def __getattr__(self, name):
            return getattr(self.file, name)

    with path.open("rb") as file:
        assert FACTS_KEY in scan_model(Counting(file), path.stat().st_size, looks.KEYS)
    assert sum(read) < 2000


def test_a_replaced_look_is_read_anew(
    tmp_path,
    identity_look,
):
    path = tmp_path / "look.onnx"
    tiny_looks.identity_look(path, name="first")
    before = looks.look_sha256(str(path))
    assert looks.look_facts(str(path))["name"] == "first"
    tiny_looks.identity_look(path, name="the second")
    assert looks.look_facts(str(path))["name"] == "the second"
    assert looks.look_sha256(str(path)) != before


def test_info_names_light_photos_date_and_licence(
    tmp_path,
):
    path = tiny_looks.identity_look(tmp_path / "look.onnx", dataset=DATASET, created="2026-11-02T10:11:12+00:00")
    assert looks.look_info(str(path)).splitlines() == [
        "tiny: day to dusk",
        "Trained on 110 photos (cloudy) and 98 photos (sunny, sunny_evening)",
        "Made 2026-11-02, Apache-2.0",
    ]


@pytest.mark.parametrize(
    ("direction", "shown"), [("ab", "cloudy to sunny, sunny_evening"), ("ba", "sunny, sunny_evening to cloudy")]
)
def test_a_fit_in_both_directions_is_shown_by_its_folders(tmp_path, direction, shown):
    path = tiny_looks.identity_look(tmp_path / "look.onnx", dataset=DATASET, direction=direction)
    assert looks.look_info(str(path)).splitlines()[0] == f"tiny: {shown}"


def test_info_leaves_out_what_the_look_does_not_say(
    tmp_path,
):
    path = tiny_looks.identity_look(tmp_path / "look.onnx", created="", licence="", dataset={"source": "?", "pairs": 3})
    assert looks.look_info(str(path)) == "tiny: day to dusk"


def test_the_preview_comes_as_the_bytes_of_its_picture(tmp_path, identity_look):
    assert looks.look_preview(str(identity_look)) is None
    jpeg = hostile_looks.jpeg(64, 32)
    path = rewritten(identity_look, tmp_path / "a.onnx", **{"relightgan.preview": base64.b64encode(jpeg).decode()})
    assert looks.look_preview(path) == jpeg
    broken = rewritten(identity_look, tmp_path / "b.onnx", **{"relightgan.preview": "not base64!"})
    assert looks.look_preview(broken) is None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LookError, match=r"nothing\.onnx can't be read: No such file"):
        looks.look_info(str(tmp_path / "nothing.onnx"))


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is no model\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(99), b"\xff" * 99]
)
def test_a_file_that_is_no_onnx_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "wrong.onnx"
    path.write_bytes(content)
    with pytest.raises(LookError, match=r"wrong\.onnx isn't a whole ONNX file"):
        looks.look_info(str(path))


def test_a_look_that_was_cut_short_anywhere_is_never_read_as_whole(
    tmp_path,
):
    whole = tiny_looks.identity_look(tmp_path / "whole.onnx", dataset=DATASET).read_bytes()
    expected = looks.read_metadata(str(tmp_path / "whole.onnx"))
    for length in range(len(whole)):
        path = tmp_path / f"{length}.onnx"
        path.write_bytes(whole[:length])
        try:
            facts = looks.look_facts(str(path))
        except LookError:
            continue
        # Only what comes after the metadata may be lost; core/look.py refuses that when the look is loaded.
        assert facts == json.loads(expected[FACTS_KEY])


def test_onnx_of_somebody_else_and_looks_of_other_formats_are_told_apart(tmp_path, identity_look):
    foreign = rewritten(identity_look, tmp_path / "foreign.onnx", **{FORMAT_KEY: None, FACTS_KEY: None})
    with pytest.raises(LookError, match="not a RelightGAN look"):
        looks.look_info(foreign)
    newer = rewritten(identity_look, tmp_path / "newer.onnx", **{FORMAT_KEY: "2"})
    with pytest.raises(LookError, match=r"look format 2; this version reads format 1\. Update"):
        looks.look_info(newer)
    garbled = rewritten(identity_look, tmp_path / "garbled.onnx", **{FACTS_KEY: "{"})
    with pytest.raises(LookError, match="can't be read"):
        looks.look_info(garbled)


@pytest.mark.parametrize("name", ["sunset.onnx", "sunset_back.onnx"])
def test_the_report_is_found_in_the_run_folder_beside_the_look(tmp_path, name):
    look = str(tmp_path / name)
    assert looks.report_of(look) is None
    report = tmp_path / "sunset_run" / "report.html"
    report.parent.mkdir()
    report.touch()
    assert looks.report_of(look) == report


def test_a_report_right_beside_the_look_is_found(tmp_path):
    (tmp_path / "report.html").touch()
    assert looks.report_of(str(tmp_path / "look.onnx")) == tmp_path / "report.html"
    assert looks.usual_report(str(tmp_path / "look.onnx")) == tmp_path / "look_run" / "report.html"
