"""Classical reconstruction: CG-SENSE, L1-wavelet and total variation by SigPy, and Tikhonov's."""

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
"""Times the ends of WEIGHTS, at most, that a best weight is looked for."""
ITERATIONS = 100
QUIET = {"show_pbar": False}

Recon = Callable[[Tensor], Tensor]
"""k-space (B, C, H, W) to images (B, H, W)."""


def cg_sense(scan: SenseFourier, weight: float = 0.01) -> Recon:
    """SigPy's CG-SENSE of each slice."""
    from sigpy.mri.app import SenseRecon

    return _each(scan, lambda k, maps: SenseRecon(k, maps, weight, max_iter=30, **QUIET))


def l1_wavelet(scan: SenseFourier, weight: float) -> Recon:
    """SigPy's L1-wavelet reconstruction of each slice."""
    from sigpy.mri.app import L1WaveletRecon

    return _each(
        scan, lambda k, maps: L1WaveletRecon(k, maps, weight, max_iter=ITERATIONS, **QUIET)
    )


def total_variation(scan: SenseFourier, weight: float) -> Recon:
    """SigPy's total-variation reconstruction of each slice, by ADMM.

    Its default, the primal-dual hybrid gradient, is 3 dB from there after 1000 iterations.
    """
    from sigpy.mri.app import TotalVariationRecon

    admm = {"solver": "ADMM", "rho": 0.01, "max_cg_iter": 5, "max_iter": 30}
    return _each(scan, lambda k, maps: TotalVariationRecon(k, maps, weight, **admm, **QUIET))


def tikhonov(operator: Operator, weight: float) -> Recon:
    """argmin_u 1/2 ‖A u − y‖² + weight/2 ‖u‖² of each slice, by the operator's own prox.

    For a blur that is Wiener's filter with a constant ratio of noise to signal.
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
    """The weight with the best mean PSNR over (val) patients: of WEIGHTS, or beyond if better."""

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
    """The image (B, H, W) of what was found: a magnitude where the scan's images have a phase."""
    return (found.abs() if scan.complex_image else found.real).float()


def scan_of(operator: Operator) -> SenseFourier | None:
    """What a reference is told of a scan: its coil maps and mask, and no phase."""
    scan = operator.scan if isinstance(operator, SimulatedPhase) else operator
    return scan if isinstance(scan, SenseFourier) else None


def _each(scan: SenseFourier, app: Callable[..., object]) -> Recon:
    """Slice by slice; the real part of what ``app`` finds, or the magnitude if it has a phase."""
    maps = scan.coil_maps.numpy()

    def solve(y: Tensor) -> Tensor:
        images = []
        for k in y.numpy():
            with repeatable():
                images.append(app(k, maps).run())  # type: ignore[attr-defined]
        return image_of(scan, torch.from_numpy(np.stack(images)))

    return solve
