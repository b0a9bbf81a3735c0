"""Find the measured samples of a plain array, and check the order of its axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

from any2all_mri.raw import Complex

Mask = npt.NDArray[np.bool_]
NOTHING = float(np.finfo(np.float32).eps)
"""A sample below this fraction of its slice's largest is a rounding error, not a measurement."""
WHOLE_LINE = 0.9
"""If this fraction of a line is not 0, the whole line was measured, including its zeros."""
IN_CORNERS = 0.5
"""k-space is not centred if its central quarter's mean energy over the total mean is below this."""
CONCENTRATED = 1.5
"""Factor of energy around the centre by which an axis of k-space differs from other axes."""


def sampled(kspace: Complex) -> Mask:
    """Find the samples (Z, H, W) of k-space (Z, C, H, W) that is 0 where not sampled.

    Zero padding and the missing part of a partial echo are not samples. A zero within an otherwise
    complete line is a sample.
    """
    magnitude = np.abs(kspace).max(1)
    there = magnitude > NOTHING * magnitude.max((1, 2), keepdims=True)
    begun = np.maximum.accumulate(there, 1)
    not_ended = np.maximum.accumulate(there[:, ::-1], 1)[:, ::-1]
    between = begun & not_ended
    whole = there.sum(1, keepdims=True) > WHOLE_LINE * between.sum(1, keepdims=True)
    return there | (between & whole)


def given_mask(path: Path, mask: npt.NDArray[Any], shape: tuple[int, ...]) -> Mask:
    """Return a file's mask as (Z, H, W) for k-space of ``shape`` (Z, C, H, W).

    Z is 1 if all slices share the mask. The file holds (W,), (H, W), (Z, 1, W) or (Z, H, W);
    fastMRI's (1, 1, W, 1) is read as (W,).
    """
    slices, _, height, width = shape
    if not np.isfinite(mask).all():
        raise UserError(
            f"{path}: its mask holds NaN or infinity; expected 1 where sampled and 0 elsewhere. "
            "Save the mask again"
        )
    plain = mask
    if plain.ndim > 1 and plain.shape[-2:] == (width, 1):
        plain = plain[..., 0]
    while plain.ndim > 1 and plain.shape[0] == 1:
        plain = plain[0]
    if plain.ndim == 4 and plain.shape[1] == 1:
        plain = plain[:, 0]
    if plain.shape == (slices, width) != (height, width):
        plain = plain[:, None]
    allowed = {(width,), (height, width), (slices, 1, width), (slices, height, width)}
    if plain.shape not in allowed:
        raise UserError(
            f"{path}: its mask is {mask.shape}, k-space {shape}; expected ({width},), "
            f"({height}, {width}) or, for each slice, ({slices}, {height}, {width})"
        )
    plain = plain.reshape(-1, *np.atleast_2d(plain).shape[-2:])
    return np.broadcast_to(plain != 0, (len(plain), height, width))


def check_order(path: Path, kspace: npt.NDArray[Any]) -> None:
    """Refuse an array that is not centred, or whose axes are not (..., coils, H, W).

    Slices and coils are normally far fewer than H and W. If not, the axes whose energy lies around
    the centre are H and W.
    """
    axes = list(range(kspace.ndim))
    power = np.nan_to_num(np.abs(kspace), posinf=0) ** 2
    energies = [_central_energy(power, axis) for axis in axes]
    if max(energies[-2:]) < IN_CORNERS and power.any():
        raise UserError(
            f"{path}: its energy lies in the corners of k-space; expected it in the centre. Save "
            "np.fft.fftshift(kspace, axes=(-2, -1)) instead"
        )
    if max(kspace.shape[:-2]) < min(kspace.shape[-2:]):
        return
    found = sorted(sorted(axes, key=lambda axis: energies[axis])[-2:])
    wrong = [axis for axis in axes[-2:] if axis not in found]
    if not wrong:
        return
    if min(energies[axis] for axis in found) < CONCENTRATED * energies[wrong[0]]:
        return
    gaps = [not power.any(tuple(a for a in axes if a != axis)).all() for axis in found]
    if gaps == [True, False]:  # readout is the axis without gaps
        found.reverse()
    others = [axis for axis in axes if axis not in found]
    names = {axis: name for axis, name in zip(found, ("H", "W"), strict=True)}
    names |= dict(zip(others, ("slices", "coils")[-len(others) :], strict=True))
    raise UserError(
        f"{path}: its shape {kspace.shape} looks like ({', '.join(names[a] for a in axes)}); "
        "expected (slices, coils, H, W), H readout and W phase encode. Save "
        f"kspace.transpose({', '.join(map(str, others + found))}){'[None]' * (len(others) < 2)} "
        "instead"
    )


def _central_energy(power: npt.NDArray[Any], axis: int) -> float:
    """Return the mean energy in the central quarter of an axis over the mean along all of it."""
    along = power.mean(tuple(a for a in range(power.ndim) if a != axis))
    n = len(along)
    width = max(n // 4, 1)
    centre = along[n // 2 - width // 2 : n // 2 - width // 2 + width]
    return float(centre.mean() / max(along.mean(), np.finfo(float).tiny))
