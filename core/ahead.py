"""Reading ahead and writing behind: a thread either side of the computing, so that disks and codecs cost no extra time.

Neither changes a result: what is read is what would have been read, and a file is written whole or not at all.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Gives items by frame number, and reads the next one meanwhile; all reading is done on one thread.

    Args:
        read: reads one item.
        order: the frames in the order they will be asked for. It is a hint: any frame may be asked for.
        size_of: bytes an item takes up.
        budget_bytes: items are kept, for being asked for again, while all together stay below this.
    """

    def __init__(
        self, read: Callable[[int], Item], order: Sequence[int], size_of: Callable[[Item], int], budget_bytes: int
    ) -> None:
        self.read = read
        self.order = list(order)
        self.size_of = size_of
        self.budget_bytes = budget_bytes
        self.kept: OrderedDict[int, Item] = OrderedDict()
        self.coming: tuple[int, Future[Item]] | None = None
        self.next = 0
        self.thread = ThreadPoolExecutor(1, "read-ahead")

    def __call__(self, frame: int) -> Item:
        """The item of a frame; what `read` raised for it is raised here."""
        if frame not in self.kept:
            if self.coming is None or self.coming[0] != frame:
                self.coming = (frame, self.thread.submit(self.read, frame))
            future = self.coming[1]
            self.coming = None
            self.keep(frame, future.result())
        self.kept.move_to_end(frame)
        item = self.kept[frame]
        self.start_next(frame)
        return item

    def keep(self, frame: int, item: Item) -> None:
        """Remembers an item and forgets those longest unused, beyond the budget."""
        self.kept[frame] = item
        while len(self.kept) > 1 and sum(map(self.size_of, self.kept.values())) > self.budget_bytes:
            self.kept.popitem(last=False)

    def start_next(self, frame: int) -> None:
        """Starts to read the next frame in order that isn't in hand."""
        if frame in self.order[self.next :]:
            self.next = self.order.index(frame, self.next) + 1
        if self.coming is not None:
            return
        following = next((f for f in self.order[self.next :] if f not in self.kept), None)
        if following is not None:
            self.coming = (following, self.thread.submit(self.read, following))

    def __enter__(self) -> "ReadAhead[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread.shutdown(wait=True, cancel_futures=True)


class WriteBehind(Generic[Item]):
    """Runs one piece of work at a time on a thread, in order, while the caller goes on.

    Leaving the block waits for the piece in hand, so that a file is never left half-written; its error is raised there,
    unless another is on its way already.

    Args:
        done: gets what each piece of work returned, on the caller's thread.
    """

    def __init__(self, done: Callable[[Item], None]) -> None:
        self.done = done
        self.thread = ThreadPoolExecutor(1, "write-behind")
        self.pending: Future[Item] | None = None

    def submit(self, work: Callable[[], Item]) -> None:
        """Starts a piece of work once the one before is done; an error of that one is raised here."""
        self.wait()
        self.pending = self.thread.submit(work)

    def wait(self) -> None:
        """Waits for the piece in hand; its error is raised here."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.done(pending.result())

    def __enter__(self) -> "WriteBehind[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread.shutdown(wait=True)
        if kind is None:
            self.wait()


def request_order(
    frames: Sequence[int], radius: int, first: int, last: int, known: Collection[int] = ()
) -> Iterator[int]:
    """The frames a temporal window asks for, in order, when results for `frames` are computed one after the other.

    Args:
        frames: those to compute.
        radius: frames to either side.
        first: first frame of the clip.
        last: last frame of the clip.
        known: frames read before; a temporal window doesn't request them again.
    """
    seen: set[int] = set(known)
    for frame in frames:
        yield frame
        window = range(max(first, frame - radius), min(last, frame + radius) + 1)
        yield from (other for other in window if other != frame and other not in seen)
        seen = {other for other in seen if abs(other - frame) <= radius} | set(window)
