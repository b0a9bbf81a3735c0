"""Calibration: raw k-space becomes an operator on the prior's images.

It finds the grid, the coil maps, the phase, the noise and the intensity scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from any2all_operators import (
    FieldOfView,
    Measured,
    Operator,
    SenseFourier,
    UnknownPhase,
    UserError,
)
from any2all_operators.field_of_view import fit
from torch import Tensor

from any2all_mri.calibration_centre import calibration_size, hann, window
from any2all_mri.held_out import PhaseTrial, looked_at, phase_trial
from any2all_mri.intensity import mr_scale
from any2all_mri.noise_level import estimated_noise_std, noise_stds
from any2all_mri.raw import Complex, RawKSpace, Real, centred_fft, centred_ifft
from any2all_mri.scan_warnings import scan_warnings

__all__ = ["calibrate", "calibration_size", "coil_maps", "estimated_noise_std"]

KERNEL = 6
"""Side of ESPIRiT's kernels. A centre narrower than twice this gives low-resolution maps."""
LEAST_SQUARES_WEIGHT = 100.0
"""Weight of the data in the image from which the scale is found: argmin 100 ‖A x − y‖² + ‖x‖²."""
PHASE_LAMBDA = 0.004
"""λ of the L1-wavelet image from which the phase is taken."""
PHASES = {
    "smooth": "smooth: estimated, and folded into the coil maps",
    "rough": "not smooth: its smooth part is folded into the coil maps, the rest is found with the "
    "image",
}
NOISE_FLOOR = 1e-4
"""Smallest noise, on the scale of x. No scan has less, and noise of 0 would be fitted exactly."""


