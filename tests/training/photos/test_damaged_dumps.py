"""A dump is never lost for a file in it: what is damaged, endless or oddly named is left out with its reason."""

import io
import os
import struct

import numpy as np
import pytest
from PIL import Image

from relightgan.core.errors import PhotoError
from relightgan.training.commands import photos as photos_command
from relightgan.training.photos.files import decode_photo
from relightgan.training.photos.index import PhotoSettings, index_photos, read_index


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    return small.resize((160, 120), Image.Resampling.BICUBIC)


def stored(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_dump_of_odd_names_and_odd_files_is_indexed_and_listed(tmp_path, capsys):
    dump = tmp_path / os.fsdecode(b"d\xfcmp")
    dump.mkdir()
    names = [b"a.jpg", b"caf\xe9.jpg", b"Error: b\n\x1b[2J.jpg", "naïve 雪.jpg".encode()]
    for number, name in enumerate(names):
        (dump / os.fsdecode(name)).write_bytes(stored(picture(number), "JPEG"))
    (dump / os.fsdecode(b"\xe9.png")).write_bytes(stored(picture(9), "PNG"))
    (dump / os.fsdecode(b"notes.\xe9t")).write_text("x")
    os.mkfifo(dump / "pipe.jpg")
    os.mkfifo(dump / "pipe.png")
    (dump / "zero.mov").symlink_to("/dev/zero")
    settings = PhotoSettings(blur_ratio=0)
    found = index_photos([dump], settings, tmp_path / "cache", workers=1)
    assert len(found.kept()) == len(names)
    reasons = {photo.name: photo.reason for photo in found.left_out()}
    assert sorted(reasons) == sorted(["\\xe9.png", "pipe.jpg", "pipe.png", "zero.mov"])
    assert "isn't a name in UTF-8" in reasons["\\xe9.png"]
    assert all("isn't a file" in reasons[name] for name in ("pipe.jpg", "pipe.png", "zero.mov"))
    assert all(photo.name.isprintable() for photo in found.photos)
    assert found.others == {".\\xe9t": 1}
    assert read_index(tmp_path / "cache" / "index.json") == found
    assert index_photos([dump], settings, tmp_path / "cache", workers=1) == found  # by the stored measures

    out = tmp_path / "out"
    assert photos_command.main([str(dump), "--out", str(out), "--workers", "1", "--blur-ratio", "0"]) == 0
    said = capsys.readouterr().out
    assert "pipe.jpg: can't be read: it isn't a file" in said
    assert "\x1b" not in said
    (folder,) = out.iterdir()
    assert folder.name == "d\\xfcmp"
    assert len((folder / "left_out.txt").read_text(encoding="utf-8").splitlines()) == 4


def with_size(content: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header says another size."""
    place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    return content[: place + 5] + struct.pack(">HH", height, width) + content[place + 9 :]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_more_pixels_than_its_bytes_can_hold_is_refused_from_its_header(progressive, tmp_path):
    path = tmp_path / "bomb.jpg"
    path.write_bytes(with_size(stored(picture(0), "JPEG", progressive=progressive), 20_000, 20_000))
    with pytest.raises(PhotoError, match=r"bomb\.jpg can't be decoded: its header says 20000x20000 pixels"):
        decode_photo(path, 640)


def test_a_plain_jpeg_is_never_taken_for_a_bomb(tmp_path):
    path = tmp_path / "black.jpg"
    Image.new("RGB", (8_000, 6_000)).save(path, progressive=True, quality=1)
    assert decode_photo(path, 64).rgb.shape == (48, 64, 3)
