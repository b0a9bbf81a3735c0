"""The two simplest operators: an available image and a missing one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from any2all_operators.arrays import check_scale
from any2all_operators.errors import UserError
from any2all_operators.operator import Operator, check_noise_std


@dataclass(frozen=True)
class Identity(Operator):
    """An available image, y = x + n.

    Parameters
    ----------
    noise_std
        Standard deviation of n on the [0, 1] image scale; 0 for a clean image.

    Raises
    ------
    UserError
        If ``noise_std`` is negative or not finite.
    """

    noise_std: Annotated[
        float, "Standard deviation of the noise on the [0, 1] image scale; at least 0"
    ] = 0.0

    def __post_init__(self) -> None:
        check_noise_std(self.noise_std)

    def forward(self, image: Tensor) -> Tensor:
        return image

    def adjoint(self, data: Tensor) -> Tensor:
        return data

    def image(self, data: Tensor) -> Tensor:
        """The data itself, (B, H, W)."""
        return data

    def check(self, data: Tensor, modality: str) -> None:
        super().check(data, modality)
        if data.ndim != 3 or data.is_complex():
            raise UserError(
                f"{modality}: data is {data.dtype} {tuple(data.shape)}; expected real images "
                "(slices, H, W)"
            )
        check_scale(float(data.abs().max()), self.noise_std, f"{modality}: its image")

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        """(anchor + weight y)/(1 + weight); y itself for an infinite weight."""
        if math.isinf(weight):
            return data
        return (anchor + weight * data) / (1 + weight)


@dataclass(frozen=True)
class Zero(Operator):
    """A missing image: A x is empty, so the data has shape (B, 0)."""

    def forward(self, image: Tensor) -> Tensor:
        return image.new_zeros(len(image), 0)

    def adjoint(self, data: Tensor) -> Tensor:
        raise TypeError("a missing image has no data to map back; use prox or normal")

    def normal(self, image: Tensor) -> Tensor:
        return torch.zeros_like(image)

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        """The anchor, since there is no data."""
        return anchor
