"""Runs a command and writes its exit code and its peak memory, in bytes, to a file as JSON.

    python -I -S benchmarks/peak_memory.py result.json command ...

On Linux a process's peak includes the memory of its parent at the start. So the command is started from a small
process: this file, which imports next to nothing. Signals to stop are left to the command.
"""

import json
import os
import signal
import sys

if __name__ == "__main__":
    process = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # after the start, as the command would inherit it
    _, status, usage = os.wait4(process, 0)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    with open(sys.argv[1], "w", encoding="utf-8") as result:  # noqa: PTH123 - pathlib is larger than all of this
        json.dump({"code": os.waitstatus_to_exitcode(status), "peak_bytes": peak}, result)
