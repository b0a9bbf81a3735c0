"""Moment matching posterior sampling: draws with the spread of the posterior."""

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
"""Standard deviation that step 2 assumes for noise-free data, in [0, 1] units."""


@dataclass(frozen=True)
class MMPS:
    r"""MMPS: x̂_0 is moved to E[x_0 | x_t, y] with the covariance of its error from the network.

    p(x_0 | x_t) is approximated by N(x̂_0, C), with mean and covariance from Tweedie's formula:

    1. x̂_0 = E[x_0 | x_t],  C = Cov[x_0 | x_t] = (1−ᾱ)/√ᾱ ∂x̂_0/∂x_t
    2. x̃_0 = x̂_0 + C A* (A C A* + noise_std²)⁻¹ (y − A x̂_0)
    3. A step of the solver :class:`any2all_samplers.sde.ReverseSDE` gives x_{t'}.

    Images are in [−1, 1] units; A, y and the noise are in [0, 1] units. C is never formed, because
    C v is one backward pass. Step 2 takes ``iterations`` iterations of conjugate gradients and
    therefore iterations + 1 backward passes. To keep the inverse stable, step 2 assumes a noise_std
    of 0.005 for noise-free data; such data is fitted exactly at the end. Above σ = 20 the data is
    ignored, because there C is a small difference times a large number.

    For a Gaussian prior, the draws follow the posterior up to the error of finitely many steps and
    iterations. For other priors this holds as far as p(x_0 | x_t) is Gaussian.

    If A has an unknown phase, each step uses the phase that best explains the data for x̂_0.

    If the prior has a separate noise level per modality, step 1 conditions on the available images
    (see ``Conditioning``). Step 2 then treats only modalities measured through another operator,
    and is skipped if there are none.

    Parameters
    ----------
    steps
        Number of network calls; 1 to the diffusion steps of the prior.
    iterations
        Conjugate gradient iterations per step; at least 1.
    spacing
        Spacing of the times; see :meth:`any2all_core.Schedule.timesteps`.

    Raises
    ------
    UserError
        If ``iterations`` is below 1.

    References
    ----------
    Rozet 2024, *Learning diffusion priors from observations by expectation maximization*,
    arXiv 2405.13712, sec. 4.2.
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 25
    iterations: Annotated[
        int, "Conjugate gradient iterations per step, each with a backward pass; at least 1"
    ] = 5
    spacing: Annotated[
        Spacing, "Spacing of the steps: sigma is even in σ^(1/7), uniform is even in time"
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
        """Draw one stack for each entry of the batch.

        Parameters
        ----------
        prior
            The prior.
        measurement
            The measurement of B slices.
        noise
            Source of N(0, 1) noise (B, M, H, W).
        progress
            Called once per step.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1].
        """
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
        """One forward pass per step, and iterations + 1 backward passes if the data enters."""
        conditioning = Conditioning(prior, measurement)
        path = conditioning.path(self.steps, self.spacing)[:-1]
        guided = sum(self.is_guided(prior, conditioning, at) for at in path)
        return self.steps + guided * (self.iterations + 1)

    @staticmethod
    def is_guided(prior: Prior, conditioning: Conditioning, at: Sequence[int]) -> bool:
        """Whether the data enters at the times ``at``."""
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
        """E[x_0 | x_t, y], (B, M, H, W): the result of step 2."""
        alpha_bar, _ = conditioning.alpha_bars(at, at, x_t)
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            x0_hat = prior.denoise(x_t, conditioning.told(at))

        estimate = x0_hat.detach()
        operator = measurement.near((estimate + 1) / 2).operator
        fitted = operator.forward((estimate + 1) / 2)
        gap = {m: measurement.data[m] - fitted[m] for m in fitted}

        def covariance(v: Tensor) -> Tensor:
            """Cov[u | x_t] v, where u = (x_0 + 1)/2."""
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
    """The measurement of these modalities alone; the others become missing."""
    operator, data = {}, {}
    for name, block in measurement.operator.operators.items():
        y = measurement.data[name]
        operator[name] = block if name in names else Zero()
        data[name] = y if name in names else torch.zeros(len(y), 0, device=y.device)
    return Measurement(BlockDiagonal(operator), data)


def flatten(data: Data) -> Tensor:
    """All data as real vectors, (B, N); a complex number becomes two real ones."""
    parts = (torch.view_as_real(y) if y.is_complex() else y for y in data.values())
    return torch.cat([y.flatten(1) for y in parts], 1)


def unflatten(flat: Tensor, like: Data) -> dict[str, Tensor]:
    """The inverse of :func:`flatten`, with the shapes of ``like``."""
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
