import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_relit

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin import cache, cache_frames
from relightgan.nuke_plugin.cache import Places, key_of

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def no_links(*_, **__):
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.process
def test_a_key_is_short_hexadecimal_and_the_same_in_a_fresh_process_whatever_its_hash_seed():
    parts = ("frame", {"b": 1.5, "a": [True, None, "ä"]}, -1001)
    code = f"from relightgan.nuke_plugin.cache import key_of; print(key_of(*{parts!r}))"
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert done.stdout.strip() == key_of(*parts)
    assert len(key_of(*parts)) == 16
    assert int(key_of(*parts), 16) >= 0


@pytest.mark.parametrize("other", [("a", "b"), ("ab", ""), (["a"], "b"), ("a", "b", None), ("b", "a")])
def test_different_parts_never_run_together_into_one_key(other):
    assert key_of("a", ["b"]) != key_of(*other)


@pytest.mark.parametrize(
    "name", ["relit.1001.exr.part", ".relit.1001.exr.0a1b2c3d.part", "relit.1001.exr.nfs0001", "xrelit.1001.exr"]
)
def test_what_is_on_its_way_into_a_take_is_no_frame_of_it(tmp_path, name, base):
    places = base(tmp_path, frames=1)
    place = cache.relit_path(places.pattern(OTHER), "main", 0).with_name(name)
    place.write_bytes(b"half")
    assert cache.existing_frames(places.pattern(OTHER), "main") == {0}


@pytest.mark.parametrize("name", [f"{KEY}.exr.part", f".{KEY}.exr.0a1b2c3d.part", f"{KEY}.exr.tmp", f"{KEY}0.exr"])
def test_what_is_on_its_way_into_the_store_is_no_frame_of_it(tmp_path, name, base):
    places = base(tmp_path, frames=0)
    (places.store / name).write_bytes(b"half")
    assert cache.stored_keys(places) == set()


def test_a_copy_that_breaks_off_where_links_fail_leaves_no_frame(tmp_path, monkeypatch, base):
    places = base(tmp_path, frames=0)
    tiny_relit.write_relit(places.frame(KEY), KEY)

    def half(_, target, *more):
        target.write(b"a who")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(cache_frames.shutil, "copyfileobj", half)
    with pytest.raises(RelightError, match="No space left on device"):
        cache_frames.link(places, OTHER, "main", 1001, KEY)
    assert cache.existing_frames(places.pattern(OTHER), "main") == set()
    assert list(places.take(OTHER).rglob("*.exr*")) == []


def test_a_stamp_changes_with_size_and_time_and_knows_a_missing_file(tmp_path):
    path = tmp_path / "plate ä.exr"
    assert cache.file_stamp(str(path)) == (str(path), -1, -1)
    path.write_bytes(b"123")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert cache.file_stamp(str(path)) == (str(path), 3, 1_700_000_000_123)
    assert cache.file_stamp("a\0b") == ("a\0b", -1, -1)


def test_a_pattern_has_forward_slashes_view_and_frame_and_finds_negative_and_large_frames(tmp_path, base):
    places = base(tmp_path / "cache with ä space", frames=1)
    pattern = places.pattern(OTHER)
    assert pattern.endswith(f"/{KEY}/takes/{OTHER}/%V/relit.%04d.exr")
    assert "\\" not in pattern
    for frame in (-7, 1_000_000):
        cache_frames.link(places, OTHER, "left", frame, key_of(KEY, 0))
    assert cache.existing_frames(pattern, "left") == {-7, 1_000_000}
    assert cache.existing_frames(pattern, "right") == set()
    assert cache.relit_path(pattern, "left", -7).name == "relit.-007.exr"


@pytest.mark.parametrize("pattern", ["", "/somewhere/%V/beauty.%04d.exr", "nonsense"])
def test_what_is_no_take_has_no_frames(tmp_path, pattern):
    assert cache.existing_frames(pattern, "main") == set()


def test_a_link_is_the_stored_file_itself_and_is_made_once(tmp_path, base):
    places = base(tmp_path, frames=1)
    target = cache.relit_path(places.pattern(OTHER), "main", 0)
    assert target.samefile(places.frame(key_of(KEY, 0)))
    assert cache_frames.link(places, OTHER, "main", 0, key_of(KEY, 0)) is False
    assert [path.name for path in target.parent.iterdir()] == ["relit.0000.exr"]


def test_a_link_takes_the_place_of_another_frame(tmp_path, base):
    places = base(tmp_path, frames=2)
    assert cache_frames.link(places, OTHER, "main", 0, key_of(KEY, 1)) is True
    assert cache.relit_path(places.pattern(OTHER), "main", 0).samefile(places.frame(key_of(KEY, 1)))


def test_where_links_fail_a_copy_is_made_and_known_as_the_same(tmp_path, monkeypatch, base):
    monkeypatch.setattr(os, "link", no_links)
    places = base(tmp_path, frames=2)
    stored, copy = places.frame(key_of(KEY, 0)), cache.relit_path(places.pattern(OTHER), "main", 0)
    assert not copy.samefile(stored)
    assert copy.read_bytes() == stored.read_bytes()
    assert copy.stat().st_mtime_ns == stored.stat().st_mtime_ns
    assert cache_frames.fault_of(copy, key_of(KEY, 0), thorough=True) == ""
    assert cache_frames.link(places, OTHER, "main", 0, key_of(KEY, 0)) is False


def test_linking_what_the_store_lacks_names_the_file_and_leaves_nothing(tmp_path, base):
    places = base(tmp_path, frames=1)
    with pytest.raises(cache_frames.NotWhole, match=r"0000\.exr can't be used: no file"):
        cache_frames.link(places, OTHER, "main", 5, "0" * 16)
    assert cache.existing_frames(places.pattern(OTHER), "main") == {0}
    assert not list(places.folder.rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RelightError, match="RELIGHTGAN_CACHE"):
        cache.touch(Places(tmp_path / "file", KEY))


def test_touching_says_who_made_it_and_when_it_was_used_without_writing_each_time(tmp_path, base):
    places = base(tmp_path, days_old=3)
    cache.touch(places)
    words = json.loads(places.sentinel.read_text())
    assert words["look"] == "dusk.onnx"
    assert words["base"] == KEY
    assert words["created"] <= words["last_used"]
    assert time.time() - words["last_used"] < 60
    before = places.sentinel.stat().st_ino
    cache.touch(places)
    assert places.sentinel.stat().st_ino == before
