"""Multimodal decomposition sampling: denoising steps, alternated with proximal steps."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from any2all_core import Conditioning, Noise, Prior
from any2all_core.conditioning import CLEAN
from any2all_core.sampler import Step
from any2all_core.schedule import LARGEST_SIGMA, Spacing
from any2all_operators import Measurement, UserError
from torch import Tensor

CLOSE = 1.5
"""σ below which the data of most modalities determines the image; chosen on validation data."""


@dataclass(frozen=True)
class MDS:
    r"""MDS: in each step, the denoised stack is moved to the data by a proximal step.

    1. x̂_0 = clip(E[x_0 | x_t]), u = (x̂_0 + 1)/2
    2. ũ_m = argmin w_m/2 ‖A_m ũ − y_m‖² + 1/2 ‖ũ − u_m‖² for each modality (its ``prox``), and
       x̃_0 = 2ũ − 1
    3. x_{t'} = √ᾱ' ((1−κ) x̃_0 + κ x̃_0') + √(1−ᾱ') (η z + √(1−η²) ε̂), with
       ε̂ = (x_t − √ᾱ x̂_0)/√(1−ᾱ) and x̃_0' from the previous step

    If the prior has a separate noise level per modality, step 1 conditions exactly on the available
    images (see ``Conditioning``), so x̂_0 of a missing modality is the mean given those images at
    every t. A noisy image also takes part in step 2 once t is below its own noise level, because
    step 3 would otherwise forget its data. If the prior has one noise level for all modalities, the
    available images act only through their noised copies in step 3.

    Parameters
    ----------
    steps
        Number of network calls; 1 to the diffusion steps of the prior.
    start
        σ below which the times are closely spaced (see :meth:`any2all_core.Schedule.timesteps`).
        "auto" is 1.5 if at most a third of the modalities are missing, since the data then
        determines much from the first step on, and otherwise 20.
    average
        κ, the weight of the previous step, applied below σ = 1.5. It averages out some of the noise
        that each step leaves in x̃_0.
    eta
        η, the share of fresh noise in step 3; 1 for fresh noise alone. It is not the σ of DDIM.
    weight
        "noise": w_m = r_t²/noise_std_m², where r_t² = s² v/(s² + v) with s² = (1−ᾱ)/4ᾱ and
        v = 0.04 is the expected squared error of x̂_0 at t, in [0, 1] units, and at least the
        prior's ``error_floor``². A noise-free modality has infinite weight, so a clean image
        replaces its estimate. A number is one constant weight for all noisy modalities, as in DDS.
    spacing
        Spacing of the times; see :meth:`any2all_core.Schedule.timesteps`.

    Raises
    ------
    UserError
        If an option is out of range.

    References
    ----------
    arXiv 2602.08249, whose constants are the preset ``paper``; Chung 2024, *Decomposed diffusion
    sampler*, alg. 1.
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 20
    start: Annotated[
        float | Literal["auto"],
        "σ below which the steps are closely spaced; above 0, or auto for 1.5 or 20",
    ] = "auto"
    average: Annotated[
        float, "Weight of the previous step's estimate, below σ = 1.5; 0 to less than 1"
    ] = 0.25
    eta: Annotated[float, "Share of fresh noise in each step; 0 to 1"] = 1.0
    weight: Annotated[
        Literal["noise"] | float,
        "Weight of noisy data: noise derives it from the noise level; or a number above 0",
    ] = "noise"
    spacing: Annotated[
        Spacing, "Spacing of the steps: sigma is even in σ^(1/7), uniform is even in time"
    ] = "sigma"

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"steps": 150, "average": 0.0, "eta": 0.85, "weight": 5.0, "spacing": "uniform"}
    }

    def __post_init__(self) -> None:
        if self.start != "auto" and not 0 < self.start < math.inf:
            raise UserError(f"mds: start={self.start}, expected 'auto' or a number above 0")
        if not 0 <= self.average < 1:
            raise UserError(f"mds: average={self.average}, expected 0 to less than 1")
        if not 0 <= self.eta <= 1:
            raise UserError(f"mds: eta={self.eta}, expected 0 to 1")
        if self.weight != "noise" and not self.weight > 0:
            raise UserError(f"mds: weight={self.weight}, expected 'noise' or a number above 0")

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
            The measurement of B slices.
        noise
            Source of N(0, 1) noise (B, M, H, W).
        progress
            Called once per network call.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1].
        """
        conditioning = Conditioning(prior, measurement)
        path = conditioning.path(self.steps, self.spacing, self.first_sigma(measurement))
        prox = measurement.operator.prox_of(measurement.data)
        fixed = None if self.weight == "noise" else self.weight
        x_t = conditioning.begin(noise())
        before: Tensor | None = None
        for at, to in pairwise(path):
            x0_hat = prior.denoise(x_t, conditioning.told(at)).clamp(-1, 1)
            weights = data_weights(prior, measurement, measurement.data, at, fixed=fixed)
            x0_tilde = 2 * prox((x0_hat + 1) / 2, weights) - 1
            alpha_bar, alpha_bar_next = conditioning.alpha_bars(at, to, x_t)
            target = x0_tilde
            if before is not None:
                is_close = ((1 - alpha_bar) / alpha_bar <= CLOSE**2) & (alpha_bar_next < 1)
                target = torch.lerp(x0_tilde, before, self.average * is_close)
            before = x0_tilde
            spread = (1 - alpha_bar_next).sqrt()
            moved = alpha_bar_next.sqrt() * target
            if self.eta and max(to) > CLEAN:
                moved += spread * self.eta * noise()
            if self.eta < 1:
                eps_hat = (x_t - alpha_bar.sqrt() * x0_hat) / (1 - alpha_bar).clamp(
                    min=1e-12
                ).sqrt()
                moved += spread * (1 - self.eta**2) ** 0.5 * eps_hat
            x_t = conditioning.hold(x_t, moved, at, to)
            if progress:
                progress()
        return ((x_t + 1) / 2).clamp(0, 1)

    def first_sigma(self, measurement: Measurement) -> float:
        """σ below which the times are closely spaced: ``start``, or the value of "auto"."""
        if self.start != "auto":
            return self.start
        few = 3 * len(measurement.missing) <= len(measurement.data)
        return CLOSE if few else LARGEST_SIGMA


def data_weights(
    prior: Prior,
    measurement: Measurement,
    guided: Container[str],
    at: Sequence[int],
    *,
    fixed: float | None = None,
) -> dict[str, float]:
    """{modality: w_m}: r_t²/noise_std_m² or ``fixed`` for ``guided`` modalities, 0 for others.

    r_t² = s² v/(s² + v), with s² = (1−ᾱ)/4ᾱ and v = 0.04, in units of [0, 1] images. It is at least
    the prior's ``error_floor``², if the prior has one. A noise-free modality has infinite weight.
    """
    floor = getattr(prior, "error_floor", 0.0)
    weights = dict.fromkeys(measurement.operator.modalities, 0.0)
    for (name, operator), t in zip(measurement.operator.operators.items(), at, strict=True):
        if name not in guided or t == CLEAN:
            continue
        if not operator.noise_std:
            weights[name] = math.inf
            continue
        alpha_bar = float(prior.schedule.alpha_bar[t])
        s2, prior_variance = (1 - alpha_bar) / (4 * alpha_bar), 0.04
        expected = max(s2 * prior_variance / (s2 + prior_variance), floor**2)
        weights[name] = fixed or expected / operator.noise_std**2
    return weights
