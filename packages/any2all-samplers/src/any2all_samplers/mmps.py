"""Moment matching posterior sampling: draws whose spread is that of the posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from any2all_core import Conditioning, Noise, Prior
from any2all_core.sampler import Step
from any2all_core.schedule import LARGEST_SIGMA, Spacing
from any2all_operators import (
    BlockDiagonal,
    Data,
    Measurement,
    UserError,
    Zero,
    conjugate_gradient,
)
from torch import Tensor

from any2all_samplers.sde import ReverseSDE

FLOOR = 0.005
"""Noise std with which noise-free data enters step 2, in [0, 1] units."""


@dataclass(frozen=True)
class MMPS:
    r"""MMPS: x̂_0 is moved to E[x_0 | x_t, y] by what the network itself says of its error.

    p(x_0 | x_t) is taken as N(x̂_0, C) with the mean and covariance that it has by Tweedie,

    1. x̂_0 = E[x_0 | x_t],  C = Cov[x_0 | x_t] = (1−ᾱ)/√ᾱ ∂x̂_0/∂x_t
    2. x̃_0 = x̂_0 + C A* (A C A* + noise_std²)⁻¹ (y − A x̂_0)
    3. x_{t'} by a step of the solver :class:`any2all_samplers.sde.ReverseSDE`

    (in [−1, 1] units; A, y and the noise in [0, 1] units). C is never formed: C v is one backward
    pass, and step 2 takes ``iterations`` of conjugate gradients, hence iterations + 1 backward
    passes a step. Noise-free data counts there as having a noise_std of 0.005, so that what C
    hardly knows is not divided by nothing, and is fitted in full at the end. For a Gaussian prior
    the draws are those of the posterior, but for what few steps and iterations leave; for others as
    far as p(x_0 | x_t) is Gaussian. Above σ = 20 the data is left aside: there C is a small
    difference times a large number.

    Where A has an unknown phase, it is that which explains the data best for x̂_0.

    A prior with a noise level for each modality is told of the images that are there (see
    ``Conditioning``); step 2 is then for what was measured otherwise, and left out if nothing was.

    Source: Rozet 2024, *Learning diffusion priors from observations by expectation maximization*,
    arXiv 2405.13712, sec. 4.2.
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 25
    iterations: Annotated[
        int, "Conjugate gradients of a step, a backward pass each; at least 1"
    ] = 5
    spacing: Annotated[
        Spacing, "How the steps lie: evenly in σ^(1/7) where the image forms, or evenly in time"
    ] = "sigma"

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UserError(f"mmps: iterations={self.iterations}, expected at least 1")

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]."""
        conditioning = Conditioning(prior, measurement)
        guiding = _of(conditioning.guided, measurement)
        solver = ReverseSDE(conditioning, noise)
        x_t = conditioning.begin(noise())
        for at, to in pairwise(conditioning.path(self.steps, self.spacing)):
            if self.is_guided(prior, conditioning, at):
                x0_tilde = self.expected(prior, guiding, conditioning, x_t, at=at)
            else:
                with torch.no_grad():
                    x0_tilde = prior.denoise(x_t, conditioning.told(at))
            x_t = solver.step(x_t, x0_tilde.clamp(-1, 1), at, to)
            if progress:
                progress()
        return (x_t + 1) / 2

    def passes(self, prior: Prior, measurement: Measurement) -> int:
        """One forward pass a step, and iterations + 1 backward where the data enters."""
        conditioning = Conditioning(prior, measurement)
        path = conditioning.path(self.steps, self.spacing)[:-1]
        guided = sum(self.is_guided(prior, conditioning, at) for at in path)
        return self.steps + guided * (self.iterations + 1)

    @staticmethod
    def is_guided(prior: Prior, conditioning: Conditioning, at: Sequence[int]) -> bool:
        """Whether the data enters at these times."""
        return bool(conditioning.guided) and float(prior.schedule.sigma[max(at)]) <= LARGEST_SIGMA

    def expected(
        self,
        prior: Prior,
        measurement: Measurement,
        conditioning: Conditioning,
        x_t: Tensor,
        *,
        at: Sequence[int],
    ) -> Tensor:
        """E[x_0 | x_t, y], (B, M, H, W): step 2."""
        alpha_bar, _ = conditioning.alpha_bars(at, at, x_t)
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            x0_hat = prior.denoise(x_t, conditioning.told(at))

        estimate = x0_hat.detach()
        operator = measurement.near((estimate + 1) / 2).operator
        fitted = operator.forward((estimate + 1) / 2)
        gap = {m: measurement.data[m] - fitted[m] for m in fitted}

        def covariance(v: Tensor) -> Tensor:
            """Cov[u | x_t] v of u = (x_0 + 1)/2."""
            (product,) = torch.autograd.grad(x0_hat, x_t, v, retain_graph=True)
            return (1 - alpha_bar) / (4 * alpha_bar.sqrt()) * product

        def system(flat: Tensor) -> Tensor:
            """(A C A* + noise_std²) w."""
            w = unflatten(flat, gap)
            spread = operator.forward(covariance(operator.adjoint(w)))
            blocks = operator.operators.items()
            return flatten({m: spread[m] + (b.noise_std or FLOOR) ** 2 * w[m] for m, b in blocks})

        w = conjugate_gradient(system, flatten(gap), tolerance=0, max_steps=self.iterations)
        return estimate + 2 * covariance(operator.adjoint(unflatten(w, gap)))


def _of(names: Sequence[str], measurement: Measurement) -> Measurement:
    """What these modalities alone say."""
    operator, data = {}, {}
    for name, block in measurement.operator.operators.items():
        y = measurement.data[name]
        operator[name] = block if name in names else Zero()
        data[name] = y if name in names else torch.zeros(len(y), 0, device=y.device)
    return Measurement(BlockDiagonal(operator), data)


def flatten(data: Data) -> Tensor:
    """All data as real vectors, (B, N); a complex number is two."""
    parts = (torch.view_as_real(y) if y.is_complex() else y for y in data.values())
    return torch.cat([y.flatten(1) for y in parts], 1)


def unflatten(flat: Tensor, like: Data) -> dict[str, Tensor]:
    """The data of such vectors, shaped as ``like``."""
    data: dict[str, Tensor] = {}
    for name, y in like.items():
        width = y[0].numel() * (2 if y.is_complex() else 1)
        part, flat = flat[:, :width], flat[:, width:]
        if y.is_complex():
            pair = part.reshape(*y.shape, 2)
            data[name] = torch.complex(pair[..., 0], pair[..., 1])
        else:
            data[name] = part.reshape(y.shape)
    return data
