"""The voxel grid of an image, read from its header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

ALIKE = 0.01
"""Largest relative difference of two voxel sizes that count as equal."""
MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3}
"""NIfTI's units of length in mm. A file without a unit counts as mm."""


@dataclass(frozen=True)
class VoxelGrid:
    """The voxel grid of an image.

    - ``shape``: voxels along each axis. A fourth axis counts volumes, if there are several.
    - ``spacing``: distance of voxels along the first three axes, in mm.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, float, float]

    @property
    def volumes(self) -> int:
        """Number of volumes: 1 for a 3D image, 0 if it has fewer dimensions."""
        return int(np.prod(self.shape[3:])) if min((*self.shape, 0, 0, 0)[:3]) > 1 else 0

    @property
    def coverage(self) -> float:
        """Shortest side of the volume, in mm."""
        return min(n * step for n, step in zip(self.shape[:3], self.spacing, strict=True))

    @property
    def coarsest(self) -> float:
        """Longest side of a voxel, in mm."""
        return max(self.spacing)


def common_spacing(paths: Sequence[Path | None]) -> tuple[float, float, float] | None:
    """Return the voxel size (x, y, z) along AXES in mm that all NIfTI files share.

    Returns None if sizes differ by more than ALIKE, or a header can't be read.
    """
    spacings = []
    for path in paths:
        try:
            image: Any = nib.load(path) if path is not None else None
            ornt = nib.io_orientation(image.affine)
            unit = MM.get(image.header.get_xyzt_units()[0], 1.0)
            sides = np.linalg.norm(image.affine[:3, :3], axis=0) * unit
            along = np.zeros(3)
            along[ornt[:, 0].astype(int)] = sides
        except Exception:  # whatever a damaged header sets off in nibabel
            return None
        spacings.append(along)
    all_ = np.array(spacings)
    if not len(all_) or (np.abs(all_ / all_[0] - 1) > ALIKE).any():
        return None
    x, y, z = (round(float(step), 4) for step in all_[0])
    return x, y, z


def slices_of(path: Path) -> tuple[int, int, int] | None:
    """Return a NIfTI file's (slices, rows, columns) along AXES, by its header.

    Returns None if the header can't be read or the image is not 3D.
    """
    found = nifti_grid(path)
    if found is None or found.volumes == 0:
        return None
    image: Any = nib.load(path)
    axes = nib.io_orientation(image.affine)[:, 0].tolist()
    if sorted(axes) != [0, 1, 2]:
        return None
    x, y, z = (found.shape[axes.index(axis)] for axis in range(3))
    return z, y, x


def nifti_grid(path: Path) -> VoxelGrid | None:
    """Return the grid in a NIfTI file's header; None if the header can't be read."""
    try:
        with nib.imageglobals.LoggingOutputSuppressor():
            image: Any = nib.load(path)
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        unit = MM.get(image.header.get_xyzt_units()[0], 1.0)
        x, y, z = (float(s) * unit for s in np.linalg.norm(image.affine[:3, :3], axis=0))
        return VoxelGrid(shape, (x, y, z)) if len(shape) >= 3 else VoxelGrid(shape, (0, 0, 0))
    except Exception:  # whatever a damaged header sets off in nibabel
        return None
