"""Conjugate gradients for a batch of independent symmetric systems."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    system: Callable[[Tensor], Tensor],
    right_hand_side: Tensor,
    start: Tensor,
    tolerance: float = 1e-5,
    max_steps: int = 100,
) -> Tensor:
    """Solve system(u) = b for each entry of a batch by itself; real (B, H, W).

    Step lengths are per entry, so a result never depends on its neighbours in the batch. Stops when
    every residual is below tolerance · ‖b‖. Source: Hestenes & Stiefel 1952.
    """
    u = start
    residual = right_hand_side - system(u)
    direction = residual
    energy = _energy(residual)
    goal = tolerance**2 * _energy(right_hand_side)
    for _ in range(max_steps):
        active = energy > goal
        if not bool(active.any()):
            break
        image = system(direction)
        curvature = (direction * image).sum((1, 2), keepdim=True)
        step = torch.where(active & (curvature > 0), energy / curvature, 0)
        u = u + step * direction
        residual = residual - step * image
        previous, energy = energy, _energy(residual)
        ratio = torch.where(active, energy / previous, 0)
        direction = residual + ratio * direction
    return u


def _energy(image: Tensor) -> Tensor:
    return image.square().sum((1, 2), keepdim=True)
