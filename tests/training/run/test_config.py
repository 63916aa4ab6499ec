import argparse
import dataclasses
from typing import Literal

import pytest
import yaml

from relightgan.core.errors import ConfigError
from relightgan.training.run.config import RunConfig, read_yaml, resolve, resolved, resolved_yaml
from relightgan.training.run.recipes import PRESETS
from relightgan.training.settings import (
    add_options,
    convert,
    differences,
    fields_of,
    flatten,
    from_dict,
    given_options,
    merge,
    nest,
    to_dict,
    to_yaml,
)


@dataclasses.dataclass(frozen=True)
class Lens:
    """An inner section."""

    focal_mm: float = 35.0
    "Focal length, in mm."
    stops: tuple[float, ...] = (1.4, 2.8)  # apertures, # of them two
    # The kind of glass,
    # in a word.
    glass: Literal["clear", "tinted"] = "clear"


@dataclasses.dataclass(frozen=True)
class Camera:
    """A settings class with one field of each kind."""

    lens: Lens = dataclasses.field(default_factory=Lens)
    frames: int = 24  # per second
    size: tuple[int, int] = (640, 480)
    limit: float | None = None
    raw: bool = False
    name: str = "A"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ConfigError(f"frames is {self.frames}.", "Give 1 or more.")


def parsed(*words, short=None):
    parser = argparse.ArgumentParser()
    add_options(parser, Camera, short or {})
    return given_options(parser.parse_args(words), Camera)


def test_settings_survive_yaml_and_back():
    camera = Camera(Lens(50.0, (2.0,), "tinted"), 25, (2048, 858), 1e-5, True, "B: cam")
    assert from_dict(Camera, yaml.safe_load(to_yaml(camera)), "there") == camera
    assert from_dict(Camera, to_dict(camera), "there") == camera
    assert from_dict(Camera, yaml.safe_load(to_yaml(Camera())), "there") == Camera()


def test_every_field_is_an_option_and_only_given_ones_are_told():
    given = parsed(
        "--lens.focal-mm", "50", "--lens.stops", "2,4,5.6", "--size", "10,20", "--limit", "none", "--raw", "yes"
    )
    assert given == {
        "lens": {"focal_mm": 50.0, "stops": [2.0, 4.0, 5.6]},
        "size": [10, 20],
        "limit": None,
        "raw": True,
    }
    assert parsed() == {}
    assert {field.key for field in fields_of(Camera)} == set(flatten(to_dict(Camera())))


def test_an_option_may_be_written_with_underscores_or_by_a_short_name():
    assert parsed("--lens.focal_mm", "50") == {"lens": {"focal_mm": 50.0}}
    assert parsed("--focal", "50", short={"lens.focal_mm": "--focal"}) == {"lens": {"focal_mm": 50.0}}


@pytest.mark.parametrize(
    ("key", "explanation"),
    [
        ("lens.focal_mm", "Focal length, in mm."),
        ("lens.stops", "apertures, # of them two"),
        ("lens.glass", "The kind of glass, in a word."),
        ("frames", "per second"),
        ("size", ""),
    ],
)
def test_the_explanation_beside_a_field_is_its_help_and_its_yaml_comment(key, explanation):
    assert {field.key: field.help for field in fields_of(Camera)}[key] == explanation
    if explanation:
        assert f"# {explanation}\n" in to_yaml(Camera())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--frames", "2.5"], "'2.5' is not a whole number"),
        (["--frames", "many"], "'many' is not a whole number"),
        (["--lens.glass", "green"], "'green' is not one of clear, tinted"),
        (["--raw", "perhaps"], "'perhaps' is not true or false"),
        (["--size", "1,2,3"], "'1,2,3' is not 2 values"),
        (["--limit", "nan"], "'nan' is not a number"),
    ],
)
def test_a_wrong_value_on_the_command_line_is_a_usage_error(words, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed(*words)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_an_unknown_key_is_named_with_the_nearest_known_one():
    with pytest.raises(
        ConfigError, match=r"run\.yaml: there is no setting 'lens\.focal'\. Did you mean 'lens\.focal_mm'"
    ):
        from_dict(Camera, {"lens": {"focal": 3}}, "run.yaml")
    with pytest.raises(ConfigError, match=r"no setting 'zzz'\. Known here: lens, frames"):
        from_dict(Camera, {"zzz": 3}, "run.yaml")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"frames": "24.5"}, "frames is '24.5', but it must be a whole number"),
        ({"frames": True}, "frames is True"),
        ({"lens": 5}, "'lens' must hold settings"),
        ({"raw": 1}, "raw is 1, but it must be true or false"),
        ({"name": 5}, "name is 5, but it must be a word"),
        ({"frames": 0}, "run.yaml: frames is 0. Give 1 or more."),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_key(values, complaint):
    with pytest.raises(ConfigError) as refused:
        from_dict(Camera, values, "run.yaml")
    assert complaint in str(refused.value)


