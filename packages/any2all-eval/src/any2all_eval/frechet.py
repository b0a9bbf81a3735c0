"""Fréchet distance between sets of images on features that need no weights, so this is not FID.

The distance between Gaussians fitted to the features is ‖μ − μ'‖² + tr(Σ + Σ' − 2 (ΣΣ')^½). For
each modality of a stack, the features are the mean on a 4 x 4 grid of the intensity and of the
magnitude of four octave bands (differences of Gaussians). For each pair of modalities, they are the
correlations of their bands. They are projected on the leading 32 principal axes of the real slices,
each scaled to unit variance. Compare the distance only between sets of the same size, against the
same real slices. Source of the distance: Heusel 2017, arXiv 1706.08500, there with other features.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Features = NDArray[np.float64]
BANDS, CELLS, AXES = 4, 4, 32


def features(stacks: Tensor) -> Features:
    """(N, M, H, W) in [0, 1] to (N, features)."""
    parts = []
    for x in stacks.split(64):
        levels = [x, *(blurred(x, 2.0**k) for k in range(BANDS))]
        bands = [a - b for a, b in itertools.pairwise(levels)]
        cells = [F.adaptive_avg_pool2d(a, CELLS).flatten(1) for a in (x, *map(torch.abs, bands))]
        pairs = torch.triu_indices(x.shape[1], x.shape[1], 1)
        for band in bands:
            unit = F.normalize(band.flatten(2) - band.mean((2, 3))[..., None], dim=2)
            cells.append((unit @ unit.mT)[:, pairs[0], pairs[1]])
        parts.append(torch.cat(cells, 1))
    return torch.cat(parts).double().numpy()


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x (N, M, H, W) with a Gaussian of ``sigma`` pixels."""
    radius = round(3 * sigma)
    taps = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, taps[..., None], padding=(radius, 0), groups=x.shape[1])
    return F.conv2d(x, taps[:, :, None], padding=(0, radius), groups=x.shape[1])


class Axes:
    """The principal axes of features of real slices (N, features), for projecting others."""

    def __init__(self, real: Features) -> None:
        self._mean, self._scale = real.mean(0), real.std(0) + 1e-9
        _, lengths, axes = np.linalg.svd((real - self._mean) / self._scale, full_matrices=False)
        kept = lengths[:AXES] > 1e-6 * lengths[0]  # of few slices there are fewer axes
        self._axes = axes[:AXES][kept].T / lengths[:AXES][kept] * len(real) ** 0.5

    def __call__(self, found: Features) -> Features:
        """(N, features) to (N, at most AXES)."""
        placed: Features = (found - self._mean) / self._scale @ self._axes
        return placed


def frechet(a: Features, b: Features) -> float:
    """Fréchet distance between Gaussians fitted to features (N, d) and (M, d)."""
    gap = a.mean(0) - b.mean(0)
    # with Σ = RᵀR, tr (ΣΣ')^½ is the sum of the singular values of R R'ᵀ
    r, other = (np.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5).R for x in (a, b))
    shared = np.linalg.svd(r @ other.T, compute_uv=False).sum()
    return float(gap @ gap + np.square(r).sum() + np.square(other).sum() - 2 * shared)
