"""Gradients of the parts of a batch, computed in parallel on the cores of a CPU.

By default torch shares each operation among all cores, which then wait for each other a thousand times per step: with
small networks, or on a busy machine, they mostly wait. Here each core takes some pictures forward and backward through
the whole network, and waits once. Where there are more cores than pictures, several cores share a picture.
"""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Losses = tuple[Tensor, Mapping[str, Tensor]]  # the loss to minimise, and losses by name for metrics


def parts_for(device: torch.device, pictures: int) -> int:
    """The number of parts of a batch: one per core of a CPU, at most one per picture; one on a GPU."""
    return 1 if device.type != "cpu" else max(1, min(pictures, torch.get_num_threads()))


def descend(
    parts: Sequence[Part], losses_of: Callable[[Part], Losses], parameters: Sequence[torch.nn.Parameter]
) -> dict[str, float]:
    """Sets the gradients of parameters to those of the sum of the parts' losses; earlier gradients are replaced.

    Args:
        parts: parts of a batch, whose losses add up to those of the batch.
        losses_of: computes the losses of a part; it is called in several threads at once.
        parameters: the parameters to fit.

    Returns:
        The losses by name, summed over the parts.
    """
    kind = parameters[0].device.type
    low, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def work(part: Part) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
        with torch.autocast(kind, dtype, enabled=low):  # autocast is a setting of each thread
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
    """A pool of `number` threads that divide the cores among them; other threads keep their number of cores."""
    each = max(1, cores // number)

    def settle() -> None:
        torch.set_num_threads(each)
        torch.get_num_threads()  # else the first operation resets it to the number that any thread set last

    pool = ThreadPoolExecutor(number, "crew", initializer=settle)
    all_there = threading.Barrier(number)
    list(pool.map(lambda _: all_there.wait(), range(number)))
    torch.set_num_threads(cores)  # later threads start with the number that was set last
    return pool
