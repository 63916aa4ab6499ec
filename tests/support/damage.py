"""Damages the bytes of a file at random, the same way for the same generator, and says what it did."""

import io
import random
import re
import zipfile
import zlib

EXTREMES = (0, 1, -1, 2, 16, 255, 256, 65_535, 10**9, 2**31 - 1, -(2**31), 2**31 - 2, 2**30, 2**63 - 1, -(2**63), 2**40)
# What people, editors and broken programs leave in text.
WORDS = (
    b"NaN", b".nan", b".inf", b"-1", b"1e999", b"1e5", b"9" * 4_400, b"0x" + b"f" * 5_000, b"null", b"[]", b"{}", b"''",
    b'"x"', b"true", b"[" * 3_000, b"{a: " * 3_000, b'{"a":' * 3_000, b"&a [x]", b"*a", b"&a [&b [*a, *b], *b]",
    b"!!python/object/apply:os.system [ls]", b"!!binary x", b"!!timestamp x", b"2001-99-99", b"!!int ''", b"!!bool x",
    b"!!set {x}", b"<<: *a", b"? [a]", b"\x00", b"\xff\xfe", b"\xe9", b"\xed\xb3\xa9", b"- ", b": ", b"'", b'"', b"\t",
    b"\\u0000", b"\\udce9", b"-0", b"1:2:3", b"18446744073709551616", b"x" * 70_000,
)  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The content after one to three mutations, and what they were, in words."""
    told = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        is_zip, is_text = content[:2] == b"PK", content[:1].isascii() and b"\0" not in content
        kinds = [flip_in_head, flip_in_head, flip_anywhere, set_field, set_field, cut, insert, repeat, drop, blank]
        if is_zip:
            kinds += [inside_zip] * 6
        if is_text:
            kinds += [put_word] * 8
        kind = rng.choice(kinds)
        content, words = kind(content, rng)
        told.append(f"{kind.__name__} {words}")
    return content, "; ".join(told)


def flip_in_head(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    return flip(content, rng, min(len(content), rng.choice((32, 128, 512, 1024))))


def flip_anywhere(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    return flip(content, rng, len(content))


def flip(content: bytes, rng: random.Random, end: int) -> tuple[bytes, str]:
    changed = bytearray(content)
    places = [rng.randrange(end) for _ in range(rng.choice((1, 1, 2, 4, 16)))] if end else []
    for place in places:
        changed[place] = rng.choice((changed[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
    return bytes(changed), f"at {places}"


def set_field(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    size = rng.choice((2, 4, 4, 4, 8))
    if len(content) < size:
        return content, "nothing"
    end = len(content) - size + 1
    place = rng.randrange(min(end, 1024) if rng.random() < 0.7 else end)
    value, order = rng.choice(EXTREMES), rng.choice(("little", "little", "big"))
    field = (value % (1 << 8 * size)).to_bytes(size, order)
    return content[:place] + field + content[place + size :], f"{size} bytes at {place} to {value}, {order}"


def cut(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    end = rng.randrange(len(content) + 1)
    return content[:end], f"after {end} bytes"


def insert(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    place, size = rng.randrange(len(content) + 1), rng.choice((1, 4, 16, 100))
    return content[:place] + rng.randbytes(size) + content[place:], f"{size} bytes at {place}"


def repeat(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    start, end, place = span(content, rng)
    return content[:place] + content[start:end] + content[place:], f"bytes {start} to {end} at {place}"


def drop(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    start, end, _ = span(content, rng)
    return content[:start] + content[end:], f"bytes {start} to {end}"


def blank(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    start, end, _ = span(content, rng)
    filler = rng.choice((b"\0", b"\xff"))
    return content[:start] + filler * (end - start) + content[end:], f"bytes {start} to {end} as {filler!r}"


def put_word(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Another word in the place of a value of YAML or JSON."""
    values = [match.span() for match in re.finditer(rb"[\w.+-]+|\"[^\"\n]*\"|\[[^\]\n]*\]", content)]
    if not values:
        return content, "nothing"
    start, end = rng.choice(values)
    word = rng.choice(WORDS)
    return content[:start] + word + content[end:], f"{word[:20]!r} ({len(word)} bytes) for {start} to {end}"


def inside_zip(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Damages one member, and packs all again, with checksums that are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError, RuntimeError, zlib.error):
        return content, "nothing"  # an earlier mutation broke it
    if not members:
        return content, "nothing"
    chosen, how = (
        rng.randrange(len(members)),
        rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)),
    )
    name, old = members[chosen]
    kind = rng.choice((flip_in_head, flip_in_head, set_field, set_field, cut, repeat, drop, flip_anywhere, leave_out))
    new, words = kind(old, rng) if old else (b"", "empty")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", how) as archive:
        for number, (each, value) in enumerate(members):
            if number != chosen or kind is not leave_out:
                archive.writestr(each, new if number == chosen else value)
    return packed.getvalue(), f"{name} ({'stored' if how == zipfile.ZIP_STORED else 'packed'}): {kind.__name__} {words}"


def leave_out(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    return content, ""


def span(content: bytes, rng: random.Random) -> tuple[int, int, int]:
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice((1, 4, 8, 30, 200, 2_000)))
    return start, end, rng.randrange(len(content) + 1)
