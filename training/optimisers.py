"""Steps for layers of convolutions: a step changes each layer equally far in every direction of what it can do.

Gradients of a batch mostly point where a few strong features are, and what is rare is learned last. Muon takes the
momentum of a layer's gradient as a matrix and gives all its directions one length (Jordan et al., "Muon: An optimizer
for hidden layers in neural networks", 2024; torch's own implementation). torch knows it for matrices alone; a
convolution is one, too: of its outputs by its inputs at every place of the kernel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class ConvolutionMuon(torch.optim.Muon):
    """`torch.optim.Muon` for the weights of convolutions and of linear layers.

    Args:
        weights: (outputs, inputs, h, w) or (outputs, inputs), contiguous or channels last. They are stepped in place,
            by the gradients that they have.
        learning_rate: how far the strongest direction of a layer of as many inputs as outputs goes.
        momentum: the share of earlier gradients that a step keeps.

    Raises:
        RuntimeError: a weight isn't laid out as a matrix.
    """

    def __init__(self, weights: Sequence[nn.Parameter], learning_rate: float, momentum: float = 0.95) -> None:
        self.weights = list(weights)
        # Matrices over the memory of the weights, so that stepping them steps the layers.
        matrices = [nn.Parameter(as_matrix(weight.detach())) for weight in self.weights]
        super().__init__(matrices, lr=learning_rate, weight_decay=0.0, momentum=momentum)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step; weights without a gradient stay. A closure is called first, and its loss returned."""
        loss = closure() if closure is not None else None
        for weight, matrix in zip(self.weights, self.param_groups[0]["params"], strict=True):
            gradient = weight.grad
            if gradient is not None:  # laid out as the weight, whatever came from the backward pass
                gradient = as_matrix(torch.empty_like(weight).copy_(gradient))
            matrix.grad = gradient
        super().step()  # type: ignore[no-untyped-call]  # in torch
        return loss


def as_matrix(weight: Tensor) -> Tensor:
    """A view of a layer's weight as outputs by inputs; the places of a kernel are inputs of their own, in any order.

    Raises:
        RuntimeError: its memory isn't contiguous, nor channels last.
    """
    if weight.is_contiguous():
        return weight.view(len(weight), -1)
    return weight.permute(0, 2, 3, 1).view(len(weight), -1)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Gives an optimiser a learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