def test_yaml_writes_some_numbers_as_words_and_they_are_numbers_all_the_same():
    assert yaml.safe_load("x: 1e5") == {"x": "1e5"}
    assert convert("1e5", int) == 100_000
    assert convert(3, float) == 3.0


def test_layers_lie_over_each_other_section_by_section():
    assert merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}}, {"b": 2}) == {"a": {"x": 1, "y": 3}, "b": 2}
    assert nest(flatten({"a": {"x": 1}, "b": 2})) == {"a": {"x": 1}, "b": 2}
    assert differences({"a": {"x": 1}, "b": 2}, {"a": {"x": 5}, "c": 3}) == [
        ("a.x", 1, 5), ("b", 2, None), ("c", None, 3),
    ]  # fmt: skip


# The run configuration


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves_and_its_yaml_gives_it_back(preset, tmp_path):
    config = resolve({"preset": preset})
    path = tmp_path / "run.yaml"
    path.write_text(resolved_yaml(config))
    assert resolve({}, path) == config
    assert yaml.safe_load(path.read_text()) == resolved(config)


def test_every_setting_explains_itself():
    assert [field.key for field in fields_of(RunConfig) if not field.help] == []


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("preset: cyclegan-small\ncyclegan: {size_px: 96}\ntrain: {images: 5000}\n")
    config = resolve({"train": {"images": 70}}, path)
    assert config.preset == "cyclegan-small"
    assert config.cyclegan.base_filters == PRESETS["cyclegan-small"]["cyclegan"]["base_filters"]
    assert config.cyclegan.size_px == 96
    assert config.train.images == 70


def test_only_the_fitted_translator_is_in_the_resolved_configuration():
    assert "cyclegan" not in resolved(resolve({}))
    assert "relight" not in resolved(resolve({"preset": "cyclegan"}))


def test_settings_without_effect_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="the command line has settings of 'cyclegan', but the translator is 'relight'"
    ):
        resolve({"cyclegan": {"blocks": 3}})
    path = tmp_path / "run.yaml"
    path.write_text("preset: cyclegan\nrelight: {batch_size: 2}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml has settings of 'relight'"):
        resolve({}, path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("trian: {images: 3}\n", r"run\.yaml: there is no setting 'trian'\. Did you mean 'train'"),
        ("train: {imagse: 3}\n", r"run\.yaml: there is no setting 'train\.imagse'\. Did you mean 'train\.images'"),
        ("preset: relit\n", "There is no preset 'relit'. Choose one of: relight, "),
        ("seed: 1\n  photos: [\n", r"run\.yaml, line \d is not YAML"),
        ("- seed\n", r"run\.yaml holds no settings"),
        ("", r"run\.yaml holds no settings"),
        ("train: {images: 0}\n", r"run\.yaml, train: images is 0"),
        ("pairing: {backbone: resnet}\n", r"run\.yaml, pairing: There is no backbone 'resnet'\. Choose one of"),
        ("photos: {val_share: 2}\n", r"run\.yaml, photos: val_share is 2.0\. Give a value from 0 to 1"),
        ("photos: {val_share: 0.5, test_share: 0.5}\n", r"no photo would be left to train on"),
        ("photos: {movie_frames: 0}\n", r"run\.yaml, photos: movie_frames is 0"),
    ],
)
def test_a_faulty_file_is_named_with_what_is_wrong_in_it(text, complaint, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        resolve({}, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml can't be read"):
        read_yaml(tmp_path / "gone.yaml")
