"""A contract test for authors of operators."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from any2all_operators.operator import Operator
from any2all_operators.unknown_phase import UnknownPhase

TOLERANCE = 1e-4
LOOSENING = 100.0
"""Divisor of the error at infinite weight, where hardly measured components may remain."""


def check_operator(
    operator: Operator, shape: tuple[int, int], seed: int = 0, tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Test an operator on two random images.

    The images are complex if the operator's are (``complex_image``). These properties are tested:

    - ``adjoint``: Re⟨A x, y⟩ = Re⟨x, A* y⟩ for a random y
    - ``linearity``: A(2x − 3z) = 2 A x − 3 A z
    - ``normal``: A*A x = A*(A x)
    - ``prox`` (weights 0.1, 1, 100) on noisy data: weight A*(A u − y) + u − anchor = 0
    - ``prox`` (infinite weight): A*(A u − y) = 0, and u is finite
    - ``prox_of``: it gives the same result as ``prox``
    - ``batch``: A and prox give the same result for an image alone and in a batch

    For an :class:`UnknownPhase`, all of this is tested on its scan. The operator itself is tested
    for adjoint, linearity, normal and batch; in addition, no step of its prox may raise the
    objective.

    Parameters
    ----------
    operator
        The operator to test.
    shape
        (H, W) of the images.
    seed
        Seed of the images.
    tolerance
        Largest relative error that passes.

    Returns
    -------
    dict
        {property: its relative error}.

    Raises
    ------
    AssertionError
        If a property fails. The message names it and its error.
    """
    errors = _errors(operator, shape, seed)
    failed = {name: error for name, error in errors.items() if not error <= tolerance}
    if failed:
        listing = ", ".join(f"{name}: {error:.1e}" for name, error in failed.items())
        raise AssertionError(
            f"{type(operator).__name__} on {shape}: {listing}; each should be at most {tolerance:g}"
        )
    return errors


def _errors(operator: Operator, shape: tuple[int, int], seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    kind = torch.complex64 if operator.complex_image else torch.float32
    x, z, anchor = (torch.randn(2, *shape, generator=generator, dtype=kind) for _ in range(3))
    ax, az = operator.forward(x), operator.forward(z)
    errors = {"linearity": _relative(operator.forward(2 * x - 3 * z), 2 * ax - 3 * az)}
    y = torch.randn(ax.shape, dtype=ax.dtype, generator=generator)
    target = torch.zeros_like(x)
    data = az + 0.1 * y
    if ax.numel():
        back = operator.adjoint(y)
        if back.is_complex() and not operator.complex_image:
            raise AssertionError(
                "adjoint returns a complex image: take its real part, or say complex_image = True"
            )
        left, right = (ax.conj() * y).real.sum(), (x.conj() * back).real.sum()
        errors["adjoint"] = float((left - right).abs() / (ax.norm() * y.norm()))
        errors["normal"] = _relative(operator.normal(x), operator.adjoint(ax))
        target = operator.adjoint(data)
    alone = torch.cat([operator.forward(x[:1]), operator.forward(x[1:])])
    errors["batch"] = _relative(alone, ax)
    if isinstance(operator, UnknownPhase):
        errors |= {f"scan: {n}": e for n, e in _errors(operator.scan, shape, seed).items()}
        return errors | _of_unknown_phase(operator, data, z.abs())
    return errors | _of_prox(operator, data, target, anchor)


def _of_prox(operator: Operator, data: Tensor, target: Tensor, anchor: Tensor) -> dict[str, float]:
    """Relative errors of ``prox`` and ``prox_of``; ``target`` is A* y."""
    errors = {}
    for weight in (0.1, 1.0, 100.0):
        u = operator.prox(data, anchor, weight)
        gradient = weight * (operator.normal(u) - target) + u - anchor
        scale = anchor.norm() + weight * target.norm()
        errors[f"prox, weight {weight:g}"] = float(gradient.norm() / scale)
        alone = torch.cat(
            [operator.prox(data[k : k + 1], anchor[k : k + 1], weight) for k in (0, 1)]
        )
        errors[f"batch of prox, weight {weight:g}"] = _relative(alone, u)
    fixed = operator.prox_of(data)(anchor, 1.0)
    errors["prox_of"] = _relative(fixed, operator.prox(data, anchor, 1.0))
    u = operator.prox(data, anchor, math.inf)
    pull = operator.normal(u) - target
    size = target.norm() + operator.normal(anchor).norm()
    errors["prox, weight inf"] = float(pull.norm() / size.clamp(min=1e-12)) / LOOSENING
    return errors


def _of_unknown_phase(operator: UnknownPhase, data: Tensor, anchor: Tensor) -> dict[str, float]:
    """The relative rise of the objective in the majorisation steps that start at z = anchor."""
    errors = {}
    solve = operator.scan.prox_of(data)
    for weight in (1.0, 100.0):
        a = operator.stiffness(anchor, weight)
        z, values = anchor + 0j, []
        for _ in range(4):
            misfit = (operator.scan.forward(z) - data).abs().square().sum()
            apart = (1 - a) * (z.abs() - anchor).square() + a * (z - anchor).abs().square()
            values.append(float(weight * misfit + apart.sum()))
            z = solve(operator.expected(anchor, z.sgn(), weight), weight)
        risen = max(after - before for before, after in pairwise(values))
        errors[f"objective, weight {weight:g}"] = max(risen, 0.0) / values[0]
    return errors


def _relative(given: Tensor, expected: Tensor) -> float:
    if not expected.numel():
        return 0.0
    return float((given - expected).norm() / expected.norm().clamp(min=1e-12))
