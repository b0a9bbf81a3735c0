"""Warnings that a user should read before trusting the result of a scan."""

from __future__ import annotations

import cmath
import math

import numpy as np

from any2all_mri.calibration_centre import calibration_size, hann, window
from any2all_mri.raw import RawKSpace, centred_ifft

FAR_FROM_CENTRE = 0.2
"""Distance between the centres of head and field of view, over the field of view, that warns."""
IN_ONE_PLACE = 0.1
"""If the mean of e^{2πi y/H} is shorter than this, the head fills the field of view."""


def scan_warnings(raw: RawKSpace) -> list[str]:
    """Return a sentence for each slice left out, each coil dropped and a head at the edge."""
    said = [
        f"slice {z} (counted from 0) has no samples, or has NaN; it is left out and written as 0"
        for z in raw.left_out
    ]
    said += [
        f"coil {c} (counted from 0) has no noise; it is dropped and the others are used"
        for c in raw.dead_coils
    ]
    names = {"rows": "(-1)**row", "columns": "(-1)**column"}
    edge = [name for name, at_edge in zip(names, head_at_edge(raw), strict=True) if at_edge]
    if edge:
        factors = " * ".join(names[name] for name in edge)
        said.append(
            f"the head lies at the edge of the field of view along its {' and '.join(edge)}; "
            f"expected it in the centre. Multiply k-space by {factors} if the file's images are "
            "moved by half the field of view"
        )
    return said


def head_at_edge(raw: RawKSpace) -> tuple[bool, bool]:
    """Whether the head is at the edge along (rows, columns), by the calibration centre's images."""
    size = min(calibration_size(raw.masks[z]) for z in raw.usable)
    part = raw.kspace[(raw.usable, slice(None), *window(raw.kspace.shape[2:], size))]
    power = (np.abs(centred_ifft(part * hann(size), (2, 3))) ** 2).sum((0, 1))
    rows, columns = (_at_edge(power.sum(axis)) for axis in (1, 0))
    return rows, columns


def _at_edge(profile: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    """Whether the circular mean of a profile lies far from its centre n // 2."""
    n = len(profile)
    turns = (np.arange(n) - n // 2) / n
    mean = complex((profile * np.exp(2j * math.pi * turns)).sum() / profile.sum())
    return abs(mean) > IN_ONE_PLACE and abs(cmath.phase(mean)) > 2 * math.pi * FAR_FROM_CENTRE
