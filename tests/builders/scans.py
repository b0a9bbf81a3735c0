"""Simulated scans made of operators alone."""

from __future__ import annotations

import torch
from any2all_operators import (
    SenseFourier,
    equispaced_mask,
)
from sigpy.mri import birdcage_maps as sigpy_maps
from torch import Tensor


def birdcage_maps(coils: int, height: int, width: int) -> Tensor:
    """Coil maps (C, H, W), complex64, of a birdcage coil, with Σ_c |s_c|² = 1."""
    given = torch.from_numpy(sigpy_maps((coils, height, width))).to(torch.complex64)
    return given / given.abs().square().sum(0).sqrt()


def cartesian_scan(
    size: int, acceleration: int, coils: int, acs_lines: int, noise_std: float = 0.01
) -> SenseFourier:
    """A scan of square images that takes every R-th line and the centre."""
    mask = equispaced_mask(size, acceleration, acs_lines)
    return SenseFourier(birdcage_maps(coils, size, size), mask, noise_std)


def sense(height: int = 24, width: int = 20, coils: int = 3, two_d: bool = False) -> SenseFourier:
    mask = equispaced_mask(width, 3, 4)
    if two_d:
        generator = torch.Generator().manual_seed(1)
        mask = (torch.rand(height, width, generator=generator) < 0.4).float()
    return SenseFourier(birdcage_maps(coils, height, width), mask, noise_std=0.01)
