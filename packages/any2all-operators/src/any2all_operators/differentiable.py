"""A x as a differentiable function whose gradient is the adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Linear = Callable[[Tensor], Tensor]


def differentiable(image: Tensor, forward: Linear, adjoint: Linear) -> Tensor:
    """A x = ``forward(image)``. A is linear, so the backward pass needs only ``adjoint``."""
    data: Tensor = _Forward.apply(image, forward, adjoint)  # type: ignore[no-untyped-call]
    return data


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, forward: Linear, adjoint: Linear) -> Tensor:
        ctx.adjoint = adjoint
        return forward(image)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.adjoint(gradient[0]), None, None
