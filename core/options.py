"""Command lines: one kind of parser for every command, whose messages spell out foreign names."""

import argparse
from typing import NoReturn

from relightgan.core.text import printable


class Parser(argparse.ArgumentParser):
    """As argparse's, with the examples of `epilog` kept as they are written.

    A shell fills in names of files that others gave, and argparse repeats the words it doesn't understand.

    Args:
        prog: the command as people write it.
        description: what it does.
        epilog: examples.
    """

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        """Ends the command with its usage and a message."""
        super().error(printable(message))
