"""Multimodal posterior sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from any2all_core import Noise, Prior
from any2all_core.sampler import Step
from any2all_core.schedule import Spacing
from any2all_operators import Measurement, UserError
from torch import Tensor

from any2all_samplers.ddpm import ancestral_step


@dataclass(frozen=True)
class MPS:
    r"""MPS: ancestral sampling pulled towards the data by the gradient of its misfit.

    1. x̂_0 = E[x_0 | x_t], u = (x̂_0 + 1)/2
    2. x' = ancestral step(x_t, clip(x̂_0))
    3. x_{t'} = x' − ζ ∇_{x_t} Σ_m ‖y_m − A_m u_m‖

    The norm (not its square) is taken per slice and per modality, on [0, 1] images, so that neither
    the batch nor the amount of data of another modality changes the step. The gradient passes
    through the whole network, which couples the modalities, and u is not clipped in it: a clipped
    pixel would have no gradient. ``zeta`` is the step for the 1000-step schedule of the paper
    (its preset); with fewer steps each is longer by 1000/steps to keep the total pull.

    Source: arXiv 2602.08249; Chung 2023, *Diffusion posterior sampling*, alg. 1.
    """

    steps: int = 100
    zeta: float = 1.0
    spacing: Spacing = "uniform"

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"steps": 1000}}

    def __post_init__(self) -> None:
        if not 0 <= self.zeta < math.inf:
            raise UserError(f"mps: zeta={self.zeta}, expected at least 0")

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]."""
        times = prior.schedule.timesteps(self.steps, self.spacing)
        zeta = self.zeta * prior.schedule.steps / self.steps
        x_t = noise()
        for t, t_next in zip(times, [*times[1:], None], strict=True):
            with torch.enable_grad():
                x_t = x_t.detach().requires_grad_()
                x0_hat = prior.denoise(x_t, t)
                residuals = measurement.residual((x0_hat + 1) / 2).values()
                misfit = sum((r.sum() for r in residuals), start=0 * x0_hat.sum())
                (gradient,) = torch.autograd.grad(misfit, x_t)
            with torch.no_grad():
                x0_hat = x0_hat.clamp(-1, 1)
                x_t = ancestral_step(prior, x_t, x0_hat, t, t_next, noise) - zeta * gradient
            if progress:
                progress()
        return ((x_t + 1) / 2).clamp(0, 1)
