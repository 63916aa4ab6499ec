"""Files of the store without a worker: an OpenEXR header with a key, then any bytes, sealed as the worker does."""

import struct
from pathlib import Path

from relightgan.core import frame_seal


def relit_bytes(key: str, fill: bytes = b"\x07", size: int = 1000, **more: str) -> bytes:
    """An unsealed frame.

    Args:
        key: its frame key.
        fill: what its pixels are made of.
        size: bytes of the file.
        more: further strings of its header, before the key.
    """
    notes = {**more, **frame_seal.room_for_seal(key)}
    header = b"".join(
        name.encode() + b"\0string\0" + struct.pack("<i", len(text.encode())) + text.encode()
        for name, text in notes.items()
    )
    content = frame_seal.MAGIC + struct.pack("<i", 2) + header + b"\0"
    return content + (fill * size)[: size - len(content)]


def write_relit(path: Path, key: str, fill: bytes = b"\x07", size: int = 1000, **more: str) -> Path:
    """Writes a sealed frame."""
    path.write_bytes(relit_bytes(key, fill, size, **more))
    frame_seal.seal(path)
    return path
