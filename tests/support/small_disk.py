"""Disks that fill up: a limit on the size of files, which cuts a write short and then refuses, as a full disk does."""

import contextlib
import resource
import subprocess

import pytest


@contextlib.contextmanager
def file_limit(size):
    """Within it, this process can't make a file longer than `size` bytes: the system says EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def small_disk(folder, size):
    """Mounts a disk of `size` ("128k") in a new folder; skips the test where that isn't allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
