"""Multimodal conditional sampling: draws from the posterior without a gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from any2all_core import Conditioning, Noise, Prior
from any2all_core.sampler import Step
from any2all_core.schedule import Spacing
from any2all_operators import Measurement, UserError
from torch import Tensor

from any2all_samplers.mds import expected_error
from any2all_samplers.sde import ReverseSDE


@dataclass(frozen=True)
class MCS:
    r"""MCS: the reverse SDE of p(x | y), for a prior with a noise level for each modality.

    1. x̂_0 = E[x_0 | x_t], told of the images that are there (see ``Conditioning``)
    2. x̃_0 ≈ E[x_0 | x_t, y]: what was measured otherwise moves to the data by its ``prox``, with
       w_m = r_t²/noise_std_m², r_t² the variance that x̂_0's error is expected to have at t
    3. x_{t'} by a step of the solver :class:`any2all_samplers.sde.ReverseSDE`

    What is missing is drawn from the prior's own conditional distribution, to the order of the
    solver: step 2 is needed for k-space and the like alone, and takes x̂_0's error as white. So the
    spread of the draws says how much is not known. One draw has √2 times the error of the mean of
    many, which is the price of a right spread.
    """

    steps: int = 20
    spacing: Spacing = "sigma"

    @torch.no_grad()
    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]. Raises UserError for a prior with one level for all."""
        known = Conditioning(prior, measurement)
        if not known.separate:
            raise UserError(
                "mcs needs a prior with a noise level for each modality (train it with "
                "levels=separate); use mmps"
            )
        times = prior.schedule.timesteps(self.steps, self.spacing)
        operators = measurement.operator.operators
        prox = measurement.operator.prox_of(measurement.data)
        solver = ReverseSDE(known, noise)
        x_t = known.begin(noise())
        for t, t_next in zip(times, [*times[1:], None], strict=True):
            x0_hat = prior.denoise(x_t, known.times(t)).clamp(-1, 1)
            r2 = expected_error(float(prior.schedule.alpha_bar[t]))
            weight = {
                name: (r2 / op.noise_std**2 if op.noise_std else math.inf)
                if name in known.guided
                else 0.0
                for name, op in operators.items()
            }
            x0_tilde = 2 * prox((x0_hat + 1) / 2, weight) - 1
            if t_next is not None:
                x_t = solver.step(x_t, x0_tilde, t, t_next)
            if progress:
                progress()
        return ((x0_tilde + 1) / 2).clamp(0, 1)
