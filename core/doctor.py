"""The command `relightgan doctor`: is this installation whole, and how to mend what isn't.

A *problem* means that something the product promises can't work here (exit code 1); a *note* is worth knowing, such as
a machine without a GPU (exit code 0).
"""

import dataclasses
import sys
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from relightgan.core.doctor_checks import CHECKS, NOTE, OK, PROBLEM, Finding
from relightgan.core.errors import EXIT_DONE, EXIT_ERROR
from relightgan.core.options import Parser
from relightgan.core.progress import console
from relightgan.core.text import json_text, printable

STYLE_OF = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}
EXAMPLES = """examples:
  relightgan doctor
  relightgan doctor --json > doctor.json     (to send along with a question)
"""


def main(argv: Sequence[str]) -> int:
    """Prints the report.

    Args:
        argv: the words after `relightgan doctor`.

    Returns:
        0 where nothing is broken, else 1.
    """
    parser = Parser(
        prog="relightgan doctor",
        description="Checks this installation and says how to mend it. Exit code 1 if something is broken.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for a program to read")
    options = parser.parse_args(argv)
    findings = [finding for check in CHECKS for finding in check()]
    broken = any(finding.level == PROBLEM for finding in findings)
    if options.json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        print(json_text({"ok": not broken, "python": sys.executable, "findings": rows}, indent=2))
    else:
        console().print(table_of(findings))
        print(verdict(findings))
    return EXIT_ERROR if broken else EXIT_DONE


def table_of(findings: Sequence[Finding]) -> Table:
    """The findings as a table for people, each fix below what it mends."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, STYLE_OF[finding.level]), Text(finding.topic), Text(printable(finding.text)))
        if finding.fix:
            table.add_row("", "", Text(f"-> {printable(finding.fix)}", STYLE_OF[finding.level]))
    return table


def verdict(findings: Sequence[Finding]) -> str:
    """The last line: how many problems and notes."""
    problems = sum(finding.level == PROBLEM for finding in findings)
    notes = sum(finding.level == NOTE for finding in findings)
    counted = f"{notes} note{'' if notes == 1 else 's'}"
    if not problems:
        return f"Nothing is broken; {counted}."
    return f"{problems} problem{'' if problems == 1 else 's'} to mend; {counted}."
