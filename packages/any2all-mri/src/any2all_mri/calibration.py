"""From raw k-space to an operator on the prior's images: grid, coil maps, phase, noise, scale."""

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
"""Side of ESPIRiT's kernels; a centre narrower than twice that gives low-resolution maps."""
LEAST_SQUARES_WEIGHT = 100.0
"""Of the image that the scale is found from: argmin 100 ‖A x − y‖² + ‖x‖²."""
PHASE_LAMBDA = 0.004
"""L1-wavelet's λ for the image that the phase is taken from."""
PHASES = {
    "smooth": "smooth: estimated, and folded into the coil maps",
    "rough": "not smooth: its smooth part is folded into the coil maps, the rest is found with the "
    "image",
}
NOISE_FLOOR = 1e-4
"""Least noise on the scale of x: no scan has less, and noise of 0 would be followed exactly."""


def calibrate(
    raw: RawKSpace,
    image_size: tuple[int, int],
    *,
    zoom: float = 1.0,
    noise_std: float | None = None,
    path: Path = Path("k-space"),
    phase: Literal["auto", "smooth", "rough"] = "auto",
) -> Measured:
    """The scan as y = A x + n of images x (H, W) in [0, 1].

    1. Prewhitened by the noise scan, if there is one: L⁻¹ y with covariance L Lᴴ.
    2. k-space cut or padded so that its pixels are those of x, the scan's longer field of view
       being ``zoom`` times the image's; where fields of view differ, A has a :class:`FieldOfView`.
    3. Coil maps by ESPIRiT (Uecker 2014) from the fully sampled centre; from a centre too narrow
       for it, the low-resolution coil images over their root sum of squares.
    4. The prior knows magnitudes, a scan has a phase: that of the calibration centre, then what is
       left of it in the image of all samples, smooth, is folded into the maps. Where a real image
       then explains the data as well as a complex one (see :class:`PhaseTrial`), the phase is
       ``smooth`` and x is that real image; else ``rough``, and A is an :class:`UnknownPhase`.
    5. ``noise_std`` estimated, unless given (on the scale of x) or known from the noise scan. Where
       slices differ in it, each one's data and maps are scaled to the noise of the median slice.
    6. Scale: the 99.5th percentile of the foreground of the regularised least-squares image, as
       for any other MR volume.

    Raises UserError when there is no calibration centre to find maps from.
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
    """The scan's matrix with pixels as large as the image's.

    Its longer side (without oversampling) has ``zoom`` times the pixels that the image has there.
    Without a field of view in the file, its pixels are taken to be square.
    """
    extent = np.array(raw.field_of_view or raw.kspace.shape[2:], float)
    seen = extent / (raw.oversampling, 1)
    longer = int(np.argmax(seen))
    rows, columns = np.rint(extent / seen[longer] * image_size[longer] * zoom).astype(int)
    return int(rows), int(columns)


def prewhitened(
    kspace: Complex, covariance: npt.NDArray[np.complex128], path: Path = Path("k-space")
) -> Complex:
    """L⁻¹ y (Z, C, H, W) for noise of covariance L Lᴴ (C, C): its samples then have variance 1."""
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
    """Sensitivities (C, H, W) of one slice, Σ_c |s_c|² = 1, holding the phase of the object."""
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
    """Coil maps (C, H, W) times e^{iφ}, φ the phase of Σ_c s̄_c · low-resolution coil image c."""
    combined = (maps.conj() * _low_resolution(kspace, centre)).sum(0)
    return (maps * np.exp(1j * np.angle(combined))).astype(np.complex64)


def with_fine_phase(maps: Complex, kspace: Complex) -> Complex:
    """Coil maps (C, H, W) times e^{iφ}, φ the phase of the image of all samples, low-pass filtered
    to 3/8 of the resolution.

    The image is complex: argmin ½ ‖A x − y‖² + λ ‖W x‖₁ with W wavelets, y on the scale of x.
    """
    from sigpy.mri.app import L1WaveletRecon

    image = L1WaveletRecon(kspace, maps, PHASE_LAMBDA, max_iter=60, show_pbar=False).run()
    low_pass = _tapered(image.shape, (3 * image.shape[0] // 8, 3 * image.shape[1] // 8))
    smooth = centred_ifft(low_pass * centred_fft(image, (0, 1)), (0, 1))
    return (maps * np.exp(1j * np.angle(smooth))).astype(np.complex64)


def judged_phase(scan: SenseFourier, data: Tensor) -> PhaseTrial | None:
    """See :func:`phase_trial`; scan: coil maps (B, C, H, W) with the phase of the centre."""

    def with_phase_of(kept: Tensor, part: SenseFourier) -> Tensor:
        slices = zip(part.coil_maps.numpy(), kept.numpy(), strict=True)
        return torch.from_numpy(np.stack([with_fine_phase(s, y) for s, y in slices]))

    return phase_trial(scan, data, with_phase_of)


def _low_resolution(kspace: Complex, centre: tuple[int, int]) -> Complex:
    """Coil images of the centre alone, tapered by a Hann window against ringing."""
    return centred_ifft(kspace * _tapered(kspace.shape[1:], centre), (1, 2)).astype(np.complex64)


def _tapered(shape: tuple[int, ...], size: tuple[int, int]) -> Real:
    """Hann window of ``size`` in the centre of ``shape``, both (h, w)."""
    tapered = np.zeros(shape, np.float32)
    tapered[window(shape, size)] = hann(size)
    return tapered
