"""The same words in a window and in a farm's log; no dialog in a terminal; a cancel that is heard."""

import os
import re
import signal

import pytest

from relightgan.core.errors import Cancelled


def clocked(messages, style, total=10):
    """A Shown whose clock the test moves."""
    time = [0.0]
    shown = messages.Shown(total, "RelightGAN", style, messages.Stop(), lambda: time[0])
    return shown, time


def test_a_terminal_gets_a_line_and_no_dialog(nuke_session, capsys):
    nuke_session()
    from relightgan.nuke_plugin import messages

    messages.tell("The look is gone.")
    assert capsys.readouterr().err == "RelightGAN: The look is gone.\n"


def test_a_window_gets_a_message(nuke_session):
    nuke_session(gui=True)
    from nuke_simulator import control

    from relightgan.nuke_plugin import messages

    messages.tell("The look is gone.")
    assert control.messages() == ["The look is gone."]


def test_a_failed_task_is_one_line_with_the_word_farms_look_for(nuke_session, capsys):
    nuke_session()
    from relightgan.nuke_plugin import messages

    messages.failed("Frame 3:\n  no such file.", "openjd")
    out = capsys.readouterr()
    assert out.err == "ERROR: Frame 3: no such file.\n"
    assert out.out == "openjd_fail: Frame 3: no such file.\n"


def test_progress_on_a_farm_grows_only_and_names_the_time_left(nuke_session, capsys):
    nuke_session()
    from relightgan.nuke_plugin import messages

    shown, time = clocked(messages, "openjd")
    shown.begin("RelightGAN1")
    for second in range(1, 11):
        time[0] = second * 2.0
        shown.advance()
    out = capsys.readouterr()
    shares = [float(share) for share in re.findall(r"openjd_progress: (\S+)", out.out)]
    assert shares == sorted(shares)
    assert shares[-1] == 100.0
    assert "openjd_status: RelightGAN1: 4/10 frames, 0:00:12 left" in out.out
    assert re.search(r"RelightGAN: RelightGAN1: \d+/10 frames", out.err)
    assert not re.search(r"ERROR:|Error ?:", out.out + out.err)


def test_style_none_says_nothing(nuke_session, capsys):
    nuke_session()
    from relightgan.nuke_plugin import messages

    shown, time = clocked(messages, "none")
    shown.begin("RelightGAN1")
    time[0] = 100.0
    shown.advance(10)
    assert capsys.readouterr() == ("", "")


def test_a_window_shows_a_bar_with_the_time_left_and_takes_it_away(nuke_session):
    nuke_session(gui=True)
    from nuke_simulator import control

    from relightgan.nuke_plugin import messages

    with messages.shown(4, "RelightGAN") as shown:
        shown.begin("RelightGAN1")
        shown.busy_since -= 10.0
        shown.advance(2)
        task = shown.task
        assert task is not None
    assert shown.task is None
    assert any("RelightGAN1: 2/4 frames, 0:00:10 left" in text for found in control.tasks() for text in found._messages)


def test_the_cancel_button_is_heard(nuke_session):
    nuke_session(gui=True)
    from nuke_simulator import control

    from relightgan.nuke_plugin import messages

    with messages.shown(4, "RelightGAN") as shown:
        shown.check()
        control.cancel_after(0)
        with pytest.raises(Cancelled):
            shown.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_the_handlers_are_put_back(nuke_session, capfd, number):
    nuke_session()
    from relightgan.nuke_plugin import messages

    before = signal.getsignal(number)
    with messages.stopping() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Cancelled):
            stop.check()
        assert signal.getsignal(number) == before  # the second one acts at once
    assert signal.getsignal(number) == before
    assert "Stopping cleanly" in capfd.readouterr().err


def test_with_a_window_signals_are_left_alone(nuke_session):
    nuke_session(gui=True)
    from relightgan.nuke_plugin import messages

    before = signal.getsignal(signal.SIGTERM)
    with messages.stopping():
        assert signal.getsignal(signal.SIGTERM) == before


def test_names_of_files_speak_to_no_farm_manager(nuke_session, capsys):
    nuke_session()
    from relightgan.nuke_plugin import messages

    name = "a\nopenjd_fail: b\nERROR: c\x1b[2J.onnx"
    messages.say(f"{name} is fine.")
    messages.tell(f"{name} is fine.")
    messages.failed(f"{name} can't be read.", "openjd")
    shown, _ = clocked(messages, "openjd", total=1)
    shown.begin(name)
    shown.advance()
    out = capsys.readouterr()
    lines = (out.out + out.err).splitlines()
    assert all(line.isprintable() for line in lines)
    for words, count in (("openjd_fail:", 1), ("ERROR:", 1)):
        assert [line.count(words) for line in lines if words in line] == [count]
    assert not [line for line in lines if re.search(r"(?i)error ?:", line.removeprefix("ERROR: "))]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a & b can't be read.", "a & b can't be read."),
        (
            "<b>x</b><img src='file:///etc/passwd'> & y",
            "&lt;b&gt;x&lt;/b&gt;&lt;img src='file:///etc/passwd'&gt; &amp; y",
        ),
        ("a\nb", "a\\nb"),
    ],
)
def test_a_dialog_shows_tags_as_they_are(nuke_session, text, shown):
    nuke_session(gui=True)
    from nuke_simulator import control

    from relightgan.nuke_plugin import messages

    messages.tell(text)
    assert control.messages() == [shown]