def calibrate(
    raw: RawKSpace,
    image_size: tuple[int, int],
    *,
    zoom: float = 1.0,
    noise_std: float | None = None,
    path: Path = Path("k-space"),
    phase: Literal["auto", "smooth", "rough"] = "auto",
) -> Measured:
    """Model a scan as y = A x + n with images x (H, W) in [0, 1].

    1. The noise scan, if there is one, prewhitens the data: L⁻¹ y for covariance L Lᴴ.
    2. k-space is cropped or padded to the pixel size of x. The scan's longer field of view is
       ``zoom`` times the image's. If the fields of view differ, A has a :class:`FieldOfView`.
    3. ESPIRiT (Uecker 2014) finds the coil maps from the fully sampled centre. If the centre is
       too narrow, the maps are low-resolution coil images over their root sum of squares.
    4. The prior knows magnitudes, but a scan has a phase. Its smooth part is multiplied into the
       maps: first the phase of the calibration centre, then the rest found from all samples. If a
       real image then explains the data as well as a complex one (see :class:`PhaseTrial`), the
       phase is ``smooth`` and x is that real image. Otherwise it is ``rough`` and A is an
       :class:`UnknownPhase`.
    5. ``noise_std`` is estimated, unless it is given or known from the noise scan. If slices
       differ in noise, each one's data and maps are scaled to the noise of the median slice.
    6. The scale is the 99.5th percentile of the foreground of the regularised least-squares image,
       as for any other MR volume.

    Parameters
    ----------
    raw
        The scan, with k-space (Z, C, H, W).
    image_size
        Rows and columns (H, W) of x.
    zoom
        The scan's longer field of view divided by the image's.
    noise_std
        Standard deviation of one real component, on the scale of x; None estimates it.
    path
        File that error messages name.
    phase
        ``smooth``, ``rough``, or ``auto`` to decide as in step 4.

    Returns
    -------
    Measured
        The operator A, the data y, and what was found.

    Raises
    ------
    UserError
        If no calibration centre is large enough to find coil maps.
    """
    kspace, sigmas = raw.kspace, np.full(len(raw.kspace), 0.5**0.5)
    if raw.noise_covariance is not None:
        kspace = prewhitened(kspace, raw.noise_covariance, path)
    elif noise_std is None:
        sigmas = noise_stds(raw)
    grid = scan_grid(raw, image_size, zoom)
    pixels = float(np.prod(grid) / np.prod(kspace.shape[2:])) ** 0.5
    data = fit(torch.from_numpy(kspace), grid) * pixels
    mask = fit(torch.from_numpy(np.ascontiguousarray(raw.mask)), grid)
    masks = mask.expand(len(data), *grid).numpy()
    centres = {z: _centre(masks[z], z, path) for z in raw.usable}
    maps = np.full(data.shape, data.shape[1] ** -0.5, np.complex64)  # of slices left out
    for z, centre in centres.items():
        maps[z] = coil_maps(data[z].numpy(), centre)
    lines = mask[0] if mask.ndim == 2 and bool((mask == mask[:1]).all()) else mask
    scan = SenseFourier(torch.from_numpy(maps), lines, complex_image=True)
    nothing = torch.zeros(len(data), *grid, dtype=torch.complex64)
    least_squares = scan.prox(data, nothing, LEAST_SQUARES_WEIGHT).abs()
    scale = mr_scale(least_squares[raw.usable].numpy())
    if scale <= 0:
        raise UserError(f"{path}: no image can be made of it; leave the modality out")
    data = data / scale
    judged = None
    if phase == "auto":
        some = torch.tensor(looked_at(raw.usable))
        judged = judged_phase(scan.select(some), data[some])
        phase = "smooth" if judged and judged.smooth else "rough"
    for z in raw.usable:
        maps[z] = with_fine_phase(maps[z], data[z].numpy())
    stds = np.maximum(sigmas * pixels / scale, NOISE_FLOOR)
    found = float(np.median(stds[raw.usable])) if noise_std is None else noise_std
    gains = torch.ones(len(data), 1, 1, 1)
    if noise_std is None:
        gains[raw.usable, 0, 0, 0] = torch.from_numpy(found / stds[raw.usable]).float()
    rough = phase == "rough"
    seen = SenseFourier(torch.from_numpy(maps) * gains, lines, found, complex_image=rough)
    operator: Operator = seen if grid == image_size else FieldOfView(seen, grid, image_size)
    if rough:
        operator = UnknownPhase(operator)
    details = _details(raw, grid, min(centres.values())) | {"scale": scale, "noise_std": found}
    details |= {"phase": PHASES[phase], "phase_from": "option" if judged is None else "held out"}
    if judged is not None:
        details["phase_trial"] = {name: round(value, 4) for name, value in vars(judged).items()}
    if noise_std is not None:
        details["noise_std_from"] = "option"
    elif len(set(stds[raw.usable])) > 1:
        own = {z: float(stds[z]) for z in raw.usable}
        details["noise_std_of_slices"] = [own.get(z) for z in range(len(data))]
    return Measured(operator, data * gains, scale, details)


def _details(raw: RawKSpace, grid: tuple[int, int], centre: tuple[int, int]) -> dict[str, Any]:
    return {
        "matrix": list(raw.kspace.shape[2:]),
        "grid": list(grid),
        "coils": raw.kspace.shape[1],
        "calibration_centre": list(centre),
        "coil_maps": "ESPIRiT" if min(centre) >= 2 * KERNEL else "low resolution",
        "noise_std_from": "k-space" if raw.noise_covariance is None else "noise scan",
        "slices_left_out": list(raw.left_out),
        "coils_dropped": list(raw.dead_coils),
        "warnings": scan_warnings(raw),
    }


def _centre(mask: Real, z: int, path: Path) -> tuple[int, int]:
    centre = calibration_size(mask)
    if min(centre) < 4:
        raise UserError(
            f"{path}: in slice {z} its fully sampled centre is {centre[0]} x {centre[1]}; expected "
            "at least 4 x 4 to find coil maps from"
        )
    return centre


