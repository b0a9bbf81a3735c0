"""Multimodal decomposition sampling."""

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
"""σ below which the data of most modalities settles what the image is; chosen on val."""


@dataclass(frozen=True)
class MDS:
    r"""MDS: every denoised stack is replaced by the nearest one that explains the data.

    1. x̂_0 = clip(E[x_0 | x_t]), u = (x̂_0 + 1)/2
    2. ũ_m = argmin w_m/2 ‖A_m ũ − y_m‖² + 1/2 ‖ũ − u_m‖² for each modality (its ``prox``)
    3. x_{t'} = √ᾱ' ((1−κ) x̃_0 + κ x̃_0') + √(1−ᾱ') (η z + √(1−η²) ε̂),
       ε̂ = (x_t − √ᾱ x̂_0)/√(1−ᾱ), x̃_0' that of the step before, κ = ``average``

    Where at most a third of the modalities is missing, the data says much from the first step on,
    and ``start`` = "auto" has only the noise below σ = 1.5 gone through closely (see
    ``Schedule.timesteps``); with more to make up it is all of it, from σ = 20. Averaging, below
    σ = 1.5, takes out some of the noise that each step leaves in x̃_0.

    η is the share of fresh noise in step 3 (1: all of it), not DDIM's σ. Weight "noise":
    w_m = r_t²/noise_std_m², with r_t² = s² v/(s² + v), s² = (1−ᾱ)/4ᾱ, v = 0.04: the error that
    x̂_0 is expected to have at t, in [0, 1] units, and at least the prior's ``error_floor``². A
    noise-free modality has infinite weight, so a
    clean image is replaced outright. A number instead of "noise" is one constant weight for all
    noisy modalities, as in DDS. The preset ``paper`` has the constants of the paper.

    A prior with a noise level for each modality is told of the images that are there (see
    ``Conditioning``): they are conditioned on exactly, in step 1. A noisy one takes part in step 2
    below its own noise level, where step 3 would have forgotten its data. For what is missing x̂_0
    is then the mean given those images, at every t, where a prior with one level for all has to be
    steered by the noised copies of step 3.

    Source: arXiv 2602.08249; Chung 2024, *Decomposed diffusion sampler*, alg. 1.
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 20
    start: Annotated[
        float | Literal["auto"], "σ below which the steps lie close; above 0, auto: 1.5 or 20"
    ] = "auto"
    average: Annotated[
        float, "Share of the step before in each step, below σ = 1.5; 0 to less than 1"
    ] = 0.25
    eta: Annotated[float, "Share of fresh noise in each step; 0 to 1"] = 1.0
    weight: Annotated[
        Literal["noise"] | float, "Weight of noisy data: by its noise, or a number above 0"
    ] = "noise"
    spacing: Annotated[
        Spacing, "How the steps lie: evenly in σ^(1/7) where the image forms, or evenly in time"
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
        """(B, M, H, W) in [0, 1]."""
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
        """σ from which the noise is gone through closely."""
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
    """w_m = r_t²/noise_std_m², or ``fixed``, of the modalities that are ``guided``; 0 of others.

    r_t² = s² v/(s² + v), with s² = (1−ᾱ)/4ᾱ and v = 0.04, on [0, 1] images, and at least the
    prior's ``error_floor``², if it has one.
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
