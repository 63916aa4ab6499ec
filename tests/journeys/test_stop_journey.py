"""Commands killed, stopped, or left without disk or folder: nothing wrong is taken for good, and going on works.

Each command is first run undisturbed. Then it is stopped at random moments by random signals, which takes several
starts, as each goes on where the one before ended; the result must be that of the undisturbed run. The fast tests do
so a few times; the slow ones often, with the commands that take longer.
"""

import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import painted_set
import pytest
import solid_set
import tiny_plates
import torch
from PIL import Image
from small_disk import small_disk

from relightgan.core.frames import read_plate
from relightgan.core.movies import MovieReader

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LIMIT_S = 600
FRAMES = list(range(1001, 1009))
KEEP_ALL = ("--near-duplicates", 0, "--blur-ratio", 0, "--val-share", 0, "--test-share", 0)
TINY_FIT = (
    "--train.images", 8, "--train.checkpoint-minutes", 0, "--relight.net.proxy-px", 64, "--relight.net.depth", 4,
    "--relight.net.width", 4, "--relight.batch-size", 2, "--photos.near-duplicates", 0, "--photos.blur-ratio", 0,
    "--photos.val-share", 0, "--photos.test-share", 0, "--guidance.raster-px", 96,
)  # fmt: skip


def relightgan(*words):
    return [sys.executable, "-m", "relightgan", *map(str, words), "--progress", "none"]


def start(command, **options):
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)


def finish(command, **options):
    """Runs a command to its end: its exit code and what it said."""
    with start(command, **options) as process:
        said = process.communicate(timeout=LIMIT_S)[1]
    return process.returncode, said


def stop_after(command, delay_s, number):
    """Starts a command and sends a signal after some time; how it ended is as it should be."""
    with start(command) as process:
        try:
            said = process.communicate(timeout=delay_s)[1]
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            said = process.communicate(timeout=LIMIT_S)[1]
    early = process.returncode == -number  # a signal before our code had begun ends the interpreter
    assert early or process.returncode in (0, 130), said
    assert early or "Traceback" not in said, said
    assert number == signal.SIGKILL or process.returncode != 130 or "Cancelled: " in said or "Cancelled; " in said, said
    return process.returncode


def stop_often(command, times, seed, check, whole_s):
    """Stops a command at random moments, looks at what is there after each, and has it go on to its end."""
    chance = random.Random(seed)
    codes = []
    for _ in range(times):
        codes.append(stop_after(command, chance.uniform(0.2, whole_s), chance.choice(SIGNALS)))
        check()
    code, said = finish(command)
    assert code == 0, said
    check()
    return codes


def timed(command):
    began = time.monotonic()
    code, said = finish(command)
    assert code == 0, said
    return time.monotonic() - began


def unfinished(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".part") or ".tmp" in path.name]


# infer


@pytest.fixture(scope="module")
def whole_shot(tmp_path_factory, conv_look):
    return Shot(tmp_path_factory.mktemp("shot"), conv_look)


@pytest.fixture
def shot(whole_shot, tmp_path):
    """The command that relights a clip of a few frames, its true frames, and a folder to write to."""
    whole_shot.out = tmp_path / "out"
    return whole_shot


class Shot:
    def __init__(self, folder, look):
        plates = tiny_plates.write_clip(folder / "plates", FRAMES, size=(360, 480), flicker=0.2)
        self.words = ("infer", look, plates)
        self.device = ("--device", "cpu", "--temporal-blend", 0.5)
        self.whole_s = timed(self.command(folder / "truth" / "r.%04d.exr"))
        self.truth = {frame: read_plate(folder / "truth" / f"r.{frame}.exr").rgb for frame in FRAMES}
        self.out = folder

    def command(self, out, *more):
        return relightgan(*self.words, out, *self.device, *more)

    def check(self):
        """Every frame that is there is whole and right."""
        found = sorted(self.out.glob("[!.]*.exr"))
        for path in found:
            assert np.array_equal(read_plate(path).rgb, self.truth[int(path.stem.split(".")[1])]), path
        return len(found)


def stop_infer(shot, times, seed):
    command = shot.command(shot.out / "r.%04d.exr", "--skip-existing")
    codes = stop_often(command, times, seed, shot.check, 1.1 * shot.whole_s)
    assert shot.check() == len(FRAMES)
    assert unfinished(shot.out) == []  # what killed runs left is gone
    return codes


