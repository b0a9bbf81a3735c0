"""Sampling masks: which phase-encode lines a Cartesian scan acquires."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from any2all_operators.errors import UserError


def equispaced_mask(width: int, acceleration: int, acs_lines: int = 8, offset: int = 0) -> Tensor:
    """Sample every R-th line, and all lines around the centre.

    Parameters
    ----------
    width
        Number of lines W.
    acceleration
        R; 1 to W.
    acs_lines
        Number of autocalibration lines: lines around the centre that are all sampled.
    offset
        Shift of the other lines, in lines. Slices or modalities with different offsets sample
        different lines.

    Returns
    -------
    Tensor
        (W,), 1 for a sampled line and 0 elsewhere.

    Raises
    ------
    UserError
        If ``acceleration`` or ``acs_lines`` does not fit the width.
    """
    _expect(width, acceleration, acs_lines)
    line = torch.arange(width) - width // 2 - offset
    return ((line % acceleration == 0) | _centre(width, acs_lines)).float()


def random_mask(width: int, acceleration: int, acs_lines: int = 8, seed: int = 0) -> Tensor:
    """Sample the lines around the centre and others drawn uniformly, W/R lines in total.

    The lines around the centre are always sampled. If there are more than W/R of them, the actual
    acceleration is lower than R.

    Parameters
    ----------
    width
        Number of lines W.
    acceleration
        R; 1 to W.
    acs_lines
        Number of autocalibration lines: lines around the centre that are all sampled.
    seed
        Seed of the random lines.

    Returns
    -------
    Tensor
        (W,), 1 for a sampled line and 0 elsewhere.

    Raises
    ------
    UserError
        If ``acceleration`` or ``acs_lines`` does not fit the width.
    """
    _expect(width, acceleration, acs_lines)
    mask = _centre(width, acs_lines).float()
    count = max(round(width / acceleration) - acs_lines, 0)
    outside = torch.nonzero(mask == 0)[:, 0]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(outside), generator=generator)
    mask[outside[order[:count]]] = 1
    return mask


def partial_fourier(mask: Tensor, fraction: float) -> Tensor:
    """Remove the last lines of a mask, as partial Fourier sampling does.

    Parameters
    ----------
    mask
        (..., W), 1 for a sampled line and 0 elsewhere.
    fraction
        Share of the lines that remain; above 0.5 and at most 1.

    Returns
    -------
    Tensor
        (..., W).

    Raises
    ------
    UserError
        If ``fraction`` is out of range.
    """
    if not 0.5 < fraction <= 1:
        raise UserError(f"partial_fourier {fraction}: expected above 0.5 and at most 1")
    line = torch.arange(mask.shape[-1])
    return mask * (line < math.ceil(fraction * mask.shape[-1]))


def _centre(width: int, lines: int) -> Tensor:
    line = torch.arange(width)
    first = width // 2 - lines // 2
    return (line >= first) & (line < first + lines)


def _expect(width: int, acceleration: int, acs_lines: int) -> None:
    if not 1 <= acceleration <= width:
        raise UserError(f"acceleration {acceleration}: expected 1 to {width}, the number of lines")
    if not 0 <= acs_lines <= width:
        raise UserError(f"acs_lines {acs_lines}: expected 0 to {width}, the number of lines")
