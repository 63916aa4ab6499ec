"""For `fuzzing`: the files of a run folder. Damaged ones are refused, or made anew where a stage keeps them for speed.

What is read in spite of damage is what was written: checkpoints and arrays have checksums.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import small_fit
import torch

from relightgan.training.fit.checkpoint import FitProgress, check_same_run, read_checkpoint, restore, save_checkpoint
from relightgan.training.fit.loop import read_metrics, write_metrics
from relightgan.training.photos import index as photo_index
from relightgan.training.photos.bank import PhotoBank
from relightgan.training.photos.index import Photo, PhotoIndex, PhotoSettings, read_index, write_index
from relightgan.training.photos.measuring import measured_of, read_store, write_store
from relightgan.training.run.config import resolve, resolved_yaml
from relightgan.training.stage_cache import read_arrays, read_notes, write_arrays, write_notes

KEY = "a" * 32
PROGRESS = FitProgress(8, 1.5, 0.5)
ARRAYS = {
    "registration.npz": {"photos": np.arange(3), "poses": np.ones((3, 3, 4)), "apart": np.array(False)},
    "guidance.npz": {"colour": np.ones((2, 4, 5, 3), np.float16), "weight": np.ones((2, 4, 5), np.float16)},
    "empty.npz": {"photos": np.zeros(0), "apart": np.array(True)},
}
NOTES = {"key": KEY, "before_fit_s": 1.5, "looks": {"a.onnx": {"sha256": "0", "difference": 1e-6}}}
SOME_SETTINGS = """preset: relight
seed: 7
photos: {movie_frames: 5, blur_ratio: 1.5}
train:
  images: 400
  max_minutes: null
"""
SUMS: dict[str, dict[str, int]] = {}  # sample -> member -> checksum
PICTURE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
PHOTO = Photo(
    "462ba26789183b93", Path("/photos/é 1.jpg"), None, 640, 480, "2024-05-01T10:20:30", 35.0, 0.8, 0.4, "kept", "", 0,
    "train", "sRGB (assumed)",
)  # fmt: skip


def make_samples(folder: Path) -> list[Path]:
    """A file of every kind that a run folder holds, and a configuration."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    checkpoint = save_checkpoint(folder, recipe(), PROGRESS, small_fit.CONFIG, "photos", 1)
    (folder / "all.yaml").write_text(resolved_yaml(resolve({})), encoding="utf-8")
    (folder / "some.yaml").write_text(SOME_SETTINGS)
    for name, arrays in ARRAYS.items():
        write_arrays(folder / name, KEY, arrays)
    write_notes(folder / "notes.json", NOTES)
    movie = Photo(**{**vars(PHOTO), "frame": 3, "id": "462ba26789183b93f000003", "focal_35mm": None})
    write_index(PhotoIndex((Path("/photos"),), (PHOTO, movie), {".txt": 2}), PhotoSettings(), folder / "index.json")
    write_store(folder / "measures.json", {"/photos/1.jpg": stored_entry()})
    np.save(folder / "photo.npy", PICTURE)
    write_metrics(folder / "metrics.jsonl", FitProgress(8, 1.5, 0.5, 0, 2, {"loss": 0.5, "gain": 0.25}), 4.0)
    write_metrics(folder / "metrics.jsonl", FitProgress(16, 3.0, 1.0, 0, 2, {"loss": 0.25}), 4.0)
    rest = ("notes.json", "index.json", "measures.json", "photo.npy", "metrics.jsonl")
    names = (checkpoint.name, "all.yaml", "some.yaml", *ARRAYS, *rest)
    SUMS.update({name: sums_in(folder / name) for name in (checkpoint.name, *ARRAYS)})
    return [folder / name for name in names]


def recipe() -> small_fit.SmallRecipe:
    return small_fit.SmallRecipe()


def stored_entry() -> dict:
    measures = {"blur_px": 0.5, "brightness": 0.4, "clipped": 0.0, "dark": 0.1, "spread": 0.8, "signature": "0" * 880}
    return {
        "state": [1000, 1],
        "pictures": [
            {
                "frame": None, "digest": "462ba26789183b93", "width": 640, "height": 480, "profile": "sRGB",
                "taken": None, "focal_35mm": None, "exposure": None, "camera": "", "problem": "", "measures": measures,
            }
        ],
    }  # fmt: skip


def read(path: Path, sample: str) -> None:
    """Reads a file as the run does that goes on."""
    if sample.endswith(".pt"):
        read_fit(path, sample)
    elif sample.endswith(".yaml"):
        config = resolve({}, path)
        assert resolve({}).__class__ is config.__class__
        assert json.dumps(resolved_yaml(config))
    elif sample.endswith(".npz"):
        found = read_arrays(path, KEY, ARRAYS[sample])
        assert found is None or found.keys() >= ARRAYS[sample].keys()
        if found is not None and sums_in(path) == SUMS[sample]:
            assert all(np.array_equal(found[name], values) for name, values in ARRAYS[sample].items())
    elif sample == "notes.json":
        assert isinstance(read_notes(path), dict)
    elif sample == "index.json":
        index = read_index(path)
        assert index.kept() is not None
        for photo in index.photos:
            assert photo.name.isprintable()
        write_index(index, PhotoSettings(), path.with_name(f"again_{path.name}"))
    elif sample == "measures.json":
        for name, entry in read_store(path).items():
            assert photo_index.judge(measured_of(Path(name), entry), PhotoSettings()) is not None
    elif sample == "photo.npy":
        pixels = PhotoBank([PHOTO], [path]).pixels(0)
        assert pixels.nbytes in (PICTURE.nbytes, 2 * PICTURE.nbytes)
        assert np.asarray(pixels).shape[2] == 3
    else:
        assert all(line["images"] >= -(2**63) for line in read_metrics(path))


def read_fit(path: Path, sample: str) -> None:
    content = read_checkpoint(path)
    fresh = recipe()
    progress = restore(content, path, fresh)
    check_same_run(content["config"], content["config"], content["data_key"], content["data_key"], path)
    if sums_in(path) == SUMS[sample]:
        torch.manual_seed(0)
        wanted = recipe().networks["net"].state_dict()
        assert progress == PROGRESS
        assert all(torch.equal(value, wanted[name]) for name, value in fresh.networks["net"].state_dict().items())


def sums_in(path: Path) -> dict[str, int]:
    """The checksums in a zip file; other ones than the sample's were made to fit."""
    with zipfile.ZipFile(path) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}
