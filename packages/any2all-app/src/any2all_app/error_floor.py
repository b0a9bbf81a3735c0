"""Fit a prior's error floor, the error that remains at low noise, on held-out slices."""

from __future__ import annotations

import dataclasses

from any2all_core.objective import validation_slices
from any2all_core.prior import DiffusionPrior
from any2all_core.reconstruct import make_sampler, reconstruct, simulate
from any2all_data.metrics import psnr
from any2all_mri.kspace import KSpace
from any2all_operators import BlockDiagonal
from torch import Tensor

SLICES = 4
FLOORS = (0.0, 0.005, 0.01, 0.02, 0.04)
"""Standard deviations in [0, 1] units, tried in order until one is worse than the one before."""


def fit_error_floor(prior: DiffusionPrior, slices: Tensor) -> float:
    """Find the ``error_floor`` with which MDS reconstructs held-out slices best.

    slices: (N, M, H, W) in [0, 1], of which 4 are taken, evenly spread. All their images are
    measured as k-space with R = 4, 8 coils and noise of std 0.01, and judged by their mean PSNR.
    """
    truth = validation_slices(slices, SLICES)
    scan = KSpace().build(truth.shape[2], truth.shape[3])
    operator = BlockDiagonal(dict.fromkeys(prior.modalities, scan))
    data = simulate(operator, truth)
    found: dict[float, float] = {}
    for floor in FLOORS:
        prior.settings = dataclasses.replace(prior.settings, error_floor=floor)
        images = reconstruct(prior, operator, data, make_sampler("mds"))[0]
        found[floor] = float(psnr(images.flatten(0, 1), truth.flatten(0, 1)).mean())
        if found[floor] < max(found.values()):
            break
    return max(found, key=found.__getitem__)
