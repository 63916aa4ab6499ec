"""The lines in an init.py that make Nuke find our folder, added and taken away without touching another byte.

Works on bytes: the file is the user's, in any encoding that Python takes and with any line ends.
"""

import shutil
from pathlib import Path

from relightgan.core.errors import InstallError
from relightgan.core.files import replacing

FOLDER = "RelightGAN"
BEGIN = b"# >>> RelightGAN: written by `relightgan nuke-install`, removed by `relightgan nuke-install --uninstall`"
END = b"# <<< RelightGAN"
BLOCK = (BEGIN, b"import nuke", b'nuke.pluginAddPath("./%s")' % FOLDER.encode(), END)


def with_block(text: bytes, path: Path) -> bytes:
    """An init.py with our block at its end, once; in the file's own line ends.

    Where the text doesn't end its last line, neither does the block: so `without_block` knows what to give back.

    Raises:
        InstallError: the block is there, but not whole.
    """
    text = without_block(text, path)
    newline = b"\r\n" if b"\r\n" in text else b"\n"
    block = newline.join(BLOCK)
    return text + newline + block if text and not text.endswith((b"\n", b"\r")) else text + block + newline


def without_block(text: bytes, path: Path) -> bytes:
    """An init.py without our block, every other byte as it is.

    Raises:
        InstallError: the block is there, but not whole.
    """
    start = text.find(BEGIN)
    if start < 0:
        return text
    end = text.find(END, start)
    if end < 0:
        raise InstallError(
            f"{path} has only a part of RelightGAN's lines.", f"Remove those from '{BEGIN.decode()}' on."
        )
    before, after = text[:start], text[end + len(END) :]
    for newline in (b"\r\n", b"\n"):
        if after.startswith(newline):
            return before + after[len(newline) :]
    return before.removesuffix(b"\n").removesuffix(b"\r") + after


def read_start(path: Path) -> bytes | None:
    """The bytes of an init.py, None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write_start(path: Path, text: bytes) -> None:
    """Writes an init.py, whole or not at all, with its rights; where it is a link, the file that it leads to."""
    if read_start(path) == text:
        return
    target = path.resolve()
    with replacing(target, lambda error: cannot_write(target, error)) as temporary:
        temporary.write_bytes(text)
        if target.exists():
            shutil.copymode(target, temporary)


def cannot_write(path: Path, error: OSError) -> InstallError:
    """The error for a file or folder that can't be written or removed."""
    return InstallError(
        f"{path} can't be written: {error.strerror or error}.", "Check its rights, or give another --into."
    )
