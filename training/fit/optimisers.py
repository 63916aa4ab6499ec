"""Steps for layers of convolutions: a step changes each layer about equally far in every direction of what it can do.

Gradients of a batch mostly point where a few strong features are, and what is rare is learned last. Muon takes the
momentum of a layer's gradient as a matrix and gives all its directions one length, by a few Newton-Schulz iterations
(Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024). torch has it for matrices alone, and
always in bfloat16, which CPUs that aren't made for it do far more slowly than float32.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Of the polynomial a s + b s^3 + c s^5, which five times over brings singular values of 0 to 1 near 1 (Jordan et al.).
SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
FAINTEST = 1e-7  # length of a gradient that counts as none


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum, for the weights of convolutions and of linear layers.

    A convolution's weight counts as a matrix of its outputs by its inputs at every place of the kernel. Matrices are
    multiplied in float32, or as autocast says.

    Args:
        weights: of two dimensions or more, outputs first.
        learning_rate: how far a step goes in each direction of a layer; the root of outputs over inputs times as far
            where there are more outputs.
        momentum: the share of earlier gradients that a step keeps.
    """

    def __init__(self, weights: Iterable[nn.Parameter], learning_rate: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": learning_rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step; weights without a gradient stay. A closure is called first, and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                average = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                matrix = weight.grad.lerp(average, group["momentum"]).flatten(1)
                outputs, inputs = matrix.shape
                rate = group["lr"] * max(1.0, outputs / inputs) ** 0.5
                weight.add_(even(matrix).view(weight.shape), alpha=-rate)
        return loss


def even(matrix: Tensor) -> Tensor:
    """A matrix (m, n) with the same directions, all about equally long: its singular values lie near 1.

    Directions a thousand times shorter than the longest stay shorter, and nothing becomes of 0.
    """
    a, b, c = SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if tall else matrix) / (matrix.norm() + FAINTEST)
    for _ in range(ITERATIONS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return (found.T if tall else found).contiguous()


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Gives an optimiser a learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
