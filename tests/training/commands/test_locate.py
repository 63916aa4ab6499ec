"""Locating plates of a small solid set whose photos were registered by a real, tiny fit; and guiding a look by it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import OpenImageIO
import painted_set
import pytest
import solid_set
import torch
from PIL import Image

from relightgan.core import cli
from relightgan.core.colour import srgb_to_linear
from relightgan.core.errors import LookError
from relightgan.core.guidance import READ, check_grid, interpolated, read_grid
from relightgan.core.guidance_files import read_guidance
from relightgan.core.look import load_look
from relightgan.core.pipeline import Settings
from relightgan.core.plate import Plate
from relightgan.core.progress import Cancellation
from relightgan.core.session import LookSession
from relightgan.training.fit.held_out import measure, on_raster
from relightgan.training.guidance.plates import MIN_CHECKED_PIXELS, exposure_of, sky_taken_for_surface
from relightgan.training.relight.gain_grid import WHOLE, Operators, plate_gain
from relightgan.training.run import held_out as run_held_out
from relightgan.training.run.dataset import make_dataset
from relightgan.training.run.held_out import make_held_out
from relightgan.training.run.plate_finder import PlateFinder, lens_axis
from relightgan.training.run.registered import load_run
from relightgan.training.stops import DARK_FLOOR

pytestmark = pytest.mark.fits

HELD_OUT = 3  # of the first day's photos: the plate
COUNT = 8


def write_exr(path, linear):
    height, width = linear.shape[:2]
    output = OpenImageIO.ImageOutput.create(str(path))
    assert output.open(str(path), OpenImageIO.ImageSpec(width, height, 3, "float"))
    assert output.write_image(np.ascontiguousarray(linear, np.float32))
    output.close()
    return path


class Fitted:
    """A run, its look, and plates: 1 held out, 2 the same four times brighter, 3 of another place."""

    def __init__(self, folder, days, elsewhere):
        self.folder, self.days = folder, days
        self.look, self.run = folder / "look.onnx", folder / "run"
        self.plates = str(folder / "plates" / "p.%04d.exr")
        self.plate = srgb_to_linear(days[0][0][HELD_OUT])
        (folder / "plates").mkdir()
        for frame, light in enumerate((self.plate, 4 * self.plate, elsewhere), 1):
            write_exr(self.plates % frame, light)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    days = solid_set.solid_days(painted_set.texture, count=COUNT)
    for name, (photos, _) in zip(("day1", "day2"), days, strict=True):
        (folder / name).mkdir()
        for number, photo in enumerate(photos):
            if (name, number) != ("day1", HELD_OUT):
                pixels = np.round(photo.clip(0, 1) * 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{number}.jpg", quality=97, subsampling=0)
    made = Fitted(folder, days, srgb_to_linear(painted_set.texture(np.random.default_rng(9), 150, 200)))
    words = [
        "--source", folder / "day1", "--target", folder / "day2", "--out", made.look, "--run-dir", made.run,
        "--device", "cpu", "--progress", "none", "--train.images", "8", "--relight.net.proxy-px", "64",
        "--relight.net.depth", "4", "--relight.net.width", "4", "--relight.batch-size", "2",
        "--photos.near-duplicates", "0", "--photos.blur-ratio", "0",
        "--photos.val-share", "0", "--photos.test-share", "0", "--guidance.raster-px", "96",
    ]  # fmt: skip
    assert cli.main(["train", *map(str, words)]) == 0
    return made


@pytest.fixture(scope="module")
def registered(fitted):
    return load_run(fitted.run, torch.device("cpu"), "none", Cancellation())


@pytest.fixture(scope="module")
def finder(registered):
    return PlateFinder(registered, "ab", Settings(), None)


@pytest.fixture
def locate(fitted, capsys):
    """Runs `relightgan locate` and gives its exit code and stderr."""

    def run(out, *more, plates=None, run_dir=None):
        words = ["locate", plates or fitted.plates, "--run", str(run_dir or fitted.run), "--out", str(out)]
        code = cli.main([*words, "--progress", "none", *map(str, more)])
        return code, capsys.readouterr().err

    return run


def plate_of(rgb, data=None, display=None, aspect=1.0):
    window = (0, 0, rgb.shape[1], rgb.shape[0])
    return Plate(
        Path("none.exr"), np.ascontiguousarray(rgb, np.float32), None, data or window, display or window, aspect
    )


def same_places(finder, fitted):
    """The truth's camera centres of the photos that were registered, and their centres in the solve."""
    solve, first = finder.locator.registration.solve, finder.locator.registration.counts[0]
    kept = [n for n in range(COUNT) if n != HELD_OUT]
    poses = np.concatenate([fitted.days[0][1][kept], fitted.days[1][1]])
    assert first == COUNT - 1
    true = -np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])[solve.photos]
    return true, solve.centres


