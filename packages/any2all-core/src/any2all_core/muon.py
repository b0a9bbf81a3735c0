"""The optimizer Muon for hidden matrices, with Adam for all other weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn

OUTSIDE = ("conv_in.", "conv_out.", "time_embedding.")
"""Layers whose weights Adam updates: the first, the last, and the time embedding."""
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
STEPS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    r"""Muon moves matrices along the orthogonal factor of their momentum; Adam updates the rest.

    For a matrix W (out, in), or a convolution reshaped to (out, in · kh · kw), with gradient G:

    B ← μ B + G,   W ← W − η √max(1, out/in) O(G + μ B),   μ = 0.95,

    where O(M) ≈ U Vᵀ for M = U S Vᵀ, by five steps X ← a X + (b X Xᵀ + c (X Xᵀ)²) X from M/‖M‖.
    Muon updates parameter groups with ``matrix`` True, and Adam (β 0.9, 0.999) those with False.

    ``torch.optim.Muon`` does not accept convolutions, and always multiplies in bfloat16, which is
    slow on some processors.
    Source: Jordan 2024, *Muon: an optimizer for hidden layers in neural networks*.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 1e-3, "matrix": False})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; ``closure`` is not used."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group["matrix"]:
                self._muon(weights, group["lr"])
            elif weights:
                self._adam(weights, group["lr"])
        return None

    def _muon(self, weights: list[Tensor], rate: float) -> None:
        """Update matrices of the same shape together, which saves kernel launches on a GPU."""
        alike: dict[tuple[int, ...], list[Tensor]] = {}
        for weight in weights:
            alike.setdefault(tuple(weight.shape), []).append(weight)
        for shape, some in alike.items():
            gradients = [_gradient(weight) for weight in some]
            momenta = [self._kept(weight, "momentum") for weight in some]
            torch._foreach_mul_(momenta, MOMENTUM)
            torch._foreach_add_(momenta, gradients)
            ahead = torch._foreach_add(gradients, momenta, alpha=MOMENTUM)
            directions = orthogonal(torch.stack([each.flatten(1) for each in ahead]))
            rows, columns = directions.shape[1:]
            moves = list(directions.view(-1, *shape))
            torch._foreach_add_(some, moves, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def _adam(self, weights: list[Tensor], rate: float) -> None:
        gradients = [_gradient(weight) for weight in weights]
        means = [self._kept(weight, "exp_avg") for weight in weights]
        squares = [self._kept(weight, "exp_avg_sq") for weight in weights]
        counts = []
        for weight in weights:
            count = self.state[weight].setdefault("step", torch.zeros(()))
            count += 1
            counts.append(float(count))
        torch._foreach_lerp_(means, gradients, 0.1)
        torch._foreach_mul_(squares, 0.999)
        torch._foreach_addcmul_(squares, gradients, gradients, 0.001)
        scales = torch._foreach_div(squares, [1 - 0.999**count for count in counts])
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, 1e-8)
        torch._foreach_div_(scales, [-rate / (1 - 0.9**count) for count in counts])
        torch._foreach_addcdiv_(weights, means, scales)

    def _kept(self, weight: Tensor, name: str) -> Tensor:
        state: dict[str, Tensor] = self.state[weight]
        if name not in state:
            state[name] = torch.zeros_like(weight)
        return state[name]


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad


def groups(network: nn.Module, rate: float, matrix_rate: float) -> list[dict[str, Any]]:
    """Parameter groups of a U-Net: Adam's with learning rate ``rate``, Muon's ``matrix_rate``."""
    named: Mapping[str, Tensor] = dict(network.named_parameters())
    hidden = {n for n, p in named.items() if p.ndim >= 2 and not n.startswith(OUTSIDE)}
    return [
        {"params": [p for n, p in named.items() if n not in hidden], "lr": rate, "matrix": False},
        {"params": [p for n, p in named.items() if n in hidden], "lr": matrix_rate, "matrix": True},
    ]


def orthogonal(matrices: Tensor) -> Tensor:
    """Approximate U Vᵀ of matrices U S Vᵀ (..., out, in), with singular values of 0.7 to 1.2.

    Every X is Q M, where Q is a polynomial of M Mᵀ. The steps are therefore taken on Q and X Xᵀ
    alone, which are smaller than the matrix of a convolution.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    m = (matrices.mT if tall else matrices).float()
    m = m / m.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    gram, q = m @ m.mT, torch.eye(m.shape[-2], device=m.device)
    for k in range(STEPS):
        step = b * gram + c * (gram @ gram)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        q = step @ q
        if k < STEPS - 1:
            gram = step @ gram @ step
    x = q @ m
    return (x.mT if tall else x).to(matrices.dtype)
