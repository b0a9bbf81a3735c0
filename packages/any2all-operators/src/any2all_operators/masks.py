"""Which phase-encode lines a Cartesian scan takes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from any2all_operators.errors import UserError


def equispaced_mask(width: int, acceleration: int, acs_lines: int = 8, offset: int = 0) -> Tensor:
    """Take every R-th line, counted from the centre, and all lines around the centre.

    Parameters
    ----------
    width
        Number of lines W.
    acceleration
        R; 1 to W.
    acs_lines
        Lines in the centre that are all taken.
    offset
        By how many lines the others are moved, so that slices or modalities may differ.

    Returns
    -------
    Tensor
        (W,), 1 where a line is taken and 0 elsewhere.

    Raises
    ------
    UserError
        For numbers that don't fit the width.
    """
    _expect(width, acceleration, acs_lines)
    line = torch.arange(width) - width // 2 - offset
    return ((line % acceleration == 0) | _centre(width, acs_lines)).float()


def random_mask(width: int, acceleration: int, acs_lines: int = 8, seed: int = 0) -> Tensor:
    """Take the lines in the centre, and others that are drawn uniformly, W/R in all.

    Never fewer than those in the centre, so many calibration lines lower the acceleration.

    Parameters
    ----------
    width
        Number of lines W.
    acceleration
        R; 1 to W.
    acs_lines
        Lines in the centre that are all taken.
    seed
        Seed of the lines that are drawn.

    Returns
    -------
    Tensor
        (W,), 1 where a line is taken and 0 elsewhere.

    Raises
    ------
    UserError
        For numbers that don't fit the width.
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
    """The mask (..., W) without the last 1 − ``fraction`` of its lines; 0.5 < fraction ≤ 1."""
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
