"""Gradients of the parts of a batch, computed side by side on the cores of a CPU.

The usual way, all cores sharing each operation, has them wait for one another a thousand times per step: for small
networks, or where other programs run too, they mostly wait. Here each core takes some pictures through the whole
network and back, and they wait once. Where there are more cores than pictures, several share one.
"""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Losses = tuple[Tensor, Mapping[str, Tensor]]  # what to descend, and figures to show


def parts_for(device: torch.device, pictures: int) -> int:
    """How many parts a batch is best taken in: one per core, or one on a GPU, which has its own ways."""
    return 1 if device.type != "cpu" else max(1, min(pictures, torch.get_num_threads()))


def descend(
    parts: Sequence[Part], losses_of: Callable[[Part], Losses], parameters: Sequence[torch.nn.Parameter]
) -> dict[str, float]:
    """Sets the gradients of parameters to those of the sum of the parts' losses, whatever was there.

    Args:
        parts: of a batch, such that the losses of the whole are the sums of theirs.
        losses_of: of a part; called in several threads at once where there are several parts.
        parameters: that the losses depend on.

    Returns:
        The sums of the figures to show.
    """
    kind = parameters[0].device.type
    low, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def work(part: Part) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
        with torch.autocast(kind, dtype, enabled=low):  # a thread's own affair
            total, shown = losses_of(part)
        return torch.autograd.grad(total, list(parameters)), shown

    found = [work(parts[0])] if len(parts) == 1 else list(crew(len(parts), torch.get_num_threads()).map(work, parts))
    for parameter, *gradients in zip(parameters, *(gradients for gradients, _ in found), strict=True):
        parameter.grad = functools.reduce(torch.add, gradients)
    names = list(found[0][1])
    sums = torch.stack([torch.stack([shown[name].detach() for name in names]) for _, shown in found]).sum(dim=0)
    return dict(zip(names, sums.tolist(), strict=True))


@functools.cache
def crew(number: int, cores: int) -> ThreadPoolExecutor:
    """As many threads, among which the cores are divided; the number that other threads work with stays."""
    each = max(1, cores // number)

    def settle() -> None:
        torch.set_num_threads(each)
        torch.get_num_threads()  # or its first operation would go back to the number that any thread set last

    pool = ThreadPoolExecutor(number, "crew", initializer=settle)
    all_there = threading.Barrier(number)
    list(pool.map(lambda _: all_there.wait(), range(number)))
    torch.set_num_threads(cores)  # threads to come begin with the number that was set last
    return pool
