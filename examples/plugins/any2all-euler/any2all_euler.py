"""Euler's method on the probability-flow equation dx/dσ = (x − x̂_0)/σ, fitted to the data."""

import math
from dataclasses import dataclass

import torch
from any2all_core import Noise, Prior
from any2all_operators import Measurement
from torch import Tensor


@dataclass(frozen=True)
class Euler:
    """No noise but the first: x̂_0 is replaced by the prox of the data with one ``weight``."""

    steps: int = 40
    weight: float = 50.0

    @torch.no_grad()
    def __call__(
        self, prior: Prior, measurement: Measurement, noise: Noise, progress=None
    ) -> Tensor:
        times = prior.schedule.timesteps(self.steps, "sigma")
        alpha_bars = prior.schedule.alpha_bar[times].tolist()
        operators = measurement.operator.operators
        weights = {m: self.weight if op.noise_std else math.inf for m, op in operators.items()}
        prox = measurement.operator.prox_of(measurement.data)
        x = noise()  # in the scale of the schedule: √ᾱ x_0 + √(1−ᾱ) ε
        for t, a, a_next in zip(times, alpha_bars, [*alpha_bars[1:], 1.0], strict=True):
            u = (prior.denoise(x, t).clamp(-1, 1) + 1) / 2
            x_0 = 2 * prox(u, weights) - 1
            eps = (x - a**0.5 * x_0) / (1 - a) ** 0.5
            x = a_next**0.5 * x_0 + (1 - a_next) ** 0.5 * eps
            if progress:
                progress()
        return ((x + 1) / 2).clamp(0, 1)
