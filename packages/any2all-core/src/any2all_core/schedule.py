"""The variance-preserving noise schedule, and the subsets of its times that samplers use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from any2all_operators import UserError
from torch import Tensor

Spacing = Literal["sigma", "uniform"]
Kind = Literal["cosine", "linear"]
LARGEST_SIGMA = 20.0
"""Default σ at which spacing by σ begins. On held-out patients, 80 costs 0.1 to 0.2 dB."""


@dataclass(frozen=True)
class Schedule:
    r"""x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε for t = 0 ... T−1, with ᾱ_t = Π_{s≤t} (1−β_s).

    Parameters
    ----------
    steps
        T.
    kind
        "cosine": β_t = min(1 − f(t+1)/f(t), 0.999), with f(t) = cos²(((t/T + s)/(1 + s))·π/2) and
        s = 0.008. "linear": β_t evenly spaced from 0.1/T to 20/T.

    References
    ----------
    Nichol & Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, eq. 17 (cosine);
    Ho 2020, sec. 4, with T = 1000 (linear).
    """

    steps: int = 1000
    kind: Kind = "cosine"

    @cached_property
    def alpha_bar(self) -> Tensor:
        """ᾱ_t, (T,), float64, which falls from about 1 to about 0."""
        if self.kind == "linear":
            ends = (0.1 / self.steps, min(20 / self.steps, 0.999))
            return torch.cumprod(1 - torch.linspace(*ends, self.steps, dtype=torch.float64), 0)
        s = 0.008
        t = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
        beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
        return torch.cumprod(1 - beta, 0)

    @cached_property
    def sigma(self) -> Tensor:
        """σ_t = √((1−ᾱ_t)/ᾱ_t), (T,): the standard deviation of the noise of x_t/√ᾱ_t."""
        return torch.sqrt((1 - self.alpha_bar) / self.alpha_bar)

    def timesteps(
        self, n: int, spacing: Spacing = "sigma", start: float = LARGEST_SIGMA
    ) -> list[int]:
        """Choose exactly n distinct times that fall from T−1 to 0.

        Parameters
        ----------
        n
            Number of times; 1 to T.
        spacing
            "uniform": evenly spaced in t, as in DDIM. "sigma": it begins with T−1. Between σ = 20
            and ``start``, σ falls by factors of e. Below ``start``, where the image forms, the
            times are evenly spaced in σ^(1/7) (after Karras 2022, eq. 5).
        start
            σ below which the times of "sigma" are closely spaced.

        Returns
        -------
        list
            n times; [T−1] for n = 1.

        Raises
        ------
        UserError
            If n is not within 1 ... T.
        """
        if not 1 <= n <= self.steps:
            raise UserError(f"{n} steps asked for: the schedule has 1 to {self.steps}")
        last = self.steps - 1
        if n == 1:
            return [last]
        if spacing == "uniform":
            return [round(last - i * last / (n - 1)) for i in range(n)]
        if spacing != "sigma":
            raise UserError(f"spacing {spacing!r} is unknown: use 'sigma' or 'uniform'")
        rho = 7.0
        root = self.sigma ** (1 / rho)
        first = min(max(start, float(self.sigma[0])), float(self.sigma[-1]))
        coarse = [first * math.exp(k) for k in range(1, n // 4)]
        coarse = [level for level in reversed(coarse) if level < LARGEST_SIGMA]
        ends = (first ** (1 / rho), float(root[0]))
        fine = torch.linspace(*ends, n - len(coarse), dtype=torch.float64)[1:]
        levels = torch.cat([torch.tensor(coarse, dtype=torch.float64) ** (1 / rho), fine])
        nearest = torch.searchsorted(root, levels).clamp(max=last).tolist()
        times = [last]
        for i, t in enumerate(nearest, start=1):
            # keep times distinct, and leave room for the following ones down to 0
            times.append(max(min(t, times[-1] - 1), n - 1 - i))
        times[-1] = 0
        return times
