"""The optimiser Muon for convolutions and linear layers.

Gradients are dominated by a few strong features, so that rare ones are learned last. Muon takes the momentum of a
layer's gradient as a matrix and makes all its singular values about 1, by a few Newton-Schulz iterations (Jordan et
al., "Muon: An optimizer for hidden layers in neural networks", 2024). torch has Muon for matrices alone, and always in
bfloat16, which most CPUs emulate far more slowly than float32.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of a s + b s^3 + c s^5; five iterations bring singular values from 0..1 near 1 (Jordan et al.).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5  # Newton-Schulz iterations per step
MIN_NORM = 1e-7  # added to the norm of a gradient, so that a gradient of 0 stays 0


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum, for the weights of convolutions and linear layers.

    A convolution's weight counts as a matrix of outputs by (inputs times kernel pixels). Matrices are multiplied in
    float32, or in the type of autocast.

    Args:
        weights: tensors of two dimensions or more, outputs first.
        learning_rate: the singular value of a step; times sqrt(outputs / inputs) where there are more outputs.
        momentum: the share of earlier gradients in a step, 0..1.
    """

    def __init__(self, weights: Iterable[nn.Parameter], learning_rate: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": learning_rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes a step; weights without a gradient stay. A closure is called first, and its loss returned."""
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
                weight.add_(equalised(matrix).view(weight.shape), alpha=-rate)
        return loss


def equalised(matrix: Tensor) -> Tensor:
    """A matrix (m, n) with the same singular vectors and all singular values near 1.

    Singular values a thousand times smaller than the largest stay below 1, and 0 stays 0.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if tall else matrix) / (matrix.norm() + MIN_NORM)
    for _ in range(ITERATIONS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return (found.T if tall else found).contiguous()


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of all groups of an optimiser."""
    for group in optimiser.param_groups:
        group["lr"] = rate
