"""From raw k-space to an operator on the prior's images: grid, coil maps, phase, noise, scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from any2all_operators import FieldOfView, Measured, Operator, SenseFourier, UserError
from any2all_operators.field_of_view import fit

from any2all_data.normalise import mr_scale
from any2all_data.raw import Complex, RawKSpace, centred_fft, centred_ifft

Real = npt.NDArray[np.float32]
KERNEL = 6
"""Side of ESPIRiT's kernels; a centre narrower than twice that gives low-resolution maps."""
LEAST_SQUARES_WEIGHT = 100.0
"""Of the image that the scale is found from: argmin 100 ‖A x − y‖² + ‖x‖²."""
PHASE_LAMBDA = 0.004
"""L1-wavelet's λ for the image that the phase is taken from."""
OUTERMOST = 0.1
"""Share of the samples, farthest from the centre, that noise is estimated from."""


def calibrate(
    raw: RawKSpace,
    image_size: tuple[int, int],
    zoom: float = 1.0,
    noise_std: float | None = None,
    path: Path = Path("k-space"),
) -> Measured:
    """The scan as y = A x + n of images x (H, W) in [0, 1].

    1. Prewhitened by the noise scan, if there is one: L⁻¹ y with covariance L Lᴴ.
    2. k-space cut or padded so that its pixels are those of x, the scan's longer field of view
       being ``zoom`` times the image's; where fields of view differ, A has a :class:`FieldOfView`.
    3. Coil maps by ESPIRiT (Uecker 2014) from the fully sampled centre; from a centre too narrow
       for it, the low-resolution coil images over their root sum of squares.
    4. The prior knows magnitudes, a scan has a phase: that of the calibration centre, then what is
       left of it in the image of all samples, smooth, is folded into the maps.
    5. ``noise_std`` estimated, unless given (on the scale of x) or known from the noise scan.
    6. Scale: the 99.5th percentile of the foreground of the regularised least-squares image, as
       for any other MR volume.

    Raises UserError when there is no calibration centre to find maps from.
    """
    kspace, sigma, source = raw.kspace, estimated_noise_std(raw), "outer k-space"
    if raw.noise_covariance is not None:
        kspace = prewhitened(kspace, raw.noise_covariance)
        sigma, source = 0.5**0.5, "noise scan"
    grid = scan_grid(raw, image_size, zoom)
    before = np.prod(kspace.shape[2:])
    data = fit(torch.from_numpy(kspace), grid) * (np.prod(grid) / before) ** 0.5
    sigma *= float(np.prod(grid) / before) ** 0.5
    mask = fit(torch.from_numpy(raw.mask), grid)
    centre = calibration_size(mask.numpy())
    if min(centre) < 4:
        raise UserError(
            f"{path}: its fully sampled centre is {centre[0]} x {centre[1]}; expected at least "
            "4 x 4 to find coil maps from"
        )
    maps = torch.from_numpy(np.stack([coil_maps(k, centre) for k in data.numpy()]))
    lines = mask[0] if bool((mask == mask[:1]).all()) else mask
    scan: Operator = SenseFourier(maps, lines)
    least_squares = scan.prox(data, torch.zeros(len(data), *grid), LEAST_SQUARES_WEIGHT)
    scale = mr_scale(least_squares.clamp(min=0).numpy())
    if scale <= 0:
        raise UserError(f"{path}: no image can be made of it; leave the modality out")
    pairs = zip((data / scale).numpy(), maps.numpy(), strict=True)
    maps = torch.from_numpy(np.stack([with_fine_phase(s, k) for k, s in pairs]))
    found = sigma / scale if noise_std is None else noise_std
    operator: Operator = SenseFourier(maps, lines, found)
    if grid != image_size:
        operator = FieldOfView(operator, grid, image_size)
    details: dict[str, Any] = {
        "matrix": list(raw.kspace.shape[2:]),
        "grid": list(grid),
        "coils": raw.kspace.shape[1],
        "calibration_centre": list(centre),
        "coil_maps": "ESPIRiT" if min(centre) >= 2 * KERNEL else "low resolution",
        "phase": "smooth, estimated, folded into the coil maps",
        "scale": scale,
        "noise_std": found,
        "noise_std_from": source if noise_std is None else "option",
    }
    return Measured(operator, data / scale, scale, details)


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


def prewhitened(kspace: Complex, covariance: npt.NDArray[np.complex128]) -> Complex:
    """L⁻¹ y (Z, C, H, W) for noise of covariance L Lᴴ (C, C): its samples then have variance 1."""
    inverse = np.linalg.inv(np.linalg.cholesky(covariance))
    return np.einsum("dc,zchw->zdhw", inverse, kspace).astype(np.complex64)


def calibration_size(mask: Real) -> tuple[int, int]:
    """(h, w) of the largest fully sampled window around the centre: square first, then longer."""
    height, width = mask.shape
    size = [0, 0]

    def full(h: int, w: int) -> bool:
        top, left = height // 2 - h // 2, width // 2 - w // 2
        return h <= height and w <= width and bool(mask[top : top + h, left : left + w].all())

    while full(size[0] + 1, size[1] + 1):
        size = [size[0] + 1, size[1] + 1]
    while full(size[0] + 1, size[1]):
        size[0] += 1
    while full(size[0], size[1] + 1):
        size[1] += 1
    return size[0], size[1]


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
    window = _window(image.shape, (3 * image.shape[0] // 8, 3 * image.shape[1] // 8))
    smooth = centred_ifft(window * centred_fft(image, (0, 1)), (0, 1))
    return (maps * np.exp(1j * np.angle(smooth))).astype(np.complex64)


def estimated_noise_std(raw: RawKSpace) -> float:
    """Of one real component of a sample, in the file's unit.

    The median of the magnitudes of the real components, over 0.6745, of the outermost samples;
    or of the quietest rows of the image where readout is fully sampled, if that is less: air.
    """
    height, width = raw.mask.shape
    y, x = np.mgrid[:height, :width]
    radius = np.hypot((y - height // 2) / height, (x - width // 2) / width)
    sampled = raw.mask > 0
    outer = sampled & (radius >= np.quantile(radius[sampled], 1 - OUTERMOST))
    samples = raw.kspace[:, :, outer]
    estimates = [np.median(np.abs([samples.real, samples.imag])) / 0.6745]
    lines = raw.mask.any(0)
    if raw.mask[:, lines].all():
        rows = centred_ifft(raw.kspace[..., lines], (2,))  # (Z, C, H, lines)
        power = (np.abs(rows) ** 2).mean((0, 1, 3)) / 2
        estimates.append(np.sqrt(np.sort(power)[: max(height // 20, 1)].mean()))
    return float(min(estimates))


def _low_resolution(kspace: Complex, centre: tuple[int, int]) -> Complex:
    """Coil images of the centre alone, tapered by a Hann window against ringing."""
    return centred_ifft(kspace * _window(kspace.shape[1:], centre), (1, 2)).astype(np.complex64)


def _window(shape: tuple[int, ...], size: tuple[int, int]) -> Real:
    """Hann window of ``size`` in the centre of ``shape``, both (h, w)."""
    window = np.zeros(shape, np.float32)
    top, left = (n // 2 - m // 2 for n, m in zip(shape, size, strict=True))
    hann = np.hanning(size[0] + 2)[1:-1, None] * np.hanning(size[1] + 2)[1:-1]
    window[top : top + size[0], left : left + size[1]] = hann
    return window
