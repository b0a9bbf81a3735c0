"""Scans of an image that has a phase."""

from __future__ import annotations

import torch
from any2all_core.testing import phantom
from any2all_mri import KSpace
from any2all_mri.phase import Phase, SimulatedPhase
from torch import Tensor

SIZE = 48


NOISE = 0.004


def images() -> Tensor:
    """(2, H, W) in [0, 1]."""
    return torch.from_numpy(phantom(SIZE, 2) / 195).permute(2, 0, 1)


def simulation(kind: Phase, noise: float = NOISE) -> tuple[SimulatedPhase, Tensor]:
    builder = KSpace(phase=kind, acceleration=3, acs_lines=14, coils=6, noise_std=noise)
    operator = builder.build(SIZE, SIZE)
    assert isinstance(operator, SimulatedPhase)
    return operator, operator.measure(images(), [torch.Generator().manual_seed(k) for k in (1, 2)])
