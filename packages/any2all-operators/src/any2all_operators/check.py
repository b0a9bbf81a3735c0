"""The test kit for authors of operators."""

from __future__ import annotations

import torch
from torch import Tensor

from any2all_operators.operator import Operator

TOLERANCE = 1e-4


def check_operator(
    operator: Operator, shape: tuple[int, int], seed: int = 0, tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Test an operator on random images (2, H, W); return the relative errors, all ≤ tolerance.

    - ``adjoint``: Re⟨A x, y⟩ = ⟨x, A* y⟩ for a random y
    - ``linearity``: A(2x − 3z) = 2 A x − 3 A z
    - ``normal``: A*A x = A*(A x)
    - ``prox`` (weights 0.1, 1, 100): gradient weight A*(A u − y) + u − anchor = 0
    - ``batch``: an image alone gives what it gives in a batch

    Raises AssertionError that names what fails and by how much.
    """
    generator = torch.Generator().manual_seed(seed)
    x, z, anchor = (torch.randn(2, *shape, generator=generator) for _ in range(3))
    ax, az = operator.forward(x), operator.forward(z)
    errors = {"linearity": _relative(operator.forward(2 * x - 3 * z), 2 * ax - 3 * az)}
    if ax.numel():
        y = torch.randn(ax.shape, dtype=ax.dtype, generator=generator)
        back = operator.adjoint(y)
        if back.is_complex():
            raise AssertionError("adjoint returns a complex image: take its real part")
        left, right = (ax.conj() * y).real.sum(), (x * back).sum()
        errors["adjoint"] = float((left - right).abs() / (ax.norm() * y.norm()))
        errors["normal"] = _relative(operator.normal(x), operator.adjoint(ax))
    data = az
    for weight in (0.1, 1.0, 100.0):
        u = operator.prox(data, anchor, weight)
        pull = operator.normal(u - z) if ax.numel() else torch.zeros_like(u)
        gradient = weight * pull + u - anchor
        scale = anchor.norm() + weight * operator.normal(z).norm()
        errors[f"prox, weight {weight:g}"] = float(gradient.norm() / scale)
    alone = torch.cat([operator.forward(x[:1]), operator.forward(x[1:])])
    errors["batch"] = _relative(alone, ax)
    failed = {name: error for name, error in errors.items() if not error <= tolerance}
    if failed:
        listing = ", ".join(f"{name}: {error:.1e}" for name, error in failed.items())
        raise AssertionError(
            f"{type(operator).__name__} on {shape}: {listing}; each should be at most {tolerance:g}"
        )
    return errors


def _relative(given: Tensor, expected: Tensor) -> float:
    if not expected.numel():
        return 0.0
    return float((given - expected).norm() / expected.norm().clamp(min=1e-12))
