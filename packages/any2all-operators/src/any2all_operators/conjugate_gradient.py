"""Conjugate gradients for a batch of independent symmetric or Hermitian systems."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    system: Callable[[Tensor], Tensor],
    right_hand_side: Tensor,
    start: Tensor | None = None,
    *,
    tolerance: float = 5e-5,
    max_steps: int = 500,
    precondition: Callable[[Tensor], Tensor] = lambda residual: residual,
) -> Tensor:
    """Solve system(u) = b independently for each entry of a batch.

    Every entry has its own step lengths, so its result never depends on the rest of the batch. If
    the system of an entry turns out not to be positive definite, that entry is no longer updated.

    Parameters
    ----------
    system
        A symmetric or Hermitian, positive definite map of (B, ...).
    right_hand_side
        b, real or complex (B, ...).
    start
        Initial u; zero if not given.
    tolerance
        The iteration stops when every residual norm is at most tolerance · ‖b‖.
    max_steps
        Largest number of iterations.
    precondition
        An approximate inverse of ``system``, symmetric or Hermitian.

    Returns
    -------
    Tensor
        u, (B, ...).

    References
    ----------
    Hestenes & Stiefel 1952; Saad 2003, alg. 9.1.
    """
    u = torch.zeros_like(right_hand_side) if start is None else start
    residual = right_hand_side if start is None else right_hand_side - system(start)
    direction = better = precondition(residual)
    energy = _inner(residual, better)
    goal = tolerance**2 * _inner(right_hand_side, right_hand_side)
    positive = torch.ones_like(goal, dtype=torch.bool)
    for _ in range(max_steps):
        active = positive & (_inner(residual, residual) > goal)
        if not bool(active.any()):
            break
        image = system(direction)
        curvature = _inner(direction, image)
        positive = positive & (curvature > 0)
        step = torch.where(active & positive, energy / curvature, 0)
        u = u + step * direction
        residual = residual - step * image
        better = precondition(residual)
        previous, energy = energy, _inner(residual, better)
        ratio = torch.where(active & positive, energy / previous, 0)
        direction = better + ratio * direction
    return u


def solve_prox(
    normal: Callable[[Tensor], Tensor],
    back: Tensor,
    anchor: Tensor,
    weight: float,
    *,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Solve (1 + weight A*A) u = anchor + weight A* y for u, starting from ``anchor``.

    ``normal`` is A*A and ``back`` is A* y. For an infinite weight, A*A (u − anchor) =
    A* y − A*A anchor is solved instead, starting from u = anchor.
    """
    if math.isinf(weight):
        gap = back - normal(anchor)
        return anchor + conjugate_gradient(normal, gap)
    return conjugate_gradient(
        lambda u: u + weight * normal(u),
        anchor + weight * back,
        anchor,
        precondition=precondition or (lambda residual: residual),
    )


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Re⟨a, b⟩ of each entry, (B, 1, ...)."""
    product = (a.conj() * b).real if a.is_complex() else a * b
    return product.flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))
