"""Text from outside (names of files and looks, facts, what a library says) made fit for a log, a table or a panel.

A log is read by people, by terminals and by farm managers. A name with a line break, an escape sequence or a word such
as `openjd_fail:` would speak to them in our name. Whoever prints foreign text sends it through `shown`, and whatever
prints whole lines sends them through `printable`. Standard library only; also runs inside Nuke (Python 3.9 and later).
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from typing import Any, TextIO

__all__ = ["MAX_LINE", "MAX_SHOWN", "json_text", "print_line", "printable", "shown"]

MAX_SHOWN = 200  # characters of one foreign text
MAX_LINE = 4000  # characters of a line that has some in it; the longest path of Linux has 4,096 bytes
CUT = " … "

# Words on which farm managers act: Deadline fails a task on "Error:" anywhere in a line, Open Job Description reads
# lines that begin with "openjd_fail:" and the like. Only we may write them; elsewhere their colon is spelt out.
COMMANDS = re.compile(r"((?:ERROR|Error)[ \t]*|(?i:openjd_[a-z_]*)[ \t]*):")
COLON = r"\x3a"
# Control and format characters (with those that turn the direction of text), surrogates, private and unassigned ones.
HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def shown(text: object, limit: int = MAX_SHOWN) -> str:
    """One foreign text within a line: spelt out, and cut in its middle.

    Args:
        text: anything; its `str` is taken.
        limit: the maximum number of characters of the result.
    """
    whole = str(text)
    if len(whole) > 2 * limit:  # spelling out megabytes to show a line of them would take seconds
        whole = whole[:limit] + whole[-limit:]
    return cut(printable(whole), limit)


def printable(line: str, limit: int = MAX_LINE) -> str:
    """A whole line of ours with foreign text in it: control characters and line breaks spelt out, as in `sun\\nset`.

    Bytes of a file's name that are no UTF-8 (which Python keeps as surrogates) are spelt as bytes, `caf\\xe9.jpg`. A
    printable line comes back as it is.
    """
    if line.isascii() and line.isprintable():
        return cut(COMMANDS.sub(rf"\1\{COLON}", line), limit)
    spelt = "".join(spelt_out(letter) if unicodedata.category(letter) in HIDDEN else letter for letter in line)
    return cut(COMMANDS.sub(rf"\1\{COLON}", spelt), limit)


def print_line(line: str, stream: TextIO | None = None) -> None:
    """Prints a whole line of ours with foreign text in it, at once.

    Args:
        line: spelt out as in `printable`.
        stream: where to; stderr when None.
    """
    print(printable(line), file=sys.stderr if stream is None else stream, flush=True)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON that reads back the same, and that no terminal and no farm manager takes for more than data."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    text = "".join(json_escape(letter) if letter != "\n" and is_hidden(letter) else letter for letter in text)
    return COMMANDS.sub(r"\1\\u003a", text)


# Private implementation


def is_hidden(letter: str) -> bool:
    """True for characters that a reader wouldn't see."""
    return unicodedata.category(letter) in HIDDEN


def spelt_out(letter: str) -> str:
    """A hidden character as Python would write it; an undecodable byte as that byte."""
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def json_escape(letter: str) -> str:
    """A character as JSON writes it in ASCII."""
    return json.dumps(letter)[1:-1]


def cut(text: str, limit: int) -> str:
    """At most `limit` characters: the beginning, and the end, which has the suffix of a file."""
    if len(text) <= limit:
        return text
    head = (limit - len(CUT)) * 2 // 3
    return text[:head] + CUT + text[head + len(CUT) - limit :]
