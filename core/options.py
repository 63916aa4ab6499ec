"""Command lines: one kind of parser for every command, whose messages spell out foreign names."""

import argparse
from typing import Any, NoReturn

from relightgan.core.text import printable


class Parser(argparse.ArgumentParser):
    """As argparse's, with the examples of `epilog` kept as they are written.

    A shell fills in names of files that others gave, and argparse repeats the words it doesn't understand.
    """

    def __init__(self, **words: Any) -> None:
        super().__init__(**words, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Ends the command with its usage and a message."""
        super().error(printable(message))