def test_a_held_out_photo_is_found_where_it_was_taken(finder, fitted):
    photo, poses = fitted.days[0]
    camera = next(finder.locator.locate(photo[HELD_OUT], (0.5, 0.5), None))
    true, found = same_places(finder, fitted)
    a, b = found - found.mean(axis=0), true - true.mean(axis=0)
    u, d, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1, 1, np.linalg.det(u @ vt)])
    scale = (d * sign).sum() / (a**2).sum()
    moved = scale * (camera.centre - found.mean(axis=0)) @ (u @ np.diag(sign) @ vt).T + true.mean(axis=0)
    centre = -poses[HELD_OUT][:, :3].T @ poses[HELD_OUT][:, 3]
    assert np.linalg.norm(moved - centre) < 0.05  # of a set 6 wide, photographed from 5 away


def test_guidance_is_what_the_second_day_did_to_each_face(
    finder,
    fitted,
):
    found = finder.find(plate_of(fitted.plate))
    assert found.located, found.words
    guidance = found.guidance
    sure = guidance.confidence > 0.4
    assert sure.mean() > 0.2
    off = np.abs(guidance.gain[sure][:, None] - solid_set.STOPS).mean(axis=-1).min(axis=1)
    assert np.median(off) < 0.15
    for kind in (0, 1):  # both kinds of faces are told apart
        assert (np.abs(guidance.gain[sure] - solid_set.STOPS[kind]).mean(axis=-1) < 0.25).mean() > 0.1


def test_held_out_photos_are_measured_by_what_the_other_day_saw_of_their_places(fitted, registered, monkeypatch):
    run = registered.run
    folders = ([fitted.folder / "day1"], [fitted.folder / "day2"])
    dataset = make_dataset(*folders, run, ["ab"])
    without = make_held_out(dataset, "ab", run)
    assert (without.known_by, without.unseen) == ("guidance", False)  # no photo was held out
    pixels = np.round(fitted.days[0][0][HELD_OUT].clip(0, 1) * 255).astype(np.uint8)
    path = fitted.folder / "held_out.png"
    Image.fromarray(pixels).save(path)
    elsewhere = fitted.folder / "elsewhere.png"
    Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(elsewhere)  # mirrored, so no place of this set
    like = dataset.source.index.photos[0]
    photos = [replace(like, id=f"ab{n}", path=place, split="val") for n, place in enumerate((elsewhere, path))]
    index = replace(dataset.source.index, photos=(*dataset.source.index.photos, *photos))
    dataset = replace(dataset, source=replace(dataset.source, index=index))
    held_out = make_held_out(dataset, "ab", run)
    assert (held_out.known_by, held_out.unseen, len(held_out.photos)) == ("guidance", True, 1)
    photo = held_out.photos[0]
    sure = photo.weight > 0.4
    gain = (photo.wanted - on_raster(photo.picture, photo.weight.shape))[sure]
    assert np.median(np.abs(gain[:, None] - solid_set.STOPS).mean(axis=-1).min(axis=1)) < 0.15
    assert not photo.sky[sure].all()
    untouched = measure(SimpleNamespace(relight=lambda photos, _: photos), held_out, torch.device("cpu"))
    assert untouched.look == pytest.approx(untouched.untouched, abs=1e-4)
    assert 0.3 < untouched.transfer < untouched.untouched  # it can't tell faces that become brighter from others
    monkeypatch.setattr(run_held_out, "locate_photos", lambda *_: pytest.fail("it was kept"))
    again = make_held_out(dataset, "ab", run)
    np.testing.assert_array_equal(again.photos[0].wanted, photo.wanted)


