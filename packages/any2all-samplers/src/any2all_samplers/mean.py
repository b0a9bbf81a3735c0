"""The posterior mean of the missing images, by one network call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from any2all_core import Conditioning, Noise, Prior
from any2all_core.sampler import Step
from any2all_operators import Measurement, UserError
from torch import Tensor


@dataclass(frozen=True)
class Mean:
    r"""The posterior mean E[x_0 | y], by one network call.

    The available images enter at their own noise level and the missing ones at T−1. No other
    estimate has a smaller expected squared error. The mean is smooth wherever the available images
    do not determine the missing one. It does not depend on the seed.

    The prior must have a separate noise level per modality. Modalities measured through another
    operator, such as k-space, must be reconstructed first.

    Parameters
    ----------
    steps
        Number of network calls, always 1.

    Raises
    ------
    UserError
        If ``steps`` is not 1.
    """

    steps: Annotated[int, "Network calls; always 1"] = 1

    random: ClassVar[bool] = False
    images_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps != 1:
            raise UserError(f"mean: steps={self.steps}, expected 1: it is one call")

    @torch.no_grad()
    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """Compute the mean for each entry of the batch.

        Parameters
        ----------
        prior
            A prior with a separate noise level per modality.
        measurement
            The measurement of B slices: clean, noisy or missing images.
        noise
            Source of N(0, 1) noise (B, M, H, W). The result does not depend on it.
        progress
            Called once, after the network call.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1].

        Raises
        ------
        UserError
            If the prior has one noise level for all modalities, or if a modality was measured
            through another operator.
        """
        conditioning = Conditioning(prior, measurement)
        if not conditioning.separate:
            raise UserError(
                "mean needs a prior with a noise level for each modality (train it with "
                "levels=separate); use the mean of several draws of mmps: --draws 8"
            )
        if conditioning.guided:
            raise UserError(
                f"mean takes images, and {', '.join(conditioning.guided)} was measured through an "
                "operator; use mds, or the mean of several draws of mcs: --draws 8"
            )
        (at, _) = conditioning.path(1)
        x0_hat = prior.denoise(conditioning.begin(noise()), conditioning.told(at))
        if progress:
            progress()
        return ((x0_hat + 1) / 2).clamp(0, 1)
