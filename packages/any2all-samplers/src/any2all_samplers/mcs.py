"""Multimodal conditional sampling: draws from the posterior without a gradient."""

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

from any2all_samplers.mds import data_weights
from any2all_samplers.sde import ReverseSDE


@dataclass(frozen=True)
class MCS:
    r"""MCS: the reverse SDE of p(x | y), for a prior with a noise level for each modality.

    1. x̂_0 = E[x_0 | x_t], told of the images that are there (see ``Conditioning``)
    2. x̃_0 ≈ E[x_0 | x_t, y]: what was measured otherwise moves to the data by its ``prox``, with
       w_m = r_t²/noise_std_m², r_t² the variance that x̂_0's error is expected to have at t
    3. x_{t'} by a step of the solver :class:`any2all_samplers.sde.ReverseSDE`

    What was measured goes first, with what is missing at T−1, in half of the steps; it is then an
    image like any other, and what is missing is drawn from the prior's own conditional distribution
    in the other half: p(x | y) = p(measured | y) p(missing | measured). Step 2 is for k-space and
    the like alone, and takes x̂_0's error as white. So the spread of the draws says how much is not
    known. One draw has √2 times the error of the mean of many: the price of a right spread.
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 20
    spacing: Annotated[
        Spacing, "How the steps lie: evenly in σ^(1/7) where the image forms, or evenly in time"
    ] = "sigma"

    @torch.no_grad()
    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]. Raises UserError for a prior with one level for all."""
        conditioning = Conditioning(prior, measurement)
        if not conditioning.separate:
            raise UserError(
                "mcs needs a prior with a noise level for each modality (train it with "
                "levels=separate); use mmps"
            )
        prox = measurement.operator.prox_of(measurement.data)
        solver = ReverseSDE(conditioning, noise)
        x_t = conditioning.begin(noise())
        for at, to in pairwise(conditioning.path(self.steps, self.spacing, ahead=True)):
            x0_hat = prior.denoise(x_t, conditioning.told(at)).clamp(-1, 1)
            weights = data_weights(prior, measurement, conditioning.guided, at)
            x0_tilde = 2 * prox((x0_hat + 1) / 2, weights) - 1
            x_t = solver.step(x_t, x0_tilde, at, to)
            if progress:
                progress()
        return ((x_t + 1) / 2).clamp(0, 1)
