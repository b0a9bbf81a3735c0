"""Multimodal posterior sampling: ancestral sampling, guided by the gradient of the misfit."""

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
    r"""MPS: ancestral sampling guided by the gradient of the data misfit.

    1. x̂_0 = E[x_0 | x_t], u = (x̂_0 + 1)/2
    2. x' = ancestral step(x_t, clip(x̂_0))
    3. x_{t'} = x' − ζ ∇_{x_t} Σ_m ‖y_m − A_m u_m‖

    The norm, not its square, is taken per slice and per modality on [0, 1] images. The step
    therefore depends neither on the batch nor on the amount of data of another modality. The
    gradient passes through the whole network, which couples the modalities. In the gradient u is
    not clipped, because a clipped pixel would have no gradient.

    If A_m has an unknown phase, each step uses the phase that best explains the data for the image
    u_m (``Operator.near``).

    If the prior has a separate noise level per modality, step 1 conditions exactly on the available
    images (see ``Conditioning``), and step 3 leaves them out of its sum. If there is no other data,
    there is no gradient, and the sampler is ancestral.

    Parameters
    ----------
    steps
        Number of network calls; 1 to the diffusion steps of the prior.
    zeta
        ζ for the 1000 steps of the paper, which are its preset. With fewer steps, ζ is multiplied
        by 1000/steps to keep the total pull.
    spacing
        Spacing of the times; see :meth:`any2all_core.Schedule.timesteps`.

    Raises
    ------
    UserError
        If ``zeta`` is negative or not finite.

    References
    ----------
    arXiv 2602.08249; Chung 2023, *Diffusion posterior sampling*, alg. 1.
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 100
    zeta: Annotated[float, "Step size along the gradient of the misfit; at least 0"] = 1.0
    spacing: Annotated[
        Spacing, "Spacing of the steps: sigma is even in σ^(1/7), uniform is even in time"
    ] = "uniform"

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"steps": 1000}}

    def __post_init__(self) -> None:
        if not 0 <= self.zeta < math.inf:
            raise UserError(f"mps: zeta={self.zeta}, expected at least 0")

    def passes(self, prior: Prior, measurement: Measurement) -> int:
        """One forward pass per step, and one backward pass if there is data that guides it."""
        return self.steps * (2 if Conditioning(prior, measurement).guided else 1)

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
