"""Reading ahead and writing behind: on other threads, in order, errors where they belong."""

import threading
import time

import pytest

from relightgan.core.ahead import ReadAhead, WriteBehind, request_order
from relightgan.core.errors import PlateError


def test_items_come_back_right_in_any_order_and_the_next_is_read_meanwhile():
    reads = []

    def read(frame):
        reads.append((frame, threading.current_thread().name))
        return frame * 10

    with ReadAhead(read, [1, 2, 3, 4], lambda _: 1, 2) as items:
        assert items(1) == 10
        deadline = time.monotonic() + 300
        while len(reads) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert [frame for frame, _ in reads] == [1, 2]  # nobody asked for 2 yet, and 3 is not begun
        assert [items(f) for f in (2, 3, 9, 4, 1)] == [20, 30, 90, 40, 10]
    assert len({thread for _, thread in reads}) == 1
    assert threading.current_thread().name not in {thread for _, thread in reads}


def test_what_fits_the_budget_is_not_read_again():
    reads = []
    with ReadAhead(lambda f: reads.append(f) or f, [1, 2, 1, 2, 3, 1], lambda _: 10, 20) as items:
        assert [items(f) for f in (1, 2, 1, 2, 3, 1)] == [1, 2, 1, 2, 3, 1]
    assert reads == [1, 2, 3, 1]


def test_an_item_larger_than_the_budget_is_still_given():
    with ReadAhead(lambda f: f, [1, 2], lambda _: 100, 10) as items:
        assert [items(1), items(2), items(1)] == [1, 2, 1]


def test_a_frame_that_cannot_be_read_fails_when_it_is_asked_for_and_not_before():
    def read(frame):
        if frame == 2:
            raise PlateError("frame 2 is damaged.")
        return frame

    with ReadAhead(read, [1, 2, 3], lambda _: 1, 10) as items:
        assert items(1) == 1
        with pytest.raises(PlateError, match="frame 2 is damaged"):
            items(2)
        assert items(3) == 3


def test_work_is_done_in_order_and_told_to_the_caller():
    done, threads = [], set()

    def work(number):
        def run():
            threads.add(threading.current_thread().name)
            return number

        return run

    with WriteBehind(done.append) as writer:
        for number in range(5):
            writer.submit(work(number))
            assert done == list(range(number))  # the one before is finished, this one is under way
    assert done == [0, 1, 2, 3, 4]
    assert threading.current_thread().name not in threads


def test_an_error_of_the_last_piece_is_not_lost():
    def fail():
        raise PlateError("disk full.")

    with pytest.raises(PlateError, match="disk full"), WriteBehind(lambda _: None) as writer:
        writer.submit(fail)


def test_leaving_on_an_error_waits_for_the_piece_in_hand_and_keeps_the_first_error():
    finished = []

    def slow():
        time.sleep(0.05)
        finished.append(True)
        raise PlateError("second.")

    def use():
        with WriteBehind(lambda _: None) as writer:
            writer.submit(slow)
            raise PlateError("first.")

    with pytest.raises(PlateError, match="first"):
        use()
    assert finished == [True]


def test_the_order_of_requests_follows_the_window():
    assert list(request_order([5, 6], 0, 1, 10)) == [5, 6]
    assert list(request_order([5, 6, 7], 1, 1, 7)) == [5, 4, 6, 6, 7, 7]
    assert list(request_order([1, 9], 2, 1, 10)) == [1, 2, 3, 9, 7, 8, 10]
