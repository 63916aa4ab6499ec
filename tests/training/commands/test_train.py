import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import painted_set
import pytest
from PIL import Image

from relightgan.core.cli import main
from relightgan.core.look import load_look, preview_jpeg
from relightgan.training.commands.train import make_parser
from relightgan.training.fit.loop import read_metrics
from relightgan.training.fit.preview import LOOK_PREVIEW_BYTES
from relightgan.training.run.dataset import make_dataset
from relightgan.training.run.report import run_sections
from relightgan.training.run.train import only_run_in, seconds_for_fit
from relightgan.training.run_log import RunLog
from relightgan.training.stage_cache import read_notes

pytestmark = pytest.mark.fits

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 300.0  # no step here takes so long, on however slow and busy a machine
SMALL = {
    "relight": [
        "--relight.net.proxy-px", "64", "--relight.net.depth", "4", "--relight.net.width", "4",
        "--relight.batch-size", "2",
    ],
    "cyclegan": [
        "--preset", "cyclegan", "--cyclegan.base-filters", "4", "--cyclegan.blocks", "1", "--cyclegan.critic-filters",
        "4", "--cyclegan.batch-size", "1", "--cyclegan.size-px", "32",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def dumps(tmp_path_factory):
    """Two folders of photos of one set, with one broken file."""
    folder = tmp_path_factory.mktemp("dumps")
    for name, bank in zip(("day1", "day2"), painted_set.painted_days(count=10)[:2], strict=True):
        (folder / name).mkdir()
        for number, photo in enumerate(bank.photos):
            pixels = np.round(photo.clip(0, 1) * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:04d}.jpg", quality=95)
    (folder / "day1" / "0003b.jpg").write_bytes(b"not a picture at all")
    return folder


def words(dumps, out, *more, translator="relight", images=24):
    return [
        "train", "--source", str(dumps / "day1"), "--target", str(dumps / "day2"), "--out", str(out), "--device", "cpu",
        "--progress", "none", "--train.images", str(images), "--train.log-images", "4", "--photo-px", "240",
        *SMALL[translator], *more,
    ]  # fmt: skip


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(dumps, tmp_path_factory):
    """A finished run of the flagship."""
    folder = tmp_path_factory.mktemp("run")
    command = words(dumps, folder / "sunny.onnx")
    assert main(command) == 0
    return SimpleNamespace(folder=folder, look=folder / "sunny.onnx", run_dir=folder / "sunny_run", command=command)


def test_two_folders_go_in_and_a_look_comes_out_that_says_what_it_is(run, dumps):
    look = load_look(run.look)
    assert look.facts.name == "sunny"
    assert look.facts.translator == "relight"
    assert look.facts.operators == ("grid", "anchor", "doubt", "guide", "white", "rolloff")
    assert look.facts.config["relight"]["batch_size"] == 2
    assert look.facts.config["train"]["images"] == 24
    assert "cyclegan" not in look.facts.config
    assert look.facts.dataset["source"]["folders"] == ["day1"]
    assert look.facts.dataset["source"]["found"] == 11
    assert len(look.facts.dataset["target"]["training_photos"]) == 8
    assert str(dumps) not in str(look.facts)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(look.model, options)
    plate = np.full((1, 3, 30, 50), 0.4, np.float32)
    assert session.run(["relit"], {"plate": plate})[0].shape == plate.shape


def test_a_look_carries_a_small_picture_of_what_it_does(run, dumps):
    jpeg = preview_jpeg(load_look(run.look))
    assert len(jpeg) <= LOOK_PREVIEW_BYTES
    before, after = np.split(np.asarray(Image.open(io.BytesIO(jpeg)), np.float32) / 255, 2, axis=1)
    height, width = before.shape[:2]
    assert width == 240  # --photo-px

    def difference(path):
        return np.abs(before - np.asarray(Image.open(path).resize((width, height)), np.float32) / 255).mean()

    assert min(difference(path) for path in (dumps / "day1").glob("????.jpg")) < 0.03
    assert np.abs(after - before).mean() > 0.0005  # little: 24 images teach next to nothing


def test_a_run_leaves_files_that_can_be_looked_at(run):
    for name in (
        "config.yaml", "log.txt", "metrics.jsonl", "report.html", "pairs/pairs.jpg", "photos/source/index.json",
        "photos/target/contact_sheet.jpg", "previews/preview-ab-000000024.jpg", "checkpoints/checkpoint-000000024.pt",
    ):  # fmt: skip
        assert (run.run_dir / name).stat().st_size > 0, name
    lines = read_metrics(run.run_dir / "metrics.jsonl")
    assert [line["images"] for line in lines if "measured" in line["losses"]] == list(range(4, 25, 4))
    assert not [path for path in run.folder.rglob("*") if path.suffix in (".tmp", ".part") or ".part" in path.name]


def test_the_report_tells_what_was_trained_on_and_how_to_use_it(run):
    report = (run.run_dir / "report.html").read_text()
    for expected in (
        "day1",
        "day2",
        "unreadable",
        "0003b.jpg",
        f"relightgan infer {run.look}",
        "The fit learned from the gains of ",
        "proxy_px: 64",
        "torch",
    ):
        assert expected in report, expected
    assert report.count("data:image/jpeg;base64,") >= 5
    titles = [section.title for section in run_sections(run.run_dir) if section.blocks]
    assert titles == ["Verdict", "How it looks", "How to use it", "Photos", "Pairs", "Learning", "Settings"]


def test_a_starved_look_says_so_everywhere_and_gets_no_contrast_either(run, capsys):
    evaluation = load_look(run.look).facts.evaluation
    stated = evaluation["verdict"]
    assert stated["kind"] == "under-fitted"
    assert stated["known_by"] == "patches"
    assert stated["look_stops"] > 0.6 * stated["transfer_stops"]
    assert stated["unseen"]
    assert "24 of about 10,000 images: go on with the same command and `--train.images 10000`." in stated["advice"]
    assert evaluation["detail"] == 0
    last = (run.run_dir / "log.txt").read_text().splitlines()[-1]
    assert f"Verdict on sunny.onnx: under-fitted: {stated['words']}. {stated['advice']}" in last
    report = (run.run_dir / "report.html").read_text()
    assert report.index('class="banner red"') < report.index("How it looks</h2>")
    assert "What to do next: 24 of about 10,000 images" in report
    assert "held-out photos" in {
        name for line in read_metrics(run.run_dir / "metrics.jsonl") for name in line["losses"]
    }


def test_the_same_command_again_finds_everything_done(run, capsys):
    ours = {"timing.json", "metrics.jsonl", "checkpoints", "pairs", "prepared", "previews", "held_out"}
    before = files_of(run.folder)
    assert main(run.command) == 0
    after = files_of(run.folder)
    assert before.keys() == after.keys()
    assert after[run.look] == before[run.look]
    for path, changed in after.items():
        if path.is_relative_to(run.run_dir) and path.relative_to(run.run_dir).parts[0] in ours:
            assert changed == before[path], path
    captured = capsys.readouterr()
    assert captured.out.split() == [str(run.look), str(run.run_dir / "report.html")]
    assert "is up to date" in captured.err


def test_a_finished_look_can_be_written_again_without_detail(run, dumps, capsys):
    again = [*run.command, "--out", str(run.folder / "plain.onnx"), "--run-dir", str(run.run_dir)]
    before = files_of(run.run_dir / "checkpoints")
    assert main([*again, "--relight.match-detail", "false"]) == 0
    assert "The fit was finished before" in capsys.readouterr().err
    assert load_look(run.folder / "plain.onnx").facts.evaluation["detail"] == 0
    assert files_of(run.run_dir / "checkpoints") == before
    assert main(run.command) == 0  # and back


def test_other_settings_in_the_same_run_folder_are_refused_before_anything_changes(run, capsys):
    before = files_of(run.folder)
    assert main([*run.command, "--relight.learning-rate", "0.01"]) == 1
    message = capsys.readouterr().err
    assert "relight.learning_rate = 0.012; now 0.01 is asked for" in message
    assert {path for path, changed in files_of(run.folder).items() if before.get(path) != changed} == {
        run.run_dir / "log.txt"
    }


@pytest.mark.process
def test_sigterm_while_fitting_goes_on_with_the_same_command(dumps, tmp_path):
    out = tmp_path / "look.onnx"
    command = [sys.executable, str(ROOT / "training" / "train_from_set_photos.py"), *words(dumps, out, images=300)[1:]]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    metrics, until = tmp_path / "look_run" / "metrics.jsonl", time.monotonic() + PATIENCE_S
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, messages
    assert "Run the same command again to go on." in messages
    assert not out.exists()
    done = [line["images"] for line in read_metrics(metrics)]
    assert 0 < done[-1] < 300
    assert main(words(dumps, out, images=done[-1] + 40)) == 0
    assert [line["images"] for line in read_metrics(metrics)][: len(done)] == done
    assert load_look(out).facts.dataset["pairs"] > 0


def test_cyclegan_writes_both_directions_from_one_fit_within_its_time(dumps, tmp_path):
    out = tmp_path / "both.onnx"
    command = words(dumps, out, "--both-directions", "--max-minutes", "0.02", translator="cyclegan", images=10**6)
    assert main(command) == 0
    looks = [load_look(path).facts for path in (out, tmp_path / "both_back.onnx")]
    assert [(facts.name, facts.direction, facts.value_range) for facts in looks] == [
        ("both", "ab", "unit"), ("both_back", "ba", "unit"),
    ]  # fmt: skip
    assert [each.evaluation["verdict"]["kind"] for each in looks] == ["not measured"] * 2  # nothing says what is right
    notes = read_notes(tmp_path / "both_run" / "run.json")
    assert [fit["fraction"] for fit in notes["fits"]] == [1.0]
    assert notes["gains"] == {}
    assert len(list((tmp_path / "both_run" / "previews").glob("preview-ba-*.jpg"))) >= 2


def test_a_farm_sees_progress_that_only_grows(monkeypatch, capsys):
    monkeypatch.setattr("relightgan.training.run_log.LINE_EVERY_S", 0.0)
    with RunLog(style="openjd") as log:
        assert log.stage_style == "auto"
        for part in (0, 1):
            log.part(part, 2)
            log.status("halfway", 0.5)
    assert capsys.readouterr().out.splitlines()[::2] == ["openjd_progress: 25.0", "openjd_progress: 75.0"]


def test_a_limit_leaves_time_for_export_and_counts_what_was_spent():
    assert seconds_for_fit(None, 100.0, 1) is None
    assert seconds_for_fit(5, 40.0, 1) == pytest.approx(300 - 40 - 40)
    assert seconds_for_fit(60, 0.0, 1) == pytest.approx(3600 - 120)
    assert seconds_for_fit(60, 0.0, 2) == pytest.approx((3600 - 240) / 2)
    assert seconds_for_fit(2, 500.0, 1) == pytest.approx(30)


def test_dry_run_prints_settings_and_touches_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--preset", "cyclegan-small", "--max-minutes", "3", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "max_minutes: 3.0" in printed
    assert "base_filters: 16" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--target", "b", "--out", "x.onnx"], "--source is needed"),
        (["--source", "a", "--target", "b", "--out", "x.onnx", "--max-minuts", "3"], "did you mean --max-minutes?"),
        (["--source", "a", "--target", "b", "--out", "x.onnx", "--train.images", "x"], "'x' is not a whole number"),
    ],
)
def test_a_wrong_command_line_exits_2_and_says_what_is_wrong(more, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *more])
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "complaint"),
    [
        (["--source", "a", "--target", "b", "--out", "look.pt"], 2, "Give --out look.onnx."),
        (["--source", "a", "--target", "a/../a", "--out", "x.onnx"], 2, "is both --source and --target"),
        (["--source", "a", "--target", "gone", "--out", "x.onnx"], 1, "gone is not a folder"),
        (["--source", "a", "--target", "b", "--out", "a.onnx"], 1, "The look a.onnx is a folder"),
        (["--source", "a", "--target", "b", "--out", "file/x.onnx", "--run-dir", "r"], 1, "file/x.onnx can't be made"),
        (["--source", "a", "--target", "b", "--out", "x.onnx", "--device", "quantum"], 1, "no device 'quantum'"),
        (["--source", "a", "--target", "b", "--out", "x.onnx", "--device", "cuda:99"], 1, "--device cuda:99: torch"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_anything_is_looked_at(
    more, code, complaint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "a.onnx"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert main(["train", *more]) == code
    message = capsys.readouterr().err
    assert complaint in message
    assert len(message.splitlines()) == 1


def test_photos_on_both_sides_are_refused(dumps, tmp_path, capsys):
    shutil.copytree(dumps / "day1", tmp_path / "copy")
    command = words(dumps, tmp_path / "x.onnx")
    command[4] = str(tmp_path / "copy")
    assert main(command) == 1
    assert "photos are both source and target" in capsys.readouterr().err


def test_a_signal_in_the_last_moment_of_measuring_is_not_lost(dumps, tmp_path, monkeypatch):
    def measured_and_then_interrupted(*arguments):
        made = make_dataset(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return made

    monkeypatch.setattr("relightgan.training.run.train.make_dataset", measured_and_then_interrupted)
    assert main(words(dumps, tmp_path / "x.onnx")) == 130
    assert not (tmp_path / "x_run" / "checkpoints").exists()


def test_two_processes_never_train_in_one_folder(dumps, tmp_path, capsys):
    (tmp_path / "a_run").mkdir()
    with only_run_in(tmp_path / "a_run"):
        assert main(words(dumps, tmp_path / "a.onnx")) == 1
    assert f"Error: Another process is training in {tmp_path / 'a_run'}." in capsys.readouterr().err
    assert files_of(tmp_path).keys() <= {tmp_path / "a_run" / ".lock"}


def test_missing_weights_are_found_before_any_photo_is_looked_at(dumps, tmp_path, capsys):
    assert main(words(dumps, tmp_path / "a.onnx", "--pairing.weights", "nowhere.pth")) == 1
    assert "The weights nowhere.pth are not there." in capsys.readouterr().err
    assert not (tmp_path / "a_run" / "photos").exists()


def test_too_few_photos_are_counted(dumps, tmp_path, capsys):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((dumps / "day1").glob("000[0-2].jpg")):
        (few / path.name).write_bytes(path.read_bytes())
    command = words(dumps, tmp_path / "x.onnx")
    command[2] = str(few)
    assert main(command) == 1
    assert f"of {few} can be learned from, not 4." in capsys.readouterr().err


def test_help_lists_every_setting_with_examples():
    text = make_parser().format_help()
    assert "--max-minutes" in text
    assert "--cyclegan.size-px" in text
    assert "examples:" in text
