"""Files of others: read where they are regular and small, refused at once where they aren't."""

import os
from pathlib import Path

import pytest

from relightgan.core.regular import open_regular, read_regular, size_text


def test_a_regular_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read_regular(str(link), 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(path, 4)
    for limit in (5, None):
        with open_regular(path, limit) as file:
            assert file.read(2) == b"12"


def test_a_file_whose_stated_size_is_wrong_is_refused(tmp_path):
    """Those of /proc say that they are empty."""
    link = tmp_path / "maps"
    link.symlink_to("/proc/self/maps")
    with pytest.raises(OSError, match="larger than 1 kB"):
        read_regular(link, 1024)


@pytest.mark.parametrize("kind", ["pipe", "folder", "zero", "tty"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(f"/dev/{kind}")
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="it isn't a file") as caught:
        read_regular(path, 1 << 20)
    assert caught.value.strerror == "it isn't a file"
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_pipe_that_takes_a_files_place_is_refused_after_opening(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    open_it = os.open

    def swapped(place, flags, **more):
        path.unlink()
        os.mkfifo(path)
        return open_it(place, flags, **more)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(OSError, match="it isn't a file"):
        read_regular(path, 10)


@pytest.mark.parametrize("name", ["gone", "a\0b", "x" * 300])
def test_a_name_without_a_file_is_an_error_of_the_system(tmp_path, name):
    with pytest.raises(OSError, match=r".") as caught:
        read_regular(f"{tmp_path}/{name}", 10)
    assert caught.value.strerror


@pytest.mark.parametrize(
    ("size", "text"), [(10, "10 bytes"), (4096, "4 kB"), (4 << 20, "4 MB"), (2 << 30, "2 GB"), (1536, "1.5 kB")]
)
def test_sizes_are_written_for_people(size, text):
    assert size_text(size) == text
