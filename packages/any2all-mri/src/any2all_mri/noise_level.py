"""How much noise a scan has, from its samples alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from any2all_mri.calibration_centre import calibration_size, window
from any2all_mri.raw import Complex, RawKSpace, Real, centred_ifft

OUTERMOST = 0.1
"""Share of the samples, farthest from the centre, that noise is estimated from."""
LARGEST = 48
"""Rows and columns of the calibration centre that are looked at: more take longer."""
MOST_COILS = 16
"""Coils that are looked at: more take longer."""
KERNEL = 4
"""Side of the blocks of the calibration centre."""
LOWEST = 0.5
"""Share of the noise's eigenvalues that is used: the quietest ones, farthest from the signal."""
DIFFERENT = 1.5
"""Largest over smallest noise from which on each slice has its own."""

Levels = npt.NDArray[np.float64]


def noise_stds(raw: RawKSpace) -> Levels:
    """Of one real component of a sample of each slice (Z,), in the file's unit; 0 if left out.

    Where the slices agree within ``DIFFERENT``, all have the median.
    """
    stds = np.zeros(len(raw.kspace))
    for z in raw.usable:
        stds[z] = of_slice(raw.kspace[z], raw.masks[z])
    found = stds[raw.usable]
    if found.max() < DIFFERENT * found.min():
        stds[raw.usable] = np.median(found)
    return stds


def estimated_noise_std(raw: RawKSpace) -> float:
    """The median of the slices, of one real component of a sample, in the file's unit."""
    return float(np.median(noise_stds(raw)[raw.usable]))


def of_slice(kspace: Complex, mask: Real) -> float:
    """The least of three estimates, each of which is too high where it takes signal for noise.

    1. The median of the outermost samples' real components, over 0.6745.
    2. The quietest run of rows of the image, where readout is fully sampled: air.
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
    """From a fully sampled centre (C, h, w), of one real component; infinite if it is too small.

    Blocks of KERNEL x KERNEL samples of all coils lie in a subspace of low dimension, as coil maps
    are smooth (Uecker 2014, *ESPIRiT*). The other eigenvalues of the blocks' covariance are noise.
    The quietest of them are compared with those of white noise of variance 2 in the same subspace:
    their ratio is the variance of a real component. How many eigenvalues are signal follows from
    that ratio, which follows from how many are signal; three rounds settle it.
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
    """The median magnitude of each coil's outermost samples (C,), of the slices that are used."""
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
    """Infinite where readout has gaps."""
    lines = mask.any(0)
    if not mask[:, lines].all():
        return float("inf")
    rows = centred_ifft(kspace[..., lines], (1,))  # (C, H, lines)
    power = (np.abs(rows) ** 2).mean((0, 2)) / 2
    run = max(len(power) // 20, 1)
    around = np.concatenate([power, power[: run - 1]])  # the first row follows the last one
    return float(np.convolve(around, np.full(run, 1 / run), "valid").min() ** 0.5)


def _block_covariance(kspace: npt.NDArray[Any], side: int) -> npt.NDArray[np.complex128]:
    """Of all blocks (C, side, side) of k-space (C, h, w), in double precision."""
    shape = (len(kspace), side, side)
    blocks = np.lib.stride_tricks.sliding_window_view(kspace, shape)
    rows = blocks.reshape(-1, int(np.prod(shape))).astype(np.complex128)
    covariance: npt.NDArray[np.complex128] = rows.conj().T @ rows / len(rows)
    return covariance
