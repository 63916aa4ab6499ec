"""A cache that many users write into, one of whom may be careless or hostile: what counts, and what is deleted."""

import contextlib
import errno
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import tiny_relit

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin import cache, cache_frames, cache_sweep, folders
from relightgan.nuke_plugin.cache import Places, key_of

ROOT = Path(__file__).resolve().parents[2]
DAY_S = 24 * 3600
KEY, TAKE, OTHER = "0123456789abcdef", "fedcba9876543210", "00000000ffffffff"
PLACES = {
    "base": "", "frames": "frames", "takes": "takes", "take": f"takes/{TAKE}", "view": f"takes/{TAKE}/main"
}  # fmt: skip


@pytest.fixture(params=[pytest.param(True, id="by descriptor"), pytest.param(False, id="as on Windows")])
def both_ways(request, monkeypatch):
    """Runs a test with descriptors of folders, and with the checks that stand in for them on Windows."""
    if request.param and not folders.BY_DESCRIPTOR:
        pytest.skip("this system has no such calls")
    monkeypatch.setattr(folders, "BY_DESCRIPTOR", request.param)
    return request.param


@pytest.fixture
def two(tmp_path, base):
    """Our cache, and somebody else's with five frames."""
    return base(tmp_path / "ours", frames=5, days_old=30), base(tmp_path / "theirs", frames=5, days_old=30)


def lead_astray(ours, theirs, place):
    """Puts a link to the same folder of the other cache in place of one of ours."""
    here, there = ours.folder / PLACES[place], theirs.folder / PLACES[place]
    shutil.rmtree(here)
    here.symlink_to(there)


def is_untouched(places):
    frames = [cache.relit_path(places.pattern(TAKE), "main", frame) for frame in range(5)]
    return len(cache.stored_keys(places)) == 5 and all(path.is_file() for path in frames)


# Nothing behind a link


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("place", PLACES)
def test_clearing_deletes_nothing_behind_a_link_and_says_so(two, place):
    ours, theirs = two
    lead_astray(ours, theirs, place)
    cleared = cache_sweep.clear(ours, TAKE, [key_of(KEY, frame) for frame in range(5)])
    assert is_untouched(theirs)
    assert cleared.frames == (0 if place in ("base", "frames") else 5)
    assert cleared.left == (f"{ours.folder / PLACES[place]} is a link, not a folder",)
    assert (ours.folder / PLACES[place]).is_symlink()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("place", PLACES)
def test_a_sweep_deletes_nothing_behind_a_link_and_says_so(two, place):
    ours, theirs = two
    lead_astray(ours, theirs, place)
    swept = cache_sweep.sweep(ours.root, 0)
    assert is_untouched(theirs)
    assert swept.bases == (() if place == "base" else (KEY,))
    assert [line.rpartition("/")[2] for line in swept.left] == [
        f"{(ours.folder / PLACES[place]).name} is a link, not a folder"
    ]


@pytest.mark.usefixtures("both_ways")
def test_a_bakes_folder_behind_a_link_stays(tmp_path):
    folder = cache.bake_folder(tmp_path / "theirs")
    (folder / "main").mkdir()
    (folder / "main" / "source.0001.exr").touch()
    ours = tmp_path / "ours" / "bakes"
    ours.mkdir(parents=True)
    link = ours / folder.name
    link.symlink_to(folder)
    cache_sweep.drop_bake_folder(link)
    cache_sweep.sweep_bakes(tmp_path / "ours")
    (ours / "x-1-01234567").symlink_to(folder)
    shutil.rmtree(ours)
    ours.symlink_to(tmp_path / "theirs" / "bakes")
    assert cache_sweep.sweep(tmp_path / "ours", 0).left == (f"{ours} is a link, not a folder",)
    assert (folder / "main" / "source.0001.exr").exists()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("place", ["frames", "takes", "take", "view"])
