import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_fit as small
import torch

from relightgan.core.errors import Cancelled, ConfigError, TrainingError
from relightgan.training.fit import loop
from relightgan.training.fit.checkpoint import newest_checkpoint, read_checkpoint
from relightgan.training.fit.loop import (
    TrainSettings,
    ema_keep,
    fraction_done,
    multiplies_bf16,
    seconds_left,
    update_ema,
)
from relightgan.training.fit.preview import PreviewPhotos

pytestmark = pytest.mark.fits

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 300.0  # no step here takes so long, on however slow and busy a machine


def numbers(recipe) -> list[torch.Tensor]:
    values = []
    for holder in (*recipe.networks.values(), *recipe.ema.values()):
        values += list(holder.state_dict().values())
    for state in recipe.optimisers["net"].state_dict()["state"].values():
        values += list(state.values())
    return [*values, recipe.running]


def same(a, b) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def metrics_of(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


class StopsAt(small.SmallRecipe):
    """Sends this process a signal during one step, as a farm would."""

    stop_at, signal = 30, signal.SIGTERM

    def step(self, rng, fraction_done):
        losses = super().step(rng, fraction_done)
        if len(self.fractions) == self.stop_at:
            os.kill(os.getpid(), self.signal)
        return losses


def test_the_fit_learns_and_its_schedule_ends_at_one(tmp_path):
    recipe, progress = small.small_fit(tmp_path, images=800)
    losses = [line["losses"]["difference"] for line in metrics_of(tmp_path)]
    assert losses[-1] < losses[0] / 4
    assert progress.images == 800
    assert progress.fraction == 1.0
    assert recipe.fractions[0] == 0.0
    assert recipe.fractions[-1] == pytest.approx(796 / 800)


def test_a_stopped_fit_goes_on_to_the_numbers_of_an_uninterrupted_one(tmp_path):
    whole, _ = small.small_fit(tmp_path / "whole", images=400)
    torch.manual_seed(small.CONFIG["seed"])
    with pytest.raises(Cancelled, match=r"Stopped after 120 images \(30%\).*Run the same command again to go on"):
        small.small_fit(tmp_path / "parts", images=400, recipe=StopsAt())
    torch.manual_seed(999)
    resumed, progress = small.small_fit(tmp_path / "parts", images=400)
    assert len(resumed.fractions) == 70
    assert progress.images == 400
    assert same(numbers(whole), numbers(resumed))
    timeless = [[(line["images"], line["losses"]) for line in metrics_of(tmp_path / run)] for run in ("whole", "parts")]
    assert timeless[0] == timeless[1]


def test_the_status_tells_what_losses_usually_are(tmp_path, monkeypatch):
    """One that only every fourth step has would read 0 or four times too much."""
    shown = []

    class Rarely(small.SmallRecipe):
        def step(self, rng, fraction_done):
            super().step(rng, fraction_done)
            return {"rare": 4.0 * (len(self.fractions) % 4 == 0), "even": 7.0}

    monkeypatch.setattr(small.RunLog, "status", lambda log, text, fraction: shown.append(text))
    small.small_fit(tmp_path, images=800, recipe=Rarely())
    assert len(shown) == 200
    assert all(text.endswith(", even 7") for text in shown)
    rare = [float(text.split("rare ")[1].split(",")[0]) for text in shown[100:]]
    assert 0.8 < min(rare) < max(rare) < 1.2


def test_another_seed_gives_other_numbers(tmp_path, monkeypatch):
    one, _ = small.small_fit(tmp_path / "one", images=40)
    monkeypatch.setitem(small.CONFIG, "seed", 4)
    two, _ = small.small_fit(tmp_path / "two", images=40)
    assert not same(numbers(one), numbers(two))


@pytest.mark.process
def test_sigterm_to_a_real_process_checkpoints_and_the_same_command_goes_on(tmp_path):
    command = [sys.executable, small.__file__, str(tmp_path / "run"), "--images", "6000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    metrics = tmp_path / "run" / "metrics.jsonl"
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + PATIENCE_S
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, messages
    assert "Run the same command again to go on." in messages
    assert "Error:" not in messages
    stopped_at = read_checkpoint(newest_checkpoint(tmp_path / "run" / "checkpoints"))["progress"]["images"]
    assert 0 < stopped_at < 6000

    assert subprocess.run(command, env=environment, check=False).returncode == 0
    whole, _ = small.small_fit(tmp_path / "whole", images=6000)
    end = read_checkpoint(newest_checkpoint(tmp_path / "run" / "checkpoints"))
    assert end["progress"]["fraction"] == 1.0
    for name, value in whole.ema["net"].state_dict().items():
        assert torch.equal(end["ema"]["net"][name], value)


def test_sigint_checkpoints_too(tmp_path):
    class Interrupted(StopsAt):
        stop_at, signal = 5, signal.SIGINT

    with pytest.raises(Cancelled):
        small.small_fit(tmp_path, images=400, recipe=Interrupted())
    assert newest_checkpoint(tmp_path / "checkpoints").name == "checkpoint-000000020.pt"


class Timed(small.SmallRecipe):
    """Steps that take 1/16 s each, on a clock that nothing else moves."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.now = 100.0
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: self.now))

    def step(self, rng, fraction_done):
        self.now += 1 / 16
        return super().step(rng, fraction_done)


def test_a_time_limit_ends_in_a_finished_schedule(tmp_path, monkeypatch):
    recipe, progress = small.small_fit(tmp_path, images=10**9, seconds=2.0, recipe=Timed(monkeypatch))
    assert len(recipe.fractions) == 32
    assert progress.fraction == 1.0
    assert recipe.fractions[-1] > 0.9
    assert recipe.fractions == sorted(recipe.fractions)
    assert recipe.optimisers["net"].param_groups[0]["lr"] < 0.1 * recipe.learning_rate


def test_time_spent_before_a_stop_counts_towards_the_limit(tmp_path, monkeypatch):
    class TimedStop(Timed, StopsAt):
        stop_at = 8

    with pytest.raises(Cancelled):
        small.small_fit(tmp_path, images=10**9, seconds=1.0, recipe=TimedStop(monkeypatch))
    resumed, _ = small.small_fit(tmp_path, images=10**9, seconds=1.0, recipe=Timed(monkeypatch))
    assert resumed.fractions[0] == 0.5
    assert resumed.fractions[-1] == 15 / 16


def test_a_finished_fit_does_nothing_more(tmp_path):
    small.small_fit(tmp_path, images=40)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    recipe, progress = small.small_fit(tmp_path, images=40)
    assert recipe.fractions == []
    assert progress.fraction == 1.0
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_finished_fit_can_be_made_longer(tmp_path):
    small.small_fit(tmp_path, images=40)
    recipe, progress = small.small_fit(tmp_path, images=80)
    assert len(recipe.fractions) == 10
    assert progress.images == 80


def test_a_loss_that_is_no_number_stops_the_fit_and_names_the_last_sound_state(tmp_path):
    class Breaks(small.SmallRecipe):
        def step(self, rng, fraction_done):
            losses = super().step(rng, fraction_done)
            return {**losses, "loss": float("nan")} if len(self.fractions) == 11 else losses

    with pytest.raises(TrainingError, match=r"diverged after 40 images: loss = nan.*checkpoint-000000040\.pt"):
        small.small_fit(tmp_path, images=400, recipe=Breaks(), checkpoint_minutes=0.0)
    assert newest_checkpoint(tmp_path / "checkpoints").name == "checkpoint-000000040.pt"


def test_metrics_written_after_the_last_checkpoint_are_not_kept_twice(tmp_path):
    with pytest.raises(Cancelled):
        small.small_fit(tmp_path, images=400, recipe=StopsAt())
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"images": 140, "losses": {}}\n{"images": 16')
    small.small_fit(tmp_path, images=400)
    assert [line["images"] for line in metrics_of(tmp_path)] == list(range(20, 401, 20))


class TellsPrecision(small.SmallRecipe):
    """Notes the precision that steps are multiplied in."""

    def step(self, rng, fraction_done):
        self.dtypes = {*getattr(self, "dtypes", ()), torch.nn.functional.conv2d(*self.probe).dtype}
        return super().step(rng, fraction_done)

    probe = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)


def fit_on(tmp_path, monkeypatch, name, cpu, bf16):
    """A fit on a CPU that is able to do what is told."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu, raising=False)
    torch.manual_seed(small.CONFIG["seed"])
    return small.small_fit(tmp_path / name, images=80, recipe=TellsPrecision(), bf16=bf16)[0]


@pytest.mark.parametrize("made_for_it", [{"avx512_bf16": True}, {"avx512_bf16": False, "amx_bf16": True}])
def test_a_cpu_made_for_bfloat16_multiplies_in_it_unless_told_not_to(tmp_path, monkeypatch, made_for_it):
    fitted = fit_on(tmp_path, monkeypatch, "able", made_for_it, bf16=True)
    told = fit_on(tmp_path, monkeypatch, "told", made_for_it, bf16=False)
    assert (fitted.dtypes, told.dtypes) == ({torch.bfloat16}, {torch.float32})
    assert {value.dtype for value in fitted.networks["net"].parameters()} == {torch.float32}
    assert not same(numbers(fitted), numbers(told))
    assert fitted.running.item() == pytest.approx(told.running.item(), rel=0.05)


@pytest.mark.parametrize("unable", [{"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, {}])
def test_a_cpu_that_would_take_the_long_way_round_uses_float32(tmp_path, monkeypatch, unable):
    wanted = fit_on(tmp_path, monkeypatch, "wanted", unable, bf16=True)
    told = fit_on(tmp_path, monkeypatch, "told", unable, bf16=False)
    assert wanted.dtypes == {torch.float32}
    assert same(numbers(wanted), numbers(told))


def test_a_torch_that_cannot_tell_what_the_cpu_does_uses_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bf16(torch.device("cpu"))


def test_previews_climb_the_ladder(tmp_path):
    photos = PreviewPhotos("ab", (torch.full((1, 3, 20, 30), 0.5),), (torch.full((1, 3, 16, 16), 0.8),))
    small.small_fit(tmp_path, images=100, previews=(photos,))
    rungs = sorted(path.name for path in (tmp_path / "previews").iterdir())
    assert rungs == [f"preview-ab-{images:09d}.jpg" for images in (0, 8, 12, 20, 40, 72, 100)]


def test_fraction_follows_images_or_time_whichever_is_further_on():
    assert fraction_done(50, 100, 0.0, None) == 0.5
    assert fraction_done(10, 100, 30.0, 40.0) == 0.75
    assert fraction_done(90, 100, 30.0, 40.0) == 0.9
    assert fraction_done(10, 100, 50.0, 40.0) == 1.0
    assert fraction_done(0, 100, 0.0, 0.0) == 0.0


def test_time_left_is_the_nearer_end():
    assert seconds_left(50, 100, 10.0, 5.0, None) == pytest.approx(5.0)
    assert seconds_left(50, 100, 10.0, 5.0, 7.0) == pytest.approx(2.0)


def test_a_weight_of_one_half_life_ago_counts_half():
    keep = 1.0
    for step in range(250):
        keep *= ema_keep(4, 10**6 + 4 * step, half_life_images=1000, warm_up=0.05)
    assert keep == pytest.approx(0.5)
    assert ema_keep(4, 100, half_life_images=1000, warm_up=0.05) == pytest.approx(0.5 ** (4 / 5))


def test_the_average_lies_between_old_and_new_weights_and_copies_buffers():
    average, network = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    torch.nn.init.constant_(average.weight, 1.0)
    torch.nn.init.constant_(network.weight, 3.0)
    network.running_mean.fill_(7.0)
    update_ema({"n": average}, {"n": network}, keep=0.75)
    assert average.weight.item() == pytest.approx(1.5)
    assert average.running_mean.item() == 7.0


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"images": 0}, "images"),
        ({"max_minutes": -1.0}, "max_minutes"),
        ({"previews": (0.5, 0.2)}, "previews"),
        ({"preview_photos": -1}, "preview_photos"),
    ],
)
def test_impossible_settings_are_refused_by_name(wrong, named):
    with pytest.raises(ConfigError, match=named):
        TrainSettings(**wrong)


def test_held_out_errors_are_asked_for_when_previews_are_due_and_leave_the_fit_as_it_is(tmp_path):
    def errors():
        torch.rand(9)  # even where a measurement draws numbers
        return {"held-out photos": 0.5}

    plain, _ = small.small_fit(tmp_path / "plain", 80)
    measured, _ = small.small_fit(tmp_path / "measured", 80, held_out=errors)
    assert same(numbers(plain), numbers(measured))
    lines = [line for line in metrics_of(tmp_path / "measured") if "held-out photos" in line["losses"]]
    assert [line["images"] for line in lines] == [4, 8, 16, 32, 56, 80]
    assert all(line["losses"] == {"held-out photos": 0.5} for line in lines)
