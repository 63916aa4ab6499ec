"""The menu's installation check: `relightgan doctor` in our own interpreter, shown in Nuke.

Runs inside Nuke (Python 3.9 and later): standard library and `nuke` only.
"""

from __future__ import annotations

import html
import subprocess

from relightgan.core.errors import RelightError
from relightgan.nuke_plugin.interpreter import clean_environment, find_interpreter

TIMEOUT_S = 60  # time limit of `relightgan doctor`


def check_text() -> str:
    """The output of `relightgan doctor`, or why it can't run."""
    try:
        command = [str(find_interpreter()), "-m", "relightgan.core.cli", "doctor"]
        done = subprocess.run(
            command,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
            encoding="utf-8",
        )
    except RelightError as error:
        return str(error)
    except OSError as error:
        return f"The interpreter can't be started: {error}."
    except subprocess.TimeoutExpired:
        return f"The interpreter gave no answer within {TIMEOUT_S} s: {' '.join(command)}."
    return done.stdout


def show_check() -> None:
    """Shows the check to the artist."""
    import nuke

    nuke.message(f"<pre>{html.escape(check_text())}</pre>")
