"""Unconditional ancestral sampling."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from any2all_core import Conditioning, Noise, Prior
from any2all_core.sampler import Step
from any2all_core.schedule import Spacing
from any2all_operators import Measurement, UserError
from torch import Tensor


@dataclass(frozen=True)
class DDPM:
    r"""Unconditional ancestral sampling, for a measurement in which every modality is missing.

    With x̂_0 = E[x_0 | x_t], each step draws x_{t'} = μ + σ z from q(x_{t'} | x_t, x̂_0), where

    μ = √ᾱ' (1−α)/(1−ᾱ) x̂_0 + √α (1−ᾱ')/(1−ᾱ) x_t,  σ² = (1−α)(1−ᾱ')/(1−ᾱ),  α = ᾱ/ᾱ'.

    Parameters
    ----------
    steps
        Number of network calls; 1 to the diffusion steps of the prior.
    spacing
        Spacing of the times; see :meth:`any2all_core.Schedule.timesteps`.

    References
    ----------
    Ho, Jain & Abbeel 2020, eq. 6–7, on a subset of the time steps (Nichol & Dhariwal 2021).
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 250
    spacing: Annotated[
        Spacing, "Spacing of the steps: sigma is even in σ^(1/7), uniform is even in time"
    ] = "uniform"

    @torch.no_grad()
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
            A measurement of B slices without data.
        noise
            Source of N(0, 1) noise (B, M, H, W).
        progress
            Called once per network call.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1].

        Raises
        ------
        UserError
            If a modality has data, because this sampler would ignore it.
        """
        known = measurement.known
        if known:
            raise UserError(
                f"ddpm is unconditional and would ignore {', '.join(known)}; use mds or mps, "
                "or leave the modalities out"
            )
        nothing = Conditioning(prior, measurement)
        x_t = noise()
        for at, to in pairwise(nothing.path(self.steps, self.spacing)):
            x0_hat = prior.denoise(x_t, nothing.told(at)).clamp(-1, 1)
            x_t = ancestral_step(x_t, x0_hat, *nothing.alpha_bars(at, to, x_t), noise=noise)
            if progress:
                progress()
        return (x_t + 1) / 2


def ancestral_step(
    x_t: Tensor, x0_hat: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, *, noise: Noise
) -> Tensor:
    """Draw from q(x_{t'} | x_t, x_0 = x̂_0), with ᾱ and ᾱ' of each modality, (M, 1, 1).

    If ᾱ' = 1 for all modalities, the result is x̂_0 itself.
    """
    if bool((alpha_bar_next == 1).all()):
        return x0_hat
    alpha = alpha_bar / alpha_bar_next
    gap = (1 - alpha_bar).clamp(min=1e-12)
    mean = (
        alpha_bar_next.sqrt() * (1 - alpha) / gap * x0_hat
        + alpha.sqrt() * (1 - alpha_bar_next) / gap * x_t
    )
    variance = (1 - alpha) * (1 - alpha_bar_next) / gap
    return mean + variance.clamp(min=0).sqrt() * noise()
