"""The index of a folder: what is kept, why the rest is not, bursts, the split, and what a second run costs."""

import json
import os
import resource
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from relightgan.core.errors import Cancelled, PhotoError
from relightgan.training.photos import measuring as photo_measuring
from relightgan.training.photos.index import PhotoSettings, index_photos, load_photo, read_index
from relightgan.training.photos.measuring import sample_frames


def scene(seed, width=160, height=120):
    """(H, W, 3) uint8: flat shapes with sharp edges, another picture for each seed."""
    rng = np.random.default_rng(seed)
    large = np.full((2 * height, 2 * width, 3), rng.integers(40, 200, 3), np.uint8)
    for _ in range(60):
        points = rng.integers((0, 0), (2 * width, 2 * height), (3, 2)).astype(np.int32)
        cv2.fillConvexPoly(large, points, [int(value) for value in rng.integers(10, 245, 3)])
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)


def save(path: Path, picture, quality=92, taken=None):
    exif = Image.Exif()
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=quality, exif=exif)
    return path


def save_movie(path: Path, pictures):
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as movie:
        stream = movie.add_stream("libx264", rate=24, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        movie.mux(stream.encode())
    return path


def pan(count, seed=0, step=4):
    wide = scene(seed, 160 + step * count)
    return [np.ascontiguousarray(wide[:, step * frame : step * frame + 160]) for frame in range(count)]


@pytest.fixture
def dump(tmp_path):
    """A folder with twelve good photos and one of each trouble."""
    folder = tmp_path / "dump"
    for number in range(12):
        save(folder / f"day {number % 2}" / f"p{number:02}.jpg", scene(number))
    shutil.copy(folder / "day 0" / "p00.jpg", folder / "same.jpg")
    save(folder / "resaved.jpg", cv2.resize(scene(1), (120, 90), interpolation=cv2.INTER_AREA), quality=70)
    save(folder / "blurred.jpg", cv2.GaussianBlur(scene(50), (0, 0), 3))
    save(folder / "black.png", scene(51) // 60)
    save(folder / "white.png", np.full((120, 160, 3), 255, np.uint8))
    save(folder / "tiny.png", scene(52, 40, 30))
    (folder / "words.jpg").write_text("not a photo")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(save(folder / "x.jpg", scene(53)).read_bytes()[:2000])
    (folder / "x.jpg").unlink()
    (folder / "._p00.jpg").write_bytes(b"Apple")
    (folder / "notes.txt").write_text("cloudy")
    return folder


def index(folder, cache=None, settings=None, **options):
    return index_photos([folder], settings or PhotoSettings(), cache or folder.parent / "cache", **options)


def reasons(found):
    return {photo.name: photo.reason.partition(":")[0].partition(" (")[0] for photo in found.left_out()}


def test_each_photo_left_out_has_its_reason_and_none_stops_the_run(dump):
    found = index(dump)
    assert len(found.kept()) == 12
    assert reasons(found) == {
        "same.jpg": "duplicate",
        "resaved.jpg": "near-duplicate",
        "blurred.jpg": "blurred",
        "black.png": "black",
        "white.png": "blown out",
        "tiny.png": "too small",
        "words.jpg": "can't be read",
        "empty.jpg": "is empty",
        "cut.jpg": "can't be decoded",
    }
    assert found.others == {".txt": 1}
    assert next(photo.reason for photo in found.left_out() if photo.name == "same.jpg").endswith("as p00.jpg")


def test_blur_and_look_alikes_stay_when_the_settings_say_so(dump):
    found = index(dump, settings=PhotoSettings(near_duplicates=0, blur_ratio=0))
    assert {"resaved.jpg", "blurred.jpg"} <= {photo.name for photo in found.kept()}


def test_a_folder_that_is_soft_throughout_keeps_its_photos(tmp_path):
    for number in range(8):
        save(tmp_path / "soft" / f"{number}.jpg", cv2.GaussianBlur(scene(number), (0, 0), 2.5))
    assert len(index(tmp_path / "soft").kept()) == 8


def test_a_second_run_opens_no_file_again(dump):
    before = index(dump)
    good = dump / "day 0" / "p02.jpg"
    times = good.stat()
    # Same size and time, but no picture any more: had it been opened, it would be left out now.
    good.write_bytes(bytes(times.st_size))
    os.utime(good, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert index(dump) == before
    assert index(dump, settings=PhotoSettings(near_duplicates=0)).kept() != before.kept()
    os.utime(good, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert "p02.jpg" in reasons(index(dump))


def test_only_new_and_changed_files_are_opened(dump, monkeypatch):
    index(dump)
    opened = []
    measure = photo_measuring.measure_file
    monkeypatch.setattr(
        photo_measuring, "measure_file", lambda path, *rest: opened.append(path.name) or measure(path, *rest)
    )
    save(dump / "new.jpg", scene(70))
    save(dump / "day 1" / "p03.jpg", scene(71))
    (dump / "same.jpg").unlink()
    found = index(dump)
    assert sorted(opened) == ["new.jpg", "p03.jpg"]
    assert "same.jpg" not in {photo.name for photo in found.photos}
    assert "same.jpg" not in (dump.parent / "cache" / "measures.json").read_text()


def test_what_was_measured_before_a_stop_is_remembered(dump, monkeypatch):
    calls = []

    def stop_after_five():
        calls.append(1)
        if len(calls) == 5:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        index(dump, check=stop_after_five)
    remembered = json.loads((dump.parent / "cache" / "measures.json").read_text())["files"]
    assert len(remembered) == 5


def test_a_damaged_memory_is_not_believed(dump):
    before = index(dump)
    (dump.parent / "cache" / "measures.json").write_text('{"format": 1, "files"')
    assert index(dump) == before


def test_the_number_of_workers_does_not_change_the_index(dump, tmp_path):
    assert index(dump, tmp_path / "one", workers=1) == index(dump, tmp_path / "four", workers=4)


def test_the_index_comes_back_from_its_file(dump):
    found = index(dump)
    assert read_index(dump.parent / "cache" / "index.json") == found


def test_an_index_of_another_format_is_refused_with_both_numbers(tmp_path):
    (tmp_path / "index.json").write_text('{"format": 99, "photos": []}')
    with pytest.raises(PhotoError, match="format 99; this version reads 1"):
        read_index(tmp_path / "index.json")
    with pytest.raises(PhotoError, match="no photo index"):
        read_index(tmp_path / "none.json")


def test_a_folder_without_photos_says_what_it_has(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(PhotoError, match=r"has no photos in it, only other files \(1 \.txt\)"):
        index(tmp_path)


def test_the_same_picture_has_the_same_id_wherever_it_lies(tmp_path):
    save(tmp_path / "a" / "one.jpg", scene(0))
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "one.jpg", tmp_path / "b" / "two.jpg")
    one, two = (index(tmp_path / name, tmp_path / f"cache {name}").photos[0].id for name in "ab")
    assert one == two


@pytest.fixture
def forty(tmp_path):
    """Forty unlike photos; ten of them taken in two bursts of five."""
    for number in range(40):
        second = 10 * number if number < 30 else (1000 if number < 35 else 2000) + number % 5
        time = f"2024:05:01 {12 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        save(tmp_path / "forty" / f"p{number:02}.jpg", scene(number), taken=time)
    return tmp_path / "forty"


def test_the_split_is_eight_one_one_and_seeded(forty):
    first = index(forty)
    assert Counter(photo.split for photo in first.kept()) == {"train": 32, "val": 4, "test": 4}
    assert len(first.kept("val")) == 4
    assert [photo.split for photo in index(forty).photos] == [photo.split for photo in first.photos]
    other = index(forty, settings=PhotoSettings(seed=1))
    assert [photo.split for photo in other.photos] != [photo.split for photo in first.photos]


def test_photos_taken_in_one_burst_stay_on_one_side(forty):
    for seed in range(5):
        photos = index(forty, settings=PhotoSettings(seed=seed)).photos
        for burst in (photos[30:35], photos[35:40]):
            assert len({photo.burst for photo in burst}) == 1
            assert len({photo.split for photo in burst}) == 1
        assert len({photo.burst for photo in photos}) == 32


def test_neighbours_by_name_that_look_alike_are_a_burst(tmp_path):
    for number in range(12):
        save(tmp_path / "set" / f"a{number:02}.jpg", scene(number))
    for number, picture in enumerate(pan(4, seed=90)):
        save(tmp_path / "set" / f"b{number:02}.jpg", picture)
    photos = index(tmp_path / "set").photos
    assert len({photo.burst for photo in photos[:12]}) == 12
    assert len({photo.burst for photo in photos[12:]}) == 1


def test_one_long_burst_is_cut_rather_than_leaving_no_test_photos(tmp_path):
    for number, picture in enumerate(pan(40)):
        save(tmp_path / "pan" / f"{number:03}.jpg", picture)
    found = index(tmp_path / "pan")
    sides = [photo.split for photo in found.kept()]
    assert Counter(sides) == {"train": 32, "val": 4, "test": 4}
    assert sum(one != other for one, other in pairwise(sides)) <= 4  # runs, not single frames


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_handful_of_photos_is_enough_to_train(tmp_path, count):
    for number in range(count):
        save(tmp_path / "few" / f"{number}.jpg", scene(number))
    assert len(index(tmp_path / "few").kept("train")) >= max(1, count - 2)


def test_frames_are_drawn_over_the_whole_length_without_repeats():
    frames = sample_frames(1000, 50, 0, "a.mov")
    assert len(set(frames)) == 50
    assert frames == sorted(frames)
    assert frames[0] < 20
    assert frames[-1] >= 980
    assert frames != sample_frames(1000, 50, 1, "a.mov") != sample_frames(1000, 50, 1, "b.mov")
    assert sample_frames(3, 50, 0, "a.mov") == [0, 1, 2]


def test_a_movie_gives_photos_of_one_burst_and_each_can_be_loaded(tmp_path):
    pictures = pan(30)
    (tmp_path / "mixed").mkdir()
    save_movie(tmp_path / "mixed" / "clip.mp4", pictures)
    for number in range(30):
        save(tmp_path / "mixed" / f"p{number:02}.jpg", scene(100 + number))
    found = index(tmp_path / "mixed", settings=PhotoSettings(movie_frames=10))
    frames = [photo for photo in found.photos if photo.frame is not None]
    assert len(frames) == 10
    assert len({photo.id for photo in frames}) == 10
    assert len({photo.burst for photo in frames}) == 1
    for photo in frames[::4]:
        assert np.abs(load_photo(photo, 4096) - pictures[photo.frame] / 255).mean() < 0.03


def test_a_broken_movie_is_left_out_with_its_reason(tmp_path):
    whole = save_movie(tmp_path / "clip.mp4", pan(10)).read_bytes()
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "dump" / "words.mov").write_text("not a movie")
    save(tmp_path / "dump" / "p.jpg", scene(0))
    assert set(reasons(index(tmp_path / "dump"))) == {"cut.mp4", "words.mov"}


def test_a_loaded_photo_is_display_encoded_and_no_larger_than_asked(tmp_path):
    save(tmp_path / "set" / "p.png", scene(0))
    photo = index(tmp_path / "set").photos[0]
    assert np.array_equal(load_photo(photo, 4096), (scene(0) / np.float32(255)).astype(np.float32))
    assert load_photo(photo, 80).shape == (60, 80, 3)
    photo.path.unlink()
    with pytest.raises(PhotoError, match=r"p\.png"):
        load_photo(photo, 80)


@pytest.mark.slow
def test_twelve_thousand_photos_are_indexed_without_holding_them(tmp_path):
    encoded = [cv2.imencode(".jpg", scene(seed, 1600, 1200))[1].tobytes() for seed in range(40)]
    (tmp_path / "many").mkdir()
    for number in range(12_000):
        # Bytes after the end of a JPEG are no part of the picture, but make another file of it.
        (tmp_path / "many" / f"{number:05}.jpg").write_bytes(encoded[number % 40] + number.to_bytes(4, "big"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = index(tmp_path / "many")
    assert len(found.photos) == 12_000
    assert len(found.kept()) == 40
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB; the pixels would be 69 GB