def test_frames_relit_by_a_command_that_is_stopped_again_and_again(shot):
    stop_infer(shot, 4, seed=1)


@pytest.mark.slow
def test_frames_relit_by_a_command_that_is_stopped_fifty_times(shot):
    for seed in range(5):
        shutil.rmtree(shot.out, ignore_errors=True)
        print(stop_infer(shot, 10, seed))


def test_what_a_killed_movie_left_is_removed_by_the_next(shot):
    movie = shot.out / "r.mov"
    command = shot.command(movie, "--overwrite")
    with start(command) as process:
        while not unfinished(shot.out):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.kill()
    assert not movie.exists()
    assert len(unfinished(shot.out)) == 1
    assert finish(command)[0] == 0
    assert [path.name for path in shot.out.iterdir()] == ["r.mov"]
    with MovieReader(movie) as reader:
        assert reader.frame_count == len(FRAMES)


@pytest.mark.parametrize("name", ["r.%04d.exr", "r.%04d.png", "r.mov"])
def test_a_disk_that_fills_up_ends_infer_with_one_line(shot, tmp_path, name):
    with small_disk(tmp_path / "small", "256k") as small:
        code, said = finish(shot.command(small / name))
        assert code == 1, said
        errors = [line for line in said.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1
        assert f"{small}/r." in errors[0]
        assert "can't be written: the disk is full" in errors[0]
        assert "Traceback" not in said
        assert unfinished(small) == []
        assert name.startswith("r.%") or list(small.iterdir()) == []


@pytest.mark.parametrize("name", ["r.%04d.exr", "r.mov"])
def test_a_folder_that_goes_while_infer_writes_into_it_is_not_made_again(shot, tmp_path, name):
    with start(shot.command(shot.out / name)) as process:
        while not (shot.out.is_dir() and list(shot.out.iterdir())):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        shot.out.rename(tmp_path / "renamed")
        said = process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 1, said
    assert f"the folder {shot.out} is gone" in said
    assert said.count("Error: ") == 1
    assert "Traceback" not in said
    assert not shot.out.exists()


# a fit


def fit_command(run_dir, images=400):
    return [sys.executable, str(SUPPORT / "small_fit.py"), str(run_dir), "--images", str(images)]


def state_of(checkpoint):
    """Everything in a checkpoint that decides how a fit goes on; without the time that it took."""
    content = torch.load(checkpoint, weights_only=True)
    return {name: content[name] for name in ("networks", "ema", "optimisers", "memory")}


def equal(ours, theirs):
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return ours == theirs


def stop_a_fit(folder, times, seed, images=400):
    whole_s = timed(fit_command(folder / "whole", images))
    last = f"checkpoint-{images:09d}.pt"
    run = folder / "run"

    def check():
        for path in run.glob("checkpoints/[!.]*"):
            state_of(path)

    codes = stop_often(fit_command(run, images), times, seed, check, 1.1 * whole_s)
    assert equal(state_of(run / "checkpoints" / last), state_of(folder / "whole" / "checkpoints" / last))
    assert unfinished(run) == []
    return codes


@pytest.mark.fits
def test_a_fit_stopped_again_and_again_ends_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stop_a_fit(tmp_path, 3, seed=1)


@pytest.mark.fits
def test_a_checkpoint_that_finds_no_room_ends_the_fit_with_one_line_and_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = tmp_path / "run"

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))

    code, said = finish(fit_command(run, 40), preexec_fn=no_room)
    assert code == 1, said
    assert said.count("\n") == 1
    assert "checkpoint-000000040.pt can't be written: " in said
    assert list((run / "checkpoints").iterdir()) == []
    assert finish(fit_command(run, 40))[0] == 0
    assert finish(fit_command(tmp_path / "whole", 40))[0] == 0
    last = Path("checkpoints") / "checkpoint-000000040.pt"
    assert equal(state_of(run / last), state_of(tmp_path / "whole" / last))


# photos, train and locate, which take longer


