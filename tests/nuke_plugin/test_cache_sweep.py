"""What is deleted from the cache, and what never is."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_relit

from relightgan.nuke_plugin import cache, cache_frames, cache_sweep, folders
from relightgan.nuke_plugin.cache import Places, key_of

ROOT = Path(__file__).resolve().parents[2]
DAY_S = 24 * 3600
KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def test_clearing_takes_one_take_and_its_frames_and_nothing_else(tmp_path, base):
    places = base(tmp_path, frames=3)
    cache_frames.link(places, KEY, "main", 9, key_of(KEY, 2))
    neighbour = base(tmp_path, OTHER)
    assert cache_sweep.clear(places, OTHER, [key_of(KEY, 0), key_of(KEY, 1), "not a key"]) == cache_sweep.Cleared(2, ())
    assert not places.take(OTHER).exists()
    assert cache.stored_keys(places) == {key_of(KEY, 2)}
    assert cache.existing_frames(places.pattern(KEY), "main") == {9}
    assert len(cache.stored_keys(neighbour)) == 2


@pytest.mark.parametrize("take", ["..", "../frames", "", "/etc"])
def test_clearing_never_leaves_its_folder(tmp_path, take, base):
    places = base(tmp_path)
    cache_sweep.clear(places, take, ["../../" + "x" * 10])
    assert len(cache.stored_keys(places)) == 2


def test_a_sweep_takes_the_longest_unused_until_the_rest_fits(tmp_path, base):
    old, older, young = "a" * 16, "b" * 16, "c" * 16
    base(tmp_path, old, days_old=3)
    base(tmp_path, older, days_old=9)
    base(tmp_path, young)
    size = size_of(tmp_path / young)
    swept = cache_sweep.sweep(tmp_path, int(size * 2.5))
    assert swept.bases == (older,)
    assert swept.bytes_freed == pytest.approx(size, rel=0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == [old, young]


def test_linked_frames_count_once(tmp_path, base):
    places = base(tmp_path, frames=2, size=100_000)
    assert 200_000 < size_of(places.folder) < 201_000


def test_what_was_used_within_a_day_stays_whatever_the_limit(tmp_path, base):
    base(tmp_path, days_old=0.9)
    assert cache_sweep.sweep(tmp_path, 0).bases == ()
    assert (tmp_path / KEY / "frames").is_dir()


def test_of_a_base_in_use_old_takes_go_and_what_the_last_one_has_stays(tmp_path, base):
    places = base(tmp_path, frames=3, size=100_000)
    shared, new = key_of(KEY, 0), key_of(KEY, "new")
    tiny_relit.write_relit(places.frame(new), new, b"n", 100_000)
    for frame, key in enumerate((shared, new)):
        cache_frames.link(places, KEY, "main", frame, key)
    days_ago(3, places.take(OTHER), *(places.frame(key) for key in cache.stored_keys(places)))
    swept = cache_sweep.sweep(tmp_path, 1000)
    assert not places.take(OTHER).exists()
    assert cache.stored_keys(places) == {shared, new}
    assert cache.existing_frames(places.pattern(KEY), "main") == {0, 1}
    assert swept.bases == ()
    assert swept.bytes_freed == 200_000


def test_copies_where_links_fail_keep_their_frames_in_the_store(tmp_path, monkeypatch, base):
    monkeypatch.setattr(os, "link", no_links)
    places = base(tmp_path, frames=2)
    unused = key_of(KEY, "unused")
    places.frame(unused).write_bytes(b"u" * 500)
    files = [*places.store.iterdir(), *(places.take(OTHER) / "main").iterdir()]
    days_ago(3, places.take(OTHER), *files)
    cache_sweep.sweep(tmp_path, 0)
    assert len(cache.stored_keys(places)) == 2
    assert not places.frame(unused).exists()


def test_a_take_that_is_used_again_stays(tmp_path, base):
    places = base(tmp_path)
    cache_frames.link(places, KEY, "main", 1, key_of(KEY, 1))
    days_ago(3, places.take(OTHER), *(places.frame(key) for key in cache.stored_keys(places)))
    cache.touch(places, take=OTHER)
    cache_sweep.sweep(tmp_path, 0)
    assert cache.existing_frames(places.pattern(OTHER), "main") == {0, 1}
    assert len(cache.stored_keys(places)) == 2


def size_of(folder):
    """Bytes that a sweep sees in a base."""
    with folders.opened_folder(folder) as place:
        return cache_sweep._size(place)


def no_links(*words, **options):
    raise OSError("no hard links here")


def days_ago(days, *places):
    """Makes files and folders look as if they had last been changed then."""
    for place in places:
        then = place.stat().st_mtime_ns - days * DAY_S * 10**9
        os.utime(place, ns=(then, then))


def test_a_sweep_within_the_limit_changes_nothing(tmp_path, base):
    base(tmp_path, days_old=30)
    before = sorted(path for path in tmp_path.rglob("*"))
    assert cache_sweep.sweep(tmp_path, 1 << 30).bytes_freed == 0
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_sweep_of_nothing_is_no_error(tmp_path):
    assert cache_sweep.sweep(tmp_path / "nowhere", 0) == cache_sweep.Swept(0, 0, (), ())


def test_a_sweep_never_touches_what_we_did_not_make(tmp_path):
    """Each of these looks a little like ours."""
    kept = [
        tmp_path / "plates" / "relit.0001.exr",
        tmp_path / KEY / "frames" / f"{OTHER}.exr",  # no sentinel
        tmp_path / OTHER / "frames" / f"{OTHER}.exr",  # the sentinel of another folder
        tmp_path / ("e" * 16) / "frames" / f"{OTHER}.exr",  # a sentinel of another program
        tmp_path / "bakes" / "render07-1-01234567" / "main" / "source.0001.exr",  # no sentinel
        tmp_path / "relit.0001.exr",
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    words = {"relightgan": 1, "base": KEY, "last_used": 0.0}
    (tmp_path / OTHER / "relightgan.json").write_text(json.dumps(words))
    (tmp_path / ("e" * 16) / "relightgan.json").write_text(json.dumps({**words, "relightgan": "?", "base": "e" * 16}))
    cache_sweep.sweep(tmp_path, 0)
    assert all(path.read_bytes() == b"mine" for path in kept)


def test_foreign_files_in_our_folder_survive_its_sweep(tmp_path, base):
    places = base(tmp_path, days_old=30)
    foreign = [
        places.folder / "notes.txt", places.store / "beauty.0001.exr", places.take(OTHER) / "main" / "plate.0001.exr"
    ]  # fmt: skip
    for path in foreign:
        path.write_bytes(b"mine")
    cache_sweep.sweep(tmp_path, 0)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"mine")
    assert left == ["beauty.0001.exr", "notes.txt", "plate.0001.exr"]
    assert not list(tmp_path.rglob("relit.*"))
    cache_sweep.sweep(tmp_path, 0)
    assert len([path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"mine"]) == 3


@pytest.mark.parametrize("place", ["base", "frames", "takes", "take", "view"])
def test_nothing_behind_a_link_is_swept(tmp_path, place, base):
    elsewhere = tmp_path / "elsewhere"
    real = base(elsewhere, days_old=30)
    root = tmp_path / "cache"
    root.mkdir()
    if place == "base":
        (root / KEY).symlink_to(real.folder)
    else:
        places = base(root, days_old=30)
        inside = {
            "frames": "frames", "takes": "takes", "take": f"takes/{OTHER}", "view": f"takes/{OTHER}/main"
        }[place]  # fmt: skip
        here, there = places.folder / inside, real.folder / inside
        for path in sorted(here.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        here.rmdir()
        here.symlink_to(there)
    cache_sweep.sweep(root, 0)
    assert len(cache.stored_keys(real)) == 2
    assert cache.existing_frames(real.pattern(OTHER), "main") == {0, 1}


def test_a_base_that_somebody_begins_to_use_during_a_sweep_stays(tmp_path, monkeypatch, base):
    base(tmp_path, days_old=30)
    sizes = cache_sweep._size

    def used_meanwhile(*words):
        cache.touch(Places(tmp_path, KEY))
        return sizes(*words)

    monkeypatch.setattr(cache_sweep, "_size", used_meanwhile)
    assert cache_sweep.sweep(tmp_path, 0).bases == ()
    assert len(cache.stored_keys(Places(tmp_path, KEY))) == 2


def test_a_sweep_that_was_killed_half_way_is_finished_by_the_next(tmp_path, base):
    places = base(tmp_path, days_old=30)
    places.folder.rename(tmp_path / f".{KEY}.sweep-01234567")
    cache_sweep.sweep(tmp_path, 1 << 40)
    assert list(tmp_path.iterdir()) == []


def test_a_bakes_folder_is_ours_alone_and_goes_with_what_a_bake_writes(tmp_path):
    folder = cache.bake_folder(tmp_path)
    assert folder.parent == tmp_path / "bakes"
    assert folder.name.startswith(f"{socket.gethostname()}-{os.getpid()}-")
    assert cache.bake_folder(tmp_path) != folder
    (folder / "main").mkdir()
    (folder / "main" / "source.-0001.exr").touch()
    cache_sweep.drop_bake_folder(folder)
    assert not folder.exists()


def test_a_bakes_folder_with_somebody_elses_file_keeps_it(tmp_path):
    folder = cache.bake_folder(tmp_path)
    (folder / "main").mkdir()
    (folder / "main" / "source.0001.exr").touch()
    (folder / "main" / "thesis.doc").touch()
    cache_sweep.drop_bake_folder(folder)
    assert [path.name for path in folder.rglob("*") if path.is_file()] != []
    assert (folder / "main" / "thesis.doc").exists()
    assert not (folder / "main" / "source.0001.exr").exists()


@pytest.mark.process
def test_only_the_bakes_of_dead_processes_are_swept(tmp_path):
    code = (
        "import sys; from pathlib import Path; from relightgan.nuke_plugin import cache; "
        "print(cache.bake_folder(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    dead, alive = Path(done.stdout.strip()), cache.bake_folder(tmp_path)
    assert dead.is_dir()
    assert cache_sweep.sweep(tmp_path, 1 << 40).bakes == (dead.name,)
    assert alive.is_dir()
    assert not dead.exists()


@pytest.mark.parametrize(("hours", "swept"), [(1, False), (25, True)])
def test_a_bake_of_another_machine_is_swept_when_it_has_been_still_for_a_day(tmp_path, hours, swept):
    folder = cache.bake_folder(tmp_path)
    other = folder.with_name(f"render-07-{os.getpid()}-01234567")
    words = json.loads((folder / "relightgan.json").read_text())
    folder.rename(other)
    (other / "relightgan.json").write_text(json.dumps({**words, "bake": other.name}))
    then = time.time() - hours * 3600
    os.utime(other, (then, then))
    assert bool(cache_sweep.sweep(tmp_path, 1 << 40).bakes) is swept
    assert other.exists() is not swept
