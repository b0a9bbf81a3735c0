"""Multimodal conditional sampling: posterior draws without gradients of the network."""

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
    r"""MCS: the reverse SDE of p(x | y), for a prior with a separate noise level per modality.

    1. x̂_0 = E[x_0 | x_t], conditioned on the available images (see ``Conditioning``)
    2. x̃_0 ≈ E[x_0 | x_t, y]: modalities measured through another operator, such as k-space, are
       moved to their data by ``prox`` with weight w_m = r_t²/noise_std_m². r_t² is the expected
       variance of the error of x̂_0 at t.
    3. A step of the solver :class:`any2all_samplers.sde.ReverseSDE` gives x_{t'}.

    By p(x | y) = p(measured | y) p(missing | measured), the sampler has two halves. In the first
    half of the steps it reconstructs the measured modalities, while the missing ones stay at T−1.
    In the second half it draws the missing modalities from the prior, conditioned on the
    reconstructed ones. If there are only measured or only missing modalities, all steps treat them.

    The spread of the draws shows the uncertainty, apart from the approximation in step 2, which
    takes the error of x̂_0 to be white. One draw has √2 times the error of the posterior mean.

    Parameters
    ----------
    steps
        Number of network calls; 1 to the diffusion steps of the prior.
    spacing
        Spacing of the times; see :meth:`any2all_core.Schedule.timesteps`.
    """

    steps: Annotated[int, "Network calls; 1 to the diffusion steps of the prior"] = 20
    spacing: Annotated[
        Spacing, "Spacing of the steps: sigma is even in σ^(1/7), uniform is even in time"
    ] = "sigma"

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
            A prior with a separate noise level per modality.
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

        Raises
        ------
        UserError
            If the prior has one noise level shared by all modalities.
        """
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
