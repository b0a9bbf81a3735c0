"""Losses shared by several methods."""

from __future__ import annotations

from torch import Tensor


def mean_over(chosen: Tensor, errors: Tensor) -> Tensor:
    """The mean of errors (B, M, H, W) over the chosen images, (B, M); 0 if none is chosen."""
    each = errors.mean((2, 3)) * chosen
    return each.sum() / chosen.sum().clamp(min=1)


def least_squares(judged: Tensor, wanted: Tensor | float) -> Tensor:
    """Mean of (judged − wanted)², the adversarial loss of LSGAN (Mao 2017, arXiv 1611.04076)."""
    return (judged - wanted).square().mean()