@pytest.mark.parametrize("stops", [-3.0, 2.0, 5.0])
def test_guidance_doesnt_depend_on_the_plates_exposure(finder, fitted, stops):
    usual, other = (finder.find(plate_of(fitted.plate * 2.0**s)).guidance for s in (0.0, stops))
    np.testing.assert_allclose(other.confidence, usual.confidence, atol=1e-3)
    np.testing.assert_allclose(other.gain, usual.gain, atol=1e-3)


def test_a_frame_doesnt_depend_on_those_before_it(finder, fitted):
    first = finder.find(plate_of(fitted.plate)).guidance
    finder.find(plate_of(srgb_to_linear(fitted.days[0][0][0])[:, ::-1]))
    again = finder.find(plate_of(fitted.plate)).guidance
    assert again.gain.tobytes() == first.gain.tobytes()
    assert again.confidence.tobytes() == first.confidence.tobytes()


def test_a_plate_of_another_place_gets_guidance_that_says_nothing(fitted, locate, tmp_path):
    code, log = locate(tmp_path / "g.%04d.exr", "--frames", "3")
    assert code == 0
    assert re.search(r"Frame 3: .*no guidance", log)
    assert "Without guidance: 3" in log
    guidance, _ = read_guidance(tmp_path / "g.0003.exr")
    assert not guidance.confidence.any()
    assert not guidance.gain.any()


def test_a_photo_of_the_other_day_isnt_taken_for_one_of_this(finder, fitted):
    wrong = finder.find(plate_of(srgb_to_linear(fitted.days[1][0][4])))
    assert not wrong.located, wrong.words


def test_a_cropped_plate_with_wide_pixels_is_found_too(finder, fitted):
    squeezed = fitted.plate[:, ::2] * 0.5 + fitted.plate[:, 1::2] * 0.5
    cropped = squeezed[10:, 15:]
    found = finder.find(plate_of(cropped, (15, 10, 100, 150), (0, 0, 100, 150), 2.0))
    assert found.located, found.words


def test_the_lens_looks_along_the_middle_of_the_display_window():
    plate = plate_of(np.zeros((50, 80, 3)), (-10, 0, 70, 50), (0, 0, 60, 50))
    centre, share = lens_axis(plate)
    assert centre == (0.5, 0.5)
    assert share == pytest.approx(np.hypot(60, 50) / np.hypot(80, 50))
    centre, _ = lens_axis(plate_of(np.zeros((50, 80, 3)), (0, 0, 80, 50), (0, 0, 160, 50)))
    assert centre == (1.0, 0.5)


def test_exposure_is_found_and_a_wrong_place_is_off():
    rng = np.random.default_rng(0)
    linear = rng.uniform(0.02, 0.8, (MIN_CHECKED_PIXELS, 3))
    exposure, off = exposure_of(linear / 8, np.log2(linear + DARK_FLOOR))
    assert exposure == pytest.approx(3.0, abs=0.01)
    assert off < 0.01
    assert exposure_of(linear, np.log2(rng.permutation(linear) + DARK_FLOOR))[1] > 0.5
    assert exposure_of(linear[1:], np.log2(linear[1:] + DARK_FLOOR))[1] is None


# The commands


@pytest.fixture(scope="module")
def located(fitted):
    pattern = str(fitted.folder / "guidance" / "g.%04d.exr")
    assert cli.main(["locate", fitted.plates, "--run", str(fitted.run), "--out", pattern, "--progress", "none"]) == 0
    return pattern


def infer(fitted, out, *more):
    words = ["infer", fitted.look, fitted.plates, out, "--device", "cpu", "--progress", "none", *more]
    return cli.main(list(map(str, words)))


def read_rgb(path):
    buffer = OpenImageIO.ImageBuf(str(path))
    names = list(buffer.spec().channelnames)
    return buffer.get_pixels(OpenImageIO.FLOAT)[..., [names.index(name) for name in "RGB"]]


