"""A Gaussian prior of two correlated images."""

from __future__ import annotations

import torch
from any2all_core import (
    GaussianPrior,
)

SIZE = 16
MEAN, COVARIANCE = torch.tensor([-0.1, 0.2]), torch.tensor([[0.04, 0.03], [0.03, 0.05]])


def two_correlated_images() -> GaussianPrior:
    """Each pixel of (T1, FLAIR) is drawn from N(MEAN, COVARIANCE) by itself, in [−1, 1] units."""
    return GaussianPrior.of_pixels(("T1", "FLAIR"), MEAN, COVARIANCE, (SIZE, SIZE))
