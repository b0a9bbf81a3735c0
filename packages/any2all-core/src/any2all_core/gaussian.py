"""Priors whose posterior is known in closed form, to test samplers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from any2all_operators import Measurement
from torch import Tensor

from any2all_core.prior import Times
from any2all_core.prior_settings import Levels
from any2all_core.schedule import Schedule

NULL = 1e-9
"""Eigenvalues of A Σ Aᵀ + noise below this share of the largest count as zero (redundant data)."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """The Gaussian posterior p(u | y) = N(mean, covariance) of B stacks in [0, 1] units.

    Parameters
    ----------
    mean
        (B, M, H, W).
    covariance
        (MHW, MHW). It does not depend on y, so all B stacks share it.
    log_evidence
        log p(y), (B,), up to a constant that depends on A and the noise.
    """

    mean: Tensor
    covariance: Tensor
    log_evidence: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation of each pixel, (M, H, W)."""
        return self.covariance.diagonal().clamp(min=0).sqrt().view(self.mean.shape[1:])


@dataclass
class GaussianPrior:
    """A Gaussian prior N(mean, covariance) of small stacks, computed in double precision.

    Parameters
    ----------
    modalities
        Names of the M modalities.
    mean
        (M, H, W) in [−1, 1] units.
    covariance
        (MHW, MHW), symmetric and positive semidefinite, in [−1, 1] units.
    schedule
        The noise schedule.
    calls
        The times of all calls of :meth:`denoise`; for one time per modality, the largest.
    levels
        "separate" if it takes one time per modality, otherwise "shared".
    """

    modalities: tuple[str, ...]
    mean: Tensor
    covariance: Tensor
    schedule: Schedule = field(default_factory=Schedule)
    calls: list[int] = field(default_factory=list)
    levels: Levels = "shared"

    def __post_init__(self) -> None:
        self.mean, self.covariance = self.mean.double(), self.covariance.double()
        values, self._axes = torch.linalg.eigh(self.covariance)
        self._values = values.clamp(min=0)

    @classmethod
    def of_pixels(
        cls, modalities: tuple[str, ...], mean: Tensor, covariance: Tensor, size: tuple[int, int]
    ) -> GaussianPrior:
        """Make a prior of independent pixels with correlated modalities.

        Parameters
        ----------
        modalities
            Names of the M modalities.
        mean
            Mean of the intensities of a pixel, (M,), in [−1, 1] units.
        covariance
            Covariance of the intensities of a pixel, (M, M), in [−1, 1] units.
        size
            (H, W) in pixels.

        Returns
        -------
        GaussianPrior
            The prior.
        """
        pixels = torch.eye(math.prod(size), dtype=torch.float64)
        whole = torch.kron(covariance.double(), pixels)
        return cls(modalities, mean[:, None, None].expand(-1, *size), whole)

    def denoise(self, x_t: Tensor, t: Times) -> Tensor:
        """E[x_0 | x_t] = μ + √ᾱ Σ (ᾱ Σ + (1−ᾱ) I)⁻¹ (x_t − √ᾱ μ), (B, M, H, W).

        With one time per modality, √ᾱ and 1−ᾱ are diagonal matrices, √ᾱ multiplies Σ from both
        sides, and modalities at T−1 are ignored.
        """
        if not isinstance(t, int):
            return self._denoise_each(x_t, tuple(t))
        self.calls.append(t)
        a = float(self.schedule.alpha_bar[t])
        gain = a**0.5 * self._values / (a * self._values + 1 - a)
        gap = (x_t.double() - a**0.5 * self.mean).flatten(1)
        moved = ((gap @ self._axes) * gain) @ self._axes.mT
        return (self.mean + moved.view(x_t.shape)).to(x_t.dtype)

    def _denoise_each(self, x_t: Tensor, times: tuple[int, ...]) -> Tensor:
        self.calls.append(max(times))
        signal, spread, gap = self._apart(x_t, times)
        moved = torch.linalg.solve(spread, gap.mT).mT @ (signal[:, None] * self.covariance)
        return (self.mean + moved.view(x_t.shape)).to(x_t.dtype)

    def _apart(self, x_t: Tensor, times: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """√ᾱ of each pixel (MHW,), the covariance of x_t (MHW, MHW), and x_t − √ᾱ μ (B, MHW).

        A modality at T−1 is pure noise, and its difference is set to 0.
        """
        levels = self.schedule.alpha_bar[list(times)].clone()
        levels[torch.tensor(times) == self.schedule.steps - 1] = 0.0
        a = levels[:, None, None].expand(self.mean.shape).flatten()
        signal = a.sqrt()
        spread = signal[:, None] * self.covariance * signal + torch.diag(1 - a)
        gap = x_t.double().flatten(1) - signal * self.mean.flatten()
        return signal, spread, torch.where(a > 0, gap, 0.0)

    def log_density(self, x_t: Tensor, t: Times) -> Tensor:
        """log N(x_t; √ᾱ μ, √ᾱ Σ √ᾱ + 1−ᾱ), (B,), up to a constant."""
        times = [t] * len(self.modalities) if isinstance(t, int) else t
        _, spread, gap = self._apart(x_t, times)
        values, axes = torch.linalg.eigh(spread)
        return -0.5 * ((gap @ axes).square() / values + values.log()).sum(1)

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw stacks from the prior.

        Parameters
        ----------
        batch
            Number of stacks B.
        generator
            Source of randomness.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1] units, not clipped.
        """
        z = torch.randn(batch, len(self._values), generator=generator, dtype=torch.float64)
        x = self.mean.flatten() + (z * self._values.sqrt()) @ self._axes.mT
        return ((x + 1) / 2).view(batch, *self.mean.shape).float()

    def posterior(self, measurement: Measurement) -> Posterior:
        """The posterior p(u | y) of u = (x + 1)/2 ~ N(μ_u, Σ_u) given y = A u + n.

        With K = Σ_u Aᵀ (A Σ_u Aᵀ + noise)⁺, its mean is μ_u + K (y − A μ_u) and its covariance is
        Σ_u − K A Σ_u.

        Parameters
        ----------
        measurement
            The measurement y of B stacks.

        Returns
        -------
        Posterior
            The posterior in [0, 1] units.
        """
        matrix, noise, data = as_matrix(measurement, self.mean.shape)
        mean, covariance = (self.mean.flatten() + 1) / 2, self.covariance / 4
        shared = covariance @ matrix.mT
        values, axes = torch.linalg.eigh(matrix @ shared + torch.diag(noise))
        kept = values > NULL * values[-1]
        values, axes = values[kept], axes[:, kept]
        gap = (data - mean @ matrix.mT) @ axes
        there = mean + (gap / values) @ (shared @ axes).mT
        left = covariance - (shared @ axes / values) @ (shared @ axes).mT
        evidence = -0.5 * (gap.square() / values + torch.log(2 * math.pi * values)).sum(1)
        return Posterior(there.view(-1, *self.mean.shape), left, evidence)


@dataclass
class GaussianMixturePrior:
    """The mixture Σ_k weights_k N(μ_k, Σ_k), whose posterior has several modes of known weight.

    Parameters
    ----------
    weights
        (K,), probabilities of the components.
    components
        K Gaussian priors with the same modalities, schedule and levels.
    calls
        The times of all calls of :meth:`denoise`; for one time per modality, the largest.
    """

    weights: Tensor
    components: Sequence[GaussianPrior]
    calls: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.modalities = self.components[0].modalities
        self.schedule = self.components[0].schedule
        self.levels = self.components[0].levels

    def denoise(self, x_t: Tensor, t: Times) -> Tensor:
        """E[x_0 | x_t] = Σ_k p(k | x_t) E_k[x_0 | x_t], (B, M, H, W)."""
        self.calls.append(t if isinstance(t, int) else max(t))
        share = self.shares(x_t, t).to(x_t.dtype)
        each = torch.stack([c.denoise(x_t, t) for c in self.components], 1)
        return (share[..., None, None, None] * each).sum(1)

    def shares(self, x_t: Tensor, t: Times = 0) -> Tensor:
        """p(k | x_t), (B, K), for x_t (B, M, H, W) in [−1, 1] units."""
        logs = [c.log_density(x_t, t) for c in self.components]
        return torch.softmax(torch.stack(logs, 1) + self.weights.double().log(), 1)

    def posterior_shares(self, measurement: Measurement) -> Tensor:
        """p(k | y), (B, K), for a measurement y of B stacks."""
        logs = [c.posterior(measurement).log_evidence for c in self.components]
        return torch.softmax(torch.stack(logs, 1) + self.weights.double().log(), 1)


def as_matrix(measurement: Measurement, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """A (N, MHW), the noise variance of each datum (N,), and y (B, N), real in double precision.

    Data that is zero for every image, such as k-space that was not sampled, is left out.
    """
    basis = torch.eye(math.prod(shape)).view(-1, *shape)
    blocks = measurement.operator.operators
    columns = measurement.operator.forward(basis)
    rows, noise, data = [], [], []
    for name, block in blocks.items():
        matrix, y = _real(columns[name]).mT, _real(measurement.data[name])
        taken = matrix.abs().amax(1) > 0 if matrix.numel() else torch.zeros(0, dtype=torch.bool)
        rows.append(matrix[taken])
        data.append(y[:, taken])
        noise.append(torch.full((int(taken.sum()),), float(block.noise_std) ** 2))
    return torch.cat(rows).double(), torch.cat(noise).double(), torch.cat(data, 1).double()


def _real(data: Tensor) -> Tensor:
    """Convert real or complex data (B, ...) to real vectors (B, N)."""
    return (torch.view_as_real(data) if data.is_complex() else data).flatten(1)
