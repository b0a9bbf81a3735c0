"""Which samples of a plain array were measured, and whether its axes are in the expected order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

from any2all_mri.raw import Complex

Mask = npt.NDArray[np.bool_]
NOTHING = float(np.finfo(np.float32).eps)
"""A sample this small beside the largest one of its slice is rounding, not a measurement."""
WHOLE_LINE = 0.9
"""A line of which so much is not 0 was read as a whole; the zeros in it are measured zeros."""
IN_CORNERS = 0.5
"""Mean energy in the central quarter over that of all, below which k-space is not centred."""
CONCENTRATED = 1.5
"""So many times more energy around the centre tells an axis of k-space from another axis."""


def sampled(kspace: Complex) -> Mask:
    """Where a slice was sampled, (Z, H, W), of k-space (Z, C, H, W) that is 0 elsewhere.

    Zero padding and the missing part of a partial echo are not samples. A zero between the ends of
    a line that is otherwise whole is one.
    """
    magnitude = np.abs(kspace).max(1)
    there = magnitude > NOTHING * magnitude.max((1, 2), keepdims=True)
    begun = np.maximum.accumulate(there, 1)
    not_ended = np.maximum.accumulate(there[:, ::-1], 1)[:, ::-1]
    between = begun & not_ended
    whole = there.sum(1, keepdims=True) > WHOLE_LINE * between.sum(1, keepdims=True)
    return there | (between & whole)


def given_mask(path: Path, mask: npt.NDArray[Any], shape: tuple[int, ...]) -> Mask:
    """A file's mask as (Z, H, W), Z 1 for all slices, for k-space of ``shape`` (Z, C, H, W).

    It is (W,), (H, W), (Z, 1, W) or (Z, H, W); fastMRI's (1, 1, W, 1) is (W,).
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

    Slices and coils are few beside H and W, or else the energy decides: it lies around the centre
    of H and of W.
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
    """Mean energy in the central quarter of an axis over the mean along all of it."""
    along = power.mean(tuple(a for a in range(power.ndim) if a != axis))
    n = len(along)
    width = max(n // 4, 1)
    centre = along[n // 2 - width // 2 : n // 2 - width // 2 + width]
    return float(centre.mean() / max(along.mean(), np.finfo(float).tiny))
