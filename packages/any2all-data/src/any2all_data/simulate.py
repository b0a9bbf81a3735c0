"""Simulated k-space: what a scanner would have measured of a known image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from any2all_operators import SenseFourier, UserError, equispaced_mask, random_mask
from any2all_operators.operator import check_noise_std
from torch import Tensor


@dataclass(frozen=True)
class SimulatedKSpace:
    """Cartesian k-space of a SENSE scan with birdcage coils: y = M F S x + n.

    ``acceleration`` R: every R-th line (or W/R random ones), and ``acs_lines`` in the centre;
    ``noise_std`` of one real component of a sample, on the [0, 1] image scale.
    """

    acceleration: int = 4
    coils: int = 8
    acs_lines: int = 8
    noise_std: float = 0.01
    mask: Literal["equispaced", "random"] = "equispaced"

    def __post_init__(self) -> None:
        check_noise_std(self.noise_std)

    def build(self, height: int, width: int) -> SenseFourier:
        """The operator for images (H, W): H is readout, W phase encode."""
        make = equispaced_mask if self.mask == "equispaced" else random_mask
        lines = make(width, self.acceleration, self.acs_lines)
        return SenseFourier(birdcage_maps(self.coils, height, width), lines, self.noise_std)


def birdcage_maps(coils: int, height: int, width: int) -> Tensor:
    """SigPy's birdcage sensitivities (coils, H, W), complex64, scaled to Σ_c |s_c|² = 1."""
    if coils < 1:
        raise UserError(f"coils {coils}: expected at least 1")
    try:
        from sigpy.mri import birdcage_maps as maps
    except ImportError:
        raise UserError(
            "simulated k-space needs SigPy; run pip install 'any2all-data[simulation]'"
        ) from None
    given = torch.from_numpy(maps((coils, height, width))).to(torch.complex64)
    return given / given.abs().square().sum(0).sqrt()