def scan_grid(raw: RawKSpace, image_size: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Return the scan's matrix size (H, W) for pixels as large as the image's.

    Its longer side, without oversampling, has ``zoom`` times the image's pixels on that side.
    If the file gives no field of view, square pixels are assumed.
    """
    extent = np.array(raw.field_of_view or raw.kspace.shape[2:], float)
    seen = extent / (raw.oversampling, 1)
    longer = int(np.argmax(seen))
    rows, columns = np.rint(extent / seen[longer] * image_size[longer] * zoom).astype(int)
    return int(rows), int(columns)


def prewhitened(
    kspace: Complex, covariance: npt.NDArray[np.complex128], path: Path = Path("k-space")
) -> Complex:
    """Return L⁻¹ y (Z, C, H, W) for noise covariance L Lᴴ (C, C); the noise then has variance 1."""
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        raise UserError(
            f"{path}: the noise of its {len(covariance)} coils is not independent in the noise "
            "scan; expected more samples than coils, and no coil twice. Export it without the "
            "noise scan"
        ) from None
    return np.einsum("dc,zchw->zdhw", inverse, kspace).astype(np.complex64)


def coil_maps(kspace: Complex, centre: tuple[int, int]) -> Complex:
    """Estimate the coil maps (C, H, W) of one slice, Σ_c |s_c|² = 1, with the object's phase."""
    if min(centre) < 2 * KERNEL:
        low = _low_resolution(kspace, centre)
        magnitude = np.sqrt((np.abs(low) ** 2).sum(0))
        return low / np.maximum(magnitude, 1e-12 * magnitude.max())
    from sigpy.mri.app import EspiritCalib

    maps = EspiritCalib(
        kspace,
        calib_width=min(centre),
        kernel_width=KERNEL,
        crop=0,  # a map of 0 would leave its pixel unmeasured, and the prior would fill it
        show_pbar=False,
    ).run()
    return with_phase(np.nan_to_num(maps), kspace, centre)


def with_phase(maps: Complex, kspace: Complex, centre: tuple[int, int]) -> Complex:
    """Multiply coil maps (C, H, W) by e^{iφ}; φ = arg Σ_c s̄_c · low-resolution coil image c."""
    combined = (maps.conj() * _low_resolution(kspace, centre)).sum(0)
    return (maps * np.exp(1j * np.angle(combined))).astype(np.complex64)


def with_fine_phase(maps: Complex, kspace: Complex) -> Complex:
    """Multiply coil maps (C, H, W) by e^{iφ}, with φ taken from all samples.

    φ is the phase of the complex image argmin ½ ‖A x − y‖² + λ ‖W x‖₁, low-pass filtered to 3/8 of
    the resolution. W is a wavelet transform, and y is on the scale of x.
    """
    from sigpy.mri.app import L1WaveletRecon

    image = L1WaveletRecon(kspace, maps, PHASE_LAMBDA, max_iter=60, show_pbar=False).run()
    low_pass = _tapered(image.shape, (3 * image.shape[0] // 8, 3 * image.shape[1] // 8))
    smooth = centred_ifft(low_pass * centred_fft(image, (0, 1)), (0, 1))
    return (maps * np.exp(1j * np.angle(smooth))).astype(np.complex64)


def judged_phase(scan: SenseFourier, data: Tensor) -> PhaseTrial | None:
    """Run :func:`phase_trial`; the scan's coil maps (B, C, H, W) have the centre's phase."""

    def with_phase_of(kept: Tensor, part: SenseFourier) -> Tensor:
        slices = zip(part.coil_maps.numpy(), kept.numpy(), strict=True)
        return torch.from_numpy(np.stack([with_fine_phase(s, y) for s, y in slices]))

    return phase_trial(scan, data, with_phase_of)


def _low_resolution(kspace: Complex, centre: tuple[int, int]) -> Complex:
    """Return coil images from the centre only, tapered by a Hann window against ringing."""
    return centred_ifft(kspace * _tapered(kspace.shape[1:], centre), (1, 2)).astype(np.complex64)


def _tapered(shape: tuple[int, ...], size: tuple[int, int]) -> Real:
    """Return a Hann window of ``size`` in the centre of ``shape``, both (h, w)."""
    tapered = np.zeros(shape, np.float32)
    tapered[window(shape, size)] = hann(size)
    return tapered