def test_a_folder_exchanged_for_a_link_between_check_and_deletion_takes_nothing_along(two, monkeypatch, place):
    ours, theirs = two
    unlink, moved = folders.Folder.unlink, ours.root / "moved"

    def exchanged_first(folder, name):
        if not moved.exists() and name.endswith(".exr") and (place != "frames" or folder.path.name == "frames"):
            (ours.folder / PLACES[place]).rename(moved)
            (ours.folder / PLACES[place]).symlink_to(theirs.folder / PLACES[place])
        unlink(folder, name)

    monkeypatch.setattr(folders.Folder, "unlink", exchanged_first)
    cache_sweep.clear(ours, TAKE, [key_of(KEY, frame) for frame in range(5)])
    assert moved.exists()
    assert is_untouched(theirs)


@pytest.mark.usefixtures("both_ways")
def test_a_base_exchanged_for_a_link_before_it_is_renamed_is_put_back(two, monkeypatch):
    ours, theirs = two
    rename = folders.Folder.rename

    def exchanged_first(folder, name, other):
        if name == KEY and not ours.folder.is_symlink():
            ours.folder.rename(ours.root / "moved")
            ours.folder.symlink_to(theirs.folder)
        rename(folder, name, other)

    monkeypatch.setattr(folders.Folder, "rename", exchanged_first)
    assert cache_sweep.sweep(ours.root, 0).bases == ()
    assert is_untouched(theirs)
    assert sorted(path.name for path in ours.root.iterdir()) == [KEY, "moved"]
    assert ours.folder.is_symlink()


def test_a_base_that_is_used_right_before_it_is_renamed_stays(tmp_path, base, monkeypatch):
    places, rename = base(tmp_path, days_old=30), folders.Folder.rename

    def used_first(folder, name, other):
        if name == KEY:
            monkeypatch.undo()
            cache.touch(places)
        rename(folder, name, other)

    monkeypatch.setattr(folders.Folder, "rename", used_first)
    assert cache_sweep.sweep(tmp_path, 0).bases == ()
    assert len(cache.stored_keys(places)) == 2


@pytest.mark.usefixtures("both_ways")
def test_a_linked_cache_folder_that_the_user_chose_is_swept_like_any_other(tmp_path, base):
    base(tmp_path / "disk", days_old=30)
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    assert cache_sweep.sweep(tmp_path / "cache", 0).bases == (KEY,)


def test_a_link_in_place_of_a_frame_goes_and_what_it_leads_to_stays(two):
    ours, theirs = two
    key = key_of(KEY, 1)
    ours.frame(key).unlink()
    ours.frame(key).symlink_to(theirs.frame(key))
    assert cache_sweep.clear(ours, TAKE, [key, key_of(KEY, 2)]) == cache_sweep.Cleared(1, ())
    assert not ours.frame(key).is_symlink()
    assert is_untouched(theirs)


def test_frames_stay_while_a_link_hides_which_of_them_are_used(two):
    ours, theirs = two
    cache.touch(ours)
    lead_astray(ours, theirs, "takes")
    then = time.time() - 9 * DAY_S
    for key in cache.stored_keys(ours):
        os.utime(ours.frame(key), (then, then))
    assert cache_sweep.sweep(ours.root, 0).left == (f"{ours.folder}/takes is a link, not a folder",)
    assert len(cache.stored_keys(ours)) == 5


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("place", ["base", "takes", "take", "view"])
def test_linking_puts_nothing_into_a_folder_behind_a_link(two, place):
    ours, theirs = two
    key = key_of(KEY, 9)
    lead_astray(ours, theirs, place)
    if place != "base":
        tiny_relit.write_relit(ours.frame(key), key)
    else:
        tiny_relit.write_relit(theirs.frame(key), key)
    with pytest.raises(RelightError, match="is a link, not a folder"):
        cache_frames.link(ours, TAKE, "main", 3, key)
    assert cache_frames.fault_of(cache.relit_path(theirs.pattern(TAKE), "main", 3), key_of(KEY, 3)) == ""


def test_no_sentinel_is_written_behind_a_link(two):
    ours, theirs = two
    before = theirs.sentinel.read_bytes()
    lead_astray(ours, theirs, "base")
    with pytest.raises(RelightError, match=f"{KEY} is a link, not a folder"):
        cache.touch(ours, take=TAKE)
    assert theirs.sentinel.read_bytes() == before