def write_days(folder, count):
    days = solid_set.solid_days(painted_set.texture, count=count)
    for name, (photos, _) in zip(("cloudy", "sunny"), days, strict=True):
        (folder / name).mkdir(parents=True)
        for number, photo in enumerate(photos):
            pixels = np.round(photo.clip(0, 1) * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg", quality=97, subsampling=0)
    return folder / "cloudy", folder / "sunny"


def whole_files(folder):
    """Opens every file that counts as a result; an unfinished one would fail."""
    for path in folder.rglob("[!.]*"):
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                assert all(file[name] is not None for name in file.files)
        elif path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        elif path.suffix == ".jpg":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".pt":
            state_of(path)


def same_results(ours, theirs, suffixes):
    """Both folders have the same files of these kinds, with the same content."""
    found = [sorted(path.relative_to(place) for path in place.rglob("[!.]*")) for place in (ours, theirs)]
    assert found[0] == found[1]
    for name in found[0]:
        if name.suffix == ".npz" and ".npz" in suffixes:
            with np.load(ours / name) as one, np.load(theirs / name) as other:
                assert one.files == other.files
                assert all(np.array_equal(one[key], other[key], equal_nan=one[key].dtype.kind == "f") for key in one)
        elif name.suffix in suffixes:
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.fits
def test_photos_registered_by_a_command_that_is_stopped_again_and_again(tmp_path):
    days = write_days(tmp_path, 5)

    def command(out):
        return relightgan("photos", *days, "--out", tmp_path / out, "--register", *KEEP_ALL)

    whole_s = timed(command("whole"))
    for seed in range(4):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        codes = stop_often(command("out"), 5, seed, lambda: whole_files(tmp_path / "out"), whole_s)
        print(f"photos: {whole_s:.1f} s; {codes}")
        same_results(tmp_path / "out", tmp_path / "whole", (".npz", ".npy", ".json", ".jpg", ".txt", ".html"))
        assert unfinished(tmp_path / "out") == []


@pytest.mark.slow
@pytest.mark.fits
def test_a_look_trained_and_plates_located_by_commands_that_are_stopped_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # several threads don't always add up in one order
    days = write_days(tmp_path, 7)

    def train(place):
        out = tmp_path / place
        words = ("--source", days[0], "--target", days[1], "--out", out / "l.onnx", "--run-dir", out / "run")
        return relightgan("train", *words, "--device", "cpu", *TINY_FIT)

    whole_s = timed(train("whole"))
    run, whole = tmp_path / "out" / "run", tmp_path / "whole" / "run"
    last = Path("checkpoints") / "checkpoint-000000008.pt"
    codes = stop_often(train("out"), 8, 1, lambda: whole_files(tmp_path / "out"), 0.7 * whole_s)
    print(f"train: {whole_s:.1f} s; {codes}")
    same_results(run, whole, (".npz", ".npy", ".jpg"))
    assert equal(state_of(run / last), state_of(whole / last))
    assert unfinished(tmp_path / "out") == []

    plates = tmp_path / "plates" / "p.%04d.exr"
    for number, path in enumerate(sorted(days[0].glob("*.jpg"))[:4], 1):
        pixels = np.asarray(Image.open(path), np.float32) / 255
        tiny_plates.write_exr(Path(str(plates) % number), tiny_plates.rgb_channels(pixels**2.2), kind="float")

    def locate(place):
        out = tmp_path / place / "g.%04d.exr"
        return relightgan("locate", plates, "--run", run, "--out", out, "--skip-existing")

    whole_s = timed(locate("there"))
    codes = stop_often(locate("located"), 8, 3, lambda: None, 1.1 * whole_s)
    print(f"locate: {whole_s:.1f} s; {codes}")
    same_results(tmp_path / "located", tmp_path / "there", (".exr",))
    assert unfinished(tmp_path / "located") == []


@pytest.mark.slow
@pytest.mark.fits
def test_a_run_folder_that_goes_is_not_made_again(tmp_path):
    days = write_days(tmp_path, 5)
    run = tmp_path / "out" / "run"
    words = ("--source", days[0], "--target", days[1], "--out", tmp_path / "l.onnx", "--run-dir", run)
    with start(relightgan("train", *words, "--device", "cpu", *TINY_FIT)) as process:
        while not (run / "pairs").is_dir():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        run.rename(tmp_path / "renamed")
        said = process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("Error: ")]) == 1
    assert " is gone" in said
    assert not run.exists()
