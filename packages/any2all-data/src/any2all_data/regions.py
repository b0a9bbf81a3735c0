"""Parts of a volume: connected regions, corners and faces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def connected(region: Mask, seeds: Mask) -> Mask:
    """Return the part of a region (x, y, z) that is connected to the seeds through voxel faces."""
    found = region & seeds
    while True:
        before = np.count_nonzero(found)
        for axis in range(region.ndim):
            line, there = np.moveaxis(found, axis, 0), np.moveaxis(region, axis, 0)
            for k in range(1, len(line)):
                line[k] |= there[k] & line[k - 1]
            for k in range(len(line) - 2, -1, -1):
                line[k] |= there[k] & line[k + 1]
        if np.count_nonzero(found) == before:
            return found


def corners(shape: tuple[int, ...]) -> Mask:
    """Mark the corners of a volume."""
    mask = np.zeros(shape, bool)
    mask[np.ix_(*((0, -1) for _ in shape))] = True
    return mask


def faces(shape: tuple[int, ...]) -> Mask:
    """Mark the outermost voxels of a volume."""
    mask = np.ones(shape, bool)
    mask[tuple(slice(1, -1) for _ in shape)] = False
    return mask