# Only ours, whatever else happens


@pytest.mark.process
def test_two_sweeps_of_one_cache_at_once_take_all_and_trip_over_nothing(tmp_path, base):
    for number in range(12):
        base(tmp_path, f"{number:016x}", frames=8, days_old=30)
    code = (
        "import sys, time; from pathlib import Path; from relightgan.nuke_plugin import cache_sweep\n"
        "while not Path(sys.argv[1] + '/go').exists(): pass\n"
        "print(cache_sweep.sweep(Path(sys.argv[1]), 0).left)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    sweeps = [subprocess.Popen(command, env=environment, **told) for _ in range(3)]
    time.sleep(0.3)
    (tmp_path / "go").touch()
    said = [sweep.communicate(timeout=60)[0].decode() for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0, 0], said
    assert said == ["()\n"] * 3
    cache_sweep.sweep(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["go"]


def test_a_sweep_while_a_bake_writes_leaves_its_frames(tmp_path):
    places, done = Places(tmp_path, KEY), threading.Event()
    swept = []

    def sweeps():
        while not done.is_set():
            swept.append(cache_sweep.sweep(tmp_path, 0))

    thread = threading.Thread(target=sweeps)
    thread.start()
    try:
        for frame in range(40):
            cache.touch(places)
            places.store.mkdir(exist_ok=True)
            key = key_of(KEY, frame)
            tiny_relit.write_relit(places.frame(key), key)
            cache_frames.link(places, TAKE, "main", frame, key)
    finally:
        done.set()
        thread.join()
    assert swept
    assert {line for result in swept for line in result.left} == set()
    assert cache.existing_frames(places.pattern(TAKE), "main") == set(range(40))
    assert len(cache.stored_keys(places)) == 40


ODD = [
    b"line\nbreak.exr", b"\xff\xfe.exr", "relit.١٠٠١.exr".encode(), b"relit.01001.exr", b"relit.1001.exr\n",
    b"-rf.exr", b"0123456789ABCDEF.exr", b"0123456789abcdef.exr ", b".hidden.part", b"a\x1b[31m.exr",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_no_frames_trip_nothing_and_stay(tmp_path, base, name):
    places = base(tmp_path, frames=1, days_old=30)
    view = places.take(TAKE) / "main"
    for folder in (places.store, view):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:  # noqa: PTH118, PTH123 - no name in UTF-8
            file.write(b"mine")
    assert cache.stored_keys(places) == {key_of(KEY, 0)}
    assert cache.existing_frames(places.pattern(TAKE), "main") == {0}
    assert cache_sweep.sweep(tmp_path, 0).left == ()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"mine"]
    assert [os.fsencode(path.name) for path in left] == [name, name]


@pytest.mark.parametrize("process", ["9" * 40, "4194305", "٣"])
def test_a_bake_of_a_process_that_cannot_be_trips_nothing(tmp_path, process):
    folder = cache.bake_folder(tmp_path)
    odd = folder.with_name(folder.name.rpartition(f"-{os.getpid()}-")[0] + f"-{process}-01234567")
    folder.rename(odd)
    (odd / "relightgan.json").write_text(json.dumps({"relightgan": 1, "bake": odd.name, "last_used": 1.0}))
    assert cache_sweep.sweep_bakes(tmp_path) == ([] if process == "٣" else [odd.name])


@contextlib.contextmanager
def as_nobody():
    """Root may read everything, and so tests nothing about rights."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())


@pytest.mark.skipif(os.name == "nt", reason="rights are others there")
def test_a_store_that_cannot_be_read_is_told_and_stays(base):
    root = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    try:
        places = base(root, days_old=30)
        key, size = key_of(KEY, 0), 1000
        for place in (root, places.folder, places.folder / "takes", places.take(TAKE), places.take(TAKE) / "main"):
            place.chmod(0o777)
        places.store.chmod(0)
        with as_nobody():
            assert cache_frames.fault_of(places.frame(key), key) == "unreadable: Permission denied"
            cleared = cache_sweep.clear(places, "", [key])
            swept = cache_sweep.sweep(root, 0)
        assert cleared == cache_sweep.Cleared(0, (f"{places.store}: Permission denied",))
        assert any(line.endswith("/frames: Permission denied") for line in swept.left)
        assert swept.bytes_freed <= 2 * size
        (store,) = root.rglob("frames")
        store.chmod(0o755)
        assert cache_frames.fault_of(store / f"{key}.exr", key) == ""
        assert cache_sweep.sweep(root, 0).left == ()
        assert list(root.iterdir()) == []
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("refused", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_while_linking_leaves_the_take_as_it_was(tmp_path, base, monkeypatch, refused):
    places = base(tmp_path, frames=2)
    target = cache.relit_path(places.pattern(TAKE), "main", 0)
    before = target.stat().st_ino

    def full(*_, **__):
        raise OSError(refused, os.strerror(refused))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(RelightError, match=f"relit.0000.exr can't be put in place: {os.strerror(refused)}"):
        cache_frames.link(places, TAKE, "main", 0, key_of(KEY, 1))
    assert target.stat().st_ino == before
    assert sorted(path.name for path in target.parent.iterdir()) == ["relit.0000.exr", "relit.0001.exr"]


def test_a_base_whose_sweep_was_killed_at_its_very_end_goes(tmp_path):
    (tmp_path / f".{KEY}.sweep-01234567").mkdir()
    (tmp_path / f".{OTHER}.sweep-01234567").mkdir()
    (tmp_path / f".{OTHER}.sweep-01234567" / "mine").touch()
    cache_sweep.sweep(tmp_path, 1 << 40)
    assert [path.name for path in tmp_path.iterdir()] == [f".{OTHER}.sweep-01234567"]


# Only whole frames count


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.unlink()
    path.write_bytes(content)


def exchange(path, make):
    path.unlink()
    make(path)


PLANTS = {
    "an empty file": lambda path, key: exchange(path, lambda it: it.touch()),
    "a link": lambda path, key: (path.rename(path.parent / "kept"), path.symlink_to(path.parent / "kept")),
    "a folder": lambda path, key: exchange(path, lambda it: it.mkdir()),
    "a device or pipe": lambda path, key: exchange(path, os.mkfifo),
    "cut short": lambda path, key: exchange(path, lambda it: it.write_bytes(tiny_relit_of(key)[:500])),
    "another frame": lambda path, key: exchange(path, lambda it: tiny_relit.write_relit(it, OTHER)),
    "no relit frame": lambda path, key: exchange(path, lambda it: it.write_bytes(tiny_relit_of("")[:800])),
    "damaged": lambda path, key: flipped(path),
}


def tiny_relit_of(key):
    with tempfile.TemporaryDirectory() as folder:
        return tiny_relit.write_relit(Path(folder, "a.exr"), key).read_bytes()


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_whole_frame_is_told_and_never_linked(tmp_path, base, plant):
    places, key = base(tmp_path), key_of(KEY, 0)
    PLANTS[plant](places.frame(key), key)
    assert cache_frames.fault_of(places.frame(key), key, thorough=True) == plant
    assert cache_frames.in_the_way(places, [key, key_of(KEY, 1), OTHER]) == {key: plant}
    with pytest.raises(cache_frames.NotWhole, match=f"{key}.exr can't be used: {plant}"):
        cache_frames.link(places, OTHER, "main", 7, key)
    assert not cache.relit_path(places.pattern(OTHER), "main", 7).exists()


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_whole_frame_makes_way_for_a_bake_and_others_stay(tmp_path, base, plant):
    places, key = base(tmp_path), key_of(KEY, 0)
    PLANTS[plant](places.frame(key), key)
    cache_frames.make_way(places, cache_frames.in_the_way(places, [key, key_of(KEY, 1)]))
    assert not os.path.lexists(places.frame(key))
    assert cache_frames.fault_of(places.frame(key_of(KEY, 1)), key_of(KEY, 1)) == ""


@pytest.mark.parametrize("plant", PLANTS)
def test_a_frame_takes_the_place_of_what_is_none_in_a_take(tmp_path, base, plant):
    places, key = base(tmp_path), key_of(KEY, 0)
    target = cache.relit_path(places.pattern(TAKE), "main", 0)
    PLANTS[plant](target, key)
    if plant == "damaged":
        assert cache_frames.fault_of(target, key, thorough=True) == plant
    assert cache_frames.link(places, TAKE, "main", 0, key) is True
    assert target.samefile(places.frame(key))
    assert not target.is_symlink()


def test_a_folder_with_something_in_it_is_never_emptied(tmp_path, base):
    places, key = base(tmp_path), key_of(KEY, 0)
    PLANTS["a folder"](places.frame(key), key)
    (places.frame(key) / "mine").touch()
    with pytest.raises(RelightError, match="can't be removed: Directory not empty"):
        cache_frames.make_way(places, [key])
    assert (places.frame(key) / "mine").exists()


def test_no_way_is_made_behind_a_link(two):
    ours, theirs = two
    lead_astray(ours, theirs, "frames")
    with pytest.raises(RelightError, match="frames is a link, not a folder"):
        cache_frames.make_way(ours, [key_of(KEY, 0)])
    assert is_untouched(theirs)


def test_a_frame_exchanged_between_check_and_link_is_not_shown(tmp_path, base, monkeypatch):
    places, key, link = base(tmp_path), key_of(KEY, 0), folders.Folder.link

    def exchanged_first(folder, target, name):
        PLANTS["another frame"](target, key)
        link(folder, target, name)

    monkeypatch.setattr(folders.Folder, "link", exchanged_first)
    with pytest.raises(cache_frames.NotWhole, match="changed meanwhile"):
        cache_frames.link(places, OTHER, "main", 7, key)
    assert list((places.take(OTHER) / "main").iterdir()) == []


def test_a_link_in_the_store_made_between_check_and_link_is_not_followed(two, monkeypatch):
    ours, theirs = two
    key, link = key_of(KEY, 0), folders.Folder.link

    def exchanged_first(folder, target, name):
        target.unlink()
        target.symlink_to(theirs.frame(key))
        link(folder, target, name)

    monkeypatch.setattr(folders.Folder, "link", exchanged_first)
    with pytest.raises(cache_frames.NotWhole, match="changed meanwhile"):
        cache_frames.link(ours, OTHER, "main", 7, key)
    assert list((ours.take(OTHER) / "main").iterdir()) == []


def test_each_file_is_read_once_and_again_when_it_changed(tmp_path, base, monkeypatch):
    places, key = base(tmp_path), key_of(KEY, 0)
    target, reads = cache.relit_path(places.pattern(TAKE), "main", 0), []
    is_whole = cache_frames.frame_seal.is_whole
    monkeypatch.setattr(cache_frames.frame_seal, "is_whole", lambda *words: reads.append(1) or is_whole(*words))
    for _ in range(5):
        assert cache_frames.fault_of(target, key, thorough=True) == ""  # linking checked it
        assert cache_frames.fault_of(places.frame(key), key, thorough=True) == ""  # the same file
    assert reads == []
    with target.open("r+b") as file:  # in place, as no program of ours does
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    os.utime(target, ns=(1, 1))
    assert cache_frames.fault_of(target, key) == "damaged"
    assert cache_frames.fault_of(places.frame(key), key) == "damaged"
    assert reads == [1]


def test_looking_at_hundreds_of_frames_again_takes_milliseconds(tmp_path, base):
    places = base(tmp_path, frames=500)
    paths = {key_of(KEY, frame): cache.relit_path(places.pattern(TAKE), "main", frame) for frame in range(500)}
    took = []
    for _ in range(5):
        started = time.perf_counter()
        assert {cache_frames.fault_of(path, key) for key, path in paths.items()} == {""}
        took.append(time.perf_counter() - started)
    assert min(took) < 0.05


# The sentinel


def spoil(places, **words):
    known = json.loads(places.sentinel.read_text())
    places.sentinel.write_text(json.dumps({**known, **words}))


def used(places):
    return json.loads(places.sentinel.read_text())["last_used"]


HUGE = pytest.param(10**400, id="huge")
IMPOSSIBLE = [math.inf, -math.inf, math.nan, -1.0, 0, HUGE, 1e308, None, "yesterday", True, [], 4e9]


@pytest.mark.parametrize("time_s", IMPOSSIBLE)
def test_a_time_that_cannot_be_counts_as_now_is_mended_and_so_the_base_goes_in_the_end(tmp_path, base, time_s):
    places = base(tmp_path)
    spoil(places, last_used=time_s)
    assert cache_sweep.sweep(tmp_path, 0).bases == ()
    assert abs(used(places) - time.time()) < 60
    assert json.loads(places.sentinel.read_text())["look"] == "dusk.onnx"
    assert cache_sweep.sweep(tmp_path, 0, time.time() + 2 * DAY_S).bases == (KEY,)


@pytest.mark.parametrize("time_s", IMPOSSIBLE)
def test_a_time_that_cannot_be_is_mended_by_the_next_use(tmp_path, base, time_s):
    places = base(tmp_path)
    spoil(places, last_used=time_s)
    cache.touch(places)
    assert abs(used(places) - time.time()) < 60


@pytest.mark.parametrize("ahead_s", [-30 * DAY_S, 30 * DAY_S])
def test_the_file_servers_clock_counts_whatever_ours_says(tmp_path, base, monkeypatch, ahead_s):
    now = time.time
    old, new = Places(tmp_path, KEY), Places(tmp_path, OTHER)
    base(tmp_path, KEY, days_old=9)
    monkeypatch.setattr(time, "time", lambda: now() + ahead_s)
    cache.touch(new)
    assert abs(used(new) - now()) < 60
    assert cache_sweep.sweep(tmp_path, 0).bases == (KEY,)
    assert (old.folder.exists(), new.folder.exists()) == (False, True)


def test_a_base_whose_time_says_long_unused_is_renewed_though_this_process_used_it_just_now(tmp_path, base):
    places = base(tmp_path)
    cache.touch(places)
    spoil(places, last_used=time.time() - 9 * DAY_S)
    cache.touch(places)
    assert abs(used(places) - time.time()) < 60


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "large", "nested", "no text", "a list", "another"])
def test_a_sentinel_that_is_none_holds_nobody_up_and_nothing_is_deleted(two, kind):
    ours, theirs = two
    ours.sentinel.unlink()
    {
        "pipe": lambda: os.mkfifo(ours.sentinel),
        "link": lambda: ours.sentinel.symlink_to(theirs.sentinel),
        "folder": lambda: ours.sentinel.mkdir(),
        "large": lambda: ours.sentinel.write_text(theirs.sentinel.read_text() + " " * 70_000),
        "nested": lambda: ours.sentinel.write_text("[" * 60_000),
        "no text": lambda: ours.sentinel.write_bytes(b"\xff\xfe"),
        "a list": lambda: ours.sentinel.write_text("[1]"),
        "another": lambda: ours.sentinel.write_text('{"relightgan": 7}'),
    }[kind]()
    assert cache.read_sentinel(ours.folder) is None
    assert cache_sweep.sweep(ours.root, 0).bases == ()
    assert cache_sweep.clear(ours, TAKE, [key_of(KEY, 0)]).frames == 0
    assert is_untouched(ours)
    if kind != "folder":
        cache.touch(ours, {"look": "dusk.onnx"})
        assert cache.read_sentinel(ours.folder)["base"] == KEY
        assert not ours.sentinel.is_symlink()


def test_a_take_of_a_clock_far_ahead_goes_in_the_end(tmp_path, base):
    places = base(tmp_path)
    for frame, take in enumerate((OTHER, "1" * 16)):
        cache_frames.link(places, take, "main", frame, key_of(KEY, frame))
    ahead = time.time() + 900 * DAY_S
    os.utime(places.take(OTHER), (ahead, ahead))
    os.utime(places.take("1" * 16), (ahead + 1, ahead + 1))
    cache_sweep.sweep(tmp_path, 0)
    assert abs(places.take(OTHER).stat().st_mtime - time.time()) < 60
