"""The posterior mean of what is missing, in one call."""

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
    r"""E[x_0 | y]: one call with the images that are there at their noise level, the others at T−1.

    No draw has a smaller expected squared error. It is smooth where the images that are there leave
    open what the missing one looks like, and the same whatever the seed. For a prior with a noise
    level for each modality; what was measured through another operator has to be reconstructed
    first.
    """

    steps: Annotated[int, "Network calls; 1 alone"] = 1

    random: ClassVar[bool] = False

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
        """(B, M, H, W) in [0, 1]. Raises UserError for what one call can't answer."""
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
