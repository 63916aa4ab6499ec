"""Photos of one moment: brackets, raw beside JPEG, live photos. And movies whose colours aren't sRGB."""

import av
import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from tiny_raw import write_dng

from relightgan.core.colour import linear_to_srgb, srgb_to_linear
from relightgan.training.photos.bank import prepare_photos
from relightgan.training.photos.index import PhotoSettings, index_photos


def scene(seed, width=160, height=120):
    """(H, W, 3) float32 linear: flat shapes with sharp edges, another picture for each seed; 0.01 to 0.5."""
    rng = np.random.default_rng(seed)
    large = np.full((2 * height, 2 * width, 3), 0.1, np.float32)
    for _ in range(60):
        points = rng.integers((0, 0), (2 * width, 2 * height), (3, 2)).astype(np.int32)
        cv2.fillConvexPoly(large, points, [float(value) for value in 0.5 * rng.random(3) ** 2 + 0.01])
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)


def save(path, linear, stops=0.0, second=0, model="Camera 1"):
    """A JPEG of a scene, exposed so many stops longer, and noted so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = Image.Exif()
    notes[0x0110] = model
    taken = f"2024:05:01 12:{second // 60:02}:{second % 60:02}"
    notes.get_ifd(0x8769).update({0x9003: taken, 0x829A: 0.01 * 2**stops, 0x829D: 4.0, 0x8827: 100})
    encoded = linear_to_srgb(np.clip(linear * 2**stops, 0, 1).astype(np.float32))
    Image.fromarray(np.round(encoded * 255).astype(np.uint8)).save(path, quality=92, exif=notes)
    return path


def save_movie(path, pictures, rate=24, primaries=None, transfer=None):
    """Pictures are (H, W, 3) uint8, or uint16 for ten bits as they are coded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ten = pictures[0].dtype == np.uint16
    with av.open(str(path), "w") as movie:
        stream = movie.add_stream("libx264", rate=rate, options={"crf": "8"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv444p10le" if ten else "yuv444p"
        if transfer is not None:
            stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, primaries
            stream.codec_context.colorspace = 1
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le" if ten else "rgb24")
            movie.mux(stream.encode(frame.reformat(format=stream.pix_fmt, dst_colorspace="ITU709")))
        movie.mux(stream.encode())
    return path


def indexed(folder, **settings):
    return index_photos([folder], PhotoSettings(**settings), folder.parent / "cache")


def reasons(folder, **settings):
    return {photo.path.name: photo.reason for photo in indexed(folder, **settings).photos}


def test_of_a_bracket_the_middle_one_is_kept_and_the_others_are_said_to_be_its_bracket(tmp_path):
    folder = tmp_path / "day"
    for start, view in ((0, 1), (100, 2), (200, 3)):
        for number, stops in enumerate((0, -2, 2)):
            save(folder / f"v{view}_{number}.jpg", scene(view), stops, start + number)
    found = reasons(folder)
    assert [name for name, reason in found.items() if not reason] == ["v1_0.jpg", "v2_0.jpg", "v3_0.jpg"]
    assert found["v2_1.jpg"] == "bracket: of v2_0.jpg, at -2.0 stops"
    assert found["v2_2.jpg"] == "bracket: of v2_0.jpg, at +2.0 stops"


def test_a_bracket_so_far_apart_that_its_ends_are_black_and_white_is_a_bracket(tmp_path):
    for number, stops in enumerate((-9, 0, 9)):
        save(tmp_path / "day" / f"{number}.jpg", scene(1), stops, number)
    found = reasons(tmp_path / "day")
    assert found == {
        "0.jpg": "bracket: of 1.jpg, at -9.0 stops",
        "1.jpg": "",
        "2.jpg": "bracket: of 1.jpg, at +9.0 stops",
    }


def test_exposures_a_third_of_a_stop_apart_are_a_bracket_and_no_near_duplicates(tmp_path):
    for number, stops in enumerate((-1 / 3, 0, 1 / 3)):
        save(tmp_path / "day" / f"{number}.jpg", scene(1), stops, number)
    found = reasons(tmp_path / "day", near_duplicates=3)
    assert [reason.partition(":")[0] for reason in found.values()] == ["bracket", "", "bracket"]


def test_two_series_of_one_view_in_a_row_are_two_brackets(tmp_path):
    for number, stops in enumerate((0, -2, 2, 0, -2, 2)):
        save(tmp_path / "day" / f"{number}.jpg", scene(1), stops, number)
    found = reasons(tmp_path / "day", near_duplicates=0)
    assert [name for name, reason in found.items() if not reason] == ["0.jpg", "3.jpg"]


def test_if_the_middle_one_is_of_no_use_the_next_one_is_kept(tmp_path):
    for number, stops in enumerate((2, 4, 9)):
        save(tmp_path / "day" / f"{number}.jpg", scene(1) / 4 + (6.0 if stops == 4 else 0), stops, number)
    found = reasons(tmp_path / "day")
    assert [name for name, reason in found.items() if not reason] == ["0.jpg"]


@pytest.mark.parametrize(
    ("view", "stops", "second", "model"),
    [
        (2, 2, 1, "Camera 1"),  # another view
        (1, 2, 60, "Camera 1"),  # a minute later
        (1, 2, 1, "Camera 2"),  # somebody else's
    ],
)
def test_other_views_other_times_and_other_cameras_are_no_bracket(tmp_path, view, stops, second, model):
    save(tmp_path / "day" / "a.jpg", scene(1))
    save(tmp_path / "day" / "b.jpg", scene(view), stops, second, model)
    assert reasons(tmp_path / "day") == {"a.jpg": "", "b.jpg": ""}


def test_a_view_that_the_camera_metered_anew_is_no_bracket(tmp_path):
    save(tmp_path / "day" / "a.jpg", scene(1))
    # Twice the time of half the light, a step to the side: as bright as before.
    save(tmp_path / "day" / "b.jpg", np.roll(scene(1), 12, axis=1) / 2, 1, 1)
    assert reasons(tmp_path / "day") == {"a.jpg": "", "b.jpg": ""}


def test_beside_a_raw_file_the_cameras_own_jpeg_is_left_out(tmp_path):
    folder = tmp_path / "day"
    for number in range(2):
        save(folder / f"IMG_{number}.JPG", scene(number), 0, 7)
    write_dng(folder / "img_0.dng", scene(0), taken="2024:05:01 12:00:07")
    (folder / "IMG_1.CR2").write_bytes(b"II*\0 cut short")
    found = reasons(folder)
    assert found["IMG_0.JPG"] == "twin: img_0.dng is the same moment in raw"
    assert found["img_0.dng"] == ""
    assert found["IMG_1.JPG"] == ""  # its raw file is of no use
    assert found["IMG_1.CR2"]


def eight_bit(linear):
    return np.round(linear_to_srgb(linear) * 255).astype(np.uint8)


def write_heic(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow_heif.from_bytes("RGB", rgb.shape[1::-1], rgb.tobytes()).save(path, quality=90)


def test_the_movie_of_a_live_photo_is_left_out_with_the_reason(tmp_path):
    folder = tmp_path / "day"
    write_heic(folder / "IMG_1.HEIC", eight_bit(scene(1)))
    save(folder / "IMG_2.JPG", scene(2))
    for number in (1, 2, 3):
        save_movie(folder / f"IMG_{number}.MOV", [eight_bit(scene(number + 10))] * 8)
    index = indexed(folder, movie_frames=2, near_duplicates=0)
    left_out = {photo.path.name: photo.reason for photo in index.left_out()}
    assert left_out == {
        "IMG_1.MOV": "live photo: IMG_1.HEIC shows its moment",
        "IMG_2.MOV": "live photo: IMG_2.JPG shows its moment",
    }
    assert sorted({photo.path.name for photo in index.kept()}) == ["IMG_1.HEIC", "IMG_2.JPG", "IMG_3.MOV"]


def test_a_long_movie_and_one_beside_a_broken_photo_are_movies_like_any_other(tmp_path):
    folder = tmp_path / "day"
    save(folder / "walk.jpg", scene(1))
    save_movie(folder / "walk.mov", [eight_bit(scene(2))] * 23, rate=2)
    save_movie(folder / "live.mov", [eight_bit(scene(3))] * 8)
    (folder / "live.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    index = indexed(folder, movie_frames=1)
    assert sorted({photo.path.name for photo in index.kept()}) == ["live.mov", "walk.jpg", "walk.mov"]
    (folder / "live.heic").unlink()
    write_heic(folder / "live.heic", eight_bit(scene(3)))
    again = {photo.path.name: photo.reason for photo in indexed(folder, movie_frames=1).photos}
    assert again["live.mov"] == "live photo: live.heic shows its moment"


def test_hlg_of_a_phone_becomes_light_with_reference_white_at_one(tmp_path):
    """BT.2408: 75 % of HLG is reference white; full signal is 1,000 of 203 cd/m2."""
    picture = np.full((96, 128, 3), round(0.75 * 65535), np.uint16)
    picture[:, 64:] = 65535
    picture[:, :20] = 0
    save_movie(tmp_path / "day" / "p.mov", [picture] * 2, primaries=9, transfer=18)
    (photo,) = indexed(tmp_path / "day", movie_frames=1).kept()
    assert photo.profile == "movie, HLG, Rec.2020"
    (picture,) = list(prepare_photos([photo], tmp_path / "bank", 128))
    linear = srgb_to_linear(picture)
    assert linear[48, 40] == pytest.approx([1.0] * 3, rel=0.03)
    assert linear[48, 100] == pytest.approx([1000 / 203] * 3, rel=0.03)


def test_wide_primaries_of_a_movie_are_converted(tmp_path):
    """Rec.709's red in Rec.2020 primaries is (0.6274, 0.0691, 0.0164) linear (ITU-R BT.2087)."""
    linear = np.full((96, 128, 3), 0.02, np.float32)
    linear[:, 64:] = (0.6274, 0.0691, 0.0164)
    save_movie(tmp_path / "day" / "p.mov", [eight_bit(linear)] * 2, primaries=9, transfer=14)
    (photo,) = indexed(tmp_path / "day", movie_frames=1).kept()
    assert photo.profile == "movie, Rec.2020, Rec.2020"
    (picture,) = list(prepare_photos([photo], tmp_path / "bank", 128))
    assert np.abs(picture[48, 100] - (1, 0, 0)).max() < 0.08


@pytest.mark.parametrize(
    ("primaries", "transfer", "reason"),
    [
        (1, 10, "can't be used: log 316:1 can't be converted"),
        (9, 2, "can't be used: it has Rec.2020 primaries and names no transfer function, as log footage does"),
    ],
)
def test_log_is_refused_in_one_line(tmp_path, primaries, transfer, reason):
    save_movie(tmp_path / "day" / "p.mov", [eight_bit(scene(1))] * 2, primaries=primaries, transfer=transfer)
    assert reasons(tmp_path / "day") == {"p.mov": reason}
