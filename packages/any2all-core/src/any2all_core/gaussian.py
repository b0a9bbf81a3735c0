"""A prior whose posterior is known in closed form, to test samplers against."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from any2all_core.schedule import Schedule


@dataclass
class GaussianPrior:
    """Each pixel's M intensities are drawn from N(mean, covariance) by itself, in [−1, 1] units.

    mean: (M,), covariance: (M, M). ``calls``: the times at which it was asked.
    """

    modalities: tuple[str, ...]
    mean: Tensor
    covariance: Tensor
    schedule: Schedule = field(default_factory=Schedule)
    calls: list[int] = field(default_factory=list)

    def denoise(self, x_t: Tensor, t: int) -> Tensor:
        """E[x_0 | x_t] = μ + √ᾱ Σ (ᾱ Σ + (1−ᾱ) I)⁻¹ (x_t − √ᾱ μ)."""
        self.calls.append(t)
        a = float(self.schedule.alpha_bar[t])
        noisy = a * self.covariance + (1 - a) * torch.eye(len(self.mean))
        gain = a**0.5 * self.covariance @ torch.linalg.inv(noisy)
        mean = self.mean[None, :, None, None]
        return mean + torch.einsum("mn,bnhw->bmhw", gain, x_t - a**0.5 * mean)
