import io
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from relightgan.core.errors import Cancelled, UsageError
from relightgan.core.progress import Progress, cancellation, clock_text, progress

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """Seconds that grow when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def counted(style, seconds_each, total=100, steps=100):
    """What a job of `total` frames writes to people and to programs."""
    clock, people, programs = Clock(), io.StringIO(), io.StringIO()
    shown = Progress(total, "frames", style, people, programs, clock)
    for _ in range(steps):
        clock.now += seconds_each
        shown.advance()
    return people.getvalue().splitlines(), programs.getvalue().splitlines()


def test_a_log_gets_a_line_every_few_seconds_with_rate_and_time_left():
    people, programs = counted("auto", 0.4)
    assert programs == []
    assert len(people) == 8  # 40 s, one line per 5 s
    assert people[0] == "13/100 frames, 2.50 frames/s, 0:00:35 left"
    assert people[-1] == "100/100 frames, 2.50 frames/s, 0:00:00 left"


def test_slow_work_is_told_in_seconds_each():
    people, _ = counted("auto", 40.0, total=3, steps=1)
    assert people == ["1/3 frames, 40.0 s each, 0:01:20 left"]


def test_openjd_lines_go_to_stdout_once_a_second_and_end_at_100():
    people, programs = counted("openjd", 0.5, total=10, steps=10)
    assert programs[0] == "openjd_progress: 20.0"
    assert programs[1] == "openjd_status: 2/10 frames, 2.00 frames/s, 0:00:04 left"
    assert [line for line in programs if line.startswith("openjd_progress")][-1] == "openjd_progress: 100.0"
    assert len(programs) == 10
    assert people == ["10/10 frames, 2.00 frames/s, 0:00:00 left"]


def test_none_writes_nothing_but_what_is_said():
    clock, people = Clock(), io.StringIO()
    shown = Progress(2, "frames", "none", people, people, clock)
    clock.now += 60
    shown.advance(2)
    assert people.getvalue() == ""
    shown.say("frame 7: 3 values held")
    assert people.getvalue() == "frame 7: 3 values held\n"


def test_an_unknown_style_is_a_usage_error():
    with pytest.raises(UsageError, match="no progress style 'fancy'"), progress(1, style="fancy"):
        pass


def test_hours_are_told():
    assert clock_text(3 * 3600 + 4 * 60 + 5.4) == "3:04:05"


BAR = """
from relightgan.core.progress import progress
with progress(4, "frames", "auto") as shown:
    shown.say("a word above the bar")
    shown.advance(4)
print("result")
"""


@pytest.mark.process
def test_on_a_terminal_the_bar_moves_on_stderr_and_stdout_stays_clean():
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", BAR]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=slave, timeout=300, check=True
    )
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert done.stdout == b"result\n"
    assert "a word above the bar" in shown
    assert "4/4" in shown
    assert "frames" in shown


def test_nothing_is_cancelled_until_asked():
    with cancellation() as cancelled:
        cancelled.check()
        assert not cancelled.asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_the_old_handlers_come_back(number):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with cancellation() as cancelled:
        signal.raise_signal(number)
        assert cancelled.asked
        with pytest.raises(Cancelled, match="finished files are whole"):
            cancelled.check()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_acts_at_once():
    # A shell's background jobs are started with Ctrl-C ignored; this is about those in front.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with cancellation():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_can_ask_and_may_open_a_cancellation_of_their_own():
    with cancellation() as cancelled:
        thread = threading.Thread(target=cancelled.ask)
        thread.start()
        thread.join()
        assert cancelled.asked
    seen = []

    def work():
        with cancellation() as own:
            own.ask()
            seen.append(own.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


WORK = """
import time
from relightgan.core.cli import run_command
from relightgan.core.progress import cancellation
def job():
    with cancellation() as cancelled:
        print("ready", flush=True)
        for _ in range(12000):  # ten minutes
            cancelled.check()
            time.sleep(0.05)
    return 0
raise SystemExit(run_command(job))
"""


@pytest.mark.process
def test_a_farm_cancel_ends_the_process_with_code_130_and_without_the_word_error():
    command = [sys.executable, "-c", WORK]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "ready\n"
        job.terminate()
        _, said = job.communicate(timeout=300)
    assert job.returncode == 130
    assert "Cancelled: Stopped as asked" in said
    assert "Error" not in said
