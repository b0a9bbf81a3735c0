"""Find the slices that show a head, and the head in them."""

from __future__ import annotations

from torch import Tensor

SIGNAL = 0.1  # of full scale
COVERAGE = 0.03  # of a slice's pixels
HEAD = 0.05
"""A pixel is inside the head if the mean of its stack is above this."""


def covered(stack: Tensor) -> Tensor:
    """Find the slices of (Z, M, H, W) that show a head: 3 % of the pixels above 0.1.

    The rule holds in every modality. A missing modality, which is NaN, is ignored; at least one
    must be present.
    """
    absent = stack.isnan().all((2, 3))
    shown = (stack > SIGNAL).float().mean((2, 3)) > COVERAGE
    return (shown | absent).all(1) & ~absent.all(1)


def in_head(stack: Tensor) -> Tensor:
    """Mark the pixels of the head in (B, M, H, W): (B, H, W), bool, by the mean of the images."""
    return stack.mean(1) > HEAD
