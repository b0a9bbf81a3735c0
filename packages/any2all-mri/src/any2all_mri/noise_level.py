"""Estimate the noise of a scan from its samples alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from any2all_mri.calibration_centre import calibration_size, window
from any2all_mri.raw import Complex, RawKSpace, Real, centred_ifft

OUTERMOST = 0.1
"""Fraction of the samples, farthest from the centre, from which noise is estimated."""
LARGEST = 48
"""Most rows and columns of the calibration centre that are used, which limits the time."""
MOST_COILS = 16
"""Most coils that are used, which limits the time."""
KERNEL = 4
"""Side of the blocks into which the calibration centre is divided."""
LOWEST = 0.5
"""Fraction of the noise eigenvalues that is used: the smallest ones, farthest from the signal."""
DIFFERENT = 1.5
"""Ratio of largest to smallest noise above which each slice keeps its own level."""

Levels = npt.NDArray[np.float64]


def noise_stds(raw: RawKSpace) -> Levels:
    """Return the noise of one real component per slice (Z,), in the file's unit; 0 if left out.

    If the slices agree within ``DIFFERENT``, all get the median.
    """
    stds = np.zeros(len(raw.kspace))
    for z in raw.usable:
        stds[z] = of_slice(raw.kspace[z], raw.masks[z])
    found = stds[raw.usable]
    if found.max() < DIFFERENT * found.min():
        stds[raw.usable] = np.median(found)
    return stds


def estimated_noise_std(raw: RawKSpace) -> float:
    """Return the slices' median noise of one real component, in the file's unit."""
    return float(np.median(noise_stds(raw)[raw.usable]))


def of_slice(kspace: Complex, mask: Real) -> float:
    """Return the smallest of three estimates; each is too high if it takes signal for noise.

    1. The median magnitude of the outermost samples' real components, over 0.6745.
    2. The quietest run of image rows, which is air, if the readout is fully sampled.
    3. The null space of the calibration centre, see :func:`of_null_space`.
    """
    outer = kspace[:, _outermost(mask)]
    estimates = [float(np.median(np.abs([outer.real, outer.imag]))) / 0.6745]
    estimates.append(_of_air(kspace, mask))
    height, width = (min(n, LARGEST) for n in calibration_size(mask))
    every = -(-len(kspace) // MOST_COILS)
    calibration = kspace[(slice(None, None, every), *window(mask.shape, (height, width)))]
    estimates.append(of_null_space(calibration))
    return min((estimate for estimate in estimates if estimate > 0), default=0.0)


def of_null_space(calibration: Complex) -> float:
    """Estimate the noise of one real component from a fully sampled centre (C, h, w).

    Coil maps are smooth, so blocks of KERNEL x KERNEL samples of all coils lie in a subspace of
    low dimension (Uecker 2014, *ESPIRiT*). The other eigenvalues of the blocks' covariance are
    noise. The smallest of them are compared with those of white noise of variance 2 in the same
    subspace. The ratio is the variance of a real component. The number of signal eigenvalues and
    this ratio depend on each other, so three iterations find both. A centre that is too small
    gives infinity.
    """
    side = min(KERNEL, min(calibration.shape[1:]) // 2)
    blocks = np.prod([n - side + 1 for n in calibration.shape[1:]])
    size = len(calibration) * side**2
    if side < 2 or blocks < size:
        return float("inf")
    rng = np.random.default_rng(0)
    white = rng.standard_normal(calibration.shape) + 1j * rng.standard_normal(calibration.shape)
    values, vectors = np.linalg.eigh(_block_covariance(calibration, side))
    noise = _block_covariance(white, side)
    loudest = np.linalg.eigvalsh(noise)[-1]
    signal, variance = 0, 0.0
    for _ in range(4):
        quiet = vectors[:, : size - signal]
        expected = np.linalg.eigvalsh(quiet.conj().T @ noise @ quiet)
        used = max(round(LOWEST * (size - signal)), 1)
        variance = max(float(values[:used].mean() / expected[:used].mean()), 0.0)
        signal = min(int((values > variance * loudest).sum()), size - 1)
    return float(variance**0.5)


def coil_levels(raw: RawKSpace) -> Levels:
    """Return the median magnitude of each coil's outermost samples (C,) over the usable slices."""
    levels = [
        np.median(np.abs(raw.kspace[z][:, _outermost(raw.masks[z])]), axis=1) for z in raw.usable
    ]
    return np.median(levels, axis=0)


def _outermost(mask: Real) -> npt.NDArray[np.bool_]:
    height, width = mask.shape
    y, x = np.mgrid[:height, :width]
    radius = np.hypot((y - height // 2) / height, (x - width // 2) / width)
    sampled = mask > 0
    outermost: npt.NDArray[np.bool_] = sampled & (
        radius >= np.quantile(radius[sampled], 1 - OUTERMOST)
    )
    return outermost


def _of_air(kspace: Complex, mask: Real) -> float:
    """Estimate the noise from air; infinity if the readout has gaps."""
    lines = mask.any(0)
    if not mask[:, lines].all():
        return float("inf")
    rows = centred_ifft(kspace[..., lines], (1,))  # (C, H, lines)
    power = (np.abs(rows) ** 2).mean((0, 2)) / 2
    run = max(len(power) // 20, 1)
    around = np.concatenate([power, power[: run - 1]])  # the first row follows the last one
    return float(np.convolve(around, np.full(run, 1 / run), "valid").min() ** 0.5)


def _block_covariance(kspace: npt.NDArray[Any], side: int) -> npt.NDArray[np.complex128]:
    """Return the covariance of all blocks (C, side, side) of k-space (C, h, w), in float64."""
    shape = (len(kspace), side, side)
    blocks = np.lib.stride_tricks.sliding_window_view(kspace, shape)
    rows = blocks.reshape(-1, int(np.prod(shape))).astype(np.complex128)
    covariance: npt.NDArray[np.complex128] = rows.conj().T @ rows / len(rows)
    return covariance