def test_a_guided_look_comes_nearer_to_the_second_day(fitted, located, tmp_path):
    assert infer(fitted, tmp_path / "plain.%04d.exr", "--frames", "1-3") == 0
    assert infer(fitted, tmp_path / "guided.%04d.exr", "--frames", "1-3", "--guidance", located, "--aovs") == 0
    guidance, _ = read_guidance(Path(located % 1))
    sure = guidance.confidence > 0.5
    off = []
    for name in ("plain", "guided"):
        gain = np.log2(read_rgb(tmp_path / f"{name}.0001.exr") / fitted.plate)
        small = np.stack([np.asarray(Image.fromarray(c).resize(sure.shape[::-1])) for c in np.moveaxis(gain, 2, 0)], -1)
        off.append(np.abs(small - guidance.gain)[sure].mean())
    assert off[1] < 0.5 * off[0]
    # The same plate four times brighter comes out four times brighter,
    np.testing.assert_allclose(
        read_rgb(tmp_path / "guided.0002.exr"), 4 * read_rgb(tmp_path / "guided.0001.exr"), rtol=5e-3, atol=1e-4
    )
    # and where nothing is known, the look's own frame to the bit.
    assert read_rgb(tmp_path / "guided.0003.exr").tobytes() == read_rgb(tmp_path / "plain.0003.exr").tobytes()
    channels = set(OpenImageIO.ImageBuf(str(tmp_path / "guided.0001.exr")).spec().channelnames)
    assert {"guidance.R", "guidance.G", "guidance.B", "gain.R"} <= channels


def test_guided_frames_dont_depend_on_the_order_with_a_temporal_blend(fitted, located, tmp_path):
    blend = ["--temporal-blend", "1", "--guidance", located]
    assert infer(fitted, tmp_path / "all.%04d.exr", *blend) == 0
    for frame in (3, 1, 2):
        assert infer(fitted, tmp_path / "one.%04d.exr", "--frames", frame, *blend) == 0
    for frame in (1, 2, 3):
        assert (
            read_rgb(tmp_path / f"one.{frame:04}.exr").tobytes() == read_rgb(tmp_path / f"all.{frame:04}.exr").tobytes()
        )


