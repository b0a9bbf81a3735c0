"""The fully sampled centre of k-space."""

from __future__ import annotations

import numpy as np

from any2all_mri.raw import Real


def calibration_size(mask: Real) -> tuple[int, int]:
    """Return (h, w) of the largest fully sampled central window: the largest square, extended."""
    height, width = mask.shape
    size = [0, 0]

    def full(h: int, w: int) -> bool:
        return h <= height and w <= width and bool(mask[window(mask.shape, (h, w))].all())

    while full(size[0] + 1, size[1] + 1):
        size = [size[0] + 1, size[1] + 1]
    while full(size[0] + 1, size[1]):
        size[0] += 1
    while full(size[0], size[1] + 1):
        size[1] += 1
    return size[0], size[1]


def window(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[slice, slice]:
    """Return the slices of the window of ``size`` in the centre of ``shape``, both (h, w)."""
    rows, columns = (
        slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(shape, size, strict=True)
    )
    return rows, columns


def hann(size: tuple[int, int]) -> Real:
    """Return a Hann window (h, w) that is not 0 at its ends, against ringing."""
    rows, columns = (np.hanning(n + 2)[1:-1] for n in size)
    return np.asarray(rows[:, None] * columns, np.float32)
