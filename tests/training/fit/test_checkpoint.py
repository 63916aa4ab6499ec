import pickle
from pathlib import Path

import pytest
import small_fit as small
import torch

from relightgan.core.errors import TrainingError
from relightgan.training.fit.checkpoint import (
    FitProgress,
    check_same_run,
    newest_checkpoint,
    read_checkpoint,
    restore,
    save_checkpoint,
)


def saved(folder, images=4, keep=2) -> Path:
    return save_checkpoint(folder, small.SmallRecipe(), FitProgress(images=images), small.CONFIG, "photos", keep)


def test_a_checkpoint_holds_no_code_and_comes_back_as_it_was(tmp_path):
    recipe = small.SmallRecipe()
    recipe.running = torch.tensor([0.25])
    progress = FitProgress(images=8, seconds=1.5, fraction=0.5, previews=2, steps=1, sums={"loss": 0.5})
    path = save_checkpoint(tmp_path, recipe, progress, small.CONFIG, "photos", 2)
    other = small.SmallRecipe()
    content = read_checkpoint(path)
    assert restore(content, path, other) == progress
    assert other.running == recipe.running
    assert content["config"] == small.CONFIG
    for name, value in recipe.networks["net"].state_dict().items():
        assert torch.equal(other.networks["net"].state_dict()[name], value)


def test_only_the_newest_are_kept_and_nothing_half_written_stays(tmp_path):
    for images in (4, 8, 12, 100):
        saved(tmp_path, images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000000012.pt", "checkpoint-000000100.pt"]
    assert newest_checkpoint(tmp_path).name == "checkpoint-000000100.pt"


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path / "none") is None


def test_a_cut_off_checkpoint_is_named(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TrainingError, match=rf"{path.name} can't be read.*Delete it"):
        read_checkpoint(path)


def test_a_file_that_would_run_code_is_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "checkpoint-000000001.pt"
    torch.save({"format": 1, "trap": Trap()}, path, pickle_module=pickle)
    with pytest.raises(TrainingError, match="can't be read"):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_a_format_of_the_future_is_refused_with_both_numbers(tmp_path):
    path = tmp_path / "checkpoint-000000001.pt"
    torch.save({"format": 7}, path)
    with pytest.raises(TrainingError, match="format 7; this version reads 1"):
        read_checkpoint(path)


def test_networks_of_another_shape_are_refused(tmp_path):
    path = saved(tmp_path)
    other = small.SmallRecipe()
    other.networks["net"] = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(TrainingError, match=r"doesn't fit this version's networks"):
        restore(read_checkpoint(path), path, other)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    recipe = small.SmallRecipe()
    with torch.no_grad():
        recipe.networks["net"][0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingError, match="'net' holds values that aren't finite after 4 images"):
        save_checkpoint(tmp_path, recipe, FitProgress(images=4), small.CONFIG, "photos", 2)
    assert list(tmp_path.iterdir()) == []


def test_a_fit_of_another_config_is_refused_naming_the_key(tmp_path):
    small.small_fit(tmp_path, images=8)
    other = {**small.CONFIG, "small": {"learning_rate": 0.02}}
    with pytest.raises(TrainingError, match=r"small\.learning_rate = 0\.01; now 0\.02 is asked for"):
        small.small_fit(tmp_path, images=8, config=other)


def test_a_fit_of_other_photos_is_refused(tmp_path):
    small.small_fit(tmp_path, images=8)
    with pytest.raises(TrainingError, match="other photos or pairs"):
        small.small_fit(tmp_path, images=8, data_key="others")


def test_how_long_and_how_to_watch_may_change():
    before = {"train": {"images": 10, "previews": [0.0]}, "preset": "relight"}
    check_same_run(before, {"train": {"images": 99, "previews": []}, "preset": "cyclegan"}, "k", "k", Path("run"))


def test_a_key_that_only_one_side_has_is_a_difference():
    for before, now in (({}, {"new": {"key": 1}}), ({"new": {"key": 1}}, {})):
        with pytest.raises(TrainingError, match=r"another version, which has other settings: new\.key") as caught:
            check_same_run(before, now, None, None, Path("run"))
        assert "another --run-dir" in caught.value.fix
