"""Which slices show a head."""

from __future__ import annotations

from torch import Tensor

SIGNAL = 0.1  # of full scale
COVERAGE = 0.03  # of a slice's pixels


def covered(stack: Tensor) -> Tensor:
    """Which slices (Z, M, H, W) show a head: in every modality 3 % of the pixels above 0.1.

    A modality that the patient lacks, NaN throughout, is not asked; some modality has to be there.
    """
    absent = stack.isnan().all((2, 3))
    shown = (stack > SIGNAL).float().mean((2, 3)) > COVERAGE
    return (shown | absent).all(1) & ~absent.all(1)
