"""Damaged files of a run, and configurations that are made to grow; `tests/fuzz` damages them at random."""

import os
import struct
import zipfile
from pathlib import Path

import fuzz_runs
import numpy as np
import pytest
import torch

from relightgan.core.errors import ConfigError, PhotoError, TrainingError
from relightgan.training.fit.checkpoint import read_checkpoint, restore
from relightgan.training.fit.loop import forget_after, read_metrics
from relightgan.training.photos.bank import PhotoBank
from relightgan.training.photos.index import read_index
from relightgan.training.photos.measuring import read_store
from relightgan.training.run.config import resolve
from relightgan.training.stage_cache import file_digest, read_arrays, read_notes, write_arrays

KEY = fuzz_runs.KEY


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Whole files of a run folder by name."""
    return {"fit.pt" if path.suffix == ".pt" else path.name: path for path in fuzz_runs.make_samples(tmp_path)}


LAUGHS = "a: &a [x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "seed: &s 1\ntrain: {images: *s}\n",
        "seed: " + "[" * 50_000,
        "seed: " + "{a: " * 500 + "1" + "}" * 500,
        "seed: " + "9" * 5_000,
        "seed: 0x" + "f" * 5_000,
        "seed: 2001-99-99",
        "seed: !!int ''",
        "seed: !!bool maybe",
        "seed: !!timestamp noon",
        "seed: !!python/object/apply:os.system [ls]",
        "seed: 1\nseed: 2\n",
        "seed: \0",
        "[" * 3,
        "- 1\n- 2\n",
        "",
        b"seed: \xe9\n",
        b"x: " + b"y" * (1 << 20),
    ],
)
def test_yaml_that_holds_no_settings_or_grows_is_refused_by_name(text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"run\.yaml") as caught:
        resolve({}, path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("value", ["9223372036854775808", "-1e30", ".nan", ".inf", "2001-01-01", "[1]", "1.5", "x"])
def test_what_is_no_whole_number_is_refused(value, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"seed: {value}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: seed is .* must be a whole number"):
        resolve({}, path)


def test_a_seed_of_many_digits_stays_itself(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1234567890123456789\n")
    assert resolve({}, path).seed == 1234567890123456789


def test_a_flipped_bit_of_a_weight_is_found(files):
    path = files["fit.pt"]
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = max(archive.infolist(), key=lambda each: each.file_size if "/data/" in each.filename else 0)
    content[member.header_offset + 200] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # torch doesn't notice
    with pytest.raises(TrainingError, match=rf"{path.name} can't be read: .*[Cc][Rr][Cc]|checksum"):
        read_checkpoint(path)


def test_a_packed_checkpoint_is_refused_before_it_grows(files, tmp_path):
    bomb = tmp_path / "checkpoint-000000009.pt"
    with zipfile.ZipFile(files["fit.pt"]) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(TrainingError, match=r"checkpoint-000000009\.pt can't be read: something is packed in it"):
        read_checkpoint(bomb)


@pytest.mark.parametrize(
    ("name", "value"),
    [("progress", {"images": "8"}), ("progress", {"images": -1}), ("progress", {"sums": {"loss": "x"}}), ("config", 5),
     ("networks", {}), ("networks", {"net": []}), ("optimisers", {"net": {}}), ("memory", {}), ("format", "one")],
)  # fmt: skip
def test_a_checkpoint_of_other_kinds_is_refused_by_name(name, value, files):
    path = files["fit.pt"]
    torch.save({**torch.load(path, weights_only=True), name: value}, path)
    with pytest.raises(TrainingError, match=path.name) as caught:
        restore(read_checkpoint(path), path, fuzz_runs.recipe())
    assert "\n" not in str(caught.value)


def test_arrays_that_are_packed_too_large_or_objects_are_not_believed(files, tmp_path):
    whole = {"photos": np.zeros(1 << 16)}
    path = tmp_path / "a.npz"
    write_arrays(path, KEY, whole)
    assert read_arrays(path, KEY, ["photos"]) is not None
    assert read_arrays(path, KEY, ["photos", "poses"]) is None
    np.savez_compressed(path, key=np.array(KEY), **whole)
    assert read_arrays(path, KEY, ["photos"]) is None
    np.savez(path, key=np.array(KEY), photos=np.array([{}], dtype=object))
    assert read_arrays(path, KEY, ["photos"]) is None
    for shape in ((10**12,), (10**30,), (-1,), (3, -1)):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("photos.npy", array + bytes(64))
        assert read_arrays(path, KEY, ["photos"]) is None
        path.with_suffix(".npy").write_bytes(array + bytes(64))
        with pytest.raises(PhotoError, match=r"a\.npy can't be read"):
            PhotoBank([fuzz_runs.PHOTO], [path.with_suffix(".npy")]).pixels(0)


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_prepared_photos_are_pictures(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(PhotoError, match=r"a\.npy can't be read: it holds no picture"):
        PhotoBank([fuzz_runs.PHOTO], [tmp_path / "a.npy"]).pixels(0)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"width": 640', '"width": "640"'), ('"width": 640', '"width": -1'), ('"width": 640', '"width": true'),
     ('"brightness": 0.4', '"brightness": NaN'), ('"id": "462', '"id": "../462'), ('"status": "kept"', '"status": 1'),
     ('"folders": ["/photos"]', '"folders": "/photos"'), ('"photos": [', '"photos": [5, '),
     ('"format": 1', '"format": 9'), ('"others": {', '"others": 5, "x": {'), ('"burst": 0', '"burst": ' + "9" * 5_000),
     ("{", "[" * 100_000)],
)  # fmt: skip
def test_an_index_with_values_of_another_kind_is_refused_by_name(old, new, files):
    text = files["index.json"].read_text()
    assert old in text
    files["index.json"].write_text(text.replace(old, new, 1))
    with pytest.raises(PhotoError, match=r"index\.json is (no photo index: |index format 9)") as caught:
        read_index(files["index.json"])
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("old", ['"width":640', '"signature":"', '"state":[', '"frame":null', '"files":{'])
def test_stored_measures_of_another_kind_are_measured_again(old, files):
    text = files["measures.json"].read_text()
    assert read_store(files["measures.json"])
    assert old in text
    files["measures.json"].write_text(text.replace(old, old.replace('":', '":5,"x":'), 1))
    assert read_store(files["measures.json"]) == {}


def test_a_damaged_line_of_metrics_is_named_and_one_cut_off_by_a_stop_goes(files):
    path = files["metrics.jsonl"]
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"images": 24, "lo')
    assert [line["images"] for line in read_metrics(path)] == [8, 16]
    forget_after(path.parent, 16)
    assert path.read_bytes() == whole
    forget_after(path.parent, 8)
    assert [line["images"] for line in read_metrics(path)] == [8]
    for damaged in (b"{}\n", b"\xff\n", b'{"images": "8", "losses": {}}\n', b'{"images": 8, "losses": {"a": null}}\n'):
        path.write_bytes(whole + damaged)
        with pytest.raises(TrainingError, match=r"Line 3 of .*metrics\.jsonl is damaged"):
            forget_after(path.parent, 16)


def test_what_is_no_file_is_refused_at_once(files, tmp_path):
    for path in files.values():
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(TrainingError, match="can't be read: it isn't a file"):
        read_checkpoint(files["fit.pt"])
    with pytest.raises(ConfigError, match=r"all\.yaml can't be read: it isn't a file"):
        resolve({}, files["all.yaml"])
    with pytest.raises(PhotoError, match=r"index\.json is no photo index: it isn't a file"):
        read_index(files["index.json"])
    with pytest.raises(PhotoError, match=r"photo\.npy can't be read: it isn't a file"):
        PhotoBank([fuzz_runs.PHOTO], [files["photo.npy"]]).pixels(0)
    with pytest.raises(TrainingError, match=r"metrics\.jsonl can't be read: it isn't a file"):
        read_metrics(files["metrics.jsonl"])
    assert read_arrays(files["guidance.npz"], KEY) is None
    assert read_notes(files["notes.json"]) == read_store(files["measures.json"]) == {}
    assert file_digest(files["fit.pt"]) == ""
