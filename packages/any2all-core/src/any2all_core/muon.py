"""The optimizer Muon, with Adam for what is no hidden matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn

OUTSIDE = ("conv_in.", "conv_out.", "time_embedding.")
"""Layers whose weights Adam steps: the first, the last, and the embedding of time."""
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
STEPS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    r"""Matrices move along the orthogonal factor of their momentum, everything else by Adam.

    For a matrix W (out, in), or a convolution reshaped to (out, in · kh · kw), with gradient G:

    B ← μ B + G,   W ← W − η √max(1, out/in) O(G + μ B),   μ = 0.95,

    where O(M) ≈ U Vᵀ for M = U S Vᵀ, by five steps X ← a X + (b X Xᵀ + c (X Xᵀ)²) X from M/‖M‖.
    A group with ``matrix`` True is stepped so, one with False by Adam (β 0.9, 0.999).

    ``torch.optim.Muon`` takes no convolutions, and multiplies in bfloat16 even where that is slow.
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
        """One step; ``closure`` is not used."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if group["matrix"]:
                    self._muon(weight, weight.grad, group["lr"])
                else:
                    self._adam(weight, weight.grad, group["lr"])
        return None

    def _muon(self, weight: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
        direction = orthogonal(gradient.add(momentum, alpha=MOMENTUM).flatten(1))
        rows, columns = direction.shape
        weight.sub_(direction.view(weight.shape), alpha=rate * max(1.0, rows / columns) ** 0.5)

    def _adam(self, weight: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        count = float(state["step"])
        mean = state["exp_avg"].lerp_(gradient, 0.1)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 0.001)
        scale = (square / (1 - 0.999**count)).sqrt_().add_(1e-8)
        weight.addcdiv_(mean, scale, value=-rate / (1 - 0.9**count))


def groups(network: nn.Module, rate: float, matrix_rate: float) -> list[dict[str, Any]]:
    """The parameter groups of a U-Net: Adam's at ``rate``, Muon's at ``matrix_rate``."""
    named: Mapping[str, Tensor] = dict(network.named_parameters())
    hidden = {n for n, p in named.items() if p.ndim >= 2 and not n.startswith(OUTSIDE)}
    return [
        {"params": [p for n, p in named.items() if n not in hidden], "lr": rate, "matrix": False},
        {"params": [p for n, p in named.items() if n in hidden], "lr": matrix_rate, "matrix": True},
    ]


def orthogonal(matrix: Tensor) -> Tensor:
    """About U Vᵀ of a matrix U S Vᵀ (out, in): its singular values come to 0.7 ... 1.2.

    Every X is Q M with Q a polynomial of M Mᵀ, so that the steps are taken on Q and X Xᵀ alone,
    which are smaller than a convolution's matrix.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    m = (matrix.mT if tall else matrix).float()
    m = m / m.norm().clamp(min=1e-7)
    gram, q = m @ m.mT, torch.eye(len(m), device=m.device)
    for k in range(STEPS):
        step = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal().add_(a)
        q = step @ q
        if k < STEPS - 1:
            gram = step @ gram @ step
    x = q @ m
    return (x.mT if tall else x).to(matrix.dtype)