def test_guidance_reads_of_a_look_what_its_network_meant(fitted):
    session = LookSession(load_look(fitted.look), "cpu")
    check_grid(session)
    rng = np.random.default_rng(0)
    # Walls of many brightnesses with grain: places where the guide is each pixel's own brightness, and others.
    walls = np.kron(rng.uniform(-5, 3, (4, 6, 1)), np.ones((50, 50, 1)))
    light = np.exp2(walls + rng.normal(0, 0.3, walls.shape) + rng.uniform(-0.2, 0.2, 3)).astype(np.float32)
    operator = session.predict(light)
    operator["grid"] = rng.uniform(-1, 1, operator["grid"].shape).astype(np.float32)
    operator["white"][:] = 1.5  # between the walls
    slope = operator["guide"][0]
    assert slope.min() < 0.1
    assert slope.max() > 0.5

    def meant(rolloff):
        operator["rolloff"] = rolloff
        parts = Operators(*(torch.from_numpy(operator[name])[None] for name in Operators._fields))
        plate = torch.from_numpy(light.transpose(2, 0, 1).copy())[None]
        gain = plate_gain(plate, WHOLE, parts, len(operator["grid"]) // 3)[0].numpy().transpose(1, 2, 0)
        return gain, *read_grid(session, operator, light)

    plain, gain, steps = meant(np.zeros_like(operator["rolloff"]))
    np.testing.assert_allclose(gain, plain, atol=2e-4)
    np.testing.assert_allclose(interpolated(operator["grid"], steps), plain, atol=2e-4)
    rolled, gain, _ = meant(rng.uniform(0, 1, operator["rolloff"].shape).astype(np.float32))
    assert 0.1 < (np.abs(rolled - plain) > 0.1).mean() < 0.9
    np.testing.assert_allclose(gain, rolled, atol=2e-4)


def test_an_even_sky_that_got_the_depth_of_what_stands_before_it_is_told_from_that():
    # A dark statue before a bright sky; its depth reaches three pixels too far, and a bit of wall has none.
    sky = np.ones((80, 120), bool)
    sky[20:, 40:64] = False
    stops = np.where(sky, 0.5, -2.0)[..., None] + np.random.default_rng(0).normal(0, 0.05, (80, 120, 3))
    known = cv2.dilate((~sky).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    weight = np.where(known, 0.9, 0.5)
    known[40:48, 48:56], weight[40:48, 48:56] = False, 0.0
    taken = sky_taken_for_surface(stops, known, weight)
    assert not taken[~(known & sky)].any()
    assert taken[known & sky].mean() > 0.95
    # Where photos agree about no sky, depths stay.
    assert not sky_taken_for_surface(stops, known, np.where(known, 0.9, 0.0)).any()


@pytest.mark.parametrize("missing", ["guide", "doubt", "white", "rolloff"])
def test_looks_that_tell_too_little_of_themselves_are_refused(fitted, tmp_path, missing):
    model = onnx.load(fitted.look)
    entry = next(entry for entry in model.metadata_props if "operators" in entry.value)
    facts = json.loads(entry.value)
    entry.value = json.dumps({**facts, "operators": [name for name in facts["operators"] if name != missing]})
    onnx.save(model, tmp_path / "older.onnx")
    older = LookSession(load_look(tmp_path / "older.onnx"), "cpu")
    assert set(older.look.facts.operators) == {*READ} - {missing}
    with pytest.raises(LookError, match=f"older version and tells no {missing}"):
        check_grid(older)


def test_a_look_that_has_no_doubt_at_all_is_refused(fitted, monkeypatch):
    session = LookSession(load_look(fitted.look), "cpu")
    check_grid(session)
    real = session.predict
    monkeypatch.setattr(session, "predict", lambda light: {**(found := real(light)), "doubt": 0 * found["doubt"]})
    with pytest.raises(LookError, match="stops above 0"):
        check_grid(session)


def test_what_is_there_is_kept_or_replaced_only_when_asked(fitted, locate, tmp_path):
    out = tmp_path / "g.%04d.exr"
    assert locate(out, "--frames", "1")[0] == 0
    before = Path(str(out) % 1).read_bytes()
    code, error = locate(out, "--frames", "1-2")
    assert code == 1
    assert "Frames 1 of" in error
    assert not Path(str(out) % 2).exists()
    Path(str(out) % 1).write_bytes(b"kept")
    assert locate(out, "--frames", "1-2", "--skip-existing")[0] == 0
    assert Path(str(out) % 1).read_bytes() == b"kept"
    assert locate(out, "--frames", "1", "--overwrite")[0] == 0
    assert Path(str(out) % 1).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.0001.exr", "g.0002.exr"]


def test_a_run_that_cant_be_asked_is_an_error_that_says_so(fitted, locate, tmp_path):
    code, error = locate(tmp_path / "g.exr", run_dir=tmp_path, plates=fitted.plates % 1)
    assert code == 1
    assert "is no run folder" in error
    (tmp_path / "config.yaml").write_text("translator: relight\n")
    code, error = locate(tmp_path / "g.exr", run_dir=tmp_path, plates=fitted.plates % 1)
    assert code == 1
    assert "weren't registered" in error


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--frames", "1-9"], 1, "lacks"),
        (["--focal-35mm", "0"], 2, "above 0"),
        (["--working-space", "no such space"], 1, "no such space"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(fitted, locate, tmp_path, more, code, said):
    found, error = locate(tmp_path / "g.%04d.exr", *more)
    assert (found, said in error) == (code, True), error


def test_guidance_is_an_exr_and_never_the_plate(fitted, locate, tmp_path):
    code, error = locate(tmp_path / "g.%04d.png")
    assert code == 2
    assert ".exr" in error
    code, error = locate(fitted.plates, "--overwrite")
    assert code == 2
    assert "overwritten by its own guidance" in error
