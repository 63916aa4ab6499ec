"""Prepared photos: the same pixels as the files, decoded once, mapped and not read."""

import av
import cv2
import numpy as np
import OpenImageIO
import pytest
from PIL import Image

from relightgan.core.colour import linear_to_model
from relightgan.core.errors import PhotoError
from relightgan.training.photos import bank as prepare
from relightgan.training.photos.bank import prepare_photos
from relightgan.training.photos.index import PhotoSettings, index_photos, load_photo

KEEP_ALL = PhotoSettings(near_duplicates=0, blur_ratio=0)


def picture(seed):
    blobs = np.random.default_rng(seed).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(blobs, (160, 120), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(picture(seed)).save(folder / f"{seed}.jpg", quality=95)
    spec = OpenImageIO.ImageSpec(160, 120, 3, "half")
    out = OpenImageIO.ImageOutput.create(str(folder / "hdr.exr"))
    assert out.open(str(folder / "hdr.exr"), spec)
    assert out.write_image(np.linspace(0, 30, 160 * 120 * 3, dtype=np.float32).reshape(120, 160, 3))
    out.close()
    return index_photos([folder], KEEP_ALL, tmp_path / "cache").kept()


def test_prepared_photos_are_the_photos(photos, tmp_path):
    bank = prepare_photos(photos, tmp_path / "bank", 100)
    assert len(bank) == 4
    assert bank.photos == tuple(photos)
    for row, photo in enumerate(photos):
        image = bank[row]
        assert (image.dtype, image.shape) == (np.float32, (75, 100, 3))
        assert np.allclose(image, load_photo(photo, 100), atol=2e-3)


def test_ordinary_photos_take_a_byte_and_bright_ones_keep_their_light(photos, tmp_path):
    bank = prepare_photos(photos, tmp_path / "bank", 4096)
    assert [bank.pixels(row).dtype for row in range(4)] == [np.uint8] * 3 + [np.float16]
    expected = linear_to_model(np.linspace(0, 30, 160 * 120 * 3).astype(np.float16).astype(np.float32), "srgb_log")
    assert np.allclose(bank[3].ravel(), expected, rtol=1e-3, atol=1e-4)


def test_pixels_are_mapped_from_disk_and_cannot_be_changed(photos, tmp_path):
    pixels = prepare_photos(photos, tmp_path / "bank", 100).pixels(0)
    assert isinstance(pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 0


def test_a_photo_is_decoded_once_for_each_size(photos, tmp_path, monkeypatch):
    prepare_photos(photos[:2], tmp_path / "bank", 100)
    decoded = []
    load = prepare.load_pixels
    monkeypatch.setattr(
        prepare, "load_pixels", lambda group, side: decoded.append((group[0].name, side)) or load(group, side)
    )
    prepare_photos(photos[:3], tmp_path / "bank", 100)
    prepare_photos(photos[:1], tmp_path / "bank", 50)
    assert decoded == [("2.jpg", 100), ("0.jpg", 50)]
    assert not [path for path in (tmp_path / "bank").rglob("*") if path.name.endswith((".tmp", ".part"))]


def test_frames_of_a_movie_are_prepared_from_one_opening_of_it(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    with av.open(str(tmp_path / "set" / "clip.mp4"), "w") as movie:
        stream = movie.add_stream("libx264", rate=24, options={"crf": "12", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for seed in range(30):
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(picture(seed), format="rgb24")))
        movie.mux(stream.encode())
    settings = PhotoSettings(near_duplicates=0, blur_ratio=0, movie_frames=8)
    photos = index_photos([tmp_path / "set"], settings, tmp_path / "cache").kept()
    groups = []
    load = prepare.load_pixels
    monkeypatch.setattr(prepare, "load_pixels", lambda group, side: groups.append(len(group)) or load(group, side))
    bank = prepare_photos(photos, tmp_path / "bank", 4096)
    assert groups == [8]
    for row, photo in enumerate(photos):
        assert np.abs(bank[row] - picture(photo.frame) / 255).mean() < 0.04


def test_a_photo_that_has_gone_is_named(photos, tmp_path):
    photos[1].path.unlink()
    with pytest.raises(PhotoError, match=r"1\.jpg"):
        prepare_photos(photos, tmp_path / "bank", 100)


def test_a_prepared_file_that_has_gone_or_is_damaged_is_named(photos, tmp_path):
    bank = prepare_photos(photos, tmp_path / "bank", 100)
    bank.paths[0].write_bytes(b"")
    bank.paths[1].unlink()
    for row in (0, 1):
        with pytest.raises(PhotoError, match=r"\.npy can't be read"):
            bank[row]
