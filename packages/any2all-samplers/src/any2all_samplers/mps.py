"""Multimodal posterior sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from any2all_core import Conditioning, Noise, Prior
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

    Where A_m has an unknown phase, it is that which explains the data best for the image u_m of
    each step (``Operator.near``).

    A prior with a noise level for each modality is told of the images that are there (see
    ``Conditioning``): they are conditioned on exactly, in step 1, and have no part in the sum of
    step 3. Where nothing else is known there is no gradient, and these are ancestral draws.

    Source: arXiv 2602.08249; Chung 2023, *Diffusion posterior sampling*, alg. 1.
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 100
    zeta: Annotated[float, "Step along the gradient of the misfit; at least 0"] = 1.0
    spacing: Annotated[
        Spacing, "How the steps lie: evenly in σ^(1/7) where the image forms, or evenly in time"
    ] = "uniform"

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"steps": 1000}}

    def __post_init__(self) -> None:
        if not 0 <= self.zeta < math.inf:
            raise UserError(f"mps: zeta={self.zeta}, expected at least 0")

    def passes(self, prior: Prior, measurement: Measurement) -> int:
        """One forward pass a step, and one backward where there is data to be guided by."""
        return self.steps * (2 if Conditioning(prior, measurement).guided else 1)

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]."""
        zeta = self.zeta * prior.schedule.steps / self.steps
        conditioning = Conditioning(prior, measurement)
        x_t = conditioning.begin(noise())
        for at, to in pairwise(conditioning.path(self.steps, self.spacing)):
            with torch.set_grad_enabled(bool(conditioning.guided)):
                x_t = x_t.detach().requires_grad_(bool(conditioning.guided))
                x0_hat = prior.denoise(x_t, conditioning.told(at))
                misfit = torch.zeros(())
                if conditioning.guided:
                    image = (x0_hat + 1) / 2
                    measurement = measurement.near(image.detach())
                    residuals = measurement.residual(image)
                    misfit = torch.stack([residuals[name] for name in conditioning.guided]).sum()
            with torch.no_grad():
                pull = torch.autograd.grad(misfit, x_t)[0] if conditioning.guided else 0.0
                alpha_bars = conditioning.alpha_bars(at, to, x_t)
                x_0 = x0_hat.clamp(-1, 1)
                moved = ancestral_step(x_t, x_0, *alpha_bars, noise=noise) - zeta * pull
                x_t = conditioning.hold(x_t, moved, at, to)
            if progress:
                progress()
        return ((x_t + 1) / 2).clamp(0, 1)
