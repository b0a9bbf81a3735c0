"""Classical reconstruction: SigPy's CG-SENSE, L1-wavelet and total variation, and Tikhonov."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from any2all_data.metrics import psnr
from any2all_mri.held_out import repeatable
from any2all_mri.phase import SimulatedPhase
from any2all_operators import Operator, SenseFourier
from torch import Tensor

WEIGHTS = (0.0005, 0.001, 0.002, 0.004, 0.008)
FARTHEST = 1000.0
"""A weight is searched up to this factor beyond the ends of WEIGHTS."""
UNTUNED = {"CG-SENSE": 0.008, "L1-wavelet": 0.002, "total variation": 0.002}
"""Weights without val patients. Tuning found them on those of ``lgg`` (R = 4, noise std 0.01)."""
ITERATIONS = 100
QUIET = {"show_pbar": False}

Recon = Callable[[Tensor], Tensor]
"""k-space (B, C, H, W) to images (B, H, W)."""


def cg_sense(scan: SenseFourier, weight: float = 0.01) -> Recon:
    """CG-SENSE of SigPy for each slice."""
    from sigpy.mri.app import SenseRecon

    return _each(scan, lambda k, maps: SenseRecon(k, maps, weight, max_iter=30, **QUIET))


def l1_wavelet(scan: SenseFourier, weight: float) -> Recon:
    """L1-wavelet reconstruction of SigPy for each slice."""
    from sigpy.mri.app import L1WaveletRecon

    return _each(
        scan, lambda k, maps: L1WaveletRecon(k, maps, weight, max_iter=ITERATIONS, **QUIET)
    )


def total_variation(scan: SenseFourier, weight: float) -> Recon:
    """Total-variation reconstruction of SigPy for each slice, by ADMM.

    SigPy's default, the primal-dual hybrid gradient, is still 3 dB worse after 1000 iterations.
    """
    from sigpy.mri.app import TotalVariationRecon

    admm = {"solver": "ADMM", "rho": 0.01, "max_cg_iter": 5, "max_iter": 30}
    return _each(scan, lambda k, maps: TotalVariationRecon(k, maps, weight, **admm, **QUIET))


def tikhonov(operator: Operator, weight: float) -> Recon:
    """argmin_u 1/2 ‖A u − y‖² + weight/2 ‖u‖² for each slice, by the operator's own prox.

    For a blur, this is Wiener's filter with a constant noise-to-signal ratio.
    """

    def solve(y: Tensor) -> Tensor:
        return operator.prox(y, torch.zeros_like(operator.adjoint(y)), 1 / weight)

    return solve


TUNED: dict[str, Callable[[SenseFourier, float], Recon]] = {
    "CG-SENSE": cg_sense,
    "L1-wavelet": l1_wavelet,
    "total variation": total_variation,
}


def tuned(
    method: Callable[[float], Recon], data: Sequence[Tensor], truths: Sequence[Tensor]
) -> float:
    """The weight with the best mean PSNR over patients of val, from WEIGHTS or beyond its ends."""

    def quality(weight: float) -> float:
        solve = method(weight)
        pairs = zip(data, truths, strict=True)
        return float(np.mean([float(psnr(solve(y).clamp(0, 1), x).mean()) for y, x in pairs]))

    found = {weight: quality(weight) for weight in WEIGHTS}
    while (best := max(found, key=found.__getitem__)) in (min(found), max(found)):
        beyond = best / 2 if best == min(found) else best * 2
        if not WEIGHTS[0] / FARTHEST < beyond < WEIGHTS[-1] * FARTHEST:
            break
        found[beyond] = quality(beyond)
    return best


def image_of(scan: SenseFourier, found: Tensor) -> Tensor:
    """The image (B, H, W) of a reconstruction: its magnitude if the scan's images have a phase."""
    return (found.abs() if scan.complex_image else found.real).float()


def scan_of(operator: Operator) -> SenseFourier | None:
    """The scan as a reference knows it: with its coil maps and mask, and without a phase."""
    scan = operator.scan if isinstance(operator, SimulatedPhase) else operator
    return scan if isinstance(scan, SenseFourier) else None


def _each(scan: SenseFourier, app: Callable[..., object]) -> Recon:
    """Reconstruct slice by slice; keep the real part, or the magnitude if there is a phase."""
    maps = scan.coil_maps.numpy()

    def solve(y: Tensor) -> Tensor:
        images = []
        for k in y.numpy():
            with repeatable():
                images.append(app(k, maps).run())  # type: ignore[attr-defined]
        return image_of(scan, torch.from_numpy(np.stack(images)))

    return solve
